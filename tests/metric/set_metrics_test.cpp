// Metrics of conformal sets against example L of METRICS, and the search for the worst slab against
// every interval of every direction.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "cupel/math/random_direction.hpp"
#include "cupel/metric/metric.hpp"
#include "eval/worst_slab.hpp"

namespace cupel {
namespace {

/// Sets [1,0,0], [1,1,0], [0,0,0], [1,1,1], [0,1,0], [0,1,1] of rows with labels 0, 2, 1, 2, 1, 1.
SetSums example_l() {
  SetSums sums;
  sums.resize(3);
  sums.add(1, true, 0, 1);
  sums.add(2, false, 2, 3);
  sums.add(0, false, 1, 1);
  sums.add(3, true, 2, 2);
  sums.add(1, true, 1, 1);
  sums.add(2, true, 1, 1);
  return sums;
}

MetricValue value_of(const std::string& metric, const SetSums& sums) {
  const MetricSpec spec = parse_metrics(metric)->front();
  const ConformalThreshold threshold{9, 9, kConformalOne / 2};
  Evidence evidence;
  evidence.conformal.threshold = &threshold;
  evidence.conformal.sums = &sums;
  return spec.metric->finish(evidence, spec.options);
}

// The values are those of METRICS 4.4. A rate that counted other rows, or a stratum with other
// ends, would differ.
TEST(SetMetrics, ExampleL) {
  const SetSums sums = example_l();
  const std::pair<const char*, double> expected[]{{"coverage", 0.6666666667},
                                                  {"set_size", 1.5},
                                                  {"singleton_rate", 0.3333333333},
                                                  {"empty_rate", 0.1666666667},
                                                  {"cov_gap", 24.4444444444},
                                                  {"sscv", 0.2333333333},
                                                  {"ssc", 0.0},
                                                  {"macro_coverage", (1 + 2.0 / 3 + 0.5) / 3},
                                                  {"uacc", 4.0 / 6 * std::sqrt(3.0) / 1.5}};
  for (const auto& [metric, value] : expected) {
    EXPECT_NEAR(value_of(metric, sums).number, value, 1e-10) << metric;
  }
}

const Detail* field(const Detail::Object& object, std::string_view name) {
  for (const auto& [key, value] : object) {
    if (key == name) return &value;
  }
  return nullptr;
}

// Would catch a class that is listed under another number, and one without rows that is averaged.
TEST(SetMetrics, DetailsTellClassesAndStrata) {
  SetSums sums = example_l();
  sums.resize(4);
  const MetricValue gap = value_of("cov_gap", sums);
  EXPECT_NEAR(gap.number, 24.4444444444, 1e-10);
  EXPECT_EQ(*field(gap.details, "left_out"), Detail(Detail::List{Detail(3)}));
  EXPECT_EQ(*field(gap.details, "classes_below"), Detail(2));
  const auto classes = std::get<Detail::List>(field(gap.details, "per_class")->held());
  ASSERT_EQ(classes.size(), 3u);
  const auto last = std::get<Detail::Object>(classes[2].held());
  EXPECT_EQ(*field(last, "coverage"), Detail(0.5));
  EXPECT_EQ(*field(last, "mean_size"), Detail(2.5));

  // By size {0: 0, 1: 1, 2: .5, 3: 1}.
  const MetricValue by_size = value_of("ssc", sums);
  const auto strata = std::get<Detail::List>(field(by_size.details, "strata")->held());
  const double coverages[]{0, 1, 0.5, 1};
  for (std::size_t size = 0; size < 4; ++size) {
    EXPECT_EQ(*field(std::get<Detail::Object>(strata[size].held()), "coverage"),
              Detail(coverages[size]));
  }
  const MetricValue cut = value_of("sscv(strata=1)", sums);
  EXPECT_EQ(*field(cut.details, "rows_in_none"), Detail(3));
}

// Vectors of length 1 that differ; of many coordinates mean and variance are those of a sphere
// within five standard errors (fixed seed).
TEST(RandomDirection, IsUniformOnTheSphere) {
  std::set<double> firsts;
  double sum = 0;
  double fourth = 0;
  const i64 width = 64;
  const int count = 2000;
  std::vector<double> v(width);
  for (int number = 0; number < count; ++number) {
    random_direction(7, static_cast<u64>(number), width, v.data());
    double squares = 0;
    for (const double x : v) {
      squares += x * x;
      sum += x;
      fourth += x * x * x * x;
    }
    EXPECT_NEAR(squares, 1, 1e-13);
    firsts.insert(v[0]);
  }
  EXPECT_EQ(firsts.size(), static_cast<std::size_t>(count));
  const double n = static_cast<double>(width) * count;
  EXPECT_LT(std::fabs(sum / n), 5 / std::sqrt(n * width));
  // E x^4 = 3 / (d (d + 2)); the variance of x^4 is about 96 / d^4.
  EXPECT_NEAR(fourth / n, 3.0 / (width * (width + 2.0)), 5 * std::sqrt(96 / n) / (width * width));
  double one = 0;
  random_direction(7, 3, 1, &one);
  EXPECT_EQ(std::fabs(one), 1.0);
}

struct Found {
  double ratio = 2;
  i64 direction = -1;
  double low = 0, high = 0;
};

Found search_all(const SlabRows& rows, const SlabQuery& query) {
  Found best;
  std::vector<double> v(static_cast<std::size_t>(rows.width));
  for (i64 direction = 0; direction < query.directions; ++direction) {
    random_direction(query.seed, static_cast<u64>(direction), rows.width, v.data());
    std::vector<double> at;
    for (i64 row = 0; row < rows.rows; ++row) {
      double dot = 0;
      for (i64 k = 0; k < rows.width; ++k) {
        dot = std::fma(rows.features[static_cast<std::size_t>(row * rows.width + k)],
                       v[static_cast<std::size_t>(k)], dot);
      }
      at.push_back(dot);
    }
    std::vector<double> ends = at;
    std::sort(ends.begin(), ends.end());
    for (std::size_t a = 0; a < ends.size(); ++a) {
      for (std::size_t b = a; b < ends.size(); ++b) {
        i64 inside = 0;
        i64 covered = 0;
        for (i64 row = 0; row < rows.rows; ++row) {
          const double x = at[static_cast<std::size_t>(row)];
          if (x < ends[a] || x > ends[b]) continue;
          ++inside;
          covered += row >= rows.uncovered ? 1 : 0;
        }
        if (inside * static_cast<i64>(query.delta.den) <
            rows.rows * static_cast<i64>(query.delta.num)) {
          continue;
        }
        // Quotients of small integers are equal as doubles where they are equal.
        const double ratio = static_cast<double>(covered) / static_cast<double>(inside);
        if (ratio < best.ratio) best = {ratio, direction, ends[a], ends[b]};
      }
    }
  }
  return best;
}

// Random rows, some equal, of few and many features: would catch a window that is one row short, a
// pass that stops before the lowest ratio, ties taken in another order, and threads that matter.
TEST(WorstSlab, EqualsASearchOfAllIntervals) {
  std::mt19937_64 random(20261125);
  for (int trial = 0; trial < 60; ++trial) {
    SlabRows rows;
    rows.rows = 1 + static_cast<i64>(random() % 40);
    rows.width = 1 + static_cast<i64>(random() % 3);
    rows.uncovered = static_cast<i64>(random() % static_cast<u64>(rows.rows + 1));
    for (i64 i = 0; i < rows.rows * rows.width; ++i) {
      rows.features.push_back(static_cast<double>(random() % 9) / 4 - 1);
    }
    SlabQuery query;
    query.delta = {1 + random() % 19, 20};
    query.directions = 20;
    query.seed = random();
    const Found expected = search_all(rows, query);
    for (const int threads : {1, 3}) {
      const WorstSlab slab = find_worst_slab(rows, query, threads);
      EXPECT_EQ(static_cast<double>(slab.found.covered) / static_cast<double>(slab.found.rows),
                expected.ratio)
          << trial;
      EXPECT_EQ(slab.direction, expected.direction) << trial;
      EXPECT_EQ(slab.low, expected.low) << trial;
      EXPECT_EQ(slab.high, expected.high) << trial;
    }
  }
}

// The share held out is the fraction asked for within five standard errors, and follows the seed.
TEST(WorstSlab, HoldsOutByKey) {
  SlabQuery query;
  i64 held = 0;
  i64 moved = 0;
  for (u64 key = 0; key < 10'000; ++key) {
    query.seed = 0;
    const bool first = is_held_out(query, key);
    query.seed = 1;
    held += first ? 1 : 0;
    moved += first != is_held_out(query, key) ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(held), 7500, 5 * std::sqrt(10'000 * 0.1875));
  EXPECT_GT(moved, 3000);
}

}  // namespace
}  // namespace cupel
