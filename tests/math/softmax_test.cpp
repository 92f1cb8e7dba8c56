// The oracle sums long double exponentials in 113-bit arithmetic, in row order.
#include "cupel/math/softmax.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace cupel {
namespace {

__extension__ typedef __float128 Quad;

constexpr double kLn2 = 0x1.62e42fefa39efp-1;

bool plus_zero(double x) { return bits_from_double(x) == 0; }

template <class Value>
RowSoftmax softmax_of(const std::vector<Value>& row) {
  return softmax_row(
      [&row](i64 j) { return static_cast<double>(row[static_cast<std::size_t>(j)]); },
      static_cast<i64>(row.size()));
}

template <class Value>
Quad denominator_of(const std::vector<Value>& row) {
  const long double max = *std::max_element(row.begin(), row.end());
  Quad sum = 0;
  for (const Value x : row) sum += std::exp(static_cast<long double>(x) - max);
  return sum;
}

double relative_error(double computed, Quad expected) {
  const Quad error = static_cast<Quad>(computed) - expected;
  return std::fabs(static_cast<double>(error / expected));
}

template <class Value>
std::vector<Value> normal_row(i64 k, double scale, u64 seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, scale);
  std::vector<Value> row(static_cast<std::size_t>(k));
  for (Value& x : row) x = static_cast<Value>(normal(random));
  return row;
}

