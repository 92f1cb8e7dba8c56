// Sorted confidences against a walk that knows no runs, the p-values of the cumulative tests
// against the other of the two series that they have, and the median distance against the list of
// all distances.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <random>

#include "cupel/math/elementary.hpp"
#include "cupel/metric/metric.hpp"

namespace cupel {
namespace {

struct Row {
  double score;
  bool positive;
  u64 weight = 1;
};

template <class Key>
RankTable table_of(const std::vector<Row>& rows, ScoreKind kind, bool weighted) {
  std::map<Key, u128> mass[2];
  u64 count[2] = {0, 0};
  for (const Row& row : rows) {
    const Key key =
        kind == ScoreKind::kF32
            ? static_cast<Key>(key_of_f32(std::bit_cast<u32>(static_cast<float>(row.score))))
            : static_cast<Key>(key_of_f64(std::bit_cast<u64>(row.score)));
    ++count[row.positive ? 1 : 0];
    if (row.weight != 0) mass[row.positive ? 1 : 0][key] += row.weight;
  }
  KeyRun<Key> runs[2];
  for (int side = 0; side < 2; ++side) {
    Buffer<Key> keys;
    Buffer<u64> counts;
    for (const auto& [key, m] : mass[side]) {
      keys.push_back(key);
      counts.push_back(static_cast<u64>(m));
    }
    if (weighted) {
      runs[side].keys = keys;
      runs[side].weights.assign(counts.begin(), counts.end());
    } else {
      runs[side] = canonical_run(std::move(keys), std::move(counts));
    }
  }
  return RankTable(kind, weighted, KeyRuns<Key>{runs[1], runs[0]}, count[1], count[0]);
}

RankTable table_of(const std::vector<Row>& rows, ScoreKind kind, bool weighted) {
  return kind == ScoreKind::kF32 ? table_of<u32>(rows, kind, weighted)
                                 : table_of<u64>(rows, kind, weighted);
}

std::vector<ConfidenceGroup> groups_of(const SortedConfidences& set) {
  std::vector<ConfidenceGroup> groups;
  set.visit([&](std::span<const ConfidenceGroup> block) {
    EXPECT_FALSE(block.empty());
    EXPECT_LE(block.size(), SortedConfidences::kBlock);
    groups.insert(groups.end(), block.begin(), block.end());
  });
  return groups;
}

void expect_groups(const std::vector<Row>& rows, ScoreKind kind, bool weighted,
                   ScoreMeaning meaning, ConfidenceOf of) {
  std::map<double, std::pair<u128, u128>> expected;
  u128 total = 0;
  for (const Row& row : rows) {
    if (row.weight == 0) continue;
    const double score = kind == ScoreKind::kF32 ? static_cast<float>(row.score) : row.score;
    const double p = meaning == ScoreMeaning::kLogit ? sigmoid_det(score) : score;
    const bool flips = of == ConfidenceOf::kTop && !(p > 0.5);
    auto& [right, wrong] = expected[flips ? 1.0 - p : p + 0.0];
    (row.positive != flips ? right : wrong) += row.weight;
    total += row.weight;
  }
  const RankTable table = table_of(rows, kind, weighted);
  const SortedConfidences set(table, meaning, of);
  EXPECT_EQ(set.rows(), rows.size());
  EXPECT_TRUE(set.mass() == total);
  EXPECT_TRUE(set.are_probabilities());
  const std::vector<ConfidenceGroup> groups = groups_of(set);
  ASSERT_EQ(groups.size(), expected.size());
  auto at = expected.begin();
  for (const ConfidenceGroup& group : groups) {
    EXPECT_EQ(group.p, at->first);
    EXPECT_TRUE(group.right == at->second.first && group.wrong == at->second.second) << group.p;
    ++at;
  }
}

// Would catch a group that is cut at the end of a block, a run form that is misread, the wrong side
// of one half, and ties between p and 1 - p that stay apart.
TEST(SortedConfidences, EqualAWalkOverRows) {
  std::mt19937_64 random(7);
  for (const i64 values : {2, 64, 100'000}) {
    for (const ScoreKind kind : {ScoreKind::kF32, ScoreKind::kF64}) {
      for (const bool weighted : {false, true}) {
        std::vector<Row> rows;
        std::vector<Row> logits;
        for (int i = 0; i < 9000; ++i) {
          const double p = static_cast<double>(random() % static_cast<u64>(values + 1)) /
                           static_cast<double>(values);
          const bool positive = random() % 3 == 0;
          const u64 weight = weighted ? random() % 4 : 1;
          rows.push_back({p, positive, weight});
          logits.push_back({p * 100 - 50, positive, weight});
        }
        for (const ConfidenceOf of : {ConfidenceOf::kPositive, ConfidenceOf::kTop}) {
          SCOPED_TRACE(std::to_string(values) + (weighted ? " weighted" : "") +
                       (kind == ScoreKind::kF32 ? " f32" : " f64"));
          expect_groups(rows, kind, weighted, ScoreMeaning::kProbability, of);
          expect_groups(logits, kind, weighted, ScoreMeaning::kLogit, of);
        }
      }
    }
  }
}

TEST(SortedConfidences, EmptyAndOutside) {
  const RankTable none(ScoreKind::kF64, false);
  EXPECT_TRUE(groups_of({none, ScoreMeaning::kProbability, ConfidenceOf::kTop}).empty());
  EXPECT_TRUE(
      SortedConfidences(none, ScoreMeaning::kProbability, ConfidenceOf::kTop).are_probabilities());
  for (const double outside : {1.0000000000000002, -5e-324, 1e300}) {
    const RankTable table = table_of({{0.5, true}, {outside, false}}, ScoreKind::kF64, false);
    EXPECT_FALSE(SortedConfidences(table, ScoreMeaning::kProbability, ConfidenceOf::kPositive)
                     .are_probabilities())
        << outside;
    EXPECT_TRUE(SortedConfidences(table, ScoreMeaning::kLogit, ConfidenceOf::kPositive)
                    .are_probabilities());
  }
}

// More logits of one probability than a block has, between others.
TEST(SortedConfidences, ManyLogitsOfOneProbability) {
  std::vector<Row> rows{{-1, true}, {-1, false}, {1, true}};
  for (int i = 0; i < 5000; ++i) rows.push_back({40.0 + i, i % 2 == 0});
  const RankTable table = table_of(rows, ScoreKind::kF32, false);
  const auto groups = groups_of({table, ScoreMeaning::kLogit, ConfidenceOf::kPositive});
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[2].p, 1.0);
  EXPECT_TRUE(groups[2].right == 2500 && groups[2].wrong == 2500);
}

// Neighbouring float64 logits, where the logistic function may fall by its last bit: confidences
// must not.
TEST(SortedConfidences, NeverFall) {
  std::vector<Row> rows;
  double logit = -1.7971811415990684;
  bool falls = false;
  for (int i = 0; i < 5000; ++i) {
    rows.push_back({logit, i % 2 == 0});
    const double next = std::nextafter(logit, 9.0);
    falls = falls || sigmoid_det(next) < sigmoid_det(logit);
    logit = next;
  }
  ASSERT_TRUE(falls) << "this test needs logits where the function falls";
  const RankTable table = table_of(rows, ScoreKind::kF64, false);
  for (const ConfidenceOf of : {ConfidenceOf::kPositive, ConfidenceOf::kTop}) {
    const auto groups = groups_of({table, ScoreMeaning::kLogit, of});
    u128 mass = 0;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      if (i != 0) {
        EXPECT_GT(groups[i].p, groups[i - 1].p);
      }
      mass += groups[i].mass();
    }
    EXPECT_TRUE(mass == rows.size());
  }
}

MetricValue reduced(const std::string& metric, const RankTable& table) {
  const auto spec = parse_metrics(metric);
  EXPECT_TRUE(spec.ok());
  const SortedConfidences set(table, ScoreMeaning::kProbability, ConfidenceOf::kPositive);
  return (*spec)[0].metric->reduce(set, (*spec)[0].options).value;
}

double detail_of(const MetricValue& value, std::string_view name) {
  for (const auto& [key, detail] : value.details) {
    if (key == name) {
      const double* number = std::get_if<double>(&detail.held());
      return number != nullptr ? *number : NAN;
    }
  }
  return NAN;
}

i64 integer_of(const MetricValue& value, std::string_view name) {
  for (const auto& [key, detail] : value.details) {
    if (key == name) return std::get<i64>(detail.held());
  }
  return -1;
}

/// The number of bins that the sweep takes, by its definition: every bin of every number of bins.
i64 swept_bins(const std::vector<Row>& rows, bool by_width, i64 most) {
  for (i64 bins = 2; bins <= most; ++bins) {
    std::map<i64, std::pair<i64, i64>> held;  // right, rows
    for (const Row& row : rows) {
      i64 bin = 0;
      if (by_width) {
        while (bin + 1 < bins && row.score > bin_edge(bin + 1, bins)) ++bin;
      } else {
        i64 smaller = 0;
        for (const Row& other : rows) smaller += other.score < row.score ? 1 : 0;
        bin = bins * smaller / static_cast<i64>(rows.size());
      }
      held[bin].first += row.positive ? 1 : 0;
      ++held[bin].second;
    }
    const std::pair<i64, i64>* last = nullptr;
    for (const auto& [bin, own] : held) {
      if (last != nullptr && own.first * last->second < last->first * own.second) return bins - 1;
      last = &own;
    }
  }
  return most;
}

// Noise that grows from none to all of the labels: from sweeps that end at their limit, or late, to
// those that end at once. Would catch a bin that is not looked at, or begins at another group.
TEST(EceSweep, TakesAsManyBinsAsByDefinition) {
  std::mt19937_64 random(5);
  std::map<i64, int> seen;
  for (int trial = 0; trial < 160; ++trial) {
    const u64 values = trial % 2 == 0 ? 40 : 1'000'000;
    std::vector<Row> rows;
    for (int i = 0; i < 60; ++i) {
      const double p = static_cast<double>(random() % (values + 1)) / static_cast<double>(values);
      const bool noisy = static_cast<int>(random() % 160) < trial - 20;
      const double cut = noisy ? static_cast<double>(random() % 1000) / 1000 : 0.6;
      rows.push_back({p, p > cut});
    }
    const RankTable table = table_of(rows, ScoreKind::kF64, false);
    for (const bool by_width : {false, true}) {
      const i64 expected = swept_bins(rows, by_width, 59);
      const std::string metric = by_width ? "ece_sweep(binning=width)" : "ece_sweep";
      EXPECT_EQ(integer_of(reduced(metric, table), "bins_chosen"), expected) << trial;
      ++seen[expected];
    }
  }
  EXPECT_GT(seen.size(), 8u) << "too few different outcomes to tell anything";
}

// A hundred rows of p = 0.5 of which r are positive: both statistics are |2r - 100| / 200, and in
// standard deviations of the sum |2r - 100| / 10. The tails were computed with the series that the
// code does not use there; both series agree to 1e-15 in Python.
TEST(CumulativeCalibration, PValues) {
  struct Expected {
    int positives;
    double ks;
    double kuiper;
  };
  for (const Expected& e : {Expected{52, 0.9994295379794417, 0.9999999999979526},
                            Expected{53, 0.9586375368786227, 0.9999743473829973},
                            Expected{55, 0.6292225702004761, 0.9366354120795493},
                            Expected{60, 0.09100052384636614, 0.1814943393941874},
                            Expected{39, 0.055613789971762806, 0.11114097989885474},
                            Expected{65, 0.005399592126520414, 0.010799168467638398}}) {
    std::vector<Row> rows;
    for (int i = 0; i < 100; ++i) rows.push_back({0.5, i < e.positives});
    const RankTable table = table_of(rows, ScoreKind::kF32, false);
    const MetricValue ks = reduced("ks_calibration", table);
    EXPECT_DOUBLE_EQ(ks.number, std::abs(2 * e.positives - 100) / 200.0);
    EXPECT_NEAR(detail_of(ks, "p_value"), e.ks, 1e-14);
    EXPECT_NEAR(detail_of(reduced("kuiper_calibration", table), "p_value"), e.kuiper, 1e-14);
  }
}

TEST(CumulativeCalibration, PValueIsNotDefined) {
  const RankTable certain = table_of({{0, false}, {1, true}}, ScoreKind::kF32, false);
  EXPECT_TRUE(std::isnan(detail_of(reduced("ks_calibration", certain), "p_value")));
  const RankTable weighted = table_of({{0.25, false, 3}, {0.5, true, 2}}, ScoreKind::kF32, true);
  EXPECT_TRUE(std::isnan(detail_of(reduced("kuiper_calibration", weighted), "p_value")));
}

TEST(Skce, MedianOfTheDistances) {
  std::mt19937_64 random(11);
  for (const u64 values : {3, 50, 1'000'000'000, 1'000'000'001}) {
    for (const int count : {2, 3, 4, 5, 300, 301, 2001}) {
      std::vector<Row> rows;
      for (int i = 0; i < count; ++i) {
        double p = static_cast<double>(random() % values) / static_cast<double>(values);
        if (values % 2 == 1) p *= p * p * p * p * p;  // most are close together
        rows.push_back({p, random() % 2 == 0});
      }
      std::vector<double> distances;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
          distances.push_back(std::fabs(rows[i].score - rows[j].score));
        }
      }
      std::sort(distances.begin(), distances.end());
      const std::size_t n = distances.size();
      const double median = (distances[(n - 1) / 2] + distances[n / 2]) / 2;
      const MetricValue value = reduced("skce", table_of(rows, ScoreKind::kF64, false));
      if (median == 0) {
        EXPECT_EQ(value.undefined, Undefined::kNotDefined);
      } else {
        EXPECT_EQ(detail_of(value, "nu"), median) << values << " " << count;
      }
    }
  }
}

}  // namespace
}  // namespace cupel
