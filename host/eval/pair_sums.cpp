#include "eval/pair_sums.hpp"

#include <algorithm>
#include <bit>
#include <new>
#include <string>

#include "backend/cpu_level.hpp"
#include "backend/cpu_row_kernels.hpp"
#include "cupel/math/pair_kernel.hpp"
#include "cupel/math/row_terms.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel {
namespace {

/// Turns a row of logits into its softmax, with the bits that the squared errors see.
void make_probabilities(double* row, i64 classes) {
  const RowSoftmax softmax = softmax_row_f64(row, classes);
  const double scale = softmax_scale(softmax);
  for (i64 k = 0; k < classes; ++k) {
    row[k] = scaled_softmax_p(softmax_term(row[k], softmax.max), scale);
  }
}

/// The position of a rank, counted from 0, among counts; the rank becomes that behind the position.
u32 position_of(const std::vector<u64>& counts, u64& rank) {
  u32 at = 0;
  while (rank >= counts[at]) rank -= counts[at++];
  return at;
}

}  // namespace

Result<ProbabilityRows> probability_rows(std::span<const PreparedTable> parts,
                                         const std::vector<std::vector<u32>>& cell_map,
                                         const std::vector<u32>& cells) {
  ProbabilityRows all;
  const i64 classes = parts.front().view.classes;
  const auto wanted = [&](std::size_t part, i64 row) {
    const TableView& view = parts[part].view;
    const u32 own = view.cells == nullptr ? 0 : view.cells[row];
    return std::binary_search(cells.begin(), cells.end(), cell_map[part][own]);
  };
  i64 rows = 0;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    for (i64 row = 0; row < parts[part].view.rows; ++row) rows += wanted(part, row) ? 1 : 0;
  }
  i64 values = 0;
  try {
    if (!checked_mul(rows, classes, values)) throw std::bad_alloc();
    all.p.resize(static_cast<std::size_t>(values));
    all.labels.resize(static_cast<std::size_t>(rows));
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kInternal, "pairs of rows",
                 "no memory for " + std::to_string(rows) + " rows of " + std::to_string(classes) +
                     " probabilities",
                 "evaluate fewer rows, or use mmce"};
  }
  const auto& kernels = cpu::row_kernels(cpu_level());
  i64 at = 0;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const TableView& view = parts[part].view;
    if (view.rows == 0) continue;
    const cpu::ScoreMatrix matrix{view.scores.data, view.scores.dtype, view.scores.strides[0],
                                  view.scores.strides[1]};
    for (i64 row = 0; row < view.rows; ++row) {
      if (!wanted(part, row)) continue;
      double* p = all.p.data() + at * classes;
      kernels.load_rows_f64(matrix, row, 1, classes, p);
      if (view.logits) make_probabilities(p, classes);
      all.labels[static_cast<std::size_t>(at)] = view.class_labels[row];
      ++at;
    }
  }
  all.table.task = Task::kMulticlass;
  all.table.rows = rows;
  all.table.classes = classes;
  all.table.scores = make_view(all.p.data(), DType::kF64, {rows, classes});
  all.table.class_labels = all.labels.data();
  return all;
}

Result<PairSums> pair_sums(const ProbabilityRows& rows, double nu, Backend& backend) {
  const i64 n = rows.table.rows;
  PairSums sums;
  sums.rows = static_cast<u64>(n);
  sums.nu = nu;
  for (i64 row = 0; row < n; ++row) {
    const double* p = rows.p.data() + row * rows.table.classes;
    for (i64 k = 0; k < rows.table.classes; ++k) {
      sums.own += brier_term(p[k], k == rows.labels[static_cast<std::size_t>(row)]);
    }
  }
  if (n < 2) return sums;
  if (nu == 0) {
    const u64 pairs = static_cast<u64>(static_cast<u128>(n) * static_cast<u128>(n - 1) / 2);
    u64 rank = (pairs - 1) / 2;
    auto high = backend.pair_distances(rows.table, 0, n, std::nullopt);
    if (!high) return high.error();
    const u32 upper = position_of(*high, rank);
    auto low = backend.pair_distances(rows.table, 0, n, upper);
    if (!low) return low.error();
    sums.nu = static_cast<double>(std::bit_cast<float>(upper << 16 | position_of(*low, rank)));
    if (sums.nu == 0) return sums;
  }
  auto sum = backend.pair_sum(rows.table, 0, n, sums.nu);
  if (!sum) return sum.error();
  sums.sum = *sum;
  return sums;
}

}  // namespace cupel
