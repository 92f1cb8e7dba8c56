// Pairs of rows of an embedding. A block takes tiles of 128 x 128 pairs: slices of the rows'
// elements pass through shared memory, each thread keeps 8 x 8 chains of fused operations in
// registers (k ascending from +0, never split), and what is asked is counted before the next tile.
// No pair is stored but where a list or nearest rows are wanted.
#pragma once

#include "atomic.hpp"
#include "block.hpp"
#include "cupel/math/embedding.hpp"

namespace cupel::device {

/// Rows and columns of a tile: those of a panel.
inline constexpr int kPanelRows = 128;
/// Elements of a row that are in shared memory at a time.
inline constexpr int kSliceElements = 8;
inline constexpr int kSliceFloats = kPanelRows * kSliceElements;
inline constexpr int kPairThreads = 256;
/// While one block waits at a barrier the other computes: at most 128 registers a thread.
inline constexpr int kPairBlocks = 2;
/// Chains of a thread: so many rows by so many columns.
inline constexpr int kOwnRows = 8;
/// Two slices of both sides; free between the products of a tile and those of the next.
inline constexpr i64 kSlicesBytes = 4 * kSliceFloats * static_cast<i64>(sizeof(float));

/// An embedding on the device. Rows and elements are filled up with zeros to whole panels and
/// slices: what they add to a chain changes no gap.
struct EmbeddingOnDevice {
  PairDomain domain = PairDomain::kL2;
  i64 rows = 0;
  i64 slices = 0;
  const float* panels = nullptr;   ///< [panel][slice][kSliceElements][kPanelRows], 16-byte aligned
  const float* squares = nullptr;  ///< [rows]
  const u32* classes = nullptr;    ///< [rows] ascending

  CUPEL_HD CUPEL_INLINE i64 slice_at(i64 panel, i64 number) const {
    return (panel * slices + number) * kSliceFloats;
  }
};

/// The pairs (i, j) of a launch: i of one side, j of the other, i < j; and the panels they are in.
struct PairPanels {
  i32 a_first = 0, a_last = 0;
  i32 b_first = 0, b_last = 0;
  i32 row_first = 0, row_panels = 0;
  i32 col_first = 0, col_panels = 0;
  /// Pairs (i, j) whose sides are the other way round count as well, with j < i.
  bool both = false;

  CUPEL_HD CUPEL_INLINE i64 tiles() const { return i64{row_panels} * col_panels; }
  CUPEL_HD CUPEL_INLINE bool has(i32 i, i32 j) const {
    if (i >= a_first && i < a_last && j >= b_first && j < b_last && i < j) return true;
    return both && j >= a_first && j < a_last && i >= b_first && i < b_last && j < i;
  }
};

/// Rows [first, first + count) as they lie on the host, put into panels: element i of them all.
struct PackPanels {
  const float* values;  ///< [count] of `stride` floats
  i64 first = 0;
  i64 count = 0;
  i64 width = 0;
  i64 stride = 0;
  i64 slices = 0;
  float* panels = nullptr;

