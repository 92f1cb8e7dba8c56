// An embedding on an executor, and the passes over its pairs: which kernels run, on which tiles.
#pragma once

#include <algorithm>
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
    each_launch(work, [&](const PairPanels& panels) {
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

 private:
  static i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

  template <class Program>
  void run(const Program& program, i64 tiles) {
    if (tiles > 0) exec_.launch(program, std::min(tiles, exec_.blocks_for(program)));
  }

  /// Tiles of a launch.
  i64 most_tiles() const {
    const i64 work = rows_.slices * kSliceElements * kPanelRows * kPanelRows;
    return std::clamp<i64>(kPairTileWork / work, 1, kMostPairTiles);
  }

  /// Calls launch(panels) for stripes of the tiles that have pairs of the work, and tells of the
  /// pairs that are done.
  template <class Launch>
  void each_launch(const PairWork& work, const Launch& launch) {
    if (work.a_first >= work.a_last || work.b_first >= work.b_last) return;
    const Memory<u64> mark(exec_, 1);
    exec_.zero(mark.data(), mark.bytes());
    u64 done = 0;
    PairPanels panels{work.a_first, work.a_last, work.b_first, work.b_last, 0, 0, 0, 0, false};
    const i64 rows_end = ceil_div(std::min(work.a_last, work.b_last), kPanelRows);
    const i64 cols_end = ceil_div(work.b_last, kPanelRows);
    for (i64 row = work.a_first / kPanelRows; row < rows_end; row += panels.row_panels) {
      panels.row_first = row;
      panels.row_panels = std::min({kStripePanels, rows_end - row, most_tiles()});
      const i64 cols = most_tiles() / panels.row_panels;
      for (i64 col = std::max(row, work.b_first / kPanelRows); col < cols_end && exec_.ok();
           col += cols) {
        panels.col_first = col;
        panels.col_panels = std::min(cols, cols_end - col);
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
