// A pass over pairs of rows of an embedding, on the host: tiles of gaps, and what reads them.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <new>
#include <optional>
#include <vector>

#include "backend/pair_counts.hpp"
#include "backend/pair_list.hpp"
#include "backend/pair_neighbours.hpp"
#include "backend/pair_products.hpp"
#include "backend/pair_ranks.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/backend/backend.hpp"

namespace cupel {
namespace {

/// Packed columns of an item of work: what stays in the second-level cache while rows go by.
constexpr i64 kPackedBytes = i64{400} << 10;
constexpr i64 kMostPanels = 16;
/// Rows of an item: enough to make packing cheap, few enough to balance.
constexpr i64 kMostItemRows = 4096;
constexpr i64 kLeastItemRows = 256;
constexpr i64 kItemsOfThread = 16;

struct Item {
  i64 row_first = 0, row_last = 0;
  i64 col_first = 0, col_last = 0;
};

class HostPass {
 public:
  HostPass(const EmbeddingView& view, const PairPass& pass, int threads,
           const PairProgress& progress)
      : view_(view),
        pass_(pass),
        items_(plan(threads)),
        pool_(static_cast<int>(std::clamp<i64>(static_cast<i64>(items_.size()), 1, threads))),
        progress_(progress) {
    if (!pass.cuts.empty()) cuts_.emplace(view, pass, pool_.threads());
    if (pass.ranks) ranks_.emplace(view, pool_.threads());
    if (!pass.neighbours.empty()) neighbours_.emplace(view, pass.neighbours, pool_.threads());
    if (!pass.kept.empty()) list_.emplace(view, pass, pool_.threads());
  }

  PairStates run() {
    std::vector<std::vector<PackedColumns>> packed(static_cast<std::size_t>(pool_.threads()));
    pool_.parallel_for(static_cast<i64>(items_.size()), [&](int thread, i64 index) {
      if (failed_.load(std::memory_order_relaxed)) return;
      try {
        work(thread, items_[static_cast<std::size_t>(index)],
             packed[static_cast<std::size_t>(thread)]);
      } catch (...) {
        failed_.store(true, std::memory_order_relaxed);  // the rest would be in vain
        throw;
      }
    });
    PairStates states;
    if (cuts_) states.cuts = cuts_->finish();
    if (ranks_) states.ranks = ranks_->finish();
    if (neighbours_) states.neighbours = neighbours_->finish();
    if (list_) states.kept = list_->finish();
    if (progress_) progress_(pass_.pairs());
    return states;
  }

 private:
  /// Columns from behind to in front: the largest items first.
  std::vector<Item> plan(int threads) const {
    const i64 panel_bytes = view_.width * kTileCols * static_cast<i64>(sizeof(float));
    const i64 step = std::clamp<i64>(kPackedBytes / panel_bytes, 1, kMostPanels) * kTileCols;
    std::vector<Item> items;
    for (i64 rows = kMostItemRows;; rows /= 2) {
      items.clear();
      for (i64 last = pass_.b_last; last > pass_.b_first; last -= step) {
        const i64 first = std::max(pass_.b_first, last - step);
        const i64 row_end = std::min(pass_.a_last, last - 1);
        for (i64 row = pass_.a_first; row < row_end; row += rows) {
          items.push_back({row, std::min(row + rows, row_end), first, last});
        }
      }
      const bool enough = static_cast<i64>(items.size()) >= kItemsOfThread * threads;
      if (threads == 1 || enough || rows <= kLeastItemRows) return items;
    }
  }

  template <class Call>
  void each_sink(const Call& call) {
    if (cuts_) call(*cuts_);
    if (ranks_) call(*ranks_);
    if (neighbours_) call(*neighbours_);
    if (list_) call(*list_);
  }

  void work(int thread, const Item& item, std::vector<PackedColumns>& packed) {
    alignas(64) float gaps[kTileRows * kTileCols];
    std::size_t panels = 0;
    for (i64 col = item.col_first; col < item.col_last; col += kTileCols) {
      const i64 count = std::min<i64>(kTileCols, item.col_last - col);
      if (panels == packed.size()) packed.emplace_back();
      pack_columns(view_, col, static_cast<int>(count), packed[panels++]);
    }
    each_sink([&](auto& sink) { sink.begin(thread, item.col_first, item.col_last); });
    for (i64 row = item.row_first; row < item.row_last; row += kTileRows) {
      const auto rows = static_cast<int>(std::min<i64>(kTileRows, item.row_last - row));
      for (std::size_t p = 0; p < panels; ++p) {
        if (row >= packed[p].first + packed[p].count - 1) continue;  // no pair with i < j
        const GapTile tile = make_tile(view_, row, rows, packed[p], gaps);
        each_sink([&](auto& sink) { sink.take(thread, tile); });
      }
    }
    each_sink([&](auto& sink) { sink.end(thread); });
    if (!progress_) return;
    PairPass part;
    part.a_first = item.row_first;
    part.a_last = item.row_last;
    part.b_first = item.col_first;
    part.b_last = item.col_last;
    done_.fetch_add(part.pairs(), std::memory_order_relaxed);
    if (const std::unique_lock lock(telling_, std::try_to_lock); lock.owns_lock()) {
      progress_(done_.load(std::memory_order_relaxed));
    }
  }

  const EmbeddingView& view_;
  const PairPass& pass_;
  std::vector<Item> items_;
  ThreadPool pool_;
  const PairProgress& progress_;
  std::optional<CutSink> cuts_;
  std::optional<RankSink> ranks_;
  std::optional<NeighbourSink> neighbours_;
  std::optional<ListSink> list_;
  std::atomic<bool> failed_{false};
  std::atomic<u64> done_{0};
  std::mutex telling_;
};

}  // namespace

Result<PairStates> Backend::embedding_pairs(const EmbeddingView& view, const PairPass& pass,
                                            int threads, const PairProgress& progress) {
  try {
    return HostPass(view, pass, std::max(threads, 1), progress).run();
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kInternal,
                 {},
                 fmt::format("there is not enough memory for a pass over {} pairs of {} classes",
                             pass.pairs(), view.class_count),
                 "ask for fewer thresholds or metrics at a time"};
  } catch (const std::exception& failure) {
    return Error{ErrorCode::kInternal, {}, failure.what(), {}};
  }
}

}  // namespace cupel
