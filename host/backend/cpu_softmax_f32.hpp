// Rows of several classes' logits whose softmax is asked for in float32 (softmax_f32.hpp).
#pragma once

#include "backend/cpu_row_kernels.hpp"

namespace cupel::cpu {

struct SoftmaxF32Kernels {
  /// As RowKernels::class_row_f32 and class_row_f64 for logits; `scratch` has `classes` floats for
  /// rows of doubles. The row's rank is computed always, its squared error with `brier`.
  void (*class_row_f32)(const TermSpec& spec, const float* values, i64 classes, float* scratch,
                        ClassBlock& block, i64 index);
  void (*class_row_f64)(const TermSpec& spec, const double* values, i64 classes, float* scratch,
                        ClassBlock& block, i64 index);
};

const SoftmaxF32Kernels& softmax_f32_kernels(CpuLevel level);

}  // namespace cupel::cpu
