// What the answer to one ranking query collects while it sees the tie groups of a segment, in any
// order and by any number of workers whose folds are merged: the single home of what a query means,
// for every backend. A fold is integers; merging is commutative and associative.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/math/curve.hpp"
#include "cupel/math/wide.hpp"

namespace cupel {

enum class RankQueryKind : u8 {
  kTwoU,              ///< sum = 2U, a tied pair one
  kAveragePrecision,  ///< sum = sum of pos * scaled precision
  kPrTrapezoid,       ///< sum = twice the linear PR area, scaled
  kGap,               ///< at = the point of largest TPR - FPR, largest threshold on ties; none if 0
  kEqualError,        ///< at = first point with FPR >= FNR, before = its predecessor
  kFprAtMost,         ///< before = last point with FPR <= argument, at = the point after it
  kTprAtLeast,        ///< at = first point with TPR >= argument, before = its predecessor
  kPrecisionAtRecall,  ///< at = largest precision with recall >= argument, largest threshold on
                       ///< ties
  kRecallAtPrecision,  ///< at = largest recall with precision >= argument, then largest threshold
  kFBetaMax,           ///< at = largest F-beta (beta = argument), largest threshold on ties
  kPartialArea,        ///< as kFprAtMost; sum = twice the ROC area up to `before`
  kRanges,             ///< ranges = shares of 2U and average precision by firing rate
};

/// One question. `argument` is an exact decimal where the kind has one, else 0/1.
struct RankQuery {
  RankQueryKind kind = RankQueryKind::kTwoU;
  Fraction argument{0, 1};
  friend constexpr bool operator==(const RankQuery& a, const RankQuery& b) {
    return a.kind == b.kind && a.argument == b.argument;
  }
};

/// A sum of products of two masses: rows fit 128 bits, weights need 256.
template <class M>
struct RankSumOf {
  using Type = u128;
};
template <>
struct RankSumOf<u128> {
  using Type = U256;
};
template <class M>
using RankSum = typename RankSumOf<M>::Type;

/// A point of the curve while it is looked for: every score >= the score of `key` is positive.
template <class M>
struct FoldPoint {
  bool exists = false;
  bool has_key = false;
  u64 key = 0;
  CurvePoint<M> counts{};
};

/// The fold of every query but kRanges, which has one share a range.
template <class M>
struct RankFold {
  RankSum<M> sum{};
  FoldPoint<M> at;
  FoldPoint<M> before;
};

/// What one range of the ranking holds and adds.
template <class M>
struct RangeFold {
  M pos{};
  M neg{};
  RankSum<M> two_u{};
  RankSum<M> precision{};

