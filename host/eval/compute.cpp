#include "eval/compute.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "eval/abstention.hpp"
#include "eval/compute_regression.hpp"
#include "eval/compute_verification.hpp"
#include "eval/conformal.hpp"
#include "eval/fit.hpp"
#include "eval/group_view.hpp"
#include "eval/p_values.hpp"
#include "eval/pair_sums.hpp"
#include "eval/samples.hpp"
#include "eval/scopes.hpp"
#include "eval/selection.hpp"
#include "eval/sorted_confidences.hpp"
#include "eval/temporary_columns.hpp"
#include "eval/worst_slab.hpp"
#include "metric/ranking.hpp"

namespace cupel {
namespace {

enum class Average : u8 { kNone, kMacro, kWeighted, kMicro, kSamples, kOvoMacro, kOvoWeighted };

std::string_view average_name(Average average) {
  constexpr std::string_view kNames[]{"",        "macro",     "weighted",    "micro",
                                      "samples", "ovo_macro", "ovo_weighted"};
  return kNames[static_cast<std::size_t>(average)];
}

bool one_against_one(Average a) { return a == Average::kOvoMacro || a == Average::kOvoWeighted; }

/// What is known of one metric: how it is averaged, what it asks, and its values so far.
struct Entry {
  const MetricSpec* spec = nullptr;
  Needs needs;
  Average average = Average::kNone;
  bool subset = false;                ///< the exact-match problem of a multilabel table
  std::vector<std::size_t> queries;   ///< indices into the shared list
  std::vector<ScopedValue> averaged;  ///< [scope]
  std::vector<std::vector<ScopedValue>> by_class;  ///< [scope][problem]; empty: no such values
  std::vector<EvalResult> pairs;                   ///< xauc
  /// [scope][problem][set], where sorted confidences are asked for. Of several labels, one problem
  /// more: all of them pooled.
  std::vector<std::vector<std::vector<ReducedSet>>> sets;
  std::vector<PairSums> pair_sums;  ///< [scope], where all pairs are asked for

  const Metric& metric() const { return *spec->metric; }
  MetricScope scope() const { return spec->metric->scope(); }
};

class Computer {
 public:
  Computer(std::span<const PreparedTable> parts, const ComputeRequest& request, Backend& backend,
           std::vector<std::string>& states)
      : parts_(parts), request_(request), backend_(backend), states_(states) {}

  Result<std::vector<EvalResult>> run() {
    for (const PreparedTable& part : parts_) {
      outside_unit_ = outside_unit_ || part.row_sums.rows != 0;
    }
    if (auto planned = plan(); !planned) return planned.error();
    unite_cells();
    scopes_ = make_scopes(cells_, request_.group_columns, request_.intersect);
    if (has_halves()) split_scopes();
    constexpr std::size_t kMostPairedGroups = 1000;
    for (const Attribute& attribute : scopes_.attributes) {
      if (attribute.scopes.size() > kMostPairedGroups &&
          any([](const Entry& e) { return e.scope() == MetricScope::kPairs; })) {
        return usage_error(fmt::format("'xauc' compares every pair of groups, and '{}' has {}",
                                       attribute.name, attribute.scopes.size()),
                           "group by a column with at most 1000 values");
      }
    }
    for (Entry& entry : entries_) {
      entry.averaged.resize(scopes_.all.size());
      const bool ranked = entry.scope() == MetricScope::kRanking;
      const bool per_label = by_label(entry) && view().task == Task::kMultilabel && !entry.subset;
      if ((ranked || per_label) && view().task != Task::kBinary) {
        entry.by_class.assign(scopes_.all.size(), std::vector<ScopedValue>(problems()));
      }
      if (entry.needs.confidences) {
        const i64 sets = view().task == Task::kMulticlass
                             ? bin_sets(*entry.needs.confidences, view().classes)
                             : 1;
        const std::size_t of = view().task == Task::kMultilabel ? problems() + 1 : 1;
        const std::vector<ReducedSet> none(static_cast<std::size_t>(sets));
        entry.sets.assign(scopes_.all.size(), std::vector<std::vector<ReducedSet>>(of, none));
      }
    }
    if (auto done = compute_rankings(); !done) return done.error();
    if (auto done = compute_one_against_one(); !done) return done.error();
    if (auto done = compute_samples(); !done) return done.error();
    if (auto done = compute_top_confidences(); !done) return done.error();
    if (auto done = compute_rows(); !done) return done.error();
    if (auto done = compute_class_fits(); !done) return done.error();
    if (auto done = compute_conformal(); !done) return done.error();
    if (auto done = compute_abstention(); !done) return done.error();
    if (auto done = compute_selections(); !done) return done.error();
    if (auto done = compute_p_values(); !done) return done.error();
    average_classes();
    return results();
  }

 private:
  const TableView& view() const { return parts_.front().view; }
  std::size_t problems() const { return static_cast<std::size_t>(view().problems()); }
  bool weighted() const { return view().weighted(); }
  /// Of several labels it has a value each, of several classes one.
  static bool by_label(const Entry& entry) {
    return entry.scope() == MetricScope::kRows || entry.scope() == MetricScope::kFitted;
  }
  bool fits_tables(const Entry& entry) const {
    return entry.scope() == MetricScope::kFitted && view().task != Task::kMulticlass;
  }

  // ---- plan ------------------------------------------------------------------------------------

  Result<void> plan() {
    const Task task = view().task;
    for (const MetricSpec& spec : request_.metrics) {
      if (auto fits = check_metric(spec, task, request_.group_columns); !fits) return fits.error();
      if (has_fits({&spec, 1}) && !has_halves()) return fit_without_split(spec);
      if (spec.metric->info().takes_embedding && parts_.front().features.data == nullptr &&
          view().rows != 0) {
        return usage_error(fmt::format("'{}' needs features of rows", spec.name),
                           "evaluate a dump with an embedding column");
      }
      Entry entry;
      entry.spec = &spec;
      auto average = resolve_average(spec);
      if (!average) return average.error();
      entry.average = *average;
      auto needs = spec.metric->needs(spec.options, task, view().classes, view().logits);
      if (!needs) return needs.error();
      entry.needs = std::move(*needs);
      entry.subset = entry.needs.rows.exact_match;
      if (entry.subset) entry.average = Average::kNone;
      for (const RankQuery& query : entry.needs.queries) {
        const auto at = std::find(queries_.begin(), queries_.end(), query);
        entry.queries.push_back(static_cast<std::size_t>(at - queries_.begin()));
        if (at == queries_.end()) queries_.push_back(query);
      }
      if (entry.needs.conformal) {
        entry.needs.conformal->set_seed(request_.seed);
        auto fine = check_conformal(spec.name, *entry.needs.conformal, weighted(),
                                    !request_.group_columns.empty());
        if (!fine) return fine.error();
      }
      if (by_label(entry)) add_rows(entry.needs.rows);
      entries_.push_back(std::move(entry));
    }
    return {};
  }

