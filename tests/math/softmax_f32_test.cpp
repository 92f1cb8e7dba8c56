// The softmax in float32 against long double, and what makes its sums states.
#include "cupel/math/softmax_f32.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace cupel {
namespace {

long double exact_exp(float logit, float max) {
  return std::exp(static_cast<long double>(logit) - static_cast<long double>(max));
}

TEST(SoftmaxF32, ExponentialsAreWithinTheBound) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 400'000; ++i) {
    const float max = static_cast<float>(static_cast<double>(random() >> 11) * 0x1p-53 * 40 - 20);
    const float down = static_cast<float>(static_cast<double>(random() >> 11) * 0x1p-53 *
                                          (i % 3 == 0   ? 1
                                           : i % 3 == 1 ? 20
                                                        : 86));
    const float logit = max - down;
    const float term = softmax_f32_term(logit, max);
    const long double exact = exact_exp(logit, max);
    const long double error = std::fabs(softmax_f32_exp(term) - exact) / exact;
    ASSERT_LE(error, 2e-7L + (static_cast<long double>(max) - logit) * 8e-8L)
        << logit << ' ' << max;
    const long double unit = std::ldexp(1.0L, -28);
    ASSERT_LE(std::fabs(softmax_f32_units(term) * unit - softmax_f32_exp(term)), unit);
    const long double square =
        softmax_f32_exp(term) * static_cast<long double>(softmax_f32_exp(term));
    ASSERT_LE(std::fabs(softmax_f32_square_units(term) * unit - square),
              unit + square * std::ldexp(1.0L, -24));
  }
}

TEST(SoftmaxF32, TheLargestLogitIsExactlyOne) {
  for (const float max : {0.0f, -0.0f, 1e-40f, 3.25f, -7e30f, std::numeric_limits<float>::max()}) {
    const float term = softmax_f32_term(max, max);
    EXPECT_EQ(softmax_f32_exp(term), 1.0);
    EXPECT_EQ(softmax_f32_units(term), u32{1} << 28);
    EXPECT_EQ(softmax_f32_square_units(term), u32{1} << 28);
  }
}

// No infinity minus infinity, no exponent that wraps round.
TEST(SoftmaxF32, FarLogitsAddNothing) {
  constexpr float kMost = std::numeric_limits<float>::max();
  for (const float logit : {-87.0f, -88.0f, -1000.0f, -kMost}) {
    for (const float max : {0.0f, 5.0f, kMost}) {
      const float term = softmax_f32_term(logit, max);
      EXPECT_GT(softmax_f32_exp(term), 0.0);
      EXPECT_LT(softmax_f32_exp(term), 2e-38);
      EXPECT_EQ(softmax_f32_units(term), 0u);
      EXPECT_EQ(softmax_f32_square_units(term), 0u);
    }
  }
}

TEST(SoftmaxF32, LogitsBeyondFloat32AreItsLargest) {
  constexpr float kMost = std::numeric_limits<float>::max();
  EXPECT_EQ(softmax_f32_logit(1e300), kMost);
  EXPECT_EQ(softmax_f32_logit(-1e300), -kMost);
  EXPECT_EQ(softmax_f32_logit(static_cast<double>(kMost)), kMost);
  EXPECT_EQ(softmax_f32_logit(1 + 0x1p-30), 1.0f);
}

/// Probability, squared error and log loss of rows of `classes` random logits within `bound`.
void expect_near(i64 classes, double spread, double bound) {
  std::mt19937_64 random(static_cast<u64>(classes));
  std::normal_distribution<double> normal(0, spread);
  for (int row = 0; row < 200; ++row) {
    std::vector<float> x(static_cast<std::size_t>(classes));
    for (float& one : x) one = static_cast<float>(normal(random));
    const float max = *std::max_element(x.begin(), x.end());
    const float label = x[random() % x.size()];
    SoftmaxF32Sums sums;
    long double sum = 0;
    long double squares = 0;
    for (const float one : x) {
      sums.add(softmax_f32_term(one, max));
      sum += exact_exp(one, max);
      squares += exact_exp(one, max) * exact_exp(one, max);
    }
    const long double p = exact_exp(label, max) / sum;
    const long double brier = squares / (sum * sum) - 2 * p + 1;
    EXPECT_NEAR(1 / sums.denominator(), static_cast<double>(1 / sum), bound);
    EXPECT_NEAR(
        std::ldexp(static_cast<double>(softmax_f32_brier(sums, softmax_f32_term(label, max))), -50),
        static_cast<double>(brier), 2 * bound);
    const RowSoftmax softmax{static_cast<double>(max), sums.denominator()};
    EXPECT_NEAR(log_softmax_loss(static_cast<double>(label), softmax),
                static_cast<double>(-std::log(p)), bound * (1 + max - label));
  }
}
TEST(SoftmaxF32, RowsAreNearTheRealSoftmax) {
  for (const i64 classes : {2, 10, 100, 1000}) {
    for (const double spread : {0.1, 3.0, 20.0}) expect_near(classes, spread, 1e-6);
  }
  expect_near(20'000, 3.0, 2e-6);
}

TEST(SoftmaxF32, OneClassIsCertain) {
  const float x = -3.5f;
  SoftmaxF32Sums sums;
  sums.add(softmax_f32_term(x, x));
  EXPECT_EQ(sums.denominator(), 1.0);
  EXPECT_EQ(softmax_f32_brier(sums, softmax_f32_term(x, x)), 0u);
  EXPECT_EQ(log_softmax_loss(-3.5, {-3.5, sums.denominator()}), 0.0);
}

// Two equal logits: 1/2 each, a squared error of 1/4 + 1/4, to the last bit.
TEST(SoftmaxF32, TwoEqualLogitsShare) {
  SoftmaxF32Sums sums;
  sums.add(softmax_f32_term(7.0f, 7.0f));
  sums.add(softmax_f32_term(7.0f, 7.0f));
  EXPECT_EQ(1 / sums.denominator(), 0.5);
  EXPECT_EQ(softmax_f32_brier(sums, softmax_f32_term(7.0f, 7.0f)), u64{1} << 49);
}

}  // namespace
}  // namespace cupel
