// Parts of conformal sets by mode that small tables do not show: selections of many scores, shares
// and clusters of classes, sums of weights, keys of rows in any file, and laws of coverage.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "cupel/eval/evaluate.hpp"
#include "eval/class_clusters.hpp"
#include "eval/select_ranks.hpp"
#include "eval/weighted_scores.hpp"
#include "io/fixtures.hpp"
#include "metric/exact.hpp"
#include "support/rank_data.hpp"

namespace cupel {
namespace {

// Would catch a bin that is off by one, a range that does not narrow, a value that is lost.
TEST(SelectRanks, EqualsASort) {
  test::Draws draws(5);
  constexpr i64 kLeast = std::numeric_limits<i64>::min();
  constexpr i64 kMost = std::numeric_limits<i64>::max();
  const std::vector<std::pair<const char*, std::function<i64()>>> shapes{
      {"any", [&] { return static_cast<i64>(draws.next()); }},
      {"unit", [&] { return static_cast<i64>(draws.next() >> 16); }},
      {"equal", [&] { return i64{-7}; }},
      {"ranks", [&] { return static_cast<i64>(draws.below(5)) << 32; }},
      {"ends", [&] { return draws.below(3) == 0   ? kLeast
                            : draws.below(2) == 0 ? kMost
                                                  : 0; }},
      {"near one", [&] { return (i64{1} << 48) - static_cast<i64>(draws.below(1000)); }},
      {"mostly one",
       [&] { return draws.below(50) == 0 ? static_cast<i64>(draws.next() >> 16) : i64{1} << 47; }}};
  for (const auto& [name, draw] : shapes) {
    for (const std::size_t count : {1u, 3u, 20'000u, 300'001u}) {
      std::vector<i64> values(count);
      for (i64& value : values) value = draw();
      std::vector<i64> sorted = values;
      std::sort(sorted.begin(), sorted.end());
      std::vector<i64> ranks{1, static_cast<i64>(count)};
      for (int i = 0; i < 5; ++i) ranks.push_back(1 + static_cast<i64>(draws.below(count)));
      std::sort(ranks.begin(), ranks.end());
      ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        const std::vector<i64> found = values_of_ranks(values, ranks, pool);
        ASSERT_EQ(found.size(), ranks.size());
        for (std::size_t i = 0; i < ranks.size(); ++i) {
          EXPECT_EQ(found[i], sorted[static_cast<std::size_t>(ranks[i] - 1)])
              << name << " rank " << ranks[i] << " of " << count;
        }
        EXPECT_TRUE(values_of_ranks(values, {}, pool).empty());
      }
    }
  }
}

// By the heuristic of Ding et al.: n_alpha from ceil((n + 1)(1 - alpha)) <= n by trying.
TEST(ClassClusters, PlanIsThePapers) {
  for (const Fraction alpha : {Fraction{1, 10}, Fraction{5, 100}, Fraction{4, 10}, Fraction{3, 10},
                               Fraction{9, 10}, Fraction{1, 1000}}) {
    const std::vector<i64> rows(20, 5000);
    i64 n = 1;
    const i64 num = static_cast<i64>(alpha.num);
    const i64 den = static_cast<i64>(alpha.den);
    while ((n + 1) * (den - num) > n * den) ++n;
    EXPECT_EQ(plan_clusters(rows, alpha).n_alpha, n) << num << "/" << den;
  }
  const ClusterPlan even = plan_clusters(std::vector<i64>(100, 50), {1, 10});
  EXPECT_EQ(even.n_min, 50);
  EXPECT_EQ(even.n_clust, 28);  // 50 * 100 / 175
  EXPECT_EQ(even.clusters, 14);
  std::vector<i64> gap(100, 50);
  gap[3] = 0;
  const ClusterPlan uneven = plan_clusters(gap, {1, 10});
  EXPECT_EQ(uneven.n_min, 9);
  EXPECT_EQ(uneven.n_clust, 5);  // 9 * 99 / 174
  EXPECT_EQ(uneven.clusters, 2);
}

TEST(ClassClusters, ShareIsDrawnByKey) {
  const ClusterPlan plan = plan_clusters(std::vector<i64>(100, 50), {1, 10});
  i64 drawn = 0;
  for (u64 key = 0; key < 100'000; ++key) drawn += is_for_clusters(plan, 3, key) ? 1 : 0;
  EXPECT_NEAR(static_cast<double>(drawn), 56'000, 5 * std::sqrt(100'000 * .56 * .44));  // 6e-7
}

ClassClusters clusters_of(const std::vector<std::vector<i64>>& classes, const ClusterPlan& plan,
                          u64 seed = 1) {
  std::vector<i64> scores;
  std::vector<i64> first{0};
  for (const auto& own : classes) {
    scores.insert(scores.end(), own.begin(), own.end());
    first.push_back(static_cast<i64>(scores.size()));
  }
  return cluster_classes(plan, scores, first, seed);
}

// Three levels of scores far apart, whatever the seed; classes with too few rows are in none.
TEST(ClassClusters, FindsWhatIsApart) {
  std::vector<std::vector<i64>> classes;
  test::Draws draws(8);
  for (i64 c = 0; c < 30; ++c) {
    std::vector<i64> own;
    for (int i = 0; i < 12; ++i) {
      own.push_back(((2 - c % 3) << 45) + static_cast<i64>(draws.below(u64{1} << 40)));
    }
    classes.push_back(own);
  }
  classes[4].resize(8);
  classes.emplace_back();
  ClusterPlan plan{9, 50, 7, 3};
  for (u64 seed = 0; seed < 20; ++seed) {
    const ClassClusters found = clusters_of(classes, plan, seed);
    ASSERT_EQ(found.count, 3u);
    for (u32 c = 0; c < 31; ++c) {
      EXPECT_EQ(found.of_class[c], c == 4 || c == 30 ? 3 : c % 3) << "class " << c;
    }
  }
  plan.clusters = 1;
  const ClassClusters none = clusters_of(classes, plan);
  EXPECT_EQ(none.count, 0u);
  EXPECT_EQ(none.of_class, std::vector<u32>(31, 0));
  plan.clusters = 40;
  const ClassClusters all = clusters_of(classes, plan);
  EXPECT_EQ(all.count, 29u);
  EXPECT_EQ(all.of_class[3], 3u);
  EXPECT_EQ(all.of_class[4], 29u);
  EXPECT_EQ(all.of_class[5], 4u);
}

// Against products of 256 bits; would catch a share that overflows or is rounded down.
TEST(WeightedScores, ThresholdIsExact) {
  test::Draws draws(31);
  for (int round = 0; round < 300; ++round) {
    const int bits = round % 2 == 0 ? 4 : 120;
    const auto mass = [&] {
      const u128 wide = (static_cast<u128>(draws.next()) << 64) | draws.next();
      return draws.below(5) == 0 ? u128{0} : wide >> (128 - bits);
    };
    std::vector<ScoredMass> rows;
    const u64 count = 1 + draws.below(20);
    for (u64 i = 0; i < count; ++i) rows.push_back({static_cast<i64>(draws.below(12)) - 3, mass()});
    rows.push_back({5, 1});
    const auto weighted = WeightedScores::make(rows);
    ASSERT_TRUE(weighted.ok());
    for (const Fraction alpha : {Fraction{1, 10}, Fraction{1, 2}, Fraction{9, 10},
                                 Fraction{1, 1'000'000'000'000'000'000}}) {
      const u128 own = mass();
      i64 expected = kEveryLabel;
      exact::Integer all = exact::integer(own);
      for (const ScoredMass& row : rows) all += exact::integer(row.mass);
      for (i64 s = 12; s >= -3; --s) {
        exact::Integer through = 0;
        bool is_score = false;
        for (const ScoredMass& row : rows) {
          through += row.score <= s ? exact::integer(row.mass) : exact::Integer(0);
          is_score = is_score || (row.score == s && row.mass != 0);
        }
        if (is_score && through * alpha.den >= all * (alpha.den - alpha.num)) expected = s;
      }
      EXPECT_EQ(weighted->threshold(own, alpha), expected);
    }
  }
  const u128 half = u128{1} << 126;
  EXPECT_FALSE(WeightedScores::make({{1, half}, {2, half}}).ok());
}

// ---- whole evaluations --------------------------------------------------------------------------

/// Rows of three classes; `ids` empty: known by their position.
struct Rows {
  std::vector<double> probs;
  std::vector<i64> labels;
  std::vector<u8> calibration;
  std::vector<i64> groups;
  std::vector<i64> ids;

