// From prepared rows to results: an embedding and the list of its pairs with distances are one
// thing, a group is its rows alone, and neither shards nor the order of rows matter.
#include "eval/compute_verification.hpp"

#include <gtest/gtest.h>

#include <map>

#include "cupel/backend/choose.hpp"
#include "eval/pair_dumps.hpp"
#include "random_rows.hpp"

namespace cupel {
namespace {

constexpr const char* kCurves =
    "opis,opis(rule=trapezoid),opis(rule=exact),opis(far_range=0.2:0.5),"
    "opis(d_range=0.4:1.2,rule=exact),eps_opis,eps_opis(rule=exact,rank=range,power=1),"
    "class_far,class_frr(far=0.2),far_spread(threshold=0.9),frr_spread";
constexpr const char* kRanks = "auroc,eer,tar_at_far(far=0.1)";
constexpr const char* kRetrieval = "recall_at_k(k=2),map_at_r,r_precision";

std::vector<EvalResult> compute(std::span<const PreparedTable> parts, const std::string& metrics,
                                ComputeRequest request = {}) {
  BackendChoice choice;
  choice.name = "cpu";
  choice.threads = 2;
  auto backend = choose_backend(choice);
  EXPECT_TRUE(backend.ok());
  auto parsed = parse_metrics(metrics);
  EXPECT_TRUE(parsed.ok()) << (parsed.ok() ? "" : parsed.error().text());
  request.metrics = std::move(*parsed);
  request.threads = 2;
  std::vector<std::string> states;
  auto results = compute_results(parts, request, **backend, states);
  EXPECT_TRUE(results.ok()) << (results.ok() ? "" : results.error().text());
  if (!results) return {};
  return std::move(*results);
}

std::vector<EvalResult> compute(const PreparedPairs& pairs, const std::string& metrics,
                                const ComputeRequest& request = {}) {
  return compute(std::span(&pairs.table, 1), metrics, request);
}

Detail detail(const EvalResult& result, const std::string& name) {
  for (const auto& [key, value] : result.details) {
    if (key == name) return value;
  }
  return {};
}

/// Everything but how it was found.
void expect_equal(const std::vector<EvalResult>& a, const std::vector<EvalResult>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    SCOPED_TRACE(std::to_string(i) + " " + a[i].metric);
    EXPECT_EQ(a[i].value, b[i].value);
    EXPECT_EQ(a[i].undefined, b[i].undefined);
    EXPECT_EQ(a[i].cls, b[i].cls);
    EXPECT_EQ(a[i].n, b[i].n);
    EXPECT_EQ(a[i].n_pos, b[i].n_pos);
    EXPECT_EQ(a[i].n_neg, b[i].n_neg);
    for (const char* name : {"mean_utility", "range", "pairs_in_range"}) {
      EXPECT_EQ(detail(a[i], name), detail(b[i], name)) << name;
    }
    // The threshold just stricter than a float64 lies nearer to it than that of a float32.
    const Detail threshold = detail(a[i], "threshold");
    if (const double* own = std::get_if<double>(&threshold.held())) {
      const Detail other = detail(b[i], "threshold");
      EXPECT_NEAR(*own, std::get<double>(other.held()), 2e-7);
    }
  }
}

struct Rows {
  std::vector<float> values;
  std::vector<i64> labels, ids;
  std::vector<std::string> sexes;
  i64 width = 0;

  Rows() = default;
  explicit Rows(const RandomRows& rows) : width(rows.view.width) {
    for (i64 i = 0; i < rows.view.rows; ++i) {
      values.insert(values.end(), rows.view.row(i), rows.view.row(i) + width);
      labels.push_back(rows.view.classes[i]);
      ids.push_back(i);
      sexes.emplace_back(i % 3 == 0 ? "f" : "m");
    }
  }
  Rows taken(const std::vector<std::size_t>& order) const {
    Rows some;
    some.width = width;
    for (const std::size_t i : order) {
      const auto first = values.begin() + static_cast<std::ptrdiff_t>(i) * width;
      some.values.insert(some.values.end(), first, first + width);
      some.labels.push_back(labels[i]);
      some.ids.push_back(ids[i]);
      some.sexes.push_back(sexes[i]);
    }
    return some;
  }
  PreparedPairs prepared(const EvalRequest& request = {}) const {
    Arrays arrays;
    arrays.floats("embedding", values, width).integers("label", labels).integers("id", ids);
    arrays.texts("sex", sexes);
    auto made = prepare_pairs(arrays, request);
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().text());
    return std::move(*made);
  }
};

