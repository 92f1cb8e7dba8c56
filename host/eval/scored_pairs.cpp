#include "eval/scored_pairs.hpp"

#include <algorithm>
#include <tuple>

#include "backend/thread_pool.hpp"
#include "cupel/math/half.hpp"
#include "eval/class_names.hpp"
#include "eval/far_keys.hpp"
#include "metric/exact_sweep.hpp"

namespace cupel {
namespace {

bool is_narrow(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kF32;
}

i64 score_row(const VerificationRows& rows, i64 i) {
  return rows.row_at.empty() ? i : rows.row_at[static_cast<std::size_t>(i)];
}

}  // namespace

Result<ScoredPairs> ScoredPairs::make(std::span<const PreparedTable> parts,
                                      const UnitedCells& cells, int threads, Backend& backend) {
  ScoredPairs made;
  made.parts_ = parts;
  made.cells_ = &cells;
  const bool distances = parts.front().verification->is_distance;
  made.domain_ = distances ? PairDomain::kL2 : PairDomain::kCosine;
  bool narrow = true;
  bool numeric = true;
  for (const PreparedTable& part : parts) {
    const VerificationRows& rows = *part.verification;
    if (rows.is_distance != distances) {
      return input_error("", "some of the dumps have similarities and some have distances",
                         "pool dumps with one kind of score");
    }
    narrow = narrow && is_narrow(rows.score.dtype);
    numeric = numeric && rows.numeric_classes;
    made.class_names_.insert(made.class_names_.end(), rows.class_names.begin(),
                             rows.class_names.end());
  }
  sort_class_names(made.class_names_, numeric);
  ThreadPool pool(threads);
  std::vector<std::vector<RankTable>> of_cell(cells.keys.size());
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const VerificationRows& rows = *parts[p].verification;
    std::vector<u32>& united = made.united_.emplace_back();
    for (const std::string& name : rows.class_names) {
      united.push_back(find_class_name(made.class_names_, numeric, name));
    }
    Buffer<float>& f32 = made.narrow_.emplace_back();
    Buffer<double>& f64 = made.wide_.emplace_back();
    f32.resize(narrow ? static_cast<std::size_t>(rows.rows) : 0);
    f64.resize(narrow ? 0 : static_cast<std::size_t>(rows.rows));
    constexpr i64 kBlock = 1 << 16;
    pool.parallel_for((rows.rows + kBlock - 1) / kBlock, [&](int, i64 block) {
      for (i64 i = block * kBlock; i < std::min(rows.rows, (block + 1) * kBlock); ++i) {
        const double score = number_at(rows.score, score_row(rows, i));
        const double closeness = distances ? 0.0 - score : score;
        if (narrow) {
          f32[static_cast<std::size_t>(i)] = static_cast<float>(closeness);
        } else {
          f64[static_cast<std::size_t>(i)] = closeness;
        }
      }
    });
    TableView view;
    view.task = Task::kBinary;
    view.rows = rows.rows;
    view.scores = narrow ? make_view(f32.data(), DType::kF32, {rows.rows})
                         : make_view(f64.data(), DType::kF64, {rows.rows});
    view.binary_labels = rows.same.data();
    view.cells = parts[p].view.cells;
    view.cell_count = parts[p].view.cell_count;
    auto tables = backend.rank_tables(view, 0, 1);
    if (!tables) return tables.error();
    for (std::size_t c = 0; c < tables->front().size(); ++c) {
      of_cell[cells.of_part[p][c]].push_back(std::move(tables->front()[c]));
    }
  }
  for (std::vector<RankTable>& tables : of_cell) {
    auto merged = merge_all(std::move(tables));
    if (!merged) return merged.error();
    made.tables_.push_back(std::move(*merged));
  }
  return made;
}

double ScoredPairs::closeness(std::size_t part, i64 row) const {
  const auto at = static_cast<std::size_t>(row);
  return narrow_[part].empty() ? wide_[part][at] : static_cast<double>(narrow_[part][at]);
}

template <class Take>
void ScoredPairs::each_pair(const std::vector<bool>& wanted, const Take& take) const {
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    const VerificationRows& rows = *parts_[p].verification;
    const u32* cells = parts_[p].view.cells;
    const bool classes = !rows.class_a.empty();
    for (i64 i = 0; i < rows.rows; ++i) {
      if (!wanted[cells_->of_part[p][cells == nullptr ? 0 : cells[i]]]) continue;
      const auto at = static_cast<std::size_t>(i);
      Pair pair;
      pair.closeness = closeness(p, i);
      pair.same = rows.same[at] != 0;
      if (classes) {
        std::tie(pair.a, pair.b) =
            std::minmax(united_[p][rows.class_a[at]], united_[p][rows.class_b[at]]);
      }
      take(pair);
    }
  }
}

