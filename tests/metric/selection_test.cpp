// Conformal p-values, Benjamini and Hochberg, and conformal selection: the examples of METRICS 4.1
// and 4.5, literal counts and sorts in rationals, and the promised error rate over many draws.
#include "cupel/metric/selection.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/multiprecision/cpp_int.hpp>
#include <cmath>
#include <random>

namespace cupel {
namespace {

using Rational = boost::multiprecision::cpp_rational;

std::vector<u64> random_keys(std::mt19937_64& random, std::size_t count, u64 below) {
  std::vector<u64> keys(count);
  for (u64& key : keys) key = random() % below;
  return keys;
}

std::vector<u64> sorted(std::vector<u64> keys) {
  std::sort(keys.begin(), keys.end());
  return keys;
}

// ---- p-values -----------------------------------------------------------------------------------

// METRICS 4.5: scores .10 .15 .20 .30 .35 .40 .55 .60 .90 and (#{s_i >= s} + 1) / (n + 1). Larger
// scores are worse there, so the order is turned round.
TEST(PValues, ExampleOfTheReference) {
  std::vector<u64> scores;
  for (const u64 hundredths : {10, 15, 20, 30, 35, 40, 55, 60, 90}) {
    scores.push_back(100 - hundredths);
  }
  const std::vector<u64> ascending = sorted(scores);
  const auto p = [&](u64 hundredths, TieRule ties, u64 uniform) {
    return p_value_of(p_value_units(place_among(ascending, 100 - hundredths), ties, uniform), 9);
  };
  EXPECT_EQ(p(5, TieRule::kCount, 1), 1.0);
  EXPECT_EQ(p(30, TieRule::kCount, 1), 0.7);
  EXPECT_EQ(p(60, TieRule::kCount, 1), 0.3);
  EXPECT_EQ(p(95, TieRule::kCount, 1), 0.1);
  EXPECT_EQ(p(30, TieRule::kStrict, 1), 0.6);
  EXPECT_EQ(p(30, TieRule::kRandom, kUniformOne / 2), 0.6);
  EXPECT_EQ(p(30, TieRule::kRandom, kUniformOne), 0.7);
}

// Would catch a smoothed p-value that is not the literal formula, or that leaves 128 bits.
TEST(PValues, SmoothedIsTheLiteralFormula) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    const u64 n = trial % 2 == 0 ? random() % 100 : random() >> 1;
    const u64 below = n == 0 ? 0 : random() % (n + 1);
    const u64 equal = n == below ? 0 : random() % (n - below + 1);
    const u64 uniform = random() % kUniformOne + 1;
    const Rational u(uniform, kUniformOne);
    const Rational expected = (Rational(below) + u * (Rational(equal) + 1)) / (Rational(n) + 1);
    const u128 units = p_value_units({below, equal}, TieRule::kRandom, uniform);
    const Rational got =
        Rational(boost::multiprecision::cpp_int(units), boost::multiprecision::cpp_int(n) + 1) /
        Rational(kUniformOne);
    EXPECT_EQ(got, expected);
  }
}

// A p-value's numbers and those that draw the calibration rows, and numbers for different purposes,
// have to be independent: those of one row must not lie on one side together.
TEST(PValues, UniformNumbersOfPurposesAreIndependent) {
  constexpr u64 kRows = 100'000;
  u64 least = kUniformOne;
  u64 greatest = 0;
  u64 both = 0;
  u64 drawn = 0;
  double sum = 0;
  for (u64 id = 0; id < kRows; ++id) {
    const u64 u = uniform_of(Draw::kPValue, 7, id);
    least = std::min(least, u);
    greatest = std::max(greatest, u);
    sum += static_cast<double>(u) / static_cast<double>(kUniformOne);
    const bool half = u > kUniformOne / 2;
    both += half && uniform_of(Draw::kPruning, 7, id) > kUniformOne / 2 ? 1 : 0;
    drawn += half && counter_random(7, id) >> 63 != 0 ? 1 : 0;
  }
  EXPECT_GE(least, 1u);
  EXPECT_LE(greatest, kUniformOne);
  // Five standard deviations: fewer than one seed in a million would fail.
  EXPECT_NEAR(sum / kRows, 0.5, 5 * std::sqrt(1.0 / 12 / kRows));
  const double sigma = std::sqrt(0.25 * 0.75 / kRows);
  EXPECT_NEAR(static_cast<double>(both) / kRows, 0.25, 5 * sigma);
  EXPECT_NEAR(static_cast<double>(drawn) / kRows, 0.25, 5 * sigma);
}

