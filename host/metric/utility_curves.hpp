// Utility curves of classes on a grid of thresholds, and what OPIS makes of them.
#pragma once

#include <vector>

#include "cupel/metric/verification.hpp"

namespace cupel {

/// (1 + c^2) phi psi / (c^2 phi + psi): psi the share of positives accepted, phi that of negatives
/// rejected; 0 where both are 0. Written with counts, and so one division: 1 exactly where all
/// positives and no negatives are accepted (c = 1). Both totals are above 0.
inline double utility(double c2, u64 pos, u64 all_pos, u64 neg, u64 all_neg) {
  const double accepted = static_cast<double>(pos) * static_cast<double>(all_neg);
  const double rejected = static_cast<double>(all_neg - neg) * static_cast<double>(all_pos);
  const double below = c2 * rejected + accepted;
  if (!(below > 0)) return 0.0;
  return (1 + c2) * static_cast<double>(pos) * static_cast<double>(all_neg - neg) / below;
}

/// The square of CurveQuery::c.
double squared_weight(const CurveQuery& query);

/// How many classes a share of them is: the smallest number that is not below it, at least 1.
u64 share_of(const Fraction& share, u64 classes);

/// One class of the curves.
struct ClassUtility {
  double contribution = 0;  ///< of its (U - mean U)^2 to the score: those of all classes add up
  double mean = 0;          ///< of U over the range
  double worst = 0;         ///< the smallest U at a threshold of the grid, the strictest of them
  std::size_t worst_at = 0;
};

struct CurveSummary {
  double opis = 0;
  double mean_utility = 0;
  double extremes = 0;  ///< where the query asks for them
  std::vector<ClassUtility> classes;
  std::vector<double> mean_curve;  ///< [k]
};

/// Averages over the grid by rule mean (equal weights) or trapezoid (half at both ends, over the
/// width); with kExact those of trapezoid. Sums run over classes, then thresholds, in their order,
/// compensated. At least one class and two thresholds. O(classes * thresholds), with extremes times
/// the logarithm of the classes at worst; memory O(classes).
CurveSummary summarise_curves(const ClassCurves& curves, const CurveQuery& query);

}  // namespace cupel
