// Proper scores of probabilities: means of integer sums over rows.
#include "metric/list.hpp"
#include "metric/rows.hpp"

namespace cupel {
namespace {

const std::vector<Task> kAllTasks{Task::kBinary, Task::kMulticlass, Task::kMultilabel};

/// sum / (mass * 2^bits), rounded once.
double mean_of(const U256& sum, u128 mass, int bits) {
  return exact::to_double(exact::integer(sum), exact::integer(mass) << static_cast<unsigned>(bits));
}

class LogLoss final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "log_loss",
        .summary = "mean negative log-likelihood of the labels (natural logarithm)",
        .formula =
            "mean of -ln p(label), p clipped to [eps, 1 - eps] with eps the machine epsilon of the "
            "column's dtype; from logits by log-sum-exp, nothing clipped. Rows are rounded to "
            "2^-44 and summed as integers",
        .edge_cases =
            "probabilities outside [0, 1]: not_probability; a loss of 2^52 or more: overflow",
        .equals = "sklearn.metrics.log_loss(y, p)",
        .source = "Good 1952",
        .example = "cupel eval data/digits_probs.npz --metrics log_loss",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .default_for_binary = true,
        .default_for_multiclass = true,
        .default_for_multilabel = true,
        .tasks = kAllTasks,
        .options = {}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRows; }
  Result<Needs> needs(const Options&, Task, i64, bool) const override {
    Needs needs;
    needs.rows.log_loss = true;
    return needs;
  }
  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    Detail::Object params = options.params();
    if (!evidence.logits) {
      params.emplace_back("eps", evidence.probability_epsilon);
      params.emplace_back("clipped", evidence.rows == nullptr ? u64{0} : evidence.rows->clipped);
    }
    return params;
  }
  MetricValue finish(const Evidence& evidence, const Options&) const override {
    const RowSums& sums = *evidence.rows;
    if (const Undefined why = missing_rows(sums); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    if (evidence.outside_unit) return MetricValue::none(Undefined::kNotProbability);
    if (sums.overflowed != 0) return MetricValue::none(Undefined::kOverflow);
    return MetricValue::of(mean_of(sums.log_loss, total_mass(sums), kLogLossBits));
  }
};

class Brier final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "brier",
        .summary = "mean squared error of the probabilities",
        .formula =
            "binary: mean of (p - y)^2; several classes: mean over rows of sum_k (p_k - [y = "
            "k])^2, "
            "from 0 to 2, or half of it with scale=half. Rows are rounded to 2^-50 and summed as "
            "integers",
        .edge_cases = "probabilities outside [0, 1]: not_probability",
        .equals =
            "sklearn.metrics.brier_score_loss; several classes: with scale_by_half=False (half: "
            "True)",
        .source = "Brier 1950",
        .example = "cupel eval data/breast_cancer.csv --metrics brier",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .default_for_binary = true,
        .default_for_multiclass = true,
        .default_for_multilabel = true,
        .tasks = kAllTasks,
        .options = {{"scale",
                     OptionType::kChoice,
                     "sum",
                     {"sum", "half"},
                     0,
                     0,
                     "several classes: the sum over classes, or half of it"}}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRows; }
  Result<Needs> needs(const Options& options, Task task, i64, bool) const override {
    if (task != Task::kMulticlass && options.text("scale") != "sum") {
      return usage_error("the option 'scale' of 'brier' needs a multiclass task");
    }
    Needs needs;
    needs.rows.brier = true;
    return needs;
  }
  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    return evidence.task == Task::kMulticlass ? options.params() : without_scale(options.params());
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const RowSums& sums = *evidence.rows;
    if (const Undefined why = missing_rows(sums); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    if (evidence.outside_unit) return MetricValue::none(Undefined::kNotProbability);
    const int halving = options.text("scale") == "half" ? 1 : 0;
    return MetricValue::of(mean_of(sums.brier, total_mass(sums), kBrierBits + halving));
  }

 private:
  static Detail::Object without_scale(Detail::Object params) {
    std::erase_if(params, [](const auto& field) { return field.first == "scale"; });
    return params;
  }
};

}  // namespace

const Metric& log_loss() {
  static const LogLoss kMetric;
  return kMetric;
}
const Metric& brier() {
  static const Brier kMetric;
  return kMetric;
}

}  // namespace cupel
