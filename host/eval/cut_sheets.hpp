// Accepted pairs by class at cuts, gathered from passes and from lists of pairs, and read by gap.
#pragma once

#include <span>
#include <vector>

#include "backend/thread_pool.hpp"
#include "cupel/state/embedding_pairs.hpp"

namespace cupel {

/// Pairs of a list by class and by the first cut that is not below their gap, as a pass counts
/// them. `cuts` ascend strictly; pairs above the last are left out of every column but the last.
ClassCuts bin_pairs(const EmbeddingView& view, const PairList& list, std::span<const float> cuts,
                    ThreadPool& pool);

class CutSheets {
 public:
  /// The counts of a pass with these cuts.
  void add(std::vector<float> cuts, ClassCuts counts);
  /// The counts of a list of all pairs in (from, cuts.back()]; `from` is known, or below all gaps.
  void add_above(float from, std::vector<float> cuts, ClassCuts counts);

  bool has(float cut) const { return find(cut).sheet != nullptr; }
  /// [class] pairs up to a known cut.
  struct Column {
    const ClassCuts* sheet = nullptr;
    std::size_t at = 0;
    u64 pos(u32 cls) const { return sheet->pos[cls * sheet->columns + at]; }
    u64 neg(u32 cls) const { return sheet->neg[cls * sheet->columns + at]; }
    /// Negative pairs, each once.
    u64 negatives() const;
    /// All pairs, each once.
    u64 pairs() const;
  };
  Column find(float cut) const;

 private:
  struct Sheet {
    std::vector<float> cuts;
    ClassCuts counts;  ///< up to each cut; the last column is all
  };
  std::vector<Sheet> sheets_;
};

}  // namespace cupel
