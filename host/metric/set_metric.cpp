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

/// Whether a score has a range that u is a place in.
bool has_range(ConformalScore score) {
  return score != ConformalScore::kLac && score != ConformalScore::kMargin;
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
          {"ties", OptionType::kChoice, "index", names_of(kTies), 0, 0,
           "equal probabilities rank by class index, or as a group: all have the last rank"},
          {"randomised", OptionType::kChoice, "none", names_of(kDraws), 0, 0,
           "aps, raps, saps, topk: u is drawn, one for a row or one for a row and label"},
          {"mode", OptionType::kChoice, "marginal", names_of(kModes), 0, 0,
           "qhat of all calibration rows, by class, group or cluster, or weighted"},
          {"null_cluster",
           OptionType::kChoice,
           "",
           {kNullClusters[0], kNullClusters[1]},
           0,
           0,
           "mode=cluster (marginal): qhat of classes too rare for a cluster"},
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
          fmt::format("lambda={:.6g} of conformal={} is too large for {} classes",
                      exact::to_double(exact::rational(lambda)), options.text("conformal"),
                      classes),
          fmt::format("lambda times the classes may be {} at most: give lambda={:.3g} or less",
                      kMostPenalty,
                      static_cast<double>(kMostPenalty) / static_cast<double>(classes) * 0.999));
    }
    // To the nearest 2^-48, once.
    const u128 twice = (static_cast<u128>(lambda.num) << (kConformalBits + 1)) / lambda.den;
    query.rule.lambda = static_cast<i64>((twice + 1) / 2);
  }
  if (score == ConformalScore::kRaps) query.rule.k_reg = free_ranks(options);
  query.rule.draw = value_named(kDraws, options.text("randomised"));
  if (query.rule.draw != ConformalDraw::kNone && !has_range(score)) {
    return usage_error(fmt::format("randomised={} of '{}' has nothing to draw with conformal={}",
                                   options.text("randomised"), metric, options.text("conformal")),
                       "aps, raps, saps and topk can be randomised");
  }
  // Equal probabilities have equal scores of the others whatever their ranks.
  if (has_range(score)) query.rule.ties = value_named(kTies, options.text("ties"));
  query.mode = value_named(kModes, options.text("mode"));
  if (options.has("null_cluster") && query.mode != ConformalMode::kCluster) {
    return usage_error(fmt::format("null_cluster of '{}' is an option of mode=cluster", metric),
                       fmt::format("this is mode={}", options.text("mode")));
  }
  query.null_infinite = options.text("null_cluster") == kNullClusters[1];
  query.alpha = options.fraction("alpha");
  query.quantile = value_named(kQuantiles, options.text("quantile"));
  if (query.mode == ConformalMode::kWeighted && query.quantile != QuantileRule::kExact) {
    return usage_error(fmt::format("quantile={} of '{}' is the rank of a score, and mode=weighted "
                                   "has sums of weights",
                                   options.text("quantile"), metric),
                       "leave quantile out");
  }
  query.argmax_if_empty = options.text("empty") == kEmptySets[1];
  return query;
}

Detail::Object set_params(const Options& options, u64 seed) {
  Detail::Object params = options.params();
  const ConformalScore score = score_of(options);
  if (has_penalty(score) && !options.has("lambda")) {
    params.emplace_back("lambda", exact::to_double(exact::rational(lambda_of(options))));
  }
  if (score == ConformalScore::kRaps && !options.has("k_reg")) {
    params.emplace_back("k_reg", kRapsRank);
  }
  const bool clusters = value_named(kModes, options.text("mode")) == ConformalMode::kCluster;
  if (clusters && !options.has("null_cluster")) {
    params.emplace_back("null_cluster", std::string(kNullClusters[0]));
  }
  if (clusters || value_named(kDraws, options.text("randomised")) != ConformalDraw::kNone) {
    params.emplace_back("seed", seed);
  }
  return params;
}

