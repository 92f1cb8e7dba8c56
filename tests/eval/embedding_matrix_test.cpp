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
  for (float& value : drawn.values) {
    if (value != 0) value = std::ldexp(value, -std::ilogb(value));
  }
  auto made = prepare_pairs(as_type(drawn, "f32"));
  ASSERT_TRUE(made.ok());
  const Whole whole(std::move(made->table));
  auto matrix = EmbeddingMatrix::make(whole.selection(), PairDomain::kCosine, false, 0, 1);
  ASSERT_TRUE(matrix.ok());
  expect_bits(drawn, *matrix, false, "as is");
  EXPECT_EQ(matrix->view().domain, PairDomain::kCosine);
}

/// Positions of rows in an embedding whose only column counts them from 1.
std::vector<int> order_of(const EmbeddingMatrix& matrix) {
  std::vector<int> order;
  for (i64 i = 0; i < matrix.view().rows; ++i) {
    order.push_back(static_cast<int>(matrix.view().row(i)[0]));
  }
  return order;
}
std::vector<u32> ties_of(const EmbeddingMatrix& matrix) {
  return {matrix.view().ties, matrix.view().ties + matrix.view().rows};
}

Result<EmbeddingMatrix> counted(const Whole& whole, int threads = 1) {
  return EmbeddingMatrix::make(whole.selection(), PairDomain::kL2, false, 0, threads);
}

// Catches rows that are sorted by position where there are ids, ties that follow the order of
// classes, and equal ids whose ties are not distinct.
TEST(EmbeddingMatrix, RowsGoByClassThenIdThenPosition) {
  const std::vector<float> counting{1, 2, 3, 4, 5, 6};
  auto made = prepare_pairs(Arrays()
                                .floats("embedding", counting, 1)
                                .integers("label", {20, 3, 20, 3, 20, 3})
                                .integers("id", {5, 9, 1, 4, 1, 9}));
  ASSERT_TRUE(made.ok()) << made.error().text();
  const Whole whole(std::move(made->table));
  auto matrix = counted(whole);
  ASSERT_TRUE(matrix.ok());
  EXPECT_EQ(order_of(*matrix), (std::vector<int>{4, 2, 6, 3, 5, 1}));
  EXPECT_EQ(ties_of(*matrix), (std::vector<u32>{2, 4, 5, 0, 1, 3}));
  EXPECT_EQ(matrix->class_names(), (std::vector<std::string>{"3", "20"}));
  EXPECT_EQ(matrix->class_rows(), (std::vector<u64>{3, 3}));
  EXPECT_EQ(matrix->positive_pairs(), 6U);
  EXPECT_EQ(matrix->negative_pairs(), 9U);
}

// Catches classes that are matched by number within their part, and numbers that are sorted as
// texts, or texts as numbers, once parts are joined.
TEST(EmbeddingMatrix, PartsShareTheirClasses) {
  const auto part = [](const std::vector<float>& rows, Arrays labels, i64 first) {
    auto made = prepare_pairs(labels.floats("embedding", rows, 1), {}, first);
    EXPECT_TRUE(made.ok());
    return std::move(made->table);
  };
  std::vector<PreparedTable> tables;
  tables.push_back(part({1, 2}, Arrays().integers("label", {100, 9}), 0));
  tables.push_back(part({3, 4}, Arrays().doubles("label", {100, 10}), 2));
  Whole numbers(std::move(tables));
  auto matrix = counted(numbers);
  ASSERT_TRUE(matrix.ok());
  EXPECT_EQ(matrix->class_names(), (std::vector<std::string>{"9", "10", "100"}));
  EXPECT_EQ(order_of(*matrix), (std::vector<int>{2, 4, 1, 3}));
  EXPECT_EQ(ties_of(*matrix), (std::vector<u32>{1, 3, 0, 2}));
  EXPECT_TRUE(matrix->view().classes[3] == 2 && matrix->view().classes[2] == 2);

  tables.clear();
  tables.push_back(part({1, 2}, Arrays().integers("label", {100, 9}), 0));
  tables.push_back(part({3, 4}, Arrays().texts("label", {"9", "x"}), 2));
  Whole mixed(std::move(tables));
  matrix = counted(mixed);
  ASSERT_TRUE(matrix.ok());
  EXPECT_EQ(matrix->class_names(), (std::vector<std::string>{"100", "9", "x"}));
  EXPECT_EQ(order_of(*matrix), (std::vector<int>{1, 2, 3, 4}));
}

