// Shares of right decisions. A decision is score > threshold for one binary problem, the arg-max
// with ties to the lowest class for several classes.
#include "metric/list.hpp"
#include "metric/rows.hpp"

namespace cupel {
namespace {

const std::vector<Task> kAllTasks{Task::kBinary, Task::kMulticlass, Task::kMultilabel};

OptionSpec threshold_option() {
  return {
      "threshold",
      OptionType::kNumber,
      "",
      {},
      -1e300,
      1e300,
      "positive when the score is above it, on the scale of the column; 0.5 for probabilities, 0 "
      "for logits when not given"};
}

/// A metric of decisions: which threshold is in force, and when there is none.
class DecisionMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kRows; }
  Result<Needs> needs(const Options& options, Task task, i64, bool logits) const override {
    if (task == Task::kMulticlass && options.has("threshold")) {
      return usage_error("the option 'threshold' needs a binary or multilabel task",
                         "several classes are decided by the largest score");
    }
    Needs needs;
    needs.rows.thresholds = {threshold(options, task, logits)};
    // The default threshold is for probabilities; whether scores are comes with the squared error.
    needs.rows.brier = task != Task::kMulticlass && !logits && !options.has("threshold");
    return needs;
  }
  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    Detail::Object params = options.params();
    if (evidence.task != Task::kMulticlass && !options.has("threshold")) {
      params.emplace_back("threshold", threshold(options, evidence.task, evidence.logits));
    }
    return params;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const RowSums& sums = *evidence.rows;
    if (const Undefined why = missing_rows(sums); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    // The default threshold means something for probabilities only.
    if (evidence.task != Task::kMulticlass && evidence.outside_unit && !options.has("threshold")) {
      return MetricValue::none(Undefined::kNotProbability);
    }
    const std::size_t rule =
        threshold_index(*evidence.row_spec, threshold(options, evidence.task, evidence.logits));
    const std::size_t classes = sums.class_mass.size();
    return value_of(sums, std::span(sums.hits).subspan(rule * classes, classes), options);
  }

 protected:
  static double threshold(const Options& options, Task task, bool logits) {
    if (task == Task::kMulticlass) return 0;
    return options.has("threshold") ? options.number("threshold") : logits ? 0.0 : 0.5;
  }
  virtual MetricValue value_of(const RowSums& sums, std::span<const u128> hits,
                               const Options& options) const = 0;
};

class Accuracy final : public DecisionMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "accuracy",
        .summary = "share of rows that are decided right",
        .formula =
            "mean of [decision = label]; decision: score > threshold, or the arg-max with ties to "
            "the lowest class. subset=true (multilabel): all labels of the row must be right",
        .edge_cases =
            "scores outside [0, 1] that are not logits, without a threshold: not_probability",
        .equals =
            "sklearn.metrics.accuracy_score(y, s > 0.5 or s.argmax(1)); multilabel with "
            "subset=true "
            "likewise",
        .source = "the definition",
        .example = "cupel eval data/digits_probs.npz --metrics accuracy",
        .default_for_binary = true,
        .default_for_multiclass = true,
        .default_for_multilabel = true,
        .tasks = kAllTasks,
        .options = {threshold_option(),
                    {"subset",
                     OptionType::kFlag,
                     "false",
                     {},
                     0,
                     0,
                     "multilabel: a row counts when all its labels are right"}}};
    return kInfo;
  }
  Result<Needs> needs(const Options& options, Task task, i64 classes, bool logits) const override {
    auto needs = DecisionMetric::needs(options, task, classes, logits);
    if (!needs || !options.flag("subset")) return needs;
    if (task != Task::kMultilabel) {
      return usage_error("the option 'subset' of 'accuracy' needs a multilabel task");
    }
    if (options.has("average")) {
      return usage_error("'accuracy' takes subset=true or average=, not both");
    }
    needs->rows.exact_match = true;
    return needs;
  }

 protected:
  MetricValue value_of(const RowSums& sums, std::span<const u128> hits,
                       const Options&) const override {
    u128 right = 0;
    for (const u128 mass : hits) right += mass;
    return MetricValue::of(exact::ratio(right, total_mass(sums)));
  }
};

class BalancedAccuracy final : public DecisionMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "balanced_accuracy",
        .summary = "mean over classes of the share of their rows that are decided right",
        .formula = "mean of hits_c / rows_c over the classes that have rows (mass)",
        .edge_cases =
            "a class without rows is left out and counted in details; as accuracy otherwise",
        .equals = "sklearn.metrics.balanced_accuracy_score",
        .source = "Brodersen et al. 2010",
        .example = "cupel eval data/digits_probs.npz --metrics balanced_accuracy",
        .default_for_multiclass = true,
        .tasks = kAllTasks,
        .options = {threshold_option()}};
    return kInfo;
  }

 protected:
  MetricValue value_of(const RowSums& sums, std::span<const u128> hits,
                       const Options&) const override {
    // Quotients at 2^-320: their sum is so near the exact rational that one rounding remains.
    constexpr unsigned kBits = 320;
    exact::Integer sum = 0;
    i64 classes = 0;
    for (std::size_t c = 0; c < hits.size(); ++c) {
      if (sums.class_mass[c] == 0) continue;
      sum += (exact::integer(hits[c]) << kBits) / exact::integer(sums.class_mass[c]);
      ++classes;
    }
    MetricValue value = MetricValue::of(exact::to_double(sum, exact::Integer(classes) << kBits));
    value.details.emplace_back("classes_without_rows", static_cast<i64>(hits.size()) - classes);
    return value;
  }
};

class TopKAccuracy final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "top_k_accuracy",
        .summary = "share of rows whose label is among the k best classes",
        .formula =
            "mean of [fewer than k classes rank before the label]; a class ranks before it with a "
            "larger score, or an equal score and a lower index",
        .edge_cases = "k at or above the number of classes gives 1",
        .equals =
            "sklearn.metrics.top_k_accuracy_score where no scores tie (its ties depend on a sort)",
        .source = "the definition",
        .example = "cupel eval data/digits_probs.npz --metrics 'top_k_accuracy(k=2)'",
        .default_for_multiclass = true,
        .tasks = {Task::kMulticlass},
        .options = {{"k", OptionType::kInteger, "5", {}, 1, 65535, "how many classes count"}}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRows; }
  Result<Needs> needs(const Options& options, Task, i64, bool) const override {
    Needs needs;
    needs.rows.thresholds = {0};
    needs.rows.top_k = {options.integer("k")};
    return needs;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const RowSums& sums = *evidence.rows;
    if (const Undefined why = missing_rows(sums); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    const auto& top_k = evidence.row_spec->top_k;
    const auto at = std::find(top_k.begin(), top_k.end(), options.integer("k"));
    CUPEL_ASSERT(at != top_k.end());
    return MetricValue::of(exact::ratio(
        sums.top_k_hits[static_cast<std::size_t>(at - top_k.begin())], total_mass(sums)));
  }
};

}  // namespace

const Metric& accuracy() {
  static const Accuracy kMetric;
  return kMetric;
}
const Metric& balanced_accuracy() {
  static const BalancedAccuracy kMetric;
  return kMetric;
}
const Metric& top_k_accuracy() {
  static const TopKAccuracy kMetric;
  return kMetric;
}

}  // namespace cupel
