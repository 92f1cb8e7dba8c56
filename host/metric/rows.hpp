// What metrics that are means over rows share.
#pragma once

#include <algorithm>

#include "cupel/metric/metric.hpp"
#include "metric/exact.hpp"

namespace cupel {

inline u128 total_mass(const RowSums& sums) {
  u128 total = 0;
  for (const u128 mass : sums.class_mass) total += mass;
  return total;
}

/// Why a mean over these rows does not exist, or kNone.
inline Undefined missing_rows(const RowSums& sums) {
  if (sums.rows == 0) return Undefined::kEmpty;
  return total_mass(sums) == 0 ? Undefined::kZeroWeight : Undefined::kNone;
}

/// Position of a decision threshold in the shared spec.
inline std::size_t threshold_index(const RowSpec& spec, double threshold) {
  const auto at = std::find(spec.thresholds.begin(), spec.thresholds.end(), threshold);
  CUPEL_ASSERT(at != spec.thresholds.end());
  return static_cast<std::size_t>(at - spec.thresholds.begin());
}

}  // namespace cupel
