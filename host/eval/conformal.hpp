// Split conformal prediction: one pass over the calibration rows for their scores, a selection for
// the thresholds, and one pass over the other rows for what their sets sum up to.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/metric/conformal.hpp"
#include "eval/prepare.hpp"
#include "eval/weighted_scores.hpp"

namespace cupel {

/// Rows of a table that thresholds are taken from, or that sets are made for.
struct ConformalRows {
  const TableView* view = nullptr;
  std::vector<bool> wanted;      ///< [cell of the view]
  std::vector<u32> combination;  ///< [cell of the view] number of its combination of group values
};

/// The thresholds of one query.
struct QueryThresholds {
  ConformalQuery query;
  i64 calibration_rows = 0;
  /// kMarginal: one; kClass: [label]; kGroup: [combination]; kCluster: [cluster], and the last of
  /// the labels in none; kWeighted: none, each row has its own.
  std::vector<CategoryThreshold> categories;
  std::vector<u32> cluster_of;  ///< kCluster: [label]
  i64 clustering_rows = 0;      ///< kCluster: rows that only clusters are made of
  std::shared_ptr<const WeightedScores> weighted;  ///< kWeighted
};

struct CalibrationThresholds {
  std::vector<QueryThresholds> queries;
  bool outside_unit = false;  ///< some row has a score outside [0, 1]
};

/// Thresholds of all calibration rows of these tables together, which have equal tasks and classes.
/// Equal queries share their work. Queries that draw need row keys in the tables; kWeighted needs
/// weights. Memory: 8 bytes a row and rule, and for other modes than kMarginal 8 to 60 bytes a row
/// for one rule at a time. Time: one pass, and O(n) for each rule, kWeighted O(n log n). Errors:
/// those of the pass; weights that add up to 2^63 or more.
Result<CalibrationThresholds> find_thresholds(std::span<const ConformalRows> calibration,
                                              u32 combinations,
                                              std::span<const ConformalQuery> queries,
                                              Backend& backend, int threads);

/// The sets of a query for the rows of a table; kWeighted: 8 bytes a row.
ConformalSet sets_of(const QueryThresholds& thresholds, const ConformalRows& rows);

/// What metrics of sets are computed from.
struct ConformalStates {
  std::vector<QueryThresholds> thresholds;  ///< [query]
  std::vector<std::vector<SetSums>> sums;   ///< [query][cell]; of no calibration row
  std::vector<std::size_t> set_of;          ///< [query] which of the distinct sets it has
  /// [set][cell] thresholds of the rows that are not for calibration; of kWeighted alone.
  std::vector<std::vector<std::vector<i64>>> row_thresholds;
  std::vector<std::vector<ConformalSet>> sets;  ///< [query][part], where a slab is asked for
  std::vector<u32> combination;  ///< [cell] number of its combination of group values
  bool outside_unit = false;     ///< some row has a score outside [0, 1]
};

/// Cells of all parts, as metrics see them.
struct ConformalCells {
  const std::vector<std::vector<u32>>& map;  ///< [part][cell of the part] -> cell
  const std::vector<bool>& calibration;      ///< [cell]
  const std::vector<CellKey>& keys;          ///< [cell]; equal ones follow each other
};

/// find_thresholds() of all calibration rows, and the sums of the others by cell. Memory besides:
/// 72 bytes * cells * sets * classes. Errors: those of both passes.
Result<ConformalStates> conformal_states(std::span<const PreparedTable> parts,
                                         const ConformalCells& cells,
                                         std::span<const ConformalQuery> queries, Backend& backend,
                                         int threads);

/// Group values of a combination by column; null where they are unknown.
Detail named_combination(const CellKey& key, const std::vector<std::string>& columns);

/// What a metric is told of the thresholds of one query in a scope: `cells` are all of the scope's,
/// and `everyone` says that it is of no group. `columns` are those of the keys.
ConformalThreshold threshold_of(const ConformalStates& states, std::size_t query,
                                const ConformalCells& all, const std::vector<u32>& cells,
                                bool everyone, const std::vector<std::string>& columns);

/// What a query needs of the rows that they may not have. Errors (kUsage): mode=weighted without
/// weights, mode=group without groups.
Result<void> check_conformal(std::string_view metric, const ConformalQuery& query, bool weighted,
                             bool grouped);

}  // namespace cupel