const std::vector<i64> kShape{20, 1, 14, 9, 1, 2, 16};

TEST(ComputeVerificationTest, PairsWithDistancesAreTheEmbedding) {
  const RandomRows rows(PairDomain::kL2, kShape, 4, 3);
  const std::string metrics = std::string(kCurves) + "," + kRanks;
  ComputeRequest request;
  request.normalize_embedding = false;  // they are normalised already
  request.by_class = true;
  const auto of_rows = compute(Rows(rows).prepared(), metrics, request);
  std::vector<float> distances;
  std::vector<double> wide;
  std::vector<i64> a, b;
  for (const PlainPair& pair : plain_pairs(rows.view)) {
    distances.push_back(pair.value);
    wide.push_back(static_cast<double>(pair.value));
    a.push_back(pair.b);  // either side first
    b.push_back(pair.a);
  }
  ComputeRequest scored;
  scored.by_class = true;
  for (const bool is_wide : {false, true}) {
    Arrays arrays;
    is_wide ? arrays.doubles("distance", wide) : arrays.floats("distance", distances);
    arrays.integers("class_a", a).integers("class_b", b);
    const auto pairs = prepare_pairs(arrays);
    ASSERT_TRUE(pairs.ok()) << pairs.error().text();
    expect_equal(of_rows, compute(*pairs, metrics, scored));
  }
}

TEST(ComputeVerificationTest, SimilaritiesAreTheCosine) {
  const RandomRows rows(PairDomain::kCosine, kShape, 4, 5);
  const std::string metrics =
      "opis,opis(rule=exact),opis(d_range=-0.2:0.8,rule=exact),class_far,class_frr(threshold=0."
      "4)"
      ","
      "auroc,eer,tar_at_far(far=0.1)";
  ComputeRequest request;
  request.normalize_embedding = false;
  request.domain = PairDomain::kCosine;
  const auto of_rows = compute(Rows(rows).prepared(), metrics, request);
  Arrays arrays;
  std::vector<float> scores;
  std::vector<i64> a, b;
  for (const PlainPair& pair : plain_pairs(rows.view)) {
    scores.push_back(pair.value);
    a.push_back(pair.a);
    b.push_back(pair.b);
  }
  arrays.floats("score", scores).integers("class_a", a).integers("class_b", b);
  const auto pairs = prepare_pairs(arrays);
  ASSERT_TRUE(pairs.ok()) << pairs.error().text();
  expect_equal(of_rows, compute(*pairs, metrics));
}

TEST(ComputeVerificationTest, AGroupIsItsRowsAlone) {
  const RandomRows random(PairDomain::kL2, kShape, 4, 7);
  const Rows rows(random);
  const std::string metrics = std::string("opis,class_far,") + kRanks + "," + kRetrieval;
  EvalRequest grouped;
  grouped.roles.groups = {"sex"};
  ComputeRequest request;
  request.group_columns = {"sex"};
  const auto results = compute(rows.prepared(grouped), metrics, request);
  std::map<std::string, std::vector<EvalResult>> by_group;
  for (const EvalResult& result : results) {
    by_group[result.group.empty() ? "" : result.group[0].second].push_back(result);
  }
  ASSERT_EQ(by_group.size(), 3U);
  for (const std::string sex : {"", "f", "m"}) {
    SCOPED_TRACE(sex);
    std::vector<std::size_t> own;
    for (std::size_t i = 0; i < rows.sexes.size(); ++i) {
      if (sex.empty() || rows.sexes[i] == sex) own.push_back(i);
    }
    expect_equal(by_group[sex], compute(rows.taken(own).prepared(), metrics));
  }
  const Detail groups = detail(results.front(), "groups");
  const auto& sexes =
      std::get<Detail::Object>(std::get<Detail::Object>(groups.held())[0].second.held());
  for (const auto& [name, value] : sexes) {
    if (name == "rows_in_no_group") {
      EXPECT_EQ(value, Detail(i64{0}));
    }
  }
}

