// Long accumulators: the value is exact, its digits are unique, and neither order nor division
// shows.
#include "cupel/math/exact_sum.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace cupel {
namespace {

constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kSmallest = std::numeric_limits<double>::denorm_min();

template <class Sum>
bool same_digits(Sum a, Sum b) {
  a.settle();
  b.settle();
  return std::equal(std::begin(a.digits), std::end(a.digits), std::begin(b.digits));
}

ExactSum sum_of(const std::vector<double>& values) {
  ExactSum sum;
  for (const double value : values) add_exactly(sum, value);
  return sum;
}

// Would catch a lost carry, a wrong digit, a sign that is not kept.
TEST(ExactSum, CancelsExactly) {
  EXPECT_TRUE(same_digits(sum_of({kLargest, 1.0, -kLargest}), sum_of({1.0})));
  EXPECT_TRUE(same_digits(sum_of({kSmallest, -1e300, 1e300, -kSmallest}), ExactSum{}));
  EXPECT_TRUE(same_digits(sum_of({0x1p53, 1.0, 1.0}), sum_of({0x1p53 + 2})));
  EXPECT_TRUE(same_digits(sum_of({-0.0, 0.0}), ExactSum{}));
  EXPECT_TRUE(same_digits(sum_of({-1.0, -2.0}), sum_of({-3.0})));
  EXPECT_FALSE(same_digits(sum_of({1.0}), sum_of({-1.0})));
  EXPECT_FALSE(same_digits(sum_of({kSmallest}), ExactSum{}));
  // 0.1 + 0.2 is not 0.3: the sum is of the doubles, not of what was written.
  EXPECT_FALSE(same_digits(sum_of({0.1, 0.2}), sum_of({0.3})));
}

TEST(ExactSum, ALongSumOfLargestDoublesFits) {
  ExactSum sum = sum_of({kLargest});
  for (int doubled = 0; doubled < 61; ++doubled) sum.merge(sum);
  ExactSum less;
  less.merge(sum);
  for (i64& digit : less.digits) digit = -digit;
  sum.merge(less);
  EXPECT_TRUE(same_digits(sum, ExactSum{}));
}

// Multiples of 2^-20 below 2^20: their sums fit 128-bit integers, whose arithmetic is not the
// accumulator's.
TEST(ExactSum, EqualsIntegerArithmeticInAnyOrder) {
  std::mt19937_64 random(20'261'125);
  std::vector<double> values;
  i128 total = 0;
  u128 squares = 0;
  for (int i = 0; i < 5000; ++i) {
    const i64 units = static_cast<i64>(random() >> 24) - (i64{1} << 39);
    values.push_back(std::ldexp(static_cast<double>(units), -20));
    total += units;
    squares += static_cast<u128>(static_cast<i128>(units) * units);
  }
  const ExactSum sum = sum_of(values);
  ExactSum expected;
  const u128 magnitude = static_cast<u128>(total < 0 ? -total : total);
  expected.add(static_cast<u64>(magnitude), 1074 - 20, total < 0);
  expected.add(static_cast<u64>(magnitude >> 64), 1074 - 20 + 64, total < 0);
  EXPECT_TRUE(same_digits(sum, expected));

  std::shuffle(values.begin(), values.end(), random);
  EXPECT_TRUE(same_digits(sum_of(values), expected));
  ExactSum merged;
  for (std::size_t part = 0; part < 7; ++part) {
    ExactSum own;
    for (std::size_t i = part; i < values.size(); i += 7) add_exactly(own, values[i]);
    merged.merge(own);
  }
  EXPECT_TRUE(same_digits(merged, expected));

  ExactSquareSum of_squares;
  for (const double value : values) add_square(of_squares, value);
  ExactSquareSum wanted;
  wanted.add(static_cast<u64>(squares), 2148 - 40, false);
  wanted.add(static_cast<u64>(squares >> 64), 2148 - 40 + 64, false);
  EXPECT_TRUE(same_digits(of_squares, wanted));
}

TEST(ExactSum, SquaresOfTheLargestAndTheSmallest) {
  ExactSquareSum sum;
  add_square(sum, -kLargest);
  add_square(sum, kSmallest);
  // (2^53 - 1)^2 * 2^1942 and 2^-2148.
  ExactSquareSum expected;
  const u128 square = static_cast<u128>((u64{1} << 53) - 1) * ((u64{1} << 53) - 1);
  expected.add(static_cast<u64>(square), 2148 + 1942, false);
  expected.add(static_cast<u64>(square >> 64), 2148 + 1942 + 64, false);
  expected.add(1, 0, false);
  EXPECT_TRUE(same_digits(sum, expected));
}

TEST(ExactSum, DifferencesAreNotRounded) {
  ExactSum sum;
  add_difference(sum, 0x1p53, -1.0);
  EXPECT_TRUE(same_digits(sum, sum_of({0x1p53, 1.0})));
  add_difference(sum, -kLargest, kLargest);
  EXPECT_TRUE(same_digits(sum, sum_of({0x1p53, 1.0, -kLargest, -kLargest})));
}

}  // namespace
}  // namespace cupel
