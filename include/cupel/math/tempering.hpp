// The softmax of a row of logits times a factor (an inverse temperature), and what the row adds to
// the slope of its log loss by that factor.
//
// With x_j >= 0 the distance of class j's scaled logit from the largest, and E and Var by the row's
// probabilities, the log loss L = x_label + ln sum_j exp(-x_j) has
//     factor * dL/dfactor = x_label - E[x],    factor^2 * d2L/dfactor2 = Var[x].
// x exp(-x) and x^2 exp(-x) are in [0, 1], so their sums over classes are free of order like the
// denominator's. E[x] is at most the logarithm of the number of classes.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/elementary.hpp"
#include "cupel/math/row_terms.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel {

/// Distances, their means and variances are integers in units of 2^-44, as log losses are.
inline constexpr int kSlopeBits = kLogLossBits;

/// logit * factor rounded once, at most the largest double in magnitude; factor > 0. Logits keep
/// their order or become equal.
CUPEL_HD CUPEL_INLINE double tempered_logit(double logit, double factor) {
  constexpr double kLargest = 0x1.fffffffffffffp1023;
  const double scaled = logit * factor;
  const double below = scaled > kLargest ? kLargest : scaled;
  return below < -kLargest ? -kLargest : below;
}

/// Sums over the classes of a row; lanes may each keep one and merge.
struct SlopeMoments {
  UnitSum denominator;  ///< of exp(-x), the softmax's own
  UnitSum first;        ///< of x exp(-x)
  UnitSum second;       ///< of x^2 exp(-x)

  /// Adds a tempered logit; `max` is the largest of the row.
  CUPEL_HD CUPEL_INLINE void add(double logit, double max) {
    const double z = logit - max;
    // Beyond 700 the terms are below 2^-68 all the same.
    const double bounded = z < -700.0 ? -700.0 : z;
    const double term = exp_bounded(bounded);
    const double once = -bounded * term;
    denominator.add(term);
    first.add(once);
    second.add(-bounded * once);
  }
  CUPEL_HD CUPEL_INLINE void merge(const SlopeMoments& other) {
    denominator.merge(other.denominator);
    first.merge(other.first);
    second.merge(other.second);
  }
};

/// A row's mean distance, below 16 (the logarithm of 2^23 classes), and its variance, below 2^8.
struct RowSlope {
  double mean;
  double variance;
};
CUPEL_HD CUPEL_INLINE RowSlope row_slope(const SlopeMoments& moments) {
  const double denominator = moments.denominator.value();
  const double mean = moments.first.value() / denominator;
  const double variance = fused(-mean, mean, moments.second.value() / denominator);
  return {mean, variance > 0.0 ? variance : 0.0};
}

/// round-half-even(value * 2^44) of a mean or a variance.
CUPEL_HD CUPEL_INLINE u64 slope_term(double value) { return round_q(value, kSlopeBits); }

/// A distance as an integer in units of 2^-44, below 2^96; not for one of 2^52 or more.
CUPEL_HD CUPEL_INLINE u128 distance_term(double distance) {
  return has_short_loss(distance) ? u128{short_loss_term(distance)} : long_loss_term(distance);
}

}  // namespace cupel
