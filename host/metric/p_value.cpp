// Conformal p-values of labels: their mean over rows, and how narrow a choice they leave.
#include "cupel/metric/p_value.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "metric/exact.hpp"
#include "metric/list.hpp"
#include "metric/set_metric.hpp"

namespace cupel {

u128 level_units(const Fraction& alpha, u64 calibration_rows) {
  const exact::Integer units = exact::Integer(alpha.num) * (exact::Integer(calibration_rows) + 1);
  return static_cast<u128>((units << kUniformBits) / alpha.den);
}

namespace {

/// Those of sets, but for thresholds, and smoothing.
std::vector<OptionSpec> p_value_options() {
  std::vector<OptionSpec> options = set_options();
  std::erase_if(options, [](const OptionSpec& option) {
    return option.name != "conformal" && option.name != "lambda" && option.name != "k_reg";
  });
  options.front().summary = "score of a label";
  options.push_back({"smoothed",
                     OptionType::kFlag,
                     "false",
                     {},
                     0,
                     0,
                     "equal scores and the row itself count u times, u of (--seed, row id)"});
  return options;
}

class PValueMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kSelection; }
  Result<Needs> needs(const Options& options, Task, i64 classes, bool) const override {
    auto query = query_of(info().name, options, classes);
    if (!query) return query.error();
    Needs needs;
    needs.p_value = PValueQuery{query->rule, {1, 10}, options.flag("smoothed")};
    if (options.has("alpha")) needs.p_value->alpha = options.fraction("alpha");
    return needs;
  }
  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    Detail::Object params = set_params(options);
    if (options.flag("smoothed")) params.emplace_back("seed", evidence.p_value.seed);
    return params;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const PValueEvidence& given = evidence.p_value;
    if (given.sums == nullptr) return MetricValue::none(Undefined::kTooFewCalibration);
    if (evidence.outside_unit) return MetricValue::none(Undefined::kNotProbability);
    if (given.weighted) return MetricValue::none(Undefined::kNotDefined);
    MetricValue value;
    value.details = {{"n_calibration", given.calibration_rows}};
    if (given.calibration_rows == 0) {
      value.undefined = Undefined::kTooFewCalibration;
    } else if (given.sums->rows == 0) {
      value.undefined = Undefined::kEmpty;
    } else {
      judge(given, options, value);
    }
    return value;
  }

 protected:
  /// Of one or more rows.
  virtual void judge(const PValueEvidence& given, const Options& options,
                     MetricValue& value) const = 0;

  /// The mean over rows of p-values that add up to `units`.
  static double mean_p(const U256& units, const PValueEvidence& given) {
    const exact::Integer one = (exact::Integer(given.calibration_rows) + 1) << kUniformBits;
    return exact::to_double(exact::integer(units), one * exact::Integer(given.sums->rows));
  }
};

class PValue final : public PValueMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "p_value",
        .summary = "mean conformal p-value of the labels, which should be one half",
        .formula =
            "of a row that is not for calibration, whatever --split says, and its label y, p = "
            "(#{s_i >= s(y)} + 1) / (n + 1), s_i the scores of the n calibration rows under their "
            "labels, as 'coverage' tells; the value is the mean over the rows. smoothed=true: "
            "(#{s_i > s} + u (#{s_i = s} + 1)) / (n + 1) with one u in (0, 1] a row. Rows that are "
            "exchangeable with the calibration rows have p-values that are at most t with "
            "probability at most t, smoothed ones with that probability: a smoothed mean far from "
            "0.5 tells that the two halves differ. Counts are added as integers",
        .edge_cases =
            "no calibration rows: undefined, too_few_calibration; no other rows: empty; "
            "probabilities outside [0, 1] or rows that do not sum to 1: not_probability; weighted "
            "rows: not_defined. A group's rows are compared with all calibration rows. Without "
            "--calibration: an error",
        .equals =
            "the mean of the true label's column of torchcp's SplitPredictor p-values; crepes "
            "smooths unless told not to",
        .source = "Vovk, Gammerman, Shafer 2005",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics "
            "'p_value,p_value(smoothed=true),p_value(conformal=aps)'",
        .direction = Direction::kNone,
        .in_unit_interval = true,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = p_value_options()};
    return kInfo;
  }

 protected:
  void judge(const PValueEvidence& given, const Options&, MetricValue& value) const override {
    value.number = mean_p(given.sums->own, given);
  }
};

