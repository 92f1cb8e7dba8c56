// Laws that hold for all data: merging, permutation, monotone maps, complement. Seeds are constants
// and named on failure.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

#include "cupel/backend/backend.hpp"
#include "cupel/core/bytes.hpp"
#include "support/round_trip_backend.hpp"
#include "support/test_backend.hpp"

namespace cupel {
namespace {

struct Rows {
  std::vector<float> score;
  std::vector<u8> label;
  std::vector<double> weight;
  bool weighted = false;

  TableView view() const {
    TableView table;
    table.rows = static_cast<i64>(score.size());
    table.scores = make_view(score.data(), DType::kF32, {table.rows});
    table.binary_labels = label.data();
    static const double kNone = 0;
    if (weighted) table.weights_f64 = weight.empty() ? &kNone : weight.data();
    return table;
  }
  Rows select(const std::vector<std::size_t>& order) const {
    Rows rows;
    rows.weighted = weighted;
    for (const std::size_t i : order) {
      rows.score.push_back(score[i]);
      rows.label.push_back(label[i]);
      if (weighted) rows.weight.push_back(weight[i]);
    }
    return rows;
  }
};

Rows random_rows(u64 seed, std::size_t n, int distinct, bool weighted) {
  std::mt19937_64 random(seed);
  Rows rows;
  rows.weighted = weighted;
  for (std::size_t i = 0; i < n; ++i) {
    const u64 value = random() % static_cast<u64>(distinct);
    rows.score.push_back(static_cast<float>(value) / static_cast<float>(distinct) - 0.25f);
    rows.label.push_back(random() % 3 == 0 ? 1 : 0);
    if (weighted) rows.weight.push_back(static_cast<double>(random() % 5) * 0.375);
  }
  return rows;
}

RankTable table_of(const Rows& rows, int threads = 1) {
  auto backend = make_test_backend(threads);
  auto tables = backend->rank_tables(rows.view(), 0, 1);
  EXPECT_TRUE(tables.ok());
  return (*tables)[0][0];
}

const std::vector<RankQuery>& every_query() {
  static const std::vector<RankQuery> kQueries{{RankQueryKind::kTwoU, {}},
                                               {RankQueryKind::kAveragePrecision, {}},
                                               {RankQueryKind::kPrTrapezoid, {}},
                                               {RankQueryKind::kGap, {}},
                                               {RankQueryKind::kEqualError, {}},
                                               {RankQueryKind::kFprAtMost, {1, 10}},
                                               {RankQueryKind::kTprAtLeast, {95, 100}},
                                               {RankQueryKind::kPrecisionAtRecall, {8, 10}},
                                               {RankQueryKind::kRecallAtPrecision, {4, 10}},
                                               {RankQueryKind::kFBetaMax, {1, 1}},
                                               {RankQueryKind::kFBetaMax, {2, 1}},
                                               {RankQueryKind::kPartialArea, {3, 10}},
                                               {RankQueryKind::kRanges, {}}};
  return kQueries;
}

struct Shape {
  u64 seed;
  std::size_t rows;
  int distinct;
  bool weighted;
};
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  u64 seed = 20'260'101;
  for (const std::size_t n : {0u, 1u, 2u, 31u, 33u, 256u, 257u, 5000u}) {
    for (const int distinct : {1, 3, 40, 1'000'000}) {
      for (const bool weighted : {false, true}) all.push_back({seed++, n, distinct, weighted});
    }
  }
  return all;
}

class Laws : public testing::TestWithParam<Shape> {
 protected:
  Rows rows_ =
      random_rows(GetParam().seed, GetParam().rows, GetParam().distinct, GetParam().weighted);
};

TEST_P(Laws, MergeCommutesAssociatesAndHasAnIdentity) {
  const std::size_t n = rows_.score.size();
  std::vector<std::size_t> part[3];
  for (std::size_t i = 0; i < n; ++i) part[i * 7 % 3].push_back(i);
  const RankTable a = table_of(rows_.select(part[0]));
  const RankTable b = table_of(rows_.select(part[1]));
  const RankTable c = table_of(rows_.select(part[2]));
  const RankTable whole = table_of(rows_);
  const auto merged = [](RankTable x, const RankTable& y) {
    const RankTable source = y;
    EXPECT_TRUE(x.merge(y).ok());
    EXPECT_EQ(source, y) << "merge changed its source";
    return x;
  };
  EXPECT_EQ(merged(merged(a, b), c), whole);
  EXPECT_EQ(merged(a, merged(b, c)), whole);
  EXPECT_EQ(merged(merged(c, a), b), whole);
  EXPECT_EQ(merged(RankTable(), whole), whole);
  EXPECT_EQ(merged(whole, RankTable()), whole);
  EXPECT_EQ(merged(whole, RankTable(whole.kind(), whole.weighted())), whole);
  EXPECT_EQ(round_trip(whole), whole);
}

TEST_P(Laws, OrderOfRowsAndThreadsDoNotMatter) {
  std::vector<std::size_t> order(rows_.score.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937_64(GetParam().seed + 1));
  EXPECT_EQ(table_of(rows_.select(order), 2), table_of(rows_, 1));
}

TEST_P(Laws, SummariesFromRowsEqualThoseFromTables) {
  const RankSummary from_table = summarise(table_of(rows_), every_query());
  for (const int threads : {1, 2}) {
    auto backend = make_test_backend(threads);
    const auto direct = backend->rank_summaries(rows_.view(), 0, 1, every_query());
    ASSERT_TRUE(direct.ok());
    const RankSummary& summary = direct->front();
    EXPECT_EQ(summary.pos, from_table.pos);
    EXPECT_EQ(summary.neg, from_table.neg);
    EXPECT_EQ(summary.pos_rows, from_table.pos_rows);
    ASSERT_EQ(summary.answers.size(), from_table.answers.size());
    for (std::size_t q = 0; q < summary.answers.size(); ++q) {
      EXPECT_EQ(summary.answers[q], from_table.answers[q]) << "query " << q;
    }
  }
}

TEST_P(Laws, IncreasingMapsOfScoresKeepEveryMass) {
  Rows mapped = rows_;
  for (float& s : mapped.score) s = std::ldexp(s, 5);  // exact, strictly increasing
  const auto a = summarise(table_of(rows_), every_query());
  const auto b = summarise(table_of(mapped), every_query());
  for (std::size_t q = 0; q < a.answers.size(); ++q) {
    EXPECT_EQ(a.answers[q].sum, b.answers[q].sum);
    EXPECT_EQ(a.answers[q].ranges, b.answers[q].ranges);
    EXPECT_EQ(a.answers[q].at.tp, b.answers[q].at.tp);
    EXPECT_EQ(a.answers[q].at.fp, b.answers[q].at.fp);
    EXPECT_EQ(a.answers[q].before.tp, b.answers[q].before.tp);
  }
}

TEST_P(Laws, NegatedScoresComplementTheArea) {
  Rows negated = rows_;
  for (float& s : negated.score) s = -s;
  const RankQuery area{RankQueryKind::kTwoU, {}};
  const auto a = summarise(table_of(rows_), {&area, 1});
  const auto b = summarise(table_of(negated), {&area, 1});
  // 2U(s) + 2U(-s) = 2 P N, as integers.
  EXPECT_EQ(a.answers[0].sum + b.answers[0].sum, multiply(u128{2} * a.pos, a.neg));
}

TEST_P(Laws, ContributionsOfAPartitionAddUp) {
  std::vector<std::size_t> part[2];
  for (std::size_t i = 0; i < rows_.score.size(); ++i) part[i % 2].push_back(i);
  const RankTable whole = table_of(rows_);
  const Contributions contributions(whole);
  const RangeShare a = contributions.of(table_of(rows_.select(part[0])));
  const RangeShare b = contributions.of(table_of(rows_.select(part[1])));
  const std::vector<RankQuery> queries{{RankQueryKind::kTwoU, {}},
                                       {RankQueryKind::kAveragePrecision, {}}};
  const auto all = summarise(whole, queries);
  EXPECT_EQ(a.two_u + b.two_u, all.answers[0].sum);
  EXPECT_EQ(a.precision + b.precision, all.answers[1].sum);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Laws, testing::ValuesIn(shapes()), [](const auto& test) {
  return fmt::format("seed{}_rows{}_distinct{}{}", test.param.seed, test.param.rows,
                     test.param.distinct, test.param.weighted ? "_weighted" : "");
});

// Damaged bytes are refused or decode to a table that keeps its promises; nothing crashes.
TEST(RankTableBytes, EveryDamageIsRefusedOrHarmless) {
  const Rows rows = random_rows(7, 300, 12, false);
  ByteWriter writer;
  table_of(rows).encode(writer);
  const auto bytes = writer.take();
  std::mt19937_64 random(11);
  int refused = 0;
  for (int i = 0; i < 4000; ++i) {
    auto damaged = bytes;
    if (i % 3 == 0) {
      damaged.resize(random() % damaged.size());
    } else {
      damaged[random() % damaged.size()] ^= static_cast<std::byte>(1 + random() % 255);
    }
    ByteReader reader(damaged);
    const auto table = RankTable::decode(reader);
    if (!table.ok()) {
      ++refused;
      EXPECT_EQ(table.error().code, ErrorCode::kInput);
      continue;
    }
    EXPECT_EQ(round_trip(*table), *table);
  }
  EXPECT_GT(refused, 2000);
}

TEST(RankTable, RefusesToMergeOtherTypes) {
  RankTable a(ScoreKind::kF32, false);
  const RankTable before = a;
  EXPECT_FALSE(a.merge(RankTable(ScoreKind::kF64, false)).ok());
  EXPECT_FALSE(a.merge(RankTable(ScoreKind::kF32, true)).ok());
  EXPECT_EQ(a, before);
}

TEST(ScoreOfKey, IsTheScore) {
  EXPECT_EQ(score_of_key(ScoreKind::kF16, key_of_16(0x3C00)), 1.0);
  EXPECT_EQ(score_of_key(ScoreKind::kF16, key_of_16(0x0001)), 0x1p-24);
  EXPECT_EQ(score_of_key(ScoreKind::kF16, key_of_16(0xFBFF)), -65504.0);
  EXPECT_EQ(score_of_key(ScoreKind::kBF16, key_of_16(0x3FC0)), 1.5);
  EXPECT_EQ(score_of_key(ScoreKind::kF32, key_of_f32(std::bit_cast<u32>(-2.5f))), -2.5);
  EXPECT_EQ(score_of_key(ScoreKind::kF64, key_of_f64(std::bit_cast<u64>(5e-324))), 5e-324);
  EXPECT_EQ(score_of_key(ScoreKind::kI64, key_of_i64(-3)), -3.0);
}

}  // namespace
}  // namespace cupel