// ---- Benjamini and Hochberg ---------------------------------------------------------------------

// q k / m in doubles is below what it should be here: 3 * 0.1 / 3 is 0.10000000000000002 rounded
// one way and 0.1 * 3 / 10 another. p = k q / m exactly has to be rejected, for every k and m.
TEST(BenjaminiHochberg, EqualityCounts) {
  for (u64 m = 1; m <= 60; ++m) {
    // n + 1 = 10 m, so that q k / m with q = 1 / 10 is k / (n + 1).
    std::vector<u128> units;
    for (u64 k = 1; k <= m; ++k) units.push_back(u128{k} << kUniformBits);
    EXPECT_EQ(benjamini_hochberg(units, 10 * m - 1, {1, 10}, m), m);
    for (u128& unit : units) ++unit;
    EXPECT_EQ(benjamini_hochberg(units, 10 * m - 1, {1, 10}, m), 0u);
  }
}

TEST(BenjaminiHochberg, IsTheLargestRankThatPasses) {
  std::mt19937_64 random(2);
  for (int trial = 0; trial < 2000; ++trial) {
    const u64 m = 1 + random() % 12;
    const u64 n = random() % 30;
    const Fraction q{1 + random() % 9, 10};
    std::vector<u128> units;
    for (u64 j = 0; j < m; ++j) {
      units.push_back((u128{1 + random() % (n + 1)} << kUniformBits) - random() % 3 * 1000);
    }
    std::vector<Rational> p;
    for (const u128 unit : units) {
      p.emplace_back(boost::multiprecision::cpp_int(unit), boost::multiprecision::cpp_int(n + 1)
                                                               << kUniformBits);
    }
    std::sort(p.begin(), p.end());
    u64 expected = 0;
    for (u64 k = 1; k <= m; ++k) {
      if (p[k - 1] <= Rational(q.num * k, q.den * m)) expected = k;
    }
    EXPECT_EQ(benjamini_hochberg(units, n, q, m), expected);
  }
}