  /// Panels that the rows fill, the last one perhaps in part.
  CUPEL_HD i64 size() const {
    return (count + kPanelRows - 1) / kPanelRows * slices * kSliceFloats;
  }
  CUPEL_HD void operator()(i64 i) const {
    const i64 row = i / (slices * kSliceFloats) * kPanelRows + i % kPanelRows;
    const i64 k = i % (slices * kSliceFloats) / kPanelRows;
    panels[first / kPanelRows * slices * kSliceFloats + i] =
        row < count && k < width ? values[row * stride + k] : 0.0F;
  }
};

/// A thread's chains; its rows and columns are two runs of four, 64 apart.
struct PairSums {
  float at[kOwnRows][kOwnRows];
};
CUPEL_HD CUPEL_INLINE int own_row(int t, int r) {
  return t / 16 * 4 + (r < 4 ? r : kPanelRows / 2 + r - 4);
}
CUPEL_HD CUPEL_INLINE int own_col(int t, int c) {
  return t % 16 * 4 + (c < 4 ? c : kPanelRows / 2 + c - 4);
}

struct alignas(16) FourFloats {
  float at[4];
};

/// What a thread brings of a slice of both sides.
struct PairFetch {
  static_assert(kSliceFloats == 4 * kPairThreads);
  FourFloats a;
  FourFloats b;
  CUPEL_HD CUPEL_INLINE void read(const float* of_a, const float* of_b, int t) {
    a = reinterpret_cast<const FourFloats*>(of_a)[t];
    b = reinterpret_cast<const FourFloats*>(of_b)[t];
  }
  CUPEL_HD CUPEL_INLINE void write(float* to_a, float* to_b, int t) const {
    reinterpret_cast<FourFloats*>(to_a)[t] = a;
    reinterpret_cast<FourFloats*>(to_b)[t] = b;
  }
};

/// One element more of each chain, kSliceElements times.
CUPEL_HD CUPEL_INLINE void add_slice(const float* of_a, const float* of_b, int t, PairSums& sums) {
  CUPEL_UNROLL
  for (int k = 0; k < kSliceElements; ++k) {
    FourFloats a[2];
    FourFloats b[2];
    CUPEL_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int at = k * kPanelRows + half * (kPanelRows / 2);
      a[half] = *reinterpret_cast<const FourFloats*>(of_a + at + t / 16 * 4);
      b[half] = *reinterpret_cast<const FourFloats*>(of_b + at + t % 16 * 4);
    }
    CUPEL_UNROLL
    for (int r = 0; r < kOwnRows; ++r) {
      CUPEL_UNROLL
      for (int c = 0; c < kOwnRows; ++c) {
        sums.at[r][c] = add_product(sums.at[r][c], a[r / 4].at[r % 4], b[c / 4].at[c % 4]);
      }
    }
  }
}

/// Calls visit(row panel, column panel, sums) for the block's tiles, when their dot products are
/// there. The block's first kSlicesBytes of shared memory are the visitor's until it returns, after
/// a barrier.
template <class Block, class Visit>
CUPEL_HD CUPEL_INLINE void each_pair_tile(Block& block, const EmbeddingOnDevice& rows,
                                          const PairPanels& panels, const Visit& visit) {
  float* shared = reinterpret_cast<float*>(block.shared());
  typename Block::template PerThread<PairSums> sums;
  typename Block::template PerThread<PairFetch> fetch;
  const i32 tiles = static_cast<i32>(panels.tiles());
  const i32 step = static_cast<i32>(block.count());
  for (i32 tile = static_cast<i32>(block.index()); tile < tiles; tile += step) {
    // Neighbouring blocks share a column panel, so that both sides stay in the second-level cache.
    const i32 row_panel = panels.row_first + tile % panels.row_panels;
    const i32 col_panel = panels.col_first + tile / panels.row_panels;
    if (col_panel < row_panel && !panels.both) continue;
    const float* of_a = rows.panels + rows.slice_at(row_panel, 0);
    const float* of_b = rows.panels + rows.slice_at(col_panel, 0);
    block.each([&](int t) {
      CUPEL_UNROLL
      for (int r = 0; r < kOwnRows; ++r) {
        CUPEL_UNROLL
        for (int c = 0; c < kOwnRows; ++c) sums[t].at[r][c] = 0;
      }
      fetch[t].read(of_a, of_b, t);
      fetch[t].write(shared, shared + kSliceFloats, t);
    });
    const i32 slices = static_cast<i32>(rows.slices);
    for (i32 slice = 0; slice < slices; ++slice) {
      const bool more = slice + 1 < slices;
      of_a += kSliceFloats;
      of_b += kSliceFloats;
      block.each([&](int t) {
        if (more) fetch[t].read(of_a, of_b, t);
        const float* now = shared + (slice & 1) * (2 * kSliceFloats);
        add_slice(now, now + kSliceFloats, t, sums[t]);
        float* then = shared + ((slice + 1) & 1) * (2 * kSliceFloats);
        if (more) fetch[t].write(then, then + kSliceFloats, t);
      });
    }
    visit(row_panel, col_panel, sums);
  }
}