  void add(const std::vector<double>& p, i64 label, bool is_calibration, i64 group = 0) {
    probs.insert(probs.end(), p.begin(), p.end());
    labels.push_back(label);
    calibration.push_back(is_calibration ? 1 : 0);
    groups.push_back(group);
  }
  Rows picked(const std::vector<std::size_t>& rows) const {
    Rows some;
    for (const std::size_t i : rows) {
      const auto at = probs.begin() + static_cast<std::ptrdiff_t>(3 * i);
      some.add({at, at + 3}, labels[i], calibration[i] != 0, groups[i]);
      if (!ids.empty()) some.ids.push_back(ids[i]);
    }
    return some;
  }
  std::string bytes() const {
    const std::string n = std::to_string(labels.size());
    std::vector<fixtures::ZipMember> members{
        {"probs.npy", fixtures::npy("<f8", "(" + n + ",3)", fixtures::le_all(probs))},
        {"label.npy", fixtures::npy("<i8", "(" + n + ",)", fixtures::le_all(labels))},
        {"c.npy", fixtures::npy("|u1", "(" + n + ",)", fixtures::le_all(calibration))},
        {"g.npy", fixtures::npy("<i8", "(" + n + ",)", fixtures::le_all(groups))}};
    if (!ids.empty()) {
      members.push_back({"id.npy", fixtures::npy("<i8", "(" + n + ",)", fixtures::le_all(ids))});
    }
    return fixtures::zip(members);
  }
};

Rows mixed_rows(std::size_t count) {
  Rows rows;
  test::Draws draws(12);
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<double> p(3);
    for (double& x : p) x = static_cast<double>(1 + draws.below(30));
    const double all = p[0] + p[1] + p[2];
    for (double& x : p) x /= all;
    const double u = draws.unit();
    rows.add(p,
             u < p[0]          ? 0
             : u < p[0] + p[1] ? 1
                               : 2,
             draws.below(2) == 0, static_cast<i64>(draws.below(3)));
  }
  return rows;
}

