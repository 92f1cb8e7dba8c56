#include "backend/pair_products.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "backend/cpu_level.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel {
namespace {

/// The rows of a tile; the last one repeated where there are fewer.
using RowPointers = std::array<const float*, kTileRows>;

void products_base(const RowPointers& rows, const float* columns, i64 width, float* to) {
  for (int r = 0; r < kTileRows; ++r) {
    float sum[kTileCols] = {};
    for (i64 k = 0; k < width; ++k) {
      const float own = rows[static_cast<std::size_t>(r)][k];
      for (int c = 0; c < kTileCols; ++c) {
        sum[c] = add_product(sum[c], own, columns[k * kTileCols + c]);
      }
    }
    std::copy_n(sum, kTileCols, to + r * kTileCols);
  }
}

#if CUPEL_HAS_TARGETS

/// Four rows with 24 columns at a time: twelve sums, three columns and one row fill the registers.
/// As many steps as the nearest cache holds columns of, for all rows and columns, then the next;
/// the sums wait in `to` meanwhile.
CUPEL_TARGET_V3 void products_v3(const RowPointers& rows, const float* columns, i64 width,
                                 float* to) {
  constexpr int kLanes = 8;
  constexpr i64 kSteps = 128;
  for (i64 first = 0; first < width; first += kSteps) {
    const i64 last = std::min(first + kSteps, width);
    for (int row = 0; row < kTileRows; row += 4) {
      for (int col = 0; col < kTileCols; col += 3 * kLanes) {
        float* at = to + row * kTileCols + col;
        __m256 sum[4][3];
        CUPEL_UNROLL
        for (int r = 0; r < 4; ++r) {
          for (int v = 0; v < 3; ++v) {
            sum[r][v] =
                first == 0 ? _mm256_setzero_ps() : _mm256_loadu_ps(at + r * kTileCols + v * kLanes);
          }
        }
        const float* b = columns + first * kTileCols + col;
        for (i64 k = first; k < last; ++k, b += kTileCols) {
          const __m256 b0 = _mm256_loadu_ps(b);
          const __m256 b1 = _mm256_loadu_ps(b + kLanes);
          const __m256 b2 = _mm256_loadu_ps(b + 2 * kLanes);
          CUPEL_UNROLL
          for (int r = 0; r < 4; ++r) {
            const __m256 own = _mm256_broadcast_ss(rows.data()[row + r] + k);
            sum[r][0] = _mm256_fmadd_ps(own, b0, sum[r][0]);
            sum[r][1] = _mm256_fmadd_ps(own, b1, sum[r][1]);
            sum[r][2] = _mm256_fmadd_ps(own, b2, sum[r][2]);
          }
        }
        CUPEL_UNROLL
        for (int r = 0; r < 4; ++r) {
          for (int v = 0; v < 3; ++v) {
            _mm256_storeu_ps(at + r * kTileCols + v * kLanes, sum[r][v]);
          }
        }
      }
    }
  }
}

/// All eight rows with all 48 columns: 24 sums, three columns, one row.
CUPEL_TARGET_V4 void products_v4(const RowPointers& rows, const float* columns, i64 width,
                                 float* to) {
  constexpr int kLanes = 16;
  __m512 sum[kTileRows][3];
  CUPEL_UNROLL
  for (auto& of_row : sum) of_row[0] = of_row[1] = of_row[2] = _mm512_setzero_ps();
  const float* b = columns;
  for (i64 k = 0; k < width; ++k, b += kTileCols) {
    const __m512 b0 = _mm512_loadu_ps(b);
    const __m512 b1 = _mm512_loadu_ps(b + kLanes);
    const __m512 b2 = _mm512_loadu_ps(b + 2 * kLanes);
    CUPEL_UNROLL
    for (int r = 0; r < kTileRows; ++r) {
      const __m512 own = _mm512_set1_ps(rows[static_cast<std::size_t>(r)][k]);
      sum[r][0] = _mm512_fmadd_ps(own, b0, sum[r][0]);
      sum[r][1] = _mm512_fmadd_ps(own, b1, sum[r][1]);
      sum[r][2] = _mm512_fmadd_ps(own, b2, sum[r][2]);
    }
  }
  CUPEL_UNROLL
  for (int r = 0; r < kTileRows; ++r) {
    for (int v = 0; v < 3; ++v) {
      _mm512_storeu_ps(to + r * kTileCols + v * kLanes, sum[r][v]);
    }
  }
}

#endif  // CUPEL_HAS_TARGETS

void products(const RowPointers& rows, const float* columns, i64 width, float* to) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV4) return products_v4(rows, columns, width, to);
  if (cpu_level() >= CpuLevel::kV3) return products_v3(rows, columns, width, to);
#endif
  products_base(rows, columns, width, to);
}

