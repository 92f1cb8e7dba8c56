// Bins of equal width over [0, 1] for calibration: which bin a confidence belongs to, and the
// integers that a row adds to it.
//
// An edge is k/B, the correctly rounded double, and confidences are compared with it as doubles.
// The confidences 0 and 1 have slots of their own, because libraries put them into the bin beside
// them, into one more bin, or nowhere; whoever reads the sums decides.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/elementary.hpp"

namespace cupel {

/// The pairs (confidence, whether it was right) that a row gives.
enum class BinPoints : u8 {
  kPositive,     ///< binary problems: the positive class's probability, and the label
  kTop,          ///< the largest probability, and whether its class is the label's
  kEachClass,    ///< several classes: each class's probability, and whether it is the label's
  kByPredicted,  ///< several classes: kTop, apart by the class that is predicted
};

inline constexpr i64 kMostBins = i64{1} << 16;

/// Which confidences are counted, in how many bins, which edge belongs to a bin ((lo, hi] or, with
/// `closed_left`, [lo, hi)), and whether second moments are summed too.
struct BinQuery {
  BinPoints points = BinPoints::kTop;
  i64 bins = 15;
  bool closed_left = false;
  bool moments = false;
  friend constexpr bool operator==(const BinQuery& a, const BinQuery& b) {
    return a.same_bins(b) && a.moments == b.moments;
  }
  /// The same bins; moments or not.
  constexpr bool same_bins(const BinQuery& b) const {
    return points == b.points && bins == b.bins && closed_left == b.closed_left;
  }
};

/// Slots of B bins: the confidence 0, the bins, the confidence 1.
CUPEL_HD constexpr i64 bin_slots(i64 bins) { return bins + 2; }

/// Sets of a query: one for each class where confidences are kept apart by class.
CUPEL_HD constexpr i64 bin_sets(BinPoints points, i64 classes) {
  return points == BinPoints::kEachClass || points == BinPoints::kByPredicted ? classes : 1;
}

/// Where the bins of one query stand among those of all: [segment][set][slot] from `first`, and
/// their moments, where there are any, likewise from `moments_first` among all moments.
struct BinPlace {
  BinQuery query;
  i64 sets = 1;
  i64 first = 0;
  i64 moments_first = 0;

  CUPEL_HD i64 slots() const { return bin_slots(query.bins); }
  CUPEL_HD i64 at(i64 segment, i64 set, i64 slot) const {
    return first + (segment * sets + set) * slots() + slot;
  }
  /// The moments of the bin at(...).
  CUPEL_HD i64 moments_at(i64 bin) const { return bin - first + moments_first; }
};

/// k/B rounded once.
CUPEL_HD CUPEL_INLINE double bin_edge(i64 k, i64 bins) {
  return static_cast<double>(k) / static_cast<double>(bins);
}

/// The slot of a confidence in [0, 1]: 0 for 0, bins + 1 for 1, else bin + 1. `bins` is from 1 to
/// kMostBins. Without a branch, so that a loop over rows compiles to vector code.
CUPEL_HD CUPEL_INLINE i32 bin_slot(double confidence, i32 bins, bool closed_left) {
  const double count = static_cast<double>(bins);
  // The product is off by less than one bin, so the right one is this or a neighbour.
  const i32 guess = static_cast<i32>(confidence * count);
  const i32 bin = guess < bins ? guess : bins - 1;
  const double low = static_cast<double>(bin) / count;
  const double high = static_cast<double>(bin + 1) / count;
  const i32 at_low = static_cast<i32>(confidence == low) & static_cast<i32>(!closed_left);
  const i32 at_high = static_cast<i32>(confidence == high) & static_cast<i32>(closed_left);
  const i32 down = static_cast<i32>(confidence < low) | at_low;
  const i32 up = static_cast<i32>(confidence > high) | at_high;
  const i32 inside = bin + 1 + up - down;
  const i32 not_zero = confidence == 0.0 ? 0 : inside;
  return confidence == 1.0 ? bins + 1 : not_zero;
}

/// Confidences are summed in units of 2^-50.
inline constexpr int kConfidenceBits = 50;

/// round-half-even(confidence * 2^50), for a confidence in [0, 1].
CUPEL_HD CUPEL_INLINE u64 confidence_term(double confidence) {
  return round_q(confidence, kConfidenceBits);
}

/// What a confidence adds to the second moments of its bin, in units of 2^-kConfidenceBits:
/// confidence^2, and (1 - 2 confidence)^2 * confidence * (1 - confidence), a row's share of the
/// variance of Spiegelhalter's statistic (at most 1/16).
struct MomentTerms {
  u64 square;
  u64 spread;
};
CUPEL_HD CUPEL_INLINE MomentTerms moment_terms(double confidence) {
  const double rest = 1.0 - confidence;
  const double difference = rest - confidence;
  return {round_q(confidence * confidence, kConfidenceBits),
          round_q((difference * difference) * (confidence * rest), kConfidenceBits)};
}

/// The confidence that the more probable class of a binary problem has, and whether that is the
/// row's; at one half the negative class is predicted, as by a decision.
struct TopConfidence {
  double confidence;
  bool right;
};
CUPEL_HD CUPEL_INLINE TopConfidence top_of_binary(double p, bool positive) {
  const bool predicted = p > 0.5;
  return {predicted ? p : 1.0 - p, predicted == positive};
}

}  // namespace cupel
