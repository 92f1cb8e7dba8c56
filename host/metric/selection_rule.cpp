#include <algorithm>

#include "cupel/math/wide.hpp"
#include "cupel/metric/selection.hpp"
#include "metric/exact.hpp"

namespace cupel {

ScorePlace place_among(std::span<const u64> ascending, u64 score) {
  const auto [first, last] = std::equal_range(ascending.begin(), ascending.end(), score);
  return {static_cast<u64>(first - ascending.begin()), static_cast<u64>(last - first)};
}

double p_value_of(u128 units, u64 calibration_rows) {
  return exact::ratio(units, (u128{calibration_rows} + 1) << kUniformBits);
}

bool within_level(u128 units, u64 calibration_rows, const Fraction& q, u64 k, u64 m) {
  // units m den <= num k (n + 1) 2^48, each factor below 2^128.
  const u128 right = u128{k} * (u128{calibration_rows} + 1);
  return !(multiply(right, u128{q.num} << kUniformBits) < multiply(units, u128{m} * q.den));
}

u64 benjamini_hochberg(std::span<const u128> units, u64 calibration_rows, const Fraction& q,
                       u64 m) {
  std::vector<u128> small;
  for (const u128 unit : units) {
    if (within_level(unit, calibration_rows, q, m, m)) small.push_back(unit);
  }
  std::sort(small.begin(), small.end());
  for (u64 k = small.size(); k > 0; --k) {
    if (within_level(small[k - 1], calibration_rows, q, k, m)) return k;
  }
  return 0;
}

Selection select_rows(const SelectionProblem& problem, TieRule ties, const Fraction& q) {
  CUPEL_ASSERT(problem.calibration.size() <= problem.calibration_rows);
  CUPEL_ASSERT(ties != TieRule::kRandom || problem.uniforms.size() == problem.test.size());
  const std::size_t rows = problem.test.size();
  Selection selection;
  selection.units.resize(rows);
  selection.selected.resize(rows);
  for (std::size_t j = 0; j < rows; ++j) {
    selection.units[j] = p_value_units(place_among(problem.calibration, problem.test[j]), ties,
                                       ties == TieRule::kRandom ? problem.uniforms[j] : 1);
  }
  selection.count = benjamini_hochberg(selection.units, problem.calibration_rows, q, rows);
  if (selection.count == 0) return selection;
  std::vector<u128> order(selection.units);
  const auto last = order.begin() + static_cast<std::ptrdiff_t>(selection.count - 1);
  std::nth_element(order.begin(), last, order.end());
  selection.cutoff = *last;
  for (std::size_t j = 0; j < rows; ++j) selection.selected[j] = selection.units[j] <= *last;
  return selection;
}

}  // namespace cupel
