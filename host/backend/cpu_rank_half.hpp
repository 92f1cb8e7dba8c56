// Scores of 16 bits are few: their rows are counted, not sorted. The same interface as
// RankPartition, with a single bucket.
#pragma once

#include <functional>
#include <vector>

#include "backend/cpu_rank_partition.hpp"
#include "backend/cpu_rank_rows.hpp"
#include "cupel/state/rank_table.hpp"

namespace cupel::cpu {

/// Unweighted rows of one problem whose keys have 16 bits, counted by key and label.
class RankHistogram {
 public:
  /// With fewer rows than this, clearing and reading all counters costs more than sorting.
  static constexpr i64 kLeastRows = 32'768;
  static constexpr i64 kMostRows = (i64{1} << 31) - 1;

  RankHistogram(const ProblemRows& problem, const Workers& workers);

  /// Whether no counted score is NaN or infinite.
  bool all_finite(ScoreKind kind) const;
  i64 buckets() const { return 1; }
  std::vector<BlockCounts> count_labels() const;
  using Visit = std::function<void(int worker, i64 bucket, const GroupSpan<u32>& groups)>;
  void for_each_bucket(const std::function<bool(i64 bucket)>& wanted, const Visit& visit) const;
  RankTable table(ScoreKind kind) const;

 private:
  std::vector<u32> counts_;  ///< negatives of key k at 2k, positives at 2k + 1
};

}  // namespace cupel::cpu
