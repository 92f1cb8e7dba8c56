#include "backend/pair_neighbours.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <limits>
#include <thread>
#include <vector>

#include "backend/cpu_level.hpp"
#include "cupel/core/buffer.hpp"

namespace cupel {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr float kAny = std::numeric_limits<float>::infinity();
/// Rows that a list takes beyond those that are wanted before it is cut.
constexpr u32 kSlack = 16;
/// Looks at a lock before the processor is left to others.
constexpr int kTries = 64;

bool nearer(const Neighbours::One& a, const Neighbours::One& b) {
  return a.key != b.key ? a.key > b.key : a.tie < b.tie;
}

/// Larger for nearer rows.
u64 nearness(u32 key, u32 tie) { return u64{key} << 32 | static_cast<u32>(~tie); }

/// A bit for each row of a tile that has a gap within the bound of the row or that of its column.
/// NaN is within none.
CUPEL_INLINE u32 find_within(const float* gaps, const float* row_bounds,
                             const float* column_bounds) {
  u32 found = 0;
  for (int r = 0; r < kTileRows; ++r) {
    const float bound = row_bounds[r];
    int count = 0;
    for (int c = 0; c < kTileCols; ++c) {
      const float gap = gaps[r * kTileCols + c];
      count += (gap <= bound ? 1 : 0) | (gap <= column_bounds[c] ? 1 : 0);
    }
    found |= count != 0 ? 1U << r : 0U;
  }
  return found;
}
#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V3 u32 within_v3(const float* gaps, const float* rows, const float* columns) {
  return find_within(gaps, rows, columns);
}
CUPEL_TARGET_V4 u32 within_v4(const float* gaps, const float* rows, const float* columns) {
  return find_within(gaps, rows, columns);
}
#endif

u32 rows_within(const float* gaps, const float* row_bounds, const float* column_bounds) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV4) return within_v4(gaps, row_bounds, column_bounds);
  if (cpu_level() >= CpuLevel::kV3) return within_v3(gaps, row_bounds, column_bounds);
#endif
  return find_within(gaps, row_bounds, column_bounds);
}

}  // namespace

struct NeighbourSink::Held {
  Held(const EmbeddingView& of, std::span<const u32> how_many, int threads)
      : view(of),
        wanted(how_many),
        bounds(how_many.size()),
        worst(how_many.size()),
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
    // Where very many rows are equally near, the bound lets all of them come here.
    const u64 near = nearness(key, view.ties[other]);
    if (near < worst[row].load(std::memory_order_relaxed)) return;
    for (int tries = 0; locks[row].test_and_set(std::memory_order_acquire); ++tries) {
      if (tries >= kTries) std::this_thread::yield();  // who has it may have lost its processor
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
    const Neighbours::One& last = list[wanted[row] - 1];
    worst[row].store(nearness(last.key, last.tie), std::memory_order_relaxed);
    // As near as the worst of these, ties may still come before it.
    bounds[row].store(gap_of_key(view.domain, last.key), std::memory_order_relaxed);
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
  std::vector<std::atomic<u64>>
      worst;  ///< nearness of the worst that is wanted, once there are as many
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
  float row_bounds[kTileRows];
  for (int r = 0; r < kTileRows; ++r) {
    row_bounds[r] = r < tile.rows ? held.bound(tile.row + r) : kNone;
  }
  for (u32 left = rows_within(tile.gaps, row_bounds, column_bounds); left != 0; left &= left - 1) {
    const int r = std::countr_zero(left);
    const float* gaps = tile.gaps + r * kTileCols;
    const i64 row = tile.row + r;
    float bound = row_bounds[r];
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
