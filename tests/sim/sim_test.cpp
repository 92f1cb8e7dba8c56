// The pipelines and kernels of the GPU, run on the host, against the CPU backend: every state, byte
// for byte. What this cannot show: races between threads of a block, launch limits, CUB, speed.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "cupel/backend/selftest.hpp"
#include "cupel/core/bytes.hpp"
#include "cupel/math/counter_random.hpp"
#include "cupel/math/pair_kernel.hpp"
#include "eval/compute.hpp"
#include "sim_backend.hpp"
#include "support/rank_data.hpp"

namespace cupel::sim {
namespace {

using test::Draws;
using test::ScoreShape;

/// A table with all of its columns.
struct OwnedTable {
  TableView view;
  std::vector<std::byte> scores;
  std::vector<u8> labels;
  std::vector<i32> classes;
  std::vector<double> weights_f64;
  std::vector<float> weights_f32;
  std::vector<u32> cells;
};

// Under a sanitizer a case takes twenty times as long: there a part of them has to do.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSlow = true;
#else
constexpr bool kSlow = false;
#endif

enum class Weights : u8 { kNone, kF64, kF32 };
enum class Order : u8 { kRows, kColumns, kGaps };

struct Spec {
  Task task = Task::kBinary;
  DType dtype = DType::kF32;
  bool logits = false;
  i64 rows = 0;
  i64 classes = 2;
  Weights weights = Weights::kNone;
  u32 cells = 1;
  Order order = Order::kRows;
  ScoreShape shape = ScoreShape::kNormal;

