// The state behind every ranking metric: the multiset of scores of a segment, split into positives
// and negatives, as two runs of sorted integer keys.
//
// Two tables of the same rows are equal byte for byte, whatever order, batch, thread or backend
// made them: a run is sorted, and its form (keys that repeat, or distinct keys with counts) follows
// from its content alone. Laws: merge commutes and associates, the empty table is its identity, its
// source is unchanged, decode(encode(t)) == t.
#pragma once

#include <span>
#include <variant>
#include <vector>

#include "cupel/core/buffer.hpp"
#include "cupel/core/bytes.hpp"
#include "cupel/core/int.hpp"
#include "cupel/core/result.hpp"
#include "cupel/math/score_key.hpp"
#include "cupel/state/rank_summary.hpp"

namespace cupel {

/// Sorted keys of one class of rows. Exactly one form:
/// - plain: `keys` ascending, one entry per row, equal keys repeated; counts and weights empty;
/// - counted: `keys` strictly ascending with `counts` (>= 1) beside them; used exactly when it is
///   smaller than the plain form;
/// - weighted: `keys` strictly ascending with `weights` (> 0) beside them.
template <class Key>
struct KeyRun {
  Buffer<Key> keys;
  Buffer<u64> counts;
  Buffer<u128> weights;

  /// Sum of counts or weights, or the number of keys. O(size).
  u128 mass() const;
  bool operator==(const KeyRun&) const = default;
};

/// Whether `rows` rows with `distinct` distinct keys are kept in counted form.
template <class Key>
constexpr bool is_counted_form(u64 rows, u64 distinct) {
  return distinct * (sizeof(Key) + sizeof(u64)) < rows * sizeof(Key);
}

/// Puts a run of ascending keys (plain form, repeats allowed) into canonical form. O(size).
template <class Key>
KeyRun<Key> canonical_run(Buffer<Key> ascending_keys);
/// Puts strictly ascending keys with counts >= 1 into canonical form. O(size + rows when expanded).
template <class Key>
KeyRun<Key> canonical_run(Buffer<Key> keys, Buffer<u64> counts);

template <class Key>
struct KeyRuns {
  KeyRun<Key> pos;
  KeyRun<Key> neg;
  bool operator==(const KeyRuns&) const = default;
};

/// See the file head. Keys of 16 and 32 bits are kept as u32, those of 64 bits as u64.
/// Memory: 4 (8) bytes a row, or 12 (16) a distinct score where that is less; weighted 20 (24) a
/// distinct score. Rows are below 2^62; the total weight is below 2^63.
class RankTable {
 public:
  RankTable() = default;
  RankTable(ScoreKind kind, bool weighted);
  /// Runs in canonical form, with the rows they came from (zero-weight rows counted).
  RankTable(ScoreKind kind, bool weighted, std::variant<KeyRuns<u32>, KeyRuns<u64>> runs,
            u64 pos_rows, u64 neg_rows);

  ScoreKind kind() const { return kind_; }
  bool weighted() const { return weighted_; }
  u64 pos_rows() const { return pos_rows_; }
  u64 neg_rows() const { return neg_rows_; }
  const std::variant<KeyRuns<u32>, KeyRuns<u64>>& runs() const { return runs_; }
  /// Bytes held by the runs.
  u64 bytes() const;

  /// The union of both multisets. Both must be of one kind and both weighted or not: a mixture is a
  /// kInput error and changes nothing. An empty default-constructed table takes the other's kind.
  /// O(sum of sizes).
  Result<void> merge(const RankTable& other);

  /// Version, kind, rows and runs, little endian.
  void encode(ByteWriter& writer) const;
  /// Rejects, as kInput errors, bytes that encode() cannot have written: other version, unsorted or
  /// repeated keys where forbidden, wrong form, masses that do not add up, trailing lengths.
  static Result<RankTable> decode(ByteReader& reader);

  bool operator==(const RankTable&) const = default;

 private:
  ScoreKind kind_ = ScoreKind::kF32;
  bool weighted_ = false;
  bool fresh_ = true;  ///< default-constructed: merge() adopts the other's kind
  u64 pos_rows_ = 0;
  u64 neg_rows_ = 0;
  std::variant<KeyRuns<u32>, KeyRuns<u64>> runs_;
};

/// Merges all tables of a range, pairwise, so that each key is copied O(log count) times.
Result<RankTable> merge_all(std::vector<RankTable> tables);

/// Answers every query from the positives of one table and the negatives of another (the same table
/// for an ordinary segment; two groups for xAUC). Both of one kind. One pass, O(distinct keys).
/// Queries on a segment without positives or negatives get answers with zero sums and no points.
RankSummary summarise(const RankTable& positives_of, const RankTable& negatives_of,
                      std::span<const RankQuery> queries);
inline RankSummary summarise(const RankTable& table, std::span<const RankQuery> queries) {
  return summarise(table, table, queries);
}

/// What parts of a table add to the whole's 2U and precision sum: the contribution of a group of
/// positives to the overall AUROC and average precision. Sums over a partition of the rows equal
/// the whole's.
class Contributions {
 public:
  /// Indexes the whole. O(distinct keys) time and memory.
  explicit Contributions(const RankTable& whole);
  /// The share of a table whose rows are among the whole's. O(distinct keys of part * log).
  RangeShare of(const RankTable& part) const;

 private:
  struct Group {
    u64 key = 0;
    u128 twice_negatives_below = 0;  ///< 2 * negatives below + negatives at the score
    u128 precision = 0;              ///< scaled, at the score
  };
  std::vector<Group> groups_;  ///< ascending keys
};

/// The vertices of the curve in order of falling score, one per distinct score.
struct CurveVertex {
  u64 key = 0;
  u128 tp = 0;
  u128 fp = 0;
};
std::vector<CurveVertex> curve_vertices(const RankTable& table);

}  // namespace cupel
