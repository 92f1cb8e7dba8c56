// Random numbers that belong to a row, not to a moment: the same (seed, row id) gives the same
// number in any batch, shard, order or thread.
#pragma once

#include "cupel/core/int.hpp"

namespace cupel {

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection that mixes all bits.
CUPEL_HD CUPEL_INLINE u64 mix64(u64 x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// 64 random bits of a row. Uniform over [0, 2^64) for fixed seed and varying id; ids that differ
/// give numbers that differ. Seed and id enter by different constants: equal ones must not cancel.
CUPEL_HD CUPEL_INLINE u64 counter_random(u64 seed, u64 row_id) {
  return mix64(mix64(seed + 0x9E3779B97F4A7C15u) ^ mix64(row_id + 0xD1B54A32D192ED03u));
}

}  // namespace cupel
