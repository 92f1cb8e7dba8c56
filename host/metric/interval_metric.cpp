#include "metric/interval_metric.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "metric/exact.hpp"
#include "metric/set_metric.hpp"

namespace cupel {
namespace {

constexpr std::string_view kIntervalModes[]{"marginal", "group"};

std::string_view word_of(IntervalRule rule) {
  for (const auto& [name, known] : kIntervalRules) {
    if (known == rule) return name;
  }
  return {};
}

/// qhat, or qhat_lower and qhat_upper, rank and n_calibration.
Detail::Object describe_one(const IntervalThreshold& threshold, IntervalRule rule) {
  Detail::Object details;
  if (threshold_count(rule) == 1) {
    details.emplace_back("qhat", residual_of_key(threshold.keys.side[0]));
  } else {
    details.emplace_back("qhat_lower", residual_of_key(threshold.keys.side[0]));
    details.emplace_back("qhat_upper", residual_of_key(threshold.keys.side[1]));
  }
  if (threshold.rank == 0) {
    details.emplace_back("qhat_reason", std::string(undefined_name(Undefined::kTooFewCalibration)));
  }
  details.emplace_back("rank", threshold.rank == 0 ? Detail() : Detail(threshold.rank));
  details.emplace_back("n_calibration", threshold.calibration_rows);
  return details;
}

Detail::Object describe_thresholds(const IntervalEvidence& given) {
  const IntervalRule rule = *given.query.rule;
  if (!given.query.by_group) return describe_one(given.thresholds.front(), rule);
  Detail::Object details{{"n_calibration", given.calibration_rows}};
  Detail::List listed;
  for (std::size_t i = 0; i < given.thresholds.size() && i < kMostShownThresholds; ++i) {
    Detail::Object one{{"group", given.names[i].empty() ? Detail() : Detail(given.names[i])}};
    for (auto& field : describe_one(given.thresholds[i], rule)) one.push_back(std::move(field));
    listed.emplace_back(std::move(one));
  }
  details.emplace_back("thresholds", std::move(listed));
  if (given.thresholds.size() > kMostShownThresholds) {
    details.emplace_back("thresholds_not_shown",
                         static_cast<i64>(given.thresholds.size() - kMostShownThresholds));
  }
  return details;
}

}  // namespace

std::vector<OptionSpec> interval_options() {
  return {{"conformal", OptionType::kChoice, "", names_of(kIntervalRules), 0, 0,
           "score of a row; none: lower and upper as they are. Not given: none without "
           "--calibration, else absolute, or cqr without predictions"},
          {"alpha",
           OptionType::kNumber,
           "0.1",
           {},
           0,
           1,
           "share of labels that may be missed, an exact decimal",
           true},
          {"quantile", OptionType::kChoice, "exact", names_of(kQuantiles), 0, 0,
           "which calibration score is qhat: the textbook's, or a library's"},
          {"mode",
           OptionType::kChoice,
           "marginal",
           {kIntervalModes[0], kIntervalModes[1]},
           0,
           0,
           "one qhat, or one for each combination of the --group columns"}};
}

Result<IntervalQuery> interval_query(std::string_view metric, const Options& options) {
  IntervalQuery query;
  if (options.given("conformal")) {
    const std::string_view word = options.text("conformal");
    for (const auto& [name, rule] : kIntervalRules) {
      if (name == word) query.rule = rule;
    }
    if (!query.rule) {
      return usage_error(
          fmt::format("conformal={} of '{}' is a score of labels, and this is a regression task",
                      word, metric),
          fmt::format("it takes {}", fmt::join(names_of(kIntervalRules), ", ")));
    }
  }
  for (const std::string_view name :
       {"empty", "lambda", "k_reg", "ties", "randomised", "null_cluster"}) {
    if (options.given(name)) {
      return usage_error(
          fmt::format("{}={} of '{}' is for sets of labels, and this is a regression task", name,
                      options.text(name), metric),
          "leave it out");
    }
  }
  query.alpha = options.fraction("alpha");
  query.quantile = value_named(kQuantiles, options.text("quantile"));
  if (options.has("mode")) {
    const std::string_view mode = options.text("mode");
    if (std::find(std::begin(kIntervalModes), std::end(kIntervalModes), mode) ==
        std::end(kIntervalModes)) {
      return usage_error(
          fmt::format("mode={} of '{}' is for sets of labels, and this is a regression task", mode,
                      metric),
          fmt::format("it takes {}", fmt::join(kIntervalModes, ", ")));
    }
    query.by_group = mode == kIntervalModes[1];
  }
  return query;
}

Detail::Object interval_params(const IntervalQuery& query) {
  const IntervalRule rule = query.rule.value_or(IntervalRule::kGiven);
  Detail::Object params{{"conformal", std::string(word_of(rule))},
                        {"alpha", exact::to_double(exact::rational(query.alpha))}};
  if (rule == IntervalRule::kGiven) return params;
  for (const auto& [name, quantile] : kQuantiles) {
    if (quantile == query.quantile) params.emplace_back("quantile", std::string(name));
  }
  params.emplace_back("mode", std::string(kIntervalModes[query.by_group ? 1 : 0]));
  return params;
}

MetricValue judge_intervals(const IntervalEvidence& given) {
  MetricValue value;
  if (given.weighted) return MetricValue::none(Undefined::kNotDefined);
  if (given.query.rule != IntervalRule::kGiven) {
    if (given.calibration_rows == 0) {
      value.undefined = Undefined::kTooFewCalibration;
      value.details = {{"n_calibration", i64{0}}};
      return value;
    }
    value.details = describe_thresholds(given);
  }
  if (given.sums->rows == 0) value.undefined = Undefined::kEmpty;
  return value;
}

Result<Needs> IntervalMetric::needs(const Options& options, Task, i64, bool) const {
  auto query = interval_query(info().name, options);
  if (!query) return query.error();
  Needs needs;
  needs.interval = *query;
  return needs;
}

Detail::Object IntervalMetric::params(const Options& options, const Evidence& evidence) const {
  Detail::Object params =
      evidence.interval != nullptr ? interval_params(evidence.interval->query) : Detail::Object{};
  for (auto& [name, value] : options.params()) {
    const bool common =
        name == "conformal" || name == "alpha" || name == "quantile" || name == "mode";
    if (!common) params.emplace_back(name, std::move(value));
  }
  return params;
}

MetricValue IntervalMetric::finish(const Evidence& evidence, const Options& options) const {
  if (evidence.interval == nullptr) return MetricValue::none(Undefined::kEmpty);
  MetricValue value = judge_intervals(*evidence.interval);
  if (value.is_defined()) describe(*evidence.interval, options, value);
  return value;
}

MetricValue interval_coverage(const IntervalEvidence& given) {
  MetricValue value = judge_intervals(given);
  if (!value.is_defined()) return value;
  const Fraction alpha = given.query.alpha;
  value.number = exact::ratio(given.sums->covered, given.sums->rows);
  value.details.emplace_back("target", exact::ratio(alpha.den - alpha.num, alpha.den));
  value.details.emplace_back("covered", given.sums->covered);
  value.details.emplace_back("empty_intervals", given.sums->empty);
  value.details.emplace_back("interval", exact_interval(given.sums->covered, given.sums->rows));
  const bool one = given.thresholds.size() == 1 && threshold_count(*given.query.rule) == 1;
  if (one) {
    const IntervalThreshold& threshold = given.thresholds.front();
    value.details.emplace_back("beta_law", beta_law(threshold.rank, threshold.calibration_rows));
  }
  return value;
}

}  // namespace cupel
