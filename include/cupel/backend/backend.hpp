// What computes: a backend turns rows into states. Every backend gives equal bytes for equal rows,
// at any thread count, because states hold integers only.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cupel/core/buffer.hpp"
#include "cupel/core/column.hpp"
#include "cupel/core/result.hpp"
#include "cupel/core/task.hpp"
#include "cupel/math/softmax_f32.hpp"
#include "cupel/state/conformal.hpp"
#include "cupel/state/embedding_pairs.hpp"
#include "cupel/state/p_values.hpp"
#include "cupel/state/rank_summary.hpp"
#include "cupel/state/rank_table.hpp"
#include "cupel/state/row_sums.hpp"

namespace cupel {

/// Rows ready to compute on: finite scores, labels inside the domain, valid weights. Views only.
struct TableView {
  Task task = Task::kBinary;
  i64 rows = 0;
  i64 classes = 2;  ///< multiclass: classes; multilabel: labels; binary: 2

  /// [rows] for binary, else [rows, classes]; any numeric dtype, any strides, maybe unaligned.
  ArrayView scores;
  /// Scores are logits. Binary and multilabel rank them as they are and turn them into
  /// probabilities by the logistic function; multiclass ranks their softmax (in double) class by
  /// class and decides (arg-max, top k) on the logits as they are, which order alike.
  bool logits = false;
  /// Multiclass logits: how row sums compute their softmax. Rankings are by that in double.
  SoftmaxKind softmax = SoftmaxKind::kF64;

  const u8* binary_labels = nullptr;  ///< binary: [rows] 0 or 1
  const i32* class_labels = nullptr;  ///< multiclass: [rows] 0..classes-1
  const u8* label_matrix = nullptr;   ///< multilabel: [rows, classes] row-major, 0 or 1

  const double* weights_f64 = nullptr;  ///< at most one of these two; [rows], possibly none
  const float* weights_f32 = nullptr;

  const u32* cells = nullptr;  ///< [rows] segment of each row, below cell_count; none: one cell
  u32 cell_count = 1;

  /// What random draws of a row follow: its id, or its position in the whole table.
  const u64* row_keys = nullptr;  ///< [rows]; none: first_row + row
  i64 first_row = 0;

  u64 row_key(i64 row) const {
    return row_keys != nullptr ? row_keys[row] : static_cast<u64>(first_row + row);
  }
  bool weighted() const { return weights_f64 != nullptr || weights_f32 != nullptr; }
  /// Whether row sums hold terms of softmax_f32.hpp.
  bool sums_softmax_f32() const {
    return task == Task::kMulticlass && logits && softmax == SoftmaxKind::kF32;
  }
  /// Binary problems that ranking metrics see: 1 for binary, `classes` otherwise.
  i64 problems() const { return task == Task::kBinary ? 1 : classes; }
};

/// The kind of key that the table's scores are ranked by: that of the column's dtype (8 and 16-bit
/// integers and bool as f32, 32 and 64-bit ones as i64 or u64), and kF64 for multiclass logits.
ScoreKind score_kind(const TableView& table);

/// Machine epsilon of a score dtype (that of f64 for integers): what the log loss clips
/// probabilities by.
double probability_epsilon(DType dtype);

/// The most probable class of each row of a multiclass table.
struct TopConfidences {
  Buffer<double> confidence;  ///< [rows] its probability; of logits that of their softmax
  Buffer<u8> right;           ///< [rows] 1 where it is the label's, else 0
  Buffer<i32> predicted;      ///< [rows] which it is; of equal ones the lowest
};

/// Whether a table is a row-major matrix of aligned float64 probabilities with class labels and
/// without weights and cells: what pairs of rows are computed on.
bool holds_probabilities(const TableView& table);

struct BackendInfo {
  std::string name;    ///< what computed so far: "cpu", "cuda", "cuda+cpu"
  std::string device;  ///< processor and threads, or the accelerator; for people
};

/// Not thread-safe: one call at a time. No exception leaves a backend; running out of memory is a
/// kInternal error that names what was asked for.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual BackendInfo info() const = 0;

  /// Problem p of `problems` [first, last): positives are the rows whose label is p (binary: 1)
  /// against all others; the result is [p - first][cell]. Weighted when the table is.
  /// Memory: the tables, plus scratch of the same order.
  virtual Result<std::vector<std::vector<RankTable>>> rank_tables(const TableView& table, i64 first,
                                                                  i64 last) = 0;

