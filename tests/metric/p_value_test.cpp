// Sums of p-values against the criteria written out, and the level of a set at equality.
#include "cupel/metric/p_value.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "metric/exact.hpp"

namespace cupel {
namespace {

/// Sums as doubles, in units.
double number(const U256& sum) { return static_cast<double>(exact::integer(sum)); }

// Would catch a criterion that takes another label out, or a set that holds p = alpha.
TEST(PValueRow, IsTheCriteriaWrittenOut) {
  std::mt19937_64 random(21);
  for (int trial = 0; trial < 300; ++trial) {
    const std::size_t classes = 1 + random() % 6;
    const u128 level = random() % 20;
    PValueSums sums;
    double own = 0, all = 0, second = 0, but_largest = 0, largest_false = 0, all_false = 0;
    u64 labels = 0, multiple = 0, excess = 0, false_sets = 0, false_labels = 0, covered = 0;
    for (int row = 0; row < 5; ++row) {
      std::vector<u64> p(classes);
      for (u64& one : p) one = random() % 20;
      const std::size_t label = random() % classes;
      PValueRow one(level);
      for (std::size_t k = 0; k < classes; ++k) one.add(p[k], k == label);
      one.end(sums);

      std::vector<u64> falling(p);
      std::sort(falling.rbegin(), falling.rend());
      std::vector<u64> wrong;
      for (std::size_t k = 0; k < classes; ++k) {
        if (k != label) wrong.push_back(p[k]);
      }
      const auto sum = [](const std::vector<u64>& of) {
        return static_cast<double>(std::accumulate(of.begin(), of.end(), u64{0}));
      };
      const auto inside = [&](const std::vector<u64>& of) {
        return static_cast<u64>(
            std::count_if(of.begin(), of.end(), [&](u64 x) { return u128{x} > level; }));
      };
      own += static_cast<double>(p[label]);
      all += sum(p);
      second += classes > 1 ? static_cast<double>(falling[1]) : 0;
      but_largest += sum(p) - static_cast<double>(falling[0]);
      largest_false +=
          wrong.empty() ? 0 : static_cast<double>(*std::max_element(wrong.begin(), wrong.end()));
      all_false += sum(wrong);
      labels += inside(p);
      multiple += inside(p) > 1 ? 1 : 0;
      excess += std::max<u64>(1, inside(p)) - 1;
      false_sets += inside(wrong) > 0 ? 1 : 0;
      false_labels += inside(wrong);
      covered += u128{p[label]} > level ? 1 : 0;
    }
    EXPECT_EQ(sums.rows, 5u);
    EXPECT_EQ(number(sums.own), own);
    EXPECT_EQ(number(sums.all), all);
    EXPECT_EQ(number(sums.second), second);
    EXPECT_EQ(number(sums.but_largest), but_largest);
    EXPECT_EQ(number(sums.largest_false), largest_false);
    EXPECT_EQ(number(sums.all_false), all_false);
    EXPECT_EQ(sums.labels, labels);
    EXPECT_EQ(sums.multiple, multiple);
    EXPECT_EQ(sums.excess, excess);
    EXPECT_EQ(sums.false_sets, false_sets);
    EXPECT_EQ(sums.false_labels, false_labels);
    EXPECT_EQ(sums.covered, covered);
  }
}

TEST(PValueSums, Merge) {
  PValueSums all;
  PValueSums left;
  PValueSums right;
  for (u64 row = 0; row < 10; ++row) {
    PValueRow one(5);
    for (u64 k = 0; k < 3; ++k) one.add((u128{row * k + 1} << 100), k == row % 3);
    one.end(all);
    one.end(row < 4 ? left : right);
  }
  left.merge(right);
  EXPECT_EQ(left, all);
}

// p > alpha: 1 of 9 + 1 is not above a tenth, and is above the next smaller decimal.
TEST(PValueLevel, EqualityIsOutside) {
  EXPECT_TRUE(level_units({1, 10}, 9) == u128{1} << kUniformBits);
  EXPECT_TRUE(level_units({99, 1000}, 9) < u128{1} << kUniformBits);
  EXPECT_TRUE(level_units({999'999'999'999'999'999u, 1'000'000'000'000'000'000u}, u64{1} << 62) <
              (u128{1} << 62) << kUniformBits);
}

}  // namespace
}  // namespace cupel
