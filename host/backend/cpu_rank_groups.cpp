#include "backend/cpu_rank_groups.hpp"

#include <algorithm>
#include <bit>

#include "backend/cpu_level.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel::cpu {
namespace {

/// Quotient of high:low by divisor, where high < divisor.
CUPEL_INLINE u64 divide_narrow(u64 high, u64 low, u64 divisor) {
#if defined(__x86_64__) && defined(__GNUC__)
  u64 quotient;
  u64 remainder;
  __asm__("divq %4" : "=a"(quotient), "=d"(remainder) : "0"(low), "1"(high), "rm"(divisor) : "cc");
  return quotient;
#else
  return static_cast<u64>(((static_cast<u128>(high) << 64) | low) / divisor);
#endif
}

CUPEL_INLINE u128 precision_at(u64 tp, u64 fp, int scale) {
  const u128 numerator = static_cast<u128>(tp) << scale;
  const u64 high = static_cast<u64>(numerator >> 64);
  if (high < tp + fp) return divide_narrow(high, static_cast<u64>(numerator), tp + fp);
  const u64 top = high / (tp + fp);
  return (static_cast<u128>(top) << 64) |
         divide_narrow(high % (tp + fp), static_cast<u64>(numerator), tp + fp);
}

u64 two_u_scalar(const u32* pos, const u32* neg, i64 first, i64 size) {
  u64 sum = 0;
  for (i64 g = first; g < size; ++g) {
    sum += static_cast<u64>(pos[g] - pos[g - 1]) * (static_cast<u64>(neg[g]) + neg[g - 1]);
  }
  return sum;
}

/// The largest neg[g-1] * P - pos[g-1] * N over groups [0, size), size > 0.
i64 best_gap_scalar(const u32* pos, const u32* neg, i64 first, i64 size, i64 p, i64 n, i64 best) {
  for (i64 g = first; g < size; ++g) {
    best = std::max(best, static_cast<i64>(neg[g - 1]) * p - static_cast<i64>(pos[g - 1]) * n);
  }
  return best;
}

/// tp / (base + tp + fp) at group g, in double.
CUPEL_INLINE double f_ratio(double tp_low, double fp_low, double base, u32 pos_below,
                            u32 neg_below) {
  const double tp = tp_low - pos_below;
  const double fp = fp_low - neg_below;
  return tp / (base + (tp + fp));
}

#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V3 u64 two_u_v3(const u32* pos, const u32* neg, i64 size) {
  const auto at = [](const u32* p) { return reinterpret_cast<const __m256i*>(p); };
  __m256i even = _mm256_setzero_si256();
  __m256i odd = _mm256_setzero_si256();
  i64 g = 0;
  for (; g + 8 <= size; g += 8) {
    const __m256i own =
        _mm256_sub_epi32(_mm256_loadu_si256(at(pos + g)), _mm256_loadu_si256(at(pos + g - 1)));
    // Below 2^32, because a block has fewer than 2^31 rows.
    const __m256i twice =
        _mm256_add_epi32(_mm256_loadu_si256(at(neg + g)), _mm256_loadu_si256(at(neg + g - 1)));
    even = _mm256_add_epi64(even, _mm256_mul_epu32(own, twice));
    odd = _mm256_add_epi64(
        odd, _mm256_mul_epu32(_mm256_srli_epi64(own, 32), _mm256_srli_epi64(twice, 32)));
  }
  alignas(32) u64 lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_add_epi64(even, odd));
  return lanes[0] + lanes[1] + lanes[2] + lanes[3] + two_u_scalar(pos, neg, g, size);
}

