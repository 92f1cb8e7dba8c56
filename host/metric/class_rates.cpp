// What one threshold means for the classes: their false accept and false reject rates, and how far
// these are apart.
#include "metric/class_rates.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "metric/compensated_sum.hpp"
#include "metric/exact.hpp"
#include "metric/list.hpp"
#include "metric/verification_metric.hpp"

namespace cupel {

std::vector<ClassRate> class_rates(const VerificationEvidence& evidence, bool accept) {
  std::vector<ClassRate> rates;
  if (evidence.curves == nullptr || evidence.curves->thresholds.size() != 1) return rates;
  const ClassCurves& curves = *evidence.curves;
  rates.reserve(curves.classes());
  for (std::size_t i = 0; i < curves.classes(); ++i) {
    ClassRate one;
    one.cls = curves.of[i];
    one.pairs = accept ? curves.all_neg[i] : curves.all_pos[i];
    one.errors = accept ? curves.neg[i] : curves.all_pos[i] - curves.pos[i];
    one.rate = exact::ratio(one.errors, one.pairs);
    rates.push_back(one);
  }
  return rates;
}

namespace {

std::vector<OptionSpec> rate_options(bool spread) {
  std::vector<OptionSpec> options = pair_options();
  options.push_back({"far",
                     OptionType::kNumber,
                     "",
                     {},
                     0,
                     1,
                     "at the loosest threshold whose false accept rate over all negative pairs is "
                     "at most this (0.01)"});
  options.push_back({"threshold",
                     OptionType::kNumber,
                     "",
                     {},
                     -3e38,
                     3e38,
                     "instead of far: the distance up to which, or the similarity from which, a "
                     "pair is accepted"});
  if (spread) {
    options.push_back({"spread",
                       OptionType::kChoice,
                       "range",
                       {"range", "std"},
                       0,
                       0,
                       "largest less smallest, or standard deviation over the classes"});
  }
  return options;
}

struct Spread {
  double mean = 0;
  double std = 0;
  double range = 0;
  std::size_t least = 0, most = 0;
};

/// Of at least one class.
Spread spread_of(const std::vector<ClassRate>& rates) {
  Spread spread;
  const auto count = static_cast<double>(rates.size());
  CompensatedSum sum;
  for (std::size_t i = 0; i < rates.size(); ++i) {
    sum.add(rates[i].rate);
    if (rates[i].rate < rates[spread.least].rate) spread.least = i;
    if (rates[i].rate > rates[spread.most].rate) spread.most = i;
  }
  spread.mean = sum.value() / count;
  CompensatedSum squares;
  for (const ClassRate& one : rates) {
    squares.add((one.rate - spread.mean) * (one.rate - spread.mean));
  }
  spread.std = std::sqrt(squares.value() / count);
  const auto rational = [](const ClassRate& one) {
    return exact::Rational(exact::integer(one.errors), exact::integer(one.pairs));
  };
  spread.range = exact::to_double(rational(rates[spread.most]) - rational(rates[spread.least]));
  return spread;
}

/// The mean of the rates, or how far they are apart.
class RateMetric : public VerificationMetric {
 public:
  RateMetric(bool accept, bool spread) : accept_(accept), spread_(spread) {}

  Result<Needs> needs(const Options& options, Task, i64, bool) const override {
    const std::string_view name = info().name;
    ClassRateQuery query;
    if (options.has("threshold")) {
      if (options.has("far")) {
        return usage_error(fmt::format("both far and threshold of '{}'", name),
                           "give one of them: far finds a threshold");
      }
      query.threshold = options.number("threshold");
    } else if (options.has("far")) {
      query.far = options.fraction("far");
      if (query.far.num == 0) {
        return usage_error(fmt::format("far of '{}' is 0", name),
                           "a rate above 0: no pair tells where none is accepted");
      }
    }
    Needs needs;
    needs.verification = pair_query(options);
    needs.verification->rates = query;
    return needs;
  }

  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    if (evidence.verification == nullptr) return MetricValue::none(Undefined::kEmpty);
    const VerificationEvidence& pairs = *evidence.verification;
    const Undefined why = missing_classes(pairs);
    if (why != Undefined::kNone) {
      MetricValue none = MetricValue::none(why);
      if (why == Undefined::kTooFewClasses) describe_classes(pairs, none.details);
      return none;
    }
    if (pairs.unresolved) return not_resolved(pairs.neg);
    const std::vector<ClassRate> rates = class_rates(pairs, accept_);
    if (rates.empty()) return MetricValue::none(Undefined::kNotReached);
    const Spread spread = spread_of(rates);
    const bool deviation = spread_ && options.text("spread") == "std";
    MetricValue value = MetricValue::of(!spread_    ? spread.mean
                                        : deviation ? spread.std
                                                    : spread.range);
    Detail::Object& details = value.details;
    details = {{"threshold", pairs.curves->thresholds[0]},
               {"threshold_is", std::string(threshold_name(pairs.domain))}};
    describe_classes(pairs, details);
    details.emplace_back("mean", spread.mean);
    details.emplace_back("std", spread.std);
    details.emplace_back("min", rates[spread.least].rate);
    details.emplace_back("max", rates[spread.most].rate);
    details.emplace_back("range", spread.range);
    details.emplace_back("worst_classes", worst(pairs, rates));
    return value;
  }

  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    Detail::Object params = VerificationMetric::params(options, evidence);
    if (!options.has("far") && !options.has("threshold")) {
      const auto end = std::find_if(params.begin(), params.end(),
                                    [](const auto& entry) { return entry.first == "spread"; });
      params.emplace(end, "far", 0.01);
    }
    return params;
  }