void ScoredPairs::count(const std::vector<bool>& wanted, CurveAnswer& answer) const {
  ClassCurves& curves = answer.curves;
  // Closeness that each threshold asks for: descending.
  std::vector<double> least;
  for (const double threshold : curves.thresholds) {
    least.push_back(domain_ == PairDomain::kL2 ? 0.0 - threshold : threshold);
  }
  ClassCuts counts(static_cast<u32>(class_names_.size()), least.size());
  each_pair(wanted, [&](const Pair& pair) {
    const auto column = static_cast<std::size_t>(
        std::partition_point(least.begin(), least.end(),
                             [&](double bound) { return bound > pair.closeness; }) -
        least.begin());
    if (pair.same) {
      ++counts.pos_at(pair.a, column);
    } else {
      ++counts.neg_at(pair.a, column);
      ++counts.neg_at(pair.b, column);
    }
  });
  const std::size_t columns = least.size();
  for (u32 cls = 0; cls < counts.classes; ++cls) {
    std::vector<u64> pos, neg;
    u64 all_pos = 0, all_neg = 0;
    for (std::size_t k = 0; k <= columns; ++k) {
      pos.push_back(all_pos += counts.pos_at(cls, k));
      neg.push_back(all_neg += counts.neg_at(cls, k));
    }
    if (all_pos == 0 || all_neg == 0) continue;
    curves.of.push_back(cls);
    curves.all_pos.push_back(all_pos);
    curves.all_neg.push_back(all_neg);
    curves.pos.insert(curves.pos.end(), pos.begin(), pos.end() - 1);
    curves.neg.insert(curves.neg.end(), neg.begin(), neg.end() - 1);
  }
}

void ScoredPairs::sweep(const std::vector<bool>& wanted, const CurveQuery& query,
                        CurveAnswer& answer) const {
  const ClassCurves& curves = answer.curves;
  const auto bound = [&](double threshold) {
    return domain_ == PairDomain::kL2 ? 0.0 - threshold : threshold;
  };
  const double strict = bound(answer.first);
  const double loose = bound(answer.last);
  std::vector<Pair> inside;
  each_pair(wanted, [&](const Pair& pair) {
    if (pair.closeness < strict && pair.closeness >= loose) inside.push_back(pair);
  });
  std::sort(inside.begin(), inside.end(), [](const Pair& x, const Pair& y) {
    if (x.closeness != y.closeness) return x.closeness > y.closeness;
    return x.a != y.a ? x.a < y.a : x.b < y.b;
  });
  SweepStart start;
  start.domain = domain_;
  start.first = answer.first;
  start.last = answer.last;
  start.place.assign(class_names_.size(), -1);
  const std::size_t columns = curves.thresholds.size();
  for (std::size_t c = 0; c < curves.of.size(); ++c) {
    start.place[curves.of[c]] = static_cast<i32>(c);
    start.pos.push_back(curves.pos[c * columns]);
    start.neg.push_back(curves.neg[c * columns]);
  }
  start.all_pos = curves.all_pos;
  start.all_neg = curves.all_neg;
  std::vector<PairEvent> events;
  events.reserve(inside.size());
  for (const Pair& pair : inside) {
    const double value = bound(pair.closeness);
    if (start.values.empty() || start.values.back() != value) start.values.push_back(value);
    events.push_back({static_cast<u32>(start.values.size() - 1), pair.a, pair.b});
  }
  ExactSweep exact(query, std::move(start));
  exact.take(events);
  if (exact.again()) exact.take(events);
  answer.exact = exact.finish();
}

Result<ScoredPairs::Answers> ScoredPairs::answer(std::span<const u32> cells,
                                                 const PairQuestions& questions) const {
  CUPEL_ASSERT(questions.retrieval.empty());
  std::vector<bool> wanted(cells_->keys.size(), false);
  for (const u32 cell : cells) wanted[cell] = true;
  Answers answers;
  each_pair(wanted, [&](const Pair& pair) { ++(pair.same ? answers.pos : answers.neg); });
  RankTable& table = answers.pairs.ranks;
  for (const u32 cell : cells) {
    if (auto done = table.merge(tables_[cell]); !done) return done.error();
  }
  const auto threshold_of = [&](const FarTarget& target) {
    const u64 key = *key_of_negative(table, target.rank) + (target.below ? 1 : 0);
    const double score = score_of_key(table.kind(), key);
    return domain_ == PairDomain::kL2 ? 0.0 - score : score;
  };
  // False where a rate is not resolved.
  const auto settle = [&](const FarTarget& first, const FarTarget& last, CurveAnswer& answer) {
    answer.unresolved = answers.neg != 0 && (first.rank == 0 || last.rank == 0);
    if (answer.unresolved || answers.neg == 0) return false;
    answer.first = threshold_of(first);
    answer.last = threshold_of(last);
    return true;
  };
  for (const CurveQuery& query : questions.curves) {
    CurveAnswer& answer = answers.pairs.curves.emplace_back();
    bool known = true;
    if (query.range.values) {
      std::tie(answer.first, answer.last) = *query.range.values;
      if (domain_ == PairDomain::kCosine) std::swap(answer.first, answer.last);
    } else {
      known = settle(far_bound(query.range.far_low, answers.neg),
                     far_bound(query.range.far_high, answers.neg), answer);
      answer.empty_range = known && answer.first == answer.last;
    }
    if (known) {
      answer.curves.thresholds = threshold_grid(answer.first, answer.last, query.n_thresholds);
    }
    count(wanted, answer);
    if (known && query.rule == IntegrationRule::kExact && !answer.empty_range &&
        answer.curves.classes() >= 2) {
      sweep(wanted, query, answer);
    }
  }
  for (const ClassRateQuery& query : questions.rates) {
    CurveAnswer& answer = answers.pairs.rates.emplace_back();
    const FarTarget target = far_limit(query.far, answers.neg);
    bool known = true;
    if (query.threshold) {
      answer.first = answer.last = *query.threshold;
    } else {
      known = settle(target, target, answer);
    }
    if (known) answer.curves.thresholds = {answer.first};
    count(wanted, answer);
  }
  return answers;
}

}  // namespace cupel
