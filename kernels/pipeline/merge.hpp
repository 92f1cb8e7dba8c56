// Sorted segments of two groups of rows become those of both: what lets a table be sorted while it
// is still arriving.
#pragma once

#include "block.hpp"
#include "pipeline/sorted.hpp"

namespace cupel::device {

/// Segments whose tiles are handed out one after the other, a tile being of one segment.
struct MergeShape {
  static constexpr int kThreads = 256;
  static constexpr int kItems = 8;
  static constexpr int kTile = kThreads * kItems;
};

/// Merges two sorted runs of every segment, the segments of each group lying one after another:
/// segment s of the result begins at left_starts[s] + right_starts[s] - right_starts[0]. Equal keys
/// of the left group come first. Each thread merges kItems keys of a tile in shared memory, as
/// Green, Odeh and Birk's merge path does; positions in the tile are written there, so that keys
/// and weights are moved by neighbouring threads to neighbouring places.
template <class Key>
struct MergeSegments {
  static constexpr int kThreads = MergeShape::kThreads;
  static constexpr int kItems = MergeShape::kItems;
  static constexpr int kTile = MergeShape::kTile;

  const Key* keys;
  const u64* weights;       ///< null without weights
  const i64* left_starts;   ///< [segments + 1], in `keys`
  const i64* right_starts;  ///< [segments + 1], in `keys`
  const i64* tile_starts;   ///< [segments + 1]
  i64 segments;
  Key* out_keys;
  u64* out_weights;

  CUPEL_HD i64 shared_bytes() const {
    return 2 * static_cast<i64>(sizeof(i64)) + kTile * static_cast<i64>(sizeof(Key) + sizeof(u16));
  }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    i64* splits = reinterpret_cast<i64*>(block.shared());
    Key* own = reinterpret_cast<Key*>(splits + 2);
    u16* order = reinterpret_cast<u16*>(own + kTile);
    for (i64 tile = block.index(); tile < tile_starts[segments]; tile += block.count()) {
      const i64 segment = owner_of(tile_starts, segments + 1, tile);
      const i64 left_first = left_starts[segment];
      const i64 left_size = left_starts[segment + 1] - left_first;
      const i64 right_first = right_starts[segment];
      const i64 right_size = right_starts[segment + 1] - right_first;
      const i64 first = (tile - tile_starts[segment]) * kTile;
      const i64 rest = left_size + right_size - first;
      const int size = rest < kTile ? static_cast<int>(rest) : kTile;
      block.each([&](int t) {
        if (t % 32 != 0 || t > 32) return;
        const i64 rank = t == 0 ? first : first + size;
        splits[t / 32] =
            merge_split(keys + left_first, left_size, keys + right_first, right_size, rank);
      });
      // The tile's keys of the left run, then those of the right one.
      const auto source = [&](int i) {
        const int lefts = static_cast<int>(splits[1] - splits[0]);
        return i < lefts ? left_first + splits[0] + i
                         : right_first + first - splits[0] + (i - lefts);
      };
      block.each([&](int t) {
        for (int i = t; i < size; i += kThreads) own[i] = keys[source(i)];
      });
      block.each([&](int t) {
        const int from = t * kItems;
        if (from >= size) return;
        const int lefts = static_cast<int>(splits[1] - splits[0]);
        const Key* right = own + lefts;
        int l = static_cast<int>(merge_split(own, i64{lefts}, right, i64{size} - lefts, i64{from}));
        int r = from - l;
        const int to = from + kItems < size ? from + kItems : size;
        for (int i = from; i < to; ++i) {
          const bool take_left = r == size - lefts || (l < lefts && !(right[r] < own[l]));
          order[i] = static_cast<u16>(take_left ? l : lefts + r);
          l += take_left ? 1 : 0;
          r += take_left ? 0 : 1;
        }
      });
      const i64 out = left_first + right_first - right_starts[0] + first;
      block.each([&](int t) {
        for (int i = t; i < size; i += kThreads) {
          const int at = order[i];
          out_keys[out + i] = own[at];
          if (weights != nullptr) out_weights[out + i] = weights[source(at)];
        }
      });
    }
  }
};

}  // namespace cupel::device
