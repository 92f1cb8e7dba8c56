// Integer names of fixed width, and arithmetic that says when it does not fit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cupel/core/config.hpp"

namespace cupel {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 i128;

/// Writes a*b to `out` and returns true, or returns false when the product needs more than 63 bits
/// or a factor is negative. For sizes that a file declares.
inline bool checked_mul(i64 a, i64 b, i64& out) {
  return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, &out);
}

/// Writes a+b to `out` and returns true, or returns false when the sum needs more than 63 bits or a
/// term is negative.
inline bool checked_add(i64 a, i64 b, i64& out) {
  return a >= 0 && b >= 0 && !__builtin_add_overflow(a, b, &out);
}

}  // namespace cupel
