// Row sums of the CPU backend against a row-by-row oracle in plain integer arithmetic, hand values,
// and the properties that make them states: no order, no threads, no blocks, no memory layout.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu_level.hpp"
#include "backend/cpu_rows.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/math/elementary.hpp"
#include "cupel/math/softmax.hpp"
#include "cupel/math/weight.hpp"

namespace cupel {
namespace {

using AllSums = std::vector<std::vector<RowSums>>;

std::size_t at(i64 i) { return static_cast<std::size_t>(i); }

// ---- the oracle --------------------------------------------------------------------------------

/// round-half-even(significand * 2^exponent).
u128 rounded(u128 significand, int exponent) {
  if (exponent >= 0) return significand << exponent;
  if (exponent < -126) return 0;
  const u128 unit = u128{1} << -exponent;
  const u128 whole = significand / unit;
  const u128 twice_rest = significand % unit * 2;
  const bool up = twice_rest > unit || (twice_rest == unit && whole % 2 == 1);
  return whole + (up ? 1 : 0);
}

/// round-half-even(x^power * 2^bits) for x in [0, 2^52).
u128 fixed_point(double x, int power, int bits) {
  int exponent = 0;
  const auto significand = static_cast<u64>(std::ldexp(std::frexp(x, &exponent), 53));
  exponent -= 53;
  return power == 1 ? rounded(significand, exponent + bits)
                    : rounded(u128{significand} * significand, 2 * exponent + bits);
}

double number(const ArrayView& view, i64 row, i64 column) {
  ArrayView one;
  one.data = view.at(row, column);
  one.dtype = view.dtype;
  one.item_bytes = view.item_bytes;
  one.shape = {1};
  one.strides = {0};
  return number_at(one, 0);
}

double machine_epsilon(DType dtype) {
  if (dtype == DType::kF16) return std::ldexp(1.0, -10);
  if (dtype == DType::kBF16) return std::ldexp(1.0, -7);
  if (dtype == DType::kF32) return std::ldexp(1.0, -23);
  return std::ldexp(1.0, -52);
}

struct Oracle {
  const TableView& table;
  const RowSpec& spec;

  u128 mass(i64 row) const {
    if (!table.weighted()) return 1;
    return weight_mass(table.weights_f64 != nullptr ? table.weights_f64[row]
                                                    : double{table.weights_f32[row]})
        .mass;
  }

  RowSums empty(i64 classes) const {
    RowSums sums;
    sums.weighted = table.weighted();
    sums.class_rows.resize(at(classes));
    sums.class_mass.resize(at(classes));
    sums.hits.resize(at(classes) * spec.thresholds.size());
    if (table.task == Task::kMulticlass) sums.top_k_hits.resize(spec.top_k.size());
    return sums;
  }

  void add_loss(RowSums& sums, double loss, u128 w) const {
    if (!(loss < std::ldexp(1.0, 52))) {
      ++sums.overflowed;
    } else {
      sums.log_loss += multiply(w, fixed_point(loss, 1, 44));
    }
  }

  /// -log of a probability, clipped.
  void add_clipped(RowSums& sums, double p, u128 w) const {
    const double epsilon = machine_epsilon(table.scores.dtype);
    if (p < epsilon || p > 1 - epsilon) ++sums.clipped;
    add_loss(sums, -log_det(std::clamp(p, epsilon, 1 - epsilon)), w);
  }

  void add_binary(RowSums& sums, double score, bool label, u128 w) const {
    ++sums.rows;
    ++sums.class_rows[label];
    sums.class_mass[label] += w;
    for (std::size_t t = 0; t < spec.thresholds.size(); ++t) {
      if ((score > spec.thresholds[t]) == label) sums.hits[t * 2 + label] += w;
    }
    if (!table.logits && (spec.brier || spec.log_loss) && (score < 0 || score > 1)) {
      ++sums.outside_unit;
      return;
    }
    const double p = table.logits ? sigmoid_det(score) : score;
    if (spec.brier) {
      const double error = std::fabs(label ? 1 - p : p);
      sums.brier += multiply(w, fixed_point(error, 2, 50));
    }
    if (spec.log_loss && table.logits) add_loss(sums, log1p_exp_det(label ? -score : score), w);
    if (spec.log_loss && !table.logits) add_clipped(sums, label ? p : 1 - p, w);
  }

  void add_multiclass(RowSums& sums, const std::vector<double>& row, i64 label, u128 w) const {
    ++sums.rows;
    ++sums.class_rows[at(label)];
    sums.class_mass[at(label)] += w;
    std::vector<std::size_t> order(row.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return row[a] > row[b]; });
    const i64 rank = std::find(order.begin(), order.end(), at(label)) - order.begin();
    if (!spec.thresholds.empty() && order[0] == at(label)) sums.hits[at(label)] += w;
    for (std::size_t k = 0; k < spec.top_k.size(); ++k) {
      if (rank < spec.top_k[k]) sums.top_k_hits[k] += w;
    }
    if (!spec.brier && !spec.log_loss) return;
    std::vector<double> p = row;
    RowSoftmax softmax{};
    if (table.logits) {
      softmax = softmax_row_f64(row.data(), static_cast<i64>(row.size()));
      for (double& x : p) x = exp_det(x - softmax.max) * (1 / softmax.denominator);
    } else if (std::any_of(p.begin(), p.end(), [](double x) { return x < 0 || x > 1; })) {
      ++sums.outside_unit;
      return;
    }
    if (spec.brier) {
      u128 squares = 0;
      for (std::size_t k = 0; k < p.size(); ++k) {
        squares += fixed_point(std::fabs(k == at(label) ? 1 - p[k] : p[k]), 2, 50);
      }
      sums.brier += multiply(w, squares);
    }
    if (spec.log_loss && table.logits) add_loss(sums, log_softmax_loss(row[at(label)], softmax), w);
    if (spec.log_loss && !table.logits) add_clipped(sums, p[at(label)], w);
  }

