// Feeds sinks of tiles as the pass over pairs does: tiles of gaps found by plain loops, in any
// order of items, from threads that run at the same time.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "backend/pair_tile.hpp"
#include "support/plain_pairs.hpp"

namespace cupel::test {

/// Rows that go by some columns.
struct TileItem {
  i64 row_first = 0, row_last = 0;
  i64 col_first = 0, col_last = 0;
};

/// All pairs of `rows` rows: blocks of columns, from the first, by blocks of rows.
inline std::vector<TileItem> tile_items(i64 rows, i64 cols_each, i64 rows_each) {
  std::vector<TileItem> items;
  for (i64 col = 0; col < rows; col += cols_each) {
    const i64 col_last = std::min(col + cols_each, rows);
    for (i64 row = 0; row < col_last - 1; row += rows_each) {
      items.push_back({row, std::min(row + rows_each, col_last - 1), col, col_last});
    }
  }
  return items;
}

inline void shuffle(std::vector<TileItem>& items, u64 seed) {
  Draws draws(seed);
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[draws.below(i)]);
}

/// A tile from `row` and `col`, within the bounds of `item`.
inline GapTile plain_tile(const EmbeddingView& view, const TileItem& item, i64 row, i64 col,
                          float* gaps) {
  GapTile tile;
  tile.row = row;
  tile.col = col;
  tile.rows = static_cast<int>(std::min<i64>(kTileRows, item.row_last - row));
  tile.cols = static_cast<int>(std::min<i64>(kTileCols, item.col_last - col));
  tile.gaps = gaps;
  tile.whole = true;
  bool any_one = false;
  bool any_apart = false;
  for (int r = 0; r < kTileRows; ++r) {
    for (int c = 0; c < kTileCols; ++c) {
      float& gap = gaps[r * kTileCols + c];
      if (r >= tile.rows || c >= tile.cols || row + r >= col + c) {
        gap = std::numeric_limits<float>::quiet_NaN();
        tile.whole = false;
        continue;
      }
      gap = plain_gap(view, row + r, col + c);
      (view.classes[row + r] == view.classes[col + c] ? any_one : any_apart) = true;
    }
  }
  if (any_one != any_apart)
    tile.classes = any_one ? GapTile::Classes::kOne : GapTile::Classes::kApart;
  return tile;
}

/// Gives the items to the sink, each to the first of `threads` threads that is free.
template <class Sink>
void feed(Sink& sink, const EmbeddingView& view, const std::vector<TileItem>& items, int threads) {
  std::atomic<std::size_t> next{0};
  const auto work = [&](int thread) {
    alignas(64) float gaps[kTileRows * kTileCols];
    for (std::size_t at = next++; at < items.size(); at = next++) {
      const TileItem& item = items[at];
      sink.begin(thread, item.col_first, item.col_last);
      for (i64 row = item.row_first; row < item.row_last; row += kTileRows) {
        for (i64 col = item.col_first; col < item.col_last; col += kTileCols) {
          if (row >= std::min(col + kTileCols, item.col_last) - 1) continue;
          sink.take(thread, plain_tile(view, item, row, col, gaps));
        }
      }
      sink.end(thread);
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(work, thread);
  work(0);
  for (std::thread& other : others) other.join();
}

}  // namespace cupel::test
