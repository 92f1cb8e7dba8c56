// The seam between states and the device: what a device computes, in plain integers. Implemented
// once, by templates over where they run (pipeline/pipelines_on.hpp): on CUDA, and for the tests by
// g++ on the host. C++17 and the standard library only, so that both compilers read it.
//
// Every call returns true, or false when the device ran out of memory or failed; status() says
// which. Nothing is thrown but std::bad_alloc for memory of the host.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cupel/core/buffer.hpp"
#include "cupel/core/int.hpp"
#include "cupel/math/bins.hpp"
#include "cupel/math/conformal.hpp"
#include "cupel/math/element.hpp"
#include "cupel/math/embedding.hpp"
#include "cupel/math/pair_kernel.hpp"
#include "cupel/math/rank_fold.hpp"

namespace cupel::device {

enum class Fault : u8 { kNone, kOutOfMemory, kFailed };

struct Status {
  Fault fault = Fault::kNone;
  std::string what;  ///< for people: the call and the device's words
  bool ok() const { return fault == Fault::kNone; }
};

/// DeviceOptions in plain integers.
struct RunOptions {
  i64 memory_limit = 0;
  i64 fail_at_launch = 0;
  i64 part_rows = 0;
};

enum class TaskKind : u8 { kBinary, kMulticlass, kMultilabel };

/// A table as it lies in host memory: TableView in plain types.
struct HostTable {
  TaskKind task = TaskKind::kBinary;
  bool logits = false;
  i64 rows = 0;
  i64 columns = 1;  ///< of scores
  Element element = Element::kF32;
  const unsigned char* scores = nullptr;
  i64 row_stride = 0;  ///< bytes
  i64 column_stride = 0;
  const u8* binary_labels = nullptr;
  const i32* class_labels = nullptr;
  const u8* label_matrix = nullptr;
  const double* weights_f64 = nullptr;
  const float* weights_f32 = nullptr;
  const u32* cells = nullptr;
  u32 cell_count = 1;
  const u64* row_keys = nullptr;  ///< what draws follow; null: first_row + row
  u64 first_row = 0;

  bool weighted() const { return weights_f64 != nullptr || weights_f32 != nullptr; }
  i64 problems() const { return task == TaskKind::kBinary ? 1 : columns; }
};

/// One sorted run of keys in the form that the caller chose: plain, counted or weighted (see
/// KeyRun).
template <class Key>
struct HostRun {
  Buffer<Key> keys;
  Buffer<u64> counts;
  Buffer<u128> weights;
  u64 rows = 0;  ///< rows behind it, those of zero weight too
};

/// Runs of segments [problem][cell][label]: index (problem * cells + cell) * 2 + label.
struct HostRuns {
  std::vector<HostRun<u32>> narrow;  ///< keys of at most 32 bits
  std::vector<HostRun<u64>> wide;
};

/// What the folds of one problem start from and end with.
template <class M>
struct ProblemFolds {
  u64 pos_rows = 0;
  u64 neg_rows = 0;
  ClassMass<M> all{};
  std::vector<RankFold<M>> folds;    ///< one a query; finished
  std::vector<RangeFold<M>> ranges;  ///< kRankRanges for each kRanges query, in order
};
struct HostFolds {
  std::vector<ProblemFolds<u64>> counted;
  std::vector<ProblemFolds<u128>> weighted;
};

/// What to sum of each row; RowSpec in plain types.
struct RowWork {
  std::vector<double> thresholds;
  std::vector<i64> top_k;
  bool brier = false;
  bool log_loss = false;
  bool exact_match = false;
  std::vector<BinQuery> bins;
  bool softmax_f32 = false;     ///< of multiclass logits
  std::vector<double> factors;  ///< [cells] of a tempering; empty: none
  bool slopes = false;
  double epsilon = 0;
};

/// Where the sums of a segment (problem, cell) stand among 64-bit limbs. A sum of integers wider
/// than 32 bits is kept as one limb for each 32 bits of its terms, so that adding never carries.
struct RowLayout {
  i64 problems = 1;
  i64 cells = 1;
  i64 classes = 2;
  i64 rules = 0;
  i64 top_k = 0;
  i64 mass_limbs = 1;  ///< 1: rows are counted; 4: masses of 128 bits
  i64 term_limbs = 4;  ///< of a sum of terms below 2^96: 4 for rows, 7 with masses

  // Per class: rows, then the mass, then the mass of hits by rule (masses of rows are the rows).
  CUPEL_HD i64 class_limbs() const { return 1 + (mass_limbs == 1 ? 0 : 4) + rules * mass_limbs; }
  CUPEL_HD i64 mass_at() const { return mass_limbs == 1 ? 0 : 1; }
  CUPEL_HD i64 hits_at(i64 rule) const { return 1 + (mass_limbs == 1 ? 0 : 4) + rule * mass_limbs; }
  // Per segment.
  CUPEL_HD i64 segment_limbs() const { return top_k * mass_limbs + 2 * term_limbs + 3; }
  CUPEL_HD i64 top_k_at(i64 k) const { return k * mass_limbs; }
  CUPEL_HD i64 brier_at() const { return top_k * mass_limbs; }
  CUPEL_HD i64 loss_at() const { return brier_at() + term_limbs; }
  CUPEL_HD i64 clipped_at() const { return loss_at() + term_limbs; }
  CUPEL_HD i64 outside_at() const { return clipped_at() + 1; }
  CUPEL_HD i64 overflowed_at() const { return clipped_at() + 2; }

