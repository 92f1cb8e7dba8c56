// Conformal scores of one row and a label: how badly the label fits the row's probabilities, as an
// integer. A set holds the labels with score <= threshold, so that a set and the calibration score
// of its label cannot disagree: both are sums of the same integers, in any order.
//
// Probabilities are rounded once, to 2^-48. Ranks count from 1, larger probabilities first. A score
// has a range, from `low` to `high`, as wide as its label's own part; u in [0, 1) says where in it:
//   lac     1 - p[y], a single value                 Sadinle, Lei, Wasserman 2019
//   aps     sum of p up to and including rank r - u p[y]    Romano, Sesia, Candes 2020
//   raps    aps + lambda * max(0, r - k_reg)         Angelopoulos, Bates, Malik, Jordan 2021
//   saps    largest p + lambda * (r - 2 + u), of rank 1 u * largest p    Huang et al. 2024
//   topk    r - u, in ranks
//   margin  largest p of the other labels - p[y], a single value
// A score that is not randomised is the upper end: a label counts with its whole mass.
//
// Equal probabilities have ranks of their own in the order of class index, or, as a group, all have
// the last of their ranks, and p[y] is then their sum.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/counter_random.hpp"
#include "cupel/math/elementary.hpp"

namespace cupel {

/// Scores but those of topk are integers in units of 2^-48.
inline constexpr int kConformalBits = 48;
inline constexpr i64 kConformalOne = i64{1} << kConformalBits;
/// Scores of topk are in units of 2^-32 of a rank.
inline constexpr int kRankBits = 32;
inline constexpr i64 kRankOne = i64{1} << kRankBits;
/// A threshold above every score: the set is all labels.
inline constexpr i64 kEveryLabel = 0x7FFFFFFFFFFFFFFF;
/// lambda * classes is at most this, so that no score overflows.
inline constexpr i64 kMostPenalty = i64{1} << 13;
/// Sums of masses stop here, where no probabilities come: with a penalty they fit 63 bits.
inline constexpr i64 kMostThrough = i64{1} << 61;

enum class ConformalScore : u8 { kLac, kAps, kRaps, kSaps, kTopK, kMargin };
/// How labels of equal probability rank.
enum class ConformalTies : u8 { kIndex, kGroup };
/// Where u comes from: nowhere, one for a row, one for a row and label.
enum class ConformalDraw : u8 { kNone, kRow, kLabel };

/// A score with its penalties: lambda in units of 2^-48, k_reg in ranks (raps alone).
struct ConformalRule {
  ConformalScore score = ConformalScore::kLac;
  i64 lambda = 0;
  i64 k_reg = 0;
  ConformalTies ties = ConformalTies::kIndex;
  ConformalDraw draw = ConformalDraw::kNone;
  u64 seed = 0;  ///< of the draws

