#include "eval/selection.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "cupel/math/elementary.hpp"
#include "cupel/math/score_key.hpp"
#include "cupel/metric/optcs.hpp"

namespace cupel {
namespace {

/// A key that orders doubles; of scores V, smaller ones speak more against the null.
u64 key_of(double value) { return key_of_f64(bits_from_double(value)); }

/// What a query reads of one row.
struct RowScores {
  bool is_null = false;
  u64 key = 0;  ///< V of a test row or of a null calibration row
  double prediction = 0;
};

/// Rows of one part of a binary or a regression task.
class PartRows {
 public:
  explicit PartRows(const PreparedTable& part)
      : view_(part.view), numbers_(part.regression ? &*part.regression : nullptr) {}

  i64 rows() const { return view_.rows; }
  i64 models() const { return numbers_ == nullptr ? 1 : numbers_->models; }
  u32 cell(i64 row) const { return view_.cells == nullptr ? 0 : view_.cells[row]; }
  u64 row_key(i64 row) const {
    return numbers_ == nullptr ? view_.row_key(row) : numbers_->row_key(row);
  }
  /// What is missing for a query; empty: nothing.
  Result<void> check(const SelectionQuery& query) const {
    if (numbers_ == nullptr) return {};
    if (!query.optimized && query.model < 0) {
      return usage_error(
          fmt::format("selection by method=bh takes one model, and there are {}", models()),
          "choose one with model=, or all of them with method=optcs");
    }
    if (numbers_->pred == nullptr) {
      return input_error("", "there is no array for the predictions that selection compares",
                         "name it with --pred");
    }
    if (query.level || numbers_->threshold != nullptr) return {};
    return usage_error("selection needs the level c that y has to exceed",
                       "name its column with --threshold-column, or give c=");
  }

  RowScores at(i64 row, i64 model, bool is_calibration, const SelectionQuery& query) const {
    RowScores scores;
    if (numbers_ == nullptr) {
      scores.is_null = view_.binary_labels[row] == 0;
      scores.prediction = number_at(view_.scores, row);
      scores.key = ~score_key(row);
      return scores;
    }
    const double level = query.level ? *query.level : numbers_->threshold[row];
    const double y = numbers_->y[row];
    scores.is_null = y <= level;
    scores.prediction = numbers_->pred[row * numbers_->models + model];
    scores.key = query.score == SelectionScore::kClip
                     ? ~key_of(scores.prediction)
                     : key_of((is_calibration ? y : level) - scores.prediction);
    return scores;
  }

 private:
  /// Integers beyond 2^53 keep their order.
  u64 score_key(i64 row) const {
    const std::byte* at = view_.scores.at(row);
    if (view_.scores.dtype == DType::kI64) return key_of_i64(load<i64>(at));
    if (view_.scores.dtype == DType::kU64) return load<u64>(at);
    return key_of(number_at(view_.scores, row));
  }

  const TableView& view_;
  const RegressionView* numbers_;
};

/// The scores of all rows under one kind of score and level.
struct SelectionScores {
  u64 calibration_rows = 0;
  u64 calibration_nulls = 0;
  std::vector<std::vector<u64>> calibration;  ///< [model] ascending
  std::vector<std::vector<u64>> test;         ///< [model][test row]
  std::vector<std::vector<double>> predictions;
  std::vector<u8> is_null;  ///< [test row]

  std::vector<ModelScores> models() const {
    std::vector<ModelScores> all;
    for (std::size_t t = 0; t < test.size(); ++t) all.push_back({calibration[t], test[t]});
    return all;
  }
};

class Selector {
 public:
  Selector(std::span<const PreparedTable> parts, const std::vector<std::vector<u32>>& cell_map,
           const std::vector<bool>& calibration, u64 seed)
      : cell_map_(cell_map), calibration_(calibration), seed_(seed) {
    for (const PreparedTable& part : parts) parts_.emplace_back(part);
    for (u32 p = 0; p < parts_.size(); ++p) {
      for (i64 row = 0; row < parts_[p].rows(); ++row) {
        const u32 cell = cell_map_[p][parts_[p].cell(row)];
        if (!calibration_[cell]) rows_.push_back({p, cell, row});
      }
    }
  }

  SelectedRows select(const SelectionQuery& query) const {
    const SelectionScores scores = scores_of(query);
    SelectedRows found;
    found.outcome.calibration_rows = scores.calibration_rows;
    found.outcome.calibration_nulls = scores.calibration_nulls;
    found.outcome.test_rows = rows_.size();
    if (query.optimized) {
      by_optcs(query, scores, found);
    } else {
      by_benjamini_hochberg(query, scores, found);
    }
    found.by_cell.resize(calibration_.size());
    u128 largest = 0;
    for (std::size_t j = 0; j < rows_.size(); ++j) {
      const bool selected = found.selected[j] != 0;
      found.by_cell[rows_[j].cell].add(scores.is_null[j] != 0, selected);
      if (!selected) continue;
      ++found.outcome.selected;
      largest = std::max(largest, found.units[j]);
      auto& smallest = found.outcome.smallest_prediction;
      if (!query.optimized && (!smallest || found.predictions[j] < *smallest)) {
        smallest = found.predictions[j] + 0.0;  // of equal zeros the positive one, in any order
      }
    }
    if (found.outcome.selected != 0) {
      found.outcome.largest_p = p_value_of(largest, scores.calibration_rows);
    }
    return found;
  }

  std::vector<TestRow> take_rows() { return std::move(rows_); }