  AllSums run() const {
    const bool exact = table.task == Task::kMultilabel && spec.exact_match;
    const i64 problems = table.task == Task::kMultilabel ? table.classes : 1;
    const i64 classes = table.task == Task::kMulticlass ? table.classes : 2;
    AllSums all(at(problems), std::vector<RowSums>(table.cell_count, empty(classes)));
    if (exact) all.emplace_back(table.cell_count, empty(1));
    for (i64 r = 0; r < table.rows; ++r) {
      const u32 cell = table.cells != nullptr ? table.cells[r] : 0;
      std::vector<double> row;
      for (i64 c = 0; c < (table.task == Task::kBinary ? 1 : table.classes); ++c) {
        row.push_back(number(table.scores, r, c));
      }
      if (table.task == Task::kBinary) {
        add_binary(all[0][cell], row[0], table.binary_labels[r] == 1, mass(r));
      } else if (table.task == Task::kMulticlass) {
        add_multiclass(all[0][cell], row, table.class_labels[r], mass(r));
      } else {
        std::vector<bool> right(spec.thresholds.size(), true);
        for (i64 c = 0; c < table.classes; ++c) {
          const bool label = table.label_matrix[r * table.classes + c] == 1;
          add_binary(all[at(c)][cell], row[at(c)], label, mass(r));
          for (std::size_t t = 0; t < right.size(); ++t) {
            if ((row[at(c)] > spec.thresholds[t]) != label) right[t] = false;
          }
        }
        if (exact) {
          RowSums& sums = all.back()[cell];
          ++sums.rows;
          ++sums.class_rows[0];
          sums.class_mass[0] += mass(r);
          for (std::size_t t = 0; t < right.size(); ++t) {
            if (right[t]) sums.hits[t] += mass(r);
          }
        }
      }
    }
    return all;
  }
};

// ---- tables ------------------------------------------------------------------------------------

constexpr DType kNumeric[] = {DType::kBool, DType::kI8,  DType::kI16, DType::kI32, DType::kI64,
                              DType::kU8,   DType::kU16, DType::kU32, DType::kU64, DType::kF16,
                              DType::kBF16, DType::kF32, DType::kF64};

enum class Values { kProbabilities, kSomeOutside, kLogits };
enum class Weights { kNone, kF32, kF64 };
enum class Layout { kRows, kColumns, kGaps, kUnaligned };

/// A random score of a dtype at an address: probabilities with 0, 1/2 and 1 among them, coarse
/// enough for ties, or logits.
void put_score(std::mt19937_64& random, DType dtype, Values values, std::byte* to) {
  const u64 pick = random();
  double x = 0;
  if (values == Values::kLogits) {
    x = (static_cast<double>(pick >> 40) * 0x1p-24 - 0.5) * (pick % 64 == 0 ? 2000 : 16);
    if (pick % 16 == 1) x = static_cast<double>(pick >> 60) - 8;
  } else {
    x = static_cast<double>(pick >> 40) * 0x1p-24;
    if (pick % 8 == 1) x = static_cast<double>(pick >> 62) / 2;
    if (x > 1) x = 1;
    if (values == Values::kSomeOutside && pick % 16 == 2) x = pick % 32 == 2 ? -x - 0.25 : x + 1;
  }
  const auto put = [to](auto value) { std::memcpy(to, &value, sizeof value); };
  const bool is_signed = x < 0;
  const double whole = std::nearbyint(x);
  switch (dtype) {
    case DType::kBool:
      return put(static_cast<u8>(pick % 2));
    case DType::kI8:
      return put(static_cast<i8>(std::clamp(whole, -100.0, 100.0)));
    case DType::kI16:
      return put(static_cast<i16>(whole));
    case DType::kI32:
      return put(static_cast<i32>(whole));
    case DType::kI64:
      return put(static_cast<i64>(whole));
    case DType::kU8:
      return put(static_cast<u8>(is_signed ? 2.0 : std::min(whole, 100.0)));
    case DType::kU16:
      return put(static_cast<u16>(is_signed ? 2.0 : whole));
    case DType::kU32:
      return put(static_cast<u32>(is_signed ? 2.0 : whole));
    case DType::kU64:
      return put(static_cast<u64>(is_signed ? 2.0 : whole));
    case DType::kF16: {
      // Any magnitude up to 1, or, for logits, up to 16.
      const u64 top = values == Values::kLogits ? 0x4C00 : 0x3C00;
      const u64 sign = is_signed ? 0x8000 : 0;
      return put(static_cast<u16>((x > 1 && values != Values::kLogits ? 0x3C01 : pick % (top + 1)) |
                                  sign));
    }
    case DType::kBF16: {
      const u64 top = values == Values::kLogits ? 0x4180 : 0x3F80;
      const u64 sign = is_signed ? 0x8000 : 0;
      return put(static_cast<u16>((x > 1 && values != Values::kLogits ? 0x3F81 : pick % (top + 1)) |
                                  sign));
    }
    case DType::kF32:
      return put(static_cast<float>(x));
    default:
      return put(x);
  }
}

/// A table and all that it points to.
struct Owned {
  TableView view;
  std::vector<std::byte> scores;
  std::vector<u8> labels;
  std::vector<i32> classes;
  std::vector<double> weights_f64;
  std::vector<float> weights_f32;
  std::vector<u32> cells;
};

struct Make {
  Task task = Task::kBinary;
  i64 rows = 0;
  i64 classes = 2;
  DType dtype = DType::kF32;
  Values values = Values::kProbabilities;
  Weights weights = Weights::kNone;
  u32 cells = 1;
  Layout layout = Layout::kRows;
  u64 seed = 1;
};

Owned make(const Make& m) {
  Owned owned;
  std::mt19937_64 random(m.seed);
  const i64 columns = m.task == Task::kBinary ? 1 : m.classes;
  const i64 size = dtype_size(m.dtype);
  ArrayView& scores = owned.view.scores;
  scores = make_view(
      nullptr, m.dtype,
      m.task == Task::kBinary ? std::vector<i64>{m.rows} : std::vector<i64>{m.rows, columns});
  i64 offset = 0;
  if (m.layout == Layout::kColumns && m.task != Task::kBinary) {
    scores.strides = {size, size * m.rows};
  } else if (m.layout == Layout::kGaps) {
    // Two elements between neighbours, and five more between rows.
    scores.strides = {size * 3 * columns + size * 5, size * 3};
    if (m.task == Task::kBinary) scores.strides.pop_back();
  } else if (m.layout == Layout::kUnaligned) {
    offset = 1;
  }
  i64 bytes = offset + size;
  for (std::size_t d = 0; d < scores.shape.size(); ++d) {
    bytes += std::max<i64>(scores.shape[d] - 1, 0) * scores.strides[d];
  }
  owned.scores.resize(at(bytes));
  scores.data = owned.scores.data() + offset;
  for (i64 r = 0; r < m.rows; ++r) {
    for (i64 c = 0; c < columns; ++c) {
      put_score(random, m.dtype, m.values,
                owned.scores.data() + (scores.at(r, c) - owned.scores.data()));
    }
    if (m.task == Task::kMulticlass)
      owned.classes.push_back(static_cast<i32>(random() % at(m.classes)));
    for (i64 c = 0; m.task != Task::kMulticlass && c < columns; ++c) {
      owned.labels.push_back(static_cast<u8>(random() % 3 == 0));
    }
    // Zero, tiny and large weights among ordinary ones.
    const double weight =
        std::ldexp(static_cast<double>(random() % 5), static_cast<int>(random() % 40) - 20);
    if (m.weights == Weights::kF64) owned.weights_f64.push_back(weight * (1 + 0x1p-40));
    if (m.weights == Weights::kF32) owned.weights_f32.push_back(static_cast<float>(weight));
    if (m.cells > 1) owned.cells.push_back(static_cast<u32>(random() % m.cells));
  }
  // Vectors without rows have no address, and a weighted table is still weighted.
  owned.weights_f64.reserve(1);
  owned.weights_f32.reserve(1);
  TableView& view = owned.view;
  view.task = m.task;
  view.rows = m.rows;
  view.classes = m.classes;
  view.logits = m.values == Values::kLogits;
  if (m.task == Task::kBinary) view.binary_labels = owned.labels.data();
  if (m.task == Task::kMulticlass) view.class_labels = owned.classes.data();
  if (m.task == Task::kMultilabel) view.label_matrix = owned.labels.data();
  if (m.weights == Weights::kF64) view.weights_f64 = owned.weights_f64.data();
  if (m.weights == Weights::kF32) view.weights_f32 = owned.weights_f32.data();
  if (m.cells > 1) view.cells = owned.cells.data();
  view.cell_count = m.cells;
  return owned;
}

RowSpec everything(Task task, Values values) {
  RowSpec spec;
  spec.brier = true;
  spec.log_loss = true;
  spec.thresholds = {values == Values::kLogits ? 0.0 : 0.5};
  if (task == Task::kMulticlass) {
    spec.top_k = {1, 2, 5};
  } else {
    spec.thresholds.push_back(0.25);
    spec.thresholds.push_back(1.0);
  }
  spec.exact_match = task == Task::kMultilabel;
  return spec;
}

AllSums sums_of(const TableView& table, const RowSpec& spec, int threads = 2) {
  ThreadPool pool(threads);
  auto sums = cpu_row_sums(table, spec, pool);
  EXPECT_TRUE(sums.ok());
  return sums.ok() ? std::move(sums).value() : AllSums();
}

/// EXPECT_EQ of all sums, one value at a time so that a difference has a place.
void expect_equal(const AllSums& got, const AllSums& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t p = 0; p < got.size(); ++p) {
    ASSERT_EQ(got[p].size(), want[p].size()) << what;
    for (std::size_t c = 0; c < got[p].size(); ++c) {
      const RowSums& a = got[p][c];
      const RowSums& b = want[p][c];
      const std::string place =
          what + " problem " + std::to_string(p) + " cell " + std::to_string(c);
      EXPECT_EQ(a.weighted, b.weighted) << place;
      EXPECT_EQ(a.rows, b.rows) << place;
      EXPECT_EQ(a.class_rows, b.class_rows) << place;
      EXPECT_TRUE(a.class_mass == b.class_mass) << place;
      EXPECT_TRUE(a.hits == b.hits) << place;
      EXPECT_TRUE(a.top_k_hits == b.top_k_hits) << place;
      EXPECT_TRUE(a.brier == b.brier) << place << " brier";
      EXPECT_TRUE(a.log_loss == b.log_loss) << place << " log loss";
      EXPECT_EQ(a.clipped, b.clipped) << place;
      EXPECT_EQ(a.outside_unit, b.outside_unit) << place;
      EXPECT_EQ(a.overflowed, b.overflowed) << place;
    }
  }
}

