// Area under the ROC curve, a tied pair counting one half; gini is the same number on [-1, 1], and
// xauc takes the positives of one group against the negatives of another (Kallus and Zhou, 2019).
#include "metric/list.hpp"
#include "metric/ranking.hpp"

namespace cupel {
namespace {

const std::vector<Task> kAllTasks{Task::kBinary, Task::kMulticlass, Task::kMultilabel,
                                  Task::kVerification};

class Auroc final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "auroc",
        .summary = "area under the ROC curve",
        .formula =
            "2U / (2 P N), U = pairs (positive, negative) with the positive scored higher, a "
            "tied pair one half; exact, rounded once. With max_fpr = a: the area A up to FPR a, "
            "rescaled by McClish to (1 + (A - a^2/2) / (a - a^2/2)) / 2",
        .edge_cases =
            "no positives: undefined no_positive; no negatives: no_negative; rows of zero "
            "weight make no threshold; all weights zero: zero_weight",
        .equals = "sklearn.metrics.roc_auc_score(y, s, sample_weight=w, max_fpr=a)",
        .source = "Hanley and McNeil 1982; McClish 1989; Hand and Till 2001 (one against one)",
        .example = "cupel eval data/breast_cancer.csv --metrics auroc",
        .default_for_binary = true,
        .default_for_multiclass = true,
        .default_for_multilabel = true,
        .default_for_verification = true,
        .tasks = kAllTasks,
        .options = {{"max_fpr",
                     OptionType::kNumber,
                     "",
                     {},
                     1e-9,
                     1,
                     "partial area up to this false positive rate, McClish-standardised"}}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRanking; }

  Result<Needs> needs(const Options& options, Task, i64, bool) const override {
    Needs needs;
    if (is_partial(options)) {
      needs.queries = {{RankQueryKind::kPartialArea, options.fraction("max_fpr")}};
    } else {
      needs.queries = {{RankQueryKind::kTwoU, {}}};
    }
    return needs;
  }

  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const RankSummary& s = *evidence.ranks;
    if (const Undefined why = missing(s, Requires::kBothClasses); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    if (!is_partial(options)) return MetricValue::of(area_of(s, s.answers[0].sum));

    // In units of 1/(2 P N): the area up to the last point within the limit, then a trapezoid on
    // the segment that crosses it.
    using exact::Rational;
    const RankAnswer& answer = s.answers[0];
    const Rational p(exact::integer(s.pos));
    const Rational n(exact::integer(s.neg));
    const Rational limit = exact::rational(options.fraction("max_fpr"));
    Rational twice_area(exact::integer(answer.sum));
    if (answer.at.exists) {
      const Rational tp0(exact::integer(answer.before.tp));
      const Rational fp0(exact::integer(answer.before.fp));
      const Rational tp1(exact::integer(answer.at.tp));
      const Rational fp1(exact::integer(answer.at.fp));
      const Rational width = limit * n - fp0;
      twice_area += width * (2 * tp0 + width * (tp1 - tp0) / (fp1 - fp0));
    }
    const Rational area = twice_area / (2 * p * n);
    const Rational least = limit * limit / 2;
    MetricValue value =
        MetricValue::of(exact::to_double((1 + (area - least) / (limit - least)) / 2));
    value.details.emplace_back("partial_area", exact::to_double(area));
    return value;
  }

 private:
  static bool is_partial(const Options& options) {
    return options.has("max_fpr") && options.number("max_fpr") < 1;
  }
};

class Gini final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "gini",
        .summary = "Gini coefficient of the ranking, 2 AUROC - 1",
        .formula = "(2U - P N) / (P N), ties as in auroc; exact, rounded once",
        .edge_cases = "as auroc; from -1 to 1, so no equity-scaled value",
        .equals =
            "2 * sklearn.metrics.roc_auc_score(y, s) - 1 (Somers' D of the score given the label)",
        .source = "Somers 1962",
        .example = "cupel eval data/breast_cancer.csv --metrics gini",
        .in_unit_interval = false,
        .tasks = kAllTasks,
        .options = {}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRanking; }
  Result<Needs> needs(const Options&, Task, i64, bool) const override {
    Needs needs;
    needs.queries = {{RankQueryKind::kTwoU, {}}};
    return needs;
  }
  MetricValue finish(const Evidence& evidence, const Options&) const override {
    const RankSummary& s = *evidence.ranks;
    if (const Undefined why = missing(s, Requires::kBothClasses); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    const exact::Integer pairs = exact::integer(s.pos) * exact::integer(s.neg);
    return MetricValue::of(exact::to_double(exact::integer(s.answers[0].sum) - pairs, pairs));
  }
};

class Xauc final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "xauc",
        .summary = "AUROC of one group's positives against another group's negatives",
        .formula =
            "xauc(a, b) = P(score of a positive of a > score of a negative of b), ties one half; "
            "one value per ordered pair of groups, a = b included",
        .edge_cases =
            "a without positives: no_positive; b without negatives: no_negative; needs --group",
        .equals = "roc_auc_score on the rows (group = a and y = 1) or (group = b and y = 0)",
        .source = "Kallus and Zhou 2019, The Fairness of Risk Scores Beyond Classification",
        .example = "cupel eval data/breast_cancer.csv --group size --metrics xauc",
        .tasks = {Task::kBinary},
        .options = {}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kPairs; }
  Result<Needs> needs(const Options&, Task, i64, bool) const override {
    Needs needs;
    needs.queries = {{RankQueryKind::kTwoU, {}}};
    return needs;
  }
  MetricValue finish(const Evidence& evidence, const Options&) const override {
    const RankSummary& s = *evidence.ranks;
    // The two sides are different rows: an empty one is named, whatever the other holds.
    if (s.pos == 0) return MetricValue::none(Undefined::kNoPositive);
    if (s.neg == 0) return MetricValue::none(Undefined::kNoNegative);
    return MetricValue::of(area_of(s, s.answers[0].sum));
  }
};

}  // namespace

const Metric& auroc() {
  static const Auroc kMetric;
  return kMetric;
}
const Metric& gini() {
  static const Gini kMetric;
  return kMetric;
}
const Metric& xauc() {
  static const Xauc kMetric;
  return kMetric;
}

}  // namespace cupel
