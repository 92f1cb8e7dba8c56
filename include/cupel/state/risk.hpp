// What losses of rows sum up to, threshold by threshold.
#pragma once

#include <vector>

#include "cupel/core/int.hpp"
#include "cupel/math/risk.hpp"
#include "cupel/math/wide.hpp"

namespace cupel {

/// Sums over rows of the losses at each threshold lambda, in units of 10^-12.
struct RiskSums {
  u64 rows = 0;
  std::vector<u128> losses;   ///< [lambda]
  std::vector<U256> squares;  ///< [lambda] in units of 10^-24

  explicit RiskSums(std::size_t lambdas = 0) : losses(lambdas), squares(lambdas, U256{}) {}

  /// A row's loss at one threshold, 0 <= loss <= kMostLoss; its row is counted by the caller.
  void add(std::size_t lambda, double loss) {
    const auto units = static_cast<u128>(loss_units(loss));
    losses[lambda] += units;
    squares[lambda] += widen<4>(units * units);
  }
  /// Sums of the same thresholds.
  void merge(const RiskSums& other) {
    if (losses.empty()) *this = RiskSums(other.losses.size());
    rows += other.rows;
    for (std::size_t l = 0; l < other.losses.size(); ++l) {
      losses[l] += other.losses[l];
      squares[l] += other.squares[l];
    }
  }

  friend bool operator==(const RiskSums& a, const RiskSums& b) {
    return a.rows == b.rows && a.losses == b.losses && a.squares == b.squares;
  }
};

}  // namespace cupel
