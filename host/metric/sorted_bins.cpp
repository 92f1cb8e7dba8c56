#include "metric/sorted_bins.hpp"

#include <algorithm>

#include "cupel/math/bins.hpp"
#include "metric/exact.hpp"

namespace cupel {
namespace {

/// Calls take(group) for each group above the threshold.
template <class Take>
void for_each_above(const SortedConfidences& set, double threshold, const Take& take) {
  set.visit([&](std::span<const ConfidenceGroup> groups) {
    for (const ConfidenceGroup& group : groups) {
      if (group.p > threshold) take(group);
    }
  });
}

/// Adds several groups.
void add_groups(ConfidenceRange& range, std::span<const ConfidenceGroup> groups, bool weighted) {
  if (weighted) {
    for (const ConfidenceGroup& group : groups) add_group(range, group);
    return;
  }
  if (range.mass == 0) range.low = groups.front().p;
  range.high = groups.back().p;
  u64 mass = 0;
  u64 right = 0;
  u128 confidence = 0;
  for (const ConfidenceGroup& group : groups) {
    const u64 rows = static_cast<u64>(group.right) + static_cast<u64>(group.wrong);
    mass += rows;
    right += static_cast<u64>(group.right);
    confidence += u128{rows} * confidence_term(group.p);
  }
  range.mass += mass;
  range.right += right;
  range.confidence += widen<4>(confidence);
}

}  // namespace

void add_group(ConfidenceRange& range, const ConfidenceGroup& group) {
  const u128 mass = group.mass();
  if (range.mass == 0) range.low = group.p;
  range.high = group.p;
  range.mass += mass;
  range.right += group.right;
  const u64 term = confidence_term(group.p);
  range.confidence += mass >> 64 == 0 ? widen<4>(mass * term) : multiply(mass, u128{term});
}

std::vector<ConfidenceRange> mass_ranges(const SortedConfidences& set, i64 bins, double threshold) {
  u128 total = 0;
  if (threshold < 0) {
    total = set.mass();
  } else {
    for_each_above(set, threshold, [&](const ConfidenceGroup& group) { total += group.mass(); });
  }
  std::vector<ConfidenceRange> ranges;
  i64 bin = -1;      // of the last range
  u128 smaller = 0;  // mass before the group
  u128 next = 0;     // the least mass before a group of a later bin
  set.visit([&](std::span<const ConfidenceGroup> groups) {
    while (!groups.empty() && !(groups.front().p > threshold)) groups = groups.subspan(1);
    while (!groups.empty()) {
      if (smaller >= next) {
        while (smaller >= next) next = least_mass_of_bin(total, ++bin + 1, bins);
        ranges.emplace_back();
      }
      std::size_t own = 0;
      for (; own < groups.size() && smaller < next; ++own) smaller += groups[own].mass();
      add_groups(ranges.back(), groups.first(own), set.weighted());
      groups = groups.subspan(own);
    }
  });
  return ranges;
}

std::vector<ConfidenceRange> split_ranges(const SortedConfidences& set, i64 bins) {
  CUPEL_ASSERT(!set.weighted());
  const u64 rows = set.rows();
  const u64 parts = std::min(static_cast<u64>(bins), rows);
  // A cut is before row `cut`: the first rows % parts parts have one row more.
  std::vector<double> edges;
  u64 distinct = 0;
  u64 smaller = 0;
  u64 part = 1;
  double before = 0;
  const auto cut = [&] { return part * (rows / parts) + std::min(part, rows % parts); };
  for_each_above(set, -1, [&](const ConfidenceGroup& group) {
    ++distinct;
    for (; part < parts && cut() == smaller; ++part) edges.push_back((before + group.p) / 2);
    smaller += static_cast<u64>(group.mass());
    for (; part < parts && cut() < smaller; ++part) edges.push_back(group.p);
    before = group.p;
  });
  edges.push_back(1);
  const bool discrete = static_cast<double>(distinct) < static_cast<double>(rows) / 4;
  std::vector<ConfidenceRange> ranges;
  std::size_t edge = 0;
  bool fresh = true;
  for_each_above(set, -1, [&](const ConfidenceGroup& group) {
    for (; edges[edge] < group.p; ++edge) fresh = true;
    if (fresh || discrete) ranges.emplace_back();
    fresh = false;
    add_group(ranges.back(), group);
  });
  return ranges;
}

double gap_of(const ConfidenceRange& range) {
  return exact::to_double(
      (exact::integer(range.right) << kConfidenceBits) - exact::integer(range.confidence),
      exact::integer(range.mass) << kConfidenceBits);
}

Detail::List describe_bins(std::span<const ConfidenceRange> ranges, bool weighted) {
  Detail::List list;
  for (const ConfidenceRange& range : ranges) {
    Detail::Object described{{"low", range.low}, {"high", range.high}};
    if (weighted) {
      described.emplace_back(
          "weight", exact::to_double(exact::integer(range.mass), exact::Integer(1) << 64U));
    } else {
      described.emplace_back("n", static_cast<u64>(range.mass));
    }
    described.emplace_back(
        "confidence", exact::to_double(exact::integer(range.confidence), exact::integer(range.mass)
                                                                             << kConfidenceBits));
    described.emplace_back("accuracy", exact::ratio(range.right, range.mass));
    described.emplace_back("gap", gap_of(range));
    list.emplace_back(std::move(described));
  }
  return list;
}

}  // namespace cupel