// The largest sizes and the finest level: no factor of the comparison may wrap.
TEST(BenjaminiHochberg, LargeNumbersAreExact) {
  constexpr u64 kMost = (u64{1} << 63) - 1;
  const Fraction fine{999'999'999'999'999'999u, 1'000'000'000'000'000'000u};
  const u128 one = (u128{kMost} + 1) << kUniformBits;  // p = 1
  EXPECT_FALSE(within_level(one, kMost, fine, kMost, kMost));
  EXPECT_TRUE(within_level(one, kMost, {1, 1}, kMost, kMost));
  EXPECT_FALSE(within_level(one + 1, kMost, {1, 1}, kMost, kMost));
  // p = q exactly, with n + 1 = 2^63 and q = 1 / 2.
  EXPECT_TRUE(within_level(one / 2, kMost, {1, 2}, kMost, kMost));
  EXPECT_FALSE(within_level(one / 2 + 1, kMost, {1, 2}, kMost, kMost));
}

// ---- selection ----------------------------------------------------------------------------------

// METRICS 4.5: calibration 1..19, test .5 1.5 9.5 17.5: p = .05 .1 .5 .9, and q = .2 selects two.
TEST(Selection, ExampleOfTheReference) {
  std::vector<u64> calibration;
  for (u64 v = 1; v <= 19; ++v) calibration.push_back(2 * v);
  const std::vector<u64> test{1, 3, 19, 35};
  for (const TieRule ties : {TieRule::kCount, TieRule::kStrict}) {
    const Selection selection = select_rows({19, calibration, test, {}}, ties, {2, 10});
    std::vector<double> p;
    for (const u128 unit : selection.units) p.push_back(p_value_of(unit, 19));
    EXPECT_EQ(p, (std::vector<double>{0.05, 0.1, 0.5, 0.9}));
    EXPECT_EQ(selection.selected, (std::vector<u8>{1, 1, 0, 0}));
    EXPECT_EQ(selection.count, 2u);
    EXPECT_EQ(p_value_of(selection.cutoff.value_or(0), 19), 0.1);
  }
}

TEST(Selection, NothingToSelectFromIsNothing) {
  const std::vector<u64> test{5, 6};
  const Selection none = select_rows({0, {}, test, {}}, TieRule::kCount, {9, 10});
  EXPECT_EQ(none.count, 0u);  // p = 1
  EXPECT_FALSE(none.cutoff.has_value());
  EXPECT_EQ(select_rows({3, {}, {}, {}}, TieRule::kCount, {1, 10}).count, 0u);
  // No calibration row below: p = 1 / (n + 1).
  EXPECT_EQ(select_rows({9, {}, test, {}}, TieRule::kCount, {1, 10}).count, 2u);
  EXPECT_EQ(select_rows({8, {}, test, {}}, TieRule::kCount, {1, 10}).count, 0u);
}

// Where all scores are one value nothing tells rows apart. Counting equal scores selects nothing;
// the strict count of the published code selects every row, null or not.
TEST(Selection, StrictCountsAreNotValidWithTies) {
  const std::vector<u64> calibration(99, 4);
  const std::vector<u64> test(50, 4);
  EXPECT_EQ(select_rows({99, calibration, test, {}}, TieRule::kCount, {1, 10}).count, 0u);
  EXPECT_EQ(select_rows({99, calibration, test, {}}, TieRule::kStrict, {1, 10}).count, 50u);
}

TEST(Selection, OrderOfRowsDoesNotMatter) {
  std::mt19937_64 random(3);
  auto calibration = sorted(random_keys(random, 60, 25));
  for (u64& key : calibration) key += 5;
  const auto test = random_keys(random, 40, 12);
  const auto uniforms = random_keys(random, 40, kUniformOne - 1);
  const std::vector<u64> up = [&] {
    std::vector<u64> plus(uniforms);
    for (u64& u : plus) ++u;
    return plus;
  }();
  const Selection straight = select_rows({80, calibration, test, up}, TieRule::kRandom, {3, 10});
  std::vector<u64> back(test.rbegin(), test.rend());
  std::vector<u64> uniforms_back(up.rbegin(), up.rend());
  Selection turned = select_rows({80, calibration, back, uniforms_back}, TieRule::kRandom, {3, 10});
  std::reverse(turned.units.begin(), turned.units.end());
  std::reverse(turned.selected.begin(), turned.selected.end());
  EXPECT_EQ(turned.units, straight.units);
  EXPECT_EQ(turned.selected, straight.selected);
  EXPECT_GT(straight.count, 0u);
  EXPECT_EQ(turned.cutoff, straight.cutoff);
}

/// The mean false discovery proportion of selections at q = 0.2 with the clipped score, over draws
/// of rows whose labels depend on their predictions, which are rounded to few values.
double simulated_fdr(TieRule ties, u64 values, int draws) {
  double sum = 0;
  for (int draw = 0; draw < draws; ++draw) {
    std::mt19937_64 random(1000 + static_cast<u64>(draw));
    const auto row = [&] {
      const u64 x = random() % values;
      const bool positive = random() % (2 * values) < x;
      return std::pair(values - x, positive);  // a smaller key for a larger prediction
    };
    std::vector<u64> null_keys;
    for (int i = 0; i < 100; ++i) {
      const auto [key, positive] = row();
      if (!positive) null_keys.push_back(key);
    }
    std::vector<u64> test;
    std::vector<u64> uniforms;
    std::vector<bool> is_null;
    for (u64 j = 0; j < 60; ++j) {
      const auto [key, positive] = row();
      test.push_back(key);
      is_null.push_back(!positive);
      uniforms.push_back(uniform_of(Draw::kPValue, static_cast<u64>(draw), j));
    }
    const auto calibration = sorted(null_keys);
    const Selection selection = select_rows({100, calibration, test, uniforms}, ties, {4, 10});
    u64 wrong = 0;
    for (std::size_t j = 0; j < test.size(); ++j) {
      wrong += selection.selected[j] != 0 && is_null[j] ? 1 : 0;
    }
    sum += static_cast<double>(wrong) / static_cast<double>(std::max<u64>(1, selection.count));
  }
  return sum / draws;
}

// E[FDP] <= q. The mean of 2,000 draws has a standard deviation of at most 0.5 / sqrt(2000) =
// 0.011, so that four of them, above the bound, are passed by chance less than once in 30,000
// seeds. The smoothed p-values select enough that the bound is not met by selecting nothing.
TEST(Selection, FalseDiscoveryRateIsKept) {
  constexpr int kDraws = 2000;
  const double slack = 4 * 0.5 / std::sqrt(kDraws);
  for (const u64 values : {u64{10}, u64{1'000'000}}) {
    const double counted = simulated_fdr(TieRule::kCount, values, kDraws);
    const double smoothed = simulated_fdr(TieRule::kRandom, values, kDraws);
    EXPECT_LE(counted, 0.4 + slack) << values;
    EXPECT_LE(smoothed, 0.4 + slack) << values;
    EXPECT_GE(smoothed, 0.1) << values;
  }
}

}  // namespace
}  // namespace cupel
