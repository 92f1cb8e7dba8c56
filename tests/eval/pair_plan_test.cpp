// What is asked of pairs, against all pairs one by one, in every way in which it can be found.
#include "eval/pair_plan.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "cupel/backend/choose.hpp"
#include "random_rows.hpp"

namespace cupel {
namespace {

std::unique_ptr<Backend> cpu() {
  BackendChoice choice;
  choice.name = "cpu";
  choice.threads = 2;
  auto chosen = choose_backend(choice);
  EXPECT_TRUE(chosen.ok());
  return std::move(*chosen);
}

struct Asked {
  PairAnswers answers;
  u64 done = 0, planned = 0;
};

Asked ask(const RandomRows& rows, const PairQuestions& questions, const PairLimits& limits) {
  const auto backend = cpu();
  Asked asked;
  PairWork work;
  work.told = [&](u64 done, u64 all) {
    EXPECT_LE(asked.done, done);
    EXPECT_LE(done, all);
    asked.done = done;
    asked.planned = all;
  };
  PairRunner runner(*backend, rows.view, 2, work);
  auto answers = answer_pairs(rows.view, rows.class_rows, questions, limits, 2, runner);
  EXPECT_TRUE(answers.ok()) << answers.error().text();
  if (answers.ok()) asked.answers = std::move(*answers);
  return asked;
}

/// The negative pairs' values, closest first.
std::vector<float> negatives(const RandomRows& rows) {
  std::vector<float> values;
  for (const PlainPair& pair : plain_pairs(rows.view)) {
    if (!pair.same()) values.push_back(pair.value);
  }
  const PairDomain domain = rows.view.domain;
  std::sort(values.begin(), values.end(), [&](float x, float y) { return closer(domain, x, y); });
  return values;
}

/// Curves at thresholds, pair by pair.
void expect_curves(const RandomRows& rows, const CurveAnswer& answer) {
  const ClassCurves& curves = answer.curves;
  const std::size_t columns = curves.thresholds.size();
  const std::vector<PlainPair> pairs = plain_pairs(rows.view);
  std::vector<u32> of;
  for (std::size_t c = 0; c < rows.class_rows.size(); ++c) {
    if (rows.class_rows[c] >= 2) of.push_back(static_cast<u32>(c));
  }
  ASSERT_EQ(curves.of, of);
  for (std::size_t c = 0; c < of.size(); ++c) {
    std::vector<u64> pos(columns, 0), neg(columns, 0);
    u64 all_pos = 0, all_neg = 0;
    for (const PlainPair& pair : pairs) {
      if (pair.a != of[c] && pair.b != of[c]) continue;
      ++(pair.same() ? all_pos : all_neg);
      for (std::size_t k = 0; k < columns; ++k) {
        if (accepts(rows.view.domain, curves.thresholds[k], pair.value)) {
          ++(pair.same() ? pos : neg)[k];
        }
      }
    }
    EXPECT_EQ(curves.all_pos[c], all_pos);
    EXPECT_EQ(curves.all_neg[c], all_neg);
    for (std::size_t k = 0; k < columns; ++k) {
      ASSERT_EQ(curves.pos[c * columns + k], pos[k]) << "class " << of[c] << " threshold " << k;
      ASSERT_EQ(curves.neg[c * columns + k], neg[k]) << "class " << of[c] << " threshold " << k;
    }
  }
}

CurveQuery at_far(Fraction low, Fraction high, i64 thresholds = 7) {
  CurveQuery query;
  query.range.far_low = low;
  query.range.far_high = high;
  query.n_thresholds = thresholds;
  return query;
}
CurveQuery at_values(double first, double last, i64 thresholds = 5) {
  CurveQuery query;
  query.range.values.emplace(first, last);
  query.n_thresholds = thresholds;
  return query;
}
ClassRateQuery rate_at(Fraction far) {
  ClassRateQuery query;
  query.far = far;
  return query;
}

PairQuestions all_questions(PairDomain domain) {
  PairQuestions questions;
  questions.curves = {at_far({1, 100}, {1, 10}), at_far({3, 1000}, {1, 2}, 4)};
  questions.curves.push_back(domain == PairDomain::kL2 ? at_values(0.2, 1.1) : at_values(0.1, 0.9));
  questions.rates = {rate_at({1, 100}), rate_at({1, 1000}), rate_at({1, 1})};
  questions.rates.emplace_back().threshold = 0.7;
  questions.retrieval.push_back({{1, 2, 4}, true});
  questions.retrieval.push_back({{3}, false});
  return questions;
}

void expect_answers(const RandomRows& rows, const PairQuestions& questions,
                    const PairAnswers& answers) {
  const std::vector<float> closest = negatives(rows);
  const auto count = static_cast<u64>(closest.size());
  for (std::size_t q = 0; q < questions.curves.size(); ++q) {
    const CurveQuery& query = questions.curves[q];
    const CurveAnswer& answer = answers.curves[q];
    if (query.range.values) {
      // From strict to loose: of similarities the larger one is the strict one.
      const auto [least, most] = *query.range.values;
      const bool ascending = rows.view.domain == PairDomain::kL2;
      EXPECT_EQ(answer.first, ascending ? least : most);
      EXPECT_EQ(answer.last, ascending ? most : least);
    } else {
      const auto order = [&](const Fraction& far) {  // the ceil(far * count)-th
        return closest[(far.num * count + far.den - 1) / far.den - 1];
      };
      EXPECT_EQ(answer.first, static_cast<double>(order(query.range.far_low))) << q;
      EXPECT_EQ(answer.last, static_cast<double>(order(query.range.far_high))) << q;
    }
    expect_curves(rows, answer);
  }
  for (std::size_t q = 0; q < questions.rates.size(); ++q) {
    const ClassRateQuery& query = questions.rates[q];
    const CurveAnswer& answer = answers.rates[q];
    ASSERT_EQ(answer.curves.thresholds.size(), 1U);
    if (query.threshold) {
      EXPECT_EQ(answer.first, *query.threshold);
    } else {
      // The rate is kept, and one step looser it would not be.
      const PairDomain domain = rows.view.domain;
      const auto accepted = [&](double threshold) {
        u64 pairs = 0;
        for (const float value : closest) pairs += accepts(domain, threshold, value) ? 1 : 0;
        return pairs;
      };
      const auto looser = static_cast<double>(std::nextafter(
          static_cast<float>(answer.first), domain == PairDomain::kL2
                                                ? std::numeric_limits<float>::infinity()
                                                : -std::numeric_limits<float>::infinity()));
      EXPECT_LE(accepted(answer.first) * query.far.den, query.far.num * count) << q;
      if (query.far.num < query.far.den) {
        EXPECT_GT(accepted(looser) * query.far.den, query.far.num * count) << q;
      } else {
        EXPECT_EQ(answer.first, static_cast<double>(closest.back()));
      }
    }
    expect_curves(rows, answer);
  }
}

bool equal(const PairAnswers& a, const PairAnswers& b) {
  const auto same = [](const std::vector<CurveAnswer>& x, const std::vector<CurveAnswer>& y) {
    return std::equal(
        x.begin(), x.end(), y.begin(), y.end(), [](const CurveAnswer& p, const CurveAnswer& q) {
          return p.first == q.first && p.last == q.last && p.unresolved == q.unresolved &&
                 p.curves.pos == q.curves.pos && p.curves.neg == q.curves.neg;
        });
  };
  return same(a.curves, b.curves) && same(a.rates, b.rates) && a.retrieval == b.retrieval;
}

struct Way {
  const char* name;
  PairLimits limits;
};
std::vector<Way> ways() {
  constexpr i64 kPlenty = 1 << 26;
  return {
      {"by itself", {kPlenty}},
      {"ranking", {kPlenty, BoundsBy::kRanks}},
      {"brackets", {kPlenty, BoundsBy::kBrackets, 1500}},
      {"list", {kPlenty, BoundsBy::kList, 1500}},
      {"list of everything", {kPlenty, BoundsBy::kList}},
      {"brackets that miss", {kPlenty, BoundsBy::kBrackets, 300, 0}},
      {"list that misses", {kPlenty, BoundsBy::kList, 300, 0}},
      {"list that does not fit", {4000, BoundsBy::kList, 1500}},
      {"little memory", {20'000, BoundsBy::kAuto, 1500}},
      {"hardly any memory", {100, BoundsBy::kAuto, 1500}},
  };
}

class PairPlanTest : public testing::TestWithParam<PairDomain> {};

TEST_P(PairPlanTest, EveryWayFindsWhatThePairsSay) {
  const RandomRows rows(GetParam(), {40, 1, 2, 17, 60, 1, 25, 3}, 5, 11);
  const PairQuestions questions = all_questions(GetParam());
  std::optional<PairAnswers> first;
  for (const Way& way : ways()) {
    SCOPED_TRACE(way.name);
    const Asked asked = ask(rows, questions, way.limits);
    EXPECT_EQ(asked.done, asked.planned);
    if (!first) {
      expect_answers(rows, questions, asked.answers);
      first = asked.answers;
    }
    EXPECT_TRUE(equal(asked.answers, *first)) << asked.answers.plan;
  }
}

TEST_P(PairPlanTest, RanksAndBoundsShareAPass) {
  const RandomRows rows(GetParam(), {10, 12, 1, 9}, 4, 3);
  PairQuestions questions = all_questions(GetParam());
  const Asked without = ask(rows, questions, {1 << 26});
  EXPECT_EQ(without.answers.plan.substr(0, 8), "1 pass o");
  questions.ranks = true;
  const Asked with = ask(rows, questions, {1 << 26});
  EXPECT_EQ(with.answers.plan.substr(0, 10), "2 passes o");
  EXPECT_TRUE(equal(with.answers, without.answers));
  u64 pos = 0, neg = 0;
  for (const PlainPair& pair : plain_pairs(rows.view)) ++(pair.same() ? pos : neg);
  EXPECT_EQ(with.answers.ranks.pos_rows(), pos);
  EXPECT_EQ(with.answers.ranks.neg_rows(), neg);
}

TEST_P(PairPlanTest, WhatIsKnownTakesOnePass) {
  const RandomRows rows(GetParam(), {10, 12, 1, 9}, 4, 3);
  PairQuestions questions;
  questions.ranks = true;
  questions.curves = {at_values(0.4, 0.6)};
  questions.retrieval.push_back({{1}, true});
  const Asked asked = ask(rows, questions, {1 << 26});
  EXPECT_EQ(asked.answers.plan.substr(0, 8), "1 pass o");
  EXPECT_EQ(asked.planned, PairPass::whole(rows.view).pairs());
}

TEST_P(PairPlanTest, SmallRatesAreNotResolved) {
  const RandomRows rows(GetParam(), {3, 4}, 4, 5);  // 12 negative pairs
  PairQuestions questions;
  questions.curves = {at_far({1, 12}, {1, 2}), at_far({1, 13}, {1, 2})};
  questions.rates = {rate_at({1, 12}), rate_at({1, 13})};
  const PairAnswers answers = ask(rows, questions, {1 << 26}).answers;
  EXPECT_FALSE(answers.curves[0].unresolved);
  EXPECT_TRUE(answers.curves[1].unresolved);
  EXPECT_TRUE(answers.curves[1].curves.thresholds.empty());
  EXPECT_FALSE(answers.rates[0].unresolved);
  EXPECT_TRUE(answers.rates[1].unresolved);
}

TEST_P(PairPlanTest, NothingToCompare) {
  for (const std::vector<i64>& shape :
       {std::vector<i64>{}, {1}, {5}, {1, 1, 1}, {4, 1}, {0, 3, 0}}) {
    const RandomRows rows(GetParam(), shape, 3, 9);
    PairQuestions questions = all_questions(GetParam());
    questions.ranks = true;
    const PairAnswers answers = ask(rows, questions, {1 << 26}).answers;
    EXPECT_TRUE(answers.curves[0].curves.thresholds.empty());
  }
}

/// Equal distances on both sides of a bound: all of them are accepted by the bound of a range, and
/// none of them by the limit of a rate.
TEST_P(PairPlanTest, TiesAtABound) {
  RandomRows rows(GetParam(), {4, 4, 4}, 2, 1);
  for (i64 i = 0; i < rows.view.rows; ++i) {  // one point for each class: three distances
    float* row = rows.values.data() + i * rows.view.stride;
    row[0] = std::vector<float>{1.0F, 0.0F, 0.8F}[rows.classes[static_cast<std::size_t>(i)]];
    row[1] = std::vector<float>{0.0F, 1.0F, 0.6F}[rows.classes[static_cast<std::size_t>(i)]];
    rows.squares[static_cast<std::size_t>(i)] = dot_chain(row, row, 2);
  }
  PairQuestions questions;
  questions.curves = {at_far({1, 10}, {4, 10})};  // 5th and 20th of 3 x 16
  questions.rates = {rate_at({1, 10}), rate_at({4, 10})};
  for (const Way& way : ways()) {
    SCOPED_TRACE(way.name);
    const PairAnswers answers = ask(rows, questions, way.limits).answers;
    expect_answers(rows, questions, answers);
    const std::vector<u64>& first = answers.rates[0].curves.neg;
    EXPECT_EQ(first, (std::vector<u64>{0, 0, 0}));
    EXPECT_EQ(answers.rates[1].curves.neg, (std::vector<u64>{16, 0, 16}));
  }
}

INSTANTIATE_TEST_SUITE_P(Domains, PairPlanTest,
                         testing::Values(PairDomain::kL2, PairDomain::kCosine));

TEST(FarTargetTest, RanksOfRates) {
  EXPECT_EQ(far_bound({1, 10}, 100).rank, 10U);
  EXPECT_EQ(far_bound({1, 10}, 101).rank, 11U);
  EXPECT_EQ(far_bound({1, 10}, 9).rank, 0U);
  EXPECT_EQ(far_bound({1, 1}, 7).rank, 7U);
  EXPECT_EQ(far_limit({1, 10}, 100).rank, 11U);
  EXPECT_TRUE(far_limit({1, 10}, 100).below);
  EXPECT_EQ(far_limit({1, 10}, 109).rank, 11U);
  EXPECT_EQ(far_limit({1, 10}, 9).rank, 0U);
  EXPECT_FALSE(far_limit({1, 1}, 7).below);
}

TEST(ThresholdGridTest, EndsAreExact) {
  const std::vector<double> grid = threshold_grid(0.1, 0.7, 4);
  EXPECT_EQ(grid,
            (std::vector<double>{0.1, 0.1 + (0.7 - 0.1) / 3, 0.1 + (0.7 - 0.1) * 2 / 3, 0.7}));
}

}  // namespace
}  // namespace cupel
