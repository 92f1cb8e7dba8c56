// Proper scores of probabilities: means of integer sums over rows.
#include "metric/list.hpp"
#include "metric/rows.hpp"

namespace cupel {
namespace {

const std::vector<Task> kAllTasks{Task::kBinary, Task::kMulticlass, Task::kMultilabel};

/// The mean of squared error that the shares of the classes have as a forecast: of a binary problem
/// share (1 - share), of several classes the sum of that.
double climatology(const RowSums& sums, Task task) {
  const exact::Integer all = exact::integer(total_mass(sums));
  exact::Integer sum = 0;
  for (std::size_t k = 0; k < sums.class_mass.size(); ++k) {
    const exact::Integer own = exact::integer(sums.class_mass[k]);
    if (task == Task::kMulticlass || k == 1) sum += own * (all - own);
  }
  return exact::to_double(sum, all * all);
}

bool one_class_only(const RowSums& sums) {
  const u128 all = total_mass(sums);
  return std::any_of(sums.class_mass.begin(), sums.class_mass.end(),
                     [&](u128 own) { return own == all; });
}

/// Murphy's parts of the Brier score, with the parts that binning leaves: score = reliability -
/// resolution + uncertainty + within_bin_variance - 2 * within_bin_covariance. Several classes: the
/// sums over the classes.
struct BrierParts {
  double reliability = 0;
  double resolution = 0;
  double uncertainty = 0;
  double within_bin_variance = 0;
  double within_bin_covariance = 0;
};

/// Adds the parts of bins [first, first + slots) of one class; 0 and 1 are in the bins beside them.
void add_parts(const BinTotals& totals, std::size_t first, std::size_t slots, BrierParts& parts) {
  using exact::Integer;
  Integer all = 0;
  Integer all_right = 0;
  for (std::size_t i = first; i < first + slots; ++i) {
    all += exact::integer(totals.mass[i]);
    all_right += exact::integer(totals.right[i]);
  }
  const double share = exact::to_double(all_right, all);
  for (std::size_t bin = 1; bin + 1 < slots; ++bin) {
    Integer mass = 0;
    Integer right = 0;
    Integer confidence = 0;
    Integer right_confidence = 0;
    Integer square = 0;
    const std::size_t from = bin == 1 ? 0 : bin;
    const std::size_t to = bin + 2 == slots ? slots : bin + 1;
    for (std::size_t i = first + from; i < first + to; ++i) {
      mass += exact::integer(totals.mass[i]);
      right += exact::integer(totals.right[i]);
      confidence += exact::integer(totals.confidence[i]);
      right_confidence += exact::integer(totals.right_confidence[i]);
      square += exact::integer(totals.square[i]);
    }
    if (mass == 0) continue;
    const Integer unit = mass << kConfidenceBits;
    const double weight = exact::to_double(mass, all);
    const double gap = exact::to_double((right << kConfidenceBits) - confidence, unit);
    const double off = exact::to_double(right * all - all_right * mass, mass * all);
    parts.reliability += weight * gap * gap;
    parts.resolution += weight * off * off;
    // sum of p^2 less mass * (mean p)^2, and sum of p y less mass * mean p * mean y; exact, for
    // they cancel.
    const Integer whole = all << kConfidenceBits;
    parts.within_bin_variance += exact::to_double(
        (square * mass << kConfidenceBits) - confidence * confidence, whole * unit);
    parts.within_bin_covariance +=
        exact::to_double(right_confidence * mass - confidence * right, whole * mass);
  }
  parts.uncertainty += share * (1 - share);
}

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
    if (const Undefined why = missing_probabilities(evidence); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
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
            "integers. decomposition=murphy adds its parts over the bins of ece to the details: "
            "brier = reliability - resolution + uncertainty + within_bin_variance - 2 * "
            "within_bin_covariance (several classes: sums over the classes)",
        .edge_cases = "probabilities outside [0, 1]: not_probability",
        .equals =
            "sklearn.metrics.brier_score_loss; several classes: with scale_by_half=False (half: "
            "True)",
        .source = "Brier 1950; the parts: Murphy 1973, Stephenson et al. 2008",
        .example =
            "cupel eval data/breast_cancer.csv --metrics 'brier(decomposition=murphy)' --format "
            "json",
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
                     "several classes: the sum over classes, or half of it"},
                    {"decomposition",
                     OptionType::kChoice,
                     "none",
                     {"none", "murphy"},
                     0,
                     0,
                     "what the score consists of, in the details"},
                    {"bins",
                     OptionType::kInteger,
                     "",
                     {},
                     1,
                     static_cast<double>(kMostBins),
                     "bins of the decomposition; 15 unless given"},
                    {"closed",
                     OptionType::kChoice,
                     "",
                     {"right", "left"},
                     0,
                     0,
                     "the edge that a bin of the decomposition has; right unless given"}}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRows; }
  Result<Needs> needs(const Options& options, Task task, i64, bool) const override {
    if (task != Task::kMulticlass && options.text("scale") != "sum") {
      return usage_error("the option 'scale' of 'brier' needs a multiclass task");
    }
    if (!decomposes(options) && (options.has("bins") || options.has("closed"))) {
      return usage_error("'brier' has bins only with decomposition=murphy",
                         "add decomposition=murphy");
    }
    Needs needs;
    needs.rows.brier = true;
    if (decomposes(options)) needs.rows.bins = {query(options, task)};
    return needs;
  }
  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    Detail::Object params;
    if (evidence.task == Task::kMulticlass)
      params.emplace_back("scale", std::string(options.text("scale")));
    if (decomposes(options)) {
      const BinQuery bins = query(options, evidence.task);
      params.emplace_back("decomposition", "murphy");
      params.emplace_back("bins", bins.bins);
      params.emplace_back("closed", bins.closed_left ? "left" : "right");
    }
    return params;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const RowSums& sums = *evidence.rows;
    if (const Undefined why = missing_probabilities(evidence); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    const int halving = options.text("scale") == "half" ? 1 : 0;
    MetricValue value =
        MetricValue::of(mean_of(sums.brier, total_mass(sums), kBrierBits + halving));
    if (decomposes(options)) {
      const BinQuery bins = query(options, evidence.task);
      const auto slots = static_cast<std::size_t>(bin_slots(bins.bins));
      const BinTotals& totals = bins_of_query(evidence, bins);
      BrierParts parts;
      for (std::size_t first = 0; first < totals.mass.size(); first += slots) {
        add_parts(totals, first, slots, parts);
      }
      const double scale = halving != 0 ? 0.5 : 1;
      value.details.emplace_back(
          "murphy", Detail::Object{{"reliability", scale * parts.reliability},
                                   {"resolution", scale * parts.resolution},
                                   {"uncertainty", scale * parts.uncertainty},
                                   {"within_bin_variance", scale * parts.within_bin_variance},
                                   {"within_bin_covariance", scale * parts.within_bin_covariance}});
    }
    return value;
  }

 private:
  static bool decomposes(const Options& options) {
    return options.text("decomposition") == "murphy";
  }
  static BinQuery query(const Options& options, Task task) {
    return {task == Task::kMulticlass ? BinPoints::kEachClass : BinPoints::kPositive,
            options.has("bins") ? options.integer("bins") : 15, options.text("closed") == "left",
            true};
  }
};

