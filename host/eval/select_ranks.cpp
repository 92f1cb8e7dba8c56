#include "eval/select_ranks.hpp"

#include <algorithm>
#include <mutex>

#include "cupel/core/config.hpp"

namespace cupel {
namespace {

constexpr int kBinBits = 16;
constexpr std::size_t kBins = std::size_t{1} << kBinBits;
constexpr i64 kTaskValues = i64{1} << 18;
/// Fewer values than these are sorted at once.
constexpr std::size_t kFewValues = std::size_t{1} << 14;

/// Wanted ranks among the values from `low` to `high`, of which `below` are smaller than low.
struct Range {
  i64 low = 0;
  i64 high = 0;
  i64 below = 0;
  i64 count = 0;
  std::vector<i64> ranks;  ///< among all values
};

class Selection {
 public:
  Selection(std::span<const i64> values, ThreadPool& pool) : values_(values), pool_(pool) {}

  std::vector<i64> run(const std::vector<i64>& ranks) {
    std::vector<Range> ranges;
    if (!ranks.empty()) ranges.push_back(whole(ranks));
    // Bins of at most this many values in all are gathered.
    const i64 most = static_cast<i64>(values_.size() / 8 + 2 * kBins);
    i64 kept = ranges.empty() ? 0 : ranges.front().count;
    while (kept > most) {
      std::vector<Range> narrower;
      for (Range& range : ranges) narrow(range, narrower);
      ranges = std::move(narrower);
      kept = 0;
      for (const Range& range : ranges) kept += range.low == range.high ? 0 : range.count;
    }
    return collect(ranges);
  }

 private:
  void for_parts(const std::function<void(std::span<const i64>)>& take) {
    const auto count = static_cast<i64>(values_.size());
    pool_.parallel_for((count + kTaskValues - 1) / kTaskValues, [&](int, i64 task) {
      const i64 first = task * kTaskValues;
      const i64 last = std::min(count, first + kTaskValues);
      take(
          values_.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first)));
    });
  }

  Range whole(const std::vector<i64>& ranks) {
    Range range{values_[0], values_[0], 0, static_cast<i64>(values_.size()), ranks};
    std::mutex mutex;
    for_parts([&](std::span<const i64> part) {
      i64 low = part[0];
      i64 high = part[0];
      for (const i64 value : part) {
        low = std::min(low, value);
        high = std::max(high, value);
      }
      const std::lock_guard lock(mutex);
      range.low = std::min(range.low, low);
      range.high = std::max(range.high, high);
    });
    return range;
  }

  /// Cuts a range into bins and adds those with a wanted rank.
  void narrow(const Range& range, std::vector<Range>& bins) {
    const u64 width = static_cast<u64>(range.high) - static_cast<u64>(range.low);
    if (width == 0) {
      bins.push_back(range);
      return;
    }
    int shift = 0;
    while ((width >> shift) >= kBins) ++shift;
    std::vector<std::vector<u64>> counts(static_cast<std::size_t>(pool_.threads()));
    const auto count = static_cast<i64>(values_.size());
    pool_.parallel_for((count + kTaskValues - 1) / kTaskValues, [&](int worker, i64 task) {
      std::vector<u64>& own = counts[static_cast<std::size_t>(worker)];
      own.resize(kBins);
      const i64 last = std::min(count, (task + 1) * kTaskValues);
      for (i64 i = task * kTaskValues; i < last; ++i) {
        const u64 from =
            static_cast<u64>(values_[static_cast<std::size_t>(i)]) - static_cast<u64>(range.low);
        if (from <= width) ++own[from >> shift];
      }
    });
    i64 below = range.below;
    auto rank = range.ranks.begin();
    for (std::size_t bin = 0; bin < kBins && rank != range.ranks.end(); ++bin) {
      i64 inside = 0;
      for (const auto& own : counts) inside += own.empty() ? 0 : static_cast<i64>(own[bin]);
      Range one;
      while (rank != range.ranks.end() && *rank <= below + inside) one.ranks.push_back(*rank++);
      if (!one.ranks.empty()) {
        const u64 low = static_cast<u64>(range.low) + (static_cast<u64>(bin) << shift);
        const u64 last = std::min(width, (static_cast<u64>(bin + 1) << shift) - 1);
        one.low = static_cast<i64>(low);
        one.high = static_cast<i64>(static_cast<u64>(range.low) + last);
        one.below = below;
        one.count = inside;
        bins.push_back(std::move(one));
      }
      below += inside;
    }
  }

  /// Gathers what is in the ranges, which ascend, and sorts it.
  std::vector<i64> collect(const std::vector<Range>& ranges) {
    std::vector<std::vector<i64>> inside(ranges.size());
    std::mutex mutex;
    const bool any = std::any_of(ranges.begin(), ranges.end(),
                                 [](const Range& range) { return range.low != range.high; });
    if (any) {
      for_parts([&](std::span<const i64> part) {
        std::vector<std::vector<i64>> own(ranges.size());
        for (const i64 value : part) {
          // Few ranges: one for each rank at most.
          for (std::size_t r = 0; r < ranges.size(); ++r) {
            if (value > ranges[r].high) continue;
            if (value >= ranges[r].low && ranges[r].low != ranges[r].high) own[r].push_back(value);
            break;
          }
        }
        const std::lock_guard lock(mutex);
        for (std::size_t r = 0; r < ranges.size(); ++r) {
          inside[r].insert(inside[r].end(), own[r].begin(), own[r].end());
        }
      });
    }
    std::vector<i64> found;
    for (std::size_t r = 0; r < ranges.size(); ++r) {
      const Range& range = ranges[r];
      std::sort(inside[r].begin(), inside[r].end());
      for (const i64 rank : range.ranks) {
        found.push_back(range.low == range.high
                            ? range.low
                            : inside[r][static_cast<std::size_t>(rank - range.below - 1)]);
      }
    }
    return found;
  }

  std::span<const i64> values_;
  ThreadPool& pool_;
};

}  // namespace

std::vector<i64> values_of_ranks(std::span<const i64> values, const std::vector<i64>& ranks,
                                 ThreadPool& pool) {
  CUPEL_ASSERT(ranks.empty() ||
               (ranks.front() >= 1 && static_cast<std::size_t>(ranks.back()) <= values.size()));
  if (values.size() > kFewValues) return Selection(values, pool).run(ranks);
  std::vector<i64> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  std::vector<i64> found;
  for (const i64 rank : ranks) found.push_back(sorted[static_cast<std::size_t>(rank - 1)]);
  return found;
}

}  // namespace cupel
