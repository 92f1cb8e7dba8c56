#include "backend/pair_list.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "backend/cpu_level.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel {

ListSink::ListSink(const EmbeddingView& view, const PairPass& pass, int threads)
    : view_(view), pass_(pass), workers_(static_cast<std::size_t>(threads)) {}

void ListSink::begin(int, i64, i64) {}

void ListSink::take(int thread, const GapTile& tile) {
  if (pass_.kept_negatives_only && tile.classes == GapTile::Classes::kOne) return;
  if (bytes_.load(std::memory_order_relaxed) > pass_.kept_bytes) return;
  Worker& worker = workers_[static_cast<std::size_t>(thread)];
  for (const GapRange& range : pass_.kept) {
    // A vector is stored whole, so that there is always room for more than a tile.
    if (worker.chunks.empty() || worker.used + 2 * kTilePairs > kChunk) {
      if (!worker.chunks.empty()) {
        worker.chunks.back().gaps.resize(worker.used);
        worker.chunks.back().places.resize(worker.used);
        if (publish(worker) > pass_.kept_bytes) return;
      }
      PairList::Chunk made;
      made.gaps.resize(kChunk);
      made.places.resize(kChunk);
      worker.chunks.push_back(std::move(made));
      worker.used = 0;
    }
    PairList::Chunk& chunk = worker.chunks.back();
    float* gaps = chunk.gaps.data() + worker.used;
    u16* places = chunk.places.data() + worker.used;
    std::size_t count = 0;
#if CUPEL_HAS_TARGETS
    if (cpu_level() >= CpuLevel::kV4) {
      count = append_v4(tile, range, gaps, places);
    } else {
      count = append_base(tile, range, gaps, places);
    }
#else
    count = append_base(tile, range, gaps, places);
#endif
    if (count == 0) continue;
    chunk.tiles.push_back(
        {static_cast<u32>(tile.row), static_cast<u32>(tile.col), static_cast<u32>(count)});
    worker.used += count;
    worker.bytes +=
        static_cast<i64>(count * (sizeof(float) + sizeof(u16)) + sizeof(PairList::Tile));
  }
}

std::size_t ListSink::append_base(const GapTile& tile, const GapRange& range, float* gaps,
                                  u16* places) const {
  std::size_t count = 0;
  for (int r = 0; r < tile.rows; ++r) {
    const float* of_row = tile.gaps + r * kTileCols;
    const u32 own = view_.classes[tile.row + r];
    for (int c = 0; c < tile.cols; ++c) {
      if (!(of_row[c] > range.low && of_row[c] <= range.high)) continue;
      if (pass_.kept_negatives_only && own == view_.classes[tile.col + c]) continue;
      gaps[count] = of_row[c];
      places[count] = static_cast<u16>(r << 8 | c);
      ++count;
    }
  }
  return count;
}

#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V4 std::size_t ListSink::append_v4(const GapTile& tile, const GapRange& range,
                                                float* gaps, u16* places) const {
  constexpr int kLanes = 16;
  const __m512 low = _mm512_set1_ps(range.low);
  const __m512 high = _mm512_set1_ps(range.high);
  const __m512i ascending = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const bool compare = pass_.kept_negatives_only && tile.classes == GapTile::Classes::kMixed;
  std::size_t count = 0;
  for (int r = 0; r < tile.rows; ++r) {
    const u32 own = view_.classes[tile.row + r];
    for (int c = 0; c < tile.cols; c += kLanes) {
      const __m512 of_row = _mm512_load_ps(tile.gaps + r * kTileCols + c);
      __mmask16 inside = _mm512_cmp_ps_mask(of_row, high, _CMP_LE_OQ);
      inside = _mm512_mask_cmp_ps_mask(inside, of_row, low, _CMP_GT_OQ);
      if (inside == 0) continue;
      if (compare) {
        const auto there = static_cast<__mmask16>((1U << std::min(tile.cols - c, kLanes)) - 1U);
        const __m512i other = _mm512_maskz_loadu_epi32(there, view_.classes + tile.col + c);
        inside =
            _mm512_mask_cmpneq_epi32_mask(inside, other, _mm512_set1_epi32(static_cast<int>(own)));
      }
      const __m512i place = _mm512_add_epi32(ascending, _mm512_set1_epi32(r << 8 | c));
      _mm512_storeu_ps(gaps + count, _mm512_maskz_compress_ps(inside, of_row));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(places + count),
                          _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(inside, place)));
      count += static_cast<std::size_t>(std::popcount(static_cast<u32>(inside)));
    }
  }
  return count;
}
#else
std::size_t ListSink::append_v4(const GapTile& tile, const GapRange& range, float* gaps,
                                u16* places) const {
  return append_base(tile, range, gaps, places);
}
#endif

i64 ListSink::publish(Worker& worker) {
  const i64 all = bytes_.fetch_add(worker.bytes, std::memory_order_relaxed) + worker.bytes;
  worker.bytes = 0;
  return all;
}

void ListSink::end(int thread) {
  Worker& worker = workers_[static_cast<std::size_t>(thread)];
  if (publish(worker) <= pass_.kept_bytes) return;
  worker.chunks.clear();
  worker.used = 0;
}

PairList ListSink::finish() {
  PairList list;
  if (bytes_.load(std::memory_order_relaxed) > pass_.kept_bytes) {
    list.complete = false;
    return list;
  }
  for (Worker& worker : workers_) {
    if (worker.chunks.empty()) continue;
    PairList::Chunk& rest = worker.chunks.back();  // much of its room may be unused
    rest.gaps.resize(worker.used);
    rest.places.resize(worker.used);
    rest.gaps.shrink_to_fit();
    rest.places.shrink_to_fit();
    for (PairList::Chunk& chunk : worker.chunks) list.chunks.push_back(std::move(chunk));
  }
  return list;
}

}  // namespace cupel
