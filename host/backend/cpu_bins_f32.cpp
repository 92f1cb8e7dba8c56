#include "backend/cpu_bins_f32.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cupel/math/half.hpp"
#include "cupel/math/row_terms.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel::cpu {
namespace {

// ---- one body for every instruction set --------------------------------------------------------

constexpr u64 kSumMask = ((u64{1} << 33) - 1) << kFloatSumAt;
constexpr u64 kRestMask = (u64{1} << 18) - 1;
constexpr u64 kOneRow = u64{1} << kFloatRowsAt;

CUPEL_INLINE void widen_body(DType dtype, const std::byte* scores, i64 rows, float* out) {
  if (dtype == DType::kF16) {
    for (i64 i = 0; i < rows; ++i) out[i] = float_from_f16(load<u16>(scores + 2 * i));
  } else {
    for (i64 i = 0; i < rows; ++i) out[i] = float_from_bf16(load<u16>(scores + 2 * i));
  }
}

/// Rows [first, rows): what terms() does, but for the check.
CUPEL_INLINE bool terms_body(const float* __restrict p, const u8* __restrict labels, i64 first,
                             i64 rows, FloatBlock& block) {
  u64* __restrict packed = block.packed;
  i32 outside = 0;
  u64 positives = 0;
  u64 brier = 0;
  u64 rest = 0;
  for (i64 i = first; i < rows; ++i) outside += is_probability(p[i]) ? 0 : 1;
  if (outside != 0) return false;
  for (i64 i = first; i < rows; ++i) {
    const u64 label = labels[i];
    const double q = static_cast<double>(p[i]);
    const u64 term = confidence_term(q);
    packed[i] = (term << 4 & kSumMask) | kOneRow | label;
    rest += term & kRestMask;
    positives += label;
    brier += brier_term(q, label != 0);
  }
  block.positives += positives;
  block.brier += brier;
  block.rest += rest;
  return true;
}

CUPEL_INLINE void slots_body(const float* __restrict p, i64 first, i64 rows, const BinQuery& query,
                             u32* __restrict slot) {
  const i32 bins = static_cast<i32>(query.bins);
  if (query.closed_left) {
    for (i64 i = first; i < rows; ++i) slot[i] = static_cast<u32>(float_bin_slot(p[i], bins, true));
  } else {
    for (i64 i = first; i < rows; ++i) {
      slot[i] = static_cast<u32>(float_bin_slot(p[i], bins, false));
    }
  }
}

/// The confidence that has a slot of its own and does not get it by rounding: 0 where bins are
/// [lo, hi), else 1.
constexpr float apart(bool closed_left) { return closed_left ? 0.0f : 1.0f; }
CUPEL_INLINE void set_apart(const float* __restrict p, i64 rows, i64 bins, bool closed_left,
                            u32* __restrict slot) {
  const u32 own = closed_left ? 0 : static_cast<u32>(bins) + 1;
  for (i64 i = 0; i < rows; ++i) slot[i] = p[i] == apart(closed_left) ? own : slot[i];
}

CUPEL_INLINE void add_rows(i64 rows, i64 slots, FloatBlock& block) {
  u64* const even = block.even.data();
  u64* const odd = block.odd.data() + 9;
  std::fill_n(even, slots, u64{0});
  std::fill_n(odd, slots, u64{0});
  i64 i = 0;
  for (; i + 4 <= rows; i += 4) {
    even[block.slot[i]] += block.packed[i];
    odd[block.slot[i + 1]] += block.packed[i + 1];
    even[block.slot[i + 2]] += block.packed[i + 2];
    odd[block.slot[i + 3]] += block.packed[i + 3];
  }
  for (; i < rows; ++i) even[block.slot[i]] += block.packed[i];
  for (i64 slot = 0; slot < slots; ++slot) even[slot] += odd[slot];
}

/// The largest float32 that is not above a threshold: a float32 is above either or neither.
float float_threshold(double threshold) {
  const float nearest = static_cast<float>(threshold);
  if (static_cast<double>(nearest) <= threshold) return nearest;
  return std::nextafter(nearest, -std::numeric_limits<float>::infinity());
}

/// One step after the other: in one loop the chain of a logarithm's operations would be longer
/// than a processor looks ahead.
CUPEL_INLINE FloatLosses losses_body(const float* __restrict p, const u8* __restrict labels,
                                     i64 rows, double epsilon) {
  double f[kFloatBlockRows];
  double s[kFloatBlockRows];
  double n[kFloatBlockRows];
  u64 clipped = 0;
  for (i64 i = 0; i < rows; ++i) s[i] = static_cast<double>(p[i]);
  for (i64 i = 0; i < rows; ++i) {
    const double q = label_probability(s[i], labels[i] != 0);
    clipped += select_bits(is_clipped(q, epsilon), 1, 0);
    const detail::LogParts parts = detail::log_parts(clipped_probability(q, epsilon), 0.0);
    f[i] = parts.f;
    s[i] = parts.s;
    n[i] = parts.n;
  }
  u64 sum = 0;
  for (i64 i = 0; i < rows; ++i)
    sum += short_loss_term(-detail::log_from_parts({f[i], s[i], n[i]}));
  return {sum, clipped};
}

CUPEL_INLINE FloatDecisions decisions_body(const float* p, const u8* labels, i64 rows,
                                           float threshold) {
  u32 positive = 0;
  u32 true_positive = 0;
  for (i64 i = 0; i < rows; ++i) {
    const u32 decided = p[i] > threshold ? 1 : 0;
    positive += decided;
    true_positive += decided & labels[i];
  }
  return {positive, true_positive};
}

#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V3 void widen_v3(DType dtype, const std::byte* scores, i64 rows, float* out) {
  i64 i = 0;
  for (; dtype == DType::kF16 && i + 8 <= rows; i += 8) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(scores + 2 * i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(bits));
  }
  widen_body(dtype, scores + 2 * i, rows - i, out + i);
}
#endif

