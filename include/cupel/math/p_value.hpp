// Conformal p-values as integers: how many calibration scores are as extreme as a score, and the
// share u of those that equal it.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/counter_random.hpp"

namespace cupel {

/// Bits of the uniform number behind a smoothed p-value.
inline constexpr int kUniformBits = 48;
inline constexpr u64 kUniformOne = u64{1} << kUniformBits;

/// What a uniform number is for. Numbers of one row for two purposes must be independent: rows
/// drawn for calibration by --calibration have small numbers of (seed, row id) itself.
enum class Draw : u8 { kPValue = 1, kModel = 2, kPruning = 3, kCommon = 4 };

/// u * 2^48 of a row, u in (0, 1]: never 0, so that a smoothed p-value is none either.
CUPEL_HD inline u64 uniform_of(Draw draw, u64 seed, u64 row_id) {
  const u64 stream = mix64(seed ^ (0xA0761D6478BD642Fu * static_cast<u64>(draw)));
  return (counter_random(stream, row_id) >> (64 - kUniformBits)) + 1;
}

/// How a test score counts calibration scores that equal it. Of n exchangeable scores kCount and
/// kRandom give p-values with P(p <= t) <= t, kRandom with equality; kStrict only where no scores
/// are equal.
enum class TieRule : u8 {
  kCount,   ///< (#{V_i <= v} + 1) / (n + 1)
  kStrict,  ///< (#{V_i < v} + 1) / (n + 1)
  kRandom,  ///< (#{V_i < v} + u (#{V_i = v} + 1)) / (n + 1)
};

/// How many calibration scores are below a score, and how many equal it.
struct ScorePlace {
  u64 below = 0;
  u64 equal = 0;
};

/// The p-value in units of 2^-48 / (n + 1); `uniform` as uniform_of(), for kRandom alone.
/// Below 2^112 for fewer than 2^63 calibration scores.
CUPEL_HD inline u128 p_value_units(const ScorePlace& place, TieRule ties, u64 uniform) {
  switch (ties) {
    case TieRule::kCount:
      return (u128{place.below} + place.equal + 1) << kUniformBits;
    case TieRule::kStrict:
      return (u128{place.below} + 1) << kUniformBits;
    case TieRule::kRandom:
      CUPEL_ASSERT(uniform >= 1 && uniform <= kUniformOne);
      return (u128{place.below} << kUniformBits) + u128{uniform} * (u128{place.equal} + 1);
  }
  return 0;
}

}  // namespace cupel
