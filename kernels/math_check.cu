// Compiles the shared arithmetic of include/cupel/math as device code, so that a change that only
// the host compiler accepts is seen at once. Nothing here is launched, or linked into anything.
#include "cupel/math/counter_random.hpp"
#include "cupel/math/curve.hpp"
#include "cupel/math/half.hpp"
#include "cupel/math/row_terms.hpp"
#include "cupel/math/score_key.hpp"
#include "cupel/math/softmax.hpp"
#include "cupel/math/weight.hpp"

namespace cupel {

template <class M>
__device__ void touch_group(const ClassMass<M>& all, const TieGroup<M>& group, U256* sums) {
  const auto point = point_at(all, group);
  const auto before = point_before(all, group);
  const int scale = precision_scale(all);
  sums[0] += to_u256(two_u_term(group));
  sums[1] += to_u256(precision_term(all, group, scale));
  sums[2] += pr_trapezoid_term(all, group, scale);
  sums[3] += to_u256(roc_area_term(all, group));
  const bool better = larger_gap(all, point, before) ||
                      larger_f(all, Fraction{2, 1}, point, before) ||
                      larger_precision(point, before) || reaches_equal_error(all, point) ||
                      at_least(point.tp, all.pos, Fraction{19, 20}) || rank_range(all, point) > 0;
  if (better) sums[4] += to_u256(u128{1});
}

__global__ void math_check(const float* scores, const double* weights, i64 rows, i64 classes,
                           u64* keys, double* probabilities, U256* sums) {
  const i64 row = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  const float* logits = scores + row * classes;
  keys[row] = key_of_f32(bits_from_float(logits[0])) ^ key_of_f64(bits_from_double(weights[row])) ^
              key_of_16(static_cast<u16>(row)) ^ counter_random(1, static_cast<u64>(row));
  const RowSoftmax softmax = softmax_row_f32(logits, classes);
  const double p = softmax_p(logits[0], softmax);
  probabilities[row] = p + log_softmax_loss(logits[0], softmax) +
                       log_loss_of_probability(p, 0x1p-23) + log_loss_of_logit(logits[0], true) +
                       sigmoid_det(logits[0]);
  sums[5] += multiply(weight_mass(weights[row]).mass, u128{brier_term(p, true)});
  touch_group(ClassMass<u64>{9, 7}, TieGroup<u64>{keys[row], 2, 1, 3, 4}, sums);
  touch_group(ClassMass<u128>{9, 7}, TieGroup<u128>{keys[row], 2, 1, 3, 4}, sums);
}

}  // namespace cupel