/// Products become gaps where they lie.
template <PairDomain kDomain>
CUPEL_INLINE void turn_to_gaps(const float* squares_a, const float* squares_b, float* gaps) {
  for (int r = 0; r < kTileRows; ++r) {
    const float square = squares_a[r];
    float* of_row = gaps + r * kTileCols;
    for (int c = 0; c < kTileCols; ++c) {
      of_row[c] = pair_gap(kDomain, of_row[c], square, squares_b[c]);
    }
  }
}
CUPEL_INLINE void turn_any_to_gaps(PairDomain domain, const float* a, const float* b, float* gaps) {
  domain == PairDomain::kL2 ? turn_to_gaps<PairDomain::kL2>(a, b, gaps)
                            : turn_to_gaps<PairDomain::kCosine>(a, b, gaps);
}
#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V3 void to_gaps_v3(PairDomain domain, const float* a, const float* b, float* gaps) {
  turn_any_to_gaps(domain, a, b, gaps);
}
CUPEL_TARGET_V4 void to_gaps_v4(PairDomain domain, const float* a, const float* b, float* gaps) {
  turn_any_to_gaps(domain, a, b, gaps);
}
#endif

void to_gaps(PairDomain domain, const float* a, const float* b, float* gaps) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV4) return to_gaps_v4(domain, a, b, gaps);
  if (cpu_level() >= CpuLevel::kV3) return to_gaps_v3(domain, a, b, gaps);
#endif
  turn_any_to_gaps(domain, a, b, gaps);
}

/// NaN where there is no pair. Whether there was such a place.
bool leave_out(i64 row, int rows, const PackedColumns& columns, float* gaps) {
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  const bool diagonal = columns.first < row + rows;
  if (!diagonal && rows == kTileRows && columns.count == kTileCols) return false;
  for (int r = 0; r < kTileRows; ++r) {
    for (int c = 0; c < kTileCols; ++c) {
      const bool pair = r < rows && c < columns.count && row + r < columns.first + c;
      if (!pair) gaps[r * kTileCols + c] = kNone;
    }
  }
  return true;
}

}  // namespace

void pack_columns(const EmbeddingView& view, i64 first, int count, PackedColumns& to) {
  to.first = first;
  to.count = count;
  // A vector of columns is a line of the cache.
  constexpr std::size_t kLine = 64;
  constexpr std::size_t kFloats = kLine / sizeof(float);
  to.memory.resize(static_cast<std::size_t>(view.width * kTileCols) + kFloats);
  const auto beyond = reinterpret_cast<std::uintptr_t>(to.memory.data()) % kLine / sizeof(float);
  float* const values = to.memory.data() + (kFloats - beyond) % kFloats;
  to.values = values;
  for (int c = 0; c < kTileCols; ++c) {
    const bool there = c < count;
    to.squares[c] = there ? view.squares[first + c] : 0;
    to.classes[c] = there ? view.classes[first + c] : 0;
  }
  // A few steps of all columns at a time: what they write stays in the nearest cache.
  constexpr i64 kSteps = 32;
  for (i64 from = 0; from < view.width; from += kSteps) {
    const i64 steps = std::min(kSteps, view.width - from);
    float* at = values + from * kTileCols;
    for (int c = 0; c < kTileCols; ++c) {
      const float* own = c < count ? view.row(first + c) + from : nullptr;
      for (i64 k = 0; k < steps; ++k) at[k * kTileCols + c] = own != nullptr ? own[k] : 0;
    }
  }
}

GapTile make_tile(const EmbeddingView& view, i64 row, int rows, const PackedColumns& columns,
                  float* gaps) {
  RowPointers pointers{};
  alignas(64) float squares[kTileRows];
  for (int r = 0; r < kTileRows; ++r) {
    const i64 at = row + std::min(r, rows - 1);
    pointers[static_cast<std::size_t>(r)] = view.row(at);
    squares[r] = view.squares[at];
  }
  products(pointers, columns.values, view.width, gaps);
  to_gaps(view.domain, squares, columns.squares, gaps);
  GapTile tile;
  tile.row = row;
  tile.col = columns.first;
  tile.rows = rows;
  tile.cols = columns.count;
  tile.gaps = gaps;
  tile.whole = !leave_out(row, rows, columns, gaps);
  // Rows are sorted by class.
  const u32 row_low = view.classes[row];
  const u32 row_high = view.classes[row + rows - 1];
  const u32 col_low = columns.classes[0];
  const u32 col_high = columns.classes[columns.count - 1];
  if (row_high < col_low || col_high < row_low) {
    tile.classes = GapTile::Classes::kApart;
  } else if (row_low == row_high && col_low == col_high && row_low == col_low) {
    tile.classes = GapTile::Classes::kOne;
  }
  return tile;
}

}  // namespace cupel
