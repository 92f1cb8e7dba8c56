#include "backend/pair_counts.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <limits>

#include "backend/cpu_level.hpp"
#include "cupel/state/class_pairs.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel {
namespace {

constexpr std::size_t kLeastCells = 2048;
constexpr std::size_t kMostCells = std::size_t{1} << 15;
constexpr int kTilePairs = kTileRows * kTileCols;
/// Cuts of one cell that are compared one after another; more are searched.
constexpr std::size_t kMostSteps = 4;

/// The cell of a gap between the first and the last cut. It does not fall with the gap, since no
/// rounding here does.
CUPEL_INLINE u32 cell_of(float gap, float first, float per_cell) {
  if (!(per_cell > 0)) return 0;
  return static_cast<u32>(static_cast<i32>((gap - first) * per_cell));
}

struct Levels {
  float first = 0, last = 0;
  float per_cell = 0;
};

}  // namespace

/// The pairs of a tile between the first and the last cut, row after row.
struct CutSink::Between {
  alignas(64) float gaps[kTilePairs + 16];
  alignas(64) u32 bases[kTilePairs + 16];  ///< of their columns: class * columns
  alignas(64) u32 cells[kTilePairs + 16];
  int ends[kTileRows];
  u32 below[kTileRows];  ///< pairs of each row that are at most at the first cut
};

namespace {

/// What the steps below read and write besides.
struct TileColumns {
  const u32* classes = nullptr;  ///< [cols]
  u32* below = nullptr;          ///< [kTileCols] added to
  u32 columns = 0;
};

// A tile is gone through in steps: what is at most at the first cut is counted by comparisons
// alone, what lies between is packed, gets its cells, and is counted one by one. Steps of their
// own, because a value is read back from memory only well after it was written.

CUPEL_INLINE void find_cells(const float* gaps, const Levels& cuts, int count, u32* cells) {
  for (int i = 0; i < count; ++i) cells[i] = cell_of(gaps[i], cuts.first, cuts.per_cell);
}

template <class Between>
void split_base(const GapTile& tile, const Levels& cuts, const TileColumns& at, Between& to) {
  int count = 0;
  for (int r = 0; r < tile.rows; ++r) {
    const float* gaps = tile.gaps + r * kTileCols;
    u32 below = 0;
    int inside = 0;
    for (int c = 0; c < kTileCols; ++c) {
      below += gaps[c] <= cuts.first ? 1 : 0;
      inside += gaps[c] <= cuts.last ? 1 : 0;
    }
    if (below != 0) {
      for (int c = 0; c < kTileCols; ++c) at.below[c] += gaps[c] <= cuts.first ? 1 : 0;
    }
    if (inside > static_cast<int>(below)) {
      for (int c = 0; c < tile.cols; ++c) {
        to.gaps[count] = gaps[c];
        to.bases[count] = at.classes[c] * at.columns;
        count += gaps[c] > cuts.first && gaps[c] <= cuts.last ? 1 : 0;
      }
    }
    to.below[r] = below;
    to.ends[r] = count;
  }
  find_cells(to.gaps, cuts, count, to.cells);
}

#if CUPEL_HAS_TARGETS

template <class Between>
CUPEL_TARGET_V3 void split_v3(const GapTile& tile, const Levels& cuts, const TileColumns& at,
                              Between& to) {
  constexpr int kLanes = 8;
  constexpr int kVectors = kTileCols / kLanes;
  const __m256 first = _mm256_set1_ps(cuts.first);
  const __m256 last = _mm256_set1_ps(cuts.last);
  int count = 0;
  for (int r = 0; r < tile.rows; ++r) {
    const float* gaps = tile.gaps + r * kTileCols;
    u32 of_row = 0;
    for (int v = 0; v < kVectors; ++v) {
      const __m256 some = _mm256_load_ps(gaps + v * kLanes);
      const __m256 inside = _mm256_cmp_ps(some, last, _CMP_LE_OQ);
      if (_mm256_testz_ps(inside, inside) != 0) continue;
      const __m256 below = _mm256_cmp_ps(some, first, _CMP_LE_OQ);
      const auto low = static_cast<u32>(_mm256_movemask_ps(below));
      if (low != 0) {
        auto* columns = reinterpret_cast<__m256i*>(at.below + v * kLanes);
        _mm256_storeu_si256(
            columns, _mm256_sub_epi32(_mm256_loadu_si256(columns), _mm256_castps_si256(below)));
        of_row += static_cast<u32>(std::popcount(low));
      }
      u32 middle = static_cast<u32>(_mm256_movemask_ps(inside)) & ~low;
      for (; middle != 0; middle &= middle - 1) {
        const int c = v * kLanes + std::countr_zero(middle);
        to.gaps[count] = gaps[c];
        to.bases[count++] = at.classes[c] * at.columns;
      }
    }
    to.below[r] = of_row;
    to.ends[r] = count;
  }
  find_cells(to.gaps, cuts, count, to.cells);
}

template <class Between>
CUPEL_TARGET_V4 void split_v4(const GapTile& tile, const Levels& cuts, const TileColumns& at,
                              Between& to) {
  constexpr int kLanes = 16;
  constexpr int kVectors = kTileCols / kLanes;
  const __m512 first = _mm512_set1_ps(cuts.first);
  const __m512 last = _mm512_set1_ps(cuts.last);
  const __m512i one = _mm512_set1_epi32(1);
  __m512i bases[kVectors];
  __m512i below[kVectors];
  CUPEL_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const int there = std::clamp(tile.cols - v * kLanes, 0, kLanes);
    const auto mask = static_cast<__mmask16>((1U << there) - 1U);
    bases[v] = _mm512_mullo_epi32(_mm512_maskz_loadu_epi32(mask, at.classes + v * kLanes),
                                  _mm512_set1_epi32(static_cast<int>(at.columns)));
    below[v] = _mm512_loadu_si512(at.below + v * kLanes);
  }
  int count = 0;
  for (int r = 0; r < tile.rows; ++r) {
    u32 of_row = 0;
    CUPEL_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const __m512 gaps = _mm512_load_ps(tile.gaps + r * kTileCols + v * kLanes);
      const __mmask16 inside = _mm512_cmp_ps_mask(gaps, last, _CMP_LE_OQ);
      const __mmask16 low = _mm512_cmp_ps_mask(gaps, first, _CMP_LE_OQ);
      const auto middle = static_cast<__mmask16>(inside & ~low);
      below[v] = _mm512_mask_add_epi32(below[v], low, below[v], one);
      of_row += static_cast<u32>(std::popcount(static_cast<u32>(low)));
      _mm512_storeu_ps(to.gaps + count, _mm512_maskz_compress_ps(middle, gaps));
      _mm512_storeu_si512(to.bases + count, _mm512_maskz_compress_epi32(middle, bases[v]));
      count += std::popcount(static_cast<u32>(middle));
    }
    to.below[r] = of_row;
    to.ends[r] = count;
  }
  CUPEL_UNROLL
  for (int v = 0; v < kVectors; ++v) _mm512_storeu_si512(at.below + v * kLanes, below[v]);
  find_cells(to.gaps, cuts, count, to.cells);
}

