// What one row adds: integers against exact arithmetic on the bits of the doubles, losses against
// long double, borders by hand.
#include "cupel/math/row_terms.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace cupel {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// round-half-even(significand * 2^exponent) in integers.
u128 rounded(u128 significand, int exponent) {
  if (exponent >= 0) return significand << exponent;
  if (exponent < -126) return 0;
  const u128 unit = u128{1} << -exponent;
  const u128 whole = significand / unit;
  const u128 twice_rest = significand % unit * 2;
  if (twice_rest > unit || (twice_rest == unit && whole % 2 == 1)) return whole + 1;
  return whole;
}

/// x = significand * 2^exponent.
struct Parts {
  u64 significand;
  int exponent;
};
Parts parts_of(double x) {
  int exponent = 0;
  const double fraction = std::frexp(std::fabs(x), &exponent);
  return {static_cast<u64>(std::ldexp(fraction, 53)), exponent - 53};
}

u64 exact_square_term(double difference) {
  const Parts d = parts_of(difference);
  return static_cast<u64>(rounded(u128{d.significand} * d.significand, 2 * d.exponent + 50));
}

u128 exact_loss_term(double loss) {
  const Parts x = parts_of(loss);
  return rounded(x.significand, x.exponent + 44);
}

TEST(SquaredTerm, IsTheRoundedExactSquare) {
  EXPECT_EQ(squared_term(0.0), 0u);
  EXPECT_EQ(squared_term(1.0), u64{1} << 50);
  EXPECT_EQ(squared_term(-1.0), u64{1} << 50);
  EXPECT_EQ(squared_term(0.5), u64{1} << 48);
  EXPECT_EQ(squared_term(0x1p-25), 1u);
  EXPECT_EQ(squared_term(0x1p-26), 0u);
  EXPECT_EQ(squared_term(std::numeric_limits<double>::denorm_min()), 0u);
  std::mt19937_64 random(7);
  for (int i = 0; i < 200'000; ++i) {
    const double unit = std::ldexp(static_cast<double>(random() >> 11), -53);
    const double d = std::ldexp(i % 2 == 0 ? unit : -unit, -static_cast<int>(random() % 30));
    ASSERT_EQ(squared_term(d), exact_square_term(d)) << std::hexfloat << d;
  }
}

TEST(BrierTerm, TakesTheDifferenceFromTheLabel) {
  EXPECT_EQ(brier_term(0.25, false), u64{1} << 46);
  EXPECT_EQ(brier_term(0.25, true), u64{9} << 46);
  EXPECT_EQ(brier_term(0.0, true), u64{1} << 50);
  EXPECT_EQ(brier_term(1.0, true), 0u);
  EXPECT_EQ(brier_term(-0.0, false), 0u);
  const double third = 1.0 / 3.0;
  EXPECT_EQ(brier_term(third, true), exact_square_term(third - 1.0));
}

TEST(Probability, HasClosedBorders) {
  EXPECT_TRUE(is_probability(0.0));
  EXPECT_TRUE(is_probability(-0.0));
  EXPECT_TRUE(is_probability(1.0));
  EXPECT_TRUE(is_probability(1.0f));
  EXPECT_FALSE(is_probability(std::nextafter(1.0, 2.0)));
  EXPECT_FALSE(is_probability(-std::numeric_limits<float>::denorm_min()));
  EXPECT_FALSE(is_probability(-std::numeric_limits<double>::denorm_min()));
  EXPECT_EQ(label_probability(0.25, true), 0.25);
  EXPECT_EQ(label_probability(0.25, false), 0.75);
  EXPECT_EQ(label_probability(0x1p-60, false), 1.0);
}

TEST(Decision, IsStrict) {
  EXPECT_FALSE(decides_positive(0.5, 0.5));
  EXPECT_TRUE(decides_positive(std::nextafter(0.5, 1.0), 0.5));
  EXPECT_FALSE(decides_positive(-0.0, 0.0));
  EXPECT_FALSE(decides_positive(0.0, -0.0));
}

TEST(Clip, ReachesUpToEpsilon) {
  for (const double epsilon : {kEpsilonF16, kEpsilonBF16, kEpsilonF32, kEpsilonF64}) {
    EXPECT_FALSE(is_clipped(epsilon, epsilon));
    EXPECT_FALSE(is_clipped(1.0 - epsilon, epsilon));
    EXPECT_TRUE(is_clipped(std::nextafter(epsilon, 0.0), epsilon));
    EXPECT_TRUE(is_clipped(std::nextafter(1.0 - epsilon, 1.0), epsilon));
    EXPECT_TRUE(is_clipped(0.0, epsilon));
    EXPECT_TRUE(is_clipped(1.0, epsilon));
    EXPECT_EQ(log_loss_of_probability(0.0, epsilon), -log_det(epsilon));
    EXPECT_EQ(log_loss_of_probability(1.0, epsilon), -log_det(1.0 - epsilon));
    EXPECT_GT(log_loss_of_probability(1.0, epsilon), 0.0);
  }
}

TEST(Clip, UsesTheEpsilonsOfTheFormats) {
  EXPECT_EQ(kEpsilonF32, static_cast<double>(std::numeric_limits<float>::epsilon()));
  EXPECT_EQ(kEpsilonF64, std::numeric_limits<double>::epsilon());
}

