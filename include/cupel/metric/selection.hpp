// Conformal p-values and what is selected by them, in exact integers: no p-value is ever a double
// before it is shown, so that a comparison with q k / m is the one that is written.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "cupel/core/int.hpp"
#include "cupel/math/counter_random.hpp"
#include "cupel/math/curve.hpp"

namespace cupel {

/// Bits of the uniform number behind a smoothed p-value.
inline constexpr int kUniformBits = 48;
inline constexpr u64 kUniformOne = u64{1} << kUniformBits;

/// What a uniform number is for. Numbers of one row for two purposes must be independent: rows
/// drawn for calibration by --calibration have small numbers of (seed, row id) itself.
enum class Draw : u8 { kPValue = 1, kModel = 2, kPruning = 3 };

/// u * 2^48 of a row, u in (0, 1]: never 0, so that a smoothed p-value is none either.
inline u64 uniform_of(Draw draw, u64 seed, u64 row_id) {
  const u64 stream = mix64(seed ^ (0xA0761D6478BD642Fu * static_cast<u64>(draw)));
  return (counter_random(stream, row_id) >> (64 - kUniformBits)) + 1;
}

/// How a test score counts calibration scores that equal it. Of n exchangeable scores kCount and
/// kRandom give p-values with P(p <= t) <= t, kRandom with equality; kStrict only where no scores
/// are equal.
enum class TieRule : u8 {
  kCount,   ///< (#{V_i <= v} + 1) / (n + 1)
  kStrict,  ///< (#{V_i < v} + 1) / (n + 1)
  kRandom,  ///< (#{V_i < v} + u (#{V_i = v} + 1)) / (n + 1)
};

/// How many calibration scores are below a score, and how many equal it.
struct ScorePlace {
  u64 below = 0;
  u64 equal = 0;
};

/// Of `score` among ascending scores; O(log n).
ScorePlace place_among(std::span<const u64> ascending, u64 score);

/// The p-value in units of 2^-48 / (n + 1); `uniform` as uniform_of(), for kRandom alone.
/// Below 2^112 for fewer than 2^63 calibration scores.
u128 p_value_units(const ScorePlace& place, TieRule ties, u64 uniform);

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

}  // namespace cupel
