// Row sums of logits times a factor: the plain sums where the factor is 1, long double arithmetic
// elsewhere, and the same bits however the rows are cut, threaded or compiled.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "backend/cpu_level.hpp"
#include "cupel/backend/backend.hpp"
#include "cupel/math/tempering.hpp"
#include "support/rank_data.hpp"

namespace cupel {
namespace {

struct Rows {
  i64 classes = 3;
  std::vector<float> logits;
  std::vector<i32> labels;
  std::vector<float> weights;
  std::vector<u32> cells;

  Rows(i64 rows, i64 classes_in, bool weighted, u64 seed) : classes(classes_in) {
    test::Draws draws(seed);
    for (i64 row = 0; row < rows; ++row) {
      for (i64 k = 0; k < classes; ++k) {
        logits.push_back(static_cast<float>(draws.below(4000)) / 256 - 7);
      }
      labels.push_back(static_cast<i32>(draws.below(static_cast<u64>(classes))));
      if (weighted) weights.push_back(static_cast<float>(draws.below(9)) / 4);
      cells.push_back(static_cast<u32>(draws.below(3)));
    }
  }
  TableView view() const {
    TableView table;
    table.task = Task::kMulticlass;
    table.logits = true;
    table.rows = static_cast<i64>(labels.size());
    table.classes = classes;
    table.scores = make_view(logits.data(), DType::kF32, {table.rows, classes});
    table.class_labels = labels.data();
    table.weights_f32 = weights.empty() ? nullptr : weights.data();
    table.cells = cells.data();
    table.cell_count = 3;
    return table;
  }
  Rows reversed() const {
    Rows other = *this;
    const std::size_t rows = labels.size();
    for (std::size_t row = 0; row < rows; ++row) {
      const std::size_t from = rows - 1 - row;
      for (std::size_t k = 0; k < static_cast<std::size_t>(classes); ++k) {
        other.logits[row * static_cast<std::size_t>(classes) + k] =
            logits[from * static_cast<std::size_t>(classes) + k];
      }
      other.labels[row] = labels[from];
      if (!weights.empty()) other.weights[row] = weights[from];
      other.cells[row] = cells[from];
    }
    return other;
  }
};

RowSpec step(std::vector<double> factors) {
  RowSpec spec;
  spec.log_loss = true;
  spec.tempering = {std::move(factors), true};
  return spec;
}
RowSpec after(std::vector<double> factors) {
  RowSpec spec;
  spec.log_loss = true;
  spec.brier = true;
  spec.bins = {{BinPoints::kTop, 15, false}};
  spec.tempering = {std::move(factors), false};
  return spec;
}

std::vector<RowSums> sums_of(const TableView& table, const RowSpec& spec, int threads = 1) {
  auto sums = make_cpu_backend(threads)->row_sums(table, spec);
  EXPECT_TRUE(sums.ok());
  return (*sums)[0];
}

long double number(const U256& value) {
  long double sum = 0;
  for (int i = 3; i >= 0; --i) sum = sum * 0x1p64L + static_cast<long double>(value.limb[i]);
  return sum;
}

double ratio(long double a, long double b) { return static_cast<double>(a / b); }

TEST(Tempered, AtOneIsThePlainPass) {
  for (const bool weighted : {false, true}) {
    for (const i64 classes : {1, 2, 3, 40}) {
      const Rows rows(1000, classes, weighted, 7);
      RowSpec plain = after({});
      plain.tempering = {};
      EXPECT_EQ(sums_of(rows.view(), after({1, 1, 1})), sums_of(rows.view(), plain));
    }
  }
}

TEST(Tempered, SlopesAreThoseOfLongDoubles) {
  const std::vector<double> factors{0.25, 1, 3.5};
  for (const i64 classes : {2, 5, 100}) {
    const Rows rows(600, classes, true, 11);
    const std::vector<RowSums> sums = sums_of(rows.view(), step(factors));
    long double loss[3] = {};
    long double label[3] = {};
    long double mean[3] = {};
    long double variance[3] = {};
    for (std::size_t row = 0; row < rows.labels.size(); ++row) {
      const u32 cell = rows.cells[row];
      const float* z = rows.logits.data() + row * static_cast<std::size_t>(classes);
      const long double max = *std::max_element(z, z + classes);
      long double total = 0;
      long double first = 0;
      long double second = 0;
      for (i64 k = 0; k < classes; ++k) {
        const long double x = (max - z[k]) * factors[cell];
        total += std::exp(-x);
        first += x * std::exp(-x);
        second += x * x * std::exp(-x);
      }
      const long double w = rows.weights[row] * 0x1p64L * 0x1p44L;
      const long double x = (max - z[rows.labels[row]]) * factors[cell];
      loss[cell] += w * (x + std::log(total));
      label[cell] += w * x;
      mean[cell] += w * first / total;
      variance[cell] += w * (second / total - first / total * (first / total));
    }
    for (u32 cell = 0; cell < 3; ++cell) {
      EXPECT_NEAR(ratio(number(sums[cell].log_loss), loss[cell]), 1, 1e-12);
      EXPECT_NEAR(ratio(number(sums[cell].slopes.label), label[cell]), 1, 1e-12);
      EXPECT_NEAR(ratio(number(sums[cell].slopes.mean), mean[cell]), 1, 1e-12);
      EXPECT_NEAR(ratio(number(sums[cell].slopes.variance), variance[cell]), 1, 1e-11);
    }
  }
}

TEST(Tempered, RowsOfFactorZeroAreInNoSum) {
  Rows rows(500, 4, false, 13);
  const std::vector<RowSums> all = sums_of(rows.view(), step({0.5, 2, 3}));
  const std::vector<RowSums> some = sums_of(rows.view(), step({0.5, 0, 3}));
  EXPECT_EQ(some[0], all[0]);
  EXPECT_EQ(some[2], all[2]);
  EXPECT_EQ(some[1].rows, 0u);
  EXPECT_EQ(some[1].log_loss, U256{});
  // Not even read.
  for (std::size_t row = 0; row < rows.labels.size(); ++row) {
    if (rows.cells[row] == 1) rows.logits[row * 4] = std::numeric_limits<float>::quiet_NaN();
  }
  EXPECT_EQ(sums_of(rows.view(), step({0.5, 0, 3})), some);
}

TEST(Tempered, DoesNotDependOnHowItIsRun) {
  for (const i64 classes : {2, 9, 33}) {
    const Rows rows(5000, classes, true, 17);
    for (const RowSpec& spec : {step({0.3, 1.7, 20}), after({0.05, 0.9, 4})}) {
      const std::vector<RowSums> once = sums_of(rows.view(), spec);
      EXPECT_EQ(sums_of(rows.view(), spec, 4), once);
      EXPECT_EQ(sums_of(rows.reversed().view(), spec, 2), once);
      for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3}) {
        limit_cpu_level(level);
        EXPECT_EQ(sums_of(rows.view(), spec), once);
        limit_cpu_level(CpuLevel::kV4);
      }
      const TableView whole = rows.view();
      TableView head = whole;
      head.rows = 1777;
      head.scores.shape[0] = head.rows;
      TableView tail = whole;
      tail.rows = whole.rows - head.rows;
      tail.scores.data = whole.scores.at(head.rows);
      tail.scores.shape[0] = tail.rows;
      tail.class_labels += head.rows;
      tail.weights_f32 += head.rows;
      tail.cells += head.rows;
      std::vector<RowSums> merged = sums_of(head, spec);
      const std::vector<RowSums> rest = sums_of(tail, spec);
      for (std::size_t cell = 0; cell < 3; ++cell) {
        ASSERT_TRUE(merged[cell].merge(rest[cell]).ok());
        ByteWriter writer;
        merged[cell].encode(writer);
        const auto bytes = writer.take();
        ByteReader reader(bytes);
        const auto read = RowSums::decode(reader);
        ASSERT_TRUE(read.ok());
        EXPECT_EQ(*read, once[cell]);
      }
    }
  }
}

// The largest doubles: their products with a factor stay finite, and a loss beyond the range of the
// sum is counted, not added.
TEST(Tempered, HugeLogits) {
  const double most = std::numeric_limits<double>::max();
  const std::vector<double> logits{most, -most, 0, most, most, 1};
  const std::vector<i32> labels{1, 0};
  TableView table;
  table.task = Task::kMulticlass;
  table.logits = true;
  table.rows = 2;
  table.classes = 3;
  table.scores = make_view(logits.data(), DType::kF64, {2, 3});
  table.class_labels = labels.data();
  const RowSums sums = sums_of(table, step({20}))[0];
  EXPECT_EQ(sums.rows, 2u);
  EXPECT_EQ(sums.overflowed, 1u);
  // The other row is two equal logits: ln 2, no distance.
  EXPECT_NEAR(static_cast<double>(number(sums.log_loss) / 0x1p44L), std::log(2.0), 1e-12);
  EXPECT_EQ(sums.slopes.label, U256{});
  EXPECT_EQ(sums.slopes.mean, U256{});
}

}  // namespace
}  // namespace cupel
