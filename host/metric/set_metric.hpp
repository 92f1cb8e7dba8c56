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
inline constexpr std::pair<std::string_view, ConformalTies> kTies[]{
    {"index", ConformalTies::kIndex}, {"group", ConformalTies::kGroup}};
inline constexpr std::pair<std::string_view, ConformalDraw> kDraws[]{
    {"none", ConformalDraw::kNone}, {"row", ConformalDraw::kRow}, {"label", ConformalDraw::kLabel}};
inline constexpr std::pair<std::string_view, ConformalMode> kModes[]{
    {"marginal", ConformalMode::kMarginal},
    {"class", ConformalMode::kClass},
    {"group", ConformalMode::kGroup},
    {"cluster", ConformalMode::kCluster},
    {"weighted", ConformalMode::kWeighted}};
inline constexpr std::string_view kNullClusters[]{"marginal", "inf"};

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

/// conformal, alpha, quantile, empty, ties, randomised, mode, and what some of them take.
std::vector<OptionSpec> set_options();
ConformalScore score_of(const Options& options);
/// Errors (kUsage): options that the score or the mode does not have; a penalty too large for the
/// classes. Draws have seed 0 until ConformalQuery::set_seed().
Result<ConformalQuery> query_of(std::string_view metric, const Options& options, i64 classes);
/// The options, and what takes effect without being given: penalties, and the seed of draws.
Detail::Object set_params(const Options& options, u64 seed = 0);
/// qhat, its rank, and how many calibration rows there were; of several thresholds what they are in
/// short, and each of up to kMostShownThresholds.
inline constexpr std::size_t kMostShownThresholds = 300;
Detail::Object describe_threshold(const ConformalThreshold& threshold, const Options& options);
/// What the coverage of future rows follows when scores are distinct and rows exchangeable: the law
/// of the rank-th of n uniform numbers, Beta(rank, n + 1 - rank). Null for rank 0.
Detail beta_law(i64 rank, i64 calibration_rows);
/// Clopper and Pearson's 95 % interval of a share.
Detail exact_interval(u64 hits, u64 rows);

/// A metric of the sets of the rows that are not for calibration. Undefined: not_probability where
/// scores are outside [0, 1] or rows do not sum to 1, not_defined where rows are weighted but under
/// mode=weighted, too_few_calibration without calibration rows, zero_weight where they have none,
/// empty without other rows.
class SetMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kConformal; }
  Result<Needs> needs(const Options& options, Task, i64 classes, bool) const override;
  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    return set_params(options, evidence.conformal.seed);
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override;

 protected:
  /// The number of one or more rows, and what else is to be told.
  virtual void describe(const ConformalThreshold& threshold, const SetSums& sums,
                        const Options& options, MetricValue& value) const = 0;
};

}  // namespace cupel
