// Optimized conformal selection (Bai and Jin 2024): the model is chosen for each test row, from
// what does not tell that row apart from the calibration rows, and the false discovery rate holds
// over all of it.
#pragma once

#include <span>
#include <vector>

#include "cupel/core/int.hpp"
#include "cupel/math/curve.hpp"
#include "cupel/metric/selection.hpp"

namespace cupel {

/// The scores of one model, as in SelectionProblem.
struct ModelScores {
  std::span<const u64> calibration;  ///< ascending; those left out are above every test score
  std::span<const u64> test;         ///< [test row]
};

/// The random numbers, as uniform_of(); only those that the options ask for are read.
struct OptcsDraws {
  std::span<const u64> p_value;  ///< [test row], TieRule::kRandom
  std::span<const u64> model;    ///< [test row]; empty: equal models resolve to the first of them
  std::span<const u64> pruning;  ///< [test row], Pruning::kHeterogeneous
  u64 common = kUniformOne;      ///< Pruning::kHomogeneous
};

struct OptcsRule {
  Fraction q{1, 10};
  TieRule ties = TieRule::kCount;  ///< of the last p-value; the auxiliary ones count equal scores
  Pruning pruning = Pruning::kNone;
};

/// What became of one test row.
struct OptcsRow {
  u32 model = 0;
  u64 rejections = 0;      ///< R_j, the largest over the models
  u128 units = 0;          ///< p-value under the chosen model, in units of 2^-48 / (n + 1)
  bool candidate = false;  ///< e_j > 0: p_j <= q R_j / m
  bool selected = false;
};

/// For each test row j and model t: auxiliary p-values of the other test rows l,
///   (#{V_i <= V_l} + 1[V_j <= V_l]) / (n + 1),
/// and 0 of row j itself; R_j(t) is how many Benjamini and Hochberg reject at q. The model with the
/// largest R_j gives p_j, the e-value is e_j = 1[p_j <= q R_j / m] m / (q R_j), and rows are
/// selected by e-BH (Wang and Ramdas 2022) at q: those with q e_j >= m / k for the largest k that
/// has k such rows. All in integers. At least one model, each with a score for every test row.
/// O((n + m) log(n + m)) for each model: auxiliary p-values of a model differ between rows j in
/// where the sorted counts begin to be one more, so that R_j is read off two running positions.
std::vector<OptcsRow> optcs(std::span<const ModelScores> models, u64 calibration_rows,
                            const OptcsRule& rule, const OptcsDraws& draws);

}  // namespace cupel
