// What ranking metrics need to know of a segment: totals, and one exact integer answer per query.
// A summary is read off a RankTable, or computed by a backend directly from rows without the table;
// both give equal bytes. Summaries do not merge (the answers depend on the totals); tables do.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "cupel/core/int.hpp"
#include "cupel/math/curve.hpp"
#include "cupel/math/rank_fold.hpp"
#include "cupel/math/score_key.hpp"
#include "cupel/math/wide.hpp"

namespace cupel {

/// A point of the curve: every score >= the score of `key` is called positive. The start of the
/// curve, where nothing is called positive, has no key.
struct OperatingPoint {
  bool exists = false;
  bool has_key = false;
  u64 key = 0;
  u128 tp = 0;
  u128 fp = 0;
  bool operator==(const OperatingPoint&) const = default;
};

/// What one range of the ranking holds and adds; sums over ranges give 2U and the precision sum.
struct RangeShare {
  u128 pos = 0;
  u128 neg = 0;
  U256 two_u{};
  U256 precision{};
  bool operator==(const RangeShare&) const = default;
};

struct RankAnswer {
  U256 sum{};
  OperatingPoint at;
  OperatingPoint before;
  std::vector<RangeShare> ranges;  ///< kRankRanges entries for kRanges, else empty
  bool operator==(const RankAnswer&) const = default;
};

struct RankSummary {
  ScoreKind kind = ScoreKind::kF32;
  bool weighted = false;  ///< masses are weights in units of 2^-64, else row counts
  u64 pos_rows = 0;       ///< rows, zero-weight ones too
  u64 neg_rows = 0;
  u128 pos = 0;
  u128 neg = 0;
  u64 distinct = 0;  ///< distinct scores of positive mass; 0 where the backend did not count them
  std::vector<RankAnswer> answers;  ///< one per query, in order

  u64 rows() const { return pos_rows + neg_rows; }
};

/// The score that a key stands for, as the double that equals it (integers beyond 2^53 round).
double score_of_key(ScoreKind kind, u64 key);

}  // namespace cupel