TEST(EmbeddingMatrix, TakesTheRowsOfWantedCells) {
  EvalRequest request;
  request.roles.groups = {"sex"};
  auto made = prepare_pairs(Arrays()
                                .floats("embedding", {1, 2, 3, 4, 5}, 1)
                                .integers("label", {1, 0, 1, 0, 2})
                                .texts("sex", {"m", "f", "m", "f", "f"}),
                            request);
  ASSERT_TRUE(made.ok());
  Whole whole(std::move(made->table));
  whole.wanted = {true, false};  // f
  auto matrix = counted(whole);
  ASSERT_TRUE(matrix.ok());
  EXPECT_EQ(order_of(*matrix), (std::vector<int>{2, 4, 5}));
  EXPECT_EQ(matrix->class_rows(), (std::vector<u64>{2, 0, 1}));
  EXPECT_EQ(ties_of(*matrix), (std::vector<u32>{0, 1, 2}));
  whole.wanted = {false, false};
  matrix = counted(whole);
  ASSERT_TRUE(matrix.ok());
  EXPECT_EQ(matrix->view().rows, 0);
  EXPECT_EQ(matrix->positive_pairs(), 0U);
  EXPECT_EQ(matrix->negative_pairs(), 0U);
}

TEST(EmbeddingMatrix, NamesRowsThatCannotBeUsed) {
  std::vector<float> rows(2 * 600, 1.0F);
  for (const std::size_t bad : {571, 300, 599}) rows[2 * bad] = rows[2 * bad + 1] = 0.0F;
  std::vector<i64> labels(600);
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<i64>(i % 7);
  auto made = prepare_pairs(Arrays().floats("embedding", rows, 2).integers("label", labels));
  ASSERT_TRUE(made.ok());
  const Whole zeros(std::move(made->table));
  auto matrix = EmbeddingMatrix::make(zeros.selection(), PairDomain::kL2, true, 0, 2);
  ASSERT_FALSE(matrix.ok());
  EXPECT_EQ(matrix.error().code, ErrorCode::kInput);
  EXPECT_EQ(matrix.error().text(),
            "d.npz: 'embedding' row 300: embedding 'embedding' is zero in all columns, and cannot "
            "be divided by its length (3 such rows in all); leave such rows out with --nan drop, "
            "or take rows as they are with --as-is");
  EXPECT_TRUE(EmbeddingMatrix::make(zeros.selection(), PairDomain::kL2, false, 0, 2).ok());

  // 2^126 is a quarter of 2^128: just beyond a quarter of the largest float.
  const float fits = std::nextafter(0x1p63F, 0.0F);
  auto far = prepare_pairs(Arrays()
                               .floats("embedding", {1, fits, 0x1p63F, 2, 3e38F, 1}, 1)
                               .integers("label", {0, 0, 0, 1, 1, 1}));
  ASSERT_TRUE(far.ok());
  const Whole longs(std::move(far->table));
  matrix = counted(longs);
  ASSERT_FALSE(matrix.ok());
  EXPECT_EQ(matrix.error().text(),
            "d.npz: 'embedding' row 2: embedding 'embedding' is so long that squared distances "
            "leave float32 (2 such rows in all); scale the embedding down, or leave out --as-is");
  EXPECT_TRUE(EmbeddingMatrix::make(longs.selection(), PairDomain::kL2, true, 0, 1).ok());
}

TEST(EmbeddingMatrix, AFileIsMadeWhereTmpdirSays) {
  auto made =
      prepare_pairs(Arrays().floats("embedding", {1, 2, 3, 4}, 1).integers("label", {1, 0, 1, 0}));
  ASSERT_TRUE(made.ok());
  const Whole whole(std::move(made->table));
  const char* const given = ::getenv("TMPDIR");
  const std::string before = given == nullptr ? "" : given;
  const fixtures::TempFolder folder;
  ::setenv("TMPDIR", folder.path().c_str(), 1);
  // 4 rows of 16 floats are 256 bytes.
  auto matrix = EmbeddingMatrix::make(whole.selection(), PairDomain::kL2, false, 512, 1);
  ASSERT_TRUE(matrix.ok());
  EXPECT_FALSE(matrix->in_file());
  matrix = EmbeddingMatrix::make(whole.selection(), PairDomain::kL2, false, 511, 1);
  ASSERT_TRUE(matrix.ok());
  EXPECT_TRUE(matrix->in_file());
  EXPECT_EQ(order_of(*matrix), (std::vector<int>{2, 4, 1, 3}));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "the file has no name";
  ::setenv("TMPDIR", (folder.path() + "/none").c_str(), 1);
  matrix = EmbeddingMatrix::make(whole.selection(), PairDomain::kL2, false, 1, 1);
  ASSERT_FALSE(matrix.ok());
  EXPECT_EQ(matrix.error().code, ErrorCode::kInternal);
  EXPECT_NE(matrix.error().text().find("TMPDIR"), std::string::npos);
  given == nullptr ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", before.c_str(), 1);
}

}  // namespace
}  // namespace cupel
