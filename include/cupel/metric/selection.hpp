// Conformal p-values and what is selected by them, in exact integers: no p-value is ever a double
// before it is shown, so that a comparison with q k / m is the one that is written.
#pragma once

#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "cupel/core/int.hpp"
#include "cupel/math/curve.hpp"
#include "cupel/math/p_value.hpp"

namespace cupel {

/// Of `score` among ascending scores; O(log n).
ScorePlace place_among(std::span<const u64> ascending, u64 score);

/// units * 2^-48 / (n + 1), rounded once.
double p_value_of(u128 units, u64 calibration_rows);

/// units * 2^-48 / (n + 1) <= q k / m, exactly; fewer than 2^63 rows each, q as parse_decimal().
bool within_level(u128 units, u64 calibration_rows, const Fraction& q, u64 k, u64 m);

/// The number of rejections of Benjamini and Hochberg 1995 at level q among m p-values of n
/// calibration scores: the largest k such that the k-th smallest is <= q k / m; 0: none. Those
/// that are not given are above q. O(r log r) for r p-values of at most q.
u64 benjamini_hochberg(std::span<const u128> units, u64 calibration_rows, const Fraction& q, u64 m);

/// What conformal selection is given (Jin and Candes 2023): scores as keys of any monotone map.
struct SelectionProblem {
  u64 calibration_rows = 0;  ///< n, all of them
  /// V_i of calibration rows, ascending; those left out are above every score of a test row, as
  /// those of rows with y > c are under the clipped score.
  std::span<const u64> calibration;
  std::span<const u64> test;      ///< V(x_j, c_j), in any order
  std::span<const u64> uniforms;  ///< [test row], for TieRule::kRandom
};

/// Which test rows are selected.
struct Selection {
  std::vector<u128> units;   ///< [test row] p-value in units of 2^-48 / (n + 1)
  std::vector<u8> selected;  ///< [test row]
  u64 count = 0;
  std::optional<u128> cutoff;  ///< the largest selected p-value; none: nothing is selected
};

/// Selects the rows whose p-value is at most the count-th smallest, by Benjamini and Hochberg at q.
/// Does not depend on the order of rows. No test row: nothing. O((n + m) log n).
Selection select_rows(const SelectionProblem& problem, TieRule ties, const Fraction& q);

// ---- what metrics ask and are given -------------------------------------------------------------

/// V of a row with prediction p, label y and level c: a row is null where y <= c.
enum class SelectionScore : u8 {
  kClip,      ///< -p of null rows, above every score of others; of a test row -p
  kResidual,  ///< y - p, rounded once; of a test row c - p
};

/// What becomes of the e-values of OptCS before its last step.
enum class Pruning : u8 {
  kNone,           ///< e_j, "dtm"
  kHeterogeneous,  ///< e_j / u_j with a number of its own for each row
  kHomogeneous,    ///< e_j / u with one for all rows
};

/// What a metric of selections asks for.
struct SelectionQuery {
  Fraction q{1, 10};
  TieRule ties = TieRule::kCount;
  SelectionScore score = SelectionScore::kClip;
  std::optional<double> level;  ///< c of all rows; none: that of the column
  bool optimized = false;       ///< OptCS over all models; else Benjamini and Hochberg with one
  i64 model = 0;                ///< column of the predictions, where not optimized
  bool draw_model = false;      ///< optimized: among equal models by a draw, else the first
  Pruning pruning = Pruning::kNone;

  friend bool operator==(const SelectionQuery&, const SelectionQuery&) = default;
};

/// Counts of test rows.
struct SelectionTally {
  u64 rows = 0;
  u64 nulls = 0;
  u64 selected = 0;
  u64 selected_nulls = 0;

  void add(bool is_null, bool is_selected) {
    ++rows;
    nulls += is_null ? 1 : 0;
    selected += is_selected ? 1 : 0;
    selected_nulls += is_null && is_selected ? 1 : 0;
  }
  void merge(const SelectionTally& other) {
    rows += other.rows;
    nulls += other.nulls;
    selected += other.selected;
    selected_nulls += other.selected_nulls;
  }
  friend bool operator==(const SelectionTally&, const SelectionTally&) = default;
};

/// The selection among all test rows.
struct SelectionOutcome {
  u64 calibration_rows = 0;
  u64 calibration_nulls = 0;
  u64 test_rows = 0;
  u64 selected = 0;
  std::optional<double> largest_p;            ///< of the selected rows
  std::optional<double> smallest_prediction;  ///< of the selected rows, not of OptCS
  /// [model] OptCS: rows that took the model, and how many of them are selected.
  std::vector<std::pair<u64, u64>> models;
};

/// What a metric of selections is given: the selection, and the test rows of the scope.
struct SelectionEvidence {
  const SelectionOutcome* outcome = nullptr;
  const SelectionTally* tally = nullptr;
  u64 seed = 0;
  bool weighted = false;
};

}  // namespace cupel
