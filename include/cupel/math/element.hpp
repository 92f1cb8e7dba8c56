// One score as it lies in memory, read as what ranking, decisions and probabilities need of it. The
// address is aligned to the element's size.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/elementary.hpp"
#include "cupel/math/half.hpp"
#include "cupel/math/score_key.hpp"

namespace cupel {

/// The numeric types of DType, with the same values.
enum class Element : u8 {
  kBool,
  kI8,
  kI16,
  kI32,
  kI64,
  kU8,
  kU16,
  kU32,
  kU64,
  kF16,
  kBF16,
  kF32,
  kF64
};

CUPEL_HD constexpr i64 element_size(Element e) {
  switch (e) {
    case Element::kBool:
    case Element::kI8:
    case Element::kU8:
      return 1;
    case Element::kI16:
    case Element::kU16:
    case Element::kF16:
    case Element::kBF16:
      return 2;
    case Element::kI32:
    case Element::kU32:
    case Element::kF32:
      return 4;
    case Element::kI64:
    case Element::kU64:
    case Element::kF64:
      return 8;
  }
  return 0;
}

/// An element type known where code is compiled, or only where it runs: loops are templates over
/// both, so that the usual types lose no time to the choice.
template <Element kElement>
struct FixedElement {
  CUPEL_HD static constexpr Element get() { return kElement; }
};
struct AnyElement {
  Element element;
  CUPEL_HD constexpr Element get() const { return element; }
};

template <class T>
CUPEL_HD CUPEL_INLINE T load_aligned(const void* at) {
  return *static_cast<const T*>(at);
}

/// The least double that is not below an integer, so that value > t holds for the same doubles t
/// before and after.
template <class Int>
CUPEL_HD CUPEL_INLINE double double_above(Int value) {
  const double nearest = static_cast<double>(value);
  // 2^63 and 2^64 are above every i64 and u64, and converting them back would overflow.
  const double limit = static_cast<Int>(-1) < Int{0} ? 0x1p63 : 0x1p64;
  if (nearest >= limit || static_cast<Int>(nearest) >= value) return nearest;
  // Of at least 2^53 in magnitude, so neither a zero nor the largest double.
  const u64 bits = bits_from_double(nearest);
  return double_from_bits(nearest > 0 ? bits + 1 : bits - 1);
}

/// Scores of 8 and 16-bit integers and bool as float32, which holds them exactly; 16-bit floats
/// widened. Meaningless for wider types.
CUPEL_HD CUPEL_INLINE float narrow_number(Element e, const void* at) {
  switch (e) {
    case Element::kBool:
      return load_aligned<u8>(at) != 0 ? 1.0f : 0.0f;
    case Element::kI8:
      return static_cast<float>(load_aligned<i8>(at));
    case Element::kI16:
      return static_cast<float>(load_aligned<i16>(at));
    case Element::kU8:
      return static_cast<float>(load_aligned<u8>(at));
    case Element::kU16:
      return static_cast<float>(load_aligned<u16>(at));
    case Element::kF16:
      return float_from_f16(load_aligned<u16>(at));
    case Element::kBF16:
      return float_from_bf16(load_aligned<u16>(at));
    case Element::kF32:
      return load_aligned<float>(at);
    default:
      return 0;
  }
}

/// Whether narrow_number() holds the element's values.
CUPEL_HD constexpr bool is_narrow(Element e) {
  return e != Element::kI32 && e != Element::kI64 && e != Element::kU32 && e != Element::kU64 &&
         e != Element::kF64;
}

/// The value as a double; 64-bit integers round to nearest.
CUPEL_HD CUPEL_INLINE double number(Element e, const void* at) {
  switch (e) {
    case Element::kI32:
      return static_cast<double>(load_aligned<i32>(at));
    case Element::kI64:
      return static_cast<double>(load_aligned<i64>(at));
    case Element::kU32:
      return static_cast<double>(load_aligned<u32>(at));
    case Element::kU64:
      return static_cast<double>(load_aligned<u64>(at));
    case Element::kF64:
      return load_aligned<double>(at);
    default:
      return static_cast<double>(narrow_number(e, at));
  }
}

/// The value as the double that decisions compare with a threshold: 64-bit integers round up.
CUPEL_HD CUPEL_INLINE double decision_number(Element e, const void* at) {
  if (e == Element::kI64) return double_above(load_aligned<i64>(at));
  if (e == Element::kU64) return double_above(load_aligned<u64>(at));
  return number(e, at);
}

/// The key of a score of at most 32 bits (ScoreKind kF16, kBF16, kF32).
CUPEL_HD CUPEL_INLINE u32 narrow_key(Element e, const void* at) {
  if (e == Element::kF16 || e == Element::kBF16) return key_of_16(load_aligned<u16>(at));
  return key_of_f32(bits_from_float(narrow_number(e, at)));
}

/// The key of a score that has 64 bits (kF64, kI64, kU64).
CUPEL_HD CUPEL_INLINE u64 wide_key(Element e, const void* at) {
  switch (e) {
    case Element::kI32:
      return key_of_i64(load_aligned<i32>(at));
    case Element::kI64:
      return key_of_i64(load_aligned<i64>(at));
    case Element::kU32:
      return load_aligned<u32>(at);
    case Element::kU64:
      return load_aligned<u64>(at);
    default:
      return key_of_f64(bits_from_double(number(e, at)));
  }
}

/// Whether a score is NaN or infinite.
CUPEL_HD CUPEL_INLINE bool is_bad_score(Element e, const void* at) {
  switch (e) {
    case Element::kF16:
      return (load_aligned<u16>(at) & 0x7C00u) == 0x7C00u;
    case Element::kBF16:
      return (load_aligned<u16>(at) & 0x7F80u) == 0x7F80u;
    case Element::kF32:
      return (load_aligned<u32>(at) & 0x7F800000u) == 0x7F800000u;
    case Element::kF64:
      return (load_aligned<u64>(at) & 0x7FF0000000000000u) == 0x7FF0000000000000u;
    default:
      return false;
  }
}

/// Compares two scores of a row as they are: 64-bit integers as integers, the rest as numbers.
/// Returns whether a > b, or, with `or_equal`, a >= b.
CUPEL_HD CUPEL_INLINE bool score_above(Element e, const void* a, const void* b, bool or_equal) {
  if (e == Element::kI64) {
    const i64 x = load_aligned<i64>(a);
    const i64 y = load_aligned<i64>(b);
    return or_equal ? x >= y : x > y;
  }
  if (e == Element::kU64) {
    const u64 x = load_aligned<u64>(a);
    const u64 y = load_aligned<u64>(b);
    return or_equal ? x >= y : x > y;
  }
  const double x = number(e, a);
  const double y = number(e, b);
  return or_equal ? x >= y : x > y;
}

}  // namespace cupel