namespace {

double shown_score(i64 score, const Options& options) {
  if (score == kEveryLabel) return std::numeric_limits<double>::infinity();
  return static_cast<double>(score) *
         (score_of(options) == ConformalScore::kTopK ? 0x1p-32 : 0x1p-48);
}

Detail rank_detail(i64 rank) { return rank == 0 ? Detail() : Detail(rank); }

Detail::Object describe_spread(const ThresholdSpread& spread, const Options& options) {
  if (spread.count == 0) return {{"count", i64{0}}};
  return {{"count", spread.count},
          {"infinite", spread.infinite},
          {"min", shown_score(spread.least, options)},
          {"median", shown_score(spread.median, options)},
          {"max", shown_score(spread.most, options)}};
}

Detail::List describe_categories(const ConformalThreshold& threshold, const Options& options) {
  Detail::List list;
  for (std::size_t c = 0; c < threshold.categories.size() && c < kMostShownThresholds; ++c) {
    const CategoryThreshold& category = threshold.categories[c];
    Detail::Object one;
    if (threshold.mode == ConformalMode::kClass) {
      one.emplace_back("class", static_cast<u64>(c));
    } else if (threshold.mode == ConformalMode::kGroup) {
      one.emplace_back("group", threshold.names[c]);
    } else {
      const bool none = c + 1 == threshold.categories.size();
      one.emplace_back("cluster", none ? Detail() : Detail(static_cast<u64>(c)));
      one.emplace_back("classes", threshold.labels[c]);
    }
    one.emplace_back("n", category.calibration_rows);
    one.emplace_back("rank", rank_detail(category.rank));
    one.emplace_back("qhat", shown_score(category.score, options));
    list.emplace_back(std::move(one));
  }
  return list;
}

}  // namespace

Detail::Object describe_threshold(const ConformalThreshold& threshold, const Options& options) {
  Detail::Object details;
  if (!threshold.is_one()) {
    details = {{"qhats", describe_spread(threshold.spread, options)},
               {"n_calibration", threshold.calibration_rows}};
    if (threshold.mode == ConformalMode::kCluster) {
      details.emplace_back("n_clustering", threshold.clustering_rows);
    }
    if (threshold.mode == ConformalMode::kWeighted) return details;
    const auto unseen = std::count_if(
        threshold.categories.begin(), threshold.categories.end(),
        [](const CategoryThreshold& category) { return category.calibration_rows == 0; });
    if (threshold.mode != ConformalMode::kCluster) {
      details.emplace_back("unseen", static_cast<i64>(unseen));
    }
    details.emplace_back("thresholds", describe_categories(threshold, options));
    return details;
  }
  details = {{"qhat", shown_score(threshold.score, options)}};
  if (threshold.rank == 0) {
    details.emplace_back("qhat_reason",
                         threshold.unseen
                             ? std::string("unseen_group")
                             : std::string(undefined_name(Undefined::kTooFewCalibration)));
  }
  details.emplace_back("rank", rank_detail(threshold.rank));
  details.emplace_back("n_calibration", threshold.calibration_rows);
  return details;
}

Detail beta_law(i64 rank, i64 calibration_rows) {
  if (rank == 0) return {};  // every label: coverage 1
  const auto a = static_cast<double>(rank);
  const auto b = static_cast<double>(calibration_rows + 1 - rank);
  return Detail::Object{
      {"mean", exact::ratio(static_cast<u128>(rank), static_cast<u128>(calibration_rows) + 1)},
      {"q05", boost::math::ibeta_inv(a, b, 0.05)},
      {"q95", boost::math::ibeta_inv(a, b, 0.95)}};
}

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
  if (given.weighted && threshold.mode != ConformalMode::kWeighted) {
    return MetricValue::none(Undefined::kNotDefined);
  }
  MetricValue value;
  if (threshold.calibration_rows == 0 && !threshold.unseen) {
    value.undefined = Undefined::kTooFewCalibration;
    value.details = {{"n_calibration", i64{0}}};
    return value;
  }
  if (threshold.zero_weight) {
    value.undefined = Undefined::kZeroWeight;
    value.details = {{"n_calibration", threshold.calibration_rows}};
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
