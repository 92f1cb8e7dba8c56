// Bins of equal mass over sorted confidences, as exact integers.
#pragma once

#include <span>
#include <vector>

#include "cupel/metric/metric.hpp"

namespace cupel {

/// ceil(k * mass / bins), for k and bins of at most 2^16: bin k begins where so much mass is
/// before.
/// M is u64 or u128.
template <class M>
M least_mass_of_bin(M mass, i64 k, i64 bins) {
  const M b = static_cast<M>(bins);
  const M n = static_cast<M>(k);
  return n * (mass / b) + (n * (mass % b) + b - 1) / b;
}

/// Adds a group to a range; groups come in ascending order.
void add_group(ConfidenceRange& range, const ConfidenceGroup& group);

/// The ranges that have mass of `bins` >= 1 bins of equal mass: a confidence is in bin
/// floor(bins * r / mass), r the mass of smaller ones, so equal confidences share a bin. Only
/// confidences above `threshold` (-1: all) are there. O(groups + bins).
std::vector<ConfidenceRange> mass_ranges(const SortedConfidences& set, i64 bins,
                                         double threshold = -1);

/// The bins of uncertainty-calibration: rows cut as numpy.array_split cuts them, edges halfway
/// between the rows at a cut, equal edges taken once, (lo, hi]; one bin for each distinct value
/// where those are fewer than a quarter of the rows. Not for weighted rows. O(groups + bins).
std::vector<ConfidenceRange> split_ranges(const SortedConfidences& set, i64 bins);

/// Accuracy less confidence of a range that has mass, correctly rounded.
double gap_of(const ConfidenceRange& range);
/// Ranges for `details`: values from and to, rows (or weight), confidence, accuracy and gap.
Detail::List describe_bins(std::span<const ConfidenceRange> ranges, bool weighted);

}  // namespace cupel
