// The state behind metrics that are means over rows: decisions, hits among the top k, squared error
// and log loss, as integers.
//
// Squared errors and confidences are summed in units of 2^-50, log losses in units of 2^-44, each
// row rounded once by a shared function; masses are row counts or weights in units of 2^-64.
// Merging adds.
#pragma once

#include <vector>

#include "cupel/core/bytes.hpp"
#include "cupel/core/int.hpp"
#include "cupel/core/result.hpp"
#include "cupel/math/bins.hpp"
#include "cupel/math/row_terms.hpp"
#include "cupel/math/wide.hpp"

namespace cupel {

/// Logits of a multiclass table times a factor of their cell, an inverse temperature, before
/// anything is made of them (see math/tempering.hpp).
struct Tempering {
  /// [cells] positive and finite, or 0: the rows of the cell are left out. Empty: no tempering.
  std::vector<double> factors;
  bool slopes = false;  ///< also what Newton's method needs, RowSums::slopes
  bool operator==(const Tempering&) const = default;
};

/// What to compute of each row; two metrics with an equal spec share the pass.
struct RowSpec {
  /// Decision rules. Binary and multilabel: positive when score > threshold, one rule each;
  /// multiclass: one rule, the arg-max with ties to the lowest class, and this is {0}.
  std::vector<double> thresholds;
  std::vector<i64> top_k;  ///< multiclass: hit when fewer than k classes rank before the label
  bool brier = false;
  bool log_loss = false;
  bool exact_match = false;  ///< multilabel: also whether all labels of a row are right
  /// Confidences by bin; with any, `brier` has to be true. Binary and multilabel: kPositive and
  /// kTop; multiclass: all but kPositive.
  std::vector<BinQuery> bins;
  /// Multiclass logits only; beside it there may be log_loss and, without slopes, brier and bins of
  /// kTop, nothing else.
  Tempering tempering;
  bool operator==(const RowSpec&) const = default;
};

/// What the bins of one query hold, by set (one, or one for each class) and slot (see bin_slots()):
/// index set * slots + slot.
struct BinTotals {
  std::vector<u64> rows;
  std::vector<u128> mass;
  std::vector<u128> right;       ///< mass of the pairs that were right
  std::vector<U256> confidence;  ///< sum of mass * confidence * 2^50
  // With BinQuery::moments, else empty; see moment_terms().
  std::vector<U256> right_confidence;  ///< confidence of the pairs that were right
  std::vector<U256> square;
  std::vector<U256> spread;
  bool operator==(const BinTotals&) const = default;
};

/// Sums over rows of what a row adds to the slope of its log loss, in units of 2^-44 (see
/// math/tempering.hpp): all 0 where they were not asked for.
struct SlopeSums {
  U256 label{};     ///< sum of mass * the distance of the label's logit from the largest
  U256 mean{};      ///< sum of mass * the mean distance by probability
  U256 variance{};  ///< sum of mass * its variance
  bool operator==(const SlopeSums&) const = default;
};

/// Sums over the rows of one segment of one problem. A binary problem has 2 classes; a multilabel
/// table is one binary problem per label, plus, with exact_match, one problem of 1 class.
struct RowSums {
  bool weighted = false;
  bool softmax_f32 = false;  ///< terms are of a softmax in float32 (softmax_f32.hpp)
  u64 rows = 0;
  std::vector<u64> class_rows;   ///< [classes] rows by true class
  std::vector<u128> class_mass;  ///< [classes] mass by true class
  std::vector<u128> hits;        ///< [thresholds * classes] mass of right decisions by true class
  std::vector<u128> top_k_hits;  ///< [top_k]
  U256 brier{};                  ///< sum of mass * squared error * 2^50
  U256 log_loss{};               ///< sum of mass * loss * 2^44, natural logarithm
  u64 clipped = 0;               ///< rows whose probability was clipped for the log loss
  /// Rows with a probability outside [0, 1], not in brier and log_loss; 0 for logits and where the
  /// spec asks for neither.
  u64 outside_unit = 0;
  u64 overflowed = 0;  ///< rows whose log loss is 2^52 or more; not in log_loss and slopes
  SlopeSums slopes;
  /// One for each query of the spec; rows outside [0, 1] are in none. Empty for the problem of
  /// exact matches.
  std::vector<BinTotals> bins;

  /// Adds another segment's sums. Different shapes are a kInput error and change nothing.
  /// A default-constructed value takes the other's shape.
  Result<void> merge(const RowSums& other);
  void encode(ByteWriter& writer) const;
  static Result<RowSums> decode(ByteReader& reader);
  bool operator==(const RowSums&) const = default;
};

}  // namespace cupel