/// Calls take(row, col, gap) for the pairs of a thread, places within the tile. The gaps of a row
/// go through `stage`, [kOwnRows][kPairThreads] floats of shared memory, so that what is done with
/// them is a loop and not 64 copies.
inline constexpr i64 kStageBytes = kOwnRows * kPairThreads * static_cast<i64>(sizeof(float));
template <class Take>
CUPEL_HD CUPEL_INLINE void each_own_gap(const EmbeddingOnDevice& rows, const PairPanels& panels,
                                        i32 row_panel, i32 col_panel, int t, const PairSums& sums,
                                        float* stage, const Take& take) {
  const i32 row_base = row_panel * kPanelRows;
  const i32 col_base = col_panel * kPanelRows;
  float squares[kOwnRows];
  CUPEL_UNROLL
  for (int c = 0; c < kOwnRows; ++c) {
    const i32 j = col_base + own_col(t, c);
    squares[c] = j < rows.rows ? rows.squares[j] : 0.0F;
  }
  CUPEL_UNROLL
  for (int r = 0; r < kOwnRows; ++r) {
    const i32 i = row_base + own_row(t, r);
    const float square = i < rows.rows ? rows.squares[i] : 0.0F;
    u32 there = 0;
    CUPEL_UNROLL
    for (int c = 0; c < kOwnRows; ++c) {
      stage[c * kPairThreads + t] = pair_gap(rows.domain, sums.at[r][c], square, squares[c]);
      if (panels.has(i, col_base + own_col(t, c))) there |= u32{1} << c;
    }
#if defined(__CUDACC__)
#pragma unroll 1
#endif
    for (int c = 0; c < kOwnRows; ++c) {
      if ((there >> c & 1U) != 0) take(own_row(t, r), own_col(t, c), stage[c * kPairThreads + t]);
    }
  }
}

/// Counts by class at ascending cuts, [class][cut]: the first cut that is not below a gap. Pairs
/// above the last one are not counted. What a tile finds is added up in shared memory first: at the
/// first cut by row and by column of the tile, at the others by the classes of its rows where these
/// are few enough.
struct PairCuts {
  static constexpr int kThreads = kPairThreads;
  static constexpr int kLeastBlocks = kPairBlocks;
  static constexpr i64 kSharedBytes = 48 * 1024;
  /// Behind the stage: classes and segments of both sides, counters at the first cut.
  static constexpr int kTables = 7;
  static constexpr i64 kTableBytes = kTables * kPanelRows * static_cast<i64>(sizeof(u32));
  static constexpr i64 kCounters =
      (kSharedBytes - kStageBytes - kTableBytes) / static_cast<i64>(sizeof(u32));

  EmbeddingOnDevice rows;
  PairPanels panels;
  /// [rows] how many classes a panel has before that of a row.
  const u32* segments = nullptr;
  const float* cuts = nullptr;
  i64 cut_count = 0;
  u64* pos = nullptr;
  u64* neg = nullptr;

