// Rows of several classes as probabilities: whether they sum to 1, and what division by the sum
// gives. Expected numbers are written down or computed in long double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "backend/cpu_level.hpp"
#include "backend/cpu_probabilities.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/eval/evaluate.hpp"
#include "cupel/math/half.hpp"

namespace cupel {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The same rows as they may lie in memory.
enum class Layout { kRows, kColumns, kSpaced };

template <class T>
struct Rows {
  std::vector<T> values;
  TableView table;
};

template <class T>
Rows<T> lay_out(const std::vector<std::vector<T>>& rows, DType dtype, Layout layout) {
  const auto n = static_cast<i64>(rows.size());
  const i64 k = n == 0 ? 3 : static_cast<i64>(rows[0].size());
  const i64 step = layout == Layout::kSpaced ? 2 : 1;
  Rows<T> out;
  out.values.assign(static_cast<std::size_t>(n * k * step), T{});
  const i64 row_step = layout == Layout::kColumns ? 1 : k * step;
  const i64 column_step = layout == Layout::kColumns ? n : step;
  for (i64 r = 0; r < n; ++r) {
    for (i64 c = 0; c < k; ++c) {
      out.values[static_cast<std::size_t>(r * row_step + c * column_step)] =
          rows[static_cast<std::size_t>(r)][static_cast<std::size_t>(c)];
    }
  }
  const i64 item = sizeof(T);
  out.table.task = Task::kMulticlass;
  out.table.rows = n;
  out.table.classes = k;
  out.table.scores =
      make_view(reinterpret_cast<const std::byte*>(out.values.data()), dtype, {n, k});
  out.table.scores.strides = {row_step * item, column_step * item};
  return out;
}

template <class T>
RowSumFaults faults_of(const std::vector<std::vector<T>>& rows, DType dtype,
                       Layout layout = Layout::kRows) {
  const Rows<T> laid = lay_out(rows, dtype, layout);
  ThreadPool pool(1);
  return find_row_sum_faults(laid.table, pool);
}

TEST(RowSums, TheToleranceIsExact) {
  // Two classes: 2^-8 + 2 * 2^-24, and of bf16 2^-6 + 2 * 2^-24, on both sides of 1.
  const double within = 0x1p-8 + 0x1p-23;
  for (const double side : {1.0, -1.0}) {
    EXPECT_EQ(faults_of<double>({{0.5, 0.5 + side * within}}, DType::kF64).rows, 0);
    const RowSumFaults beyond =
        faults_of<double>({{0.5, 0.5}, {0.5, 0.5 + side * (within + 0x1p-44)}}, DType::kF64);
    EXPECT_EQ(beyond.rows, 1);
    EXPECT_EQ(beyond.first_row, 1);
    EXPECT_EQ(beyond.first_sum, 1 + side * (within + 0x1p-44));
    EXPECT_FALSE(beyond.beyond);
  }
  EXPECT_EQ(faults_of<float>({{0.5f, 0.5f + 0x1p-8f + 0x1p-23f}}, DType::kF32).rows, 0);
  EXPECT_EQ(faults_of<float>({{0.5f, 0.5f + 0x1p-8f + 0x1p-22f}}, DType::kF32).rows, 1);
  // bf16 0.5 is 0x3F00 and its next values are 2^-8 apart; f16's 0x3800, 2^-11 apart.
  EXPECT_EQ(faults_of<u16>({{0x3F00, 0x3F04}}, DType::kBF16).rows, 0);
  EXPECT_EQ(faults_of<u16>({{0x3F00, 0x3F05}}, DType::kBF16).rows, 1);
  EXPECT_EQ(faults_of<u16>({{0x3800, 0x3808}}, DType::kF16).rows, 0);
  EXPECT_EQ(faults_of<u16>({{0x3800, 0x3809}}, DType::kF16).rows, 1);
  EXPECT_EQ(faults_of<u8>({{0, 1, 0}, {1, 1, 0}, {0, 0, 0}}, DType::kU8).rows, 2);
  // 2^-24 for each class: a softmax of 65,535 classes in float32 may be off by 4e-3.
  const std::vector<double> many(65'535, 1.0 / 65'535 * (1 + 0x1p-8 + 0.0038));
  EXPECT_EQ(faults_of<double>({many}, DType::kF64).rows, 0);
}

TEST(RowSums, WhatIsNoProbabilityIsNoSum) {
  // Rows with a value outside [0, 1] are another mistake; NaN and infinities have to be seen.
  EXPECT_EQ(faults_of<double>({{1.5, 0.2}, {-0.5, 0.2}, {0.5, 0.5}}, DType::kF64).rows, 0);
  for (const double bad : {kNan, kInfinity, -kInfinity, -kNan, 1e300, -3.0}) {
    for (const std::size_t at : {0, 40, 99}) {
      std::vector<std::vector<double>> rows(100, {0.25, 0.25, 0.5});
      rows[at][at % 3] = bad;
      rows[50] = {0.25, 0.25, 0.25};
      const RowSumFaults faults = faults_of<double>(rows, DType::kF64);
      EXPECT_TRUE(faults.beyond) << bad;
      EXPECT_EQ(faults.rows, 1);
      EXPECT_EQ(faults.first_row, 50);
    }
  }
  const u16 nan16 = 0x7E00;
  EXPECT_TRUE(faults_of<u16>({{0x3800, nan16}}, DType::kF16).beyond);
  EXPECT_TRUE(faults_of<u16>({{0x3F00, 0x7F80}}, DType::kBF16).beyond);
  EXPECT_TRUE(faults_of<float>({{0.5f, static_cast<float>(kNan)}}, DType::kF32).beyond);
  EXPECT_FALSE(faults_of<double>({}, DType::kF64).beyond);
  EXPECT_FALSE(faults_of<double>({{-0.0, 1.0}}, DType::kF64).beyond);
}

/// Rows whose sums are far from the tolerance, on either side; which are off is known beforehand.
template <class T>
void check_layouts(DType dtype, i64 rows, i64 classes, T (*narrow)(double)) {
  std::mt19937_64 random(static_cast<u64>(rows * 1000 + classes));
  std::uniform_real_distribution<double> uniform(0.01, 1);
  std::vector<std::vector<T>> all;
  i64 off = 0;
  i64 first = -1;
  for (i64 r = 0; r < rows; ++r) {
    std::vector<double> row;
    double sum = 0;
    for (i64 c = 0; c < classes; ++c) {
      row.push_back(uniform(random));
      sum += row.back();
    }
    const bool bad = r > 300 && random() % 97 == 0;
    if (bad && first < 0) first = r;
    off += bad ? 1 : 0;
    std::vector<T> narrowed;
    for (const double value : row) narrowed.push_back(narrow(value / sum * (bad ? 0.9 : 1)));
    all.push_back(narrowed);
  }
  for (const Layout layout : {Layout::kRows, Layout::kColumns, Layout::kSpaced}) {
    const Rows<T> laid = lay_out(all, dtype, layout);
    for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
      limit_cpu_level(level);
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        const RowSumFaults faults = find_row_sum_faults(laid.table, pool);
        EXPECT_EQ(faults.rows, off);
        EXPECT_EQ(faults.first_row, first);
        EXPECT_FALSE(faults.beyond);
        if (first >= 0) {
          EXPECT_NEAR(faults.first_sum, 0.9, 0.02);
        }
      }
    }
    limit_cpu_level(CpuLevel::kV4);
  }
}

