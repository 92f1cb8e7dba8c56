// Split conformal prediction: one pass over the calibration rows for their scores, a selection for
// the thresholds, and one pass over the other rows for what their sets sum up to.
#pragma once

#include <span>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/metric/conformal.hpp"
#include "eval/prepare.hpp"

namespace cupel {

struct ConformalStates {
  std::vector<ConformalThreshold> thresholds;  ///< [query]
  std::vector<std::vector<SetSums>> sums;      ///< [query][cell]; of no calibration row
  bool outside_unit = false;                   ///< some row has a score outside [0, 1]
};

/// Thresholds of all calibration rows together, and the sums of the others by cell. `cell_map` is
/// [part][cell of the part] -> cell, `calibration` [cell]. Equal queries share their work. Memory:
/// 8 bytes a calibration row and score; 8 bytes * cells * sets * classes. Time: both passes, and
/// O(n) for each score and distinct rank. Errors: those of the passes.
Result<ConformalStates> conformal_states(std::span<const PreparedTable> parts,
                                         const std::vector<std::vector<u32>>& cell_map,
                                         const std::vector<bool>& calibration,
                                         std::span<const ConformalQuery> queries, Backend& backend,
                                         int threads);

}  // namespace cupel
