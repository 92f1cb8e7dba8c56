// rule=exact: events in order and whole, in any blocks, and the same integrals from all of them.
#include "eval/exact_passes.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "cupel/backend/choose.hpp"
#include "eval/exact_events.hpp"
#include "eval/pair_plan.hpp"
#include "random_rows.hpp"

namespace cupel {
namespace {

using Event = std::tuple<u32, u32, u32>;

std::vector<Event> plain_events(const RandomRows& rows, double first, double last) {
  std::vector<Event> events;
  const PairDomain domain = rows.view.domain;
  for (i64 i = 0; i < rows.view.rows; ++i) {
    for (i64 j = i + 1; j < rows.view.rows; ++j) {
      const float gap =
          pair_gap(domain, dot_chain(rows.view.row(i), rows.view.row(j), rows.view.width),
                   rows.view.squares[i], rows.view.squares[j]);
      const u32 key = gap_key(domain, gap);
      const float value = key_value(domain, key);
      if (accepts(domain, first, value) || !accepts(domain, last, value)) continue;
      events.emplace_back(~key, rows.view.classes[i], rows.view.classes[j]);
    }
  }
  std::sort(events.begin(), events.end());
  return events;
}

std::unique_ptr<Backend> cpu() {
  BackendChoice choice;
  choice.name = "cpu";
  choice.threads = 2;
  auto chosen = choose_backend(choice);
  EXPECT_TRUE(chosen.ok());
  return std::move(*chosen);
}

TEST(EventBlocksTest, EveryPairOnceInOrder) {
  const RandomRows rows(PairDomain::kL2, {50, 60, 1, 90}, 3, 21);
  const auto backend = cpu();
  PairPass pass = PairPass::whole(rows.view);
  pass.kept = {{gap_cut(PairDomain::kL2, 0.1), gap_cut(PairDomain::kL2, 1.5)}};
  pass.kept_bytes = 1 << 26;
  const auto states = backend->embedding_pairs(rows.view, pass, 2, {});
  ASSERT_TRUE(states.ok());
  const GapRange range{gap_cut(PairDomain::kL2, 0.3), gap_cut(PairDomain::kL2, 1.2)};
  const std::vector<Event> all = plain_events(rows, 0.3, 1.2);
  ASSERT_GT(all.size(), 1000U);
  ThreadPool pool(2);
  for (const i64 bytes : {i64{1}, i64{500}, i64{20'000}, i64{1} << 30}) {
    std::vector<Event> found;
    i64 blocks = 0;
    each_event_block(rows.view, states->kept, range, bytes, pool,
                     [&](std::span<const PairEvent> events) {
                       ++blocks;
                       if (!found.empty()) {  // a step is in one block
                         EXPECT_LT(std::get<0>(found.back()), events.front().step);
                       }
                       for (const PairEvent& e : events) found.emplace_back(e.step, e.a, e.b);
                     });
    EXPECT_EQ(found, all) << bytes;
    EXPECT_EQ(blocks == 1, bytes == i64{1} << 30);
  }
}

TEST(EventBlocksTest, ManyEventsAreSorted) {
  std::mt19937_64 random(5);
  for (const u32 steps : {1U, 7U, 100'000U, ~0U}) {
    std::vector<PairEvent> events(100'000);
    for (PairEvent& event : events) {
      event = {static_cast<u32>(random() % steps), static_cast<u32>(random() % 5),
               static_cast<u32>(random() % 5)};
    }
    std::vector<Event> expected;
    for (const PairEvent& e : events) expected.emplace_back(e.step, e.a, e.b);
    std::sort(expected.begin(), expected.end());
    ThreadPool pool(3);
    sort_events(events, pool);
    std::vector<Event> found;
    for (const PairEvent& e : events) found.emplace_back(e.step, e.a, e.b);
    EXPECT_EQ(found, expected);
  }
}

/// The integrals as sums over all steps, class by class, in double.
struct PlainIntegrals {
  double opis = 0, mean = 0, extremes = 0;
};
PlainIntegrals plain_integrals(const RandomRows& rows, const CurveQuery& query, double first,
                               double last) {
  const PairDomain domain = rows.view.domain;
  const std::vector<PlainPair> pairs = plain_pairs(rows.view);
  std::vector<double> at{first};
  for (const auto& [step, a, b] : plain_events(rows, first, last)) {
    at.push_back(static_cast<double>(key_value(domain, ~step)));
  }
  at.erase(std::unique(at.begin(), at.end()), at.end());
  at.push_back(last);
  std::vector<std::vector<double>> curves;  // [interval][class]
  for (std::size_t s = 0; s + 1 < at.size(); ++s) {
    std::vector<double>& own = curves.emplace_back();
    for (std::size_t c = 0; c < rows.class_rows.size(); ++c) {
      if (rows.class_rows[c] < 2) continue;
      double pos = 0, neg = 0, all_pos = 0, all_neg = 0;
      for (const PlainPair& pair : pairs) {
        if (pair.a != c && pair.b != c) continue;
        const double in = accepts(domain, at[s], pair.value) ? 1 : 0;
        (pair.same() ? all_pos : all_neg) += 1;
        (pair.same() ? pos : neg) += in;
      }
      const double psi = pos / all_pos;
      const double phi = 1 - neg / all_neg;
      own.push_back(psi + phi == 0 ? 0 : 2 * psi * phi / (psi + phi));
    }
  }
  const double width = std::fabs(last - first);
  const auto share = [&](std::size_t s) { return std::fabs(at[s + 1] - at[s]) / width; };
  const std::size_t classes = curves.front().size();
  std::vector<std::size_t> order(classes);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (query.ranked_once) {
    std::vector<double> means(classes, 0);
    for (std::size_t s = 0; s < curves.size(); ++s) {
      for (std::size_t c = 0; c < classes; ++c) means[c] += share(s) * curves[s][c];
    }
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return means[a] < means[b]; });
  }
  const auto few = static_cast<std::size_t>(std::ceil(
      static_cast<double>(query.epsilon.num * classes) / static_cast<double>(query.epsilon.den)));
  PlainIntegrals found;
  for (std::size_t s = 0; s < curves.size(); ++s) {
    const std::vector<double>& own = curves[s];
    double mean = 0, spread = 0, apart = 0;
    for (const double u : own) mean += u / static_cast<double>(classes);
    for (const double u : own) spread += (u - mean) * (u - mean) / static_cast<double>(classes);
    if (!query.ranked_once) {
      std::sort(order.begin(), order.end(),
                [&](std::size_t a, std::size_t b) { return own[a] < own[b]; });
    }
    for (std::size_t k = 0; k < few; ++k) {
      apart += (own[order[classes - 1 - k]] - own[order[k]]) / static_cast<double>(few);
    }
    found.mean += share(s) * mean;
    found.opis += share(s) * spread;
    found.extremes += share(s) * (query.power == 1 ? std::fabs(apart) : apart * apart);
  }
  return found;
}

class ExactPassesTest : public testing::TestWithParam<PairDomain> {};

TEST_P(ExactPassesTest, BlocksDoNotMatter) {
  const RandomRows rows(GetParam(), {9, 1, 12, 7, 2}, 3, 8);
  PairQuestions questions;
  for (const bool values : {true, false}) {
    for (const bool once : {false, true}) {
      CurveQuery query;
      query.rule = IntegrationRule::kExact;
      query.n_thresholds = 5;
      query.range.far_low = {5, 100};
      query.range.far_high = {6, 10};
      if (values) query.range.values.emplace(0.3, 1.1);
      query.extremes = true;
      query.ranked_once = once;
      query.epsilon = {3, 10};
      query.power = once ? 1 : 2;
      questions.curves.push_back(query);
    }
  }
  const auto backend = cpu();
  std::vector<CurveAnswer> first;
  i64 first_passes = 0;
  i64 most_passes = 0;
  for (const bool ranks : {false, true}) {
    for (const i64 bytes : {i64{1} << 26, i64{6000}, i64{2500}, i64{300}, i64{1}}) {
      PairLimits limits{bytes, BoundsBy::kAuto, 100};
      PairWork work;
      PairRunner runner(*backend, rows.view, 2, work);
      questions.ranks = ranks;
      auto answers = answer_pairs(rows.view, rows.class_rows, questions, limits, 2, runner);
      ASSERT_TRUE(answers.ok());
      if (first.empty()) {
        first = answers->curves;
        first_passes = answers->passes;
        for (std::size_t q = 0; q < first.size(); ++q) {
          const CurveAnswer& own = first[q];
          const PlainIntegrals plain =
              plain_integrals(rows, questions.curves[q], own.first, own.last);
          ASSERT_TRUE(own.exact.has_value());
          EXPECT_EQ(own.exact->steps, plain_events(rows, own.first, own.last).size());
          EXPECT_NEAR(own.exact->opis, plain.opis, 1e-12) << q;
          EXPECT_NEAR(own.exact->mean_utility, plain.mean, 1e-12) << q;
          EXPECT_NEAR(own.exact->extremes, plain.extremes, 1e-12) << q;
        }
        continue;
      }
      for (std::size_t q = 0; q < first.size(); ++q) {
        const ExactCurves& own = *answers->curves[q].exact;
        EXPECT_EQ(own.opis, first[q].exact->opis) << q << " " << bytes;
        EXPECT_EQ(own.mean_utility, first[q].exact->mean_utility);
        EXPECT_EQ(own.extremes, first[q].exact->extremes);
        EXPECT_EQ(own.contributions, first[q].exact->contributions);
        EXPECT_EQ(own.means, first[q].exact->means);
        EXPECT_EQ(own.steps, first[q].exact->steps);
        EXPECT_EQ(answers->curves[q].curves.pos, first[q].curves.pos);
        most_passes = std::max(most_passes, answers->passes);
      }
    }
  }
  EXPECT_LE(first_passes, 2);
  EXPECT_GT(most_passes, 20);
}

INSTANTIATE_TEST_SUITE_P(Domains, ExactPassesTest,
                         testing::Values(PairDomain::kL2, PairDomain::kCosine));

}  // namespace
}  // namespace cupel
