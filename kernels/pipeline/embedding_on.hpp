// An embedding on an executor, and the passes over its pairs: which kernels run, on which tiles.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "pipeline/embedding_pairs.hpp"
#include "pipeline/memory.hpp"
#include "pipelines.hpp"

namespace cupel::device {

/// Bytes of rows that travel to the device at a time.
inline constexpr i64 kEmbeddingPartBytes = i64{1} << 25;
/// Row panels of a launch: neighbouring blocks share columns, and these rows stay in the cache.
inline constexpr i64 kStripePanels = 16;
/// Tiles of a launch: no counter of 32 bits overflows in one; and fused operations: below a second
/// on a device that is slow.
inline constexpr i64 kMostPairTiles = i64{1} << 17;
inline constexpr i64 kPairTileWork = i64{1} << 39;
/// Pairs up to which their keys are sorted and not counted.
inline constexpr u64 kMostSortedPairs = u64{1} << 26;
/// Pairs of a launch that may be listed.
inline constexpr i64 kMostListed = i64{1} << 27;
/// Windows of keys that come home at a time.
inline constexpr i64 kMostWindowsHome = 32;

template <class Exec>
class EmbeddingOn {
 public:
  template <class T>
  using Memory = Array<Exec, T>;

  explicit EmbeddingOn(Exec& exec) : exec_(exec) {}

  i64 bytes() const {
    return panels_.bytes() + squares_.bytes() + classes_.bytes() + segments_.bytes();
  }
  void drop() {
    panels_ = {};
    squares_ = {};
    classes_ = {};
    segments_ = {};
    host_ = {};
    there_ = false;
  }

  /// Whether the rows of `other` are there, if they have not changed.
  bool is(const HostEmbedding& other) const {
    return there_ && host_.domain == other.domain && host_.rows == other.rows &&
           host_.width == other.width && host_.stride == other.stride &&
           host_.values == other.values && host_.squares == other.squares &&
           host_.classes == other.classes && host_.class_count == other.class_count;
  }

  /// Brings the rows, in panels.
  bool set(const HostEmbedding& embedding) {
    if (is(embedding)) return exec_.ok();
    drop();
    host_ = embedding;
    const i64 slices = ceil_div(host_.width, kSliceElements);
    const i64 panels = ceil_div(host_.rows, kPanelRows);
    panels_ = Memory<float>(exec_, panels * slices * kSliceFloats);
    squares_ = Memory<float>(exec_, host_.rows);
    classes_ = Memory<u32>(exec_, host_.rows);
    segments_ = Memory<u32>(exec_, host_.rows);
    exec_.to_device(squares_.data(), host_.squares, squares_.bytes());
    exec_.to_device(classes_.data(), host_.classes, classes_.bytes());
    std::vector<u32> segments(static_cast<std::size_t>(host_.rows));
    for (i64 row = 1; row < host_.rows; ++row) {
      if (row % kPanelRows == 0) continue;
      const auto at = static_cast<std::size_t>(row);
      segments[at] = segments[at - 1] + (host_.classes[row] != host_.classes[row - 1] ? 1 : 0);
    }
    exec_.to_device(segments_.data(), segments.data(), segments_.bytes());
    const i64 panel_bytes = kPanelRows * host_.stride * static_cast<i64>(sizeof(float));
    const i64 each = std::max<i64>(kEmbeddingPartBytes / panel_bytes, 1) * kPanelRows;
    const Memory<float> part(exec_, std::min(each, host_.rows) * host_.stride);
    for (i64 first = 0; first < host_.rows && exec_.ok(); first += each) {
      const i64 count = std::min(each, host_.rows - first);
      // Behind the last row's elements there may be no memory.
      const i64 floats = (count - 1) * host_.stride + host_.width;
      exec_.to_device(part.data(), host_.values + first * host_.stride,
                      floats * static_cast<i64>(sizeof(float)));
      const PackPanels pack{part.data(),  first,  count,         host_.width,
                            host_.stride, slices, panels_.data()};
      exec_.for_each(pack.size(), pack);
    }
    if (!exec_.ok()) {
      drop();
      return false;
    }
    rows_ = {host_.domain, host_.rows, slices, panels_.data(), squares_.data(), classes_.data()};
    there_ = true;
    return true;
  }

