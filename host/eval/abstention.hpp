// Policies that may abstain: thresholds and the choice among them from the calibration rows alone,
// then one pass over the other rows for what the policy chosen answers.
#pragma once

#include <span>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/metric/abstention.hpp"
#include "eval/prepare.hpp"

namespace cupel {

struct AbstentionStates {
  std::vector<AbstentionChoice> choices;          ///< [query]
  std::vector<std::vector<AbstentionSums>> sums;  ///< [query][cell]; of no calibration row
  bool outside_unit = false;                      ///< some row has a score outside [0, 1]
};

/// Choices from all calibration rows together, and the sums of the others by cell. `cell_map` is
/// [part][cell of the part] -> cell, `calibration` [cell]. A row is in the half for tuning by its
/// key alone, so that nothing depends on the order of rows; labels of the others enter their own
/// counts alone. Time: a pass of scores and their sort; for each query passes of sets over the
/// calibration rows, one for every 256 MiB of sizes, and one over the others. Memory: 19 bytes a
/// calibration row, and 256 MiB of sizes, or those of one set. Errors: those of the passes.
Result<AbstentionStates> abstention_states(std::span<const PreparedTable> parts,
                                           const std::vector<std::vector<u32>>& cell_map,
                                           const std::vector<bool>& calibration,
                                           std::span<const AbstentionQuery> queries,
                                           Backend& backend, int threads);

}  // namespace cupel
