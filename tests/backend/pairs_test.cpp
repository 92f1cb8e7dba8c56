// Sums over all pairs of rows against the definition, pair by pair: a tile that is cut wrong at its
// edges, a pair that is counted twice or a class that a panel misses changes the sum.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "backend/cpu_level.hpp"
#include "cupel/backend/backend.hpp"
#include "cupel/math/pair_kernel.hpp"

namespace cupel {
namespace {

struct Rows {
  std::vector<double> p;
  std::vector<i32> labels;
  TableView table;
};

Rows seeded(i64 rows, i64 classes, u64 seed) {
  std::mt19937_64 random(seed);
  Rows all;
  for (i64 i = 0; i < rows; ++i) {
    double total = 0;
    for (i64 k = 0; k < classes; ++k) {
      all.p.push_back(static_cast<double>(random() % 64 + 1));
      total += all.p.back();
    }
    for (i64 k = 0; k < classes; ++k) all.p[static_cast<std::size_t>(i * classes + k)] /= total;
    all.labels.push_back(static_cast<i32>(random() % static_cast<u64>(classes)));
  }
  // Rows that are equal: their distance is 0 on every path.
  if (rows > 20) std::copy_n(all.p.begin(), classes, all.p.begin() + 19 * classes);
  all.table.task = Task::kMulticlass;
  all.table.rows = rows;
  all.table.classes = classes;
  all.table.scores = make_view(all.p.data(), DType::kF64, {rows, classes});
  all.table.class_labels = all.labels.data();
  return all;
}

/// The sum by the definition, in long double.
long double expected_sum(const Rows& rows, double nu) {
  const i64 classes = rows.table.classes;
  long double sum = 0;
  for (i64 i = 0; i < rows.table.rows; ++i) {
    for (i64 j = i + 1; j < rows.table.rows; ++j) {
      long double squared = 0;
      long double product = 0;
      for (i64 k = 0; k < classes; ++k) {
        const long double a = rows.p[static_cast<std::size_t>(i * classes + k)];
        const long double b = rows.p[static_cast<std::size_t>(j * classes + k)];
        squared += (a - b) * (a - b);
        product += ((rows.labels[static_cast<std::size_t>(i)] == k ? 1 : 0) - a) *
                   ((rows.labels[static_cast<std::size_t>(j)] == k ? 1 : 0) - b);
      }
      sum += product * std::exp(-std::sqrt(squared) / static_cast<long double>(nu));
    }
  }
  return sum;
}

TEST(Pairs, TheSumOfTheDefinition) {
  for (const auto& [rows, classes] : std::vector<std::pair<i64, i64>>{{0, 3},
                                                                      {1, 3},
                                                                      {2, 2},
                                                                      {3, 5},
                                                                      {16, 3},
                                                                      {17, 4},
                                                                      {63, 7},
                                                                      {64, 2},
                                                                      {65, 33},
                                                                      {200, 10}}) {
    const Rows all = seeded(rows, classes, static_cast<u64>(rows * 100 + classes));
    const auto backend = make_cpu_backend(2);
    for (const double nu : {0.05, 0.4, 10.0}) {
      const auto sum = backend->pair_sum(all.table, 0, rows, nu);
      ASSERT_TRUE(sum.ok());
      const double pairs = static_cast<double>(rows) * static_cast<double>(rows) / 2;
      EXPECT_NEAR(std::ldexp(static_cast<double>(*sum), -kPairBits),
                  static_cast<double>(expected_sum(all, nu)), 1e-14 * (1 + pairs))
          << rows << " rows, " << classes << " classes, nu " << nu;
    }
  }
}

TEST(Pairs, NeitherLevelsNorThreadsNorRangesChangeTheBits) {
  const Rows all = seeded(333, 11, 5);
  const i128 whole = *make_cpu_backend(1)->pair_sum(all.table, 0, 333, 0.3);
  const auto counted = *make_cpu_backend(1)->pair_distances(all.table, 0, 333, std::nullopt);
  for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
    limit_cpu_level(level);
    const auto backend = make_cpu_backend(3);
    i128 sum = 0;
    std::vector<u64> counts(kDistanceBuckets);
    for (const auto& [first, last] :
         std::vector<std::pair<i64, i64>>{{0, 1}, {1, 100}, {100, 101}, {101, 333}}) {
      sum += *backend->pair_sum(all.table, first, last, 0.3);
      const auto own = *backend->pair_distances(all.table, first, last, std::nullopt);
      for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += own[i];
    }
    EXPECT_TRUE(sum == whole);
    EXPECT_EQ(counts, counted);
  }
  limit_cpu_level(CpuLevel::kV4);
}

// The two halves of a key together are the sorted list of distances.
TEST(Pairs, DistancesAreCountedByTheirKeys) {
  const Rows all = seeded(70, 4, 9);
  std::vector<u32> keys;
  for (i64 i = 0; i < 70; ++i) {
    for (i64 j = i + 1; j < 70; ++j) {
      long double squared = 0;
      for (i64 k = 0; k < 4; ++k) {
        const long double d = static_cast<long double>(all.p[static_cast<std::size_t>(i * 4 + k)]) -
                              static_cast<long double>(all.p[static_cast<std::size_t>(j * 4 + k)]);
        squared += d * d;
      }
      keys.push_back(distance_key(static_cast<double>(std::sqrt(squared))));
    }
  }
  const auto backend = make_cpu_backend(2);
  const auto high = *backend->pair_distances(all.table, 0, 70, std::nullopt);
  for (u32 upper = 0; upper < kDistanceBuckets; ++upper) {
    const auto expected = static_cast<u64>(
        std::count_if(keys.begin(), keys.end(), [upper](u32 key) { return key >> 16 == upper; }));
    ASSERT_EQ(high[upper], expected) << upper;
    if (expected == 0) continue;
    const auto low = *backend->pair_distances(all.table, 0, 70, upper);
    EXPECT_EQ(std::accumulate(low.begin(), low.end(), u64{0}), expected);
    for (const u32 key : keys) {
      if (key >> 16 == upper) {
        EXPECT_GT(low[key & 0xFFFFu], 0u);
      }
    }
  }
}

}  // namespace
}  // namespace cupel