  CUPEL_HD i64 shared_bytes() const { return kSharedBytes; }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    float* stage = reinterpret_cast<float*>(block.shared());
    u32* tables = reinterpret_cast<u32*>(block.shared() + kStageBytes);
    const Side a = side_of(tables);
    const Side b = side_of(tables + 3 * kPanelRows);
    u32* pos_first = tables + 6 * kPanelRows;
    u32* counters = tables + kTables * kPanelRows;
    const float first = cuts[0];
    const float last = cuts[cut_count - 1];
    const i64 behind = cut_count - 1;  // cuts behind the first
    each_pair_tile(block, rows, panels, [&](i32 row_panel, i32 col_panel, auto& sums) {
      const i64 segments_a = segments_of(row_panel);
      const i64 segments_b = segments_of(col_panel);
      const i64 needed = (2 * segments_a + segments_b) * behind;
      const bool in_shared = needed <= kCounters;
      block.each([&](int t) {
        const bool of_a = t < kPanelRows;
        const int own = of_a ? t : t - kPanelRows;
        load(side_of(of_a ? tables : tables + 3 * kPanelRows), of_a ? row_panel : col_panel, own);
        if (of_a) pos_first[own] = 0;
        for (i64 at = t; in_shared && at < needed; at += kThreads) counters[at] = 0;
      });
      u32* const pos_counters = counters + (segments_a + segments_b) * behind;
      block.each([&](int t) {
        each_own_gap(rows, panels, row_panel, col_panel, t, sums[t], stage,
                     [&](int row, int col, float gap) {
                       if (!(gap <= last)) return;
                       const u32 cls = a.classes[row];
                       const u32 other = b.classes[col];
                       const bool same = cls == other;
                       if (gap <= first) {
                         if (same) {
                           atomic_add(&pos_first[row], u32{1});
                         } else {
                           atomic_add(&a.first[row], u32{1});
                           atomic_add(&b.first[col], u32{1});
                         }
                         return;
                       }
                       const i64 column = column_of(gap);
                       if (in_shared) {
                         const i64 at = a.segments[row] * behind + column - 1;
                         if (same) {
                           atomic_add(&pos_counters[at], u32{1});
                         } else {
                           atomic_add(&counters[at], u32{1});
                           atomic_add(
                               &counters[(segments_a + b.segments[col]) * behind + column - 1],
                               u32{1});
                         }
                       } else if (same) {
                         atomic_add(&pos[cls * cut_count + column], u64{1});
                       } else {
                         atomic_add(&neg[cls * cut_count + column], u64{1});
                         atomic_add(&neg[other * cut_count + column], u64{1});
                       }
                     });
      });
      block.each([&](int t) {
        const bool of_a = t < kPanelRows;
        const int own = of_a ? t : t - kPanelRows;
        const Side side = side_of(of_a ? tables : tables + 3 * kPanelRows);
        add(neg, side.classes[own], 0, side.first[own]);
        if (of_a) add(pos, side.classes[own], 0, pos_first[own]);
        for (i64 at = t; in_shared && at < needed; at += kThreads) {
          const u32 count = counters[at];
          if (count == 0) continue;
          const i64 segment = at / behind;
          const i64 column = at - segment * behind + 1;
          if (segment < segments_a) {
            add(neg, class_of(row_panel, segment), column, count);
          } else if (segment < segments_a + segments_b) {
            add(neg, class_of(col_panel, segment - segments_a), column, count);
          } else {
            add(pos, class_of(row_panel, segment - segments_a - segments_b), column, count);
          }
        }
      });
    });
  }

 private:
  /// Of the rows of a side of the tile.
  struct Side {
    u32* classes;
    u32* segments;
    u32* first;  ///< pairs of two classes at the first cut
  };
  CUPEL_HD CUPEL_INLINE static Side side_of(u32* tables) {
    return {tables, tables + kPanelRows, tables + 2 * kPanelRows};
  }

  CUPEL_HD CUPEL_INLINE i64 last_row(i64 panel) const {
    const i64 end = (panel + 1) * kPanelRows;
    return (end < rows.rows ? end : rows.rows) - 1;
  }
  CUPEL_HD CUPEL_INLINE i64 segments_of(i64 panel) const {
    return i64{segments[last_row(panel)]} + 1;
  }
  CUPEL_HD CUPEL_INLINE void load(const Side& side, i64 panel, int own) const {
    const i64 row = panel * kPanelRows + own;
    const bool there = row < rows.rows;
    side.classes[own] = there ? rows.classes[row] : 0;
    side.segments[own] = there ? segments[row] : 0;
    side.first[own] = 0;
  }
  /// The class of a panel's segment.
  CUPEL_HD CUPEL_INLINE u32 class_of(i64 panel, i64 segment) const {
    i64 low = panel * kPanelRows;
    i64 high = last_row(panel);
    while (low < high) {
      const i64 middle = (low + high) / 2;
      if (segments[middle] < segment) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return rows.classes[low];
  }
  CUPEL_HD CUPEL_INLINE i64 column_of(float gap) const {
    i64 low = 1;
    i64 high = cut_count - 1;
    while (low < high) {
      const i64 middle = (low + high) / 2;
      if (gap > cuts[middle]) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
  CUPEL_HD CUPEL_INLINE void add(u64* to, u32 cls, i64 column, u32 count) const {
    if (count != 0) atomic_add(&to[cls * cut_count + column], u64{count});
  }
};

/// Cells of keys: those that share their upper half.
inline constexpr i64 kKeyCells = 65'536;

/// How many pairs have each upper half of their key, [of one class][cell]. A block counts most of
/// them in shared memory, where keys that are likely have a counter.
struct PairCells {
  static constexpr int kThreads = kPairThreads;
  static constexpr int kLeastBlocks = kPairBlocks;
  static constexpr u32 kWindow = 2047;
  static constexpr u32 kZeroCell = 0x8000;  ///< that of score 0
  static constexpr u32 kSlots = 2 * kWindow + 1;
  static constexpr int kNone = -1;

  EmbeddingOnDevice rows;
  PairPanels panels;
  u32 windows[2] = {0, 0};  ///< first cells of two runs of kWindow that are likely
  u64* counts = nullptr;

  CUPEL_HD i64 shared_bytes() const {
    return kSlicesBytes + 2 * kSlots * static_cast<i64>(sizeof(u32));
  }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    float* stage = reinterpret_cast<float*>(block.shared());
    u32* slots = reinterpret_cast<u32*>(block.shared() + kSlicesBytes);
    block.each([&](int t) {
      for (u32 at = static_cast<u32>(t); at < 2 * kSlots; at += kThreads) slots[at] = 0;
    });
    each_pair_tile(block, rows, panels, [&](i32 row_panel, i32 col_panel, auto& sums) {
      block.each([&](int t) {
        each_own_gap(rows, panels, row_panel, col_panel, t, sums[t], stage,
                     [&](int row, int col, float gap) {
                       const u32 cell = gap_key(rows.domain, gap) >> 16;
                       const u32 same = is_of_one_class(rows, row_panel, row, col_panel, col);
                       const int slot = slot_of(cell);
                       if (slot != kNone) {
                         atomic_add(&slots[same * kSlots + static_cast<u32>(slot)], u32{1});
                       } else {
                         atomic_add(&counts[same * kKeyCells + cell], u64{1});
                       }
                     });
      });
    });
    block.each([&](int t) {
      for (u32 at = static_cast<u32>(t); at < 2 * kSlots; at += kThreads) {
        const u32 same = at / kSlots;
        if (slots[at] != 0) {
          atomic_add(&counts[same * kKeyCells + cell_of(at - same * kSlots)], u64{slots[at]});
        }
      }
    });
  }

  CUPEL_HD CUPEL_INLINE static u32 is_of_one_class(const EmbeddingOnDevice& rows, i32 row_panel,
                                                   int row, i32 col_panel, int col) {
    return rows.classes[row_panel * kPanelRows + row] == rows.classes[col_panel * kPanelRows + col]
               ? 1
               : 0;
  }

 private:
  CUPEL_HD CUPEL_INLINE int slot_of(u32 cell) const {
    if (cell == kZeroCell) return static_cast<int>(2 * kWindow);
    if (cell - windows[0] < kWindow) return static_cast<int>(cell - windows[0]);
    if (cell - windows[1] < kWindow) return static_cast<int>(kWindow + cell - windows[1]);
    return kNone;
  }
  CUPEL_HD CUPEL_INLINE u32 cell_of(u32 slot) const {
    if (slot == 2 * kWindow) return kZeroCell;
    return slot < kWindow ? windows[0] + slot : windows[1] + slot - kWindow;
  }
};

/// How many pairs have each key of some cells, [window][lower half of the key].
struct PairKeys {
  static constexpr int kThreads = kPairThreads;
  static constexpr int kLeastBlocks = kPairBlocks;

  EmbeddingOnDevice rows;
  PairPanels panels;
  const i32* windows = nullptr;  ///< [of one class][cell]; below 0: not counted
  u64* counts = nullptr;

  CUPEL_HD i64 shared_bytes() const { return kSlicesBytes; }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    float* stage = reinterpret_cast<float*>(block.shared());
    each_pair_tile(block, rows, panels, [&](i32 row_panel, i32 col_panel, auto& sums) {
      block.each([&](int t) {
        each_own_gap(rows, panels, row_panel, col_panel, t, sums[t], stage,
                     [&](int row, int col, float gap) {
                       const u32 key = gap_key(rows.domain, gap);
                       const u32 same =
                           PairCells::is_of_one_class(rows, row_panel, row, col_panel, col);
                       const i32 window = windows[same * kKeyCells + (key >> 16)];
                       if (window < 0) return;
                       atomic_add(&counts[i64{window} * kKeyCells + (key & 0xFFFFU)], u64{1});
                     });
      });
    });
  }
};

