// Passes over scores alone: NaN and infinities, and the softmax of rows of logits.
#pragma once

#include "atomic.hpp"
#include "block.hpp"
#include "pipeline/table.hpp"

namespace cupel::device {

/// Counts scores that are NaN or infinite, in the order in which they lie in memory.
template <class E>
struct CountBadScores {
  static constexpr int kThreads = 256;

  TableOnDevice table;
  E element;
  u64* count;

  CUPEL_HD i64 shared_bytes() const { return 0; }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    const i64 elements = table.rows * table.columns;
    const bool by_columns = table.row_stride < table.column_stride;
    block.each([&](int t) {
      u64 bad = 0;
      for (i64 i = block.index() * kThreads + t; i < elements; i += block.count() * kThreads) {
        const i64 row = by_columns ? i % table.rows : i / table.columns;
        const i64 column = by_columns ? i / table.rows : i - row * table.columns;
        bad += is_bad_score(element.get(), table.at(row, column)) ? 1 : 0;
      }
      if (bad != 0) atomic_add(count, bad);
    });
  }
};

/// Counts the rows that hold a bad score, and finds the first: only where CountBadScores found one.
struct FindBadRows {
  TableOnDevice table;
  u64* rows;
  u64* first_row;

  CUPEL_HD void operator()(i64 row) const {
    for (i64 column = 0; column < table.columns; ++column) {
      if (!is_bad_score(table.element, table.at(row, column))) continue;
      atomic_add(rows, u64{1});
      atomic_min(first_row, static_cast<u64>(row));
      return;
    }
  }
};

/// A row's values as the softmax compares them: integers of 32 bits and more as doubles.
template <class E>
struct NarrowRow {
  const TableOnDevice& table;
  E element;
  i64 row;
  CUPEL_HD CUPEL_INLINE float operator()(i64 j) const {
    return narrow_number(element.get(), table.at(row, j));
  }
};
template <class E>
struct WideRow {
  const TableOnDevice& table;
  E element;
  i64 row;
  CUPEL_HD CUPEL_INLINE double operator()(i64 j) const {
    return number(element.get(), table.at(row, j));
  }
};

/// Threads that share a row of so many classes.
CUPEL_HD constexpr int row_group(i64 classes) { return classes <= 8 ? 1 : classes <= 64 ? 8 : 32; }

struct TakeLarger {
  CUPEL_HD void operator()(double from, double& into) const { into = from > into ? from : into; }
};
struct MergeUnitSums {
  CUPEL_HD void operator()(const UnitSum& from, UnitSum& into) const { into.merge(from); }
};

/// The largest value of columns lane, lane + kGroup, ... of a row; lane is below the columns.
template <int kGroup, class E>
CUPEL_HD CUPEL_INLINE double lane_max(const TableOnDevice& table, E element, i64 row, i64 lane) {
  if (is_narrow(element.get())) {
    const NarrowRow<E> values{table, element, row};
    float max = values(lane);
    for (i64 j = lane + kGroup; j < table.columns; j += kGroup) {
      const float value = values(j);
      max = value > max ? value : max;
    }
    return static_cast<double>(max);
  }
  const WideRow<E> values{table, element, row};
  double max = values(lane);
  for (i64 j = lane + kGroup; j < table.columns; j += kGroup) {
    const double value = values(j);
    max = value > max ? value : max;
  }
  return max;
}

/// Maximum and denominator of each row's softmax, kGroup threads a row.
template <int kGroup, class E>
struct SoftmaxRows {
  static constexpr int kThreads = 256;
  static constexpr int kRows = kThreads / kGroup;

  TableOnDevice table;
  E element;
  RowSoftmax* out;  ///< [rows]

  CUPEL_HD i64 shared_bytes() const { return 0; }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    typename Block::template PerThread<double> max;
    typename Block::template PerThread<UnitSum> sum;
    for (i64 first = block.index() * kRows; first < table.rows; first += block.count() * kRows) {
      block.each([&](int t) {
        const i64 row = first + t / kGroup;
        const i64 lane = t % kGroup;
        // Lanes beyond the last column, and beyond the last row, repeat what others say.
        const bool here = row < table.rows;
        max[t] = here ? lane_max<kGroup>(table, element, row, lane < table.columns ? lane : 0) : 0;
      });
      block.template merge_groups<kGroup>(max, TakeLarger{});
      block.each([&](int t) {
        const i64 row = first + t / kGroup;
        sum[t] = UnitSum{};
        if (row >= table.rows) return;
        max[t] += 0.0;  // +0 where it is a zero
        for (i64 j = t % kGroup; j < table.columns; j += kGroup) {
          sum[t].add(softmax_term(number(element.get(), table.at(row, j)), max[t]));
        }
      });
      block.template merge_groups<kGroup>(sum, MergeUnitSums{});
      block.each([&](int t) {
        const i64 row = first + t / kGroup;
        if (row < table.rows && t % kGroup == 0) out[row] = {max[t], sum[t].value()};
      });
    }
  }
};

}  // namespace cupel::device