// ---- one set of kernels for each instruction set -----------------------------------------------

struct BaseSet {
  static void widen(DType dtype, const std::byte* scores, i64 rows, float* out) {
    widen_body(dtype, scores, rows, out);
  }
  static bool terms(const float* p, const u8* labels, i64 rows, FloatBlock& block) {
    block.positives = block.brier = block.rest = 0;
    return terms_body(p, labels, 0, rows, block);
  }
  static void count(const float* p, i64 rows, const BinQuery& query, FloatBlock& block) {
    slots_body(p, 0, rows, query, block.slot);
    add_rows(rows, bin_slots(query.bins), block);
  }
  static FloatLosses losses(const float* p, const u8* labels, i64 rows, double epsilon) {
    return losses_body(p, labels, rows, epsilon);
  }
  static FloatDecisions decisions(const float* p, const u8* labels, i64 rows, double threshold) {
    return decisions_body(p, labels, rows, float_threshold(threshold));
  }
};

#if CUPEL_HAS_TARGETS
struct V3Set {
  static void widen(DType dtype, const std::byte* scores, i64 rows, float* out) {
    widen_v3(dtype, scores, rows, out);
  }
  CUPEL_TARGET_V3 static bool terms(const float* p, const u8* labels, i64 rows, FloatBlock& block) {
    block.positives = block.brier = block.rest = 0;
    return terms_body(p, labels, 0, rows, block);
  }
  CUPEL_TARGET_V3 static void count(const float* p, i64 rows, const BinQuery& query,
                                    FloatBlock& block) {
    const i64 whole = rows / 8 * 8;
    if (query.closed_left) {
      slots<true>(p, whole, query.bins, block.slot);
    } else {
      slots<false>(p, whole, query.bins, block.slot);
    }
    slots_body(p, whole, rows, query, block.slot);
    add_rows(rows, bin_slots(query.bins), block);
  }
  CUPEL_TARGET_V3 static FloatLosses losses(const float* p, const u8* labels, i64 rows,
                                            double epsilon) {
    return losses_body(p, labels, rows, epsilon);
  }
  CUPEL_TARGET_V3 static FloatDecisions decisions(const float* p, const u8* labels, i64 rows,
                                                  double threshold) {
    return decisions_body(p, labels, rows, float_threshold(threshold));
  }

