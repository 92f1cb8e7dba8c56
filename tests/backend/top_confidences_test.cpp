// The most probable class of each row against a walk over its values: types, layouts, ties, threads
// and instruction sets.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <random>
#include <vector>

#include "backend/cpu_level.hpp"
#include "cupel/backend/backend.hpp"
#include "cupel/math/half.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel {
namespace {

/// Scores on few values, so that rows have ties, in `dtype`.
std::vector<std::byte> scores_of(DType dtype, i64 count, bool logits, std::mt19937_64& random) {
  const i64 size = dtype_size(dtype);
  std::vector<std::byte> bytes(static_cast<std::size_t>(count * size));
  for (i64 i = 0; i < count; ++i) {
    const double value = static_cast<double>(random() % 9) / 8.0 * (logits ? 16.0 : 1.0);
    const float f = static_cast<float>(value);
    // Halves of these values have no lost bits: bf16 is the upper half of a float.
    const u16 b16 = static_cast<u16>(std::bit_cast<u32>(f) >> 16);
    u16 f16 = 0;
    for (u32 bits = 0; bits < 0x7C00u; ++bits) {
      if (dtype == DType::kF16 && float_from_f16(static_cast<u16>(bits)) == f) {
        f16 = static_cast<u16>(bits);
        break;
      }
    }
    const i64 whole = static_cast<i64>(value);
    const void* from = dtype == DType::kF64    ? static_cast<const void*>(&value)
                       : dtype == DType::kF32  ? static_cast<const void*>(&f)
                       : dtype == DType::kBF16 ? static_cast<const void*>(&b16)
                       : dtype == DType::kF16  ? static_cast<const void*>(&f16)
                                               : static_cast<const void*>(&whole);
    std::memcpy(bytes.data() + i * size, from, static_cast<std::size_t>(size));
  }
  return bytes;
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

TEST(TopConfidences, EqualAWalkOverTheRow) {
  constexpr i64 kRows = 333;
  std::mt19937_64 random(3);
  std::vector<i32> labels(kRows);
  for (const i64 classes : {i64{1}, i64{2}, i64{40}}) {
    for (i32& label : labels) label = static_cast<i32>(random() % static_cast<u64>(classes));
    for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32, DType::kF64, DType::kI64}) {
      for (const bool logits : {false, true}) {
        const auto bytes = scores_of(dtype, kRows * classes, logits, random);
        TableView table;
        table.task = Task::kMulticlass;
        table.rows = kRows;
        table.classes = classes;
        table.logits = logits;
        table.class_labels = labels.data();
        table.scores = make_view(bytes.data(), dtype, {kRows, classes});
        for (const bool by_column : {false, true}) {
          if (by_column) {
            const i64 size = dtype_size(dtype);
            table.scores.strides = {size, kRows * size};
          }
          for (const CpuLevel level : {CpuLevel::kBaseline, CpuLevel::kV3, CpuLevel::kV4}) {
            limit_cpu_level(level);
            const auto top =
                make_cpu_backend(1)->top_confidences(table, level == CpuLevel::kV4 ? 3 : 1);
            limit_cpu_level(CpuLevel::kV4);
            ASSERT_TRUE(top.ok());
            ASSERT_EQ(top->confidence.size(), static_cast<std::size_t>(kRows));
            for (i64 row = 0; row < kRows; ++row) {
              const auto value = [&](i64 k) { return number(table.scores, row, k); };
              i64 best = 0;
              for (i64 k = 1; k < classes; ++k) best = value(k) > value(best) ? k : best;
              const auto at = static_cast<std::size_t>(row);
              EXPECT_EQ(top->predicted[at], best);
              EXPECT_EQ(top->right[at], best == labels[at] ? 1 : 0);
              EXPECT_EQ(top->confidence[at],
                        logits ? softmax_p(value(best), softmax_row(value, classes)) : value(best));
            }
          }
        }
      }
    }
  }
}

TEST(TopConfidences, NoRows) {
  TableView table;
  table.task = Task::kMulticlass;
  table.classes = 3;
  table.scores = make_view(nullptr, DType::kF32, {0, 3});
  const auto top = make_cpu_backend(1)->top_confidences(table, 2);
  ASSERT_TRUE(top.ok());
  EXPECT_TRUE(top->confidence.empty() && top->right.empty() && top->predicted.empty());
}

}  // namespace
}  // namespace cupel