  // Per bin, of all queries behind everything else: rows, the mass and the mass of the right ones
  // (both only beside masses; rows else), and the sum of confidences.
  i64 bin_count = 0;
  i64 moment_count = 0;  ///< bins of the queries with moments, behind all bins
  CUPEL_HD i64 bin_limbs() const { return mass_limbs == 1 ? 2 + 2 : 1 + 4 + 4 + 7; }
  CUPEL_HD i64 right_at() const { return mass_limbs == 1 ? 1 : 5; }
  CUPEL_HD i64 confidence_at() const { return right_at() + mass_limbs; }
  CUPEL_HD i64 confidence_limbs() const { return mass_limbs == 1 ? 2 : 7; }
  CUPEL_HD i64 bin_first(i64 bin) const {
    return class_total() + segments() * segment_limbs() + bin * bin_limbs();
  }
  // Per bin of these: sums of the confidences that were right, of squares and of spreads.
  CUPEL_HD i64 moments_first(i64 bin) const {
    return bin_first(bin_count) + bin * 3 * confidence_limbs();
  }
  CUPEL_HD i64 square_at() const { return confidence_limbs(); }
  CUPEL_HD i64 spread_at() const { return 2 * confidence_limbs(); }

  CUPEL_HD i64 segments() const { return problems * cells; }
  CUPEL_HD i64 class_total() const { return segments() * classes * class_limbs(); }
  CUPEL_HD i64 total() const { return moments_first(moment_count); }
  /// Index of the first limb of a class, and of a segment.
  CUPEL_HD i64 class_first(i64 segment, i64 cls) const {
    return (segment * classes + cls) * class_limbs();
  }
  CUPEL_HD i64 segment_first(i64 segment) const {
    return class_total() + segment * segment_limbs();
  }
};

/// Where the slopes of a tempering stand, behind all that a layout has: sums of term_limbs limbs,
/// [segment][3].
struct SlopeLayout {
  i64 first = 0;
  i64 term_limbs = 4;
  CUPEL_HD i64 at(i64 segment, i64 slope) const {
    return first + (segment * 3 + slope) * term_limbs;
  }
};
inline SlopeLayout slope_layout(const RowLayout& layout) {
  return {layout.total(), layout.term_limbs};
}

/// The places of a layout's queries; sets `layout.bin_count` and `layout.moment_count`.
inline std::vector<BinPlace> place_bins(const std::vector<BinQuery>& queries, RowLayout& layout) {
  std::vector<BinPlace> places;
  layout.bin_count = 0;
  layout.moment_count = 0;
  for (const BinQuery& query : queries) {
    const i64 sets = bin_sets(query.points, layout.classes);
    const i64 count = layout.segments() * sets * bin_slots(query.bins);
    places.push_back({query, sets, layout.bin_count, layout.moment_count});
    layout.bin_count += count;
    if (query.moments) layout.moment_count += count;
  }
  return places;
}

struct BadRows {
  i64 rows = 0;
  i64 first_row = -1;
  i64 first_column = -1;
};

/// ThresholdsBy and ConformalSet in plain types.
enum class ThresholdOf : u8 { kAll, kCell, kLabel, kRow };
struct SetWork {
  ConformalRule rule;
  ThresholdOf by = ThresholdOf::kAll;
  bool argmax_if_empty = false;
  const i64* thresholds = nullptr;
  i64 threshold_count = 0;
};

/// Of the wanted rows, in their order: ConformalScores and ConformalRowSets in plain types.
struct HostScores {
  std::vector<Buffer<i64>> scores;  ///< [rule][row]
  u64 outside = 0;
};
struct HostRowSets {
  std::vector<Buffer<u32>> packed;  ///< [set][row], size << 1 | covers
  Buffer<i32> ranks;
  u64 outside = 0;
};
/// Tallies of sets, [cell][set][kind]: of the sizes 0 ... classes, then of each label, then of each
/// rank; two words each, rows (the covered ones in the upper half) and labels.
struct HostTallies {
  std::vector<u64> words;
  i64 classes = 2;
  u64 outside = 0;
  i64 kinds() const { return 3 * classes + 1; }
};

/// EmbeddingView in plain types.
struct HostEmbedding {
  PairDomain domain = PairDomain::kL2;
  i64 rows = 0;
  i64 width = 0;
  i64 stride = 0;
  const float* values = nullptr;
  const float* squares = nullptr;
  const u32* classes = nullptr;
  u32 class_count = 0;
  const u32* ties = nullptr;
};

/// The pairs (i, j) of rows, i of one side, j of the other, i < j; and who is told of pairs done.
struct PairWork {
  i64 a_first = 0, a_last = 0;
  i64 b_first = 0, b_last = 0;
  u64 pairs = 0;
  std::function<void(u64 pairs)> progress;  ///< none: nobody
};
/// The same work as `length` of some equal steps, of which all pairs are told together.
inline PairWork share_of(const PairWork& work, u64 step, u64 steps, u64 length = 1) {
  PairWork share = work;
  if (!work.progress) return share;
  share.progress = [tell = work.progress, all = work.pairs, step, steps, length](u64 pairs) {
    tell(static_cast<u64>((u128{all} * step + u128{pairs} * length) / steps));
  };
  return share;
}

/// PairList in plain types.
struct HostPairList {
  struct Tile {
    u32 row, col, count;
  };
  struct Chunk {
    std::vector<Tile> tiles;
    Buffer<float> gaps;
    Buffer<u16> places;
  };
  std::vector<Chunk> chunks;
  bool complete = true;
};
/// What to list: gaps above the first and at most the second of a range.
struct ListWork {
  std::vector<float> bounds;  ///< [range][2]
  bool negatives_only = false;
  i64 most_bytes = 0;
};

/// The nearest rows of each row, in no order.
struct HostNearest {
  std::vector<u64> firsts;  ///< [rows] where those of a row begin
  std::vector<u32> counts;  ///< [rows]
  Buffer<u32> keys;
  Buffer<u32> rows;
};

class Pipelines {
 public:
  virtual ~Pipelines() = default;
  virtual const Status& status() const = 0;
  /// Forgets an earlier out-of-memory; a failure stays.
  virtual void recover() = 0;
  virtual i64 free_bytes() = 0;

