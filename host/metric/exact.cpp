#include "metric/exact.hpp"

#include <cmath>

namespace cupel::exact {

double to_double(const Integer& num, const Integer& den) {
  if (num == 0) return 0.0;
  const bool negative = num < 0;
  Integer n = abs(num);
  Integer d = den;
  // Scale so that the quotient has 55 or 56 bits: 53 to keep, the rest and the remainder to round.
  const auto scale = 55 - (static_cast<i64>(msb(n)) - static_cast<i64>(msb(d)));
  if (scale >= 0) {
    n <<= static_cast<unsigned>(scale);
  } else {
    d <<= static_cast<unsigned>(-scale);
  }
  Integer quotient;
  Integer remainder;
  divide_qr(n, d, quotient, remainder);
  const u64 q = static_cast<u64>(quotient);
  const int drop = static_cast<int>(msb(quotient)) + 1 - 53;
  u64 kept = q >> drop;
  const u64 low = q & ((u64{1} << drop) - 1);
  const u64 half = u64{1} << (drop - 1);
  if (low > half || (low == half && (remainder != 0 || (kept & 1) != 0))) ++kept;
  const double magnitude = std::ldexp(static_cast<double>(kept), drop - static_cast<int>(scale));
  return negative ? -magnitude : magnitude;
}

Rational rational(double value) {
  const DoubleParts parts = parts_of(value);
  const Integer magnitude = Integer(parts.significand) << parts.exponent;
  return Rational(parts.negative ? -magnitude : magnitude, Integer(1) << 1074);
}

double root(const Rational& value) {
  if (value == 0) return 0.0;
  Integer n = numerator(value);
  Integer d = denominator(value);
  // An even power of two, so that the root has some 65 bits; what is left of it only has to be
  // known not to be 0.
  i64 scale = 130 - (static_cast<i64>(msb(n)) - static_cast<i64>(msb(d)));
  if (scale % 2 != 0) ++scale;
  if (scale >= 0) {
    n <<= static_cast<unsigned>(scale);
  } else {
    d <<= static_cast<unsigned>(-scale);
  }
  Integer square;
  Integer left;
  divide_qr(n, d, square, left);
  Integer rest;
  const Integer whole = sqrt(square, rest);
  const Integer twice = whole * 2 + (left != 0 || rest != 0 ? 1 : 0);
  const i64 halved = scale / 2 + 1;
  if (halved >= 0) return to_double(twice, Integer(1) << static_cast<unsigned>(halved));
  return to_double(twice << static_cast<unsigned>(-halved), Integer(1));
}

double to_double(const Rational& value) { return to_double(numerator(value), denominator(value)); }

}  // namespace cupel::exact
