// Selective prediction: the rows of the largest confidences are answered, the others are not. How
// many of the answers are wrong, at every share of answered rows.
//
// Equal confidences come in no order, so the areas are expectations over all orders of the rows of
// a tie group: among its first j of m rows with e errors there are j e / m on average. What is
// answered at a threshold is never a part of such a group.
#include <algorithm>
#include <cmath>
#include <vector>

#include "metric/compensated_sum.hpp"
#include "metric/list.hpp"
#include "metric/sorted_metric.hpp"

namespace cupel {
namespace {

const std::vector<Task> kEveryTask{Task::kBinary, Task::kMulticlass, Task::kMultilabel};

/// Rows of one confidence, and those of larger ones, which are answered before them.
struct Step {
  double p = 0;
  u128 mass = 0;
  u128 wrong = 0;
  u128 mass_above = 0;
  u128 wrong_above = 0;

  u128 answered() const { return mass_above + mass; }
  u128 errors() const { return wrong_above + wrong; }
};

struct Totals {
  u128 mass = 0;
  u128 wrong = 0;
  u64 steps = 0;
};

Totals totals_of(const SortedConfidences& set) {
  Totals all;
  set.visit([&](std::span<const ConfidenceGroup> groups) {
    for (const ConfidenceGroup& group : groups) {
      all.mass += group.mass();
      all.wrong += group.wrong;
    }
    all.steps += groups.size();
  });
  return all;
}

/// Calls take(step) from the smallest confidence, where all rows are answered, to the largest.
template <class Take>
void walk(const SortedConfidences& set, const Totals& all, const Take& take) {
  Step step;
  step.mass_above = all.mass;
  step.wrong_above = all.wrong;
  set.visit([&](std::span<const ConfidenceGroup> groups) {
    for (const ConfidenceGroup& group : groups) {
      step.p = group.p;
      step.mass = group.mass();
      step.wrong = group.wrong;
      step.mass_above -= step.mass;
      step.wrong_above -= step.wrong;
      take(step);
    }
  });
}

// ---- areas ------------------------------------------------------------------------------------

/// What one tie group adds to the sum over k = 1 ... N of (errors among the first k - max(0, k -
/// free)) / k, a term being an integer over an integer, rounded once; none is negative where at
/// least N - free rows are wrong. `I` holds N^2.
template <class I>
void add_step(const Step& step, u64 free, CompensatedSum& sum) {
  const auto mass = static_cast<I>(step.mass);
  const auto wrong = static_cast<I>(step.wrong);
  const auto above = static_cast<I>(step.mass_above);
  const auto wrong_above = static_cast<I>(step.wrong_above);
  for (I j = 1; j <= mass; ++j) {
    const I k = above + j;
    const I unavoidable = std::max<I>(0, k - static_cast<I>(free));
    const I excess = wrong_above * mass + j * wrong - mass * unavoidable;
    sum.add(static_cast<double>(excess) / static_cast<double>(mass * k));
  }
}

/// Rows whose square is below 2^62.
constexpr u128 kFewRows = u128{1} << 31;

/// Sums over k of the mean errors, or of the mean right answers, among the first k rows.
double sum_of_rates(const SortedConfidences& set, const Totals& all, u64 free, bool of_right) {
  CompensatedSum sum;
  walk(set, all, [&](Step step) {
    if (of_right) {
      step.wrong = step.mass - step.wrong;
      step.wrong_above = step.mass_above - step.wrong_above;
    }
    if (all.mass < kFewRows) {
      add_step<i64>(step, free, sum);
    } else {
      add_step<i128>(step, free, sum);
    }
  });
  return sum.value();
}

/// The sum over k for the order that has all wrong rows last.
double oracle_sum(const Totals& all) {
  const auto right = static_cast<u64>(all.mass - all.wrong);
  const auto wrong = static_cast<u64>(all.wrong);
  CompensatedSum sum;
  for (u64 j = 1; j <= wrong; ++j) {
    sum.add(static_cast<double>(j) / static_cast<double>(right + j));
  }
  return sum.value();
}

/// r + (1 - r) ln(1 - r) for r in [0, 1].
double asymptotic_oracle(double r) {
  if (r == 1) return 1;
  if (r > 0.125) return r + (1 - r) * std::log1p(-r);
  // The sum of r^n / (n (n - 1)): nothing is lost where both terms are nearly equal.
  double sum = 0;
  double power = r;
  for (int n = 2; n <= 20; ++n) {
    power *= r;
    sum += power / (n * (n - 1));
  }
  return sum;
}

struct Curve {
  Detail::List coverage, risk, thresholds;
};

/// Vertices of the risk-coverage curve in order of coverage, evenly thinned to `points` (0: all)
/// with the first and the last.
Curve curve_of(const SortedConfidences& set, const Totals& all, u64 points) {
  const u64 count = all.steps;
  const u64 kept = points == 0 || points >= count ? count : points;
  // Position i of those kept, counted from the largest confidence.
  const auto place = [&](u64 i) { return kept < 2 ? count - 1 : i * (count - 1) / (kept - 1); };
  Curve curve;
  u64 next = kept;  // those with a smaller index are still to come
  u64 at = count;
  walk(set, all, [&](const Step& step) {
    --at;
    if (next == 0 || place(next - 1) != at) return;
    --next;
    curve.coverage.emplace_back(exact::ratio(step.answered(), all.mass));
    curve.risk.emplace_back(exact::ratio(step.errors(), step.answered()));
    curve.thresholds.emplace_back(step.p);
  });
  for (Detail::List* list : {&curve.coverage, &curve.risk, &curve.thresholds}) {
    std::reverse(list->begin(), list->end());
  }
  return curve;
}

/// A mean over all rows.
class SelectiveArea : public SortedMetric {
 public:
  ReducedSet reduce(const SortedConfidences& set, const Options& options) const override {
    ReducedSet reduced;
    const Totals all = totals_of(set);
    if (all.mass == 0) return reduced;
    if (set.weighted()) {
      reduced.value = MetricValue::none(Undefined::kNotDefined);
      return reduced;
    }
    reduced.value = area(set, all, options);
    return reduced;
  }

