// Rows brought together by cell, once for all problems of a table: cost O(rows + cells), however
// many cells there are. And the tables that are made by sorting: weighted ones, and those beyond
// 2^31 rows.
#pragma once

#include <vector>

#include "backend/cpu_rank_partition.hpp"
#include "backend/cpu_rank_rows.hpp"
#include "cupel/state/rank_table.hpp"

namespace cupel::cpu {

/// Where each row goes: rows of one cell become neighbours.
class CellSplit {
 public:
  CellSplit() = default;
  /// Counts and orders the rows of the table's cells. 8 bytes a row, none for a single cell.
  CellSplit(const TableView& table, const Workers& workers);

  i64 cells() const { return static_cast<i64>(first_row_.size()) - 1; }
  /// Position of a cell's first row in the order; first_row(cells()) is the number of rows.
  i64 first_row(i64 cell) const { return first_row_[static_cast<std::size_t>(cell)]; }
  /// The row at a position.
  i64 row_at(i64 position) const {
    return order_.empty() ? position : order_[static_cast<std::size_t>(position)];
  }
  bool is_identity() const { return order_.empty(); }
  /// Rows of the largest cell.
  i64 largest() const;

 private:
  std::vector<i64> first_row_{0};
  Buffer<i64> order_;
};

/// Keys and labels of one problem in the order of a split.
template <class Key>
struct CellRows {
  Buffer<Key> keys;
  Buffer<u8> labels;
};
template <class Key>
CellRows<Key> gather_cells(const ProblemRows& problem, const CellSplit& split,
                           const Workers& workers);

/// The tables of all cells of a problem, weighted if it is, by sorting rows.
std::vector<RankTable> sorted_tables(const ProblemRows& problem, const CellSplit& split,
                                     const Workers& workers);

}  // namespace cupel::cpu
