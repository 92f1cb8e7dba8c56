// What the passes of conformal prediction share: which rows are wanted, and ranges of rows on all
// threads.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "backend/thread_pool.hpp"
#include "cupel/backend/backend.hpp"

namespace cupel {

/// Bytes of scores that one task reads.
inline constexpr i64 kTaskBytes = i64{1} << 20;
inline constexpr i64 kMostSetClasses = 65535;

inline bool is_wanted(const TableView& table, const std::vector<bool>& wanted, i64 row) {
  return wanted[table.cells == nullptr ? 0 : table.cells[row]];
}

/// Errors: kInput, more classes than labels of 16 bits have.
inline Result<void> check_table(const TableView& table, const std::vector<bool>& wanted) {
  CUPEL_ASSERT(table.task != Task::kMultilabel);
  CUPEL_ASSERT(table.rows == 0 || wanted.size() >= table.cell_count);
  static_cast<void>(wanted);
  if (table.classes > kMostSetClasses) {
    return input_error("conformal sets",
                       "a row has " + std::to_string(table.classes) + " classes, too many",
                       "leave classes out");
  }
  return {};
}

inline Error no_memory(const TableView& table) {
  return Error{ErrorCode::kInternal, "conformal sets",
               "no memory for " + std::to_string(table.rows) + " rows",
               "evaluate fewer rows at a time"};
}

/// Rows that one task takes.
inline i64 task_rows(const TableView& table) {
  const i64 columns = table.task == Task::kBinary ? 1 : table.classes;
  const i64 row_bytes = std::max<i64>(1, columns * table.scores.item_bytes);
  return std::max<i64>(1, kTaskBytes / row_bytes);
}

/// Calls take(worker, task, first row, last row) for ranges of task_rows() rows, on all threads of
/// the pool.
inline void for_row_ranges(const TableView& table, ThreadPool& pool,
                           const std::function<void(int, i64, i64, i64)>& take) {
  const i64 rows = task_rows(table);
  pool.parallel_for((table.rows + rows - 1) / rows, [&](int worker, i64 task) {
    take(worker, task, task * rows, std::min(table.rows, (task + 1) * rows));
  });
}

}  // namespace cupel