 private:
  SelectionScores scores_of(const SelectionQuery& query) const {
    const i64 first = query.optimized ? 0 : query.model;
    const i64 last = query.optimized ? parts_.front().models() : query.model + 1;
    SelectionScores scores;
    const auto models = static_cast<std::size_t>(last - first);
    scores.calibration.resize(models);
    scores.test.resize(models);
    scores.predictions.resize(models);
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      const PartRows& part = parts_[p];
      for (i64 row = 0; row < part.rows(); ++row) {
        const bool is_calibration = calibration_[cell_map_[p][part.cell(row)]];
        bool is_null = false;
        for (std::size_t t = 0; t < models; ++t) {
          const RowScores own = part.at(row, first + static_cast<i64>(t), is_calibration, query);
          is_null = own.is_null;
          if (!is_calibration) {
            scores.test[t].push_back(own.key);
            scores.predictions[t].push_back(own.prediction);
          } else if (is_null || query.score != SelectionScore::kClip) {
            scores.calibration[t].push_back(own.key);
          }
        }
        if (is_calibration) {
          ++scores.calibration_rows;
          scores.calibration_nulls += is_null ? 1 : 0;
        } else {
          scores.is_null.push_back(is_null ? 1 : 0);
        }
      }
    }
    for (auto& keys : scores.calibration) std::sort(keys.begin(), keys.end());
    return scores;
  }

  /// One number a test row, where it is asked for.
  std::vector<u64> draws(Draw draw, bool wanted) const {
    std::vector<u64> numbers;
    if (!wanted) return numbers;
    numbers.reserve(rows_.size());
    for (const TestRow& row : rows_) {
      numbers.push_back(uniform_of(draw, seed_, parts_[row.part].row_key(row.row)));
    }
    return numbers;
  }

  void by_benjamini_hochberg(const SelectionQuery& query, const SelectionScores& scores,
                             SelectedRows& found) const {
    const auto uniforms = draws(Draw::kPValue, query.ties == TieRule::kRandom);
    Selection selection =
        select_rows({scores.calibration_rows, scores.calibration[0], scores.test[0], uniforms},
                    query.ties, query.q);
    found.units = std::move(selection.units);
    found.selected = std::move(selection.selected);
    found.predictions = scores.predictions[0];
  }

  void by_optcs(const SelectionQuery& query, const SelectionScores& scores,
                SelectedRows& found) const {
    const auto p_value = draws(Draw::kPValue, query.ties == TieRule::kRandom);
    const auto model = draws(Draw::kModel, query.draw_model);
    const auto pruning = draws(Draw::kPruning, query.pruning == Pruning::kHeterogeneous);
    const u64 common = uniform_of(Draw::kCommon, seed_, 0);
    const std::vector<OptcsRow> rows =
        optcs(scores.models(), scores.calibration_rows, {query.q, query.ties, query.pruning},
              {p_value, model, pruning, common});
    found.outcome.models.resize(scores.test.size());
    for (std::size_t j = 0; j < rows.size(); ++j) {
      found.units.push_back(rows[j].units);
      found.selected.push_back(rows[j].selected ? 1 : 0);
      found.predictions.push_back(scores.predictions[rows[j].model][j]);
      found.models.push_back(rows[j].model);
      auto& [taken, selected] = found.outcome.models[rows[j].model];
      ++taken;
      selected += rows[j].selected ? 1 : 0;
    }
  }

  std::vector<PartRows> parts_;
  const std::vector<std::vector<u32>>& cell_map_;
  const std::vector<bool>& calibration_;
  u64 seed_;
  std::vector<TestRow> rows_;
};

}  // namespace

void list_rows(const SelectionStates& states, std::size_t query, const MetricSpec& spec,
               std::size_t parts, std::vector<EvalRows>& lists) {
  const SelectedRows& found = states.of_query[query];
  std::string given;
  for (const OptionSpec& option : effective_options(*spec.metric)) {
    if (!spec.options.given(option.name)) continue;
    given += fmt::format("{}{}={}", given.empty() ? "" : ",", option.name,
                         spec.options.text(option.name));
  }
  const std::size_t first = lists.size();
  for (std::size_t part = 0; part < parts; ++part) {
    EvalRows list;
    list.metric = spec.name + (given.empty() ? "" : "(" + given + ")");
    list.part = part;
    lists.push_back(std::move(list));
  }
  for (std::size_t j = 0; j < states.rows.size(); ++j) {
    EvalRows& list = lists[first + states.rows[j].part];
    list.rows.push_back(states.rows[j].row);
    list.selected.push_back(found.selected[j]);
    list.p_values.push_back(p_value_of(found.units[j], found.outcome.calibration_rows));
    list.predictions.push_back(found.predictions[j]);
    if (!found.models.empty()) list.models.push_back(found.models[j]);
  }
}

Result<SelectionStates> selection_states(std::span<const PreparedTable> parts,
                                         const std::vector<std::vector<u32>>& cell_map,
                                         const std::vector<bool>& calibration,
                                         std::span<const SelectionQuery> queries, u64 seed) {
  for (const PreparedTable& part : parts) {
    for (const SelectionQuery& query : queries) {
      if (auto fine = PartRows(part).check(query); !fine) return fine.error();
    }
  }
  Selector selector(parts, cell_map, calibration, seed);
  SelectionStates states;
  for (const SelectionQuery& query : queries) states.of_query.push_back(selector.select(query));
  states.rows = selector.take_rows();
  return states;
}

}  // namespace cupel
