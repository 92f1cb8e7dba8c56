// The ranking of all pairs against a sorted list of their keys, as whole tables: a pair that is
// lost or counted for the wrong side, an increment lost between threads, a table whose form follows
// from the order of tiles.
#include "backend/pair_ranks.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "backend/cpu_level.hpp"
#include "support/gap_tiles.hpp"

namespace cupel {
namespace {

using test::feed;
using test::make_embedding;
using test::PlainEmbedding;
using test::Rows;
using test::tile_items;
using test::TileItem;

RankTable plain_ranks(const EmbeddingView& view) {
  PairPass pass = PairPass::whole(view);
  pass.ranks = true;
  return test::plain_pairs(view, pass).ranks;
}

RankTable ranks(const EmbeddingView& view, const std::vector<TileItem>& items, int threads) {
  RankSink sink(view, threads);
  feed(sink, view, items, threads);
  return sink.finish();
}

TEST(PairRanks, EqualTheSortedKeysInAnyOrderOfTiles) {
  for (const PairDomain domain : {PairDomain::kL2, PairDomain::kCosine}) {
    for (const Rows kind :
         {Rows::kRandom, Rows::kDuplicates, Rows::kOpposite, Rows::kAllEqual, Rows::kLong}) {
      const PlainEmbedding rows_of = make_embedding(270, 6, 5, 21, kind, domain);
      const RankTable want = plain_ranks(rows_of.view());
      for (const i64 cols_each : {48, 96, 270}) {
        std::vector<TileItem> items = tile_items(270, cols_each, 40);
        for (const u64 seed : {0, 1, 2}) {
          SCOPED_TRACE(testing::Message() << static_cast<int>(domain) << static_cast<int>(kind)
                                          << " " << cols_each << " " << seed);
          if (seed > 0) test::shuffle(items, seed);
          EXPECT_EQ(ranks(rows_of.view(), items, 1), want);
        }
      }
    }
  }
}

// Threads that count on one page, with many keys and with one.
TEST(PairRanks, DoNotDependOnThreads) {
  for (const Rows kind : {Rows::kRandom, Rows::kAllEqual}) {
    const PlainEmbedding rows_of = make_embedding(900, 4, 6, 5, kind, PairDomain::kCosine);
    const RankTable want = plain_ranks(rows_of.view());
    std::vector<TileItem> items = tile_items(900, 96, 64);
    test::shuffle(items, 3);
    for (const int threads : {1, 2, 9}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(kind) << " " << threads);
      EXPECT_EQ(ranks(rows_of.view(), items, threads), want);
    }
  }
}

TEST(PairRanks, EveryInstructionSet) {
  const PlainEmbedding rows_of = make_embedding(260, 5, 4, 8, Rows::kLong);
  const RankTable want = plain_ranks(rows_of.view());
  for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
    limit_cpu_level(level);
    EXPECT_EQ(ranks(rows_of.view(), tile_items(260, 96, 16), 1), want) << static_cast<int>(level);
  }
  limit_cpu_level(CpuLevel::kV4);
}

TEST(PairRanks, OneClassAndAClassForEachRow) {
  PlainEmbedding rows_of = make_embedding(100, 3, 1, 8);
  EXPECT_EQ(ranks(rows_of.view(), tile_items(100, 48, 100), 2), plain_ranks(rows_of.view()));
  for (u32 i = 0; i < 100; ++i) rows_of.classes[i] = i;
  rows_of.class_count = 100;
  const RankTable apart = ranks(rows_of.view(), tile_items(100, 48, 100), 2);
  EXPECT_EQ(apart, plain_ranks(rows_of.view()));
  EXPECT_EQ(apart.pos_rows(), 0U);
  EXPECT_EQ(apart.neg_rows(), 4950U);
}

// One key, as often as 16 bits count and one row more or less: a counter that overflowed is left at
// 0, and its key must not be lost.
TEST(PairRanks, AKeyWhoseCounterIsBackAtZero) {
  const PlainEmbedding rows_of = make_embedding(1024, 3, 1, 8, Rows::kAllEqual);
  for (const i64 cols : {255, 256, 257, 512, 768}) {
    PairPass pass;
    pass.ranks = true;
    pass.a_last = pass.b_first = 256;
    pass.b_last = 256 + cols;
    const TileItem item{0, 256, 256, 256 + cols};
    for (const int threads : {1, 9}) {
      EXPECT_EQ(ranks(rows_of.view(), {item}, threads),
                test::plain_pairs(rows_of.view(), pass).ranks)
          << cols << " columns, " << threads << " threads";
    }
  }
}

TEST(PairRanks, NothingTaken) {
  const PlainEmbedding rows_of = make_embedding(1, 3, 1, 8);
  RankSink sink(rows_of.view(), 3);
  EXPECT_EQ(sink.finish(), plain_ranks(rows_of.view()));
}

}  // namespace
}  // namespace cupel
