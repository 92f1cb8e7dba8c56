// Conformal scores of one row and a label: how badly the label fits the row's probabilities, as an
// integer. A set holds the labels with score <= threshold, so that a set and the calibration score
// of its label cannot disagree: both are sums of the same integers, in any order.
//
// Probabilities are rounded once, to 2^-48. Ranks count from 1, larger probabilities first, equal
// ones by class index. No score is randomised: a label counts with its whole mass.
//   lac     1 - p[y]                                 Sadinle, Lei, Wasserman 2019
//   aps     sum of p up to and including rank r      Romano, Sesia, Candes 2020
//   raps    aps + lambda * max(0, r - k_reg)         Angelopoulos, Bates, Malik, Jordan 2021
//   saps    largest p + lambda * (r - 1)             Huang et al. 2024, at u = 1
//   topk    r, in ranks
//   margin  largest p of the other labels - p[y]
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/elementary.hpp"

namespace cupel {

/// Scores but those of topk are integers in units of 2^-48.
inline constexpr int kConformalBits = 48;
inline constexpr i64 kConformalOne = i64{1} << kConformalBits;
/// A threshold above every score: the set is all labels.
inline constexpr i64 kEveryLabel = 0x7FFFFFFFFFFFFFFF;
/// lambda * classes is below this, so that no score overflows.
inline constexpr i64 kMostPenalty = i64{1} << 13;

enum class ConformalScore : u8 { kLac, kAps, kRaps, kSaps, kTopK, kMargin };

/// A score with its penalties: lambda in units of 2^-48, k_reg in ranks (raps alone).
struct ConformalRule {
  ConformalScore score = ConformalScore::kLac;
  i64 lambda = 0;
  i64 k_reg = 0;

  CUPEL_HD friend bool operator==(const ConformalRule& a, const ConformalRule& b) {
    return a.score == b.score && a.lambda == b.lambda && a.k_reg == b.k_reg;
  }
};

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
  i64 rank = 1;     ///< from 1
  i64 through = 0;  ///< the masses up to and including this rank
};

/// Of the masses row(0) ... row(k - 1). A sum over larger masses: nothing is sorted.
template <class Row>
CUPEL_HD CUPEL_INLINE LabelPlace label_place(const Row& row, i64 k, i64 label) {
  const i64 own = row(label);
  i64 before = 0;
  u64 sum = static_cast<u64>(own);
  for (i64 j = 0; j < label; ++j) {
    const i64 mass = row(j);
    before += mass >= own ? 1 : 0;
    sum += static_cast<u64>(mass >= own ? mass : 0);
  }
  for (i64 j = label + 1; j < k; ++j) {
    const i64 mass = row(j);
    before += mass > own ? 1 : 0;
    sum += static_cast<u64>(mass > own ? mass : 0);
  }
  return {own, before + 1, static_cast<i64>(sum)};
}

/// What raps adds at a rank.
CUPEL_HD CUPEL_INLINE i64 rank_penalty(const ConformalRule& rule, i64 rank) {
  return rank > rule.k_reg ? rule.lambda * (rank - rule.k_reg) : 0;
}

/// The score of a label at this place of a row with these largest masses.
CUPEL_HD CUPEL_INLINE i64 conformal_score(const ConformalRule& rule, const LabelPlace& place,
                                          const RowLargest& largest) {
  switch (rule.score) {
    case ConformalScore::kLac:
      return kConformalOne - place.mass;
    case ConformalScore::kAps:
      return place.through;
    case ConformalScore::kRaps:
      return place.through + rank_penalty(rule, place.rank);
    case ConformalScore::kSaps:
      return largest.first + rule.lambda * (place.rank - 1);
    case ConformalScore::kTopK:
      return place.rank;
    case ConformalScore::kMargin:
      return (place.rank == 1 ? largest.second : largest.first) - place.mass;
  }
  return kEveryLabel;
}

/// Whether a score sums masses in the order of ranks, so that the size of a set asks for that
/// order; the sizes of the others are set_size_unordered().
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

/// How many labels of a row have a score <= threshold, of scores that need no order.
template <class Row>
CUPEL_HD CUPEL_INLINE i64 set_size_unordered(const ConformalRule& rule, i64 threshold,
                                             const Row& row, i64 k, const RowLargest& largest) {
  switch (rule.score) {
    case ConformalScore::kLac:
      return count_from(row, k, kConformalOne - threshold);
    case ConformalScore::kSaps: {
      if (threshold < largest.first) return 0;
      if (rule.lambda == 0) return k;
      const i64 more = (threshold - largest.first) / rule.lambda;
      return more < k - 1 ? more + 1 : k;
    }
    case ConformalScore::kTopK:
      return threshold < 0 ? 0 : threshold < k ? threshold : k;
    case ConformalScore::kMargin: {
      // The label of rank 1 is measured against the second, the others against it.
      const i64 leader = largest.second - largest.first <= threshold ? 1 : 0;
      const i64 least = largest.first - threshold;
      return leader + count_from(row, k, least) - (largest.first >= least ? 1 : 0);
    }
    default:
      return 0;
  }
}

/// Whether the label of `rank` has a score <= threshold under aps or raps, `through` being the sum
/// of the masses up to it. Once false for a rank it is false for all later ones.
CUPEL_HD CUPEL_INLINE bool holds_rank(const ConformalRule& rule, i64 threshold, i64 through,
                                      i64 rank) {
  const i64 penalty = rule.score == ConformalScore::kRaps ? rank_penalty(rule, rank) : 0;
  return through + penalty <= threshold;
}

}  // namespace cupel
