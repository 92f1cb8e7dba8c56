// Error rates of classes, TAR at FAR and retrieval: small cases by hand, and plain counts.
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/multiprecision/cpp_int.hpp>
#include <cmath>
#include <random>

#include "metric/class_rates.hpp"
#include "metric/list.hpp"

namespace cupel {
namespace {

using Rational = boost::multiprecision::cpp_rational;

const Detail* find(const Detail::Object& object, std::string_view name) {
  for (const auto& [key, held] : object) {
    if (key == name) return &held;
  }
  return nullptr;
}
double number(const Detail::Object& object, std::string_view name) {
  const Detail* held = find(object, name);
  EXPECT_NE(held, nullptr) << name;
  if (held == nullptr) return -1;
  if (const auto* real = std::get_if<double>(&held->held())) return *real;
  return static_cast<double>(std::get<i64>(held->held()));
}
const Detail::Object& entry(const Detail::Object& object, std::string_view list, std::size_t i) {
  return std::get<Detail::Object>(std::get<Detail::List>(find(object, list)->held()).at(i).held());
}

MetricSpec spec_of(const std::string& text) {
  const auto specs = parse_metrics(text);
  EXPECT_TRUE(specs.ok()) << text;
  return (*specs)[0];
}
MetricValue value_of(const std::string& text, const VerificationEvidence& evidence) {
  const MetricSpec spec = spec_of(text);
  Evidence all;
  all.task = Task::kVerification;
  all.verification = &evidence;
  return spec.metric->finish(all, spec.options);
}

TEST(VerificationMetrics, Defaults) {
  std::vector<std::string> names;
  for (const MetricSpec& spec : default_metrics(Task::kVerification)) names.push_back(spec.name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"auroc", "eer", "eps_opis", "map_at_r", "opis",
                                             "r_precision", "recall_at_k", "tar_at_far"}));
}

// ---- rates of classes ---------------------------------------------------------------------------

/// Three classes with rates, the second label has one row.
struct Rates {
  std::vector<std::string> names{"ant", "bee", "cat", "dog"};
  std::vector<u64> rows{3, 1, 2, 4};
  ClassCurves curves{{0, 2, 3}, {0.75}, {2, 1, 3}, {1, 5, 0}, {3, 1, 6}, {21, 16, 24}};
  VerificationEvidence evidence;
  Rates() {
    evidence.rows = 10;
    evidence.pos = 10;
    evidence.neg = 35;
    evidence.class_names = names;
    evidence.class_rows = rows;
    evidence.curves = &curves;
    evidence.first = evidence.last = 0.75;
  }
  Rates(const Rates&) = delete;
  Rates& operator=(const Rates&) = delete;
};

// Would catch rates of the wrong pairs, indices of places in place of classes, and a sample
// deviation.
TEST(ClassRates, ByHand) {
  const Rates rates;
  const std::vector<ClassRate> far = class_rates(rates.evidence, true);
  const std::vector<ClassRate> frr = class_rates(rates.evidence, false);
  ASSERT_EQ(far.size(), 3u);
  EXPECT_EQ(far[1].cls, 2u);
  EXPECT_EQ(far[0].rate, 1. / 21);
  EXPECT_EQ(far[1].rate, 5. / 16);
  EXPECT_EQ(far[2].rate, 0);
  EXPECT_EQ(frr[0].rate, 1. / 3);
  EXPECT_EQ(frr[1].rate, 0);
  EXPECT_EQ(frr[2].rate, 0.5);

  const MetricValue mean = value_of("class_far", rates.evidence);
  EXPECT_DOUBLE_EQ(mean.number, (1. / 21 + 5. / 16) / 3);
  EXPECT_EQ(number(mean.details, "threshold"), 0.75);
  EXPECT_EQ(number(mean.details, "classes"), 3);
  EXPECT_EQ(number(mean.details, "classes_left_out"), 1);
  EXPECT_EQ(*find(entry(mean.details, "worst_classes", 0), "class"), Detail("cat"));
  EXPECT_EQ(number(entry(mean.details, "worst_classes", 0), "rows"), 2);
  EXPECT_EQ(number(entry(mean.details, "worst_classes", 0), "accepted"), 5);
  EXPECT_EQ(*find(entry(mean.details, "worst_classes", 2), "class"), Detail("dog"));

  EXPECT_DOUBLE_EQ(value_of("class_frr", rates.evidence).number, 5. / 18);
  EXPECT_EQ(value_of("far_spread", rates.evidence).number, 5. / 16);
  EXPECT_EQ(value_of("frr_spread", rates.evidence).number, 0.5);
  // Rates 1/3, 0, 1/2: mean 5/18, mean square 13/108, variance 14/324.
  EXPECT_NEAR(value_of("frr_spread(spread=std)", rates.evidence).number, std::sqrt(14.) / 18,
              1e-16);
}