  std::string text() const {
    return fmt::format("{} {}{} {} rows, {} classes, weights {}, {} cells, order {}, {}",
                       task_name(task), dtype_name(dtype), logits ? " logits" : "", rows, classes,
                       static_cast<int>(weights), cells, static_cast<int>(order),
                       test::shape_name(shape));
  }
};

u16 half_of(float value) {
  // Truncated: which value a test draws does not matter, that it is finite does.
  const u32 bits = std::bit_cast<u32>(value);
  const int exponent = static_cast<int>(bits >> 23 & 0xFF) - 112;
  const u32 sign = bits >> 16 & 0x8000;
  if (exponent <= 0) return static_cast<u16>(sign);
  if (exponent >= 31) return static_cast<u16>(sign | 0x7BFF);
  return static_cast<u16>(sign | static_cast<u32>(exponent) << 10 | (bits >> 13 & 0x3FF));
}

template <class T>
void put(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

void put_score(DType dtype, std::byte* at, double value) {
  const double whole = std::clamp(value * 40, -100.0, 100.0);
  switch (dtype) {
    case DType::kBool:
      return put(at, static_cast<u8>(value > 0.3));
    case DType::kI8:
      return put(at, static_cast<i8>(whole));
    case DType::kI16:
      return put(at, static_cast<i16>(whole * 100));
    case DType::kI32:
      return put(at, static_cast<i32>(whole * 1e6));
    case DType::kI64:
      return put(at, static_cast<i64>(whole * 9e16));
    case DType::kU8:
      return put(at, static_cast<u8>(std::abs(whole)));
    case DType::kU16:
      return put(at, static_cast<u16>(std::abs(whole) * 100));
    case DType::kU32:
      return put(at, static_cast<u32>(std::abs(whole) * 1e7));
    case DType::kU64:
      return put(at, static_cast<u64>(std::abs(whole) * 1.8e17));
    case DType::kF16:
      return put(at, half_of(static_cast<float>(value)));
    case DType::kBF16:
      return put(at, static_cast<u16>(std::bit_cast<u32>(static_cast<float>(value)) >> 16));
    case DType::kF32:
      return put(at, static_cast<float>(value));
    default:
      return put(at, value + 1e-12 * value);
  }
}

OwnedTable make_table(const Spec& spec, u64 seed) {
  Draws draws(seed);
  OwnedTable out;
  TableView& view = out.view;
  view.task = spec.task;
  view.logits = spec.logits;
  view.rows = spec.rows;
  view.classes = spec.task == Task::kBinary ? 2 : spec.classes;
  const i64 columns = spec.task == Task::kBinary ? 1 : spec.classes;
  const i64 size = dtype_size(spec.dtype);
  const i64 gap = spec.order == Order::kGaps ? 3 : 0;
  const i64 row_stride = spec.order == Order::kColumns ? size : columns * (size + gap) + gap;
  const i64 column_stride = spec.order == Order::kColumns ? spec.rows * size : size + gap;
  // Starts at an odd address.
  out.scores.resize(static_cast<std::size_t>(spec.rows * (columns * (size + gap) + gap) + 17));
  std::byte* data = out.scores.data() + 1;
  for (i64 row = 0; row < spec.rows; ++row) {
    const i64 cls = static_cast<i64>(draws.below(static_cast<u64>(view.classes)));
    for (i64 j = 0; j < columns; ++j) {
      const bool positive = spec.shape == ScoreShape::kAllPositive ||
                            (spec.shape != ScoreShape::kAllNegative && draws.below(3) == 0);
      if (spec.task != Task::kMulticlass) out.labels.push_back(positive ? 1 : 0);
      const bool high = spec.task == Task::kMulticlass ? j == cls : positive;
      put_score(spec.dtype, data + row * row_stride + j * column_stride,
                static_cast<double>(test::draw_score(spec.shape, high, row * columns + j,
                                                     spec.rows * columns, draws)));
    }
    if (spec.task == Task::kMulticlass) out.classes.push_back(static_cast<i32>(cls));
    const double weight =
        draws.below(4) == 0 ? 0.0 : static_cast<double>(draws.next() >> 40) * 0x1p-20;
    if (spec.weights == Weights::kF64) out.weights_f64.push_back(weight);
    if (spec.weights == Weights::kF32) out.weights_f32.push_back(static_cast<float>(weight));
    if (spec.cells > 1) out.cells.push_back(static_cast<u32>(draws.below(spec.cells)));
  }
  // One more, so that an empty table has columns too.
  out.labels.push_back(0);
  out.classes.push_back(0);
  out.cells.push_back(0);
  out.weights_f64.push_back(0);
  out.weights_f32.push_back(0);
  view.scores.data = data;
  view.scores.dtype = spec.dtype;
  view.scores.item_bytes = size;
  view.scores.shape = spec.task == Task::kBinary ? std::vector<i64>{spec.rows}
                                                 : std::vector<i64>{spec.rows, columns};
  view.scores.strides = spec.task == Task::kBinary ? std::vector<i64>{row_stride}
                                                   : std::vector<i64>{row_stride, column_stride};
  if (spec.task == Task::kBinary) view.binary_labels = out.labels.data();
  if (spec.task == Task::kMulticlass) view.class_labels = out.classes.data();
  if (spec.task == Task::kMultilabel) view.label_matrix = out.labels.data();
  if (spec.weights == Weights::kF64) view.weights_f64 = out.weights_f64.data();
  if (spec.weights == Weights::kF32) view.weights_f32 = out.weights_f32.data();
  if (spec.cells > 1) view.cells = out.cells.data();
  view.cell_count = spec.cells;
  return out;
}

template <class State>
std::vector<std::byte> bytes_of(const State& state) {
  ByteWriter writer;
  state.encode(writer);
  return writer.take();
}

template <class State>
void expect_equal_states(const Result<std::vector<std::vector<State>>>& got,
                         const Result<std::vector<std::vector<State>>>& wanted, const char* what) {
  ASSERT_TRUE(wanted.ok()) << wanted.error().text();
  ASSERT_TRUE(got.ok()) << got.error().text();
  ASSERT_EQ(got->size(), wanted->size()) << what;
  for (std::size_t p = 0; p < wanted->size(); ++p) {
    ASSERT_EQ((*got)[p].size(), (*wanted)[p].size()) << what;
    for (std::size_t c = 0; c < (*wanted)[p].size(); ++c) {
      ASSERT_TRUE(bytes_of((*got)[p][c]) == bytes_of((*wanted)[p][c]))
          << what << " of problem " << p << ", cell " << c;
    }
  }
}

std::vector<RankQuery> all_queries() {
  std::vector<RankQuery> queries;
  for (int kind = 0; kind <= static_cast<int>(RankQueryKind::kRanges); ++kind) {
    queries.push_back({static_cast<RankQueryKind>(kind), Fraction{3, 10}});
    queries.push_back({static_cast<RankQueryKind>(kind), Fraction{19, 20}});
  }
  return queries;
}

std::vector<RowSpec> all_row_specs(const Spec& spec) {
  RowSpec all;
  all.thresholds = spec.task == Task::kMulticlass ? std::vector<double>{0}
                                                  : std::vector<double>{0.5, 0.0, -3.25};
  if (spec.task == Task::kMulticlass) all.top_k = {1, 2, 5};
  all.brier = true;
  all.log_loss = true;
  all.exact_match = spec.task == Task::kMultilabel;
  if (spec.task == Task::kMulticlass) {
    all.bins = {{BinPoints::kEachClass, 15, false, true}, {BinPoints::kTop, 10, true}};
  } else {
    all.bins = {{BinPoints::kPositive, 15, true}, {BinPoints::kTop, 15, false, true}};
  }
  RowSpec brier;
  brier.brier = true;
  if (spec.task == Task::kMulticlass) {
    brier.bins = {{BinPoints::kByPredicted, 20, false}, {BinPoints::kTop, 300, false, true}};
  } else {
    brier.bins = {{BinPoints::kPositive, 3, false, true}};
  }
  RowSpec loss;
  loss.log_loss = true;
  RowSpec hits;
  hits.thresholds = {spec.task == Task::kMulticlass ? 0.0 : 0.25};
  std::vector<RowSpec> specs{all, brier, loss, hits, RowSpec{}};
  if (spec.task == Task::kMulticlass && spec.logits) {
    // A step of a fit, and the pass after its last.
    RowSpec step;
    step.log_loss = true;
    step.tempering.slopes = true;
    RowSpec after;
    after.log_loss = true;
    after.brier = true;
    after.bins = {{BinPoints::kTop, 15, false}};
    for (u32 cell = 0; cell < spec.cells; ++cell) {
      step.tempering.factors.push_back(cell % 3 == 1 ? 0.0 : 0.375 + cell);
      after.tempering.factors.push_back(cell % 4 == 3 ? 0.0 : 1.75 - 0.3 * (cell % 5));
    }
    specs.push_back(step);
    specs.push_back(after);
  }
  return specs;
}

void expect_equal(const Spec& spec, const SimOptions& options = {}) {
  SCOPED_TRACE(spec.text());
  const OwnedTable table = make_table(spec, 20261124);
  auto cpu = make_cpu_backend(1);
  auto sim = make_sim_backend(options);
  const i64 problems = table.view.problems();
  expect_equal_states(sim->rank_tables(table.view, 0, problems),
                      cpu->rank_tables(table.view, 0, problems), "rank tables");
  if (problems > 2) {
    expect_equal_states(sim->rank_tables(table.view, 1, problems - 1),
                        cpu->rank_tables(table.view, 1, problems - 1), "some rank tables");
  }
  const auto queries = all_queries();
  const auto got = sim->rank_summaries(table.view, 0, problems, queries);
  const auto wanted = cpu->rank_summaries(table.view, 0, problems, queries);
  ASSERT_TRUE(got.ok()) << got.error().text();
  ASSERT_TRUE(wanted.ok()) << wanted.error().text();
  ASSERT_EQ(got->size(), wanted->size());
  for (std::size_t p = 0; p < wanted->size(); ++p) {
    const RankSummary& a = (*got)[p];
    const RankSummary& b = (*wanted)[p];
    EXPECT_TRUE(a.kind == b.kind && a.weighted == b.weighted && a.pos_rows == b.pos_rows &&
                a.neg_rows == b.neg_rows && a.pos == b.pos && a.neg == b.neg);
    ASSERT_EQ(a.answers.size(), b.answers.size());
    for (std::size_t q = 0; q < b.answers.size(); ++q) {
      ASSERT_TRUE(a.answers[q] == b.answers[q])
          << "query " << static_cast<int>(queries[q].kind) << " of problem " << p;
    }
  }
  for (const RowSpec& rows : all_row_specs(spec)) {
    expect_equal_states(sim->row_sums(table.view, rows), cpu->row_sums(table.view, rows),
                        "row sums");
  }
  const auto bad = sim->bad_scores(table.view);
  ASSERT_TRUE(bad.ok());
  EXPECT_EQ(bad->rows, 0);
  EXPECT_EQ(bad->first_row, -1);
}

// The cases of `cupel selftest`.
void expect_passes_selftest(const SimOptions& options, bool quick) {
  auto cpu = make_cpu_backend(1);
  auto sim = make_sim_backend(options);
  SelftestOptions cases;
  cases.quick = quick;
  const SelftestReport report = run_selftest(*cpu, *sim, cases);
  EXPECT_GT(report.cases(), 50);
  for (const SelftestLine& line : report.lines) {
    EXPECT_EQ(line.different, 0) << selftest_state_name(line.state) << ": "
                                 << line.first_difference;
  }
}
TEST(Sim, PassesTheSelftest) { expect_passes_selftest({}, kSlow); }
TEST(Sim, PassesTheSelftestInParts) {
  SimOptions options;
  options.part_rows = 509;
  expect_passes_selftest(options, true);
}

constexpr DType kNumeric[]{DType::kBool, DType::kI8,  DType::kI16, DType::kI32, DType::kI64,
                           DType::kU8,   DType::kU16, DType::kU32, DType::kU64, DType::kF16,
                           DType::kBF16, DType::kF32, DType::kF64};

TEST(Sim, EveryDtypeOfABinaryTable) {
  for (const DType dtype : kNumeric) {
    for (const bool logits : {false, true}) {
      for (const Weights weights : {Weights::kNone, Weights::kF64, Weights::kF32}) {
        Spec spec;
        spec.dtype = dtype;
        spec.logits = logits;
        spec.weights = weights;
        spec.rows = 3000;
        expect_equal(spec);
        spec.cells = 5;
        spec.shape = ScoreShape::kFewValues;
        expect_equal(spec);
      }
    }
  }
}

TEST(Sim, AwkwardSizes) {
  for (const i64 rows : {0, 1, 2, 31, 32, 33, 255, 256, 257, 1023, 1024, 1025, 4095, 4096, 4097,
                         32767, 32768, 32769, 100'001}) {
    for (const Weights weights : {Weights::kNone, Weights::kF64}) {
      Spec spec;
      spec.rows = rows;
      spec.weights = weights;
      expect_equal(spec);
      spec.cells = 3;
      expect_equal(spec);
    }
  }
}

TEST(Sim, EveryShapeOfScores) {
  for (const ScoreShape shape : test::kAllShapes) {
    for (const DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
      Spec spec;
      spec.shape = shape;
      spec.dtype = dtype;
      spec.rows = kSlow ? 20'000 : 70'000;
      expect_equal(spec);
      spec.weights = Weights::kF32;
      spec.cells = 2;
      spec.rows = 5000;
      expect_equal(spec);
    }
  }
}

// Enough rows for histograms; sorted otherwise.
TEST(Sim, HistogramsOfHalves) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (const ScoreShape shape :
         {ScoreShape::kNormal, ScoreShape::kAllEqual, ScoreShape::kSigmoid, ScoreShape::kSpecial}) {
      Spec spec;
      spec.dtype = dtype;
      spec.shape = shape;
      spec.rows = (i64{1} << 17) + 3;
      expect_equal(spec);
      spec.cells = 3;
      expect_equal(spec);
    }
  }
  Spec labels;
  labels.task = Task::kMultilabel;
  labels.dtype = DType::kF16;
  labels.classes = 3;
  labels.rows = i64{1} << 17;
  expect_equal(labels);
}

TEST(Sim, Matrices) {
  for (const Task task : {Task::kMulticlass, Task::kMultilabel}) {
    for (const bool logits : {false, true}) {
      for (const i64 classes : {1, 2, 3, 8, 9, 33, 64, 65, 130}) {
        for (const Order order : {Order::kRows, Order::kColumns, Order::kGaps}) {
          if (kSlow && (classes % 3 != 0 || (order == Order::kColumns) != logits)) continue;
          Spec spec;
          spec.task = task;
          spec.logits = logits;
          spec.classes = classes;
          spec.order = order;
          spec.rows = classes > 32 ? 120 : 400;
          spec.shape = logits ? ScoreShape::kNormal : ScoreShape::kSigmoid;
          spec.weights = static_cast<Weights>(classes % 3);
          spec.cells = classes % 2 == 0 ? 4 : 1;
          expect_equal(spec);
        }
      }
      for (const DType dtype : kNumeric) {
        if (kSlow && logits && !is_float(dtype)) continue;
        Spec spec;
        spec.task = task;
        spec.logits = logits;
        spec.dtype = dtype;
        spec.classes = 11;
        spec.rows = 500;
        spec.cells = 2;
        expect_equal(spec);
      }
    }
  }
}

// The softmax in float32: a kernel of its own. Fewer and more classes than a row has threads.
TEST(Sim, SoftmaxF32) {
  const auto expect = [](const Spec& spec) {
    SCOPED_TRACE(spec.text());
    OwnedTable table = make_table(spec, 20261124);
    table.view.softmax = SoftmaxKind::kF32;
    auto cpu = make_cpu_backend(1);
    auto sim = make_sim_backend();
    for (const RowSpec& rows : all_row_specs(spec)) {
      expect_equal_states(sim->row_sums(table.view, rows), cpu->row_sums(table.view, rows),
                          "row sums");
    }
  };
  for (const i64 classes : {1, 2, 8, 9, 33, 64, 65, 130}) {
    for (const Order order : {Order::kRows, Order::kColumns, Order::kGaps}) {
      if (kSlow && classes % 3 != 0) continue;
      Spec spec;
      spec.task = Task::kMulticlass;
      spec.logits = true;
      spec.classes = classes;
      spec.order = order;
      spec.rows = classes > 32 ? 120 : 400;
      spec.weights = static_cast<Weights>(classes % 3);
      spec.cells = classes % 2 == 0 ? 4 : 1;
      expect(spec);
    }
  }
  for (const DType dtype : kNumeric) {
    Spec spec;
    spec.task = Task::kMulticlass;
    spec.logits = true;
    spec.dtype = dtype;
    spec.classes = 11;
    spec.rows = 300;
    spec.cells = 2;
    expect(spec);
  }
}

// More segments than a block's shared memory has counters for.
TEST(Sim, ThousandsOfSegments) {
  Spec spec;
  spec.rows = 20'000;
  spec.cells = kSlow ? 1100 : 5000;
  expect_equal(spec);
  spec.weights = Weights::kF64;
  expect_equal(spec);
  Spec labels;
  labels.task = Task::kMultilabel;
  labels.classes = kSlow ? 40 : 600;
  labels.cells = kSlow ? 26 : 3;
  labels.rows = 60;
  expect_equal(labels);
}

TEST(Sim, OneBlockAndMany) {
  Spec spec;
  spec.rows = 50'000;
  spec.cells = 2;
  for (const i64 blocks : {1, 2, 64}) {
    SimOptions options;
    options.blocks = blocks;
    expect_equal(spec, options);
  }
}

// Tables that arrive in parts of any size: those that end inside a warp, a vector of 8 rows or a
// block, one row at a time, and the last part shorter. Catches what reads a part before it came, a
// part that is counted twice or in the wrong segment, and merges that lose keys.
TEST(Sim, PartsOfAnySize) {
  const auto in_parts = [](const Spec& spec, i64 part_rows, bool pinned) {
    SCOPED_TRACE(fmt::format("parts of {} rows, {}", part_rows, pinned ? "pinned" : "pageable"));
    SimOptions options;
    options.part_rows = part_rows;
    options.pinned = pinned;
    expect_equal(spec, options);
  };
  for (const i64 part_rows : {1, 2, 31, 32, 33, 255, 256, 257, 1000}) {
    for (const Weights weights : {Weights::kNone, Weights::kF64, Weights::kF32}) {
      for (const ScoreShape shape : {ScoreShape::kNormal, ScoreShape::kFewValues}) {
        Spec spec;
        spec.rows = part_rows == 1 ? 97 : 8 * part_rows + 3;
        spec.weights = weights;
        spec.shape = shape;
        spec.cells = shape == ScoreShape::kNormal ? 1 : 3;
        in_parts(spec, part_rows, weights != Weights::kF64);
        spec.dtype = DType::kF64;
        in_parts(spec, part_rows, weights == Weights::kF64);
      }
    }
  }
  // Two to nine parts: every way in which they are grouped.
  for (i64 parts = 1; parts <= 9; ++parts) {
    Spec spec;
    spec.rows = 100 * parts - 1;
    spec.cells = 2;
    in_parts(spec, 100, false);
    in_parts(spec, 100, true);
  }
  // All positives first: groups of parts with empty segments. No row of positive weight at all.
  for (const ScoreShape shape : test::kAllShapes) {
    Spec spec;
    spec.rows = 3000;
    spec.shape = shape;
    in_parts(spec, 333, true);
    spec.weights = Weights::kF32;
    in_parts(spec, 333, true);
  }
}

TEST(Sim, PartsOfMatrices) {
  for (const Order order : {Order::kRows, Order::kColumns, Order::kGaps}) {
    for (const bool pinned : {false, true}) {
      for (const i64 classes : {3, 11, 70}) {
        for (const i64 part_rows : {1, 33, 256}) {
          if (kSlow && (classes == 11 || part_rows == 256)) continue;
          SimOptions options;
          options.part_rows = part_rows;
          options.pinned = pinned;
          Spec spec;
          spec.order = order;
          spec.classes = classes;
          spec.rows = part_rows == 1 ? 40 : 5 * part_rows + 7;
          spec.weights = pinned ? Weights::kF64 : Weights::kNone;
          spec.cells = pinned ? 1 : 3;
          spec.task = Task::kMultilabel;
          expect_equal(spec, options);
          spec.task = Task::kMulticlass;
          spec.logits = pinned;
          expect_equal(spec, options);
          spec.logits = !pinned;
          spec.dtype = DType::kBF16;
          expect_equal(spec, options);
        }
      }
    }
  }
}

// 16-bit scores in parts that begin where eight rows cannot be read at once, and in such that do.
TEST(Sim, PartsOfHistograms) {
  for (const i64 part_rows : {20'003, 40'000}) {
    for (const u32 cells : {1u, 3u}) {
      SimOptions options;
      options.part_rows = part_rows;
      options.pinned = cells == 3;
      Spec spec;
      spec.dtype = part_rows == 40'000 ? DType::kF16 : DType::kBF16;
      spec.rows = 140'001;
      spec.cells = cells;
      expect_equal(spec, options);
    }
  }
}

// Thousands of segments are not merged, but rows still arrive in parts.
TEST(Sim, PartsOfManySegments) {
  SimOptions options;
  options.part_rows = 999;
  Spec spec;
  spec.rows = 10'000;
  for (const u32 cells : {1024u, 1025u}) {
    spec.cells = cells;
    expect_equal(spec, options);
  }
}

TEST(Sim, BadScoresAreFoundWhereTheCpuFindsThem) {
  auto cpu = make_cpu_backend(1);
  SimOptions in_parts;
  in_parts.part_rows = 99;
  auto sim = make_sim_backend(in_parts);
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32, DType::kF64}) {
    for (const Order order : {Order::kRows, Order::kColumns, Order::kGaps}) {
      Spec spec;
      spec.task = Task::kMultilabel;
      spec.dtype = dtype;
      spec.classes = 7;
      spec.rows = 1000;
      spec.order = order;
      OwnedTable table = make_table(spec, 5);
      const u64 bad_bits = dtype == DType::kF16    ? 0xFC00u
                           : dtype == DType::kBF16 ? 0x7FC0u
                           : dtype == DType::kF32  ? 0xFF800000u
                                                   : 0x7FF8000000000001u;
      for (const auto& [row, column] : {std::pair{999, 6}, {500, 3}, {500, 2}, {17, 5}}) {
        std::memcpy(const_cast<std::byte*>(table.view.scores.at(row, column)), &bad_bits,
                    static_cast<std::size_t>(dtype_size(dtype)));
        const auto got = sim->bad_scores(table.view);
        const auto wanted = cpu->bad_scores(table.view);
        ASSERT_TRUE(got.ok() && wanted.ok());
        EXPECT_EQ(got->rows, wanted->rows);
        EXPECT_EQ(got->first_row, row);
        EXPECT_EQ(got->first_column, column);
        EXPECT_EQ(wanted->first_column, column);
      }
    }
  }
}

