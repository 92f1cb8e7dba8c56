// Temperatures of several classes: steps of Newton's method over the calibration rows, one pass
// over the table a step, for all disjoint sets of rows at once.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/metric/fit.hpp"
#include "eval/prepare.hpp"

namespace cupel {

/// One set of rows: the cells to fit on and the others.
struct FitScope {
  std::vector<u32> calibration;
  std::vector<u32> others;
};

/// A fit and, where it has converged, the sums of both halves at it (log loss, Brier score, and
/// kHeldOutBins bins of the largest probability).
struct FittedScope {
  TemperatureFit fit;
  RowSums calibration;
  RowSums others;
};

/// The log losses of rows at factors between the bounds, and one entry of `scopes` for each set;
/// the sets named by a layer have no cell in common. `cell_map` is [part][cell of the part] ->
/// cell. A scope whose calibration cells have no mass is not fitted: its fit stays at 0 steps.
/// Cost: for each layer a pass over the calibration rows a step (about six), and one over all rows.
/// Memory: the row sums of a pass.
Result<std::vector<FittedScope>> fit_temperatures(
    std::span<const PreparedTable> parts, const std::vector<std::vector<u32>>& cell_map,
    std::size_t cells, const std::vector<FitScope>& scopes,
    const std::vector<std::vector<std::size_t>>& layers, Backend& backend);

}  // namespace cupel