// Rows of many shapes: short and long, flat and peaked, with one logit above a sea of tiny terms.
template <class Value>
std::vector<std::vector<Value>> rows() {
  std::vector<std::vector<Value>> out;
  u64 seed = 100;
  for (const i64 k : {1, 2, 3, 7, 8, 31, 32, 33, 100, 1'000, 4'099, 65'536}) {
    for (const double scale : {0.01, 1.0, 5.0, 30.0, 200.0}) {
      out.push_back(normal_row<Value>(k, scale, ++seed));
    }
    for (const double gap : {5.0, 11.3, 20.0, 36.1, 40.0, 45.0, 47.9}) {
      std::vector<Value> row(static_cast<std::size_t>(k), static_cast<Value>(3.0 - gap));
      row[row.size() / 2] = static_cast<Value>(3.0);
      out.push_back(row);
    }
  }
  return out;
}

TEST(UnitSum, AddsExactlyWhatItCanHold) {
  UnitSum sum;
  EXPECT_TRUE(plus_zero(sum.value()));
  for (int i = 0; i < 5; ++i) sum.add(1.0);
  EXPECT_EQ(sum.value(), 5.0);
  sum.add(0x1p-40);
  EXPECT_EQ(sum.value(), 5.0 + 0x1p-40);
  sum.add(0.0);
  EXPECT_EQ(sum.terms, 7);
  EXPECT_EQ(sum.value(), 5.0 + 0x1p-40);

  UnitSum small;
  for (int i = 0; i < 3; ++i) small.add(0x1p-68);
  EXPECT_EQ(small.value(), 0x3p-68);
  small.add(0x1p-69);  // half a unit: to even, down
  EXPECT_EQ(small.value(), 0x3p-68);
  small.add(0x3p-69);  // one and a half: to even, up
  EXPECT_EQ(small.value(), 0x5p-68);
  small.add(std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(small.value(), 0x5p-68);

  // 1/3 as a double is a multiple of 2^-54, three of which make 1 - 2^-54 exactly; it rounds to 1.
  UnitSum thirds;
  for (int i = 0; i < 3; ++i) thirds.add(1.0 / 3.0);
  EXPECT_EQ(thirds.value(), 1.0);
  thirds.add(0x1p-54);
  EXPECT_EQ(thirds.value(), 1.0);
}

TEST(UnitSum, HoldsTheMostTermsOfTheLargestSizes) {
  UnitSum ones;
  UnitSum largest_rest;
  UnitSum most_negative_rest;
  for (i64 i = 0; i < UnitSum::kMaxTerms; ++i) {
    ones.add(1.0);
    largest_rest.add(0x1p-29);
    most_negative_rest.add(0x3p-29);
  }
  EXPECT_EQ(ones.value(), 0x1p23);
  EXPECT_EQ(largest_rest.value(), 0x1p-6);
  EXPECT_EQ(most_negative_rest.value(), 0x3p-6);
}

TEST(UnitSum, IsWithinTheRoundingOfItsTerms) {
  std::mt19937_64 random(30);
  std::uniform_real_distribution<double> exponent(-75, 0);
  UnitSum sum;
  Quad exact = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const double term = std::exp2(exponent(random));
    sum.add(term);
    exact += term;
  }
  EXPECT_LT(relative_error(sum.value(), exact), 0x1p-52);
}

TEST(SoftmaxRow, HandComputedRows) {
  const std::vector<float> single = {-7.5f};
  const RowSoftmax one = softmax_of(single);
  EXPECT_EQ(one.max, -7.5);
  EXPECT_EQ(one.denominator, 1.0);
  EXPECT_EQ(softmax_p(-7.5, one), 1.0);
  EXPECT_TRUE(plus_zero(log_softmax_loss(-7.5, one)));

  const std::vector<double> flat(4, 123.25);
  const RowSoftmax four = softmax_of(flat);
  EXPECT_EQ(four.denominator, 4.0);
  EXPECT_EQ(softmax_p(123.25, four), 0.25);
  EXPECT_EQ(log_softmax_loss(123.25, four), 2 * kLn2);

  // 1 + 1/2 + 1/4 up to the rounding of the logits.
  const RowSoftmax halves = softmax_of(std::vector<double>{0.0, -kLn2, -2 * kLn2});
  EXPECT_EQ(halves.denominator, 1.75);
  EXPECT_EQ(softmax_p(-kLn2, halves), 2.0 / 7.0);
}

TEST(SoftmaxRow, ZerosAreOneValue) {
  const RowSoftmax minus = softmax_of(std::vector<double>{-0.0, -0.0});
  const RowSoftmax mixed = softmax_of(std::vector<double>{-0.0, 0.0});
  EXPECT_TRUE(plus_zero(minus.max));
  EXPECT_TRUE(plus_zero(mixed.max));
  EXPECT_EQ(minus.denominator, 2.0);
  const RowSoftmax alone = softmax_of(std::vector<double>{-0.0});
  EXPECT_TRUE(plus_zero(log_softmax_loss(-0.0, alone)));
}

TEST(SoftmaxRow, ExtremeLogits) {
  const double huge = std::numeric_limits<double>::max();
  const RowSoftmax far = softmax_of(std::vector<double>{huge, -huge, 0.0});
  EXPECT_EQ(far.max, huge);
  EXPECT_EQ(far.denominator, 1.0);
  EXPECT_EQ(softmax_p(huge, far), 1.0);
  EXPECT_TRUE(plus_zero(softmax_p(-huge, far)));
  EXPECT_EQ(log_softmax_loss(0.0, far), huge);
  // The probability is subnormal, then 0; the loss from logits does not notice.
  const RowSoftmax wide = softmax_of(std::vector<float>{0.0f, -744.0f, -800.0f});
  EXPECT_EQ(softmax_p(-744.0, wide), 0x1p-1073);
  EXPECT_TRUE(plus_zero(softmax_p(-800.0, wide)));
  EXPECT_EQ(log_softmax_loss(-800.0, wide), 800.0);
}

template <class Value>
void expect_small_errors() {
  for (const std::vector<Value>& row : rows<Value>()) {
    const RowSoftmax softmax = softmax_of(row);
    const Quad denominator = denominator_of(row);
    const double k = static_cast<double>(row.size());
    const double sum_error = relative_error(softmax.denominator, denominator);
    ASSERT_LT(sum_error, 3e-15 + k * 0x1p-69) << row.size();
    const std::size_t step = std::max<std::size_t>(1, row.size() / 500);
    for (std::size_t j = 0; j < row.size(); j += step) {
      const double x = static_cast<double>(row[j]);
      const long double z = static_cast<long double>(x) - softmax.max;
      const Quad p = std::exp(z) / denominator;
      const double computed = softmax_p(x, softmax);
      ASSERT_LE(computed, 1.0);
      if (z > -700) {
        ASSERT_LT(relative_error(computed, p), 1e-13) << x << ' ' << row.size();
      }
      const long double loss = std::log(static_cast<long double>(denominator)) - z;
      const double computed_loss = log_softmax_loss(x, softmax);
      ASSERT_GE(computed_loss, 0.0);
      ASSERT_FALSE(std::signbit(computed_loss));
      ASSERT_LT(static_cast<double>(std::fabs(loss - computed_loss)),
                4e-16 * (1 + computed_loss) + 3e-15 + k * 0x1p-69);
    }
  }
}

TEST(SoftmaxRow, ErrorIsWithinTheDocumentedBoundF32) { expect_small_errors<float>(); }
TEST(SoftmaxRow, ErrorIsWithinTheDocumentedBoundF64) { expect_small_errors<double>(); }

TEST(SoftmaxRow, ProbabilitiesSumToOne) {
  for (const std::vector<float>& row : rows<float>()) {
    const RowSoftmax softmax = softmax_of(row);
    Quad sum = 0;
    for (const float x : row) sum += softmax_p(x, softmax);
    ASSERT_LT(relative_error(static_cast<double>(sum), 1), 1e-13) << row.size();
  }
}

TEST(SoftmaxRow, OrderOfTheRowDoesNotMatter) {
  std::mt19937_64 random(31);
  for (std::vector<double> row : rows<double>()) {
    const RowSoftmax expected = softmax_of(row);
    for (int repeat = 0; repeat < 4; ++repeat) {
      if (repeat == 0) std::reverse(row.begin(), row.end());
      if (repeat == 1) std::sort(row.begin(), row.end());
      if (repeat >= 2) std::shuffle(row.begin(), row.end(), random);
      const RowSoftmax got = softmax_of(row);
      ASSERT_EQ(got.max, expected.max);
      ASSERT_EQ(got.denominator, expected.denominator) << row.size();
    }
  }
}

TEST(SoftmaxRow, LanesMergeToTheSameSum) {
  for (const std::vector<float>& row : rows<float>()) {
    const RowSoftmax expected = softmax_of(row);
    constexpr std::size_t kLanes = 7;
    UnitSum lanes[kLanes];
    for (std::size_t j = 0; j < row.size(); ++j) {
      lanes[j % kLanes].add(softmax_term(row[j], expected.max));
    }
    UnitSum all;
    for (std::size_t l = kLanes; l-- > 0;) all.merge(lanes[l]);
    ASSERT_EQ(all.value(), expected.denominator) << row.size();
  }
}

RowSoftmax row_baseline(const std::vector<float>& row) {
  return softmax_row_f32(row.data(), static_cast<i64>(row.size()));
}
RowSoftmax row_baseline(const std::vector<double>& row) {
  return softmax_row_f64(row.data(), static_cast<i64>(row.size()));
}

template <class Value>
void expect_equal_to_accessor(RowSoftmax (*contiguous)(const std::vector<Value>&)) {
  for (const std::vector<Value>& row : rows<Value>()) {
    const RowSoftmax expected = softmax_of(row);
    const RowSoftmax got = contiguous(row);
    ASSERT_EQ(bits_from_double(got.max), bits_from_double(expected.max));
    ASSERT_EQ(got.denominator, expected.denominator) << row.size();
  }
}

TEST(SoftmaxRow, ContiguousRowsGiveTheBitsOfTheAccessor) {
  expect_equal_to_accessor<float>(row_baseline);
  expect_equal_to_accessor<double>(row_baseline);
}

#if CUPEL_HAS_TARGETS
// By features, because not every compiler knows the level names here.
bool has_v3() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2");
}

bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512cd");
}

CUPEL_TARGET_V3 RowSoftmax row_v3(const std::vector<float>& row) {
  return softmax_row_f32(row.data(), static_cast<i64>(row.size()));
}
CUPEL_TARGET_V3 RowSoftmax row_v3(const std::vector<double>& row) {
  return softmax_row_f64(row.data(), static_cast<i64>(row.size()));
}
CUPEL_TARGET_V4 RowSoftmax row_v4(const std::vector<float>& row) {
  return softmax_row_f32(row.data(), static_cast<i64>(row.size()));
}

TEST(SoftmaxRow, SameBitsOnV3AndBaseline) {
  if (!has_v3()) GTEST_SKIP() << "needs x86-64-v3";
  expect_equal_to_accessor<float>(row_v3);
  expect_equal_to_accessor<double>(row_v3);
}

TEST(SoftmaxRow, SameBitsOnV4AndBaseline) {
  if (!has_v4()) GTEST_SKIP() << "needs x86-64-v4";
  expect_equal_to_accessor<float>(row_v4);
}
#endif

}  // namespace
}  // namespace cupel