CUPEL_TARGET_V3 i64 best_gap_v3(const u32* pos, const u32* neg, i64 size, i64 p, i64 n) {
  const __m256i p_mass = _mm256_set1_epi64x(p);
  const __m256i n_mass = _mm256_set1_epi64x(n);
  __m256i best = _mm256_set1_epi64x(static_cast<i64>(neg[-1]) * p - static_cast<i64>(pos[-1]) * n);
  i64 g = 0;
  for (; g + 8 <= size; g += 8) {
    const __m256i below_pos = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pos + g - 1));
    const __m256i below_neg = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(neg + g - 1));
    const __m256i even =
        _mm256_sub_epi64(_mm256_mul_epu32(below_neg, p_mass), _mm256_mul_epu32(below_pos, n_mass));
    const __m256i odd =
        _mm256_sub_epi64(_mm256_mul_epu32(_mm256_srli_epi64(below_neg, 32), p_mass),
                         _mm256_mul_epu32(_mm256_srli_epi64(below_pos, 32), n_mass));
    best = _mm256_blendv_epi8(best, even, _mm256_cmpgt_epi64(even, best));
    best = _mm256_blendv_epi8(best, odd, _mm256_cmpgt_epi64(odd, best));
  }
  alignas(32) i64 lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), best);
  return best_gap_scalar(pos, neg, g, size, p, n,
                         std::max(std::max(lanes[0], lanes[1]), std::max(lanes[2], lanes[3])));
}

/// The largest f_ratio over groups [0, size), size > 0.
CUPEL_TARGET_V3 double best_f_v3(const u32* pos, const u32* neg, i64 size, double tp_low,
                                 double fp_low, double base) {
  const __m256d tp0 = _mm256_set1_pd(tp_low);
  const __m256d fp0 = _mm256_set1_pd(fp_low);
  const __m256d base4 = _mm256_set1_pd(base);
  __m256d best = _mm256_setzero_pd();
  i64 g = 0;
  // Counts of a block are below 2^31, so the signed conversion is right.
  for (; g + 4 <= size; g += 4) {
    const __m256d below_pos =
        _mm256_cvtepi32_pd(_mm_loadu_si128(reinterpret_cast<const __m128i*>(pos + g - 1)));
    const __m256d below_neg =
        _mm256_cvtepi32_pd(_mm_loadu_si128(reinterpret_cast<const __m128i*>(neg + g - 1)));
    const __m256d tp = _mm256_sub_pd(tp0, below_pos);
    const __m256d fp = _mm256_sub_pd(fp0, below_neg);
    best = _mm256_max_pd(best, _mm256_div_pd(tp, _mm256_add_pd(base4, _mm256_add_pd(tp, fp))));
  }
  alignas(32) double lanes[4];
  _mm256_store_pd(lanes, best);
  double largest = std::max(std::max(lanes[0], lanes[1]), std::max(lanes[2], lanes[3]));
  for (; g < size; ++g) {
    largest = std::max(largest, f_ratio(tp_low, fp_low, base, pos[g - 1], neg[g - 1]));
  }
  return largest;
}
#endif

double best_f(const u32* pos, const u32* neg, i64 size, double tp_low, double fp_low, double base) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) return best_f_v3(pos, neg, size, tp_low, fp_low, base);
#endif
  double largest = 0;
  for (i64 g = 0; g < size; ++g) {
    largest = std::max(largest, f_ratio(tp_low, fp_low, base, pos[g - 1], neg[g - 1]));
  }
  return largest;
}

i64 best_gap(const u32* pos, const u32* neg, i64 size, i64 p, i64 n) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) return best_gap_v3(pos, neg, size, p, n);
#endif
  return best_gap_scalar(pos, neg, 1, size, p, n, 0);
}

template <class Key>
TieGroup<u64> group_at(const GroupSpan<Key>& groups, const BlockCounts& below, i64 g) {
  TieGroup<u64> group;
  group.key = groups.base + groups.offsets[g];
  group.pos = groups.pos[g] - groups.pos[g - 1];
  group.neg = groups.neg[g] - groups.neg[g - 1];
  group.pos_below = below.pos + groups.pos[g - 1];
  group.neg_below = below.neg + groups.neg[g - 1];
  return group;
}

