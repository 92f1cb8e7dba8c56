#include "eval/far_keys.hpp"

#include <algorithm>
#include <mutex>
#include <variant>

namespace cupel {
namespace {

/// Gaps as integers in their order.
u32 ordered(float gap) { return key_of_f32(bits_from_float(gap)); }
constexpr int kLowBits = 16;

template <class Key>
std::optional<u64> key_of_rank(const KeyRun<Key>& run, u64 rank) {
  if (run.counts.empty()) {
    if (rank > run.keys.size()) return std::nullopt;
    return run.keys[run.keys.size() - rank];
  }
  for (std::size_t i = run.keys.size(); i-- > 0;) {
    if (rank <= run.counts[i]) return run.keys[i];
    rank -= run.counts[i];
  }
  return std::nullopt;
}

/// Calls take(ordered gap) for the negative pairs of a chunk in a range.
template <class Take>
void each_negative(const EmbeddingView& view, const PairList::Chunk& chunk, const GapRange& range,
                   const Take& take) {
  std::size_t at = 0;
  for (const PairList::Tile& tile : chunk.tiles) {
    for (const std::size_t end = at + tile.count; at < end; ++at) {
      const float gap = chunk.gaps[at];
      if (!(gap > range.low && gap <= range.high)) continue;
      const u32 a = view.classes[tile.row + (chunk.places[at] >> 8)];
      const u32 b = view.classes[tile.col + (chunk.places[at] & 255)];
      if (a != b) take(ordered(gap));
    }
  }
}

}  // namespace

std::vector<GapRange> join_ranges(std::vector<GapRange> ranges) {
  std::erase_if(ranges, [](const GapRange& range) { return !(range.low < range.high); });
  std::sort(ranges.begin(), ranges.end(),
            [](const GapRange& a, const GapRange& b) { return a.low < b.low; });
  std::vector<GapRange> joined;
  for (const GapRange& range : ranges) {
    if (joined.empty() || joined.back().high < range.low) {
      joined.push_back(range);
    } else {
      joined.back().high = std::max(joined.back().high, range.high);
    }
  }
  return joined;
}

std::optional<u64> key_of_negative(const RankTable& table, u64 rank) {
  CUPEL_ASSERT(rank > 0 && !table.weighted());
  return std::visit([&](const auto& runs) { return key_of_rank(runs.neg, rank); }, table.runs());
}

ListedNegatives::ListedNegatives(const EmbeddingView& view, const PairList& list,
                                 std::span<const GapRange> ranges, ThreadPool& pool)
    : view_(view), list_(list), ranges_(ranges), pool_(pool) {
  constexpr std::size_t kBins = std::size_t{1} << (32 - kLowBits);
  for (const GapRange& range : ranges) {
    std::vector<std::vector<u64>> own(static_cast<std::size_t>(pool.threads()));
    pool.parallel_for(static_cast<i64>(list.chunks.size()), [&](int worker, i64 c) {
      auto& counts = own[static_cast<std::size_t>(worker)];
      counts.resize(kBins);
      each_negative(view, list.chunks[static_cast<std::size_t>(c)], range,
                    [&](u32 gap) { ++counts[gap >> kLowBits]; });
    });
    std::vector<u64> all(kBins, 0);
    for (const auto& counts : own) {
      for (std::size_t b = 0; b < counts.size(); ++b) all[b] += counts[b];
    }
    counts_.push_back(std::move(all));
  }
}

std::optional<u32> ListedNegatives::key(std::size_t range, u64 rank) const {
  const std::vector<u64>& counts = counts_[range];
  std::size_t bin = 0;
  while (bin < counts.size() && rank > counts[bin]) rank -= counts[bin++];
  if (bin == counts.size()) return std::nullopt;
  std::mutex mutex;
  std::vector<u64> low(std::size_t{1} << kLowBits, 0);
  pool_.parallel_for(static_cast<i64>(list_.chunks.size()), [&](int, i64 c) {
    std::vector<u16> found;
    each_negative(view_, list_.chunks[static_cast<std::size_t>(c)], ranges_[range], [&](u32 gap) {
      if (gap >> kLowBits == bin) found.push_back(static_cast<u16>(gap));
    });
    const std::scoped_lock lock(mutex);
    for (const u16 gap : found) ++low[gap];
  });
  std::size_t at = 0;
  while (rank > low[at]) rank -= low[at++];
  const auto gap = static_cast<u32>(bin << kLowBits | at);
  return gap_key(view_.domain, float_from_bits(bits_of_f32(gap)));
}

}  // namespace cupel
