// From loaded columns to rows that a backend can compute on: labels in their domain, finite scores,
// valid weights, the wanted rows, and each row's cell.
//
// A cell is one combination of group values. Every subgroup and intersection is a union of cells,
// so one pass makes the states of the cells and the rest is merging.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/cpu_probabilities.hpp"
#include "cupel/backend/backend.hpp"
#include "cupel/core/buffer.hpp"
#include "cupel/eval/evaluate.hpp"
#include "cupel/state/regression.hpp"
#include "eval/roles.hpp"

namespace cupel {

/// The group values of a cell, one per group column; nullopt: unknown.
using CellKey = std::vector<std::optional<std::string>>;

/// Rows left out under `--nan drop`, by the first reason that applies.
struct DroppedRows {
  i64 scores = 0;
  i64 labels = 0;
  i64 weights = 0;
  i64 features = 0;
  i64 total() const { return scores + labels + weights + features; }
};

/// Rows of a verification task: embeddings with labels, or pairs with scores.
struct VerificationRows {
  i64 rows = 0;
  std::vector<std::string> class_names;  ///< distinct labels as text, in ascending order
  bool numeric_classes = true;           ///< the order is that of numbers
  // Embeddings: element (row_at[i], k) of `embedding` is that of row i; without row_at, (i, k).
  ArrayView embedding;  ///< [n, d] of f16, bf16, f32 or f64, finite
  Buffer<i64> row_at;
  Buffer<u32> classes;  ///< [rows] index into class_names
  Buffer<u64> ids;      ///< [rows] what ties are broken by, distinct unless the ids are not
  /// The embedding's column, for the places of rows and to give back what was read; may be of no
  /// dump.
  BoundColumn column;
  // Pairs with scores.
  ArrayView score;               ///< [n]; as above with row_at
  bool is_distance = false;      ///< smaller is closer
  Buffer<u8> same;               ///< [rows] 1: both sides are of one class
  Buffer<u32> class_a, class_b;  ///< [rows]; empty: the dump does not say
};

/// One dump, ready. Views into `arrays` and the buffers; movable, the views stay valid.
struct PreparedTable {
  TableView view;
  std::vector<CellKey> cells;  ///< key of each cell; one empty key without groups
  /// With request.fits the rows of both halves are here, in cells of their own: each key is there
  /// twice, and this says which cell's rows are for calibration.
  bool has_halves = false;
  std::vector<bool> calibration_cells;
  DroppedRows dropped;
  double probability_epsilon = 0;  ///< machine epsilon of the score dtype
  RowSumFaults row_sums;           ///< where probabilities are needed, of several classes
  i64 calibration_rows = -1;       ///< of the dump's rows, where there is a split; else -1

  /// Features of the dump's rows, [n, d] or [n], where a metric takes them; feature_row() says
  /// which is of a row here.
  ArrayView features;
  /// Of a block, with features or with request.list_rows: the row of the block or dump that each
  /// row here was; empty: the same.
  std::vector<i64> kept_rows;
  i64 feature_row(i64 row) const {
    return kept_rows.empty() ? row : kept_rows[static_cast<std::size_t>(row)];
  }

  std::vector<Array> arrays;
  Buffer<u8> label_bytes;
  Buffer<i32> label_classes;
  Buffer<double> weights;
  Buffer<u32> cell_of_row;
  Buffer<u64> row_keys;  ///< where something draws and a row's key is not its position
  Buffer<std::byte> scores;
  Buffer<std::byte> normalized;  ///< rows divided by their sums, where that was asked for

  // Of a regression or a risk task: the rows; `view` has the task, rows, classes and cells alone.
  std::optional<RegressionView> regression;
  std::optional<RiskView> risk;
  std::optional<VerificationRows> verification;  ///< likewise
  std::vector<Buffer<double>> numbers;           ///< columns that could not be used where they lie
  DType loss_type = DType::kF64;                 ///< risk: of the column
  std::function<std::string(i64)> loss_place;    ///< risk: how people find a row of `risk`
  /// Risk, with lambdas: how people find one of them.
  std::function<std::string(i64)> lambda_place;
};

/// The arrays of binding.columns(), in that order; a dump is read once for all its columns. Errors:
/// those of loading.
Result<std::vector<Array>> load_columns(const Binding& binding);

/// Loads the bound columns, or takes those of binding.block, and prepares them. `first_row` is the
/// position of the dump's first row in the whole table (0 but for later shards of a pool): rows
/// without an id are known by it. `backend` finds NaN and infinite scores. With `probabilities`,
/// rows of several classes whose sum is not 1 are found in the same pass, on the host. `loaded` is
/// called once the columns are loaded, before they are looked at: from then on the dumps may
/// verify() beside this function. Errors (kInput): those of loading; NaN or infinite scores or
/// features, labels outside the domain, invalid weights, rows that cannot be normalised where that
/// was asked for, with the first row and the count, unless the request drops such rows.
Result<PreparedTable> prepare_table(const Binding& binding, const EvalRequest& request,
                                    i64 first_row, Backend& backend, bool probabilities = false,
                                    const std::function<void()>& loaded = {});

}  // namespace cupel
