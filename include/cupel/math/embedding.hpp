// The arithmetic of pairs of embeddings, once for every backend: chains of float32 fused operations
// with ascending k, so that a pair has the same bits wherever it is computed, whichever row comes
// first and however the work is cut.
//
// A pair is worked on as its *gap*, a float32 that is smaller the closer two rows are: the squared
// Euclidean distance, or the negated dot product. People and rankings see its *score*, larger for
// closer rows: the negated distance, or the similarity. Square roots are taken only where a score
// is wanted; thresholds are turned into gaps once (gap_cut).
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/half.hpp"
#include "cupel/math/score_key.hpp"

namespace cupel {

/// What closeness of two embeddings is: their Euclidean distance, or the cosine of their angle (of
/// rows that are not normalised, their dot product).
enum class PairDomain : u8 { kL2, kCosine };

/// One element more of a chain: round(a * b + sum).
CUPEL_HD CUPEL_INLINE float add_product(float sum, float a, float b) {
  return __builtin_fmaf(a, b, sum);
}

/// The dot product of two rows of `width` floats: one chain from +0, k ascending.
CUPEL_HD inline float dot_chain(const float* a, const float* b, i64 width) {
  float sum = 0;
  for (i64 k = 0; k < width; ++k) sum = add_product(sum, a[k], b[k]);
  return sum;
}

/// 2^exponent for exponents of normal floats.
CUPEL_HD CUPEL_INLINE float float_power_of_two(int exponent) {
  return float_from_bits(static_cast<u32>(exponent + 127) << 23);
}

/// What a row is multiplied by before it is normalised: 1, unless its largest magnitude is so large
/// or so small that squares could leave the range of floats. A power of two: rows of any scale are
/// normalised alike. Exactly applied except to elements too small to matter.
CUPEL_HD CUPEL_INLINE float normalising_scale(float largest_magnitude) {
  const int exponent = static_cast<int>(bits_from_float(largest_magnitude) >> 23) - 127;
  if (exponent > 40) return float_power_of_two(-exponent + 1);
  if (exponent >= -40) return 1.0F;
  return float_power_of_two(exponent < -126 ? 126 : -exponent);
}

/// Divides a row by its Euclidean length in float32: the squared length is a chain, its square root
/// and each quotient are correctly rounded. False, with `to` zero, for a row of zeros. Elements are
/// finite. `to` may be `from`.
CUPEL_HD inline bool normalise_row(const float* from, i64 width, float* to) {
  float largest = 0;
  for (i64 k = 0; k < width; ++k) {
    const float magnitude = __builtin_fabsf(from[k]);
    largest = magnitude > largest ? magnitude : largest;
  }
  if (largest == 0) {
    for (i64 k = 0; k < width; ++k) to[k] = 0;
    return false;
  }
  float scale = normalising_scale(largest);
  // A row of denormal numbers needs two steps to come into range.
  const float second = normalising_scale(largest * scale);
  float sum = 0;
  for (i64 k = 0; k < width; ++k) {
    to[k] = (from[k] * scale) * second;
    sum = add_product(sum, to[k], to[k]);
  }
  const float length = __builtin_sqrtf(sum);
  for (i64 k = 0; k < width; ++k) to[k] = to[k] / length;
  return true;
}

/// The gap of a pair from its dot product and both squared lengths. kL2: |a|^2 + |b|^2 - 2ab (one
/// rounding for the sum, one for the rest), not below 0, so that equal rows are at exactly 0.
/// kCosine: -ab, zero as +0.
CUPEL_HD CUPEL_INLINE float pair_gap(PairDomain domain, float dot, float square_a, float square_b) {
  if (domain == PairDomain::kCosine) return 0.0F - dot;
  const float gap = __builtin_fmaf(-2.0F, dot, square_a + square_b);
  return gap > 0.0F ? gap : 0.0F;
}

/// The score of a gap: -distance (the distance correctly rounded), or the similarity. No -0.
CUPEL_HD CUPEL_INLINE float gap_score(PairDomain domain, float gap) {
  return 0.0F - (domain == PairDomain::kL2 ? __builtin_sqrtf(gap) : gap);
}

/// The key of a pair's score (ScoreKind::kF32): larger for closer pairs; equal where scores are.
CUPEL_HD CUPEL_INLINE u32 gap_key(PairDomain domain, float gap) {
  return key_of_f32(bits_from_float(gap_score(domain, gap)));
}

/// The distance or the similarity that a key of a pair stands for.
CUPEL_HD CUPEL_INLINE float key_value(PairDomain domain, u32 key) {
  const float score = float_from_bits(bits_of_f32(key));
  return domain == PairDomain::kL2 ? 0.0F - score : score;
}

}  // namespace cupel