TEST(RowSums, EveryLayoutLevelAndThreadCountAgree) {
  for (const i64 classes : {2, 3, 7, 8, 16, 33, 100}) {
    for (const i64 rows : {1, 255, 257, 5000}) {
      check_layouts<double>(DType::kF64, rows, classes, [](double v) { return v; });
      check_layouts<float>(DType::kF32, rows, classes,
                           [](double v) { return static_cast<float>(v); });
      check_layouts<u16>(DType::kBF16, rows, classes, [](double v) {
        return static_cast<u16>((bits_from_float(static_cast<float>(v)) + 0x7FFF) >> 16);
      });
    }
  }
}

TEST(RowSums, TablesInMemoryAreCheckedToo) {
  // The second row is short of 1: what needs probabilities has no value, the rest has.
  const std::vector<i32> labels = {0, 1};
  for (const double last : {0.5, 0.25}) {
    Rows<double> rows = lay_out<double>({{0.75, 0.25}, {0.5, last}}, DType::kF64, Layout::kRows);
    rows.table.class_labels = labels.data();
    const auto metrics = parse_metrics("brier,ece,accuracy,auroc");
    ASSERT_TRUE(metrics.ok());
    const auto backend = make_cpu_backend(1);
    const auto results = evaluate_table(rows.table, *metrics, *backend);
    ASSERT_TRUE(results.ok());
    const Undefined why = last == 0.5 ? Undefined::kNone : Undefined::kNotProbability;
    EXPECT_EQ((*results)[0].undefined, why);
    EXPECT_EQ((*results)[1].undefined, why);
    EXPECT_EQ((*results)[2].undefined, Undefined::kNone);
    EXPECT_EQ((*results)[3].undefined, Undefined::kNone);
  }
}

