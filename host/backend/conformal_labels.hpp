// Conformal sets of rows, label by label: what is written out. They are made on the host whatever
// the backend; what they sum up to is what conformal_sets() counts.
#pragma once

#include <span>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/core/buffer.hpp"

namespace cupel {

/// Which scores come along with the sets.
enum class KeptScores : u8 {
  kNone,
  kOfSets,  ///< of the labels that are in a set
  kAll,     ///< of every label of a row
};

struct LabelSets {
  Buffer<u32> sizes;   ///< [wanted row], in the order of rows
  Buffer<u8> covers;   ///< [wanted row] 1 where it holds the row's label; without labels 0
  Buffer<u16> labels;  ///< set after set, ascending in each
  Buffer<i64> scores;  ///< kOfSets: of these labels
};

struct ConformalLabelSets {
  std::vector<LabelSets> sets;  ///< [set]
  Buffer<i64> scores;           ///< kAll: [wanted row, class]
  Buffer<i64> rows;             ///< [wanted row] its row in the table
  u64 outside_unit = 0;         ///< rows with a score outside [0, 1]; never of logits
};

/// The sets, all of one rule, of the rows in cells with `wanted` [cell] of a binary (two classes)
/// or multiclass table of at most 65,535 classes, which need not have labels. Equal at any number
/// of threads. 8 bytes a row, 5 a set, 2 (kOfSets: 10) a label of one. Errors: kInternal where
/// memory is out.
Result<ConformalLabelSets> conformal_label_sets(const TableView& table,
                                                std::span<const ConformalSet> sets,
                                                const std::vector<bool>& wanted, KeptScores kept,
                                                int threads);

}  // namespace cupel
