// Rows of a regression task and of a risk task, ready to compute on, and the integers that they add
// up to.
#pragma once

#include <cmath>

#include "cupel/math/exact_sum.hpp"
#include "cupel/math/interval.hpp"

namespace cupel {

/// Rows of a regression task: finite numbers, sigma > 0, lower <= upper. Every column is double
/// (integers beyond 2^53 rounded to nearest, everything else exact), one value a row, and null
/// where the dump has none. Views only; the rows of both halves of --calibration are here, in cells
/// of their own.
struct RegressionView {
  i64 rows = 0;
  const double* y = nullptr;          ///< [rows]
  const double* pred = nullptr;       ///< [rows, models], row-major
  i64 models = 1;                     ///< columns of pred; 1 where pred is one-dimensional
  const double* sigma = nullptr;      ///< [rows]
  const double* lower = nullptr;      ///< [rows]
  const double* upper = nullptr;      ///< [rows]
  const double* threshold = nullptr;  ///< [rows] c_j of conformal selection; may be of either sign
  bool weighted = false;              ///< there is a weight column, which nothing here can use
  const u32* cells = nullptr;         ///< [rows] below cell_count; null: one cell
  u32 cell_count = 1;
  /// What random draws of a row follow: its id, or its position in the whole table.
  const u64* row_keys = nullptr;  ///< [rows]; null: first_row + row
  i64 first_row = 0;

  u64 row_key(i64 row) const {
    return row_keys != nullptr ? row_keys[row] : static_cast<u64>(first_row + row);
  }
  u32 cell(i64 row) const { return cells == nullptr ? 0 : cells[row]; }
  /// What a rule of one model reads of a row; 0 (sigma 1) for columns that are not there.
  IntervalColumns columns(i64 row) const {
    return {pred == nullptr ? 0 : pred[row * models], sigma == nullptr ? 1 : sigma[row],
            lower == nullptr ? 0 : lower[row], upper == nullptr ? 0 : upper[row]};
  }
};

/// Rows of a risk task: the losses of each row at L values of lambda, finite.
struct RiskView {
  i64 rows = 0;
  i64 lambda_count = 0;             ///< L
  const double* losses = nullptr;   ///< [rows, L], row-major
  const double* lambdas = nullptr;  ///< [L], in the order of the file; null: not given
  bool weighted = false;
  const u32* cells = nullptr;  ///< as above
  u32 cell_count = 1;

  u32 cell(i64 row) const { return cells == nullptr ? 0 : cells[row]; }
};

/// Errors of point predictions, of some rows.
struct ErrorSums {
  u64 rows = 0;
  u64 overflows = 0;       ///< rows whose y - pred is beyond the largest double, not in `squares`
  ExactSum absolute;       ///< of |y - pred|, which is not rounded
  ExactSquareSum squares;  ///< of the square of y - pred, the difference rounded once

  void add(double y, double pred) {
    ++rows;
    if (y > pred) {
      add_difference(absolute, y, pred);
    } else {
      add_difference(absolute, pred, y);
    }
    const double difference = y - pred;
    if (std::isfinite(difference)) {
      add_square(squares, difference);
    } else {
      ++overflows;
    }
  }
  void merge(const ErrorSums& other) {
    rows += other.rows;
    overflows += other.overflows;
    absolute.merge(other.absolute);
    squares.merge(other.squares);
  }
};

/// What the intervals of some rows sum up to.
struct IntervalSums {
  u64 rows = 0;
  u64 covered = 0;            ///< by score keys
  u64 empty = 0;              ///< intervals with lower > upper
  u64 endless = 0;            ///< intervals with an infinite width, not in `width`
  u64 endless_misses = 0;     ///< rows infinitely far outside, not in `misses`
  ExactSum width;             ///< of upper - lower, which is not rounded; 0 of empty ones
  ExactSum misses;            ///< of lower - y where y < lower, and of y - upper where y > upper
  i64 least_y = kEveryScore;  ///< keys of the smallest and the largest y; of no rows these
  i64 most_y = -kEveryScore;

  void add(const Interval& interval, bool is_covered, double y) {
    ++rows;
    covered += is_covered ? 1 : 0;
    const i64 key = residual_key(y);
    least_y = key < least_y ? key : least_y;
    most_y = key > most_y ? key : most_y;
    if (interval.empty()) {
      ++empty;
    } else if (std::isfinite(interval.lower) && std::isfinite(interval.upper)) {
      add_difference(width, interval.upper, interval.lower);
    } else {
      ++endless;
    }
    if (y < interval.lower) add_miss(interval.lower, y);
    if (y > interval.upper) add_miss(y, interval.upper);
  }
  void merge(const IntervalSums& other) {
    rows += other.rows;
    covered += other.covered;
    empty += other.empty;
    endless += other.endless;
    endless_misses += other.endless_misses;
    width.merge(other.width);
    misses.merge(other.misses);
    least_y = other.least_y < least_y ? other.least_y : least_y;
    most_y = other.most_y > most_y ? other.most_y : most_y;
  }

 private:
  void add_miss(double high, double low) {
    if (std::isfinite(high) && std::isfinite(low)) {
      add_difference(misses, high, low);
    } else {
      ++endless_misses;
    }
  }
};

}  // namespace cupel
