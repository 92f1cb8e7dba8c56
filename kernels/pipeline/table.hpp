// A table on the device, as kernels see it, and how a row of it becomes a key, a label, a segment
// and a mass.
#pragma once

#include "cupel/math/element.hpp"
#include "cupel/math/softmax.hpp"
#include "cupel/math/weight.hpp"
#include "pipelines.hpp"

namespace cupel::device {

/// Pointers are to device memory; the scores are aligned to their elements.
struct TableOnDevice {
  TaskKind task = TaskKind::kBinary;
  bool logits = false;
  i64 rows = 0;
  i64 columns = 1;
  Element element = Element::kF32;
  const unsigned char* scores = nullptr;
  i64 row_stride = 0;
  i64 column_stride = 0;
  const u8* labels = nullptr;  ///< binary [rows], multilabel [rows][columns]
  const i32* class_labels = nullptr;
  const double* weights_f64 = nullptr;
  const float* weights_f32 = nullptr;
  const u32* cells = nullptr;  ///< null: one cell
  i64 cell_count = 1;
  const RowSoftmax* softmax = nullptr;  ///< where multiclass logits are ranked

  CUPEL_HD bool weighted() const { return weights_f64 != nullptr || weights_f32 != nullptr; }
  CUPEL_HD const unsigned char* at(i64 row, i64 column) const {
    return scores + row * row_stride + column * column_stride;
  }
  CUPEL_HD i64 cell(i64 row) const { return cells != nullptr ? static_cast<i64>(cells[row]) : 0; }
  CUPEL_HD bool is_positive(i64 row, i64 problem) const {
    if (task == TaskKind::kMulticlass) return class_labels[row] == problem;
    return labels[row * columns + problem] != 0;
  }
  CUPEL_HD double weight(i64 row) const {
    return weights_f64 != nullptr ? weights_f64[row] : static_cast<double>(weights_f32[row]);
  }
};

/// Rows [first, first + rows) of a table.
inline TableOnDevice rows_of(const TableOnDevice& table, i64 first, i64 rows) {
  TableOnDevice part = table;
  part.rows = rows;
  const auto advance = [](auto*& pointer, i64 by) {
    if (pointer != nullptr) pointer += by;
  };
  advance(part.scores, first * table.row_stride);
  advance(part.labels, first * (table.task == TaskKind::kMultilabel ? table.columns : 1));
  advance(part.class_labels, first);
  advance(part.weights_f64, first);
  advance(part.weights_f32, first);
  advance(part.cells, first);
  advance(part.softmax, first);
  return part;
}

/// The key of a score, as u32 for kinds of at most 32 bits, else as u64.
template <class Key, class E>
CUPEL_HD CUPEL_INLINE Key key_of(const TableOnDevice& table, E element, i64 row, i64 column) {
  const unsigned char* at = table.at(row, column);
  if constexpr (sizeof(Key) == 4) {
    return narrow_key(element.get(), at);
  } else {
    if (table.softmax != nullptr) {
      const double p = softmax_p(number(element.get(), at), table.softmax[row]);
      return key_of_f64(bits_from_double(p));
    }
    return wide_key(element.get(), at);
  }
}

/// Elements of problems [first, first + width) in the order in which scores of a row-major matrix
/// lie, each with its segment.
struct ProblemBlock {
  i64 first = 0;
  i64 width = 1;
  i64 cells = 1;  ///< 1 where cells are ignored

  CUPEL_HD i64 segments() const { return width * cells * 2; }
  CUPEL_HD i64 row(i64 element) const { return width == 1 ? element : element / width; }
  CUPEL_HD i64 problem(i64 element, i64 row) const { return first + (element - row * width); }
  CUPEL_HD i64 segment(const TableOnDevice& table, i64 row, i64 problem) const {
    const i64 cell = cells == 1 ? 0 : table.cell(row);
    return ((problem - first) * cells + cell) * 2 + (table.is_positive(row, problem) ? 1 : 0);
  }
};

}  // namespace cupel::device
