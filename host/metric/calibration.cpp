// Calibration errors of bins, of equal width or of equal mass: how far confidences are from the
// shares that were right. All of them read the same sums; they differ in which confidences are
// binned and how gaps are joined.
#include <array>
#include <cmath>
#include <functional>
#include <utility>

#include "metric/list.hpp"
#include "metric/rows.hpp"
#include "metric/sorted_bins.hpp"

namespace cupel {
namespace {

using exact::Integer;

constexpr double kWilsonZ = 1.959963984540054;  ///< the normal quantile of 97.5 %
/// The diagram is shown for at most so many bins.
constexpr std::size_t kMostShownBins = 1000;

const std::vector<Task> kEveryTask{Task::kBinary, Task::kMulticlass, Task::kMultilabel};
const std::vector<Task> kBinaryTasks{Task::kBinary, Task::kMultilabel};
const std::vector<Task> kMulticlassTask{Task::kMulticlass};

/// How confidences are put into bins: of equal width, of equal mass, or as uncertainty-calibration
/// does it.
enum class BinRule : u8 { kWidth, kMass, kSplit };

/// Which bins there are, and where the confidences 0 and 1 belong.
struct Binning {
  i64 bins = 15;
  bool closed_left = false;
  bool zeros_apart = false;
  bool ones_apart = false;
  BinRule rule = BinRule::kWidth;
};

struct Preset {
  std::string_view name;
  Binning binning;
};
/// What other libraries do, read from their code: METRICS of the design, section 3.1.
constexpr std::string_view kSplitPreset = "uncertainty_calibration";
constexpr std::array<Preset, 7> kPresets{
    {{"guo", {15, false, false, false}},
     {"torchmetrics", {15, true, false, true}},
     {"netcal", {10, true, false, false}},
     {"tfp", {15, true, false, false}},
     {"sklearn", {5, false, false, false}},
     {"mapie", {49, false, true, false}},
     {kSplitPreset, {15, false, false, false, BinRule::kSplit}}}};

Binning binning_of(const Options& options) {
  Binning binning;
  for (const Preset& preset : kPresets) {
    if (options.text("preset") == preset.name) binning = preset.binning;
  }
  if (options.given("bins")) binning.bins = options.integer("bins");
  if (options.given("closed")) binning.closed_left = options.text("closed") == "left";
  if (options.text("binning") == "mass") binning.rule = BinRule::kMass;
  return binning;
}

std::vector<OptionSpec> binning_options() {
  return {
      {"bins", OptionType::kInteger, "15", {}, 1, static_cast<double>(kMostBins), "how many bins"},
      {"binning",
       OptionType::kChoice,
       "width",
       {"width", "mass"},
       0,
       0,
       "bins of equal width, or of equal mass with ties in one bin"},
      {"closed",
       OptionType::kChoice,
       "right",
       {"right", "left"},
       0,
       0,
       "the edge that a bin has: (lo, hi] or [lo, hi)"},
      {"preset",
       OptionType::kChoice,
       "",
       {"guo", "torchmetrics", "netcal", "tfp", "sklearn", "mapie", kSplitPreset},
       0,
       0,
       "bins, edges and ends as that library has them"}};
}
OptionSpec norm_option(std::string_view standard) {
  return {"norm",
          OptionType::kChoice,
          standard,
          {"l1", "l2", "max"},
          0,
          0,
          "mean of the gaps, root of the mean of their squares, or the largest"};
}

/// One bin as a metric sees it.
struct Bin {
  double low = 0;
  double high = 0;
  std::optional<u64> rows = 0;  ///< not known of ranges of sorted confidences with weights
  Integer mass = 0;
  Integer right = 0;
  Integer confidence = 0;  ///< in units of 2^-kConfidenceBits