  bool cuts(const PairWork& work, const std::vector<float>& cuts, std::vector<u64>& pos,
            std::vector<u64>& neg) {
    const i64 count = static_cast<i64>(cuts.size());
    const i64 cells = host_.class_count * count;
    const Memory<float> device_cuts(exec_, count);
    const Memory<u64> device_pos(exec_, cells);
    const Memory<u64> device_neg(exec_, cells);
    exec_.to_device(device_cuts.data(), cuts.data(), device_cuts.bytes());
    exec_.zero(device_pos.data(), device_pos.bytes());
    exec_.zero(device_neg.data(), device_neg.bytes());
    each_launch(work, most_tiles(), [&](const PairPanels& panels) {
      run(PairCuts{rows_, panels, segments_.data(), device_cuts.data(), count, device_pos.data(),
                   device_neg.data()},
          panels.tiles());
    });
    pos.assign(static_cast<std::size_t>(cells), 0);
    neg.assign(static_cast<std::size_t>(cells), 0);
    exec_.to_host(pos.data(), device_pos.data(), device_pos.bytes());
    exec_.to_host(neg.data(), device_neg.data(), device_neg.bytes());
    return exec_.ok();
  }

  /// The keys of all pairs, of two classes and of one: first how many have each upper half, then
  /// how many each lower one behind those that occur, of as many as memory allows at a time.
  bool ranks(const PairWork& work, HostRun<u32>& pos, HostRun<u32>& neg) {
    HostRun<u32>* const runs[2] = {&neg, &pos};
    // Who asks for small parts asks for what large inputs need.
    const bool few = exec_.part_rows() == 0 && work.pairs <= kMostSortedPairs &&
                     work.pairs * (3 * sizeof(u32)) <= static_cast<u64>(exec_.free_bytes() / 2);
    if (few) return sorted_ranks(work, runs);
    std::vector<u64> counts(2 * kKeyCells);
    {
      const Memory<u64> device_counts(exec_, 2 * kKeyCells);
      exec_.zero(device_counts.data(), device_counts.bytes());
      PairCells cells;
      cells.rows = rows_;
      cells.counts = device_counts.data();
      set_windows(cells.windows);
      each_launch(share_of(work, 0, 2), most_tiles(), [&](const PairPanels& panels) {
        cells.panels = panels;
        run(cells, panels.tiles());
      });
      exec_.to_host(counts.data(), device_counts.data(), device_counts.bytes());
    }
    if (!exec_.ok()) return false;
    std::vector<u32> used;  // [window] cell, with those of one class behind
    for (i64 i = 0; i < 2 * kKeyCells; ++i) {
      const u64 pairs = counts[static_cast<std::size_t>(i)];
      if (pairs != 0) used.push_back(static_cast<u32>(i));
      runs[i / kKeyCells]->rows += pairs;
    }
    constexpr i64 kCountBytes = kKeyCells * static_cast<i64>(sizeof(u64));
    constexpr i64 kHomeBytes = kKeyCells * static_cast<i64>(2 * sizeof(u64) + sizeof(u32));
    const i64 windows = static_cast<i64>(used.size());
    const i64 free = exec_.free_bytes();
    const i64 home = std::clamp<i64>(free / 8 / kHomeBytes, 1, std::min(windows, kMostWindowsHome));
    const i64 each = std::clamp<i64>((free / 4 * 3 - home * kHomeBytes) / kCountBytes, 1, windows);
    const i64 groups = ceil_div(windows, each);
    const Memory<u64> device_counts(exec_, each * kKeyCells);
    const Memory<i32> device_windows(exec_, 2 * kKeyCells);
    const Home memory(exec_, home);
    for (i64 group = 0; group < groups && exec_.ok(); ++group) {
      const i64 first = group * each;
      const i64 count = std::min(each, windows - first);
      std::vector<i32> window_of(2 * kKeyCells, -1);
      for (i64 w = 0; w < count; ++w) {
        window_of[used[static_cast<std::size_t>(first + w)]] = static_cast<i32>(w);
      }
      exec_.to_device(device_windows.data(), window_of.data(), device_windows.bytes());
      exec_.zero(device_counts.data(), count * kCountBytes);
      each_launch(share_of(share_of(work, 1, 2), static_cast<u64>(group), static_cast<u64>(groups)),
                  most_tiles(), [&](const PairPanels& panels) {
                    run(PairKeys{rows_, panels, device_windows.data(), device_counts.data()},
                        panels.tiles());
                  });
      for (i64 w = 0; w < count && exec_.ok();) {
        // Windows of one label at a time.
        const u32* cells = used.data() + first + w;
        const u32 label = cells[0] / kKeyCells;
        i64 size = 1;
        while (size < std::min(home, count - w) && cells[size] / kKeyCells == label) ++size;
        bring_home(memory, device_counts.data() + w * kKeyCells, cells, size, *runs[label]);
        w += size;
      }
    }
    return exec_.ok();
  }

