// Keys of residuals order as the residuals do; ends of intervals; what is empty and what is
// endless.
#include "cupel/math/interval.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cupel {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargest = std::numeric_limits<double>::max();
constexpr double kSmallest = std::numeric_limits<double>::denorm_min();

TEST(ResidualKey, OrdersLikeTheNumbersAndTurnsBack) {
  const double ascending[] = {-kInfinity, -kLargest, -1.5, -1.0,     -kSmallest, 0.0,
                              kSmallest,  1.0,       1.5,  kLargest, kInfinity};
  for (std::size_t i = 0; i < std::size(ascending); ++i) {
    EXPECT_EQ(residual_of_key(residual_key(ascending[i])), ascending[i]);
    EXPECT_LT(residual_key(ascending[i]), kEveryScore);
    if (i != 0) {
      EXPECT_LT(residual_key(ascending[i - 1]), residual_key(ascending[i]));
    }
  }
  EXPECT_EQ(residual_key(-0.0), residual_key(0.0));
  EXPECT_EQ(residual_of_key(kEveryScore), kInfinity);
  EXPECT_EQ(IntervalKeys{}.side[0], residual_key(0.0)) << "the threshold of kGiven";
}

i64 key_of(IntervalRule rule, const IntervalColumns& row, double y) {
  return interval_keys(rule, row, y).side[0];
}

TEST(IntervalKeys, AreThoseOfTheDefinitions) {
  const IntervalColumns row{2.0, 4.0, 1.0, 3.0};
  EXPECT_EQ(key_of(IntervalRule::kAbsolute, row, 0.5), residual_key(1.5));
  EXPECT_EQ(key_of(IntervalRule::kAbsolute, row, 2.0), residual_key(0.0));
  EXPECT_EQ(key_of(IntervalRule::kNormalized, row, 4.0), residual_key(0.5));
  // METRICS 4.9: E = -.5, .4, .2.
  EXPECT_EQ(key_of(IntervalRule::kCqr, {0, 1, 1, 2}, 1.5), residual_key(-0.5));
  EXPECT_EQ(key_of(IntervalRule::kCqr, {0, 1, 2, 3}, 3.4), residual_key(3.4 - 3));
  EXPECT_EQ(key_of(IntervalRule::kCqr, {0, 1, 0, 1}, -0.2), residual_key(0.2));
  const IntervalKeys sides = interval_keys(IntervalRule::kCqrAsymmetric, row, 3.5);
  EXPECT_EQ(sides.side[0], residual_key(-2.5));
  EXPECT_EQ(sides.side[1], residual_key(0.5));
}

// Infinite residuals are scores like others: below the threshold of too few rows.
TEST(IntervalKeys, OverflowIsAScore) {
  const IntervalColumns row{-kLargest, 0.5, -kLargest, -kLargest};
  const i64 key = key_of(IntervalRule::kAbsolute, row, kLargest);
  EXPECT_EQ(key, residual_key(kInfinity));
  EXPECT_EQ(key_of(IntervalRule::kNormalized, row, kLargest), residual_key(kInfinity));
  EXPECT_EQ(key_of(IntervalRule::kCqr, row, kLargest), residual_key(kInfinity));
  EXPECT_TRUE(covers(IntervalRule::kAbsolute, {{key, 0}}, {{kEveryScore, 0}}));
  EXPECT_FALSE(covers(IntervalRule::kAbsolute, {{key, 0}}, {{residual_key(kLargest), 0}}));
}

TEST(Covers, AsksBothSidesOfTwo) {
  const IntervalKeys thresholds{{residual_key(1.0), residual_key(2.0)}};
  const auto covered = [&](double below, double above) {
    return covers(IntervalRule::kCqrAsymmetric, {{residual_key(below), residual_key(above)}},
                  thresholds);
  };
  EXPECT_TRUE(covered(1.0, 2.0));
  EXPECT_FALSE(covered(std::nextafter(1.0, 2.0), 0.0));
  EXPECT_FALSE(covered(0.0, std::nextafter(2.0, 3.0)));
}

TEST(IntervalOf, EndsAndWidths) {
  const IntervalColumns row{2.0, 4.0, 1.0, 3.0};
  const auto interval = [&](IntervalRule rule, double qhat, double upper = 0) {
    return interval_of(rule, row, {{residual_key(qhat), residual_key(upper)}});
  };
  EXPECT_EQ(interval(IntervalRule::kAbsolute, 0.5).lower, 1.5);
  EXPECT_EQ(interval(IntervalRule::kAbsolute, 0.5).upper, 2.5);
  EXPECT_EQ(interval(IntervalRule::kNormalized, 0.5).width(), 4.0);
  EXPECT_EQ(interval(IntervalRule::kCqr, -0.75).width(), 0.5);
  EXPECT_EQ(interval(IntervalRule::kCqrAsymmetric, 1.0, -0.5).lower, 0.0);
  EXPECT_EQ(interval(IntervalRule::kCqrAsymmetric, 1.0, -0.5).upper, 2.5);
  EXPECT_EQ(interval_of(IntervalRule::kGiven, row, {}).width(), 2.0);
  // One value is an interval, crossed ends are none.
  EXPECT_FALSE(interval(IntervalRule::kCqr, -1.0).empty());
  EXPECT_TRUE(interval(IntervalRule::kCqr, -1.25).empty());
  EXPECT_EQ(interval(IntervalRule::kCqr, -1.25).width(), 0.0);
  EXPECT_EQ(interval_of(IntervalRule::kNormalized, row, {{kEveryScore, 0}}).width(), kInfinity);
  EXPECT_TRUE((Interval{kInfinity, kInfinity}).empty());
  EXPECT_EQ((Interval{kInfinity, kInfinity}).width(), 0.0);
}

}  // namespace
}  // namespace cupel