  void add(const BinTotals& totals, std::size_t at) {
    *rows += totals.rows[at];
    mass += exact::integer(totals.mass[at]);
    right += exact::integer(totals.right[at]);
    confidence += exact::integer(totals.confidence[at]);
  }
  /// right - confidence, in units of 2^-kConfidenceBits of mass.
  Integer difference() const { return (right << kConfidenceBits) - confidence; }
  /// Accuracy less confidence; the bin is not empty.
  double gap() const { return exact::to_double(difference(), mass << kConfidenceBits); }
};

/// The bins of one set, the confidences 0 and 1 put where they belong.
std::vector<Bin> bins_of(const BinTotals& totals, const Binning& binning, i64 set) {
  std::vector<Bin> bins;
  const auto first = static_cast<std::size_t>(set * bin_slots(binning.bins));
  const auto count = static_cast<std::size_t>(binning.bins);
  if (binning.zeros_apart) bins.emplace_back();
  for (std::size_t k = 0; k < count; ++k) {
    Bin bin;
    bin.low = bin_edge(static_cast<i64>(k), binning.bins);
    bin.high = bin_edge(static_cast<i64>(k) + 1, binning.bins);
    bin.add(totals, first + k + 1);
    bins.push_back(std::move(bin));
  }
  bins[0].add(totals, first);
  if (binning.ones_apart) {
    bins.emplace_back();
    bins.back().low = 1;
    bins.back().high = 1;
  }
  bins.back().add(totals, first + count + 1);
  return bins;
}

/// The bins that ranges of sorted confidences are.
std::vector<Bin> bins_of(const std::vector<ConfidenceRange>& ranges, bool weighted) {
  std::vector<Bin> bins;
  for (const ConfidenceRange& range : ranges) {
    Bin bin;
    bin.low = range.low;
    bin.high = range.high;
    bin.rows = weighted ? std::nullopt : std::optional(static_cast<u64>(range.mass));
    bin.mass = exact::integer(range.mass);
    bin.right = exact::integer(range.right);
    bin.confidence = exact::integer(range.confidence);
    bins.push_back(std::move(bin));
  }
  return bins;
}

/// The bins of each set.
using BinsOfSet = std::function<std::vector<Bin>(i64 set)>;

Integer total_mass(const std::vector<Bin>& bins) {
  Integer total = 0;
  for (const Bin& bin : bins) total += bin.mass;
  return total;
}

/// Sum of |right - confidence| over the bins, in units of 2^-kConfidenceBits of mass.
Integer total_difference(const std::vector<Bin>& bins) {
  Integer total = 0;
  for (const Bin& bin : bins) total += abs(bin.difference());
  return total;
}

/// Mean of the squared gaps by mass; debiased, it may be negative.
double mean_square(const std::vector<Bin>& bins, bool debias) {
  const Integer total = total_mass(bins);
  double sum = 0;
  for (const Bin& bin : bins) {
    if (bin.mass == 0) continue;
    const double gap = bin.gap();
    double square = gap * gap;
    if (debias) {
      if (*bin.rows < 2) continue;
      const double accuracy = exact::to_double(bin.right, bin.mass);
      square -= accuracy * (1 - accuracy) / (static_cast<double>(*bin.rows) - 1);
    }
    sum += exact::to_double(bin.mass, total) * square;
  }
  return sum;
}

double largest_gap(const std::vector<Bin>& bins) {
  double largest = 0;
  for (const Bin& bin : bins) {
    if (bin.mass != 0) largest = std::max(largest, std::fabs(bin.gap()));
  }
  return largest;
}

double error_of(const std::vector<Bin>& bins, std::string_view norm, bool debias) {
  if (norm == "max") return largest_gap(bins);
  if (norm == "l2") return std::sqrt(std::max(0.0, mean_square(bins, debias)));
  return exact::to_double(total_difference(bins), total_mass(bins) << kConfidenceBits);
}

/// The reliability diagram: what each bin that is not empty holds.
Detail::List diagram_of(const std::vector<Bin>& bins, bool weighted) {
  Detail::List list;
  for (const Bin& bin : bins) {
    if (bin.rows == u64{0}) continue;
    Detail::Object described{{"low", bin.low}, {"high", bin.high}};
    if (bin.rows) {
      described.emplace_back("n", *bin.rows);
    } else {
      described.emplace_back("weight", exact::to_double(bin.mass, Integer(1) << 64U));
    }
    if (bin.mass == 0) {
      list.emplace_back(std::move(described));
      continue;
    }
    const double accuracy = exact::to_double(bin.right, bin.mass);
    described.emplace_back("confidence",
                           exact::to_double(bin.confidence, bin.mass << kConfidenceBits));
    described.emplace_back("accuracy", accuracy);
    described.emplace_back("gap", bin.gap());
    // Wilson's interval is one of counts.
    if (!weighted) {
      const double n = static_cast<double>(*bin.rows);
      const double z2 = kWilsonZ * kWilsonZ;
      const double centre = (accuracy + z2 / (2 * n)) / (1 + z2 / n);
      const double half =
          kWilsonZ * std::sqrt(accuracy * (1 - accuracy) / n + z2 / (4 * n * n)) / (1 + z2 / n);
      described.emplace_back("wilson_low", std::max(0.0, centre - half));
      described.emplace_back("wilson_high", std::min(1.0, centre + half));
    }
    list.emplace_back(std::move(described));
  }
  return list;
}

/// What all of these metrics share.
class BinnedMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kRows; }
  Result<Needs> needs(const Options& options, Task task, i64, bool logits) const override {
    for (const char* option : {"closed", "binning"}) {
      if (options.has("preset") && options.given(option)) {
        return usage_error(fmt_both(info().name, option), "leave one of them out");
      }
    }
    const Binning binning = binning_of(options);
    const std::string name(info().name);
    if (binning.rule == BinRule::kMass && options.given("closed")) {
      return usage_error("closed= of '" + name + "' is for bins of equal width",
                         "leave out closed= or binning=mass");
    }
    if (binning.rule == BinRule::kSplit && bin_sets(points(task), 2) != 1) {
      return usage_error("preset=uncertainty_calibration of '" + name +
                         "' needs one set of confidences, and here each class has one");
    }
    if (binning.rule != BinRule::kWidth && options.text("reduction") == "pooled") {
      return usage_error("reduction=pooled of '" + name + "' needs bins of equal width");
    }
    if (debias(options) && norm(options) != "l2") {
      return usage_error("debias=true of '" + name + "' needs norm=l2");
    }
    Needs needs;
    if (binning.rule == BinRule::kWidth) {
      // Says which rows hold no probabilities.
      needs.rows.brier = true;
      needs.rows.bins = {query(options, task)};
    } else {
      needs.rows.brier = !logits;
      needs.confidences = points(task);
    }
    return needs;
  }
  ReducedSet reduce(const SortedConfidences& set, const Options& options) const override {
    const Binning binning = binning_of(options);
    ReducedSet reduced;
    if (binning.rule == BinRule::kMass) {
      reduced.ranges = mass_ranges(set, binning.bins);
    } else if (!set.weighted()) {
      reduced.ranges = split_ranges(set, binning.bins);
    }
    return reduced;
  }
  Detail::Object params(const Options& options, const Evidence&) const override {
    const Binning binning = binning_of(options);
    Detail::Object params{{"bins", binning.bins},
                          {"binning", binning.rule == BinRule::kWidth ? "width" : "mass"}};
    if (binning.rule != BinRule::kMass) {
      params.emplace_back("closed", binning.closed_left ? "left" : "right");
    }
    if (binning.zeros_apart) params.emplace_back("zeros", "own bin");
    if (binning.ones_apart) params.emplace_back("ones", "own bin");
    for (auto& [name, value] : options.params()) {
      if (name == "bins" || name == "closed" || name == "binning") continue;
      if (name == "norm") {
        params.emplace_back(name, std::string(norm(options)));
      } else if (name == "debias") {
        params.emplace_back(name, debias(options));
      } else {
        params.emplace_back(name, value);
      }
    }
    return params;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const RowSums& sums = *evidence.rows;
    if (const Undefined why = missing_probabilities(evidence); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    const Binning binning = binning_of(options);
    if (sums.weighted && (debias(options) || binning.rule == BinRule::kSplit)) {
      return MetricValue::none(Undefined::kNotDefined);
    }
    if (binning.rule != BinRule::kWidth) {
      const auto bins = [&](i64 set) {
        return bins_of(evidence.sets[static_cast<std::size_t>(set)].ranges, sums.weighted);
      };
      return value_of(bins, sums.weighted, options, evidence.classes);
    }
    const BinTotals& totals = bins_of_query(evidence, query(options, evidence.task));
    if (options.text("reduction") == "pooled") {
      const BinTotals pooled = pooled_bins(totals, binning, evidence.classes);
      return value_of([&](i64) { return bins_of(pooled, binning, 0); }, sums.weighted, options, 1);
    }
    return value_of([&](i64 set) { return bins_of(totals, binning, set); }, sums.weighted, options,
                    evidence.classes);
  }

 protected:
  virtual BinPoints points(Task task) const = 0;
  virtual MetricValue value_of(const BinsOfSet& bins_of_set, bool weighted, const Options& options,
                               i64 classes) const = 0;
  /// The norm that takes effect: uncertainty-calibration's is l2.
  virtual std::string_view norm(const Options& options) const {
    return takes_split_standard(options, "norm") ? "l2" : options.text("norm");
  }
  /// Whether it is debiased: uncertainty-calibration does so where the norm is l2.
  bool debias(const Options& options) const {
    return takes_split_standard(options, "debias") ? norm(options) == "l2" : options.flag("debias");
  }

  BinQuery query(const Options& options, Task task) const {
    const Binning binning = binning_of(options);
    return {points(task), binning.bins, binning.closed_left};
  }

  MetricValue of_one_set(const std::vector<Bin>& bins, bool weighted,
                         const Options& options) const {
    MetricValue value = MetricValue::of(error_of(bins, norm(options), debias(options)));
    if (bins.size() <= kMostShownBins) {
      value.details.emplace_back("bins", diagram_of(bins, weighted));
    }
    return value;
  }

 private:
  /// Whether the preset decides an option that the metric has and the caller has not given.
  static bool takes_split_standard(const Options& options, std::string_view name) {
    return options.text("preset") == kSplitPreset && options.has(name) && !options.given(name);
  }
  /// The bins of all classes in one set.
  static BinTotals pooled_bins(const BinTotals& totals, const Binning& binning, i64 classes) {
    const i64 slots = bin_slots(binning.bins);
    BinTotals all;
    for (i64 slot = 0; slot < slots; ++slot) {
      u64 rows = 0;
      u128 mass = 0;
      u128 right = 0;
      U256 confidence{};
      for (i64 k = 0; k < classes; ++k) {
        const auto at = static_cast<std::size_t>(k * slots + slot);
        rows += totals.rows[at];
        mass += totals.mass[at];
        right += totals.right[at];
        confidence += totals.confidence[at];
      }
      all.rows.push_back(rows);
      all.mass.push_back(mass);
      all.right.push_back(right);
      all.confidence.push_back(confidence);
    }
    return all;
  }
  static std::string fmt_both(std::string_view metric, std::string_view option) {
    return "'" + std::string(metric) + "' takes preset= or " + std::string(option) + "=, not both";
  }
};

/// One set of bins: of the positive class's probability, or of the largest of several.
class OneSetMetric : public BinnedMetric {
 protected:
  BinPoints points(Task task) const override {
    return task == Task::kMulticlass ? BinPoints::kTop : BinPoints::kPositive;
  }
  MetricValue value_of(const BinsOfSet& bins_of_set, bool weighted, const Options& options,
                       i64) const override {
    return of_one_set(bins_of_set(0), weighted, options);
  }
};

constexpr std::string_view kBinsFormula =
    "bins of equal width over [0, 1] with edges k/B as correctly rounded doubles, (lo, hi] or "
    "[lo, hi) (closed=left), 0 in the first and 1 in the last; binning=mass: a confidence is in "
    "bin floor(B r / N), r the mass of smaller ones, so that equal ones share a bin. ";
constexpr std::string_view kOutside =
    "probabilities outside [0, 1]: not_probability; bins without mass add nothing";

/// The infos of metrics that differ in little.
MetricInfo binned_info(std::string_view name, std::string_view summary, std::string_view formula,
                       std::string_view equals, std::string_view source, std::string_view example,
                       const std::vector<Task>& tasks) {
  MetricInfo info;
  info.name = name;
  info.summary = summary;
  info.formula = formula;
  info.edge_cases = kOutside;
  info.equals = equals;
  info.source = source;
  info.example = example;
  info.direction = Direction::kLower;
  info.in_unit_interval = false;
  info.tasks = tasks;
  info.options = binning_options();
  return info;
}

std::vector<OptionSpec> with(std::vector<OptionSpec> options, const OptionSpec& one) {
  options.push_back(one);
  return options;
}
OptionSpec debias_option() {
  return {"debias",
          OptionType::kFlag,
          "false",
          {},
          0,
          0,
          "with norm=l2: less the variance of each bin's accuracy"};
}

class Ece final : public OneSetMetric {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula =
        std::string(kBinsFormula) +
        "sum over bins of mass_b / mass * |accuracy_b - "
        "confidence_b|. Binary and multilabel: of the "
        "positive class's probability; multiclass: of the largest "
        "one and whether it is the label's. "
        "preset=uncertainty_calibration: norm=l2 and debias=true unless given, rows cut into 15 "
        "equal parts, edges halfway between the rows at a cut, a bin per "
        "value where distinct values are fewer than a quarter of the rows. "
        "debias=true (norm=l2): each squared gap less acc (1 - "
        "acc) / (n_b - 1), bins of one row left "
        "out; of weighted rows not_defined";
    static const MetricInfo kInfo = [] {
      MetricInfo info = binned_info(
          "ece", "expected calibration error", kFormula,
          "torchmetrics' calibration_error with preset=torchmetrics; netcal's ECE with "
          "preset=netcal; get_calibration_error of uncertainty-calibration with its preset",
          "Naeini et al. 2015; Guo et al. 2017; debias: Kumar et al. 2019",
          "cupel eval data/digits_probs.npz --metrics "
          "'ece,ece(binning=mass),ece(preset=torchmetrics)'",
          kEveryTask);
      info.options = with(with(info.options, norm_option("l1")), debias_option());
      return info;
    }();
    return kInfo;
  }
};

