// A sample of the pairs of an embedding, drawn with a fixed seed: where an order statistic of the
// negative pairs is to be looked for, and how many pairs a range of gaps will hold. What is drawn
// decides how values are found, never what they are.
#pragma once

#include <limits>
#include <vector>

#include "backend/thread_pool.hpp"
#include "cupel/state/embedding_pairs.hpp"

namespace cupel {

/// Every gap.
inline constexpr GapRange kAllGaps{std::numeric_limits<float>::lowest(),
                                   std::numeric_limits<float>::max()};

struct PairSample {
  PairDomain domain = PairDomain::kL2;
  std::vector<u32> negatives;  ///< keys (gap_key) of the negative pairs, closest first
  std::vector<u32> all;        ///< of all pairs, closest first

  /// The share of the pairs that are in a range.
  double share(const GapRange& range) const;
  /// Where the `rank`-th closest (from 1) of `of` negative pairs is but for a chance of about
  /// 2 * 10^-9 with 6 sigmas. The ends are those of keys (gap_of_key).
  GapRange bracket(u64 rank, u64 of, double sigmas) const;
};

/// `count` pairs of different rows, with replacement; fewer where a row met itself. O(count *
/// width).
PairSample sample_pairs(const EmbeddingView& view, i64 count, ThreadPool& pool);

/// What a list of this share of `pairs` will take: 6 bytes a pair and 12 a tile that holds one.
double list_bytes(u64 pairs, double share);

}  // namespace cupel