TEST(ClassRates, NoneWithoutOneThreshold) {
  Rates rates;
  rates.curves.thresholds.clear();
  EXPECT_TRUE(class_rates(rates.evidence, true).empty());
  rates.evidence.curves = nullptr;
  EXPECT_TRUE(class_rates(rates.evidence, false).empty());
}

TEST(ClassRates, AsksForAThresholdOrARate) {
  const auto query = [](const std::string& text) {
    const MetricSpec spec = spec_of(text);
    return *spec.metric->needs(spec.options, Task::kVerification, 2, false)->verification->rates;
  };
  EXPECT_EQ(query("class_far"), (ClassRateQuery{std::nullopt, {1, 100}}));
  EXPECT_EQ(query("far_spread(far=0.001)"), (ClassRateQuery{std::nullopt, {1, 1000}}));
  EXPECT_EQ(query("class_frr(threshold=-0.25)").threshold, -0.25);
}

// ---- TAR at FAR ---------------------------------------------------------------------------------

// Every threshold tried. Would catch a threshold beyond the rate, and a resolution that is off by
// one negative.
TEST(TarAtFar, IsTheLoosestThresholdWithinTheRate) {
  std::mt19937_64 random(3);
  for (int trial = 0; trial < 60; ++trial) {
    SCOPED_TRACE(trial);
    std::vector<std::pair<u32, bool>> rows;
    Buffer<u32> keys[2];
    const u64 negatives = trial == 0 ? 10 : 1 + random() % 300;
    for (u64 i = 0; i < negatives + 50; ++i) {
      const auto key = static_cast<u32>(random() % (trial % 2 == 0 ? 20 : 100000) + 0x90000000u);
      rows.emplace_back(key, i >= negatives);
    }
    std::sort(rows.begin(), rows.end());
    for (const auto& [key, positive] : rows) keys[positive ? 1 : 0].push_back(key);
    const RankTable table(
        ScoreKind::kF32, false,
        KeyRuns<u32>{canonical_run(std::move(keys[1])), canonical_run(std::move(keys[0]))}, 50,
        negatives);
    for (const auto& [text, den] : {std::pair{"tar_at_far(far=0.1)", 10},
                                    {"tar_at_far", 1000},
                                    {"tar_at_far(far=0.01)", 100}}) {
      const MetricSpec spec = spec_of(text);
      const auto needs = spec.metric->needs(spec.options, Task::kBinary, 2, false);
      const RankSummary summary = summarise(table, needs->queries);
      Evidence evidence;
      evidence.ranks = &summary;
      const MetricValue value = spec.metric->finish(evidence, spec.options);
      ASSERT_EQ(std::get<Detail::List>(find(value.details, "table")->held()).size(), 6u);
      if (negatives < static_cast<u64>(den)) {
        EXPECT_EQ(value.undefined, Undefined::kNotResolved);
        EXPECT_EQ(number(value.details, "smallest_far"), 1.0 / static_cast<double>(negatives));
        continue;
      }
      u64 best = 0;
      u64 reached = 0;
      for (const auto& at : rows) {
        u64 tp = 0;
        u64 fp = 0;
        for (const auto& [key, positive] : rows) {
          if (key >= at.first) ++(positive ? tp : fp);
        }
        if (fp * static_cast<u64>(den) > negatives) continue;
        best = std::max(best, tp);
        reached = std::max(reached, fp);
      }
      EXPECT_EQ(value.number, static_cast<double>(best) / 50);
      EXPECT_EQ(number(value.details, "far_reached"),
                static_cast<double>(reached) / static_cast<double>(negatives));
    }
  }
}