  bool list(const PairWork& work, const ListWork& list, HostPairList& out) {
    constexpr i64 kTilePairs = i64{kPanelRows} * kPanelRows;
    constexpr i64 kPairBytes = sizeof(float) + sizeof(u16);
    const i64 fitting = exec_.free_bytes() / 4 * 3 / kPairBytes;
    const i64 tiles = std::clamp<i64>(fitting, kTilePairs, kMostListed) / kTilePairs;
    const i64 tiles_there = std::min(tiles, all_tiles(work));
    const Memory<float> bounds(exec_, static_cast<i64>(list.bounds.size()));
    exec_.to_device(bounds.data(), list.bounds.data(), bounds.bytes());
    const Memory<u64> cursor(exec_, 1);
    const Memory<ListedTile> listed(exec_, tiles_there);
    const Memory<float> gaps(exec_, tiles_there * kTilePairs);
    const Memory<u16> places(exec_, tiles_there * kTilePairs);
    std::vector<ListedTile> home;
    i64 bytes = 0;
    each_launch(work, tiles_there, [&](const PairPanels& panels) {
      if (!out.complete) return;
      exec_.zero(cursor.data(), cursor.bytes());
      exec_.zero(listed.data(), panels.tiles() * static_cast<i64>(sizeof(ListedTile)));
      run(ListPairs{rows_, panels, bounds.data(), static_cast<int>(list.bounds.size() / 2),
                    list.negatives_only, cursor.data(), listed.data(), gaps.data(), places.data()},
          panels.tiles());
      home.resize(static_cast<std::size_t>(panels.tiles()));
      exec_.to_host(home.data(), listed.data(),
                    panels.tiles() * static_cast<i64>(sizeof(ListedTile)));
      if (!exec_.ok()) return;
      add_chunk(panels, home, gaps.data(), places.data(), list.most_bytes, bytes, out);
    });
    if (!out.complete) out.chunks.clear();
    return exec_.ok();
  }

  /// All keys of some rows with their others are written, and the nearest are picked from them.
  /// Each pair is computed for both its rows.
  bool nearest(const PairWork& work, const u32* wanted, HostNearest& out) {
    out.firsts.assign(static_cast<std::size_t>(host_.rows), 0);
    out.counts.assign(static_cast<std::size_t>(host_.rows), 0);
    const Memory<u32> ties(exec_, host_.rows);
    exec_.to_device(ties.data(), host_.ties, ties.bytes());
    const bool apart = work.a_last <= work.b_first || work.b_last <= work.a_first;
    if (apart) {
      nearest_of(share_of(work, 0, 2), {work.a_first, work.a_last}, {work.b_first, work.b_last},
                 wanted, ties.data(), out);
      nearest_of(share_of(work, 1, 2), {work.b_first, work.b_last}, {work.a_first, work.a_last},
                 wanted, ties.data(), out);
    } else {
      const Range all{std::min(work.a_first, work.b_first), std::max(work.a_last, work.b_last)};
      nearest_of(work, all, all, wanted, ties.data(), out);
    }
    return exec_.ok();
  }

 private:
  struct Range {
    i64 first, last;
    i64 size() const { return last - first; }
  };