TEST(ComputeVerificationTest, ShardsAndOrderDoNotMatter) {
  const RandomRows random(PairDomain::kL2, kShape, 3, 13);
  const Rows rows(random);
  EvalRequest prepare;
  prepare.roles.id = "id";
  const std::string metrics = std::string(kCurves) + "," + kRanks + "," + kRetrieval;
  const auto whole = compute(rows.prepared(prepare), metrics);
  std::vector<std::size_t> order(rows.labels.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::mt19937_64 draws(4);
  std::shuffle(order.begin(), order.end(), draws);
  expect_equal(whole, compute(rows.taken(order).prepared(prepare), metrics));
  const auto cut = order.begin() + 17;
  PreparedPairs first = rows.taken({order.begin(), cut}).prepared(prepare);
  PreparedPairs second = rows.taken({cut, order.end()}).prepared(prepare);
  std::vector<PreparedTable> parts;
  parts.push_back(std::move(first.table));
  parts.push_back(std::move(second.table));
  expect_equal(whole, compute(parts, metrics));
}

TEST(ComputeVerificationTest, MemoryDoesNotMatter) {
  const RandomRows random(PairDomain::kL2, kShape, 3, 17);
  const Rows rows(random);
  const std::string metrics = std::string(kCurves) + "," + kRetrieval;
  const auto whole = compute(rows.prepared(), metrics);
  for (const i64 memory : {1, 1000, 20'000}) {
    ComputeRequest request;
    request.memory = memory;
    expect_equal(whole, compute(rows.prepared(), metrics, request));
  }
}

TEST(ComputeVerificationTest, DomainsOfMetricsAreTheirOwn) {
  const RandomRows random(PairDomain::kL2, kShape, 3, 19);
  const Rows rows(random);
  const auto mixed = compute(rows.prepared(), "opis,opis(domain=cosine),opis(normalize=false)");
  ASSERT_EQ(mixed.size(), 3U);
  ComputeRequest cosine;
  cosine.domain = PairDomain::kCosine;
  EXPECT_EQ(mixed[1].value, compute(rows.prepared(), "opis", cosine)[0].value);
  EXPECT_NE(mixed[1].value, mixed[0].value);
}

TEST(ComputeVerificationTest, WhatPairsWithScoresDoNotHave) {
  Arrays arrays;
  arrays.floats("score", {0.9F, 0.1F, 0.4F}).integers("label", {1, 0, 1});
  EvalRequest verification;
  verification.task = Task::kVerification;
  const auto pairs = prepare_pairs(arrays, verification);
  ASSERT_TRUE(pairs.ok()) << pairs.error().text();
  BackendChoice choice;
  choice.name = "cpu";
  const auto backend = choose_backend(choice);
  const auto problem = [&](const std::string& metrics) {
    ComputeRequest request;
    request.metrics = *parse_metrics(metrics);
    std::vector<std::string> states;
    const auto results = compute_results(std::span(&pairs->table, 1), request, **backend, states);
    return results.ok() ? std::string() : results.error().text();
  };
  EXPECT_EQ(problem("auroc"), "");
  EXPECT_NE(problem("map_at_r").find("nearest rows"), std::string::npos);
  EXPECT_NE(problem("opis").find("--class-a"), std::string::npos);
}

TEST(ComputeVerificationTest, ValuesOfClasses) {
  const RandomRows random(PairDomain::kL2, kShape, 3, 23);
  ComputeRequest request;
  request.by_class = true;
  const auto results = compute(Rows(random).prepared(), "class_far,opis", request);
  // Classes 1 and 4 have one row.
  ASSERT_EQ(results.size(), 1U + 5U + 1U);
  double sum = 0;
  std::vector<i64> classes;
  for (std::size_t i = 1; i < 6; ++i) {
    classes.push_back(results[i].cls.value());
    sum += results[i].value;
  }
  EXPECT_EQ(classes, (std::vector<i64>{0, 2, 3, 5, 6}));
  EXPECT_NEAR(results[0].value, sum / 5, 1e-15);
}

}  // namespace
}  // namespace cupel
