// What ranking metrics share: when they are undefined, and how a point of the curve is described.
#pragma once

#include "cupel/metric/metric.hpp"
#include "metric/exact.hpp"

namespace cupel {

enum class Requires : u8 { kPositives, kBothClasses };

/// Why a segment has no such value, or kNone.
inline Undefined missing(const RankSummary& s, Requires what) {
  if (s.rows() == 0) return Undefined::kEmpty;
  if (s.pos + s.neg == 0) return Undefined::kZeroWeight;
  if (s.pos == 0) return Undefined::kNoPositive;
  if (what == Requires::kBothClasses && s.neg == 0) return Undefined::kNoNegative;
  return Undefined::kNone;
}

/// The score that a point's decision rule compares with; +inf where nothing is called positive.
double threshold_of(const RankSummary& summary, const OperatingPoint& point);

/// threshold, tpr, fpr and precision of a point (precision null where nothing is called positive).
Detail::Object describe_point(const RankSummary& summary, const OperatingPoint& point);

/// Of pairs in the domain l2, whose scores are negated distances: behind a `threshold` its
/// `distance` (none where nothing is called positive), behind `thresholds` their `distances`.
void add_distances(const Evidence& evidence, Detail::Object& details);

/// The area under the ROC curve, correctly rounded from the exact 2U / (2PN); P, N > 0.
double area_of(const RankSummary& summary, const U256& two_u);

/// Average precision from a precision sum of share `pos`; P > 0. Within 1 ulp of the exact
/// rational.
double precision_of(const RankSummary& summary, const U256& precision_sum);

/// One range of the ranking, or one group of positives, as the AUROC/AUPRC relation shows it.
Detail::Object describe_share(const RankSummary& summary, const RangeShare& share);
/// The whole relation by ranges of the ranking.
Detail describe_ranges(const RankSummary& summary, const std::vector<RangeShare>& ranges);

}  // namespace cupel