/// Whether a key of a window has pairs.
struct HasPairs {
  const u64* counts;
  CUPEL_HD bool operator()(i64 i) const { return counts[i] != 0; }
};
/// The keys that have pairs, and how many.
struct PickKeys {
  const u64* at;  ///< indices of counts
  const u64* counts;
  const u32* cells;  ///< of the windows that counts are of
  u32* keys;
  u64* out;
  CUPEL_HD void operator()(i64 i) const {
    keys[i] = cells[at[i] / kKeyCells] << 16 | static_cast<u32>(at[i] % kKeyCells);
    out[i] = counts[at[i]];
  }
};

/// Adds each thread's count to a total in shared memory; the thread's value is then how many come
/// before its own. Two phases and their barriers; the total is there after them.
template <class Block, class Counts>
CUPEL_HD CUPEL_INLINE void place_threads(Block& block, Counts& counts, u32* total) {
  block.each([&](int t) {
    if (t == 0) *total = 0;
  });
  block.each([&](int t) {
    if (counts[t] != 0) counts[t] = atomic_add(total, counts[t]);
  });
}

/// The keys of all pairs in no order, those of one class and those of two.
struct ListKeys {
  static constexpr int kThreads = kPairThreads;
  static constexpr int kLeastBlocks = kPairBlocks;

