// Risk control: the losses of both halves, checked and summed up.
#pragma once

#include <span>
#include <vector>

#include "cupel/metric/risk_control.hpp"
#include "eval/prepare.hpp"

namespace cupel {

/// The sums of losses by cell. `cell_map` is [part][cell of the part] -> cell, of which there are
/// `cells`; `most` is B: losses are rounded first, and B as the type of their column holds it
/// counts as B. Memory: 48 bytes a cell and lambda. One pass. Errors (kInput): a loss outside
/// [0, B], a row whose losses rise from one lambda to the next, with the first such row and their
/// number; lambdas that neither rise nor fall, or are not those of the first part.
Result<std::vector<RiskSums>> risk_sums(std::span<const PreparedTable> parts,
                                        const std::vector<std::vector<u32>>& cell_map,
                                        std::size_t cells, const Fraction& most);

}  // namespace cupel