  /// summarise() of the one-cell tables of problems [first, last) without keeping them; cells are
  /// ignored. Equal to summarise(rank_tables(...)) but for `distinct`, which may be 0.
  virtual Result<std::vector<RankSummary>> rank_summaries(const TableView& table, i64 first,
                                                          i64 last,
                                                          std::span<const RankQuery> queries) = 0;

  /// Row sums, [problem][cell]: one problem for binary and multiclass; for multilabel one per label
  /// and, with spec.exact_match, one more.
  virtual Result<std::vector<std::vector<RowSums>>> row_sums(const TableView& table,
                                                             const RowSpec& spec) = 0;

  /// The most probable class of each row of a multiclass table, from which sorted confidences are
  /// ranked. This default computes on the host with `threads` threads. 13 bytes a row; one read of
  /// the scores.
  virtual Result<TopConfidences> top_confidences(const TableView& table, int threads);

  /// The conformal scores of the labels of the rows in cells with `wanted` [cell], of a binary (two
  /// classes, p and 1 - p) or multiclass table; softmax and logistic function in double. Weights
  /// are not looked at. These defaults compute on the host with `threads` threads: one read of the
  /// scores, 8 bytes a row and rule.
  virtual Result<ConformalScores> conformal_scores(const TableView& table,
                                                   std::span<const ConformalRule> rules,
                                                   const std::vector<bool>& wanted, int threads);
  /// The sums of each set over the rows of each wanted cell, [cell][set]. A row's masses are sorted
  /// only as far as its largest set of aps or raps goes. 72 bytes * cells * sets * classes.
  virtual Result<std::vector<std::vector<SetSums>>> conformal_sets(
      const TableView& table, std::span<const ConformalSet> sets, const std::vector<bool>& wanted,
      int threads);
  /// The set of each row of the wanted cells, as its size and whether the row's label is in it. 4
  /// bytes a row and set, 4 more a row.
  virtual Result<ConformalRowSets> conformal_row_sets(const TableView& table,
                                                      std::span<const ConformalSet> sets,
                                                      const std::vector<bool>& wanted, int threads);

  /// What the p-values of all labels of the rows of each wanted cell sum up to, [cell][rule]. On
  /// the host. Labels of a row are sorted, and each is looked up among the calibration scores.
  Result<std::vector<std::vector<PValueSums>>> p_value_sums(const TableView& table,
                                                            std::span<const PValueRule> rules,
                                                            const std::vector<bool>& wanted,
                                                            int threads);

  /// How many scores are NaN or infinite, in how many rows, and the first such row (-1: none).
  struct BadScores {
    i64 rows = 0;
    i64 first_row = -1;
    i64 first_column = -1;
  };
  virtual Result<BadScores> bad_scores(const TableView& table) = 0;

  /// The sum of pair_term() over the pairs of a row i in [first, last) with each later row, of a
  /// table for which holds_probabilities() is true; nu > 0. Sums of ranges of rows add up to that
  /// of all. No matrix of pairs: O(rows * classes) memory. This default computes on the host.
  virtual Result<i128> pair_sum(const TableView& table, i64 first, i64 last, double nu);
  /// How many of these pairs have each upper half of distance_key(), or, with `high`, each lower
  /// half behind that upper half: kDistanceBuckets counts. This default computes on the host.
  virtual Result<std::vector<u64>> pair_distances(const TableView& table, i64 first, i64 last,
                                                  std::optional<u32> high);

  /// One pass over pairs of rows of an embedding. This default computes on the host with `threads`
  /// threads. Work: width fused operations a pair; memory: the states, and for counts by class,
  /// ranks and lists scratch of the same order for each thread.
  virtual Result<PairStates> embedding_pairs(const EmbeddingView& view, const PairPass& pass,
                                             int threads, const PairProgress& progress);

  /// From hold_columns(true) to hold_columns(false) the columns behind every table that is passed
  /// stay as they are, at their addresses: a device may keep what it has copied.
  virtual void hold_columns(bool hold) { static_cast<void>(hold); }
  /// What was passed so far may change or go from here on, also while columns are held: others may
  /// come to lie at the same addresses.
  virtual void forget_columns() {}

  /// What went otherwise than planned since this was last called, a line each: batches that were
  /// halved, work that went to another backend, devices that were given up. For people.
  virtual std::vector<std::string> take_notes() { return {}; }
};

/// The CPU backend with this many threads (0: as many as the process may use).
std::unique_ptr<Backend> make_cpu_backend(int threads);

}  // namespace cupel