  EmbeddingOnDevice rows;
  PairPanels panels;
  u64* cursors = nullptr;  ///< keys so far, [of one class]
  u32* keys[2] = {nullptr, nullptr};

  CUPEL_HD i64 shared_bytes() const { return kSlicesBytes; }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    float* stage = reinterpret_cast<float*>(block.shared());
    u64* starts = reinterpret_cast<u64*>(block.shared() + kStageBytes);
    u32* totals = reinterpret_cast<u32*>(starts + 2);
    typename Block::template PerThread<u32> own[2];
    each_pair_tile(block, rows, panels, [&](i32 row_panel, i32 col_panel, auto& sums) {
      block.each([&](int t) {
        u32 of_one = 0;
        u32 all = 0;
        each_own_gap(rows, panels, row_panel, col_panel, t, sums[t], stage,
                     [&](int row, int col, float) {
                       of_one += PairCells::is_of_one_class(rows, row_panel, row, col_panel, col);
                       ++all;
                     });
        own[1][t] = of_one;
        own[0][t] = all - of_one;
      });
      place_threads(block, own[0], &totals[0]);
      place_threads(block, own[1], &totals[1]);
      block.each([&](int t) {
        if (t < 2) starts[t] = atomic_add(&cursors[t], u64{totals[t]});
      });
      block.each([&](int t) {
        u32* to_two = keys[0] + starts[0] + own[0][t];
        u32* to_one = keys[1] + starts[1] + own[1][t];
        each_own_gap(rows, panels, row_panel, col_panel, t, sums[t], stage,
                     [&](int row, int col, float gap) {
                       const u32 key = gap_key(rows.domain, gap);
                       if (PairCells::is_of_one_class(rows, row_panel, row, col_panel, col) != 0) {
                         *to_one++ = key;
                       } else {
                         *to_two++ = key;
                       }
                     });
      });
    });
  }
};

