// All pairs of rows on the CPU, in tiles: never a matrix of pairs.
#pragma once

#include "backend/thread_pool.hpp"
#include "cupel/backend/backend.hpp"

namespace cupel {

/// See Backend::pair_sum. O(rows^2 * classes); memory 8 bytes a row, and 128 a class and thread.
i128 cpu_pair_sum(const TableView& table, i64 first, i64 last, double nu, ThreadPool& pool);
/// See Backend::pair_distances. Likewise, and 512 KiB a thread.
std::vector<u64> cpu_pair_distances(const TableView& table, i64 first, i64 last,
                                    std::optional<u32> high, ThreadPool& pool);

}  // namespace cupel