  bool sorted_ranks(const PairWork& work, HostRun<u32>* const (&runs)[2]) {
    const i64 pairs = static_cast<i64>(work.pairs);
    const Memory<u32> two(exec_, pairs);
    const Memory<u32> one(exec_, pairs);
    const Memory<u32> scratch(exec_, pairs);
    const Memory<u64> cursors(exec_, 2);
    exec_.zero(cursors.data(), cursors.bytes());
    ListKeys keys;
    keys.rows = rows_;
    keys.cursors = cursors.data();
    keys.keys[0] = two.data();
    keys.keys[1] = one.data();
    each_launch(work, most_tiles(), [&](const PairPanels& panels) {
      keys.panels = panels;
      run(keys, panels.tiles());
    });
    u64 counts[2] = {0, 0};
    exec_.to_host(counts, cursors.data(), cursors.bytes());
    for (int label = 0; label < 2 && exec_.ok(); ++label) {
      const i64 count = static_cast<i64>(counts[label]);
      runs[label]->rows = counts[label];
      runs[label]->keys.resize(static_cast<std::size_t>(count));
      if (count == 0) continue;
      exec_.sort(keys.keys[label], scratch.data(), {0, count}, 32);
      exec_.to_host(runs[label]->keys.data(), keys.keys[label],
                    count * static_cast<i64>(sizeof(u32)));
    }
    return exec_.ok();
  }

  /// The pairs of a launch as they came home.
  void add_chunk(const PairPanels& panels, const std::vector<ListedTile>& home, const float* gaps,
                 const u16* places, i64 most_bytes, i64& bytes, HostPairList& out) {
    std::vector<std::size_t> order;
    u64 pairs = 0;
    for (std::size_t tile = 0; tile < home.size(); ++tile) {
      if (home[tile].count == 0) continue;
      order.push_back(tile);
      pairs += home[tile].count;
    }
    bytes += static_cast<i64>(pairs * (sizeof(float) + sizeof(u16)) +
                              order.size() * sizeof(HostPairList::Tile));
    out.complete = bytes <= most_bytes;
    if (!out.complete || pairs == 0) return;
    std::sort(order.begin(), order.end(),
              [&](std::size_t x, std::size_t y) { return home[x].start < home[y].start; });
    HostPairList::Chunk chunk;
    chunk.tiles.reserve(order.size());
    for (const std::size_t tile : order) {
      const auto row = static_cast<u32>(panels.row_first) +
                       static_cast<u32>(tile) % static_cast<u32>(panels.row_panels);
      const auto col = static_cast<u32>(panels.col_first) +
                       static_cast<u32>(tile) / static_cast<u32>(panels.row_panels);
      chunk.tiles.push_back(
          {row * kPanelRows, col * kPanelRows, static_cast<u32>(home[tile].count)});
    }
    chunk.gaps.resize(pairs);
    chunk.places.resize(pairs);
    exec_.to_host(chunk.gaps.data(), gaps, static_cast<i64>(pairs * sizeof(float)));
    exec_.to_host(chunk.places.data(), places, static_cast<i64>(pairs * sizeof(u16)));
    out.chunks.push_back(std::move(chunk));
  }

