#include "backend/cpu_softmax_f32.hpp"

#include <limits>
#include <type_traits>

#include "cupel/math/row_terms.hpp"
#include "cupel/math/softmax_f32.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel::cpu {
namespace {

/// Columns that are read side by side: whole vectors of every instruction set.
constexpr i64 kLanes = 32;
/// Terms that a lane of 32 bits holds the sum of.
constexpr i64 kSteps = 8;
constexpr i64 kRun = kSteps * kLanes;
static_assert(kSteps * ((i64{1} << kSoftmaxF32Bits) + 1) < (i64{1} << 32));

/// The columns behind the last whole kLanes, and minus infinity: that is above nothing, and its
/// term's units are 0.
struct Tail {
  float x[kLanes];
  CUPEL_INLINE Tail(const float* from, i64 count) {
    for (i64 l = 0; l < kLanes; ++l) x[l] = -std::numeric_limits<float>::infinity();
    for (i64 l = 0; l < count; ++l) x[l] = from[l];
  }
};

/// A row's largest logit, and how many are above the label's and level with it.
struct Scan {
  float max;
  i32 above;
  i32 level;
};

/// label_rank() of a row that was scanned.
CUPEL_INLINE i32 rank_of(const Scan& scan, const float* x, i64 label) {
  i32 rank = scan.above;
  // Ties with the label are rare, and those before it rank before it.
  if (scan.level > 1) {
    for (i64 j = 0; j < label; ++j) rank += x[j] == x[label] ? 1 : 0;
  }
  return rank;
}

/// One body for every instruction set.
struct Portable {
  static CUPEL_INLINE Scan scan(const float* __restrict x, i64 classes, float value) {
    float max[kLanes];
    i32 above[kLanes];
    i32 level[kLanes];
    for (i64 l = 0; l < kLanes; ++l) {
      max[l] = value;
      above[l] = 0;
      level[l] = 0;
    }
    const i64 whole = classes / kLanes * kLanes;
    const Tail tail(x + whole, classes - whole);
    for (i64 j = 0; j <= whole; j += kLanes) {
      const float* from = j < whole ? x + j : tail.x;
      for (i64 l = 0; l < kLanes; ++l) {
        const float own = from[l];
        max[l] = own > max[l] ? own : max[l];
        above[l] += own > value ? 1 : 0;
        level[l] += own == value ? 1 : 0;
      }
    }
    Scan scan{max[0], 0, 0};
    for (i64 l = 0; l < kLanes; ++l) {
      scan.max = max[l] > scan.max ? max[l] : scan.max;
      scan.above += above[l];
      scan.level += level[l];
    }
    return scan;
  }

