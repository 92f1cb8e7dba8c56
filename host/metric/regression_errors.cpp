// Errors of point predictions. Differences are summed exactly, so that neither the order of rows
// nor cancellation leaves a trace.
#include <cmath>

#include "metric/exact.hpp"
#include "metric/list.hpp"

namespace cupel {
namespace {

class RegressionError : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kRows; }
  Result<Needs> needs(const Options&, Task, i64, bool) const override {
    Needs needs;
    needs.errors = true;
    return needs;
  }
  MetricValue finish(const Evidence& evidence, const Options&) const override {
    if (evidence.errors.weighted) return MetricValue::none(Undefined::kNotDefined);
    const ErrorSums* sums = evidence.errors.sums;
    if (sums == nullptr || sums->rows == 0) return MetricValue::none(Undefined::kEmpty);
    return value_of(*sums);
  }

 protected:
  virtual MetricValue value_of(const ErrorSums& sums) const = 0;
};

/// A mean beyond the largest double is no number.
MetricValue finite(double number) {
  if (std::isfinite(number)) return MetricValue::of(number);
  return MetricValue::none(Undefined::kOverflow);
}

class Mae final : public RegressionError {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "mae",
        .summary = "mean absolute error of predictions",
        .formula = "the mean of |y - pred|: an exact sum of exact differences, rounded once",
        .edge_cases =
            "no rows: empty; weighted rows: not_defined; a mean beyond the largest "
            "double: overflow",
        .equals = "sklearn.metrics.mean_absolute_error(y, pred)",
        .source = "definition",
        .example = "cupel eval data/diabetes_intervals.csv --metrics mae",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .default_for_regression = true,
        .tasks = {Task::kRegression},
        .options = {}};
    return kInfo;
  }

 protected:
  MetricValue value_of(const ErrorSums& sums) const override {
    return finite(exact::to_double(exact::rational(sums.absolute) / sums.rows));
  }
};

class Rmse final : public RegressionError {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "rmse",
        .summary = "root mean square error of predictions",
        .formula =
            "the square root of the mean of (y - pred)^2: differences rounded to double, an "
            "exact sum of exact squares, one root, rounded once",
        .edge_cases =
            "no rows: empty; weighted rows: not_defined; a difference beyond the largest "
            "double: overflow",
        .equals = "sklearn.metrics.root_mean_squared_error(y, pred)",
        .source = "definition",
        .example = "cupel eval data/diabetes_intervals.csv --metrics rmse --group sex",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .default_for_regression = true,
        .tasks = {Task::kRegression},
        .options = {}};
    return kInfo;
  }

 protected:
  MetricValue value_of(const ErrorSums& sums) const override {
    if (sums.overflows != 0) return MetricValue::none(Undefined::kOverflow);
    return finite(exact::root(exact::rational(sums.squares) / sums.rows));
  }
};

}  // namespace

const Metric& mae() {
  static const Mae kMetric;
  return kMetric;
}
const Metric& rmse() {
  static const Rmse kMetric;
  return kMetric;
}

}  // namespace cupel
