// The `samples` average of a multilabel table: each row is a small ranking of its own labels, and
// the metric's values of the rows are averaged.
#pragma once

#include "cupel/backend/backend.hpp"
#include "cupel/metric/metric.hpp"

namespace cupel {

/// Sums over the rows of one cell: values in units of 2^-60, split by sign, times the row's mass.
struct SampleSums {
  U256 positive{};
  U256 negative{};
  u128 mass = 0;      ///< of the rows with a value
  u64 rows = 0;       ///< with a value
  u64 undefined = 0;  ///< without

  void merge(const SampleSums& other);
  /// The mean, or all_undefined / empty.
  MetricValue mean() const;
};

/// One SampleSums per cell. The metric must be a ranking metric with values in [-1, 1].
/// Cost: a small sort per row, spread over `threads`.
std::vector<SampleSums> sample_sums(const TableView& table, const Metric& metric,
                                    const Options& options, int threads);

}  // namespace cupel
