// Each row's nearest rows, from tiles in any order.
#pragma once

#include <memory>
#include <span>

#include "backend/pair_tile.hpp"

namespace cupel {

/// A sink of tiles (pair_tile.hpp).
class NeighbourSink {
 public:
  NeighbourSink(const EmbeddingView& view, std::span<const u32> wanted, int threads);
  ~NeighbourSink();
  NeighbourSink(NeighbourSink&&) noexcept;
  NeighbourSink& operator=(NeighbourSink&&) noexcept;

  void begin(int thread, i64 col_first, i64 col_last);
  void take(int thread, const GapTile& tile);
  void end(int thread);
  /// Once.
  Neighbours finish();

 private:
  struct Held;
  std::unique_ptr<Held> held_;
};

}  // namespace cupel
