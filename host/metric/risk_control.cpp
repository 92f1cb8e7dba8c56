// Conformal risk control: the first threshold at which the calibration rows promise a small loss,
// and what the other rows lose there.
#include <fmt/format.h>

#include "metric/exact.hpp"
#include "metric/list.hpp"

namespace cupel {
namespace {

std::vector<OptionSpec> risk_options() {
  return {
      {"alpha",
       OptionType::kNumber,
       "0.1",
       {},
       0,
       kMostLoss,
       "the expected loss that is allowed, an exact decimal",
       true},
      {"B", OptionType::kNumber, "1", {}, 0, kMostLoss, "the largest loss that there may be", true},
      {"bound",
       OptionType::kChoice,
       "crc",
       {"crc", "hoeffding", "bernstein"},
       0,
       0,
       "in expectation, or with probability 1 - delta over the calibration rows"},
      {"delta",
       OptionType::kNumber,
       "",
       {},
       0,
       1,
       "hoeffding, bernstein (0.1): how often the bound may fail",
       true}};
}

constexpr Fraction kUsualDelta{1, 10};

Result<RiskRule> rule_of(std::string_view metric, const Options& options) {
  RiskRule rule;
  rule.alpha = options.fraction("alpha");
  rule.most_loss = options.fraction("B");
  const std::string_view bound = options.text("bound");
  rule.bound = bound == "crc"         ? RiskBound::kCrc
               : bound == "hoeffding" ? RiskBound::kHoeffding
                                      : RiskBound::kBernstein;
  rule.delta = kUsualDelta;
  if (options.has("delta")) {
    if (rule.bound == RiskBound::kCrc) {
      return usage_error(fmt::format("bound=crc of '{}' has no delta", metric),
                         "delta is an option of hoeffding and bernstein");
    }
    rule.delta = options.fraction("delta");
  }
  if (!less(rule.alpha, rule.most_loss)) {
    return usage_error(fmt::format("alpha={} of '{}' is not below B={}: no loss is larger",
                                   options.text("alpha"), metric, options.text("B")),
                       "give a smaller alpha, or the largest loss as B=");
  }
  return rule;
}

/// Lambda as people know it.
Detail shown_lambda(const RiskEvidence& given, std::size_t index) {
  return given.lambdas.empty() ? Detail(static_cast<i64>(index)) : Detail(given.lambdas[index]);
}

class RiskMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kSelection; }
  Result<Needs> needs(const Options& options, Task, i64, bool) const override {
    auto rule = rule_of(info().name, options);
    if (!rule) return rule.error();
    Needs needs;
    needs.risk = *rule;
    return needs;
  }
  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    Detail::Object params = options.params();
    if (options.text("bound") != "crc" && !options.has("delta")) {
      params.emplace_back("delta", exact::to_double(exact::rational(kUsualDelta)));
    }
    params.emplace_back("lambdas", evidence.classes);
    return params;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const RiskEvidence& given = evidence.risk;
    const auto rule = rule_of(info().name, options);
    if (given.calibration == nullptr || !rule) {
      return MetricValue::none(Undefined::kTooFewCalibration);
    }
    if (given.weighted) return MetricValue::none(Undefined::kNotDefined);
    const RiskSums& calibration = *given.calibration;
    MetricValue value;
    value.details = {{"n_calibration", calibration.rows}};
    if (calibration.rows == 0) {
      value.undefined = Undefined::kTooFewCalibration;
      return value;
    }
    const auto first = first_controlled(calibration, *rule);
    const std::size_t shown = first.value_or(calibration.losses.size() - 1);
    const auto bound = risk_bound(calibration, shown, *rule);
    value.details.emplace_back("feasible", first.has_value());
    value.details.emplace_back(first ? "index" : "last_index", static_cast<i64>(shown));
    value.details.emplace_back(first ? "lambda" : "last_lambda", shown_lambda(given, shown));
    value.details.emplace_back("bound", bound ? Detail(*bound) : Detail());
    value.details.emplace_back("calibration_risk", mean_risk(calibration, shown));
    const bool has_others = given.others->rows != 0;
    value.details.emplace_back("other_risk",
                               has_others ? Detail(mean_risk(*given.others, shown)) : Detail());
    if (!first) {
      value.undefined = Undefined::kNotReached;
      return value;
    }
    judge(given, *first, value);
    return value;
  }

 protected:
  virtual void judge(const RiskEvidence& given, std::size_t index, MetricValue& value) const = 0;
};

