// Operating-point inconsistency score: how differently one threshold treats the classes of an
// embedding (Zhang et al., 2024).
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <tuple>

#include "metric/list.hpp"
#include "metric/utility_curves.hpp"
#include "metric/verification_metric.hpp"

namespace cupel {
namespace {

/// Points of the mean curve that details show at most: evenly thinned, both ends kept.
constexpr std::size_t kShownPoints = 200;

std::vector<OptionSpec> curve_options() {
  std::vector<OptionSpec> options = pair_options();
  const auto add = [&](OptionSpec spec) { options.push_back(std::move(spec)); };
  add({"far_range",
       OptionType::kRange,
       "0.01:0.1",
       {},
       0,
       1,
       "the range goes from where this share of the negative pairs is accepted to where that is",
       true});
  add({"d_range",
       OptionType::kRange,
       "",
       {},
       -3e38,
       3e38,
       "instead: from the smaller to the larger of these distances, or similarities"});
  add({"n_thresholds",
       OptionType::kInteger,
       "101",
       {},
       2,
       100000,
       "thresholds, equally spaced, both ends included"});
  add({"rule",
       OptionType::kChoice,
       "mean",
       {"mean", "trapezoid", "exact"},
       0,
       0,
       "mean of the thresholds; trapezoids over the range; or the integral of the step functions"});
  add({"c",
       OptionType::kNumber,
       "1",
       {},
       0.001,
       1000,
       "weight of accepted positives against rejected negatives in the utility"});
  return options;
}

/// Thresholds or rates, not both.
Result<ThresholdRange> range_of(std::string_view metric, const Options& options) {
  ThresholdRange range;
  std::tie(range.far_low, range.far_high) = options.fractions("far_range");
  if (!options.has("d_range")) return range;
  if (options.given("far_range")) {
    return usage_error(fmt::format("both d_range and far_range of '{}'", metric),
                       "give one of them: far_range finds thresholds");
  }
  range = {};
  range.values = options.range("d_range");
  return range;
}

std::string decimal_of(const Fraction& value) {
  return fmt::format("{}", static_cast<double>(value.num) / static_cast<double>(value.den));
}

class CurveMetric : public VerificationMetric {
 public:
  Result<Needs> needs(const Options& options, Task, i64, bool) const override {
    auto query = query_of(options);
    if (!query) return query.error();
    Needs needs;
    needs.verification = pair_query(options);
    needs.verification->curves = *query;
    return needs;
  }

  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    if (evidence.verification == nullptr) return MetricValue::none(Undefined::kEmpty);
    const VerificationEvidence& pairs = *evidence.verification;
    if (const Undefined why = missing_classes(pairs); why != Undefined::kNone) {
      MetricValue none = MetricValue::none(why);
      if (why == Undefined::kTooFewClasses) describe_classes(pairs, none.details);
      return none;
    }
    if (pairs.unresolved) return not_resolved(pairs.neg);
    const auto query = query_of(options);
    const bool gridded = pairs.curves != nullptr && pairs.curves->thresholds.size() >= 2;
    if (!query || (pairs.exact == nullptr && !gridded)) {
      return MetricValue::none(Undefined::kNotReached);
    }
    CurveSummary summary;
    if (gridded) summary = summarise_curves(*pairs.curves, *query);
    if (pairs.exact != nullptr) {
      const ExactCurves& exact = *pairs.exact;
      summary.opis = exact.opis;
      summary.mean_utility = exact.mean_utility;
      summary.extremes = exact.extremes;
      summary.classes.resize(exact.means.size());
      for (std::size_t i = 0; i < exact.means.size(); ++i) {
        summary.classes[i].mean = exact.means[i];
        summary.classes[i].contribution =
            exact.contributions[i] / static_cast<double>(exact.means.size());
      }
    }
    MetricValue value = MetricValue::of(query->extremes ? summary.extremes : summary.opis);
    describe(pairs, *query, summary, gridded, value.details);
    return value;
  }

  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    Detail::Object params = VerificationMetric::params(options, evidence);
    if (options.has("d_range")) {
      std::erase_if(params, [](const auto& entry) { return entry.first == "far_range"; });
    }
    return params;
  }

 protected:
  virtual void extremes_of(const Options&, CurveQuery&) const {}

 private:
  Result<CurveQuery> query_of(const Options& options) const {
    CurveQuery query;
    auto range = range_of(info().name, options);
    if (!range) return range.error();
    query.range = *range;
    query.n_thresholds = options.integer("n_thresholds");
    const std::string_view rule = options.text("rule");
    query.rule = rule == "exact"       ? IntegrationRule::kExact
                 : rule == "trapezoid" ? IntegrationRule::kTrapezoid
                                       : IntegrationRule::kMean;
    query.c = options.fraction("c");
    extremes_of(options, query);
    return query;
  }