/// Where the listed pairs of a tile are.
struct ListedTile {
  u64 start;
  u64 count;
};

/// The pairs of each tile whose gap is in one of some ranges, one tile's after another's.
struct ListPairs {
  static constexpr int kThreads = kPairThreads;
  static constexpr int kLeastBlocks = kPairBlocks;

  EmbeddingOnDevice rows;
  PairPanels panels;
  const float* bounds = nullptr;  ///< [range][2] above the first, at most the second
  int ranges = 0;
  bool negatives_only = false;
  u64* cursor = nullptr;
  ListedTile* tiles = nullptr;  ///< [panels.tiles()]
  float* gaps = nullptr;
  u16* places = nullptr;  ///< row << 8 | col of the tile

  CUPEL_HD i64 shared_bytes() const { return kSlicesBytes; }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    float* stage = reinterpret_cast<float*>(block.shared());
    u64* start = reinterpret_cast<u64*>(block.shared() + kStageBytes);
    u32* total = reinterpret_cast<u32*>(start + 1);
    typename Block::template PerThread<u32> own;
    each_pair_tile(block, rows, panels, [&](i32 row_panel, i32 col_panel, auto& sums) {
      const auto wanted = [&](int row, int col, float gap) {
        bool inside = false;
        for (int range = 0; range < ranges; ++range) {
          inside = inside || (gap > bounds[2 * range] && gap <= bounds[2 * range + 1]);
        }
        return inside && !(negatives_only &&
                           PairCells::is_of_one_class(rows, row_panel, row, col_panel, col) != 0);
      };
      block.each([&](int t) {
        u32 count = 0;
        each_own_gap(
            rows, panels, row_panel, col_panel, t, sums[t], stage,
            [&](int row, int col, float gap) { count += wanted(row, col, gap) ? 1U : 0U; });
        own[t] = count;
      });
      place_threads(block, own, total);
      block.each([&](int t) {
        if (t != 0) return;
        *start = atomic_add(cursor, u64{*total});
        tiles[i64{col_panel - panels.col_first} * panels.row_panels + row_panel -
              panels.row_first] = {*start, *total};
      });
      block.each([&](int t) {
        if (*total == 0) return;
        u64 at = *start + own[t];
        each_own_gap(rows, panels, row_panel, col_panel, t, sums[t], stage,
                     [&](int row, int col, float gap) {
                       if (!wanted(row, col, gap)) return;
                       gaps[at] = gap;
                       places[at++] = static_cast<u16>(row << 8 | col);
                     });
      });
    });
  }
};

/// The keys of the pairs of some rows with a range of others, [row][other]; 0, which is no key,
/// where there is no pair.
struct WriteKeys {
  static constexpr int kThreads = kPairThreads;
  static constexpr int kLeastBlocks = kPairBlocks;

  EmbeddingOnDevice rows;
  PairPanels panels;
  i64 first_row = 0;
  i64 first_col = 0;
  i64 pitch = 0;  ///< keys from a row to the next
  u32* keys = nullptr;

  CUPEL_HD i64 shared_bytes() const { return kSlicesBytes; }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    float* stage = reinterpret_cast<float*>(block.shared());
    each_pair_tile(block, rows, panels, [&](i32 row_panel, i32 col_panel, auto& sums) {
      block.each([&](int t) {
        each_own_gap(rows, panels, row_panel, col_panel, t, sums[t], stage,
                     [&](int row, int col, float gap) {
                       const i64 i = i64{row_panel} * kPanelRows + row - first_row;
                       const i64 j = i64{col_panel} * kPanelRows + col - first_col;
                       keys[i * pitch + j] = gap_key(rows.domain, gap);
                     });
      });
    });
  }
};

/// The nearest of each row's others: those of the largest keys, of equal ones those of the smallest
/// ties. A block finds the last key that is taken byte by byte, then, where not all others of that
/// key are, the last tie.
struct PickNearest {
  static constexpr int kThreads = 256;

