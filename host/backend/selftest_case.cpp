#include "backend/selftest_case.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

#include "backend/device_group.hpp"
#include "cupel/math/counter_random.hpp"

namespace cupel {
namespace {

constexpr std::array kTypes{DType::kF16, DType::kBF16, DType::kF32, DType::kF64, DType::kBool,
                            DType::kI8,  DType::kI16,  DType::kI32, DType::kI64, DType::kU8,
                            DType::kU16, DType::kU32,  DType::kU64};
/// Around the ends of a warp, of a block of threads, and of what a block of threads reads.
constexpr std::array<i64, 11> kSizes{0, 1, 31, 32, 33, 255, 256, 257, 4095, 4096, 4097};
/// More rows than a grid has threads.
constexpr i64 kManyRows = (i64{1} << 20) + 1;

/// splitmix64.
class Draws {
 public:
  explicit Draws(u64 seed) : state_(seed) {}
  u64 next() {
    u64 z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  u64 below(u64 limit) { return next() % limit; }
  /// In [0, 1), a multiple of 2^-53.
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  u64 state_;
};

template <class T>
void store(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

bool is_half(DType type) { return type == DType::kF16 || type == DType::kBF16; }

/// The bits of a double as f16 or bf16, cut off: any value of the type near it will do.
u16 half_bits(DType type, double value) {
  const u32 bits = std::bit_cast<u32>(static_cast<float>(value));
  if (type == DType::kBF16) return static_cast<u16>(bits >> 16);
  const u32 sign = bits >> 16 & 0x8000u;
  const i32 exponent = static_cast<i32>(bits >> 23 & 0xFFu) - 127 + 15;
  if (exponent <= 0) return static_cast<u16>(sign);
  if (exponent >= 31) return static_cast<u16>(sign | 0x7BFFu);
  return static_cast<u16>(sign | static_cast<u32>(exponent) << 10 | (bits >> 13 & 0x3FFu));
}

void put_number(std::byte* at, DType type, double value) {
  switch (type) {
    case DType::kF16:
    case DType::kBF16:
      return store(at, half_bits(type, value));
    case DType::kF32:
      return store(at, static_cast<float>(value));
    default:
      return store(at, value);
  }
}

/// Bits at the ends of a floating type: zeros of both signs, the smallest subnormal, the largest.
void put_special(std::byte* at, DType type, u64 which) {
  const bool negative = which % 2 == 1;
  const u64 kind = which / 2 % 3;
  if (is_half(type)) {
    const u16 largest = type == DType::kF16 ? 0x7BFF : 0x7F7F;
    const u16 magnitude = kind == 0 ? u16{0} : kind == 1 ? u16{1} : largest;
    return store(at, static_cast<u16>(magnitude | (negative ? 0x8000 : 0)));
  }
  const double magnitude =
      kind == 0 ? 0.0
      : kind == 1
          ? (type == DType::kF32 ? static_cast<double>(std::numeric_limits<float>::denorm_min())
                                 : std::numeric_limits<double>::denorm_min())
          : (type == DType::kF32 ? static_cast<double>(std::numeric_limits<float>::max())
                                 : std::numeric_limits<double>::max());
  put_number(at, type, negative ? -magnitude : magnitude);
}

/// NaN, infinity, or minus infinity.
void put_bad(std::byte* at, DType type, u64 which) {
  if (is_half(type)) {
    const u16 infinity = type == DType::kF16 ? 0x7C00 : 0x7F80;
    const u16 bits = which == 0   ? static_cast<u16>(infinity | 0x0041u)
                     : which == 1 ? infinity
                                  : static_cast<u16>(infinity | 0x8000u);
    return store(at, bits);
  }
  const double infinity = std::numeric_limits<double>::infinity();
  put_number(at, type,
             which == 0   ? std::numeric_limits<double>::quiet_NaN()
             : which == 1 ? infinity
                          : -infinity);
}

void put_integer(std::byte* at, DType type, u64 bits) {
  switch (dtype_size(type)) {
    case 1:
      return store(at, static_cast<u8>(type == DType::kBool ? bits & 1 : bits));
    case 2:
      return store(at, static_cast<u16>(bits));
    case 4:
      return store(at, static_cast<u32>(bits));
    default:
      return store(at, bits);
  }
}

/// A score that a model could have given, at times one that it could not.
void put_drawn(std::byte* at, const SelftestCase& shape, Draws& draws) {
  const u64 pick = draws.below(16);
  if (!is_float(shape.dtype)) {
    // Few values, or bits from anywhere in the range of the type, its ends included.
    const u64 bits = draws.next();
    if (pick < 8) return put_integer(at, shape.dtype, bits % 5);
    if (pick == 8) return put_integer(at, shape.dtype, u64{1} << 63 >> (bits % 64));
    if (pick == 9) return put_integer(at, shape.dtype, ~(u64{1} << 63) >> (bits % 64));
    return put_integer(at, shape.dtype, bits);
  }
  const double unit = draws.unit();
  if (pick == 0) return put_special(at, shape.dtype, draws.next() % 6);
  if (pick == 1) return put_number(at, shape.dtype, unit < 0.5 ? 0.0 : 1.0);
  if (pick == 2) return put_number(at, shape.dtype, 3 * unit - 1);
  if (pick < 6) return put_number(at, shape.dtype, static_cast<double>(draws.below(9)) / 8);
  if (!shape.logits) return put_number(at, shape.dtype, unit);
  // Sums of draws, spread so that losses are small, large, and beyond what fits.
  const double scale = pick == 6 ? 1e4 : pick < 9 ? 40.0 : 4.0;
  put_number(at, shape.dtype, scale * (unit + draws.unit() + draws.unit() - 1.5));
}

std::string counted(i64 number) {
  std::string digits = std::to_string(number);
  for (i64 at = static_cast<i64>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
}

}  // namespace

std::string SelftestCase::text() const {
  constexpr std::array<std::string_view, 3> kWeights{"", ", weights f32", ", weights f64"};
  constexpr std::array<std::string_view, 3> kLayouts{"", ", unaligned", ", strided"};
  constexpr std::array<std::string_view, 6> kScores{"",
                                                    ", all tied",
                                                    ", only positives",
                                                    ", only negatives",
                                                    ", NaN in three rows",
                                                    ", NaN at the end"};
  std::string line = fmt::format("{}{} {}, {} row{}", task_name(task), logits ? " logits" : "",
                                 dtype_name(dtype), counted(rows), rows == 1 ? "" : "s");
  if (task != Task::kBinary) line += fmt::format(" x {}", classes);
  line += kWeights[static_cast<std::size_t>(weights)];
  if (cells > 1) line += fmt::format(", {} cells", cells);
  line += kLayouts[static_cast<std::size_t>(layout)];
  return line + std::string(kScores[static_cast<std::size_t>(scores)]);
}

SelftestTable::SelftestTable(const SelftestCase& shape, u64 seed) {
  // An unaligned table is the rest of one that has a row more.
  const i64 rows = shape.rows + (shape.layout == CaseLayout::kUnaligned ? 1 : 0);
  const auto size = static_cast<std::size_t>(rows);
  SelftestCase whole = shape;
  whole.rows = rows;
  view_.task = shape.task;
  view_.rows = rows;
  view_.classes = shape.classes;
  view_.logits = shape.logits;
  make_scores(whole, seed);
  make_labels(whole, seed);
  Draws draws(seed ^ 0xC2B2AE3D27D4EB4Fu);
  // Spare room, so that no column is a null pointer: weights of no rows are weights, too.
  const auto draw_weight = [&] {
    constexpr std::array kFixed{0.0, 1.0, 0.5, 1e-9, 12345.678};
    const u64 pick = draws.below(10);
    return pick < kFixed.size() ? kFixed[pick] : 3 * draws.unit();
  };
  if (shape.weights == CaseWeights::kF64) {
    weights_f64_.resize(size + 1);
    std::generate(weights_f64_.begin(), weights_f64_.end(), draw_weight);
    view_.weights_f64 = weights_f64_.data();
  }
  if (shape.weights == CaseWeights::kF32) {
    weights_f32_.resize(size + 1);
    std::generate(weights_f32_.begin(), weights_f32_.end(),
                  [&] { return static_cast<float>(draw_weight()); });
    view_.weights_f32 = weights_f32_.data();
  }
  if (shape.cells > 1) {
    cells_.resize(size + 1);
    // One cell stays empty.
    std::generate(cells_.begin(), cells_.end(), [&] {
      const u32 cell = static_cast<u32>(draws.below(shape.cells));
      return cell == 1 ? 0 : cell;
    });
    view_.cells = cells_.data();
    view_.cell_count = shape.cells;
  }
  if (rows != shape.rows) view_ = rows_of(view_, 1, shape.rows);
}

void SelftestTable::make_scores(const SelftestCase& shape, u64 seed) {
  const i64 columns = shape.task == Task::kBinary ? 1 : shape.classes;
  const i64 item = dtype_size(shape.dtype);
  const i64 step = shape.layout == CaseLayout::kStrided ? 3 * item : item;
  scores_.resize(static_cast<std::size_t>(shape.rows * columns * step + 64));
  ArrayView& view = view_.scores;
  view.data = scores_.data() + (shape.layout == CaseLayout::kUnaligned ? 1 : 0);
  view.dtype = shape.dtype;
  view.item_bytes = item;
  view.shape = {shape.rows};
  view.strides = {step};
  if (shape.task != Task::kBinary) {
    view.shape = {shape.rows, columns};
    view.strides = shape.layout == CaseLayout::kStrided ? std::vector<i64>{step, step * shape.rows}
                                                        : std::vector<i64>{step * columns, step};
  }
  const auto place = [&](i64 row, i64 column) {
    return scores_.data() + (view.at(row) - scores_.data()) +
           (shape.task == Task::kBinary ? 0 : column * view.strides[1]);
  };
  Draws draws(seed);
  for (i64 row = 0; row < shape.rows; ++row) {
    for (i64 column = 0; column < columns; ++column) {
      std::byte* const at = place(row, column);
      if (shape.scores != CaseScores::kTied) {
        put_drawn(at, shape, draws);
      } else if (is_float(shape.dtype)) {
        put_number(at, shape.dtype, 0.375);
      } else {
        put_integer(at, shape.dtype, 1);
      }
    }
  }
  if (!shape.bad() || shape.rows == 0 || !is_float(shape.dtype)) return;
  // In a table without its first row, row 1 is the first.
  const i64 first = shape.layout == CaseLayout::kUnaligned ? 1 : 0;
  if (first >= shape.rows) return;
  put_bad(place(shape.rows - 1, columns - 1), shape.dtype, 0);
  if (shape.scores == CaseScores::kLastBad) return;
  put_bad(place(first + (shape.rows - first) / 2, columns / 2), shape.dtype, 1);
  put_bad(place(first, 0), shape.dtype, 2);
}

void SelftestTable::make_labels(const SelftestCase& shape, u64 seed) {
  Draws draws(seed ^ 0x165667B19E3779F9u);
  const bool all_positive = shape.scores == CaseScores::kOnlyPositive;
  const bool all_negative = shape.scores == CaseScores::kOnlyNegative;
  const auto draw_bit = [&] {
    return static_cast<u8>(all_positive ? 1 : all_negative ? 0 : draws.below(3) == 0 ? 1 : 0);
  };
  const auto size = static_cast<std::size_t>(shape.rows);
  switch (shape.task) {
    case Task::kBinary:
      label_bytes_.resize(size + 1);
      std::generate(label_bytes_.begin(), label_bytes_.end(), draw_bit);
      view_.binary_labels = label_bytes_.data();
      return;
    case Task::kMultilabel:
      label_bytes_.resize(size * static_cast<std::size_t>(shape.classes) + 1);
      std::generate(label_bytes_.begin(), label_bytes_.end(), draw_bit);
      view_.label_matrix = label_bytes_.data();
      return;
    case Task::kMulticlass:
      label_classes_.resize(size + 1);
      std::generate(label_classes_.begin(), label_classes_.end(), [&] {
        // The last class has no rows where there are more than two.
        const i64 drawn = shape.classes > 2 ? shape.classes - 1 : shape.classes;
        if (all_positive) return static_cast<i32>(shape.classes - 1);
        return all_negative ? 0 : static_cast<i32>(draws.below(static_cast<u64>(drawn)));
      });
      view_.class_labels = label_classes_.data();
      return;
    case Task::kRegression:  // no tables of these
    case Task::kRisk:
    case Task::kVerification:
      return;
  }
}

std::vector<SelftestCase> selftest_cases(bool quick) {
  struct Form {
    Task task;
    bool logits;
    i64 classes;
  };
  constexpr std::array<Form, 7> kForms{{{Task::kBinary, false, 2},
                                        {Task::kBinary, true, 2},
                                        {Task::kMulticlass, false, 2},
                                        {Task::kMulticlass, false, 5},
                                        {Task::kMulticlass, true, 5},
                                        {Task::kMultilabel, false, 3},
                                        {Task::kMultilabel, true, 19}}};
  std::vector<SelftestCase> cases;
  const auto add = [&](const Form& form, DType type, i64 rows, std::size_t weights, bool grouped,
                       std::size_t layout, std::size_t scores) {
    SelftestCase one;
    one.task = form.task;
    one.logits = form.logits;
    one.classes = form.classes;
    one.dtype = type;
    one.rows = rows;
    one.weights = static_cast<CaseWeights>(weights);
    one.cells = grouped ? 4 : 1;
    one.layout = static_cast<CaseLayout>(layout);
    one.scores = static_cast<CaseScores>(scores);
    if (one.bad() && !is_float(type)) one.scores = CaseScores::kMixed;
    cases.push_back(one);
  };
  // Every form and type at every size, with the other traits taken in turns. Their numbers (3, 2,
  // 3, 8) and that of the forms have turns that meet in all pairs over the sizes and types.
  std::size_t turn = 0;
  for (const i64 rows : kSizes) {
    for (const DType type : kTypes) {
      for (const Form& form : kForms) {
        constexpr std::array<std::size_t, 8> kTurns{0, 1, 0, 2, 4, 0, 3, 5};
        ++turn;
        if (quick && turn % 5 != 0) continue;
        add(form, type, rows, turn % 3, turn / 3 % 2 == 1, turn / 6 % 3, kTurns[turn % 8]);
      }
    }
  }
  if (quick) return cases;
  // Every combination of traits at one size.
  for (const Form& form : kForms) {
    for (const DType type : kTypes) {
      for (std::size_t traits = 0; traits < 3 * 2 * 3; ++traits) {
        add(form, type, 257, traits % 3, traits / 3 % 2 == 1, traits / 6, 0);
      }
    }
  }
  // Many cells: more than a block of threads can keep sums for.
  for (const Form& form : kForms) {
    add(form, DType::kF32, 4097, 1, true, 0, 0);
    cases.back().cells = 1500;
  }
  for (const DType type : kTypes) {
    ++turn;
    add(kForms[0], type, kManyRows, turn % 3, turn % 2 == 1, turn % 3, 0);
  }
  add(kForms[0], DType::kF32, kManyRows, 0, false, 0, 0);
  add(kForms[0], DType::kF32, kManyRows, 0, false, 0, 1);
  add(kForms[1], DType::kF32, kManyRows, 0, true, 1, 5);
  add(kForms[4], DType::kF32, kManyRows / 2, 0, false, 1, 0);
  add(kForms[5], DType::kF16, kManyRows / 2, 1, true, 0, 0);
  return cases;
}

std::vector<RankQuery> selftest_queries() {
  return {{RankQueryKind::kTwoU, {0, 1}},
          {RankQueryKind::kAveragePrecision, {0, 1}},
          {RankQueryKind::kPrTrapezoid, {0, 1}},
          {RankQueryKind::kGap, {0, 1}},
          {RankQueryKind::kEqualError, {0, 1}},
          {RankQueryKind::kFprAtMost, {1, 20}},
          {RankQueryKind::kFprAtMost, {0, 1}},
          {RankQueryKind::kTprAtLeast, {19, 20}},
          {RankQueryKind::kTprAtLeast, {1, 1}},
          {RankQueryKind::kPrecisionAtRecall, {9, 10}},
          {RankQueryKind::kRecallAtPrecision, {2, 5}},
          {RankQueryKind::kFBetaMax, {1, 1}},
          {RankQueryKind::kFBetaMax, {5, 2}},
          {RankQueryKind::kPartialArea, {1, 10}},
          {RankQueryKind::kRanges, {0, 1}}};
}

RowSpec selftest_spec(const SelftestCase& shape, std::size_t variant) {
  RowSpec spec;
  const bool all = variant % 3 == 0;
  if (all || variant % 3 == 1) {
    spec.thresholds = shape.task == Task::kMulticlass ? std::vector<double>{0}
                                                      : std::vector<double>{0.5, 0, 0.3, 0.375};
    if (shape.task == Task::kMulticlass) spec.top_k = {1, 2, 3};
    spec.exact_match = shape.task == Task::kMultilabel;
  }
  if (all || variant % 3 == 2) {
    spec.brier = true;
    spec.log_loss = true;
    if (shape.task == Task::kMulticlass) {
      spec.bins = {{BinPoints::kTop, 15, false, true},
                   {BinPoints::kByPredicted, 4, true},
                   {BinPoints::kEachClass, 7, false, true}};
    } else {
      spec.bins = {{BinPoints::kPositive, 15, false, true},
                   {BinPoints::kTop, 10, true},
                   {BinPoints::kPositive, 1, true},
                   {BinPoints::kTop, 200, false, true}};
    }
  }
  return spec;
}

bool has_selftest_pairs(const TableView& table) {
  return table.task == Task::kMulticlass && table.rows <= 300;
}

SelftestPairs::SelftestPairs(const TableView& table) {
  const i64 classes = table.classes;
  for (i64 row = 0; row < table.rows; ++row) {
    const std::size_t first = p_.size();
    double total = 0;
    for (i64 k = 0; k < classes; ++k) {
      const i64 like = row > 0 && row % 7 == 0 ? row - 1 : row;
      const u64 drawn = counter_random(static_cast<u64>(like), static_cast<u64>(k));
      p_.push_back(static_cast<double>(drawn >> 40) + 1);
      total += p_.back();
    }
    for (std::size_t at = first; at < p_.size(); ++at) p_[at] /= total;
  }
  view_.task = Task::kMulticlass;
  view_.rows = table.rows;
  view_.classes = classes;
  view_.scores = make_view(p_.data(), DType::kF64, {table.rows, classes});
  view_.class_labels = table.class_labels;
}

RowSpec tempered_spec(const SelftestCase& shape, std::size_t variant) {
  constexpr double kFactors[]{0.3125, 1, 0, 20, 0.05, 1.7};
  RowSpec spec;
  for (u32 cell = 0; cell < shape.cells; ++cell) {
    spec.tempering.factors.push_back(shape.cells == 1 ? 0.7 : kFactors[cell % 6]);
  }
  spec.log_loss = true;
  if (variant % 2 == 0) {
    spec.tempering.slopes = true;
  } else {
    spec.brier = true;
    spec.bins = {{BinPoints::kTop, 15, false}, {BinPoints::kTop, 4, true}};
  }
  return spec;
}

}  // namespace cupel
