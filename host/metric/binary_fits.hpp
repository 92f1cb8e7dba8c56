// Maps from scores to probabilities, fitted on the distinct scores of a rank table: the state that
// AUROC uses. Each walks the scores in ascending order in plain double arithmetic or in integers,
// so equal tables give equal bits.
#pragma once

#include <vector>

#include "cupel/metric/fit.hpp"
#include "cupel/state/rank_table.hpp"

namespace cupel {

/// The inverse temperature of least log loss of binary logits. O(distinct) a step.
TemperatureFit fit_temperature(const RankTable& logits);

/// What a score is to Platt's scaling: a logit itself, or the logit of a probability clipped to
/// [1e-12, 1 - 1e-12].
double platt_feature(double score, bool logits);

enum class PlattStatus : u8 {
  kConverged,
  kRises,      ///< without an optimum: no negative above a positive, the slope grows without end
  kFalls,      ///< without an optimum: no positive above a negative
  kFlat,       ///< all scores are one
  kUnsettled,  ///< too many steps
};
struct PlattFit {
  PlattStatus status = PlattStatus::kUnsettled;
  double slope = 1;
  double intercept = 0;
  i64 steps = 0;
};
/// Logistic regression without penalty on platt_feature(), by Newton's method with halved steps.
/// With `smoothed`, the targets are (P + 1) / (P + 2) and 1 / (N + 2) for masses P and N (Platt
/// 1999). The table has positives and negatives. O(distinct) a step.
PlattFit fit_platt(const RankTable& scores, bool logits, bool smoothed);

/// A run of scores with one value, the share of its mass that is positive.
struct IsotonicBlock {
  double low = 0;   ///< its smallest score
  double high = 0;  ///< its largest
  u128 positive = 0;
  u128 mass = 0;
  double value = 0;  ///< positive / mass, correctly rounded
};
/// Isotonic regression by pool-adjacent-violators, comparing shares as exact fractions: blocks of
/// strictly rising values, in order of the scores; none of an empty table. O(distinct).
std::vector<IsotonicBlock> fit_isotonic(const RankTable& scores);
/// The value at a score: its block's; between two blocks the line from the last score of the one to
/// the first of the other, or without `linear` the lower one's; beyond the ends the end's.
/// O(log blocks); there is a block.
double isotonic_at(const std::vector<IsotonicBlock>& blocks, double score, bool linear);

}  // namespace cupel
