// Which bin a confidence belongs to: every edge, its neighbours among the doubles, and both ends,
// against a search through all bins. A product that guesses the bin is wrong for some of these.
#include "cupel/math/bins.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace cupel {
namespace {

/// The slot by definition, bin after bin.
i64 searched_slot(double p, i64 bins, bool closed_left) {
  if (p == 0) return 0;
  if (p == 1) return bins + 1;
  for (i64 k = 0; k < bins; ++k) {
    const double low = static_cast<double>(k) / static_cast<double>(bins);
    const double high = static_cast<double>(k + 1) / static_cast<double>(bins);
    if (closed_left ? low <= p && p < high : low < p && p <= high) return k + 1;
  }
  return -1;
}

TEST(BinSlot, EdgesAndTheirNeighbours) {
  for (const i64 bins : {1, 2, 3, 5, 7, 10, 15, 20, 49, 50, 100, 1000, 4093}) {
    for (i64 k = 0; k <= bins; ++k) {
      const double edge = bin_edge(k, bins);
      for (const double p : {edge, std::nextafter(edge, 0.0), std::nextafter(edge, 1.0)}) {
        for (const bool closed_left : {false, true}) {
          ASSERT_EQ(bin_slot(p, static_cast<i32>(bins), closed_left),
                    searched_slot(p, bins, closed_left))
              << std::hexfloat << p << " in " << bins << " bins, closed_left " << closed_left;
        }
      }
    }
  }
}

TEST(BinSlot, TheSmallestAndLargestConfidences) {
  for (const bool closed_left : {false, true}) {
    EXPECT_EQ(bin_slot(0.0, 15, closed_left), 0);
    EXPECT_EQ(bin_slot(-0.0, 15, closed_left), 0);
    EXPECT_EQ(bin_slot(5e-324, 15, closed_left), 1);
    EXPECT_EQ(bin_slot(std::nextafter(1.0, 0.0), 15, closed_left), 15);
    EXPECT_EQ(bin_slot(1.0, 15, closed_left), 16);
    EXPECT_EQ(bin_slot(0.5, static_cast<i32>(kMostBins), closed_left), closed_left ? 32769 : 32768);
  }
}

TEST(ConfidenceTerm, RoundsToTheNearestUnit) {
  EXPECT_EQ(confidence_term(0.0), 0u);
  EXPECT_EQ(confidence_term(1.0), u64{1} << 50);
  EXPECT_EQ(confidence_term(0.3), static_cast<u64>(std::nearbyint(0.3 * 0x1p50)));
  EXPECT_EQ(confidence_term(0x1p-51), 0u) << "half a unit goes to the even one";
  EXPECT_EQ(confidence_term(0x1.8p-50), 2u);
}

TEST(TopOfBinary, PredictsTheMoreProbableClass) {
  EXPECT_EQ(top_of_binary(0.75, true).confidence, 0.75);
  EXPECT_TRUE(top_of_binary(0.75, true).right);
  EXPECT_FALSE(top_of_binary(0.75, false).right);
  EXPECT_EQ(top_of_binary(0.25, false).confidence, 0.75);
  EXPECT_TRUE(top_of_binary(0.25, false).right);
  EXPECT_FALSE(top_of_binary(0.5, true).right) << "one half is no positive decision";
}

}  // namespace
}  // namespace cupel
