// Split conformal prediction: which calibration score is the threshold, and what metrics of sets
// are given.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cupel/core/int.hpp"
#include "cupel/math/curve.hpp"
#include "cupel/metric/detail.hpp"
#include "cupel/state/conformal.hpp"

namespace cupel {

/// Which order statistic of n calibration scores is the threshold; quantile_rank() says which.
enum class QuantileRule : u8 { kExact, kNumpyHigher, kMapieCls, kMapieReg, kPuncc, kCrepes };

/// Which calibration rows the score of a label of a row is measured against.
enum class ConformalMode : u8 {
  kMarginal,  ///< all
  kClass,     ///< those with this label (Mondrian; Vovk 2012)
  kGroup,     ///< those with the row's combination of group values
  kCluster,   ///< those with a label of this label's cluster (Ding et al. 2023)
  kWeighted,  ///< all, each by its likelihood ratio (Tibshirani et al. 2019)
};

/// How a worst slab is searched: among slabs {x: low <= v . x <= high} with at least `delta` of the
/// rows searched, v one of random unit vectors. Each row is held out with probability
/// `held_out_share`, and searched otherwise.
struct SlabQuery {
  Fraction delta{1, 10};
  i64 directions = 1000;
  Fraction held_out_share{3, 4};
  u64 seed = 0;
  bool operator==(const SlabQuery&) const = default;
};

/// What a metric of sets asks for.
struct ConformalQuery {
  ConformalRule rule;
  Fraction alpha{1, 10};
  QuantileRule quantile = QuantileRule::kExact;
  bool argmax_if_empty = false;
  ConformalMode mode = ConformalMode::kMarginal;
  /// kCluster: a label of no cluster is in every set, instead of having the threshold of all.
  bool null_infinite = false;
  std::optional<SlabQuery> slab;  ///< needs features
  u64 seed = 0;  ///< kCluster: of the rows that the clusters are made from, and of their centres

  /// Whether something is drawn for each row, so that rows need keys.
  bool draws() const {
    return rule.draw != ConformalDraw::kNone || mode == ConformalMode::kCluster;
  }
  /// The seed of all draws. Queries that draw nothing stay equal whatever the seed.
  void set_seed(u64 drawn) {
    rule.seed = rule.draw == ConformalDraw::kNone ? 0 : drawn;
    seed = mode == ConformalMode::kCluster ? drawn : 0;
    if (slab) slab->seed = drawn;
  }
  bool operator==(const ConformalQuery&) const = default;
};

/// The rank, from 1, of the threshold among n calibration scores in ascending order; 0: n is too
/// small for this alpha, and the threshold is above every score. 0 < alpha < 1, n < 2^62; exact
/// integers. With K = ceil((n + 1)(1 - alpha)), which is kExact and kPuncc (0 for K > n):
///   kNumpyHigher  numpy.quantile(scores, K / n, method="higher"): K + 1 for K < n, n for K = n
///   kMapieCls     the same with (n + 1)(1 - alpha) / n, not rounded up; 0 for n < 1 / min(alpha,
///                 1 - alpha), where MAPIE raises
///   kMapieReg     K with "lower": K; 0 as kMapieCls
///   kCrepes       n + 1 - int((1 - c)(n + 1)) in doubles, c the double of 1 - alpha: K, or K + 1
///                 where alpha (n + 1) is an integer that (1 - c)(n + 1) just misses
/// Libraries that compute K in doubles have K + 1 for some n, such as 99 at alpha = 0.45.
i64 quantile_rank(QuantileRule rule, i64 n, Fraction alpha);

/// The threshold of one category of calibration rows.
struct CategoryThreshold {
  i64 calibration_rows = 0;
  i64 rank = 0;  ///< among their scores, from 1; 0: too few of them
  i64 score = kEveryLabel;
  bool operator==(const CategoryThreshold&) const = default;
};

/// Many thresholds in short: of categories, or of rows.
struct ThresholdSpread {
  i64 count = 0;
  i64 infinite = 0;
  i64 least = kEveryLabel;
  i64 median = kEveryLabel;  ///< the lower one of an even count
  i64 most = kEveryLabel;
};

/// The threshold of a query for the rows of a scope; `categories` where it has several.
struct ConformalThreshold {
  i64 calibration_rows = 0;
  i64 rank = 0;  ///< among their scores, from 1; 0: too few of them, or not one threshold
  i64 score = kEveryLabel;

  ConformalMode mode = ConformalMode::kMarginal;
  bool unseen = false;       ///< kGroup: no calibration row is like these, but there are others
  bool zero_weight = false;  ///< kWeighted: there are calibration rows, but none has weight
  /// Whether the coverage of future rows of this scope follows the law of the rank.
  bool has_law = true;
  /// kClass: [label]; kGroup: of the combinations in the scope, where there are several; kCluster:
  /// [cluster], the last of the labels that are in none.
  std::vector<CategoryThreshold> categories{};
  std::vector<Detail> names{};  ///< [category] kGroup: its values by column
  std::vector<i64> labels{};    ///< [category] kCluster: how many labels it has
  ThresholdSpread spread{};     ///< of labels (kClass, kCluster), combinations, or rows
  i64 clustering_rows = 0;      ///< kCluster: calibration rows that only clusters are made of

  bool is_one() const {
    return mode == ConformalMode::kMarginal ||
           (mode == ConformalMode::kGroup && categories.empty());
  }
};

/// The slab of lowest coverage among the rows searched, and how the others fare in it.
struct WorstSlab {
  u64 searched = 0;  ///< rows searched
  u64 held_out = 0;  ///< rows not searched
  i64 width = 0;     ///< features of a row
  // All below only where searched != 0.
  i64 direction = -1;          ///< its number, from 0
  std::vector<double> vector;  ///< it
  double low = 0;              ///< both are projections of rows searched, and in the slab
  double high = 0;
  SetTally found;    ///< of the rows searched that are in the slab
  SetTally outcome;  ///< of those held out
};

/// What a metric of sets is given: the threshold, and the sums of the rows of the scope that are
/// not for calibration.
struct ConformalEvidence {
  const ConformalThreshold* threshold = nullptr;
  const SetSums* sums = nullptr;
  bool weighted = false;
  u64 seed = 0;                     ///< of what the query draws
  const WorstSlab* slab = nullptr;  ///< where the query asks for one
};

/// What the command line chooses for all metrics of sets; empty: not given. A score may have
/// options in parentheses: "raps(lambda=0.1,ties=group)".
struct ConformalChoices {
  std::vector<std::string> scores;
  std::vector<std::string> alphas;
  std::string quantile;
  std::string empty;

  bool any() const {
    return !scores.empty() || !alphas.empty() || !quantile.empty() || !empty.empty();
  }
};

}  // namespace cupel
