// One accumulator per ranking query, fed with tie groups in any order and merged in any order: the
// single home of what a query means. summarise() feeds it from a table, a backend from its buckets.
#pragma once

#include "cupel/math/curve.hpp"
#include "cupel/state/rank_summary.hpp"

namespace cupel {

/// Collects the answer to one query. M is u64 (row counts) or u128 (weights). The totals are those
/// of the whole segment and must be positive for both classes where the query divides by them;
/// without positives, or without negatives, nothing that needs them is collected.
template <class M>
class RankAccumulator {
 public:
  RankAccumulator(const RankQuery& query, const ClassMass<M>& all) : query_(query), all_(all) {
    if (all.pos != 0) scale_ = precision_scale(all);
    if (query.kind == RankQueryKind::kRanges) answer_.ranges.resize(kRankRanges);
  }

  /// Adds one tie group (pos + neg > 0) of the segment. Each group exactly once.
  void add(const TieGroup<M>& g) {
    switch (query_.kind) {
      case RankQueryKind::kTwoU:
        answer_.sum += to_u256(two_u_term(g));
        return;
      case RankQueryKind::kAveragePrecision:
        if (g.pos != 0) answer_.sum += to_u256(precision_term(all_, g, scale_));
        return;
      case RankQueryKind::kPrTrapezoid:
        if (g.pos != 0) answer_.sum += pr_trapezoid_term(all_, g, scale_);
        return;
      case RankQueryKind::kGap:
        keep_best(g, [&](const auto& a, const auto& b) { return larger_gap(all_, a, b); });
        return;
      case RankQueryKind::kEqualError:
        if (reaches_equal_error(all_, point_at(all_, g))) keep_first(g);
        return;
      case RankQueryKind::kFprAtMost:
      case RankQueryKind::kPartialArea:
        add_false_positive_limited(g);
        return;
      case RankQueryKind::kTprAtLeast:
        if (at_least(point_at(all_, g).tp, all_.pos, query_.argument)) keep_first(g);
        return;
      case RankQueryKind::kPrecisionAtRecall:
        if (at_least(point_at(all_, g).tp, all_.pos, query_.argument)) {
          keep_best(g, [](const auto& a, const auto& b) { return larger_precision(a, b); });
        }
        return;
      case RankQueryKind::kRecallAtPrecision: {
        const auto p = point_at(all_, g);
        if (at_least(p.tp, static_cast<M>(p.tp + p.fp), query_.argument)) {
          keep_best(g, [](const auto& a, const auto& b) { return a.tp > b.tp; });
        }
        return;
      }
      case RankQueryKind::kFBetaMax:
        keep_best(
            g, [&](const auto& a, const auto& b) { return larger_f(all_, query_.argument, a, b); });
        return;
      case RankQueryKind::kRanges: {
        RangeShare& share =
            answer_.ranges[static_cast<std::size_t>(rank_range(all_, point_at(all_, g)))];
        share.pos += g.pos;
        share.neg += g.neg;
        share.two_u += to_u256(two_u_term(g));
        if (g.pos != 0) share.precision += to_u256(precision_term(all_, g, scale_));
        return;
      }
    }
  }