  Result<Average> resolve_average(const MetricSpec& spec) const {
    const Task task = view().task;
    const std::string_view text = spec.options.text("average");
    const auto refuse = [&](std::string_view needed) -> Error {
      return usage_error(fmt::format("average={} of '{}' needs a {} task", text, spec.name, needed),
                         fmt::format("this one is {}", task_name(task)));
    };
    const bool has_classes =
        spec.metric->scope() == MetricScope::kRanking ||
        (spec.metric->scope() != MetricScope::kPairs && task == Task::kMultilabel);
    if (text.empty()) {
      return has_classes && task != Task::kBinary ? Average::kMacro : Average::kNone;
    }
    if (task == Task::kBinary) return refuse("multiclass or multilabel");
    if (spec.metric->scope() != MetricScope::kRanking && task == Task::kMulticlass) {
      return refuse("multilabel");
    }
    Average average = Average::kMacro;
    for (int i = 1; i <= static_cast<int>(Average::kOvoWeighted); ++i) {
      if (average_name(static_cast<Average>(i)) == text) average = static_cast<Average>(i);
    }
    if (average == Average::kSamples && task != Task::kMultilabel) return refuse("multilabel");
    if (one_against_one(average) && task != Task::kMulticlass) return refuse("multiclass");
    return average;
  }

  void add_rows(const RowSpec& rows) {
    const auto unite = [](auto& mine, const auto& theirs) {
      for (const auto& value : theirs) {
        if (std::find(mine.begin(), mine.end(), value) == mine.end()) mine.push_back(value);
      }
    };
    unite(row_spec_.thresholds, rows.thresholds);
    unite(row_spec_.top_k, rows.top_k);
    for (const BinQuery& query : rows.bins) {
      const auto same = std::find_if(row_spec_.bins.begin(), row_spec_.bins.end(),
                                     [&](const BinQuery& mine) { return mine.same_bins(query); });
      if (same == row_spec_.bins.end()) {
        row_spec_.bins.push_back(query);
      } else {
        same->moments = same->moments || query.moments;
      }
    }
    row_spec_.brier = row_spec_.brier || rows.brier;
    row_spec_.log_loss = row_spec_.log_loss || rows.log_loss;
    row_spec_.exact_match = row_spec_.exact_match || rows.exact_match;
  }

  template <class Wanted>
  bool any(const Wanted& wanted) const {
    return std::any_of(entries_.begin(), entries_.end(), wanted);
  }

  void unite_cells() {
    UnitedCells united = cupel::unite_cells(parts_);
    cells_ = std::move(united.keys);
    calibration_ = std::move(united.calibration);
    cell_map_ = std::move(united.of_part);
  }

  /// Whether rows for calibration are in cells of their own.
  bool has_halves() const { return parts_.front().has_halves; }

  /// Whether the metrics that are not fitted see a cell.
  bool in_split(u32 cell) const {
    return calibration_.empty() || request_.split == RowSplit::kAll ||
           calibration_[cell] == (request_.split == RowSplit::kCalibration);
  }

  /// Leaves each scope the cells of the split, and keeps all of them for the fits.
  void split_scopes() {
    for (Scope& scope : scopes_.all) {
      FitScope halves;
      for (const u32 cell : scope.cells) {
        (calibration_[cell] ? halves.calibration : halves.others).push_back(cell);
      }
      fit_scopes_.push_back(std::move(halves));
      std::erase_if(scope.cells, [&](u32 cell) { return !in_split(cell); });
    }
  }

  // ---- one value
  // ---------------------------------------------------------------------------------

  Evidence evidence() const {
    Evidence e;
    e.task = view().task;
    e.classes = view().classes;
    e.logits = view().logits;
    e.probability_epsilon = parts_.front().probability_epsilon;
    e.row_spec = &row_spec_;
    e.outside_unit = outside_unit_;
    return e;
  }

  static Detail::Object shown_params(const Entry& entry, const Evidence& e) {
    Detail::Object params = entry.metric().params(entry.spec->options, e);
    // The result has a field of its own for the average.
    std::erase_if(params, [](const auto& field) { return field.first == "average"; });
    return params;
  }

  ScopedValue finish_ranking(const Entry& entry, const RankSummary& all,
                             const RankTable* table) const {
    RankSummary own = all;
    own.answers.clear();
    for (const std::size_t q : entry.queries) own.answers.push_back(all.answers[q]);
    Evidence e = evidence();
    e.ranks = &own;
    e.table = table;
    ScopedValue scoped;
    scoped.value = entry.metric().finish(e, entry.spec->options);
    scoped.params = shown_params(entry, e);
    scoped.n = static_cast<i64>(all.rows());
    scoped.n_pos = static_cast<i64>(all.pos_rows);
    scoped.n_neg = static_cast<i64>(all.neg_rows);
    scoped.support = all.pos;
    return scoped;
  }

  ScopedValue finish_rows(const Entry& entry, const RowSums& sums, bool binary, std::size_t scope,
                          std::size_t problem) const {
    Evidence e = evidence();
    e.rows = &sums;
    if (!entry.sets.empty()) e.sets = entry.sets[scope][problem];
    if (!entry.pair_sums.empty()) e.pairs = &entry.pair_sums[scope];
    ScopedValue scoped;
    scoped.value = entry.metric().finish(e, entry.spec->options);
    scoped.params = shown_params(entry, e);
    const RowSpec& asked = entry.needs.rows;
    if (view().sums_softmax_f32() && (asked.brier || asked.log_loss)) {
      scoped.params.emplace_back("softmax", "f32");
    }
    scoped.n = static_cast<i64>(sums.rows);
    if (!binary) return scoped;
    scoped.n_pos = scoped.n_neg = 0;
    if (!sums.class_rows.empty()) {  // empty: a scope without rows
      scoped.n_pos = static_cast<i64>(sums.class_rows[1]);
      scoped.n_neg = static_cast<i64>(sums.class_rows[0]);
      scoped.support = sums.class_mass[1];
    }
    return scoped;
  }

  // ---- rankings
  // ----------------------------------------------------------------------------------

  Result<RankTable> merge_cells(const std::vector<std::vector<RankTable>>& by_cell,
                                const std::vector<u32>& cells) const {
    std::vector<RankTable> tables;
    for (const u32 cell : cells) {
      for (const RankTable& table : by_cell[cell]) tables.push_back(table);
    }
    if (tables.empty()) return RankTable(score_kind(view()), weighted());
    return merge_all(std::move(tables));
  }

  i64 block_size() const {
    const u64 limit = request_.memory > 0 ? static_cast<u64>(request_.memory) / 2 : u64{1} << 30;
    u64 rows = 0;
    for (const PreparedTable& part : parts_) rows += static_cast<u64>(part.view.rows);
    const u64 key = key_bits(score_kind(view())) == 64 ? 8 : 4;
    // The cells' tables, the merged ones and scratch.
    const u64 per_problem = std::max<u64>(1, rows * key * 3);
    const u64 block = std::clamp<u64>(limit / per_problem, 1, problems());
    return static_cast<i64>(block > 16 ? block / 16 * 16 : block);
  }