 private:
  /// As below.
  template <bool kClosedLeft>
  CUPEL_TARGET_V3 static void slots(const float* p, i64 whole, i64 bins, u32* slot) {
    const __m256d count = _mm256_set1_pd(static_cast<double>(bins));
    const __m256 special = _mm256_set1_ps(apart(kClosedLeft));
    const __m128i one = _mm_set1_epi32(1);
    __m256 any_apart = _mm256_setzero_ps();
    for (i64 i = 0; i < whole; i += 8) {
      any_apart =
          _mm256_or_ps(any_apart, _mm256_cmp_ps(_mm256_loadu_ps(p + i), special, _CMP_EQ_OQ));
      CUPEL_UNROLL
      for (i64 j = i; j < i + 8; j += 4) {
        const __m256d scaled = _mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(p + j)), count);
        __m128i own;
        if constexpr (kClosedLeft) {
          own = _mm_add_epi32(_mm256_cvttpd_epi32(scaled), one);
        } else {
          own = _mm256_cvttpd_epi32(_mm256_ceil_pd(scaled));
        }
        _mm_store_si128(reinterpret_cast<__m128i*>(slot + j), own);
      }
    }
    if (_mm256_movemask_ps(any_apart) != 0) set_apart(p, whole, bins, kClosedLeft, slot);
  }
};

// Written out: the compiler widens labels and floats by shuffles.
struct V4Set {
  static void widen(DType dtype, const std::byte* scores, i64 rows, float* out) {
    widen_v3(dtype, scores, rows, out);
  }

