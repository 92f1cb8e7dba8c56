// The host's pass over pairs against two plain loops, bit for bit: a wrong chain, a pair that is
// left out or taken twice at the edge of a tile, a count that depends on threads, blocks or the
// instruction set, a neighbour that a stale bound turned away.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu_level.hpp"
#include "backend/pair_counts.hpp"
#include "backend/pair_products.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/backend/backend.hpp"
#include "support/plain_pairs.hpp"

namespace cupel {
namespace {

using test::make_embedding;
using test::plain_gap;
using test::plain_pairs;
using test::PlainEmbedding;
using test::Rows;
using test::sorted_pairs;

struct LevelLimit {
  explicit LevelLimit(CpuLevel level) { limit_cpu_level(level); }
  ~LevelLimit() { limit_cpu_level(CpuLevel::kV4); }
  LevelLimit(const LevelLimit&) = delete;
  LevelLimit& operator=(const LevelLimit&) = delete;
};

PairStates run(const EmbeddingView& view, const PairPass& pass, int threads) {
  const auto backend = make_cpu_backend(1);
  auto states = backend->embedding_pairs(view, pass, threads, {});
  EXPECT_TRUE(states.ok());
  return std::move(states).value();
}

/// Cuts at gaps that occur, between them, twice the same and outside of all.
std::vector<float> some_cuts(const EmbeddingView& view, std::size_t count) {
  std::vector<float> cuts;
  test::Draws draws(5);
  for (std::size_t i = 0; i < count && view.rows > 1; ++i) {
    const auto a = static_cast<i64>(draws.below(static_cast<u64>(view.rows)));
    const auto b = static_cast<i64>(draws.below(static_cast<u64>(view.rows)));
    const float gap = plain_gap(view, a, b);
    cuts.push_back(i % 3 == 0 ? std::nextafter(gap, -1.0F) : gap);
  }
  cuts.push_back(view.domain == PairDomain::kL2 ? 1.0F : -0.25F);
  std::sort(cuts.begin(), cuts.end());
  return cuts;
}

void expect_equal(const EmbeddingView& view, const PairPass& pass, int threads) {
  const PairStates want = plain_pairs(view, pass);
  const PairStates got = run(view, pass, threads);
  EXPECT_EQ(got.cuts, want.cuts);
  EXPECT_EQ(got.ranks, want.ranks);
  EXPECT_EQ(got.neighbours, want.neighbours);
  EXPECT_TRUE(got.kept.complete);
  EXPECT_EQ(sorted_pairs(got.kept), sorted_pairs(want.kept));
}

PairPass everything(const EmbeddingView& view, const std::vector<u32>& wanted) {
  PairPass pass = PairPass::whole(view);
  pass.cuts = some_cuts(view, 9);
  pass.ranks = true;
  pass.neighbours = wanted;
  pass.kept = {{-2.0F, pass.cuts[2]}, {pass.cuts[4], pass.cuts[7]}};
  pass.kept_bytes = i64{1} << 30;
  return pass;
}

std::vector<u32> some_wanted(i64 rows) {
  std::vector<u32> wanted;
  for (i64 i = 0; i < rows; ++i) wanted.push_back(static_cast<u32>(i * 7 % 23));
  return wanted;
}

TEST(EmbeddingPairs, AwkwardSizesOnEveryInstructionSet) {
  for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
    const LevelLimit limit(level);
    for (const i64 rows : {2, 3, 7, 8, 9, 47, 48, 49, 97, 200}) {
      for (const i64 width : {1, 3, 16, 33}) {
        SCOPED_TRACE(testing::Message()
                     << rows << " rows of " << width << ", level " << static_cast<int>(level));
        const PlainEmbedding rows_of = make_embedding(rows, width, 5, static_cast<u64>(rows));
        const EmbeddingView view = rows_of.view();
        const std::vector<u32> wanted = some_wanted(rows);
        expect_equal(view, everything(view, wanted), 1 + static_cast<int>(rows % 3));
      }
    }
  }
}

TEST(EmbeddingPairs, WideRows) {
  for (const CpuLevel level : {CpuLevel::kV3, CpuLevel::kV4}) {
    const LevelLimit limit(level);
    for (const i64 width : {17, 512, 1000, 2500}) {  // one panel of columns in a block, or more
      SCOPED_TRACE(testing::Message() << width << ", level " << static_cast<int>(level));
      const PlainEmbedding rows_of = make_embedding(110, width, 9, 21);
      const std::vector<u32> wanted = some_wanted(110);
      expect_equal(rows_of.view(), everything(rows_of.view(), wanted), 3);
    }
  }
}

TEST(EmbeddingPairs, ManyThreads) {
  const PlainEmbedding rows_of = make_embedding(900, 5, 60, 31);
  const std::vector<u32> wanted = some_wanted(900);
  for (const int threads : {1, 4, 5}) {
    SCOPED_TRACE(threads);
    expect_equal(rows_of.view(), everything(rows_of.view(), wanted), threads);
  }
}

TEST(EmbeddingPairs, RowsOfEveryKindInBothDomains) {
  for (const PairDomain domain : {PairDomain::kL2, PairDomain::kCosine}) {
    for (const Rows kind :
         {Rows::kRandom, Rows::kDuplicates, Rows::kOpposite, Rows::kAllEqual, Rows::kLong}) {
      for (const u32 classes : {1U, 2U, 40U, 300U}) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(domain) << " " << static_cast<int>(kind)
                                        << " " << classes);
        const PlainEmbedding rows_of = make_embedding(270, 20, classes, 3, kind, domain);
        const EmbeddingView view = rows_of.view();
        const std::vector<u32> wanted = some_wanted(270);
        expect_equal(view, everything(view, wanted), 2);
      }
    }
  }
}

