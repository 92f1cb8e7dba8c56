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

/// Why a value of these rows' probabilities does not exist, or kNone.
inline Undefined missing_probabilities(const Evidence& evidence) {
  const Undefined why = missing_rows(*evidence.rows);
  if (why != Undefined::kNone) return why;
  return evidence.outside_unit ? Undefined::kNotProbability : Undefined::kNone;
}

/// Position of a decision threshold in the shared spec.
inline std::size_t threshold_index(const RowSpec& spec, double threshold) {
  const auto at = std::find(spec.thresholds.begin(), spec.thresholds.end(), threshold);
  CUPEL_ASSERT(at != spec.thresholds.end());
  return static_cast<std::size_t>(at - spec.thresholds.begin());
}

/// The bins that a metric asked for, which hold moments where any metric wants them.
inline const BinTotals& bins_of_query(const RowSums& sums, const RowSpec& spec,
                                      const BinQuery& query) {
  const std::vector<BinQuery>& queries = spec.bins;
  const auto at = std::find_if(queries.begin(), queries.end(),
                               [&](const BinQuery& other) { return other.same_bins(query); });
  CUPEL_ASSERT(at != queries.end());
  return sums.bins[static_cast<std::size_t>(at - queries.begin())];
}
inline const BinTotals& bins_of_query(const Evidence& evidence, const BinQuery& query) {
  return bins_of_query(*evidence.rows, *evidence.row_spec, query);
}

}  // namespace cupel
