#include "eval/interval_passes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "backend/thread_pool.hpp"

namespace cupel {
namespace {

constexpr i64 kBlock = 1 << 15;
/// Above this many cells each thread's copy of the states would cost more than the rows.
constexpr std::size_t kMostSharedCells = 4096;

/// Sums of every cell: `add(sums, rows, row, cell)` for every row, with a copy of the sums for each
/// thread, which are integers and so merge to the same whatever the thread.
template <class Sums, class Add>
std::vector<Sums> sum_cells(std::span<const PreparedTable> parts, const UnitedCells& cells,
                            int threads, const Add& add) {
  const std::size_t count = cells.keys.size();
  ThreadPool pool(count > kMostSharedCells ? 1 : std::max(1, threads));
  std::vector<std::vector<Sums>> own(static_cast<std::size_t>(pool.threads()));
  own[0].resize(count);
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const RegressionView& rows = *parts[part].regression;
    const std::vector<u32>& map = cells.of_part[part];
    pool.parallel_for((rows.rows + kBlock - 1) / kBlock, [&](int worker, i64 block) {
      std::vector<Sums>& sums = own[static_cast<std::size_t>(worker)];
      if (sums.empty()) sums.resize(count);
      const i64 end = std::min(rows.rows, (block + 1) * kBlock);
      for (i64 row = block * kBlock; row < end; ++row) {
        const u32 cell = map[rows.cell(row)];
        add(sums[cell], rows, row, cell);
      }
    });
  }
  for (std::size_t worker = 1; worker < own.size(); ++worker) {
    for (std::size_t cell = 0; cell < own[worker].size(); ++cell) {
      own[0][cell].merge(own[worker][cell]);
    }
  }
  return std::move(own[0]);
}

/// The score key of each side, of one category's calibration rows.
using Scores = std::array<Buffer<i64>, 2>;

void select(const IntervalQuery& query, IntervalRule rule, Scores& scores,
            IntervalThreshold& threshold) {
  threshold.calibration_rows = static_cast<i64>(scores[0].size());
  if (threshold.calibration_rows == 0) return;
  Fraction alpha = query.alpha;
  if (threshold_count(rule) == 2) {  // half of it for each side; at most 10^18 before
    if (alpha.num % 2 == 0) {
      alpha.num /= 2;
    } else {
      alpha.den *= 2;
    }
  }
  threshold.rank = quantile_rank(query.quantile, threshold.calibration_rows, alpha);
  if (threshold.rank == 0) return;
  for (int side = 0; side < threshold_count(rule); ++side) {
    Buffer<i64>& keys = scores[static_cast<std::size_t>(side)];
    const auto at = keys.begin() + (threshold.rank - 1);
    std::nth_element(keys.begin(), at, keys.end());
    threshold.keys.side[side] = *at;
  }
}

}  // namespace

std::vector<ErrorSums> error_sums(std::span<const PreparedTable> parts, const UnitedCells& cells,
                                  int threads) {
  return sum_cells<ErrorSums>(parts, cells, threads,
                              [](ErrorSums& sums, const RegressionView& rows, i64 row, u32) {
                                sums.add(rows.y[row], rows.pred[row]);
                              });
}

Result<IntervalRule> interval_rule(const IntervalQuery& query, const RegressionView& rows,
                                   bool has_halves) {
  const IntervalRule rule = query.rule             ? *query.rule
                            : !has_halves          ? IntervalRule::kGiven
                            : rows.pred != nullptr ? IntervalRule::kAbsolute
                                                   : IntervalRule::kCqr;
  const auto lacks = [](std::string_view what, std::string_view hint) -> Error {
    return input_error("", fmt::format("there is no array for {}", what), std::string(hint));
  };
  if (takes_pred(rule) && rows.pred == nullptr) {
    return lacks("the predictions that conformal=absolute and normalized take",
                 "name it with --pred, or take --conformal cqr");
  }
  if (takes_pred(rule) && rows.models != 1) {
    return usage_error(
        fmt::format("the predictions are of {} models, and intervals are of one", rows.models),
        "name a column of one model with --pred");
  }
  if (takes_sigma(rule) && rows.sigma == nullptr) {
    return lacks("the scale that conformal=normalized takes",
                 "name it with --sigma, or take --conformal absolute");
  }
  if (takes_bounds(rule) && rows.lower == nullptr) {
    return lacks("the intervals", has_halves ? "name them with --lower and --upper"
                                             : "name them with --lower and --upper, or take those "
                                               "of calibration rows with --calibration");
  }
  return rule;
}

