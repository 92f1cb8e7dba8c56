#include "backend/pair_ranks.hpp"

#include <algorithm>
#include <array>
#include <atomic>
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
/// Keys of a cell that are listed before it gets a page: of dot products near zero there are many
/// cells with few keys.
constexpr u32 kLoose = 4096;
/// Threads have counters of their own up to this many; more share theirs.
constexpr int kMostSets = 4;

using Page = std::array<u32, kPageKeys>;

/// Counts of keys, of positives or of negatives.
struct Counters {
  std::vector<std::atomic<Page*>> pages = std::vector<std::atomic<Page*>>(kCells);
  std::vector<u32> listed = std::vector<u32>(kCells);  ///< keys of each cell in `loose`
  std::vector<u32> loose;
  std::vector<u32> carries;  ///< each stands for 2^32 of its key
  std::mutex mutex;          ///< of carries, where threads share

  Counters() = default;
  ~Counters() {
    for (std::atomic<Page*>& page : pages) delete page.load(std::memory_order_relaxed);
  }
  Counters(const Counters&) = delete;
  Counters& operator=(const Counters&) = delete;

  void add_own(u32 key) {
    const std::size_t cell = key >> 16;
    Page* page = pages[cell].load(std::memory_order_relaxed);
    if (page == nullptr) {
      if (listed[cell] < kLoose) {
        loose.push_back(key);
        ++listed[cell];
        return;
      }
      page = new Page{};
      pages[cell].store(page, std::memory_order_relaxed);
    }
    if (++(*page)[key & 0xFFFFU] == 0) carries.push_back(key);
  }

  void add_shared(u32 key) {
    const std::size_t cell = key >> 16;
    Page* page = pages[cell].load(std::memory_order_acquire);
    if (page == nullptr) {
      auto made = std::make_unique<Page>();
      if (pages[cell].compare_exchange_strong(page, made.get(), std::memory_order_acq_rel)) {
        page = made.release();
      }
    }
    std::atomic_ref<u32> count((*page)[key & 0xFFFFU]);
    if (count.fetch_add(1, std::memory_order_relaxed) == 0xFFFFFFFFU) {
      const std::scoped_lock lock(mutex);
      carries.push_back(key);
    }
  }
};

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
  struct Set {
    Counters pos, neg;
  };

  Held(const EmbeddingView& of, int threads)
      : view(of),
        shared(threads > kMostSets),
        sets(static_cast<std::size_t>(std::min(threads, kMostSets))) {
    for (auto& set : sets) set = std::make_unique<Set>();
  }

  template <class Add>
  void take(const GapTile& tile, const Add& add) {
    alignas(64) u32 keys[kTileRows * kTileCols];
    tile_keys(view.domain, tile.gaps, keys);
    for (int r = 0; r < tile.rows; ++r) {
      const u32 own = view.classes[tile.row + r];
      const float* gaps = tile.gaps + r * kTileCols;
      const u32* of_row = keys + r * kTileCols;
      if (tile.whole && tile.classes != GapTile::Classes::kMixed) {
        const bool positive = tile.classes == GapTile::Classes::kOne;
        for (int c = 0; c < kTileCols; ++c) add(of_row[c], positive);
        continue;
      }
      for (int c = 0; c < tile.cols; ++c) {
        if (gaps[c] == gaps[c]) add(of_row[c], view.classes[tile.col + c] == own);
      }
    }
  }

  /// Ascending keys with their counts, over all sets, in the table's form.
  KeyRun<u32> run(Counters Set::*of, u64& rows) {
    std::vector<u32> loose;
    std::vector<u32> carries;
    for (const auto& set : sets) {
      const Counters& counters = (*set).*of;
      loose.insert(loose.end(), counters.loose.begin(), counters.loose.end());
      carries.insert(carries.end(), counters.carries.begin(), counters.carries.end());
    }
    std::sort(loose.begin(), loose.end());
    std::sort(carries.begin(), carries.end());
    Buffer<u32> keys;
    Buffer<u64> counts;
    std::vector<u64> cell_counts;
    auto next = loose.begin();
    auto carry = carries.begin();
    const auto put = [&](u32 key, u64 count) {
      keys.push_back(key);
      counts.push_back(count);
      rows += count;
    };
    for (std::size_t cell = 0; cell < kCells; ++cell) {
      const auto in_cell = [&](auto at, auto end) { return at != end && (*at >> 16) == cell; };
      bool paged = false;
      for (const auto& set : sets) {
        const Page* page = ((*set).*of).pages[cell].load(std::memory_order_relaxed);
        if (page == nullptr) continue;
        if (!paged) cell_counts.assign(kPageKeys, 0);
        paged = true;
        for (std::size_t i = 0; i < kPageKeys; ++i) cell_counts[i] += (*page)[i];
      }
      if (!paged) {
        while (in_cell(next, loose.end())) {
          const u32 key = *next;
          u64 count = 0;
          for (; next != loose.end() && *next == key; ++next) ++count;
          put(key, count);
        }
        continue;
      }
      for (; in_cell(next, loose.end()); ++next) ++cell_counts[*next & 0xFFFFU];
      for (; in_cell(carry, carries.end()); ++carry) cell_counts[*carry & 0xFFFFU] += u64{1} << 32;
      for (std::size_t i = 0; i < kPageKeys; ++i) {
        if (cell_counts[i] != 0) put(static_cast<u32>(cell << 16 | i), cell_counts[i]);
      }
    }
    return canonical_run(std::move(keys), std::move(counts));
  }

  const EmbeddingView& view;
  bool shared;
  std::vector<std::unique_ptr<Set>> sets;
};

RankSink::RankSink(const EmbeddingView& view, int threads)
    : held_(std::make_unique<Held>(view, threads)) {}
RankSink::~RankSink() = default;
RankSink::RankSink(RankSink&&) noexcept = default;
RankSink& RankSink::operator=(RankSink&&) noexcept = default;

void RankSink::begin(int, i64, i64) {}
void RankSink::end(int) {}

void RankSink::take(int thread, const GapTile& tile) {
  Held::Set& set = *held_->sets[static_cast<std::size_t>(thread) % held_->sets.size()];
  if (held_->shared) {
    held_->take(tile, [&](u32 key, bool positive) {
      positive ? set.pos.add_shared(key) : set.neg.add_shared(key);
    });
  } else {
    held_->take(tile, [&](u32 key, bool positive) {
      positive ? set.pos.add_own(key) : set.neg.add_own(key);
    });
  }
}

RankTable RankSink::finish() {
  u64 pos = 0;
  u64 neg = 0;
  KeyRuns<u32> runs;
  runs.pos = held_->run(&Held::Set::pos, pos);
  runs.neg = held_->run(&Held::Set::neg, neg);
  return RankTable(ScoreKind::kF32, false, std::move(runs), pos, neg);
}

}  // namespace cupel