  Result<void> compute_rankings() {
    const auto needs_ranking = [&](const Entry& e) {
      return e.scope() == MetricScope::kPairs || fits_tables(e) ||
             (e.scope() == MetricScope::kRanking &&
              (e.average <= Average::kMicro || request_.by_class)) ||
             sorts_rankings(e);
    };
    if (!any(needs_ranking)) return {};
    const bool needs_tables = any([&](const Entry& e) {
      return needs_ranking(e) &&
             (e.needs.table || e.average == Average::kMicro || e.scope() == MetricScope::kPairs ||
              sorts_rankings(e) || fits_tables(e));
    });
    for (const PreparedTable& part : parts_) {
      const ScoreKind kind = score_kind(part.view);
      if (kind != score_kind(view())) {
        return input_error("", "the dumps' scores have different types",
                           "pool dumps with one dtype");
      }
    }
    if (parts_.size() == 1 && cells_.size() == 1 && !needs_tables) {
      states_.push_back(fmt::format("{} ranking{} summarised in one pass", problems(),
                                    problems() == 1 ? "" : "s"));
      auto summaries = backend_.rank_summaries(view(), 0, view().problems(), queries_);
      if (!summaries) return summaries.error();
      for (std::size_t p = 0; p < problems(); ++p) store_ranking(0, p, (*summaries)[p], nullptr);
      return {};
    }

    states_.push_back(fmt::format("{} rank table{} x {} cell{}", problems(),
                                  problems() == 1 ? "" : "s", cells_.size(),
                                  cells_.size() == 1 ? "" : "s"));
    const bool ranks = any([](const Entry& e) { return e.scope() == MetricScope::kRanking; });
    const bool micro = any([](const Entry& e) { return e.average == Average::kMicro; });
    std::vector<RankTable> micro_tables(micro ? scopes_.all.size() : 0);
    const i64 block = block_size();
    for (i64 first = 0; first < view().problems(); first += block) {
      const i64 last = std::min(view().problems(), first + block);
      auto blocks = block_tables(first, last);
      if (!blocks) return blocks.error();
      for (i64 p = first; p < last; ++p) {
        auto& by_cell = (*blocks)[static_cast<std::size_t>(p - first)];
        if (auto done = fit_problem(static_cast<std::size_t>(p), by_cell); !done) {
          return done.error();
        }
        std::vector<RankTable> tables;
        for (const Scope& scope : scopes_.all) {
          auto merged = merge_cells(by_cell, scope.cells);
          if (!merged) return merged.error();
          tables.push_back(std::move(*merged));
        }
        for (std::size_t s = 0; s < tables.size(); ++s) {
          if (ranks) {
            const RankSummary summary = summarise(tables[s], queries_);
            store_ranking(s, static_cast<std::size_t>(p), summary, &tables[s]);
          }
          reduce_ranking(s, static_cast<std::size_t>(p), tables[s]);
          if (!micro) continue;
          if (auto done = micro_tables[s].merge(tables[s]); !done) return done.error();
        }
        explain_groups(static_cast<std::size_t>(p), tables);
        compare_groups(tables);
      }
    }
    for (std::size_t s = 0; s < micro_tables.size(); ++s) {
      const RankSummary summary = summarise(micro_tables[s], queries_);
      if (view().task == Task::kMultilabel) reduce_ranking(s, problems(), micro_tables[s]);
      for (Entry& entry : entries_) {
        if (entry.average != Average::kMicro || entry.scope() != MetricScope::kRanking) continue;
        entry.averaged[s] = finish_ranking(entry, summary, &micro_tables[s]);
        entry.averaged[s].n /= view().classes;
      }
    }
    return {};
  }

  // ---- fits
  // --------------------------------------------------------------------------------------

  /// Whether a score of a table is no probability.
  static bool has_outside(const RankTable& table) {
    return std::visit(
        [&](const auto& runs) {
          for (const auto* run : {&runs.pos, &runs.neg}) {
            if (run->keys.empty()) continue;
            if (score_of_key(table.kind(), run->keys.front()) < 0.0 ||
                score_of_key(table.kind(), run->keys.back()) > 1.0) {
              return true;
            }
          }
          return false;
        },
        table.runs());
  }

  /// Fits of one binary problem, in every scope.
  Result<void> fit_problem(std::size_t problem,
                           const std::vector<std::vector<RankTable>>& by_cell) {
    if (!any([&](const Entry& e) { return fits_tables(e); })) return {};
    bool outside = false;
    for (const auto& tables : by_cell) {
      for (const RankTable& table : tables) {
        outside = outside || (!view().logits && has_outside(table));
      }
    }
    for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
      auto calibration = merge_cells(by_cell, fit_scopes_[s].calibration);
      if (!calibration) return calibration.error();
      auto others = merge_cells(by_cell, fit_scopes_[s].others);
      if (!others) return others.error();
      Evidence e = evidence();
      e.outside_unit = outside;
      e.fit.calibration = &*calibration;
      e.fit.others = &*others;
      for (Entry& entry : entries_) {
        if (!fits_tables(entry)) continue;
        const RankSummary summary =
            summarise(entry.metric().info().judged_on_others ? *others : *calibration, {});
        ScopedValue scoped;
        scoped.value = entry.metric().finish(e, entry.spec->options);
        scoped.params = shown_params(entry, e);
        scoped.n = static_cast<i64>(summary.rows());
        scoped.n_pos = static_cast<i64>(summary.pos_rows);
        scoped.n_neg = static_cast<i64>(summary.neg_rows);
        scoped.support = summary.pos;
        if (view().task == Task::kBinary) {
          entry.averaged[s] = std::move(scoped);
        } else {
          entry.by_class[s][problem] = std::move(scoped);
        }
      }
    }
    return {};
  }

  /// Fits of several classes, from sums over rows.
  Result<void> compute_class_fits() {
    const auto wanted = [&](const Entry& e) {
      return e.scope() == MetricScope::kFitted && !fits_tables(e);
    };
    if (!any(wanted)) return {};
    // Scopes of one attribute are disjoint; so is everyone alone.
    std::vector<std::vector<std::size_t>> layers{{0}};
    for (const Attribute& attribute : scopes_.attributes) layers.push_back(attribute.scopes);
    auto fitted = fit_temperatures(parts_, cell_map_, cells_.size(), fit_scopes_, layers, backend_);
    if (!fitted) return fitted.error();
    i64 steps = 0;
    for (const FittedScope& scope : *fitted) steps = std::max(steps, scope.fit.steps);
    states_.push_back(fmt::format("{} temperature{} in up to {} steps", fitted->size(),
                                  fitted->size() == 1 ? "" : "s", steps));
    for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
      const auto merged = [&](const std::vector<u32>& cells) -> Result<RowSums> {
        RowSums all;
        for (const u32 cell : cells) {
          if (auto done = all.merge(class_sums_[cell]); !done) return done.error();
        }
        return all;
      };
      auto calibration = merged(fit_scopes_[s].calibration);
      if (!calibration) return calibration.error();
      auto others = merged(fit_scopes_[s].others);
      if (!others) return others.error();
      const FittedScope& own = (*fitted)[s];
      Evidence e = evidence();
      e.fit.temperature = &own.fit;
      e.fit.calibration_before = &*calibration;
      e.fit.others_before = &*others;
      if (own.fit.status == FitStatus::kConverged) {
        e.fit.calibration_after = &own.calibration;
        e.fit.others_after = &own.others;
      }
      for (Entry& entry : entries_) {
        if (!wanted(entry)) continue;
        ScopedValue& scoped = entry.averaged[s];
        scoped.value = entry.metric().finish(e, entry.spec->options);
        scoped.params = shown_params(entry, e);
        scoped.n = static_cast<i64>(
            (entry.metric().info().judged_on_others ? *others : *calibration).rows);
      }
    }
    return {};
  }

