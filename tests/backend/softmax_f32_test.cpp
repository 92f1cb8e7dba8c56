// Row sums with softmax=f32: a row-by-row oracle of the shared functions, every instruction set,
// type and layout; and that they never merge with those of the softmax in double.
#include "cupel/math/softmax_f32.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu_level.hpp"
#include "backend/cpu_rows.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/core/bytes.hpp"
#include "cupel/math/row_terms.hpp"
#include "cupel/math/weight.hpp"
#include "support/rank_data.hpp"

namespace cupel {
namespace {

using test::Draws;

struct Logits {
  TableView view;
  std::vector<std::byte> scores;
  std::vector<double> values;  ///< [rows][classes]
  std::vector<i32> labels;
  std::vector<double> weights;
  std::vector<u32> cells;
};

template <class T>
void put(std::byte* at, double& value) {
  const T stored = static_cast<T>(value);
  std::memcpy(at, &stored, sizeof stored);
  value = static_cast<double>(stored);
}

/// Logits of a type, some of them tied, far apart or, in float64, beyond float32.
Logits make(DType dtype, i64 rows, i64 classes, bool weighted, u32 cells, bool by_columns) {
  Logits out;
  Draws draws(static_cast<u64>(rows * 131 + classes));
  const i64 size = dtype_size(dtype);
  out.scores.resize(static_cast<std::size_t>(rows * classes * size));
  out.values.resize(static_cast<std::size_t>(rows * classes));
  out.view.scores = make_view(out.scores.data(), dtype, {rows, classes});
  if (by_columns) out.view.scores.strides = {size, size * rows};
  for (i64 r = 0; r < rows; ++r) {
    for (i64 c = 0; c < classes; ++c) {
      double& value = out.values[static_cast<std::size_t>(r * classes + c)];
      value = draws.normal() * 4;
      if (draws.below(10) == 0) value = std::nearbyint(value);
      if (draws.below(200) == 0) value *= 1e4;
      if (dtype == DType::kF64 && draws.below(300) == 0) value *= 1e200;
      if (dtype == DType::kF64 && draws.below(10) == 0) value = 1 + draws.unit() * 1e-9;
      std::byte* at = out.scores.data() + (out.view.scores.at(r, c) - out.scores.data());
      if (dtype == DType::kF32) put<float>(at, value);
      if (dtype == DType::kF64) put<double>(at, value);
      if (dtype == DType::kI16) put<i16>(at, value);
      if (dtype == DType::kI32) put<i32>(at, value);
    }
    out.labels.push_back(static_cast<i32>(draws.below(static_cast<u64>(classes))));
    if (weighted) out.weights.push_back(draws.unit() * 3);
    if (cells > 1) out.cells.push_back(static_cast<u32>(draws.below(cells)));
  }
  out.view.task = Task::kMulticlass;
  out.view.rows = rows;
  out.view.classes = classes;
  out.view.logits = true;
  out.view.softmax = SoftmaxKind::kF32;
  out.view.class_labels = out.labels.data();
  if (weighted) out.view.weights_f64 = out.weights.data();
  if (cells > 1) out.view.cells = out.cells.data();
  out.view.cell_count = cells;
  return out;
}

RowSpec everything() {
  RowSpec spec;
  spec.thresholds = {0};
  spec.top_k = {1, 3};
  spec.brier = true;
  spec.log_loss = true;
  spec.bins = {{BinPoints::kTop, 15, false},
               {BinPoints::kByPredicted, 4, true},
               {BinPoints::kEachClass, 7, false}};
  return spec;
}

void add_to_bin(BinTotals& totals, const BinQuery& query, i64 set, double p, bool right, u128 w) {
  const auto at = static_cast<std::size_t>(
      set * bin_slots(query.bins) + bin_slot(p, static_cast<i32>(query.bins), query.closed_left));
  ++totals.rows[at];
  totals.mass[at] += w;
  if (right) totals.right[at] += w;
  totals.confidence[at] += multiply(w, u128{confidence_term(p)});
}

std::vector<RowSums> oracle(const Logits& data, const RowSpec& spec) {
  const TableView& t = data.view;
  RowSums empty;
  empty.weighted = t.weighted();
  empty.softmax_f32 = true;
  empty.class_rows.resize(static_cast<std::size_t>(t.classes));
  empty.class_mass.resize(empty.class_rows.size());
  empty.hits.resize(empty.class_rows.size());
  empty.top_k_hits.resize(spec.top_k.size());
  for (const BinQuery& query : spec.bins) {
    const auto slots =
        static_cast<std::size_t>(bin_sets(query.points, t.classes) * bin_slots(query.bins));
    BinTotals totals;
    totals.rows.resize(slots);
    totals.mass.resize(slots);
    totals.right.resize(slots);
    totals.confidence.resize(slots);
    empty.bins.push_back(std::move(totals));
  }
  std::vector<RowSums> all(t.cell_count, empty);
  for (i64 r = 0; r < t.rows; ++r) {
    RowSums& sums = all[t.cells == nullptr ? 0 : t.cells[r]];
    const u128 w = t.weighted() ? weight_mass(t.weights_f64[r]).mass : u128{1};
    const double* row = data.values.data() + r * t.classes;
    const auto label = static_cast<std::size_t>(t.class_labels[r]);
    ++sums.rows;
    ++sums.class_rows[label];
    sums.class_mass[label] += w;
    i64 rank = 0;
    for (std::size_t j = 0; j < static_cast<std::size_t>(t.classes); ++j) {
      rank += row[j] > row[label] || (row[j] == row[label] && j < label) ? 1 : 0;
    }
    if (rank == 0) sums.hits[label] += w;
    for (std::size_t k = 0; k < spec.top_k.size(); ++k) {
      if (rank < spec.top_k[k]) sums.top_k_hits[k] += w;
    }
    const i64 predicted = std::max_element(row, row + t.classes) - row;
    const float max = softmax_f32_logit(row[predicted]);
    SoftmaxF32Sums softmax;
    for (i64 j = 0; j < t.classes; ++j) {
      softmax.add(softmax_f32_term(softmax_f32_logit(row[j]), max));
    }
    const double scale = 1 / softmax.denominator();
    const float label_logit = softmax_f32_logit(row[label]);
    sums.brier += multiply(w, u128{softmax_f32_brier(softmax, softmax_f32_term(label_logit, max))});
    const double loss = (static_cast<double>(max) - static_cast<double>(label_logit)) +
                        log_det(softmax.denominator());
    if (is_loss_overflow(loss)) {
      ++sums.overflowed;
    } else {
      sums.log_loss +=
          multiply(w, has_short_loss(loss) ? u128{short_loss_term(loss)} : long_loss_term(loss));
    }
    for (std::size_t q = 0; q < spec.bins.size(); ++q) {
      const BinQuery& query = spec.bins[q];
      const bool right = predicted == t.class_labels[r];
      if (query.points == BinPoints::kEachClass) {
        for (i64 j = 0; j < t.classes; ++j) {
          const double p =
              softmax_f32_exp(softmax_f32_term(softmax_f32_logit(row[j]), max)) * scale;
          add_to_bin(sums.bins[q], query, j, p, j == t.class_labels[r], w);
        }
      } else {
        const i64 set = query.points == BinPoints::kByPredicted ? predicted : 0;
        add_to_bin(sums.bins[q], query, set, scale, right, w);
      }
    }
  }
  return all;
}

void expect_oracle(const Logits& data, const std::string& what) {
  ThreadPool pool(2);
  const RowSpec spec = everything();
  const auto sums = cpu_row_sums(data.view, spec, pool);
  ASSERT_TRUE(sums.ok());
  EXPECT_TRUE((*sums)[0] == oracle(data, spec)) << what;
}

TEST(SoftmaxF32Sums, EqualTheOracleAtEveryWidth) {
  for (const i64 classes : {1, 2, 3, 31, 32, 33, 63, 64, 65, 255, 256, 257, 300, 1000}) {
    expect_oracle(make(DType::kF32, 150, classes, false, 1, false), std::to_string(classes));
  }
}

TEST(SoftmaxF32Sums, EqualTheOracleForEveryTypeLayoutWeightAndSegment) {
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kI16, DType::kI32}) {
    for (const bool weighted : {false, true}) {
      for (const u32 cells : {1u, 3u}) {
        for (const bool by_columns : {false, true}) {
          expect_oracle(make(dtype, 200, 70, weighted, cells, by_columns),
                        std::string(dtype_name(dtype)));
        }
      }
    }
  }
}

