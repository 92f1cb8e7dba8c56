// Conformal sets of rows: how many labels each has and whether the row's own is among them, and the
// tallies of cells. Nothing is sorted: where few classes are, every label is placed among the
// others; where many are, the masses of a row are counted in buckets, and the one bucket in which a
// threshold falls is divided until it holds a single mass.
#pragma once

#include "pipeline/conformal_rows.hpp"

namespace cupel::device {

/// Sets of one launch.
inline constexpr i64 kMostSetsAtOnce = 32;
/// Classes up to which every label of a row is placed among the others.
inline constexpr i64 kMostPlacedClasses = 64;

/// ConformalSet on the device.
struct SetOnDevice {
  ConformalRule rule;
  ThresholdOf by = ThresholdOf::kAll;
  bool argmax_if_empty = false;
  const i64* thresholds = nullptr;  ///< by row: of the rows of the launch

  CUPEL_HD i64 threshold(i64 row, i64 cell, i64 label) const {
    switch (by) {
      case ThresholdOf::kAll:
        return thresholds[0];
      case ThresholdOf::kCell:
        return thresholds[cell];
      case ThresholdOf::kLabel:
        return thresholds[label];
      case ThresholdOf::kRow:
        return thresholds[row];
    }
    return kEveryLabel;
  }
};

/// Where sets of rows go.
struct SetsOfRows {
  const SetOnDevice* sets;
  i64 count;
  u32* packed;  ///< [set][row], size << 1 | covers
  i32* ranks;   ///< [row]

  CUPEL_HD void put(i64 rows, i64 row, i64 set, u32 found, i64 rank) const {
    if ((found >> 1) == 0 && sets[set].argmax_if_empty) found = 2u | (rank == 1 ? 1u : 0u);
    packed[set * rows + row] = found;
  }
};

/// Rows of few classes, kGroup threads each: every label is placed among the others, whatever the
/// rules, draws and thresholds.
template <int kGroup>
struct ConformalLabelSets {
  static constexpr int kThreads = 128;
  static constexpr int kRows = kThreads / kGroup;

  ConformalRows rows;
  SetsOfRows out;

  CUPEL_HD i64 mass_bytes() const { return kRows * rows.classes * static_cast<i64>(sizeof(i64)); }
  CUPEL_HD i64 shared_bytes() const {
    return mass_bytes() + kRows * (out.count + 1) * static_cast<i64>(sizeof(u32));
  }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    typename Block::template PerThread<RowScale> scales;
    i64* const masses = reinterpret_cast<i64*>(block.shared());
    // Of a row: size << 1 | covers of each set, then the rank of its label.
    u32* const found = reinterpret_cast<u32*>(block.shared() + mass_bytes());
    for (i64 first = block.index() * kRows; first < rows.table.rows;
         first += block.count() * kRows) {
      scale_rows<kGroup, kThreads>(block, rows, first, nullptr, scales);
      block.each([&](int t) {
        const i64 row = first + t / kGroup;
        if (!rows.is_wanted(row)) return;
        i64* const own = masses + t / kGroup * rows.classes;
        for (i64 j = t % kGroup; j < rows.classes; j += kGroup) {
          own[j] = rows.mass(row, j, scales[t]);
        }
        for (i64 s = t % kGroup; s < out.count; s += kGroup) {
          found[t / kGroup * (out.count + 1) + s] = 0;
        }
      });
      block.each([&](int t) {
        const i64 row = first + t / kGroup;
        if (!rows.is_wanted(row)) return;
        const i64* const own = masses + t / kGroup * rows.classes;
        place_labels(
            row, t % kGroup, [own](i64 j) { return own[j]; }, found + t / kGroup * (out.count + 1));
      });
      block.each([&](int t) {
        const i64 row = first + t / kGroup;
        if (!rows.is_wanted(row)) return;
        const u32* const own = found + t / kGroup * (out.count + 1);
        const i64 rank = own[out.count];
        for (i64 s = t % kGroup; s < out.count; s += kGroup) {
          out.put(rows.table.rows, row, s, own[s], rank);
        }
        if (t % kGroup == 0) out.ranks[row] = static_cast<i32>(rank);
      });
    }
  }

