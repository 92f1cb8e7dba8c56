// The slab {x: low <= v . x <= high} of lowest coverage, over random directions v, and how often
// sets hold the label in it among rows that were not searched.
#pragma once

#include <span>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/core/buffer.hpp"
#include "cupel/metric/conformal.hpp"
#include "eval/prepare.hpp"

namespace cupel {

/// Rows to search: features as doubles, and whether the set of each row holds its label.
struct SlabRows {
  i64 rows = 0;
  i64 width = 0;
  i64 uncovered = 0;        ///< rows whose set does not hold their label: the first ones
  Buffer<double> features;  ///< [row][width], finite
};

/// Which part of the rows of a query a row is in; by its key alone.
bool is_held_out(const SlabQuery& query, u64 row_key);

/// The slab of lowest coverage among those with at least delta * rows rows (an exact decimal; at
/// least one). Coverages are compared as fractions; of equal ones the first direction counts, then
/// the smallest `low`, then the smallest `high`. Rows of equal projections are in a slab together.
/// `outcome` and `held_out` are left 0. The order of rows, and threads, change nothing.
///
/// For each direction: projections O(rows * width), sorts O(rows log rows), then Dinkelbach's
/// method for the smallest ratio covered / rows of an interval of at least a given mass. A pass of
/// it is O(rows): with p / q the lowest ratio known, of any direction, it finds the interval of
/// smallest covered * q - rows * p (prefix sums, a pointer that follows at the mass). Below 0, the
/// ratio of that interval is the next p / q, and there is another pass. Most directions take one
/// pass, and none more than about log2(rows). Memory: 16 doubles a row and thread.
WorstSlab find_worst_slab(const SlabRows& rows, const SlabQuery& query, int threads);

/// The slabs of one set. `sets` [part] is the set under the numbers of the part's cells, `scopes`
/// has the cells of all parts whose rows are looked at, `cell_map` says which of these a part's
/// cells are. Reads features of those rows only: 8 bytes a row searched and feature. Errors: parts
/// whose features differ in number (kInput), no memory (kInternal), those of the pass.
Result<std::vector<WorstSlab>> worst_slabs(std::span<const PreparedTable> parts,
                                           const std::vector<std::vector<u32>>& cell_map,
                                           std::span<const ConformalSet> sets,
                                           const std::vector<std::vector<u32>>& scopes,
                                           const SlabQuery& query, Backend& backend, int threads);

}  // namespace cupel
