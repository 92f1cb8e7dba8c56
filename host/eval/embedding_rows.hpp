// What is wrong with rows of an embedding, and rows of it as passes over pairs take them: the work
// on each element, once for checking and once for copying.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "backend/thread_pool.hpp"
#include "cupel/core/column.hpp"

namespace cupel {

/// Rows, ascending, that cannot be used as float32.
struct EmbeddingFaults {
  std::vector<i64> bad;   ///< an element is NaN or infinite, or is so once rounded to float32
  std::vector<i64> zero;  ///< every element is zero, or is so once rounded to float32
};

/// Looks at all rows of [n, d] of f16, bf16, f32 or f64, d >= 1; any strides. `done` is told, from
/// any of the threads, of rows [first, last) that are looked at no more. Cost: one pass, without a
/// branch for an element.
EmbeddingFaults find_embedding_faults(const ArrayView& embedding, ThreadPool& pool,
                                      const std::function<void(i64 first, i64 last)>& done = {});

/// A row of an embedding and where it goes.
struct RowMove {
  i64 from = 0;
  float* to = nullptr;
};

/// Copies rows of [n, d] as float32, fills each up with zeros to `stride` floats, and gives
/// dot_chain of each row and itself. With `normalize` rows are normalised: the bits of
/// normalise_row(); a row of zeros stays one. Elements are finite as float32. Eight chains at a
/// time: one alone waits for itself.
void take_rows(const ArrayView& embedding, std::span<const RowMove> moves, i64 stride,
               bool normalize, float* squares);

}  // namespace cupel
