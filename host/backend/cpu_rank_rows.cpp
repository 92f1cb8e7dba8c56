#include "backend/cpu_rank_rows.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "backend/cpu_level.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/math/half.hpp"
#include "cupel/math/score_key.hpp"
#include "cupel/math/weight.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel::cpu {
namespace {

/// Calls visit(Reader{}) where Reader::at(address) reads the column's type as a number whose type
/// is float, double or an integer of 32 or 64 bits.
template <class T>
struct PlainReader {
  static CUPEL_INLINE T at(const std::byte* p) { return load<T>(p); }
};
template <class T>
struct SmallReader {
  static CUPEL_INLINE float at(const std::byte* p) { return static_cast<float>(load<T>(p)); }
};
struct BoolReader {
  static CUPEL_INLINE float at(const std::byte* p) { return load<u8>(p) != 0 ? 1.0f : 0.0f; }
};
struct F16Reader {
  static CUPEL_INLINE float at(const std::byte* p) { return float_from_f16(load<u16>(p)); }
};
struct BF16Reader {
  static CUPEL_INLINE float at(const std::byte* p) { return float_from_bf16(load<u16>(p)); }
};

template <class Visit>
void with_reader(DType type, Visit visit) {
  switch (type) {
    case DType::kBool:
      return visit(BoolReader{});
    case DType::kI8:
      return visit(SmallReader<i8>{});
    case DType::kI16:
      return visit(SmallReader<i16>{});
    case DType::kU8:
      return visit(SmallReader<u8>{});
    case DType::kU16:
      return visit(SmallReader<u16>{});
    case DType::kI32:
      return visit(PlainReader<i32>{});
    case DType::kI64:
      return visit(PlainReader<i64>{});
    case DType::kU32:
      return visit(PlainReader<u32>{});
    case DType::kU64:
      return visit(PlainReader<u64>{});
    case DType::kF16:
      return visit(F16Reader{});
    case DType::kBF16:
      return visit(BF16Reader{});
    case DType::kF32:
      return visit(PlainReader<float>{});
    case DType::kF64:
      return visit(PlainReader<double>{});
    case DType::kBytes:
    case DType::kUnicode:
    case DType::kText:
      break;  // not scores
  }
}

CUPEL_INLINE u32 narrow_key(float value) { return key_of_f32(bits_from_float(value)); }
CUPEL_INLINE u64 wide_key(double value) { return key_of_f64(bits_from_double(value)); }
CUPEL_INLINE u64 wide_key(i32 value) { return key_of_i64(value); }
CUPEL_INLINE u64 wide_key(i64 value) { return key_of_i64(value); }
CUPEL_INLINE u64 wide_key(u32 value) { return value; }
CUPEL_INLINE u64 wide_key(u64 value) { return value; }

#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V3 void keys_of_f32_v3(const std::byte* scores, i64 n, u32* out) {
  const __m256i top = _mm256_set1_epi32(static_cast<int>(0x80000000u));
  i64 i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scores + 4 * i));
    const __m256i bits = _mm256_andnot_si256(_mm256_cmpeq_epi32(raw, top), raw);
    const __m256i flip = _mm256_or_si256(_mm256_srai_epi32(bits, 31), top);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_xor_si256(bits, flip));
  }
  for (; i < n; ++i) out[i] = key_of_f32(load<u32>(scores + 4 * i));
}
#endif

void keys_of_f32(const std::byte* scores, i64 n, u32* out) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) return keys_of_f32_v3(scores, n, out);
#endif
  for (i64 i = 0; i < n; ++i) out[i] = key_of_f32(load<u32>(scores + 4 * i));
}

/// The numbers of one row of a column type, as the softmax compares them: integers as doubles.
template <class Reader>
struct RowNumbers {
  const std::byte* data;
  i64 stride;
  CUPEL_INLINE auto operator()(i64 j) const {
    const auto x = Reader::at(data + j * stride);
    if constexpr (std::is_same_v<std::decay_t<decltype(x)>, float>) {
      return x;
    } else {
      return static_cast<double>(x);
    }
  }
};

template <class Reader>
CUPEL_INLINE void softmax_rows(const TableView& table, i64 first, i64 last, RowSoftmax* out) {
  const i64 stride = table.scores.strides.size() < 2 ? 0 : table.scores.strides[1];
  for (i64 row = first; row < last; ++row) {
    out[row] = softmax_row(RowNumbers<Reader>{table.scores.at(row), stride}, table.classes);
  }
}

template <class Reader>
CUPEL_INLINE void softmax_keys(const std::byte* data, i64 stride, i64 n, const RowSoftmax* rows,
                               u64* out) {
  for (i64 i = 0; i < n; ++i) {
    out[i] = wide_key(softmax_p(static_cast<double>(Reader::at(data + i * stride)), rows[i]));
  }
}

#if CUPEL_HAS_TARGETS
// Without the fma instruction every step of every polynomial would be a call.
template <class Reader>
CUPEL_TARGET_V3 void softmax_rows_v3(const TableView& table, i64 first, i64 last, RowSoftmax* out) {
  softmax_rows<Reader>(table, first, last, out);
}
template <class Reader>
CUPEL_TARGET_V3 void softmax_keys_v3(const std::byte* data, i64 stride, i64 n,
                                     const RowSoftmax* rows, u64* out) {
  softmax_keys<Reader>(data, stride, n, rows, out);
}
#endif

}  // namespace

