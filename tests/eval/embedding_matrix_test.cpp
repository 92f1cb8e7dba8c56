// Rows of a dump as the matrix that pairs are made of: the bits of the shared arithmetic, the order
// of the rows, and rows that cannot be used.
#include "eval/embedding_matrix.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <bit>
#include <cmath>
#include <random>

#include "backend/cpu_level.hpp"
#include "pair_dumps.hpp"

namespace cupel {
namespace {

/// Whole parts, every cell wanted.
struct Whole {
  std::vector<PreparedTable> parts;
  std::vector<std::vector<u32>> of_part;
  std::vector<bool> wanted;

  explicit Whole(PreparedTable table) {
    parts.push_back(std::move(table));
    finish();
  }
  explicit Whole(std::vector<PreparedTable> tables) : parts(std::move(tables)) { finish(); }
  void finish() {
    std::size_t most = 1;
    for (const PreparedTable& part : parts) {
      std::vector<u32> cells(part.cells.size());
      for (std::size_t i = 0; i < cells.size(); ++i) cells[i] = static_cast<u32>(i);
      most = std::max(most, cells.size());
      of_part.push_back(cells);
    }
    wanted.assign(most, true);
  }
  EmbeddingSelection selection() const { return {parts, of_part, wanted}; }
};

u16 bf16_of(float value) { return static_cast<u16>(bits_from_float(value) >> 16); }

struct Sample {
  i64 rows = 0, width = 0;
  std::vector<float> values;  ///< representable in bfloat16
  std::vector<i64> labels;
};

Sample sample(i64 rows, i64 width, u32 seed) {
  std::mt19937 random(seed);
  Sample made{rows, width, {}, {}};
  // Magnitudes over the whole range of floats, so that rows of every scale are there.
  for (i64 i = 0; i < rows; ++i) {
    const int scale = static_cast<int>(random() % 250) - 125;
    for (i64 k = 0; k < width; ++k) {
      const float value = std::ldexp(static_cast<float>(random() % 255) - 127.0F, scale - 7);
      made.values.push_back(float_from_bf16(bf16_of(value)));
    }
    made.values[made.values.size() - static_cast<std::size_t>(width)] = std::ldexp(1.0F, scale);
    made.labels.push_back(static_cast<i64>(random() % 5));
  }
  return made;
}

/// The matrix by definition: rows by class, then position, each through the shared functions.
void expect_bits(const Sample& sample, const EmbeddingMatrix& matrix, bool normalize,
                 const std::string& what) {
  const EmbeddingView view = matrix.view();
  ASSERT_EQ(view.rows, sample.rows) << what;
  ASSERT_EQ(view.width, sample.width) << what;
  std::vector<i64> order;
  for (i64 label = 0; label < 5; ++label) {
    for (i64 i = 0; i < sample.rows; ++i) {
      if (sample.labels[static_cast<std::size_t>(i)] == label) order.push_back(i);
    }
  }
  std::vector<float> row(static_cast<std::size_t>(sample.width));
  for (i64 i = 0; i < view.rows; ++i) {
    const i64 from = order[static_cast<std::size_t>(i)];
    std::copy_n(sample.values.begin() + from * sample.width, sample.width, row.begin());
    if (normalize) normalise_row(row.data(), sample.width, row.data());
    for (i64 k = 0; k < sample.width; ++k) {
      ASSERT_EQ(bits_from_float(view.row(i)[k]), bits_from_float(row[static_cast<std::size_t>(k)]))
          << what << " row " << i << " column " << k;
    }
    for (i64 k = sample.width; k < view.stride; ++k) ASSERT_EQ(view.row(i)[k], 0) << what;
    ASSERT_EQ(bits_from_float(view.squares[i]),
              bits_from_float(dot_chain(row.data(), row.data(), sample.width)))
        << what << " row " << i;
    ASSERT_EQ(view.ties[i], static_cast<u32>(from)) << what;
  }
}

Arrays as_type(const Sample& sample, const std::string& type) {
  Arrays arrays;
  const std::string shape =
      "(" + std::to_string(sample.rows) + ", " + std::to_string(sample.width) + ")";
  if (type == "f64") {
    arrays.doubles("embedding", {sample.values.begin(), sample.values.end()}, sample.width);
  } else if (type == "bf16") {
    std::vector<u16> halves;
    for (const float value : sample.values) halves.push_back(bf16_of(value));
    arrays.add("embedding", "|V2", halves, sample.width);
  } else if (type == "f32 columns") {
    std::vector<float> turned;
    for (i64 k = 0; k < sample.width; ++k) {
      for (i64 i = 0; i < sample.rows; ++i) {
        turned.push_back(sample.values[static_cast<std::size_t>(i * sample.width + k)]);
      }
    }
    arrays.raw("embedding", "<f4", shape, fixtures::le_all(turned), true);
  } else {
    arrays.floats("embedding", sample.values, sample.width);
  }
  return arrays.integers("label", sample.labels);
}

// Catches a chain in another order, a scale that is left out, padding that is not zero, a row that
// goes to the wrong place, in every way that rows are read.
TEST(EmbeddingMatrix, HasTheBitsOfTheSharedArithmetic) {
  for (const CpuLevel level : {CpuLevel::kV4, CpuLevel::kBaseline}) {
    limit_cpu_level(level);
    for (const auto& [rows, width] :
         {std::pair<i64, i64>{1, 1}, {7, 3}, {8, 16}, {41, 33}, {300, 17}, {1030, 5}}) {
      const Sample drawn = sample(rows, width, static_cast<u32>(rows));
      for (const std::string type : {"f32", "f32 columns", "f64", "bf16"}) {
        EvalRequest request;
        request.divides_embedding = true;
        auto made = prepare_pairs(as_type(drawn, type), request);
        ASSERT_TRUE(made.ok()) << made.error().text();
        const Whole whole(std::move(made->table));
        for (const int threads : {1, 2}) {
          for (const i64 memory : {i64{0}, i64{1}}) {
            auto matrix =
                EmbeddingMatrix::make(whole.selection(), PairDomain::kL2, true, memory, threads);
            ASSERT_TRUE(matrix.ok()) << matrix.error().text();
            EXPECT_EQ(matrix->in_file(), memory != 0);
            EXPECT_EQ(matrix->rounded(), type == "f64");
            expect_bits(drawn, *matrix, true, type + " " + std::to_string(rows));
          }
        }
      }
    }
  }
  limit_cpu_level(CpuLevel::kV4);
}

TEST(EmbeddingMatrix, TakesRowsAsTheyAre) {
  Sample drawn = sample(40, 6, 3);
  for (float& value : drawn.values) value = std::ldexp(value, -std::ilogb(value));
  for (float& value : drawn.values) value = std::isfinite(value) ? value : 0.0F;
  auto made = prepare_pairs(as_type(drawn, "f32"));
  ASSERT_TRUE(made.ok());
  const Whole whole(std::move(made->table));
  auto matrix = EmbeddingMatrix::make(whole.selection(), PairDomain::kCosine, false, 0, 1);
  ASSERT_TRUE(matrix.ok());
  expect_bits(drawn, *matrix, false, "as is");
  EXPECT_EQ(matrix->view().domain, PairDomain::kCosine);
}

}  // namespace
}  // namespace cupel