  // ---- conformal sets
  // ---------------------------------------------------------------------------------

  Result<void> compute_conformal() {
    std::vector<Entry*> entries;
    std::vector<ConformalQuery> queries;
    for (Entry& entry : entries_) {
      if (!entry.needs.conformal) continue;
      entries.push_back(&entry);
      queries.push_back(*entry.needs.conformal);
    }
    if (entries.empty()) return {};
    const ConformalCells all{cell_map_, calibration_, cells_};
    const auto states = conformal_states(parts_, all, queries, backend_, request_.threads);
    if (!states) return states.error();
    states_.push_back(fmt::format("{} conformal threshold{} of {} rows", queries.size(),
                                  queries.size() == 1 ? "" : "s",
                                  states->thresholds.front().calibration_rows));
    for (std::size_t q = 0; q < entries.size(); ++q) {
      std::vector<WorstSlab> slabs;  // [scope]
      if (queries[q].slab) {
        auto found = find_slabs(states->sets[q], *queries[q].slab);
        if (!found) return found.error();
        slabs = std::move(*found);
      }
      for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
        const FitScope& halves = fit_scopes_[s];
        SetSums sums;
        for (const u32 cell : halves.others) sums.merge(states->sums[q][cell]);
        std::vector<u32> cells = halves.calibration;
        cells.insert(cells.end(), halves.others.begin(), halves.others.end());
        const ConformalThreshold threshold = threshold_of(
            *states, q, all, cells, scopes_.all[s].attribute < 0, request_.group_columns);
        Evidence e = evidence();
        e.outside_unit = outside_unit_ || states->outside_unit;
        e.conformal = {&threshold, &sums, weighted(), request_.seed,
                       slabs.empty() ? nullptr : &slabs[s]};
        ScopedValue& scoped = entries[q]->averaged[s];
        scoped.value = entries[q]->metric().finish(e, entries[q]->spec->options);
        scoped.params = shown_params(*entries[q], e);
        scoped.n = static_cast<i64>(sums.all.rows);
      }
    }
    return {};
  }

  Result<std::vector<WorstSlab>> find_slabs(std::span<const ConformalSet> sets,
                                            const SlabQuery& query) {
    std::vector<std::vector<u32>> others;  // [scope]
    for (const FitScope& scope : fit_scopes_) others.push_back(scope.others);
    return worst_slabs(parts_, cell_map_, sets, others, query, backend_, request_.threads);
  }

  /// Policies that may abstain: chosen on the calibration rows, judged on the others.
  Result<void> compute_abstention() {
    std::vector<Entry*> entries;
    std::vector<AbstentionQuery> queries;
    for (Entry& entry : entries_) {
      if (!entry.needs.abstention) continue;
      entries.push_back(&entry);
      queries.push_back(*entry.needs.abstention);
    }
    if (entries.empty()) return {};
    const auto states =
        abstention_states(parts_, cell_map_, calibration_, queries, backend_, request_.threads);
    if (!states) return states.error();
    for (std::size_t q = 0; q < entries.size(); ++q) {
      states_.push_back(fmt::format("{} policies on {} rows",
                                    queries[q].alphas.size() * queries[q].betas.size(),
                                    states->choices[q].tuning_rows));
      for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
        AbstentionSums sums;
        for (const u32 cell : fit_scopes_[s].others) sums.merge(states->sums[q][cell]);
        Evidence e = evidence();
        e.outside_unit = outside_unit_ || states->outside_unit;
        e.abstention = {&states->choices[q], &sums, weighted()};
        ScopedValue& scoped = entries[q]->averaged[s];
        scoped.value = entries[q]->metric().finish(e, entries[q]->spec->options);
        scoped.params = shown_params(*entries[q], e);
        scoped.n = static_cast<i64>(sums.counts.rows());
      }
    }
    return {};
  }

  // ---- selections
  // ---------------------------------------------------------------------------------

  Result<void> compute_selections() {
    std::vector<Entry*> entries;
    std::vector<SelectionQuery> queries;
    std::vector<std::size_t> query_of;  // [entry]
    for (Entry& entry : entries_) {
      if (!entry.needs.selection) continue;
      entries.push_back(&entry);
      const auto at = std::find(queries.begin(), queries.end(), *entry.needs.selection);
      query_of.push_back(static_cast<std::size_t>(at - queries.begin()));
      if (at == queries.end()) queries.push_back(*entry.needs.selection);
    }
    if (entries.empty()) return {};
    const auto states = selection_states(parts_, cell_map_, calibration_, queries, request_.seed);
    if (!states) return states.error();
    states_.push_back(fmt::format("{} selection{} among {} rows", queries.size(),
                                  queries.size() == 1 ? "" : "s", states->rows.size()));
    if (request_.rows != nullptr && weighted()) {
      return usage_error("--per-item lists what is selected, and of weighted rows nothing is",
                         "evaluate a dump without a weight column");
    }
    for (std::size_t q = 0; q < queries.size() && request_.rows != nullptr; ++q) {
      const auto first = std::find(query_of.begin(), query_of.end(), q);
      const auto entry = static_cast<std::size_t>(first - query_of.begin());
      list_rows(*states, q, *entries[entry]->spec, parts_.size(), *request_.rows);
    }
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const SelectedRows& found = states->of_query[query_of[i]];
      for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
        SelectionTally tally;
        for (const u32 cell : fit_scopes_[s].others) tally.merge(found.by_cell[cell]);
        Evidence e = evidence();
        e.selection = {&found.outcome, &tally, request_.seed, weighted()};
        ScopedValue& scoped = entries[i]->averaged[s];
        scoped.value = entries[i]->metric().finish(e, entries[i]->spec->options);
        scoped.params = shown_params(*entries[i], e);
        scoped.n = static_cast<i64>(tally.rows);
      }
    }
    return {};
  }

  Result<void> compute_p_values() {
    std::vector<Entry*> entries;
    std::vector<PValueQuery> queries;
    for (Entry& entry : entries_) {
      if (!entry.needs.p_value) continue;
      entries.push_back(&entry);
      queries.push_back(*entry.needs.p_value);
    }
    if (entries.empty()) return {};
    const auto states = p_value_states(parts_, cell_map_, calibration_, queries, request_.seed,
                                       backend_, request_.threads);
    if (!states) return states.error();
    states_.push_back(fmt::format("{} kind{} of p-values by {} rows", queries.size(),
                                  queries.size() == 1 ? "" : "s", states->calibration_rows));
    for (std::size_t q = 0; q < entries.size(); ++q) {
      for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
        PValueSums sums;
        for (const u32 cell : fit_scopes_[s].others) sums.merge(states->sums[q][cell]);
        Evidence e = evidence();
        e.outside_unit = outside_unit_ || states->outside_unit;
        e.p_value = {&sums, states->calibration_rows, request_.seed, weighted()};
        ScopedValue& scoped = entries[q]->averaged[s];
        scoped.value = entries[q]->metric().finish(e, entries[q]->spec->options);
        scoped.params = shown_params(*entries[q], e);
        scoped.n = static_cast<i64>(sums.rows);
      }
    }
    return {};
  }

  /// Tables of problems [first, last), [problem][global cell][part].
  Result<std::vector<std::vector<std::vector<RankTable>>>> block_tables(i64 first, i64 last) {
    std::vector<std::vector<std::vector<RankTable>>> blocks(
        static_cast<std::size_t>(last - first), std::vector<std::vector<RankTable>>(cells_.size()));
    for (std::size_t part = 0; part < parts_.size(); ++part) {
      auto tables = backend_.rank_tables(parts_[part].view, first, last);
      if (!tables) return tables.error();
      for (std::size_t p = 0; p < blocks.size(); ++p) {
        for (std::size_t cell = 0; cell < cell_map_[part].size(); ++cell) {
          blocks[p][cell_map_[part][cell]].push_back(std::move((*tables)[p][cell]));
        }
      }
    }
    return blocks;
  }

  void store_ranking(std::size_t scope, std::size_t problem, const RankSummary& summary,
                     const RankTable* table) {
    for (Entry& entry : entries_) {
      if (entry.scope() != MetricScope::kRanking || (entry.needs.table && table == nullptr))
        continue;
      if (view().task == Task::kBinary) {
        entry.averaged[scope] = finish_ranking(entry, summary, table);
      } else if (entry.average <= Average::kWeighted || request_.by_class) {
        entry.by_class[scope][problem] = finish_ranking(entry, summary, table);
      }
    }
  }

  /// Adds to the relation of AUROC and AUPRC what each group's positives contribute.
  void explain_groups(std::size_t problem, const std::vector<RankTable>& tables) {
    if (scopes_.attributes.empty()) return;
    for (Entry& entry : entries_) {
      const bool shown = view().task == Task::kBinary || request_.by_class;
      if (&entry.metric() != find_metric("auprc").value() || !shown) continue;
      ScopedValue& whole =
          view().task == Task::kBinary ? entry.averaged[0] : entry.by_class[0][problem];
      if (!whole.value.is_defined()) continue;
      for (auto& [name, detail] : whole.value.details) {
        if (name != "relation") continue;
        Detail::Object relation = std::get<Detail::Object>(detail.held());
        const RankSummary summary = summarise(tables[0], {});
        const Contributions contributions(tables[0]);
        Detail::Object by_attribute;
        for (const Attribute& attribute : scopes_.attributes) {
          Detail::Object groups;
          for (const std::size_t s : attribute.scopes) {
            groups.emplace_back(group_label(scopes_.all[s]),
                                describe_share(summary, contributions.of(tables[s])));
          }
          by_attribute.emplace_back(attribute.name, std::move(groups));
        }
        relation.emplace_back("groups", std::move(by_attribute));
        detail = Detail(std::move(relation));
      }
    }
  }

  // ---- sorted confidences
  // ------------------------------------------------------------------------

  /// Whether the tables of the rankings hold the confidences that a metric asks for, sorted.
  bool sorts_rankings(const Entry& entry) const {
    return entry.needs.confidences &&
           (view().task != Task::kMulticlass || *entry.needs.confidences == BinPoints::kEachClass);
  }

  static void reduce_into(const Entry& entry, const SortedConfidences& set, ReducedSet& out) {
    if (set.are_probabilities()) out = entry.metric().reduce(set, entry.spec->options);
    out.rows = set.rows();
  }

  void reduce_ranking(std::size_t scope, std::size_t problem, const RankTable& table) {
    const bool multiclass = view().task == Task::kMulticlass;
    // Multiclass logits are ranked by their softmax.
    const ScoreMeaning meaning =
        view().logits && !multiclass ? ScoreMeaning::kLogit : ScoreMeaning::kProbability;
    for (Entry& entry : entries_) {
      if (!sorts_rankings(entry)) continue;
      const ConfidenceOf of = *entry.needs.confidences == BinPoints::kTop ? ConfidenceOf::kTop
                                                                          : ConfidenceOf::kPositive;
      auto& problems = entry.sets[scope];
      reduce_into(entry, SortedConfidences(table, meaning, of),
                  multiclass ? problems[0][problem] : problems[problem][0]);
    }
  }

  /// Multiclass: of the predicted class, all together and apart by it.
  Result<void> compute_top_confidences() {
    const auto asks = [&](BinPoints points) {
      return view().task == Task::kMulticlass &&
             any([points](const Entry& e) { return e.needs.confidences == points; });
    };
    const bool all = asks(BinPoints::kTop);
    const bool by_predicted = asks(BinPoints::kByPredicted);
    if (!all && !by_predicted) return {};
    states_.push_back(fmt::format("sorted top confidences x {} cell{}", cells_.size(),
                                  cells_.size() == 1 ? "" : "s"));
    auto tables = top_tables(parts_, {cells_.size(), cell_map_}, all, by_predicted, backend_,
                             request_.threads);
    if (!tables) return tables.error();
    for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
      for (const auto points : {BinPoints::kTop, BinPoints::kByPredicted}) {
        const auto& of = points == BinPoints::kTop ? tables->all : tables->by_predicted;
        for (i64 set = 0; of && set < of->sets; ++set) {
          const auto table = of->of(scopes_.all[s].cells, set, weighted());
          if (!table) return table.error();
          const SortedConfidences confidences(*table, ScoreMeaning::kProbability,
                                              ConfidenceOf::kPositive);
          for (Entry& entry : entries_) {
            if (entry.needs.confidences != points) continue;
            reduce_into(entry, confidences, entry.sets[s][0][static_cast<std::size_t>(set)]);
          }
        }
      }
    }
    return {};
  }

  /// xauc: positives of one group against negatives of another, for every ordered pair.
  void compare_groups(const std::vector<RankTable>& tables) {
    for (Entry& entry : entries_) {
      if (entry.scope() != MetricScope::kPairs) continue;
      entry.pairs.clear();
      for (const Attribute& attribute : scopes_.attributes) {
        for (const std::size_t a : attribute.scopes) {
          for (const std::size_t b : attribute.scopes) {
            const RankSummary summary = summarise(tables[a], tables[b], queries_);
            const ScopedValue value = finish_ranking(entry, summary, nullptr);
            EvalResult result = make_result(entry, value);
            result.group = {{attribute.name, group_label(scopes_.all[a])}};
            result.group_against = group_label(scopes_.all[b]);
            entry.pairs.push_back(std::move(result));
          }
        }
      }
    }
  }

  // ---- one against one
  // -----------------------------------------------------------------------------

  Result<void> compute_one_against_one() {
    if (!any([](const Entry& e) { return one_against_one(e.average); })) return {};
    const std::size_t k = problems();
    if (static_cast<u64>(k) * cells_.size() > 50'000'000) {
      return usage_error("one-against-one averages over this many classes and groups are too many",
                         "use average=macro");
    }
    // Rows of one label are a cell of their own: positives of class a and negatives of class b then
    // come from two tables, without another pass over the rows.
    std::vector<Buffer<u32>> split_cells(parts_.size());
    for (std::size_t part = 0; part < parts_.size(); ++part) {
      const TableView& table = parts_[part].view;
      // One more than rows: an empty shard has cells too, and a null pointer would mean it has
      // none.
      split_cells[part].resize(static_cast<std::size_t>(table.rows) + 1);
      for (i64 row = 0; row < table.rows; ++row) {
        const u32 cell = cell_map_[part][table.cells == nullptr ? 0 : table.cells[row]];
        split_cells[part][static_cast<std::size_t>(row)] =
            cell * static_cast<u32>(k) + static_cast<u32>(table.class_labels[row]);
      }
    }
    const TemporaryColumns passed(backend_);
    states_.push_back(fmt::format("{} rank tables split by label", k));
    // [scope][a][b] of each entry, and the mass of each class in the scope.
    std::vector<std::vector<std::vector<std::vector<MetricValue>>>> values(entries_.size());
    for (auto& of_entry : values) {
      of_entry.assign(scopes_.all.size(),
                      std::vector<std::vector<MetricValue>>(k, std::vector<MetricValue>(k)));
    }
    std::vector<std::vector<u128>> mass(scopes_.all.size(), std::vector<u128>(k));
    std::vector<u64> scope_rows(scopes_.all.size());
    for (std::size_t a = 0; a < k; ++a) {
      std::vector<std::vector<RankTable>> united(cells_.size() * k);  // [cell * k + label]
      for (std::size_t part = 0; part < parts_.size(); ++part) {
        TableView table = parts_[part].view;
        table.cells = split_cells[part].data();
        table.cell_count = static_cast<u32>(cells_.size() * k);
        auto tables = backend_.rank_tables(table, static_cast<i64>(a), static_cast<i64>(a) + 1);
        if (!tables) return tables.error();
        for (std::size_t c = 0; c < united.size(); ++c) {
          united[c].push_back(std::move((*tables)[0][c]));
        }
      }
      for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
        std::vector<RankTable> by_label;
        for (std::size_t label = 0; label < k; ++label) {
          std::vector<u32> cells;
          for (const u32 cell : scopes_.all[s].cells) {
            cells.push_back(cell * static_cast<u32>(k) + static_cast<u32>(label));
          }
          auto merged = merge_cells(united, cells);
          if (!merged) return merged.error();
          by_label.push_back(std::move(*merged));
        }
        const RankSummary own = summarise(by_label[a], {});
        mass[s][a] = own.pos;
        scope_rows[s] += own.pos_rows;
        for (std::size_t b = 0; b < k; ++b) {
          if (b != a) finish_pair(values, s, a, b, by_label);
        }
      }
    }
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (!one_against_one(entries_[i].average)) continue;
      for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
        average_pairs(entries_[i], s, values[i][s], mass[s]);
        entries_[i].averaged[s].n = static_cast<i64>(scope_rows[s]);
      }
    }
    return {};
  }

  void finish_pair(std::vector<std::vector<std::vector<std::vector<MetricValue>>>>& values,
                   std::size_t scope, std::size_t a, std::size_t b,
                   const std::vector<RankTable>& by_label) const {
    const RankSummary summary = summarise(by_label[a], by_label[b], queries_);
    std::optional<RankTable> both;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const Entry& entry = entries_[i];
      if (!one_against_one(entry.average)) continue;
      if (entry.needs.table && !both) {
        both = by_label[a];
        const auto merged = both->merge(by_label[b]);
        CUPEL_ASSERT(merged.ok());
      }
      values[i][scope][a][b] = finish_ranking(entry, summary, both ? &*both : nullptr).value;
    }
  }

  static void average_pairs(Entry& entry, std::size_t scope,
                            const std::vector<std::vector<MetricValue>>& values,
                            const std::vector<u128>& mass) {
    double sum = 0;
    double weight = 0;
    i64 pairs = 0;
    i64 left_out = 0;
    for (std::size_t a = 0; a < mass.size(); ++a) {
      for (std::size_t b = a + 1; b < mass.size(); ++b) {
        if (!values[a][b].is_defined() || !values[b][a].is_defined()) {
          ++left_out;
          continue;
        }
        const double w =
            entry.average == Average::kOvoWeighted ? static_cast<double>(mass[a] + mass[b]) : 1.0;
        sum += w * (values[a][b].number + values[b][a].number) / 2;
        weight += w;
        ++pairs;
      }
    }
    ScopedValue& scoped = entry.averaged[scope];
    scoped.value =
        pairs == 0 ? MetricValue::none(Undefined::kAllUndefined) : MetricValue::of(sum / weight);
    scoped.value.details = {{"pairs", pairs}, {"pairs_left_out", left_out}};
    scoped.params = shown_params(entry, Evidence{});
  }

  // ---- samples
  // -------------------------------------------------------------------------------------

  Result<void> compute_samples() {
    for (Entry& entry : entries_) {
      if (entry.average != Average::kSamples) continue;
      std::vector<SampleSums> cells(cells_.size());
      for (std::size_t part = 0; part < parts_.size(); ++part) {
        const auto sums =
            sample_sums(parts_[part].view, entry.metric(), entry.spec->options, request_.threads);
        for (std::size_t c = 0; c < cell_map_[part].size(); ++c) {
          cells[cell_map_[part][c]].merge(sums[c]);
        }
      }
      states_.push_back(fmt::format("sample sums of {}", entry.spec->name));
      for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
        SampleSums scope;
        for (const u32 cell : scopes_.all[s].cells) scope.merge(cells[cell]);
        ScopedValue& scoped = entry.averaged[s];
        scoped.value = scope.mean();
        scoped.value.details = {{"rows_left_out", scope.undefined}};
        scoped.params = shown_params(entry, evidence());
        scoped.n = static_cast<i64>(scope.rows + scope.undefined);
      }
    }
    return {};
  }

  // ---- rows
  // ----------------------------------------------------------------------------------------

  /// Bins are held for every class and group, some 140 bytes each: refused before memory is gone.
  Result<void> check_bins() const {
    constexpr double kMostBinsHeld = 0x1p26;
    const bool multilabel = view().task == Task::kMultilabel;
    double bins = 0;
    for (const BinQuery& query : row_spec_.bins) {
      bins +=
          static_cast<double>(bin_slots(query.bins)) *
          static_cast<double>(multilabel ? view().classes : bin_sets(query.points, view().classes));
    }
    if (bins * static_cast<double>(cells_.size()) <= kMostBinsHeld) return {};
    return usage_error("bins of this many classes and groups are too many",
                       "ask for fewer bins, or leave out --group or smooth_ece");
  }

  Result<void> compute_rows() {
    const bool class_fits = view().task == Task::kMulticlass &&
                            any([](const Entry& e) { return e.scope() == MetricScope::kFitted; });
    if (!class_fits && !any([](const Entry& e) { return e.scope() == MetricScope::kRows; })) {
      return {};
    }
    if (auto done = check_bins(); !done) return done.error();
    std::vector<std::vector<RowSums>> sums;  // [problem][global cell]
    for (std::size_t part = 0; part < parts_.size(); ++part) {
      auto own = backend_.row_sums(parts_[part].view, row_spec_);
      if (!own) return own.error();
      if (sums.empty()) sums.assign(own->size(), std::vector<RowSums>(cells_.size()));
      // Without rows a part has no group values and so no cells; a backend counts one.
      for (std::size_t p = 0; p < own->size(); ++p) {
        for (std::size_t c = 0; c < cell_map_[part].size(); ++c) {
          if (auto done = sums[p][cell_map_[part][c]].merge((*own)[p][c]); !done) {
            return done.error();
          }
        }
      }
    }
    states_.push_back(fmt::format("{} row sum{} x {} cell{}", sums.size(),
                                  sums.size() == 1 ? "" : "s", cells_.size(),
                                  cells_.size() == 1 ? "" : "s"));
    for (const auto& of_problem : sums) {
      for (u32 cell = 0; cell < of_problem.size(); ++cell) {
        outside_unit_ = outside_unit_ ||
                        (!view().logits && in_split(cell) && of_problem[cell].outside_unit != 0);
      }
    }
    if (class_fits) class_sums_ = sums.front();
    const bool multilabel = view().task == Task::kMultilabel;
    for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
      std::vector<RowSums> merged;
      for (const auto& of_problem : sums) {
        RowSums all;
        for (const u32 cell : scopes_.all[s].cells) {
          if (auto done = all.merge(of_problem[cell]); !done) return done.error();
        }
        merged.push_back(std::move(all));
      }
      RowSums micro;
      for (std::size_t p = 0; multilabel && p < problems(); ++p) {
        if (auto done = micro.merge(merged[p]); !done) return done.error();
      }
      if (auto done = compute_pairs(s); !done) return done.error();
      for (Entry& entry : entries_) {
        if (entry.scope() != MetricScope::kRows) continue;
        if (!multilabel || entry.subset) {
          entry.averaged[s] = finish_rows(entry, merged[entry.subset ? problems() : 0],
                                          view().task == Task::kBinary, s, 0);
          continue;
        }
        for (std::size_t p = 0; p < problems(); ++p) {
          entry.by_class[s][p] = finish_rows(entry, merged[p], true, s, p);
        }
        if (entry.average == Average::kMicro) {
          entry.averaged[s] = finish_rows(entry, micro, true, s, problems());
          entry.averaged[s].n = static_cast<i64>(merged[0].rows);
        }
      }
    }
    return {};
  }

  /// All pairs of rows of a scope, where a metric asks for them and its rows have probabilities.
  /// Metrics that ask for one width share the pass.
  Result<void> compute_pairs(std::size_t scope) {
    std::optional<ProbabilityRows> rows;
    std::optional<TemporaryColumns> passed;
    std::map<double, PairSums> of_width;
    for (Entry& entry : entries_) {
      if (!entry.needs.pairs_nu) continue;
      entry.pair_sums.resize(scopes_.all.size());
      if (weighted() || outside_unit_) continue;
      if (!rows) {
        auto own = probability_rows(parts_, cell_map_, scopes_.all[scope].cells);
        if (!own) return own.error();
        rows = std::move(*own);
        passed.emplace(backend_);
        if (scope == 0) states_.emplace_back("sums over all pairs of rows");
      }
      const double nu = *entry.needs.pairs_nu;
      if (!of_width.contains(nu)) {
        auto sums = pair_sums(*rows, nu, backend_);
        if (!sums) return sums.error();
        of_width.emplace(nu, *sums);
      }
      entry.pair_sums[scope] = of_width.at(nu);
    }
    return {};
  }

  // ---- averages
  // --------------------------------------------------------------------------------------

  void average_classes() {
    for (Entry& entry : entries_) {
      if (entry.average != Average::kMacro && entry.average != Average::kWeighted) continue;
      for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
        const auto& classes = entry.by_class[s];
        double sum = 0;
        double weight = 0;
        i64 defined = 0;
        Detail::List per_class;
        Detail::List left_out;
        for (std::size_t c = 0; c < classes.size(); ++c) {
          const MetricValue& value = classes[c].value;
          Detail::Object described{{"class", static_cast<i64>(c)},
                                   {"value", value.is_defined() ? Detail(value.number) : Detail()},
                                   {"n_pos", classes[c].n_pos.value_or(0)}};
          if (!value.is_defined()) {
            const std::string reason(undefined_name(value.undefined));
            described.emplace_back("undefined", reason);
            left_out.emplace_back(
                Detail::Object{{"class", static_cast<i64>(c)}, {"undefined", reason}});
          } else {
            const double w =
                entry.average == Average::kWeighted ? static_cast<double>(classes[c].support) : 1.0;
            sum += w * value.number;
            weight += w;
            ++defined;
          }
          per_class.emplace_back(std::move(described));
        }
        ScopedValue& scoped = entry.averaged[s];
        const bool none = defined == 0 || weight == 0;
        scoped.n = classes.empty() ? 0 : classes.front().n;
        scoped.value = !none           ? MetricValue::of(sum / weight)
                       : scoped.n == 0 ? MetricValue::none(Undefined::kEmpty)
                       : all_are(classes, Undefined::kZeroWeight)
                           ? MetricValue::none(Undefined::kZeroWeight)
                       : all_are(classes, Undefined::kNotProbability)
                           ? MetricValue::none(Undefined::kNotProbability)
                           : MetricValue::none(Undefined::kAllUndefined);
        scoped.params = classes.empty() ? Detail::Object{} : classes.front().params;
        std::erase_if(scoped.params, [](const auto& field) { return field.first == "clipped"; });
        scoped.value.details = {{"classes_averaged", defined},
                                {"left_out", std::move(left_out)},
                                {"per_class", std::move(per_class)}};
      }
    }
  }

  static bool all_are(const std::vector<ScopedValue>& values, Undefined reason) {
    return std::all_of(values.begin(), values.end(),
                       [&](const ScopedValue& v) { return v.value.undefined == reason; });
  }

  // ---- results
  // ---------------------------------------------------------------------------------------

  static EvalResult make_result(const Entry& entry, const ScopedValue& scoped) {
    return cupel::make_result(*entry.spec, scoped);
  }

  void add_results(const Entry& entry, std::vector<EvalResult>& results) const {
    const std::size_t scopes = scopes_.all.size();
    // The averaged value, and each class, as a column over scopes.
    const auto column = [&](std::optional<std::size_t> cls) {
      std::vector<const ScopedValue*> by_scope;
      for (std::size_t s = 0; s < scopes; ++s) {
        by_scope.push_back(cls ? &entry.by_class[s][*cls] : &entry.averaged[s]);
      }
      return by_scope;
    };
    const bool classes = request_.by_class && !entry.by_class.empty();
    std::vector<std::vector<const ScopedValue*>> columns{column(std::nullopt)};
    for (std::size_t c = 0; classes && c < problems(); ++c) columns.push_back(column(c));
    const auto emit = [&](std::size_t s, std::optional<std::size_t> cls) {
      const auto& by_scope = columns[cls ? *cls + 1 : 0];
      EvalResult result = make_result(entry, *by_scope[s]);
      if (cls) {
        result.cls = static_cast<i64>(*cls);
      } else {
        result.average = average_name(entry.average);
        if (entry.average != Average::kNone && entry.average != Average::kMicro) {
          result.n_pos.reset();
          result.n_neg.reset();
        }
      }
      result.group = scopes_.all[s].group;
      if (s == 0) describe_groups(*entry.spec, scopes_, by_scope, result);
      results.push_back(std::move(result));
    };
    if (entry.spec->equity_scaled) {
      add_equity_results(entry, columns[0], std::nullopt, results);
      for (std::size_t c = 0; classes && c < problems(); ++c) {
        add_equity_results(entry, columns[c + 1], c, results);
      }
      return;
    }
    for (std::size_t s = 0; s < scopes; ++s) {
      emit(s, std::nullopt);
      for (std::size_t c = 0; classes && c < problems(); ++c) emit(s, c);
    }
  }

  void add_equity_results(const Entry& entry, const std::vector<const ScopedValue*>& by_scope,
                          std::optional<std::size_t> cls, std::vector<EvalResult>& results) const {
    for (EvalResult& result : equity_results(*entry.spec, scopes_, by_scope)) {
      if (cls) {
        result.cls = static_cast<i64>(*cls);
      } else {
        result.average = average_name(entry.average);
        if (entry.average != Average::kNone && entry.average != Average::kMicro) {
          result.n_pos.reset();
          result.n_neg.reset();
        }
      }
      results.push_back(std::move(result));
    }
  }

  std::vector<EvalResult> results() const {
    std::vector<EvalResult> results;
    for (const Entry& entry : entries_) {
      if (entry.scope() == MetricScope::kPairs) {
        results.insert(results.end(), entry.pairs.begin(), entry.pairs.end());
      } else {
        add_results(entry, results);
      }
    }
    return results;
  }

  std::span<const PreparedTable> parts_;
  const ComputeRequest& request_;
  Backend& backend_;
  std::vector<std::string>& states_;
  std::vector<Entry> entries_;
  std::vector<RankQuery> queries_;
  RowSpec row_spec_;
  std::vector<CellKey> cells_;
  std::vector<std::vector<u32>> cell_map_;  ///< [part][local cell] -> global cell
  Scopes scopes_;
  std::vector<bool> calibration_;     ///< [global cell] of both halves; empty: no halves
  std::vector<FitScope> fit_scopes_;  ///< [scope], likewise
  std::vector<RowSums> class_sums_;   ///< [global cell] as the scores came, where they are fitted
  bool outside_unit_ = false;
};

}  // namespace

