// What one tie group of scores adds to each ranking metric. A group is all rows of one score; with
// the masses below it known, groups can be visited in any order and by any number of workers.
//
// Masses are u64 row counts or u128 quantised weights; everything here is a template over both and
// exact for both. Definitions: average precision is the step form, sum of (R_k - R_{k-1}) P_k over
// tie groups; the area under the ROC curve counts a tied pair one half.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/wide.hpp"

namespace cupel {

/// A non-negative decimal as an exact fraction, den a power of ten (reduced or not).
/// num and den are at most 10^18.
struct Fraction {
  u64 num = 0;
  u64 den = 1;
  friend constexpr bool operator==(const Fraction& a, const Fraction& b) {
    return a.num == b.num && a.den == b.den;
  }
};

/// All positives and negatives of a segment.
template <class M>
struct ClassMass {
  M pos{};
  M neg{};
};

/// One tie group: its score's key, its masses, and the masses of strictly smaller scores.
template <class M>
struct TieGroup {
  u64 key{};
  M pos{};
  M neg{};
  M pos_below{};
  M neg_below{};
};

/// The confusion counts when every score >= key is called positive.
template <class M>
struct CurvePoint {
  M tp{};
  M fp{};
};
template <class M>
CUPEL_HD CUPEL_INLINE CurvePoint<M> point_at(const ClassMass<M>& all, const TieGroup<M>& g) {
  return {static_cast<M>(all.pos - g.pos_below), static_cast<M>(all.neg - g.neg_below)};
}
/// The point before the group in order of falling threshold; (0, 0) for the largest score.
template <class M>
CUPEL_HD CUPEL_INLINE CurvePoint<M> point_before(const ClassMass<M>& all, const TieGroup<M>& g) {
  return {static_cast<M>(all.pos - g.pos_below - g.pos),
          static_cast<M>(all.neg - g.neg_below - g.neg)};
}

// ---- products wide enough for either mass ------------------------------------------------------

CUPEL_HD CUPEL_INLINE u128 product(u64 a, u64 b) { return static_cast<u128>(a) * b; }
CUPEL_HD CUPEL_INLINE U256 product(u128 a, u128 b) { return multiply(a, b); }
CUPEL_HD CUPEL_INLINE U256 to_u256(u128 value) { return widen<4>(value); }
CUPEL_HD CUPEL_INLINE U256 to_u256(const U256& value) { return value; }

/// part/whole >= fraction, exactly; part, whole < 2^127.
template <class M>
CUPEL_HD inline bool at_least(M part, M whole, const Fraction& fraction) {
  return !(multiply(u128{part}, u128{fraction.den}) < multiply(u128{whole}, u128{fraction.num}));
}
/// part/whole <= fraction, exactly.
template <class M>
CUPEL_HD inline bool at_most(M part, M whole, const Fraction& fraction) {
  return !(multiply(u128{whole}, u128{fraction.num}) < multiply(u128{part}, u128{fraction.den}));
}

// ---- sums --------------------------------------------------------------------------------------

/// The group's share of 2U: pos * (2 * neg_below + neg). The sum over groups is at most 2*P*N.
template <class M>
CUPEL_HD CUPEL_INLINE auto two_u_term(const TieGroup<M>& g) {
  return product(g.pos, static_cast<M>(2 * g.neg_below + g.neg));
}

/// The scale of average precision: precisions are floor(tp * 2^s / (tp + fp)).
/// Counts: s = 60 + ceil(log2(n / P)), so that, with AP >= (P+1)/(2n), the sum of floors is below
/// the true value by less than 2^-58 relative; tp * 2^s stays below n * 2^61. Requires P > 0.
/// Weights: s = 60.
CUPEL_HD inline int precision_scale(const ClassMass<u64>& all) {
  const u64 n = all.pos + all.neg;
  int s = 60;
  for (u128 reach = all.pos; reach < n; reach <<= 1) ++s;
  return s;
}
CUPEL_HD inline int precision_scale(const ClassMass<u128>&) { return 60; }

/// floor(tp * 2^scale / (tp + fp)); tp + fp > 0. For weights both masses first lose the low bits
/// that do not fit 64 bits of the total (relative 2^-63).
CUPEL_HD CUPEL_INLINE u128 scaled_precision(u64 tp, u64 fp, int scale) {
  return (static_cast<u128>(tp) << scale) / (static_cast<u128>(tp) + fp);
}
CUPEL_HD inline u128 scaled_precision(u128 tp, u128 fp, int scale) {
  const u128 total = tp + fp;
  const int length = bit_length(total);
  const int drop = length > 64 ? length - 64 : 0;
  return ((tp >> drop) << scale) / (total >> drop);
}

/// The group's share of the average precision: pos * precision, scaled by 2^scale.
CUPEL_HD CUPEL_INLINE u128 precision_term(const ClassMass<u64>& all, const TieGroup<u64>& g,
                                          int scale) {
  const auto p = point_at(all, g);
  return g.pos == 0 ? u128{0} : g.pos * scaled_precision(p.tp, p.fp, scale);
}
CUPEL_HD inline U256 precision_term(const ClassMass<u128>& all, const TieGroup<u128>& g,
                                    int scale) {
  const auto p = point_at(all, g);
  if (g.pos == 0) return U256{};
  return multiply(g.pos, scaled_precision(p.tp, p.fp, scale));
}

/// Twice the group's share of the linearly interpolated PR area, scaled by 2^scale: pos *
/// (precision before + precision at), where precision before the first group is 1 (the anchor at
/// recall 0).
template <class M>
CUPEL_HD inline U256 pr_trapezoid_term(const ClassMass<M>& all, const TieGroup<M>& g, int scale) {
  if (g.pos == 0) return U256{};
  const auto p = point_at(all, g);
  const auto q = point_before(all, g);
  const u128 before = q.tp + q.fp == 0 ? u128{1} << scale : scaled_precision(q.tp, q.fp, scale);
  return multiply(u128{g.pos}, before + scaled_precision(p.tp, p.fp, scale));
}

/// Twice the group's area under the ROC curve in units of 1/(P*N): neg * (tp before + tp at).
template <class M>
CUPEL_HD CUPEL_INLINE auto roc_area_term(const ClassMass<M>& all, const TieGroup<M>& g) {
  return product(g.neg, static_cast<M>(point_before(all, g).tp + point_at(all, g).tp));
}

// ---- comparisons of operating points ------------------------------------------------------------

/// TPR - FPR at `a` is larger than at `b`: tp_a*N + fp_b*P > tp_b*N + fp_a*P.
CUPEL_HD CUPEL_INLINE bool larger_gap(const ClassMass<u64>& all, const CurvePoint<u64>& a,
                                      const CurvePoint<u64>& b) {
  return product(a.tp, all.neg) + product(b.fp, all.pos) >
         product(b.tp, all.neg) + product(a.fp, all.pos);
}
CUPEL_HD inline bool larger_gap(const ClassMass<u128>& all, const CurvePoint<u128>& a,
                                const CurvePoint<u128>& b) {
  return product(b.tp, all.neg) + product(a.fp, all.pos) <
         product(a.tp, all.neg) + product(b.fp, all.pos);
}

/// FPR >= FNR at the point: fp*P >= (P - tp)*N.
template <class M>
CUPEL_HD inline bool reaches_equal_error(const ClassMass<M>& all, const CurvePoint<M>& p) {
  return !(product(p.fp, all.pos) < product(static_cast<M>(all.pos - p.tp), all.neg));
}

/// Precision at `a` is larger than at `b`. A point with tp + fp = 0 has no precision; not allowed.
template <class M>
CUPEL_HD inline bool larger_precision(const CurvePoint<M>& a, const CurvePoint<M>& b) {
  return product(b.tp, static_cast<M>(a.tp + a.fp)) < product(a.tp, static_cast<M>(b.tp + b.fp));
}

/// The largest beta = num/den of F-beta: both terms at most 10^6, so that beta^2 is a fraction of
/// 40-bit integers.
inline constexpr u64 kMaxBetaTerm = 1'000'000;

/// F-beta at `a` is larger than at `b`, exactly. F = (1+B) tp / (B P + tp + fp) with B = beta^2, so
/// only tp / (B P + tp + fp) is compared.
template <class M>
CUPEL_HD inline bool larger_f(const ClassMass<M>& all, const Fraction& beta, const CurvePoint<M>& a,
                              const CurvePoint<M>& b) {
  const u128 num2 = static_cast<u128>(beta.num) * beta.num;
  const u128 den2 = static_cast<u128>(beta.den) * beta.den;
  const U256 base = multiply(num2, u128{all.pos});
  const U256 below_a = base + multiply(den2, u128{a.tp} + a.fp);
  const U256 below_b = base + multiply(den2, u128{b.tp} + b.fp);
  return multiply(widen<2>(u128{b.tp}), below_a) < multiply(widen<2>(u128{a.tp}), below_b);
}

// ---- ranges of the ranking ----------------------------------------------------------------------

/// The ranking is cut by firing rate (the share of rows with a score at least as high) into these
/// ranges to show which part of it a metric rewards; per mille, last bound included.
inline constexpr int kRankRanges = 6;
CUPEL_HD constexpr u64 rank_range_end_per_mille(int range) {
  return range == 0   ? 10
         : range == 1 ? 50
         : range == 2 ? 100
         : range == 3 ? 250
         : range == 4 ? 500
                      : 1000;
}

/// The range of a group: the first whose end is not below (tp + fp) / n at the group.
template <class M>
CUPEL_HD inline int rank_range(const ClassMass<M>& all, const CurvePoint<M>& p) {
  int range = 0;
  while (range < kRankRanges - 1 &&
         !at_most(static_cast<M>(p.tp + p.fp), static_cast<M>(all.pos + all.neg),
                  Fraction{rank_range_end_per_mille(range), 1000})) {
    ++range;
  }
  return range;
}

}  // namespace cupel
