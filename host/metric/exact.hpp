// Exact rationals for finish(): a metric is one division, done once, rounded once.
#pragma once

#include <boost/multiprecision/cpp_int.hpp>

#include "cupel/core/int.hpp"
#include "cupel/math/curve.hpp"
#include "cupel/math/exact_sum.hpp"
#include "cupel/math/wide.hpp"

namespace cupel::exact {

using Integer = boost::multiprecision::cpp_int;
using Rational = boost::multiprecision::cpp_rational;

inline Integer integer(u128 value) { return Integer(value); }
template <int N>
Integer integer(const Wide<N>& value) {
  Integer all = 0;
  for (int i = N - 1; i >= 0; --i) all = (all << 64) | Integer(value.limb[i]);
  return all;
}
inline Rational rational(const Fraction& fraction) {
  return Rational(Integer(fraction.num), Integer(fraction.den));
}

/// A finite double, exactly.
Rational rational(double value);
/// The value of a long accumulator, exactly.
template <int kLeast, int kDigits>
Rational rational(const ExactAccumulator<kLeast, kDigits>& sum) {
  Integer all = 0;
  for (int i = kDigits - 1; i >= 0; --i) all = (all << 32) + sum.digits[i];
  return Rational(all, Integer(1) << -kLeast);
}

/// num / den rounded to the nearest double, ties to even; den > 0. Correct for quotients of normal
/// doubles. O(bits).
double to_double(const Integer& num, const Integer& den);
double to_double(const Rational& value);
/// The square root of a value of 0 or more, rounded once.
double root(const Rational& value);
inline double ratio(u128 num, u128 den) { return to_double(integer(num), integer(den)); }

}  // namespace cupel::exact