  /// Adds what another accumulator of the same query and totals has collected.
  void merge(const RankAccumulator& other) {
    const RankAnswer& from = other.answer_;
    answer_.sum += from.sum;
    for (std::size_t i = 0; i < answer_.ranges.size(); ++i) {
      answer_.ranges[i].pos += from.ranges[i].pos;
      answer_.ranges[i].neg += from.ranges[i].neg;
      answer_.ranges[i].two_u += from.ranges[i].two_u;
      answer_.ranges[i].precision += from.ranges[i].precision;
    }
    switch (query_.kind) {
      case RankQueryKind::kTwoU:
      case RankQueryKind::kAveragePrecision:
      case RankQueryKind::kPrTrapezoid:
      case RankQueryKind::kRanges:
        return;
      case RankQueryKind::kGap:
        merge_best(from, [&](const auto& a, const auto& b) { return larger_gap(all_, a, b); });
        return;
      case RankQueryKind::kPrecisionAtRecall:
        merge_best(from, [](const auto& a, const auto& b) { return larger_precision(a, b); });
        return;
      case RankQueryKind::kRecallAtPrecision:
        merge_best(from, [](const auto& a, const auto& b) { return a.tp > b.tp; });
        return;
      case RankQueryKind::kFBetaMax:
        merge_best(from, [&](const auto& a, const auto& b) {
          return larger_f(all_, query_.argument, a, b);
        });
        return;
      case RankQueryKind::kEqualError:
      case RankQueryKind::kFprAtMost:
      case RankQueryKind::kPartialArea:
      case RankQueryKind::kTprAtLeast:
        // The first point in order of falling threshold has the larger key ...
        if (from.at.exists && (!answer_.at.exists || from.at.key > answer_.at.key)) {
          answer_.at = from.at;
          if (!is_false_positive_limited()) answer_.before = from.before;
        }
        // ... and the last point within the limit the smaller one.
        if (is_false_positive_limited() && from.before.exists &&
            (!answer_.before.exists || from.before.key < answer_.before.key)) {
          answer_.before = from.before;
        }
        return;
    }
  }

  /// The answer, once every group of the segment has been added or merged.
  RankAnswer finish() const {
    RankAnswer answer = answer_;
    const bool gap_is_zero = query_.kind == RankQueryKind::kGap && answer.at.exists &&
                             !larger_gap(all_, plain(answer.at), CurvePoint<M>{});
    if (gap_is_zero) answer.at = {};
    // No point within the limit: the start of the curve is.
    if (is_false_positive_limited() && !answer.before.exists) answer.before.exists = true;
    return answer;
  }

 private:
  bool is_false_positive_limited() const {
    return query_.kind == RankQueryKind::kFprAtMost || query_.kind == RankQueryKind::kPartialArea;
  }
  static OperatingPoint described(u64 key, const CurvePoint<M>& p) {
    return {true, true, key, p.tp, p.fp};
  }
  static CurvePoint<M> plain(const OperatingPoint& p) {
    return {static_cast<M>(p.tp), static_cast<M>(p.fp)};
  }

  template <class Better>
  void keep_best(const TieGroup<M>& g, const Better& better) {
    const auto p = point_at(all_, g);
    if (!answer_.at.exists || better(p, plain(answer_.at)) ||
        (g.key > answer_.at.key && !better(plain(answer_.at), p))) {
      answer_.at = described(g.key, p);
    }
  }
  template <class Better>
  void merge_best(const RankAnswer& from, const Better& better) {
    if (!from.at.exists) return;
    const auto p = plain(from.at);
    if (!answer_.at.exists || better(p, plain(answer_.at)) ||
        (from.at.key > answer_.at.key && !better(plain(answer_.at), p))) {
      answer_.at = from.at;
    }
  }

  void keep_first(const TieGroup<M>& g) {
    if (answer_.at.exists && g.key < answer_.at.key) return;
    const auto q = point_before(all_, g);
    answer_.at = described(g.key, point_at(all_, g));
    // The threshold of the point before belongs to another group and is not known here.
    answer_.before = {true, false, 0, q.tp, q.fp};
  }

  void add_false_positive_limited(const TieGroup<M>& g) {
    const auto p = point_at(all_, g);
    if (at_most(p.fp, all_.neg, query_.argument)) {
      if (query_.kind == RankQueryKind::kPartialArea) {
        answer_.sum += to_u256(roc_area_term(all_, g));
      }
      if (!answer_.before.exists || g.key < answer_.before.key) {
        answer_.before = described(g.key, p);
      }
    } else if (!answer_.at.exists || g.key > answer_.at.key) {
      answer_.at = described(g.key, p);
    }
  }

  RankQuery query_;
  ClassMass<M> all_;
  int scale_ = 0;
  RankAnswer answer_;
};

}  // namespace cupel