// An out-of-memory or a failure in any launch is an error of its kind, gives all memory back, and
// does not stick (the first) or does (the second).
TEST(Sim, FaultsAreErrorsAndLeakNothing) {
  Spec spec;
  spec.rows = 3000;
  spec.cells = 2;
  spec.weights = Weights::kF64;
  const OwnedTable table = make_table(spec, 9);
  const auto queries = all_queries();
  const auto calls = [&](DeviceBackend& backend) {
    int failures = 0;
    failures += backend.rank_tables(table.view, 0, 1).ok() ? 0 : 1;
    failures += backend.rank_summaries(table.view, 0, 1, queries).ok() ? 0 : 1;
    failures += backend.row_sums(table.view, all_row_specs(spec)[0]).ok() ? 0 : 1;
    failures += backend.bad_scores(table.view).ok() ? 0 : 1;
    return failures;
  };
  i64 live = 0;
  for (const i64 part_rows : {0, 700}) {
    int with_failures = 0;
    for (i64 launch = 1; launch < 160; ++launch) {
      SimOptions options;
      options.fail_at_launch = launch;
      options.live_bytes = &live;
      options.part_rows = part_rows;
      auto sim = make_sim_backend(options);
      if (calls(*sim) == 0) break;
      ++with_failures;
      EXPECT_EQ(sim->trouble(), DeviceTrouble::kFailed);
      EXPECT_EQ(calls(*sim), 4) << "a failed device went on";
      sim.reset();
      EXPECT_EQ(live, 0);
    }
    EXPECT_GT(with_failures, part_rows == 0 ? 10 : 40);
    EXPECT_LT(with_failures, 159);
  }
  auto cpu = make_cpu_backend(1);
  for (i64 memory = 1 << 10; memory < i64{1} << 22; memory += memory / 3) {
    SimOptions options;
    options.memory = memory;
    options.live_bytes = &live;
    options.part_rows = memory % 2 == 0 ? 700 : 0;
    auto sim = make_sim_backend(options);
    const auto tables = sim->rank_tables(table.view, 0, 1);
    if (tables.ok()) {
      expect_equal_states(tables, cpu->rank_tables(table.view, 0, 1), "tight");
    } else {
      EXPECT_EQ(sim->trouble(), DeviceTrouble::kOutOfMemory);
      EXPECT_EQ(tables.error().code, ErrorCode::kBackend);
      EXPECT_EQ(live, 0);
      EXPECT_TRUE(sim->bad_scores(TableView{}).ok()) << "an out-of-memory stuck";
    }
  }
}

