#include "eval/cut_sheets.hpp"

#include <algorithm>
#include <mutex>

namespace cupel {
namespace {

/// Finds the first cut that is not below a gap: from a hint by the gap's place between the first
/// and the last cut, which no gap there is below, a few steps on.
class Columns {
 public:
  explicit Columns(std::span<const float> cuts) : cuts_(cuts) {
    if (cuts.size() < 2) return;
    first_ = cuts.front();
    const double width = static_cast<double>(cuts.back()) - static_cast<double>(first_);
    const std::size_t cells = cuts.size() * 8;
    per_cell_ = static_cast<float>(static_cast<double>(cells) / width);
    if (!(per_cell_ > 0 && per_cell_ < 1e30F)) return;
    hints_.resize(cells + 2);
    std::size_t column = 0;
    for (std::size_t cell = 0; cell < hints_.size(); ++cell) {
      while (column + 1 < cuts.size() && cell_of(cuts[column]) < cell) ++column;
      hints_[cell] = static_cast<u32>(column);
    }
  }
  std::size_t of(float gap) const {
    if (hints_.empty() || !(gap > first_)) {
      return static_cast<std::size_t>(std::lower_bound(cuts_.begin(), cuts_.end(), gap) -
                                      cuts_.begin());
    }
    std::size_t column = hints_[cell_of(gap)];
    while (column < cuts_.size() && cuts_[column] < gap) ++column;
    return column;
  }

 private:
  /// Does not fall with the gap.
  std::size_t cell_of(float gap) const {
    const float cell = (gap - first_) * per_cell_;
    return cell >= static_cast<float>(hints_.size() - 1) ? hints_.size() - 1
                                                         : static_cast<std::size_t>(cell);
  }

  std::span<const float> cuts_;
  float first_ = 0, per_cell_ = 0;
  std::vector<u32> hints_;
};

/// From pairs of each column to pairs up to it.
void accumulate(ClassCuts& counts) {
  for (u32 cls = 0; cls < counts.classes; ++cls) {
    for (std::size_t k = 1; k < counts.columns; ++k) {
      counts.pos_at(cls, k) += counts.pos_at(cls, k - 1);
      counts.neg_at(cls, k) += counts.neg_at(cls, k - 1);
    }
  }
}

}  // namespace

ClassCuts bin_pairs(const EmbeddingView& view, const PairList& list, std::span<const float> cuts,
                    ThreadPool& pool) {
  ClassCuts all(view.class_count, cuts.size());
  const Columns columns(cuts);
  std::vector<ClassCuts> own(static_cast<std::size_t>(pool.threads()));
  pool.parallel_for(static_cast<i64>(list.chunks.size()), [&](int worker, i64 index) {
    ClassCuts& counts = own[static_cast<std::size_t>(worker)];
    if (counts.columns == 0) counts = ClassCuts(view.class_count, cuts.size());
    const PairList::Chunk& chunk = list.chunks[static_cast<std::size_t>(index)];
    std::size_t at = 0;
    for (const PairList::Tile& tile : chunk.tiles) {
      for (const std::size_t end = at + tile.count; at < end; ++at) {
        const u32 a = view.classes[tile.row + (chunk.places[at] >> 8)];
        const u32 b = view.classes[tile.col + (chunk.places[at] & 255)];
        const std::size_t column = columns.of(chunk.gaps[at]);
        if (a == b) {
          ++counts.pos_at(a, column);
        } else {
          ++counts.neg_at(a, column);
          ++counts.neg_at(b, column);
        }
      }
    }
  });
  for (const ClassCuts& counts : own) all.merge(counts);
  return all;
}

void CutSheets::add(std::vector<float> cuts, ClassCuts counts) {
  accumulate(counts);
  sheets_.push_back({std::move(cuts), std::move(counts)});
}

void CutSheets::add_above(float from, std::vector<float> cuts, ClassCuts counts) {
  if (const Column base = find(from); base.sheet != nullptr) {
    for (u32 cls = 0; cls < counts.classes; ++cls) {
      counts.pos_at(cls, 0) += base.pos(cls);
      counts.neg_at(cls, 0) += base.neg(cls);
    }
  }
  add(std::move(cuts), std::move(counts));
}

CutSheets::Column CutSheets::find(float cut) const {
  for (const Sheet& sheet : sheets_) {
    const auto at = std::lower_bound(sheet.cuts.begin(), sheet.cuts.end(), cut);
    if (at == sheet.cuts.end() || *at != cut) continue;
    return {&sheet.counts, static_cast<std::size_t>(at - sheet.cuts.begin())};
  }
  return {};
}

u64 CutSheets::Column::negatives() const {
  u64 twice = 0;
  for (u32 cls = 0; cls < sheet->classes; ++cls) twice += neg(cls);
  return twice / 2;
}

u64 CutSheets::Column::pairs() const {
  u64 positives = 0;
  for (u32 cls = 0; cls < sheet->classes; ++cls) positives += pos(cls);
  return positives + negatives();
}

}  // namespace cupel