 private:
  /// The classes with the highest rates, of equal ones the first.
  Detail worst(const VerificationEvidence& pairs, const std::vector<ClassRate>& rates) const {
    std::vector<std::size_t> order(rates.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const std::size_t shown = std::min(kShownClasses, order.size());
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown),
                      order.end(), [&](std::size_t a, std::size_t b) {
                        return rates[a].rate != rates[b].rate ? rates[a].rate > rates[b].rate
                                                              : a < b;
                      });
    Detail::List list;
    for (std::size_t i = 0; i < shown; ++i) {
      const ClassRate& one = rates[order[i]];
      Detail::Object object = describe_class(pairs, one.cls);
      object.emplace_back(accept_ ? "far" : "frr", one.rate);
      object.emplace_back(accept_ ? "accepted" : "rejected", one.errors);
      object.emplace_back("pairs", one.pairs);
      list.emplace_back(std::move(object));
    }
    return list;
  }

  bool accept_;
  bool spread_;
};

constexpr std::string_view kEdges =
    "fewer than two classes of two rows and more: undefined too_few_classes; a class of one row "
    "has "
    "no rate; far below 1 / (number of negative pairs): undefined not_resolved";
constexpr std::string_view kWhere =
    "; threshold: given, or the loosest whose false accept rate over all negative pairs is at most "
    "far";

MetricInfo rate_info(std::string_view name, std::string_view summary, std::string_view formula,
                     std::string_view example, bool spread) {
  return {.name = name,
          .summary = summary,
          .formula = formula,
          .edge_cases = kEdges,
          .equals = "a loop over classes with numpy over the matrix of distances",
          .source = "error rates of verification, class by class",
          .example = example,
          .direction = Direction::kLower,
          .tasks = {Task::kVerification},
          .options = rate_options(spread)};
}

class ClassFar final : public RateMetric {
 public:
  ClassFar() : RateMetric(true, false) {}
  const MetricInfo& info() const override {
    static const std::string kFormula = fmt::format(
        "mean over classes of (accepted pairs with other classes) / (all of these){}", kWhere);
    static const MetricInfo kInfo = rate_info(
        "class_far", "mean over classes of the false accept rate at one threshold", kFormula,
        "cupel eval data/digits_embeddings.npz --metrics 'class_far(far=0.01)'", false);
    return kInfo;
  }
};
class ClassFrr final : public RateMetric {
 public:
  ClassFrr() : RateMetric(false, false) {}
  const MetricInfo& info() const override {
    static const std::string kFormula = fmt::format(
        "mean over classes of (pairs within the class not accepted) / (all of these){}", kWhere);
    static const MetricInfo kInfo = rate_info(
        "class_frr", "mean over classes of the false reject rate at one threshold", kFormula,
        "cupel eval data/digits_embeddings.npz --metrics 'class_frr(far=0.01)'", false);
    return kInfo;
  }
};
class FarSpread final : public RateMetric {
 public:
  FarSpread() : RateMetric(true, true) {}
  const MetricInfo& info() const override {
    static const std::string kFormula = fmt::format(
        "largest less smallest class_far of the classes, or the standard deviation (over T){}",
        kWhere);
    static const MetricInfo kInfo = rate_info(
        "far_spread", "how far the classes' false accept rates are apart at one threshold",
        kFormula, "cupel eval data/digits_embeddings.npz --metrics far_spread", true);
    return kInfo;
  }
};
class FrrSpread final : public RateMetric {
 public:
  FrrSpread() : RateMetric(false, true) {}
  const MetricInfo& info() const override {
    static const std::string kFormula = fmt::format(
        "largest less smallest class_frr of the classes, or the standard deviation (over T){}",
        kWhere);
    static const MetricInfo kInfo = rate_info(
        "frr_spread", "how far the classes' false reject rates are apart at one threshold",
        kFormula, "cupel eval data/digits_embeddings.npz --metrics frr_spread", true);
    return kInfo;
  }
};

}  // namespace

const Metric& class_far() {
  static const ClassFar kMetric;
  return kMetric;
}
const Metric& class_frr() {
  static const ClassFrr kMetric;
  return kMetric;
}
const Metric& far_spread() {
  static const FarSpread kMetric;
  return kMetric;
}
const Metric& frr_spread() {
  static const FrrSpread kMetric;
  return kMetric;
}

}  // namespace cupel