#endif  // CUPEL_HAS_TARGETS

template <class Between>
void split(const GapTile& tile, const Levels& cuts, const TileColumns& at, Between& to) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV4) return split_v4(tile, cuts, at, to);
  if (cpu_level() >= CpuLevel::kV3) return split_v3(tile, cuts, at, to);
#endif
  split_base(tile, cuts, at, to);
}

}  // namespace

CutSink::CutSink(const EmbeddingView& view, const PairPass& pass, int threads,
                 std::size_t own_tables)
    : view_(view),
      pass_(pass),
      columns_(pass.cuts.size() + 1),
      cuts_(pass.cuts),
      first_(pass.cuts.front()),
      last_(pass.cuts.back()),
      counts_(view.class_count, pass.cuts.size()) {
  cuts_.push_back(std::numeric_limits<float>::infinity());
  const std::size_t cells = std::clamp(std::bit_ceil(4 * columns_), kLeastCells, kMostCells);
  per_cell_ = static_cast<float>(cells - 1) / (last_ - first_);
  std::size_t steps = columns_;  // most cuts of one cell
  if (columns_ <= 0xFFFF && per_cell_ > 0 && per_cell_ <= std::numeric_limits<float>::max()) {
    hints_.resize(cells + 1);  // the last cut may round into a cell more
    steps = 0;
    for (std::size_t cell = 0, column = 0; cell <= cells; ++cell) {
      hints_[cell] = static_cast<u16>(column);
      while (column + 1 < columns_ && cell_of(cuts_[column], first_, per_cell_) <= cell) ++column;
      steps = std::max(steps, column - hints_[cell]);
    }
  } else {
    per_cell_ = 0;
    hints_.assign(1, 0);
  }
  const std::size_t table = view.class_count * columns_;
  workers_.resize(static_cast<std::size_t>(threads));
  shared_ = table * 2 * sizeof(u32) * workers_.size() > own_tables;
  if (steps > kMostSteps) {
    count_ = shared_ ? &CutSink::count<0, true> : &CutSink::count<0, false>;
  } else if (steps > 1) {
    count_ = shared_ ? &CutSink::count<kMostSteps, true> : &CutSink::count<kMostSteps, false>;
  } else {
    count_ = shared_ ? &CutSink::count<1, true> : &CutSink::count<1, false>;
  }
}

