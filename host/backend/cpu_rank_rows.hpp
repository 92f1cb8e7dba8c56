// The rows of one binary problem as sort keys, labels and masses, read in short stretches from
// columns of any numeric type, stride and alignment. The only place of the CPU ranking code that
// knows how a table lies in memory.
#pragma once

#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/core/buffer.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel {

class ThreadPool;

namespace cpu {

/// Whether keys of this kind are kept as u32.
constexpr bool has_narrow_keys(ScoreKind kind) { return key_bits(kind) <= 32; }

/// Maximum and denominator of every row's softmax; empty unless the table ranks multiclass logits.
/// 16 bytes a row.
Buffer<RowSoftmax> row_softmaxes(const TableView& table, ThreadPool& pool);

/// One problem of a table. A view: the table and the softmaxes outlive it.
class ProblemRows {
 public:
  ProblemRows(const TableView& table, i64 problem, const RowSoftmax* softmax);
  /// Rows whose keys and labels are at hand; no masses.
  ProblemRows(ScoreKind kind, const u32* keys, const u8* labels, i64 rows)
      : rows_(rows), kind_(kind), narrow_keys_(keys), labels_(labels) {}
  ProblemRows(ScoreKind kind, const u64* keys, const u8* labels, i64 rows)
      : rows_(rows), kind_(kind), wide_keys_(keys), labels_(labels) {}

  i64 rows() const { return rows_; }
  ScoreKind kind() const { return kind_; }
  bool weighted() const { return table_ != nullptr && table_->weighted(); }

  /// Keys of rows [row, row + n). Key is u32 for kinds of at most 32 bits, else u64.
  template <class Key>
  void keys(i64 row, i64 n, Key* out) const;
  /// 1 for the positives among rows [row, row + n), else 0.
  void labels(i64 row, i64 n, u8* out) const;
  /// Asks memory for rows [row, row + n) ahead of their use, where they lie side by side.
  void prefetch(i64 row, i64 n) const;
  /// The quantised weight of a row of a weighted table.
  u128 mass(i64 row) const;

  /// The keys, where they are at hand, or null.
  const u32* narrow_keys() const { return narrow_keys_; }
  /// The scores as contiguous 16-bit floats at any address, or null.
  const std::byte* contiguous_halves() const;
  /// All labels as contiguous bytes, or null.
  const u8* contiguous_labels() const { return labels_; }

 private:
  const TableView* table_ = nullptr;
  i64 problem_ = 0;
  i64 rows_;
  ScoreKind kind_;
  const RowSoftmax* softmax_ = nullptr;
  const std::byte* data_ = nullptr;
  i64 stride_ = 0;
  const u32* narrow_keys_ = nullptr;
  const u64* wide_keys_ = nullptr;
  const u8* labels_ = nullptr;  ///< contiguous labels, where there are
};

}  // namespace cpu
}  // namespace cupel
