// Order statistics of the negative pairs, from a ranking or from a list.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "backend/thread_pool.hpp"
#include "cupel/state/embedding_pairs.hpp"

namespace cupel {

/// Ascending and disjoint: ranges that overlap or touch are one.
std::vector<GapRange> join_ranges(std::vector<GapRange> ranges);

/// The key of the `rank`-th largest negative score (from 1); none where there are fewer. Of tables
/// without weights. O(1) of plain runs, else O(distinct keys).
std::optional<u64> key_of_negative(const RankTable& table, u64 rank);

/// The negative pairs of a list, range by range. Views: the list and the ranges stay.
class ListedNegatives {
 public:
  /// `ranges` are disjoint. O(pairs); 512 KiB for each range and thread.
  ListedNegatives(const EmbeddingView& view, const PairList& list, std::span<const GapRange> ranges,
                  ThreadPool& pool);
  /// The key (gap_key) of the `rank`-th closest one of a range, from 1; none where there are fewer.
  /// O(pairs).
  std::optional<u32> key(std::size_t range, u64 rank) const;

 private:
  const EmbeddingView& view_;
  const PairList& list_;
  std::span<const GapRange> ranges_;
  ThreadPool& pool_;
  std::vector<std::vector<u64>> counts_;  ///< [range][high bits of an ordered gap]
};

}  // namespace cupel
