#include "eval/pair_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/thread_pool.hpp"
#include "eval/cut_sheets.hpp"
#include "eval/exact_passes.hpp"
#include "eval/far_keys.hpp"
#include "eval/pair_sample.hpp"
#include "eval/retrieval_passes.hpp"

namespace cupel {
namespace {

/// A gap that passes may compare with: gap_cut(), finite.
float cut_of(PairDomain domain, double threshold) {
  return std::max(gap_cut(domain, threshold), std::numeric_limits<float>::lowest());
}

/// One query, its targets, and what is known of them.
struct Asked {
  const CurveQuery* curve = nullptr;
  const ClassRateQuery* rate = nullptr;
  CurveAnswer* answer = nullptr;
  std::vector<FarTarget> targets;
  std::vector<GapRange> brackets;  ///< [target]
  bool counted = true;             ///< there are thresholds to count at

  bool exact() const {
    return curve != nullptr && curve->rule == IntegrationRule::kExact && !answer->empty_range;
  }
};

class Plan {
 public:
  Plan(const EmbeddingView& view, std::span<const u64> class_rows, const PairQuestions& questions,
       const PairLimits& limits, int threads, PairRunner& runner)
      : view_(view),
        questions_(questions),
        limits_(limits),
        pool_(threads),
        runner_(runner),
        pairs_(PairPass::whole(view).pairs()) {
    count_classes(class_rows);
  }

  Result<PairAnswers> run() {
    read_questions();
    choose_way();
    if (auto done = first_pass(); !done) return done.error();
    if (auto done = counting_pass(); !done) return done.error();
    for (Asked& asked : asked_) fill_curves(asked);
    if (auto done = exact_passes(); !done) return done.error();
    if (auto done = retrieval(); !done) return done.error();
    describe();
    return std::move(answers_);
  }

 private:
  void count_classes(std::span<const u64> class_rows) {
    classes_.place.assign(class_rows.size(), -1);
    for (const u64 rows : class_rows) classes_.pos += rows < 2 ? 0 : rows * (rows - 1) / 2;
    classes_.neg = pairs_ - classes_.pos;
    const auto all = static_cast<u64>(view_.rows);
    for (std::size_t c = 0; c < class_rows.size(); ++c) {
      const u64 rows = class_rows[c];
      if (rows < 2 || rows == all) continue;
      classes_.place[c] = static_cast<i32>(classes_.of.size());
      classes_.of.push_back(static_cast<u32>(c));
      classes_.all_pos.push_back(rows * (rows - 1) / 2);
      classes_.all_neg.push_back(rows * (all - rows));
    }
  }

  // ---- what is asked
  // -----------------------------------------------------------------------------

  void read_questions() {
    answers_.curves.resize(questions_.curves.size());
    answers_.rates.resize(questions_.rates.size());
    const auto add = [&](Asked asked, const std::optional<std::pair<double, double>>& values) {
      CurveAnswer& answer = *asked.answer;
      answer.curves.of = classes_.of;
      answer.curves.all_pos = classes_.all_pos;
      answer.curves.all_neg = classes_.all_neg;
      if (values) {
        std::tie(answer.first, answer.last) = *values;
        // From strict to loose.
        if (view_.domain == PairDomain::kCosine) std::swap(answer.first, answer.last);
        asked.targets.clear();
      }
      for (const FarTarget& target : asked.targets) {
        answer.unresolved = answer.unresolved || (target.rank == 0 && classes_.neg != 0);
      }
      if (answer.unresolved || classes_.neg == 0) asked.targets.clear();
      asked.counted = !answer.unresolved && pairs_ != 0 &&
                      classes_.of.size() >= (asked.curve != nullptr ? 2U : 1U);
      asked_.push_back(std::move(asked));
    };
    for (std::size_t q = 0; q < questions_.curves.size(); ++q) {
      const CurveQuery& query = questions_.curves[q];
      Asked asked;
      asked.curve = &query;
      asked.answer = &answers_.curves[q];
      asked.targets = {far_bound(query.range.far_low, classes_.neg),
                       far_bound(query.range.far_high, classes_.neg)};
      add(std::move(asked), query.range.values);
    }
    for (std::size_t q = 0; q < questions_.rates.size(); ++q) {
      const ClassRateQuery& query = questions_.rates[q];
      Asked asked;
      asked.rate = &query;
      asked.answer = &answers_.rates[q];
      asked.targets = {far_limit(query.far, classes_.neg)};
      std::optional<std::pair<double, double>> values;
      if (query.threshold) values.emplace(*query.threshold, *query.threshold);
      add(std::move(asked), values);
    }
  }