TEST(LogLoss, OfAProbabilityIsTheLogarithm) {
  std::mt19937_64 random(11);
  for (int i = 0; i < 100'000; ++i) {
    const double p =
        std::ldexp(static_cast<double>(random() >> 11), -53 - static_cast<int>(random() % 40));
    const double clipped = std::clamp(p, kEpsilonF64, 1.0 - kEpsilonF64);
    const double loss = log_loss_of_probability(p, kEpsilonF64);
    ASSERT_EQ(loss, -log_det(clipped)) << std::hexfloat << p;
    const long double real = -std::log(static_cast<long double>(clipped));
    ASSERT_NEAR(loss, static_cast<double>(real), 3e-16 * static_cast<double>(real));
  }
}

TEST(LogLoss, OfALogitIsTheSoftplusOfItsNegative) {
  std::mt19937_64 random(13);
  for (int i = 0; i < 100'000; ++i) {
    const double x = (std::ldexp(static_cast<double>(random() >> 11), -53) - 0.5) * 100;
    const long double real = std::log1p(std::exp(-static_cast<long double>(x)));
    const double loss = log_loss_of_logit(x, true);
    ASSERT_NEAR(loss, static_cast<double>(real), 5e-16 * static_cast<double>(real)) << x;
    ASSERT_EQ(log_loss_of_logit(-x, false), loss);
    ASSERT_EQ(loss, log1p_exp_det(-x));
  }
  EXPECT_EQ(log_loss_of_logit(1000.0, false), 1000.0);
  EXPECT_EQ(log_loss_of_logit(1000.0, true), 0.0);
  EXPECT_EQ(log_loss_of_logit(-1e300, true), 1e300);
}

TEST(LossTerm, RoundsOnceWhenShort) {
  EXPECT_EQ(short_loss_term(0.0), 0u);
  EXPECT_EQ(short_loss_term(1.0), u64{1} << 44);
  EXPECT_EQ(short_loss_term(0x1p-45), 0u);  // one half, to even
  EXPECT_EQ(short_loss_term(0x3p-45), 2u);  // one and a half, to even
  EXPECT_EQ(short_loss_term(std::nextafter(0x1p-45, 1)), 1u);
  EXPECT_EQ(short_loss_term(std::nextafter(256.0, 0.0)), u64{1} << 52);
  std::mt19937_64 random(17);
  for (int i = 0; i < 200'000; ++i) {
    const double loss =
        std::ldexp(static_cast<double>(random() >> 11), -45 - static_cast<int>(random() % 60));
    ASSERT_TRUE(has_short_loss(loss));
    ASSERT_EQ(short_loss_term(loss), exact_loss_term(loss)) << std::hexfloat << loss;
  }
}

TEST(LossTerm, IsExactWhenLong) {
  EXPECT_FALSE(has_short_loss(256.0));
  EXPECT_TRUE(has_short_loss(std::nextafter(256.0, 0.0)));
  EXPECT_TRUE(long_loss_term(256.0) == u128{1} << 52);
  const double largest = std::nextafter(0x1p52, 0.0);
  EXPECT_FALSE(is_loss_overflow(largest));
  EXPECT_TRUE(long_loss_term(largest) == ((u128{1} << 53) - 1) << 43);
  EXPECT_TRUE(is_loss_overflow(0x1p52));
  EXPECT_TRUE(is_loss_overflow(kInfinity));
  std::mt19937_64 random(19);
  for (int i = 0; i < 100'000; ++i) {
    const double loss = std::ldexp(static_cast<double>(random() >> 11 | u64{1} << 52),
                                   -44 + static_cast<int>(random() % 44));
    ASSERT_FALSE(has_short_loss(loss) || is_loss_overflow(loss));
    ASSERT_TRUE(long_loss_term(loss) == exact_loss_term(loss)) << std::hexfloat << loss;
  }
}

TEST(LabelRank, IsThePositionInAStableSort) {
  std::mt19937_64 random(23);
  for (i64 k = 1; k <= 70; ++k) {
    std::vector<float> row(static_cast<std::size_t>(k));
    for (float& value : row) value = static_cast<float>(random() % 8) - 4.0f;
    row[0] = -0.0f;
    std::vector<i64> order(row.size());
    std::iota(order.begin(), order.end(), i64{0});
    std::stable_sort(order.begin(), order.end(), [&](i64 a, i64 b) {
      return row[static_cast<std::size_t>(a)] > row[static_cast<std::size_t>(b)];
    });
    for (i64 place = 0; place < k; ++place) {
      const i64 label = order[static_cast<std::size_t>(place)];
      ASSERT_EQ(label_rank([&](i64 j) { return row[static_cast<std::size_t>(j)]; }, k, label),
                place);
    }
  }
}

TEST(SoftmaxP, ScaledStaysWithinOneUnitOfTheQuotient) {
  std::mt19937_64 random(29);
  for (int i = 0; i < 2'000; ++i) {
    double row[17];
    for (double& x : row) x = std::ldexp(static_cast<double>(random() >> 11), -53) * 30 - 15;
    const RowSoftmax softmax = softmax_row_f64(row, 17);
    const double scale = softmax_scale(softmax);
    for (const double x : row) {
      const double p = scaled_softmax_p(softmax_term(x, softmax.max), scale);
      const double quotient = softmax_p(x, softmax);
      ASSERT_TRUE(is_probability(p));
      ASSERT_LE(std::fabs(p - quotient), std::ldexp(quotient, -52));
    }
  }
}

}  // namespace
}  // namespace cupel
