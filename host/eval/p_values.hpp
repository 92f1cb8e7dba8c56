// Conformal p-values: one pass over the calibration rows for their scores, which are sorted, and
// one over the other rows, every label of which is looked up among them.
#pragma once

#include <span>
#include <vector>

#include "cupel/metric/p_value.hpp"
#include "eval/prepare.hpp"

namespace cupel {

struct PValueStates {
  u64 calibration_rows = 0;
  std::vector<std::vector<PValueSums>> sums;  ///< [query][cell]; of no calibration row
  bool outside_unit = false;                  ///< some row has a score outside [0, 1]
};

/// `cell_map` is [part][cell of the part] -> cell, `calibration` [cell]. Memory: 8 bytes a
/// calibration row and distinct score. Errors: those of the passes.
Result<PValueStates> p_value_states(std::span<const PreparedTable> parts,
                                    const std::vector<std::vector<u32>>& cell_map,
                                    const std::vector<bool>& calibration,
                                    std::span<const PValueQuery> queries, u64 seed,
                                    Backend& backend, int threads);

}  // namespace cupel