  CUPEL_TARGET_V4 static bool terms(const float* p, const u8* labels, i64 rows, FloatBlock& block) {
    block.positives = block.brier = block.rest = 0;
    const i64 whole = rows / 16 * 16;
    const __m512 zero = _mm512_setzero_ps();
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512d one_f64 = _mm512_set1_pd(1.0);
    const __m512d four = _mm512_set1_pd(4.0);
    const __m512d unit = _mm512_set1_pd(0x1p50);
    const __m512d to_integer = _mm512_set1_pd(0x1p52);
    const __m512i sum_mask = _mm512_set1_epi64(static_cast<i64>(kSumMask));
    const __m512i rest_mask = _mm512_set1_epi64(static_cast<i64>(kRestMask));
    const __m512i one_row = _mm512_set1_epi64(static_cast<i64>(kOneRow));
    __m512i brier = _mm512_setzero_si512();
    __m512i rest = _mm512_setzero_si512();
    unsigned outside = 0;
    u64 positives = 0;
    for (i64 i = 0; i < whole; i += 16) {
      const __m512 x = _mm512_loadu_ps(p + i);
      outside |= _cvtmask16_u32(_mm512_cmp_ps_mask(x, zero, _CMP_LT_OQ)) |
                 _cvtmask16_u32(_mm512_cmp_ps_mask(x, one, _CMP_GT_OQ));
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(labels + i));
      const unsigned label = _cvtmask16_u32(_mm_test_epi8_mask(bytes, bytes));
      positives += static_cast<u64>(__builtin_popcount(label));
      CUPEL_UNROLL
      for (int half = 0; half < 2; ++half) {
        const __m512d q = _mm512_cvtps_pd(_mm256_loadu_ps(p + i + 8 * half));
        const __m512i right = _mm512_cvtepu8_epi64(
            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(labels + i + 8 * half)));
        // confidence_term(), its constant part above the masks.
        const __m512i term = _mm512_castpd_si512(_mm512_fmadd_pd(q, unit, to_integer));
        rest = _mm512_add_epi64(rest, _mm512_and_si512(term, rest_mask));
        // (term << 4 & sum_mask) | right, then the row.
        const __m512i sum =
            _mm512_ternarylogic_epi64(_mm512_slli_epi64(term, 4), sum_mask, right, 0xEA);
        _mm512_store_si512(block.packed + i + 8 * half, _mm512_add_epi64(sum, one_row));
        const __mmask8 is_right = static_cast<__mmask8>(label >> (8 * half));
        const __m512d error = _mm512_mask_sub_pd(q, is_right, q, one_f64);
        brier = _mm512_add_epi64(brier, _mm512_castpd_si512(_mm512_fmadd_pd(error, error, four)));
      }
    }
    if (outside != 0) return false;
    block.positives = positives;
    block.brier = sum_of(brier) - static_cast<u64>(whole) * bits_from_double(4.0);
    block.rest = sum_of(rest);
    return terms_body(p, labels, whole, rows, block);
  }

  CUPEL_TARGET_V4 static void count(const float* p, i64 rows, const BinQuery& query,
                                    FloatBlock& block) {
    const i64 whole = rows / 16 * 16;
    if (query.closed_left) {
      slots<true>(p, whole, query.bins, block.slot);
    } else {
      slots<false>(p, whole, query.bins, block.slot);
    }
    slots_body(p, whole, rows, query, block.slot);
    add_rows(rows, bin_slots(query.bins), block);
  }

  CUPEL_TARGET_V4 static FloatLosses losses(const float* p, const u8* labels, i64 rows,
                                            double epsilon) {
    return losses_body(p, labels, rows, epsilon);
  }
  CUPEL_TARGET_V4 static FloatDecisions decisions(const float* p, const u8* labels, i64 rows,
                                                  double threshold) {
    return decisions_body(p, labels, rows, float_threshold(threshold));
  }

 private:
  CUPEL_TARGET_V4 static u64 sum_of(__m512i sums) {
    alignas(64) u64 lanes[8];
    _mm512_store_si512(lanes, sums);
    u64 sum = 0;
    for (const u64 lane : lanes) sum += lane;
    return sum;
  }

  /// float_bin_slot() of 16 rows at a time: a product rounded up, or down and one more, and then
  /// the confidence that has a slot of its own and did not get it: 1, or 0.
  template <bool kClosedLeft>
  CUPEL_TARGET_V4 static void slots(const float* p, i64 whole, i64 bins, u32* slot) {
    const __m512d count = _mm512_set1_pd(static_cast<double>(bins));
    const __m512 special = _mm512_set1_ps(apart(kClosedLeft));
    const __m256i one = _mm256_set1_epi32(1);
    unsigned any_apart = 0;
    for (i64 i = 0; i < whole; i += 16) {
      any_apart |= _cvtmask16_u32(_mm512_cmp_ps_mask(_mm512_loadu_ps(p + i), special, _CMP_EQ_OQ));
      CUPEL_UNROLL
      for (i64 j = i; j < i + 16; j += 8) {
        const __m512d scaled = _mm512_mul_pd(_mm512_cvtps_pd(_mm256_loadu_ps(p + j)), count);
        __m256i own;
        if constexpr (kClosedLeft) {
          own = _mm256_add_epi32(
              _mm512_cvt_roundpd_epi32(scaled, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC), one);
        } else {
          own = _mm512_cvt_roundpd_epi32(scaled, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
        }
        _mm256_store_si256(reinterpret_cast<__m256i*>(slot + j), own);
      }
    }
    if (any_apart != 0) set_apart(p, whole, bins, kClosedLeft, slot);
  }
};
#else
using V3Set = BaseSet;
using V4Set = BaseSet;
#endif

template <class Set>
constexpr FloatBinKernels kernels_of = {
    .widen = Set::widen,
    .terms = Set::terms,
    .count = Set::count,
    .losses = Set::losses,
    .decisions = Set::decisions,
};

}  // namespace

const FloatBinKernels& float_bin_kernels(CpuLevel level) {
  switch (level) {
    case CpuLevel::kV4:
      return kernels_of<V4Set>;
    case CpuLevel::kV3:
      return kernels_of<V3Set>;
    case CpuLevel::kBaseline:
      break;
  }
  return kernels_of<BaseSet>;
}

}  // namespace cupel::cpu