template <class Key>
u128 precision_sum(const RankPlan& plan, i64 b, const GroupSpan<Key>& groups,
                   std::vector<u32>& picked) {
  // Groups without positives add nothing; they are sorted out first, without branches, because
  // whether a group has a positive cannot be predicted.
  const std::size_t size = static_cast<std::size_t>(groups.size);
  if (picked.size() < size + 1) picked.resize(size + 1);
  u32* out = picked.data();
  std::size_t count = 0;
  for (i64 g = 0; g < groups.size; ++g) {
    out[count] = static_cast<u32>(g);
    count += groups.pos[g] != groups.pos[g - 1] ? 1 : 0;
  }
  const u64 tp_low = plan.totals().pos - plan.below(b).pos;
  const u64 fp_low = plan.totals().neg - plan.below(b).neg;
  const int scale = plan.scale();
  u128 sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const i64 g = out[i];
    const u32 below = groups.pos[g - 1];
    sum +=
        (groups.pos[g] - below) * precision_at(tp_low - below, fp_low - groups.neg[g - 1], scale);
  }
  return sum;
}

}  // namespace

u128 fast_scaled_precision(u64 tp, u64 fp, int scale) { return precision_at(tp, fp, scale); }

template <class Key>
u64 groups_two_u(const GroupSpan<Key>& groups) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) return two_u_v3(groups.pos, groups.neg, groups.size);
#endif
  return two_u_scalar(groups.pos, groups.neg, 0, groups.size);
}
template u64 groups_two_u(const GroupSpan<u32>&);
template u64 groups_two_u(const GroupSpan<u64>&);

template <class Key>
void scan_groups(const RankPlan& plan, i64 b, const GroupSpan<Key>& groups, RankPartial& partial,
                 BlockSums& sums) {
  if (groups.size == 0) return;
  if (plan.needs_two_u(b)) sums.two_u = groups_two_u(groups);
  if (plan.needs_precision(b)) sums.precision = precision_sum(plan, b, groups, partial.picked);

  const ClassMass<u64>& all = plan.totals();
  const BlockCounts& below = plan.below(b);
  u64 every_group = 0;
  for (u64 left = plan.open_queries(b); left != 0; left &= left - 1) {
    const std::size_t query = static_cast<std::size_t>(std::countr_zero(left));
    RankAccumulator<u64>& accumulator = partial.accumulators[query];
    switch (plan.queries()[query].kind) {
      case RankQueryKind::kGap: {
        // tp*N - fp*P is, but for a constant of the block, neg_below*P - pos_below*N: |.| < 2^62.
        const i64 p = static_cast<i64>(all.pos);
        const i64 n = static_cast<i64>(all.neg);
        const i64 best = best_gap(groups.pos, groups.neg, groups.size, p, n);
        i64 g = groups.size - 1;
        while (static_cast<i64>(groups.neg[g - 1]) * p - static_cast<i64>(groups.pos[g - 1]) * n !=
               best) {
          --g;
        }
        accumulator.add(group_at(groups, below, g));
        break;
      }
      case RankQueryKind::kFBetaMax: {
        // In double the ratio is within 2^-50 of the real one; every group that could be the best
        // is compared exactly.
        const Fraction& beta = plan.queries()[query].argument;
        const double base = static_cast<double>(beta.num) * static_cast<double>(beta.num) /
                            (static_cast<double>(beta.den) * static_cast<double>(beta.den)) *
                            static_cast<double>(all.pos);
        const double tp_low = static_cast<double>(all.pos - below.pos);
        const double fp_low = static_cast<double>(all.neg - below.neg);
        const double best = best_f(groups.pos, groups.neg, groups.size, tp_low, fp_low, base);
        const double enough = best * (1 - 0x1p-46);
        for (i64 g = 0; g < groups.size; ++g) {
          if (f_ratio(tp_low, fp_low, base, groups.pos[g - 1], groups.neg[g - 1]) >= enough) {
            accumulator.add(group_at(groups, below, g));
          }
        }
        break;
      }
      default:
        every_group |= left & (~left + 1);
        break;
    }
  }
  if (every_group == 0) return;
  for (i64 g = 0; g < groups.size; ++g) {
    const TieGroup<u64> group = group_at(groups, below, g);
    for (u64 left = every_group; left != 0; left &= left - 1) {
      partial.accumulators[static_cast<std::size_t>(std::countr_zero(left))].add(group);
    }
  }
}
template void scan_groups(const RankPlan&, i64, const GroupSpan<u32>&, RankPartial&, BlockSums&);
template void scan_groups(const RankPlan&, i64, const GroupSpan<u64>&, RankPartial&, BlockSums&);

