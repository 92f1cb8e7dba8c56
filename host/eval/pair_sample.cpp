#include "eval/pair_sample.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "backend/cpu_level.hpp"
#include "backend/pair_tile.hpp"
#include "cupel/math/counter_random.hpp"

namespace cupel {
namespace {

constexpr u64 kSeed = 0x70616972;
constexpr i64 kAtOnce = 8;

struct RowPair {
  i64 a = 0, b = 0;
};

/// dot_chain() of kAtOnce pairs: independent chains, so that they do not wait for themselves.
CUPEL_INLINE void chains(const EmbeddingView& view, const RowPair* pairs, float* sums) {
  const float* a[kAtOnce];
  const float* b[kAtOnce];
  for (i64 p = 0; p < kAtOnce; ++p) {
    a[p] = view.row(pairs[p].a);
    b[p] = view.row(pairs[p].b);
    sums[p] = 0;
  }
  for (i64 k = 0; k < view.width; ++k) {
    for (i64 p = 0; p < kAtOnce; ++p) sums[p] = add_product(sums[p], a[p][k], b[p][k]);
  }
}

#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V3 void chains_v3(const EmbeddingView& view, const RowPair* pairs, float* sums) {
  chains(view, pairs, sums);
}
#endif

void dot_chains(const EmbeddingView& view, const RowPair* pairs, float* sums) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) return chains_v3(view, pairs, sums);
#endif
  chains(view, pairs, sums);
}

i64 draw_row(u64 draw, i64 rows) {
  return static_cast<i64>(static_cast<u64>(
      (static_cast<u128>(counter_random(kSeed, draw)) * static_cast<u64>(rows)) >> 64));
}

}  // namespace

PairSample sample_pairs(const EmbeddingView& view, i64 count, ThreadPool& pool) {
  PairSample sample;
  sample.domain = view.domain;
  if (view.rows < 2) return sample;
  struct Drawn {
    std::vector<u32> negatives, all;
  };
  constexpr i64 kBlock = 4096;
  const i64 blocks = (count + kBlock - 1) / kBlock;
  std::vector<Drawn> drawn(static_cast<std::size_t>(blocks));
  pool.parallel_for(blocks, [&](int, i64 block) {
    Drawn& own = drawn[static_cast<std::size_t>(block)];
    const i64 last = std::min(count, (block + 1) * kBlock);
    for (i64 first = block * kBlock; first < last; first += kAtOnce) {
      RowPair pairs[kAtOnce];
      float sums[kAtOnce];
      for (i64 p = 0; p < kAtOnce; ++p) {
        const auto draw = static_cast<u64>(first + p) * 2;
        pairs[p] = {draw_row(draw, view.rows), draw_row(draw + 1, view.rows)};
      }
      dot_chains(view, pairs, sums);
      for (i64 p = 0; p < std::min(kAtOnce, last - first); ++p) {
        const auto [a, b] = pairs[p];
        if (a == b) continue;
        const u32 key =
            gap_key(view.domain, pair_gap(view.domain, sums[p], view.squares[a], view.squares[b]));
        own.all.push_back(key);
        if (view.classes[a] != view.classes[b]) own.negatives.push_back(key);
      }
    }
  });
  for (const Drawn& own : drawn) {
    sample.all.insert(sample.all.end(), own.all.begin(), own.all.end());
    sample.negatives.insert(sample.negatives.end(), own.negatives.begin(), own.negatives.end());
  }
  std::sort(sample.all.begin(), sample.all.end(), std::greater<>());
  std::sort(sample.negatives.begin(), sample.negatives.end(), std::greater<>());
  return sample;
}

double PairSample::share(const GapRange& range) const {
  if (all.empty()) return 1;
  const auto closer_than = [&](float gap) {  // pairs up to it
    return std::upper_bound(all.begin(), all.end(),
                            gap_key(domain, std::max(gap, domain == PairDomain::kL2 ? 0.0F : gap)),
                            std::greater<>()) -
           all.begin();
  };
  const auto upto = range.high >= kAllGaps.high ? static_cast<std::ptrdiff_t>(all.size())
                                                : closer_than(range.high);
  const auto before = range.low <= kAllGaps.low || (domain == PairDomain::kL2 && range.low < 0)
                          ? std::ptrdiff_t{0}
                          : closer_than(range.low);
  return static_cast<double>(std::max<std::ptrdiff_t>(upto - before, 0)) /
         static_cast<double>(all.size());
}

GapRange PairSample::bracket(u64 rank, u64 of, double sigmas) const {
  const auto size = static_cast<double>(negatives.size());
  const double p = static_cast<double>(rank) / static_cast<double>(of);
  constexpr double kSlack = 8;  // of small counts, which are not normal
  const double reach = sigmas * std::sqrt(size * p * (1 - p)) + (sigmas > 0 ? kSlack : 0);
  const double low = std::floor(p * size - reach) - 1;
  const double high = std::ceil(p * size + reach);
  GapRange range = kAllGaps;
  if (low >= 0 && low < size) {
    range.low = gap_of_key(domain, negatives[static_cast<std::size_t>(low)] + 1);
  }
  if (high < size) range.high = gap_of_key(domain, negatives[static_cast<std::size_t>(high)]);
  return range;
}

double list_bytes(u64 pairs, double share) {
  const double kept = static_cast<double>(pairs) * share;
  const double tiles = static_cast<double>(pairs) / (kTileRows * kTileCols) + 1;
  return kept * static_cast<double>(sizeof(float) + sizeof(u16)) +
         std::min(kept, tiles) * static_cast<double>(sizeof(PairList::Tile));
}

}  // namespace cupel
