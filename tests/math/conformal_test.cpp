// Conformal scores of rows against the numbers of METRICS' example K, and the sizes of sets against
// a count of the labels whose score is at most the threshold.
#include "cupel/math/conformal.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace cupel {
namespace {

std::vector<i64> masses_of(const std::vector<double>& row) {
  std::vector<i64> masses;
  for (const double p : row) masses.push_back(conformal_mass(p));
  return masses;
}

std::vector<i64> scores_of(const ConformalRule& rule, const std::vector<i64>& masses) {
  const auto row = [&](i64 j) { return masses[static_cast<std::size_t>(j)]; };
  const i64 k = static_cast<i64>(masses.size());
  std::vector<i64> scores;
  for (i64 label = 0; label < k; ++label) {
    scores.push_back(conformal_score(rule, label_place(row, k, label), row_largest(row, k)));
  }
  return scores;
}

// Not randomised: u = 0 of aps, raps and margin in example K. Rows 2 and 3 have equal
// probabilities, the lower class first.
TEST(ConformalScore, ExampleK) {
  const std::vector<std::vector<double>> rows{
      {.5, .3, .15, .05}, {.1, .6, .2, .1}, {.25, .25, .4, .1}};
  constexpr i64 kTenth = 28147497671066;  // round(2^48 / 10)
  const struct {
    ConformalRule rule;
    std::vector<std::vector<double>> expected;
  } cases[]{
      {{ConformalScore::kLac}, {{.5, .7, .85, .95}, {.9, .4, .8, .9}, {.75, .75, .6, .9}}},
      {{ConformalScore::kAps}, {{.5, .8, .95, 1}, {.9, .6, .8, 1}, {.65, .9, .4, 1}}},
      {{ConformalScore::kRaps, kTenth, 1},
       {{.5, .9, 1.15, 1.3}, {1.1, .6, .9, 1.3}, {.75, 1.1, .4, 1.3}}},
      {{ConformalScore::kSaps, 2 * kTenth}, {{.5, .7, .9, 1.1}, {1, .6, .8, 1.2}, {.6, .8, .4, 1}}},
      {{ConformalScore::kMargin}, {{-.2, .2, .35, .45}, {.5, -.4, .4, .5}, {.15, .15, -.15, .3}}},
  };
  for (const auto& [rule, expected] : cases) {
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const auto scores = scores_of(rule, masses_of(rows[r]));
      for (std::size_t label = 0; label < scores.size(); ++label) {
        EXPECT_NEAR(static_cast<double>(scores[label]) * 0x1p-48, expected[r][label], 0x1p-46)
            << static_cast<int>(rule.score) << " row " << r << " label " << label;
      }
    }
  }
  EXPECT_EQ(scores_of({ConformalScore::kTopK}, masses_of(rows[2])),
            (std::vector<i64>{2 * kRankOne, 3 * kRankOne, kRankOne, 4 * kRankOne}));
}

// u = .4 of example K; saps counts from the low end, aps from the high end.
TEST(ConformalScore, ExampleKDrawn) {
  const std::vector<std::vector<double>> rows{
      {.5, .3, .15, .05}, {.1, .6, .2, .1}, {.25, .25, .4, .1}};
  const auto u = static_cast<u64>(.4 * 0x1p48);
  const struct {
    ConformalRule rule;
    std::vector<std::vector<double>> expected;
  } cases[]{
      {{ConformalScore::kAps, 0, 0, ConformalTies::kIndex, ConformalDraw::kRow},
       {{.3, .68, .89, .98}, {.86, .36, .72, .96}, {.55, .8, .24, .96}}},
      {{ConformalScore::kSaps, 56294995342131, 0, ConformalTies::kIndex, ConformalDraw::kRow},
       {{.2, .58, .78, .98}, {.88, .24, .68, 1.08}, {.48, .68, .16, .88}}},
      {{ConformalScore::kTopK, 0, 0, ConformalTies::kIndex, ConformalDraw::kRow},
       {{.6, 1.6, 2.6, 3.6}, {2.6, .6, 1.6, 3.6}, {1.6, 2.6, .6, 3.6}}},
  };
  for (const auto& [rule, expected] : cases) {
    const double unit = rule.score == ConformalScore::kTopK ? 0x1p-32 : 0x1p-48;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const std::vector<i64> masses = masses_of(rows[r]);
      const auto row = [&](i64 j) { return masses[static_cast<std::size_t>(j)]; };
      for (i64 label = 0; label < 4; ++label) {
        const ScoreRange range = score_range(rule, label_place(row, 4, label), row_largest(row, 4));
        EXPECT_NEAR(static_cast<double>(drawn_score(rule, range, u)) * unit,
                    expected[r][static_cast<std::size_t>(label)], 4 * unit)
            << static_cast<int>(rule.score) << " row " << r << " label " << label;
      }
    }
  }
}

// Would catch a size that disagrees with the scores at a threshold: on one, beside one, at ties.
TEST(ConformalScore, SizesCountTheLabelsUpToTheThreshold) {
  std::mt19937_64 random(11);
  for (const i64 k : {1, 2, 3, 7, 40}) {
    for (int round = 0; round < 60; ++round) {
      std::vector<i64> masses;
      for (i64 j = 0; j < k; ++j) {
        masses.push_back(static_cast<i64>(random() % 5) * (kConformalOne / (4 * k)));
      }
      const auto row = [&](i64 j) { return masses[static_cast<std::size_t>(j)]; };
      const RowLargest largest = row_largest(row, k);
      for (const ConformalRule rule :
           {ConformalRule{ConformalScore::kLac}, ConformalRule{ConformalScore::kSaps, 0},
            ConformalRule{ConformalScore::kSaps, 77}, ConformalRule{ConformalScore::kTopK},
            ConformalRule{ConformalScore::kMargin}}) {
        const auto scores = scores_of(rule, masses);
        std::vector<i64> thresholds{kEveryLabel, -kConformalOne * 2, 0};
        for (const i64 score : scores) {
          thresholds.insert(thresholds.end(), {score - 1, score, score + 1});
        }
        for (const i64 threshold : thresholds) {
          i64 counted = 0;
          for (const i64 score : scores) counted += score <= threshold ? 1 : 0;
          EXPECT_EQ(set_size_unordered(rule, threshold, row, k, largest), counted)
              << static_cast<int>(rule.score) << " at " << threshold << " of " << k;
        }
      }
    }
  }
}

}  // namespace
}  // namespace cupel
