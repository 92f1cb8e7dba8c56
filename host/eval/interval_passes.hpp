// Passes over the rows of a regression task: errors of predictions, thresholds of conformal
// intervals from the calibration rows, and what the intervals of the other rows sum up to. States
// are integers: the same for any order of rows, division into parts, and number of threads.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cupel/metric/interval.hpp"
#include "eval/prepare.hpp"
#include "eval/scopes.hpp"

namespace cupel {

/// The sums of each cell. Memory: 1.7 KB a cell and thread.
std::vector<ErrorSums> error_sums(std::span<const PreparedTable> parts, const UnitedCells& cells,
                                  int threads);

/// The rule of a query: the one it names, else kGiven without halves, else kAbsolute, or kCqr where
/// there is no `pred`. Errors: kInput where the rows lack a column that the rule takes; kUsage
/// where `pred` has several models.
Result<IntervalRule> interval_rule(const IntervalQuery& query, const RegressionView& rows,
                                   bool has_halves);

/// Thresholds of every category: all rows, or those of equal group values.
struct IntervalThresholds {
  IntervalRule rule = IntervalRule::kGiven;
  std::vector<IntervalThreshold> of_category;
  std::vector<std::string> names;  ///< [category] group values, "a,b"; empty of unknown ones
  std::vector<u32> category;       ///< [cell]
  i64 calibration_rows = 0;

  /// The threshold keys of a row in a cell, for interval_of() and covers(); 0 of kGiven.
  IntervalKeys of(u32 cell) const {
    return rule == IntervalRule::kGiven ? IntervalKeys{} : of_category[category[cell]].keys;
  }
};

/// From the calibration rows (cells.calibration; every query but one of kGiven needs halves), with
/// the rule as found by interval_rule(). A category without calibration rows, or with too few, has
/// an infinite threshold. Memory: 8 bytes a calibration row and side. Time: a pass over all rows
/// and a selection.
IntervalThresholds interval_thresholds(std::span<const PreparedTable> parts,
                                       const UnitedCells& cells, const IntervalQuery& query,
                                       IntervalRule rule);

/// The sums of each cell's intervals, those of the calibration rows too; each row is judged by the
/// threshold of its cell. Memory: 1.2 KB a cell and thread.
std::vector<IntervalSums> interval_sums(std::span<const PreparedTable> parts,
                                        const UnitedCells& cells,
                                        const IntervalThresholds& thresholds, int threads);

/// The widths of intervals, cell by cell: what medians are selected from. 8 bytes a row.
class IntervalWidths {
 public:
  IntervalWidths(std::span<const PreparedTable> parts, const UnitedCells& cells,
                 const IntervalThresholds& thresholds);
  /// Of the rows of these cells; zeros where there are none. O(rows).
  WidthOrder of(const std::vector<u32>& cells) const;

 private:
  Buffer<double> widths_;
  std::vector<i64> first_;  ///< [cell] and the end
};

}  // namespace cupel
