// Conformal selection: the rows of both halves with their scores, p-values of the test rows, and
// which of them are selected.
#pragma once

#include <span>
#include <vector>

#include "cupel/metric/selection.hpp"
#include "eval/prepare.hpp"

namespace cupel {

/// A test row and where it comes from.
struct TestRow {
  u32 part = 0;
  u32 cell = 0;  ///< global
  i64 row = 0;   ///< of the part
};

/// The selection of one query.
struct SelectedRows {
  SelectionOutcome outcome;
  std::vector<SelectionTally> by_cell;  ///< [global cell]; of no calibration row
  std::vector<u128> units;              ///< [test row] p-value in units of 2^-48 / (n + 1)
  std::vector<u8> selected;             ///< [test row]
  std::vector<double> predictions;      ///< [test row] of the row's model
  std::vector<u32> models;              ///< [test row] OptCS; else empty
};

struct SelectionStates {
  std::vector<TestRow> rows;
  std::vector<SelectedRows> of_query;
};

/// One selection for each query, of all test rows by all calibration rows. `cell_map` is
/// [part][cell of the part] -> cell, `calibration` [cell]. Memory: some 60 bytes a test row and
/// query, and 8 bytes a row and model. O((n + m) log(n + m)) for each query and model. Errors:
/// kUsage where a regression task has no level c.
Result<SelectionStates> selection_states(std::span<const PreparedTable> parts,
                                         const std::vector<std::vector<u32>>& cell_map,
                                         const std::vector<bool>& calibration,
                                         std::span<const SelectionQuery> queries, u64 seed);

/// The test rows of a query, a list for each of the parts; `spec` is a metric that asked for it.
/// Rows are those of the parts, and ids are left out.
void list_rows(const SelectionStates& states, std::size_t query, const MetricSpec& spec,
               std::size_t parts, std::vector<EvalRows>& lists);

}  // namespace cupel