RankPlan::RankPlan(std::span<const RankQuery> queries, std::vector<BlockCounts> blocks)
    : queries_(queries.begin(), queries.end()), blocks_(std::move(blocks)) {
  CUPEL_ASSERT(queries.size() <= kMaxQueries);
  below_.resize(blocks_.size());
  open_.assign(blocks_.size(), 0);
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    below_[b] = {all_.pos, all_.neg};
    all_.pos += blocks_[b].pos;
    all_.neg += blocks_[b].neg;
    if (blocks_[b].pos + blocks_[b].neg != 0) filled_.push_back(b);
  }
  CUPEL_ASSERT(all_.pos != 0 && all_.neg != 0);
  scale_ = precision_scale(all_);
  for (std::size_t q = 0; q < queries_.size(); ++q) plan_query(q);
}

void RankPlan::plan_query(std::size_t query) {
  switch (queries_[query].kind) {
    case RankQueryKind::kTwoU:
    case RankQueryKind::kAveragePrecision:
    case RankQueryKind::kPrTrapezoid:
      return plan_sum(query);
    case RankQueryKind::kEqualError:
    case RankQueryKind::kFprAtMost:
    case RankQueryKind::kPartialArea:
    case RankQueryKind::kTprAtLeast:
      return plan_monotone(query);
    case RankQueryKind::kGap:
    case RankQueryKind::kFBetaMax:
    case RankQueryKind::kPrecisionAtRecall:
    case RankQueryKind::kRecallAtPrecision:
      return plan_best(query);
    case RankQueryKind::kRanges:
      return plan_ranges(query);
  }
}

void RankPlan::plan_sum(std::size_t query) {
  for (const std::size_t b : filled_) {
    if (blocks_[b].pos == 0) continue;
    if (queries_[query].kind == RankQueryKind::kTwoU) {
      if (blocks_[b].neg != 0) open_[b] |= kTwoUBit;
    } else if (queries_[query].kind == RankQueryKind::kAveragePrecision) {
      open_[b] |= kPrecisionBit;
    } else {
      open(b, query);
    }
  }
}

bool RankPlan::holds(const RankQuery& query, const CurvePoint<u64>& p) const {
  switch (query.kind) {
    case RankQueryKind::kEqualError:
      return reaches_equal_error(all_, p);
    case RankQueryKind::kTprAtLeast:
    case RankQueryKind::kPrecisionAtRecall:
      return at_least(p.tp, all_.pos, query.argument);
    case RankQueryKind::kRecallAtPrecision:
      return at_least(p.tp, p.tp + p.fp, query.argument);
    default:
      return at_most(p.fp, all_.neg, query.argument);
  }
}

// The condition changes once along the curve. The groups on both sides of the change are in the
// block in which it happens or next to its border, so blocks whose lowest point agrees with those
// of both neighbours hold neither.
void RankPlan::plan_monotone(std::size_t query) {
  const bool area = queries_[query].kind == RankQueryKind::kPartialArea;
  for (std::size_t i = 0; i < filled_.size(); ++i) {
    const std::size_t b = filled_[i];
    const bool own = holds(queries_[query], low_point(b));
    const bool inside = i > 0 && i + 1 < filled_.size() &&
                        own == holds(queries_[query], low_point(filled_[i - 1])) &&
                        own == holds(queries_[query], low_point(filled_[i + 1]));
    if (!inside) {
      open(b, query);
    } else if (area && own && blocks_[b].pos != 0 && blocks_[b].neg != 0) {
      open_[b] |= kTwoUBit;
    }
  }
}

