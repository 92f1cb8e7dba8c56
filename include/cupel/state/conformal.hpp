// What conformal prediction asks of rows, and the integers that they add up to.
#pragma once

#include <vector>

#include "cupel/core/buffer.hpp"
#include "cupel/math/conformal.hpp"

namespace cupel {

/// What a threshold belongs to.
enum class ThresholdsBy : u8 {
  kAll,    ///< thresholds[0]
  kCell,   ///< thresholds[cell of the row]
  kLabel,  ///< thresholds[label], of the label that may be in the set
  kRow,    ///< thresholds[row of the table]
};

/// A set of labels for each row: those with a score <= threshold.
struct ConformalSet {
  ConformalRule rule;
  std::vector<i64> thresholds{kEveryLabel};
  ThresholdsBy by = ThresholdsBy::kAll;
  bool argmax_if_empty = false;  ///< the label of rank 1 is put into an otherwise empty set

  i64 threshold(i64 row, u32 cell, i64 label) const {
    switch (by) {
      case ThresholdsBy::kAll:
        return thresholds[0];
      case ThresholdsBy::kCell:
        return thresholds[cell];
      case ThresholdsBy::kLabel:
        return thresholds[static_cast<std::size_t>(label)];
      case ThresholdsBy::kRow:
        return thresholds[static_cast<std::size_t>(row)];
    }
    return kEveryLabel;
  }
  bool operator==(const ConformalSet&) const = default;
};

/// Scores of rows and their own labels.
struct ConformalScores {
  std::vector<Buffer<i64>> scores;  ///< [rule][wanted row], in the order of rows
  u64 outside_unit = 0;             ///< rows with a score outside [0, 1]; never of logits
};

/// Sets of rows, without their labels.
struct ConformalRowSets {
  std::vector<Buffer<u32>> sets;  ///< [set][wanted row], in the order of rows: pack()
  Buffer<i32> ranks;              ///< [wanted row] of the row's own label, from 1, ties by index
  u64 outside_unit = 0;           ///< as above

  static u32 pack(i64 size, bool covers) {
    return static_cast<u32>(size) << 1 | static_cast<u32>(covers);
  }
  static i64 size(u32 packed) { return packed >> 1; }
  static bool covers(u32 packed) { return (packed & 1) != 0; }
};

/// How rows of one kind fared.
struct SetTally {
  u64 rows = 0;
  u64 covered = 0;  ///< rows whose label is in their set
  u64 labels = 0;   ///< sum of the sizes

  void add(u64 size, bool covers) {
    ++rows;
    covered += covers ? 1 : 0;
    labels += size;
  }
  void merge(const SetTally& other) {
    rows += other.rows;
    covered += other.covered;
    labels += other.labels;
  }
  bool operator==(const SetTally&) const = default;
};

/// What the sets of some rows sum up to. Without rows the lists may be empty.
struct SetSums {
  SetTally all;
  std::vector<SetTally> by_size;   ///< [size] of sets of 0 ... classes labels
  std::vector<SetTally> by_class;  ///< [label of the row]
  std::vector<SetTally> by_rank;   ///< [rank of the row's label, from 0, equal masses by index]
  u64 outside_unit = 0;            ///< as above

  void resize(i64 classes) {
    by_size.resize(static_cast<std::size_t>(classes) + 1);
    by_class.resize(static_cast<std::size_t>(classes));
    by_rank.resize(static_cast<std::size_t>(classes));
  }
  /// `rank` from 1. After resize().
  void add(i64 size, bool covers, i64 label, i64 rank) {
    const auto labels = static_cast<u64>(size);
    all.add(labels, covers);
    by_size[static_cast<std::size_t>(size)].add(labels, covers);
    by_class[static_cast<std::size_t>(label)].add(labels, covers);
    by_rank[static_cast<std::size_t>(rank - 1)].add(labels, covers);
  }
  /// Adds the sums of other rows under the same set and number of classes.
  void merge(const SetSums& other) {
    const auto add = [](std::vector<SetTally>& mine, const std::vector<SetTally>& theirs) {
      if (mine.size() < theirs.size()) mine.resize(theirs.size());
      for (std::size_t i = 0; i < theirs.size(); ++i) mine[i].merge(theirs[i]);
    };
    all.merge(other.all);
    add(by_size, other.by_size);
    add(by_class, other.by_class);
    add(by_rank, other.by_rank);
    outside_unit += other.outside_unit;
  }
  bool operator==(const SetSums&) const = default;
};

}  // namespace cupel
