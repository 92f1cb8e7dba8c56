// Order statistics of many integers: selected, not sorted.
#pragma once

#include <span>
#include <vector>

#include "backend/thread_pool.hpp"
#include "cupel/core/int.hpp"

namespace cupel {

/// The values of these ranks, which count from 1 and ascend strictly, each at most values.size().
/// The values stay as they are. Their range is cut into 2^16 bins and the rows of each are counted,
/// again within bins that hold many rows and a wanted rank, on all threads; what is left is
/// gathered and sorted. Time: O(n) for each level of bins, of which there are at most 4. Memory:
/// 512 KiB a thread, and 8 bytes for each value in a bin that is gathered, at most n / 8 + 2^17 in
/// all.
std::vector<i64> values_of_ranks(std::span<const i64> values, const std::vector<i64>& ranks,
                                 ThreadPool& pool);

}  // namespace cupel