// The lowest point of each block is a point of the curve, so the best of them is a bound from
// below; blocks whose best conceivable point is worse hold no better one, nor an equally good one.
void RankPlan::plan_best(std::size_t query) {
  const RankQuery& q = queries_[query];
  const auto allowed = [&](const CurvePoint<u64>& p) {
    return (q.kind != RankQueryKind::kPrecisionAtRecall &&
            q.kind != RankQueryKind::kRecallAtPrecision) ||
           (p.tp + p.fp != 0 && holds(q, p));
  };
  const auto better = [&](const CurvePoint<u64>& a, const CurvePoint<u64>& b) {
    switch (q.kind) {
      case RankQueryKind::kGap:
        return larger_gap(all_, a, b);
      case RankQueryKind::kFBetaMax:
        return larger_f(all_, q.argument, a, b);
      case RankQueryKind::kPrecisionAtRecall:
        return larger_precision(a, b);
      default:
        return a.tp > b.tp;
    }
  };
  bool found = false;
  CurvePoint<u64> bound;
  for (const std::size_t b : filled_) {
    const auto p = low_point(b);
    if (allowed(p) && (!found || better(p, bound))) {
      bound = p;
      found = true;
    }
  }
  for (const std::size_t b : filled_) {
    const auto p = best_point(b);
    // A point without rows is no point of the curve, and has no precision to compare.
    if (p.tp + p.fp != 0 && (!allowed(p) || (found && better(bound, p)))) continue;
    open(b, query);
  }
}

void RankPlan::plan_ranges(std::size_t query) {
  for (std::size_t i = 0; i < filled_.size(); ++i) {
    const std::size_t b = filled_[i];
    const int above = i + 1 < filled_.size() ? rank_range(all_, low_point(filled_[i + 1])) : 0;
    if (rank_range(all_, low_point(b)) != above) {
      open(b, query);
      continue;
    }
    if (blocks_[b].pos != 0 && blocks_[b].neg != 0) open_[b] |= kTwoUBit;
    if (blocks_[b].pos != 0) open_[b] |= kPrecisionBit;
  }
}

RankPartial RankPlan::make_partial() const {
  RankPartial partial;
  partial.accumulators.reserve(queries_.size());
  for (const RankQuery& query : queries_) partial.accumulators.emplace_back(query, all_);
  return partial;
}

std::vector<RankAnswer> RankPlan::finish(std::span<const RankPartial> partials,
                                         std::span<const BlockSums> sums) const {
  std::vector<RankAnswer> answers;
  for (std::size_t q = 0; q < queries_.size(); ++q) {
    RankAccumulator<u64> accumulator(queries_[q], all_);
    for (const RankPartial& partial : partials) accumulator.merge(partial.accumulators[q]);
    RankAnswer answer = accumulator.finish();
    u128 sum = 0;
    for (const std::size_t b : filled_) {
      const bool opened = (open_[b] >> q & 1) != 0;
      switch (queries_[q].kind) {
        case RankQueryKind::kTwoU:
          sum += block_two_u(b, sums[b]);
          break;
        case RankQueryKind::kAveragePrecision:
          sum += sums[b].precision;
          break;
        case RankQueryKind::kPartialArea:
          // Over a block, neg * (tp before + tp at) and its 2U, both counted above and below the
          // block's own lowest point, complete each other to twice the block's pairs.
          if (!opened && holds(queries_[q], low_point(b))) {
            sum += 2 * product(blocks_[b].neg, low_point(b).tp - blocks_[b].pos) + sums[b].two_u;
          }
          break;
        case RankQueryKind::kRanges:
          if (!opened) {
            RangeShare& share =
                answer.ranges[static_cast<std::size_t>(rank_range(all_, low_point(b)))];
            share.pos += blocks_[b].pos;
            share.neg += blocks_[b].neg;
            share.two_u += to_u256(block_two_u(b, sums[b]));
            share.precision += to_u256(sums[b].precision);
          }
          break;
        default:
          break;
      }
    }
    answer.sum += to_u256(sum);
    answers.push_back(std::move(answer));
  }
  return answers;
}

}  // namespace cupel::cpu
