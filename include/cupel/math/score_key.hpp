// Scores as order-preserving unsigned integers: sorting, ties and thresholds are integer work from
// here on, and the same on every machine. -0.0 and +0.0 are one score; NaN has no key and is
// rejected where columns are read. The map is a bijection on all other values, so a key turns back
// into the exact score.
#pragma once

#include "cupel/core/int.hpp"

namespace cupel {

/// Of what a score column consists, which fixes how its keys are made. 16-bit kinds have keys below
/// 2^16, f32 keys below 2^32; the rest use 64 bits.
enum class ScoreKind : u8 { kF16, kBF16, kF32, kF64, kI64, kU64 };

CUPEL_HD constexpr int key_bits(ScoreKind kind) {
  return kind <= ScoreKind::kBF16 ? 16 : kind == ScoreKind::kF32 ? 32 : 64;
}

/// The key of f16 or bf16 bits (both order alike): negative values reversed below positive ones.
CUPEL_HD CUPEL_INLINE u32 key_of_16(u16 bits) {
  const u32 b = (bits == 0x8000u) ? 0u : bits;
  return (b & 0x8000u) != 0 ? (~b & 0xFFFFu) : (b | 0x8000u);
}
CUPEL_HD CUPEL_INLINE u16 bits_of_16(u32 key) {
  return static_cast<u16>((key & 0x8000u) != 0 ? (key & 0x7FFFu) : ~key);
}

/// The key of the bits of a float32.
CUPEL_HD CUPEL_INLINE u32 key_of_f32(u32 bits) {
  const u32 b = (bits == 0x80000000u) ? 0u : bits;
  const u32 sign = static_cast<u32>(-static_cast<i32>(b >> 31));
  return b ^ (sign | 0x80000000u);
}
CUPEL_HD CUPEL_INLINE u32 bits_of_f32(u32 key) {
  return (key & 0x80000000u) != 0 ? (key ^ 0x80000000u) : ~key;
}

/// The key of the bits of a float64.
CUPEL_HD CUPEL_INLINE u64 key_of_f64(u64 bits) {
  const u64 b = (bits == 0x8000000000000000u) ? 0u : bits;
  const u64 sign = static_cast<u64>(-static_cast<i64>(b >> 63));
  return b ^ (sign | 0x8000000000000000u);
}
CUPEL_HD CUPEL_INLINE u64 bits_of_f64(u64 key) {
  return (key & 0x8000000000000000u) != 0 ? (key ^ 0x8000000000000000u) : ~key;
}

/// The key of a signed 64-bit integer; an unsigned one is its own key.
CUPEL_HD CUPEL_INLINE u64 key_of_i64(i64 value) {
  return static_cast<u64>(value) ^ 0x8000000000000000u;
}

}  // namespace cupel
