// The most probable class of each row, on the host: rows as float or double, and of logits the
// softmax that all metrics share.
#include <algorithm>
#include <limits>
#include <new>
#include <string>

#include "backend/cpu_level.hpp"
#include "backend/cpu_row_kernels.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/backend/backend.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel {
namespace {

/// Bytes of scores that one task reads.
constexpr i64 kTaskBytes = i64{1} << 20;

struct Top {
  double confidence;
  i32 predicted;
};

template <class T>
CUPEL_INLINE Top top_body(const T* values, i64 classes, bool logits) {
  const auto row = [values](i64 j) { return values[j]; };
  const T largest = row_max(row, classes);
  i32 predicted = 0;
  while (values[predicted] != largest) ++predicted;
  const double value = static_cast<double>(largest);
  if (!logits) return {value, predicted};
  // The largest logit's term of the denominator is 1.
  return {1.0 / softmax_row_given_max(row, classes, value).denominator, predicted};
}

template <class T>
Top top_base(const T* values, i64 classes, bool logits) {
  return top_body(values, classes, logits);
}
template <class T>
CUPEL_TARGET_V3 Top top_v3(const T* values, i64 classes, bool logits) {
  return top_body(values, classes, logits);
}
template <class T>
CUPEL_TARGET_V4 Top top_v4(const T* values, i64 classes, bool logits) {
  return top_body(values, classes, logits);
}

template <class T>
auto top_of_row() {
  const CpuLevel level = cpu_level();
  return level >= CpuLevel::kV4 ? top_v4<T> : level >= CpuLevel::kV3 ? top_v3<T> : top_base<T>;
}

/// Rows [first, last); `load` writes one row of Ts.
template <class T, class Load>
void find_tops(const TableView& table, i64 first, i64 last, Load load, TopConfidences& out) {
  const cpu::ScoreMatrix matrix{table.scores.data, table.scores.dtype, table.scores.strides[0],
                                table.scores.strides[1]};
  Buffer<T> values(static_cast<std::size_t>(table.classes));
  const auto top = top_of_row<T>();
  for (i64 row = first; row < last; ++row) {
    load(matrix, row, 1, table.classes, values.data());
    const Top found = top(values.data(), table.classes, table.logits);
    const auto at = static_cast<std::size_t>(row);
    out.confidence[at] = found.confidence;
    out.predicted[at] = found.predicted;
    out.right[at] = found.predicted == table.class_labels[row] ? 1 : 0;
  }
}

}  // namespace

Result<TopConfidences> Backend::top_confidences(const TableView& table, int threads) {
  CUPEL_ASSERT(table.task == Task::kMulticlass);
  if (table.classes > (table.logits ? UnitSum::kMaxTerms : std::numeric_limits<i32>::max())) {
    return input_error("top confidences",
                       "a row has " + std::to_string(table.classes) + " classes, too many",
                       "leave classes out");
  }
  try {
    TopConfidences out;
    const auto rows = static_cast<std::size_t>(table.rows);
    out.confidence.resize(rows);
    out.right.resize(rows);
    out.predicted.resize(rows);
    if (rows == 0) return out;
    const i64 row_bytes = std::max<i64>(1, table.classes * table.scores.item_bytes);
    const i64 task_rows = std::max<i64>(1, kTaskBytes / row_bytes);
    const auto& kernels = cpu::row_kernels(cpu_level());
    ThreadPool pool(std::max(1, threads));
    pool.parallel_for((table.rows + task_rows - 1) / task_rows, [&](int, i64 task) {
      const i64 first = task * task_rows;
      const i64 last = std::min(table.rows, first + task_rows);
      if (cpu::wide_values(table.scores.dtype)) {
        find_tops<double>(table, first, last, kernels.load_rows_f64, out);
      } else {
        find_tops<float>(table, first, last, kernels.load_rows_f32, out);
      }
    });
    return out;
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kInternal, "top confidences",
                 "no memory for " + std::to_string(table.rows) + " rows",
                 "evaluate fewer rows at a time"};
  }
}

}  // namespace cupel
