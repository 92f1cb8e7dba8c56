// Scores and sets of whole tables against a sort of each row: types, layouts, ties, cells, threads
// and instruction sets.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "backend/cpu_level.hpp"
#include "cupel/backend/backend.hpp"
#include "cupel/math/row_terms.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel {
namespace {

constexpr i64 kUnit = i64{1} << 48;
constexpr i64 kRank = i64{1} << 32;
const std::vector<ConformalRule> kRules{{ConformalScore::kLac},
                                        {ConformalScore::kAps},
                                        {ConformalScore::kRaps, kUnit / 100, 5},
                                        {ConformalScore::kRaps, kUnit / 8, 0},
                                        {ConformalScore::kSaps, kUnit / 5},
                                        {ConformalScore::kTopK},
                                        {ConformalScore::kMargin}};

/// The scores of all labels of a row, ranks found by sorting.
std::vector<i64> sorted_scores(const ConformalRule& rule, const std::vector<i64>& masses) {
  std::vector<std::size_t> order(masses.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return masses[a] > masses[b]; });
  std::vector<i64> scores(masses.size());
  i64 through = 0;
  for (std::size_t r = 0; r < order.size(); ++r) {
    const i64 rank = static_cast<i64>(r) + 1;
    const i64 own = masses[order[r]];
    through += own;
    i64 score = rank * kRank;
    if (rule.score == ConformalScore::kLac) score = kUnit - own;
    if (rule.score == ConformalScore::kAps) score = through;
    if (rule.score == ConformalScore::kRaps) {
      score = through + rule.lambda * std::max<i64>(0, rank - rule.k_reg);
    }
    if (rule.score == ConformalScore::kSaps) score = masses[order[0]] + rule.lambda * (rank - 1);
    if (rule.score == ConformalScore::kMargin) {
      const std::size_t rival = r == 0 ? 1 : 0;
      score = (rival < order.size() ? masses[order[rival]] : 0) - own;
    }
    scores[order[r]] = score;
  }
  return scores;
}

struct Rows {
  i64 classes = 2;
  bool logits = false;
  bool by_column = false;
  std::vector<double> wide;
  std::vector<float> narrow;
  std::vector<i32> labels;
  std::vector<u8> binary_labels;
  std::vector<u32> cells;

  i64 rows() const { return static_cast<i64>(labels.size()); }
  bool binary() const { return !binary_labels.empty(); }

  TableView view() const {
    TableView table;
    table.task = binary() ? Task::kBinary : Task::kMulticlass;
    table.rows = rows();
    table.classes = classes;
    table.logits = logits;
    if (binary()) {
      table.binary_labels = binary_labels.data();
      table.scores = make_view(wide.data(), DType::kF64, {rows()});
    } else {
      table.class_labels = labels.data();
      table.scores = wide.empty() ? make_view(narrow.data(), DType::kF32, {rows(), classes})
                                  : make_view(wide.data(), DType::kF64, {rows(), classes});
      const i64 size = wide.empty() ? 4 : 8;
      if (by_column) table.scores.strides = {size, rows() * size};
    }
    table.cells = cells.data();
    table.cell_count = 3;
    return table;
  }

  double value(i64 row, i64 column) const {
    const auto at = static_cast<std::size_t>(by_column ? column * rows() + row
                                                       : row * (binary() ? 1 : classes) + column);
    return wide.empty() ? static_cast<double>(narrow[at]) : wide[at];
  }
  std::vector<i64> masses(i64 row) const {
    if (binary()) {
      const double p = logits ? sigmoid_det(value(row, 0)) : value(row, 0);
      const i64 mass = conformal_mass(p);
      return {kUnit - mass, mass};
    }
    const auto of = [&](i64 k) { return value(row, k); };
    std::vector<i64> masses;
    RowSoftmax softmax{};
    if (logits) softmax = softmax_row(of, classes);
    for (i64 k = 0; k < classes; ++k) {
      double p = of(k);
      if (logits) {
        // The probability that squared errors see.
        p = scaled_softmax_p(softmax_term(p, softmax.max), softmax_scale(softmax));
      }
      masses.push_back(conformal_mass(p));
    }
    return masses;
  }
};

Rows draw(i64 rows, i64 classes, bool logits, bool narrow, bool binary, std::mt19937_64& random) {
  Rows drawn;
  drawn.classes = classes;
  drawn.logits = logits;
  for (i64 i = 0; i < rows; ++i) {
    drawn.labels.push_back(static_cast<i32>(random() % static_cast<u64>(classes)));
    if (binary) drawn.binary_labels.push_back(static_cast<u8>(drawn.labels.back()));
    drawn.cells.push_back(static_cast<u32>(random() % 3));
    for (i64 k = 0; k < (binary ? 1 : classes); ++k) {
      // Few values, so that rows have ties.
      const double value = static_cast<double>(random() % 9) / (logits ? 2 : 8);
      if (narrow) {
        drawn.narrow.push_back(static_cast<float>(value));
      } else {
        drawn.wide.push_back(value);
      }
    }
  }
  return drawn;
}

