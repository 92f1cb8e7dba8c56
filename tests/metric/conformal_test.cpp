// Which calibration score is the threshold, against the table of METRICS 4.1 and a search through
// all ranks; and how the choices of a command become metrics.
#include "cupel/metric/conformal.hpp"

#include <gtest/gtest.h>

#include "cupel/metric/metric.hpp"

namespace cupel {
namespace {

constexpr QuantileRule kRules[]{QuantileRule::kExact,    QuantileRule::kNumpyHigher,
                                QuantileRule::kMapieCls, QuantileRule::kMapieReg,
                                QuantileRule::kPuncc,    QuantileRule::kCrepes};

// 0: infinite, or an error of the library. At 99 and .45 numpy's, MAPIE's regression and puncc take
// one more, because they compute 55 in doubles that come out a little above it.
TEST(QuantileRank, TableOfTheLibraries) {
  const struct {
    i64 n;
    Fraction alpha;
    i64 ranks[6];
  } rows[]{
      {8, {1, 10}, {0, 0, 0, 0, 0, 0}},         {9, {1, 10}, {9, 9, 0, 0, 9, 0}},
      {19, {1, 10}, {18, 19, 19, 18, 18, 19}},  {99, {1, 10}, {90, 91, 91, 90, 90, 91}},
      {100, {1, 10}, {91, 92, 91, 91, 91, 91}}, {1000, {1, 10}, {901, 902, 901, 901, 901, 901}},
      {19, {5, 100}, {19, 19, 0, 0, 19, 19}},   {99, {45, 100}, {55, 56, 56, 55, 55, 56}},
  };
  for (const auto& row : rows) {
    for (std::size_t rule = 0; rule < 6; ++rule) {
      EXPECT_EQ(quantile_rank(kRules[rule], row.n, row.alpha), row.ranks[rule])
          << row.n << " rule " << rule;
    }
  }
}

// Would catch a rounding of (n + 1)(1 - alpha) that is one off: every rank is tried.
TEST(QuantileRank, IsTheFirstRankThatReachesTheLevel) {
  for (const Fraction alpha : {Fraction{1, 10}, Fraction{45, 100}, Fraction{5, 100},
                               Fraction{9, 10}, Fraction{1, 1000}, Fraction{123456, 1000000}}) {
    const i64 num = static_cast<i64>(alpha.num);
    const i64 den = static_cast<i64>(alpha.den);
    for (i64 n = 1; n <= 1200; ++n) {
      i64 k = 1;
      while (k * den < (n + 1) * (den - num)) ++k;
      const bool known = k <= n;
      EXPECT_EQ(quantile_rank(QuantileRule::kExact, n, alpha), known ? k : 0);
      EXPECT_EQ(quantile_rank(QuantileRule::kPuncc, n, alpha), known ? k : 0);
      i64 higher = 1;  // position r - 1 from 0 reaches k / n (n - 1)
      while ((higher - 1) * n < k * (n - 1)) ++higher;
      EXPECT_EQ(quantile_rank(QuantileRule::kNumpyHigher, n, alpha), known ? higher : 0) << n;
      const bool enough = n * num >= den && n * (den - num) >= den;
      EXPECT_EQ(quantile_rank(QuantileRule::kMapieReg, n, alpha), enough ? k : 0);
      i64 unrounded = 1;
      while ((unrounded - 1) * n * den < (n + 1) * (den - num) * (n - 1)) ++unrounded;
      EXPECT_EQ(quantile_rank(QuantileRule::kMapieCls, n, alpha), enough ? unrounded : 0) << n;
    }
  }
}

// More rows and digits than 64 bits hold.
TEST(QuantileRank, LargeNumbersAreExact) {
  const Fraction alpha{1, 1'000'000'000'000'000'000u};
  EXPECT_EQ(quantile_rank(QuantileRule::kExact, i64{1} << 60, alpha), i64{1} << 60);
  EXPECT_EQ(quantile_rank(QuantileRule::kMapieCls, i64{1} << 60, alpha), i64{1} << 60);
  EXPECT_EQ(quantile_rank(QuantileRule::kExact, 999'999'999'999'999'998, alpha), 0);
  EXPECT_EQ(quantile_rank(QuantileRule::kExact, 999'999'999'999'999'999, alpha),
            999'999'999'999'999'999);
}

std::string texts_of(const std::string& metrics, const ConformalChoices& choices) {
  std::vector<MetricSpec> specs;
  if (!metrics.empty()) specs = *parse_metrics(metrics);
  const auto chosen = with_conformal(std::move(specs), choices);
  if (!chosen) return chosen.error().text();
  std::string text;
  for (const MetricSpec& spec : *chosen) {
    text += (text.empty() ? "" : " ") + spec.name;
    for (const char* name : {"conformal", "alpha", "quantile", "empty"}) {
      if (spec.options.has(name)) text += ":" + std::string(spec.options.text(name));
    }
  }
  return text;
}

TEST(WithConformal, CombinesWhatWasNotGiven) {
  EXPECT_EQ(texts_of("auroc", {}), "auroc");
  EXPECT_EQ(texts_of("", {}), "");
  EXPECT_EQ(texts_of("", {{}, {"0.2"}, "", ""}),
            "coverage:lac:0.2:exact:keep set_size:lac:0.2:exact:keep");
  EXPECT_EQ(texts_of("ece,set_size", {{"lac", "aps"}, {"0.1", "0.05"}, "crepes", "argmax"}),
            "ece set_size:lac:0.1:crepes:argmax set_size:lac:0.05:crepes:argmax "
            "set_size:aps:0.1:crepes:argmax set_size:aps:0.05:crepes:argmax");
  EXPECT_EQ(texts_of("coverage(alpha=0.3,quantile=puncc),coverage",
                     {{"topk"}, {"0.1", "0.3", "0.1"}, "", ""}),
            "coverage:topk:0.3:puncc:keep coverage:topk:0.1:exact:keep "
            "coverage:topk:0.3:exact:keep");
}

// An interval metric has no score unless it is given one, and is combined all the same.
TEST(WithConformal, CombinesMetricsOfIntervals) {
  EXPECT_EQ(
      texts_of("interval_width,abstention_policy,mae",
               {{"absolute", "cqr"}, {"0.1", "0.2"}, "", "argmax"}),
      "interval_width:absolute:0.1:exact interval_width:absolute:0.2:exact "
      "interval_width:cqr:0.1:exact interval_width:cqr:0.2:exact abstention_policy:exact mae");
}

// Scores with options of their own, cut at commas as the command line does.
TEST(WithConformal, ScoresMayHaveOptions) {
  const auto specs = with_conformal(
      *parse_metrics("coverage,set_size(ties=index)"),
      {{"aps", "raps(lambda=0.1", "k_reg=1", "ties=group", "alpha=0.2)"}, {"0.1", "0.3"}, "", ""});
  ASSERT_TRUE(specs.ok()) << specs.error().text();
  ASSERT_EQ(specs->size(), 6u);
  for (const std::size_t i : {2u, 5u}) {
    const Options& options = (*specs)[i].options;
    EXPECT_EQ(options.text("conformal"), "raps");
    EXPECT_EQ(options.text("alpha"), "0.2");
    EXPECT_EQ(options.text("lambda"), "0.1");
    EXPECT_EQ(options.text("k_reg"), "1");
    EXPECT_EQ(options.text("ties"), i == 2 ? "group" : "index");  // its own comes first
  }
  EXPECT_EQ((*specs)[1].options.text("alpha"), "0.3");
  EXPECT_EQ((*specs)[1].options.text("ties"), "index");
  EXPECT_EQ(texts_of("coverage", {{"raps(lambda=0.1"}, {}, "", ""}),
            "'(' without ')' in 'raps(lambda=0.1'");
  EXPECT_EQ(texts_of("coverage", {{"raps(lamda=0.1)"}, {}, "", ""}),
            "'coverage' has no option 'lamda'; did you mean 'lambda'?");
  EXPECT_EQ(texts_of("coverage", {{"aps(row)"}, {}, "", ""}),
            "option 'row' of 'aps' has no value; write name=value");
}

TEST(WithConformal, RefusesWithTheNextStep) {
  EXPECT_EQ(texts_of("coverage", {{"asp"}, {}, "", ""}),
            "unknown --conformal 'asp', did you mean 'aps'?");
  EXPECT_EQ(texts_of("coverage", {{}, {}, "exat", ""}),
            "unknown --quantile 'exat', did you mean 'exact'?");
  EXPECT_EQ(texts_of("coverage", {{}, {}, "", "drop"}),
            "unknown --empty 'drop'; one of keep, argmax");
  for (const char* alpha : {"0", "1", "1.5", "abc", "", "-0.1", "nan"}) {
    EXPECT_EQ(
        texts_of("coverage", {{}, {alpha}, "", ""}),
        "--alpha '" + std::string(alpha) +
            "' is not a decimal between 0 and 1; give the share of labels that may be missed, "
            "such as 0.1");
  }
  EXPECT_EQ(texts_of("auroc", {{}, {"0.1"}, "", ""}),
            "--conformal, --alpha, --quantile and --empty are for metrics of sets; add coverage, "
            "set_size or interval_width to --metrics");
}

TEST(WithConformal, ScoresOfIntervalsChooseIntervals) {
  EXPECT_EQ(texts_of("", {{"cqr", "absolute"}, {}, "", ""}),
            "coverage:cqr:0.1:exact:keep coverage:absolute:0.1:exact:keep "
            "interval_width:cqr:0.1:exact interval_width:absolute:0.1:exact");
  EXPECT_EQ(texts_of("interval_width", {{}, {"0.2"}, "", "argmax"}), "interval_width:0.2:exact")
      << "intervals have no --empty";
  const auto chosen = with_conformal({}, {{}, {"0.2"}, "", ""}, Task::kRegression);
  ASSERT_TRUE(chosen.ok());
  ASSERT_EQ(chosen->size(), 2u);
  EXPECT_EQ((*chosen)[1].name, "interval_width");
  EXPECT_EQ(
      texts_of("set_size", {{"cqr"}, {}, "", ""}),
      "option 'conformal' of 'set_size' is 'cqr'; expected one of lac, aps, raps, saps, topk, "
      "margin");
  // What a metric was given itself stays, options of its own too.
  const auto own = with_conformal(*parse_metrics("cwc(eta=3,mode=group)"), {{"cqr"}, {}, "", ""});
  ASSERT_TRUE(own.ok());
  EXPECT_EQ((*own)[0].options.text("eta"), "3");
  EXPECT_EQ((*own)[0].options.text("mode"), "group");
}

/// A field of the details.
Detail field(const MetricValue& value, std::string_view name) {
  for (const auto& [key, detail] : value.details) {
    if (key == name) return detail;
  }
  ADD_FAILURE() << "no field " << name;
  return {};
}

double number(const Detail& detail, std::string_view name) {
  for (const auto& [key, value] : std::get<Detail::Object>(detail.held())) {
    if (key == name) return std::get<double>(value.held());
  }
  return -1;
}

// Intervals and laws from scipy 1.17: binomtest(7, 10).proportion_ci(method="exact") and
// beta(901, 100).
TEST(Coverage, TellsIntervalAndLaw) {
  const MetricSpec spec = parse_metrics("coverage")->front();
  SetSums sums;
  sums.resize(3);
  for (int i = 0; i < 10; ++i) sums.add(1 + i % 2, i < 7, 0, 1);
  const ConformalThreshold threshold{1000, 901, kConformalOne / 4};
  Evidence evidence;
  evidence.conformal = {&threshold, &sums, false};
  const MetricValue value = spec.metric->finish(evidence, spec.options);
  EXPECT_EQ(value.number, 0.7);
  EXPECT_EQ(field(value, "qhat"), Detail(0.25));
  EXPECT_EQ(field(value, "target"), Detail(0.9));
  const auto interval = std::get<Detail::List>(field(value, "interval").held());
  EXPECT_NEAR(std::get<double>(interval[0].held()), 0.3475471499399921, 1e-12);
  EXPECT_NEAR(std::get<double>(interval[1].held()), 0.9332604888222655, 1e-12);
  const Detail law = field(value, "beta_law");
  EXPECT_EQ(number(law, "mean"), 901. / 1001);
  EXPECT_NEAR(number(law, "q05"), 0.884075488583474, 1e-12);
  EXPECT_NEAR(number(law, "q95"), 0.9152152323315307, 1e-12);
}

// Results say how ties rank, what is drawn and by which seed, given or not.
TEST(Coverage, ParamsNameWhatTakesEffect) {
  const auto params = [](const char* text) {
    const MetricSpec spec = parse_metrics(text)->front();
    Evidence evidence;
    evidence.conformal.seed = 7;
    std::string shown;
    for (const auto& [name, value] : spec.metric->params(spec.options, evidence)) {
      const auto* word = std::get_if<std::string>(&value.held());
      if (word != nullptr) shown += name + "=" + *word + " ";
      if (name == "seed") shown += "seed=" + std::to_string(std::get<i64>(value.held()));
    }
    return shown;
  };
  EXPECT_EQ(params("coverage"),
            "conformal=lac quantile=exact empty=keep ties=index randomised=none mode=marginal ");
  EXPECT_EQ(params("coverage(conformal=aps,randomised=label,ties=group)"),
            "conformal=aps quantile=exact empty=keep ties=group randomised=label mode=marginal "
            "seed=7");
  EXPECT_EQ(params("set_size(mode=cluster)"),
            "conformal=lac quantile=exact empty=keep ties=index randomised=none mode=cluster "
            "null_cluster=marginal seed=7");
}

TEST(SetSize, TellsSizesMedianAndEmptySets) {
  const MetricSpec spec = parse_metrics("set_size(conformal=topk)")->front();
  SetSums sums;
  sums.resize(5);
  for (const i64 size : {0, 1, 1, 3, 5, 5}) sums.add(size, size != 0, 0, 1);
  const ConformalThreshold threshold{100, 91, 3 * kRankOne};
  Evidence evidence;
  evidence.conformal = {&threshold, &sums, false};
  const MetricValue value = spec.metric->finish(evidence, spec.options);
  EXPECT_EQ(value.number, 2.5);
  EXPECT_EQ(field(value, "qhat"), Detail(3.0));
  EXPECT_EQ(field(value, "median_size"), Detail(2.0));
  EXPECT_EQ(field(value, "empty_sets"), Detail(1));
  EXPECT_EQ(field(value, "singletons"), Detail(2));
  EXPECT_EQ(std::get<Detail::List>(field(value, "sizes").held()).size(), 4u);
}

}  // namespace
}  // namespace cupel