TEST(EmbeddingPairs, AClassOfItsOwnForEachRow) {
  PlainEmbedding rows_of = make_embedding(101, 8, 101, 9);
  for (i64 i = 0; i < 101; ++i) rows_of.classes[static_cast<std::size_t>(i)] = static_cast<u32>(i);
  const std::vector<u32> wanted(101, 100);
  expect_equal(rows_of.view(), everything(rows_of.view(), wanted), 3);
}

// More pairs of one key than a counter of 16 bits holds.
TEST(EmbeddingPairs, RanksOfManyEqualPairs) {
  for (const u32 classes : {1U, 2U}) {
    const PlainEmbedding rows_of = make_embedding(600, 2, classes, 3, Rows::kAllEqual);
    PairPass pass = PairPass::whole(rows_of.view());
    pass.ranks = true;
    for (const int threads : {1, 9}) expect_equal(rows_of.view(), pass, threads);
  }
}

TEST(EmbeddingPairs, NoRowsAndOneRow) {
  for (const i64 rows : {0, 1}) {
    const PlainEmbedding rows_of = make_embedding(rows, 4, 3, 1);
    PairPass pass = PairPass::whole(rows_of.view());
    pass.cuts = {0.5F, 1.0F};
    pass.ranks = true;
    const PairStates states = run(rows_of.view(), pass, 2);
    EXPECT_EQ(states.cuts, ClassCuts(3, 2));
    EXPECT_EQ(states.ranks.pos_rows() + states.ranks.neg_rows(), 0U);
  }
}

TEST(EmbeddingPairs, CutsBelowAndAboveEveryGap) {
  const PlainEmbedding rows_of = make_embedding(120, 12, 7, 2);
  for (const std::vector<float>& cuts :
       std::vector<std::vector<float>>{{-1.0F}, {100.0F}, {-1.0F, 100.0F}, {1.0F, 1.0F, 1.0F}}) {
    PairPass pass = PairPass::whole(rows_of.view());
    pass.cuts = cuts;
    expect_equal(rows_of.view(), pass, 2);
  }
}

TEST(EmbeddingPairs, DoesNotDependOnThreads) {
  const PlainEmbedding rows_of = make_embedding(4500, 3, 50, 4);
  const EmbeddingView view = rows_of.view();
  PairPass pass = PairPass::whole(view);
  pass.cuts = some_cuts(view, 30);
  pass.ranks = true;
  const std::vector<u32> wanted(4500, 12);
  pass.neighbours = wanted;
  const PairStates one = run(view, pass, 1);
  for (const int threads : {2, 9}) {
    const PairStates more = run(view, pass, threads);
    EXPECT_EQ(more.cuts, one.cuts);
    EXPECT_EQ(more.ranks, one.ranks);
    EXPECT_EQ(more.neighbours, one.neighbours);
  }
}