void expect_oracle(const Make& m, const RowSpec& spec, const std::string& what, int threads = 2) {
  const Owned table = make(m);
  expect_equal(sums_of(table.view, spec, threads), Oracle{table.view, spec}.run(), what);
}

std::string name(DType dtype, Values values) {
  return std::string(dtype_name(dtype)) + " values " + std::to_string(static_cast<int>(values));
}

double mean(const U256& sum, int bits, double rows) {
  EXPECT_EQ(sum.limb[1] | sum.limb[2] | sum.limb[3], 0u);
  return std::ldexp(static_cast<double>(sum.limb[0]), -bits) / rows;
}

// ---- against the oracle ------------------------------------------------------------------------

constexpr i64 kSizes[] = {0,   1,   31,  32,  33,  63,  64,  65,  127,
                          128, 129, 255, 256, 257, 511, 512, 513, 4097};
constexpr Values kAllValues[] = {Values::kProbabilities, Values::kSomeOutside, Values::kLogits};

TEST(BinaryRowSums, EqualTheOracleAtEverySize) {
  for (const i64 rows : kSizes) {
    for (const Values values : kAllValues) {
      for (const int threads : {1, 2, 3}) {
        expect_oracle({.rows = rows, .values = values, .seed = 3 + at(rows)},
                      everything(Task::kBinary, values), "rows " + std::to_string(rows), threads);
      }
    }
  }
}