TEST(SoftmaxF32Sums, EveryInstructionSetEqualsTheOracle) {
  const Logits f32 = make(DType::kF32, 300, 333, false, 1, false);
  const Logits f64 = make(DType::kF64, 300, 333, false, 1, false);
  for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
    limit_cpu_level(level);
    expect_oracle(f32, "f32, level " + std::to_string(static_cast<int>(level)));
    expect_oracle(f64, "f64, level " + std::to_string(static_cast<int>(level)));
  }
  limit_cpu_level(CpuLevel::kV4);
}

RowSums state_of(const TableView& table, const RowSpec& spec) {
  ThreadPool pool(1);
  auto sums = cpu_row_sums(table, spec, pool);
  EXPECT_TRUE(sums.ok());
  return sums.ok() ? (*sums)[0][0] : RowSums();
}

// A probability, not only a logit's order, would be wrong in the fifth digit without this.
TEST(SoftmaxF32Sums, NeverMergeWithTheSoftmaxInDouble) {
  const Logits data = make(DType::kF32, 40, 6, false, 1, false);
  RowSums f32 = state_of(data.view, everything());
  TableView in_double = data.view;
  in_double.softmax = SoftmaxKind::kF64;
  const RowSums f64 = state_of(in_double, everything());
  EXPECT_FALSE(f64.softmax_f32);
  EXPECT_FALSE(f32.log_loss == f64.log_loss);
  const RowSums before = f32;
  const auto merged = f32.merge(f64);
  ASSERT_FALSE(merged.ok());
  EXPECT_NE(merged.error().text().find("softmax"), std::string::npos);
  EXPECT_TRUE(f32 == before);
  ByteWriter writer;
  f32.encode(writer);
  const std::vector<std::byte> bytes = writer.take();
  ByteReader reader(bytes);
  const auto read = RowSums::decode(reader);
  ASSERT_TRUE(read.ok());
  EXPECT_TRUE(*read == f32);
}

// Only logits of several classes have a softmax.
TEST(SoftmaxF32Sums, ProbabilitiesAreAsTheyWere) {
  std::vector<float> p = {0.1f, 0.9f, 0.6f, 0.4f};
  std::vector<i32> labels = {1, 1};
  TableView table;
  table.task = Task::kMulticlass;
  table.rows = 2;
  table.classes = 2;
  table.scores = make_view(p.data(), DType::kF32, {2, 2});
  table.class_labels = labels.data();
  const RowSums sums = state_of(table, everything());
  table.softmax = SoftmaxKind::kF32;
  EXPECT_TRUE(state_of(table, everything()) == sums);
}

}  // namespace
}  // namespace cupel