  static CUPEL_INLINE SoftmaxF32Sums sums(const float* __restrict x, i64 classes, float max) {
    u64 all_units[kLanes] = {};
    u64 all_squares[kLanes] = {};
    const i64 whole = classes / kLanes * kLanes;
    const Tail tail(x + whole, classes - whole);
    for (i64 j = 0; j < classes;) {
      const float* from = j < whole ? x + j : tail.x;
      const i64 count = j < whole ? (whole - j < kRun ? whole - j : kRun) : kLanes;
      // In two loops: a term's chain of operations is as long as a processor looks ahead, and the
      // sums would make it longer.
      float terms[kRun];
      for (i64 i = 0; i < count; ++i) terms[i] = softmax_f32_term(from[i], max);
      u32 units[kLanes] = {};
      u32 squares[kLanes] = {};
      for (i64 i = 0; i < count; i += kLanes) {
        for (i64 l = 0; l < kLanes; ++l) {
          units[l] += softmax_f32_units(terms[i + l]);
          squares[l] += softmax_f32_square_units(terms[i + l]);
        }
      }
      for (i64 l = 0; l < kLanes; ++l) {
        all_units[l] += units[l];
        all_squares[l] += squares[l];
      }
      j += count;
    }
    SoftmaxF32Sums sums;
    for (i64 l = 0; l < kLanes; ++l) {
      sums.units += all_units[l];
      sums.squares += all_squares[l];
    }
    return sums;
  }
};

template <class Set, class T>
CUPEL_INLINE void row_body(const TermSpec& spec, const T* values, i64 classes, float* scratch,
                           ClassBlock& block, i64 index) {
  const i64 label = block.labels[index];
  const float* x = nullptr;
  if constexpr (std::is_same_v<T, float>) {
    x = values;
  } else {
    for (i64 j = 0; j < classes; ++j) scratch[j] = softmax_f32_logit(values[j]);
    x = scratch;
  }
  const Scan scan = Set::scan(x, classes, x[label]);
  const float max = scan.max + 0.0f;
  i32 rank = rank_of(scan, x, label);
  if constexpr (!std::is_same_v<T, float>) {
    // float32 may have lost the order.
    rank = label_rank([&](i64 j) { return values[j]; }, classes, label);
  }
  block.rank[index] = rank;
  block.flags[index] = 0;
  const SoftmaxF32Sums sums = Set::sums(x, classes, max);
  block.label_value[index] = static_cast<double>(x[label]);
  block.max[index] = static_cast<double>(max);
  block.denominator[index] = sums.denominator();
  if (!spec.brier) return;
  block.brier[index] = softmax_f32_brier(sums, softmax_f32_term(x[label], max));
  const double scale = softmax_scale({block.max[index], block.denominator[index]});
  if (spec.top) {
    block.top_p[index] = scale;
    block.predicted[index] = rank == 0 ? static_cast<i32>(label) : -1;
    if (rank != 0 && spec.predicts) {
      T largest = values[0];
      for (i64 j = 1; j < classes; ++j) largest = values[j] > largest ? values[j] : largest;
      i32 first = 0;
      while (values[first] != largest) ++first;
      block.predicted[index] = first;
    }
  }
  if (spec.each_class) {
    double* to = block.each_p + index * classes;
    for (i64 j = 0; j < classes; ++j) {
      to[j] = scaled_softmax_p(softmax_f32_exp(softmax_f32_term(x[j], max)), scale);
    }
  }
}

// A target belongs to a function, so each set is written out.

struct BaseSet {
  static void class_row_f32(const TermSpec& spec, const float* values, i64 classes, float* scratch,
                            ClassBlock& block, i64 index) {
    row_body<Portable>(spec, values, classes, scratch, block, index);
  }
  static void class_row_f64(const TermSpec& spec, const double* values, i64 classes, float* scratch,
                            ClassBlock& block, i64 index) {
    row_body<Portable>(spec, values, classes, scratch, block, index);
  }
};

struct V3Set {
  CUPEL_TARGET_V3 static void class_row_f32(const TermSpec& spec, const float* values, i64 classes,
                                            float* scratch, ClassBlock& block, i64 index) {
    row_body<Portable>(spec, values, classes, scratch, block, index);
  }
  CUPEL_TARGET_V3 static void class_row_f64(const TermSpec& spec, const double* values, i64 classes,
                                            float* scratch, ClassBlock& block, i64 index) {
    row_body<Portable>(spec, values, classes, scratch, block, index);
  }
};

#if CUPEL_HAS_TARGETS
/// The same with vectors of 512 bits, written out: the compiler counts through two more
/// instructions, and takes two for a bound. Calls, because a function
/// of another target is not inlined into what is common.
struct Wide {
  /// g++ 12 warns of its own header where a mask of all lanes is not named.
  static constexpr __mmask16 kAll = 0xFFFF;

