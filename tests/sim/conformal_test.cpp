// Conformal scores and sets by the kernels of the GPU, run on the host, against the CPU backend:
// how many classes a row has decides which kernel takes it, and rules, ties, draws and thresholds
// which way through it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "backend/device_group.hpp"
#include "cupel/math/counter_random.hpp"
#include "sim_backend.hpp"

namespace cupel::sim {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSlow = true;
#else
constexpr bool kSlow = false;
#endif

enum class Values : u8 {
  kDistinct,
  kFew,      ///< nine values a row: many equal masses
  kSpread,   ///< over 40 powers of two, and masses of 0
  kOne,      ///< one class has everything
  kOutside,  ///< some rows are no probabilities
};

struct Shape {
  i64 rows = 20;
  i64 classes = 2;  ///< 0: a binary table
  bool logits = true;
  Values values = Values::kDistinct;
  DType dtype = DType::kF32;
  bool by_columns = false;
  u32 cells = 1;
  bool keys = false;

  std::string text() const {
    return fmt::format("{} rows x {}, {}, values {}, {}{}, {} cells{}", rows, classes,
                       logits ? "logits" : "probabilities", static_cast<int>(values),
                       dtype_name(dtype), by_columns ? " by columns" : "", cells,
                       keys ? ", keys" : "");
  }
};

template <class T>
void put(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}
void put_value(DType dtype, std::byte* at, double value) {
  switch (dtype) {
    case DType::kBool:
      return put(at, static_cast<u8>(value > 0.5));
    case DType::kI8:
    case DType::kU8:
      return put(at, static_cast<u8>(value > 0.5 ? 1 : 0));
    case DType::kI16:
    case DType::kU16:
      return put(at, static_cast<u16>(value > 0.5 ? 3 : 0));
    case DType::kI32:
    case DType::kU32:
      return put(at, static_cast<u32>(value > 0.5 ? 1 : 0));
    case DType::kI64:
    case DType::kU64:
      return put(at, static_cast<u64>(value > 0.5 ? 2 : 1));
    case DType::kF16: {
      constexpr u16 kEighths[]{0x0000, 0x3000, 0x3400, 0x3600, 0x3800,
                               0x3900, 0x3A00, 0x3B00, 0x3C00};
      return put(at, kEighths[static_cast<u64>(std::abs(value) * 1e6) % 9]);
    }
    case DType::kBF16: {
      const auto narrow = static_cast<float>(value);
      u32 bits = 0;
      std::memcpy(&bits, &narrow, sizeof bits);
      return put(at, static_cast<u16>(bits >> 16));
    }
    case DType::kF32:
      return put(at, static_cast<float>(value));
    default:
      return put(at, value);
  }
}

struct Table {
  TableView view;
  std::vector<std::byte> scores;
  std::vector<u8> bits;
  std::vector<i32> labels;
  std::vector<u32> cells;
  std::vector<u64> keys;
};

double draw_value(const Shape& shape, i64 row, i64 j, i64 classes) {
  const u64 bits = counter_random(static_cast<u64>(row) + 77, static_cast<u64>(j));
  const double unit = static_cast<double>(bits >> 11) * 0x1p-53;
  switch (shape.values) {
    case Values::kDistinct:
      return shape.logits ? 6 * unit - 3 : unit / static_cast<double>(classes);
    case Values::kFew:
      return shape.logits ? static_cast<double>(bits % 9) : static_cast<double>(bits % 3) / 64;
    case Values::kSpread:
      return shape.logits ? -static_cast<double>(bits % 50) + unit
                          : std::ldexp(unit, -static_cast<int>(bits % 60));
    case Values::kOne:
      return shape.logits ? (j == row % classes ? 800.0 : -800.0)
                          : (j == row % classes ? 1.0 : 0.0);
    case Values::kOutside:
      return row % 3 == 0 && j == classes / 2 ? 1.5 : unit / static_cast<double>(classes);
  }
  return 0;
}

Table make_table(const Shape& shape) {
  Table out;
  const bool binary = shape.classes == 0;
  const i64 columns = binary ? 1 : shape.classes;
  const i64 size = dtype_size(shape.dtype);
  const i64 row_stride = shape.by_columns ? size : columns * size;
  const i64 column_stride = shape.by_columns ? shape.rows * size : size;
  out.scores.resize(static_cast<std::size_t>(shape.rows * columns * size + 1));
  std::byte* const data = out.scores.data() + 1;  // unaligned
  for (i64 row = 0; row < shape.rows; ++row) {
    for (i64 j = 0; j < columns; ++j) {
      put_value(shape.dtype, data + row * row_stride + j * column_stride,
                draw_value(shape, row, j, columns));
    }
    const u64 drawn = counter_random(3, static_cast<u64>(row));
    out.bits.push_back(static_cast<u8>(drawn % 2));
    out.labels.push_back(static_cast<i32>(drawn % static_cast<u64>(columns)));
    out.cells.push_back(static_cast<u32>((drawn >> 32) % shape.cells));
    out.keys.push_back(drawn);
  }
  // One more, so that an empty table has columns too.
  out.bits.push_back(0);
  out.labels.push_back(0);
  out.cells.push_back(0);
  TableView& view = out.view;
  view.task = binary ? Task::kBinary : Task::kMulticlass;
  view.logits = shape.logits;
  view.rows = shape.rows;
  view.classes = binary ? 2 : shape.classes;
  view.scores.data = data;
  view.scores.dtype = shape.dtype;
  view.scores.item_bytes = size;
  view.scores.shape = binary ? std::vector<i64>{shape.rows} : std::vector<i64>{shape.rows, columns};
  view.scores.strides =
      binary ? std::vector<i64>{row_stride} : std::vector<i64>{row_stride, column_stride};
  if (binary) {
    view.binary_labels = out.bits.data();
  } else {
    view.class_labels = out.labels.data();
  }
  if (shape.cells > 1) view.cells = out.cells.data();
  view.cell_count = shape.cells;
  if (shape.keys) view.row_keys = out.keys.data();
  view.first_row = 1'000'000;
  return out;
}

std::vector<ConformalRule> all_rules(i64 classes) {
  std::vector<ConformalRule> rules;
  for (int score = 0; score < 6; ++score) {
    for (int ties = 0; ties < 2; ++ties) {
      for (int draw = 0; draw < 3; ++draw) {
        ConformalRule rule;
        rule.score = static_cast<ConformalScore>(score);
        rule.ties = static_cast<ConformalTies>(ties);
        rule.draw = static_cast<ConformalDraw>(draw);
        rule.seed = static_cast<u64>(score + 10 * draw);
        if (rule.score == ConformalScore::kRaps) {
          rule.lambda = kConformalOne / 200;
          rule.k_reg = classes / 3;
        }
        // Of saps also without a penalty.
        if (rule.score == ConformalScore::kSaps && ties == 0) rule.lambda = kConformalOne / 30;
        rules.push_back(rule);
      }
    }
  }
  return rules;
}

/// Thresholds that are scores of rows, one less, or between; below and above all scores.
std::vector<ConformalSet> sets_of(const TableView& view, const ConformalScores& scores,
                                  const std::vector<ConformalRule>& rules, bool by_label) {
  std::vector<ConformalSet> sets;
  u64 next = 0;
  for (std::size_t r = 0; r < rules.size(); ++r) {
    const Buffer<i64>& of = scores.scores[r];
    const auto pick = [&]() -> i64 {
      const u64 drawn = counter_random(9, ++next);
      if (of.empty()) return static_cast<i64>(drawn >> 16);
      const i64 score = of[drawn % of.size()];
      switch (drawn >> 60) {
        case 0:
          return score - 1;
        case 1:
          return score / 2;
        case 2:
          return score + (i64{1} << 46);
        default:
          return score;
      }
    };
    const auto add = [&](ThresholdsBy by, i64 count) {
      ConformalSet set{rules[r], {}, by, next % 2 == 0};
      for (i64 i = 0; i < count; ++i) set.thresholds.push_back(pick());
      sets.push_back(std::move(set));
    };
    add(ThresholdsBy::kAll, 1);
    add(ThresholdsBy::kRow, view.rows);
    if (r % 3 == 0) add(ThresholdsBy::kCell, view.cell_count);
    if (by_label && r % 2 == 1) add(ThresholdsBy::kLabel, view.classes);
    if (r % 5 == 0) {
      sets.push_back({rules[r], {kEveryLabel}, ThresholdsBy::kAll, false});
      sets.push_back({rules[r], {-kConformalOne * 2}, ThresholdsBy::kAll, r % 2 == 0});
    }
  }
  return sets;
}

void expect_equal(const Shape& shape, const SimOptions& options = {}, i64 batch_rows = 0) {
  SCOPED_TRACE(shape.text());
  const Table table = make_table(shape);
  const TableView& view = table.view;
  const auto cpu = make_cpu_backend(1);
  std::unique_ptr<Backend> sim = make_sim_backend(options);
  if (batch_rows > 0) {
    std::vector<std::unique_ptr<DeviceBackend>> devices;
    devices.push_back(make_sim_backend(options));
    devices.push_back(make_sim_backend(options));
    DeviceGroupOptions group;
    group.may_use_cpu = false;
    group.batch_rows = batch_rows;
    sim = make_device_group(
        std::move(devices), [] { return make_cpu_backend(1); }, group);
  }
  std::vector<bool> wanted(shape.cells, true);
  if (shape.cells > 1) wanted[1] = false;
  const auto rules = all_rules(view.classes);
  const auto scores = cpu->conformal_scores(view, rules, wanted, 1);
  const auto sim_scores = sim->conformal_scores(view, rules, wanted, 1);
  ASSERT_TRUE(scores.ok() && sim_scores.ok()) << sim_scores.error().text();
  EXPECT_EQ(sim_scores->outside_unit, scores->outside_unit);
  ASSERT_EQ(sim_scores->scores.size(), rules.size());
  for (std::size_t r = 0; r < rules.size(); ++r) {
    ASSERT_EQ(sim_scores->scores[r], scores->scores[r]) << "rule " << r;
  }
  const auto sets = sets_of(view, *scores, rules, shape.classes <= 1000);
  const auto rows = cpu->conformal_row_sets(view, sets, wanted, 1);
  const auto sim_rows = sim->conformal_row_sets(view, sets, wanted, 1);
  ASSERT_TRUE(rows.ok() && sim_rows.ok()) << sim_rows.error().text();
  EXPECT_EQ(sim_rows->outside_unit, rows->outside_unit);
  ASSERT_EQ(sim_rows->ranks, rows->ranks);
  for (std::size_t s = 0; s < sets.size(); ++s) {
    ASSERT_EQ(sim_rows->sets[s], rows->sets[s])
        << "set " << s << ": score " << static_cast<int>(sets[s].rule.score) << ", ties "
        << static_cast<int>(sets[s].rule.ties) << ", draw " << static_cast<int>(sets[s].rule.draw)
        << ", by " << static_cast<int>(sets[s].by);
  }
  if (view.classes > 5000) return;  // tallies of so many sets
  const auto sums = cpu->conformal_sets(view, sets, wanted, 1);
  const auto sim_sums = sim->conformal_sets(view, sets, wanted, 1);
  ASSERT_TRUE(sums.ok() && sim_sums.ok()) << sim_sums.error().text();
  EXPECT_TRUE(*sim_sums == *sums);
}

// Both sides of every boundary between kernels and of their shared memory: threads a row (8, 64),
// labels that are all placed (64), masses in shared memory (about 4,600).
TEST(SimConformal, ClassesAtTheEdges) {
  for (const i64 classes : {1, 2, 3, 8, 9, 31, 32, 33, 64, 65, 100, 127, 128, 129, 1000, 4096}) {
    for (const Values values :
         {Values::kDistinct, Values::kFew, Values::kSpread, Values::kOne, Values::kOutside}) {
      Shape shape;
      shape.classes = classes;
      shape.values = values;
      shape.logits = values != Values::kOutside && (classes + static_cast<i64>(values)) % 3 != 0;
      shape.rows = classes > 500 ? 6 : classes > 64 ? 12 : 40;
      if (kSlow && classes > 500) shape.rows = 2;
      shape.cells = classes % 2 == 0 ? 3 : 1;
      shape.by_columns = classes % 3 == 0;
      shape.keys = values != Values::kFew;
      expect_equal(shape);
    }
  }
}

TEST(SimConformal, MassesThatAreInNoSharedMemory) {
  Shape shape;
  shape.rows = kSlow ? 1 : 3;
  for (const i64 classes : {5200, 65'535}) {
    shape.classes = classes;
    shape.values = classes == 65'535 ? Values::kDistinct : Values::kSpread;
    expect_equal(shape);
  }
}

TEST(SimConformal, BinaryRows) {
  for (const bool logits : {false, true}) {
    for (const Values values : {Values::kDistinct, Values::kFew, Values::kOutside}) {
      for (const i64 rows : {0, 1, 127, 128, 129, 500}) {
        Shape shape;
        shape.classes = 0;
        shape.rows = rows;
        shape.logits = logits;
        shape.values = values;
        shape.cells = rows % 2 == 0 ? 1 : 4;
        shape.keys = logits;
        expect_equal(shape);
      }
    }
  }
}

TEST(SimConformal, EveryDtype) {
  for (const DType dtype :
       {DType::kBool, DType::kI8, DType::kI16, DType::kI32, DType::kI64, DType::kU8, DType::kU16,
        DType::kU32, DType::kU64, DType::kF16, DType::kBF16, DType::kF32, DType::kF64}) {
    for (const i64 classes : {0, 5, 40, 70}) {
      Shape shape;
      shape.dtype = dtype;
      shape.classes = classes;
      shape.rows = 20;
      shape.logits = (classes / 5 + static_cast<int>(dtype)) % 2 == 0;
      shape.by_columns = classes == 70;
      expect_equal(shape);
    }
  }
}

// Rows that arrive in parts, that are cut into pieces for two devices, or both: thresholds, keys
// and results by row stay with their rows.
TEST(SimConformal, PartsAndPieces) {
  for (const i64 classes : {0, 7, 40, 90}) {
    Shape shape;
    shape.classes = classes;
    shape.rows = classes == 90 ? 60 : 1100;
    shape.cells = 3;
    for (const bool keys : {false, true}) {
      shape.keys = keys;
      SimOptions options;
      options.part_rows = classes == 90 ? 17 : 509;
      expect_equal(shape, options);
      expect_equal(shape, options, classes == 90 ? 13 : 300);
      options.part_rows = 0;
      options.blocks = keys ? 1 : 50;
      expect_equal(shape, options, classes == 90 ? 20 : 700);
    }
  }
}

// A failure in any launch is an error, memory that ends too, and nothing is leaked; a group goes on
// without the device.
TEST(SimConformal, Faults) {
  Shape shape;
  shape.classes = 70;
  shape.cells = 2;
  const Table table = make_table(shape);
  const std::vector<bool> wanted(2, true);
  ConformalRule rule;
  rule.score = ConformalScore::kAps;
  const std::vector<ConformalRule> rules(1, rule);
  const std::vector<ConformalSet> sets{{rule, {kConformalOne / 2}, ThresholdsBy::kAll, false}};
  const auto cpu = make_cpu_backend(1);
  const auto calls = [&](Backend& backend) {
    int failures = 0;
    failures += backend.conformal_scores(table.view, rules, wanted, 1).ok() ? 0 : 1;
    failures += backend.conformal_row_sets(table.view, sets, wanted, 1).ok() ? 0 : 1;
    failures += backend.conformal_sets(table.view, sets, wanted, 1).ok() ? 0 : 1;
    return failures;
  };
  i64 live = 0;
  SimOptions options;
  options.live_bytes = &live;
  for (options.fail_at_launch = 1; options.fail_at_launch <= 4; ++options.fail_at_launch) {
    auto sim = make_sim_backend(options);
    EXPECT_GT(calls(*sim), 0);
    EXPECT_EQ(sim->trouble(), DeviceTrouble::kFailed);
    EXPECT_EQ(calls(*sim), 3) << "a failed device went on";
    sim.reset();
    EXPECT_EQ(live, 0);
  }
  options.fail_at_launch = 0;
  options.memory = 20 * 70 * 4 + 200;
  {
    auto sim = make_sim_backend(options);
    EXPECT_EQ(calls(*sim), 3);
    EXPECT_EQ(sim->trouble(), DeviceTrouble::kOutOfMemory);
    EXPECT_EQ(live, 0);
  }
  for (const bool breaks : {false, true}) {
    SimOptions broken;
    broken.fail_at_launch = breaks ? 1 : 0;
    broken.memory = breaks ? i64{1} << 30 : 2000;
    std::vector<std::unique_ptr<DeviceBackend>> devices;
    devices.push_back(make_sim_backend(broken));
    const auto group =
        make_device_group(std::move(devices), [] { return make_cpu_backend(1); }, {});
    const auto got = group->conformal_sets(table.view, sets, wanted, 1);
    ASSERT_TRUE(got.ok()) << got.error().text();
    EXPECT_TRUE(*got == *cpu->conformal_sets(table.view, sets, wanted, 1));
    const auto rows = group->conformal_row_sets(table.view, sets, wanted, 1);
    ASSERT_TRUE(rows.ok());
    EXPECT_EQ(rows->sets, cpu->conformal_row_sets(table.view, sets, wanted, 1)->sets);
    EXPECT_FALSE(group->take_notes().empty());
  }
}

// Too many classes or tallies are refused in the CPU's words.
TEST(SimConformal, RefusesWhatTheCpuRefuses) {
  Shape shape;
  shape.rows = 0;
  shape.classes = 65'536;
  const Table table = make_table(shape);
  const auto cpu = make_cpu_backend(1);
  const auto sim = make_sim_backend();
  const std::vector<ConformalRule> rules(1);
  const auto refused = sim->conformal_scores(table.view, rules, {true}, 1);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().text(),
            cpu->conformal_scores(table.view, rules, {true}, 1).error().text());
  EXPECT_EQ(sim->trouble(), DeviceTrouble::kNone);
  TableView many = table.view;
  many.classes = 60'000;
  many.cell_count = 300;
  const std::vector<ConformalSet> sets(1);
  const std::vector<bool> wanted(300, true);
  const auto tallies = sim->conformal_sets(many, sets, wanted, 1);
  ASSERT_FALSE(tallies.ok());
  EXPECT_EQ(tallies.error().text(), cpu->conformal_sets(many, sets, wanted, 1).error().text());
}

}  // namespace
}  // namespace cupel::sim
