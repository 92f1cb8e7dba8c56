// Conformal scores of rows, and the masses they are made from: those of the host, bit for bit,
// since both come from math/conformal.hpp and the softmax that all metrics share.
#pragma once

#include "atomic.hpp"
#include "block.hpp"
#include "cupel/math/conformal.hpp"
#include "cupel/math/row_terms.hpp"
#include "pipeline/scores.hpp"
#include "pipeline/table.hpp"

namespace cupel::device {

/// What a mass of a row needs beside its own score.
struct RowScale {
  double max = 0;
  double scale = 1;
};

/// Rows with conformal scores: those in cells that are wanted.
struct ConformalRows {
  TableOnDevice table;
  i64 classes;       ///< 2 of a binary table
  const u8* wanted;  ///< [cells]
  const u64* keys;   ///< [rows] what draws follow; null: first_key + row
  u64 first_key;
  u64* outside;  ///< wanted rows with a value that is no probability; null: not counted

  CUPEL_HD bool is_wanted(i64 row) const {
    return row < table.rows && wanted[table.cell(row)] != 0;
  }
  CUPEL_HD void count_outside() const {
    if (outside != nullptr) atomic_add(outside, u64{1});
  }
  CUPEL_HD bool is_binary() const { return table.task == TaskKind::kBinary; }
  CUPEL_HD bool has_softmax() const { return table.logits && !is_binary(); }
  CUPEL_HD i64 label(i64 row) const {
    return is_binary() ? static_cast<i64>(table.labels[row])
                       : static_cast<i64>(table.class_labels[row]);
  }
  CUPEL_HD u64 key(i64 row) const {
    return keys != nullptr ? keys[row] : first_key + static_cast<u64>(row);
  }
  CUPEL_HD CUPEL_INLINE double value(i64 row, i64 column) const {
    return number(table.element, table.at(row, column));
  }
  CUPEL_HD CUPEL_INLINE i64 mass_of_term(double term, const RowScale& of) const {
    return conformal_mass(scaled_softmax_p(term, of.scale));
  }
  CUPEL_HD CUPEL_INLINE i64 mass(i64 row, i64 j, const RowScale& of) const {
    if (has_softmax()) return mass_of_term(softmax_term(value(row, j), of.max), of);
    double p = value(row, is_binary() ? 0 : j);
    if (table.logits) p = sigmoid_det(p);
    const i64 own = conformal_mass(is_probability(p) ? p : 0.0);
    return is_binary() && j == 0 ? kConformalOne - own : own;
  }
};

/// What a lane knows of its columns before the softmax: the largest logit, or whether any value is
/// no probability.
struct LaneScan {
  double max = 0;
  u32 outside = 0;
  u32 unused = 0;
};
struct MergeLaneScans {
  CUPEL_HD void operator()(const LaneScan& from, LaneScan& into) const {
    into.max = from.max > into.max ? from.max : into.max;
    into.outside |= from.outside;
  }
};

/// Columns lane, lane + step, ... of a wanted row.
CUPEL_HD CUPEL_INLINE LaneScan scan_lane(const ConformalRows& rows, i64 row, i64 lane, i64 step) {
  LaneScan own;
  const i64 columns = rows.table.columns;
  if (rows.has_softmax()) {
    // A lane beyond the last column repeats the first.
    own.max = rows.value(row, lane < columns ? lane : 0);
    for (i64 j = lane + step; j < columns; j += step) {
      const double next = rows.value(row, j);
      own.max = next > own.max ? next : own.max;
    }
  } else if (!rows.table.logits) {
    for (i64 j = lane; j < columns; j += step) {
      own.outside |= is_probability(rows.value(row, j)) ? 0u : 1u;
    }
  }
  return own;
}

/// Where the label of a row is, and the largest masses, of some of its columns or of all.
struct RowPlace {
  i64 first = 0;
  i64 second = 0;
  i64 leader = kEveryLabel;  ///< the column of `first`, the lowest of equal ones
  i64 larger = 0;
  i64 equal = 0;
  i64 before = 0;  ///< of the equal ones, those of lower index
  u64 larger_sum = 0;