class EceTopLabel final : public OneSetMetric {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula =
        std::string(kBinsFormula) +
        "ece of the more probable class: confidence max(p, 1 - p), right when that class is the "
        "row's; at p = 0.5 the negative class is predicted";
    static const MetricInfo kInfo = [] {
      MetricInfo info = binned_info(
          "ece_top_label", "expected calibration error of the predicted class", kFormula,
          "tensorflow_probability's expected_calibration_error of [1 - p, p], with preset=tfp",
          "Guo et al. 2017", "cupel eval data/breast_cancer.csv --metrics ece,ece_top_label",
          kBinaryTasks);
      info.options = with(with(info.options, norm_option("l1")), debias_option());
      return info;
    }();
    return kInfo;
  }

 protected:
  BinPoints points(Task) const override { return BinPoints::kTop; }
};

class Mce final : public OneSetMetric {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula =
        std::string(kBinsFormula) + "the largest |accuracy_b - confidence_b|: ece with norm=max";
    static const MetricInfo kInfo = binned_info(
        "mce", "maximum calibration error", kFormula,
        "torchmetrics' calibration_error(norm='max') with preset=torchmetrics",
        "Naeini et al. 2015", "cupel eval data/digits_probs.npz --metrics mce", kEveryTask);
    return kInfo;
  }

 protected:
  std::string_view norm(const Options&) const override { return "max"; }
};