void expect_equal_to_sorted(const Rows& rows, int threads) {
  const TableView table = rows.view();
  const auto backend = make_cpu_backend(threads);
  const std::vector<bool> calibration{true, false, false};
  std::vector<bool> others = calibration;
  others.flip();
  auto scores = backend->conformal_scores(table, kRules, calibration, threads);
  ASSERT_TRUE(scores.ok());
  EXPECT_EQ(scores->outside_unit, 0u);

  std::vector<std::vector<i64>> masses_of_rows;
  for (i64 row = 0; row < rows.rows(); ++row) masses_of_rows.push_back(rows.masses(row));
  std::vector<ConformalSet> sets;
  std::vector<std::vector<SetSums>> expected(3);
  for (std::size_t r = 0; r < kRules.size(); ++r) {
    Buffer<i64> own;
    for (i64 row = 0; row < rows.rows(); ++row) {
      if (rows.cells[static_cast<std::size_t>(row)] != 0) continue;
      const auto label = static_cast<std::size_t>(rows.labels[static_cast<std::size_t>(row)]);
      own.push_back(sorted_scores(kRules[r], masses_of_rows[static_cast<std::size_t>(row)])[label]);
    }
    EXPECT_EQ(scores->scores[r], own) << r;  // in the order of rows
    std::sort(own.begin(), own.end());
    for (const std::size_t part : {1, 5, 9}) {
      const i64 threshold = own.empty() ? 0 : own[own.size() * part / 10];
      sets.push_back({kRules[r], {threshold}, ThresholdsBy::kAll, part == 1});
    }
    sets.push_back({kRules[r], {kEveryLabel}, ThresholdsBy::kAll, false});
    sets.push_back({kRules[r], {-kUnit - 1}, ThresholdsBy::kAll, true});
  }
  for (auto& cell : expected) cell.resize(sets.size());
  for (i64 row = 0; row < rows.rows(); ++row) {
    const u32 cell = rows.cells[static_cast<std::size_t>(row)];
    if (cell == 0) continue;
    const auto label = static_cast<std::size_t>(rows.labels[static_cast<std::size_t>(row)]);
    const auto& masses = masses_of_rows[static_cast<std::size_t>(row)];
    for (std::size_t s = 0; s < sets.size(); ++s) {
      SetSums& sums = expected[cell][s];
      if (sums.by_size.empty()) sums.resize(rows.classes);
      std::vector<std::size_t> set;
      const auto own = sorted_scores(sets[s].rule, masses);
      for (std::size_t k = 0; k < own.size(); ++k) {
        if (own[k] <= sets[s].thresholds[0]) set.push_back(k);
      }
      if (set.empty() && sets[s].argmax_if_empty) {
        set.push_back(static_cast<std::size_t>(std::max_element(masses.begin(), masses.end()) -
                                               masses.begin()));
      }
      const auto ranks = sorted_scores({ConformalScore::kTopK}, masses);
      sums.add(static_cast<i64>(set.size()), std::find(set.begin(), set.end(), label) != set.end(),
               static_cast<i64>(label), ranks[label] / kRank);
    }
  }
  const auto found = backend->conformal_sets(table, sets, others, threads);
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found->size(), 3u);
  for (std::size_t cell = 0; cell < 3; ++cell) EXPECT_EQ((*found)[cell], expected[cell]) << cell;
}

TEST(Conformal, EqualsASortOfEachRow) {
  std::mt19937_64 random(5);
  for (const i64 classes : {1, 2, 6, 33, 150}) {
    for (const bool logits : {false, true}) {
      for (const bool narrow : {false, true}) {
        const Rows rows = draw(60, classes, logits, narrow, false, random);
        for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
          SCOPED_TRACE(testing::Message() << classes << " classes, logits " << logits);
          limit_cpu_level(level);
          expect_equal_to_sorted(rows, level == CpuLevel::kV4 ? 3 : 1);
          limit_cpu_level(CpuLevel::kV4);
        }
      }
    }
  }
}

TEST(Conformal, ColumnsAndSeveralTasksOfRows) {
  std::mt19937_64 random(6);
  Rows rows = draw(4000, 150, true, true, false, random);
  rows.by_column = true;
  expect_equal_to_sorted(rows, 3);
}

TEST(Conformal, BinaryRowsHaveTwoClasses) {
  std::mt19937_64 random(7);
  for (const bool logits : {false, true}) {
    expect_equal_to_sorted(draw(300, 2, logits, false, true, random), 2);
  }
}

TEST(Conformal, CountsRowsThatAreNoProbabilities) {
  std::mt19937_64 random(8);
  Rows rows = draw(20, 3, false, false, false, random);
  std::fill(rows.cells.begin(), rows.cells.end(), 1u);
  rows.wide[4] = 1.5;
  rows.wide[5] = -3e300;
  rows.wide[30] = 1e308;
  const auto backend = make_cpu_backend(1);
  const std::vector<bool> wanted{false, true, false};
  const auto scores = backend->conformal_scores(rows.view(), kRules, wanted, 1);
  ASSERT_TRUE(scores.ok());
  EXPECT_EQ(scores->outside_unit, 2u);
  const std::vector<ConformalSet> sets{{kRules[1], {kUnit}, ThresholdsBy::kAll, false}};
  const auto sums = backend->conformal_sets(rows.view(), sets, wanted, 1);
  ASSERT_TRUE(sums.ok());
  u64 outside = 0;
  for (const auto& cell : *sums) outside += cell[0].outside_unit;
  EXPECT_EQ(outside, 2u);
}

TEST(Conformal, NoRowsAndTooManySizes) {
  Rows rows;
  rows.classes = 4;
  const auto backend = make_cpu_backend(1);
  TableView table = rows.view();
  const std::vector<bool> wanted(3, true);
  const auto scores = backend->conformal_scores(table, kRules, wanted, 2);
  ASSERT_TRUE(scores.ok());
  EXPECT_TRUE(scores->scores[0].empty());
  const std::vector<ConformalSet> sets(2);
  ASSERT_TRUE(backend->conformal_sets(table, sets, wanted, 2).ok());
  table.classes = 65535;
  table.cell_count = 1'000'000;
  const auto refused = backend->conformal_sets(table, sets, wanted, 2);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUsage);
}

}  // namespace
}  // namespace cupel