// What the estimate of a table's memory says is enough, but for what does not grow with rows; CUB's
// scratch is not seen here. Beside f32 columns it is at most 2.2 x 4 bytes a row.
TEST(Sim, TheEstimateOfMemoryIsEnough) {
  constexpr i64 kBesides = 64 * 1024;
  const auto expect_enough = [](const Spec& spec, i64 bytes) {
    SCOPED_TRACE(spec.text());
    const OwnedTable table = make_table(spec, 12);
    SimOptions options;
    options.memory = bytes > 0 ? bytes : i64{1} << 40;
    options.part_rows = spec.rows / 7;
    auto sim = make_sim_backend(options);
    const i64 problems = table.view.problems();
    if (bytes == 0) {
      options.memory = spec.rows * sim->bytes_per_row(table.view, problems) + kBesides;
      sim = make_sim_backend(options);
    }
    const auto tables = sim->rank_tables(table.view, 0, problems);
    EXPECT_TRUE(tables.ok()) << tables.error().text();
    const auto queries = all_queries();
    const auto summaries = sim->rank_summaries(table.view, 0, problems, queries);
    EXPECT_TRUE(summaries.ok()) << summaries.error().text();
    const auto sums = sim->row_sums(table.view, all_row_specs(spec)[0]);
    EXPECT_TRUE(sums.ok()) << sums.error().text();
  };
  for (const Weights weights : {Weights::kNone, Weights::kF64, Weights::kF32}) {
    for (const ScoreShape shape : {ScoreShape::kNormal, ScoreShape::kFewValues}) {
      for (const DType dtype : {DType::kF16, DType::kF32, DType::kF64, DType::kU8}) {
        Spec spec;
        spec.rows = 100'000;
        spec.weights = weights;
        spec.shape = shape;
        spec.dtype = dtype;
        expect_enough(spec, 0);
        spec.cells = 3;
        expect_enough(spec, 0);
      }
      for (const Task task : {Task::kMulticlass, Task::kMultilabel}) {
        Spec spec;
        spec.task = task;
        spec.rows = 20'000;
        spec.classes = 4;
        spec.weights = weights;
        spec.shape = shape;
        spec.logits = task == Task::kMulticlass;
        expect_enough(spec, 0);
      }
    }
  }
  Spec spec;
  spec.rows = 1'000'000;
  expect_enough(spec, spec.rows * 5 + spec.rows * 88 / 10);
}

