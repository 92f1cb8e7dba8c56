#include <algorithm>
#include <cmath>

#include "cupel/math/bins.hpp"
#include "cupel/math/counter_random.hpp"
#include "cupel/math/curve.hpp"
#include "cupel/math/half.hpp"
#include "cupel/math/pair_kernel.hpp"
#include "cupel/math/row_terms.hpp"
#include "cupel/math/score_key.hpp"
#include "cupel/math/softmax.hpp"
#include "cupel/math/softmax_f32.hpp"
#include "cupel/math/tempering.hpp"
#include "cupel/math/weight.hpp"
#include "gpu/math_on_device.hpp"

namespace cupel {
namespace {

/// All of one input.
CUPEL_HD void evaluate(double x, u64* out) {
  const double p = sigmoid_det(x);
  out[0] = bits_from_double(exp_det(x));
  out[1] = bits_from_double(log_det(x));
  out[2] = bits_from_double(log1p_exp_det(x));
  out[3] = bits_from_double(p);
  out[4] = brier_term(p, true);
  out[5] = bits_from_double(log_loss_of_probability(p, kEpsilonF32));
  out[6] = bits_from_double(log_loss_of_logit(x, true));
  const double loss = log_loss_of_logit(x, false);
  out[7] = has_short_loss(loss) ? short_loss_term(loss) : 0;
  const WeightMass weight = weight_mass(x);
  out[8] = static_cast<u64>(weight.mass);
  out[9] = static_cast<u64>(weight.mass >> 64) ^ static_cast<u64>(weight.fault) << 32;
  out[10] = key_of_f64(bits_from_double(x));
  out[11] = key_of_f32(bits_from_float(static_cast<float>(x)));
  // 128 and 256-bit arithmetic.
  const u64 tp = bits_from_double(x) >> 4;
  const u128 scaled = scaled_precision(tp, tp / 3 + 1, 61);
  out[12] = static_cast<u64>(scaled) ^ static_cast<u64>(scaled >> 64);
  const U256 product = multiply(static_cast<u128>(tp) << 31 | 5u, static_cast<u128>(tp) << 17 | 3u);
  out[13] = product.limb[0] ^ product.limb[1] ^ product.limb[2] ^ product.limb[3];
  // A pair of rows with probabilities p and 1 - p, q and 1 - q.
  const double q = p * 0.75;
  const double squares_p = add_square(add_square(0.0, p), 1.0 - p);
  const double squares_q = add_square(add_square(0.0, q), 1.0 - q);
  double squared = add_squared_difference(0.0, p, q);
  squared = add_squared_difference(squared, 1.0 - p, 1.0 - q);
  const double distance = sqrt(squared);
  const double residuals = residual_product(squares_p, squares_q, squared, q, p, true);
  out[14] = bits_from_double(distance);
  out[15] = static_cast<u64>(pair_term(pair_value(residuals, distance, -2.5)));
  out[16] = distance_key(distance);
  const MomentTerms moments = moment_terms(p);
  out[17] = moments.square;
  out[18] = moments.spread;
}

/// A row of logits: bounded, so that all are finite.
struct Row {
  const double* inputs;
  CUPEL_HD double operator()(i64 j) const {
    const double x = inputs[j];
    return x > -1e3 && x < 1e3 ? x : 1.0;
  }
};
CUPEL_HD void evaluate_row(const double* inputs, u64* out) {
  const Row row{inputs};
  const RowSoftmax softmax = softmax_row(row, kMathRow);
  out[0] = bits_from_double(softmax.max);
  out[1] = bits_from_double(softmax.denominator);
  out[2] = bits_from_double(softmax_p(row(3), softmax));
  out[3] = bits_from_double(log_softmax_loss(row(5), softmax));
  float max = softmax_f32_logit(row(0));
  for (i64 j = 1; j < kMathRow; ++j) max = fmaxf(max, softmax_f32_logit(row(j)));
  SoftmaxF32Sums sums;
  for (i64 j = 0; j < kMathRow; ++j) sums.add(softmax_f32_term(softmax_f32_logit(row(j)), max));
  const float term = softmax_f32_term(softmax_f32_logit(row(5)), max);
  out[4] = sums.units;
  out[5] = sums.squares;
  out[6] = softmax_f32_brier(sums, term);
  out[7] = bits_from_double(softmax_f32_exp(term));
  const double largest = tempered_logit(softmax.max, 0.7);
  SlopeMoments slopes;
  for (i64 j = 0; j < kMathRow; ++j) slopes.add(tempered_logit(row(j), 0.7), largest);
  const RowSlope slope = row_slope(slopes);
  out[8] = bits_from_double(slope.mean);
  out[9] = bits_from_double(slope.variance);
}

__global__ void evaluate_all(const double* inputs, i64 size, u64* results, u64* rows) {
  const i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < size) evaluate(inputs[i], results + i * kMathResults);
  if (i + kMathRow <= size) evaluate_row(inputs + i, rows + i * kMathRowResults);
}

i64 starts_of(const std::vector<double>& inputs) {
  return std::max<i64>(0, static_cast<i64>(inputs.size()) - kMathRow + 1);
}

}  // namespace

void math_on_host(const std::vector<double>& inputs, std::vector<u64>& results,
                  std::vector<u64>& rows) {
  results.assign(inputs.size() * kMathResults, 0);
  rows.assign(static_cast<std::size_t>(starts_of(inputs) * kMathRowResults), 0);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    evaluate(inputs[i], results.data() + i * kMathResults);
  }
  for (i64 i = 0; i < starts_of(inputs); ++i) {
    evaluate_row(inputs.data() + i, rows.data() + i * kMathRowResults);
  }
}

const char* math_on_device(const std::vector<double>& inputs, std::vector<u64>& results,
                           std::vector<u64>& rows) {
  const i64 size = static_cast<i64>(inputs.size());
  results.assign(inputs.size() * kMathResults, 0);
  rows.assign(static_cast<std::size_t>(starts_of(inputs) * kMathRowResults), 0);
  double* device_inputs = nullptr;
  u64* device_results = nullptr;
  u64* device_rows = nullptr;
  const auto bytes = [](const auto& values) { return values.size() * sizeof(values[0]); };
  cudaError_t error = cudaMalloc(&device_inputs, bytes(inputs));
  if (error == cudaSuccess) error = cudaMalloc(&device_results, bytes(results));
  if (error == cudaSuccess) error = cudaMalloc(&device_rows, bytes(rows));
  if (error == cudaSuccess) {
    error = cudaMemcpy(device_inputs, inputs.data(), bytes(inputs), cudaMemcpyHostToDevice);
  }
  if (error == cudaSuccess) {
    evaluate_all<<<static_cast<unsigned>((size + 127) / 128), 128>>>(device_inputs, size,
                                                                     device_results, device_rows);
    error = cudaGetLastError();
  }
  if (error == cudaSuccess) {
    error = cudaMemcpy(results.data(), device_results, bytes(results), cudaMemcpyDeviceToHost);
  }
  if (error == cudaSuccess) {
    error = cudaMemcpy(rows.data(), device_rows, bytes(rows), cudaMemcpyDeviceToHost);
  }
  for (void* memory : {static_cast<void*>(device_inputs), static_cast<void*>(device_results),
                       static_cast<void*>(device_rows)}) {
    const cudaError_t freed = cudaFree(memory);
    if (error == cudaSuccess) error = freed;
  }
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace cupel