constexpr const char* kDrawing =
    "coverage(conformal=aps,randomised=row),set_size(conformal=raps,randomised=label,ties=group),"
    "set_size(conformal=saps,randomised=label,mode=class),"
    "coverage(conformal=topk,randomised=row,mode=group),set_size(alpha=0.4,mode=cluster)";

std::vector<EvalResult> evaluated(const std::vector<Rows>& files, const std::string& metrics,
                                  NanPolicy nan = NanPolicy::kError, u64 seed = 9) {
  const fixtures::TempFolder folder;
  EvalRequest request;
  for (std::size_t i = 0; i < files.size(); ++i) {
    request.dumps.push_back(folder.write(std::to_string(i) + ".npz", files[i].bytes()));
  }
  request.metrics = metrics;
  request.roles.calibration = "c";
  request.roles.groups = {"g"};
  request.pool = files.size() > 1;
  request.nan = nan;
  request.seed = seed;
  request.backend = "cpu";
  auto report = evaluate(request, {});
  EXPECT_TRUE(report.ok()) << fixtures::text_of(report);
  return report.ok() ? std::move(report->results) : std::vector<EvalResult>();
}

bool same(const std::vector<EvalResult>& a, const std::vector<EvalResult>& b) {
  if (a.empty() || a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].value != b[i].value || a[i].n != b[i].n || a[i].details != b[i].details) return false;
  }
  return true;
}

// Draws follow a row's id, else its position in all files together, whatever else is left out.
TEST(RowKeys, FollowTheRow) {
  Rows rows = mixed_rows(400);
  const auto one_file = evaluated({rows}, kDrawing);
  EXPECT_FALSE(same(one_file, evaluated({rows}, kDrawing, NanPolicy::kError, 10)));

  std::vector<std::size_t> order(400);
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto cut = [&](std::size_t from, std::size_t to) {
    return rows.picked({order.begin() + static_cast<std::ptrdiff_t>(from),
                        order.begin() + static_cast<std::ptrdiff_t>(to)});
  };
  EXPECT_TRUE(same(one_file, evaluated({cut(0, 130), cut(130, 131), cut(131, 400)}, kDrawing)));

  // The same numbers as ids, in another order and other files.
  for (std::size_t i = 0; i < 400; ++i) rows.ids.push_back(static_cast<i64>(i));
  std::reverse(order.begin(), order.end());
  EXPECT_TRUE(same(one_file, evaluated({cut(0, 400)}, kDrawing)));
  EXPECT_TRUE(same(one_file, evaluated({cut(0, 57), cut(57, 400)}, kDrawing)));

  // Rows that are dropped leave the keys of the others: positions in the whole file.
  Rows bad = mixed_rows(400);
  for (const std::size_t i : {3u, 4u, 250u}) bad.probs[3 * i] = std::nan("");
  std::vector<std::size_t> good;
  for (std::size_t i = 0; i < 400; ++i) {
    if (i != 3 && i != 4 && i != 250) good.push_back(i);
  }
  const auto dropped = evaluated({bad}, kDrawing, NanPolicy::kDrop);
  EXPECT_TRUE(same(dropped, evaluated({rows.picked(good)}, kDrawing)));
  EXPECT_FALSE(same(dropped, evaluated({mixed_rows(400).picked(good)}, kDrawing)));
}

