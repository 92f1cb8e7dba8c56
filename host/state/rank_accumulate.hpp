// One accumulator per ranking query, fed with tie groups in any order and merged in any order: the
// folds of math/rank_fold.hpp with the kind chosen at run time. summarise() feeds it from a table,
// a backend from its buckets.
#pragma once

#include <type_traits>

#include "cupel/math/rank_fold.hpp"
#include "cupel/state/rank_summary.hpp"

namespace cupel {

/// Calls visit(std::integral_constant) with the kind as a constant; not with kRanges, whose folds
/// are of another shape.
template <class Visit>
CUPEL_INLINE void with_query_kind(RankQueryKind kind, Visit visit) {
  switch (kind) {
    case RankQueryKind::kTwoU:
      return visit(std::integral_constant<RankQueryKind, RankQueryKind::kTwoU>{});
    case RankQueryKind::kAveragePrecision:
      return visit(std::integral_constant<RankQueryKind, RankQueryKind::kAveragePrecision>{});
    case RankQueryKind::kPrTrapezoid:
      return visit(std::integral_constant<RankQueryKind, RankQueryKind::kPrTrapezoid>{});
    case RankQueryKind::kGap:
      return visit(std::integral_constant<RankQueryKind, RankQueryKind::kGap>{});
    case RankQueryKind::kEqualError:
      return visit(std::integral_constant<RankQueryKind, RankQueryKind::kEqualError>{});
    case RankQueryKind::kFprAtMost:
      return visit(std::integral_constant<RankQueryKind, RankQueryKind::kFprAtMost>{});
    case RankQueryKind::kTprAtLeast:
      return visit(std::integral_constant<RankQueryKind, RankQueryKind::kTprAtLeast>{});
    case RankQueryKind::kPrecisionAtRecall:
      return visit(std::integral_constant<RankQueryKind, RankQueryKind::kPrecisionAtRecall>{});
    case RankQueryKind::kRecallAtPrecision:
      return visit(std::integral_constant<RankQueryKind, RankQueryKind::kRecallAtPrecision>{});
    case RankQueryKind::kFBetaMax:
      return visit(std::integral_constant<RankQueryKind, RankQueryKind::kFBetaMax>{});
    case RankQueryKind::kPartialArea:
      return visit(std::integral_constant<RankQueryKind, RankQueryKind::kPartialArea>{});
    case RankQueryKind::kRanges:
      return;
  }
}

/// The answer that a finished fold is.
template <class M>
RankAnswer answer_of(const RankFold<M>& fold) {
  const auto described = [](const FoldPoint<M>& p) {
    return OperatingPoint{p.exists, p.has_key, p.key, p.counts.tp, p.counts.fp};
  };
  RankAnswer answer;
  answer.sum = to_u256(fold.sum);
  answer.at = described(fold.at);
  answer.before = described(fold.before);
  return answer;
}
template <class M>
RangeShare share_of(const RangeFold<M>& fold) {
  return {fold.pos, fold.neg, to_u256(fold.two_u), to_u256(fold.precision)};
}

/// Collects the answer to one query. M is u64 (row counts) or u128 (weights). The totals are those
/// of the whole segment and must be positive for both classes where the query divides by them;
/// without positives, or without negatives, nothing that needs them is collected.
template <class M>
class RankAccumulator {
 public:
  RankAccumulator(const RankQuery& query, const ClassMass<M>& all)
      : kind_(query.kind), context_(fold_context(query, all)) {
    if (kind_ == RankQueryKind::kRanges) ranges_.resize(kRankRanges);
  }

  /// Adds one tie group (pos + neg > 0) of the segment. Each group exactly once.
  void add(const TieGroup<M>& g) {
    if (kind_ == RankQueryKind::kRanges) {
      RangeFold<M> share;
      const int range = fold_range(context_, g, share);
      ranges_[static_cast<std::size_t>(range)].merge(share);
      return;
    }
    with_query_kind(kind_, [&](auto kind) { fold_group<kind()>(context_, g, fold_); });
  }

  /// Adds what another accumulator of the same query and totals has collected.
  void merge(const RankAccumulator& other) {
    for (std::size_t i = 0; i < ranges_.size(); ++i) ranges_[i].merge(other.ranges_[i]);
    with_query_kind(kind_, [&](auto kind) { merge_fold<kind()>(context_, other.fold_, fold_); });
  }

  /// The answer, once every group of the segment has been added or merged.
  RankAnswer finish() const {
    RankFold<M> fold = fold_;
    with_query_kind(kind_, [&](auto kind) { finish_fold<kind()>(context_, fold); });
    RankAnswer answer = answer_of(fold);
    for (const RangeFold<M>& share : ranges_) answer.ranges.push_back(share_of(share));
    return answer;
  }

 private:
  RankQueryKind kind_;
  FoldContext<M> context_;
  RankFold<M> fold_;
  std::vector<RangeFold<M>> ranges_;
};

}  // namespace cupel
