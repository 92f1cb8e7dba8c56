#include "backend/pair_neighbours.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "backend/cpu_level.hpp"
#include "cupel/core/buffer.hpp"

namespace cupel {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr float kAny = std::numeric_limits<float>::infinity();
/// Rows that a list takes beyond those that are wanted before it is cut.
constexpr u32 kSlack = 16;

bool nearer(const Neighbours::One& a, const Neighbours::One& b) {
  return a.key != b.key ? a.key > b.key : a.tie < b.tie;
}

/// How many gaps of a row of a tile are within its bound or within that of their column. NaN is
/// within none.
CUPEL_INLINE int count_within(const float* gaps, float bound, const float* column_bounds) {
  int count = 0;
  for (int c = 0; c < kTileCols; ++c) {
    count += (gaps[c] <= bound ? 1 : 0) | (gaps[c] <= column_bounds[c] ? 1 : 0);
  }
  return count;
}
#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V3 int within_v3(const float* gaps, float bound, const float* column_bounds) {
  return count_within(gaps, bound, column_bounds);
}
CUPEL_TARGET_V4 int within_v4(const float* gaps, float bound, const float* column_bounds) {
  return count_within(gaps, bound, column_bounds);
}
#endif

int within(const float* gaps, float bound, const float* column_bounds) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV4) return within_v4(gaps, bound, column_bounds);
  if (cpu_level() >= CpuLevel::kV3) return within_v3(gaps, bound, column_bounds);
#endif
  return count_within(gaps, bound, column_bounds);
}

}  // namespace

struct NeighbourSink::Held {
  Held(const EmbeddingView& of, std::span<const u32> how_many, int threads)
      : view(of),
        wanted(how_many),
        bounds(how_many.size()),
        locks(how_many.size()),
        counts(how_many.size()),
        workers(static_cast<std::size_t>(threads)) {
    starts.reserve(wanted.size() + 1);
    starts.push_back(0);
    for (std::size_t row = 0; row < wanted.size(); ++row) {
      const u64 room = wanted[row] == 0 ? 0 : u64{wanted[row]} + std::max(wanted[row], kSlack);
      starts.push_back(starts.back() + std::min(room, static_cast<u64>(view.rows)));
      bounds[row].store(wanted[row] == 0 ? kNone : kAny, std::memory_order_relaxed);
    }
    lists.resize(starts.back());
  }

  float bound(i64 row) const {
    return bounds[static_cast<std::size_t>(row)].load(std::memory_order_relaxed);
  }

  /// One row more that may be among the nearest of `of`.
  void offer(i64 of, i64 other, u32 key) {
    const auto row = static_cast<std::size_t>(of);
    while (locks[row].test_and_set(std::memory_order_acquire)) {
    }
    Neighbours::One* list = lists.data() + starts[row];
    const auto room = static_cast<u32>(starts[row + 1] - starts[row]);
    if (counts[row] == room) cut(row);
    list[counts[row]++] = {key, view.ties[other], static_cast<u32>(other)};
    if (counts[row] == room && room > wanted[row]) cut(row);
    locks[row].clear(std::memory_order_release);
  }

  /// Leaves the wanted nearest. With the lock.
  void cut(std::size_t row) {
    if (counts[row] <= wanted[row]) return;
    Neighbours::One* list = lists.data() + starts[row];
    std::nth_element(list, list + wanted[row] - 1, list + counts[row], nearer);
    counts[row] = wanted[row];
    // As near as the worst of these, ties may still come before it.
    bounds[row].store(gap_of_key(view.domain, list[wanted[row] - 1].key),
                      std::memory_order_relaxed);
  }

  struct Worker {
    i64 first = 0;
    std::vector<float> bounds;  ///< of the columns, and of kTileCols more that are none
  };

  const EmbeddingView& view;
  std::span<const u32> wanted;
  std::vector<u64> starts;
  Buffer<Neighbours::One> lists;
  std::vector<std::atomic<float>> bounds;
  std::vector<std::atomic_flag> locks;
  std::vector<u32> counts;
  std::vector<Worker> workers;
};

NeighbourSink::NeighbourSink(const EmbeddingView& view, std::span<const u32> wanted, int threads)
    : held_(std::make_unique<Held>(view, wanted, threads)) {}
NeighbourSink::~NeighbourSink() = default;
NeighbourSink::NeighbourSink(NeighbourSink&&) noexcept = default;
NeighbourSink& NeighbourSink::operator=(NeighbourSink&&) noexcept = default;

void NeighbourSink::begin(int thread, i64 col_first, i64 col_last) {
  Held::Worker& worker = held_->workers[static_cast<std::size_t>(thread)];
  worker.first = col_first;
  worker.bounds.assign(static_cast<std::size_t>(col_last - col_first + kTileCols), kNone);
  for (i64 col = col_first; col < col_last; ++col) {
    worker.bounds[static_cast<std::size_t>(col - col_first)] = held_->bound(col);
  }
}

void NeighbourSink::take(int thread, const GapTile& tile) {
  Held& held = *held_;
  Held::Worker& worker = held.workers[static_cast<std::size_t>(thread)];
  float* column_bounds = worker.bounds.data() + (tile.col - worker.first);
  for (int r = 0; r < tile.rows; ++r) {
    const float* gaps = tile.gaps + r * kTileCols;
    const i64 row = tile.row + r;
    float bound = held.bound(row);
    if (within(gaps, bound, column_bounds) == 0) continue;
    for (int c = 0; c < tile.cols; ++c) {
      const bool near_row = gaps[c] <= bound;
      const bool near_column = gaps[c] <= column_bounds[c];
      if (!near_row && !near_column) continue;
      const u32 key = gap_key(held.view.domain, gaps[c]);
      const i64 column = tile.col + c;
      if (near_row) {
        held.offer(row, column, key);
        bound = held.bound(row);
      }
      if (near_column) {
        held.offer(column, row, key);
        column_bounds[c] = held.bound(column);
      }
    }
  }
}

void NeighbourSink::end(int) {}

Neighbours NeighbourSink::finish() {
  Held& held = *held_;
  Neighbours found;
  found.offsets.push_back(0);
  for (std::size_t row = 0; row < held.wanted.size(); ++row) {
    held.cut(row);
    Neighbours::One* list = held.lists.data() + held.starts[row];
    std::sort(list, list + held.counts[row], nearer);
    found.rows.insert(found.rows.end(), list, list + held.counts[row]);
    found.offsets.push_back(found.rows.size());
  }
  return found;
}

}  // namespace cupel
