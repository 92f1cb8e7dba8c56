// What metrics of conformal sets have in common: their options, the question that these make, and
// what is told of the threshold.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "cupel/metric/metric.hpp"

namespace cupel {

// The words of the options, as in results.
inline constexpr std::pair<std::string_view, ConformalScore> kScores[]{
    {"lac", ConformalScore::kLac},   {"aps", ConformalScore::kAps},
    {"raps", ConformalScore::kRaps}, {"saps", ConformalScore::kSaps},
    {"topk", ConformalScore::kTopK}, {"margin", ConformalScore::kMargin}};
inline constexpr std::pair<std::string_view, QuantileRule> kQuantiles[]{
    {"exact", QuantileRule::kExact},        {"numpy_higher", QuantileRule::kNumpyHigher},
    {"mapie_cls", QuantileRule::kMapieCls}, {"mapie_reg", QuantileRule::kMapieReg},
    {"puncc", QuantileRule::kPuncc},        {"crepes", QuantileRule::kCrepes}};
inline constexpr std::string_view kEmptySets[]{"keep", "argmax"};

template <class Named>
std::vector<std::string_view> names_of(const Named& named) {
  std::vector<std::string_view> names;
  for (const auto& [name, value] : named) names.push_back(name);
  return names;
}

template <class Named>
auto value_named(const Named& named, std::string_view name) {
  for (const auto& [known, value] : named) {
    if (known == name) return value;
  }
  return named[0].second;
}

/// conformal, alpha, quantile, empty, and the penalties.
std::vector<OptionSpec> set_options();
ConformalScore score_of(const Options& options);
/// Errors (kUsage): options that the score does not have; a penalty too large for the classes.
Result<ConformalQuery> query_of(std::string_view metric, const Options& options, i64 classes);
/// The options, and the penalties that a score has without being given any.
Detail::Object set_params(const Options& options);
/// qhat, its rank, and how many calibration rows there were.
Detail::Object describe_threshold(const ConformalThreshold& threshold, const Options& options);
/// Clopper and Pearson's 95 % interval of a share.
Detail exact_interval(u64 hits, u64 rows);

/// A metric of the sets of the rows that are not for calibration. Undefined: not_probability where
/// scores are outside [0, 1] or rows do not sum to 1, not_defined where rows are weighted,
/// too_few_calibration without calibration rows, empty without other rows.
class SetMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kConformal; }
  Result<Needs> needs(const Options& options, Task, i64 classes, bool) const override;
  Detail::Object params(const Options& options, const Evidence&) const override {
    return set_params(options);
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override;

 protected:
  /// The number of one or more rows, and what else is to be told.
  virtual void describe(const ConformalThreshold& threshold, const SetSums& sums,
                        const Options& options, MetricValue& value) const = 0;
};

}  // namespace cupel