class BrierSkill final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "brier_skill",
        .summary = "how much better than the shares of the classes the probabilities are",
        .formula =
            "1 - brier / reference, the reference being the Brier score of a forecast of the rows' "
            "own class shares: of a binary problem share (1 - share), of several classes the sum "
            "of that. 1: perfect, 0: as good as the shares, negative: worse",
        .edge_cases =
            "all rows of one class: single_class; probabilities outside [0, 1]: not_probability",
        .equals = "sklearn.metrics.d2_brier_score",
        .source = "Murphy 1973",
        .example = "cupel eval data/breast_cancer.csv --metrics brier,brier_skill",
        .direction = Direction::kHigher,
        .in_unit_interval = false,
        .tasks = kAllTasks,
        .options = {}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRows; }
  Result<Needs> needs(const Options&, Task, i64, bool) const override {
    Needs needs;
    needs.rows.brier = true;
    return needs;
  }
  MetricValue finish(const Evidence& evidence, const Options&) const override {
    const RowSums& sums = *evidence.rows;
    if (const Undefined why = missing_probabilities(evidence); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    if (one_class_only(sums)) return MetricValue::none(Undefined::kSingleClass);
    const double reference = climatology(sums, evidence.task);
    MetricValue value =
        MetricValue::of(1 - mean_of(sums.brier, total_mass(sums), kBrierBits) / reference);
    value.details.emplace_back("reference", reference);
    return value;
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
const Metric& brier_skill() {
  static const BrierSkill kMetric;
  return kMetric;
}

}  // namespace cupel
