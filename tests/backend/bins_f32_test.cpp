// The short way of a binary column's float32 probabilities into bins against the general one, which
// the same values take when they do not lie side by side.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "backend/cpu_bins_f32.hpp"
#include "backend/cpu_level.hpp"
#include "backend/cpu_rows.hpp"
#include "backend/thread_pool.hpp"
#include "support/rank_data.hpp"

namespace cupel {
namespace {

using test::Draws;

/// Every edge of B bins as the nearest float32, and two neighbours on either side.
std::vector<float> around_edges(i64 bins) {
  std::vector<float> values;
  for (i64 k = 0; k <= bins; ++k) {
    float value = static_cast<float>(bin_edge(k, bins));
    for (int i = 0; i < 2; ++i) value = std::nextafter(value, -1.0f);
    for (int i = 0; i < 5; ++i, value = std::nextafter(value, 2.0f)) {
      if (value >= 0 && value <= 1) values.push_back(value);
    }
  }
  return values;
}

TEST(FloatBins, SlotsAreThoseOfDoublesAtEveryEdge) {
  std::vector<i64> counts = {1000, 1023, 4095, 10'007, 65'535, 65'536};
  for (i64 bins = 1; bins <= 300; ++bins) counts.push_back(bins);
  Draws draws(3);
  for (const i64 bins : counts) {
    std::vector<float> values = around_edges(bins);
    values.insert(values.end(), {0.0f, -0.0f, 0x1p-149f, 0x1p-126f, 1.0f});
    for (int i = 0; i < 1000; ++i) values.push_back(static_cast<float>(draws.unit()));
    for (const float p : values) {
      for (const bool closed_left : {false, true}) {
        const i32 count = static_cast<i32>(bins);
        ASSERT_EQ(cpu::float_bin_slot(p, count, closed_left),
                  bin_slot(static_cast<double>(p), count, closed_left))
            << p << " of " << bins << (closed_left ? " [lo, hi)" : " (lo, hi]");
      }
    }
  }
}

struct Column {
  std::vector<std::byte> side_by_side;
  std::vector<std::byte> apart;
  std::vector<u8> labels;
  TableView table;  ///< side by side
  TableView spread;
};

template <class T>
Column column_of(DType dtype, const std::vector<T>& values) {
  Column out;
  constexpr std::size_t kSize = sizeof(T);
  const i64 rows = static_cast<i64>(values.size());
  out.side_by_side.resize(values.size() * kSize);
  out.apart.resize(values.size() * kSize * 2 + kSize);
  Draws draws(9);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::memcpy(out.side_by_side.data() + i * kSize, &values[i], kSize);
    std::memcpy(out.apart.data() + 2 * i * kSize, &values[i], kSize);
    out.labels.push_back(draws.below(3) == 0 ? 1 : 0);
  }
  out.table.rows = rows;
  out.table.scores = make_view(out.side_by_side.data(), dtype, {rows});
  out.table.binary_labels = out.labels.data();
  out.spread = out.table;
  out.spread.scores.data = out.apart.data();
  out.spread.scores.strides = {static_cast<i64>(2 * kSize)};
  return out;
}

RowSpec spec_of(std::vector<BinQuery> bins) {
  RowSpec spec;
  spec.thresholds = {0.5, 0.1, 0.0, 1e300, -1e300};
  spec.brier = true;
  spec.log_loss = true;
  spec.bins = std::move(bins);
  return spec;
}

void expect_equal(const Column& column, const RowSpec& spec, const std::string& what) {
  ThreadPool pool(2);
  limit_cpu_level(CpuLevel::kV4);
  const auto wanted = cpu_row_sums(column.spread, spec, pool);
  ASSERT_TRUE(wanted.ok());
  for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
    limit_cpu_level(level);
    const auto got = cpu_row_sums(column.table, spec, pool);
    ASSERT_TRUE(got.ok());
    EXPECT_TRUE(*got == *wanted) << what << ", level " << static_cast<int>(level);
  }
  limit_cpu_level(CpuLevel::kV4);
}

TEST(FloatBins, SumsAreThoseOfTheGeneralWayAtEveryEdge) {
  for (const i64 bins : {1, 2, 3, 7, 10, 15, 16, 20, 31, 100, 127, 128, 255, 256, 257, 1000}) {
    std::vector<float> values = around_edges(bins);
    // Below 2^-8 confidences have bits that the slots' sums drop.
    for (int e = -149; e < 0; ++e) {
      values.push_back(std::ldexp(1.0f, e));
      values.push_back(std::ldexp(1.7654321f, e));
    }
    values.insert(values.end(), {0.0f, -0.0f, 1.0f});
    expect_equal(column_of(DType::kF32, values),
                 spec_of({{BinPoints::kPositive, bins, false}, {BinPoints::kPositive, bins, true}}),
                 std::to_string(bins) + " bins");
  }
}

// Moments are the general way's alone.
TEST(FloatBins, MomentsAreSummed) {
  const Column column = column_of(DType::kF32, around_edges(15));
  const RowSpec spec = spec_of({{BinPoints::kPositive, 15, false, true}});
  expect_equal(column, spec, "moments");
  ThreadPool pool(1);
  const auto sums = cpu_row_sums(column.table, spec, pool);
  ASSERT_TRUE(sums.ok());
  EXPECT_EQ((*sums)[0][0].bins[0].square.size(), 17u);
}

// A block's fields at their fullest: all rows in one slot, right, of the largest confidences.
TEST(FloatBins, FullBlocksDoNotOverflow) {
  for (const float value : {1.0f, std::nextafter(1.0f, 0.0f), 0.0f, 0x1.fffffep-9f}) {
    Column column = column_of(DType::kF32, std::vector<float>(5000, value));
    std::fill(column.labels.begin(), column.labels.end(), u8{1});
    expect_equal(column,
                 spec_of({{BinPoints::kPositive, 1, false}, {BinPoints::kPositive, 15, true}}),
                 std::to_string(value));
  }
}

TEST(FloatBins, EveryNumberOfRows) {
  Draws draws(21);
  for (const i64 rows : {0, 1, 15, 16, 17, 511, 512, 513, 1023, 1024, 1025, 3000, 300'000}) {
    std::vector<float> values;
    for (i64 i = 0; i < rows; ++i) values.push_back(static_cast<float>(draws.unit()));
    expect_equal(column_of(DType::kF32, values), spec_of({{BinPoints::kPositive, 15, false}}),
                 std::to_string(rows) + " rows");
  }
}

// A row that is no probability sends its block the general way, and only that.
TEST(FloatBins, RowsOutsideAreCounted) {
  Draws draws(22);
  for (const float outside : {-0x1p-149f, std::nextafter(1.0f, 2.0f), -3.0f, 1e30f}) {
    std::vector<float> values;
    for (i64 i = 0; i < 5000; ++i) values.push_back(static_cast<float>(draws.unit()));
    values[1500] = outside;
    values[4999] = outside;
    const Column column = column_of(DType::kF32, values);
    expect_equal(column, spec_of({{BinPoints::kPositive, 15, false}}), std::to_string(outside));
    ThreadPool pool(1);
    const auto sums = cpu_row_sums(column.table, spec_of({}), pool);
    ASSERT_TRUE(sums.ok());
    EXPECT_EQ((*sums)[0][0].outside_unit, 2u);
  }
}

TEST(FloatBins, UnalignedColumns) {
  Draws draws(23);
  std::vector<float> values;
  for (i64 i = 0; i < 3000; ++i) values.push_back(static_cast<float>(draws.unit()));
  Column column = column_of(DType::kF32, values);
  column.side_by_side.insert(column.side_by_side.begin(), std::byte{7});
  column.table.scores.data = column.side_by_side.data() + 1;
  expect_equal(column, spec_of({{BinPoints::kPositive, 15, false}}), "unaligned");
}

TEST(FloatBins, EveryHalfBetweenZeroAndOne) {
  std::vector<u16> values;
  for (u32 bits = 0; bits <= 0x3C00; ++bits) values.push_back(static_cast<u16>(bits));
  values.push_back(0x8000);
  expect_equal(column_of(DType::kF16, values),
               spec_of({{BinPoints::kPositive, 15, false}, {BinPoints::kPositive, 10, true}}),
               "f16");
  values.clear();
  for (u32 bits = 0; bits <= 0x3F80; ++bits) values.push_back(static_cast<u16>(bits));
  expect_equal(column_of(DType::kBF16, values),
               spec_of({{BinPoints::kPositive, 15, false}, {BinPoints::kPositive, 10, true}}),
               "bf16");
}

}  // namespace
}  // namespace cupel
