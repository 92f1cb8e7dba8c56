// Fits on the distinct scores of a table, against scipy 1.15 and scikit-learn 1.9.1 on the same
// rows, and how they end where there is no optimum.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cupel/math/elementary.hpp"
#include "metric/binary_fits.hpp"
#include "metric/temperature_search.hpp"

namespace cupel {
namespace {

struct Row {
  double score;
  int label;
  double weight;
};
const std::vector<Row> kRows{{-3.5, 0, 1}, {-2, 0, 2},    {-2, 1, .5},   {-1.25, 0, 1}, {-.5, 0, 3},
                             {0, 1, 1},    {.25, 0, 1},   {.75, 1, .25}, {1.5, 1, 1},   {1.5, 0, 1},
                             {2, 1, 2},    {2.75, 1, .5}, {4, 1, 1}};

/// Equal scores may be repeated where there are no weights.
RankTable table_of(std::vector<Row> rows, bool weighted) {
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.score < b.score; });
  KeyRuns<u64> runs;
  Buffer<u64> pos;
  Buffer<u64> neg;
  u64 positives = 0;
  for (const Row& row : rows) {
    const u64 key = key_of_f64(bits_from_double(row.score));
    positives += row.label == 1 ? 1 : 0;
    if (!weighted) {
      (row.label == 1 ? pos : neg).push_back(key);
    } else if (row.weight > 0) {
      KeyRun<u64>& run = row.label == 1 ? runs.pos : runs.neg;
      run.keys.push_back(key);
      run.weights.push_back(static_cast<u128>(row.weight * 4) << 62);
    }
  }
  if (!weighted) runs = {canonical_run(std::move(pos)), canonical_run(std::move(neg))};
  return RankTable(ScoreKind::kF64, weighted, runs, positives, rows.size() - positives);
}

TEST(Temperature, IsThatOfNewtonsMethodInNumpy) {
  EXPECT_NEAR(1 / fit_temperature(table_of(kRows, false)).factor, 1.4150257682560248, 1e-12);
  EXPECT_NEAR(1 / fit_temperature(table_of(kRows, true)).factor, 0.9638996355605083, 1e-12);
}

TEST(Temperature, SaysWhereItRunsTo) {
  const auto status = [](const std::vector<Row>& rows) {
    return fit_temperature(table_of(rows, false)).status;
  };
  EXPECT_EQ(status({{3, 1, 1}, {-2, 0, 1}}), FitStatus::kTowardsZero);
  EXPECT_EQ(status({{3, 0, 1}, {-2, 1, 1}}), FitStatus::kTowardsInfinity);
  // The slope is nothing at T = 1, because the loss is: not the same as logits that say nothing.
  EXPECT_EQ(status({{60, 1, 1}, {-70, 0, 1}}), FitStatus::kTowardsZero);
  EXPECT_EQ(status({{1e9, 1, 1}, {-1e9, 0, 1}}), FitStatus::kTowardsZero);
  EXPECT_EQ(status({{0, 1, 1}, {0, 0, 1}}), FitStatus::kFlat);
  EXPECT_EQ(status({{1e300, 0, 1}, {-1, 0, 1}}), FitStatus::kOverflow);
  EXPECT_EQ(status({{std::numeric_limits<double>::max(), 1, 1}, {-3, 0, 1}, {2, 0, 1}}),
            FitStatus::kConverged);
  // One class alone has an optimum where its scores have both signs.
  EXPECT_EQ(status({{3, 1, 1}, {-1, 1, 1}, {2, 1, 1}}), FitStatus::kConverged);
}

// Bounds are part of the answer: T = 0.0501 is found, T = 0.0499 is not. With q of the rows right,
// all at margin m, the optimum is T = m / ln(q / (1 - q)).
TEST(Temperature, FindsOptimaUpToItsBounds) {
  const auto fit = [](double t) {
    const double m = t * std::log(3.0);
    return fit_temperature(table_of({{m, 1, 1}, {m, 1, 1}, {m, 1, 1}, {m, 0, 1}}, false));
  };
  for (const double t : {0.0501, 0.06, 0.5, 1.0, 7.0, 19.0, 19.99}) {
    const TemperatureFit found = fit(t);
    EXPECT_EQ(found.status, FitStatus::kConverged) << t;
    EXPECT_NEAR(1 / found.factor, t, 1e-9 * t);
    EXPECT_LT(found.steps, 40);
  }
  EXPECT_EQ(fit(0.0499).status, FitStatus::kTowardsZero);
  EXPECT_EQ(fit(20.01).status, FitStatus::kTowardsInfinity);
}

TEST(Platt, IsLogisticRegressionWithoutPenalty) {
  const PlattFit plain = fit_platt(table_of(kRows, false), true, false);
  EXPECT_NEAR(plain.slope, 0.7054949745731902, 1e-12);
  EXPECT_NEAR(plain.intercept, 0.019467115719972658, 1e-12);
  const PlattFit weighted = fit_platt(table_of(kRows, true), true, false);
  EXPECT_NEAR(weighted.slope, 1.118497311552298, 1e-12);
  EXPECT_NEAR(weighted.intercept, -0.7271206147115006, 1e-12);
  const PlattFit smoothed = fit_platt(table_of(kRows, false), true, true);
  EXPECT_NEAR(smoothed.slope, 0.46996317889108685, 1e-12);
  EXPECT_NEAR(smoothed.intercept, 0.04602611000574609, 1e-12);
  const PlattFit both = fit_platt(table_of(kRows, true), true, true);
  EXPECT_NEAR(both.slope, 0.6904739741544783, 1e-12);
  EXPECT_NEAR(both.intercept, -0.5300153528201397, 1e-12);
}

