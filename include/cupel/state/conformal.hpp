// What conformal prediction asks of rows, and the integers that they add up to.
#pragma once

#include <vector>

#include "cupel/core/buffer.hpp"
#include "cupel/math/conformal.hpp"

namespace cupel {

/// A set of labels for each row: those with a score <= threshold.
struct ConformalSet {
  ConformalRule rule;
  i64 threshold = kEveryLabel;
  bool argmax_if_empty = false;  ///< the label of rank 1 is put into an otherwise empty set

  bool operator==(const ConformalSet&) const = default;
};

/// Scores of rows and their own labels.
struct ConformalScores {
  std::vector<Buffer<i64>> scores;  ///< [rule][row], rows in some order
  u64 outside_unit = 0;             ///< rows with a score outside [0, 1]; never of logits
};

/// What the sets of some rows sum up to.
struct SetSums {
  u64 rows = 0;
  u64 covered = 0;         ///< rows whose label is in their set
  u64 labels = 0;          ///< sum of the sizes
  std::vector<u64> sizes;  ///< [size] rows with a set of 0 ... classes labels; empty: no rows
  u64 outside_unit = 0;    ///< as above

  void add(u64 size, bool covers) {
    ++rows;
    covered += covers ? 1 : 0;
    labels += size;
    ++sizes[size];
  }
  /// Adds the sums of other rows under the same set and number of classes.
  void merge(const SetSums& other) {
    rows += other.rows;
    covered += other.covered;
    labels += other.labels;
    outside_unit += other.outside_unit;
    if (sizes.size() < other.sizes.size()) sizes.resize(other.sizes.size());
    for (std::size_t size = 0; size < other.sizes.size(); ++size) sizes[size] += other.sizes[size];
  }
  bool operator==(const SetSums&) const = default;
};

}  // namespace cupel
