// Each row's nearest rows against a sorted list of all others: a row turned away by a bound that
// was not its own or not true yet, ties in another order, an order of tiles or threads that shows.
#include "backend/pair_neighbours.hpp"

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

Neighbours plain_neighbours(const EmbeddingView& view, const std::vector<u32>& wanted) {
  PairPass pass = PairPass::whole(view);
  pass.neighbours = wanted;
  return test::plain_pairs(view, pass).neighbours;
}

Neighbours neighbours(const EmbeddingView& view, const std::vector<u32>& wanted,
                      const std::vector<TileItem>& items, int threads) {
  NeighbourSink sink(view, wanted, threads);
  feed(sink, view, items, threads);
  return sink.finish();
}

/// None, one, some, and more than there are.
std::vector<u32> mixed_wanted(i64 rows) {
  std::vector<u32> wanted;
  for (i64 i = 0; i < rows; ++i) {
    constexpr u32 kWanted[] = {0, 1, 2, 10, 33, 100, 1000};
    wanted.push_back(kWanted[i % 7]);
  }
  return wanted;
}

TEST(PairNeighbours, EqualTheSortedRowsInAnyOrderOfTiles) {
  for (const PairDomain domain : {PairDomain::kL2, PairDomain::kCosine}) {
    for (const Rows kind :
         {Rows::kRandom, Rows::kDuplicates, Rows::kOpposite, Rows::kAllEqual, Rows::kLong}) {
      const PlainEmbedding rows_of = make_embedding(170, 6, 5, 21, kind, domain);
      const std::vector<u32> wanted = mixed_wanted(170);
      const Neighbours want = plain_neighbours(rows_of.view(), wanted);
      for (const i64 cols_each : {48, 96, 170}) {
        std::vector<TileItem> items = tile_items(170, cols_each, 40);
        for (const u64 seed : {0, 1, 2}) {
          SCOPED_TRACE(testing::Message() << static_cast<int>(domain) << static_cast<int>(kind)
                                          << " " << cols_each << " " << seed);
          if (seed > 0) test::shuffle(items, seed);
          EXPECT_EQ(neighbours(rows_of.view(), wanted, items, 1), want);
        }
      }
    }
  }
}

// Threads that meet at the same rows; one list that all of them write to.
TEST(PairNeighbours, DoNotDependOnThreads) {
  for (const Rows kind : {Rows::kRandom, Rows::kDuplicates, Rows::kAllEqual}) {
    const PlainEmbedding rows_of = make_embedding(700, 3, 6, 5, kind);
    std::vector<u32> few(700, 3);
    few[300] = 2000;
    std::vector<u32> one_row(700, 0);
    one_row[400] = 40;
    std::vector<TileItem> items = tile_items(700, 96, 64);
    test::shuffle(items, 3);
    for (const std::vector<u32>& wanted : {few, one_row}) {
      const Neighbours want = plain_neighbours(rows_of.view(), wanted);
      for (const int threads : {1, 2, 4, 9}) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(kind) << " " << threads);
        EXPECT_EQ(neighbours(rows_of.view(), wanted, items, threads), want);
      }
    }
  }
}

TEST(PairNeighbours, EveryInstructionSet) {
  const PlainEmbedding rows_of = make_embedding(120, 5, 4, 8, Rows::kDuplicates);
  const std::vector<u32> wanted(120, 4);
  const Neighbours want = plain_neighbours(rows_of.view(), wanted);
  for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
    limit_cpu_level(level);
    EXPECT_EQ(neighbours(rows_of.view(), wanted, tile_items(120, 96, 16), 1), want)
        << static_cast<int>(level);
  }
  limit_cpu_level(CpuLevel::kV4);
}

// All rows at one distance: only ties decide. By hand: the wanted smallest ties of the others.
TEST(PairNeighbours, TiesDecideAmongEqualRows) {
  PlainEmbedding rows_of = make_embedding(60, 3, 2, 8, Rows::kAllEqual);
  for (u32 i = 0; i < 60; ++i) rows_of.ties[i] = 59 - i;
  const Neighbours found =
      neighbours(rows_of.view(), std::vector<u32>(60, 2), tile_items(60, 48, 16), 2);
  ASSERT_EQ(found.rows.size(), 120U);
  EXPECT_EQ(found.rows[0].row, 59U);  // of row 0
  EXPECT_EQ(found.rows[1].row, 58U);
  EXPECT_EQ(found.rows[118].row, 58U);  // of row 59
  EXPECT_EQ(found.rows[119].row, 57U);
}

TEST(PairNeighbours, NothingTaken) {
  const PlainEmbedding rows_of = make_embedding(2, 3, 1, 8);
  const std::vector<u32> wanted = {1, 0};
  NeighbourSink sink(rows_of.view(), wanted, 3);
  const Neighbours found = sink.finish();
  EXPECT_EQ(found.offsets, (std::vector<u64>{0, 0, 0}));
  EXPECT_TRUE(found.rows.empty());
}

}  // namespace
}  // namespace cupel
