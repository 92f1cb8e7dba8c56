// Sets of split conformal prediction: how often they hold the label, and how large they are.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "metric/exact.hpp"
#include "metric/interval_metric.hpp"
#include "metric/list.hpp"
#include "metric/set_metric.hpp"

namespace cupel {
namespace {

/// Sizes that the details list at most.
constexpr std::size_t kMostShownSizes = 200;

/// The size of the rank-th smallest set, from 1.
u64 size_of_rank(const SetSums& sums, u64 rank) {
  u64 size = 0;
  for (u64 seen = 0; (seen += sums.by_size[size].rows) < rank;) ++size;
  return size;
}

double median_size(const SetSums& sums) {
  const u64 low = size_of_rank(sums, (sums.all.rows + 1) / 2);
  const u64 high = size_of_rank(sums, sums.all.rows / 2 + 1);
  return (static_cast<double>(low) + static_cast<double>(high)) / 2;
}

void describe_sizes(const SetSums& sums, Detail::Object& details) {
  details.emplace_back("median_size", median_size(sums));
  details.emplace_back("empty_sets", sums.by_size[0].rows);
  details.emplace_back("singletons", sums.by_size[1].rows);
  Detail::List sizes;
  u64 beyond = 0;
  for (std::size_t size = 0; size < sums.by_size.size(); ++size) {
    if (sums.by_size[size].rows == 0) continue;
    if (sizes.size() == kMostShownSizes) {
      beyond += sums.by_size[size].rows;
      continue;
    }
    sizes.emplace_back(
        Detail::Object{{"size", static_cast<i64>(size)}, {"n", sums.by_size[size].rows}});
  }
  details.emplace_back("sizes", std::move(sizes));
  if (beyond != 0) details.emplace_back("larger_sets", beyond);
}

/// Those of sets and those of intervals.
std::vector<OptionSpec> coverage_options() {
  std::vector<OptionSpec> options = set_options();
  const auto find = [&](std::string_view name) {
    return std::find_if(options.begin(), options.end(),
                        [&](const OptionSpec& option) { return option.name == name; });
  };
  for (const std::string_view rule : names_of(kIntervalRules)) {
    find("conformal")->choices.push_back(rule);
  }
  for (const OptionSpec& option : interval_options()) {
    if (find(option.name) == options.end()) options.push_back(option);
  }
  return options;
}

class Coverage final : public SetMetric {
 public:
  Result<Needs> needs(const Options& options, Task task, i64 classes, bool logits) const override {
    if (task == Task::kRegression) {
      auto query = interval_query(info().name, options);
      if (!query) return query.error();
      Needs needs;
      needs.interval = *query;
      return needs;
    }
    const auto of_intervals = names_of(kIntervalRules);
    const std::string_view score = options.text("conformal");
    if (std::find(of_intervals.begin(), of_intervals.end(), score) != of_intervals.end()) {
      return usage_error(
          fmt::format("conformal={} of '{}' is a score of a regression task, and this one is {}",
                      score, info().name, task_name(task)),
          fmt::format("it takes {}", fmt::join(names_of(kScores), ", ")));
    }
    return SetMetric::needs(options, task, classes, logits);
  }
  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    if (evidence.interval != nullptr) return interval_params(evidence.interval->query);
    return SetMetric::params(options, evidence);
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    if (evidence.interval != nullptr) return interval_coverage(*evidence.interval);
    return SetMetric::finish(evidence, options);
  }
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "coverage",
        .summary = "share of rows whose conformal set or interval holds their label",
        .formula =
            "qhat is the k-th smallest score of the labels of the calibration rows, k = ceil((n + "
            "1)(1 - alpha)) in exact integers; the set of a row holds the labels with score <= "
            "qhat; the value is the share of the other rows whose label is in theirs, whatever "
            "--split says. With r the rank of a label (larger probabilities first, equal ones by "
            "class index), not randomised: lac 1 - p; aps the sum of p up to and including r; raps "
            "aps + lambda max(0, r - k_reg); saps largest p + lambda (r - 1); topk r; margin "
            "largest p of the other labels - p. Probabilities are rounded once, to 2^-48; binary "
            "rows have the two classes 1 - p and p. ties=group gives equal probabilities the last "
            "of their ranks and their sum. randomised: u in [0, 1) of a row, or of a row and "
            "label, drawn by --seed and the row's id: aps and raps - u p, topk - u, saps largest p "
            "+ lambda (r - 2 + u), of rank 1 u p. mode: the calibration rows that a label is "
            "measured against, marginal all; class those with this label; group those with the "
            "row's values of all --group columns; cluster those with a label whose scores are "
            "alike (k-means of quantiles of scores, made from a share of the calibration rows); "
            "weighted all, each by its weight, the likelihood ratio of test to calibration rows: "
            "qhat of a row is the smallest score up to which they have 1 - alpha of all weight, "
            "the row's own included. quantile= takes another order statistic: numpy_higher k + 1 "
            "(n for k = n), mapie_cls, mapie_reg, puncc, crepes. details: qhat and its rank, or "
            "thresholds, of each category and in short; Clopper and Pearson's 95 % interval of the "
            "value; and, of one threshold for all rows, mean, 5 and 95 % quantiles of Beta(k, n + "
            "1 - k), which the coverage of future rows follows where scores are distinct. Of a "
            "regression task the same with intervals, which "
            "'interval_width' tells: absolute |y - pred|; normalized |y - pred| / sigma; cqr "
            "max(lower - y, y - upper); cqr_asymmetric the two apart, at alpha / 2; none: lower "
            "<= y <= upper, without calibration; mode marginal or group",
        .edge_cases =
            "k > n: qhat is inf and every set holds all labels, details.qhat_reason says "
            "too_few_calibration; of one category: its label, or all labels of its rows, which "
            "details.qhats.infinite and unseen count; a class too rare for a cluster has the qhat "
            "of all rows, or with null_cluster=inf is in every set; no calibration rows: the value "
            "is undefined, too_few_calibration; no weight there: zero_weight; "
            "no other rows: empty; probabilities outside [0, 1] or rows that do not sum to 1: "
            "not_probability; weighted rows: not_defined but under mode=weighted. A group's rows "
            "are judged by the qhat of all calibration rows but under mode=group. randomised of "
            "lac or margin, mode=group without --group, mode=weighted without weights, and no "
            "--calibration but for conformal=none: an error",
        .equals =
            "torchcp's SplitPredictor with randomized=False (k-th score), its "
            "ClassConditionalPredictor mode=class; the tutorial's "
            "numpy.quantile(scores, k / n, method='higher') is quantile=numpy_higher",
        .source =
            "Vovk et al. 2005; Angelopoulos and Bates 2021; modes: Vovk 2012, Ding et al. 2023, "
            "Tibshirani et al. 2019",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics coverage "
            "--conformal lac,aps --alpha 0.1,0.05",
        .direction = Direction::kNone,
        .in_unit_interval = true,
        .default_for_regression = true,
        .tasks = {Task::kBinary, Task::kMulticlass, Task::kRegression},
        .options = coverage_options()};
    return kInfo;
  }

 protected:
  void describe(const ConformalThreshold& threshold, const SetSums& sums, const Options& options,
                MetricValue& value) const override {
    value.number = exact::ratio(sums.all.covered, sums.all.rows);
    const Fraction alpha = options.fraction("alpha");
    value.details.emplace_back("target", exact::ratio(alpha.den - alpha.num, alpha.den));
    value.details.emplace_back("covered", sums.all.covered);
    value.details.emplace_back("interval", exact_interval(sums.all.covered, sums.all.rows));
    if (threshold.has_law && options.text("empty") == kEmptySets[0]) {
      value.details.emplace_back("beta_law", beta_law(threshold.rank, threshold.calibration_rows));
    }
  }
};

class SetSize final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "set_size",
        .summary = "mean size of the conformal sets",
        .formula =
            "the mean number of labels in the sets of 'coverage', which tells what the options "
            "mean, over the rows that are not for calibration. details: qhat and its rank, median "
            "size, how many sets are empty and how many hold one label, and how many have each "
            "size",
        .edge_cases =
            "as coverage. empty=argmax puts the most probable label into a set that would be "
            "empty",
        .equals = "torchcp's average_size; the mean of MAPIE's y_pis.sum(axis=1)",
        .source = "Vovk et al. 2005; Sadinle, Lei, Wasserman 2019",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics set_size "
            "--conformal 'lac(mode=class),raps(lambda=0.1,k_reg=1,randomised=row)' --alpha 0.05",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = set_options()};
    return kInfo;
  }

 protected:
  void describe(const ConformalThreshold&, const SetSums& sums, const Options&,
                MetricValue& value) const override {
    value.number = exact::ratio(sums.all.labels, sums.all.rows);
    describe_sizes(sums, value.details);
  }
};

}  // namespace

const Metric& coverage() {
  static const Coverage kMetric;
  return kMetric;
}
const Metric& set_size() {
  static const SetSize kMetric;
  return kMetric;
}

}  // namespace cupel
