// The softmax of one row of logits in double, independent of the order in which the row is walked:
// the largest logit is order-free, and so is the sum of exp(x_j - max), because each term is
// rounded to a fixed point before it is added and the additions are of integers. A probability is
// within 1e-13 (relative) of the real softmax of the logits as given, and equal on every backend.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/elementary.hpp"

namespace cupel {

/// A sum of doubles in [0, 1] that does not depend on the order or grouping of its terms: lanes,
/// threads and blocks may each keep one and merge. Each term is rounded to a multiple of 2^-68
/// (exact for every double >= 2^-16), as a coarse integer in units of 2^-28 and a signed fine rest
/// in units of 2^-68. At most 2^23 terms.
struct UnitSum {
  // Sums, modulo 2^64, of the bits of 2^24 + coarse and 1.5*2^-16 + rest: both have the term's
  // integer in their low bits, and the constants above it leave once, in value().
  u64 coarse_bits = 0;
  u64 fine_bits = 0;
  i64 terms = 0;

  static constexpr i64 kMaxTerms = i64{1} << 23;

  /// Adds a term in [0, 1].
  CUPEL_HD CUPEL_INLINE void add(double term) {
    const double coarse = term + 0x1p24;
    const double rest = term - (coarse - 0x1p24);
    coarse_bits += bits_from_double(coarse);
    fine_bits += bits_from_double(rest + 0x1.8p-16);
    ++terms;
  }

  /// Adds all terms of another sum.
  CUPEL_HD CUPEL_INLINE void merge(const UnitSum& other) {
    coarse_bits += other.coarse_bits;
    fine_bits += other.fine_bits;
    terms += other.terms;
  }

  /// The sum as a double: within terms * 2^-69 (the rounding of the terms) and then 2^-52
  /// (relative) of the sum of the reals.
  CUPEL_HD CUPEL_INLINE double value() const {
    const u64 count = static_cast<u64>(terms);
    const i64 coarse = static_cast<i64>(coarse_bits - count * bits_from_double(0x1p24));
    const i64 fine = static_cast<i64>(fine_bits - count * bits_from_double(0x1.8p-16));
    // |coarse| <= 2^51 is exact as a double, |fine| < 2^62 within 2^9 units of 2^-68.
    return fused(static_cast<double>(coarse), 0x1p40, static_cast<double>(fine)) * 0x1p-68;
  }
};

/// What a row's probabilities are made from: its largest logit (never -0), and the sum over the row
/// of exp(logit - max), which is at least 1.
struct RowSoftmax {
  double max;
  double denominator;
};

/// exp(logit - max), the term a logit adds to the denominator, for logit <= max; where exp_det
/// would be below 1e-304 it is some value below that, which a UnitSum takes as 0.
CUPEL_HD CUPEL_INLINE double softmax_term(double logit, double max) {
  const double z = logit - max;
  return exp_bounded(z < -700.0 ? -700.0 : z);
}

/// The largest of row(0) ... row(k - 1), all finite, k >= 1; +0 where it is a zero. `row` maps an
/// i64 to the type that is compared (float and double give the same maximum).
template <class Row>
CUPEL_HD CUPEL_INLINE auto row_max(const Row& row, i64 k) -> decltype(row(i64{0})) {
  using Value = decltype(row(i64{0}));
  CUPEL_ASSERT(k >= 1);
  // Independent lanes, because a compiler may not reorder one chain of floating comparisons.
  constexpr i64 kLanes = 32;
  Value max = row(0);
  i64 j = 1;
  if (k >= kLanes) {
    Value lanes[kLanes];
    for (i64 l = 0; l < kLanes; ++l) lanes[l] = row(l);
    for (j = kLanes; j + kLanes <= k; j += kLanes) {
      for (i64 l = 0; l < kLanes; ++l) {
        const Value value = row(j + l);
        lanes[l] = value > lanes[l] ? value : lanes[l];
      }
    }
    for (i64 l = 0; l < kLanes; ++l) max = lanes[l] > max ? lanes[l] : max;
  }
  for (; j < k; ++j) {
    const Value value = row(j);
    max = value > max ? value : max;
  }
  return max + Value(0);
}

/// The sum over the row of exp(row(j) - max), given its maximum; 1 <= k <= UnitSum::kMaxTerms.
template <class Row>
CUPEL_HD CUPEL_INLINE RowSoftmax softmax_row_given_max(const Row& row, i64 k, double max) {
  CUPEL_ASSERT(k >= 1 && k <= UnitSum::kMaxTerms);
  UnitSum sum;
  for (i64 j = 0; j < k; ++j) sum.add(softmax_term(static_cast<double>(row(j)), max));
  return {max, sum.value()};
}

/// The softmax of the logits row(0) ... row(k - 1), where `row` maps an i64 to a finite double (or
/// a type that widens to it exactly) and 1 <= k <= UnitSum::kMaxTerms. Reads the row twice. Equal
/// bits for every order of the logits. The denominator's relative error is below 1e-15 * (1 + |max
/// - x| over the logits x that matter) and k * 2^-69, so below 1e-13 wherever 2^-69 * k is.
template <class Row>
CUPEL_HD CUPEL_INLINE RowSoftmax softmax_row(const Row& row, i64 k) {
  return softmax_row_given_max(row, k, static_cast<double>(row_max(row, k)));
}

/// softmax_row of k contiguous float32 logits, with the same bits.
CUPEL_HD CUPEL_INLINE RowSoftmax softmax_row_f32(const float* x, i64 k) {
  return softmax_row([x](i64 j) { return x[j]; }, k);
}

/// softmax_row of k contiguous float64 logits, with the same bits.
CUPEL_HD CUPEL_INLINE RowSoftmax softmax_row_f64(const double* x, i64 k) {
  return softmax_row([x](i64 j) { return x[j]; }, k);
}

/// The probability of a logit of the row, in [0, 1]: relative error below 1e-13 (below 2e-14 when
/// logit - max is exact, as it mostly is for f32) as long as it is a normal double, then gradual
/// underflow to 0.
CUPEL_HD CUPEL_INLINE double softmax_p(double logit, RowSoftmax row) {
  return exp_det(logit - row.max) / row.denominator;
}

/// -log of the probability of a logit of the row, from the logits (nothing is clipped, nothing
/// underflows): finite unless max - logit overflows, never negative, never -0. The absolute error
/// is below 4e-16 * (1 + loss) plus the denominator's relative error.
CUPEL_HD CUPEL_INLINE double log_softmax_loss(double logit, RowSoftmax row) {
  return (row.max - logit) + log_det(row.denominator);
}

}  // namespace cupel