Buffer<RowSoftmax> row_softmaxes(const TableView& table, ThreadPool& pool) {
  Buffer<RowSoftmax> softmaxes;
  if (table.task != Task::kMulticlass || !table.logits) return softmaxes;
  softmaxes.resize(static_cast<std::size_t>(table.rows));
  constexpr i64 kChunk = 256;
  pool.parallel_for((table.rows + kChunk - 1) / kChunk, [&](int, i64 chunk) {
    const i64 first = chunk * kChunk;
    const i64 last = std::min(table.rows, first + kChunk);
    with_reader(table.scores.dtype, [&](auto reader) {
      using Reader = decltype(reader);
#if CUPEL_HAS_TARGETS
      if (cpu_level() >= CpuLevel::kV3) {
        return softmax_rows_v3<Reader>(table, first, last, softmaxes.data());
      }
#endif
      softmax_rows<Reader>(table, first, last, softmaxes.data());
    });
  });
  return softmaxes;
}

ProblemRows::ProblemRows(const TableView& table, i64 problem, const RowSoftmax* softmax)
    : table_(&table),
      problem_(problem),
      rows_(table.rows),
      kind_(score_kind(table)),
      softmax_(softmax),
      data_(table.task == Task::kBinary ? table.scores.data : table.scores.at(0, problem)),
      stride_(table.scores.strides.empty() ? 0 : table.scores.strides[0]),
      labels_(table.task == Task::kBinary ? table.binary_labels : nullptr) {}

template <>
void ProblemRows::keys<u32>(i64 row, i64 n, u32* out) const {
  if (narrow_keys_ != nullptr) {
    std::memcpy(out, narrow_keys_ + row, static_cast<std::size_t>(n) * sizeof(u32));
    return;
  }
  const std::byte* p = data_ + row * stride_;
  if (kind_ == ScoreKind::kF16 || kind_ == ScoreKind::kBF16) {
    for (i64 i = 0; i < n; ++i) out[i] = key_of_16(load<u16>(p + i * stride_));
    return;
  }
  if (table_->scores.dtype == DType::kF32 && stride_ == 4) return keys_of_f32(p, n, out);
  with_reader(table_->scores.dtype, [&](auto reader) {
    using Reader = decltype(reader);
    if constexpr (std::is_same_v<decltype(Reader::at(p)), float>) {
      for (i64 i = 0; i < n; ++i) out[i] = narrow_key(Reader::at(p + i * stride_));
    }
  });
}

template <>
void ProblemRows::keys<u64>(i64 row, i64 n, u64* out) const {
  if (wide_keys_ != nullptr) {
    std::memcpy(out, wide_keys_ + row, static_cast<std::size_t>(n) * sizeof(u64));
    return;
  }
  const std::byte* p = data_ + row * stride_;
  with_reader(table_->scores.dtype, [&](auto reader) {
    using Reader = decltype(reader);
    if (softmax_ != nullptr) {
#if CUPEL_HAS_TARGETS
      if (cpu_level() >= CpuLevel::kV3) {
        return softmax_keys_v3<Reader>(p, stride_, n, softmax_ + row, out);
      }
#endif
      softmax_keys<Reader>(p, stride_, n, softmax_ + row, out);
    } else if constexpr (!std::is_same_v<decltype(Reader::at(p)), float>) {
      for (i64 i = 0; i < n; ++i) out[i] = wide_key(Reader::at(p + i * stride_));
    }
  });
}

void ProblemRows::labels(i64 row, i64 n, u8* out) const {
  if (labels_ != nullptr) {
    std::memcpy(out, labels_ + row, static_cast<std::size_t>(n));
    return;
  }
  switch (table_->task) {
    case Task::kBinary:
    case Task::kRegression:  // no tables of these
    case Task::kRisk:
    case Task::kVerification:
      return;
    case Task::kMulticlass: {
      const std::byte* labels = reinterpret_cast<const std::byte*>(table_->class_labels);
      for (i64 i = 0; i < n; ++i) {
        out[i] = load<i32>(labels + 4 * (row + i)) == problem_ ? 1 : 0;
      }
      return;
    }
    case Task::kMultilabel:
      for (i64 i = 0; i < n; ++i) {
        out[i] = table_->label_matrix[(row + i) * table_->classes + problem_];
      }
      return;
  }
}

void ProblemRows::prefetch(i64 row, i64 n) const {
  constexpr i64 kLineBytes = 64;
  if (data_ != nullptr && stride_ == dtype_size(table_->scores.dtype)) {
    const std::byte* scores = data_ + row * stride_;
    for (i64 at = 0; at < n * stride_; at += kLineBytes) __builtin_prefetch(scores + at);
  }
  if (labels_ == nullptr) return;
  for (i64 at = 0; at < n; at += kLineBytes) __builtin_prefetch(labels_ + row + at);
}

const std::byte* ProblemRows::contiguous_halves() const {
  return data_ != nullptr && key_bits(kind_) == 16 && stride_ == 2 ? data_ : nullptr;
}

u128 ProblemRows::mass(i64 row) const {
  if (table_->weights_f64 != nullptr) {
    return weight_mass(
               load<double>(reinterpret_cast<const std::byte*>(table_->weights_f64) + 8 * row))
        .mass;
  }
  return weight_mass(static_cast<double>(load<float>(
                         reinterpret_cast<const std::byte*>(table_->weights_f32) + 4 * row)))
      .mass;
}

}  // namespace cupel::cpu