  CUPEL_TARGET_V4 static Scan scan(const float* x, i64 classes, float value) {
    const __m512 of_label = _mm512_set1_ps(value);
    const __m512i minus_one = _mm512_set1_epi32(-1);
    __m512 max[2] = {of_label, of_label};
    __m512i above[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    __m512i level[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    const i64 whole = classes / kLanes * kLanes;
    const Tail tail(x + whole, classes - whole);
    for (i64 j = 0; j <= whole; j += kLanes) {
      const float* from = j < whole ? x + j : tail.x;
      CUPEL_UNROLL
      for (int v = 0; v < 2; ++v) {
        const __m512 own = _mm512_loadu_ps(from + 16 * v);
        max[v] = _mm512_maskz_max_ps(kAll, own, max[v]);
        above[v] = _mm512_mask_sub_epi32(above[v], _mm512_cmp_ps_mask(own, of_label, _CMP_GT_OQ),
                                         above[v], minus_one);
        level[v] = _mm512_mask_sub_epi32(level[v], _mm512_cmp_ps_mask(own, of_label, _CMP_EQ_OQ),
                                         level[v], minus_one);
      }
    }
    alignas(64) float largest[16];
    alignas(64) i32 counts[2][16];
    _mm512_store_ps(largest, _mm512_maskz_max_ps(kAll, max[0], max[1]));
    _mm512_store_si512(counts[0], _mm512_add_epi32(above[0], above[1]));
    _mm512_store_si512(counts[1], _mm512_add_epi32(level[0], level[1]));
    Scan scan{value, 0, 0};
    for (int l = 0; l < 16; ++l) {
      scan.max = largest[l] > scan.max ? largest[l] : scan.max;
      scan.above += counts[0][l];
      scan.level += counts[1][l];
    }
    return scan;
  }

  CUPEL_TARGET_V4 static SoftmaxF32Sums sums(const float* x, i64 classes, float max) {
    const __m512 of_max = _mm512_set1_ps(max);
    const __m512 half = _mm512_set1_ps(0.5f);
    const __m512 unit = _mm512_set1_ps(0x1p14f);
    __m512i all_units = _mm512_setzero_si512();
    __m512i all_squares = _mm512_setzero_si512();
    const i64 whole = classes / kLanes * kLanes;
    const Tail tail(x + whole, classes - whole);
    for (i64 j = 0; j < classes;) {
      const float* from = j < whole ? x + j : tail.x;
      const i64 count = j < whole ? (whole - j < kRun ? whole - j : kRun) : kLanes;
      alignas(64) float terms[kRun];
      for (i64 i = 0; i < count; i += kLanes) {
        CUPEL_UNROLL
        for (int v = 0; v < 2; ++v) {
          // The next row, while this one is computed: there is nothing else to wait for memory.
          _mm_prefetch(reinterpret_cast<const char*>(x + classes + j + i + 16 * v), _MM_HINT_T0);
          _mm512_store_ps(terms + i + 16 * v, term(_mm512_loadu_ps(from + i + 16 * v), of_max));
        }
      }
      __m512i units[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
      __m512i squares[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
      for (i64 i = 0; i < count; i += kLanes) {
        CUPEL_UNROLL
        for (int v = 0; v < 2; ++v) {
          const __m512 own = _mm512_load_ps(terms + i + 16 * v);
          units[v] = _mm512_add_epi32(
              units[v], _mm512_maskz_cvttps_epi32(kAll, _mm512_fmadd_ps(own, unit, half)));
          squares[v] = _mm512_add_epi32(
              squares[v], _mm512_maskz_cvttps_epi32(kAll, _mm512_fmadd_ps(own, own, half)));
        }
      }
      for (int v = 0; v < 2; ++v) {
        all_units = _mm512_add_epi64(all_units, widened(units[v]));
        all_squares = _mm512_add_epi64(all_squares, widened(squares[v]));
      }
      j += count;
    }
    return {sum_of(all_units), sum_of(all_squares)};
  }

 private:
  /// softmax_f32_term() of sixteen logits.
  CUPEL_TARGET_V4 static CUPEL_INLINE __m512 term(__m512 logit, __m512 max) {
    const __m512 inverse_ln2 = _mm512_set1_ps(0x1.715476p+0f);
    const __m512 to_integer = _mm512_set1_ps(0x1.8p23f + 14.0f);
    const __m512 z = _mm512_maskz_max_ps(kAll, _mm512_sub_ps(logit, max), _mm512_set1_ps(-87.0f));
    const __m512 shifted = _mm512_fmadd_ps(z, inverse_ln2, to_integer);
    const __m512 n = _mm512_sub_ps(shifted, to_integer);
    const __m512 f = _mm512_fmsub_ps(z, inverse_ln2, n);
    __m512 q = _mm512_set1_ps(0x1.5bba14p-10f);
    q = _mm512_fmadd_ps(q, f, _mm512_set1_ps(0x1.3cea88p-7f));
    q = _mm512_fmadd_ps(q, f, _mm512_set1_ps(0x1.c6b752p-5f));
    q = _mm512_fmadd_ps(q, f, _mm512_set1_ps(0x1.ebf9bcp-3f));
    q = _mm512_fmadd_ps(q, f, _mm512_set1_ps(0x1.62e42ap-1f));
    const __m512 power = _mm512_fmadd_ps(q, f, _mm512_set1_ps(1.0f));
    const __m512i scale = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(power), scale));
  }

  /// Sums of two neighbours among sixteen integers without a sign.
  CUPEL_TARGET_V4 static CUPEL_INLINE __m512i widened(__m512i values) {
    const __m512i low = _mm512_set1_epi64(0xFFFF'FFFF);
    return _mm512_add_epi64(_mm512_and_si512(values, low), _mm512_srli_epi64(values, 32));
  }
  CUPEL_TARGET_V4 static CUPEL_INLINE u64 sum_of(__m512i values) {
    alignas(64) u64 lanes[8];
    _mm512_store_si512(lanes, values);
    u64 sum = 0;
    for (const u64 lane : lanes) sum += lane;
    return sum;
  }
};

struct V4Set {
  CUPEL_TARGET_V4 static void class_row_f32(const TermSpec& spec, const float* values, i64 classes,
                                            float* scratch, ClassBlock& block, i64 index) {
    row_body<Wide>(spec, values, classes, scratch, block, index);
  }
  CUPEL_TARGET_V4 static void class_row_f64(const TermSpec& spec, const double* values, i64 classes,
                                            float* scratch, ClassBlock& block, i64 index) {
    row_body<Wide>(spec, values, classes, scratch, block, index);
  }
};

#else
using V4Set = BaseSet;
#endif

template <class Set>
constexpr SoftmaxF32Kernels kernels_of = {
    .class_row_f32 = Set::class_row_f32,
    .class_row_f64 = Set::class_row_f64,
};

}  // namespace

const SoftmaxF32Kernels& softmax_f32_kernels(CpuLevel level) {
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
