// The search for scores that are NaN or infinite: one pass at the speed of memory, which looks
// closer only where a stretch holds one.
#include <algorithm>
#include <mutex>
#include <new>

#include "backend/cpu_level.hpp"
#include "backend/cpu_rank.hpp"
#include "backend/thread_pool.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel {
namespace {

/// The exponent bits of a floating type; all set in NaN and infinity.
template <class T>
constexpr T exponent_bits(DType type) {
  if constexpr (sizeof(T) == 2) return type == DType::kF16 ? T{0x7C00} : T{0x7F80};
  if constexpr (sizeof(T) == 4) return T{0x7F80'0000u};
  if constexpr (sizeof(T) == 8) return T{0x7FF0'0000'0000'0000u};
}

template <class T>
bool is_bad(const std::byte* at, T exponent) {
  return (load<T>(at) & exponent) == exponent;
}

template <class T>
bool any_bad_scalar(const std::byte* data, i64 first, i64 n, T exponent) {
  bool bad = false;
  for (i64 i = first; i < n; ++i)
    bad |= is_bad<T>(data + i * static_cast<i64>(sizeof(T)), exponent);
  return bad;
}

#if CUPEL_HAS_TARGETS
/// The largest value without sign tells: exponents all set are above everything finite. A double is
/// judged by its upper half.
template <class T>
CUPEL_TARGET_V3 bool any_bad_v3(const std::byte* data, i64 n, T exponent) {
  constexpr i64 kLanes = 32 / static_cast<i64>(sizeof(T));
  const auto at = [&](i64 i) {
    return reinterpret_cast<const __m256i*>(data + i * static_cast<i64>(sizeof(T)));
  };
  __m256i mask;
  __m256i limit;
  if constexpr (sizeof(T) == 2) {
    mask = _mm256_set1_epi16(0x7FFF);
    limit = _mm256_set1_epi16(static_cast<i16>(exponent));
  } else if constexpr (sizeof(T) == 4) {
    mask = _mm256_set1_epi32(0x7FFF'FFFF);
    limit = _mm256_set1_epi32(static_cast<i32>(exponent));
  } else {
    mask = _mm256_set1_epi64x(0x7FFF'FFFF'0000'0000);
    limit = _mm256_set1_epi64x(static_cast<i64>(exponent));
  }
  __m256i most_a = _mm256_setzero_si256();
  __m256i most_b = _mm256_setzero_si256();
  i64 i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    const __m256i a = _mm256_and_si256(_mm256_loadu_si256(at(i)), mask);
    const __m256i b = _mm256_and_si256(_mm256_loadu_si256(at(i + kLanes)), mask);
    if constexpr (sizeof(T) == 2) {
      most_a = _mm256_max_epi16(most_a, a);
      most_b = _mm256_max_epi16(most_b, b);
    } else {
      most_a = _mm256_max_epi32(most_a, a);
      most_b = _mm256_max_epi32(most_b, b);
    }
  }
  // Reached where not below: the masked values are not negative, so signed comparisons do. The
  // lower halves of doubles are 0 on both sides and count as reached, so they are masked out.
  __m256i most;
  __m256i below;
  if constexpr (sizeof(T) == 2) {
    most = _mm256_max_epi16(most_a, most_b);
    below = _mm256_cmpgt_epi16(limit, most);
  } else {
    most = _mm256_max_epi32(most_a, most_b);
    below = _mm256_cmpgt_epi32(limit, most);
  }
  if constexpr (sizeof(T) == 8) below = _mm256_or_si256(below, _mm256_set1_epi64x(0xFFFF'FFFF));
  if (_mm256_movemask_epi8(below) != -1) return true;
  return any_bad_scalar(data, i, n, exponent);
}
#endif

template <class T>
bool any_bad(const std::byte* data, i64 n, T exponent) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) return any_bad_v3(data, n, exponent);
#endif
  return any_bad_scalar(data, 0, n, exponent);
}

/// Bad rows among [first, last).
template <class T>
Backend::BadScores bad_rows(const ArrayView& scores, i64 first, i64 last, i64 columns, T exponent) {
  Backend::BadScores bad;
  for (i64 row = first; row < last; ++row) {
    for (i64 column = 0; column < columns; ++column) {
      if (!is_bad<T>(scores.at(row, column), exponent)) continue;
      if (bad.first_row < 0) {
        bad.first_row = row;
        bad.first_column = column;
      }
      ++bad.rows;
      break;
    }
  }
  return bad;
}

template <class T>
bool any_bad_rows(const ArrayView& scores, i64 first, i64 last, i64 columns, T exponent) {
  const i64 size = static_cast<i64>(sizeof(T));
  const i64 row_stride = scores.strides.empty() ? 0 : scores.strides[0];
  const i64 column_stride = scores.strides.size() < 2 ? size : scores.strides[1];
  const i64 rows = last - first;
  if (column_stride == size && row_stride == size * columns) {
    return any_bad(scores.at(first), rows * columns, exponent);
  }
  bool bad = false;
  if (row_stride == size) {
    for (i64 c = 0; c < columns && !bad; ++c) bad = any_bad(scores.at(first, c), rows, exponent);
  } else if (column_stride == size) {
    for (i64 r = first; r < last && !bad; ++r) bad = any_bad(scores.at(r), columns, exponent);
  } else {
    return true;  // the close look decides
  }
  return bad;
}

template <class T>
Backend::BadScores find_bad(const TableView& table, ThreadPool& pool) {
  const T exponent = exponent_bits<T>(table.scores.dtype);
  const i64 columns = table.task == Task::kBinary ? 1 : table.classes;
  // Parts of about a mebibyte.
  const i64 part_rows =
      std::max<i64>(1, (i64{1} << 20) / (static_cast<i64>(sizeof(T)) * std::max<i64>(columns, 1)));
  Backend::BadScores all;
  std::mutex mutex;
  pool.parallel_for((table.rows + part_rows - 1) / part_rows, [&](int, i64 part) {
    const i64 first = part * part_rows;
    const i64 last = std::min(table.rows, first + part_rows);
    if (!any_bad_rows<T>(table.scores, first, last, columns, exponent)) return;
    const Backend::BadScores bad = bad_rows<T>(table.scores, first, last, columns, exponent);
    if (bad.rows == 0) return;
    const std::lock_guard lock(mutex);
    all.rows += bad.rows;
    if (all.first_row < 0 || bad.first_row < all.first_row) {
      all.first_row = bad.first_row;
      all.first_column = bad.first_column;
    }
  });
  return all;
}

}  // namespace

Result<Backend::BadScores> cpu_bad_scores(const TableView& table, ThreadPool& pool) {
  try {
    switch (table.scores.dtype) {
      case DType::kF16:
      case DType::kBF16:
        return find_bad<u16>(table, pool);
      case DType::kF32:
        return find_bad<u32>(table, pool);
      case DType::kF64:
        return find_bad<u64>(table, pool);
      default:
        return Backend::BadScores{};
    }
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kInternal, "scores", "out of memory", {}};
  }
}

}  // namespace cupel