  i64 rows = 0;
  i64 first_col = 0;
  i64 cols = 0;
  i64 pitch = 0;
  const u32* keys = nullptr;    ///< [rows][cols], `pitch` apart; 0: no pair
  const u32* ties = nullptr;    ///< [all rows]
  const u64* starts = nullptr;  ///< [rows + 1] where the nearest of a row go: so many at most
  u32* counts = nullptr;        ///< [rows] how many there were
  u32* near_keys = nullptr;
  u32* near_cols = nullptr;

  struct Shared {
    u32 digits[256];
    u32 value;  ///< of the bytes so far
    u32 left;   ///< to be taken of those that begin so
    u32 there;  ///< of those that begin so
    u32 placed;
  };
  CUPEL_HD i64 shared_bytes() const { return static_cast<i64>(sizeof(Shared)); }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    Shared& shared = *reinterpret_cast<Shared*>(block.shared());
    for (i64 row = block.index(); row < rows; row += block.count()) {
      const u32 wanted = static_cast<u32>(starts[row + 1] - starts[row]);
      if (wanted == 0) {
        block.each([&](int t) {
          if (t == 0) counts[row] = 0;
        });
        continue;
      }
      const u32* own = keys + row * pitch;
      // Complements of keys, so that both are looked for from the smallest.
      find(block, shared, wanted, [&](i64 col, u32& value) {
        value = ~own[col];
        return own[col] != 0;
      });
      const u32 last_key = ~shared.value;
      const u32 of_last = shared.left;
      const bool all = shared.left == shared.there;
      block.each([&](int) {});
      if (!all) {
        find(block, shared, of_last, [&](i64 col, u32& value) {
          value = ties[first_col + col];
          return own[col] == last_key;
        });
      }
      const u32 last_tie = all ? ~u32{0} : shared.value;
      block.each([&](int t) {
        if (t == 0) shared.placed = 0;
      });
      block.each([&](int t) {
        for (i64 col = t; col < cols; col += kThreads) {
          const u32 key = own[col];
          if (key == 0 || key < last_key) continue;
          if (key == last_key && ties[first_col + col] > last_tie) continue;
          const u64 at = starts[row] + atomic_add(&shared.placed, u32{1});
          near_keys[at] = key;
          near_cols[at] = static_cast<u32>(first_col + col);
        }
      });
      block.each([&](int t) {
        if (t == 0) counts[row] = shared.placed;
      });
    }
  }

 private:
  /// The value of the wanted-th smallest, or the largest of all where there are fewer: in
  /// shared.value; shared.there have it, shared.left of which are among the wanted.
  template <class Block, class ValueOf>
  CUPEL_HD CUPEL_INLINE void find(Block& block, Shared& shared, u32 wanted,
                                  const ValueOf& value_of) const {
    block.each([&](int t) {
      if (t != 0) return;
      shared.value = 0;
      shared.left = wanted;
    });
    for (int shift = 24; shift >= 0; shift -= 8) {
      block.each([&](int t) { shared.digits[t] = 0; });
      block.each([&](int t) {
        for (i64 col = t; col < cols; col += kThreads) {
          u32 value = 0;
          if (!value_of(col, value)) continue;
          // No bit is above the first byte.
          if (shift < 24 && (value ^ shared.value) >> (shift + 8) != 0) continue;
          atomic_add(&shared.digits[value >> shift & 0xFFU], u32{1});
        }
      });
      block.each([&](int t) {
        if (t != 0) return;
        u32 digit = 0;
        u32 last = 0;  // that has any
        u32 before = 0;
        u32 before_last = 0;
        for (; digit < 256; ++digit) {
          if (shared.digits[digit] == 0) continue;
          last = digit;
          before_last = before;
          if (before + shared.digits[digit] >= shared.left) break;
          before += shared.digits[digit];
        }
        shared.value |= last << shift;
        shared.there = shared.digits[last];
        shared.left =
            shared.left - before_last < shared.there ? shared.left - before_last : shared.there;
      });
    }
  }
};

}  // namespace cupel::device
