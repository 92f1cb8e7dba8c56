// What passes over all pairs of rows of an embedding leave behind: counts by class at thresholds,
// the ranking of all pairs, each row's nearest rows, and lists of pairs in a range. All but the
// lists are integers that add up: the states of parts of the pairs, merged, are those of the whole.
#pragma once

#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "cupel/core/buffer.hpp"
#include "cupel/core/int.hpp"
#include "cupel/math/embedding.hpp"
#include "cupel/state/rank_table.hpp"

namespace cupel {

/// The largest gap whose score has a key of at least `key`, so that gap <= gap_of_key(key) exactly
/// where gap_key(gap) >= key. Below every gap (-1) for kL2 where no distance is that short.
float gap_of_key(PairDomain domain, u32 key);

/// The largest gap of the pairs that a threshold accepts: distance <= threshold, or similarity >=
/// threshold. NaN is the caller's error.
float gap_cut(PairDomain domain, double threshold);

/// Rows of an embedding, sorted by class. Views only.
struct EmbeddingView {
  PairDomain domain = PairDomain::kL2;
  i64 rows = 0;                    ///< below 2^31
  i64 width = 0;                   ///< elements of a row, at least 1
  i64 stride = 0;                  ///< floats from a row to the next
  const float* values = nullptr;   ///< [rows] of `width`, finite; normalised where that is wanted
  const float* squares = nullptr;  ///< [rows] dot_chain of a row and itself
  const u32* classes = nullptr;    ///< [rows] ascending, below class_count
  u32 class_count = 0;
  const u32* ties = nullptr;  ///< [rows] distinct: of equally near rows the smaller is nearer

  const float* row(i64 i) const { return values + i * stride; }
};

/// Gaps above `low` and at most `high`.
struct GapRange {
  float low = 0;
  float high = 0;
};

/// What one pass collects over the pairs (i, j), first <= i < last of `a`, j of `b`, i < j.
struct PairPass {
  i64 a_first = 0, a_last = 0;  ///< rows of one side
  i64 b_first = 0, b_last = 0;  ///< rows of the other
  /// Ascending gaps, finite; empty: no counts by class. At most 2^28 of cells with all classes.
  std::vector<float> cuts;
  bool ranks = false;
  /// [rows] how many of the nearest rows of a row to keep; empty: of none.
  std::span<const u32> neighbours;
  /// Disjoint, ascending: the pairs whose gap is in one of these are listed.
  std::vector<GapRange> kept;
  bool kept_negatives_only = false;
  /// Most bytes that the list may take: with more, it is given up (PairList::complete).
  i64 kept_bytes = 0;

  /// All pairs of a view.
  static PairPass whole(const EmbeddingView& view) {
    PairPass pass;
    pass.a_last = pass.b_last = view.rows;
    return pass;
  }
  /// How many pairs these are.
  u64 pairs() const;
};

/// Pairs by class and by the first cut that is not below their gap: [class][cut], the last column
/// those above every cut. A pair of one class counts in `pos` of it, once; a pair of two classes in
/// `neg` of both.
struct ClassCuts {
  u32 classes = 0;
  std::size_t columns = 0;  ///< cuts + 1; 0: not asked for
  std::vector<u64> pos, neg;

  ClassCuts() = default;
  ClassCuts(u32 class_count, std::size_t cuts);
  u64& pos_at(u32 cls, std::size_t column) { return pos[cls * columns + column]; }
  u64& neg_at(u32 cls, std::size_t column) { return neg[cls * columns + column]; }
  /// Both of one shape.
  void merge(const ClassCuts& other);
  bool operator==(const ClassCuts&) const = default;
};

/// The nearest rows of each row, nearest first: at most as many as were asked for, fewer where
/// there are no more. Order: larger gap_key, then smaller tie.
struct Neighbours {
  struct One {
    u32 key = 0;  ///< gap_key
    u32 tie = 0;
    u32 row = 0;
    bool operator==(const One&) const = default;
  };
  std::vector<u64> offsets;  ///< [rows + 1]; empty: not asked for
  std::vector<One> rows;

  /// The nearest of both, of each row at most wanted[row]. Of disjoint pairs of one view.
  void merge(const Neighbours& other, std::span<const u32> wanted);
  bool operator==(const Neighbours&) const = default;
};

/// Pairs, in no particular order, in tiles of neighbouring rows: 6 bytes a pair.
struct PairList {
  struct Tile {
    u32 row = 0;  ///< the pair's first row is row + (place >> 8), ...
    u32 col = 0;  ///< ... its second col + (place & 255)
    u32 count = 0;
  };
  struct Chunk {
    std::vector<Tile> tiles;  ///< their pairs follow each other in the buffers below
    Buffer<float> gaps;
    Buffer<u16> places;
  };
  std::vector<Chunk> chunks;
  bool complete = true;  ///< false: there were more than the limit, and the list is empty

  u64 size() const;
  u64 bytes() const;
};

struct PairStates {
  ClassCuts cuts;
  RankTable ranks;  ///< ScoreKind::kF32
  Neighbours neighbours;
  PairList kept;

  /// Lists are joined; `wanted` as in the passes.
  Result<void> merge(PairStates other, std::span<const u32> wanted);
};

/// Called now and then, from one thread at a time, with the pairs done so far in this pass.
using PairProgress = std::function<void(u64 pairs)>;

}  // namespace cupel