class RiskControl final : public RiskMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "risk_control",
        .summary = "first lambda at which the expected loss is controlled",
        .formula =
            "losses of a row at L values of lambda, in [0, B] and not rising from column to "
            "column, rounded once to 1e-12; with n calibration rows the value is the first lambda "
            "with (sum of their losses + B) / (n + 1) <= alpha, compared as exact fractions. The "
            "expected loss of a new row at it is at most alpha. bound=hoeffding takes the mean + B "
            "sqrt(ln(1 / delta) / (2 n)), bound=bernstein the mean + sqrt(2 s^2 ln(2 / delta) / n) "
            "+ 7 B ln(2 / delta) / (3 (n - 1)), s^2 the sample variance, from which lambda on it "
            "is "
            "at most alpha: then the risk is at most alpha with probability 1 - delta. details: "
            "the "
            "index of lambda from 0, the bound and the calibration rows' mean loss there, and that "
            "of the other rows",
        .edge_cases =
            "no lambda will do: undefined, not_reached, and details are of the last one; no "
            "calibration rows: too_few_calibration; weighted rows: not_defined; without lambdas "
            "the value is the index. A group's lambda is that of all calibration rows. A loss "
            "outside [0, B] or a row whose losses rise is an input error. Without --calibration: "
            "an error",
        .equals =
            "MAPIE's control_risk with its CRC, Hoeffding and Bernstein bounds, but for the "
            "variance, there divided by n",
        .source =
            "Angelopoulos, Bates, Fisch, Lei, Schuster 2024; Bates, Angelopoulos, Lei, Malik, "
            "Jordan 2021; Maurer and Pontil 2009",
        .example =
            "cupel eval data/conformal/digits_losses.npz --calibration 0.5 --metrics "
            "'risk_control(alpha=0.05),risk_control(bound=hoeffding,alpha=0.2)'",
        .direction = Direction::kNone,
        .in_unit_interval = false,
        .tasks = {Task::kRisk},
        .options = risk_options()};
    return kInfo;
  }

 protected:
  void judge(const RiskEvidence& given, std::size_t index, MetricValue& value) const override {
    value.number = given.lambdas.empty() ? static_cast<double>(index) : given.lambdas[index];
  }
};

class ControlledRisk final : public RiskMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "controlled_risk",
        .summary = "mean loss of the other rows at the lambda of risk_control",
        .formula =
            "the mean loss of the rows that are not for calibration, whatever --split says, at the "
            "lambda that 'risk_control' takes from the calibration rows; that tells what the "
            "options mean",
        .edge_cases = "no other rows: empty; else as risk_control",
        .equals = "none",
        .source = "Angelopoulos, Bates, Fisch, Lei, Schuster 2024",
        .example =
            "cupel eval data/conformal/digits_losses.npz --calibration 0.5 --group ink --metrics "
            "'controlled_risk(alpha=0.05)'",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .tasks = {Task::kRisk},
        .options = risk_options()};
    return kInfo;
  }

 protected:
  void judge(const RiskEvidence& given, std::size_t index, MetricValue& value) const override {
    if (given.others->rows == 0) {
      value.undefined = Undefined::kEmpty;
      return;
    }
    value.number = mean_risk(*given.others, index);
  }
};

}  // namespace

const Metric& risk_control() {
  static const RiskControl kMetric;
  return kMetric;
}
const Metric& controlled_risk() {
  static const ControlledRisk kMetric;
  return kMetric;
}

}  // namespace cupel
