// Conformal intervals of a regression task: what a metric of intervals asks for and is given.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cupel/math/curve.hpp"
#include "cupel/math/interval.hpp"
#include "cupel/metric/conformal.hpp"
#include "cupel/state/regression.hpp"

namespace cupel {

/// What a metric of intervals asks for.
struct IntervalQuery {
  /// Not given: kGiven without calibration rows, else kAbsolute, or kCqr where there is no `pred`.
  std::optional<IntervalRule> rule;
  Fraction alpha{1, 10};
  QuantileRule quantile = QuantileRule::kExact;
  bool by_group = false;  ///< a threshold for each combination of group values

  bool operator==(const IntervalQuery& other) const {
    return rule == other.rule && alpha.num == other.alpha.num && alpha.den == other.alpha.den &&
           quantile == other.quantile && by_group == other.by_group;
  }
};

/// The threshold of the calibration rows of one category, or its two of kCqrAsymmetric.
struct IntervalThreshold {
  i64 calibration_rows = 0;
  i64 rank = 0;  ///< of both sides, from 1; 0: too few calibration rows, and `keys` are kEveryScore
  IntervalKeys keys{{kEveryScore, kEveryScore}};

  bool operator==(const IntervalThreshold& other) const {
    return calibration_rows == other.calibration_rows && rank == other.rank &&
           keys.side[0] == other.keys.side[0] && keys.side[1] == other.keys.side[1];
  }
};

/// Of the widths of some rows; infinite ones are counted, empty intervals are 0.
struct WidthOrder {
  double least = 0;
  double median = 0;  ///< of an even number the mean of the two in the middle
  double most = 0;
};

/// What a metric of intervals is given of the rows of a scope.
struct IntervalEvidence {
  IntervalQuery query;  ///< with its rule
  bool weighted = false;
  i64 calibration_rows = 0;  ///< of all categories
  /// The categories of the scope's rows, by ascending group values: one without by_group, none of
  /// kGiven. `names` are "a,b" of the values, of unknown ones empty.
  std::vector<IntervalThreshold> thresholds;
  std::vector<std::string> names;
  const IntervalSums* sums = nullptr;
  WidthOrder widths;  ///< of one or more rows
};

}  // namespace cupel