// Every row has the same probabilities .5, .3, .2, which are right: without draws all sets hold all
// labels; with them coverage is that of k of n + 1. Beyond 5 standard deviations: 6e-7.
TEST(CoverageLaws, DrawnScoresAreNotConservative) {
  Rows rows;
  test::Draws draws(77);
  for (int i = 0; i < 40'000; ++i) {
    const double u = draws.unit();
    rows.add({.5, .3, .2}, u < .5 ? 0 : u < .8 ? 1 : 2, i % 2 == 0);
  }
  const auto results = evaluated({rows},
                                 "coverage(conformal=aps),coverage(conformal=aps,randomised=row),"
                                 "coverage(conformal=aps,randomised=label),"
                                 "coverage(conformal=saps,randomised=row),"
                                 "coverage(conformal=topk,randomised=label)");
  ASSERT_EQ(results.size(), 10u);  // and those of the one group
  EXPECT_EQ(results[0].value, 1.0);
  const double spread = std::sqrt(.9 * .1 * (1 / 20'000. + 1 / 20'000.));
  for (const std::size_t i : {2u, 4u, 6u, 8u}) EXPECT_NEAR(results[i].value, .9, 5 * spread) << i;
}

// Classes of unlike difficulty: one threshold covers them unequally, thresholds by class do not.
TEST(CoverageLaws, ThresholdsByClassCoverEachClass) {
  Rows rows;
  test::Draws draws(78);
  for (int i = 0; i < 30'000; ++i) {
    const i64 y = i % 3;
    const double p = y == 0   ? .7 + .3 * draws.unit()
                     : y == 1 ? .3 + .6 * draws.unit()
                              : draws.unit();
    std::vector<double> row(3, (1 - p) / 2);
    row[static_cast<std::size_t>(y)] = p;
    rows.add(row, y, draws.below(2) == 0, y);
  }
  const auto results = evaluated({rows}, "coverage,coverage(mode=class)");
  ASSERT_EQ(results.size(), 8u);
  const double spread = std::sqrt(.9 * .1 * (1 / 4700. + 1 / 4700.));
  EXPECT_GT(results[1].value, .99);
  EXPECT_LT(results[3].value, .8);
  for (const std::size_t i : {5u, 6u, 7u}) EXPECT_NEAR(results[i].value, .9, 5 * spread) << i;
}

Detail field(const Detail::Object& object, std::string_view name) {
  for (const auto& [key, value] : object) {
    if (key == name) return value;
  }
  ADD_FAILURE() << "no field " << name;
  return {};
}
Detail field(const Detail& object, std::string_view name) {
  return field(std::get<Detail::Object>(object.held()), name);
}

// A class and a group without calibration rows: infinite thresholds that are counted and named.
TEST(ModeDetails, TellWhatIsUnseen) {
  Rows rows;
  for (int i = 0; i < 60; ++i)
    rows.add({.6, .3, .1}, i % 2, i % 2 == (i / 2) % 2, i % 4 < 2 ? 0 : 7);
  rows.add({.2, .2, .6}, 2, false, 9);
  const auto results =
      evaluated({rows}, "coverage(alpha=0.2,mode=class),coverage(alpha=0.2,mode=group)");
  ASSERT_EQ(results.size(), 8u);  // everyone and three groups
  const Detail::Object& by_class = results[0].details;
  EXPECT_EQ(field(by_class, "unseen"), Detail(1));
  EXPECT_EQ(field(field(by_class, "qhats"), "infinite"), Detail(1));
  EXPECT_EQ(field(field(by_class, "qhats"), "max"),
            Detail(std::numeric_limits<double>::infinity()));
  const auto listed = std::get<Detail::List>(field(by_class, "thresholds").held());
  ASSERT_EQ(listed.size(), 3u);
  EXPECT_EQ(field(listed[2], "n"), Detail(0));
  const Detail::Object& by_group = results[4].details;
  EXPECT_EQ(field(by_group, "unseen"), Detail(1));
  EXPECT_EQ(field(results[7].details, "qhat_reason"), Detail("unseen_group"));
  EXPECT_EQ(field(results[7].details, "n_calibration"), Detail(0));
  EXPECT_EQ(results[7].value, 1.0);
  for (const auto& [name, value] : by_class) EXPECT_NE(name, "beta_law");
  // A group with a threshold of its own has the law of that threshold.
  EXPECT_EQ(field(field(results[5].details, "beta_law"), "mean"),
            Detail(static_cast<double>(std::get<i64>(field(results[5].details, "rank").held())) /
                   static_cast<double>(
                       std::get<i64>(field(results[5].details, "n_calibration").held()) + 1)));
}

}  // namespace
}  // namespace cupel
