// Conformal p-values of labels: what a metric of them asks for and is given.
#pragma once

#include "cupel/math/curve.hpp"
#include "cupel/state/p_values.hpp"

namespace cupel {

/// What a metric of p-values asks for.
struct PValueQuery {
  ConformalRule rule;
  Fraction alpha{1, 10};  ///< sets hold the labels with p > alpha
  bool smoothed = false;

  friend bool operator==(const PValueQuery&, const PValueQuery&) = default;
};

/// The largest number of units of 2^-48 / (n + 1) that is at most alpha.
u128 level_units(const Fraction& alpha, u64 calibration_rows);

/// What a metric of p-values is given: the sums of the other rows of the scope.
struct PValueEvidence {
  const PValueSums* sums = nullptr;
  u64 calibration_rows = 0;
  u64 seed = 0;
  bool weighted = false;
};

}  // namespace cupel
