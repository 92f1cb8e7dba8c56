#include "backend/pair_counts.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <limits>

#include "backend/cpu_level.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel {
namespace {

constexpr std::size_t kCells = 4096;

/// The pairs of the rows of `a` with the rows of `b`, first <= i < last, i < j.
u64 pairs_between(i64 a_first, i64 a_last, i64 b_first, i64 b_last) {
  PairPass pass;
  pass.a_first = a_first;
  pass.a_last = std::max(a_first, a_last);
  pass.b_first = b_first;
  pass.b_last = std::max(b_first, b_last);
  return pass.pairs();
}

}  // namespace

CutSink::CutSink(const EmbeddingView& view, const PairPass& pass, int threads)
    : view_(view),
      pass_(pass),
      columns_(pass.cuts.size() + 1),
      cuts_(pass.cuts),
      first_(pass.cuts.front()),
      last_(pass.cuts.back()),
      counts_(view.class_count, pass.cuts.size()) {
  cuts_.push_back(std::numeric_limits<float>::infinity());
  // Rounding may put a gap a cell too high or too low: hints allow for one.
  const float width = last_ - first_;
  per_cell_ = width > 0 ? static_cast<float>(kCells - 1) / width : 0;
  if (!(per_cell_ <= std::numeric_limits<float>::max())) per_cell_ = 0;
  hints_.resize(kCells + 1);
  for (std::size_t cell = 0, column = 0; cell <= kCells && per_cell_ > 0; ++cell) {
    while (column + 1 < columns_ &&
           (cuts_[column] - first_) * per_cell_ < static_cast<float>(cell) - 1.5F) {
      ++column;
    }
    hints_[cell] = static_cast<u32>(column);
  }
  const std::size_t cells = view.class_count * columns_;
  workers_.resize(static_cast<std::size_t>(threads));
  shared_ = cells * 2 * sizeof(u32) * workers_.size() > kOwnTables;
}

std::size_t CutSink::column_of(float gap) const {
  const float place = (gap - first_) * per_cell_;
  std::size_t column = hints_[place > 0 ? std::min(static_cast<std::size_t>(place), kCells) : 0];
  while (gap > cuts_[column]) ++column;
  return column;
}

void CutSink::begin(int thread, i64, i64) {
  Worker& worker = workers_[static_cast<std::size_t>(thread)];
  if (shared_ || !worker.neg.empty()) return;
  const std::size_t cells = view_.class_count * columns_;
  worker.pos.assign(cells, 0);
  worker.neg.assign(cells, 0);
}

void CutSink::end(int thread) {
  Worker& worker = workers_[static_cast<std::size_t>(thread)];
  if (!shared_ && worker.pairs > kMostPairs / 2) flush(worker);
}

void CutSink::flush(Worker& worker) {
  const std::scoped_lock lock(mutex_);
  for (std::size_t i = 0; i < worker.pos.size(); ++i) counts_.pos[i] += worker.pos[i];
  for (std::size_t i = 0; i < worker.neg.size(); ++i) counts_.neg[i] += worker.neg[i];
  std::fill(worker.pos.begin(), worker.pos.end(), 0);
  std::fill(worker.neg.begin(), worker.neg.end(), 0);
  worker.pairs = 0;
}

void CutSink::take(int thread, const GapTile& tile) {
  Worker& worker = workers_[static_cast<std::size_t>(thread)];
  worker.pairs += static_cast<u64>(kTileRows) * kTileCols;
  if (shared_) return take_base<true>(worker, tile);
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV4) return take_v4(worker, tile);
#endif
  take_base<false>(worker, tile);
}

template <bool kShared>
void CutSink::take_base(Worker& worker, const GapTile& tile) {
  const auto add = [](auto& own, std::vector<u64>& all, std::size_t at) {
    if constexpr (kShared) {
      std::atomic_ref<u64>(all[at]).fetch_add(1, std::memory_order_relaxed);
      static_cast<void>(own);
    } else {
      ++own[at];
      static_cast<void>(all);
    }
  };
  for (int r = 0; r < tile.rows; ++r) {
    const float* gaps = tile.gaps + r * kTileCols;
    int inside = 0;
    for (int c = 0; c < kTileCols; ++c) inside += gaps[c] <= last_ ? 1 : 0;
    if (inside == 0) continue;
    const u32 own = view_.classes[tile.row + r];
    for (int c = 0; c < tile.cols; ++c) {
      if (!(gaps[c] <= last_)) continue;
      const std::size_t column = column_of(gaps[c]);
      const u32 other = view_.classes[tile.col + c];
      if (own == other) {
        add(worker.pos, counts_.pos, own * columns_ + column);
      } else {
        add(worker.neg, counts_.neg, own * columns_ + column);
        add(worker.neg, counts_.neg, other * columns_ + column);
      }
    }
  }
}