std::vector<float> even_cuts(double first, double last, std::size_t count) {
  std::vector<float> cuts;
  for (std::size_t k = 0; k < count; ++k) {
    const double part = static_cast<double>(k) / static_cast<double>(count - 1);
    cuts.push_back(gap_cut(PairDomain::kL2, first + (last - first) * part));
  }
  return cuts;
}

// Cuts that are close together at one end, that all lie in one place but for one, and whose
// distance is no float: each is found in another way.
TEST(EmbeddingPairs, CutsOfEverySpacing) {
  const PlainEmbedding rows_of = make_embedding(160, 6, 40, 14, Rows::kDuplicates);
  std::vector<float> close = even_cuts(0.9, 0.9001, 50);
  close.push_back(1e30F);
  const std::vector<float> wide = {-3e38F, 0, 0.5F, 1, 3e38F};
  for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
    const LevelLimit limit(level);
    for (const std::vector<float>& cuts :
         {even_cuts(0, 2, 101), even_cuts(0, 1.1, 1001), even_cuts(0.2, 0.6, 101), close, wide}) {
      SCOPED_TRACE(testing::Message() << cuts.size() << ", level " << static_cast<int>(level));
      PairPass pass = PairPass::whole(rows_of.view());
      pass.cuts = cuts;
      expect_equal(rows_of.view(), pass, 1);
    }
  }
}

TEST(EmbeddingPairs, MoreCutsThanAHintHolds) {
  const PlainEmbedding rows_of = make_embedding(20, 6, 3, 16);
  PairPass pass = PairPass::whole(rows_of.view());
  pass.cuts = even_cuts(0, 2, 70000);
  expect_equal(rows_of.view(), pass, 1);
}

// Tables that would be too large for each thread to have its own: all count in one.
TEST(EmbeddingPairs, ThreadsThatShareATableOfCounts) {
  for (const u32 classes : {1U, 2U, 50U}) {
    const PlainEmbedding rows_of = make_embedding(300, 6, classes, 15);
    const EmbeddingView view = rows_of.view();
    PairPass pass = PairPass::whole(view);
    pass.cuts = even_cuts(0.5, 1.4, 60);
    ThreadPool pool(4);
    CutSink sink(view, pass, pool.threads(), 0);
    pool.parallel_for(view.rows / kTileCols + 1, [&](int thread, i64 index) {
      PackedColumns columns;
      const i64 first = index * kTileCols;
      const i64 last = std::min(first + kTileCols, view.rows);
      pack_columns(view, first, static_cast<int>(last - first), columns);
      sink.begin(thread, first, last);
      for (i64 row = 0; row + 1 < last; row += kTileRows) {
        alignas(64) float gaps[kTileRows * kTileCols];
        const auto rows = static_cast<int>(std::min<i64>(kTileRows, view.rows - row));
        sink.take(thread, make_tile(view, row, rows, columns, gaps));
      }
      sink.end(thread);
    });
    EXPECT_EQ(sink.finish(), plain_pairs(view, pass).cuts) << classes;
  }
}

// Shards: what the pairs of three parts of the rows, and those between the parts, give together.
TEST(EmbeddingPairs, BlocksMergeToTheWhole) {
  const PlainEmbedding rows_of = make_embedding(170, 9, 12, 6, Rows::kDuplicates);
  const EmbeddingView view = rows_of.view();
  const std::vector<u32> wanted = some_wanted(170);
  const PairPass whole = everything(view, wanted);
  const PairStates want = plain_pairs(view, whole);
  const std::vector<i64> ends = {0, 61, 62, 170};
  PairStates merged;
  u64 pairs = 0;
  for (std::size_t a = 0; a + 1 < ends.size(); ++a) {
    for (std::size_t b = a; b + 1 < ends.size(); ++b) {
      PairPass block = whole;
      block.a_first = ends[a];
      block.a_last = ends[a + 1];
      block.b_first = ends[b];
      block.b_last = ends[b + 1];
      pairs += block.pairs();
      PairStates part = run(view, block, 2);
      EXPECT_EQ(part.cuts, plain_pairs(view, block).cuts);
      ASSERT_TRUE(merged.merge(std::move(part), wanted).ok());
    }
  }
  EXPECT_EQ(pairs, whole.pairs());
  EXPECT_EQ(merged.cuts, want.cuts);
  EXPECT_EQ(merged.ranks, want.ranks);
  EXPECT_EQ(merged.neighbours, want.neighbours);
  EXPECT_EQ(sorted_pairs(merged.kept), sorted_pairs(want.kept));
}

