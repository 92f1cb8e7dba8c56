// The exact sum of doubles, and of squares of doubles, as an integer: any order, any division into
// parts gives the same digits. A long accumulator as in Kulisch, "Computer Arithmetic and
// Validity", 2008, with carries put off: digits have 32 bits in words of 64.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/elementary.hpp"

namespace cupel {

/// A signed integer times 2^least_exponent. Digit i weighs 2^(32 i); each but the last is in
/// [0, 2^32) once settled, which makes the digits of a value unique.
template <int kLeast, int kDigits>
struct ExactAccumulator {
  i64 digits[kDigits] = {};
  u32 unsettled = 0;  ///< additions since the carries were taken

  static constexpr int least_exponent() { return kLeast; }
  static constexpr int digit_count() { return kDigits; }

  /// Adds, or with `negative` takes away, value * 2^(kLeast + position); position >= 0, and the
  /// highest bit in one of the digits but the last two.
  CUPEL_HD void add(u64 value, int position, bool negative) {
    const u128 shifted = static_cast<u128>(value) << (position % 32);
    const int first = position / 32;
    const i64 sign = negative ? -1 : 1;
    digits[first] += sign * static_cast<i64>(static_cast<u64>(shifted) & 0xFFFFFFFFu);
    digits[first + 1] += sign * static_cast<i64>(static_cast<u64>(shifted >> 32) & 0xFFFFFFFFu);
    digits[first + 2] += sign * static_cast<i64>(static_cast<u64>(shifted >> 64));
    // Each addition changes a digit by less than 2^32.
    if (++unsettled == (u32{1} << 30)) settle();
  }
  /// Takes the carries.
  CUPEL_HD void settle() {
    for (int i = 0; i + 1 < kDigits; ++i) {
      const i64 carry = digits[i] >> 32;  // rounds down, so that the digit stays positive
      digits[i] -= carry * (i64{1} << 32);
      digits[i + 1] += carry;
    }
    unsettled = 0;
  }
  CUPEL_HD void merge(const ExactAccumulator& other) {
    ExactAccumulator settled = other;
    settled.settle();
    settle();
    for (int i = 0; i < kDigits; ++i) digits[i] += settled.digits[i];
    settle();
  }
};

/// The bits of a finite double: significand * 2^(exponent - 1074), exponent in [0, 2045].
struct DoubleParts {
  u64 significand;
  int exponent;
  bool negative;
};

CUPEL_HD CUPEL_INLINE DoubleParts parts_of(double value) {
  const u64 bits = bits_from_double(value);
  const u64 fraction = bits & 0xFFFFFFFFFFFFFu;
  const int biased = static_cast<int>((bits >> 52) & 0x7FF);
  return {biased == 0 ? fraction : fraction | (u64{1} << 52), biased == 0 ? 0 : biased - 1,
          (bits >> 63) != 0};
}

/// Of up to 2^62 doubles: 2^-1074 to 2^1086, and a digit for the sign.
using ExactSum = ExactAccumulator<-1074, 69>;
/// Of up to 2^62 squares of doubles: 2^-2148 to 2^2110, and a digit for the sign.
using ExactSquareSum = ExactAccumulator<-2148, 135>;

/// Adds a finite double, or takes it away.
CUPEL_HD CUPEL_INLINE void add_exactly(ExactSum& sum, double value) {
  const DoubleParts parts = parts_of(value);
  sum.add(parts.significand, parts.exponent, parts.negative);
}
/// Adds high - low, which need not be a double; both finite.
CUPEL_HD CUPEL_INLINE void add_difference(ExactSum& sum, double high, double low) {
  add_exactly(sum, high);
  add_exactly(sum, -low);
}
/// Adds the square of a finite double.
CUPEL_HD CUPEL_INLINE void add_square(ExactSquareSum& sum, double value) {
  const DoubleParts parts = parts_of(value);
  const u128 square = static_cast<u128>(parts.significand) * parts.significand;
  sum.add(static_cast<u64>(square), 2 * parts.exponent, false);
  sum.add(static_cast<u64>(square >> 64), 2 * parts.exponent + 64, false);
}

}  // namespace cupel