 protected:
  BinPoints points(Task) const override { return BinPoints::kTop; }
  virtual MetricValue area(const SortedConfidences& set, const Totals& all,
                           const Options& options) const = 0;

  static double mean_risk(const SortedConfidences& set, const Totals& all) {
    return sum_of_rates(set, all, static_cast<u64>(all.mass), false) /
           static_cast<double>(all.mass);
  }
};

constexpr std::string_view kConfidence =
    "Confidence: of several classes the largest probability, right where its class (of equal ones "
    "the lowest) is the label's; binary and each label max(p, 1 - p), the decision being p > 0.5. ";
constexpr std::string_view kTies =
    "Rows of equal confidence come in no order: the value is the mean over all their orders, in "
    "which the first j of m such rows with e errors have j e / m. ";
constexpr std::string_view kAreaEdges =
    "no rows: empty; probabilities outside [0, 1]: not_probability; weighted rows: not_defined, "
    "because the mean over orders depends on every row's weight, not on their sum";

class Aurc final : public SelectiveArea {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula =
        "mean over k = 1 ... N of the share of errors among the k rows of the largest "
        "confidence. " +
        std::string(kConfidence) + std::string(kTies) +
        "details: the risk-coverage curve at the distinct confidences (answered share, errors "
        "among them, least confidence answered), the risk at full coverage, and the least possible "
        "value: of the order with all errors last (oracle), and its limit r + (1 - r) ln(1 - r) "
        "(oracle_asymptotic)";
    static const MetricInfo kInfo{
        .name = "aurc",
        .summary = "area under the risk-coverage curve: mean error rate of the most confident rows",
        .formula = kFormula,
        .edge_cases = kAreaEdges,
        .equals =
            "numpy.mean(numpy.cumsum(wrong) / numpy.arange(1, n + 1)) of the rows in falling "
            "confidence, where no two are equal",
        .source = "Geifman, Uziel, El-Yaniv 2019, Bias-reduced uncertainty estimation",
        .example = "cupel eval data/digits_probs.npz --metrics aurc,e_aurc",
        .direction = Direction::kLower,
        .tasks = kEveryTask,
        .options = {{"points",
                     OptionType::kInteger,
                     "200",
                     {},
                     0,
                     1e9,
                     "at most this many of the curve's vertices, evenly thinned, ends kept; 0: "
                     "every vertex"}}};
    return kInfo;
  }

