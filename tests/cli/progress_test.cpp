// What the line on a terminal says, at times that are given.
#include "cli/progress.hpp"

#include <gtest/gtest.h>

namespace cupel {
namespace {

EvalProgress at(i64 done, i64 dumps, i64 rows, u64 pairs_done, u64 pairs) {
  return {done, dumps, rows, pairs_done, pairs, "m.npz"};
}

TEST(ProgressText, OfRowsIsAsEver) {
  EXPECT_EQ(progress_text(at(0, 9, 0, 0, 0), 1), "0/9 dumps  m.npz");
  EXPECT_EQ(progress_text(at(3, 9, 36'900'000, 0, 0), 3),
            "3/9 dumps  12.3 M rows/s  0:06 left  m.npz");
  EXPECT_EQ(progress_text(at(1, 3, 100, 0, 0), 3600), "1/3 dumps  0 rows/s  2:00:00 left  m.npz");
}

// Catches a rate over the time of reading, or time left without the pairs that are still to come.
TEST(ProgressText, OfPairsCountsThemFromTheirStart) {
  EXPECT_EQ(progress_text(at(0, 1, 0, 0, 1000), 5, 1), "0/1 dumps  0 %  m.npz");
  EXPECT_EQ(progress_text(at(0, 1, 0, 2'000'000'000, 8'000'000'000), 15, 10),
            "0/1 dumps  25 %  200.0 M pairs/s  0:30 left  m.npz");
  // Two more dumps like this one, of 15 + 30 s.
  EXPECT_EQ(progress_text(at(0, 3, 0, 2'000'000'000, 8'000'000'000), 15, 10),
            "0/3 dumps  25 %  200.0 M pairs/s  2:00 left  m.npz");
  EXPECT_EQ(progress_text(at(0, 1, 0, 999, 1000), 5, 0), "0/1 dumps  99 %  m.npz");
  EXPECT_EQ(progress_text(at(0, 1, 0, 1000, 1000), 5, 2),
            "0/1 dumps  100 %  500 pairs/s  0:00 left  m.npz");
  // More done than was planned is no more than all.
  EXPECT_EQ(progress_text(at(0, 1, 0, 2000, 1000), 5, 2),
            "0/1 dumps  100 %  500 pairs/s  0:00 left  m.npz");
}

TEST(ProgressText, OfVeryLongWorkStaysANumber) {
  EXPECT_EQ(progress_text(at(0, 1, 0, 1, ~u64{0}), 1, 1),
            "0/1 dumps  0 %  1 pairs/s  277777:46:40 left  m.npz");
}

}  // namespace
}  // namespace cupel