bool has_fits(std::span<const MetricSpec> metrics) {
  return std::any_of(metrics.begin(), metrics.end(), [](const MetricSpec& spec) {
    const MetricScope scope = spec.metric->scope();
    return scope == MetricScope::kFitted || scope == MetricScope::kConformal ||
           scope == MetricScope::kSelection;
  });
}

bool has_draws(std::span<const MetricSpec> metrics) {
  return std::any_of(metrics.begin(), metrics.end(), [](const MetricSpec& spec) {
    const auto is = [&](std::string_view name, std::string_view value) {
      return spec.options.text(name) == value;
    };
    const std::string_view draw = spec.options.text("randomised");
    return (!draw.empty() && draw != "none") || is("mode", "cluster") || is("tune", "split") ||
           (spec.metric->scope() == MetricScope::kSelection &&
            (is("ties", "random") || is("smoothed", "true") || is("equal_models", "random") ||
             is("pruning", "hete")));
  });
}

Result<void> check_metric(const MetricSpec& spec, Task task,
                          const std::vector<std::string>& group_columns) {
  const MetricInfo& info = spec.metric->info();
  if (std::find(info.tasks.begin(), info.tasks.end(), task) == info.tasks.end()) {
    std::vector<std::string_view> names;
    for (const Task t : info.tasks) names.push_back(task_name(t));
    return usage_error(fmt::format("'{}' is not defined for a {} task", spec.name, task_name(task)),
                       fmt::format("it takes {}", fmt::join(names, ", ")));
  }
  const bool compares_groups = spec.equity_scaled || spec.metric->scope() == MetricScope::kPairs;
  if (compares_groups && group_columns.empty()) {
    return usage_error(fmt::format("'{}' compares groups", spec.name),
                       "name the group column with --group");
  }
  return {};
}

