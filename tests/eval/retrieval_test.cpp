// From nearest rows to sums of retrieval: hits counted by hand, rows that are alone in their class,
// lists cut at the size of a class, sums of blocks of queries against those of all.
#include "eval/retrieval.hpp"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace cupel
