#include "backend/pair_ranks.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "backend/cpu_level.hpp"
#include "cupel/core/buffer.hpp"

namespace cupel {
namespace {

/// Keys with equal upper halves are a cell, whose page counts each lower half.
constexpr std::size_t kCells = std::size_t{1} << 16;
constexpr std::size_t kPageKeys = std::size_t{1} << 16;
/// Keys of a cell that a thread collects before it counts them: of dot products near zero there are
/// many cells with few keys, which never get a page.
constexpr u32 kMostKept = 16384;
constexpr u32 kMostKeptOfMany = 4096;  ///< with more threads than kFewThreads: of each of them
constexpr int kFewThreads = 8;
constexpr u32 kFirstKept = 16;
constexpr std::size_t kLocks = 1024;
/// Fewer rows than this have so few pairs that their keys are sorted: going over all cells costs
/// more, and groups of rows are many.
constexpr i64 kFewRows = 256;

using Page = std::array<u16, kPageKeys>;

/// Counts of keys, of positives or of negatives, of all threads.
class Counters {
 public:
  void add(std::size_t cell, const u16* lows, u32 count) {
    const std::scoped_lock lock(locks_[cell % kLocks]);
    if (pages_[cell] == nullptr) pages_[cell] = std::make_unique<Page>();
    Page& page = *pages_[cell];
    for (u32 i = 0; i < count; ++i) {
      if (++page[lows[i]] != 0) continue;
      const std::scoped_lock more(carry_lock_);
      carries_.push_back(static_cast<u32>(cell << 16 | lows[i]));
    }
  }

  // Once the threads are done:
  const Page* page(std::size_t cell) const { return pages_[cell].get(); }
  void drop(std::size_t cell) { pages_[cell].reset(); }
  std::vector<u32> sorted_carries() {
    std::sort(carries_.begin(), carries_.end());
    return std::move(carries_);
  }

 private:
  std::vector<std::unique_ptr<Page>> pages_ = std::vector<std::unique_ptr<Page>>(kCells);
  std::vector<std::mutex> locks_ = std::vector<std::mutex>(kLocks);
  std::mutex carry_lock_;
  std::vector<u32> carries_;  ///< each stands for 2^16 of its key
};

/// The lower halves of a cell's keys that a thread has met and not yet counted.
struct Kept {
  std::unique_ptr<u16[]> lows;
  u32 count = 0;
  u32 room = 0;
};

/// Counters at random places of some megabytes would be waited for one by one: a thread collects
/// the keys of each cell first, and then works on one page at a time.
class Collector {
 public:
  Collector(Counters& counters, u32 most_kept)
      : counters_(counters), most_kept_(most_kept), cells_(kCells) {}

  CUPEL_INLINE void push_back(u32 key) {
    Kept& kept = cells_[key >> 16];
    if (kept.count == kept.room) make_room(kept, key >> 16);
    kept.lows[kept.count++] = static_cast<u16>(key);
  }
  Kept& of(std::size_t cell) { return cells_[cell]; }

 private:
  void make_room(Kept& kept, std::size_t cell) {
    if (kept.room == most_kept_) {
      counters_.add(cell, kept.lows.get(), kept.count);
      kept.count = 0;
      return;
    }
    const u32 room = kept.room == 0 ? kFirstKept : kept.room * 4;
    auto more = std::make_unique_for_overwrite<u16[]>(room);
    std::copy_n(kept.lows.get(), kept.count, more.get());
    kept.lows = std::move(more);
    kept.room = room;
  }

