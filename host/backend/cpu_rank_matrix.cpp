#include "backend/cpu_rank_matrix.hpp"

#include <hwy/contrib/sort/vqsort.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "backend/cpu_level.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel::cpu {
namespace {

/// Memory of a tile: larger ones visit fewer pages of the matrix per key.
constexpr i64 kTileBytes = i64{32} << 20;
constexpr i64 kWidestTile = 64;

#if CUPEL_HAS_TARGETS
/// Eight rows by eight columns of float32 into eight columns of keys.
CUPEL_TARGET_V3 void transpose_keys_v3(const std::byte* data, i64 row_stride, u32* out, i64 pitch) {
  const __m256i top = _mm256_set1_epi32(static_cast<int>(0x80000000u));
  __m256i r[8];
  for (int i = 0; i < 8; ++i) {
    const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + i * row_stride));
    const __m256i bits = _mm256_andnot_si256(_mm256_cmpeq_epi32(raw, top), raw);
    r[i] = _mm256_xor_si256(bits, _mm256_or_si256(_mm256_srai_epi32(bits, 31), top));
  }
  __m256i t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
  }
  // Now columns 0, 4 | 1, 5 | 2, 6 | 3, 7 of rows 0..3 and of rows 4..7.
  const __m256i low[4] = {_mm256_unpacklo_epi64(t[0], t[2]), _mm256_unpackhi_epi64(t[0], t[2]),
                          _mm256_unpacklo_epi64(t[1], t[3]), _mm256_unpackhi_epi64(t[1], t[3])};
  const __m256i high[4] = {_mm256_unpacklo_epi64(t[4], t[6]), _mm256_unpackhi_epi64(t[4], t[6]),
                           _mm256_unpacklo_epi64(t[5], t[7]), _mm256_unpackhi_epi64(t[5], t[7])};
  for (int c = 0; c < 4; ++c) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + c * pitch),
                        _mm256_permute2x128_si256(low[c], high[c], 0x20));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (c + 4) * pitch),
                        _mm256_permute2x128_si256(low[c], high[c], 0x31));
  }
}

/// Eight rows by eight columns of bytes.
CUPEL_TARGET_V3 void transpose_bytes_v3(const u8* data, i64 row_stride, u8* out, i64 pitch) {
  __m128i r[8];
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(data + i * row_stride));
  }
  const __m128i a0 = _mm_unpacklo_epi8(r[0], r[1]);
  const __m128i a1 = _mm_unpacklo_epi8(r[2], r[3]);
  const __m128i a2 = _mm_unpacklo_epi8(r[4], r[5]);
  const __m128i a3 = _mm_unpacklo_epi8(r[6], r[7]);
  const __m128i b0 = _mm_unpacklo_epi16(a0, a1);
  const __m128i b1 = _mm_unpackhi_epi16(a0, a1);
  const __m128i b2 = _mm_unpacklo_epi16(a2, a3);
  const __m128i b3 = _mm_unpackhi_epi16(a2, a3);
  const __m128i pairs[4] = {_mm_unpacklo_epi32(b0, b2), _mm_unpackhi_epi32(b0, b2),
                            _mm_unpacklo_epi32(b1, b3), _mm_unpackhi_epi32(b1, b3)};
  for (int c = 0; c < 4; ++c) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + 2 * c * pitch), pairs[c]);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out + (2 * c + 1) * pitch),
                     _mm_srli_si128(pairs[c], 8));
  }
}

/// Of the pairs of a positive and a negative: twice those in which the positive is larger, and once
/// the equal ones. Keys are biased so that signed comparisons order them.
CUPEL_TARGET_V3 u64 count_pairs_v3(const i32* pos, i64 positives, const i32* neg, i64 negatives) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  // Per pair: 1 + (positive larger) - (negative larger).
  __m256i balance = _mm256_setzero_si256();
  i64 j = 0;
  for (; j + 8 <= negatives; j += 8) {
    const __m256i n = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(neg + j));
    for (i64 i = 0; i < positives; ++i) {
      const __m256i p = _mm256_set1_epi32(pos[i]);
      balance = _mm256_sub_epi32(balance, _mm256_cmpgt_epi32(p, n));
      balance = _mm256_add_epi32(balance, _mm256_cmpgt_epi32(n, p));
    }
  }
  if (j < negatives) {
    const __m256i inside =
        _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<i32>(negatives - j)), lanes);
    const __m256i n = _mm256_maskload_epi32(neg + j, inside);
    for (i64 i = 0; i < positives; ++i) {
      const __m256i p = _mm256_set1_epi32(pos[i]);
      balance = _mm256_sub_epi32(balance, _mm256_and_si256(inside, _mm256_cmpgt_epi32(p, n)));
      balance = _mm256_add_epi32(balance, _mm256_and_si256(inside, _mm256_cmpgt_epi32(n, p)));
    }
  }
  alignas(32) i32 sums[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(sums), balance);
  i64 sum = 0;
  for (const i32 s : sums) sum += s;
  return static_cast<u64>(sum + positives * negatives);
}
#endif