  /// Makes room for a table on the device. Columns that are there from the last call, at the same
  /// addresses and of the same shape, stay where `keep` says that they have not changed; the others
  /// are brought by the calls that follow, in parts, while what has arrived is computed on. No call
  /// returns while the host's columns are being read.
  virtual bool set_table(const HostTable& table, bool keep) = 0;
  /// Drops the columns on the device.
  virtual void drop_table() = 0;

  // What follows speaks of the table that was set.

  virtual bool bad_rows(BadRows& out) = 0;
  /// Sorted runs of problems [first, last), every cell, both labels.
  virtual bool runs(i64 first, i64 last, HostRuns& out) = 0;
  /// Whether the runs of so many problems, without cells, come from histograms: then they are
  /// small, and answers are better read off them than folded.
  virtual bool has_histograms(i64 problems) const = 0;
  /// Answers of problems [first, last) over all rows, cells ignored.
  virtual bool folds(i64 first, i64 last, const std::vector<RankQuery>& queries,
                     HostFolds& out) = 0;
  /// Row sums as limbs; with work.slopes these behind them.
  virtual bool row_sums(const RowWork& work, RowLayout& layout, std::vector<u64>& limbs) = 0;
  /// Conformal scores of the labels of the rows in cells with `wanted` [cell] != 0.
  virtual bool conformal_scores(const std::vector<ConformalRule>& rules,
                                const std::vector<u8>& wanted, HostScores& out) = 0;
  /// The sets of these rows, and what they add up to by cell.
  virtual bool conformal_row_sets(const std::vector<SetWork>& sets, const std::vector<u8>& wanted,
                                  HostRowSets& out) = 0;
  virtual bool conformal_tallies(const std::vector<SetWork>& sets, const std::vector<u8>& wanted,
                                 HostTallies& out) = 0;
  /// Of a row-major matrix of f64 probabilities: the sum of pair_term() over the pairs of a row in
  /// [first, last) with each later one.
  virtual bool pair_sum(i64 first, i64 last, double nu, i128& out) = 0;
  /// How many of these pairs have each upper half of distance_key(), or, with `within`, each lower
  /// half behind the upper half `high`; out has kDistanceBuckets counts.
  virtual bool pair_distances(i64 first, i64 last, bool within, u32 high,
                              std::vector<u64>& out) = 0;

  /// Brings an embedding, or keeps the one that is there, at the same addresses and of the same
  /// shape, where `keep` says that it has not changed. drop_table() drops it too.
  virtual bool set_embedding(const HostEmbedding& embedding, bool keep) = 0;

  // What follows speaks of the embedding that was set.

  /// Pairs of one class, and of two (for both), by class and the first cut that is not below their
  /// gap, [class][cut]. Pairs above the last of the ascending cuts are not counted.
  virtual bool pair_cuts(const PairWork& work, const std::vector<float>& cuts,
                         std::vector<u64>& pos, std::vector<u64>& neg) = 0;
  /// The gap_key() of all pairs of one class, and of two: ascending keys, either distinct with
  /// counts or as often as they occur.
  virtual bool pair_ranks(const PairWork& work, HostRun<u32>& pos, HostRun<u32>& neg) = 0;
  /// Pairs in ranges of gaps; given up where they take more bytes than they may.
  virtual bool pair_list(const PairWork& work, const ListWork& list, HostPairList& out) = 0;
  /// The nearest of each row's others among the pairs, wanted[row] where there are so many: those
  /// of larger keys, of equal ones those of smaller ties.
  virtual bool pair_nearest(const PairWork& work, const u32* wanted, HostNearest& out) = 0;
};

}  // namespace cupel::device
