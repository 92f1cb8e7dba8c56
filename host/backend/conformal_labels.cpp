#include "backend/conformal_labels.hpp"

#include <algorithm>
#include <bit>
#include <mutex>
#include <new>

#include "backend/conformal_ranges.hpp"
#include "backend/conformal_rows.hpp"
#include "backend/thread_pool.hpp"

namespace cupel {
namespace {

constexpr i64 kWord = 64;

/// The labels of sets of one row after another, for one thread.
class LabelWalk {
 public:
  LabelWalk(const TableView& table, std::span<const ConformalSet> sets, KeptScores kept)
      : table_(table),
        sets_(sets),
        kept_(kept),
        reader_(table),
        classes_(reader_.classes()),
        order_(classes_) {
    scores_.resize(static_cast<std::size_t>(classes_));
    const auto words = static_cast<std::size_t>((classes_ + kWord - 1) / kWord);
    inside_.resize(sets.size(), std::vector<u64>(words));
    always_ = inside_;
    for (std::size_t s = 0; s < sets.size(); ++s) {
      i64 most = -1;
      for (std::size_t j = 0; sets[s].by == ThresholdsBy::kLabel && j < sets[s].thresholds.size();
           ++j) {
        const i64 own = sets[s].thresholds[j];
        if (own == kEveryLabel) {
          put(always_[s], static_cast<i64>(j));
        } else {
          most = std::max(most, own);
        }
      }
      furthest_.push_back(most);
    }
  }

  /// Finds the sets of a row; false where it has a score outside [0, 1].
  bool take(i64 row) {
    const bool inside = reader_.read(row);
    inside_ = always_;
    if (sets_.empty()) return inside;
    const ConformalRule& rule = sets_[0].rule;
    const bool ordered =
        rule.score != ConformalScore::kLac && rule.score != ConformalScore::kMargin;
    const u32 cell = table_.cells == nullptr ? 0 : table_.cells[row];
    ordered ? walk_in_order(rule, row, cell) : walk_as_they_lie(rule, row, cell);
    for (std::size_t s = 0; s < sets_.size(); ++s) {
      const bool empty =
          std::all_of(inside_[s].begin(), inside_[s].end(), [](u64 word) { return word == 0; });
      if (!empty || !sets_[s].argmax_if_empty) continue;
      const i64* masses = reader_.masses();
      const i64 top = std::max_element(masses, masses + classes_) - masses;
      put(inside_[s], top);
      if (ordered && kept_ == KeptScores::kOfSets) score_top(rule, row, top);
    }
    return inside;
  }

  /// Whether a set holds the row's own label.
  bool covers(std::size_t set) const {
    const i64 label = reader_.label();
    return (inside_[set][static_cast<std::size_t>(label / kWord)] >> (label % kWord) & 1) != 0;
  }
  /// Appends the labels of a set, ascending, and their scores where asked for; returns the size.
  u32 append(std::size_t set, LabelSets& to) const {
    u32 size = 0;
    for (std::size_t w = 0; w < inside_[set].size(); ++w) {
      for (u64 word = inside_[set][w]; word != 0; word &= word - 1) {
        const auto label = static_cast<u16>(static_cast<i64>(w) * kWord + std::countr_zero(word));
        to.labels.push_back(label);
        if (kept_ == KeptScores::kOfSets) to.scores.push_back(scores_[label]);
        ++size;
      }
    }
    return size;
  }
  const Buffer<i64>& scores() const { return scores_; }

 private:
  static void put(std::vector<u64>& words, i64 label) {
    words[static_cast<std::size_t>(label / kWord)] |= u64{1} << (label % kWord);
  }

  /// Scores that need no order: lac and margin.
  void walk_as_they_lie(const ConformalRule& rule, i64 row, u32 cell) {
    const i64* masses = reader_.masses();
    if (rule.score == ConformalScore::kLac) {
      for (i64 j = 0; j < classes_; ++j) score(j) = kConformalOne - masses[j];
    } else {
      const RowLargest largest = reader_.largest(true);
      for (i64 j = 0; j < classes_; ++j) score(j) = largest.first - masses[j];
      const i64 top = std::max_element(masses, masses + classes_) - masses;
      score(top) = largest.second - largest.first;
    }
    for (std::size_t s = 0; s < sets_.size(); ++s) {
      const ConformalSet& set = sets_[s];
      const bool by_label = set.by == ThresholdsBy::kLabel;
      const i64 one = by_label ? 0 : set.threshold(row, cell, 0);
      for (i64 first = 0; first < classes_; first += kWord) {
        const i64 last = std::min(classes_, first + kWord);
        u64 word = 0;
        for (i64 j = first; j < last; ++j) {
          const i64 most = by_label ? set.thresholds[static_cast<std::size_t>(j)] : one;
          word |= u64{score(j) <= most} << (j - first);
        }
        inside_[s][static_cast<std::size_t>(first / kWord)] = word;
      }
    }
  }

