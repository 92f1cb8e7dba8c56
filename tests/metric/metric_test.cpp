// Names, options and "did you mean" of every registered metric, and the arithmetic of finish().
#include "cupel/metric/metric.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "metric/exact.hpp"

namespace cupel {
namespace {

std::string refusal(const std::string& list) {
  const auto specs = parse_metrics(list);
  if (specs.ok()) return "accepted";
  EXPECT_EQ(specs.error().code, ErrorCode::kUsage);
  return specs.error().text();
}

TEST(Registry, NamesAreUniqueAndDescribed) {
  std::set<std::string_view> names;
  for (const Metric* metric : all_metrics()) {
    const MetricInfo& info = metric->info();
    SCOPED_TRACE(info.name);
    EXPECT_TRUE(names.insert(info.name).second);
    EXPECT_FALSE(info.summary.empty() || info.formula.empty() || info.edge_cases.empty() ||
                 info.equals.empty() || info.source.empty() || info.example.empty());
    EXPECT_FALSE(info.tasks.empty());
    EXPECT_NE(info.example.find(info.name), std::string_view::npos);
    ASSERT_TRUE(find_metric(info.name).ok());
    EXPECT_EQ(*find_metric(info.name), metric);
    // Defaults are values that the option accepts.
    EXPECT_TRUE(parse_metrics(info.name).ok());
    for (const OptionSpec& option : effective_options(*metric)) {
      EXPECT_FALSE(option.summary.empty());
      if (option.default_text.empty()) continue;
      EXPECT_TRUE(parse_metrics(std::string(info.name) + "(" + std::string(option.name) + "=" +
                                std::string(option.default_text) + ")")
                      .ok());
    }
  }
  EXPECT_EQ(names.size(), 78u);
}

// A metric without rows is undefined for every metric, never a number.
TEST(Registry, NoRowsIsUndefined) {
  for (const Metric* metric : all_metrics()) {
    SCOPED_TRACE(metric->info().name);
    const auto spec = parse_metrics(metric->info().name);
    for (const Task task : metric->info().tasks) {
      const auto needs =
          metric->needs((*spec)[0].options, task, 3, metric->scope() == MetricScope::kFitted);
      ASSERT_TRUE(needs.ok());
      const RankTable table(ScoreKind::kF32, false);
      const RankSummary summary = summarise(table, needs->queries);
      RowSums sums;
      sums.class_rows.resize(task == Task::kMulticlass ? 3 : 2);
      sums.class_mass.resize(sums.class_rows.size());
      sums.hits.resize(sums.class_rows.size());
      Evidence evidence;
      evidence.task = task;
      evidence.ranks = &summary;
      evidence.table = &table;
      evidence.rows = &sums;
      evidence.row_spec = &needs->rows;
      EXPECT_NE(metric->finish(evidence, (*spec)[0].options).undefined, Undefined::kNone);
    }
  }
}

TEST(ParseMetrics, ReadsNamesAndOptions) {
  const auto specs = parse_metrics("auroc, auprc(method=trapezoid),es_auroc,f_beta_max(beta=0.5)");
  ASSERT_TRUE(specs.ok());
  ASSERT_EQ(specs->size(), 4u);
  EXPECT_EQ((*specs)[1].options.text("method"), "trapezoid");
  EXPECT_TRUE((*specs)[2].equity_scaled);
  EXPECT_EQ((*specs)[2].name, "es_auroc");
  EXPECT_EQ((*specs)[3].options.fraction("beta"), (Fraction{5, 10}));
}

TEST(ParseMetrics, RefusesWithTheNextStep) {
  EXPECT_EQ(refusal("aurco"), "unknown metric 'aurco', did you mean 'auroc'?");
  EXPECT_EQ(refusal("zzzzzzzz"), "unknown metric 'zzzzzzzz'; 'cupel metrics' lists all");
  EXPECT_EQ(refusal("auroc(max_fp=1)"), "'auroc' has no option 'max_fp'; did you mean 'max_fpr'?");
  EXPECT_EQ(refusal("auroc(max_fpr=0)"),
            "option 'max_fpr' of 'auroc' is '0'; expected a number from 1e-09 to 1");
  EXPECT_EQ(
      refusal("auprc(method=area)"),
      "option 'method' of 'auprc' is 'area'; expected one of step, trapezoid, davis_goadrich");
  EXPECT_EQ(refusal("auroc(max_fpr)"),
            "option 'max_fpr' of 'auroc' has no value; write name=value");
  EXPECT_EQ(refusal("auroc(max_fpr=0.1,max_fpr=0.2)"),
            "option 'max_fpr' of 'auroc' is given twice");
  EXPECT_EQ(refusal("auroc("), "'(' without ')' in 'auroc('");
  EXPECT_EQ(refusal("auroc)"), "')' without '(' in 'auroc)'");
  EXPECT_EQ(refusal("auroc,,ks"), "an empty metric name in 'auroc,,ks'");
  EXPECT_EQ(refusal("es_xauc"), "'xauc' is a comparison of groups and has no equity-scaled value");
  EXPECT_EQ(refusal("top_k_accuracy(k=1.5)"),
            "option 'k' of 'top_k_accuracy' is '1.5'; expected an integer from 1 to 65535");
}

TEST(ParseDecimal, IsExact) {
  EXPECT_EQ(*parse_decimal("0.1"), (Fraction{1, 10}));
  EXPECT_EQ(*parse_decimal("1e-3"), (Fraction{1, 1000}));
  EXPECT_EQ(*parse_decimal("2.50"), (Fraction{25, 10}));
  EXPECT_EQ(*parse_decimal("120"), (Fraction{120, 1}));
  EXPECT_EQ(*parse_decimal("0.000"), (Fraction{0, 1}));
  EXPECT_EQ(*parse_decimal("0.000000000000000001"), (Fraction{1, 1'000'000'000'000'000'000u}));
  for (const char* text : {"", ".", "-1", "1.2.3", "1e", "1e99", "0.0000000000000000001",
                           "12345678901234567890", "nan", "0x1"}) {
    EXPECT_FALSE(parse_decimal(text).ok()) << text;
  }
}

// IEEE 754 demands the correctly rounded root of a double; the exact root of its value is that.
TEST(ExactRoot, IsRoundedOnce) {
  for (const double value :
       {2.0, 0.1, 1e-300, 1.7e308, 5e-324, 1.0, 0.25, 3e5, 0x1.fffffffffffffp3}) {
    EXPECT_EQ(exact::root(exact::rational(value)), std::sqrt(value)) << value;
  }
  EXPECT_EQ(exact::root(exact::Rational(0)), 0.0);
  EXPECT_EQ(exact::root(exact::Rational(4, 9)), 2.0 / 3.0);
  // A square beyond the largest double has a root that is not.
  EXPECT_EQ(exact::root(exact::rational(1e300) * exact::rational(1e300)), 1e300);
}

TEST(ExactRational, OfDoubles) {
  EXPECT_EQ(exact::to_double(exact::rational(-0.1)), -0.1);
  EXPECT_EQ(exact::rational(0.5), exact::Rational(1, 2));
  ExactSum sum;
  for (const double value : {0x1p70, -0.75, -0x1p70}) add_exactly(sum, value);
  EXPECT_EQ(exact::rational(sum), exact::Rational(-3, 4));
}

TEST(ExactToDouble, RoundsToNearestEven) {
  using exact::Integer;
  EXPECT_EQ(exact::to_double(Integer(1), Integer(3)), 1.0 / 3.0);
  EXPECT_EQ(exact::to_double(Integer(-7), Integer(10)), -0.7);
  EXPECT_EQ(exact::to_double(Integer(0), Integer(9)), 0.0);
  // 2^53 + 1 lies between two doubles: to the even one; a little more: up.
  const Integer big = (Integer(1) << 53U) + 1;
  EXPECT_EQ(exact::to_double(big, Integer(1)), 0x1p53);
  EXPECT_EQ(exact::to_double(big * 1000 + 1, Integer(1000)), 0x1p53 + 2);
  EXPECT_EQ(exact::to_double((Integer(1) << 200U) - 1, Integer(1) << 200U), 1.0);
  EXPECT_EQ(exact::to_double(Integer(1), (Integer(1) << 300U)), 0x1p-300);
}

// The Davis-Goadrich value of example A in METRICS: pr.curve's interpolation integrated in closed
// form.
TEST(DavisGoadrich, ExampleAAndB) {
  const auto value = [](std::vector<std::pair<u32, bool>> rows) {
    Buffer<u32> pos;
    Buffer<u32> neg;
    std::sort(rows.begin(), rows.end());
    for (const auto& [key, label] : rows) (label ? pos : neg).push_back(key);
    const u64 p = pos.size();
    const u64 n = neg.size();
    const RankTable table(
        ScoreKind::kF32, false,
        KeyRuns<u32>{canonical_run(std::move(pos)), canonical_run(std::move(neg))}, p, n);
    const RankSummary summary = summarise(table, {});
    Evidence evidence;
    evidence.ranks = &summary;
    evidence.table = &table;
    const auto spec = parse_metrics("auprc(method=davis_goadrich)");
    return (*spec)[0].metric->finish(evidence, (*spec)[0].options).number;
  };
  EXPECT_NEAR(value({{10, false}, {40, false}, {35, true}, {80, true}, {40, true}}), 0.8289903332,
              5e-11);
  EXPECT_NEAR(value({{9, true},
                     {8, true},
                     {7, true},
                     {6, false},
                     {5, false},
                     {4, true},
                     {3, false},
                     {2, false}}),
              0.9088392216, 5e-11);
}

// The points of example B in METRICS, which are scikit-learn's.
TEST(Curves, ExampleB) {
  Buffer<u32> pos{4, 7, 8, 9};
  Buffer<u32> neg{2, 3, 5, 6};
  const RankTable table(ScoreKind::kU64, false,
                        KeyRuns<u64>{canonical_run(Buffer<u64>(pos.begin(), pos.end())),
                                     canonical_run(Buffer<u64>(neg.begin(), neg.end()))},
                        4, 4);
  const auto curve = [&](const std::string& text, std::string_view field) {
    const auto spec = parse_metrics(text);
    const auto needs = (*spec)[0].metric->needs((*spec)[0].options, Task::kBinary, 2, false);
    const RankSummary summary = summarise(table, needs->queries);
    Evidence evidence;
    evidence.ranks = &summary;
    evidence.table = &table;
    const MetricValue value = (*spec)[0].metric->finish(evidence, (*spec)[0].options);
    std::vector<double> numbers;
    for (const auto& [name, detail] : value.details) {
      if (name != field) continue;
      for (const Detail& number : std::get<Detail::List>(detail.held())) {
        numbers.push_back(std::get<double>(number.held()));
      }
    }
    return numbers;
  };
  using Numbers = std::vector<double>;
  EXPECT_EQ(curve("roc(drop_intermediate=false)", "fpr"),
            (Numbers{0, 0, 0, 0, .25, .5, .5, .75, 1}));
  EXPECT_EQ(curve("roc(drop_intermediate=false)", "tpr"),
            (Numbers{0, .25, .5, .75, .75, .75, 1, 1, 1}));
  EXPECT_EQ(curve("roc", "fpr"), (Numbers{0, 0, 0, .5, .5, 1}));
  EXPECT_EQ(curve("roc", "tpr"), (Numbers{0, .25, .75, .75, 1, 1}));
  EXPECT_EQ(curve("roc(drop_intermediate=false)", "thresholds"),
            (Numbers{INFINITY, 9, 8, 7, 6, 5, 4, 3, 2}));
  EXPECT_EQ(curve("pr", "recall"), (Numbers{1, 1, 1, .75, .75, .75, .5, .25, 0}));
  EXPECT_EQ(curve("pr", "precision"), (Numbers{.5, 4. / 7, 4. / 6, .6, .75, 1, 1, 1, 1}));
  EXPECT_EQ(curve("pr(drop_intermediate=true)", "recall"), (Numbers{1, 1, .75, .75, .5, .25, 0}));
  EXPECT_EQ(curve("roc(drop_intermediate=false,points=3)", "fpr"), (Numbers{0, .25, 1}));
}

}  // namespace
}  // namespace cupel
