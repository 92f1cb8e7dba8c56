// Rows for the self-test: one table for each description, the same on every machine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cupel/backend/backend.hpp"

namespace cupel {

enum class CaseWeights : u8 { kNone, kF32, kF64 };
enum class CaseLayout : u8 {
  kPlain,
  kUnaligned,  ///< at an odd address, and without the first row of every column
  kStrided,    ///< gaps between values; a matrix by columns
};
enum class CaseScores : u8 {
  kMixed,  ///< many values, some repeated, zeros of both signs, subnormals and the largest
  kTied,   ///< one value
  kOnlyPositive,
  kOnlyNegative,  ///< several classes: all rows of class 0, labels all 0
  kFewBad,        ///< NaN and infinities at the first, an inner and the last row
  kLastBad,       ///< NaN in the last score
};

struct SelftestCase {
  Task task = Task::kBinary;
  bool logits = false;
  DType dtype = DType::kF32;
  i64 rows = 0;
  i64 classes = 2;
  CaseWeights weights = CaseWeights::kNone;
  u32 cells = 1;
  CaseLayout layout = CaseLayout::kPlain;
  CaseScores scores = CaseScores::kMixed;

  bool bad() const { return scores >= CaseScores::kFewBad; }
  /// "multiclass logits f32, 4,097 rows x 5, weights f64, 3 cells, unaligned, tied".
  std::string text() const;
};

/// A table and the memory behind it.
class SelftestTable {
 public:
  SelftestTable(const SelftestCase& shape, u64 seed);
  const TableView& view() const { return view_; }

 private:
  void make_scores(const SelftestCase& shape, u64 seed);
  void make_labels(const SelftestCase& shape, u64 seed);

  TableView view_;
  std::vector<std::byte> scores_;
  std::vector<u8> label_bytes_;
  std::vector<i32> label_classes_;
  std::vector<double> weights_f64_;
  std::vector<float> weights_f32_;
  std::vector<u32> cells_;
};

/// All cases, the smaller ones first; `quick` leaves out most combinations and all large tables.
std::vector<SelftestCase> selftest_cases(bool quick);

/// The queries and row specs that every case is asked; specs differ by `variant`.
std::vector<RankQuery> selftest_queries();
RowSpec selftest_spec(const SelftestCase& shape, std::size_t variant);
/// The passes of a fit of temperatures, of multiclass logits: by turns one of its steps and what
/// follows the last.
/// Whether there are pairs of the table's rows to compare: several classes, and few enough rows.
bool has_selftest_pairs(const TableView& table);
/// The upper half of a distance's key (0.375 and up to 0.37695) whose lower halves are counted.
inline constexpr u32 kSelftestDistance = 0x3EC0;
/// Rows of probabilities with the labels of a table, some rows equal to the one before.
class SelftestPairs {
 public:
  explicit SelftestPairs(const TableView& table);
  const TableView& view() const { return view_; }

 private:
  std::vector<double> p_;
  TableView view_;
};

RowSpec tempered_spec(const SelftestCase& shape, std::size_t variant);

}  // namespace cupel