  CUPEL_HD void merge(const RangeFold& other) {
    pos += other.pos;
    neg += other.neg;
    two_u += other.two_u;
    precision += other.precision;
  }
};

/// What folding needs to know of the whole segment. `scale` is precision_scale(all), or 0 without
/// positives.
template <class M>
struct FoldContext {
  ClassMass<M> all{};
  Fraction argument{};
  int scale = 0;
};
template <class M>
CUPEL_HD inline FoldContext<M> fold_context(const RankQuery& query, const ClassMass<M>& all) {
  return {all, query.argument, all.pos != 0 ? precision_scale(all) : 0};
}

CUPEL_HD constexpr bool is_false_positive_limited(RankQueryKind kind) {
  return kind == RankQueryKind::kFprAtMost || kind == RankQueryKind::kPartialArea;
}
CUPEL_HD constexpr bool keeps_first_point(RankQueryKind kind) {
  return kind == RankQueryKind::kEqualError || kind == RankQueryKind::kTprAtLeast;
}
CUPEL_HD constexpr bool keeps_best_point(RankQueryKind kind) {
  return kind == RankQueryKind::kGap || kind == RankQueryKind::kPrecisionAtRecall ||
         kind == RankQueryKind::kRecallAtPrecision || kind == RankQueryKind::kFBetaMax;
}
CUPEL_HD constexpr bool sums_terms(RankQueryKind kind) {
  return kind == RankQueryKind::kTwoU || kind == RankQueryKind::kAveragePrecision ||
         kind == RankQueryKind::kPrTrapezoid || kind == RankQueryKind::kPartialArea;
}

namespace detail {

CUPEL_HD CUPEL_INLINE u128 as_rank_sum(u128 value, u64) { return value; }
/// The PR trapezoid is written for both masses in 256 bits; that of rows is below 2^127.
CUPEL_HD CUPEL_INLINE u128 as_rank_sum(const U256& value, u64) {
  return static_cast<u128>(value.limb[1]) << 64 | value.limb[0];
}
CUPEL_HD CUPEL_INLINE U256 as_rank_sum(const U256& value, u128) { return value; }

/// `a` is preferred to `b` by a query that keeps the best point.
template <RankQueryKind kKind, class M>
CUPEL_HD CUPEL_INLINE bool is_better(const FoldContext<M>& context, const CurvePoint<M>& a,
                                     const CurvePoint<M>& b) {
  if constexpr (kKind == RankQueryKind::kGap) return larger_gap(context.all, a, b);
  if constexpr (kKind == RankQueryKind::kPrecisionAtRecall) return larger_precision(a, b);
  if constexpr (kKind == RankQueryKind::kRecallAtPrecision) return a.tp > b.tp;
  return larger_f(context.all, context.argument, a, b);
}

/// Whether a query that keeps the best point may keep this one.
template <RankQueryKind kKind, class M>
CUPEL_HD CUPEL_INLINE bool is_candidate(const FoldContext<M>& context, const CurvePoint<M>& p) {
  if constexpr (kKind == RankQueryKind::kPrecisionAtRecall) {
    return at_least(p.tp, context.all.pos, context.argument);
  }
  if constexpr (kKind == RankQueryKind::kRecallAtPrecision) {
    return at_least(p.tp, static_cast<M>(p.tp + p.fp), context.argument);
  }
  return true;
}

template <RankQueryKind kKind, class M>
CUPEL_HD CUPEL_INLINE void offer_best(const FoldContext<M>& context, const FoldPoint<M>& offered,
                                      FoldPoint<M>& best) {
  if (!best.exists || is_better<kKind>(context, offered.counts, best.counts) ||
      (offered.key > best.key && !is_better<kKind>(context, best.counts, offered.counts))) {
    best = offered;
  }
}

}  // namespace detail

/// Adds one tie group (pos + neg > 0) of the segment; each group exactly once. Not for kRanges.
template <RankQueryKind kKind, class M>
CUPEL_HD CUPEL_INLINE void fold_group(const FoldContext<M>& context, const TieGroup<M>& g,
                                      RankFold<M>& fold) {
  static_assert(kKind != RankQueryKind::kRanges);
  const ClassMass<M>& all = context.all;
  if constexpr (kKind == RankQueryKind::kTwoU) {
    fold.sum += two_u_term(g);
  } else if constexpr (kKind == RankQueryKind::kAveragePrecision) {
    if (g.pos != 0) fold.sum += precision_term(all, g, context.scale);
  } else if constexpr (kKind == RankQueryKind::kPrTrapezoid) {
    if (g.pos != 0) {
      fold.sum += detail::as_rank_sum(pr_trapezoid_term(all, g, context.scale), M{});
    }
  } else if constexpr (keeps_best_point(kKind)) {
    const CurvePoint<M> p = point_at(all, g);
    if (detail::is_candidate<kKind>(context, p)) {
      detail::offer_best<kKind>(context, FoldPoint<M>{true, true, g.key, p}, fold.at);
    }
  } else if constexpr (keeps_first_point(kKind)) {
    const CurvePoint<M> p = point_at(all, g);
    bool reached = false;
    if constexpr (kKind == RankQueryKind::kEqualError) {
      reached = reaches_equal_error(all, p);
    } else {
      reached = at_least(p.tp, all.pos, context.argument);
    }
    if (reached && (!fold.at.exists || g.key > fold.at.key)) {
      fold.at = {true, true, g.key, p};
      // The threshold of the point before belongs to another group and is not known here.
      fold.before = {true, false, 0, point_before(all, g)};
    }
  } else {
    const CurvePoint<M> p = point_at(all, g);
    if (at_most(p.fp, all.neg, context.argument)) {
      if constexpr (kKind == RankQueryKind::kPartialArea) {
        fold.sum += detail::as_rank_sum(roc_area_term(all, g), M{});
      }
      if (!fold.before.exists || g.key < fold.before.key) fold.before = {true, true, g.key, p};
    } else if (!fold.at.exists || g.key > fold.at.key) {
      fold.at = {true, true, g.key, p};
    }
  }
}

/// Adds what another fold of the same query and segment has collected.
template <RankQueryKind kKind, class M>
CUPEL_HD CUPEL_INLINE void merge_fold(const FoldContext<M>& context, const RankFold<M>& from,
                                      RankFold<M>& fold) {
  if constexpr (sums_terms(kKind)) fold.sum += from.sum;
  if constexpr (keeps_best_point(kKind)) {
    if (from.at.exists) detail::offer_best<kKind>(context, from.at, fold.at);
  }
  if constexpr (keeps_first_point(kKind) || is_false_positive_limited(kKind)) {
    // The first point in order of falling threshold has the larger key ...
    if (from.at.exists && (!fold.at.exists || from.at.key > fold.at.key)) {
      fold.at = from.at;
      if constexpr (keeps_first_point(kKind)) fold.before = from.before;
    }
    // ... and the last point within the limit the smaller one.
    if constexpr (is_false_positive_limited(kKind)) {
      if (from.before.exists && (!fold.before.exists || from.before.key < fold.before.key)) {
        fold.before = from.before;
      }
    }
  }
}

/// Turns a fold of all groups of the segment into the answer.
template <RankQueryKind kKind, class M>
CUPEL_HD CUPEL_INLINE void finish_fold(const FoldContext<M>& context, RankFold<M>& fold) {
  if constexpr (kKind == RankQueryKind::kGap) {
    const bool above_zero =
        fold.at.exists && larger_gap(context.all, fold.at.counts, CurvePoint<M>{});
    if (!above_zero) fold.at = FoldPoint<M>{};
  }
  // No point within the limit: the start of the curve is.
  if constexpr (is_false_positive_limited(kKind)) {
    if (!fold.before.exists) fold.before.exists = true;
  }
}

/// The range of a group under kRanges, and what the group adds to it.
template <class M>
CUPEL_HD CUPEL_INLINE int fold_range(const FoldContext<M>& context, const TieGroup<M>& g,
                                     RangeFold<M>& share) {
  share.pos = g.pos;
  share.neg = g.neg;
  share.two_u = two_u_term(g);
  share.precision = g.pos != 0 ? precision_term(context.all, g, context.scale) : RankSum<M>{};
  return rank_range(context.all, point_at(context.all, g));
}

}  // namespace cupel
