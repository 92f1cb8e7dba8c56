// 16-bit floats widened to float32, exactly: IEEE 754 binary16 and bfloat16 (the upper half of a
// binary32). Every value of either is a normal float32 or keeps its float32 class, so the map is
// injective and preserves order, infinities and NaN payloads. Integer operations, and one exact
// subtraction of normal floats, which a flush-to-zero mode cannot touch.
#pragma once

#include "cupel/core/int.hpp"

namespace cupel {

/// The float32 with these bits.
CUPEL_HD CUPEL_INLINE float float_from_bits(u32 bits) {
  float value = 0;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

/// The bits of a float32.
CUPEL_HD CUPEL_INLINE u32 bits_from_float(float value) {
  u32 bits = 0;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// The value of binary16 bits: subnormals, both zeros and infinities as they are; a NaN to a NaN
/// with the same sign and the same leading payload bits (a signalling one stays signalling).
CUPEL_HD CUPEL_INLINE float float_from_f16(u16 bits) {
  constexpr u32 kRebias = (127u - 15u) << 23;
  // 2^-14, the smallest normal binary16, whose unit in the last place at 10 bits is 2^-24.
  constexpr u32 kSmallestNormal = (127u - 14u) << 23;
  const u32 sign = (bits & 0x8000u) << 16;
  const u32 magnitude = (bits & 0x7FFFu) << 13;
  // 2^-14 + m * 2^-24 is exact in float32 and so is the difference: the value of a subnormal m.
  const float subnormal =
      float_from_bits(magnitude + kSmallestNormal) - float_from_bits(kSmallestNormal);
  const u32 normal = magnitude + kRebias + (magnitude >= (31u << 23) ? kRebias : 0u);
  // By a mask, both computed: a loop over a column must stay free of branches.
  const u32 is_subnormal = 0u - static_cast<u32>(magnitude < (1u << 23));
  return float_from_bits(sign | (bits_from_float(subnormal) & is_subnormal) |
                         (normal & ~is_subnormal));
}

/// The value of bfloat16 bits: the float32 whose upper half they are.
CUPEL_HD CUPEL_INLINE float float_from_bf16(u16 bits) {
  return float_from_bits(static_cast<u32>(bits) << 16);
}

}  // namespace cupel
