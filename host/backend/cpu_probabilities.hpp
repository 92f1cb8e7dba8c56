// Whether scores are probabilities: rows of several classes that do not sum to 1, in one pass over
// memory that also sees NaN and infinite scores; scores outside [0, 1]; rows divided by their sums.
#pragma once

#include "cupel/backend/backend.hpp"
#include "cupel/core/buffer.hpp"

namespace cupel {

class ThreadPool;

/// How far from 1 the sum of `classes` probabilities of this type may be: 2^-8 (bf16: 2^-6), and
/// 2^-24 for each class. In units of 2^-44.
u64 row_sum_tolerance(DType dtype, i64 classes);

/// What is wrong with rows of several classes' scores.
struct RowSumFaults {
  i64 rows = 0;  ///< rows of values in [0, 1] whose sum is not 1, and the first
  i64 first_row = -1;
  double first_sum = 0;
  /// Some score is NaN, infinite or far outside [0, 1]; false says that all scores are finite.
  bool beyond = false;
};

/// Reads the scores of a multiclass table once, rows of which something is wrong twice. Equal at
/// any thread count. Throws std::bad_alloc.
RowSumFaults find_row_sum_faults(const TableView& table, ThreadPool& pool);

/// The first score outside [0, 1], and how many rows have one; NaN is not among them.
struct ScoresOutside {
  i64 rows = 0;
  i64 first_row = -1;
  i64 first_column = 0;
  double first = 0;
  bool negative = false;  ///< some score is below 0
};
/// Of a table of any task. Reads the scores once.
ScoresOutside find_scores_outside(const TableView& table, ThreadPool& pool);

struct NormalizedRows {
  Buffer<std::byte> values;  ///< [rows, classes], contiguous, of type `dtype`
  DType dtype = DType::kF64;
  std::vector<i64> negative;  ///< rows with a value below 0, ascending; their values are 0
  std::vector<i64> zero;      ///< rows whose sum is 0, ascending
};

/// Every row of finite scores divided by its sum and rounded once to the column's type (integers:
/// to float64); rows with a NaN or infinite score are 0. Throws std::bad_alloc.
NormalizedRows normalize_rows(const TableView& table, ThreadPool& pool);

}  // namespace cupel
