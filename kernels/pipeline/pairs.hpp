// All pairs of rows of a matrix of probabilities: the sum of pair_term() over them, and how many
// have each half of a distance's key. A block takes tiles of pairs, whose rows pass through shared
// memory some classes at a time; no pair is ever stored.
#pragma once

#include <cmath>

#include "atomic.hpp"
#include "block.hpp"
#include "cupel/math/pair_kernel.hpp"
#include "pipeline/rows.hpp"
#include "pipeline/table.hpp"

namespace cupel::device {

/// squares[row] = the sum of a row's squared probabilities.
struct SquareRows {
  const double* p;
  i64 classes;
  double* squares;
  CUPEL_HD void operator()(i64 row) const {
    double sum = 0;
    for (i64 k = 0; k < classes; ++k) sum = add_square(sum, p[row * classes + k]);
    squares[row] = sum;
  }
};

/// Pairs (i, j), i in [first, last), i < j < rows. With `squares`, their terms are summed into
/// limbs, each term raised by kRaise so that it is not negative; else their distances are counted.
struct Pairs {
  static constexpr int kThreads = 256;
  static constexpr int kTile = 32;           ///< rows i and rows j of a tile
  static constexpr int kChunk = 32;          ///< classes in shared memory at a time
  static constexpr int kPitch = kChunk + 1;  ///< so that threads of a warp meet different banks
  static constexpr int kOwn = kTile * kTile / kThreads;
  static constexpr u64 kRaise = u64{1} << 51;
  static constexpr int kSumLimbs = 4;

  const double* p = nullptr;
  const i32* labels = nullptr;
  const double* squares = nullptr;  ///< null: distances are counted
  i64 rows = 0;
  i64 classes = 0;
  i64 first = 0;
  i64 last = 0;
  double minus_inverse = 0;  ///< -1 / nu
  bool within = false;       ///< counts lower halves of the keys whose upper half is `high`
  u32 high = 0;
  u64* out = nullptr;  ///< kSumLimbs limbs, or kDistanceBuckets counts

  CUPEL_HD i64 tiles_i() const { return (last - first + kTile - 1) / kTile; }
  CUPEL_HD i64 tiles_j() const { return (rows - first + kTile - 1) / kTile; }
  CUPEL_HD i64 tiles() const { return tiles_i() * tiles_j(); }

  CUPEL_HD i64 shared_bytes() const {
    return 2 * kTile * kPitch * static_cast<i64>(sizeof(double));
  }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    double* of_i = reinterpret_cast<double*>(block.shared());
    double* of_j = of_i + kTile * kPitch;
    struct Own {
      double squared[kOwn];
    };
    typename Block::template PerThread<Own> own;
    typename Block::template PerThread<u128> sum;
    block.each([&](int t) { sum[t] = 0; });
    for (i64 tile = block.index(); tile < tiles(); tile += block.count()) {
      // Both counted from `first`, so that tiles below the diagonal hold no pair.
      const i64 tile_i = tile / tiles_j();
      const i64 tile_j = tile - tile_i * tiles_j();
      if (tile_j < tile_i) continue;
      const i64 begin_i = first + tile_i * kTile;
      const i64 begin_j = first + tile_j * kTile;
      block.each([&](int t) { own[t] = Own{}; });
      for (i64 chunk = 0; chunk < classes; chunk += kChunk) {
        block.each([&](int t) {
          for (int at = t; at < kTile * kChunk; at += kThreads) {
            const int row = at / kChunk;
            const int k = at % kChunk;
            of_i[row * kPitch + k] = probability(begin_i + row, chunk + k);
            of_j[row * kPitch + k] = probability(begin_j + row, chunk + k);
          }
        });
        const int count = static_cast<int>(classes - chunk < kChunk ? classes - chunk : kChunk);
        block.each([&](int t) {
          const double* j = of_j + t % kTile * kPitch;
          for (int r = 0; r < kOwn; ++r) {
            const double* i = of_i + (t / kTile + r * (kThreads / kTile)) * kPitch;
            double squared = own[t].squared[r];
            for (int k = 0; k < count; ++k) squared = add_squared_difference(squared, i[k], j[k]);
            own[t].squared[r] = squared;
          }
        });
      }
      block.each([&](int t) {
        const i64 j = begin_j + t % kTile;
        for (int r = 0; r < kOwn; ++r) {
          const i64 i = begin_i + t / kTile + r * (kThreads / kTile);
          if (i >= last || j >= rows || j <= i) continue;
          take_pair(i, j, own[t].squared[r], sum[t]);
        }
      });
    }
    if (squares == nullptr) return;
    block.each([&](int t) {
      if (sum[t] != 0) add_limbs(out, sum[t], kSumLimbs);
    });
  }

 private:
  /// 0 beyond the last row or class: it adds nothing to a distance.
  CUPEL_HD CUPEL_INLINE double probability(i64 row, i64 k) const {
    return row < rows && k < classes ? p[row * classes + k] : 0.0;
  }

  CUPEL_HD CUPEL_INLINE void take_pair(i64 i, i64 j, double squared, u128& sum) const {
    const double distance = sqrt(squared);
    if (squares == nullptr) {
      const u32 key = distance_key(distance);
      if (!within) {
        atomic_add(&out[key >> 16], u64{1});
      } else if (key >> 16 == high) {
        atomic_add(&out[key & 0xFFFFu], u64{1});
      }
      return;
    }
    const i64 label_i = labels[i];
    const i64 label_j = labels[j];
    const double residuals =
        residual_product(squares[i], squares[j], squared, p[i * classes + label_j],
                         p[j * classes + label_i], label_i == label_j);
    const i64 term = pair_term(pair_value(residuals, distance, minus_inverse));
    sum += static_cast<u64>(term) + kRaise;
  }
};

}  // namespace cupel::device