class Rmsce final : public OneSetMetric {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula = std::string(kBinsFormula) +
                                        "root of the sum over bins of mass_b / mass * (accuracy_b "
                                        "- confidence_b)^2: ece with norm=l2";
    static const MetricInfo kInfo = [] {
      MetricInfo info = binned_info(
          "rmsce", "root mean square calibration error", kFormula,
          "torchmetrics' calibration_error(norm='l2') with preset=torchmetrics",
          "Kumar et al. 2019",
          "cupel eval data/digits_probs.npz --metrics 'rmsce,rmsce(debias=true)'", kEveryTask);
      info.options = with(info.options, debias_option());
      return info;
    }();
    return kInfo;
  }

 protected:
  std::string_view norm(const Options&) const override { return "l2"; }
};

class AverageCe final : public OneSetMetric {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula =
        std::string(kBinsFormula) +
        "mean of |accuracy_b - confidence_b| over the bins that have mass, each counting once";
    static const MetricInfo kInfo = binned_info(
        "average_ce", "average calibration error", kFormula, "netcal's ACE with preset=netcal",
        "Neumann et al. 2018", "cupel eval data/digits_probs.npz --metrics average_ce", kEveryTask);
    return kInfo;
  }

 protected:
  MetricValue value_of(const BinsOfSet& bins_of_set, bool weighted, const Options&,
                       i64) const override {
    const std::vector<Bin> bins = bins_of_set(0);
    double sum = 0;
    i64 filled = 0;
    for (const Bin& bin : bins) {
      if (bin.mass == 0) continue;
      sum += std::fabs(bin.gap());
      ++filled;
    }
    MetricValue value = MetricValue::of(sum / static_cast<double>(filled));
    value.details.emplace_back("bins_averaged", filled);
    if (bins.size() <= kMostShownBins) {
      value.details.emplace_back("bins", diagram_of(bins, weighted));
    }
    return value;
  }
};

