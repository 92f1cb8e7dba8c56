// Rows to segments: every row's key is written to where the rows of its segment (problem, cell,
// label) lie together. The order inside a segment is of no account, since segments are sorted next.
#pragma once

#include "atomic.hpp"
#include "block.hpp"
#include "pipeline/table.hpp"

namespace cupel::device {

/// Segments whose counters a block keeps in shared memory; with more, every row updates the global
/// ones.
inline constexpr i64 kSharedSegments = 2048;

/// Counts the rows of each segment, and those of positive mass where the table has weights.
struct CountSegments {
  static constexpr int kThreads = 256;
  static constexpr int kItems = 16;

  TableOnDevice table;
  ProblemBlock problems;
  i64 elements;
  u64* rows;      ///< [segments]
  u64* weighing;  ///< [segments]: rows of positive mass; null without weights

  CUPEL_HD i64 shared_bytes() const {
    const i64 counters = problems.segments() <= kSharedSegments ? problems.segments() : 0;
    return counters * (weighing != nullptr ? 2 : 1) * static_cast<i64>(sizeof(u32));
  }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    constexpr i64 kTile = kThreads * kItems;
    const i64 segments = problems.segments();
    const bool in_shared = segments <= kSharedSegments;
    u32* own_rows = reinterpret_cast<u32*>(block.shared());
    u32* own_weighing = own_rows + segments;
    // A block's counters hold 32 bits, so it hands them over before they could overflow.
    constexpr i64 kMostTiles = (i64{1} << 31) / kTile;
    const i64 tiles = (elements + kTile - 1) / kTile;
    for (i64 start = block.index(); start < tiles; start += block.count() * kMostTiles) {
      if (in_shared) {
        block.each([&](int t) {
          for (i64 s = t; s < segments; s += kThreads) {
            own_rows[s] = 0;
            if (weighing != nullptr) own_weighing[s] = 0;
          }
        });
      }
      block.each([&](int t) {
        i64 done = 0;
        for (i64 tile = start; tile < tiles && done < kMostTiles; tile += block.count(), ++done) {
          for (int i = 0; i < kItems; ++i) {
            const i64 element = tile * kTile + i * kThreads + t;
            if (element >= elements) break;
            const i64 row = problems.row(element);
            const i64 segment = problems.segment(table, row, problems.problem(element, row));
            const bool weighs = weighing != nullptr && weight_mass(table.weight(row)).mass != 0;
            if (in_shared) {
              atomic_add(&own_rows[segment], 1u);
              if (weighs) atomic_add(&own_weighing[segment], 1u);
            } else {
              atomic_add(&rows[segment], u64{1});
              if (weighs) atomic_add(&weighing[segment], u64{1});
            }
          }
        }
      });
      if (in_shared) {
        block.each([&](int t) {
          for (i64 s = t; s < segments; s += kThreads) {
            if (own_rows[s] != 0) atomic_add(&rows[s], u64{own_rows[s]});
            if (weighing != nullptr && own_weighing[s] != 0) {
              atomic_add(&weighing[s], u64{own_weighing[s]});
            }
          }
        });
      }
    }
  }
};

/// Writes keys (and weights, of rows of positive mass alone) into their segments. `cursor` starts
/// as the segments' first positions and ends as their last.
template <class Key, class E>
struct PartitionRows {
  static constexpr int kThreads = 256;
  static constexpr int kItems = 8;

  TableOnDevice table;
  E element;
  ProblemBlock problems;
  i64 elements;
  u64* cursor;  ///< [segments]
  Key* keys;
  u64* weights;  ///< the bits of a double a row; null without weights

  CUPEL_HD i64 shared_bytes() const {
    return problems.segments() <= kSharedSegments
               ? problems.segments() * static_cast<i64>(sizeof(u64) + sizeof(u32))
               : 0;
  }

  struct Items {
    Key key[kItems];
    u32 place[kItems];    ///< among the block's rows of the segment
    i32 segment[kItems];  ///< -1: none
  };

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    constexpr i64 kTile = kThreads * kItems;
    const i64 segments = problems.segments();
    const bool in_shared = segments <= kSharedSegments;
    u64* base = reinterpret_cast<u64*>(block.shared());
    u32* count = reinterpret_cast<u32*>(base + segments);
    const i64 tiles = (elements + kTile - 1) / kTile;
    for (i64 tile = block.index(); tile < tiles; tile += block.count()) {
      if (!in_shared) {
        block.each([&](int t) { write_alone(tile * kTile, t); });
        continue;
      }
      typename Block::template PerThread<Items> items;
      block.each([&](int t) {
        for (i64 s = t; s < segments; s += kThreads) count[s] = 0;
      });
      block.each([&](int t) {
        Items& own = items[t];
        CUPEL_UNROLL
        for (int i = 0; i < kItems; ++i) {
          const i64 at = tile * kTile + i * kThreads + t;
          own.segment[i] = -1;
          if (at >= elements) continue;
          const i64 row = problems.row(at);
          if (weights != nullptr && weight_mass(table.weight(row)).mass == 0) continue;
          const i64 problem = problems.problem(at, row);
          own.key[i] = key_of<Key>(table, element, row, problem_column(problem));
          own.segment[i] = static_cast<i32>(problems.segment(table, row, problem));
          own.place[i] = atomic_add(&count[own.segment[i]], 1u);
        }
      });
      block.each([&](int t) {
        for (i64 s = t; s < segments; s += kThreads) {
          if (count[s] != 0) base[s] = atomic_add(&cursor[s], u64{count[s]});
        }
      });
      block.each([&](int t) {
        const Items& own = items[t];
        CUPEL_UNROLL
        for (int i = 0; i < kItems; ++i) {
          if (own.segment[i] < 0) continue;
          const u64 to = base[own.segment[i]] + own.place[i];
          keys[to] = own.key[i];
          if (weights != nullptr) {
            weights[to] =
                bits_from_double(table.weight(problems.row(tile * kTile + i * kThreads + t)));
          }
        }
      });
    }
  }

 private:
  CUPEL_HD i64 problem_column(i64 problem) const {
    return table.task == TaskKind::kBinary ? 0 : problem;
  }

  CUPEL_HD void write_alone(i64 first, int t) const {
    for (int i = 0; i < kItems; ++i) {
      const i64 at = first + i * kThreads + t;
      if (at >= elements) return;
      const i64 row = problems.row(at);
      if (weights != nullptr && weight_mass(table.weight(row)).mass == 0) continue;
      const i64 problem = problems.problem(at, row);
      const u64 to = atomic_add(&cursor[problems.segment(table, row, problem)], u64{1});
      keys[to] = key_of<Key>(table, element, row, problem_column(problem));
      if (weights != nullptr) weights[to] = bits_from_double(table.weight(row));
    }
  }
};

}  // namespace cupel::device
