// Selective prediction: what the details say of example M, sums of many rows against closed forms,
// and the cost of a policy against the words of its definition.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <map>
#include <vector>

#include "cupel/metric/metric.hpp"

namespace cupel {
namespace {

struct Row {
  double confidence;
  u64 right, wrong;
};

RankTable table_of(const std::vector<Row>& rows) {
  std::map<u64, u64> mass[2];
  u64 count[2] = {0, 0};
  for (const Row& row : rows) {
    const u64 key = key_of_f64(std::bit_cast<u64>(row.confidence));
    if (row.wrong != 0) mass[0][key] += row.wrong;
    if (row.right != 0) mass[1][key] += row.right;
    count[0] += row.wrong;
    count[1] += row.right;
  }
  KeyRun<u64> runs[2];
  for (int side = 0; side < 2; ++side) {
    Buffer<u64> keys, counts;
    for (const auto& [key, m] : mass[side]) {
      keys.push_back(key);
      counts.push_back(m);
    }
    runs[side] = canonical_run(std::move(keys), std::move(counts));
  }
  return RankTable(ScoreKind::kF64, false, KeyRuns<u64>{runs[1], runs[0]}, count[1], count[0]);
}

/// Of the confidences themselves, as those of several classes are.
MetricValue reduced(const std::string& metric, const std::vector<Row>& rows) {
  const auto spec = parse_metrics(metric);
  EXPECT_TRUE(spec.ok());
  const RankTable table = table_of(rows);
  const SortedConfidences set(table, ScoreMeaning::kProbability, ConfidenceOf::kPositive);
  return (*spec)[0].metric->reduce(set, (*spec)[0].options).value;
}

const Detail& detail(const MetricValue& value, std::string_view name) {
  for (const auto& [key, held] : value.details) {
    if (key == name) return held;
  }
  static const Detail kNone;
  ADD_FAILURE() << "no field " << name;
  return kNone;
}
double number(const MetricValue& value, std::string_view name) {
  return std::get<double>(detail(value, name).held());
}
std::vector<double> numbers(const MetricValue& value, std::string_view name) {
  std::vector<double> all;
  for (const Detail& item : std::get<Detail::List>(detail(value, name).held())) {
    all.push_back(std::get<double>(item.held()));
  }
  return all;
}

const std::vector<Row> kExampleM{{.95, 1, 0}, {.9, 1, 0}, {.8, 0, 1},
                                 {.7, 1, 0},  {.6, 0, 1}, {.5, 1, 0}};

// Expected values: METRICS 4.7, example M.
TEST(Selective, ExampleM) {
  const MetricValue aurc = reduced("aurc", kExampleM);
  EXPECT_NEAR(aurc.number, 0.2194444444, 1e-10);
  EXPECT_NEAR(number(aurc, "oracle"), 0.0888888889, 1e-10);
  EXPECT_NEAR(number(aurc, "oracle_asymptotic"), 0.0630232613, 1e-10);
  EXPECT_NEAR(reduced("e_aurc", kExampleM).number, 0.1305555556, 1e-10);
  EXPECT_NEAR(reduced("auarc", kExampleM).number, 0.7805555556, 1e-10);
  EXPECT_NEAR(reduced("auarc(form=trapezoid)", kExampleM).number, 0.77, 1e-15);
  EXPECT_EQ(number(aurc, "risk_at_full_coverage"), 1.0 / 3);
  EXPECT_EQ(numbers(aurc, "risk"), (std::vector<double>{0, 0, 1.0 / 3, 0.25, 0.4, 1.0 / 3}));
  EXPECT_EQ(numbers(aurc, "thresholds"), (std::vector<double>{.95, .9, .8, .7, .6, .5}));
  EXPECT_EQ(numbers(aurc, "coverage"),
            (std::vector<double>{1.0 / 6, 2.0 / 6, 0.5, 4.0 / 6, 5.0 / 6, 1}));
}

// First and last vertices stay, and which others do follows from their number alone.
TEST(Selective, CurveIsThinnedEvenly) {
  EXPECT_EQ(numbers(reduced("aurc(points=3)", kExampleM), "thresholds"),
            (std::vector<double>{.95, .8, .5}));
  EXPECT_EQ(numbers(reduced("aurc(points=1)", kExampleM), "thresholds"), (std::vector<double>{.5}));
  std::vector<Row> rows;
  for (int i = 0; i < 1000; ++i) rows.push_back({i / 1000.0, 1, 1});
  const MetricValue thinned = reduced("aurc", rows);
  EXPECT_EQ(std::get<i64>(detail(thinned, "vertices").held()), 1000);
  const std::vector<double> thresholds = numbers(thinned, "thresholds");
  ASSERT_EQ(thresholds.size(), 200u);
  EXPECT_EQ(thresholds.front(), 0.999);
  EXPECT_EQ(thresholds.back(), 0);
  EXPECT_EQ(numbers(reduced("aurc(points=0)", rows), "thresholds").size(), 1000u);
}

long double harmonic(u64 n) {
  long double sum = 0;
  for (u64 k = n; k > 0; --k) sum += 1.0L / static_cast<long double>(k);
  return sum;
}

// A million rows, right ones before wrong ones and the reverse: sums of 1 / k. Would catch rounding
// that grows with the rows, and counts that are walked in the wrong direction.
TEST(Selective, ManyRowsAgainstHarmonicNumbers) {
  constexpr u64 kRight = 700'000;
  constexpr u64 kWrong = 300'000;
  constexpr u64 kAll = kRight + kWrong;
  const std::vector<Row> best{{.75, kRight, 0}, {.25, 0, kWrong}};
  const std::vector<Row> worst{{.75, 0, kWrong}, {.25, kRight, 0}};
  const long double oracle =
      (kWrong - kRight * (harmonic(kAll) - harmonic(kRight))) / static_cast<long double>(kAll);
  const long double most =
      (kWrong + kWrong * (harmonic(kAll) - harmonic(kWrong))) / static_cast<long double>(kAll);
  EXPECT_NEAR(reduced("aurc", best).number, static_cast<double>(oracle), 1e-16);
  EXPECT_EQ(reduced("e_aurc", best).number, 0);
  EXPECT_NEAR(reduced("aurc", worst).number, static_cast<double>(most), 2e-16);
  EXPECT_NEAR(reduced("auarc", worst).number, static_cast<double>(1 - most), 2e-16);
  EXPECT_NEAR(reduced("e_aurc", worst).number, static_cast<double>(most - oracle), 2e-16);
  // One confidence for all: the risk is the same at every coverage.
  EXPECT_NEAR(reduced("aurc", {{.75, kRight, kWrong}}).number, 0.3, 1e-16);
}

// The limit of the oracle in both ways in which it is computed, against long doubles.
TEST(Selective, AsymptoticOracle) {
  for (const u64 wrong : {1u, 10u, 1000u, 12'499u, 12'500u, 12'501u, 50'000u, 99'999u}) {
    const long double r = static_cast<long double>(wrong) / 100'000;
    // Below 1/100 by six terms of its series, whose next is below r^8.
    long double expected = r + (1 - r) * std::log1p(-r);
    if (r < 0.01L) {
      expected = 0;
      for (int n = 7; n >= 2; --n) expected = expected * r + 1.0L / (n * (n - 1));
      expected *= r * r;
    }
    const MetricValue value = reduced("aurc", {{.75, 100'000 - wrong, wrong}});
    const double found = number(value, "oracle_asymptotic");
    EXPECT_NEAR(found / static_cast<double>(expected), 1, 2e-15) << wrong;
  }
  EXPECT_EQ(number(reduced("aurc", {{.75, 0, 5}}), "oracle_asymptotic"), 1);
  EXPECT_EQ(number(reduced("aurc", {{.75, 5, 0}}), "oracle_asymptotic"), 0);
}

// ---- policies that may abstain
// --------------------------------------------------------------------

// Terms computed by hand: 100 rows, 40 single answers (36 right), 50 sets (45 hold their label, 80
// labels), 10 without an answer; the entropy of .4, .5 and .1 by Python's math.log.
TEST(AbstentionCost, ByHand) {
  const AbstentionCounts counts{40, 36, 50, 45, 80, 10};
  const double entropy = 0.9433483923290391;
  EXPECT_NEAR(entropy_of_decisions(counts), entropy, 1e-15);
  EXPECT_NEAR(abstention_cost(counts, {}),
              9.0 / 90 + 0.3 * 1.6 + 0.3 * 0.1 - 0.4 * 0.9 - 0.2 * entropy, 1e-15);
  const AbstentionCounts singles{90, 90, 10, 10, 20, 0};
  EXPECT_NEAR(abstention_cost(singles, {0, 0, 0, 0, 0.5, 0.8}), 0.05, 1e-15);
  const AbstentionCounts silent{0, 0, 0, 0, 0, 7};
  EXPECT_NEAR(abstention_cost(silent, {}), 1.3, 1e-15);
  EXPECT_EQ(entropy_of_decisions(silent), 0);
}

// No answer of any kind: shares of nothing are null, and nothing is right.
TEST(AbstentionPolicy, NothingAnswered) {
  const MetricSpec spec = parse_metrics("abstention_policy")->front();
  AbstentionChoice choice;
  choice.calibration_rows = choice.tuning_rows = 5;
  choice.tuned = {5, 5, 0, 0, 0, 0};
  AbstentionSums sums;
  sums.counts.abstained = 4;
  sums.abstained_right = 3;
  Evidence evidence;
  evidence.abstention = {&choice, &sums, false};
  const MetricValue value = spec.metric->finish(evidence, spec.options);
  EXPECT_NEAR(value.number, 1.3, 1e-15);
  for (const char* name : {"coverage_of_answers", "mean_size_of_answers", "selective_accuracy",
                           "uncertainty_aware_accuracy"}) {
    EXPECT_EQ(detail(value, name), Detail()) << name;
  }
  EXPECT_EQ(number(value, "coverage_of_all"), 0);
}

// Levels are decimals: 0.75 + 15 * 0.01 is 0.9 and is there.
TEST(AbstentionPolicy, LevelsAreExact) {
  const MetricSpec spec = parse_metrics("abstention_policy")->front();
  const auto needs = spec.metric->needs(spec.options, Task::kMulticlass, 3, true);
  ASSERT_TRUE(needs.ok());
  const AbstentionQuery& query = *needs->abstention;
  ASSERT_EQ(query.alphas.size(), 16u);
  EXPECT_EQ(query.alphas.front(), (Fraction{75, 100}));
  EXPECT_EQ(query.alphas.back(), (Fraction{90, 100}));
  ASSERT_EQ(query.betas.size(), 9u);
  EXPECT_EQ(query.betas[1], (Fraction{15, 1000}));
  EXPECT_EQ(query.betas.back(), (Fraction{50, 1000}));
}

}  // namespace
}  // namespace cupel