TEST(ScoresOutside, FirstCountAndSign) {
  std::vector<std::vector<double>> rows(400'000, {0.0, 1.0, 0.5});
  rows[390'000] = {0.5, 1.25, 2.0};
  rows[391'000] = {0.5, kNan, 0.5};
  ThreadPool pool(3);
  const Rows<double> one = lay_out(rows, DType::kF64, Layout::kColumns);
  const ScoresOutside found = find_scores_outside(one.table, pool);
  EXPECT_EQ(found.rows, 1);
  EXPECT_EQ(found.first_row, 390'000);
  EXPECT_EQ(found.first_column, 1);
  EXPECT_EQ(found.first, 1.25);
  EXPECT_FALSE(found.negative);
  rows[7] = {1.0, 0.0, -1e-300};
  const Rows<double> two = lay_out(rows, DType::kF64, Layout::kRows);
  const ScoresOutside again = find_scores_outside(two.table, pool);
  EXPECT_EQ(again.rows, 2);
  EXPECT_EQ(again.first_row, 7);
  EXPECT_EQ(again.first_column, 2);
  EXPECT_TRUE(again.negative);
  const std::vector<float> column = {0.5f, -0.0f, 1.5f, -2.0f};
  TableView binary;
  binary.rows = 4;
  binary.scores = make_view(column.data(), DType::kF32, {4});
  const ScoresOutside of_binary = find_scores_outside(binary, pool);
  EXPECT_EQ(of_binary.rows, 2);
  EXPECT_EQ(of_binary.first_row, 2);
  EXPECT_TRUE(of_binary.negative);
}

// ---- division by the sum
// -----------------------------------------------------------------------------

template <class T>
NormalizedRows normalized_of(const std::vector<std::vector<T>>& rows, DType dtype) {
  const Rows<T> laid = lay_out(rows, dtype, Layout::kSpaced);
  ThreadPool pool(2);
  return normalize_rows(laid.table, pool);
}

template <class T>
T at(const NormalizedRows& rows, i64 index) {
  return load<T>(rows.values.data() + index * static_cast<i64>(sizeof(T)));
}

TEST(Normalize, DividesByTheSum) {
  const NormalizedRows counts = normalized_of<i32>({{1, 2, 5}, {0, 0, 7}}, DType::kI32);
  EXPECT_EQ(counts.dtype, DType::kF64);
  const double expected[] = {0.125, 0.25, 0.625, 0, 0, 1};
  for (i64 i = 0; i < 6; ++i) EXPECT_EQ(at<double>(counts, i), expected[i]);

  // Far from 1, and with a sum beyond the range of double.
  const NormalizedRows wide = normalized_of<double>(
      {{1.5e308, 1.5e308}, {5e-324, 1.5e-323}, {1e-300, 1.0}, {0x1p-1000, 0x1p-1001}}, DType::kF64);
  EXPECT_EQ(wide.dtype, DType::kF64);
  const double of_wide[] = {0.5, 0.5, 0.25, 0.75, 1e-300, 1.0, 2.0 / 3, 1.0 / 3};
  for (i64 i = 0; i < 8; ++i) EXPECT_EQ(at<double>(wide, i), of_wide[i]) << i;
}

TEST(Normalize, IsWithinAnUlpAndKnowsNoOrder) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> exponent(-30, 30);
  for (int round = 0; round < 300; ++round) {
    std::vector<double> row;
    for (int c = 0; c < 1 + round % 40; ++c) row.push_back(std::exp2(exponent(random)));
    const NormalizedRows there = normalized_of<double>({row}, DType::kF64);
    long double sum = 0;
    for (const double value : row) sum += value;
    std::vector<double> back(row.rbegin(), row.rend());
    const NormalizedRows again = normalized_of<double>({back}, DType::kF64);
    std::vector<float> narrow(row.begin(), row.end());
    long double narrow_sum = 0;
    for (const float value : narrow) narrow_sum += value;
    const NormalizedRows floats = normalized_of<float>({narrow}, DType::kF32);
    EXPECT_EQ(floats.dtype, DType::kF32);
    const auto k = static_cast<i64>(row.size());
    for (i64 c = 0; c < k; ++c) {
      const double got = at<double>(there, c);
      const auto exact = static_cast<double>(row[static_cast<std::size_t>(c)] / sum);
      EXPECT_NEAR(got, exact, exact * 0x1p-50);
      EXPECT_EQ(got, at<double>(again, k - 1 - c));
      const auto single = static_cast<double>(narrow[static_cast<std::size_t>(c)] / narrow_sum);
      EXPECT_NEAR(static_cast<double>(at<float>(floats, c)), single, single * 0x1.0001p-24);
    }
  }
}

TEST(Normalize, RoundsToHalfPrecision) {
  // Every finite value of 0 or more of both formats beside a constant, against the nearest value.
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const auto number = [&](u16 bits) {
      return static_cast<double>(dtype == DType::kF16 ? float_from_f16(bits)
                                                      : float_from_bf16(bits));
    };
    const u16 one = dtype == DType::kF16 ? 0x3C00 : 0x3F80;
    const u16 infinity = dtype == DType::kF16 ? 0x7C00 : 0x7F80;
    std::vector<std::vector<u16>> rows;
    for (u16 bits = 0; bits < infinity; ++bits) rows.push_back({bits, one});
    const NormalizedRows out = normalized_of<u16>(rows, dtype);
    EXPECT_EQ(out.dtype, dtype);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const double value = number(rows[r][0]);
      const double exact = value / (value + 1);
      const u16 got = at<u16>(out, static_cast<i64>(2 * r));
      ASSERT_LE(got, one);
      const double error = std::fabs(number(got) - exact);
      EXPECT_LE(error, std::fabs(number(static_cast<u16>(got + 1)) - exact)) << r;
      if (got > 0) {
        EXPECT_LE(error, std::fabs(number(static_cast<u16>(got - 1)) - exact)) << r;
      }
    }
  }
}

TEST(Normalize, NamesTheRowsThatItCannotDivide) {
  const NormalizedRows out = normalized_of<double>(
      {{1, 3}, {0, 0}, {-1, 2}, {kNan, 1}, {-0.0, 0.0}, {2, -1e-300}}, DType::kF64);
  EXPECT_EQ(out.negative, (std::vector<i64>{2, 5}));
  EXPECT_EQ(out.zero, (std::vector<i64>{1, 4}));
  EXPECT_EQ(at<double>(out, 0), 0.25);
  for (i64 i = 2; i < 12; ++i) EXPECT_EQ(at<double>(out, i), 0) << i;
}

}  // namespace
}  // namespace cupel