  static void describe(const VerificationEvidence& pairs, const CurveQuery& query,
                       const CurveSummary& summary, bool gridded, Detail::Object& details) {
    describe_classes(pairs, details);
    if (query.extremes) {
      details.emplace_back("classes_compared", share_of(query.epsilon, summary.classes.size()));
    }
    const auto [low, high] = std::minmax(pairs.first, pairs.last);
    details.emplace_back("d_min", low);
    details.emplace_back("d_max", high);
    details.emplace_back("thresholds_are", std::string(threshold_name(pairs.domain)));
    details.emplace_back("range", query.range.values
                                      ? std::string("as given")
                                      : fmt::format("from a false accept rate of {} to one of {}",
                                                    decimal_of(query.range.far_low),
                                                    decimal_of(query.range.far_high)));
    if (pairs.empty_range) details.emplace_back("empty_range", true);
    if (query.extremes) details.emplace_back("opis", summary.opis);
    details.emplace_back("mean_utility", summary.mean_utility);
    if (pairs.exact != nullptr) details.emplace_back("pairs_in_range", pairs.exact->steps);
    details.emplace_back("worst_classes", worst(pairs, summary, gridded));
    if (gridded) {
      Detail::List curve;
      const std::size_t all = summary.mean_curve.size();
      const std::size_t points = std::min(all, kShownPoints);
      for (std::size_t i = 0; i < points; ++i) {
        const std::size_t k = i * (all - 1) / (points - 1);
        curve.emplace_back(Detail::Object{{"threshold", pairs.curves->thresholds[k]},
                                          {"mean_utility", summary.mean_curve[k]}});
      }
      details.emplace_back("curve", std::move(curve));
    }
  }

  /// The classes that contribute most, of equal ones the first.
  static Detail worst(const VerificationEvidence& pairs, const CurveSummary& summary,
                      bool gridded) {
    const std::vector<u32> of = compared_classes(pairs);
    std::vector<std::size_t> order(std::min(of.size(), summary.classes.size()));
    std::iota(order.begin(), order.end(), std::size_t{0});
    const std::size_t shown = std::min(kShownClasses, order.size());
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown),
                      order.end(), [&](std::size_t a, std::size_t b) {
                        const double x = summary.classes[a].contribution;
                        const double y = summary.classes[b].contribution;
                        return x != y ? x > y : a < b;
                      });
    Detail::List list;
    for (std::size_t i = 0; i < shown; ++i) {
      const ClassUtility& one = summary.classes[order[i]];
      Detail::Object object = describe_class(pairs, of[order[i]]);
      object.emplace_back("contribution", one.contribution);
      object.emplace_back("mean_utility", one.mean);
      if (gridded) {
        object.emplace_back("worst_utility", one.worst);
        object.emplace_back("worst_threshold", pairs.curves->thresholds[one.worst_at]);
      }
      list.emplace_back(std::move(object));
    }
    return list;
  }
};

class Opis final : public CurveMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "opis",
        .summary = "how differently one distance threshold treats the classes (OPIS)",
        .formula =
            "(1/T) sum over the T classes of the average over thresholds d of (U_i(d) - mean "
            "U(d))^2, with U = (1 + c^2) phi psi / (c^2 phi + psi), 0 where both are 0; psi: share "
            "of the class's positive pairs accepted, phi: of its pairs with other classes "
            "rejected; "
            "a pair is accepted when its distance is at most d, or its similarity at least d. All "
            "pairs, none sampled. A rate's threshold is that of the ceil(rate * n)-th closest of "
            "the n negative pairs",
        .edge_cases =
            "fewer than two classes of two rows and more: undefined too_few_classes; a class of "
            "one "
            "row has no utility, but its rows are negatives of others; a rate below 1 / n: "
            "undefined "
            "not_resolved; both rates at one distance: the variance there",
        .equals = "no library has it; functions of this name elsewhere compute something else",
        .source = "Zhang et al. 2024, Threshold-Consistent Margin Loss (arXiv 2307.04047)",
        .example =
            "cupel eval data/digits_embeddings.npz --metrics "
            "'opis,opis(rule=exact),opis(far_range=0.001:0.01)'",
        .direction = Direction::kLower,
        .default_for_verification = true,
        .tasks = {Task::kVerification},
        .options = curve_options()};
    return kInfo;
  }
};

class EpsOpis final : public CurveMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "eps_opis",
        .summary = "gap of utility between the best and the worst classes under one threshold",
        .formula =
            "average over thresholds of (mean U of the n best classes - mean U of the n worst)^2, "
            "or of its absolute value (power=1); n = max(1, ceil(epsilon T)); best and worst at "
            "each "
            "threshold (pointwise), or by mean U over the range; U and thresholds as in opis",
        .edge_cases =
            "as in opis; of classes with equal mean U the first by label is the worse one",
        .equals = "no library has it",
        .source = "Zhang et al. 2024, Threshold-Consistent Margin Loss (arXiv 2307.04047)",
        .example = "cupel eval data/digits_embeddings.npz --metrics 'eps_opis(epsilon=0.2)'",
        .direction = Direction::kLower,
        .default_for_verification = true,
        .tasks = {Task::kVerification},
        .options = options()};
    return kInfo;
  }

 protected:
  void extremes_of(const Options& options, CurveQuery& query) const override {
    query.extremes = true;
    query.epsilon = options.fraction("epsilon");
    query.ranked_once = options.text("rank") == "range";
    query.power = static_cast<int>(options.integer("power"));
  }

 private:
  static std::vector<OptionSpec> options() {
    std::vector<OptionSpec> options = curve_options();
    options.push_back({"epsilon",
                       OptionType::kNumber,
                       "0.1",
                       {},
                       0,
                       1,
                       "share of the classes that are the best, and the worst"});
    options.push_back({"rank",
                       OptionType::kChoice,
                       "pointwise",
                       {"pointwise", "range"},
                       0,
                       0,
                       "which these are: at each threshold, or once, by mean U over the range"});
    options.push_back({"power",
                       OptionType::kInteger,
                       "2",
                       {},
                       1,
                       2,
                       "2: the square of the gap; 1: its absolute value"});
    return options;
  }
};

}  // namespace

const Metric& opis() {
  static const Opis kMetric;
  return kMetric;
}
const Metric& eps_opis() {
  static const EpsOpis kMetric;
  return kMetric;
}

}  // namespace cupel