// A table that fits with what ranking it needs fits again while its columns are held, and so does
// another in its place.
TEST(Sim, HeldColumnsCountAsFree) {
  Spec spec;
  spec.rows = 40'000;
  spec.task = Task::kMulticlass;
  spec.logits = true;
  spec.classes = 5;
  spec.weights = Weights::kF64;
  spec.cells = 3;
  const OwnedTable table = make_table(spec, 3);
  const OwnedTable other = make_table(spec, 4);
  i64 live = 0;
  SimOptions options;
  options.live_bytes = &live;
  auto sim = make_sim_backend(options);
  const i64 all = sim->free_bytes();
  sim->hold_columns(true);
  for (const OwnedTable* held : {&table, &other}) {
    ASSERT_TRUE(sim->bad_scores(held->view).ok());
    EXPECT_EQ(sim->free_bytes(), all);
    ASSERT_TRUE(sim->rank_tables(held->view, 0, 5).ok());
    EXPECT_GT(live, spec.rows * spec.classes * 4);
    EXPECT_EQ(sim->free_bytes(), all);
  }
  sim->hold_columns(false);
  EXPECT_EQ(live, 0);
  EXPECT_EQ(sim->free_bytes(), all);
}

// A pass that needs no scores, since no row weighs anything, leaves them behind: the next one finds
// them all the same.
TEST(Sim, ScoresThatNobodyWaitedFor) {
  Spec spec;
  spec.rows = 1000;
  spec.weights = Weights::kF64;
  OwnedTable table = make_table(spec, 1);
  std::fill(table.weights_f64.begin(), table.weights_f64.end(), 0.0);
  auto cpu = make_cpu_backend(1);
  SimOptions options;
  options.part_rows = 300;
  auto sim = make_sim_backend(options);
  sim->hold_columns(true);
  expect_equal_states(sim->rank_tables(table.view, 0, 1), cpu->rank_tables(table.view, 0, 1),
                      "weightless");
  table.view.weights_f64 = nullptr;
  expect_equal_states(sim->row_sums(table.view, all_row_specs(spec)[0]),
                      cpu->row_sums(table.view, all_row_specs(spec)[0]), "left behind");
}

