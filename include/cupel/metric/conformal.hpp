// Split conformal prediction: which calibration score is the threshold, and what metrics of sets
// are given.
#pragma once

#include <string>
#include <vector>

#include "cupel/core/int.hpp"
#include "cupel/math/curve.hpp"
#include "cupel/state/conformal.hpp"

namespace cupel {

/// Which order statistic of n calibration scores is the threshold; quantile_rank() says which.
enum class QuantileRule : u8 { kExact, kNumpyHigher, kMapieCls, kMapieReg, kPuncc, kCrepes };

/// What a metric of sets asks for.
struct ConformalQuery {
  ConformalRule rule;
  Fraction alpha{1, 10};
  QuantileRule quantile = QuantileRule::kExact;
  bool argmax_if_empty = false;
};

/// The rank, from 1, of the threshold among n calibration scores in ascending order; 0: n is too
/// small for this alpha, and the threshold is above every score. 0 < alpha < 1, n < 2^62; exact
/// integers. With K = ceil((n + 1)(1 - alpha)), which is kExact and kPuncc (0 for K > n):
///   kNumpyHigher  numpy.quantile(scores, K / n, method="higher"): K + 1 for K < n, n for K = n
///   kMapieCls     the same with (n + 1)(1 - alpha) / n, not rounded up; 0 for n < 1 / min(alpha,
///                 1 - alpha), where MAPIE raises
///   kMapieReg     K with "lower": K; 0 as kMapieCls
///   kCrepes       n + 1 - int((1 - c)(n + 1)) in doubles, c the double of 1 - alpha: K, or K + 1
///                 where alpha (n + 1) is an integer that (1 - c)(n + 1) just misses
/// Libraries that compute K in doubles have K + 1 for some n, such as 99 at alpha = 0.45.
i64 quantile_rank(QuantileRule rule, i64 n, Fraction alpha);

/// The threshold of a query.
struct ConformalThreshold {
  i64 calibration_rows = 0;
  i64 rank = 0;  ///< among their scores, from 1; 0: too few of them
  i64 score = kEveryLabel;
};

/// What a metric of sets is given: the threshold of all calibration rows, and the sums of the other
/// rows of the scope.
struct ConformalEvidence {
  const ConformalThreshold* threshold = nullptr;
  const SetSums* sums = nullptr;
  bool weighted = false;
};

/// What the command line chooses for all metrics of sets; empty: not given.
struct ConformalChoices {
  std::vector<std::string> scores;
  std::vector<std::string> alphas;
  std::string quantile;
  std::string empty;

  bool any() const {
    return !scores.empty() || !alphas.empty() || !quantile.empty() || !empty.empty();
  }
};

}  // namespace cupel
