// Conformal intervals of one row: its score as an integer key that orders like the score, and the
// interval that a threshold makes of the row's columns. Covered means score key <= threshold key,
// on the keys that calibration selected from, so that the two cannot disagree.
//   absolute        |y - pred|
//   normalized      |y - pred| / sigma
//   cqr             max(lower - y, y - upper)
//   cqr_asymmetric  lower - y and y - upper, each with a threshold of its own
//   given           cqr with the threshold 0: lower and upper as they are
// References: Lei, G'Sell, Rinaldo, Tibshirani, Wasserman 2018; Papadopoulos, Gammerman, Vovk 2008;
// Romano, Patterson, Candes 2019.
// All in double with correctly rounded operations; inputs are finite and sigma > 0.
#pragma once

#include "cupel/math/elementary.hpp"
#include "cupel/math/score_key.hpp"

namespace cupel {

enum class IntervalRule : u8 { kGiven, kAbsolute, kNormalized, kCqr, kCqrAsymmetric };

/// Thresholds of a rule: one, and of kCqrAsymmetric one for each side.
CUPEL_HD constexpr int threshold_count(IntervalRule rule) {
  return rule == IntervalRule::kCqrAsymmetric ? 2 : 1;
}
CUPEL_HD constexpr bool takes_pred(IntervalRule rule) {
  return rule == IntervalRule::kAbsolute || rule == IntervalRule::kNormalized;
}
CUPEL_HD constexpr bool takes_sigma(IntervalRule rule) { return rule == IntervalRule::kNormalized; }
CUPEL_HD constexpr bool takes_bounds(IntervalRule rule) { return !takes_pred(rule); }

/// What a row says of its own interval; a rule reads only the columns that it takes.
struct IntervalColumns {
  double pred = 0;
  double sigma = 1;
  double lower = 0;
  double upper = 0;
};

/// A key above that of every score, infinite ones too: the threshold of too few calibration rows.
inline constexpr i64 kEveryScore = 0x7FFFFFFFFFFFFFFF;

/// The order-preserving key of a double; -0 and +0 are one. Not of NaN.
CUPEL_HD CUPEL_INLINE i64 residual_key(double score) {
  return static_cast<i64>(key_of_f64(bits_from_double(score)) ^ 0x8000000000000000u);
}
/// The double of a key; infinite for kEveryScore.
CUPEL_HD CUPEL_INLINE double residual_of_key(i64 key) {
  if (key == kEveryScore) return double_from_bits(0x7FF0000000000000u);
  return double_from_bits(bits_of_f64(static_cast<u64>(key) ^ 0x8000000000000000u));
}

/// Score keys of a row: that of the rule; of kCqrAsymmetric the lower and the upper side's.
struct IntervalKeys {
  i64 side[2] = {0, 0};
};

CUPEL_HD CUPEL_INLINE IntervalKeys interval_keys(IntervalRule rule, const IntervalColumns& row,
                                                 double y) {
  if (takes_pred(rule)) {
    const double difference = y - row.pred;
    const double residual = difference < 0 ? -difference : difference;
    const double score = rule == IntervalRule::kAbsolute ? residual : residual / row.sigma;
    return {{residual_key(score), 0}};
  }
  const double below = row.lower - y;
  const double above = y - row.upper;
  if (rule == IntervalRule::kCqrAsymmetric) return {{residual_key(below), residual_key(above)}};
  return {{residual_key(below > above ? below : above), 0}};
}

/// Whether a row with these keys is covered.
CUPEL_HD CUPEL_INLINE bool covers(IntervalRule rule, const IntervalKeys& keys,
                                  const IntervalKeys& thresholds) {
  return keys.side[0] <= thresholds.side[0] &&
         (threshold_count(rule) == 1 || keys.side[1] <= thresholds.side[1]);
}

/// A closed interval of real numbers; ends may be infinite.
struct Interval {
  double lower = 0;
  double upper = 0;

  /// lower > upper, or both the same infinity.
  CUPEL_HD bool empty() const { return !(upper - lower >= 0); }
  /// 0 of an empty one.
  CUPEL_HD double width() const { return empty() ? 0.0 : upper - lower; }
};

/// The interval of a row: its ends are correctly rounded sums, which is why a y within half a unit
/// in the last place of an end may be covered and outside, or the other way round.
CUPEL_HD CUPEL_INLINE Interval interval_of(IntervalRule rule, const IntervalColumns& row,
                                           const IntervalKeys& thresholds) {
  const double qhat = residual_of_key(thresholds.side[0]);
  switch (rule) {
    case IntervalRule::kAbsolute:
      return {row.pred - qhat, row.pred + qhat};
    case IntervalRule::kNormalized: {
      const double reach = qhat * row.sigma;
      return {row.pred - reach, row.pred + reach};
    }
    case IntervalRule::kCqrAsymmetric:
      return {row.lower - qhat, row.upper + residual_of_key(thresholds.side[1])};
    case IntervalRule::kGiven:
    case IntervalRule::kCqr:
      return {row.lower - qhat, row.upper + qhat};
  }
  return {};
}

}  // namespace cupel
