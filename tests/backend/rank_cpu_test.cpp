// The CPU ranking against tables that are made naively here (one std::sort per class) and the
// summaries of those: every shape of data, size, thread count, type and layout must give equal
// bytes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "backend/cpu_level.hpp"
#include "backend/cpu_rank.hpp"
#include "backend/cpu_rank_partition.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/math/half.hpp"
#include "cupel/math/softmax.hpp"
#include "cupel/math/weight.hpp"
#include "support/rank_data.hpp"

namespace cupel {
namespace {

using test::Draws;
using test::RankRows;
using test::ScoreShape;

// ---- the oracle ---------------------------------------------------------------------------------

struct NaiveRow {
  u64 key;
  u8 label;
  u128 mass;
};

template <class Key>
KeyRun<Key> naive_run(const std::vector<NaiveRow>& rows, u8 label, bool weighted) {
  std::vector<std::pair<u64, u128>> own;
  for (const NaiveRow& row : rows) {
    if (row.label == label) own.emplace_back(row.key, row.mass);
  }
  std::sort(own.begin(), own.end());
  if (!weighted) {
    Buffer<Key> keys;
    for (const auto& [key, mass] : own) keys.push_back(static_cast<Key>(key));
    return canonical_run(std::move(keys));
  }
  KeyRun<Key> run;
  for (const auto& [key, mass] : own) {
    if (mass == 0) continue;
    if (run.keys.empty() || run.keys.back() != key) {
      run.keys.push_back(static_cast<Key>(key));
      run.weights.push_back(0);
    }
    run.weights.back() += mass;
  }
  return run;
}

template <class Key>
RankTable naive_table_of(ScoreKind kind, bool weighted, const std::vector<NaiveRow>& rows) {
  KeyRuns<Key> runs;
  runs.pos = naive_run<Key>(rows, 1, weighted);
  runs.neg = naive_run<Key>(rows, 0, weighted);
  const u64 pos = static_cast<u64>(
      std::count_if(rows.begin(), rows.end(), [](const NaiveRow& r) { return r.label == 1; }));
  return RankTable(kind, weighted, std::move(runs), pos, rows.size() - pos);
}

RankTable naive_table(ScoreKind kind, bool weighted, const std::vector<NaiveRow>& rows) {
  return key_bits(kind) == 64 ? naive_table_of<u64>(kind, weighted, rows)
                              : naive_table_of<u32>(kind, weighted, rows);
}

std::vector<RankQuery> all_queries() {
  return {{RankQueryKind::kTwoU, {}},
          {RankQueryKind::kAveragePrecision, {}},
          {RankQueryKind::kPrTrapezoid, {}},
          {RankQueryKind::kGap, {}},
          {RankQueryKind::kEqualError, {}},
          {RankQueryKind::kFprAtMost, {1, 100}},
          {RankQueryKind::kFprAtMost, {0, 1}},
          {RankQueryKind::kFprAtMost, {1, 1}},
          {RankQueryKind::kTprAtLeast, {9, 10}},
          {RankQueryKind::kTprAtLeast, {0, 1}},
          {RankQueryKind::kPrecisionAtRecall, {1, 2}},
          {RankQueryKind::kPrecisionAtRecall, {1, 1}},
          {RankQueryKind::kRecallAtPrecision, {3, 10}},
          {RankQueryKind::kRecallAtPrecision, {1, 1}},
          {RankQueryKind::kFBetaMax, {1, 1}},
          {RankQueryKind::kFBetaMax, {1, 2}},
          {RankQueryKind::kFBetaMax, {0, 1}},
          {RankQueryKind::kPartialArea, {1, 10}},
          {RankQueryKind::kPartialArea, {1, 1}},
          {RankQueryKind::kRanges, {}}};
}

/// One of each way to answer, for many rows: the oracle visits every tie group for every query.
std::vector<RankQuery> few_queries() {
  return {{RankQueryKind::kTwoU, {}},         {RankQueryKind::kAveragePrecision, {}},
          {RankQueryKind::kGap, {}},          {RankQueryKind::kTprAtLeast, {9, 10}},
          {RankQueryKind::kFBetaMax, {1, 1}}, {RankQueryKind::kPartialArea, {1, 10}},
          {RankQueryKind::kRanges, {}}};
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr i64 kShare = 10;  // instrumented oracles take their time
#else
constexpr i64 kShare = 1;
#endif

void expect_summary(const RankSummary& actual, RankSummary expected) {
  if (actual.distinct == 0) expected.distinct = 0;
  EXPECT_EQ(actual.kind, expected.kind);
  EXPECT_EQ(actual.weighted, expected.weighted);
  EXPECT_EQ(actual.pos_rows, expected.pos_rows);
  EXPECT_EQ(actual.neg_rows, expected.neg_rows);
  EXPECT_TRUE(actual.pos == expected.pos);
  EXPECT_TRUE(actual.neg == expected.neg);
  EXPECT_EQ(actual.distinct, expected.distinct);
  ASSERT_EQ(actual.answers.size(), expected.answers.size());
  for (std::size_t q = 0; q < expected.answers.size(); ++q) {
    const RankAnswer& a = actual.answers[q];
    const RankAnswer& e = expected.answers[q];
    EXPECT_TRUE(a.sum == e.sum) << "sum of query " << q;
    EXPECT_TRUE(a.at == e.at) << "point of query " << q << " key " << a.at.key << " expected "
                              << e.at.key;
    EXPECT_TRUE(a.before == e.before) << "point before of query " << q;
    EXPECT_TRUE(a.ranges == e.ranges) << "ranges of query " << q;
  }
}

// ---- tables in every layout
// ----------------------------------------------------------------------

/// A matrix of scores in memory, at an odd address if asked for.
class Scores {
 public:
  Scores(DType type, const std::vector<double>& values, i64 rows, i64 columns, bool odd_address,
         bool column_major, i64 gap)
      : type_(type) {
    const i64 size = dtype_size(type);
    const i64 item = size * (1 + gap);
    bytes_.resize(static_cast<std::size_t>(rows * columns * item + 64));
    std::byte* data = bytes_.data() + (odd_address ? 1 : 0);
    view_.data = data;
    view_.dtype = type;
    view_.item_bytes = size;
    view_.shape = {rows, columns};
    view_.strides =
        column_major ? std::vector<i64>{item, item * rows} : std::vector<i64>{item * columns, item};
    if (columns == 1) {
      view_.shape = {rows};
      view_.strides = {item};
    }
    for (i64 r = 0; r < rows; ++r) {
      for (i64 c = 0; c < columns; ++c) {
        put(const_cast<std::byte*>(columns == 1 ? view_.at(r) : view_.at(r, c)),
            values[static_cast<std::size_t>(r * columns + c)]);
      }
    }
  }

  const ArrayView& view() const { return view_; }

  /// The key of a score, from its definition.
  u64 key(i64 row, i64 column) const {
    const std::byte* at = view_.shape.size() == 1 ? view_.at(row) : view_.at(row, column);
    switch (type_) {
      case DType::kF16:
      case DType::kBF16:
        return key_of_16(load<u16>(at));
      case DType::kF32:
        return key_of_f32(load<u32>(at));
      case DType::kF64:
        return key_of_f64(load<u64>(at));
      case DType::kI32:
        return key_of_i64(load<i32>(at));
      case DType::kI64:
        return key_of_i64(load<i64>(at));
      case DType::kU32:
        return load<u32>(at);
      case DType::kU64:
        return load<u64>(at);
      case DType::kI8:
        return key_of_f32(bits_from_float(load<i8>(at)));
      case DType::kI16:
        return key_of_f32(bits_from_float(load<i16>(at)));
      case DType::kU16:
        return key_of_f32(bits_from_float(load<u16>(at)));
      default:
        return key_of_f32(bits_from_float(load<u8>(at)));
    }
  }
  double number(i64 row, i64 column) const {
    const std::byte* at = view_.at(row, column);
    return type_ == DType::kF32 ? static_cast<double>(load<float>(at)) : load<double>(at);
  }

 private:
  template <class T>
  static void store(std::byte* at, T value) {
    std::memcpy(at, &value, sizeof value);
  }
  void put(std::byte* at, double value) const {
    switch (type_) {
      case DType::kF16: {
        // Any finite half will do: sign, exponent and fraction from the bits of the float32.
        const u32 bits = bits_from_float(static_cast<float>(value));
        const u32 half = (bits >> 16 & 0x8000u) | (bits >> 13 & 0x7FFFu);
        store(at, static_cast<u16>((half & 0x7C00u) == 0x7C00u ? half & 0x83FFu : half));
        return;
      }
      case DType::kBF16:
        return store(at, static_cast<u16>(bits_from_float(static_cast<float>(value)) >> 16));
      case DType::kF32:
        return store(at, static_cast<float>(value));
      case DType::kF64:
        return store(at, value / 3);
      case DType::kI8:
        return store(at, static_cast<i8>(std::clamp(value * 50, -128.0, 127.0)));
      case DType::kI16:
        return store(at, static_cast<i16>(std::clamp(value * 5000, -32'768.0, 32'767.0)));
      case DType::kU16:
        return store(at, static_cast<u16>(std::clamp(value * 5000, 0.0, 65'535.0)));
      case DType::kI32:
        return store(at, static_cast<i32>(std::clamp(value * 1e8, -2e9, 2e9)));
      case DType::kU32:
        return store(at, static_cast<u32>(std::clamp(value * 1e8, 0.0, 4e9)));
      case DType::kI64:
        return store(at, static_cast<i64>(std::clamp(value * 1e17, -9e18, 9e18)));
      case DType::kU64:
        return store(at, static_cast<u64>(std::clamp(value * 1e18, 0.0, 1.8e19)));
      default:
        return store(at, static_cast<u8>(std::clamp(value * 50, 0.0, 255.0)));
    }
  }

  DType type_;
  std::vector<std::byte> bytes_;
  ArrayView view_;
};

TableView binary_table(const Scores& scores, const RankRows& rows) {
  TableView table;
  table.rows = static_cast<i64>(rows.labels.size());
  table.scores = scores.view();
  table.binary_labels = rows.labels.data();
  return table;
}

std::vector<NaiveRow> naive_rows(const Scores& scores, const RankRows& rows) {
  std::vector<NaiveRow> naive;
  for (std::size_t i = 0; i < rows.labels.size(); ++i) {
    naive.push_back({scores.key(static_cast<i64>(i), 0), rows.labels[i], 1});
  }
  return naive;
}

/// Tables and summaries of a one-cell binary table at several thread counts.
void expect_binary(const TableView& table, const RankTable& expected, std::vector<int> threads) {
  const std::vector<RankQuery> queries = table.rows < 100'000 ? all_queries() : few_queries();
  const RankSummary summary = summarise(expected, queries);
  for (const int count : threads) {
    SCOPED_TRACE("threads " + std::to_string(count));
    ThreadPool pool(count);
    const auto tables = cpu_rank_tables(table, 0, 1, pool);
    ASSERT_TRUE(tables.ok()) << tables.error().text();
    ASSERT_EQ(tables.value().size(), 1u);
    ASSERT_EQ(tables.value()[0].size(), 1u);
    EXPECT_TRUE(tables.value()[0][0] == expected);
    const auto summaries = cpu_rank_summaries(table, 0, 1, queries, pool);
    ASSERT_TRUE(summaries.ok()) << summaries.error().text();
    ASSERT_EQ(summaries.value().size(), 1u);
    expect_summary(summaries.value()[0], summary);
    // What asks for the area alone takes a shorter way.
    const std::vector<RankQuery> area{{RankQueryKind::kTwoU, {}}};
    const auto alone = cpu_rank_summaries(table, 0, 1, area, pool);
    ASSERT_TRUE(alone.ok()) << alone.error().text();
    expect_summary(alone.value()[0], summarise(expected, area));
  }
}

// ---- shapes and sizes
// ----------------------------------------------------------------------------

class RankShapes : public testing::TestWithParam<ScoreShape> {};

TEST_P(RankShapes, EverySizeEqualsTheSortedTable) {
  for (const i64 rows :
       {0, 1, 2, 3, 31, 32, 33, 255, 256, 257, 5'000, 32'767, 32'768, 65'535, 65'536, 65'537}) {
    SCOPED_TRACE("rows " + std::to_string(rows));
    const RankRows data = test::rank_rows(GetParam(), rows, 17);
    const Scores scores(DType::kF32, data.scores, rows, 1, rows % 2 == 1, false, 0);
    expect_binary(binary_table(scores, data),
                  naive_table(ScoreKind::kF32, false, naive_rows(scores, data)), {1, 3});
  }
}

TEST_P(RankShapes, AMillionRowsEqualTheSortedTable) {
  constexpr i64 kRows = 1'000'000 / kShare;
  const RankRows data = test::rank_rows(GetParam(), kRows, 23);
  const Scores scores(DType::kF32, data.scores, kRows, 1, true, false, 0);
  expect_binary(binary_table(scores, data),
                naive_table(ScoreKind::kF32, false, naive_rows(scores, data)), {2});
}

TEST_P(RankShapes, DoublesEqualTheSortedTable) {
  for (const i64 rows : std::vector<i64>{1, 257, 40'000, 300'000 / kShare}) {
    SCOPED_TRACE("rows " + std::to_string(rows));
    const RankRows data = test::rank_rows(GetParam(), rows, 29);
    const Scores scores(DType::kF64, data.scores, rows, 1, true, false, 0);
    expect_binary(binary_table(scores, data),
                  naive_table(ScoreKind::kF64, false, naive_rows(scores, data)), {1, 2});
  }
}

TEST_P(RankShapes, TheBaselineInstructionSetGivesTheSameBytes) {
  limit_cpu_level(CpuLevel::kBaseline);
  for (const i64 rows : {100, 70'001}) {
    const RankRows data = test::rank_rows(GetParam(), rows, 31);
    const Scores scores(DType::kF32, data.scores, rows, 1, false, false, 0);
    expect_binary(binary_table(scores, data),
                  naive_table(ScoreKind::kF32, false, naive_rows(scores, data)), {2});
  }
  limit_cpu_level(CpuLevel::kV4);
}

TEST_P(RankShapes, WeightsEqualTheSortedTable) {
  for (const i64 rows : std::vector<i64>{0, 1, 33, 1'000, 250'000 / kShare}) {
    SCOPED_TRACE("rows " + std::to_string(rows));
    const RankRows data = test::rank_rows(GetParam(), rows, 37);
    Draws draws(41);
    std::vector<float> weights;
    weights.reserve(static_cast<std::size_t>(rows) + 1);  // no rows are weighted rows, too
    for (i64 i = 0; i < rows; ++i) {
      weights.push_back(draws.below(4) == 0 ? 0.0f : static_cast<float>(draws.below(1000)) * 0.25f);
    }
    for (const DType type : {DType::kF32, DType::kF64}) {
      const Scores scores(type, data.scores, rows, 1, true, false, 0);
      TableView table = binary_table(scores, data);
      table.weights_f32 = weights.data();
      std::vector<NaiveRow> naive = naive_rows(scores, data);
      for (std::size_t i = 0; i < naive.size(); ++i) {
        naive[i].mass = weight_mass(static_cast<double>(weights[i])).mass;
      }
      expect_binary(
          table, naive_table(type == DType::kF32 ? ScoreKind::kF32 : ScoreKind::kF64, true, naive),
          {1, 2});
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RankShapes, testing::ValuesIn(test::kAllShapes),
                         [](const auto& suite) {
                           return std::string(test::shape_name(suite.param));
                         });

TEST(RankLarge, ThreeMillionRowsAroundOneValue) {
  // A cluster that the sample sees as one heavy value among thin ones.
  constexpr i64 kRows = 3'000'000 / kShare;
  Draws draws(43);
  RankRows data;
  for (i64 i = 0; i < kRows; ++i) {
    data.labels.push_back(draws.below(10) == 0 ? 1 : 0);
    data.scores.push_back(
        static_cast<double>(i % 366 < 16 ? 0.75f : static_cast<float>(draws.unit()) * 1e-3f));
  }
  const Scores scores(DType::kF32, data.scores, kRows, 1, false, false, 0);
  expect_binary(binary_table(scores, data),
                naive_table(ScoreKind::kF32, false, naive_rows(scores, data)), {2});
}

// Every row that the sample looks at has one of a few values and no other row has: all cuts are
// wrong, one bucket holds nearly everything, and they must be made again.
TEST(RankLarge, RowsThatTheSampleMissed) {
  constexpr i64 kRows = 400'000;
  for (const DType type : {DType::kF32, DType::kF64}) {
    Draws draws(79);
    RankRows data;
    for (i64 i = 0; i < kRows; ++i) {
      data.labels.push_back(draws.below(3) == 0 ? 1 : 0);
      data.scores.push_back(static_cast<double>(
          std::bit_cast<float>(static_cast<u32>(0x30000000u + draws.below(1u << 24)))));
    }
    const cpu::SamplePlan plan(kRows);
    for (i64 s = 0; s < plan.stretches(); ++s) {
      for (i64 i = 0; i < plan.length(); ++i) {
        data.scores[static_cast<std::size_t>(plan.begin(s) + i)] = static_cast<double>(s % 700);
      }
    }
    const Scores scores(type, data.scores, kRows, 1, false, false, 0);
    expect_binary(binary_table(scores, data),
                  naive_table(type == DType::kF32 ? ScoreKind::kF32 : ScoreKind::kF64, false,
                              naive_rows(scores, data)),
                  {2});
  }
}

TEST(RankScratchReuse, LaterCallsDoNotSeeEarlierRows) {
  ThreadPool pool(2);
  RankScratch scratch;
  for (const i64 rows : {200'000, 100, 70'000, 500'000}) {
    for (const DType type : {DType::kF32, DType::kF64}) {
      const RankRows data = test::rank_rows(ScoreShape::kNormal, rows, 47 + static_cast<u64>(rows));
      const Scores scores(type, data.scores, rows, 1, false, false, 0);
      const TableView table = binary_table(scores, data);
      const RankTable expected = naive_table(
          type == DType::kF32 ? ScoreKind::kF32 : ScoreKind::kF64, false, naive_rows(scores, data));
      const auto summaries = cpu_rank_summaries(table, 0, 1, few_queries(), pool, &scratch);
      ASSERT_TRUE(summaries.ok());
      expect_summary(summaries.value()[0], summarise(expected, few_queries()));
    }
  }
}

// ---- types and layouts
// ---------------------------------------------------------------------------

class RankTypes : public testing::TestWithParam<DType> {};

TEST_P(RankTypes, EveryLayoutEqualsTheSortedTable) {
  for (const i64 rows : {300, 50'000}) {
    for (const i64 gap : {0, 2}) {
      const RankRows data = test::rank_rows(ScoreShape::kNormal, rows, 53);
      const Scores scores(GetParam(), data.scores, rows, 1, true, false, gap);
      const TableView table = binary_table(scores, data);
      expect_binary(table, naive_table(score_kind(table), false, naive_rows(scores, data)), {1, 2});
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RankTypes,
                         testing::Values(DType::kI8, DType::kI16, DType::kI32, DType::kI64,
                                         DType::kU8, DType::kU16, DType::kU32, DType::kU64,
                                         DType::kF16, DType::kBF16, DType::kF32, DType::kF64),
                         [](const auto& suite) { return std::string(dtype_name(suite.param)); });

TEST(RankKind, FollowsTheColumn) {
  TableView table;
  const auto kind = [&](DType type) {
    table.scores.dtype = type;
    return score_kind(table);
  };
  EXPECT_EQ(kind(DType::kBool), ScoreKind::kF32);
  EXPECT_EQ(kind(DType::kU8), ScoreKind::kF32);
  EXPECT_EQ(kind(DType::kI16), ScoreKind::kF32);
  EXPECT_EQ(kind(DType::kI32), ScoreKind::kI64);
  EXPECT_EQ(kind(DType::kU64), ScoreKind::kU64);
  EXPECT_EQ(kind(DType::kF16), ScoreKind::kF16);
  EXPECT_EQ(kind(DType::kF64), ScoreKind::kF64);
  table.task = Task::kMulticlass;
  table.logits = true;
  EXPECT_EQ(kind(DType::kF16), ScoreKind::kF64);
}

// ---- cells
// ---------------------------------------------------------------------------------------

TEST(RankCells, EveryCellEqualsItsOwnTable) {
  for (const u32 cells : {1u, 2u, 7u, 5'000u}) {
    for (const bool weighted : {false, true}) {
      for (const DType type : {DType::kF32, DType::kF64, DType::kF16}) {
        SCOPED_TRACE("cells " + std::to_string(cells));
        constexpr i64 kRows = 60'000;
        const RankRows data = test::rank_rows(ScoreShape::kNormal, kRows, 59);
        const Scores scores(type, data.scores, kRows, 1, true, false, 0);
        Draws draws(61);
        std::vector<u32> cell(kRows);
        std::vector<double> weights(kRows);
        std::vector<std::vector<NaiveRow>> by_cell(cells);
        for (std::size_t i = 0; i < static_cast<std::size_t>(kRows); ++i) {
          // Half of the rows in one cell.
          cell[i] = draws.below(2) == 0 ? 0 : static_cast<u32>(draws.below(cells));
          weights[i] = static_cast<double>(draws.below(3)) * 0.5;
          by_cell[cell[i]].push_back({scores.key(static_cast<i64>(i), 0), data.labels[i],
                                      weighted ? weight_mass(weights[i]).mass : u128{1}});
        }
        TableView table = binary_table(scores, data);
        table.cells = cell.data();
        table.cell_count = cells;
        if (weighted) table.weights_f64 = weights.data();
        for (const int threads : {1, 2}) {
          ThreadPool pool(threads);
          const auto tables = cpu_rank_tables(table, 0, 1, pool);
          ASSERT_TRUE(tables.ok());
          ASSERT_EQ(tables.value()[0].size(), cells);
          for (u32 c = 0; c < cells; ++c) {
            ASSERT_TRUE(tables.value()[0][c] ==
                        naive_table(score_kind(table), weighted, by_cell[c]))
                << "cell " << c;
          }
          // Summaries ignore cells.
          std::vector<NaiveRow> all;
          for (const auto& rows : by_cell) all.insert(all.end(), rows.begin(), rows.end());
          const auto summaries = cpu_rank_summaries(table, 0, 1, all_queries(), pool);
          ASSERT_TRUE(summaries.ok());
          expect_summary(summaries.value()[0],
                         summarise(naive_table(score_kind(table), weighted, all), all_queries()));
        }
      }
    }
  }
}

TEST(RankCells, ALargeCellAmongSmallOnes) {
  constexpr i64 kRows = 900'000;
  const RankRows data = test::rank_rows(ScoreShape::kSigmoid, kRows, 67);
  const Scores scores(DType::kF32, data.scores, kRows, 1, false, false, 0);
  std::vector<u32> cell(kRows);
  std::vector<std::vector<NaiveRow>> by_cell(3);
  for (std::size_t i = 0; i < static_cast<std::size_t>(kRows); ++i) {
    cell[i] = i % 100 == 7 ? 0 : i % 100 == 9 ? 1 : 2;
    by_cell[cell[i]].push_back({scores.key(static_cast<i64>(i), 0), data.labels[i], 1});
  }
  TableView table = binary_table(scores, data);
  table.cells = cell.data();
  table.cell_count = 3;
  ThreadPool pool(2);
  const auto tables = cpu_rank_tables(table, 0, 1, pool);
  ASSERT_TRUE(tables.ok());
  for (std::size_t c = 0; c < 3; ++c) {
    EXPECT_TRUE(tables.value()[0][c] == naive_table(ScoreKind::kF32, false, by_cell[c]));
  }
}

// ---- matrices
// ------------------------------------------------------------------------------------

struct MatrixCase {
  Task task;
  DType type;
  bool column_major;
  bool logits;
  i64 rows;
  i64 classes;
};

class RankMatrices : public testing::TestWithParam<MatrixCase> {};

TEST_P(RankMatrices, EveryProblemEqualsItsOwnTable) {
  const MatrixCase& c = GetParam();
  Draws draws(71);
  std::vector<double> values;
  std::vector<i32> classes;
  std::vector<u8> matrix;
  for (i64 r = 0; r < c.rows; ++r) {
    classes.push_back(static_cast<i32>(draws.below(static_cast<u64>(c.classes))));
    for (i64 k = 0; k < c.classes; ++k) {
      // Rounded, so that there are ties.
      values.push_back(static_cast<double>(static_cast<float>(
          std::round(draws.normal() * 500 + (classes.back() == k ? 400 : 0)) / 500)));
      matrix.push_back(draws.below(static_cast<u64>(k + 2)) == 0 ? 1 : 0);
    }
  }
  const Scores scores(c.type, values, c.rows, c.classes, true, c.column_major, 0);
  TableView table;
  table.task = c.task;
  table.rows = c.rows;
  table.classes = c.classes;
  table.scores = scores.view();
  table.logits = c.logits;
  table.class_labels = classes.data();
  table.label_matrix = matrix.data();

  std::vector<RankTable> expected;
  for (i64 p = 0; p < c.classes; ++p) {
    std::vector<NaiveRow> rows;
    for (i64 r = 0; r < c.rows; ++r) {
      u64 key = scores.key(r, p);
      if (c.task == Task::kMulticlass && c.logits) {
        const RowSoftmax row = softmax_row([&](i64 j) { return scores.number(r, j); }, c.classes);
        key = key_of_f64(bits_from_double(softmax_p(scores.number(r, p), row)));
      }
      const u8 label = c.task == Task::kMulticlass
                           ? (classes[static_cast<std::size_t>(r)] == p ? 1 : 0)
                           : matrix[static_cast<std::size_t>(r * c.classes + p)];
      rows.push_back({key, label, 1});
    }
    expected.push_back(naive_table(score_kind(table), false, rows));
  }
  for (const int threads : {1, 3}) {
    for (const i64 first : {i64{0}, c.classes / 3}) {
      ThreadPool pool(threads);
      const auto tables = cpu_rank_tables(table, first, c.classes, pool);
      const auto summaries = cpu_rank_summaries(table, first, c.classes, all_queries(), pool);
      const std::vector<RankQuery> area{{RankQueryKind::kTwoU, {}}};
      const auto areas = cpu_rank_summaries(table, first, c.classes, area, pool);
      ASSERT_TRUE(tables.ok());
      ASSERT_TRUE(summaries.ok());
      ASSERT_TRUE(areas.ok());
      ASSERT_EQ(tables.value().size(), static_cast<std::size_t>(c.classes - first));
      for (std::size_t i = 0; i < tables.value().size(); ++i) {
        const RankTable& e = expected[static_cast<std::size_t>(first) + i];
        ASSERT_TRUE(tables.value()[i][0] == e) << "problem " << i;
        expect_summary(summaries.value()[i], summarise(e, all_queries()));
        expect_summary(areas.value()[i], summarise(e, area));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, RankMatrices,
    testing::Values(MatrixCase{Task::kMultilabel, DType::kF32, false, false, 3'000, 37},
                    MatrixCase{Task::kMultilabel, DType::kF32, true, true, 3'000, 5},
                    MatrixCase{Task::kMultilabel, DType::kF32, false, false, 60'000, 3},
                    MatrixCase{Task::kMultilabel, DType::kF16, false, false, 3'000, 5},
                    MatrixCase{Task::kMultilabel, DType::kF64, false, false, 3'000, 5},
                    MatrixCase{Task::kMulticlass, DType::kF32, false, false, 3'000, 33},
                    MatrixCase{Task::kMulticlass, DType::kF32, true, false, 50'000, 4},
                    MatrixCase{Task::kMulticlass, DType::kF32, false, true, 2'000, 17},
                    MatrixCase{Task::kMulticlass, DType::kF64, true, true, 2'000, 3},
                    MatrixCase{Task::kMulticlass, DType::kF32, false, false, 10, 2'000}));

// ---- counted 16-bit scores
// ---------------------------------------------------------------------------

/// Rows of 16-bit scores, given by their bits.
struct HalfRows {
  std::vector<std::byte> bytes;  ///< scores at an odd address
  std::vector<u8> labels;
  TableView table;

  HalfRows(DType type, const std::vector<u16>& bits, std::vector<u8> of_rows)
      : bytes(2 * bits.size() + 3), labels(std::move(of_rows)) {
    std::memcpy(bytes.data() + 1, bits.data(), 2 * bits.size());
    table.rows = static_cast<i64>(bits.size());
    table.scores = make_view(bytes.data() + 1, type, {table.rows});
    table.binary_labels = labels.data();
  }
  HalfRows(const HalfRows&) = delete;
  HalfRows& operator=(const HalfRows&) = delete;

  void set(i64 row, u16 bits) { std::memcpy(bytes.data() + 1 + 2 * row, &bits, 2); }
  RankTable naive() const {
    std::vector<NaiveRow> rows;
    for (i64 row = 0; row < table.rows; ++row) {
      rows.push_back(
          {key_of_16(load<u16>(table.scores.at(row))), labels[static_cast<std::size_t>(row)], 1});
    }
    return naive_table(score_kind(table), false, rows);
  }
};

/// Bits of finite scores in the patterns on which counting goes different ways.
std::vector<u16> half_pattern(int pattern, DType type, std::size_t rows, Draws& draws) {
  const u32 exponent = type == DType::kF16 ? 0x7C00 : 0x7F80;
  std::vector<u16> bits(rows);
  for (std::size_t i = 0; i < rows; ++i) {
    u32 b = 0;
    switch (pattern) {
      case 0:  // all finite values
        b = static_cast<u32>(draws.below(0x10000));
        break;
      case 1:  // one value
        b = 0x3555;
        break;
      case 2:  // long runs of both zeros among other values
        b = i / 700 % 3 == 0 ? static_cast<u32>(i & 1) << 15
                             : static_cast<u32>(draws.below(0x4000));
        break;
      case 3:  // few values, so that two tables are used
        b = 0x3000 + static_cast<u32>(draws.below(3));
        break;
      default:  // runs of 256 and a little more, at any place
        b = static_cast<u32>(i / 300 * 977 % 0x8000);
        break;
    }
    bits[i] = static_cast<u16>((b & exponent) == exponent ? b ^ 0x0400 ^ (exponent & 0x0080) : b);
  }
  return bits;
}

TEST(CountedRows, EveryPatternSizeAndLevelEqualsTheSortedTable) {
  constexpr i64 kLeast = 32'768;  // RankHistogram::kLeastRows
  Draws draws(79);
  for (const DType type : {DType::kF16, DType::kBF16}) {
    for (int pattern = 0; pattern < 5; ++pattern) {
      for (const i64 rows : {kLeast, kLeast + 1, kLeast + 255, i64{300'001} / kShare + kLeast}) {
        std::vector<u8> labels(static_cast<std::size_t>(rows));
        for (u8& label : labels) label = draws.below(10) == 0 ? 1 : 0;
        const HalfRows data(type, half_pattern(pattern, type, labels.size(), draws), labels);
        const RankTable expected = data.naive();
        const RankSummary summary = summarise(expected, few_queries());
        for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
          SCOPED_TRACE(std::string(dtype_name(type)) + " pattern " + std::to_string(pattern) +
                       " rows " + std::to_string(rows));
          limit_cpu_level(level);
          expect_binary(data.table, expected, {1, 2, 3});
          // The same through the check of the scores.
          const auto backend = make_cpu_backend(2);
          backend->hold_columns(true);
          const auto bad = backend->bad_scores(data.table);
          ASSERT_TRUE(bad.ok());
          EXPECT_EQ(bad.value().rows, 0);
          const auto summaries = backend->rank_summaries(data.table, 0, 1, few_queries());
          ASSERT_TRUE(summaries.ok());
          expect_summary(summaries.value()[0], summary);
          ASSERT_TRUE(backend->bad_scores(data.table).ok());
          const auto tables = backend->rank_tables(data.table, 0, 1);
          ASSERT_TRUE(tables.ok());
          EXPECT_TRUE(tables.value()[0][0] == expected);
        }
      }
    }
  }
  limit_cpu_level(CpuLevel::kV4);
}

TEST(CountedRows, FindsWhatThePlainSearchFinds) {
  constexpr i64 kRows = 70'000;
  Draws draws(83);
  for (const DType type : {DType::kF16, DType::kBF16}) {
    const std::vector<u16> poisons = type == DType::kF16
                                         ? std::vector<u16>{0x7C00, 0xFC00, 0x7E01, 0xFFFF, 0x7C01}
                                         : std::vector<u16>{0x7F80, 0xFF80, 0x7FC1, 0xFFFF, 0x7F81};
    const std::vector<u8> labels(kRows, 1);
    for (const u16 poison : poisons) {
      for (const std::vector<i64>& places :
           {std::vector<i64>{0}, std::vector<i64>{kRows - 1}, std::vector<i64>{257, 40'000, 9}}) {
        HalfRows data(type, half_pattern(0, type, kRows, draws), labels);
        for (const i64 place : places) data.set(place, poison);
        const auto backend = make_cpu_backend(2);
        backend->hold_columns(true);
        ThreadPool pool(2);
        const auto bad = backend->bad_scores(data.table);
        const auto plain = cpu_bad_scores(data.table, pool);
        ASSERT_TRUE(bad.ok() && plain.ok());
        EXPECT_EQ(bad.value().rows, static_cast<i64>(places.size()));
        EXPECT_EQ(bad.value().first_row, *std::min_element(places.begin(), places.end()));
        EXPECT_EQ(bad.value().first_column, 0);
        EXPECT_EQ(bad.value().rows, plain.value().rows);
        EXPECT_EQ(bad.value().first_row, plain.value().first_row);
        EXPECT_EQ(bad.value().first_column, plain.value().first_column);
      }
    }
  }
}

TEST(CountedRows, ServeTheNextCallForTheSameRowsOnly) {
  constexpr i64 kRows = 50'000;
  Draws draws(89);
  std::vector<u8> labels(kRows);
  for (u8& label : labels) label = static_cast<u8>(draws.below(2));
  HalfRows data(DType::kF16, half_pattern(0, DType::kF16, kRows, draws), labels);
  const HalfRows other(DType::kF16, half_pattern(3, DType::kF16, kRows, draws), labels);
  const auto backend = make_cpu_backend(2);
  backend->hold_columns(true);
  const auto ranked = [&](const TableView& table) {
    const auto summaries = backend->rank_summaries(table, 0, 1, few_queries());
    EXPECT_TRUE(summaries.ok());
    return summaries.value()[0];
  };
  const auto expect = [&](const TableView& table, const RankTable& naive) {
    expect_summary(ranked(table), summarise(naive, few_queries()));
  };
  // Another table, a part of the rows, and bfloat16 at the same place.
  ASSERT_TRUE(backend->bad_scores(data.table).ok());
  expect(other.table, other.naive());
  expect(data.table, data.naive());
  ASSERT_TRUE(backend->bad_scores(data.table).ok());
  TableView part = data.table;
  part.rows = kRows - 1;
  part.scores.shape = {part.rows};
  std::vector<NaiveRow> rows;
  for (i64 row = 0; row < part.rows; ++row) {
    rows.push_back(
        {key_of_16(load<u16>(part.scores.at(row))), data.labels[static_cast<std::size_t>(row)], 1});
  }
  expect(part, naive_table(ScoreKind::kF16, false, rows));
  // Rows that change between two rankings after one check.
  ASSERT_TRUE(backend->bad_scores(data.table).ok());
  expect(data.table, data.naive());
  for (i64 row = 0; row < kRows; row += 3) data.set(row, 0x1234);
  expect(data.table, data.naive());
  // Weights and cells ask for something else.
  ASSERT_TRUE(backend->bad_scores(data.table).ok());
  const std::vector<double> weights(kRows, 2.0);
  TableView weighted = data.table;
  weighted.weights_f64 = weights.data();
  EXPECT_TRUE(ranked(weighted).weighted);
  ASSERT_TRUE(backend->bad_scores(data.table).ok());
  std::vector<u32> cells(kRows);
  for (std::size_t i = 0; i < cells.size(); ++i) cells[i] = i % 2;
  TableView in_cells = data.table;
  in_cells.cells = cells.data();
  in_cells.cell_count = 2;
  const auto tables = backend->rank_tables(in_cells, 0, 1);
  ASSERT_TRUE(tables.ok());
  EXPECT_EQ(tables.value()[0].size(), 2u);
  // Rows that change between the check and the ranking, which nobody has promised to hold.
  ASSERT_TRUE(backend->bad_scores(data.table).ok());
  backend->hold_columns(false);
  data.set(1, 0x2345);
  expect(data.table, data.naive());
  ASSERT_TRUE(backend->bad_scores(data.table).ok());
  data.set(1, 0x3456);
  expect(data.table, data.naive());
}

// ---- scores that cannot be ranked
// ----------------------------------------------------------------

TEST(BadScores, NoneInFiniteData) {
  for (const DType type : {DType::kF16, DType::kBF16, DType::kF32, DType::kF64, DType::kI64}) {
    const RankRows data = test::rank_rows(ScoreShape::kSpecial, 10'000, 73);
    const Scores scores(type, data.scores, 10'000, 1, true, false, 0);
    ThreadPool pool(2);
    const auto bad = cpu_bad_scores(binary_table(scores, data), pool);
    ASSERT_TRUE(bad.ok());
    EXPECT_EQ(bad.value().rows, 0) << dtype_name(type);
    EXPECT_EQ(bad.value().first_row, -1);
    EXPECT_EQ(bad.value().first_column, -1);
  }
}

TEST(BadScores, CountsRowsAndFindsTheFirst) {
  struct Poison {
    DType type;
    std::vector<u64> bits;
  };
  const std::vector<Poison> poisons{
      {DType::kF16, {0x7C00, 0xFC00, 0x7E01, 0xFFFF}},
      {DType::kBF16, {0x7F80, 0xFF80, 0x7FC1, 0xFFFF}},
      {DType::kF32, {0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF}},
      {DType::kF64,
       {0x7FF0000000000000, 0xFFF0000000000000, 0x7FF0000000000001, 0xFFFFFFFFFFFFFFFF}}};
  for (const Poison& poison : poisons) {
    for (const bool column_major : {false, true}) {
      for (const i64 gap : {0, 1}) {
        constexpr i64 kRows = 30'000;
        constexpr i64 kColumns = 9;
        const std::vector<double> values(kRows * kColumns, 0.5);
        const Scores scores(poison.type, values, kRows, kColumns, true, column_major, gap);
        const auto put = [&](i64 row, i64 column, u64 bits) {
          std::memcpy(const_cast<std::byte*>(scores.view().at(row, column)), &bits,
                      static_cast<std::size_t>(dtype_size(poison.type)));
        };
        put(29'999, 8, poison.bits[0]);
        put(29'999, 3, poison.bits[1]);
        put(12'345, 7, poison.bits[2]);
        put(12'345, 8, poison.bits[3]);
        put(12'346, 0, poison.bits[0]);
        TableView table;
        table.task = Task::kMultilabel;
        table.rows = kRows;
        table.classes = kColumns;
        table.scores = scores.view();
        for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV4}) {
          limit_cpu_level(level);
          ThreadPool pool(3);
          const auto bad = cpu_bad_scores(table, pool);
          ASSERT_TRUE(bad.ok());
          EXPECT_EQ(bad.value().rows, 3);
          EXPECT_EQ(bad.value().first_row, 12'345);
          EXPECT_EQ(bad.value().first_column, 7);
        }
      }
    }
  }
  limit_cpu_level(CpuLevel::kV4);
}

}  // namespace
}  // namespace cupel