 private:
  template <class Masses>
  CUPEL_HD CUPEL_INLINE void place_labels(i64 row, i64 lane, const Masses& masses,
                                          u32* found) const {
    const i64 label = rows.label(row);
    const i64 cell = rows.table.cell(row);
    const u64 key = rows.key(row);
    const RowLargest largest = row_largest(masses, rows.classes);
    for (i64 j = lane; j < rows.classes; j += kGroup) {
      const LabelPlace place = label_place(masses, rows.classes, j);
      if (j == label) found[out.count] = static_cast<u32>(place.rank);
      for (i64 s = 0; s < out.count; ++s) {
        const SetOnDevice& set = out.sets[s];
        if (conformal_score(set.rule, place, largest, key, j) > set.threshold(row, cell, j)) {
          continue;
        }
        if constexpr (kGroup == 1) {
          found[s] += j == label ? 3u : 2u;
        } else {
          atomic_add(&found[s], j == label ? 3u : 2u);
        }
      }
    }
  }
};

/// A sum of masses in two words: a 64-bit atomic addition in shared memory is a loop.
struct SharedSum {
  u32 low;
  u32 high;
  CUPEL_HD CUPEL_INLINE void add(i64 mass) {
    const u32 part = static_cast<u32>(mass);
    const u32 before = atomic_add(&low, part);
    const u32 carry = before + part < before ? 1u : 0u;
    const u32 rest = static_cast<u32>(static_cast<u64>(mass) >> 32) + carry;
    if (rest != 0) atomic_add(&high, rest);
  }
  CUPEL_HD u64 value() const { return static_cast<u64>(high) << 32 | low; }
};

/// Masses by size: 0, then eight buckets for each power of two.
struct MassBuckets {
  static constexpr int kOctaves = kConformalBits + 1;
  static constexpr int kCount = 1 + 8 * kOctaves;

  /// Of a mass above 0: the exponent and the upper three bits after the leading one.
  CUPEL_HD CUPEL_INLINE static int of(i64 mass) {
    const u64 bits = bits_from_double(static_cast<double>(mass));  // exact
    return 1 + static_cast<int>((bits >> 49) - (u64{1023} << 3));
  }
  CUPEL_HD static i64 low(int bucket) {
    if (bucket == 0) return 0;
    const int octave = (bucket - 1) >> 3;
    return (i64{8 + ((bucket - 1) & 7)} << octave) >> 3;
  }
  CUPEL_HD static i64 width(int bucket) {
    const int octave = (bucket - 1) >> 3;
    return bucket == 0 || octave < 3 ? 1 : i64{1} << (octave - 3);
  }
};

/// The masses of some labels that rank first: how many, and their sum.
struct RankedFirst {
  i64 count = 0;
  u64 sum = 0;
  CUPEL_HD RankedFirst with(i64 more, u64 more_sum) const { return {count + more, sum + more_sum}; }
};

/// The search for the size of one set in a row.
struct SetSearch {
  i64 threshold;
  i64 low;  ///< the mass that is not wholly in the set is of [low, low + width)
  i64 width;
  RankedFirst above;  ///< labels whose masses are larger than this range: all in the set
  i64 inside;         ///< labels in the range
  u64 inside_sum;
  i64 straddling;  ///< of those with this mass, how many are wholly in; -1: no draw decides
  u32 size;
  u32 covers;
};

/// Rows of many classes, a block each; the masses of a row in shared memory, or, where they do not
/// fit, in global memory of the block's own. Thresholds by label: every label is placed among the
/// others, k * k / 128 steps a row.
struct ConformalSetRows {
  static constexpr int kThreads = 128;
  static constexpr int kWarps = kThreads / 32;
  /// Buckets that a range is divided into, and groups of them.
  static constexpr int kParts = 64;
  static constexpr int kPartGroups = 8;

  ConformalRows rows;
  SetsOfRows out;
  bool in_scratch;  ///< masses are in global memory
  i64* scratch;     ///< [blocks][classes]

