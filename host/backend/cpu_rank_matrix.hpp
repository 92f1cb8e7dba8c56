// Many binary problems side by side in a matrix: columns are brought out of it a tile at a time,
// and each becomes a problem of its own that one worker ranks within its cache.
#pragma once

#include "backend/cpu_rank_rows.hpp"

namespace cupel::cpu {

/// Keys and labels of neighbouring problems, each contiguous. One per worker, reused.
template <class Key>
class RankTile {
 public:
  /// Problems that fit a tile of a table with so many rows.
  static i64 width(i64 rows, i64 problems, int workers);

  /// Reads problems [first, first + count).
  void read(const TableView& table, i64 first, i64 count, const RowSoftmax* softmax);
  /// The problem first + i.
  ProblemRows problem(i64 i) const;

 private:
  ScoreKind kind_ = ScoreKind::kF32;
  i64 rows_ = 0;
  i64 pitch_ = 0;  ///< from a column's key to the same row's key in the next column
  Buffer<Key> keys_;
  Buffer<u8> labels_;
};

/// 2U of keys with labels, and the number of positives, without sorting: rows are spread over
/// thousands of cells of the key range, and only pairs inside a cell are compared. One per worker.
class PairCounter {
 public:
  struct Answer {
    u64 two_u = 0;
    u64 pos = 0;
  };
  /// 0 < n < 2^31.
  Answer count(const u32* keys, const u8* labels, i64 n);

 private:
  Buffer<u32> ends_;
  Buffer<u32> spread_;
};

}  // namespace cupel::cpu
