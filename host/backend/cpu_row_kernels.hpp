// Terms of short blocks of rows, by vector code: what the CPU backend's row sums are made of. Each
// kernel is compiled for three instruction sets from one body; the bits do not depend on which
// runs.
#pragma once

#include "backend/cpu_level.hpp"
#include "cupel/core/column.hpp"
#include "cupel/core/int.hpp"
#include "cupel/math/bins.hpp"

namespace cupel::cpu {

/// Rows of a block of one binary problem. A block's sums of terms fit 64 bits: a term is at most
/// 2^52.
inline constexpr i64 kBlockRows = 512;
/// Rows of a block of a multiclass table.
inline constexpr i64 kClassBlockRows = 64;

/// What is to be computed of each row.
struct TermSpec {
  bool logits = false;
  bool ranks = false;  ///< multiclass: the label's rank; with `top` always
  bool brier = false;
  bool log_loss = false;
  bool top = false;  ///< multiclass: the largest probability, and whether its class is the label's
  bool predicts = false;    ///< multiclass: with `top`, that class
  bool each_class = false;  ///< multiclass: every class's probability
  double epsilon = 0;       ///< clips the log loss of probabilities
};

// What is said of a row beside its terms, each in bits of its own, so that a block's sum counts
// them.
inline constexpr u64 kFlagOutside = 1;             ///< no probability: both terms are 0
inline constexpr u64 kFlagClipped = u64{1} << 20;  ///< clipped for the log loss
inline constexpr u64 kFlagLong = u64{1} << 40;     ///< loss of 2^8 or more: its short term is 0
constexpr u64 outside_count(u64 flags) { return flags & 0xFFFFF; }
constexpr u64 clipped_count(u64 flags) { return flags >> 20 & 0xFFFFF; }
constexpr u64 long_count(u64 flags) { return flags >> 40; }

/// A numeric matrix in memory; a column of its own has one column.
struct ScoreMatrix {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  i64 row_stride = 0;
  i64 column_stride = 0;
};

/// Rows of one binary problem, and what terms() makes of them.
struct ColumnBlock {
  i64 rows = 0;
  const double* score = nullptr;
  const u64* label = nullptr;  ///< 0 or 1
  // Whole cache lines, and not 4 KiB apart: a load would wait for a store to the same place in a
  // page.
  alignas(64) u64 brier[kBlockRows + 8];  ///< where asked for
  alignas(64) u64 loss[kBlockRows + 8];   ///< where asked for
  alignas(64) u64 flags[kBlockRows + 8];  ///< where a term is asked for
};

/// Where each row of a block of one binary problem belongs among the bins of a query.
struct BinBlock {
  alignas(64) u64 slot[kBlockRows];
  alignas(64) u64 term[kBlockRows];   ///< the confidence, in units of 2^-kConfidenceBits
  alignas(64) u64 right[kBlockRows];  ///< 0 or 1
};

/// What a block adds without weights and segments.
struct BlockSums {
  u64 positives = 0;
  u64 brier = 0;
  u64 loss = 0;
  u64 flags = 0;
};

/// Rows that a threshold calls positive, and those of them that are.
struct Decisions {
  u64 positive = 0;
  u64 true_positive = 0;
};

/// Rows of a multiclass table.
struct alignas(64) ClassBlock {
  i64 rows = 0;
  const i32* labels = nullptr;
  i32 rank[kClassBlockRows];
  u128 brier[kClassBlockRows];
  double label_value[kClassBlockRows];
  double max[kClassBlockRows];          ///< of logits
  double denominator[kClassBlockRows];  ///< of logits
  double loss_value[kClassBlockRows];   ///< where asked for
  u64 loss[kClassBlockRows];            ///< where asked for
  u64 flags[kClassBlockRows];
  double top_p[kClassBlockRows];   ///< where asked for; of rows of probabilities
  i32 predicted[kClassBlockRows];  ///< likewise; without `predicts` -1 where it is not the label
  double* each_p = nullptr;        ///< [kClassBlockRows][classes], where asked for
};

struct RowKernels {
  /// Writes rows [row, row + rows) of columns [column, column + columns) as doubles, each column
  /// contiguous, columns `out_stride` apart. 64-bit integers without a double round up, so that
  /// value > t holds for the same doubles t before and after.
  void (*load_columns)(const ScoreMatrix& matrix, i64 row, i64 rows, i64 column, i64 columns,
                       double* out, i64 out_stride);
  /// Writes 0 or 1 for the labels of rows [0, rows) and columns [0, columns) at `labels`, whose
  /// rows are `row_stride` apart, laid out like load_columns().
  void (*load_labels)(const u8* labels, i64 row_stride, i64 rows, i64 columns, u64* out,
                      i64 out_stride);
  /// The terms and flags of a block that are asked for, and their sums.
  BlockSums (*terms)(const TermSpec& spec, ColumnBlock& block);
  Decisions (*decisions)(const ColumnBlock& block, double threshold);
  /// The positive class's probability of each row: the score, or of a logit its logistic function.
  void (*probabilities)(const TermSpec& spec, const ColumnBlock& block, double* out);
  /// What rows of these probabilities add to the bins of a query of kPositive or kTop. A row that
  /// has no probability (by the block's flags) gets the slot behind the last.
  void (*bin_terms)(const BinQuery& query, const ColumnBlock& block, const double* p,
                    BinBlock& out);

  /// Writes `rows` rows of `classes` values, row-major; to float what it holds exactly
  /// (wide_values() says what it does not), else to double, 64-bit integers rounded to nearest.
  void (*load_rows_f32)(const ScoreMatrix& matrix, i64 row, i64 rows, i64 classes, float* out);
  void (*load_rows_f64)(const ScoreMatrix& matrix, i64 row, i64 rows, i64 classes, double* out);
  /// Row `index` of the block, contiguous: its rank, squared error, the inputs of its log loss and
  /// its flags but those of the loss. `scratch` has `classes` doubles where logits and brier are
  /// asked for.
  void (*class_row_f32)(const TermSpec& spec, const float* values, i64 classes, double* scratch,
                        ClassBlock& block, i64 index);
  void (*class_row_f64)(const TermSpec& spec, const double* values, i64 classes, double* scratch,
                        ClassBlock& block, i64 index);
  /// The log losses of the block, after its rows.
  void (*class_losses)(const TermSpec& spec, ClassBlock& block);
};

const RowKernels& row_kernels(CpuLevel level);

/// Whether values of this type need a double.
bool wide_values(DType dtype);

/// label_rank() of a row of 64-bit integers, which no float holds.
i32 integer_rank(const ScoreMatrix& matrix, i64 row, i64 classes, i64 label);

}  // namespace cupel::cpu