// Columns that are held are not copied again, and never taken for others.
TEST(Sim, HeldColumnsAreThoseOfTheTable) {
  Spec spec;
  spec.rows = 2000;
  OwnedTable a = make_table(spec, 1);
  OwnedTable b = make_table(spec, 2);
  auto cpu = make_cpu_backend(1);
  SimOptions options;
  options.part_rows = 300;
  auto sim = make_sim_backend(options);
  sim->hold_columns(true);
  const auto ranks = [&](const OwnedTable& table) {
    expect_equal_states(sim->rank_tables(table.view, 0, 1), cpu->rank_tables(table.view, 0, 1),
                        "held");
  };
  const auto sums = [&](const OwnedTable& table) {
    expect_equal_states(sim->row_sums(table.view, all_row_specs(spec)[0]),
                        cpu->row_sums(table.view, all_row_specs(spec)[0]), "held");
  };
  // Labels come after the scores, or with them, to either pass.
  for (const OwnedTable* table : {&a, &b, &a}) {
    ASSERT_TRUE(sim->bad_scores(table->view).ok());
    ranks(*table);
    sums(*table);
  }
  for (const OwnedTable* table : {&b, &a}) {
    ASSERT_TRUE(sim->bad_scores(table->view).ok());
    sums(*table);
    ranks(*table);
  }
  ranks(b);
  sums(b);
  sums(a);
  sim->hold_columns(false);
  a.scores = b.scores;
  a.view.scores.data = a.scores.data() + 1;
  expect_equal_states(sim->rank_tables(a.view, 0, 1), cpu->rank_tables(a.view, 0, 1), "changed");
}

