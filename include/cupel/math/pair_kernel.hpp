// What a pair of rows adds to the kernel calibration error of several classes, and how far apart
// their probabilities are.
//
// With P_i the probabilities of row i and e the unit vector of its label, h_ij = exp(-|P_i - P_j| /
// nu) * <e_i - P_i, e_j - P_j> (Widmann et al. 2019, Laplacian kernel, Euclidean distance). The
// squared distance is one chain of fused operations, classes ascending, so that a pair has the same
// bits wherever it is computed and whichever row comes first; two equal rows are at distance 0.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/elementary.hpp"

namespace cupel {

/// Terms of pairs are summed in units of 2^-48.
inline constexpr int kPairBits = 48;

/// One class more in a squared distance.
CUPEL_HD CUPEL_INLINE double add_squared_difference(double sum, double a, double b) {
  const double difference = a - b;
  return fused(difference, difference, sum);
}

/// One class more in the sum of a row's squared probabilities.
CUPEL_HD CUPEL_INLINE double add_square(double sum, double p) { return fused(p, p, sum); }

/// <e_i - P_i, e_j - P_j>, given the sums of squares of both rows, their squared distance, and the
/// probability that each gives to the other's label. Between -2 and 2 but for rounding.
CUPEL_HD CUPEL_INLINE double residual_product(double squares_i, double squares_j,
                                              double squared_distance, double p_i_of_label_j,
                                              double p_j_of_label_i, bool same_label) {
  const double product = ((squares_i + squares_j) - squared_distance) * 0.5;
  return (product - (p_i_of_label_j + p_j_of_label_i)) + (same_label ? 1.0 : 0.0);
}

/// h of a pair; `minus_inverse` is -1 / nu.
CUPEL_HD CUPEL_INLINE double pair_value(double residuals, double distance, double minus_inverse) {
  const double exponent = distance * minus_inverse;
  return residuals * exp_bounded(exponent < -700.0 ? -700.0 : exponent);
}

/// round-half-even(h * 2^48), |h| at most 4.
CUPEL_HD CUPEL_INLINE i64 pair_term(double h) {
  // 1.5 * 2^52 + y has a unit of 1 for |y| <= 2^51.
  return static_cast<i64>(bits_from_double(fused(h, 0x1p48, 0x1.8p52)) -
                          bits_from_double(0x1.8p52));
}

/// Distances are counted by one half of their key at a time.
inline constexpr std::size_t kDistanceBuckets = std::size_t{1} << 16;

/// The order-preserving bits of a distance rounded to float32, by which the median is looked for.
CUPEL_HD CUPEL_INLINE u32 distance_key(double distance) {
  const float rounded = static_cast<float>(distance);
  u32 bits = 0;
  __builtin_memcpy(&bits, &rounded, sizeof bits);
  return bits;
}

}  // namespace cupel
