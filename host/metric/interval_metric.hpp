// What metrics of conformal intervals have in common: their options, the question that these make,
// and what is told of thresholds.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "cupel/metric/metric.hpp"

namespace cupel {

// The words of the option `conformal` of a regression task, as in results.
inline constexpr std::pair<std::string_view, IntervalRule> kIntervalRules[]{
    {"none", IntervalRule::kGiven},
    {"absolute", IntervalRule::kAbsolute},
    {"normalized", IntervalRule::kNormalized},
    {"cqr", IntervalRule::kCqr},
    {"cqr_asymmetric", IntervalRule::kCqrAsymmetric}};

/// conformal, alpha, quantile and mode.
std::vector<OptionSpec> interval_options();
/// The question of a metric's options. Errors (kUsage): a score of classification, and options that
/// only sets have.
Result<IntervalQuery> interval_query(std::string_view metric, const Options& options);
/// The options that took effect.
Detail::Object interval_params(const IntervalQuery& query);

/// What `coverage` says of a regression task.
MetricValue interval_coverage(const IntervalEvidence& given);

/// A metric of the intervals of the rows that are not for calibration; with conformal=none, of
/// lower and upper as they are. Undefined: not_defined where rows are weighted, too_few_calibration
/// without calibration rows, empty without other rows.
class IntervalMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kConformal; }
  Result<Needs> needs(const Options& options, Task task, i64 classes, bool logits) const override;
  Detail::Object params(const Options& options, const Evidence& evidence) const override;
  MetricValue finish(const Evidence& evidence, const Options& options) const override;

 protected:
  /// The number of one or more rows, and what else is to be told.
  virtual void describe(const IntervalEvidence& given, const Options& options,
                        MetricValue& value) const = 0;
};

/// What is told of thresholds, and whether there is a value: its `undefined` says.
MetricValue judge_intervals(const IntervalEvidence& given);

}  // namespace cupel
