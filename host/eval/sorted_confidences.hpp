// Sorted confidences of the predicted class: the rank tables of a binary table that is made from a
// multiclass one, whose score is the largest probability and whose positives are the rows where its
// class is the label's. (Other confidences are sorted in the tables that rankings use.)
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "eval/prepare.hpp"

namespace cupel {

/// Cells of all parts together, and where each part's are among them.
struct CellsOfParts {
  std::size_t count = 0;
  std::span<const std::vector<u32>> of_part;  ///< [part][local cell] -> cell
};

/// Tables of one kind, [cell * sets + set][part]; one set, or one for each predicted class.
struct TopTables {
  i64 sets = 1;
  std::vector<std::vector<RankTable>> tables;

  /// The union of a set's tables over some cells.
  Result<RankTable> of(std::span<const u32> cells, i64 set, bool weighted) const;
};

/// Tables of the predicted class's confidence, all together and apart by predicted class, where
/// asked for. 13 bytes a row beside the tables; errors of the backend, and kUsage when there are
/// too many cells and classes.
struct TopTablesOf {
  std::optional<TopTables> all;
  std::optional<TopTables> by_predicted;
};
Result<TopTablesOf> top_tables(std::span<const PreparedTable> parts, const CellsOfParts& cells,
                               bool all, bool by_predicted, Backend& backend, int threads);

}  // namespace cupel
