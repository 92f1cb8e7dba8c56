#include "eval/exact_events.hpp"

#include <algorithm>
#include <atomic>

namespace cupel {
namespace {

constexpr int kBinBits = 16;

u32 step_of(const EmbeddingView& view, float gap) { return ~gap_key(view.domain, gap); }

/// The steps of a range: from the first behind its strict end to its loose end.
struct Steps {
  u32 first = 0, last = 0;
  int shift = 0;  ///< of (step - first), to one of 2^kBinBits bins
  std::size_t bin(u32 step) const { return (step - first) >> shift; }
};

Steps steps_between(u32 first, u32 last) {
  Steps steps{first, last, 0};
  while (((last - first) >> steps.shift) >> kBinBits != 0) ++steps.shift;
  return steps;
}

/// Calls take(gap, row, col) for the pairs of a chunk in a range.
template <class Take>
void each_pair(const PairList::Chunk& chunk, const GapRange& range, const Take& take) {
  std::size_t at = 0;
  for (const PairList::Tile& tile : chunk.tiles) {
    for (const std::size_t end = at + tile.count; at < end; ++at) {
      const float gap = chunk.gaps[at];
      if (!(gap > range.low && gap <= range.high)) continue;
      take(gap, tile.row + (chunk.places[at] >> 8), tile.col + (chunk.places[at] & 255));
    }
  }
}

/// By (step, a, b), as one number: most events of a part differ late. A type, so that sorts inline
/// it.
struct Before {
  static u128 number(const PairEvent& event) {
    return static_cast<u128>(event.step) << 64 | static_cast<u64>(event.a) << 32 | event.b;
  }
  bool operator()(const PairEvent& x, const PairEvent& y) const { return number(x) < number(y); }
};

}  // namespace

void sort_events(std::vector<PairEvent>& events, ThreadPool& pool) {
  constexpr std::size_t kSmall = 1 << 15;
  if (events.size() < kSmall) {
    std::sort(events.begin(), events.end(), Before());
    return;
  }
  // Parts of equal ranges of steps, each sorted by itself.
  const auto [least, most] = std::minmax_element(
      events.begin(), events.end(), [](const auto& x, const auto& y) { return x.step < y.step; });
  const Steps steps = steps_between(least->step, most->step);
  std::vector<std::size_t> starts((std::size_t{1} << kBinBits) + 1, 0);
  for (const PairEvent& event : events) ++starts[steps.bin(event.step) + 1];
  for (std::size_t b = 1; b < starts.size(); ++b) starts[b] += starts[b - 1];
  // In place: each event is moved to its part, and what was there is moved on.
  std::vector<std::size_t> next(starts.begin(), starts.end() - 1);
  for (std::size_t b = 0; b + 1 < starts.size(); ++b) {
    while (next[b] < starts[b + 1]) {
      const std::size_t to = steps.bin(events[next[b]].step);
      if (to == b) {
        ++next[b];
      } else {
        std::swap(events[next[b]], events[next[to]++]);
      }
    }
  }
  constexpr i64 kTogether = 256;
  pool.parallel_for((i64{1} << kBinBits) / kTogether, [&](int, i64 index) {
    for (i64 b = index * kTogether; b < (index + 1) * kTogether; ++b) {
      const auto part = static_cast<std::size_t>(b);
      std::sort(events.begin() + static_cast<std::ptrdiff_t>(starts[part]),
                events.begin() + static_cast<std::ptrdiff_t>(starts[part + 1]), Before());
    }
  });
}

void each_event_block(const EmbeddingView& view, const PairList& list, const GapRange& range,
                      i64 bytes, ThreadPool& pool, const EventSink& sink) {
  const auto chunks = static_cast<i64>(list.chunks.size());
  struct Span {
    u32 least = ~u32{0}, most = 0;
    u64 pairs = 0;
  };
  std::vector<Span> spans(static_cast<std::size_t>(chunks));
  pool.parallel_for(chunks, [&](int, i64 c) {
    Span& own = spans[static_cast<std::size_t>(c)];
    float low = range.high, high = range.low;
    each_pair(list.chunks[static_cast<std::size_t>(c)], range, [&](float gap, u32, u32) {
      low = std::min(low, gap);
      high = std::max(high, gap);
      ++own.pairs;
    });
    if (own.pairs == 0) return;
    own.least = step_of(view, low);
    own.most = step_of(view, high);
  });
  Span all;
  for (const Span& own : spans) {
    all.least = std::min(all.least, own.least);
    all.most = std::max(all.most, own.most);
    all.pairs += own.pairs;
  }
  if (all.pairs == 0) return;
  const Steps steps = steps_between(all.least, all.most);
  const u64 fit = static_cast<u64>(std::max<i64>(bytes, 1)) / sizeof(PairEvent) + 1;
  std::vector<u64> in_bin(std::size_t{1} << kBinBits, 0);
  if (all.pairs > fit) {
    std::vector<std::vector<u64>> own(static_cast<std::size_t>(pool.threads()));
    pool.parallel_for(chunks, [&](int worker, i64 c) {
      auto& counts = own[static_cast<std::size_t>(worker)];
      counts.resize(in_bin.size());
      each_pair(list.chunks[static_cast<std::size_t>(c)], range,
                [&](float gap, u32, u32) { ++counts[steps.bin(step_of(view, gap))]; });
    });
    for (const auto& counts : own) {
      for (std::size_t b = 0; b < counts.size(); ++b) in_bin[b] += counts[b];
    }
  }
  std::vector<PairEvent> events;
  for (std::size_t first = 0; first < in_bin.size();) {
    std::size_t last = in_bin.size();
    u64 pairs = all.pairs;
    if (all.pairs > fit) {
      last = first + 1;
      pairs = in_bin[first];
      while (last < in_bin.size() && pairs + in_bin[last] <= fit) pairs += in_bin[last++];
    }
    if (pairs != 0) {
      GapRange part = range;
      const auto end_of = [&](std::size_t bin) {  // the loosest gap in front of a bin
        const u64 step = u64{all.least} + (u64{bin} << steps.shift) - 1;
        return gap_of_key(view.domain, ~static_cast<u32>(step));
      };
      if (first != 0) part.low = end_of(first);
      if (last != in_bin.size() && (u64{last} << steps.shift) <= all.most - all.least) {
        part.high = end_of(last);
      }
      std::vector<u64> of_chunk(static_cast<std::size_t>(chunks));
      pool.parallel_for(chunks, [&](int, i64 c) {
        u64 count = 0;
        each_pair(list.chunks[static_cast<std::size_t>(c)], part,
                  [&](float, u32, u32) { ++count; });
        of_chunk[static_cast<std::size_t>(c)] = count;
      });
      u64 total = 0;
      for (u64& count : of_chunk) total += std::exchange(count, total);
      events.resize(total);
      pool.parallel_for(chunks, [&](int, i64 c) {
        PairEvent* to = events.data() + of_chunk[static_cast<std::size_t>(c)];
        each_pair(list.chunks[static_cast<std::size_t>(c)], part, [&](float gap, u32 i, u32 j) {
          const auto [a, b] = std::minmax(view.classes[i], view.classes[j]);
          *to++ = {step_of(view, gap), a, b};
        });
      });
      sort_events(events, pool);
      sink(events);
    }
    first = last;
  }
}

}  // namespace cupel
