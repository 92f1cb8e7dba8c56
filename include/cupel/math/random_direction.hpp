// Unit vectors in uniformly random directions, which belong to a number, not to a moment: the same
// (seed, number) gives the same vector on every machine and in any thread.
//
// Coordinates are pairs of normal numbers by Marsaglia's polar method (Marsaglia and Bray 1964)
// from the counter generator, divided by the length of their vector: correctly rounded operations
// and log_det in one fixed order.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/counter_random.hpp"
#include "cupel/math/elementary.hpp"

namespace cupel {

/// Two independent normal numbers.
struct NormalPair {
  double first = 0;
  double second = 0;
};

/// The pair of a key: the first point of its sequence that lies inside the unit circle gives it.
CUPEL_HD CUPEL_INLINE NormalPair normal_pair(u64 key) {
  for (u64 attempt = 0;; ++attempt) {
    const u64 bits = counter_random(key, attempt);
    // Odd multiples of 2^-32 in (-1, 1): never 0.
    const double x =
        static_cast<double>(static_cast<i64>((bits >> 32) << 1 | 1) - (i64{1} << 32)) * 0x1p-32;
    const double y =
        static_cast<double>(static_cast<i64>((bits << 32 >> 31) | 1) - (i64{1} << 32)) * 0x1p-32;
    const double s = fused(x, x, y * y);
    if (s >= 1) continue;
    const double scale = __builtin_sqrt(-2.0 * log_det(s) / s);
    return {x * scale, y * scale};
  }
}

/// Writes unit vector `number` of `seed` to out[0] ... out[width - 1]; width >= 1. Its length is 1
/// within a few units of 2^-53 * width. Two vectors of one seed differ; so do those of two widths.
CUPEL_HD CUPEL_INLINE void random_direction(u64 seed, u64 number, i64 width, double* out) {
  const u64 key = counter_random(seed ^ 0x736C616264697265u, number);
  double squares = 0;
  for (i64 k = 0; k < width; k += 2) {
    const NormalPair pair = normal_pair(counter_random(key, static_cast<u64>(k / 2)));
    out[k] = pair.first;
    squares = fused(pair.first, pair.first, squares);
    if (k + 1 == width) break;
    out[k + 1] = pair.second;
    squares = fused(pair.second, pair.second, squares);
  }
  const double length = __builtin_sqrt(squares);
  for (i64 k = 0; k < width; ++k) out[k] = out[k] / length;
}

}  // namespace cupel