// Columns that are held may change once they are to be forgotten.
TEST(Sim, ForgottenColumnsAreReadAgain) {
  Spec spec;
  spec.rows = 2000;
  OwnedTable a = make_table(spec, 1);
  const OwnedTable b = make_table(spec, 2);
  auto cpu = make_cpu_backend(1);
  auto sim = make_sim_backend();
  sim->hold_columns(true);
  const auto ranks = [&](const char* what) {
    expect_equal_states(sim->rank_tables(a.view, 0, 1), cpu->rank_tables(a.view, 0, 1), what);
  };
  ranks("first");
  std::copy(b.scores.begin(), b.scores.end(), a.scores.begin());
  sim->forget_columns();
  ranks("changed");
  ranks("held again");
}

/// Rows with probabilities, in three groups of equal size, `seed` apart.
PreparedTable prepared_probabilities(i64 rows, i64 classes, u64 seed) {
  PreparedTable part;
  part.scores.resize(static_cast<std::size_t>(rows * classes) * sizeof(double));
  for (i64 row = 0; row < rows; ++row) {
    std::vector<double> p;
    double total = 0;
    for (i64 k = 0; k < classes; ++k) {
      const u64 drawn = counter_random(static_cast<u64>(row) + (seed << 32), static_cast<u64>(k));
      p.push_back(static_cast<double>(drawn >> 40) + 1);
      total += p.back();
    }
    for (double& value : p) value /= total;
    std::memcpy(part.scores.data() + static_cast<std::size_t>(row * classes) * sizeof(double),
                p.data(), p.size() * sizeof(double));
    const u64 drawn = counter_random(static_cast<u64>(row) + (seed << 32), 1'000'000);
    part.label_classes.push_back(static_cast<i32>(drawn % static_cast<u64>(classes)));
    part.cell_of_row.push_back(static_cast<u32>(row % 3));
  }
  part.view.task = Task::kMulticlass;
  part.view.rows = rows;
  part.view.classes = classes;
  part.view.scores = make_view(part.scores.data(), DType::kF64, {rows, classes});
  part.view.class_labels = part.label_classes.data();
  part.view.cells = part.cell_of_row.data();
  part.view.cell_count = 3;
  part.cells = {CellKey{"a"}, CellKey{"b"}, CellKey{"c"}};
  return part;
}

// What is computed on the way to a metric lies in memory for a moment only, and what comes next, of
// the same shape, mostly at the same addresses: a device that holds columns must not take the one
// for the other. Shards and groups of equal size, as that is where it would.
TEST(Sim, ColumnsOfAMomentAreNotTakenForTheNextOnes) {
  std::vector<PreparedTable> parts;
  for (const u64 seed : {1, 2, 3}) parts.push_back(prepared_probabilities(600, 4, seed));
  for (const char* metrics :
       {"skce,skce(nu=0.4)", "ece(binning=mass,bins=7),ece_by_predicted_class(binning=mass,bins=4)",
        "auroc(average=ovo_macro),ece(binning=mass,bins=7)"}) {
    ComputeRequest request;
    auto specs = parse_metrics(metrics);
    ASSERT_TRUE(specs.ok()) << specs.error().text();
    request.metrics = std::move(*specs);
    request.group_columns = {"group"};
    const auto evaluated = [&](Backend& backend) {
      backend.hold_columns(true);
      std::vector<std::string> states;
      auto results = compute_results(parts, request, backend, states);
      backend.hold_columns(false);
      EXPECT_TRUE(results.ok()) << (results.ok() ? "" : results.error().text());
      return results.ok() ? std::move(*results) : std::vector<EvalResult>();
    };
    auto cpu = make_cpu_backend(1);
    auto sim = make_sim_backend();
    const auto expected = evaluated(*cpu);
    const auto actual = evaluated(*sim);
    ASSERT_EQ(actual.size(), expected.size());
    EXPECT_GE(actual.size(), 4u) << "all rows and three groups";
    for (std::size_t i = 0; i < actual.size(); ++i) {
      ASSERT_EQ(expected[i].undefined, Undefined::kNone) << metrics << ", result " << i;
      EXPECT_EQ(actual[i].value, expected[i].value) << metrics << ", result " << i;
    }
  }
}

