// Row sums of multiclass logits times a factor of their cell, on the CPU: the passes of a fit of
// temperatures.
#pragma once

#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/state/row_sums.hpp"

namespace cupel {

class ThreadPool;

/// cpu_row_sums() of a spec with tempering: [1][cell], rows of cells whose factor is 0 in no sum.
/// Cost: rows that are left out are not read. Memory: the sums once per thread (fewer times where
/// they are large), and 16 bytes per class and thread (33 KiB for few classes).
std::vector<std::vector<RowSums>> cpu_tempered_sums(const TableView& table, const RowSpec& spec,
                                                    ThreadPool& pool);

}  // namespace cupel