  /// Of rows with others of a range: some panels of rows at a time.
  void nearest_of(const PairWork& work, Range of, Range others, const u32* wanted, const u32* ties,
                  HostNearest& out) {
    if (of.size() <= 0 || others.size() <= 0) return;
    const i64 first_col = others.first / kPanelRows * kPanelRows;
    const i64 pitch = ceil_div(others.last - first_col, kPanelRows) * kPanelRows;
    const i64 panel_bytes = kPanelRows * pitch * static_cast<i64>(sizeof(u32));
    const i64 panels = std::clamp<i64>(exec_.free_bytes() / 2 / panel_bytes, 1, kStripePanels);
    const i64 first_panel = of.first / kPanelRows;
    const i64 end_panel = ceil_div(of.last, kPanelRows);
    const i64 each = std::min(panels, end_panel - first_panel);
    const Memory<u32> keys(exec_, each * kPanelRows * pitch);
    for (i64 panel = first_panel; panel < end_panel && exec_.ok(); panel += each) {
      const i64 first = std::max(of.first, panel * kPanelRows);
      const i64 last = std::min(of.last, (panel + each) * kPanelRows);
      exec_.zero(keys.data(), keys.bytes());
      PairPanels stripe = panels_of(work);
      stripe.both = true;
      stripe.row_first = static_cast<i32>(panel);
      stripe.row_panels = static_cast<i32>(std::min(each, end_panel - panel));
      const i64 cols_end = (first_col + pitch) / kPanelRows;
      const i64 cols = std::max<i64>(most_tiles() / stripe.row_panels, 1);
      for (i64 col = first_col / kPanelRows; col < cols_end; col += cols) {
        stripe.col_first = static_cast<i32>(col);
        stripe.col_panels = static_cast<i32>(std::min(cols, cols_end - col));
        run(WriteKeys{rows_, stripe, panel * kPanelRows, first_col, pitch, keys.data()},
            stripe.tiles());
      }
      pick(keys.data() + (first - panel * kPanelRows) * pitch, pitch, {first, last},
           {first_col, others.last}, wanted, ties, out);
      if (work.progress && exec_.ok()) {
        const u128 rows = static_cast<u128>(last - of.first);
        work.progress(static_cast<u64>(work.pairs * rows / static_cast<u128>(of.size())));
      }
    }
  }
  void pick(const u32* keys, i64 pitch, Range of, Range others, const u32* wanted, const u32* ties,
            HostNearest& out) {
    std::vector<u64> starts{0};
    for (i64 row = of.first; row < of.last; ++row) {
      starts.push_back(starts.back() + std::min<u64>(wanted[row], static_cast<u64>(others.size())));
    }
    const i64 room = static_cast<i64>(starts.back());
    if (room == 0) return;
    const Memory<u64> device_starts(exec_, static_cast<i64>(starts.size()));
    const Memory<u32> counts(exec_, of.size());
    const Memory<u32> near_keys(exec_, room);
    const Memory<u32> near_cols(exec_, room);
    exec_.to_device(device_starts.data(), starts.data(), device_starts.bytes());
    run(PickNearest{of.size(), others.first, others.size(), pitch, keys, ties, device_starts.data(),
                    counts.data(), near_keys.data(), near_cols.data()},
        of.size());
    const std::size_t old = out.keys.size();
    out.keys.resize(old + static_cast<std::size_t>(room));
    out.rows.resize(old + static_cast<std::size_t>(room));
    exec_.to_host(out.counts.data() + of.first, counts.data(), counts.bytes());
    exec_.to_host(out.keys.data() + old, near_keys.data(), near_keys.bytes());
    exec_.to_host(out.rows.data() + old, near_cols.data(), near_cols.bytes());
    for (i64 row = of.first; row < of.last; ++row) {
      out.firsts[static_cast<std::size_t>(row)] =
          old + starts[static_cast<std::size_t>(row - of.first)];
    }
  }

  /// Room for the keys of some windows that have pairs.
  struct Home {
    Home(Exec& exec, i64 windows)
        : at(exec, windows * kKeyCells),
          keys(exec, windows * kKeyCells),
          counts(exec, windows * kKeyCells),
          cells(exec, windows) {}
    Memory<u64> at;
    Memory<u32> keys;
    Memory<u64> counts;
    Memory<u32> cells;
  };
  void bring_home(const Home& memory, const u64* counts, const u32* cells, i64 windows,
                  HostRun<u32>& run) {
    std::vector<u32> own;
    for (i64 w = 0; w < windows; ++w) own.push_back(cells[w] % kKeyCells);
    exec_.to_device(memory.cells.data(), own.data(), windows * static_cast<i64>(sizeof(u32)));
    const i64 count = exec_.select(windows * kKeyCells, HasPairs{counts}, memory.at.data());
    exec_.for_each(count, PickKeys{memory.at.data(), counts, memory.cells.data(),
                                   memory.keys.data(), memory.counts.data()});
    const std::size_t old = run.keys.size();
    run.keys.resize(old + static_cast<std::size_t>(count));
    run.counts.resize(old + static_cast<std::size_t>(count));
    exec_.to_host(run.keys.data() + old, memory.keys.data(), count * static_cast<i64>(sizeof(u32)));
    exec_.to_host(run.counts.data() + old, memory.counts.data(),
                  count * static_cast<i64>(sizeof(u64)));
  }