 protected:
  MetricValue area(const SortedConfidences& set, const Totals& all,
                   const Options& options) const override {
    MetricValue value = MetricValue::of(mean_risk(set, all));
    const double risk = exact::ratio(all.wrong, all.mass);
    Curve curve = curve_of(set, all, static_cast<u64>(options.integer("points")));
    value.details = {{"risk_at_full_coverage", risk},
                     {"oracle", oracle_sum(all) / static_cast<double>(all.mass)},
                     {"oracle_asymptotic", asymptotic_oracle(risk)},
                     {"vertices", all.steps},
                     {"coverage", std::move(curve.coverage)},
                     {"risk", std::move(curve.risk)},
                     {"thresholds", std::move(curve.thresholds)}};
    return value;
  }
};

class ExcessAurc final : public SelectiveArea {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula =
        "aurc less the least value that the same number of errors allows, that of the order with "
        "all errors last: sum over k of max(0, k - right) / (k N), or with oracle=asymptotic its "
        "limit r + (1 - r) ln(1 - r), r the share of errors. " +
        std::string(kConfidence) + std::string(kTies) +
        "details: aurc, the value subtracted and r. With oracle=exact it is summed term by term, "
        "so that it is 0 where no error is before a right row";
    static const MetricInfo kInfo{
        .name = "e_aurc",
        .summary = "excess AURC: aurc above that of the best order of the same errors",
        .formula = kFormula,
        .edge_cases = kAreaEdges,
        .equals =
            "none under ties; else aurc's call less (1 - acc) + acc * numpy.log(acc) with "
            "oracle=asymptotic",
        .source = "Geifman, Uziel, El-Yaniv 2019, Bias-reduced uncertainty estimation",
        .example = "cupel eval data/digits_probs.npz --metrics 'e_aurc,e_aurc(oracle=asymptotic)'",
        .direction = Direction::kLower,
        .tasks = kEveryTask,
        .options = {{"oracle",
                     OptionType::kChoice,
                     "exact",
                     {"exact", "asymptotic"},
                     0,
                     0,
                     "the best order of these rows, or its limit for endless ones"}}};
    return kInfo;
  }

 protected:
  MetricValue area(const SortedConfidences& set, const Totals& all,
                   const Options& options) const override {
    const auto rows = static_cast<double>(all.mass);
    const double aurc = mean_risk(set, all);
    const double risk = exact::ratio(all.wrong, all.mass);
    const bool is_exact = options.text("oracle") == "exact";
    const double oracle = is_exact ? oracle_sum(all) / rows : asymptotic_oracle(risk);
    const auto right = static_cast<u64>(all.mass - all.wrong);
    MetricValue value =
        MetricValue::of(is_exact ? sum_of_rates(set, all, right, false) / rows : aurc - oracle);
    value.details = {{"aurc", aurc}, {"oracle", oracle}, {"risk_at_full_coverage", risk}};
    return value;
  }
};

class Auarc final : public SelectiveArea {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula =
        "with a_k the share of right rows among the k of the largest confidence: form=mean, the "
        "mean of a_1 ... a_N, which is 1 - aurc; form=trapezoid, the trapezoidal rule over N equal "
        "steps of coverage from 0 to 1, (a_1 / 2 + a_2 + ... + a_N / 2) / (N - 1). " +
        std::string(kConfidence) + std::string(kTies);
    static const std::string kEdges =
        std::string(kAreaEdges) + "; one row: form=trapezoid is not_defined";
    static const MetricInfo kInfo{
        .name = "auarc",
        .summary =
            "area under the accuracy-rejection curve: mean accuracy of the most confident "
            "rows",
        .formula = kFormula,
        .edge_cases = kEdges,
        .equals =
            "where no confidences are equal: HELM's selective_cov_acc_area (form=mean); "
            "numpy.trapezoid(a, numpy.linspace(0, 1, n)) (form=trapezoid)",
        .source = "Nadeem, Zucker, Hanczar 2009, Accuracy-rejection curves",
        .example = "cupel eval data/digits_probs.npz --metrics 'auarc,auarc(form=trapezoid)'",
        .tasks = kEveryTask,
        .options = {{"form",
                     OptionType::kChoice,
                     "mean",
                     {"mean", "trapezoid"},
                     0,
                     0,
                     "mean of the accuracies, or trapezoids between them"}}};
    return kInfo;
  }

 protected:
  MetricValue area(const SortedConfidences& set, const Totals& all,
                   const Options& options) const override {
    const double sum = sum_of_rates(set, all, static_cast<u64>(all.mass), true);
    const auto rows = static_cast<double>(all.mass);
    if (options.text("form") == "mean") return MetricValue::of(sum / rows);
    if (all.mass == 1) return MetricValue::none(Undefined::kNotDefined);
    double first = 0;  // of the step that is walked last
    walk(set, all, [&](const Step& step) {
      if (step.mass_above == 0) first = exact::ratio(step.mass - step.wrong, step.mass);
    });
    const double last = exact::ratio(all.mass - all.wrong, all.mass);
    return MetricValue::of((sum - (first + last) / 2) / (rows - 1));
  }
};

// ---- points -----------------------------------------------------------------------------------

/// The vertex of the curve that a metric is looking for.
struct Vertex {
  bool exists = false;
  double threshold = 0;
  u128 answered = 0;
  u128 errors = 0;
};