void CutSink::begin(int thread, i64 col_first, i64 col_last) {
  Worker& worker = workers_[static_cast<std::size_t>(thread)];
  worker.col_first = col_first;
  worker.below.assign(static_cast<std::size_t>(col_last - col_first + kTileCols), 0);
  if (shared_ || !worker.neg.empty()) return;
  const std::size_t cells = view_.class_count * columns_;
  worker.pos.assign(cells, 0);
  worker.neg.assign(cells, 0);
}

void CutSink::end(int thread) {
  Worker& worker = workers_[static_cast<std::size_t>(thread)];
  for (std::size_t c = 0; c + kTileCols < worker.below.size(); ++c) {
    if (worker.below[c] == 0) continue;
    const u32 of = view_.classes[worker.col_first + static_cast<i64>(c)];
    shared_ ? add<true>(worker.neg, counts_.neg, of * columns_, worker.below[c])
            : add<false>(worker.neg, counts_.neg, of * columns_, worker.below[c]);
  }
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
  worker.pairs += static_cast<u64>(kTilePairs);
  if (tile.classes == GapTile::Classes::kMixed) {
    return shared_ ? take_mixed<true>(worker, tile) : take_mixed<false>(worker, tile);
  }
  u32 none[kTileCols] = {};
  u32* below = tile.classes == GapTile::Classes::kOne
                   ? none
                   : worker.below.data() + (tile.col - worker.col_first);
  Between between;
  split(tile, {first_, last_, per_cell_},
        {view_.classes + tile.col, below, static_cast<u32>(columns_)}, between);
  (this->*count_)(worker, tile, between);
}

template <bool kShared>
void CutSink::add(Buffer<u32>& own, std::vector<u64>& all, std::size_t at, u32 number) {
  if constexpr (kShared) {
    std::atomic_ref<u64>(all[at]).fetch_add(number, std::memory_order_relaxed);
  } else {
    own[at] += number;
  }
}

/// The first cut that is not below a gap at most the last one.
template <int kSteps>
CUPEL_INLINE std::size_t CutSink::column_of(float gap, u32 cell) const {
  std::size_t column = hints_[cell];
  if constexpr (kSteps == 0) {
    return static_cast<std::size_t>(
        std::lower_bound(cuts_.begin() + static_cast<std::ptrdiff_t>(column), cuts_.end(), gap) -
        cuts_.begin());
  }
  CUPEL_UNROLL
  for (int step = 0; step < kSteps; ++step) column += gap > cuts_[column] ? 1 : 0;
  return column;
}

template <int kSteps, bool kShared, bool kOne>
void CutSink::count_row(Worker& worker, u32 base, const Between& between, int from, int to) {
  for (int i = from; i < to; ++i) {
    const std::size_t column = column_of<kSteps>(between.gaps[i], between.cells[i]);
    if constexpr (kOne) {
      add<kShared>(worker.pos, counts_.pos, base + column, 1);
    } else {
      add<kShared>(worker.neg, counts_.neg, base + column, 1);
      add<kShared>(worker.neg, counts_.neg, between.bases[i] + column, 1);
    }
  }
}

template <int kSteps, bool kShared>
void CutSink::count(Worker& worker, const GapTile& tile, const Between& between) {
  const bool one = tile.classes == GapTile::Classes::kOne;
  for (int r = 0, from = 0; r < tile.rows; from = between.ends[r++]) {
    const auto base = static_cast<u32>(view_.classes[tile.row + r] * columns_);
    if (one) {
      add<kShared>(worker.pos, counts_.pos, base, between.below[r]);
      count_row<kSteps, kShared, true>(worker, base, between, from, between.ends[r]);
    } else {
      add<kShared>(worker.neg, counts_.neg, base, between.below[r]);
      count_row<kSteps, kShared, false>(worker, base, between, from, between.ends[r]);
    }
  }
}

template <bool kShared>
void CutSink::take_mixed(Worker& worker, const GapTile& tile) {
  for (int r = 0; r < tile.rows; ++r) {
    const u32 own = view_.classes[tile.row + r];
    for (int c = 0; c < tile.cols; ++c) {
      const float gap = tile.gaps[r * kTileCols + c];
      if (!(gap <= last_)) continue;
      const std::size_t column =
          gap > first_ ? column_of<0>(gap, cell_of(gap, first_, per_cell_)) : 0;
      const u32 other = view_.classes[tile.col + c];
      if (own == other) {
        add<kShared>(worker.pos, counts_.pos, own * columns_ + column, 1);
      } else {
        add<kShared>(worker.neg, counts_.neg, own * columns_ + column, 1);
        add<kShared>(worker.neg, counts_.neg, other * columns_ + column, 1);
      }
    }
  }
}

ClassCuts CutSink::finish() {
  if (!shared_) {
    for (Worker& worker : workers_) flush(worker);
  }
  count_above_cuts(view_, pass_, counts_);
  return std::move(counts_);
}

}  // namespace cupel
