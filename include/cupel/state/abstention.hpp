// What a policy of three answers did with rows: one label, a set of labels, or none.
#pragma once

#include <vector>

#include "cupel/core/int.hpp"

namespace cupel {

/// Counts of rows by what was answered; all that the cost of a policy is made of.
struct AbstentionCounts {
  u64 singles = 0;
  u64 singles_right = 0;
  u64 sets = 0;
  u64 sets_covered = 0;  ///< the label is in the set
  u64 set_labels = 0;    ///< sum of the sizes of the sets
  u64 abstained = 0;

  u64 answered() const { return singles + sets; }
  u64 rows() const { return answered() + abstained; }
  void merge(const AbstentionCounts& other) {
    singles += other.singles;
    singles_right += other.singles_right;
    sets += other.sets;
    sets_covered += other.sets_covered;
    set_labels += other.set_labels;
    abstained += other.abstained;
  }
  bool operator==(const AbstentionCounts&) const = default;
};

/// The same of the rows of a segment, with what else is told of them.
struct AbstentionSums {
  AbstentionCounts counts;
  u64 sets_right = 0;       ///< rows of sets whose most probable label is theirs
  u64 abstained_right = 0;  ///< the same of rows without an answer
  std::vector<u64> sizes;   ///< [size] rows with a set of so many labels; empty: no rows

  void merge(const AbstentionSums& other) {
    counts.merge(other.counts);
    sets_right += other.sets_right;
    abstained_right += other.abstained_right;
    if (sizes.size() < other.sizes.size()) sizes.resize(other.sizes.size());
    for (std::size_t size = 0; size < other.sizes.size(); ++size) sizes[size] += other.sizes[size];
  }
  bool operator==(const AbstentionSums&) const = default;
};

}  // namespace cupel
