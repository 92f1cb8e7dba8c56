// Calibration scores with likelihood ratios: conformal prediction under covariate shift
// (Tibshirani, Barber, Candes, Ramdas 2019).
#pragma once

#include <vector>

#include "cupel/core/buffer.hpp"
#include "cupel/core/result.hpp"
#include "cupel/math/curve.hpp"
#include "cupel/state/conformal.hpp"

namespace cupel {

/// A score and the mass of its row, round(w * 2^64).
struct ScoredMass {
  i64 score = 0;
  u128 mass = 0;
};

/// Distinct scores in ascending order, with the mass up to and including each.
class WeightedScores {
 public:
  /// Of all calibration rows, in any order; those without mass make no score. Errors (kInput): a
  /// total of 2^127 or more. O(n log n).
  static Result<WeightedScores> make(std::vector<ScoredMass> rows);

  u128 total() const { return through_.empty() ? 0 : through_.back(); }
  /// The smallest score s such that scores up to s have at least (1 - alpha) of the mass of all
  /// rows and of a row of mass `own`, which has its own at infinity: exact. kEveryLabel where there
  /// is none. O(log n). total() > 0, own < 2^127.
  i64 threshold(u128 own, Fraction alpha) const;

 private:
  Buffer<i64> scores_;
  Buffer<u128> through_;
};

}  // namespace cupel