  CUPEL_HD CUPEL_INLINE void take(i64 mass, i64 j, i64 of_label, i64 label) {
    if (mass > first || leader == kEveryLabel) leader = j;
    const i64 below = mass > first ? first : mass;
    first = mass > first ? mass : first;
    second = below > second ? below : second;
    const bool same = mass == of_label;
    larger += mass > of_label ? 1 : 0;
    larger_sum += static_cast<u64>(mass > of_label ? mass : 0);
    equal += same ? 1 : 0;
    before += same && j < label ? 1 : 0;
  }
  CUPEL_HD RowLargest largest() const { return {first, second}; }
  CUPEL_HD LabelPlace place(i64 mass) const {
    return {mass, larger, equal, larger + before + 1, larger_sum};
  }
};
struct MergeRowPlaces {
  CUPEL_HD void operator()(const RowPlace& from, RowPlace& into) const {
    // A part without columns has the mass 0 and no leader: neither changes anything.
    const bool ahead =
        from.first > into.first || (from.first == into.first && from.leader < into.leader);
    into.leader = ahead ? from.leader : into.leader;
    const i64 below = from.first < into.first ? from.first : into.first;
    const i64 seconds = from.second > into.second ? from.second : into.second;
    into.first = from.first > into.first ? from.first : into.first;
    into.second = below > seconds ? below : seconds;
    into.larger += from.larger;
    into.equal += from.equal;
    into.before += from.before;
    into.larger_sum += from.larger_sum;
  }
};

/// Runs the phases that find the scales of the block's rows, kGroup threads each, and, where
/// `terms` has room for them ([row of the block][class]), the terms of their softmax.
template <int kGroup, int kThreads, class Block>
CUPEL_HD CUPEL_INLINE void scale_rows(Block& block, const ConformalRows& rows, i64 first,
                                      double* terms,
                                      typename Block::template PerThread<RowScale>& scales) {
  typename Block::template PerThread<LaneScan> scan;
  typename Block::template PerThread<UnitSum> sum;
  block.each([&](int t) {
    const i64 row = first + t / kGroup;
    scan[t] = rows.is_wanted(row) ? scan_lane(rows, row, t % kGroup, kGroup) : LaneScan{};
  });
  block.template merge_groups<kGroup>(scan, MergeLaneScans{});
  block.each([&](int t) {
    const i64 row = first + t / kGroup;
    sum[t] = UnitSum{};
    if (!rows.is_wanted(row)) return;
    if (scan[t].outside != 0 && t % kGroup == 0) rows.count_outside();
    if (!rows.has_softmax()) return;
    scan[t].max += 0.0;  // +0 where it is a zero
    double* own = terms != nullptr ? terms + t / kGroup * rows.classes : nullptr;
    for (i64 j = t % kGroup; j < rows.table.columns; j += kGroup) {
      const double term = softmax_term(rows.value(row, j), scan[t].max);
      sum[t].add(term);
      if (own != nullptr) own[j] = term;
    }
  });
  if (!rows.has_softmax()) return;
  block.template merge_groups<kGroup>(sum, MergeUnitSums{});
  block.each([&](int t) {
    if (!rows.is_wanted(first + t / kGroup)) return;
    scales[t] = {scan[t].max, softmax_scale({scan[t].max, sum[t].value()})};
  });
}

/// The scores of each row's own label, kGroup threads a row. With `staged` a row's terms stay in
/// shared memory; else its exponentials are computed twice.
template <int kGroup>
struct ConformalScoreRows {
  static constexpr int kThreads = 128;
  static constexpr int kRows = kThreads / kGroup;

  ConformalRows rows;
  const ConformalRule* rules;
  i64 rule_count;
  bool staged;
  i64* out;  ///< [rule][row]

  CUPEL_HD static i64 staged_bytes(i64 classes) {
    return kRows * classes * static_cast<i64>(sizeof(double));
  }
  CUPEL_HD i64 shared_bytes() const { return staged ? staged_bytes(rows.classes) : 0; }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    typename Block::template PerThread<RowScale> scales;
    typename Block::template PerThread<RowPlace> places;
    double* const terms = staged ? reinterpret_cast<double*>(block.shared()) : nullptr;
    for (i64 first = block.index() * kRows; first < rows.table.rows;
         first += block.count() * kRows) {
      scale_rows<kGroup, kThreads>(block, rows, first, terms, scales);
      block.each([&](int t) {
        const i64 row = first + t / kGroup;
        places[t] = RowPlace{};
        if (!rows.is_wanted(row)) return;
        const RowScale scale = scales[t];
        const i64 label = rows.label(row);
        const i64 of_label = rows.mass(row, label, scale);
        const double* own = terms != nullptr ? terms + t / kGroup * rows.classes : nullptr;
        for (i64 j = t % kGroup; j < rows.classes; j += kGroup) {
          const i64 mass =
              own != nullptr ? rows.mass_of_term(own[j], scale) : rows.mass(row, j, scale);
          places[t].take(mass, j, of_label, label);
        }
      });
      block.template merge_groups<kGroup>(places, MergeRowPlaces{});
      block.each([&](int t) {
        const i64 row = first + t / kGroup;
        if (!rows.is_wanted(row)) return;
        const i64 label = rows.label(row);
        const LabelPlace place = places[t].place(rows.mass(row, label, scales[t]));
        for (i64 r = t % kGroup; r < rule_count; r += kGroup) {
          out[r * rows.table.rows + row] =
              conformal_score(rules[r], place, places[t].largest(), rows.key(row), label);
        }
      });
    }
  }
};

}  // namespace cupel::device
