// Tiles of gaps, which the pass over pairs makes and its sinks read while they are in the nearest
// cache.
#pragma once

#include "cupel/core/int.hpp"
#include "cupel/state/embedding_pairs.hpp"

namespace cupel {

inline constexpr int kTileRows = 8;
inline constexpr int kTileCols = 48;

/// The gaps of the rows [row, row + rows) with the rows [col, col + cols).
struct GapTile {
  enum class Classes : u8 { kApart, kOne, kMixed };

  i64 row = 0;
  i64 col = 0;
  int rows = 0;  ///< at most kTileRows
  int cols = 0;  ///< at most kTileCols
  /// Row r at gaps + r * kTileCols, kTileRows rows, 64-byte aligned. NaN, which no comparison
  /// accepts, where there is no pair: beyond rows and cols, and where row + r >= col + c.
  const float* gaps = nullptr;
  bool whole = false;                 ///< no NaN
  Classes classes = Classes::kMixed;  ///< of its pairs: all of two classes, or all of the same one
};

/// What a sink of tiles has to be; the pass calls its functions directly.
///
///   void begin(int thread, i64 col_first, i64 col_last);  // tiles of these columns follow ...
///   void take(int thread, const GapTile& tile);           // ... in ascending order of rows
///   void end(int thread);                                 // ... and that was all of them
///
/// Threads have their own numbers and call at the same time; what they share is the sink's care.
/// An exception of the allocator may leave any of them.

}  // namespace cupel