  Counters& counters_;
  u32 most_kept_;
  std::vector<Kept> cells_;
};

u64 distinct_of(const std::vector<u16>& ascending) {
  u64 distinct = ascending.empty() ? 0 : 1;
  for (std::size_t i = 1; i < ascending.size(); ++i) {
    distinct += ascending[i] != ascending[i - 1] ? 1 : 0;
  }
  return distinct;
}

/// A whole tile's keys; those of NaN are of no use.
template <PairDomain kDomain>
CUPEL_INLINE void keys_of(const float* gaps, u32* keys) {
  for (int i = 0; i < kTileRows * kTileCols; ++i) keys[i] = gap_key(kDomain, gaps[i]);
}
CUPEL_INLINE void keys_of_any(PairDomain domain, const float* gaps, u32* keys) {
  domain == PairDomain::kL2 ? keys_of<PairDomain::kL2>(gaps, keys)
                            : keys_of<PairDomain::kCosine>(gaps, keys);
}
#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V3 void keys_v3(PairDomain domain, const float* gaps, u32* keys) {
  keys_of_any(domain, gaps, keys);
}
CUPEL_TARGET_V4 void keys_v4(PairDomain domain, const float* gaps, u32* keys) {
  keys_of_any(domain, gaps, keys);
}
#endif

void tile_keys(PairDomain domain, const float* gaps, u32* keys) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV4) return keys_v4(domain, gaps, keys);
  if (cpu_level() >= CpuLevel::kV3) return keys_v3(domain, gaps, keys);
#endif
  keys_of_any(domain, gaps, keys);
}

}  // namespace

struct RankSink::Held {
  struct Worker {
    std::unique_ptr<Collector> pos, neg;
    std::vector<u32> few_pos, few_neg;
  };

  Held(const EmbeddingView& of, int threads)
      : view(of),
        few(of.rows < kFewRows),
        most_kept(threads > kFewThreads ? kMostKeptOfMany : kMostKept),
        workers(static_cast<std::size_t>(threads)) {
    if (few) return;
    pos = std::make_unique<Counters>();
    neg = std::make_unique<Counters>();
  }

  template <class Collect>
  void take(const GapTile& tile, Collect& of_pos, Collect& of_neg) {
    alignas(64) u32 keys[kTileRows * kTileCols];
    tile_keys(view.domain, tile.gaps, keys);
    if (tile.whole && tile.classes != GapTile::Classes::kMixed) {
      Collect& to = tile.classes == GapTile::Classes::kOne ? of_pos : of_neg;
      for (const u32 key : keys) to.push_back(key);
      return;
    }
    for (int r = 0; r < tile.rows; ++r) {
      const u32 own = view.classes[tile.row + r];
      for (int c = 0; c < tile.cols; ++c) {
        const int at = r * kTileCols + c;
        if (std::isnan(tile.gaps[at])) continue;
        (view.classes[tile.col + c] == own ? of_pos : of_neg).push_back(keys[at]);
      }
    }
  }

  KeyRun<u32> sorted(std::vector<u32> Worker::*of, u64& rows) {
    Buffer<u32> keys;
    for (const Worker& worker : workers) {
      keys.insert(keys.end(), (worker.*of).begin(), (worker.*of).end());
    }
    rows = keys.size();
    std::sort(keys.begin(), keys.end());
    return canonical_run(std::move(keys));
  }

  /// What threads have kept of a cell.
  void take_kept(std::unique_ptr<Collector> Worker::*of, std::size_t cell, std::vector<u16>& lows) {
    lows.clear();
    for (Worker& worker : workers) {
      if ((worker.*of) == nullptr) continue;
      Kept& kept = (worker.*of)->of(cell);
      lows.insert(lows.end(), kept.lows.get(), kept.lows.get() + kept.count);
      kept = {};
    }
  }