TEST(EmbeddingPairs, AListBeyondItsLimitIsGivenUp) {
  const PlainEmbedding rows_of = make_embedding(300, 4, 3, 8);
  PairPass pass = PairPass::whole(rows_of.view());
  pass.cuts = {1.0F};
  pass.kept = {{-1.0F, 100.0F}};
  pass.kept_bytes = 1000;
  const PairStates states = run(rows_of.view(), pass, 2);
  EXPECT_FALSE(states.kept.complete);
  EXPECT_EQ(states.kept.size(), 0U);
  EXPECT_EQ(states.cuts, plain_pairs(rows_of.view(), pass).cuts);  // the pass went on
}

TEST(EmbeddingPairs, NegativesOnly) {
  const PlainEmbedding rows_of = make_embedding(100, 4, 3, 8);
  PairPass pass = PairPass::whole(rows_of.view());
  pass.kept = {{0.1F, 1.2F}};
  pass.kept_negatives_only = true;
  pass.kept_bytes = i64{1} << 20;
  expect_equal(rows_of.view(), pass, 2);
}

// Distances in float32 from a dot product against those in float64 from differences.
TEST(EmbeddingPairs, DistancesAreThoseOfFloat64) {
  const PlainEmbedding rows_of = make_embedding(300, 64, 3, 12, Rows::kDuplicates);
  const EmbeddingView view = rows_of.view();
  for (i64 i = 0; i < view.rows; ++i) {
    for (i64 j = i + 1; j < view.rows; ++j) {
      double sum = 0;
      for (i64 k = 0; k < view.width; ++k) {
        const double difference =
            static_cast<double>(view.row(i)[k]) - static_cast<double>(view.row(j)[k]);
        sum += difference * difference;
      }
      const double distance = key_value(view.domain, gap_key(view.domain, plain_gap(view, i, j)));
      EXPECT_NEAR(distance, std::sqrt(sum), std::sqrt(sum) > 0.1 ? 1e-6 : 5e-4);
      if (sum == 0) {
        EXPECT_EQ(distance, 0);
      }
    }
  }
}

TEST(EmbeddingPairs, TellsItsProgress) {
  const PlainEmbedding rows_of = make_embedding(400, 4, 3, 8);
  PairPass pass = PairPass::whole(rows_of.view());
  pass.cuts = {1.0F};
  u64 last = 0;
  const auto backend = make_cpu_backend(1);
  ASSERT_TRUE(
      backend->embedding_pairs(rows_of.view(), pass, 2, [&](u64 done) { last = done; }).ok());
  EXPECT_EQ(last, u64{400} * 399 / 2);
}

// A cut accepts exactly the gaps whose distance or similarity the threshold accepts.
TEST(EmbeddingPairs, CutsOfThresholds) {
  test::Draws draws(3);
  for (int i = 0; i < 20000; ++i) {
    const float gap = static_cast<float>(draws.unit()) * 4;
    const float distance = std::sqrt(gap);
    for (const double threshold :
         {static_cast<double>(distance), static_cast<double>(std::nextafter(distance, 0.0F)),
          static_cast<double>(distance) + 1e-12, draws.unit()}) {
      EXPECT_EQ(gap <= gap_cut(PairDomain::kL2, threshold),
                static_cast<double>(distance) <= threshold);
    }
    const float similarity = 1 - gap;
    const float other = 0.0F - similarity;
    for (const double threshold :
         {static_cast<double>(similarity), static_cast<double>(similarity) + 1e-12, draws.unit()}) {
      EXPECT_EQ(other <= gap_cut(PairDomain::kCosine, threshold),
                static_cast<double>(similarity) >= threshold);
    }
    for (const PairDomain domain : {PairDomain::kL2, PairDomain::kCosine}) {
      const u32 key = gap_key(domain, gap);
      const float cut = gap_of_key(domain, key);
      EXPECT_EQ(gap_key(domain, cut), key);
      EXPECT_LT(gap_key(domain, std::nextafter(cut, 5.0F)), key);
    }
  }
  EXPECT_LT(gap_cut(PairDomain::kL2, -0.1), 0);
  EXPECT_EQ(gap_cut(PairDomain::kL2, 0), 0);
}

}  // namespace
}  // namespace cupel
