// Sums over all pairs of rows of a scope: its rows as one matrix of probabilities, which a backend
// walks by tiles. Memory 8 bytes a row and class.
#pragma once

#include <span>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/core/buffer.hpp"
#include "cupel/metric/metric.hpp"
#include "eval/prepare.hpp"

namespace cupel {

/// Rows as the table that Backend::pair_sum takes.
struct ProbabilityRows {
  Buffer<double> p;
  Buffer<i32> labels;
  TableView table;
};

/// The rows of the parts that are in `cells`, ascending numbers of cells of all parts;
/// `cell_map[part]` says which cell of all a part's cell is. Multiclass. Logits become their
/// softmax. Errors: out of memory (kInternal).
Result<ProbabilityRows> probability_rows(std::span<const PreparedTable> parts,
                                         const std::vector<std::vector<u32>>& cell_map,
                                         const std::vector<u32>& cells);

/// The sum over all pairs; nu = 0 asks for the median distance, rounded to float32: the lower one
/// of two middle distances.
Result<PairSums> pair_sums(const ProbabilityRows& rows, double nu, Backend& backend);

}  // namespace cupel