  bool any_target() const {
    return std::any_of(asked_.begin(), asked_.end(),
                       [](const Asked& asked) { return !asked.targets.empty(); });
  }
  bool any_counted() const {
    return std::any_of(asked_.begin(), asked_.end(),
                       [](const Asked& asked) { return asked.counted; });
  }

  void choose_way() {
    if (!questions_.retrieval.empty()) {
      retrieval_.emplace(view_, questions_.retrieval, limits_.bytes / 2);
    }
    way_ = BoundsBy::kAuto;  // nothing to find
    if (!any_target()) {
      if (std::any_of(asked_.begin(), asked_.end(), [](const Asked& a) { return a.exact(); })) {
        take_sample();
      }
      return;
    }
    way_ = questions_.ranks ? BoundsBy::kRanks : limits_.bounds;
    if (way_ == BoundsBy::kRanks) return;
    take_sample();
    constexpr std::size_t kFewest = 256;  // that say something of an order statistic
    const bool knows = sample_.negatives.size() >= std::min<std::size_t>(kFewest, classes_.neg);
    if (way_ == BoundsBy::kAuto && !knows && !small()) {
      way_ = BoundsBy::kRanks;
      return;
    }
    for (Asked& asked : asked_) {
      for (const FarTarget& target : asked.targets) {
        asked.brackets.push_back(
            small() ? kAllGaps : sample_.bracket(target.rank, classes_.neg, limits_.sigmas));
      }
    }
    if (way_ != BoundsBy::kAuto) return;
    const auto fits = [&](bool spans) {
      double bytes = 0;
      for (const GapRange& range : ranges_to_keep(spans)) {
        bytes += list_bytes(pairs_, sample_.share(range));
      }
      return bytes * kMargin <= static_cast<double>(limits_.bytes);
    };
    way_ = fits(true) ? BoundsBy::kList : fits(false) ? BoundsBy::kBrackets : BoundsBy::kRanks;
  }

  /// A list of all pairs is about as quick as a sample.
  bool small() const { return pairs_ <= static_cast<u64>(limits_.samples) * 4; }
  void take_sample() {
    if (!small()) sample_ = sample_pairs(view_, limits_.samples, pool_);
    sample_.domain = view_.domain;
  }

  /// The brackets, or with `spans` for each range that between the strict end of the first and the
  /// loose end of the last one; disjoint and ascending.
  std::vector<GapRange> ranges_to_keep(bool spans) const {
    std::vector<GapRange> ranges;
    for (const Asked& asked : asked_) {
      if (asked.brackets.empty()) continue;
      if (spans) {
        ranges.push_back({asked.brackets.front().low, asked.brackets.back().high});
      } else {
        ranges.insert(ranges.end(), asked.brackets.begin(), asked.brackets.end());
      }
    }
    return join_ranges(std::move(ranges));
  }

  // ---- passes
  // ------------------------------------------------------------------------------------