std::vector<OptionSpec> efficiency_options() {
  std::vector<OptionSpec> options = p_value_options();
  options.push_back({"criterion",
                     OptionType::kChoice,
                     "of",
                     {"s", "n", "u", "f", "m", "e", "ou", "of", "om", "oe"},
                     0,
                     0,
                     "which sum or count of p-values"});
  options.push_back({"alpha",
                     OptionType::kNumber,
                     "",
                     {},
                     0,
                     1,
                     "n, m, e, om, oe (0.1): sets hold the labels with p > alpha",
                     true});
  return options;
}

constexpr Fraction kUsualAlpha{1, 10};

bool counts_sets(std::string_view criterion) {
  return criterion == "n" || criterion == "m" || criterion == "e" || criterion == "om" ||
         criterion == "oe";
}

class PValueEfficiency final : public PValueMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "p_value_efficiency",
        .summary = "how many labels conformal p-values leave possible",
        .formula =
            "with the p-values of all labels of a row, as 'p_value' tells, and its set of the "
            "labels with p > alpha, the mean over rows of: s the sum of all p; n the size of the "
            "set; u the second largest p; f the sum of all p but the largest; m 1 where the set "
            "has two labels or more; e the labels of the set beyond one; and, without the row's "
            "own label, ou the largest p; of the sum of the p; om 1 where the set has a label; oe "
            "the labels of the set. Smaller is better; s, n, of and oe are smallest for scores "
            "that say the true probabilities",
        .edge_cases = "one class: 0 but for s and n; else as p_value",
        .equals =
            "torchcp's pvalue_criterion_S, N, U, F, M, E, OU, OF, OM, OE; n is set_size at the "
            "same alpha, quantile=exact",
        .source = "Vovk, Fedorova, Nouretdinov, Gammerman 2016",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics "
            "'p_value_efficiency,p_value_efficiency(criterion=n,alpha=0.05)'",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = efficiency_options()};
    return kInfo;
  }
  Result<Needs> needs(const Options& options, Task task, i64 classes, bool logits) const override {
    const std::string_view criterion = options.text("criterion");
    if (options.has("alpha") && !counts_sets(criterion)) {
      return usage_error(fmt::format("criterion={} of '{}' has no alpha", criterion, info().name),
                         "alpha is an option of n, m, e, om and oe");
    }
    return PValueMetric::needs(options, task, classes, logits);
  }
  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    Detail::Object params = PValueMetric::params(options, evidence);
    if (counts_sets(options.text("criterion")) && !options.has("alpha")) {
      params.emplace_back("alpha", exact::to_double(exact::rational(kUsualAlpha)));
    }
    return params;
  }

 protected:
  void judge(const PValueEvidence& given, const Options& options,
             MetricValue& value) const override {
    const PValueSums& sums = *given.sums;
    const std::string_view criterion = options.text("criterion");
    const auto count = [&](u64 of) { return exact::ratio(of, sums.rows); };
    value.number = criterion == "s"    ? mean_p(sums.all, given)
                   : criterion == "n"  ? count(sums.labels)
                   : criterion == "u"  ? mean_p(sums.second, given)
                   : criterion == "f"  ? mean_p(sums.but_largest, given)
                   : criterion == "m"  ? count(sums.multiple)
                   : criterion == "e"  ? count(sums.excess)
                   : criterion == "ou" ? mean_p(sums.largest_false, given)
                   : criterion == "of" ? mean_p(sums.all_false, given)
                   : criterion == "om" ? count(sums.false_sets)
                                       : count(sums.false_labels);
    if (counts_sets(criterion)) value.details.emplace_back("covered", sums.covered);
  }
};

}  // namespace

const Metric& p_value() {
  static const PValue kMetric;
  return kMetric;
}
const Metric& p_value_efficiency() {
  static const PValueEfficiency kMetric;
  return kMetric;
}

}  // namespace cupel
