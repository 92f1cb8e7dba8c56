// The state of 16-bit scores: rows by key and label, without a sort. Rows are counted in shared
// memory, in those pages of 256 neighbouring scores that a sample of the rows says are the fullest;
// the rest goes to global memory. Which pages are chosen changes the speed, not the counts.
#pragma once

#include "atomic.hpp"
#include "block.hpp"
#include "pipeline/table.hpp"

namespace cupel::device {

inline constexpr i64 kHalfKeys = 65'536;
inline constexpr i64 kPageKeys = 256;
inline constexpr i64 kPages = kHalfKeys / kPageKeys;
inline constexpr u8 kNoSlot = 255;
/// Bytes of shared memory of a page: a counter for each key and label.
inline constexpr i64 kPageBytes = kPageKeys * 2 * static_cast<i64>(sizeof(u32));

/// Which page has which place in shared memory; kNoSlot: none.
struct PageSlots {
  u8 slot[kPages];
  i32 slots = 0;
};

/// Counts the pages of a sample: sample i is row i * step.
struct SamplePages {
  TableOnDevice table;
  i64 column;
  i64 step;
  u32* pages;  ///< [kPages]

  CUPEL_HD void operator()(i64 i) const {
    const u32 key = narrow_key(table.element, table.at(i * step, column));
    atomic_add(&pages[key / kPageKeys], 1u);
  }
};

/// Counts the rows of one problem by cell, key and label. Fewer than 2^32 rows.
struct CountHalves {
  static constexpr int kThreads = 512;
  static constexpr int kItems = 8;

  TableOnDevice table;
  i64 problem;
  i64 cells;  ///< 1: cells are ignored, and only then shared memory is used
  PageSlots pages;
  u32* counts;  ///< [cells][kHalfKeys][2], zeroed before

  CUPEL_HD i64 shared_bytes() const { return pages.slots * kPageBytes; }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    u32* own = reinterpret_cast<u32*>(block.shared());
    const i64 own_counters = pages.slots * kPageKeys * 2;
    block.each([&](int t) {
      for (i64 i = t; i < own_counters; i += kThreads) own[i] = 0;
    });
    block.each([&](int t) {
      const i64 column = table.task == TaskKind::kBinary ? 0 : problem;
      const i64 step = block.count() * kThreads * kItems;
      for (i64 first = (block.index() * kThreads + t) * kItems; first < table.rows; first += step) {
        // Neighbours are counted together while they are equal: equal scores would queue for one
        // counter.
        u32* counter = nullptr;
        u32 pending = 0;
        bool is_own = false;
        for (i64 row = first; row < first + kItems && row < table.rows; ++row) {
          const u32 key = narrow_key(table.element, table.at(row, column));
          const u32 label = table.is_positive(row, problem) ? 1u : 0u;
          const u8 slot = pages.slot[key / kPageKeys];
          const bool shared = cells == 1 && slot != kNoSlot;
          u32* to =
              shared
                  ? own + (slot * kPageKeys + key % kPageKeys) * 2 + label
                  : counts +
                        ((cells == 1 ? 0 : table.cell(row)) * kHalfKeys + static_cast<i64>(key)) *
                            2 +
                        label;
          if (to == counter && shared == is_own) {
            ++pending;
            continue;
          }
          if (pending != 0) atomic_add(counter, pending);
          counter = to;
          is_own = shared;
          pending = 1;
        }
        if (pending != 0) atomic_add(counter, pending);
      }
    });
    block.each([&](int t) {
      for (i64 page = 0; page < kPages; ++page) {
        if (pages.slot[page] == kNoSlot) continue;
        for (i64 i = t; i < kPageKeys * 2; i += kThreads) {
          const u32 count = own[pages.slot[page] * kPageKeys * 2 + i];
          if (count != 0) atomic_add(&counts[page * kPageKeys * 2 + i], count);
        }
      }
    });
  }
};

}  // namespace cupel::device
