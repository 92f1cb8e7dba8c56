// The arithmetic of tiles: dot products of a few rows with packed columns, and the gaps that they
// make. Every product is the chain of embedding.hpp, whatever instruction set computes it.
#pragma once

#include "backend/pair_tile.hpp"
#include "cupel/core/buffer.hpp"

namespace cupel {

/// Columns of tiles, packed so that a step of all chains reads neighbouring floats.
struct PackedColumns {
  PackedColumns() = default;
  PackedColumns(PackedColumns&&) noexcept = default;
  PackedColumns& operator=(PackedColumns&&) noexcept = default;

  i64 first = 0;
  int count = 0;                  ///< at most kTileCols; the rest is zeros
  const float* values = nullptr;  ///< [width][kTileCols], 64-byte aligned, in `memory`
  Buffer<float> memory;
  alignas(64) float squares[kTileCols] = {};
  alignas(64) u32 classes[kTileCols] = {};
};

/// Packs the rows [first, first + count) of a view, at most kTileCols.
void pack_columns(const EmbeddingView& view, i64 first, int count, PackedColumns& to);

/// The gaps of the rows [row, row + rows) with the columns, as GapTile describes them, into `gaps`
/// (kTileRows * kTileCols, 64-byte aligned). Cost: rows * columns * width fused operations.
GapTile make_tile(const EmbeddingView& view, i64 row, int rows, const PackedColumns& columns,
                  float* gaps);

}  // namespace cupel
