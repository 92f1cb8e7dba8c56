// The ranking of all pairs: counts of keys, in pages that are made where keys are.
#pragma once

#include <memory>

#include "backend/pair_tile.hpp"
#include "cupel/core/result.hpp"

namespace cupel {

/// A sink of tiles (pair_tile.hpp).
class RankSink {
 public:
  RankSink(const EmbeddingView& view, int threads);
  ~RankSink();
  RankSink(RankSink&&) noexcept;
  RankSink& operator=(RankSink&&) noexcept;

  void begin(int thread, i64 col_first, i64 col_last);
  void take(int thread, const GapTile& tile);
  void end(int thread);
  /// The table of all pairs that were taken. Once.
  RankTable finish();

 private:
  struct Held;
  std::unique_ptr<Held> held_;
};

}  // namespace cupel