  /// Ascending keys with their counts, in the table's form.
  KeyRun<u32> run(Counters& counters, std::unique_ptr<Collector> Worker::*of, u64& rows) {
    // First all keys go to pages or, of cells with few, to sorted lists. That tells how many there
    // are, and so the form of the table: there is not always room for the other.
    u64 distinct = 0;
    Buffer<u16> listed;
    std::vector<std::size_t> listed_end(kCells);
    std::vector<u16> lows;
    for (std::size_t cell = 0; cell < kCells; ++cell) {
      take_kept(of, cell, lows);
      if (counters.page(cell) != nullptr || lows.size() >= kMostKept) {
        counters.add(cell, lows.data(), static_cast<u32>(lows.size()));
      } else {
        std::sort(lows.begin(), lows.end());
        listed.insert(listed.end(), lows.begin(), lows.end());
        rows += lows.size();
        distinct += distinct_of(lows);
      }
      listed_end[cell] = listed.size();
    }
    const std::vector<u32> carries = counters.sorted_carries();
    for (std::size_t cell = 0; cell < kCells; ++cell) {
      if (const Page* page = counters.page(cell)) {
        for (const u16 count : *page) {
          rows += count;
          distinct += count != 0 ? 1 : 0;
        }
      }
    }
    rows += u64{carries.size()} << 16;
    for (std::size_t i = 0; i < carries.size(); ++i) {
      if (i > 0 && carries[i] == carries[i - 1]) continue;
      distinct += (*counters.page(carries[i] >> 16))[carries[i] & 0xFFFFU] == 0 ? 1 : 0;
    }

    const bool counted = is_counted_form<u32>(rows, distinct);
    KeyRun<u32> run;
    run.keys.reserve(counted ? distinct : rows);
    run.counts.reserve(counted ? distinct : 0);
    const auto put = [&](std::size_t key, u64 count) {
      if (counted) {
        run.keys.push_back(static_cast<u32>(key));
        run.counts.push_back(count);
      } else {
        run.keys.insert(run.keys.end(), count, static_cast<u32>(key));
      }
    };
    auto carry = carries.begin();
    std::vector<u64> all;
    std::size_t next = 0;
    for (std::size_t cell = 0; cell < kCells; ++cell) {
      while (next < listed_end[cell]) {
        const std::size_t first = next;
        while (next < listed_end[cell] && listed[next] == listed[first]) ++next;
        put(cell << 16 | listed[first], next - first);
      }
      const Page* page = counters.page(cell);
      if (page == nullptr) continue;
      all.assign(page->begin(), page->end());
      counters.drop(cell);
      for (; carry != carries.end() && (*carry >> 16) == cell; ++carry) {
        all[*carry & 0xFFFFU] += u64{1} << 16;
      }
      for (std::size_t low = 0; low < kPageKeys; ++low) {
        if (all[low] != 0) put(cell << 16 | low, all[low]);
      }
    }
    return run;
  }

  const EmbeddingView& view;
  bool few;
  u32 most_kept;
  std::unique_ptr<Counters> pos, neg;
  std::vector<Worker> workers;
};

RankSink::RankSink(const EmbeddingView& view, int threads)
    : held_(std::make_unique<Held>(view, threads)) {}
RankSink::~RankSink() = default;
RankSink::RankSink(RankSink&&) noexcept = default;
RankSink& RankSink::operator=(RankSink&&) noexcept = default;

void RankSink::begin(int thread, i64, i64) {
  Held::Worker& worker = held_->workers[static_cast<std::size_t>(thread)];
  if (held_->few || worker.neg != nullptr) return;  // the one that is made last
  worker.pos = std::make_unique<Collector>(*held_->pos, held_->most_kept);
  worker.neg = std::make_unique<Collector>(*held_->neg, held_->most_kept);
}

void RankSink::take(int thread, const GapTile& tile) {
  Held::Worker& worker = held_->workers[static_cast<std::size_t>(thread)];
  held_->few ? held_->take(tile, worker.few_pos, worker.few_neg)
             : held_->take(tile, *worker.pos, *worker.neg);
}

void RankSink::end(int) {}

RankTable RankSink::finish() {
  u64 pos = 0;
  u64 neg = 0;
  KeyRuns<u32> runs;
  if (held_->few) {
    runs.pos = held_->sorted(&Held::Worker::few_pos, pos);
    runs.neg = held_->sorted(&Held::Worker::few_neg, neg);
  } else {
    runs.pos = held_->run(*held_->pos, &Held::Worker::pos, pos);
    runs.neg = held_->run(*held_->neg, &Held::Worker::neg, neg);
  }
  return RankTable(ScoreKind::kF32, false, std::move(runs), pos, neg);
}

}  // namespace cupel