bool has_features(std::span<const MetricSpec> metrics) {
  return std::any_of(metrics.begin(), metrics.end(),
                     [](const MetricSpec& spec) { return spec.metric->info().takes_embedding; });
}

bool has_scales(std::span<const MetricSpec> metrics) {
  return std::any_of(metrics.begin(), metrics.end(), [](const MetricSpec& spec) {
    return spec.options.text("conformal") == "normalized";
  });
}

bool has_levels(std::span<const MetricSpec> metrics) {
  return std::any_of(metrics.begin(), metrics.end(), [](const MetricSpec& spec) {
    const std::vector<Task>& tasks = spec.metric->info().tasks;
    return spec.metric->scope() == MetricScope::kSelection && !spec.options.has("c") &&
           std::find(tasks.begin(), tasks.end(), Task::kRegression) != tasks.end();
  });
}

Error fit_without_split(const MetricSpec& spec) {
  const MetricScope scope = spec.metric->scope();
  return usage_error(fmt::format("'{}' {} calibration rows", spec.name,
                                 scope == MetricScope::kConformal   ? "takes its threshold from"
                                 : scope == MetricScope::kSelection ? "compares with"
                                                                    : "is fitted on"),
                     "say which with --calibration COLUMN, or --calibration 0.5 to draw them");
}

Result<std::vector<EvalResult>> compute_results(std::span<const PreparedTable> parts,
                                                const ComputeRequest& request, Backend& backend,
                                                std::vector<std::string>& states) {
  if (parts.front().view.task == Task::kRegression || parts.front().view.task == Task::kRisk) {
    return compute_regression(parts, request, states);
  }
  if (parts.front().view.task == Task::kVerification) {
    return compute_verification(parts, request, backend, states);
  }
  return Computer(parts, request, backend, states).run();
}

}  // namespace cupel