TEST(TarAtFar, TableSaysWhatIsResolved) {
  // 200 negatives with scores 0 to 199, one positive above 190 of them.
  Buffer<u32> neg;
  for (u32 i = 0; i < 200; ++i) neg.push_back(key_of_f32(bits_from_float(static_cast<float>(i))));
  Buffer<u32> pos;
  pos.push_back(key_of_f32(bits_from_float(189.5F)));
  const RankTable table(ScoreKind::kF32, false,
                        KeyRuns<u32>{canonical_run(std::move(pos)), canonical_run(std::move(neg))},
                        1, 200);
  const MetricSpec spec = spec_of("tar_at_far(far=0.05)");
  const auto needs = spec.metric->needs(spec.options, Task::kVerification, 2, false);
  const RankSummary summary = summarise(table, needs->queries);
  VerificationEvidence pairs;
  Evidence evidence;
  evidence.ranks = &summary;
  evidence.verification = &pairs;
  const MetricValue value = spec.metric->finish(evidence, spec.options);
  EXPECT_EQ(value.number, 1);
  EXPECT_EQ(number(value.details, "far_reached"), 0.05);
  EXPECT_EQ(number(value.details, "distance"), 0 - number(value.details, "threshold"));
  const Detail::Object& tenth = entry(value.details, "table", 0);
  EXPECT_EQ(number(tenth, "far"), 0.1);
  EXPECT_EQ(number(tenth, "far_reached"), 0.1);
  EXPECT_EQ(*find(tenth, "resolved"), Detail(true));
  EXPECT_EQ(number(tenth, "threshold"), 180);
  const Detail::Object& hundredth = entry(value.details, "table", 1);
  EXPECT_EQ(number(hundredth, "tar"), 0);
  EXPECT_EQ(*find(hundredth, "resolved"), Detail(true));
  EXPECT_EQ(*find(entry(value.details, "table", 2), "resolved"), Detail(false));
}

// ---- retrieval ----------------------------------------------------------------------------------

// Random hit lists, the means as rationals. Would catch a mean over classes in place of queries,
// and more than one rounding.
TEST(Retrieval, MeansOverQueries) {
  std::mt19937_64 random(5);
  for (int trial = 0; trial < 30; ++trial) {
    SCOPED_TRACE(trial);
    RetrievalSums sums;
    sums.ks = {1, 2, 3, 4, 8, 10, 50};
    sums.found.resize(sums.ks.size());
    sums.alone = 3;
    Rational precision = 0;
    Rational hits = 0;
    const u64 queries = 1 + random() % 40;
    for (u64 q = 0; q < queries; ++q) {
      const u64 positives = 1 + random() % 9;
      RetrievalSums one;
      one.ks = sums.ks;
      one.found.resize(sums.ks.size());
      one.queries = 1;
      RetrievalSums::BySize size;
      size.positives = positives;
      size.queries = 1;
      u64 first = 60;
      for (u64 rank = 1; rank <= positives; ++rank) {
        if (random() % 3 != 0) continue;
        first = std::min(first, rank);
        ++size.hits;
        size.precision += (u128{size.hits} << 60) / rank;
        precision += Rational(size.hits, rank * positives);
        hits += Rational(1, positives);
      }
      for (std::size_t i = 0; i < sums.ks.size(); ++i) {
        one.found[i] = first <= static_cast<u64>(sums.ks[i]) ? 1 : 0;
      }
      one.by_size = {size};
      sums.merge(one);
    }
    VerificationEvidence evidence;
    evidence.rows = queries + 3;
    evidence.retrieval = &sums;
    // Of a precision each rank loses less than 2^-60.
    EXPECT_NEAR(value_of("map_at_r", evidence).number,
                static_cast<double>(precision / Rational(queries)), 1.2e-16);
    const Rational exact = hits / Rational(queries);
    EXPECT_EQ(value_of("r_precision", evidence).number, static_cast<double>(exact));
    const MetricValue third = value_of("recall_at_k(k=3)", evidence);
    EXPECT_EQ(third.number, static_cast<double>(sums.found[2]) / static_cast<double>(queries));
    EXPECT_EQ(number(third.details, "queries"), static_cast<double>(queries));
    EXPECT_EQ(number(third.details, "alone_in_class"), 3);
    EXPECT_EQ(number(entry(third.details, "recall", 4), "k"), 8);
    EXPECT_EQ(number(entry(third.details, "recall", 4), "recall"),
              static_cast<double>(sums.found[4]) / static_cast<double>(queries));
  }
}

