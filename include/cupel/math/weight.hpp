// Sample weights as integers: round(w * 2^64), row by row, by a rule that looks at nothing else, so
// that sums of weights are exact and independent of order.
#pragma once

#include "cupel/core/int.hpp"

namespace cupel {

enum class WeightFault : u8 {
  kNone,
  kNotFinite,
  kNegative,
  kTooSmall,  ///< positive, but rounds to 0
  kTooLarge,  ///< 2^63 or more
};

/// A quantised weight: mass = round-half-even(w * 2^64), exact for every w that is a multiple of
/// 2^-64 (so for each f32 >= 2^-40). `fault` is kNone exactly when the mass is valid.
struct WeightMass {
  u128 mass;
  WeightFault fault;
};

CUPEL_HD CUPEL_INLINE WeightMass weight_mass(double w) {
  u64 bits = 0;
  __builtin_memcpy(&bits, &w, sizeof bits);
  if ((bits << 1) == 0) return {0, WeightFault::kNone};
  const int exponent = static_cast<int>((bits >> 52) & 0x7FF);
  if (exponent == 0x7FF) return {0, WeightFault::kNotFinite};
  if ((bits >> 63) != 0) return {0, WeightFault::kNegative};
  if (exponent >= 1023 + 63) return {0, WeightFault::kTooLarge};
  // w = significand * 2^(exponent - 1075); the mass is significand * 2^shift.
  const u64 significand = (bits & 0xFFFFFFFFFFFFFu) | (exponent == 0 ? 0u : 0x10000000000000u);
  const int shift = (exponent == 0 ? 1 : exponent) - 1075 + 64;
  if (shift >= 0) return {static_cast<u128>(significand) << shift, WeightFault::kNone};
  if (shift < -54) return {0, WeightFault::kTooSmall};
  const int drop = -shift;
  const u64 half = u64{1} << (drop - 1);
  const u64 low = significand & ((half << 1) - 1);
  u64 rounded = significand >> drop;
  if (low > half || (low == half && (rounded & 1) != 0)) ++rounded;
  if (rounded == 0) return {0, WeightFault::kTooSmall};
  return {rounded, WeightFault::kNone};
}

}  // namespace cupel
