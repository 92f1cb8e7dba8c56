// Pairs by class at cuts.
#pragma once

#include <mutex>
#include <vector>

#include "backend/pair_tile.hpp"
#include "cupel/core/buffer.hpp"

namespace cupel {

/// A sink of tiles (pair_tile.hpp). Each thread counts in tables of its own, or, where those would
/// take more than kOwnTables bytes together, all in one.
class CutSink {
 public:
  CutSink(const EmbeddingView& view, const PairPass& pass, int threads);

  void begin(int thread, i64 col_first, i64 col_last);
  void take(int thread, const GapTile& tile);
  void end(int thread);
  /// Once. Pairs above every cut are those that are not below one.
  ClassCuts finish();

 private:
  static constexpr std::size_t kOwnTables = std::size_t{256} << 20;
  /// Pairs that a table of u32 takes: each adds at most one to a count.
  static constexpr u64 kMostPairs = u64{1} << 31;

  struct Worker {
    Buffer<u32> pos, neg;  ///< [class][column]; empty: all share
    u64 pairs = 0;
  };
  template <bool kShared>
  void take_base(Worker& worker, const GapTile& tile);
  void take_v4(Worker& worker, const GapTile& tile);
  void flush(Worker& worker);
  /// The first cut that is not below a gap at most the last one.
  std::size_t column_of(float gap) const;

  const EmbeddingView& view_;
  const PairPass& pass_;
  std::size_t columns_ = 0;
  std::vector<float> cuts_;  ///< and +infinity
  float first_ = 0, last_ = 0;
  /// Gaps between the first and the last cut fall into cells; a cell's hint is a column that none
  /// of its gaps is below.
  float per_cell_ = 0;
  std::vector<u32> hints_;
  std::vector<Worker> workers_;
  ClassCuts counts_;
  bool shared_ = false;
  std::mutex mutex_;
};

}  // namespace cupel