IntervalThresholds interval_thresholds(std::span<const PreparedTable> parts,
                                       const UnitedCells& cells, const IntervalQuery& query,
                                       IntervalRule rule) {
  IntervalThresholds found;
  found.rule = rule;
  found.category.assign(cells.keys.size(), 0);
  if (rule == IntervalRule::kGiven) return found;
  found.names.assign(1, {});
  if (query.by_group) {
    std::map<CellKey, u32> categories;
    for (const CellKey& key : cells.keys) categories.emplace(key, 0);
    found.names.clear();
    for (auto& [key, number] : categories) {
      number = static_cast<u32>(found.names.size());
      std::string name;
      for (std::size_t i = 0; i < key.size(); ++i) {
        name += (i == 0 ? "" : ",") + key[i].value_or("");
      }
      found.names.push_back(std::move(name));
    }
    for (std::size_t c = 0; c < cells.keys.size(); ++c) {
      found.category[c] = categories.at(cells.keys[c]);
    }
  }
  found.of_category.resize(found.names.size());
  std::vector<Scores> scores(found.names.size());
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const RegressionView& rows = *parts[part].regression;
    const std::vector<u32>& map = cells.of_part[part];
    for (i64 row = 0; row < rows.rows; ++row) {
      const u32 cell = map[rows.cell(row)];
      if (!cells.calibration[cell]) continue;
      const IntervalKeys keys = interval_keys(rule, rows.columns(row), rows.y[row]);
      Scores& own = scores[found.category[cell]];
      own[0].push_back(keys.side[0]);
      if (threshold_count(rule) == 2) own[1].push_back(keys.side[1]);
    }
  }
  for (std::size_t category = 0; category < scores.size(); ++category) {
    select(query, rule, scores[category], found.of_category[category]);
    found.calibration_rows += found.of_category[category].calibration_rows;
    scores[category] = {};
  }
  return found;
}

std::vector<IntervalSums> interval_sums(std::span<const PreparedTable> parts,
                                        const UnitedCells& cells,
                                        const IntervalThresholds& thresholds, int threads) {
  const IntervalRule rule = thresholds.rule;
  return sum_cells<IntervalSums>(
      parts, cells, threads,
      [&](IntervalSums& sums, const RegressionView& rows, i64 row, u32 cell) {
        const IntervalColumns columns = rows.columns(row);
        const IntervalKeys at = thresholds.of(cell);
        const double y = rows.y[row];
        sums.add(interval_of(rule, columns, at), covers(rule, interval_keys(rule, columns, y), at),
                 y);
      });
}

IntervalWidths::IntervalWidths(std::span<const PreparedTable> parts, const UnitedCells& cells,
                               const IntervalThresholds& thresholds) {
  std::vector<i64> next(cells.keys.size(), 0);
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const RegressionView& rows = *parts[part].regression;
    for (i64 row = 0; row < rows.rows; ++row) ++next[cells.of_part[part][rows.cell(row)]];
  }
  first_.assign(1, 0);
  for (i64& count : next) {
    const i64 first = first_.back();
    first_.push_back(first + count);
    count = first;
  }
  widths_.resize(static_cast<std::size_t>(first_.back()));
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const RegressionView& rows = *parts[part].regression;
    for (i64 row = 0; row < rows.rows; ++row) {
      const u32 cell = cells.of_part[part][rows.cell(row)];
      widths_[static_cast<std::size_t>(next[cell]++)] =
          interval_of(thresholds.rule, rows.columns(row), thresholds.of(cell)).width();
    }
  }
}

WidthOrder IntervalWidths::of(const std::vector<u32>& cells) const {
  Buffer<double> own;
  for (const u32 cell : cells) {
    own.insert(own.end(), widths_.begin() + first_[cell], widths_.begin() + first_[cell + 1]);
  }
  if (own.empty()) return {};
  const auto middle = own.begin() + static_cast<std::ptrdiff_t>(own.size() / 2);
  std::nth_element(own.begin(), middle, own.end());
  WidthOrder order;
  order.median = *middle;
  if (own.size() % 2 == 0) {
    // Halves first: the sum of two may be beyond the largest double.
    order.median = *std::max_element(own.begin(), middle) / 2 + *middle / 2;
  }
  order.least = *std::min_element(own.begin(), middle + 1);
  order.most = *std::max_element(middle, own.end());
  return order;
}

}  // namespace cupel