u64 count_pairs(i32* pos, i64 positives, i32* neg, i64 negatives) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) return count_pairs_v3(pos, positives, neg, negatives);
#endif
  u64 sum = 0;
  for (i64 i = 0; i < positives; ++i) {
    for (i64 j = 0; j < negatives; ++j) {
      sum += static_cast<u64>(pos[i] > neg[j]) + static_cast<u64>(pos[i] >= neg[j]);
    }
  }
  return sum;
}

/// Comparisons per row of a cell beyond which sorting the cell is quicker.
constexpr u64 kMostComparisons = 64;

/// count_pairs() of a cell that holds too many rows to compare them all; sorts them.
u64 count_crowded(i32* pos, i64 positives, i32* neg, i64 negatives) {
  const auto is_value = [&](i32 key) { return key == pos[0]; };
  if (std::all_of(pos, pos + positives, is_value) && std::all_of(neg, neg + negatives, is_value)) {
    return static_cast<u64>(positives) * static_cast<u64>(negatives);
  }
  const hwy::Sorter sorter;
  sorter(pos, static_cast<std::size_t>(positives), hwy::SortAscending());
  sorter(neg, static_cast<std::size_t>(negatives), hwy::SortAscending());
  u64 sum = 0;
  i64 smaller = 0;
  i64 not_larger = 0;
  for (i64 i = 0; i < positives; ++i) {
    while (smaller < negatives && neg[smaller] < pos[i]) ++smaller;
    while (not_larger < negatives && neg[not_larger] <= pos[i]) ++not_larger;
    sum += static_cast<u64>(smaller) + static_cast<u64>(not_larger);
  }
  return sum;
}

}  // namespace

template <class Key>
i64 RankTile<Key>::width(i64 rows, i64 problems, int workers) {
  const i64 fits = kTileBytes / (std::max<i64>(rows, 1) * static_cast<i64>(sizeof(Key) + 1));
  const i64 fair = (problems + 2 * workers - 1) / (2 * workers);
  return std::clamp<i64>(std::min(fits, (fair + 7) / 8 * 8), 1, kWidestTile);
}

template <class Key>
void RankTile<Key>::read(const TableView& table, i64 first, i64 count, const RowSoftmax* softmax) {
  kind_ = score_kind(table);
  rows_ = table.rows;
  // Columns must not all begin at the same place of a page: they would share cache sets.
  pitch_ = (rows_ + 15) / 16 * 16 + 16;
  if (pitch_ % 1024 == 0) pitch_ += 16;
  keys_.resize(static_cast<std::size_t>(pitch_ * count));
  labels_.resize(static_cast<std::size_t>(pitch_ * count));

  i64 keyed_columns = 0;
  i64 keyed_rows = 0;
  i64 labelled_columns = 0;
  i64 labelled_rows = 0;
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) {
    const i64 whole_rows = rows_ / 8 * 8;
    const i64 whole_columns = count / 8 * 8;
    if constexpr (sizeof(Key) == 4) {
      if (table.scores.dtype == DType::kF32 && table.scores.strides[1] == 4) {
        const i64 stride = table.scores.strides[0];
        for (i64 row = 0; row < whole_rows; row += 8) {
          const std::byte* at = table.scores.at(row, first);
          for (int i = 0; i < 8; ++i) {
            for (i64 byte = 0; byte < 4 * whole_columns; byte += 64) {
              _mm_prefetch(reinterpret_cast<const char*>(at + (16 + i) * stride + byte),
                           _MM_HINT_T0);
            }
          }
          for (i64 c = 0; c < whole_columns; c += 8) {
            transpose_keys_v3(at + 4 * c, stride, keys_.data() + c * pitch_ + row, pitch_);
          }
        }
        keyed_columns = whole_columns;
        keyed_rows = whole_rows;
      }
    }
    if (table.task == Task::kMultilabel) {
      for (i64 row = 0; row < whole_rows; row += 8) {
        const u8* at = table.label_matrix + row * table.classes + first;
        for (int i = 0; i < 8; ++i) {
          _mm_prefetch(reinterpret_cast<const char*>(at + (16 + i) * table.classes), _MM_HINT_T0);
        }
        for (i64 c = 0; c < whole_columns; c += 8) {
          transpose_bytes_v3(at + c, table.classes, labels_.data() + c * pitch_ + row, pitch_);
        }
      }
      labelled_columns = whole_columns;
      labelled_rows = whole_rows;
    }
  }
