#include "backend/cpu_softmax_f32.hpp"

#include <type_traits>

#include "cupel/math/row_terms.hpp"
#include "cupel/math/softmax_f32.hpp"

namespace cupel::cpu {
namespace {

/// Columns that are read side by side: whole vectors of every instruction set.
constexpr i64 kLanes = 32;
/// Terms that a lane of 32 bits holds the sum of.
constexpr i64 kSteps = 8;
static_assert(kSteps * ((i64{1} << kSoftmaxF32Bits) + 1) < (i64{1} << 32));

/// A row's largest logit, and how many rank before the label's: label_rank() and row_max() in one
/// reading.
struct Scan {
  float max;
  i32 rank;
};
CUPEL_INLINE Scan scan_body(const float* __restrict x, i64 classes, i64 label) {
  const float value = x[label];
  float max[kLanes];
  i32 above[kLanes];
  i32 level[kLanes];
  for (i64 l = 0; l < kLanes; ++l) {
    max[l] = value;
    above[l] = 0;
    level[l] = 0;
  }
  i64 j = 0;
  for (; j + kLanes <= classes; j += kLanes) {
    for (i64 l = 0; l < kLanes; ++l) {
      const float own = x[j + l];
      max[l] = own > max[l] ? own : max[l];
      above[l] += own > value ? 1 : 0;
      level[l] += own == value ? 1 : 0;
    }
  }
  Scan scan{max[0], 0};
  i32 same = 0;
  for (i64 l = 0; l < kLanes; ++l) {
    scan.max = max[l] > scan.max ? max[l] : scan.max;
    scan.rank += above[l];
    same += level[l];
  }
  for (; j < classes; ++j) {
    scan.max = x[j] > scan.max ? x[j] : scan.max;
    scan.rank += x[j] > value ? 1 : 0;
    same += x[j] == value ? 1 : 0;
  }
  // Ties with the label are rare, and those before it rank before it.
  if (same > 1) {
    for (j = 0; j < label; ++j) scan.rank += x[j] == value ? 1 : 0;
  }
  scan.max += 0.0f;
  return scan;
}

CUPEL_INLINE SoftmaxF32Sums sums_body(const float* __restrict x, i64 classes, float max) {
  SoftmaxF32Sums sums;
  i64 j = 0;
  while (j + kLanes <= classes) {
    u32 units[kLanes] = {};
    u32 squares[kLanes] = {};
    const i64 left = (classes - j) / kLanes;
    const i64 end = j + (left < kSteps ? left : kSteps) * kLanes;
    for (; j < end; j += kLanes) {
      for (i64 l = 0; l < kLanes; ++l) {
        const float term = softmax_f32_term(x[j + l], max);
        units[l] += softmax_f32_units(term);
        squares[l] += softmax_f32_square_units(term);
      }
    }
    for (i64 l = 0; l < kLanes; ++l) {
      sums.units += units[l];
      sums.squares += squares[l];
    }
  }
  for (; j < classes; ++j) sums.add(softmax_f32_term(x[j], max));
  return sums;
}

template <class T>
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
  const Scan scan = scan_body(x, classes, label);
  i32 rank = scan.rank;
  if constexpr (!std::is_same_v<T, float>) {
    // float32 may have lost the order.
    rank = label_rank([&](i64 j) { return values[j]; }, classes, label);
  }
  block.rank[index] = rank;
  block.flags[index] = 0;
  const SoftmaxF32Sums sums = sums_body(x, classes, scan.max);
  block.label_value[index] = static_cast<double>(x[label]);
  block.max[index] = static_cast<double>(scan.max);
  block.denominator[index] = sums.denominator();
  if (!spec.brier) return;
  block.brier[index] = softmax_f32_brier(sums, softmax_f32_term(x[label], scan.max));
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
      to[j] = scaled_softmax_p(softmax_f32_exp(softmax_f32_term(x[j], scan.max)), scale);
    }
  }
}

// A target belongs to a function, so each set is written out.

struct BaseSet {
  static void class_row_f32(const TermSpec& spec, const float* values, i64 classes, float* scratch,
                            ClassBlock& block, i64 index) {
    row_body(spec, values, classes, scratch, block, index);
  }
  static void class_row_f64(const TermSpec& spec, const double* values, i64 classes, float* scratch,
                            ClassBlock& block, i64 index) {
    row_body(spec, values, classes, scratch, block, index);
  }
};

struct V3Set {
  CUPEL_TARGET_V3 static void class_row_f32(const TermSpec& spec, const float* values, i64 classes,
                                            float* scratch, ClassBlock& block, i64 index) {
    row_body(spec, values, classes, scratch, block, index);
  }
  CUPEL_TARGET_V3 static void class_row_f64(const TermSpec& spec, const double* values, i64 classes,
                                            float* scratch, ClassBlock& block, i64 index) {
    row_body(spec, values, classes, scratch, block, index);
  }
};

struct V4Set {
  CUPEL_TARGET_V4 static void class_row_f32(const TermSpec& spec, const float* values, i64 classes,
                                            float* scratch, ClassBlock& block, i64 index) {
    row_body(spec, values, classes, scratch, block, index);
  }
  CUPEL_TARGET_V4 static void class_row_f64(const TermSpec& spec, const double* values, i64 classes,
                                            float* scratch, ClassBlock& block, i64 index) {
    row_body(spec, values, classes, scratch, block, index);
  }
};

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