TEST(Retrieval, NoQueriesNoValue) {
  RetrievalSums sums;
  VerificationEvidence evidence;
  evidence.retrieval = &sums;
  for (const char* name : {"recall_at_k", "map_at_r", "r_precision"}) {
    sums.alone = 0;
    EXPECT_EQ(value_of(name, evidence).undefined, Undefined::kEmpty) << name;
    sums.alone = 4;
    EXPECT_EQ(value_of(name, evidence).undefined, Undefined::kNoPositive) << name;
    EXPECT_EQ(number(value_of(name, evidence).details, "alone_in_class"), 4);
    evidence.scored = true;
    EXPECT_EQ(value_of(name, evidence).undefined, Undefined::kNotDefined) << name;
    evidence.scored = false;
  }
}

TEST(Retrieval, AsksForEveryDepthItShows) {
  const auto query = [](const std::string& text) {
    const MetricSpec spec = spec_of(text);
    return *spec.metric->needs(spec.options, Task::kVerification, 2, false)
                ->verification->retrieval;
  };
  EXPECT_EQ(query("recall_at_k(k=3)"), (RetrievalQuery{{1, 2, 3, 4, 8, 10}, false}));
  EXPECT_EQ(query("recall_at_k"), (RetrievalQuery{{1, 2, 4, 8, 10}, false}));
  EXPECT_EQ(query("map_at_r"), (RetrievalQuery{{}, true}));
}

// ---- rankings of pairs --------------------------------------------------------------------------

/// Pairs of one class at scores -1/4 and -1/2, of two at -3/4 and -1.
MetricValue of_four_pairs(const std::string& text, std::optional<PairDomain> domain) {
  const auto run = [](float near, float far) {
    Buffer<u32> keys;
    for (const float score : {far, near}) keys.push_back(key_of_f32(bits_from_float(score)));
    return canonical_run(std::move(keys));
  };
  const RankTable table(ScoreKind::kF32, false, KeyRuns<u32>{run(-0.25F, -0.5F), run(-0.75F, -1)},
                        2, 2);
  const MetricSpec spec = spec_of(text);
  const auto needs = spec.metric->needs(spec.options, Task::kVerification, 2, false);
  const RankSummary summary = summarise(table, needs->queries);
  VerificationEvidence pairs;
  pairs.domain = domain.value_or(PairDomain::kL2);
  Evidence evidence;
  evidence.task = domain ? Task::kVerification : Task::kBinary;
  evidence.ranks = &summary;
  evidence.table = &table;
  evidence.verification = domain ? &pairs : nullptr;
  return spec.metric->finish(evidence, spec.options);
}

// A threshold of the score is told as a distance too where it is one, and only there.
TEST(RankingOfPairs, TellsDistances) {
  const MetricValue ks = of_four_pairs("ks", PairDomain::kL2);
  EXPECT_EQ(ks.number, 1);
  EXPECT_EQ(number(ks.details, "threshold"), -0.5);
  EXPECT_EQ(number(ks.details, "distance"), 0.5);
  EXPECT_EQ(find(of_four_pairs("ks", PairDomain::kCosine).details, "distance"), nullptr);
  EXPECT_EQ(find(of_four_pairs("ks", std::nullopt).details, "distance"), nullptr);

  // The first point accepts nothing: there is no such distance.
  const MetricValue roc = of_four_pairs("roc(drop_intermediate=false)", PairDomain::kL2);
  const Detail* distances = find(roc.details, "distances");
  ASSERT_NE(distances, nullptr);
  EXPECT_EQ(*distances, Detail(Detail::List{Detail(), 0.25, 0.5, 0.75, 1.0}));
  EXPECT_EQ(find(of_four_pairs("roc", std::nullopt).details, "distances"), nullptr);
}

}  // namespace
}  // namespace cupel
