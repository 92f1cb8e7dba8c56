// Policies that answer a row with one label, with a set of labels, or not at all: which one is
// taken among many, and what a metric of it is given.
#pragma once

#include <vector>

#include "cupel/math/curve.hpp"
#include "cupel/metric/conformal.hpp"
#include "cupel/state/abstention.hpp"

namespace cupel {

/// What each part of a policy's cost counts.
struct AbstentionCosts {
  double size = 0.3;         ///< mean size of the sets
  double abstention = 0.3;   ///< share of rows without an answer
  double answers = 0.4;      ///< rewards the share of rows with one
  double entropy = 0.2;      ///< rewards the entropy of the three shares, in nats
  double single = 0.5;       ///< share of single answers beyond ...
  double single_from = 0.8;  ///< ... this

  bool operator==(const AbstentionCosts&) const = default;
};

/// error + size * mean set size + abstention * a - answers * (1 - a) - entropy * H + single *
/// max(0, s - single_from), a and s the shares of abstentions and of single answers, and H the
/// entropy of the three shares. The error is the share of the answered rows whose answer does not
/// hold their label, 1 where none is answered; the mean size of no sets is 0. At least one row.
/// Doubles in one order and cupel's own logarithm: the same bits everywhere.
double abstention_cost(const AbstentionCounts& counts, const AbstentionCosts& costs);
/// H of the above.
double entropy_of_decisions(const AbstentionCounts& counts);

/// Policies (alpha, beta): with s = 1 - p of a label and s_min that of the most probable one, a row
/// has a single answer where s_min <= q_predict, the calibration quantile of alpha, else none where
/// s_min > q_abstain, that of beta, else the set of labels with s <= q_abstain.
struct AbstentionQuery {
  std::vector<Fraction> alphas;  ///< ascending
  std::vector<Fraction> betas;   ///< ascending
  QuantileRule quantile = QuantileRule::kExact;
  AbstentionCosts costs;
  /// The policy is chosen on one half of the calibration rows; the quantiles are the other's.
  bool tune_apart = false;

  bool operator==(const AbstentionQuery&) const = default;
};

/// The policy taken: that of the least cost on the rows for tuning; of equal costs that of the
/// smallest alpha, then of the smallest beta, which answers most.
struct AbstentionChoice {
  i64 calibration_rows = 0;  ///< whose scores the thresholds are among
  i64 tuning_rows = 0;       ///< none: no policy could be chosen
  Fraction alpha;
  Fraction beta;
  ConformalThreshold predict;
  ConformalThreshold abstain;
  AbstentionCounts tuned;  ///< of the rows for tuning, by their thresholds
};

/// What a metric of policies is given: the choice made on the calibration rows, and the sums of the
/// other rows of the scope.
struct AbstentionEvidence {
  const AbstentionChoice* choice = nullptr;
  const AbstentionSums* sums = nullptr;
  bool weighted = false;
};

}  // namespace cupel