  CUPEL_HD friend bool operator==(const ConformalRule& a, const ConformalRule& b) {
    return a.score == b.score && a.lambda == b.lambda && a.k_reg == b.k_reg && a.ties == b.ties &&
           a.draw == b.draw && a.seed == b.seed;
  }
};

/// u * 2^48 of a row, or of a label of it. Not the numbers that --calibration draws of equal seeds.
CUPEL_HD CUPEL_INLINE u64 conformal_draw(const ConformalRule& rule, u64 row_key, i64 label) {
  if (rule.draw == ConformalDraw::kNone) return 0;
  const u64 row = counter_random(rule.seed ^ 0x636F6E666F726D61u, row_key);
  return (rule.draw == ConformalDraw::kRow ? row : counter_random(row, static_cast<u64>(label))) >>
         (64 - kConformalBits);
}

/// round-half-even(p * 2^48); p in [0, 1].
CUPEL_HD CUPEL_INLINE i64 conformal_mass(double p) {
  return static_cast<i64>(round_q(p, kConformalBits));
}

/// The two largest masses of a row; `second` is 0 where there is one class.
struct RowLargest {
  i64 first = 0;
  i64 second = 0;
};

/// Of the masses row(0) ... row(k - 1), k >= 1.
template <class Row>
CUPEL_HD CUPEL_INLINE RowLargest row_largest(const Row& row, i64 k) {
  RowLargest top{row(0), 0};
  for (i64 j = 1; j < k; ++j) {
    const i64 mass = row(j);
    const i64 below = mass > top.first ? top.first : mass;
    top.first = mass > top.first ? mass : top.first;
    top.second = below > top.second ? below : top.second;
  }
  return top;
}

/// Where a label is among the masses of its row.
struct LabelPlace {
  i64 mass = 0;
  i64 larger = 0;      ///< labels with a larger mass
  i64 equal = 1;       ///< labels with this mass, itself among them
  i64 rank = 1;        ///< from 1, equal masses by class index
  u64 larger_sum = 0;  ///< the sum of the larger masses
};

/// Of the masses row(0) ... row(k - 1). A sum over larger masses: nothing is sorted.
template <class Row>
CUPEL_HD CUPEL_INLINE LabelPlace label_place(const Row& row, i64 k, i64 label) {
  LabelPlace place{row(label), 0, 0, 1, 0};
  i64 equal_before = 0;
  for (i64 j = 0; j < k; ++j) {
    const i64 mass = row(j);
    const bool more = mass > place.mass;
    const bool same = mass == place.mass;
    place.larger += more ? 1 : 0;
    place.larger_sum += static_cast<u64>(more ? mass : 0);
    place.equal += same ? 1 : 0;
    equal_before += same && j < label ? 1 : 0;
  }
  place.rank = place.larger + equal_before + 1;
  return place;
}

/// What raps adds at a rank.
CUPEL_HD CUPEL_INLINE i64 rank_penalty(const ConformalRule& rule, i64 rank) {
  return rank > rule.k_reg ? rule.lambda * (rank - rule.k_reg) : 0;
}

/// The scores that a label can have, by u. Of labels in the order of ranks, the low end of one that
/// ranks later is at least the high end of one before (but of margin and lac, whose ranges are
/// single values).
struct ScoreRange {
  i64 low = 0;
  i64 high = 0;
};

CUPEL_HD CUPEL_INLINE i64 capped_sum(u64 sum) {
  return sum > static_cast<u64>(kMostThrough) ? kMostThrough : static_cast<i64>(sum);
}

CUPEL_HD CUPEL_INLINE ScoreRange score_range(const ConformalRule& rule, const LabelPlace& place,
                                             const RowLargest& largest) {
  const bool group = rule.ties == ConformalTies::kGroup;
  const i64 first = group ? place.larger + 1 : place.rank;  // of the ranks that are its own
  const i64 last = group ? place.larger + place.equal : place.rank;
  switch (rule.score) {
    case ConformalScore::kLac:
      return {kConformalOne - place.mass, kConformalOne - place.mass};
    case ConformalScore::kAps:
    case ConformalScore::kRaps: {
      const u64 mass = static_cast<u64>(place.mass);
      const u64 before = place.larger_sum + static_cast<u64>(first - place.larger - 1) * mass;
      const u64 through = before + static_cast<u64>(last - first + 1) * mass;
      const i64 penalty = rule.score == ConformalScore::kRaps ? rank_penalty(rule, last) : 0;
      return {capped_sum(before) + penalty, capped_sum(through) + penalty};
    }
    case ConformalScore::kSaps:
      return {first == 1 ? 0 : largest.first + rule.lambda * (first - 2),
              largest.first + rule.lambda * (last - 1)};
    case ConformalScore::kTopK:
      return {(first - 1) * kRankOne, last * kRankOne};
    case ConformalScore::kMargin: {
      const i64 margin = (place.rank == 1 ? largest.second : largest.first) - place.mass;
      return {margin, margin};
    }
  }
  return {kEveryLabel, kEveryLabel};
}

/// Where u * 2^48 puts a score in its range; not randomised, at its upper end. Rounded down from
/// the low end for saps, whose score grows with u, and towards the high end for the others.
CUPEL_HD CUPEL_INLINE i64 drawn_score(const ConformalRule& rule, const ScoreRange& range, u64 u) {
  if (rule.draw == ConformalDraw::kNone) return range.high;
  const u64 width = static_cast<u64>(range.high - range.low);
  const auto part = static_cast<i64>((static_cast<u128>(width) * u) >> kConformalBits);
  return rule.score == ConformalScore::kSaps ? range.low + part : range.high - part;
}

/// The score of a label at this place of a row with these largest masses.
CUPEL_HD CUPEL_INLINE i64 conformal_score(const ConformalRule& rule, const LabelPlace& place,
                                          const RowLargest& largest, u64 row_key = 0,
                                          i64 label = 0) {
  return drawn_score(rule, score_range(rule, place, largest), conformal_draw(rule, row_key, label));
}

/// Calls take(label, rank, score) for every label of a row, larger masses first, `order(r)` being
/// the label of rank r + 1 (equal masses by class index).
template <class Row, class Order, class Take>
CUPEL_HD CUPEL_INLINE void for_each_score(const ConformalRule& rule, const Row& row,
                                          const Order& order, i64 k, u64 row_key,
                                          const Take& take) {
  const RowLargest largest{row(order(0)), k > 1 ? row(order(1)) : 0};
  LabelPlace place;
  for (i64 first = 0; first < k; first += place.equal) {
    place.mass = row(order(first));
    place.larger = first;
    place.equal = 1;
    while (first + place.equal < k && row(order(first + place.equal)) == place.mass) ++place.equal;
    for (i64 r = first; r < first + place.equal; ++r) {
      place.rank = r + 1;
      const i64 label = order(r);
      take(label, place.rank, conformal_score(rule, place, largest, row_key, label));
    }
    place.larger_sum += static_cast<u64>(place.equal) * static_cast<u64>(place.mass);
  }
}

/// Whether a score sums masses in the order of ranks, so that the size of a set asks for that
/// order; the sizes of the others, not randomised and with ties by index, are
/// set_size_unordered().
CUPEL_HD CUPEL_INLINE bool sums_in_order(ConformalScore score) {
  return score == ConformalScore::kAps || score == ConformalScore::kRaps;
}

/// How many masses row(0) ... row(k - 1) are at least `least`.
template <class Row>
CUPEL_HD CUPEL_INLINE i64 count_from(const Row& row, i64 k, i64 least) {
  i64 count = 0;
  for (i64 j = 0; j < k; ++j) count += row(j) >= least ? 1 : 0;
  return count;
}

/// How many labels of a row have a score <= threshold, of scores that need no order;
/// count(least) says how many of its k masses are at least `least`.
template <class Count>
CUPEL_HD CUPEL_INLINE i64 set_size_counted(const ConformalRule& rule, i64 threshold,
                                           const Count& count, i64 k, const RowLargest& largest) {
  switch (rule.score) {
    case ConformalScore::kLac:
      return count(kConformalOne - threshold);
    case ConformalScore::kSaps: {
      if (threshold < largest.first) return 0;
      if (rule.lambda == 0) return k;
      const i64 more = (threshold - largest.first) / rule.lambda;
      return more < k - 1 ? more + 1 : k;
    }
    case ConformalScore::kTopK:
      return threshold < 0 ? 0 : threshold / kRankOne < k ? threshold / kRankOne : k;
    case ConformalScore::kMargin: {
      // The label of rank 1 is measured against the second, the others against it.
      const i64 leader = largest.second - largest.first <= threshold ? 1 : 0;
      const i64 least = largest.first - threshold;
      return leader + count(least) - (largest.first >= least ? 1 : 0);
    }
    default:
      return 0;
  }
}

/// The same of the masses row(0) ... row(k - 1).
template <class Row>
CUPEL_HD CUPEL_INLINE i64 set_size_unordered(const ConformalRule& rule, i64 threshold,
                                             const Row& row, i64 k, const RowLargest& largest) {
  return set_size_counted(
      rule, threshold, [&row, k](i64 least) { return count_from(row, k, least); }, k, largest);
}

}  // namespace cupel
