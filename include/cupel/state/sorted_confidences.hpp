// The sorted confidences of one set of rows, read off a RankTable: what equal-mass bins,
// calibration tests and kernel calibration errors are made of. No state of its own: the table is
// the one that AUROC uses, and scores become probabilities while it is walked.
#pragma once

#include <functional>
#include <span>

#include "cupel/core/int.hpp"
#include "cupel/state/rank_table.hpp"

namespace cupel {

/// The rows of one confidence. Masses are row counts, or weights in units of 2^-64.
struct ConfidenceGroup {
  double p = 0;
  u128 right = 0;
  u128 wrong = 0;

  u128 mass() const { return right + wrong; }
};

/// What the scores of a table stand for.
enum class ScoreMeaning : u8 { kProbability, kLogit };
/// Whose probability is the confidence.
enum class ConfidenceOf : u8 {
  kPositive,  ///< the positive class's; right where the row is positive
  kTop,       ///< the more probable class's, p > 0.5 or 1 - p; right where the row is of that class
};

/// A view of a table, which has to outlive it.
///
/// Scores that give one probability are one group: logits whose logistic function is the same
/// double, and, since that function may fall by a unit in the last place between neighbouring
/// float64 logits, logits whose probability is not above that of a smaller one. Rows of zero weight
/// are in no group.
class SortedConfidences {
 public:
  SortedConfidences(const RankTable& table, ScoreMeaning meaning, ConfidenceOf of)
      : table_(&table), meaning_(meaning), of_(of) {}

  bool weighted() const { return table_->weighted(); }
  /// Rows, those of zero weight too.
  u64 rows() const { return table_->pos_rows() + table_->neg_rows(); }
  /// O(1) without weights, else O(distinct scores).
  u128 mass() const;
  /// Whether all confidences are in [0, 1]; of nothing else may more be asked. O(1).
  bool are_probabilities() const;

  /// Calls take(groups) with all groups, strictly ascending, a block of at most kBlock at a time
  /// (none is empty). O(rows) without weights and ties, O(distinct scores) else; the memory of two
  /// blocks.
  void visit(const std::function<void(std::span<const ConfidenceGroup>)>& take) const;

  static constexpr std::size_t kBlock = 1024;

 private:
  const RankTable* table_;
  ScoreMeaning meaning_;
  ConfidenceOf of_;
};

}  // namespace cupel