  /// The cuts of what is known now and not counted yet.
  std::vector<float> open_cuts() const {
    std::vector<float> cuts;
    for (const Asked& asked : asked_) {
      if (!asked.counted || !asked.targets.empty()) continue;
      for (const double threshold : thresholds(asked)) {
        const float cut = cut_of(view_.domain, threshold);
        if (!sheets_.has(cut)) cuts.push_back(cut);
      }
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    return cuts;
  }

  std::vector<double> thresholds(const Asked& asked) const {
    const CurveAnswer& answer = *asked.answer;
    if (asked.rate != nullptr) return {answer.first};
    return threshold_grid(answer.first, answer.last, asked.curve->n_thresholds);
  }

  /// What one pass may count at: passes take no more, and tables should fit.
  std::size_t most_cuts() const {
    constexpr u64 kMostCells = u64{1} << 28;
    const u64 fit = static_cast<u64>(limits_.bytes) / (4 * sizeof(u64));
    const u64 cells = std::min(kMostCells, fit);
    return static_cast<std::size_t>(std::max<u64>(cells / std::max<u64>(view_.class_count, 1), 2) -
                                    1);
  }

  /// Bounds, and what is asked without them.
  Result<void> first_pass() {
    const bool early = way_ == BoundsBy::kAuto || way_ == BoundsBy::kList;
    const bool near = retrieval_ && retrieval_->in_one();
    const bool first = way_ != BoundsBy::kAuto || questions_.ranks || near;
    if (pairs_ == 0 && near) {  // a row alone is known to be that
      Neighbours none;
      none.offsets.assign(static_cast<std::size_t>(view_.rows) + 1, 0);
      retrieval_->take(none);
    }
    if (!first || pairs_ == 0) return {};  // the counting pass is the first
    PairPass pass = PairPass::whole(view_);
    pass.ranks = questions_.ranks || way_ == BoundsBy::kRanks;
    if (near) pass.neighbours = retrieval_->wanted();
    std::vector<float> cuts;
    if (way_ == BoundsBy::kList || way_ == BoundsBy::kBrackets) {
      pass.kept = ranges_to_keep(way_ == BoundsBy::kList);
      pass.kept_negatives_only = way_ == BoundsBy::kBrackets;
      pass.kept_bytes = limits_.bytes;
      for (const GapRange& range : pass.kept) {
        if (range.low > kAllGaps.low) cuts.push_back(range.low);
      }
    }
    if (early) {
      const std::vector<float> known = open_cuts();
      if (known.size() + cuts.size() <= most_cuts()) {
        cuts.insert(cuts.end(), known.begin(), known.end());
        if (way_ == BoundsBy::kAuto) list_for_exact(pass);
      }
    }
    auto states = run_pass(std::move(pass), std::move(cuts));
    if (!states) return states.error();
    if (near) retrieval_->take(states->neighbours);
    if (way_ == BoundsBy::kAuto) {  // no bounds to find
      if (questions_.ranks) answers_.ranks = std::move(states->ranks);
      return {};
    }
    bool found = false;
    if (way_ == BoundsBy::kRanks) {
      found = find_in_ranks(states->ranks);
    } else if (states->kept.complete) {
      found = find_in_list(states->kept);
    }
    if (questions_.ranks) answers_.ranks = std::move(states->ranks);
    ++bound_passes_;
    if (!found) {  // the sample misled, or was too small
      PairPass again = PairPass::whole(view_);
      again.ranks = true;
      auto ranked = run_pass(std::move(again), {});
      if (!ranked) return ranked.error();
      ++bound_passes_;
      way_ = BoundsBy::kRanks;
      if (!find_in_ranks(ranked->ranks)) {
        return Error{ErrorCode::kInternal, {}, "a ranking of pairs lacks pairs", {}};
      }
      return {};
    }
    if (way_ == BoundsBy::kList) {
      count_in_list(states->kept);
      list_ = std::move(states->kept);
    } else {
      kept_ranges_.clear();
    }
    return {};
  }

  Result<PairStates> run_pass(PairPass pass, std::vector<float> cuts) {
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    pass.cuts = cuts;
    ++passes_;
    auto states = runner_.run(pass);
    if (!states) return states.error();
    const bool for_bounds = bound_passes_ == 0 && way_ != BoundsBy::kAuto;
    if (!pass.kept.empty() && !for_bounds && states->kept.complete) {
      list_ = std::move(states->kept);
      kept_ranges_ = pass.kept;
    }
    if (!cuts.empty()) {
      sheets_.add(std::move(cuts), std::move(states->cuts));
    }
    return states;
  }

  /// Thresholds that the first pass did not count at, and pairs for rule=exact where they fit.
  Result<void> counting_pass() {
    std::vector<float> cuts = open_cuts();
    while (!cuts.empty()) {
      const std::size_t count = std::min(cuts.size(), most_cuts());
      const std::vector<float> now(cuts.begin(), cuts.begin() + static_cast<std::ptrdiff_t>(count));
      cuts.erase(cuts.begin(), cuts.begin() + static_cast<std::ptrdiff_t>(count));
      PairPass pass = PairPass::whole(view_);
      list_for_exact(pass);
      auto states = run_pass(std::move(pass), now);
      if (!states) return states.error();
    }
    return {};
  }

  /// Has a pass list the pairs that rule=exact takes, where they seem to fit.
  void list_for_exact(PairPass& pass) const {
    if (!kept_ranges_.empty()) return;
    std::vector<GapRange> wanted = exact_ranges();
    double bytes = 0;
    for (const GapRange& range : wanted) bytes += list_bytes(pairs_, sample_.share(range));
    if (wanted.empty() || bytes * kMargin > static_cast<double>(limits_.bytes) / 2) return;
    pass.kept = std::move(wanted);
    pass.kept_bytes = limits_.bytes / 2;
    pass.kept_negatives_only = false;
  }

  std::vector<GapRange> exact_ranges() const {
    std::vector<GapRange> ranges;
    for (const Asked& asked : asked_) {
      if (asked.counted && asked.exact()) ranges.push_back(range_of(*asked.answer));
    }
    return join_ranges(std::move(ranges));
  }
  GapRange range_of(const CurveAnswer& answer) const {
    return {cut_of(view_.domain, answer.first), cut_of(view_.domain, answer.last)};
  }

  // ---- bounds
  // ------------------------------------------------------------------------------------

  void settle(Asked& asked, const std::vector<u32>& keys) {
    const auto value = [&](std::size_t t) {
      const u32 key = asked.targets[t].below ? keys[t] + 1 : keys[t];
      return static_cast<double>(key_value(view_.domain, key));
    };
    CurveAnswer& answer = *asked.answer;
    answer.first = value(0);
    answer.last = value(asked.targets.size() - 1);
    answer.empty_range = asked.curve != nullptr && answer.first == answer.last;
    asked.targets.clear();
    asked.brackets.clear();
  }

  bool find_in_ranks(const RankTable& table) {
    for (Asked& asked : asked_) {
      if (asked.targets.empty()) continue;
      std::vector<u32> keys;
      for (const FarTarget& target : asked.targets) {
        const auto key = key_of_negative(table, target.rank);
        if (!key) return false;
        keys.push_back(static_cast<u32>(*key));
      }
      settle(asked, keys);
    }
    return true;
  }

  /// False, and nothing settled, where a target lies outside its bracket.
  bool find_in_list(const PairList& list) {
    std::vector<std::vector<u32>> found;
    const std::vector<GapRange> kept = ranges_to_keep(way_ == BoundsBy::kList);
    const ListedNegatives negatives(view_, list, kept, pool_);
    std::vector<u64> below;  // [range] negative pairs in front of it
    for (const GapRange& range : kept) {
      below.push_back(range.low > kAllGaps.low ? sheets_.find(range.low).negatives() : 0);
    }
    for (const Asked& asked : asked_) {
      found.emplace_back();
      std::optional<std::size_t> range_of_first;
      for (const FarTarget& target : asked.targets) {
        std::optional<u32> key;
        std::size_t r = 0;
        for (; r < kept.size() && !key; ++r) {
          if (target.rank > below[r]) key = negatives.key(r, target.rank - below[r]);
        }
        if (!key) return false;
        // Of a list everything between two bounds has to be there.
        if (!range_of_first) range_of_first = r;
        if (way_ == BoundsBy::kList && r != *range_of_first) return false;
        found.back().push_back(*key);
      }
    }
    for (std::size_t a = 0; a < asked_.size(); ++a) {
      if (!asked_[a].targets.empty()) settle(asked_[a], found[a]);
    }
    kept_ranges_ = kept;
    return true;
  }

  /// Counts at the thresholds that follow from the bounds; all of them lie inside what was kept.
  void count_in_list(const PairList& list) {
    const std::vector<float> cuts = open_cuts();
    for (const GapRange& range : kept_ranges_) {
      std::vector<float> inside{range.low};
      for (const float cut : cuts) {
        if (cut > range.low && cut <= range.high) inside.push_back(cut);
      }
      // Pairs of other ranges are in front of the first column or behind the last one.
      ClassCuts counts = bin_pairs(view_, list, inside, pool_);
      for (u32 cls = 0; cls < counts.classes; ++cls) {
        counts.pos_at(cls, 0) = 0;
        counts.neg_at(cls, 0) = 0;
      }
      sheets_.add_above(range.low, std::move(inside), std::move(counts));
    }
  }

  // ---- answers
  // -----------------------------------------------------------------------------------

  void fill_curves(Asked& asked) {
    CurveAnswer& answer = *asked.answer;
    if (!asked.counted) return;
    ClassCurves& curves = answer.curves;
    curves.thresholds = thresholds(asked);
    const std::size_t columns = curves.thresholds.size();
    curves.pos.resize(curves.of.size() * columns);
    curves.neg.resize(curves.of.size() * columns);
    for (std::size_t k = 0; k < columns; ++k) {
      const auto column = sheets_.find(cut_of(view_.domain, curves.thresholds[k]));
      for (std::size_t c = 0; c < curves.of.size(); ++c) {
        curves.pos[c * columns + k] = column.pos(curves.of[c]);
        curves.neg[c * columns + k] = column.neg(curves.of[c]);
      }
    }
  }

  Result<void> exact_passes() {
    std::vector<bool> done(asked_.size(), false);
    for (std::size_t a = 0; a < asked_.size(); ++a) {
      if (done[a] || !asked_[a].counted || !asked_[a].exact()) continue;
      const CurveAnswer& answer = *asked_[a].answer;
      std::vector<CurveAnswer*> same;
      std::vector<CurveQuery> queries;
      for (std::size_t b = a; b < asked_.size(); ++b) {
        const Asked& other = asked_[b];
        if (!other.counted || !other.exact() || other.answer->first != answer.first ||
            other.answer->last != answer.last) {
          continue;
        }
        done[b] = true;
        same.push_back(asked_[b].answer);
        queries.push_back(*other.curve);
      }
      ExactTask task;
      task.range = range_of(answer);
      task.start.domain = view_.domain;
      task.start.first = answer.first;
      task.start.last = answer.last;
      task.start.place = classes_.place;
      task.start.all_pos = classes_.all_pos;
      task.start.all_neg = classes_.all_neg;
      const auto column = sheets_.find(task.range.low);
      for (const u32 cls : classes_.of) {
        task.start.pos.push_back(column.pos(cls));
        task.start.neg.push_back(column.neg(cls));
      }
      for (std::size_t k = 0; k < answer.curves.thresholds.size(); ++k) {
        task.known.push_back(cut_of(view_.domain, answer.curves.thresholds[k]));
        task.pairs_up_to.push_back(sheets_.find(task.known.back()).pairs());
      }
      const bool listed =
          std::any_of(kept_ranges_.begin(), kept_ranges_.end(), [&](const GapRange& range) {
            return range.low <= task.range.low && task.range.high <= range.high;
          });
      task.list = listed && !list_.chunks.empty() ? &list_ : nullptr;
      task.bytes = limits_.bytes;
      auto found = exact_curves(view_, queries, task, pool_, runner_);
      if (!found) return found.error();
      passes_ += found->passes;
      exact_blocks_ = std::max(exact_blocks_, found->blocks);
      for (std::size_t q = 0; q < same.size(); ++q) {
        same[q]->exact = std::move(found->curves[q]);
      }
    }
    list_ = {};
    return {};
  }

  Result<void> retrieval() {
    if (!retrieval_) return {};
    if (!retrieval_->in_one()) {
      if (auto done = retrieval_->run(runner_); !done) return done.error();
    }
    answers_.retrieval = retrieval_->sums();
    return {};
  }

  void describe() {
    answers_.passes = passes_;
    answers_.plan = fmt::format("{} pass{} over {} pairs", passes_, passes_ == 1 ? "" : "es",
                                pairs_text(pairs_));
    std::vector<double> all;
    for (const Asked& asked : asked_) {
      const std::vector<double>& own = asked.answer->curves.thresholds;
      all.insert(all.end(), own.begin(), own.end());
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    if (!all.empty()) {
      answers_.plan += fmt::format(", {} threshold{} x {} classes", all.size(),
                                   all.size() == 1 ? "" : "s", classes_.of.size());
    }
    if (exact_blocks_ > 1) answers_.plan += fmt::format(", {} blocks of pairs", exact_blocks_);
    if (retrieval_ && retrieval_->blocks() > 1) {
      answers_.plan += fmt::format(", nearest rows in {} blocks", retrieval_->blocks());
    }
  }
  static std::string pairs_text(u64 pairs) {
    if (pairs >= 1'000'000'000) return fmt::format("{:.2f} G", static_cast<double>(pairs) / 1e9);
    if (pairs >= 1'000'000) return fmt::format("{:.2f} M", static_cast<double>(pairs) / 1e6);
    return fmt::format("{}", pairs);
  }

  /// Of what a sample says a list will take, for what it does not know.
  static constexpr double kMargin = 1.05;

  const EmbeddingView& view_;
  const PairQuestions& questions_;
  PairLimits limits_;
  ThreadPool pool_;
  PairRunner& runner_;
  u64 pairs_ = 0;
  PairClasses classes_;
  std::vector<Asked> asked_;
  std::optional<RetrievalPasses> retrieval_;
  BoundsBy way_ = BoundsBy::kAuto;
  PairSample sample_;
  CutSheets sheets_;
  PairList list_;
  std::vector<GapRange> kept_ranges_;  ///< of list_
  i64 passes_ = 0, bound_passes_ = 0, exact_blocks_ = 0;
  PairAnswers answers_;
};

}  // namespace

FarTarget far_bound(const Fraction& far, u64 neg) {
  // far * neg < 1: no rate so small is above 0.
  const u128 scaled = static_cast<u128>(far.num) * neg;
  if (scaled < far.den) return {};
  return {static_cast<u64>(std::min<u128>((scaled + far.den - 1) / far.den, neg)), false};
}

FarTarget far_limit(const Fraction& far, u64 neg) {
  const u128 scaled = static_cast<u128>(far.num) * neg;
  if (scaled < far.den) return {};
  const u128 most = scaled / far.den;
  if (most >= neg) return {neg, false};
  return {static_cast<u64>(most) + 1, true};
}

std::vector<double> threshold_grid(double first, double last, i64 count) {
  std::vector<double> grid;
  for (i64 k = 0; k + 1 < count; ++k) {
    grid.push_back(first +
                   (last - first) * static_cast<double>(k) / static_cast<double>(count - 1));
  }
  grid.push_back(last);
  return grid;
}

Result<PairAnswers> answer_pairs(const EmbeddingView& view, std::span<const u64> class_rows,
                                 const PairQuestions& questions, const PairLimits& limits,
                                 int threads, PairRunner& runner) {
  return Plan(view, class_rows, questions, limits, threads, runner).run();
}

}  // namespace cupel
