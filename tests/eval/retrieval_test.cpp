// From nearest rows to sums of retrieval: hits counted by hand, rows that are alone in their class,
// lists cut at the size of a class, sums of blocks of queries against those of all.
#include "eval/retrieval.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "support/plain_pairs.hpp"

namespace cupel {
namespace {

constexpr u128 kOne = u128{1} << 60;

/// Points on a line, as embeddings of one element: distances are differences.
test::PlainEmbedding on_a_line(const std::vector<float>& at, const std::vector<u32>& classes,
                               u32 class_count) {
  test::PlainEmbedding made;
  made.rows = static_cast<i64>(at.size());
  made.width = made.stride = 1;
  made.values = at;
  made.classes = classes;
  made.class_count = class_count;
  for (u32 i = 0; i < at.size(); ++i) made.ties.push_back(i);
  made.find_squares();
  return made;
}

Neighbours nearest(const EmbeddingView& view, const std::vector<u32>& wanted) {
  PairPass pass = PairPass::whole(view);
  pass.neighbours = wanted;
  return test::plain_pairs(view, pass).neighbours;
}

// Class 0 at 0, 1, 4; class 1 at 2, 10; class 2 at 11. Nearest first, a tie to the smaller row:
//   0: 1+ 2(b) 4+ ...            R = 2: hits 1 of 2, precision 1
//   1: 0+ 2(b) | 4+              R = 2: the tie of 0 and 2(b) goes to 0: hits 1, precision 1
//   4: 2(b) 1+ | 0+              R = 2: hits 1 at rank 2, precision 1/2
//   2: 1 (d 1), 0, 4 (d 2), 10+  R = 1: hits 0; its class first at rank 4
//   10: 11, ...                  R = 1: hits 0; 2+ is at d 8 behind 11, 4 (d 6): rank 3
TEST(Retrieval, ByHand) {
  const test::PlainEmbedding rows = on_a_line({0, 1, 4, 2, 10, 11}, {0, 0, 0, 1, 1, 2}, 3);
  const EmbeddingView view = rows.view();
  const std::vector<i64> ks = {1, 2, 3, 4};
  const std::vector<u32> wanted = wanted_neighbours(view, ks, true);
  EXPECT_EQ(wanted, (std::vector<u32>{4, 4, 4, 4, 4, 0}));
  const RetrievalSums sums = retrieval_sums(view, nearest(view, wanted), 0, 6, ks, true);
  EXPECT_EQ(sums.queries, 5U);
  EXPECT_EQ(sums.alone, 1U);
  EXPECT_EQ(sums.found, (std::vector<u64>{2, 3, 4, 5}));
  ASSERT_EQ(sums.by_size.size(), 2U);
  EXPECT_EQ(sums.by_size[0], (RetrievalSums::BySize{1, 2, 0, 0}));
  EXPECT_EQ(sums.by_size[1], (RetrievalSums::BySize{2, 3, 3, 2 * kOne + kOne / 2}));
}

// With the ties the other way round, 2(b) is nearer to 1 than 0 is: its first hit moves to rank 2,
// where its precision is 1/2.
TEST(Retrieval, TheSmallerTieIsNearer) {
  test::PlainEmbedding rows = on_a_line({0, 1, 4, 2, 10, 11}, {0, 0, 0, 1, 1, 2}, 3);
  std::reverse(rows.ties.begin(), rows.ties.end());
  const EmbeddingView view = rows.view();
  const std::vector<i64> ks = {1, 2};
  const std::vector<u32> wanted = wanted_neighbours(view, ks, true);
  const RetrievalSums sums = retrieval_sums(view, nearest(view, wanted), 0, 6, ks, true);
  EXPECT_EQ(sums.found, (std::vector<u64>{1, 3}));
  ASSERT_EQ(sums.by_size.size(), 2U);
  EXPECT_EQ(sums.by_size[1], (RetrievalSums::BySize{2, 3, 3, 2 * kOne}));
}

// A class of four, R = 3, with hits at the ranks 1 3, 2 3, 1 2 3 and none. Average precisions
// (1 + 2/3) / 3, (1/2 + 2/3) / 3, 1 and 0: MAP@R = 35/72, R-precision = (2 + 2 + 3 + 0) / 12.
TEST(Retrieval, AClassOfFourByHand) {
  test::PlainEmbedding rows_of;
  rows_of.rows = 7;
  rows_of.classes = {0, 0, 0, 0, 1, 2, 3};
  rows_of.class_count = 4;
  Neighbours lists;
  lists.offsets = {0, 3, 6, 9, 12, 12, 12, 12};
  for (const u32 row : {1U, 4U, 2U, 4U, 0U, 2U, 3U, 0U, 1U, 4U, 6U, 5U}) {
    lists.rows.push_back({0, 0, row});
  }
  const RetrievalSums sums = retrieval_sums(rows_of.view(), lists, 0, 7, {}, true);
  EXPECT_EQ(sums.queries, 4U);
  EXPECT_EQ(sums.alone, 3U);
  constexpr u64 kTwoThirds = 768614336404564650;  // floor(2^61 / 3)
  const u128 precision = 4 * kOne + kOne / 2 + 2 * u128{kTwoThirds};
  ASSERT_EQ(sums.by_size.size(), 1U);
  EXPECT_EQ(sums.by_size[0], (RetrievalSums::BySize{3, 4, 7, precision}));
  EXPECT_NEAR(static_cast<double>(precision) / 0x1p60 / 12, 35.0 / 72, 1e-15);
}

// More rows are asked for than there are.
TEST(Retrieval, FewerRowsThanK) {
  const test::PlainEmbedding rows = on_a_line({0, 1, 5}, {0, 1, 1}, 2);
  const EmbeddingView view = rows.view();
  const std::vector<i64> ks = {1, 50};
  const std::vector<u32> wanted = wanted_neighbours(view, ks, false);
  EXPECT_EQ(wanted, (std::vector<u32>{0, 2, 2}));
  const RetrievalSums sums = retrieval_sums(view, nearest(view, wanted), 0, 3, ks, false);
  EXPECT_EQ(sums.found, (std::vector<u64>{1, 2}));
  EXPECT_TRUE(sums.by_size.empty());
}

TEST(Retrieval, BlocksOfQueriesAddUp) {
  const test::PlainEmbedding rows = test::make_embedding(120, 5, 17, 4, test::Rows::kDuplicates);
  const EmbeddingView view = rows.view();
  const std::vector<i64> ks = {1, 3};
  const std::vector<u32> wanted = wanted_neighbours(view, ks, true);
  const Neighbours near = nearest(view, wanted);
  const RetrievalSums whole = retrieval_sums(view, near, 0, 120, ks, true);
  RetrievalSums merged;
  for (const auto& [first, last] : {std::pair{0, 50}, std::pair{50, 51}, std::pair{51, 120}}) {
    merged.merge(retrieval_sums(view, near, first, last, ks, true));
  }
  EXPECT_EQ(merged, whole);
  EXPECT_EQ(whole.queries + whole.alone, 120U);
}

// Many shapes by loops that look at every row at each k
// and rank afresh.
TEST(Retrieval, EqualsLoopsOverAllRows) {
  const std::vector<i64> ks = {1, 2, 4, 8, 10};
  for (const test::Rows kind :
       {test::Rows::kRandom, test::Rows::kDuplicates, test::Rows::kAllEqual}) {
    for (const u32 classes : {1U, 7U, 60U}) {
      const test::PlainEmbedding rows_of = test::make_embedding(90, 3, classes, 4, kind);
      const EmbeddingView view = rows_of.view();
      const Neighbours all = nearest(view, std::vector<u32>(90, 89));
      const auto hits_among = [&](i64 i, i64 first_ranks) {
        u64 hits = 0;
        for (i64 rank = 1; rank <= std::min<i64>(first_ranks, 89); ++rank) {
          const Neighbours::One& one = all.rows[static_cast<std::size_t>(i * 89 + rank - 1)];
          hits += view.classes[one.row] == view.classes[i] ? 1 : 0;
        }
        return hits;
      };
      u64 queries = 0;
      std::vector<u64> found(ks.size());
      std::vector<u128> precision(91);
      for (i64 i = 0; i < 90; ++i) {
        const i64 positives = std::count(rows_of.classes.begin(), rows_of.classes.end(),
                                         rows_of.classes[static_cast<std::size_t>(i)]) -
                              1;
        if (positives == 0) continue;
        ++queries;
        for (std::size_t k = 0; k < ks.size(); ++k) found[k] += hits_among(i, ks[k]) > 0 ? 1 : 0;
        for (i64 rank = 1; rank <= positives; ++rank) {
          const u64 hits = hits_among(i, rank);
          if (hits == hits_among(i, rank - 1)) continue;
          precision[static_cast<std::size_t>(positives)] += kOne * hits / static_cast<u64>(rank);
        }
      }
      const std::vector<u32> wanted = wanted_neighbours(view, ks, true);
      const Neighbours lists = nearest(view, wanted);
      const RetrievalSums sums = retrieval_sums(view, lists, 0, 90, ks, true);
      EXPECT_EQ(sums.queries, queries);
      EXPECT_EQ(sums.queries + sums.alone, 90U);
      EXPECT_EQ(sums.found, found);
      u64 by_size_queries = 0;
      for (const RetrievalSums::BySize& size : sums.by_size) {
        by_size_queries += size.queries;
        EXPECT_TRUE(size.precision == precision[size.positives]) << size.positives;
      }
      EXPECT_EQ(by_size_queries, queries);
      EXPECT_TRUE(retrieval_sums(view, lists, 0, 90, ks, false).by_size.empty());
    }
  }
}

}  // namespace
}  // namespace cupel
