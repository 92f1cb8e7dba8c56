// Shares of rows by how many labels their conformal set holds, and accuracy over size.
#include <cmath>
#include <utility>

#include "metric/exact.hpp"
#include "metric/list.hpp"
#include "metric/set_metric.hpp"

namespace cupel {
namespace {

/// hits / rows, with its interval. Undefined, empty: no rows.
void share(u64 hits, u64 rows, std::string_view counted, MetricValue& value) {
  value.details.emplace_back(std::string(counted), hits);
  if (rows == 0) {
    value.undefined = Undefined::kEmpty;
    return;
  }
  value.number = exact::ratio(hits, rows);
  value.details.emplace_back("interval", exact_interval(hits, rows));
}

class SingletonRate final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "singleton_rate",
        .summary = "share of rows whose conformal set holds one label",
        .formula =
            "rows whose set holds exactly one label / rows, over the rows that are not for "
            "calibration; 'coverage' tells what the options mean. details: how many there are, and "
            "Clopper and Pearson's 95 % interval",
        .edge_cases =
            "as coverage. A singleton need not be right: singleton_hit_rate. empty=argmax turns "
            "empty sets into singletons",
        .equals = "torch.mean((prediction_sets.sum(dim=1) == 1).float()); none in torchcp or MAPIE",
        .source = "Vovk, Fedorova, Nouretdinov, Gammerman 2016 (OneC)",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics singleton_rate "
            "--conformal lac,aps",
        .direction = Direction::kHigher,
        .in_unit_interval = true,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = set_options()};
    return kInfo;
  }

 protected:
  void describe(const ConformalThreshold&, const SetSums& sums, const Options&,
                MetricValue& value) const override {
    share(sums.by_size[1].rows, sums.all.rows, "singletons", value);
  }
};

class EmptyRate final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "empty_rate",
        .summary = "share of rows whose conformal set is empty",
        .formula =
            "rows whose set holds no label / rows, over the rows that are not for calibration; "
            "'coverage' tells what the options mean. details: how many there are, and Clopper and "
            "Pearson's 95 % interval",
        .edge_cases = "as coverage. 0 with empty=argmax",
        .equals = "torch.mean((prediction_sets.sum(dim=1) == 0).float()); none in torchcp or MAPIE",
        .source = "Vovk, Fedorova, Nouretdinov, Gammerman 2016",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics "
            "'empty_rate(alpha=0.2)'",
        .direction = Direction::kLower,
        .in_unit_interval = true,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = set_options()};
    return kInfo;
  }

 protected:
  void describe(const ConformalThreshold&, const SetSums& sums, const Options&,
                MetricValue& value) const override {
    share(sums.by_size[0].rows, sums.all.rows, "empty_sets", value);
  }
};

class SingletonHitRate final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "singleton_hit_rate",
        .summary = "share of rows whose conformal set is their label alone",
        .formula =
            "rows whose set holds exactly one label, the right one / rows, over the rows that are "
            "not for calibration; of=singletons divides by the rows whose set holds one label. "
            "'coverage' tells what the options mean. details: both counts, and Clopper and "
            "Pearson's 95 % interval",
        .edge_cases = "as coverage. of=singletons without a singleton: empty",
        .equals = "torchcp's singleton_hit_ratio, which is of=all",
        .source = "Vovk, Fedorova, Nouretdinov, Gammerman 2016 (OneC)",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics "
            "'singleton_hit_rate,singleton_hit_rate(of=singletons)'",
        .direction = Direction::kHigher,
        .in_unit_interval = true,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = options_of()};
    return kInfo;
  }

 protected:
  void describe(const ConformalThreshold&, const SetSums& sums, const Options& options,
                MetricValue& value) const override {
    const SetTally& single = sums.by_size[1];
    value.details.emplace_back("singletons", single.rows);
    share(single.covered, options.text("of") == "all" ? sums.all.rows : single.rows, "hits", value);
  }

 private:
  static std::vector<OptionSpec> options_of() {
    std::vector<OptionSpec> options = set_options();
    options.push_back({"of",
                       OptionType::kChoice,
                       "all",
                       {"all", "singletons"},
                       0,
                       0,
                       "what the hits are divided by: all rows, or those with one label"});
    return options;
  }
};

class UncertaintyAwareAccuracy final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "uacc",
        .summary = "uncertainty-aware accuracy: accuracy * sqrt(classes) / mean set size",
        .formula =
            "accuracy * sqrt(k) / mean set size, over the rows that are not for calibration; k is "
            "the number of classes, 2 of a binary score. A decision is right where the label ranks "
            "first, equal probabilities by class index. 'coverage' tells what the options mean. "
            "details: accuracy, mean size, classes",
        .edge_cases =
            "as coverage. Every set empty: not_defined. Above 1 where sets are small: of sets of "
            "one label it is accuracy * sqrt(k)",
        .equals =
            "UAcc of the VLM benchmark (vlm-uncertainty) for quantile=numpy_higher, empty=argmax; "
            "its abstentions count as correct and as sets of 7 labels there, and do not exist here",
        .source = "Ye et al. 2024, Benchmarking LLMs via Uncertainty Quantification",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics "
            "'uacc(quantile=numpy_higher,empty=argmax)'",
        .direction = Direction::kHigher,
        .in_unit_interval = false,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = set_options()};
    return kInfo;
  }

 protected:
  void describe(const ConformalThreshold&, const SetSums& sums, const Options&,
                MetricValue& value) const override {
    const u64 right = sums.by_rank[0].rows;
    const auto classes = static_cast<i64>(sums.by_class.size());
    value.details.emplace_back("accuracy", exact::ratio(right, sums.all.rows));
    value.details.emplace_back("mean_size", exact::ratio(sums.all.labels, sums.all.rows));
    value.details.emplace_back("classes", classes);
    if (sums.all.labels == 0) {
      value.undefined = Undefined::kNotDefined;
      return;
    }
    value.number = exact::ratio(right, sums.all.labels) * std::sqrt(static_cast<double>(classes));
  }
};

}  // namespace

const Metric& singleton_rate() {
  static const SingletonRate kMetric;
  return kMetric;
}
const Metric& empty_rate() {
  static const EmptyRate kMetric;
  return kMetric;
}
const Metric& singleton_hit_rate() {
  static const SingletonHitRate kMetric;
  return kMetric;
}
const Metric& uacc() {
  static const UncertaintyAwareAccuracy kMetric;
  return kMetric;
}

}  // namespace cupel