class ClasswiseEce final : public BinnedMetric {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula =
        std::string(kBinsFormula) +
        "of each class's probability and whether it is the label's, over all rows: the mean over "
        "the "
        "classes (norm=l2: the root of the mean square over bins and classes; norm=max: the mean "
        "of "
        "the largest). reduction=pooled: all pairs of row and class in one set of bins";
    static const MetricInfo kInfo = [] {
      MetricInfo info = binned_info(
          "classwise_ece", "expected calibration error of every class's probability", kFormula,
          "none; with reduction=pooled the static calibration error of robustness_metrics",
          "Nixon et al. 2019; Kull et al. 2019; norm=l2: Kumar et al. 2019",
          "cupel eval data/digits_probs.npz --metrics "
          "'classwise_ece,classwise_ece(reduction=pooled)'",
          kMulticlassTask);
      info.options = with(with(info.options, norm_option("l1")),
                          {"reduction",
                           OptionType::kChoice,
                           "mean",
                           {"mean", "pooled"},
                           0,
                           0,
                           "the mean over classes, or all classes in one set of bins"});
      return info;
    }();
    return kInfo;
  }

 protected:
  BinPoints points(Task) const override { return BinPoints::kEachClass; }
  MetricValue value_of(const BinsOfSet& bins_of_set, bool weighted, const Options& options,
                       i64 classes) const override {
    if (options.text("reduction") == "pooled") {
      return of_one_set(bins_of_set(0), weighted, options);
    }
    Integer differences = 0;
    Integer mass = 0;
    double squares = 0;
    double largest = 0;
    Detail::List per_class;
    for (i64 k = 0; k < classes; ++k) {
      const std::vector<Bin> bins = bins_of_set(k);
      differences += total_difference(bins);
      mass += total_mass(bins);
      squares += mean_square(bins, false);
      largest += largest_gap(bins);
      per_class.emplace_back(
          Detail::Object{{"class", k}, {"value", error_of(bins, norm(options), false)}});
    }
    const double count = static_cast<double>(classes);
    MetricValue value =
        norm(options) == "max" ? MetricValue::of(largest / count)
        : norm(options) == "l2"
            ? MetricValue::of(std::sqrt(squares / count))
            : MetricValue::of(exact::to_double(differences, mass << kConfidenceBits));
    value.details.emplace_back("per_class", std::move(per_class));
    return value;
  }
};

