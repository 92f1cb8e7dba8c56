// The state of 16-bit scores: rows by key and label, without a sort. Rows are counted in shared
// memory, in those pages of 256 neighbouring scores that a sample of the rows says are the fullest;
// the rest goes to global memory. Which pages are chosen changes the speed, not the counts.
#pragma once

#include <cstddef>

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
  static constexpr int kThreads = 1024;
  static constexpr int kItems = 8;

  TableOnDevice table;
  i64 problem;
  i64 cells;  ///< 1: cells are ignored, and only then shared memory is used
  PageSlots pages;
  u32* counts;  ///< [cells][kHalfKeys][2], zeroed before

  CUPEL_HD i64 shared_bytes() const { return kPages + pages.slots * kPageBytes; }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    // The slots of pages are looked up by neighbouring threads at different places, for which a
    // kernel's parameters are slow.
    u8* slots = block.shared();
    u32* own = reinterpret_cast<u32*>(slots + kPages);
    const i64 own_counters = pages.slots * kPageKeys * 2;
    block.each([&](int t) {
      for (i64 i = t; i < own_counters; i += kThreads) own[i] = 0;
      for (i64 page = t; page < kPages; page += kThreads) {
        slots[page] = cells == 1 ? pages.slot[page] : kNoSlot;
      }
    });
    block.each([&](int t) {
      const i64 step = block.count() * kThreads * kItems;
      for (i64 first = (block.index() * kThreads + t) * kItems; first < table.rows; first += step) {
        Pending pending;
        if (is_packed() && first + kItems <= table.rows) {
          const auto scores = *reinterpret_cast<const Packed<u16>*>(table.at(first, 0));
          const auto labels = *reinterpret_cast<const Packed<u8>*>(table.labels + first);
          CUPEL_UNROLL
          for (int i = 0; i < kItems; ++i) {
            count(slots, own, first + i, key_of_16(scores.of[i]), labels.of[i] != 0, pending);
          }
        } else {
          const i64 column = table.task == TaskKind::kBinary ? 0 : problem;
          for (i64 row = first; row < first + kItems && row < table.rows; ++row) {
            count(slots, own, row, narrow_key(table.element, table.at(row, column)),
                  table.is_positive(row, problem), pending);
          }
        }
        flush(own, pending);
      }
    });
    block.each([&](int t) {
      for (i64 page = 0; page < kPages; ++page) {
        const u8 slot = slots[page];
        if (slot == kNoSlot) continue;
        for (i64 i = t; i < kPageKeys * 2; i += kThreads) {
          const u32 rows = own[slot * kPageKeys * 2 + i];
          if (rows != 0) atomic_add(&counts[page * kPageKeys * 2 + i], rows);
        }
      }
    });
  }

 private:
  /// Neighbours of a column, read at once.
  template <class T>
  struct alignas(kItems * sizeof(T)) Packed {
    T of[kItems];
  };
  /// Neighbours are counted together while they are equal: equal scores would queue for one
  /// counter.
  struct Pending {
    i64 at = 0;
    u32 rows = 0;
    bool is_own = false;
  };
  CUPEL_HD CUPEL_INLINE void flush(u32* own, const Pending& pending) const {
    if (pending.rows == 0) return;
    // Two calls, so that the compiler sees which memory each is about.
    if (pending.is_own) {
      atomic_add(&own[pending.at], pending.rows);
    } else {
      atomic_add(&counts[pending.at], pending.rows);
    }
  }

  /// Whether scores and labels of neighbouring rows are neighbours and begin where they can be read
  /// together: columns do, parts of them mostly.
  CUPEL_HD bool is_packed() const {
    return table.task == TaskKind::kBinary && is_aligned(table.scores, sizeof(Packed<u16>)) &&
           is_aligned(table.labels, sizeof(Packed<u8>));
  }
  CUPEL_HD static bool is_aligned(const unsigned char* at, std::size_t to) {
    return reinterpret_cast<std::size_t>(at) % to == 0;
  }

  CUPEL_HD CUPEL_INLINE void count(const u8* slots, u32* own, i64 row, u32 key, bool positive,
                                   Pending& pending) const {
    const u8 slot = slots[key / kPageKeys];
    const bool is_own = slot != kNoSlot;
    i64 at = 0;
    if (is_own) {
      at = slot * kPageKeys + key % kPageKeys;
    } else {
      at = (cells == 1 ? 0 : table.cell(row)) * kHalfKeys + key;
    }
    at = 2 * at + (positive ? 1 : 0);
    if (at == pending.at && is_own == pending.is_own) {
      ++pending.rows;
      return;
    }
    flush(own, pending);
    pending = {at, 1, is_own};
  }
};

}  // namespace cupel::device
