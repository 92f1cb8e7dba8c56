// Pairs in ranges of gaps, listed.
#pragma once

#include <atomic>
#include <vector>

#include "backend/pair_tile.hpp"

namespace cupel {

/// A sink of tiles (pair_tile.hpp). Whether the list is given up depends on its pairs alone: when 6
/// bytes for each and 12 for each range of each tile that has one are more than the pass allows.
/// Until then each thread takes a chunk more at most.
class ListSink {
 public:
  ListSink(const EmbeddingView& view, const PairPass& pass, int threads);

  void begin(int thread, i64 col_first, i64 col_last);
  void take(int thread, const GapTile& tile);
  void end(int thread);
  /// Once.
  PairList finish();

 private:
  /// Room of a chunk, and what it must have left for one tile.
  static constexpr std::size_t kChunk = std::size_t{1} << 18;
  static constexpr std::size_t kTilePairs = static_cast<std::size_t>(kTileRows) * kTileCols;

  struct Worker {
    std::vector<PairList::Chunk> chunks;
    std::size_t used = 0;  ///< pairs of the last chunk; its buffers are longer
    i64 bytes = 0;         ///< not yet in bytes_
  };
  /// Appends the pairs of a tile in one range; returns how many.
  std::size_t append_base(const GapTile& tile, const GapRange& range, float* gaps,
                          u16* places) const;
  std::size_t append_v4(const GapTile& tile, const GapRange& range, float* gaps, u16* places) const;

  /// Adds what a thread has found to all; returns all of it.
  i64 publish(Worker& worker);

  const EmbeddingView& view_;
  const PairPass& pass_;
  std::vector<Worker> workers_;
  std::atomic<i64> bytes_{0};
};

}  // namespace cupel