  /// What a block shares about its row.
  struct Shared {
    SetSearch search[kMostSetsAtOnce];
    RankedFirst octaves[MassBuckets::kOctaves];
    RankedFirst part_groups[kWarps * kPartGroups];
    RowPlace places[kWarps];
    UnitSum sums[kWarps];
    LaneScan scans[kWarps];
    SharedSum bucket_sums[MassBuckets::kCount];
    u32 bucket_counts[MassBuckets::kCount];
    SharedSum part_sums[kWarps * kParts];
    u32 part_counts[kWarps * kParts];
    u32 equal_counts[kThreads];
  };
  static constexpr i64 kSharedSize = (static_cast<i64>(sizeof(Shared)) + 15) / 16 * 16;

  CUPEL_HD static i64 bytes_with_masses(i64 classes) {
    return kSharedSize + classes * static_cast<i64>(sizeof(i64));
  }
  CUPEL_HD i64 shared_bytes() const {
    return in_scratch ? kSharedSize : bytes_with_masses(rows.classes);
  }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    Shared& shared = *reinterpret_cast<Shared*>(block.shared());
    i64* const masses = in_scratch ? scratch + block.index() * rows.classes
                                   : reinterpret_cast<i64*>(block.shared() + kSharedSize);
    for (i64 row = block.index(); row < rows.table.rows; row += block.count()) {
      if (!rows.is_wanted(row)) continue;
      const RowScale scale = read_row(block, shared, row, masses);
      const RowPlace place = find_places(block, shared, row, scale, masses);
      find_first_ranges(block, shared, place.largest());
      for (i64 s = 0; s < out.count; s += kWarps) {
        divide(block, shared, s, place.largest(), masses);
      }
      finish(block, shared, row, place, masses);
    }
  }

 private:
  /// How the size of a set is found.
  CUPEL_HD static bool is_placed(const SetOnDevice& set) { return set.by == ThresholdOf::kLabel; }
  /// Scores that are a single value whatever the rank, but for the first.
  CUPEL_HD static bool is_counted(const SetOnDevice& set) {
    const ConformalScore score = set.rule.score;
    return !is_placed(set) && (score == ConformalScore::kLac || score == ConformalScore::kMargin);
  }
  CUPEL_HD static bool is_searched(const SetOnDevice& set) {
    return !is_placed(set) && !is_counted(set) &&
           (sums_in_order(set.rule.score) || set.rule.draw != ConformalDraw::kNone ||
            set.rule.ties == ConformalTies::kGroup);
  }

  /// The high end of the score of the last of some labels that rank first.
  CUPEL_HD CUPEL_INLINE static bool holds(const ConformalRule& rule, i64 threshold,
                                          const RankedFirst& labels, const RowLargest& largest) {
    if (labels.count == 0) return true;
    const LabelPlace last{0, labels.count - 1, 1, labels.count, labels.sum};
    return score_range(rule, last, largest).high <= threshold;
  }

  /// One value of all threads, for all of them.
  template <class Block, class T, class Merge>
  CUPEL_HD CUPEL_INLINE static void merge_row(Block& block,
                                              typename Block::template PerThread<T>& values,
                                              T* of_warps, Merge merge) {
    block.template merge_groups<32>(values, merge);
    block.each([&](int t) {
      if (t % 32 == 0) of_warps[t / 32] = values[t];
    });
    block.each([&](int t) {
      T all = of_warps[0];
      for (int w = 1; w < kWarps; ++w) merge(of_warps[w], all);
      values[t] = all;
    });
  }

  /// Reads the row; of logits the bits of the softmax's terms stand where the masses will.
  template <class Block>
  CUPEL_HD CUPEL_INLINE RowScale read_row(Block& block, Shared& shared, i64 row,
                                          i64* masses) const {
    typename Block::template PerThread<LaneScan> scan;
    typename Block::template PerThread<UnitSum> sum;
    RowScale scale;
    block.each([&](int t) {
      scan[t] = scan_lane(rows, row, t, kThreads);
      for (int b = t; b < MassBuckets::kCount; b += kThreads) {
        shared.bucket_counts[b] = 0;
        shared.bucket_sums[b] = SharedSum{0, 0};
      }
    });
    merge_row(block, scan, shared.scans, MergeLaneScans{});
    block.each([&](int t) {
      if (t == 0 && scan[t].outside != 0) rows.count_outside();
      sum[t] = UnitSum{};
      if (!rows.has_softmax()) return;
      for (i64 j = t; j < rows.classes; j += kThreads) {
        const double term = softmax_term(rows.value(row, j), scan[t].max + 0.0);
        sum[t].add(term);
        masses[j] = static_cast<i64>(bits_from_double(term));
      }
    });
    if (rows.has_softmax()) {
      merge_row(block, sum, shared.sums, MergeUnitSums{});
      // All threads have the same two values.
      const RowSoftmax softmax{scan[0].max + 0.0, sum[0].value()};
      scale = {softmax.max, softmax_scale(softmax)};
    }
    return scale;
  }

  /// Masses, the place of the row's label, and the buckets; the searches begin.
  template <class Block>
  CUPEL_HD CUPEL_INLINE RowPlace find_places(Block& block, Shared& shared, i64 row,
                                             const RowScale& scale, i64* masses) const {
    typename Block::template PerThread<RowPlace> places;
    const i64 label = rows.label(row);
    block.each([&](int t) {
      places[t] = RowPlace{};
      const i64 of_label = rows.mass(row, label, scale);
      u32 zeros = 0;
      for (i64 j = t; j < rows.classes; j += kThreads) {
        const i64 mass =
            rows.has_softmax()
                ? rows.mass_of_term(double_from_bits(static_cast<u64>(masses[j])), scale)
                : rows.mass(row, j, scale);
        masses[j] = mass;
        places[t].take(mass, j, of_label, label);
        if (mass == 0) {
          ++zeros;
          continue;
        }
        const int bucket = MassBuckets::of(mass);
        atomic_add(&shared.bucket_counts[bucket], 1u);
        shared.bucket_sums[bucket].add(mass);
      }
      if (zeros != 0) atomic_add(&shared.bucket_counts[0], zeros);
    });
    merge_row(block, places, shared.places, MergeRowPlaces{});
    const RowPlace place = places[0];
    block.each([&](int t) {
      for (i64 s = t; s < out.count; s += kThreads) {
        const SetOnDevice& set = out.sets[s];
        const i64 cell = rows.table.cell(row);
        const i64 own = conformal_score(set.rule, place.place(rows.mass(row, label, scale)),
                                        place.largest(), rows.key(row), label);
        SetSearch& search = shared.search[s];
        search = SetSearch{};
        search.threshold = is_placed(set) ? 0 : set.threshold(row, cell, 0);
        search.straddling = -1;
        search.covers = own <= set.threshold(row, cell, label) ? 1 : 0;
      }
      if (t < MassBuckets::kOctaves) {
        RankedFirst all;
        for (int b = 1 + 8 * t; b < 9 + 8 * t; ++b) {
          all = all.with(shared.bucket_counts[b], shared.bucket_sums[b].value());
        }
        shared.octaves[t] = all;
      }
    });
    return place;
  }

  /// The bucket of each searched set that holds the first mass not wholly in it; where there is
  /// none the range is empty.
  template <class Block>
  CUPEL_HD CUPEL_INLINE void find_first_ranges(Block& block, Shared& shared,
                                               const RowLargest& largest) const {
    block.each([&](int t) {
      if (t >= out.count || !is_searched(out.sets[t])) return;
      const ConformalRule& rule = out.sets[t].rule;
      SetSearch& search = shared.search[t];
      const i64 threshold = search.threshold;
      RankedFirst above;
      int octave = MassBuckets::kOctaves - 1;
      for (; octave >= 0; --octave) {
        const RankedFirst own = shared.octaves[octave];
        const RankedFirst with = above.with(own.count, own.sum);
        if (own.count != 0 && !holds(rule, threshold, with, largest)) break;
        above = with;
      }
      int bucket = octave < 0 ? 0 : 8 + 8 * octave;
      if (octave >= 0) {
        for (; bucket > 1 + 8 * octave; --bucket) {
          const i64 count = shared.bucket_counts[bucket];
          const RankedFirst with = above.with(count, shared.bucket_sums[bucket].value());
          if (count != 0 && !holds(rule, threshold, with, largest)) break;
          above = with;
        }
      }
      search.low = MassBuckets::low(bucket);
      search.width = MassBuckets::width(bucket);
      search.inside = shared.bucket_counts[bucket];
      search.inside_sum = shared.bucket_sums[bucket].value();
      if (holds(rule, threshold, above.with(search.inside, search.inside_sum), largest)) {
        above = above.with(search.inside, search.inside_sum);
        search.inside = 0;
      }
      search.above = above;
    });
  }

  /// The search of a set whose range can be divided; null: there is none.
  CUPEL_HD CUPEL_INLINE SetSearch* divisible(Shared& shared, i64 s) const {
    if (s >= out.count) return nullptr;
    SetSearch& search = shared.search[s];
    return search.inside > 1 && search.width > 1 ? &search : nullptr;
  }
  CUPEL_HD CUPEL_INLINE bool any_divisible(Shared& shared, i64 first) const {
    bool any = false;
    for (i64 s = first; s < first + kWarps; ++s) any = any || divisible(shared, s) != nullptr;
    return any;
  }
  CUPEL_HD CUPEL_INLINE static int shift_of_parts(i64 width) {
    int shift = 0;
    while ((width >> shift) > kParts) ++shift;
    return shift;
  }

  /// Divides the ranges of kWarps sets, a warp each, until they have one label or one mass. The
  /// sums of labels that rank first only grow, so that a range always has a mass that is not wholly
  /// in the set.
  template <class Block>
  CUPEL_HD CUPEL_INLINE void divide(Block& block, Shared& shared, i64 first,
                                    const RowLargest& largest, const i64* masses) const {
    constexpr int kEach = kParts / kPartGroups;
    while (any_divisible(shared, first)) {
      block.each([&](int t) {
        for (int p = t; p < kWarps * kParts; p += kThreads) {
          shared.part_counts[p] = 0;
          shared.part_sums[p] = SharedSum{0, 0};
        }
      });
      block.each([&](int t) {
        const SetSearch* const search = divisible(shared, first + t / 32);
        if (search == nullptr) return;
        const i64 low = search->low;
        const u64 width = static_cast<u64>(search->width);
        const int shift = shift_of_parts(search->width);
        for (i64 j = t % 32; j < rows.classes; j += 32) {
          const u64 offset = static_cast<u64>(masses[j] - low);
          if (offset >= width) continue;
          const u64 part = static_cast<u64>(t / 32 * kParts) + (offset >> shift);
          atomic_add(&shared.part_counts[part], 1u);
          shared.part_sums[part].add(masses[j]);
        }
      });
      block.each([&](int t) {
        if (t % 32 >= kPartGroups || divisible(shared, first + t / 32) == nullptr) return;
        RankedFirst all;
        const int begin = t / 32 * kParts + t % 32 * kEach;
        for (int p = begin; p < begin + kEach; ++p) {
          all = all.with(shared.part_counts[p], shared.part_sums[p].value());
        }
        shared.part_groups[t / 32 * kPartGroups + t % 32] = all;
      });
      block.each([&](int t) {
        if (t % 32 != 0) return;
        const int w = t / 32;
        SetSearch* const search = divisible(shared, first + w);
        if (search == nullptr) return;
        const ConformalRule& rule = out.sets[first + w].rule;
        const int shift = shift_of_parts(search->width);
        RankedFirst above = search->above;
        int group = kPartGroups - 1;
        for (; group > 0; --group) {
          const RankedFirst own = shared.part_groups[w * kPartGroups + group];
          const RankedFirst with = above.with(own.count, own.sum);
          if (own.count != 0 && !holds(rule, search->threshold, with, largest)) break;
          above = with;
        }
        int part = (group + 1) * kEach - 1;
        for (; part > group * kEach; --part) {
          const i64 count = shared.part_counts[w * kParts + part];
          const RankedFirst with = above.with(count, shared.part_sums[w * kParts + part].value());
          if (count != 0 && !holds(rule, search->threshold, with, largest)) break;
          above = with;
        }
        search->above = above;
        search->low += i64{part} << shift;
        search->width = i64{1} << shift;
        search->inside = shared.part_counts[w * kParts + part];
        search->inside_sum = shared.part_sums[w * kParts + part].value();
      });
    }
  }

  CUPEL_HD CUPEL_INLINE static i64 mass_of(const SetSearch& search) {
    return search.inside == 1 ? static_cast<i64>(search.inside_sum) : search.low;
  }
  /// The place of the label that is `ahead` labels behind the first of a search's mass.
  CUPEL_HD CUPEL_INLINE static LabelPlace place_behind(const SetSearch& search, i64 ahead) {
    return {mass_of(search), search.above.count, search.inside, search.above.count + ahead + 1,
            search.above.sum};
  }

  /// The labels that are in a searched set whatever the draws of labels.
  CUPEL_HD CUPEL_INLINE void count_searched(const SetOnDevice& set, SetSearch& search,
                                            const RowLargest& largest, u64 key) const {
    const ConformalRule& rule = set.rule;
    const i64 threshold = search.threshold;
    i64 wholly = 0;
    if (rule.ties == ConformalTies::kIndex) {
      i64 beyond = search.inside;
      while (wholly < beyond) {
        const i64 middle = wholly + (beyond - wholly) / 2;
        if (score_range(rule, place_behind(search, middle), largest).high <= threshold) {
          wholly = middle + 1;
        } else {
          beyond = middle;
        }
      }
    }
    search.size = static_cast<u32>(search.above.count + wholly);
    if (wholly == search.inside || rule.draw == ConformalDraw::kNone) return;
    const ScoreRange range = score_range(rule, place_behind(search, wholly), largest);
    if (range.low > threshold) return;
    if (rule.draw == ConformalDraw::kLabel) {
      search.straddling = wholly;
    } else if (drawn_score(rule, range, conformal_draw(rule, key, 0)) <= threshold) {
      search.size += static_cast<u32>(rule.ties == ConformalTies::kGroup ? search.inside : 1);
    }
  }

  /// Where the draw of a label decides: of all labels with the mass of a search, or of one.
  template <class Block>
  CUPEL_HD CUPEL_INLINE void count_drawn(Block& block, Shared& shared, i64 s, u64 key,
                                         const RowLargest& largest, const i64* masses) const {
    SetSearch& search = shared.search[s];
    const i64 ahead = search.straddling;
    if (ahead < 0) return;
    const ConformalRule& rule = out.sets[s].rule;
    const i64 mass = mass_of(search);
    const ScoreRange range = score_range(rule, place_behind(search, ahead), largest);
    const auto count = [&](i64 label) {
      if (drawn_score(rule, range, conformal_draw(rule, key, label)) <= search.threshold) {
        atomic_add(&search.size, 1u);
      }
    };
    // Each thread has neighbouring labels, so that those before its own can be counted.
    const i64 each = (rows.classes + kThreads - 1) / kThreads;
    const auto for_own = [&](int t, const auto& take) {
      const i64 end = (t + 1) * each < rows.classes ? (t + 1) * each : rows.classes;
      for (i64 j = t * each; j < end; ++j) {
        if (masses[j] == mass) take(j);
      }
    };
    const bool group = rule.ties == ConformalTies::kGroup;
    block.each([&](int t) {
      u32 own = 0;
      for_own(t, [&](i64 j) {
        ++own;
        if (group) count(j);
      });
      shared.equal_counts[t] = own;
    });
    if (group) return;
    block.each([&](int t) {
      i64 before = 0;
      for (int other = 0; other < t; ++other) before += shared.equal_counts[other];
      if (ahead < before || ahead >= before + shared.equal_counts[t]) return;
      for_own(t, [&](i64 j) {
        if (before++ == ahead) count(j);
      });
    });
  }

  template <class Block>
  CUPEL_HD CUPEL_INLINE void finish(Block& block, Shared& shared, i64 row, const RowPlace& place,
                                    const i64* masses) const {
    const RowLargest largest = place.largest();
    const i64 cell = rows.table.cell(row);
    const u64 key = rows.key(row);
    const auto mass = [masses](i64 j) { return masses[j]; };
    block.each([&](int t) {
      if (t >= out.count) return;
      const SetOnDevice& set = out.sets[t];
      SetSearch& search = shared.search[t];
      if (is_searched(set)) {
        count_searched(set, search, largest, key);
      } else if (!is_placed(set) && !is_counted(set)) {
        search.size = static_cast<u32>(
            set_size_unordered(set.rule, search.threshold, mass, rows.classes, largest));
      }
    });
    for (i64 s = 0; s < out.count; ++s) {
      if (is_searched(out.sets[s])) count_drawn(block, shared, s, key, largest, masses);
    }
    block.each([&](int t) {
      for (i64 s = 0; s < out.count; ++s) {
        const SetOnDevice& set = out.sets[s];
        if (!is_counted(set)) continue;
        const i64 threshold = shared.search[s].threshold;
        u32 size = 0;
        for (i64 j = t; j < rows.classes; j += kThreads) {
          // Of the ranks, these scores ask only whether it is the first.
          const LabelPlace own{masses[j], 0, 1, j == place.leader ? 1 : 2, 0};
          size += score_range(set.rule, own, largest).high <= threshold ? 1 : 0;
        }
        if (size != 0) atomic_add(&shared.search[s].size, size);
      }
      place_labels(t, shared, row, cell, key, largest, masses);
    });
    const i64 rank = place.larger + place.before + 1;
    block.each([&](int t) {
      if (t == 0) out.ranks[row] = static_cast<i32>(rank);
      if (t >= out.count) return;
      const SetSearch& search = shared.search[t];
      out.put(rows.table.rows, row, t, search.size << 1 | search.covers, rank);
    });
  }

  CUPEL_HD CUPEL_INLINE void place_labels(int t, Shared& shared, i64 row, i64 cell, u64 key,
                                          const RowLargest& largest, const i64* masses) const {
    bool any = false;
    for (i64 s = 0; s < out.count; ++s) any = any || is_placed(out.sets[s]);
    if (!any) return;
    const auto mass = [masses](i64 j) { return masses[j]; };
    for (i64 j = t; j < rows.classes; j += kThreads) {
      const LabelPlace place = label_place(mass, rows.classes, j);
      for (i64 s = 0; s < out.count; ++s) {
        const SetOnDevice& set = out.sets[s];
        if (!is_placed(set)) continue;
        if (conformal_score(set.rule, place, largest, key, j) <= set.threshold(row, cell, j)) {
          atomic_add(&shared.search[s].size, 1u);
        }
      }
    }
  }
};

/// Adds the sets of rows to the tallies of their cells, which lie as HostTallies says.
struct TallySets {
  ConformalRows rows;
  i64 count;
  const u32* packed;
  const i32* ranks;
  u64* tallies;

  CUPEL_HD void operator()(i64 row) const {
    if (!rows.is_wanted(row)) return;
    const i64 label = rows.label(row);
    const i64 rank = ranks[row];
    const i64 classes = rows.classes;
    for (i64 s = 0; s < count; ++s) {
      const u32 found = packed[s * rows.table.rows + row];
      const u64 size = found >> 1;
      const u64 one = 1 + (static_cast<u64>(found & 1u) << 32);
      u64* const own = tallies + (rows.table.cell(row) * count + s) * (3 * classes + 1) * 2;
      add(own + static_cast<i64>(size) * 2, one, size);
      add(own + (classes + 1 + label) * 2, one, size);
      add(own + (2 * classes + rank) * 2, one, size);  // ranks count from 1
    }
  }

 private:
  CUPEL_HD static void add(u64* tally, u64 one, u64 size) {
    atomic_add(&tally[0], one);
    atomic_add(&tally[1], size);
  }
};

}  // namespace cupel::device
