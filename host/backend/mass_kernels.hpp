// The masses of a row, what conformal scores and sets are made of, by vector code: each kernel is
// compiled for three instruction sets, and its integers do not depend on which runs.
#pragma once

#include "backend/cpu_level.hpp"
#include "cupel/core/int.hpp"
#include "cupel/math/conformal.hpp"

namespace cupel::cpu {

/// How many masses are at least some cut, and their sum.
struct MassesFrom {
  i64 count = 0;
  u64 sum = 0;
};

/// A mass below 2^48 and its label as one key, by which larger masses come first in descending
/// order, and of equal ones lower labels.
inline u64 label_key(i64 mass, i64 label) {
  return static_cast<u64>(mass) << 16 | (0xFFFFu - static_cast<u64>(label));
}
inline i64 mass_of_key(u64 key) { return static_cast<i64>(key >> 16); }
inline i64 label_of_key(u64 key) { return static_cast<i64>(0xFFFFu - (key & 0xFFFFu)); }

/// Of rows of `classes` masses, at least one and at most 65,535.
struct MassKernels {
  /// The masses of a row of values, and whether all are probabilities (those of logits are).
  /// `terms` has `classes` doubles, for logits.
  bool (*masses_f32)(const float* values, i64 classes, bool logits, double* terms, i64* masses);
  bool (*masses_f64)(const double* values, i64 classes, bool logits, double* terms, i64* masses);
  i64 (*largest)(const i64* masses, i64 classes);
  /// The largest but one, given the largest; 0 where there is one class.
  i64 (*second)(const i64* masses, i64 classes, i64 first);
  LabelPlace (*place)(const i64* masses, i64 classes, i64 label);
  MassesFrom (*from)(const i64* masses, i64 classes, i64 cut);
  /// Writes label_key() of the masses that are at least `cut`, all below 2^48, in the order of
  /// labels; returns how many. `keys` has room for `classes` and 8 more.
  i64 (*keys_from)(const i64* masses, i64 classes, i64 cut, u64* keys);
  /// How many masses plus the bound of their label are at least `level`.
  i64 (*count_reaching)(const i64* masses, const i64* bounds, i64 classes, i64 level);
};

const MassKernels& mass_kernels(CpuLevel level);

}  // namespace cupel::cpu