  /// The others: from the largest mass down, no further than the thresholds ask.
  void walk_in_order(const ConformalRule& rule, i64 row, u32 cell) {
    // Labels that are in whatever their score need one only where scores are kept.
    i64 furthest = kept_ == KeptScores::kAll ? kEveryLabel : -1;
    for (std::size_t s = 0; s < sets_.size(); ++s) {
      const ConformalSet& set = sets_[s];
      const bool by_label = set.by == ThresholdsBy::kLabel;
      i64 most = by_label ? furthest_[s] : set.threshold(row, cell, 0);
      const bool always = by_label ? has_any(always_[s]) : most == kEveryLabel;
      if (always && kept_ != KeptScores::kNone) most = kEveryLabel;
      if (!by_label && always && kept_ == KeptScores::kNone) {
        for (i64 j = 0; j < classes_; ++j) put(inside_[s], j);
        continue;
      }
      furthest = std::max(furthest, most);
    }
    if (furthest < 0) return;
    const RowLargest largest = reader_.largest(false);
    const OrderedLabels::Bound bound{&rule, furthest};
    order_.take(reader_, largest, {&bound, 1}, rule.ties == ConformalTies::kGroup);
    const u64 key = table_.row_key(row);
    for (i64 r = 0; r < order_.count(); ++r) {
      const i64 label = order_.label(r);
      score(label) = drawn_score(rule, score_range(rule, order_.place(rule, r), largest),
                                 conformal_draw(rule, key, label));
      for (std::size_t s = 0; s < sets_.size(); ++s) {
        if (score(label) <= sets_[s].threshold(row, cell, label)) put(inside_[s], label);
      }
    }
  }
  static bool has_any(const std::vector<u64>& words) {
    return std::any_of(words.begin(), words.end(), [](u64 word) { return word != 0; });
  }

  /// The score of the label of rank 1, which may be above every threshold.
  void score_top(const ConformalRule& rule, i64 row, i64 top) {
    score(top) = conformal_score(rule, reader_.kernels().place(reader_.masses(), classes_, top),
                                 reader_.largest(true), table_.row_key(row), top);
  }

  i64& score(i64 label) { return scores_[static_cast<std::size_t>(label)]; }

  const TableView& table_;
  std::span<const ConformalSet> sets_;
  KeptScores kept_;
  MassReader reader_;
  i64 classes_;
  OrderedLabels order_;
  Buffer<i64> scores_;
  std::vector<std::vector<u64>> inside_;  ///< [set] a bit a label
  std::vector<std::vector<u64>> always_;  ///< [set] by label: those with kEveryLabel
  std::vector<i64> furthest_;             ///< [set] by label: the largest threshold of the others
};

/// What one range of rows gives.
ConformalLabelSets sets_of_range(const TableView& table, std::span<const ConformalSet> sets,
                                 const std::vector<bool>& wanted, KeptScores kept, i64 first,
                                 i64 last) {
  ConformalLabelSets out;
  out.sets.resize(sets.size());
  LabelWalk walk(table, sets, kept);
  const bool labelled = table.binary_labels != nullptr || table.class_labels != nullptr;
  for (i64 row = first; row < last; ++row) {
    if (!is_wanted(table, wanted, row)) continue;
    if (!walk.take(row)) ++out.outside_unit;
    out.rows.push_back(row);
    if (kept == KeptScores::kAll) {
      out.scores.insert(out.scores.end(), walk.scores().begin(), walk.scores().end());
    }
    for (std::size_t s = 0; s < sets.size(); ++s) {
      out.sets[s].sizes.push_back(walk.append(s, out.sets[s]));
      out.sets[s].covers.push_back(labelled && walk.covers(s) ? 1 : 0);
    }
  }
  return out;
}

template <class T>
void move_behind(Buffer<T>& to, Buffer<T>& from) {
  if (to.empty()) {
    to = std::move(from);
  } else {
    to.insert(to.end(), from.begin(), from.end());
  }
  from = {};
}

}  // namespace

Result<ConformalLabelSets> conformal_label_sets(const TableView& table,
                                                std::span<const ConformalSet> sets,
                                                const std::vector<bool>& wanted, KeptScores kept,
                                                int threads) {
  if (auto checked = check_table(table, wanted); !checked) return checked.error();
  try {
    ConformalLabelSets out;
    out.sets.resize(sets.size());
    if (table.rows == 0) return out;
    const i64 rows = task_rows(table);
    std::vector<ConformalLabelSets> found(static_cast<std::size_t>((table.rows + rows - 1) / rows));
    ThreadPool pool(std::max(1, threads));
    for_row_ranges(table, pool, [&](int, i64 task, i64 first, i64 last) {
      found[static_cast<std::size_t>(task)] = sets_of_range(table, sets, wanted, kept, first, last);
    });
    for (ConformalLabelSets& one : found) {
      move_behind(out.scores, one.scores);
      move_behind(out.rows, one.rows);
      out.outside_unit += one.outside_unit;
      for (std::size_t s = 0; s < sets.size(); ++s) {
        move_behind(out.sets[s].sizes, one.sets[s].sizes);
        move_behind(out.sets[s].covers, one.sets[s].covers);
        move_behind(out.sets[s].labels, one.sets[s].labels);
        move_behind(out.sets[s].scores, one.sets[s].scores);
      }
    }
    return out;
  } catch (const std::bad_alloc&) {
    return no_memory(table);
  }
}

}  // namespace cupel