/// A matrix of probabilities as pairs are computed on.
struct PairRows {
  std::vector<double> p;
  std::vector<i32> labels;
  TableView view;

  PairRows(i64 rows, i64 classes) {
    for (i64 row = 0; row < rows; ++row) {
      double total = 0;
      for (i64 k = 0; k < classes; ++k) {
        // Some rows are equal to the one before.
        const i64 like = row % 5 == 4 ? row - 1 : row;
        const u64 drawn = counter_random(static_cast<u64>(like), static_cast<u64>(k));
        p.push_back(static_cast<double>(drawn >> 44) + 1);
        total += p.back();
      }
      for (i64 k = 0; k < classes; ++k) p[static_cast<std::size_t>(row * classes + k)] /= total;
      labels.push_back(static_cast<i32>(counter_random(static_cast<u64>(row), 7'000'000) %
                                        static_cast<u64>(classes)));
    }
    view.task = Task::kMulticlass;
    view.rows = rows;
    view.classes = classes;
    view.scores = make_view(p.data(), DType::kF64, {rows, classes});
    view.class_labels = labels.data();
  }
};

// Rows at the edges of tiles of 32, classes at those of chunks of 32, ranges that begin and end
// inside tiles, are empty, or are the last row alone, which has no pair.
TEST(Sim, PairsOfRows) {
  const auto cpu = make_cpu_backend(1);
  std::vector<std::unique_ptr<DeviceBackend>> sims;
  for (const i64 blocks : {1, 3, 50}) {
    SimOptions options;
    options.blocks = blocks;
    options.part_rows = blocks == 3 ? 29 : 0;
    sims.push_back(make_sim_backend(options));
  }
  i64 counted = 0;
  for (const i64 rows : {0, 1, 2, 31, 32, 33, 63, 64, 65, 97}) {
    for (const i64 classes : {1, 2, 31, 32, 33, 100}) {
      if (kSlow && rows > 33 && classes > 33) continue;
      const PairRows table(rows, classes);
      for (const auto& [first, last] : std::vector<std::pair<i64, i64>>{{0, rows},
                                                                        {0, 0},
                                                                        {rows, rows},
                                                                        {0, 1},
                                                                        {1, rows},
                                                                        {31, 33},
                                                                        {5, 64},
                                                                        {rows - 1, rows},
                                                                        {33, rows}}) {
        if (first < 0 || first > last || last > rows) continue;
        DeviceBackend& sim = *sims[static_cast<std::size_t>(counted++) % sims.size()];
        const std::string what =
            fmt::format("{} rows, {} classes, pairs of [{}, {})", rows, classes, first, last);
        const double nu = classes % 2 == 0 ? 0.4 : 0.01;
        const auto sum = sim.pair_sum(table.view, first, last, nu);
        ASSERT_TRUE(sum.ok()) << what;
        EXPECT_TRUE(*sum == *cpu->pair_sum(table.view, first, last, nu)) << what;
        const auto high = sim.pair_distances(table.view, first, last, std::nullopt);
        ASSERT_TRUE(high.ok()) << what;
        EXPECT_EQ(*high, *cpu->pair_distances(table.view, first, last, std::nullopt)) << what;
        const auto most = std::max_element(high->begin() + 1, high->end()) - high->begin();
        const auto low = sim.pair_distances(table.view, first, last, static_cast<u32>(most));
        ASSERT_TRUE(low.ok()) << what;
        EXPECT_EQ(*low, *cpu->pair_distances(table.view, first, last, static_cast<u32>(most)))
            << what;
      }
    }
  }
  EXPECT_GT(counted, 200);
}

// A failure in any launch of it is an error, memory that ends too, and nothing is leaked.
TEST(Sim, FaultsInPairsOfRows) {
  const PairRows table(70, 3);
  i64 live = 0;
  SimOptions options;
  options.live_bytes = &live;
  for (options.fail_at_launch = 1; options.fail_at_launch <= 2; ++options.fail_at_launch) {
    auto sim = make_sim_backend(options);
    EXPECT_FALSE(sim->pair_sum(table.view, 0, 70, 0.4).ok());
    EXPECT_EQ(sim->trouble(), DeviceTrouble::kFailed);
  }
  EXPECT_EQ(live, 0);
  options.fail_at_launch = 0;
  options.memory = 70 * 3 * 8 + 70 * 4 + 100;
  auto sim = make_sim_backend(options);
  EXPECT_FALSE(sim->pair_sum(table.view, 0, 70, 0.4).ok());
  EXPECT_EQ(sim->trouble(), DeviceTrouble::kOutOfMemory);
  EXPECT_FALSE(sim->pair_distances(table.view, 0, 70, std::nullopt).ok());
  EXPECT_EQ(sim->trouble(), DeviceTrouble::kOutOfMemory);
  EXPECT_EQ(live, 0);
}

}  // namespace
}  // namespace cupel::sim