// A fit of x * c + d is the fit of x with another slope and intercept, at any scale.
TEST(Platt, FollowsTheScaleOfTheScores) {
  for (const double scale : {1e-300, 1e-6, 1.0, 1e12, 1e300}) {
    std::vector<Row> rows = kRows;
    for (Row& row : rows) row.score *= scale;
    const PlattFit fit = fit_platt(table_of(rows, false), true, false);
    EXPECT_EQ(fit.status, PlattStatus::kConverged);
    EXPECT_NEAR(fit.slope * scale, 0.7054949745731902, 1e-11) << scale;
    EXPECT_NEAR(fit.intercept, 0.019467115719972658, 1e-11) << scale;
  }
  std::vector<Row> far = kRows;
  for (Row& row : far) row.score += 4096;
  EXPECT_NEAR(fit_platt(table_of(far, false), true, false).slope, 0.7054949745731902, 1e-9);
}

TEST(Platt, SaysWhyThereIsNoLine) {
  const auto status = [](const std::vector<Row>& rows, bool smoothed) {
    return fit_platt(table_of(rows, false), true, smoothed).status;
  };
  const std::vector<Row> apart{{1, 0, 1}, {2, 0, 1}, {3, 1, 1}};
  EXPECT_EQ(status(apart, false), PlattStatus::kRises);
  EXPECT_EQ(status(apart, true), PlattStatus::kConverged);
  // Touching is not overlapping.
  EXPECT_EQ(status({{1, 0, 1}, {2, 0, 1}, {2, 1, 1}, {3, 1, 1}}, false), PlattStatus::kRises);
  EXPECT_EQ(status({{1, 1, 1}, {2, 0, 1}}, false), PlattStatus::kFalls);
  EXPECT_EQ(status({{1, 1, 1}, {1, 0, 1}}, false), PlattStatus::kFlat);
  EXPECT_EQ(status({{1, 1, 1}, {1, 0, 1}}, true), PlattStatus::kFlat);
  // Of the least doubles the slope would be infinite, and 0 times it no number.
  EXPECT_EQ(status({{-2e-310, 0, 1}, {0, 1, 1}, {1e-310, 0, 1}, {3e-310, 1, 1}}, false),
            PlattStatus::kUnsettled);
  // One row on the wrong side is enough for an optimum, however far it is.
  std::vector<Row> nearly;
  for (int i = 0; i < 1000; ++i) nearly.push_back({i / 10.0, i < 500 ? 0 : 1, 1});
  nearly.push_back({99, 0, 1});
  EXPECT_EQ(status(nearly, false), PlattStatus::kConverged);
}

TEST(Platt, ClipsProbabilities) {
  EXPECT_NEAR(platt_feature(0, false), std::log(1e-12), 1e-9);
  EXPECT_NEAR(platt_feature(1, false), 27.631, 1e-3);
  EXPECT_EQ(platt_feature(0.5, false), 0);
  EXPECT_EQ(platt_feature(-3.5, true), -3.5);
}

TEST(Isotonic, IsScikitLearns) {
  struct At {
    double score, plain, weighted;
  };
  const auto plain = fit_isotonic(table_of(kRows, false));
  const auto weighted = fit_isotonic(table_of(kRows, true));
  for (const At& at :
       {At{-9, 0, 0}, At{-2, .25, 1.0 / 13}, At{-1.9, .25, 1.0 / 13}, At{-.5, .25, 1.0 / 13},
        At{.1, .5, .5}, At{.25, .5, .5}, At{.6, 0.6166666666666666, 0.5388888888888889},
        At{1.75, 0.8333333333333333, 0.7777777777777778}, At{3, 1, 1}, At{5, 1, 1}}) {
    EXPECT_NEAR(isotonic_at(plain, at.score, true), at.plain, 1e-15) << at.score;
    EXPECT_NEAR(isotonic_at(weighted, at.score, true), at.weighted, 1e-15) << at.score;
  }
  EXPECT_EQ(isotonic_at(plain, 1.75, false), 2.0 / 3);
  EXPECT_EQ(isotonic_at(plain, -9, false), 0);
}

// Blocks whose shares are equal are one, and values rise strictly.
TEST(Isotonic, BlocksRiseStrictly) {
  const auto blocks = fit_isotonic(table_of(kRows, false));
  for (std::size_t i = 1; i < blocks.size(); ++i) {
    EXPECT_LT(blocks[i - 1].value, blocks[i].value);
    EXPECT_LT(blocks[i - 1].high, blocks[i].low);
  }
  const auto equal = fit_isotonic(
      table_of({{1, 0, 1}, {1, 1, 1}, {2, 1, 1}, {2, 0, 1}, {3, 0, 1}, {3, 1, 1}}, false));
  ASSERT_EQ(equal.size(), 1u);
  EXPECT_EQ(equal[0].value, 0.5);
  EXPECT_TRUE(fit_isotonic(table_of({}, false)).empty());
  // A line between the ends of the double range.
  const double most = std::numeric_limits<double>::max();
  const auto ends = fit_isotonic(table_of({{-most, 0, 1}, {most, 1, 1}}, false));
  EXPECT_EQ(isotonic_at(ends, 0, true), 0.5);
  // And one between neighbours of 0, whose halves are equal.
  const double least = std::numeric_limits<double>::denorm_min();
  const auto near = fit_isotonic(table_of({{3 * least, 0, 1}, {5 * least, 1, 1}}, false));
  EXPECT_EQ(isotonic_at(near, 4 * least, true), 0.5);
}

}  // namespace
}  // namespace cupel