class EceByPredictedClass final : public BinnedMetric {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula =
        std::string(kBinsFormula) +
        "of the largest probability, apart for each predicted class: the mean of the groups' "
        "errors by "
        "mass; weighting=classes: every group that has rows counts once";
    static const MetricInfo kInfo = [] {
      MetricInfo info = binned_info(
          "ece_by_predicted_class", "top-label calibration error within each predicted class",
          kFormula, "MAPIE's top_label_ece with preset=mapie, weighting=classes",
          "Gupta and Ramdas 2022",
          "cupel eval data/digits_probs.npz --metrics ece_by_predicted_class", kMulticlassTask);
      info.options = with(info.options, {"weighting",
                                         OptionType::kChoice,
                                         "mass",
                                         {"mass", "classes"},
                                         0,
                                         0,
                                         "how groups count: by their mass, or each once"});
      return info;
    }();
    return kInfo;
  }

 protected:
  BinPoints points(Task) const override { return BinPoints::kByPredicted; }
  MetricValue value_of(const BinsOfSet& bins_of_set, bool, const Options& options,
                       i64 classes) const override {
    Integer differences = 0;
    Integer mass = 0;
    double sum = 0;
    i64 groups = 0;
    Detail::List per_class;
    for (i64 k = 0; k < classes; ++k) {
      const std::vector<Bin> bins = bins_of_set(k);
      const Integer own = total_mass(bins);
      if (own == 0) continue;
      const double error = error_of(bins, "l1", false);
      differences += total_difference(bins);
      mass += own;
      sum += error;
      ++groups;
      per_class.emplace_back(Detail::Object{{"class", k}, {"value", error}});
    }
    MetricValue value =
        MetricValue::of(options.text("weighting") == "classes"
                            ? sum / static_cast<double>(groups)
                            : exact::to_double(differences, mass << kConfidenceBits));
    value.details.emplace_back("per_class", std::move(per_class));
    return value;
  }
};

}  // namespace

const Metric& ece() {
  static const Ece kMetric;
  return kMetric;
}
const Metric& ece_top_label() {
  static const EceTopLabel kMetric;
  return kMetric;
}
const Metric& mce() {
  static const Mce kMetric;
  return kMetric;
}
const Metric& rmsce() {
  static const Rmsce kMetric;
  return kMetric;
}
const Metric& average_ce() {
  static const AverageCe kMetric;
  return kMetric;
}
const Metric& classwise_ece() {
  static const ClasswiseEce kMetric;
  return kMetric;
}
const Metric& ece_by_predicted_class() {
  static const EceByPredictedClass kMetric;
  return kMetric;
}

}  // namespace cupel