class SelectivePoint : public SortedMetric {
 public:
  ReducedSet reduce(const SortedConfidences& set, const Options& options) const override {
    ReducedSet reduced;
    const Totals all = totals_of(set);
    if (all.mass == 0) return reduced;
    const Vertex vertex = find(set, all, options);
    if (!vertex.exists) {
      reduced.value = MetricValue::none(Undefined::kNotReached);
      return reduced;
    }
    const double coverage = exact::ratio(vertex.answered, all.mass);
    const double risk = exact::ratio(vertex.errors, vertex.answered);
    reduced.value = MetricValue::of(value(coverage, risk));
    reduced.value.details = {
        {"threshold", vertex.threshold}, {"coverage", coverage}, {"risk", risk}};
    return reduced;
  }

 protected:
  BinPoints points(Task) const override { return BinPoints::kTop; }
  virtual Vertex find(const SortedConfidences& set, const Totals& all,
                      const Options& options) const = 0;
  virtual double value(double coverage, double risk) const = 0;
};

constexpr std::string_view kPolicies =
    "The rows with a confidence of at least a threshold are answered, so that equal confidences "
    "are answered together or not at all. ";

class RiskAtCoverage final : public SelectivePoint {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula =
        "share of errors among the answered rows at the largest threshold that answers at least "
        "the share 'coverage' of all rows. " +
        std::string(kPolicies) + std::string(kConfidence) +
        "Of weighted rows, shares of weight. details: the threshold, the coverage reached and the "
        "risk";
    static const MetricInfo kInfo{
        .name = "risk_at_coverage",
        .summary = "error rate of the most confident rows, at least a given share of all",
        .formula = kFormula,
        .edge_cases = "no rows: empty; probabilities outside [0, 1]: not_probability",
        .equals = "none: libraries cut through rows of equal confidence",
        .source =
            "El-Yaniv, Wiener 2010, On the foundations of noise-free selective classification",
        .example =
            "cupel eval data/digits_probs.npz --metrics "
            "'risk_at_coverage,risk_at_coverage(coverage=0.95)'",
        .direction = Direction::kLower,
        .tasks = kEveryTask,
        .options = {{"coverage",
                     OptionType::kNumber,
                     "0.8",
                     {},
                     1e-9,
                     1,
                     "least share of rows answered, an exact decimal"}}};
    return kInfo;
  }

 protected:
  Vertex find(const SortedConfidences& set, const Totals& all,
              const Options& options) const override {
    const Fraction least = options.fraction("coverage");
    Vertex vertex;
    walk(set, all, [&](const Step& step) {
      if (at_least(step.answered(), all.mass, least)) {
        vertex = {true, step.p, step.answered(), step.errors()};
      }
    });
    return vertex;
  }
  double value(double, double risk) const override { return risk; }
};

class CoverageAtRisk final : public SelectivePoint {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula =
        "largest share of rows answered by a threshold whose answers have at most the share 'risk' "
        "of errors. " +
        std::string(kPolicies) + std::string(kConfidence) +
        "Of weighted rows, shares of weight. details: the threshold, the coverage and the risk "
        "reached. It looks at the labels of the rows that it judges: no guarantee for other rows";
    static const MetricInfo kInfo{
        .name = "coverage_at_risk",
        .summary = "largest share of rows answered with at most a given error rate",
        .formula = kFormula,
        .edge_cases =
            "no threshold has so few errors: not_reached (answering nothing has no risk); no rows: "
            "empty; probabilities outside [0, 1]: not_probability",
        .equals = "none: libraries cut through rows of equal confidence",
        .source =
            "El-Yaniv, Wiener 2010, On the foundations of noise-free selective classification",
        .example =
            "cupel eval data/digits_probs.npz --metrics "
            "'coverage_at_risk,coverage_at_risk(risk=0.01)'",
        .tasks = kEveryTask,
        .options = {{"risk",
                     OptionType::kNumber,
                     "0.05",
                     {},
                     0,
                     1,
                     "largest share of errors among the answers, an exact decimal"}}};
    return kInfo;
  }

 protected:
  Vertex find(const SortedConfidences& set, const Totals& all,
              const Options& options) const override {
    const Fraction most = options.fraction("risk");
    Vertex vertex;
    walk(set, all, [&](const Step& step) {
      if (!vertex.exists && at_most(step.errors(), step.answered(), most)) {
        vertex = {true, step.p, step.answered(), step.errors()};
      }
    });
    return vertex;
  }
  double value(double coverage, double) const override { return coverage; }
};

}  // namespace

const Metric& aurc() {
  static const Aurc kMetric;
  return kMetric;
}
const Metric& e_aurc() {
  static const ExcessAurc kMetric;
  return kMetric;
}
const Metric& auarc() {
  static const Auarc kMetric;
  return kMetric;
}
const Metric& risk_at_coverage() {
  static const RiskAtCoverage kMetric;
  return kMetric;
}
const Metric& coverage_at_risk() {
  static const CoverageAtRisk kMetric;
  return kMetric;
}

}  // namespace cupel
