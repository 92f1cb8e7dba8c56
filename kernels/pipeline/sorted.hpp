// What is read off sorted segments: where distinct keys begin, how many there are, and the tie
// groups of a problem's positives and negatives, folded into the answers of queries.
#pragma once

#include "atomic.hpp"
#include "block.hpp"
#include "cupel/math/rank_fold.hpp"
#include "pipelines.hpp"

namespace cupel::device {

/// The last of `count` ascending starts that is at or below `at`; starts[0] is.
CUPEL_HD CUPEL_INLINE i64 owner_of(const i64* starts, i64 count, i64 at) {
  i64 low = 0;
  i64 high = count;  // starts[low] <= at < starts[high]
  while (high - low > 1) {
    const i64 middle = low + (high - low) / 2;
    if (starts[middle] <= at) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

/// How many of `size` ascending keys are below `key` (or, with kOrEqual, at or below it).
template <bool kOrEqual, class Key>
CUPEL_HD CUPEL_INLINE i64 keys_below(const Key* keys, i64 size, Key key) {
  i64 low = 0;
  i64 high = size;
  while (low < high) {
    const i64 middle = low + (high - low) / 2;
    if (keys[middle] < key || (kOrEqual && keys[middle] == key)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/// The end of the run of keys equal to `key` that has reached `from`: steps that double, then
/// halve.
template <class Key>
CUPEL_HD CUPEL_INLINE i64 run_end(const Key* keys, i64 from, i64 size, Key key) {
  i64 step = 1;
  while (from < size && keys[from] == key) {
    const i64 next = from + step < size ? from + step : size;
    if (keys[next - 1] != key) return from + keys_below<true>(keys + from, next - from, key);
    from = next;
    step *= 2;
  }
  return from;
}

/// How many keys of the first of two ascending runs are among the first `rank` of both merged,
/// equal keys of the first run before those of the second.
template <class Key>
CUPEL_HD CUPEL_INLINE i64 merge_split(const Key* first, i64 first_size, const Key* second,
                                      i64 second_size, i64 rank) {
  i64 low = rank > second_size ? rank - second_size : 0;
  i64 high = rank < first_size ? rank : first_size;
  while (low < high) {
    const i64 middle = low + (high - low) / 2;
    // Key `middle` comes before key `rank - 1 - middle` of the second when it is not above it.
    if (first[middle] <= second[rank - 1 - middle]) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/// Whether a distinct key begins at `at` of keys whose segments begin at `starts`.
template <class Key>
struct IsHead {
  const Key* keys;
  const i64* starts;  ///< [segments + 1], ascending; empty segments repeat a start
  i64 segments;

  CUPEL_HD bool operator()(i64 at) const {
    if (at == 0 || keys[at] != keys[at - 1]) return true;
    return starts[owner_of(starts, segments + 1, at)] == at;
  }
};

/// Counts the distinct keys of each segment.
template <class Key>
struct CountHeads {
  static constexpr int kThreads = 256;
  static constexpr int kItems = 16;

  const Key* keys;
  const i64* starts;  ///< [segments + 1]
  i64 segments;
  u64* distinct;  ///< [segments]

  CUPEL_HD i64 shared_bytes() const { return 4 * static_cast<i64>(sizeof(i64)); }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    constexpr i64 kTile = kThreads * kItems;
    const i64 size = starts[segments];
    const i64 tiles = (size + kTile - 1) / kTile;
    i64* ends = reinterpret_cast<i64*>(block.shared());
    u64* own = reinterpret_cast<u64*>(ends + 2);
    for (i64 tile = block.index(); tile < tiles; tile += block.count()) {
      const i64 first = tile * kTile;
      const i64 last = first + kTile < size ? first + kTile : size;
      block.each([&](int t) {
        if (t < 2) ends[t] = owner_of(starts, segments + 1, t == 0 ? first : last - 1);
        if (t == 0) *own = 0;
      });
      block.each([&](int t) {
        const bool one_segment = ends[0] == ends[1];
        u64 heads = 0;
        for (int i = 0; i < kItems; ++i) {
          const i64 at = first + i * kThreads + t;
          if (at >= last) break;
          const i64 segment = one_segment
                                  ? ends[0]
                                  : ends[0] + owner_of(starts + ends[0], ends[1] - ends[0] + 1, at);
          const bool head = at == starts[segment] || keys[at] != keys[at - 1];
          if (!head) continue;
          if (one_segment) {
            ++heads;
          } else {
            atomic_add(&distinct[segment], u64{1});
          }
        }
        if (heads != 0) atomic_add(own, heads);
      });
      block.each([&](int t) {
        if (t == 0 && *own != 0) atomic_add(&distinct[ends[0]], *own);
      });
    }
  }
};

/// The sorted positives and negatives of one problem. For rows, key i stands for one row and keys
/// repeat; with weights keys are distinct, and masses_below[i] is the mass of the keys before i,
/// less masses_below[0], modulo 2^128.
template <class Key>
struct SortedProblem {
  const Key* pos = nullptr;
  const Key* neg = nullptr;
  i64 pos_size = 0;
  i64 neg_size = 0;
  const u128* pos_masses_below = nullptr;
  const u128* neg_masses_below = nullptr;
};

CUPEL_HD CUPEL_INLINE u64 mass_below(const u128*, i64 index, u64) {
  return static_cast<u64>(index);
}
CUPEL_HD CUPEL_INLINE u128 mass_below(const u128* masses_below, i64 index, u128) {
  return masses_below[index] - masses_below[0];
}

/// How keys are handed out for folding: a chunk is consecutive tiles of one problem's merged order
/// (ascending, positives before negatives of the same key).
struct FoldShape {
  static constexpr int kThreads = 128;
  static constexpr int kItems = 8;
  static constexpr i64 kTile = kThreads * kItems;
  static constexpr i64 kChunkTiles = 32;
  static constexpr i64 kChunk = kTile * kChunkTiles;
};

/// A tile of the merged order in shared memory, and its tie groups.
template <class Key, class M>
struct Tile {
  // In shared memory: bounds of the tile in both runs, then the keys.
  struct Bounds {
    i64 pos_first, pos_last, neg_first, neg_last;
  };
  Bounds* bounds;
  Key* keys;

  static constexpr i64 kBytes =
      static_cast<i64>(sizeof(Bounds)) + FoldShape::kTile * static_cast<i64>(sizeof(Key));

  CUPEL_HD explicit Tile(unsigned char* shared)
      : bounds(reinterpret_cast<Bounds*>(shared)),
        keys(reinterpret_cast<Key*>(shared + sizeof(Bounds))) {}

  /// How many positives are among the first `rank` keys of the merged order.
  CUPEL_HD static i64 split(const SortedProblem<Key>& p, i64 rank) {
    return merge_split(p.pos, p.pos_size, p.neg, p.neg_size, rank);
  }

  /// Loads keys [first, last) of the merged order. Two phases.
  template <class Block>
  CUPEL_HD CUPEL_INLINE void load(Block& block, const SortedProblem<Key>& p, i64 first, i64 last) {
    block.each([&](int t) {
      if (t == 0) {
        bounds->pos_first = split(p, first);
        bounds->neg_first = first - bounds->pos_first;
      } else if (t == 32) {
        bounds->pos_last = split(p, last);
        bounds->neg_last = last - bounds->pos_last;
      }
    });
    block.each([&](int t) {
      const i64 positives = bounds->pos_last - bounds->pos_first;
      for (i64 i = t; i < last - first; i += FoldShape::kThreads) {
        keys[i] =
            i < positives ? p.pos[bounds->pos_first + i] : p.neg[bounds->neg_first + i - positives];
      }
    });
  }

  /// Calls visit(group) for each tie group whose first key is among item `i` of the tile.
  template <class Visit>
  CUPEL_HD CUPEL_INLINE void group_at(const SortedProblem<Key>& p, i64 i, Visit visit) const {
    const i64 positives = bounds->pos_last - bounds->pos_first;
    const i64 negatives = bounds->neg_last - bounds->neg_first;
    const Key* own_neg = keys + positives;
    const Key key = keys[i];
    i64 pos_from;
    i64 pos_to;
    i64 neg_from;
    i64 neg_to;
    if (i < positives) {
      pos_from = bounds->pos_first + i;
      const bool is_head = pos_from == 0 || (i > 0 ? keys[i - 1] : p.pos[pos_from - 1]) != key;
      if (!is_head) return;
      pos_to = end_of(keys, i, positives, p.pos, bounds->pos_first, p.pos_size, key);
      // Negatives of this key come after it in the merged order: in this tile or later.
      const i64 below = keys_below<false>(own_neg, negatives, key);
      neg_from = bounds->neg_first + below;
      neg_to = end_of(own_neg, below, negatives, p.neg, bounds->neg_first, p.neg_size, key);
    } else {
      const i64 j = i - positives;
      neg_from = bounds->neg_first + j;
      const bool is_head = neg_from == 0 || (j > 0 ? own_neg[j - 1] : p.neg[neg_from - 1]) != key;
      if (!is_head) return;
      // Positives of this key would come before it: in this tile or the one before.
      const i64 at_or_below = keys_below<true>(keys, positives, key);
      pos_from = bounds->pos_first + at_or_below;
      if (pos_from > 0 && (at_or_below > 0 ? keys[at_or_below - 1] : p.pos[pos_from - 1]) == key) {
        return;
      }
      pos_to = pos_from;
      neg_to = end_of(own_neg, j, negatives, p.neg, bounds->neg_first, p.neg_size, key);
    }
    TieGroup<M> g;
    g.key = key;
    g.pos_below = mass_below(p.pos_masses_below, pos_from, M{});
    g.neg_below = mass_below(p.neg_masses_below, neg_from, M{});
    g.pos = mass_below(p.pos_masses_below, pos_to, M{}) - g.pos_below;
    g.neg = mass_below(p.neg_masses_below, neg_to, M{}) - g.neg_below;
    visit(g);
  }

 private:
  /// The end, in the whole run, of the keys equal to `key` from item `from` of the tile's part.
  CUPEL_HD static i64 end_of(const Key* part, i64 from, i64 part_size, const Key* run,
                             i64 part_first, i64 run_size, Key key) {
    const i64 end = run_end(part, from, part_size, key);
    return end < part_size ? part_first + end : run_end(run, part_first + end, run_size, key);
  }
};

/// Queries whose folds one pass over the tie groups makes: finding the groups costs more than
/// folding them.
template <RankQueryKind... kKinds>
struct Queries {
  static constexpr int kCount = sizeof...(kKinds);
  template <class M>
  struct Folds {
    RankFold<M> of[kCount];
  };

  /// `contexts` has one for each query.
  template <class M>
  CUPEL_HD CUPEL_INLINE static void add(const FoldContext<M>* contexts, const TieGroup<M>& g,
                                        Folds<M>& folds) {
    int i = 0;
    ((fold_group<kKinds>(contexts[i], g, folds.of[i]), ++i), ...);
  }
  template <class M>
  CUPEL_HD CUPEL_INLINE static void merge(const FoldContext<M>* contexts, const Folds<M>& from,
                                          Folds<M>& into) {
    int i = 0;
    ((merge_fold<kKinds>(contexts[i], from.of[i], into.of[i]), ++i), ...);
  }
  template <class M>
  CUPEL_HD CUPEL_INLINE static void finish(const FoldContext<M>* contexts, Folds<M>& folds) {
    int i = 0;
    ((finish_fold<kKinds>(contexts[i], folds.of[i]), ++i), ...);
  }
};

/// Folds every tie group into the answers of some queries; their folds for each chunk.
template <class Asked, class Key, class M>
struct FoldChunks {
  static constexpr int kThreads = FoldShape::kThreads;
  using Folds = typename Asked::template Folds<M>;

  const SortedProblem<Key>* problems;
  const FoldContext<M>* contexts;  ///< [problems][queries]
  const i64* chunk_starts;         ///< [problems + 1]
  i64 problem_count;
  Folds* folds;  ///< [chunks]

  CUPEL_HD static i64 scratch_at() { return (Tile<Key, M>::kBytes + 15) / 16 * 16; }
  CUPEL_HD i64 shared_bytes() const {
    return scratch_at() + kThreads * static_cast<i64>(sizeof(Folds));
  }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    Tile<Key, M> tile(block.shared());
    auto* scratch = reinterpret_cast<Folds*>(block.shared() + scratch_at());
    for (i64 chunk = block.index(); chunk < chunk_starts[problem_count]; chunk += block.count()) {
      const i64 problem = owner_of(chunk_starts, problem_count + 1, chunk);
      const SortedProblem<Key>& p = problems[problem];
      const FoldContext<M>* own_contexts = contexts + problem * Asked::kCount;
      const i64 size = p.pos_size + p.neg_size;
      const i64 begin = (chunk - chunk_starts[problem]) * FoldShape::kChunk;
      const i64 end = begin + FoldShape::kChunk < size ? begin + FoldShape::kChunk : size;
      typename Block::template PerThread<Folds> own;
      for (i64 first = begin; first < end; first += FoldShape::kTile) {
        const i64 last = first + FoldShape::kTile < end ? first + FoldShape::kTile : end;
        tile.load(block, p, first, last);
        block.each([&](int t) {
          for (i64 i = t; i < last - first; i += kThreads) {
            tile.group_at(p, i, [&](const TieGroup<M>& g) { Asked::add(own_contexts, g, own[t]); });
          }
        });
      }
      merge_block<kThreads>(block, own, scratch, [&](const Folds& from, Folds& into) {
        Asked::merge(own_contexts, from, into);
      });
      block.each([&](int t) {
        if (t == 0) folds[chunk] = own[t];
      });
    }
  }
};

/// Merges a problem's folds of chunks into its answers. A block takes a problem at a time.
template <class Asked, class M>
struct MergeFolds {
  static constexpr int kThreads = FoldShape::kThreads;
  using Folds = typename Asked::template Folds<M>;

  const FoldContext<M>* contexts;  ///< [problems][queries]
  const i64* chunk_starts;
  i64 problem_count;
  const Folds* folds;
  Folds* answers;  ///< [problems]

  CUPEL_HD i64 shared_bytes() const { return kThreads * static_cast<i64>(sizeof(Folds)); }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    auto* scratch = reinterpret_cast<Folds*>(block.shared());
    for (i64 problem = block.index(); problem < problem_count; problem += block.count()) {
      const FoldContext<M>* own_contexts = contexts + problem * Asked::kCount;
      typename Block::template PerThread<Folds> own;
      const auto merge = [&](const Folds& from, Folds& into) {
        Asked::merge(own_contexts, from, into);
      };
      block.each([&](int t) {
        own[t] = Folds{};
        for (i64 c = chunk_starts[problem] + t; c < chunk_starts[problem + 1]; c += kThreads) {
          merge(folds[c], own[t]);
        }
      });
      merge_block<kThreads>(block, own, scratch, merge);
      block.each([&](int t) {
        if (t != 0) return;
        Asked::finish(own_contexts, own[t]);
        answers[problem] = own[t];
      });
    }
  }
};

/// Limbs of 32 bits, each in 64, that atomic additions sum without carries.
CUPEL_HD CUPEL_INLINE void add_limbs(u64* limbs, u128 value, int count) {
  for (int i = 0; i < count; ++i) {
    const u64 limb = static_cast<u64>(value >> (32 * i)) & 0xFFFFFFFFu;
    if (limb != 0) atomic_add(&limbs[i], limb);
  }
}
CUPEL_HD CUPEL_INLINE void add_limbs(u64* limbs, const U256& value, int count) {
  for (int i = 0; i < count; ++i) {
    const u64 limb = (value.limb[i / 2] >> (32 * (i % 2))) & 0xFFFFFFFFu;
    if (limb != 0) atomic_add(&limbs[i], limb);
  }
}

/// Where the parts of a RangeFold stand among its limbs.
template <class M>
struct RangeLimbs {
  static constexpr int kMass = 4;
  static constexpr int kSum = sizeof(RankSum<M>) / 4;
  static constexpr int kCount = 2 * kMass + 2 * kSum;
};

/// Folds every tie group into the shares of ranges, as limbs.
template <class Key, class M>
struct FoldRanges {
  static constexpr int kThreads = FoldShape::kThreads;
  using Limbs = RangeLimbs<M>;

  const SortedProblem<Key>* problems;
  const FoldContext<M>* contexts;
  const i64* chunk_starts;
  i64 problem_count;
  u64* limbs;  ///< [problems][kRankRanges][Limbs::kCount], zeroed before

  CUPEL_HD i64 shared_bytes() const { return Tile<Key, M>::kBytes; }

  /// The share that a thread is adding to: neighbours in the ranking are mostly in one range.
  struct Own {
    i32 range = -1;
    RangeFold<M> share;
  };

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    Tile<Key, M> tile(block.shared());
    for (i64 chunk = block.index(); chunk < chunk_starts[problem_count]; chunk += block.count()) {
      const i64 problem = owner_of(chunk_starts, problem_count + 1, chunk);
      const SortedProblem<Key>& p = problems[problem];
      const FoldContext<M>& context = contexts[problem];
      u64* of_problem = limbs + problem * kRankRanges * Limbs::kCount;
      const i64 size = p.pos_size + p.neg_size;
      const i64 begin = (chunk - chunk_starts[problem]) * FoldShape::kChunk;
      const i64 end = begin + FoldShape::kChunk < size ? begin + FoldShape::kChunk : size;
      typename Block::template PerThread<Own> own;
      for (i64 first = begin; first < end; first += FoldShape::kTile) {
        const i64 last = first + FoldShape::kTile < end ? first + FoldShape::kTile : end;
        tile.load(block, p, first, last);
        block.each([&](int t) {
          Own& mine = own[t];
          for (i64 i = t; i < last - first; i += kThreads) {
            tile.group_at(p, i, [&](const TieGroup<M>& g) {
              RangeFold<M> share;
              const int range = fold_range(context, g, share);
              if (range != mine.range) {
                hand_over(mine, of_problem);
                mine.range = range;
              }
              mine.share.merge(share);
            });
          }
        });
      }
      block.each([&](int t) { hand_over(own[t], of_problem); });
    }
  }

 private:
  CUPEL_HD static void hand_over(Own& own, u64* of_problem) {
    if (own.range >= 0) {
      u64* to = of_problem + own.range * Limbs::kCount;
      add_limbs(to, static_cast<u128>(own.share.pos), Limbs::kMass);
      add_limbs(to + Limbs::kMass, static_cast<u128>(own.share.neg), Limbs::kMass);
      add_limbs(to + 2 * Limbs::kMass, own.share.two_u, Limbs::kSum);
      add_limbs(to + 2 * Limbs::kMass + Limbs::kSum, own.share.precision, Limbs::kSum);
    }
    own.range = -1;
    own.share = RangeFold<M>{};
  }
};

}  // namespace cupel::device
