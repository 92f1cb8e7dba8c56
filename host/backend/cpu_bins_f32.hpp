// Bins of a binary problem's probabilities straight from float32 (or 16-bit floats, which widen
// to it): one column, no weights, one segment. The sums have the bits of the general path
// (cpu_rows.cpp), which this one spares its doubles, divisions and wide additions.
//
// - p * B is exact in double for a float32 p and B <= 2^16, and no float32 lies between k/B and
//   its double: so the slot is a rounded product (float_bin_slot()).
// - One addition a row: a slot of a block is one u64 with rows that were right, rows, and the sum
//   of floor(p * 2^32). What floor() drops of the 2^50 units is not 0 for p < 2^-8 alone. Up to
//   256 bins all of these lie in the first, whose rest is summed apart.
#pragma once

#include <array>

#include "backend/cpu_level.hpp"
#include "cupel/core/column.hpp"
#include "cupel/core/int.hpp"
#include "cupel/math/bins.hpp"

namespace cupel::cpu {

/// Rows of a block: fields of 11, 11 and 42 bits hold their counts and sums.
inline constexpr i64 kFloatBlockRows = 1024;
inline constexpr i64 kMostFloatBins = 256;

/// bin_slot() of a float32 in [0, 1], as a rounded product; `bins` up to kMostBins.
CUPEL_INLINE i32 float_bin_slot(float p, i32 bins, bool closed_left) {
  const double scaled = static_cast<double>(p) * static_cast<double>(bins);
  const i32 whole = static_cast<i32>(scaled);
  if (closed_left) return p == 0.0f ? 0 : whole + 1;
  const i32 up = static_cast<double>(whole) < scaled ? 1 : 0;
  return p == 1.0f ? bins + 1 : whole + up;
}

/// The fields of a slot's sum in a block. The confidence 1 does not fit the last one, and leaves
/// it at the top.
inline constexpr int kFloatRowsAt = 11;
inline constexpr int kFloatSumAt = 22;
constexpr u64 float_right(u64 packed) { return packed & 0x7FF; }
constexpr u64 float_rows(u64 packed) { return packed >> kFloatRowsAt & 0x7FF; }
/// In units of 2^-kConfidenceBits.
constexpr u64 float_confidence(u64 packed) { return packed >> kFloatSumAt << 18; }

/// A block's rows, and sums over them.
struct FloatBlock {
  alignas(64) u64 packed[kFloatBlockRows];  ///< what a row adds to its slot
  alignas(64) u32 slot[kFloatBlockRows];
  /// By turns, because an addition waits for the one before it in the same slot; not a power of
  /// two apart.
  alignas(64) std::array<u64, kMostFloatBins + 2> even;
  std::array<u64, kMostFloatBins + 2 + 9> odd;
  u64 positives = 0;
  u64 brier = 0;
  u64 rest = 0;  ///< of confidences below 2^-8, in units of 2^-kConfidenceBits
};

struct FloatLosses {
  u64 sum = 0;
  u64 clipped = 0;
};
struct FloatDecisions {
  u64 positive = 0;
  u64 true_positive = 0;
};

struct FloatBinKernels {
  /// Rows of 16-bit floats as float32.
  void (*widen)(DType dtype, const std::byte* scores, i64 rows, float* out);
  /// Fills `packed` and the sums; false, and nothing of use, where a row is outside [0, 1].
  bool (*terms)(const float* p, const u8* labels, i64 rows, FloatBlock& block);
  /// Adds the rows to the slots of a query of at most kMostFloatBins, from zero. With terms().
  void (*count)(const float* p, i64 rows, const BinQuery& query, FloatBlock& block);
  /// The short_loss_term()s of rows inside [0, 1], clipped by epsilon, and how many were.
  FloatLosses (*losses)(const float* p, const u8* labels, i64 rows, double epsilon);
  /// Rows above a threshold.
  FloatDecisions (*decisions)(const float* p, const u8* labels, i64 rows, double threshold);
};

const FloatBinKernels& float_bin_kernels(CpuLevel level);

}  // namespace cupel::cpu
