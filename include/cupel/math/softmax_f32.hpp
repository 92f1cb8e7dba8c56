// The softmax of a row of logits in float32, several times as fast as softmax.hpp and with its own
// bits, equal on every backend: the option `softmax=f32`.
//
// Logits are rounded to float32. Each exponential is a float32 made by correctly rounded operations
// and rounded once more, to a multiple of 2^-28, before it is added, and so is its square: sums of
// integers know no order. What follows from the sums (probabilities, the log loss, the squared
// error) is computed in double.
//
// Against the real softmax of the float32 logits, with d = max - logit and k classes: an
// exponential is within 2e-7 + d * 8e-8 (relative); the denominator, which is at least 1, within
// 3e-7 (relative) and k * 2^-29; so a probability is within 1e-6 (relative) for up to 300 classes
// and d < 5, and within 1e-6 absolutely wherever k * 2^-29 is far below that.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/elementary.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel {

/// How the softmax of a row of several classes' logits is computed.
enum class SoftmaxKind : u8 { kF64, kF32 };

/// Exponentials and their squares are summed in units of 2^-28.
inline constexpr int kSoftmaxF32Bits = 28;

/// The float32 that stands for a finite logit: the nearest, and the largest one beyond that.
CUPEL_HD CUPEL_INLINE float softmax_f32_logit(double logit) {
  constexpr double kLargest = 0x1.fffffep127;
  const double below = logit > kLargest ? kLargest : logit;
  return static_cast<float>(below < -kLargest ? -kLargest : below);
}

/// exp(logit - max) * 2^14, for logit <= max; where exp() is below 1.6e-38 it is that.
CUPEL_HD CUPEL_INLINE float softmax_f32_term(float logit, float max) {
  constexpr float kInverseLn2 = 0x1.715476p+0f;
  // Adding it rounds to an integer n, and leaves n + 14 in the low bits.
  constexpr float kToInteger = 0x1.8p23f + 14.0f;
  const float difference = logit - max;
  const float z = difference > -87.0f ? difference : -87.0f;
  const float shifted = __builtin_fmaf(z, kInverseLn2, kToInteger);
  const float n = shifted - kToInteger;
  const float f = __builtin_fmaf(z, kInverseLn2, -n);
  // 2^f = 1 + f * q(f) for |f| <= 1/2, a minimax fit within 9.2e-8.
  float q = 0x1.5bba14p-10f;
  q = __builtin_fmaf(q, f, 0x1.3cea88p-7f);
  q = __builtin_fmaf(q, f, 0x1.c6b752p-5f);
  q = __builtin_fmaf(q, f, 0x1.ebf9bcp-3f);
  q = __builtin_fmaf(q, f, 0x1.62e42ap-1f);
  const float power = __builtin_fmaf(q, f, 1.0f);
  u32 bits = 0;
  u32 scale = 0;
  __builtin_memcpy(&bits, &power, sizeof bits);
  __builtin_memcpy(&scale, &shifted, sizeof scale);
  bits += scale << 23;
  float term = 0;
  __builtin_memcpy(&term, &bits, sizeof term);
  return term;
}

/// A term's exponential in units of 2^-28, at most 2^28: to the nearest, but that a float32 between
/// 2^-5 and 2^-4 may become its neighbour.
CUPEL_HD CUPEL_INLINE u32 softmax_f32_units(float term) {
  return static_cast<u32>(static_cast<i32>(__builtin_fmaf(term, 0x1p14f, 0.5f)));
}
/// The square of a term's exponential in units of 2^-28: rounded to float32 (2^-24 of itself), then
/// likewise.
CUPEL_HD CUPEL_INLINE u32 softmax_f32_square_units(float term) {
  return static_cast<u32>(static_cast<i32>(__builtin_fmaf(term, term, 0.5f)));
}
/// A term's exponential, in [0, 1].
CUPEL_HD CUPEL_INLINE double softmax_f32_exp(float term) {
  return static_cast<double>(term) * 0x1p-14;
}

/// Sums over the logits of a row, or over some of them; at most UnitSum::kMaxTerms.
struct SoftmaxF32Sums {
  u64 units = 0;    ///< of exponentials
  u64 squares = 0;  ///< of their squares

  CUPEL_HD CUPEL_INLINE void add(float term) {
    units += softmax_f32_units(term);
    squares += softmax_f32_square_units(term);
  }
  CUPEL_HD CUPEL_INLINE void merge(const SoftmaxF32Sums& other) {
    units += other.units;
    squares += other.squares;
  }
  CUPEL_HD CUPEL_INLINE double denominator() const { return static_cast<double>(units) * 0x1p-28; }
};

/// A row's squared error in units of 2^-50, from the sums of all its terms and its label's term:
/// (1 - p)^2 and the squares of the other probabilities, the label's taken out of the sums as an
/// integer.
CUPEL_HD CUPEL_INLINE u64 softmax_f32_brier(const SoftmaxF32Sums& sums, float label_term) {
  const double all = static_cast<double>(sums.units);
  const double miss = static_cast<double>(sums.units - softmax_f32_units(label_term)) / all;
  const double others = static_cast<double>(sums.squares - softmax_f32_square_units(label_term));
  return round_q(fused(miss, miss, others * 0x1p28 / (all * all)), 50);
}

}  // namespace cupel