#endif
  // The rest, a few rows of all columns at a time so that the matrix is read once.
  constexpr i64 kRows = 256;
  for (i64 row = 0; row < rows_; row += kRows) {
    const i64 n = std::min(kRows, rows_ - row);
    for (i64 c = 0; c < count; ++c) {
      const ProblemRows problem(table, first + c, softmax);
      const i64 skip = c < keyed_columns ? std::clamp<i64>(keyed_rows - row, 0, n) : 0;
      if (skip < n) {
        problem.keys(row + skip, n - skip, keys_.data() + c * pitch_ + row + skip);
      }
      if (table.task == Task::kMulticlass) continue;
      const i64 known = c < labelled_columns ? std::clamp<i64>(labelled_rows - row, 0, n) : 0;
      if (known < n) {
        problem.labels(row + known, n - known, labels_.data() + c * pitch_ + row + known);
      }
    }
  }
  if (table.task == Task::kMulticlass) {
    std::memset(labels_.data(), 0, labels_.size());
    const std::byte* labels = reinterpret_cast<const std::byte*>(table.class_labels);
    for (i64 row = 0; row < rows_; ++row) {
      const i64 column = load<i32>(labels + 4 * row) - first;
      if (column >= 0 && column < count) {
        labels_[static_cast<std::size_t>(column * pitch_ + row)] = 1;
      }
    }
  }
}

template <class Key>
ProblemRows RankTile<Key>::problem(i64 i) const {
  return {kind_, keys_.data() + i * pitch_, labels_.data() + i * pitch_, rows_};
}

template class RankTile<u32>;
template class RankTile<u64>;

PairCounter::Answer PairCounter::count(const u32* keys, const u8* labels, i64 n) {
  u32 low = keys[0];
  u32 high = keys[0];
  for (i64 i = 1; i < n; ++i) {
    low = std::min(low, keys[i]);
    high = std::max(high, keys[i]);
  }
  // About a dozen rows a cell, if the scores were spread evenly.
  const int cell_bits =
      std::clamp(static_cast<int>(std::bit_width(static_cast<u64>(n) / 12)), 6, 14);
  const int shift = std::max(0, static_cast<int>(std::bit_width(high - low)) - cell_bits);
  const std::size_t cells = static_cast<std::size_t>((high - low) >> shift) + 1;
  ends_.resize(2 * cells + 1);
  u32* ends = ends_.data();
  std::fill_n(ends, 2 * cells + 1, 0u);
  // Negatives and positives of a cell follow each other.
  for (i64 i = 0; i < n; ++i)
    ++ends[2 * static_cast<std::size_t>((keys[i] - low) >> shift) + labels[i]];
  u32 sum = 0;
  Answer answer;
  for (std::size_t c = 0; c < 2 * cells; c += 2) {
    const u32 neg = ends[c];
    const u32 pos = ends[c + 1];
    answer.pos += pos;
    ends[c] = sum;
    ends[c + 1] = sum + neg;
    sum += neg + pos;
  }
  spread_.resize(static_cast<std::size_t>(n));
  u32* spread = spread_.data();
  for (i64 i = 0; i < n; ++i) {
    spread[ends[2 * static_cast<std::size_t>((keys[i] - low) >> shift) + labels[i]]++] =
        keys[i] ^ 0x8000'0000u;
  }
  i32* biased = reinterpret_cast<i32*>(spread);
  u64 below = 0;
  u32 begin = 0;
  for (std::size_t c = 0; c < 2 * cells; c += 2) {
    const u32 middle = ends[c];
    const u32 end = ends[c + 1];
    const u64 neg = middle - begin;
    const u64 pos = end - middle;
    if (pos != 0) {
      answer.two_u += 2 * pos * below;
      if (neg != 0) {
        const bool crowded = pos * neg > kMostComparisons * (pos + neg);
        answer.two_u += (crowded ? count_crowded : count_pairs)(
            biased + middle, static_cast<i64>(pos), biased + begin, static_cast<i64>(neg));
      }
    }
    below += neg;
    begin = end;
  }
  return answer;
}

}  // namespace cupel::cpu
