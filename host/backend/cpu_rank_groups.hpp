// Answers ranking queries from a problem that is cut into blocks of ascending keys. A block's
// borders (how many positives and negatives lie below it) follow from label counts alone, so blocks
// are visited in any order by any worker, and the borders alone often show that a block cannot hold
// the answer: such blocks are never opened. Unweighted rows, both classes present, below 2^31 rows.
// Invariant: every answer equals that of feeding all tie groups to one RankAccumulator.
#pragma once

#include <span>
#include <vector>

#include "cupel/state/rank_summary.hpp"
#include "state/rank_accumulate.hpp"

namespace cupel::cpu {

/// Rows of a block by label.
struct BlockCounts {
  u64 pos = 0;
  u64 neg = 0;
};

/// The tie groups of one block, ascending: group g has key base + offsets[g]; pos[g] and neg[g]
/// count the block's rows up to and including the group. pos[-1] and neg[-1] are readable and 0.
template <class Key>
struct GroupSpan {
  u64 base = 0;
  const Key* offsets = nullptr;
  const u32* pos = nullptr;
  const u32* neg = nullptr;
  i64 size = 0;
};

/// Sums over one block, in the terms of the whole problem.
struct BlockSums {
  u64 two_u = 0;       ///< the 2U of the block alone
  u128 precision = 0;  ///< its share of the average precision
};

/// What one worker has collected.
struct RankPartial {
  std::vector<RankAccumulator<u64>> accumulators;  ///< one per query
  std::vector<u32> picked;                         ///< scratch of the scans
};

/// Which block has to tell what.
class RankPlan {
 public:
  static constexpr std::size_t kMaxQueries = 60;

  /// At most kMaxQueries queries; blocks in ascending order of key, some may be empty.
  RankPlan(std::span<const RankQuery> queries, std::vector<BlockCounts> blocks);

  const ClassMass<u64>& totals() const { return all_; }
  std::span<const RankQuery> queries() const { return queries_; }
  const BlockCounts& block(i64 b) const { return blocks_[static_cast<std::size_t>(b)]; }
  /// Rows of lower blocks.
  const BlockCounts& below(i64 b) const { return below_[static_cast<std::size_t>(b)]; }

  bool needs_two_u(i64 b) const { return (open_[static_cast<std::size_t>(b)] & kTwoUBit) != 0; }
  bool needs_precision(i64 b) const {
    return (open_[static_cast<std::size_t>(b)] & kPrecisionBit) != 0;
  }
  /// Whether anything but the block's own 2U is wanted of it.
  bool needs_groups(i64 b) const { return (open_[static_cast<std::size_t>(b)] & ~kTwoUBit) != 0; }
  bool needs_block(i64 b) const { return open_[static_cast<std::size_t>(b)] != 0; }
  /// Queries that look at every tie group of the block, one bit each.
  u64 open_queries(i64 b) const {
    return open_[static_cast<std::size_t>(b)] & ~(kTwoUBit | kPrecisionBit);
  }
  int scale() const { return scale_; }

  RankPartial make_partial() const;
  /// The answers once every block that needs it has been scanned.
  std::vector<RankAnswer> finish(std::span<const RankPartial> partials,
                                 std::span<const BlockSums> sums) const;

 private:
  static constexpr u64 kTwoUBit = u64{1} << 63;
  static constexpr u64 kPrecisionBit = u64{1} << 62;

  void plan_query(std::size_t query);
  void plan_sum(std::size_t query);
  void plan_monotone(std::size_t query);
  void plan_best(std::size_t query);
  void plan_ranges(std::size_t query);
  void open(std::size_t block, std::size_t query) { open_[block] |= u64{1} << query; }

  /// The point at the lowest group of a block with rows.
  CurvePoint<u64> low_point(std::size_t b) const {
    return {all_.pos - below_[b].pos, all_.neg - below_[b].neg};
  }
  /// What no point of the block exceeds: all its positives, none of its negatives.
  CurvePoint<u64> best_point(std::size_t b) const {
    return {all_.pos - below_[b].pos, all_.neg - below_[b].neg - blocks_[b].neg};
  }
  bool holds(const RankQuery& query, const CurvePoint<u64>& p) const;
  u128 block_two_u(std::size_t b, const BlockSums& sums) const {
    return u128{sums.two_u} + product(blocks_[b].pos, 2 * below_[b].neg);
  }

  std::vector<RankQuery> queries_;
  std::vector<BlockCounts> blocks_;
  std::vector<BlockCounts> below_;
  std::vector<u64> open_;
  std::vector<std::size_t> filled_;  ///< blocks with rows
  ClassMass<u64> all_{};
  int scale_ = 0;
};

/// The 2U of the groups alone.
template <class Key>
u64 groups_two_u(const GroupSpan<Key>& groups);

/// Collects what the plan wants of block `b` from its groups.
template <class Key>
void scan_groups(const RankPlan& plan, i64 b, const GroupSpan<Key>& groups, RankPartial& partial,
                 BlockSums& sums);

/// scaled_precision(), at the price of one hardware division.
u128 fast_scaled_precision(u64 tp, u64 fp, int scale);

}  // namespace cupel::cpu
