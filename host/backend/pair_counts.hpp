// Pairs by class at cuts.
#pragma once

#include <mutex>
#include <vector>

#include "backend/pair_tile.hpp"
#include "cupel/core/buffer.hpp"

namespace cupel {

/// A sink of tiles (pair_tile.hpp). Each thread counts in tables of its own, or, where those would
/// take more than `own_tables` bytes together, all in one.
class CutSink {
 public:
  static constexpr std::size_t kOwnTables = std::size_t{256} << 20;

  CutSink(const EmbeddingView& view, const PairPass& pass, int threads,
          std::size_t own_tables = kOwnTables);

  void begin(int thread, i64 col_first, i64 col_last);
  void take(int thread, const GapTile& tile);
  void end(int thread);
  /// Once. Pairs above every cut are those that are not below one.
  ClassCuts finish();

 private:
  /// Pairs that a table of u32 takes: each adds at most one to a count.
  static constexpr u64 kMostPairs = u64{1} << 31;

  struct Worker {
    Buffer<u32> pos, neg;  ///< [class][column]; empty: all share
    i64 col_first = 0;
    std::vector<u32> below;  ///< [column of tiles] pairs of two classes at most at the first cut
    u64 pairs = 0;
  };
  struct Between;
  using Count = void (CutSink::*)(Worker& worker, const GapTile& tile, const Between& between);

  template <int kSteps, bool kShared>
  void count(Worker& worker, const GapTile& tile, const Between& between);
  template <int kSteps, bool kShared, bool kOne>
  void count_row(Worker& worker, u32 base, const Between& between, int from, int to);
  template <bool kShared>
  void take_mixed(Worker& worker, const GapTile& tile);
  template <bool kShared>
  void add(Buffer<u32>& own, std::vector<u64>& all, std::size_t at, u32 number);
  void flush(Worker& worker);
  template <int kSteps>
  std::size_t column_of(float gap, u32 cell) const;

  const EmbeddingView& view_;
  const PairPass& pass_;
  std::size_t columns_ = 0;
  std::vector<float> cuts_;  ///< and +infinity
  float first_ = 0, last_ = 0;
  /// Gaps between the first and the last cut fall into cells of one width. A cell's hint is how
  /// many cuts fall into cells before it, all of which are below its gaps.
  float per_cell_ = 0;
  std::vector<u16> hints_;
  Count count_ = nullptr;
  std::vector<Worker> workers_;
  ClassCuts counts_;
  bool shared_ = false;
  std::mutex mutex_;
};

}  // namespace cupel