#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V4 void CutSink::take_v4(Worker& worker, const GapTile& tile) {
  constexpr int kLanes = 16;
  constexpr int kVectors = kTileCols / kLanes;
  const __m512 first = _mm512_set1_ps(first_);
  const __m512 last = _mm512_set1_ps(last_);
  u32* neg = worker.neg.data();
  u32* pos = worker.pos.data();
  const auto columns = static_cast<u32>(columns_);
  // Places in a table are below 2^28 cells.
  __m512i other[kVectors];
  __m512i base[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    const int there = std::clamp(tile.cols - v * kLanes, 0, kLanes);
    const auto mask = static_cast<__mmask16>((1U << there) - 1U);
    other[v] = _mm512_maskz_loadu_epi32(mask, view_.classes + tile.col + v * kLanes);
    base[v] = _mm512_mullo_epi32(other[v], _mm512_set1_epi32(static_cast<int>(columns)));
  }
  __m512i below_of_column[kVectors];
  for (auto& counts : below_of_column) counts = _mm512_setzero_si512();
  __mmask16 any_below[kVectors] = {};
  alignas(64) u32 at_row[kLanes];
  alignas(64) u32 at_column[kLanes];
  for (int r = 0; r < tile.rows; ++r) {
    const u32 own = view_.classes[tile.row + r];
    const u32 own_base = own * columns;
    u32 below_of_row = 0;
    for (int v = 0; v < kVectors; ++v) {
      const __m512 gaps = _mm512_load_ps(tile.gaps + r * kTileCols + v * kLanes);
      const __mmask16 inside = _mm512_cmp_ps_mask(gaps, last, _CMP_LE_OQ);
      if (inside == 0) continue;
      const __mmask16 below = _mm512_mask_cmp_ps_mask(inside, gaps, first, _CMP_LE_OQ);
      __mmask16 same = 0;
      if (tile.classes != GapTile::Classes::kApart) {
        same = _mm512_cmpeq_epi32_mask(other[v], _mm512_set1_epi32(static_cast<int>(own)));
      }
      if (below != 0) {
        const auto apart = static_cast<__mmask16>(below & ~same);
        below_of_row += static_cast<u32>(std::popcount(static_cast<u32>(apart)));
        below_of_column[v] = _mm512_mask_add_epi32(below_of_column[v], apart, below_of_column[v],
                                                   _mm512_set1_epi32(1));
        any_below[v] |= apart;
        pos[own_base] += static_cast<u32>(std::popcount(static_cast<u32>(below & same)));
      }
      const auto middle = static_cast<__mmask16>(inside & ~below);
      if (middle == 0) continue;
      // The column of each gap: a hint, and steps up from it.
      const __m512 place = _mm512_mul_ps(_mm512_sub_ps(gaps, first), _mm512_set1_ps(per_cell_));
      __m512i cell = _mm512_cvttps_epi32(place);
      cell = _mm512_max_epi32(_mm512_setzero_si512(),
                              _mm512_min_epi32(cell, _mm512_set1_epi32(kCells)));
      __m512i column =
          _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), middle, cell, hints_.data(), 4);
      for (;;) {
        const __m512 cut =
            _mm512_mask_i32gather_ps(_mm512_setzero_ps(), middle, column, cuts_.data(), 4);
        const __mmask16 above = _mm512_mask_cmp_ps_mask(middle, gaps, cut, _CMP_GT_OQ);
        if (above == 0) break;
        column = _mm512_mask_add_epi32(column, above, column, _mm512_set1_epi32(1));
      }
      const __m512i of_row =
          _mm512_add_epi32(column, _mm512_set1_epi32(static_cast<int>(own_base)));
      const auto apart = static_cast<__mmask16>(middle & ~same);
      if (apart != 0) {
        const __m512i of_column = _mm512_add_epi32(column, base[v]);
        _mm512_store_si512(at_row, _mm512_maskz_compress_epi32(apart, of_row));
        _mm512_store_si512(at_column, _mm512_maskz_compress_epi32(apart, of_column));
        const int count = std::popcount(static_cast<u32>(apart));
        for (int i = 0; i < count; ++i) {
          ++neg[at_row[i]];
          ++neg[at_column[i]];
        }
      }
      const auto joined = static_cast<__mmask16>(middle & same);
      if (joined != 0) {
        _mm512_store_si512(at_row, _mm512_maskz_compress_epi32(joined, of_row));
        const int count = std::popcount(static_cast<u32>(joined));
        for (int i = 0; i < count; ++i) ++pos[at_row[i]];
      }
    }
    neg[own_base] += below_of_row;
  }
  for (int v = 0; v < kVectors; ++v) {
    if (any_below[v] == 0) continue;
    alignas(64) u32 counts[kLanes];
    alignas(64) u32 bases[kLanes];
    _mm512_store_si512(counts, below_of_column[v]);
    _mm512_store_si512(bases, base[v]);
    for (int i = 0; i < kLanes; ++i) neg[bases[i]] += counts[i];
  }
}
#else
void CutSink::take_v4(Worker& worker, const GapTile& tile) { take_base<false>(worker, tile); }
#endif

ClassCuts CutSink::finish() {
  if (!shared_) {
    for (Worker& worker : workers_) flush(worker);
  }
  // What is above every cut follows from the sizes of the classes.
  i64 first = 0;
  for (u32 cls = 0; cls < view_.class_count; ++cls) {
    i64 last = first;
    while (last < view_.rows && view_.classes[last] == cls) ++last;
    const auto inside = [&](i64 side_first, i64 side_last) {
      return std::pair(std::max(first, side_first), std::min(last, side_last));
    };
    const auto [a_first, a_last] = inside(pass_.a_first, pass_.a_last);
    const auto [b_first, b_last] = inside(pass_.b_first, pass_.b_last);
    const u64 pos = pairs_between(a_first, a_last, b_first, b_last);
    const u64 touching = pairs_between(a_first, a_last, pass_.b_first, pass_.b_last) +
                         pairs_between(pass_.a_first, pass_.a_last, b_first, b_last);
    u64 pos_below = 0;
    u64 neg_below = 0;
    for (std::size_t column = 0; column + 1 < columns_; ++column) {
      pos_below += counts_.pos_at(cls, column);
      neg_below += counts_.neg_at(cls, column);
    }
    counts_.pos_at(cls, columns_ - 1) = pos - pos_below;
    counts_.neg_at(cls, columns_ - 1) = touching - 2 * pos - neg_below;
    first = last;
  }
  return std::move(counts_);
}

}  // namespace cupel