  /// Where keys are likely: from the largest distance downwards, or from both ends of the
  /// similarities.
  void set_windows(u32 (&windows)[2]) const {
    float square = 0;
    for (i64 row = 0; row < host_.rows; ++row) square = std::max(square, host_.squares[row]);
    // A bit more than the largest, for rounding.
    const float most = host_.domain == PairDomain::kL2 ? 2.01F * std::sqrt(square) : 1.01F * square;
    windows[0] = key_of_f32(bits_from_float(-most)) >> 16;
    windows[1] = host_.domain == PairDomain::kL2
                     ? windows[0] + PairCells::kWindow
                     : (key_of_f32(bits_from_float(most)) >> 16) - PairCells::kWindow + 1;
  }

  static i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

  template <class Program>
  void run(const Program& program, i64 tiles) {
    if (tiles > 0) exec_.launch(program, std::min(tiles, exec_.blocks_for(program)));
  }

  /// At least as many as a work has.
  static i64 all_tiles(const PairWork& work) {
    return (ceil_div(work.a_last, kPanelRows) - work.a_first / kPanelRows) *
           (ceil_div(work.b_last, kPanelRows) - work.b_first / kPanelRows);
  }
  /// Tiles of a launch.
  i64 most_tiles() const {
    const i64 work = rows_.slices * kSliceElements * kPanelRows * kPanelRows;
    return std::clamp<i64>(kPairTileWork / work, 1, kMostPairTiles);
  }

  /// Calls launch(panels) for stripes of the tiles that have pairs of the work, and tells of the
  /// pairs that are done.
  template <class Launch>
  void each_launch(const PairWork& work, i64 tiles, const Launch& launch) {
    tiles = std::min(tiles, most_tiles());
    if (work.a_first >= work.a_last || work.b_first >= work.b_last) return;
    const Memory<u64> mark(exec_, 1);
    exec_.zero(mark.data(), mark.bytes());
    u64 done = 0;
    PairPanels panels = panels_of(work);
    const i64 rows_end = ceil_div(std::min(work.a_last, work.b_last), kPanelRows);
    const i64 cols_end = ceil_div(work.b_last, kPanelRows);
    for (i64 row = work.a_first / kPanelRows; row < rows_end; row += panels.row_panels) {
      panels.row_first = static_cast<i32>(row);
      panels.row_panels = static_cast<i32>(std::min({kStripePanels, rows_end - row, tiles}));
      const i64 cols = tiles / panels.row_panels;
      for (i64 col = std::max(row, work.b_first / kPanelRows); col < cols_end && exec_.ok();
           col += cols) {
        panels.col_first = static_cast<i32>(col);
        panels.col_panels = static_cast<i32>(std::min(cols, cols_end - col));
        launch(panels);
        if (!work.progress) continue;
        // What waits for a copy waits for the launch.
        u64 word = 0;
        exec_.to_host(&word, mark.data(), sizeof word);
        done += pairs_of(panels);
        if (exec_.ok()) work.progress(done);
      }
    }
  }

  static PairPanels panels_of(const PairWork& work) {
    PairPanels panels;
    panels.a_first = static_cast<i32>(work.a_first);
    panels.a_last = static_cast<i32>(work.a_last);
    panels.b_first = static_cast<i32>(work.b_first);
    panels.b_last = static_cast<i32>(work.b_last);
    return panels;
  }

  /// The pairs of a launch.
  static u64 pairs_of(const PairPanels& panels) {
    u64 pairs = 0;
    const i64 first = std::max(panels.a_first, panels.row_first * kPanelRows);
    const i64 last = std::min(panels.a_last, (panels.row_first + panels.row_panels) * kPanelRows);
    const i64 b_first = std::max(panels.b_first, panels.col_first * kPanelRows);
    const i64 b_last = std::min(panels.b_last, (panels.col_first + panels.col_panels) * kPanelRows);
    for (i64 i = first; i < last; ++i) {
      pairs += static_cast<u64>(std::max<i64>(b_last - std::max(b_first, i + 1), 0));
    }
    return pairs;
  }

  Exec& exec_;
  HostEmbedding host_;
  EmbeddingOnDevice rows_;
  bool there_ = false;
  Memory<float> panels_;
  Memory<float> squares_;
  Memory<u32> classes_;
  Memory<u32> segments_;
};

}  // namespace cupel::device
