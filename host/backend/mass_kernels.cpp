#include "backend/mass_kernels.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

#include "cupel/math/row_terms.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel::cpu {
namespace {

template <class T>
CUPEL_INLINE bool masses_body(const T* values, i64 classes, bool logits, double* terms,
                              i64* masses) {
  if (!logits) {
    int inside = 1;
    for (i64 j = 0; j < classes; ++j) {
      const double p = static_cast<double>(values[j]);
      const bool is = is_probability(p);
      inside &= static_cast<int>(is);
      masses[j] = conformal_mass(is ? p : 0.0);
    }
    return inside != 0;
  }
  const auto row = [values](i64 j) { return values[j]; };
  const double largest = static_cast<double>(row_max(row, classes));
  UnitSum sum;
  for (i64 j = 0; j < classes; ++j) {
    terms[j] = softmax_term(static_cast<double>(values[j]), largest);
    sum.add(terms[j]);
  }
  const double scale = softmax_scale({largest, sum.value()});
  for (i64 j = 0; j < classes; ++j) {
    masses[j] = conformal_mass(scaled_softmax_p(terms[j], scale));
  }
  return true;
}

CUPEL_INLINE i64 largest_body(const i64* masses, i64 classes) {
  i64 largest = masses[0];
  for (i64 j = 1; j < classes; ++j) largest = masses[j] > largest ? masses[j] : largest;
  return largest;
}

CUPEL_INLINE i64 second_body(const i64* masses, i64 classes, i64 first) {
  i64 equal = 0;
  i64 below = 0;
  for (i64 j = 0; j < classes; ++j) {
    equal += masses[j] == first ? 1 : 0;
    const i64 other = masses[j] == first ? 0 : masses[j];
    below = other > below ? other : below;
  }
  return equal > 1 ? first : below;
}

// label_place() in two loops, so that neither carries a comparison of labels.
CUPEL_INLINE LabelPlace place_body(const i64* masses, i64 classes, i64 label) {
  const i64 own = masses[label];
  i64 larger = 0;
  i64 equal = 0;
  u64 sum = 0;
  for (i64 j = 0; j < label; ++j) {
    larger += masses[j] > own ? 1 : 0;
    equal += masses[j] == own ? 1 : 0;
    sum += masses[j] > own ? static_cast<u64>(masses[j]) : 0;
  }
  const i64 before = equal;
  for (i64 j = label; j < classes; ++j) {
    larger += masses[j] > own ? 1 : 0;
    equal += masses[j] == own ? 1 : 0;
    sum += masses[j] > own ? static_cast<u64>(masses[j]) : 0;
  }
  return {own, larger, equal, larger + before + 1, sum};
}

CUPEL_INLINE MassesFrom from_body(const i64* masses, i64 classes, i64 cut) {
  i64 count = 0;
  u64 sum = 0;
  for (i64 j = 0; j < classes; ++j) {
    const bool is = masses[j] >= cut;
    count += is ? 1 : 0;
    sum += is ? static_cast<u64>(masses[j]) : 0;
  }
  return {count, sum};
}

CUPEL_INLINE i64 keys_from_body(const i64* masses, i64 classes, i64 cut, u64* keys) {
  i64 count = 0;
  for (i64 j = 0; j < classes; ++j) {
    keys[count] = label_key(masses[j], j);
    count += masses[j] >= cut ? 1 : 0;
  }
  return count;
}

CUPEL_INLINE i64 count_reaching_body(const i64* masses, const i64* bounds, i64 classes, i64 level) {
  i64 count = 0;
  for (i64 j = 0; j < classes; ++j) count += masses[j] + bounds[j] >= level ? 1 : 0;
  return count;
}

#define CUPEL_MASS_KERNELS(TARGET)                                                                 \
  TARGET static bool masses_f32(const float* values, i64 classes, bool logits, double* terms,      \
                                i64* masses) {                                                     \
    return masses_body(values, classes, logits, terms, masses);                                    \
  }                                                                                                \
  TARGET static bool masses_f64(const double* values, i64 classes, bool logits, double* terms,     \
                                i64* masses) {                                                     \
    return masses_body(values, classes, logits, terms, masses);                                    \
  }                                                                                                \
  TARGET static i64 largest(const i64* masses, i64 classes) {                                      \
    return largest_body(masses, classes);                                                          \
  }                                                                                                \
  TARGET static i64 second(const i64* masses, i64 classes, i64 first) {                            \
    return second_body(masses, classes, first);                                                    \
  }                                                                                                \
  TARGET static LabelPlace place(const i64* masses, i64 classes, i64 label) {                      \
    return place_body(masses, classes, label);                                                     \
  }                                                                                                \
  TARGET static MassesFrom from(const i64* masses, i64 classes, i64 cut) {                         \
    return from_body(masses, classes, cut);                                                        \
  }                                                                                                \
  TARGET static i64 count_reaching(const i64* masses, const i64* bounds, i64 classes, i64 level) { \
    return count_reaching_body(masses, bounds, classes, level);                                    \
  }

struct BaseSet {
  CUPEL_MASS_KERNELS()
  static i64 keys_from(const i64* masses, i64 classes, i64 cut, u64* keys) {
    return keys_from_body(masses, classes, cut, keys);
  }
};

#if CUPEL_HAS_TARGETS
struct V3Set {
  CUPEL_MASS_KERNELS(CUPEL_TARGET_V3)
  CUPEL_TARGET_V3 static i64 keys_from(const i64* masses, i64 classes, i64 cut, u64* keys) {
    return keys_from_body(masses, classes, cut, keys);
  }
};

struct V4Set {
  CUPEL_MASS_KERNELS(CUPEL_TARGET_V4)
  // Written out: the compiler does not pack the lanes that a mask leaves.
  CUPEL_TARGET_V4 static i64 keys_from(const i64* masses, i64 classes, i64 cut, u64* keys) {
    const __m512i least = _mm512_set1_epi64(cut);
    const __m512i eight = _mm512_set1_epi64(8);
    __m512i inverted =
        _mm512_sub_epi64(_mm512_set1_epi64(0xFFFF), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
    i64 count = 0;
    i64 j = 0;
    for (; j + 8 <= classes; j += 8) {
      const __m512i mass = _mm512_loadu_si512(masses + j);
      const __mmask8 is = _mm512_cmpge_epi64_mask(mass, least);
      const __m512i key = _mm512_or_si512(_mm512_slli_epi64(mass, 16), inverted);
      _mm512_storeu_si512(keys + count, _mm512_maskz_compress_epi64(is, key));
      count += __builtin_popcount(is);
      inverted = _mm512_sub_epi64(inverted, eight);
    }
    for (; j < classes; ++j) {
      keys[count] = label_key(masses[j], j);
      count += masses[j] >= cut ? 1 : 0;
    }
    return count;
  }
};
#else
using V3Set = BaseSet;
using V4Set = BaseSet;
#endif

template <class Set>
constexpr MassKernels kernels_of = {
    .masses_f32 = Set::masses_f32,
    .masses_f64 = Set::masses_f64,
    .largest = Set::largest,
    .second = Set::second,
    .place = Set::place,
    .from = Set::from,
    .keys_from = Set::keys_from,
    .count_reaching = Set::count_reaching,
};

}  // namespace

const MassKernels& mass_kernels(CpuLevel level) {
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
