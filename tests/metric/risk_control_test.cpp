// Conformal risk control: the example of METRICS 4.6, the rule at equality, and bounds against
// their formulas.
#include "cupel/metric/risk_control.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace cupel {
namespace {

RiskSums sums_of(const std::vector<std::vector<double>>& rows) {
  RiskSums sums(rows.empty() ? 0 : rows.front().size());
  for (const auto& row : rows) {
    ++sums.rows;
    for (std::size_t l = 0; l < row.size(); ++l) sums.add(l, row[l]);
  }
  return sums;
}

const std::vector<std::vector<double>> kExample{
    {1, .6, .4, .2, 0}, {.8, .5, .1, .1, 0}, {1, 1, .5, .2, .2}, {.6, .2, .2, 0, 0}};

// R+ = .88 .66 .44 .30 .24; alpha = .3 is reached with equality, which sums of doubles miss: .2 +
// .1
// + .2 is above .5 as exact doubles.
TEST(RiskControl, ExampleOfTheReference) {
  const RiskSums sums = sums_of(kExample);
  const double expected[]{.88, .66, .44, .30, .24};
  for (std::size_t l = 0; l < 5; ++l) EXPECT_EQ(risk_bound(sums, l, {}), expected[l]) << l;
  const auto first = [&](Fraction alpha) {
    return first_controlled(sums, {RiskBound::kCrc, alpha, {1, 1}, {}});
  };
  EXPECT_EQ(first({3, 10}), 3u);
  EXPECT_EQ(first({299'999'999'999, 1'000'000'000'000}), 4u);
  EXPECT_EQ(first({88, 100}), 0u);
  EXPECT_EQ(first({24, 100}), 4u);
  EXPECT_EQ(first({239, 1000}), std::nullopt);
  EXPECT_EQ(mean_risk(sums, 1), 0.575);
}

// n losses of 0 with B / (n + 1) above alpha are too few rows.
TEST(RiskControl, TheBoundOfTheLossCounts) {
  const RiskSums sums = sums_of(std::vector<std::vector<double>>(9, {0.0}));
  EXPECT_EQ(first_controlled(sums, {RiskBound::kCrc, {1, 10}, {1, 1}, {}}), 0u);
  EXPECT_EQ(first_controlled(sums, {RiskBound::kCrc, {1, 10}, {1'000'001, 1'000'000}, {}}),
            std::nullopt);
  EXPECT_EQ(first_controlled(RiskSums(3), {RiskBound::kCrc, {9, 10}, {1, 2}, {}}), std::nullopt);
}

// Decimals of twelve digits are exact, the largest loss fits, and the order keeps.
TEST(RiskControl, UnitsOfLosses) {
  EXPECT_EQ(loss_units(0.2), 200'000'000'000);
  EXPECT_EQ(loss_units(0.123456789012), 123'456'789'012);
  EXPECT_EQ(loss_units(3999.999999999999), 3'999'999'999'999'999);
  EXPECT_EQ(loss_units(kMostLoss), 1'000'000'000'000'000'000);
  EXPECT_EQ(loss_units(0), 0);
  EXPECT_EQ(loss_units(4.9e-13), 0);
  EXPECT_EQ(loss_units(5.1e-13), 1);
  std::mt19937_64 random(1);
  double before = 0;
  for (int i = 0; i < 100'000; ++i) {
    const double next = before + std::ldexp(static_cast<double>(random() % 1000), -43);
    EXPECT_LE(loss_units(before), loss_units(next));
    before = next;
  }
}

// Sums of parts are the sums of all rows, also where squares are beyond 128 bits together.
TEST(RiskControl, SumsMerge) {
  std::mt19937_64 random(2);
  RiskSums all(3);
  RiskSums merged;
  RiskSums part(3);
  for (int i = 0; i < 1000; ++i) {
    ++all.rows;
    ++part.rows;
    for (std::size_t l = 0; l < 3; ++l) {
      const double loss = static_cast<double>(random() % 1'000'001);
      all.add(l, loss);
      part.add(l, loss);
    }
    if (i % 7 == 0) {
      merged.merge(part);
      part = RiskSums(3);
    }
  }
  merged.merge(part);
  EXPECT_EQ(merged, all);
  EXPECT_NE(all.squares[0].limb[2], 0u);
}

TEST(RiskControl, BoundsWithHighProbability) {
  const RiskSums sums = sums_of(kExample);
  const RiskRule hoeffding{RiskBound::kHoeffding, {9, 10}, {1, 1}, {5, 100}};
  const RiskRule bernstein{RiskBound::kBernstein, {9, 10}, {1, 1}, {5, 100}};
  // Losses at the third threshold: .4 .1 .5 .2, mean .3, sample variance .1 / 3.
  EXPECT_NEAR(*risk_bound(sums, 2, hoeffding), .3 + std::sqrt(std::log(20.0) / 8), 1e-15);
  EXPECT_NEAR(*risk_bound(sums, 2, bernstein),
              .3 + std::sqrt(2 * (.1 / 3) * std::log(40.0) / 4) + 7 * std::log(40.0) / 9, 1e-14);
  EXPECT_EQ(first_controlled(sums, hoeffding), 3u);
  EXPECT_EQ(first_controlled(sums, bernstein), std::nullopt);
  EXPECT_EQ(risk_bound(RiskSums(1), 0, hoeffding), std::nullopt);
  EXPECT_EQ(risk_bound(sums_of({{.5}}), 0, bernstein), std::nullopt);
}

// E[loss of the next row at lambda-hat] <= alpha. Rows miss below a threshold of their own, uniform
// over 1000; the exact risk of lambda is 1 - lambda / 1000. 4,000 draws of a mean with standard
// deviation below 0.09 are within 4 * 0.09 / sqrt(4000) of it but once in 30,000 seeds.
TEST(RiskControl, RiskIsKept) {
  constexpr int kDraws = 4000;
  double sum = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    std::mt19937_64 random(static_cast<u64>(draw));
    RiskSums sums(1001);
    for (int i = 0; i < 19; ++i) {
      ++sums.rows;
      const u64 own = 1 + random() % 1000;
      for (u64 l = 0; l < own; ++l) sums.add(l, 1.0);
    }
    const auto lambda = first_controlled(sums, {RiskBound::kCrc, {2, 10}, {1, 1}, {}});
    sum += 1 - static_cast<double>(lambda.value_or(1000)) / 1000;
  }
  const double slack = 4 * 0.09 / std::sqrt(kDraws);
  EXPECT_LE(sum / kDraws, 0.2 + slack);
  EXPECT_GE(sum / kDraws, 0.1);
}

}  // namespace
}  // namespace cupel
