#include "metric/set_metric.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/math/special_functions/beta.hpp>
#include <limits>

#include "metric/exact.hpp"

namespace cupel {
namespace {

constexpr std::string_view kRapsLambda = "0.01";
constexpr std::string_view kSapsLambda = "0.2";
constexpr i64 kRapsRank = 5;

bool has_penalty(ConformalScore score) {
  return score == ConformalScore::kRaps || score == ConformalScore::kSaps;
}

Fraction lambda_of(const Options& options) {
  if (options.has("lambda")) return options.fraction("lambda");
  const auto usual =
      parse_decimal(score_of(options) == ConformalScore::kRaps ? kRapsLambda : kSapsLambda);
  return usual.ok() ? *usual : Fraction{};
}

i64 free_ranks(const Options& options) {
  return options.has("k_reg") ? options.integer("k_reg") : kRapsRank;
}

}  // namespace

std::vector<OptionSpec> set_options() {
  return {{"conformal", OptionType::kChoice, "lac", names_of(kScores), 0, 0,
           "score of a label: its set holds the labels with a score up to qhat"},
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
          {"empty",
           OptionType::kChoice,
           "keep",
           {kEmptySets[0], kEmptySets[1]},
           0,
           0,
           "an empty set stays one, or holds the most probable label"},
          {"lambda",
           OptionType::kNumber,
           "",
           {},
           0,
           1000,
           "raps (0.01), saps (0.2): penalty of a rank"},
          {"k_reg", OptionType::kInteger, "", {}, 0, 65535, "raps (5): ranks without a penalty"}};
}

ConformalScore score_of(const Options& options) {
  return value_named(kScores, options.text("conformal"));
}

Result<ConformalQuery> query_of(std::string_view metric, const Options& options, i64 classes) {
  const ConformalScore score = score_of(options);
  const auto refuse = [&](std::string_view option, std::string_view takes) {
    return usage_error(
        fmt::format("conformal={} of '{}' has no {}", options.text("conformal"), metric, option),
        fmt::format("{} is an option of {}", option, takes));
  };
  if (options.has("lambda") && !has_penalty(score)) return refuse("lambda", "raps and saps");
  if (options.has("k_reg") && score != ConformalScore::kRaps) return refuse("k_reg", "raps");
  ConformalQuery query;
  query.rule.score = score;
  if (has_penalty(score)) {
    const Fraction lambda = lambda_of(options);
    if (static_cast<u128>(lambda.num) * static_cast<u128>(std::max<i64>(1, classes)) >
        static_cast<u128>(lambda.den) * static_cast<u128>(kMostPenalty)) {
      return usage_error(
          fmt::format("lambda={} of '{}' is too large for {} classes", options.text("lambda"),
                      metric, classes),
          fmt::format("lambda times the classes has to be at most {}", kMostPenalty));
    }
    // To the nearest 2^-48, once.
    const u128 twice = (static_cast<u128>(lambda.num) << (kConformalBits + 1)) / lambda.den;
    query.rule.lambda = static_cast<i64>((twice + 1) / 2);
  }
  if (score == ConformalScore::kRaps) query.rule.k_reg = free_ranks(options);
  query.alpha = options.fraction("alpha");
  query.quantile = value_named(kQuantiles, options.text("quantile"));
  query.argmax_if_empty = options.text("empty") == kEmptySets[1];
  return query;
}

Detail::Object set_params(const Options& options) {
  Detail::Object params = options.params();
  const ConformalScore score = score_of(options);
  if (has_penalty(score) && !options.has("lambda")) {
    params.emplace_back("lambda", exact::to_double(exact::rational(lambda_of(options))));
  }
  if (score == ConformalScore::kRaps && !options.has("k_reg")) {
    params.emplace_back("k_reg", kRapsRank);
  }
  return params;
}

Detail::Object describe_threshold(const ConformalThreshold& threshold, const Options& options) {
  Detail::Object details;
  if (threshold.rank == 0) {
    details = {{"qhat", std::numeric_limits<double>::infinity()},
               {"qhat_reason", std::string(undefined_name(Undefined::kTooFewCalibration))}};
  } else {
    const double unit = score_of(options) == ConformalScore::kTopK ? 0x1p-32 : 0x1p-48;
    details = {{"qhat", static_cast<double>(threshold.score) * unit}};
  }
  details.emplace_back("rank", threshold.rank == 0 ? Detail() : Detail(threshold.rank));
  details.emplace_back("n_calibration", threshold.calibration_rows);
  return details;
}

/// Clopper and Pearson's 95 % interval of a share.
Detail exact_interval(u64 hits, u64 rows) {
  const auto a = static_cast<double>(hits);
  const auto b = static_cast<double>(rows - hits);
  return Detail::List{hits == 0 ? 0.0 : boost::math::ibeta_inv(a, b + 1, 0.025),
                      hits == rows ? 1.0 : boost::math::ibeta_inv(a + 1, b, 0.975)};
}

Result<Needs> SetMetric::needs(const Options& options, Task, i64 classes, bool) const {
  auto query = query_of(info().name, options, classes);
  if (!query) return query.error();
  Needs needs;
  needs.conformal = *query;
  return needs;
}

MetricValue SetMetric::finish(const Evidence& evidence, const Options& options) const {
  const ConformalEvidence& given = evidence.conformal;
  if (given.threshold == nullptr) return MetricValue::none(Undefined::kTooFewCalibration);
  const ConformalThreshold& threshold = *given.threshold;
  const SetSums& sums = *given.sums;
  if (evidence.outside_unit) return MetricValue::none(Undefined::kNotProbability);
  if (given.weighted) return MetricValue::none(Undefined::kNotDefined);
  MetricValue value;
  if (threshold.calibration_rows == 0) {
    value.undefined = Undefined::kTooFewCalibration;
    value.details = {{"n_calibration", i64{0}}};
    return value;
  }
  value.details = describe_threshold(threshold, options);
  if (sums.all.rows == 0) {
    value.undefined = Undefined::kEmpty;
    return value;
  }
  describe(threshold, sums, options, value);
  return value;
}

}  // namespace cupel
