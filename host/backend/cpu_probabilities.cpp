#include "backend/cpu_probabilities.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <type_traits>

#include "backend/cpu_level.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/math/half.hpp"
#include "cupel/math/row_norm.hpp"
#include "cupel/math/row_terms.hpp"

namespace cupel {
namespace {

struct Half {
  u16 bits;
};
struct BFloat {
  u16 bits;
};

template <class T>
CUPEL_INLINE double number(const std::byte* at) {
  const T value = load<T>(at);
  if constexpr (std::is_same_v<T, Half>) {
    return static_cast<double>(float_from_f16(value.bits));
  } else if constexpr (std::is_same_v<T, BFloat>) {
    return static_cast<double>(float_from_bf16(value.bits));
  } else {
    return static_cast<double>(value);
  }
}

/// Calls visit with a zero of the type that the elements have in memory.
template <class Visit>
auto with_element(DType dtype, const Visit& visit) {
  switch (dtype) {
    case DType::kI8:
      return visit(i8{});
    case DType::kI16:
      return visit(i16{});
    case DType::kI32:
      return visit(i32{});
    case DType::kI64:
      return visit(i64{});
    case DType::kU16:
      return visit(u16{});
    case DType::kU32:
      return visit(u32{});
    case DType::kU64:
      return visit(u64{});
    case DType::kF16:
      return visit(Half{});
    case DType::kBF16:
      return visit(BFloat{});
    case DType::kF32:
      return visit(float{});
    case DType::kF64:
      return visit(double{});
    default:
      return visit(u8{});  // bool too
  }
}

/// A matrix with its strides in bytes.
struct Matrix {
  const std::byte* data;
  i64 row_stride, column_stride, classes;
  explicit Matrix(const TableView& table)
      : data(table.scores.data),
        row_stride(table.scores.strides[0]),
        column_stride(table.task == Task::kBinary ? 0 : table.scores.strides[1]),
        classes(table.task == Task::kBinary ? 1 : table.classes) {}
  const std::byte* at(i64 row, i64 column) const {
    return data + row * row_stride + column * column_stride;
  }
};

constexpr i64 kBlock = 256;  ///< rows that are summed side by side, where columns lie in memory

/// Whether every row in [first, last) has a sum of 1 and nothing beyond (see RowSumFaults).
template <class T>
CUPEL_INLINE bool all_sum_to_one(const Matrix& matrix, i64 first, i64 last, u64 tolerance) {
  constexpr i64 kSize = sizeof(T);
  if (matrix.row_stride == kSize && matrix.classes > 1) {
    bool fine = true;
    for (i64 from = first; from < last; from += kBlock) {
      const i64 rows = std::min(kBlock, last - from);
      u64 sums[kBlock] = {};
      u64 ored[kBlock] = {};
      for (i64 j = 0; j < matrix.classes; ++j) {
        const std::byte* at = matrix.at(from, j);
        for (i64 r = 0; r < rows; ++r) {
          const u64 term = row_sum_term(number<T>(at + r * kSize));
          sums[r] += term;
          ored[r] |= term;
        }
      }
      for (i64 r = 0; r < rows; ++r) {
        fine &= has_row_sum(ored[r]) && sums_to_one(sums[r], tolerance);
      }
    }
    return fine;
  }
  bool fine = true;
  for (i64 row = first; row < last; ++row) {
    const std::byte* at = matrix.at(row, 0);
    u64 sum = 0;
    u64 ored = 0;
    if (matrix.column_stride == kSize) {
      for (i64 j = 0; j < matrix.classes; ++j) {
        const u64 term = row_sum_term(number<T>(at + j * kSize));
        sum += term;
        ored |= term;
      }
    } else {
      for (i64 j = 0; j < matrix.classes; ++j) {
        const u64 term = row_sum_term(number<T>(at + j * matrix.column_stride));
        sum += term;
        ored |= term;
      }
    }
    fine &= has_row_sum(ored) && sums_to_one(sum, tolerance);
  }
  return fine;
}

#if CUPEL_HAS_TARGETS
template <class T>
CUPEL_TARGET_V3 bool all_sum_to_one_v3(const Matrix& matrix, i64 first, i64 last, u64 tolerance) {
  return all_sum_to_one<T>(matrix, first, last, tolerance);
}
template <class T>
CUPEL_TARGET_V4 bool all_sum_to_one_v4(const Matrix& matrix, i64 first, i64 last, u64 tolerance) {
  return all_sum_to_one<T>(matrix, first, last, tolerance);
}
#endif

template <class T>
bool all_sum_to_one_here(const Matrix& matrix, i64 first, i64 last, u64 tolerance) {
#if CUPEL_HAS_TARGETS
  // Probabilities are hardly ever integers: those are not worth the code.
  if constexpr (!std::is_integral_v<T>) {
    if (cpu_level() >= CpuLevel::kV4) {
      return all_sum_to_one_v4<T>(matrix, first, last, tolerance);
    }
    if (cpu_level() >= CpuLevel::kV3) {
      return all_sum_to_one_v3<T>(matrix, first, last, tolerance);
    }
  }
#endif
  return all_sum_to_one<T>(matrix, first, last, tolerance);
}

/// The faults of the rows in [first, last), each looked at by itself.
template <class T>
RowSumFaults faults_of(const Matrix& matrix, i64 first, i64 last, u64 tolerance) {
  RowSumFaults faults;
  for (i64 row = first; row < last; ++row) {
    u64 sum = 0;
    u64 ored = 0;
    bool inside = true;
    for (i64 j = 0; j < matrix.classes; ++j) {
      const double value = number<T>(matrix.at(row, j));
      const u64 term = row_sum_term(value);
      inside &= is_probability(value);
      sum += term;
      ored |= term;
    }
    faults.beyond |= !has_row_sum(ored);
    if (!inside || sums_to_one(sum, tolerance)) continue;
    if (faults.first_row < 0) {
      faults.first_row = row;
      faults.first_sum = static_cast<double>(sum) * 0x1p-44;
    }
    ++faults.rows;
  }
  return faults;
}

template <class T>
ScoresOutside outside_of(const Matrix& matrix, i64 first, i64 last) {
  ScoresOutside found;
  for (i64 row = first; row < last; ++row) {
    bool outside = false;
    for (i64 j = 0; j < matrix.classes; ++j) {
      const double value = number<T>(matrix.at(row, j));
      if (!(value < 0 || value > 1)) continue;
      found.negative |= value < 0;
      if (found.first_row < 0) {
        found.first_row = row;
        found.first_column = j;
        found.first = value;
      }
      outside = true;
    }
    found.rows += outside ? 1 : 0;
  }
  return found;
}

/// Rows of a part: about a mebibyte.
i64 rows_of_part(const TableView& table) {
  const i64 columns = table.task == Task::kBinary ? 1 : table.classes;
  return std::max<i64>(1, (i64{1} << 20) / (dtype_size(table.scores.dtype) * columns));
}

/// A double rounded once, half to even, to a narrow binary format with so many bits behind the
/// leading one and this smallest normal exponent; finite, in [0, 1].
u64 narrow_bits(double value, int fraction_bits, int least_exponent) {
  if (value == 0) return 0;
  int exponent = 0;
  std::frexp(value, &exponent);  // value is in [2^(exponent - 1), 2^exponent)
  const int unit = std::max(exponent - 1, least_exponent) - fraction_bits;
  const u64 count = static_cast<u64>(std::nearbyint(std::ldexp(value, -unit)));
  // The leading bit of a normal value carries into the exponent; below, there is none.
  return count + (static_cast<u64>(unit + fraction_bits - least_exponent) << fraction_bits);
}

template <class T>
void store(double value, std::byte* at) {
  if constexpr (std::is_same_v<T, Half>) {
    const u16 bits = static_cast<u16>(narrow_bits(value, 10, -14));
    std::memcpy(at, &bits, sizeof bits);
  } else if constexpr (std::is_same_v<T, BFloat>) {
    const u16 bits = static_cast<u16>(narrow_bits(value, 7, -126));
    std::memcpy(at, &bits, sizeof bits);
  } else if constexpr (std::is_same_v<T, float>) {
    const float rounded = static_cast<float>(value);
    std::memcpy(at, &rounded, sizeof rounded);
  } else {
    std::memcpy(at, &value, sizeof value);
  }
}

template <class T>
void normalize_part(const Matrix& matrix, i64 first, i64 last, std::byte* out, i64 item,
                    std::vector<i64>& negative, std::vector<i64>& zero) {
  std::vector<double> row(static_cast<std::size_t>(matrix.classes));
  for (i64 r = first; r < last; ++r) {
    bool finite = true;
    bool below = false;
    for (i64 j = 0; j < matrix.classes; ++j) {
      const double value = number<T>(matrix.at(r, j));
      finite &= std::isfinite(value);
      below |= value < 0;
      row[static_cast<std::size_t>(j)] = value;
    }
    RowNorm norm;
    if (finite && below) negative.push_back(r);
    if (finite && !below) {
      const double* values = row.data();
      norm = row_norm([values](i64 j) { return values[j]; }, matrix.classes);
      if (norm.sum == 0) zero.push_back(r);
    }
    std::byte* to = out + r * matrix.classes * item;
    for (const double value : row) {
      store<T>(norm.sum > 0 ? normalized(value, norm) : 0.0, to);
      to += item;
    }
  }
}

}  // namespace

u64 row_sum_tolerance(DType dtype, i64 classes) {
  // Where a format rounds to: half a unit in the last place of bf16 is 2^-8 of a value, and its
  // softmax may round three times. Numbers that were bf16 often come as float32.
  const int bits = dtype == DType::kBF16 ? 6 : 8;
  return (u64{1} << (kRowSumBits - bits)) + (static_cast<u64>(classes) << (kRowSumBits - 24));
}

RowSumFaults find_row_sum_faults(const TableView& table, ThreadPool& pool) {
  RowSumFaults all;
  if (table.rows == 0 || table.classes == 0) return all;
  const Matrix matrix(table);
  const u64 tolerance = row_sum_tolerance(table.scores.dtype, table.classes);
  const i64 part_rows = rows_of_part(table);
  std::mutex mutex;
  pool.parallel_for((table.rows + part_rows - 1) / part_rows, [&](int, i64 part) {
    const i64 first = part * part_rows;
    const i64 last = std::min(table.rows, first + part_rows);
    with_element(table.scores.dtype, [&](auto zero) {
      using T = decltype(zero);
      if (all_sum_to_one_here<T>(matrix, first, last, tolerance)) return;
      const RowSumFaults own = faults_of<T>(matrix, first, last, tolerance);
      const std::lock_guard lock(mutex);
      all.beyond |= own.beyond;
      all.rows += own.rows;
      if (own.rows == 0) return;
      if (all.first_row >= 0 && all.first_row < own.first_row) return;
      all.first_row = own.first_row;
      all.first_sum = own.first_sum;
    });
  });
  return all;
}

ScoresOutside find_scores_outside(const TableView& table, ThreadPool& pool) {
  ScoresOutside all;
  if (table.rows == 0) return all;
  const Matrix matrix(table);
  const i64 part_rows = rows_of_part(table);
  std::mutex mutex;
  pool.parallel_for((table.rows + part_rows - 1) / part_rows, [&](int, i64 part) {
    const i64 first = part * part_rows;
    const i64 last = std::min(table.rows, first + part_rows);
    const ScoresOutside own = with_element(table.scores.dtype, [&](auto zero) {
      return outside_of<decltype(zero)>(matrix, first, last);
    });
    if (own.rows == 0) return;
    const std::lock_guard lock(mutex);
    all.rows += own.rows;
    all.negative |= own.negative;
    if (all.first_row >= 0 && all.first_row < own.first_row) return;
    all.first_row = own.first_row;
    all.first_column = own.first_column;
    all.first = own.first;
  });
  return all;
}

NormalizedRows normalize_rows(const TableView& table, ThreadPool& pool) {
  NormalizedRows out;
  out.dtype = is_float(table.scores.dtype) ? table.scores.dtype : DType::kF64;
  const i64 item = dtype_size(out.dtype);
  out.values.resize(static_cast<std::size_t>(table.rows * table.classes * item));
  if (table.rows == 0) return out;
  const Matrix matrix(table);
  const i64 part_rows = rows_of_part(table);
  std::mutex mutex;
  pool.parallel_for((table.rows + part_rows - 1) / part_rows, [&](int, i64 part) {
    const i64 first = part * part_rows;
    const i64 last = std::min(table.rows, first + part_rows);
    std::vector<i64> negative;
    std::vector<i64> zero;
    with_element(table.scores.dtype, [&](auto of_type) {
      normalize_part<decltype(of_type)>(matrix, first, last, out.values.data(), item, negative,
                                        zero);
    });
    if (negative.empty() && zero.empty()) return;
    const std::lock_guard lock(mutex);
    out.negative.insert(out.negative.end(), negative.begin(), negative.end());
    out.zero.insert(out.zero.end(), zero.begin(), zero.end());
  });
  std::sort(out.negative.begin(), out.negative.end());
  std::sort(out.zero.begin(), out.zero.end());
  return out;
}

}  // namespace cupel