TEST(BinaryRowSums, EqualTheOracleForEveryTypeLayoutWeightAndSegment) {
  for (const DType dtype : kNumeric) {
    for (const Values values : kAllValues) {
      for (const Layout layout : {Layout::kRows, Layout::kGaps, Layout::kUnaligned}) {
        for (const Weights weights : {Weights::kNone, Weights::kF32, Weights::kF64}) {
          for (const u32 cells : {1u, 5u}) {
            expect_oracle({.rows = 700,
                           .dtype = dtype,
                           .values = values,
                           .weights = weights,
                           .cells = cells,
                           .layout = layout},
                          everything(Task::kBinary, values), name(dtype, values));
          }
        }
      }
    }
  }
}

TEST(BinaryRowSums, ComputeOnlyWhatIsAsked) {
  for (const Values values : kAllValues) {
    for (const u32 cells : {1u, 4u}) {
      for (const Weights weights : {Weights::kNone, Weights::kF64}) {
        for (int bits = 0; bits < 8; ++bits) {
          RowSpec spec;
          spec.brier = (bits & 1) != 0;
          spec.log_loss = (bits & 2) != 0;
          if ((bits & 4) != 0) spec.thresholds = {0.5};
          expect_oracle({.rows = 1'300, .values = values, .weights = weights, .cells = cells}, spec,
                        "spec " + std::to_string(bits));
        }
      }
    }
  }
}

TEST(MultilabelRowSums, EqualTheOracle) {
  for (const i64 labels : {1, 3, 15, 16, 17, 40}) {
    for (const i64 rows : {0, 1, 127, 128, 129, 300}) {
      for (const Layout layout :
           {Layout::kRows, Layout::kColumns, Layout::kGaps, Layout::kUnaligned}) {
        for (const Values values : kAllValues) {
          expect_oracle({.task = Task::kMultilabel,
                         .rows = rows,
                         .classes = labels,
                         .values = values,
                         .weights = rows % 2 == 0 ? Weights::kF32 : Weights::kNone,
                         .cells = rows == 300 ? 3u : 1u,
                         .layout = layout},
                        everything(Task::kMultilabel, values),
                        "labels " + std::to_string(labels) + " rows " + std::to_string(rows));
        }
      }
    }
  }
}

TEST(MultilabelRowSums, EqualTheOracleForEveryType) {
  for (const DType dtype : kNumeric) {
    for (const Values values : kAllValues) {
      for (const Layout layout : {Layout::kRows, Layout::kColumns}) {
        for (const Weights weights : {Weights::kNone, Weights::kF64}) {
          expect_oracle({.task = Task::kMultilabel,
                         .rows = 200,
                         .classes = 5,
                         .dtype = dtype,
                         .values = values,
                         .weights = weights,
                         .layout = layout},
                        everything(Task::kMultilabel, values), name(dtype, values));
        }
      }
    }
  }
}

TEST(MulticlassRowSums, EqualTheOracleAtEverySize) {
  for (const i64 classes : {1, 2, 3, 7, 8, 9, 31, 32, 33, 64, 65, 100, 1000}) {
    for (const i64 rows : {0, 1, 15, 16, 17, 63, 64, 65, 257}) {
      for (const Values values : kAllValues) {
        expect_oracle({.task = Task::kMulticlass,
                       .rows = rows,
                       .classes = classes,
                       .values = values,
                       .weights = rows % 3 == 0 ? Weights::kF64 : Weights::kNone,
                       .cells = rows > 60 ? 3u : 1u},
                      everything(Task::kMulticlass, values),
                      "classes " + std::to_string(classes) + " rows " + std::to_string(rows));
      }
    }
  }
}

TEST(MulticlassRowSums, EqualTheOracleForEveryTypeAndLayout) {
  for (const DType dtype : kNumeric) {
    for (const Values values : kAllValues) {
      for (const Layout layout :
           {Layout::kRows, Layout::kColumns, Layout::kGaps, Layout::kUnaligned}) {
        for (const i64 classes : {6, 70}) {
          expect_oracle({.task = Task::kMulticlass,
                         .rows = 150,
                         .classes = classes,
                         .dtype = dtype,
                         .values = values,
                         .weights = layout == Layout::kGaps ? Weights::kF32 : Weights::kNone,
                         .layout = layout},
                        everything(Task::kMulticlass, values), name(dtype, values));
        }
      }
    }
  }
}

TEST(MulticlassRowSums, ComputeOnlyWhatIsAsked) {
  for (const Values values : kAllValues) {
    for (int bits = 0; bits < 16; ++bits) {
      RowSpec spec;
      spec.brier = (bits & 1) != 0;
      spec.log_loss = (bits & 2) != 0;
      if ((bits & 4) != 0) spec.thresholds = {0};
      if ((bits & 8) != 0) spec.top_k = {3};
      expect_oracle({.task = Task::kMulticlass, .rows = 200, .classes = 12, .values = values}, spec,
                    "spec " + std::to_string(bits));
    }
  }
}

// ---- properties --------------------------------------------------------------------------------

TEST(RowSumsProperty, DoNotDependOnThreadsOrInstructionSet) {
  const Make makes[] = {
      {.rows = 600'001, .values = Values::kSomeOutside},
      {.rows = 300'001, .values = Values::kLogits, .weights = Weights::kF32, .cells = 9},
      {.task = Task::kMulticlass, .rows = 700, .classes = 1'000, .values = Values::kLogits},
      {.task = Task::kMulticlass, .rows = 40'000, .classes = 11, .values = Values::kSomeOutside},
      {.task = Task::kMultilabel, .rows = 20'000, .classes = 20, .values = Values::kProbabilities},
  };
  for (const Make& m : makes) {
    const Owned table = make(m);
    const RowSpec spec = everything(m.task, m.values);
    const AllSums one = sums_of(table.view, spec, 1);
    for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
      limit_cpu_level(level);
      for (const int threads : {1, 2, 3, 8}) {
        expect_equal(sums_of(table.view, spec, threads), one, "threads " + std::to_string(threads));
      }
    }
    limit_cpu_level(CpuLevel::kV4);
  }
}

TEST(RowSumsProperty, EveryInstructionSetEqualsTheOracle) {
  for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
    limit_cpu_level(level);
    for (const Values values : kAllValues) {
      for (const Task task : {Task::kBinary, Task::kMulticlass, Task::kMultilabel}) {
        expect_oracle({.task = task, .rows = 777, .classes = 37, .values = values},
                      everything(task, values), "level " + std::to_string(static_cast<int>(level)));
      }
    }
  }
  limit_cpu_level(CpuLevel::kV4);
}

/// The rows [first, last) of a table whose scores are row-major.
TableView rows_of(const TableView& table, i64 first, i64 last) {
  TableView part = table;
  const i64 columns = table.task == Task::kBinary ? 1 : table.classes;
  part.rows = last - first;
  part.scores.data = table.scores.at(first);
  part.scores.shape[0] = last - first;
  if (part.binary_labels != nullptr) part.binary_labels += first;
  if (part.class_labels != nullptr) part.class_labels += first;
  if (part.label_matrix != nullptr) part.label_matrix += first * columns;
  if (part.weights_f64 != nullptr) part.weights_f64 += first;
  if (part.weights_f32 != nullptr) part.weights_f32 += first;
  if (part.cells != nullptr) part.cells += first;
  return part;
}

TEST(RowSumsProperty, PartsMergeIntoTheWhole) {
  for (const Task task : {Task::kBinary, Task::kMulticlass, Task::kMultilabel}) {
    for (const Weights weights : {Weights::kNone, Weights::kF64}) {
      const Owned table = make({.task = task,
                                .rows = 2'000,
                                .classes = 7,
                                .values = Values::kSomeOutside,
                                .weights = weights,
                                .cells = 3});
      const RowSpec spec = everything(task, Values::kSomeOutside);
      AllSums merged = sums_of(rows_of(table.view, 0, 0), spec);
      const i64 cuts[] = {0, 1, 64, 577, 1'999, 2'000};
      for (std::size_t i = 0; i + 1 < std::size(cuts); ++i) {
        const AllSums part = sums_of(rows_of(table.view, cuts[i], cuts[i + 1]), spec);
        for (std::size_t p = 0; p < part.size(); ++p) {
          for (std::size_t c = 0; c < part[p].size(); ++c) {
            ASSERT_TRUE(merged[p][c].merge(part[p][c]).ok());
          }
        }
      }
      expect_equal(merged, sums_of(table.view, spec), "merged");
    }
  }
}

TEST(RowSumsProperty, RowsHaveNoOrder) {
  const Owned table = make({.task = Task::kMulticlass,
                            .rows = 900,
                            .classes = 10,
                            .values = Values::kLogits,
                            .weights = Weights::kF64,
                            .cells = 4});
  std::vector<i64> order(900);
  std::iota(order.begin(), order.end(), i64{0});
  std::shuffle(order.begin(), order.end(), std::mt19937_64(5));
  Owned shuffled = table;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::size_t from = at(order[i]);
    std::copy_n(table.scores.begin() + order[i] * 40, 40,
                shuffled.scores.begin() + static_cast<i64>(i) * 40);
    shuffled.classes[i] = table.classes[from];
    shuffled.weights_f64[i] = table.weights_f64[from];
    shuffled.cells[i] = table.cells[from];
  }
  shuffled.view.scores.data = shuffled.scores.data();
  shuffled.view.class_labels = shuffled.classes.data();
  shuffled.view.weights_f64 = shuffled.weights_f64.data();
  shuffled.view.cells = shuffled.cells.data();
  const RowSpec spec = everything(Task::kMulticlass, Values::kLogits);
  expect_equal(sums_of(shuffled.view, spec), sums_of(table.view, spec), "shuffled");
}

TEST(RowSumsProperty, IntegerWeightsAreRepeatedRows) {
  Owned table = make({.rows = 400, .values = Values::kSomeOutside, .weights = Weights::kF32});
  Owned repeated;
  std::vector<float> scores;
  for (std::size_t i = 0; i < 400; ++i) {
    const std::size_t times = i % 4;
    table.weights_f32[i] = static_cast<float>(times);
    scores.insert(scores.end(), times, load<float>(table.scores.data() + 4 * i));
    repeated.labels.insert(repeated.labels.end(), times, table.labels[i]);
  }
  repeated.view.rows = static_cast<i64>(scores.size());
  repeated.view.scores = make_view(scores.data(), DType::kF32, {repeated.view.rows});
  repeated.view.binary_labels = repeated.labels.data();
  const RowSpec spec = everything(Task::kBinary, Values::kSomeOutside);
  const RowSums weighted = sums_of(table.view, spec)[0][0];
  const RowSums counted = sums_of(repeated.view, spec)[0][0];
  const U256 unit = widen<4>(u128{1} << 64);
  const auto scaled = [&](const U256& value) {
    U256 low{};
    const auto product = multiply(value, unit);
    std::copy_n(product.limb, 4, low.limb);
    return low;
  };
  EXPECT_TRUE(weighted.brier == scaled(counted.brier));
  EXPECT_TRUE(weighted.log_loss == scaled(counted.log_loss));
  for (std::size_t i = 0; i < counted.hits.size(); ++i) {
    EXPECT_TRUE(weighted.hits[i] == counted.hits[i] << 64);
  }
}

// ---- by hand -----------------------------------------------------------------------------------

TEST(RowSumsByHand, BinaryTenRows) {
  const double p[] = {0, .1, .2, .25, .5, .5, .6, .8, .9, 1};
  const u8 y[] = {0, 0, 1, 0, 1, 0, 1, 1, 0, 1};
  TableView table;
  table.rows = 10;
  table.scores = make_view(p, DType::kF64, {10});
  table.binary_labels = y;
  RowSpec spec;
  spec.thresholds = {0.5};
  spec.brier = spec.log_loss = true;
  const RowSums sums = sums_of(table, spec)[0][0];
  EXPECT_EQ(sums.rows, 10u);
  EXPECT_EQ(sums.class_rows, (std::vector<u64>{5, 5}));
  EXPECT_TRUE(sums.hits == (std::vector<u128>{4, 3}));
  EXPECT_NEAR(mean(sums.brier, 50, 10), .22225, 1e-14);
  EXPECT_NEAR(mean(sums.log_loss, 44, 10), .6425329130, 5e-11);
  EXPECT_EQ(sums.clipped, 2u);  // 0 of a negative, 1 of a positive
  EXPECT_EQ(sums.outside_unit, 0u);
}

const double kThreeClasses[6][3] = {{.7, .2, .1}, {.4, .3, .3}, {.1, .8, .1},
                                    {.2, .3, .5}, {.4, .4, .2}, {.1, .2, .7}};

TEST(RowSumsByHand, ThreeClasses) {
  const i32 y[] = {0, 0, 1, 1, 2, 2};
  TableView table;
  table.task = Task::kMulticlass;
  table.rows = 6;
  table.classes = 3;
  table.scores = make_view(kThreeClasses, DType::kF64, {6, 3});
  table.class_labels = y;
  RowSpec spec;
  spec.thresholds = {0};
  spec.top_k = {1, 2, 3};
  spec.brier = spec.log_loss = true;
  RowSums sums = sums_of(table, spec)[0][0];
  EXPECT_NEAR(mean(sums.brier, 50, 6), .4366666667, 5e-11);
  EXPECT_NEAR(mean(sums.log_loss, 44, 6), .7776991480, 5e-11);
  EXPECT_EQ(sums.class_rows, (std::vector<u64>{2, 2, 2}));
  EXPECT_TRUE(sums.hits == (std::vector<u128>{2, 1, 1}));
  EXPECT_TRUE(sums.top_k_hits == (std::vector<u128>{4, 5, 6}));
  // The logarithms of the probabilities are logits with the same softmax.
  double logits[6][3];
  for (int r = 0; r < 6; ++r) {
    for (int k = 0; k < 3; ++k) logits[r][k] = std::log(kThreeClasses[r][k]) + 3 * r;
  }
  table.scores = make_view(logits, DType::kF64, {6, 3});
  table.logits = true;
  sums = sums_of(table, spec)[0][0];
  EXPECT_NEAR(mean(sums.brier, 50, 6), .4366666667, 5e-11);
  EXPECT_NEAR(mean(sums.log_loss, 44, 6), .7776991480, 5e-11);
}

TEST(RowSumsByHand, TiesRankByIndex) {
  const float p[7][6] = {{0, 0, 0, 0, 0, 0},
                         {0, 0, 0, 0, 0, 0},
                         {.25f, .25f, .25f, .25f, 0, 0},
                         {.25f, .25f, .25f, .25f, 0, 0},
                         {.125f, .125f, .125f, .125f, .25f, .25f},
                         {.125f, .125f, .125f, .125f, .25f, .25f},
                         {-0.0f, 0, -0.0f, 0, 0, 0}};
  const i32 y[] = {5, 0, 2, 3, 4, 5, 1};
  for (const bool logits : {false, true}) {
    TableView table;
    table.task = Task::kMulticlass;
    table.rows = 7;
    table.classes = 6;
    table.scores = make_view(p, DType::kF32, {7, 6});
    table.class_labels = y;
    table.logits = logits;
    RowSpec spec;
    spec.thresholds = {0};
    spec.top_k = {1, 2, 3, 5, 6};
    const RowSums sums = sums_of(table, spec)[0][0];
    EXPECT_TRUE(sums.hits == (std::vector<u128>{1, 0, 0, 0, 1, 0}));
    EXPECT_TRUE(sums.top_k_hits == (std::vector<u128>{2, 4, 5, 6, 7}));
  }
}

TEST(RowSumsByHand, Multilabel) {
  const float p[4][2] = {{.9f, .2f}, {.4f, .7f}, {.35f, .6f}, {.3f, .65f}};
  const u8 y[4][2] = {{1, 0}, {0, 1}, {1, 1}, {0, 0}};
  const double weights[] = {1, 2, 4, 8};
  TableView table;
  table.task = Task::kMultilabel;
  table.rows = 4;
  table.classes = 2;
  table.scores = make_view(p, DType::kF32, {4, 2});
  table.label_matrix = y[0];
  table.weights_f64 = weights;
  RowSpec spec;
  spec.thresholds = {0.5, 0.3};
  spec.exact_match = true;
  const AllSums sums = sums_of(table, spec);
  const auto units = [](std::vector<u64> values) {
    std::vector<u128> out;
    for (const u64 value : values) out.push_back(u128{value} << 64);
    return out;
  };
  ASSERT_EQ(sums.size(), 3u);
  // .3f is just above .3, so that the last row's first label is called positive by the second rule.
  EXPECT_TRUE(sums[0][0].hits == units({2 + 8, 1, 0, 1 + 4}));
  EXPECT_TRUE(sums[1][0].hits == units({1, 2 + 4, 1, 2 + 4}));
  EXPECT_TRUE(sums[2][0].hits == units({1 + 2, 1 + 4}));
  EXPECT_EQ(sums[2][0].class_rows, (std::vector<u64>{4}));
  EXPECT_TRUE(sums[2][0].class_mass == units({15}));
}

// ---- borders -----------------------------------------------------------------------------------

RowSums binary_sums(const std::vector<double>& scores, const std::vector<u8>& labels, bool logits,
                    const RowSpec& spec, const double* weights = nullptr) {
  TableView table;
  table.rows = static_cast<i64>(scores.size());
  table.scores = make_view(scores.data(), DType::kF64, {table.rows});
  table.binary_labels = labels.data();
  table.logits = logits;
  table.weights_f64 = weights;
  return sums_of(table, spec)[0][0];
}

TEST(RowSumsBorders, ThresholdsAreStrictOnTheScaleOfTheScores) {
  RowSpec spec;
  spec.thresholds = {0.5, -2.0, 1e300};
  const double above = std::nextafter(0.5, 1.0);
  const RowSums sums = binary_sums({0.5, above, -2.0, 1e300}, {1, 1, 1, 1}, true, spec);
  EXPECT_TRUE(sums.hits == (std::vector<u128>{0, 2, 0, 3, 0, 0}));
}

TEST(RowSumsBorders, OutsideTheUnitIntervalOnlyDecides) {
  RowSpec spec;
  spec.thresholds = {0.5};
  spec.brier = spec.log_loss = true;
  const std::vector<double> scores = {-0.0, 1.0, std::nextafter(1.0, 2.0), -5e-324, 1e308, -1e308};
  const RowSums sums = binary_sums(scores, {1, 1, 1, 0, 1, 1}, false, spec);
  EXPECT_EQ(sums.outside_unit, 4u);
  EXPECT_EQ(sums.clipped, 2u);
  EXPECT_TRUE(sums.hits == (std::vector<u128>{1, 3}));
  EXPECT_TRUE(sums.brier == widen<4>(u128{1} << 50));
  spec.brier = spec.log_loss = false;
  EXPECT_EQ(binary_sums(scores, {1, 1, 1, 0, 1, 1}, false, spec).outside_unit, 0u);
}

TEST(RowSumsBorders, LongLossesAreExactAndTheLongestCounted) {
  RowSpec spec;
  spec.log_loss = true;
  const double largest = std::nextafter(0x1p52, 0.0);
  const RowSums sums =
      binary_sums({256, 257.5, largest, 0x1p52, 1e308, -1e308}, {0, 0, 0, 0, 0, 1}, true, spec);
  EXPECT_EQ(sums.overflowed, 3u);
  EXPECT_EQ(sums.clipped, 0u);
  const u128 expected = (u128{256} << 44) + (u128{515} << 43) + (((u128{1} << 53) - 1) << 43);
  EXPECT_TRUE(sums.log_loss == widen<4>(expected));
}

TEST(RowSumsBorders, TheLargestMassTimesTheLongestLoss) {
  RowSpec spec;
  spec.log_loss = spec.brier = true;
  const double weight = std::nextafter(0x1p63, 0.0);  // mass (2^53 - 1) * 2^74
  const double largest = std::nextafter(0x1p52, 0.0);
  const RowSums sums = binary_sums({largest}, {0}, true, spec, &weight);
  const u128 odd = (u128{1} << 53) - 1;
  EXPECT_TRUE(sums.log_loss == shift_left(widen<4>(odd * odd), 74 + 43));
  EXPECT_TRUE(sums.brier == shift_left(widen<4>(odd), 74 + 50));
}

TEST(RowSumsBorders, LongLossesOfMulticlassLogits) {
  const double logits[4][3] = {{0, -300.5, 0}, {-1e6, 0, -2e6}, {1e308, -1e308, 0}, {5, 1e16, 0}};
  const i32 labels[] = {1, 2, 1, 0};
  TableView table;
  table.task = Task::kMulticlass;
  table.rows = 4;
  table.classes = 3;
  table.logits = true;
  table.scores = make_view(logits, DType::kF64, {4, 3});
  table.class_labels = labels;
  RowSpec spec;
  spec.log_loss = spec.brier = true;
  spec.thresholds = {0};
  const RowSums sums = sums_of(table, spec)[0][0];
  EXPECT_EQ(sums.overflowed, 2u);
  EXPECT_TRUE(sums.hits == (std::vector<u128>{0, 0, 0}));
  // The first row's denominator is 2 and more by less than half a unit.
  const u128 expected = fixed_point(300.5 + log_det(2.0), 1, 44) + (u128{2'000'000} << 44);
  EXPECT_TRUE(sums.log_loss == widen<4>(expected));
  // Two halves and the label's 1, then three times a probability of 1 that is wrong.
  EXPECT_TRUE(sums.brier == widen<4>((u128{3} << 49) + (u128{6} << 50)));
}

TEST(RowSumsBorders, IntegersBeyondDoublesKeepTheirOrder) {
  const i64 scores[] = {(i64{1} << 53) + 1,
                        i64{1} << 53,
                        -(i64{1} << 53) - 1,
                        -(i64{1} << 53),
                        std::numeric_limits<i64>::max(),
                        std::numeric_limits<i64>::min()};
  const u8 labels[] = {1, 1, 1, 1, 1, 1};
  TableView table;
  table.rows = 6;
  table.scores = make_view(scores, DType::kI64, {6});
  table.binary_labels = labels;
  RowSpec spec;
  spec.thresholds = {0x1p53, -0x1p53 - 2, -0x1p53, std::nextafter(0x1p63, 0.0), 0x1p63};
  const RowSums sums = sums_of(table, spec)[0][0];
  EXPECT_TRUE(sums.hits == (std::vector<u128>{0, 2, 0, 5, 0, 3, 0, 1, 0, 0}));

  const u64 unsigned_scores[] = {std::numeric_limits<u64>::max(), (u64{1} << 63) + 1};
  table.rows = 2;
  table.scores = make_view(unsigned_scores, DType::kU64, {2});
  spec.thresholds = {0x1p63, std::nextafter(0x1p64, 0.0), 0x1p64};
  EXPECT_TRUE(sums_of(table, spec)[0][0].hits == (std::vector<u128>{0, 2, 0, 1, 0, 0}));

  const i64 rows[2][3] = {{(i64{1} << 53), (i64{1} << 53) + 1, 0},
                          {-1, -(i64{1} << 53) - 1, -(i64{1} << 53)}};
  const i32 classes[] = {1, 2};
  TableView multiclass;
  multiclass.task = Task::kMulticlass;
  multiclass.rows = 2;
  multiclass.classes = 3;
  multiclass.class_labels = classes;
  multiclass.scores = make_view(rows, DType::kI64, {2, 3});
  RowSpec ranks;
  ranks.thresholds = {0};
  ranks.top_k = {1, 2};
  const RowSums ranked = sums_of(multiclass, ranks)[0][0];
  EXPECT_TRUE(ranked.hits == (std::vector<u128>{0, 1, 0}));
  EXPECT_TRUE(ranked.top_k_hits == (std::vector<u128>{1, 2}));
}

TEST(RowSumsBorders, LogitsRankWhereTheirSoftmaxIsEqual) {
  const double logits[] = {0.0, 5e-324};
  const i32 label = 1;
  TableView table;
  table.task = Task::kMulticlass;
  table.rows = 1;
  table.classes = 2;
  table.logits = true;
  table.scores = make_view(logits, DType::kF64, {1, 2});
  table.class_labels = &label;
  RowSpec spec;
  spec.thresholds = {0};
  EXPECT_TRUE(sums_of(table, spec)[0][0].hits == (std::vector<u128>{0, 1}));
}

TEST(RowSumsBorders, ManyClassesOverflowNothing) {
  // No distribution, but within [0, 1]: 19,999 wrong ones in units of 2^-50 exceed 64 bits.
  constexpr i64 kClasses = 20'000;
  const std::vector<float> ones(at(2 * kClasses), 1.0f);
  const i32 labels[] = {0, 19'999};
  TableView table;
  table.task = Task::kMulticlass;
  table.rows = 2;
  table.classes = kClasses;
  table.scores = make_view(ones.data(), DType::kF32, {2, kClasses});
  table.class_labels = labels;
  RowSpec spec;
  spec.brier = true;
  EXPECT_TRUE(sums_of(table, spec)[0][0].brier == widen<4>(u128{2 * (kClasses - 1)} << 50));
  table.logits = true;
  spec.log_loss = true;
  const RowSums sums = sums_of(table, spec)[0][0];
  EXPECT_NEAR(mean(sums.log_loss, 44, 2), std::log(20'000.0), 1e-12);
  EXPECT_NEAR(mean(sums.brier, 50, 2), 1 - 1 / 20'000.0, 1e-10);
}

TEST(RowSumsBorders, ClipsToTheEpsilonOfTheColumn) {
  const std::pair<DType, double> epsilons[] = {{DType::kF16, 0x1p-10}, {DType::kBF16, 0x1p-7},
                                               {DType::kF32, 0x1p-23}, {DType::kF64, 0x1p-52},
                                               {DType::kU8, 0x1p-52},  {DType::kBool, 0x1p-52},
                                               {DType::kI64, 0x1p-52}};
  for (const auto& [dtype, epsilon] : epsilons) {
    EXPECT_EQ(probability_epsilon(dtype), epsilon);
    const u64 zero = 0;
    const u8 label = 1;
    TableView table;
    table.rows = 1;
    table.scores = make_view(&zero, dtype, {1});
    table.binary_labels = &label;
    RowSpec spec;
    spec.log_loss = true;
    const RowSums sums = sums_of(table, spec)[0][0];
    EXPECT_EQ(sums.clipped, 1u);
    EXPECT_NEAR(mean(sums.log_loss, 44, 1), -std::log(epsilon), 1e-12);
  }
}

TEST(RowSumsErrors, TooManyClassesAndNoMemory) {
  TableView table;
  table.task = Task::kMulticlass;
  table.classes = UnitSum::kMaxTerms + 1;
  table.logits = true;
  table.scores = make_view(nullptr, DType::kF32, {0, table.classes});
  ThreadPool pool(1);
  RowSpec spec;
  spec.brier = true;
  const auto wide = cpu_row_sums(table, spec, pool);
  ASSERT_FALSE(wide.ok());
  EXPECT_EQ(wide.error().code, ErrorCode::kInput);
  table.logits = false;
  table.classes = std::numeric_limits<i32>::max();
  table.cell_count = std::numeric_limits<u32>::max();
  const auto huge = cpu_row_sums(table, spec, pool);
  ASSERT_FALSE(huge.ok());
  EXPECT_EQ(huge.error().code, ErrorCode::kInternal);
  EXPECT_NE(huge.error().text().find("memory"), std::string::npos);
}

}  // namespace
}  // namespace cupel
