// exp, log, softplus and the logistic function in double, with the same bits on every machine: only
// correctly rounded operations (+, -, *, /, fma) in one fixed order, integer arithmetic on exponent
// fields, no table and no branch, so that a loop over rows compiles to vector code. No product here
// feeds a sum except through an explicit fma, so a compiler that contracts a*b+c has nothing to
// contract. The polynomials are minimax fits on the reduced intervals, with their errors beside
// them.
//
// Rounding is to nearest and subnormals are kept. Where a NaN comes out, its payload is
// unspecified.
#pragma once

#include "cupel/core/int.hpp"

namespace cupel {

/// The double with these bits.
CUPEL_HD CUPEL_INLINE double double_from_bits(u64 bits) {
  double value = 0;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

/// The bits of a double.
CUPEL_HD CUPEL_INLINE u64 bits_from_double(double value) {
  u64 bits = 0;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// `when_true` or `when_false` by masks: both are computed, which keeps a loop free of branches
/// where a compiler would move the work of one side under a condition.
CUPEL_HD CUPEL_INLINE u64 select_bits(bool condition, u64 when_true, u64 when_false) {
  return when_false ^ ((when_true ^ when_false) & (u64{0} - static_cast<u64>(condition)));
}

/// a*b + c, rounded once.
CUPEL_HD CUPEL_INLINE double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }

namespace detail {

/// exp(x) = (1 + tail) * 2^n, where the low bits of `shifted` hold n: shifted = bits(1.5*2^52 + n).
struct ExpParts {
  double tail;
  u64 shifted;
};

CUPEL_HD CUPEL_INLINE ExpParts exp_parts(double x) {
  constexpr double kInverseLn2 = 0x1.71547652b82fep+0;
  // 42 bits after the point: n * kLn2High is exact for |n| < 2^11, and so is its difference from x.
  constexpr double kLn2High = 0x1.62e42fefa3800p-1;
  constexpr double kLn2Low = 0x1.ef35793c76730p-45;
  constexpr double kToInteger = 0x1.8p52;
  const double shifted = fused(x, kInverseLn2, kToInteger);
  const double n = shifted - kToInteger;
  const double r = fused(-n, kLn2Low, fused(-n, kLn2High, x));
  // exp(r) - 1 - r - r^2/2 = r^3 * q(r) for |r| <= ln(2)/2, within 5.4e-18 of exp(r).
  // Even and odd powers apart: as many operations as one chain, half the wait.
  const double r2 = r * r;
  double odd = 0x1.ad20275be4b30p-26;
  double even = 0x1.289f8b63411d4p-22;
  odd = fused(odd, r2, 0x1.71df553686d31p-19);
  even = fused(even, r2, 0x1.a019ab2cae0e3p-16);
  odd = fused(odd, r2, 0x1.a01a011c2889cp-13);
  even = fused(even, r2, 0x1.6c16c17cc35b1p-10);
  odd = fused(odd, r2, 0x1.1111111128866p-7);
  even = fused(even, r2, 0x1.5555555553206p-5);
  odd = fused(odd, r2, 0x1.5555555555501p-3);
  even = fused(even, r2, 0.5);
  return {fused(r2, fused(odd, r, even), r), bits_from_double(shifted)};
}

/// 2^n for n in [-1022, 1023], given any integer whose low 11 bits are n + 1023.
CUPEL_HD CUPEL_INLINE double power_of_two(u64 biased) { return double_from_bits(biased << 52); }

/// What log_from_parts() needs: x = (1 + f) * 2^n, and s = f / (2 + f).
struct LogParts {
  double f;
  double s;
  double n;
};

/// The first half of log_normal(): a loop over rows that does one half after the other keeps the
/// chain of operations short.
CUPEL_HD CUPEL_INLINE LogParts log_parts(double x, double log2_scale) {
  constexpr u64 kOne = 0x3FF0000000000000u;
  constexpr u64 kRootHalf = 0x3FE6A09E667F3BCDu;
  constexpr u64 kMantissa = 0x000FFFFFFFFFFFFFu;
  // x = m * 2^n with m in [sqrt(1/2), sqrt(2)): the exponent field counts from sqrt(1/2).
  const u64 from_root_half = bits_from_double(x) + (kOne - kRootHalf);
  const double m = double_from_bits((from_root_half & kMantissa) + kRootHalf);
  const double biased = double_from_bits((from_root_half >> 52) | 0x4330000000000000u);
  const double n = biased - (0x1p52 + 1023.0) - log2_scale;
  const double f = m - 1.0;
  return {f, f / (2.0 + f), n};
}

CUPEL_HD CUPEL_INLINE double log_from_parts(LogParts parts) {
  constexpr double kLn2High = 0x1.62e42fefa3800p-1;
  constexpr double kLn2Low = 0x1.ef35793c76730p-45;
  // log(1 + f) = 2 atanh(s) = f - f^2/2 + s * (f^2/2 + z * r(z)), z = s^2, where z * r(z) = 2
  // atanh(s) / s - 2 within 1.3e-18 of 2.
  const double f = parts.f;
  const double z = parts.s * parts.s;
  double r = 0x1.2f0d8d506fbbep-3;
  r = fused(r, z, 0x1.39a0f534e20f3p-3);
  r = fused(r, z, 0x1.74664629b0669p-3);
  r = fused(r, z, 0x1.c71c51e80b3f2p-3);
  r = fused(r, z, 0x1.24924942177ecp-2);
  r = fused(r, z, 0x1.999999997fb35p-2);
  r = fused(r, z, 0x1.5555555555593p-1);
  const double half_f = 0.5 * f;
  const double bracket = fused(z, r, half_f * f);
  const double low = fused(-half_f, f, fused(parts.s, bracket, parts.n * kLn2Low));
  return fused(parts.n, kLn2High, f + low);
}

/// log(x) for a normal x that `scale` (a power of two) was multiplied into; log2_scale is its
/// logarithm. Bits for any other x are meaningless.
CUPEL_HD CUPEL_INLINE double log_normal(double x, double log2_scale) {
  return log_from_parts(log_parts(x, log2_scale));
}

}  // namespace detail

/// exp(x) for -708 <= x <= 709, with the bits of exp_det; meaningless elsewhere. For loops that
/// have bounded their arguments already.
CUPEL_HD CUPEL_INLINE double exp_bounded(double x) {
  const detail::ExpParts parts = detail::exp_parts(x);
  const double power = detail::power_of_two(parts.shifted + 1023);
  return fused(parts.tail, power, power);
}

/// exp(x): relative error below 1.7e-16 (1.1 ulp) where the result is normal, gradual underflow
/// (1.1 units of 2^-1074), +0 below -745.14, +inf above 709.79, also for the infinities; exp(0) is
/// 1; NaN for NaN.
CUPEL_HD CUPEL_INLINE double exp_det(double x) {
  // Past these bounds the result is 0 or infinite all the same.
  const double above = x < -746.0 ? -746.0 : x;
  const detail::ExpParts parts = detail::exp_parts(above > 710.0 ? 710.0 : above);
  // 2^n in two factors, each of which is a normal double, so that only the last product rounds.
  constexpr u64 kToInteger = 0x4338000000000000u;
  const u64 half_biased = (parts.shifted - kToInteger + 2046) >> 1;
  const u64 rest_biased = parts.shifted - kToInteger + 2046 - half_biased;
  const double half = detail::power_of_two(half_biased);
  return fused(parts.tail, half, half) * detail::power_of_two(rest_biased);
}

/// log(x), natural: error below 0.8 ulp for every positive x, subnormals included; -inf for either
/// zero, +inf for +inf, NaN for a negative x or NaN; log(1) is +0.
CUPEL_HD CUPEL_INLINE double log_det(double x) {
  constexpr u64 kInfinity = 0x7FF0000000000000u;
  constexpr u64 kNan = 0x7FF8000000000000u;
  const u64 bits = bits_from_double(x);
  const bool subnormal = bits < 0x0010000000000000u;
  const double scale = detail::power_of_two(1023 + select_bits(subnormal, 54, 0));
  const double log2_scale = double_from_bits(select_bits(subnormal, bits_from_double(54.0), 0));
  const u64 regular = bits_from_double(detail::log_normal(x * scale, log2_scale));
  const u64 at_end = select_bits(bits == kInfinity, kInfinity, kNan);
  const u64 special = select_bits((bits << 1) == 0, 0x8000000000000000u | kInfinity, at_end);
  return double_from_bits(select_bits(bits - 1 < kInfinity - 1, regular, special));
}

/// log(1 + exp(x)), the softplus, without cancellation or overflow at either end: relative error
/// below 4e-16 (2 ulp) where the result is normal, that of exp_det where it is subnormal; exp(x)
/// for x below about -37, x for x above about 37; +inf for +inf, +0 for -inf, NaN for NaN.
CUPEL_HD CUPEL_INLINE double log1p_exp_det(double x) {
  const double magnitude = double_from_bits(bits_from_double(x) & 0x7FFFFFFFFFFFFFFFu);
  const double u = exp_det(-magnitude);
  // log(1 + u) = log(w) + log(1 + lost / w), where lost is what rounding 1 + u to w drops, exactly.
  const double w = 1.0 + u;
  const double lost = u - (w - 1.0);
  const double log1p_u = detail::log_normal(w, 0.0) + lost / w;
  return (x > 0.0 ? x : 0.0) + log1p_u;
}

/// 1 / (1 + exp(-x)), the logistic function, in [0, 1]: relative error below 4e-16 (2.5 ulp) where
/// the result is normal; sigmoid(0) is 0.5; 0 and 1 at -inf and +inf, NaN for NaN.
CUPEL_HD CUPEL_INLINE double sigmoid_det(double x) {
  const double magnitude = double_from_bits(bits_from_double(x) & 0x7FFFFFFFFFFFFFFFu);
  const double u = exp_det(-magnitude);
  return (x < 0.0 ? u : 1.0) / (1.0 + u);
}

/// round-half-even(x * 2^bits), exactly, for 0 <= bits <= 1023 and 0 <= x * 2^bits <= 2^52;
/// meaningless elsewhere. A probability needs bits <= 52.
CUPEL_HD CUPEL_INLINE u64 round_q(double x, int bits) {
  // 2^52 + y has a unit of 1, so the sum rounds y to an integer, which its low bits then hold.
  const double scaled = x * detail::power_of_two(static_cast<u64>(bits) + 1023);
  return bits_from_double(scaled + 0x1p52) - bits_from_double(0x1p52);
}

}  // namespace cupel
