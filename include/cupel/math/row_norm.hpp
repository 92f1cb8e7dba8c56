// Whether the values of a row sum to 1, and the row divided by its sum. Both sums are of integers,
// each value rounded once, so that they do not depend on the order of the classes or on how the
// additions are grouped.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/elementary.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel {

/// Sums of probabilities are integers in units of 2^-44: those of 2^16 classes are within 2^-29.
inline constexpr int kRowSumBits = 44;

/// round-half-even(p * 2^44) of a p in [0, 1]. Of everything else but p in (-2^-45, 0) and (1, 2)
/// the result is 2^45 or more, NaN and infinities included, so that the `or` of the terms of a row
/// tells whether its sum means anything.
CUPEL_HD CUPEL_INLINE u64 row_sum_term(double p) {
  // A double in [256, 512) has a unit of 2^-44.
  return bits_from_double(p + 0x1p8) - bits_from_double(0x1p8);
}
CUPEL_HD CUPEL_INLINE bool has_row_sum(u64 ored_terms) { return ored_terms >> 45 == 0; }

/// Whether a sum is within `tolerance` (both in units of 2^-44) of 1.
CUPEL_HD CUPEL_INLINE bool sums_to_one(u64 sum, u64 tolerance) {
  constexpr u64 kOne = u64{1} << kRowSumBits;
  return sum + tolerance >= kOne && sum <= kOne + tolerance;
}

/// What the values of a row are divided by: the sum, after a power of two that brings the largest
/// into [1/2, 1). Two factors, because one of them alone may be out of the range of double.
struct RowNorm {
  double lift = 1;
  double scale = 1;
  double sum = 0;  ///< 0 where no value is above 0
};

/// The norm of row(0) ... row(k - 1), finite doubles of 0 or more; 1 <= k <= UnitSum::kMaxTerms.
/// Reads the row twice.
template <class Row>
CUPEL_HD CUPEL_INLINE RowNorm row_norm(const Row& row, i64 k) {
  RowNorm norm;
  double max = row_max(row, k);
  if (!(max > 0)) return norm;
  if (max > 0x1p900) norm.lift = 0x1p-200;
  if (max < 0x1p-900) norm.lift = 0x1p200;
  max *= norm.lift;
  // max is in [2^e, 2^(e + 1)) and the scale is 2^-(e + 1); biased exponents add up to 2045.
  const u64 exponent = bits_from_double(max) >> 52;
  norm.scale = double_from_bits((u64{2045} - exponent) << 52);
  UnitSum sum;
  for (i64 j = 0; j < k; ++j) sum.add(row(j) * norm.lift * norm.scale);
  norm.sum = sum.value();
  return norm;
}

/// A value of the row divided by the sum, in [0, 1]: within 2^-51 and k * 2^-68 (relative) of the
/// quotient of the reals, for values that are not below 2^-900 of the largest.
CUPEL_HD CUPEL_INLINE double normalized(double value, const RowNorm& norm) {
  return value * norm.lift * norm.scale / norm.sum;
}

}  // namespace cupel
