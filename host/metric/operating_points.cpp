// Metrics that pick one point of the curve: each is a query of the ranking and a line of
// arithmetic. Decisions are "score >= threshold", thresholds are the distinct scores; targets are
// exact decimals.
#include "metric/list.hpp"
#include "metric/ranking.hpp"

namespace cupel {
namespace {

using exact::Rational;

const std::vector<Task> kAllTasks{Task::kBinary, Task::kMulticlass, Task::kMultilabel,
                                  Task::kVerification};

OptionSpec target_option(std::string_view default_text, std::string_view summary) {
  return {"target", OptionType::kNumber, default_text, {}, 0, 1, summary};
}
OptionSpec interpolation_option() {
  return {"interpolation",
          OptionType::kChoice,
          "none",
          {"none", "linear"},
          0,
          0,
          "none: a point that some threshold reaches; linear: along the curve"};
}

/// One query, one point, one number.
class PointMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kRanking; }
  Result<Needs> needs(const Options& options, Task, i64, bool) const override {
    Needs needs;
    needs.queries = {{query(), argument(options)}};
    return needs;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const RankSummary& s = *evidence.ranks;
    if (const Undefined why = missing(s, required()); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    MetricValue value = value_at(s, s.answers[0], options);
    add_distances(evidence, value.details);
    return value;
  }

 protected:
  virtual RankQueryKind query() const = 0;
  virtual Fraction argument(const Options& options) const { return options.fraction("target"); }
  virtual Requires required() const { return Requires::kBothClasses; }
  virtual MetricValue value_at(const RankSummary& s, const RankAnswer& answer,
                               const Options& options) const = 0;

  static MetricValue at(const RankSummary& s, const OperatingPoint& point, double number) {
    MetricValue value = MetricValue::of(number);
    value.details = describe_point(s, point);
    return value;
  }
};

class Ks final : public PointMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "ks",
        .summary = "Kolmogorov-Smirnov distance of the two score distributions, Youden's J",
        .formula =
            "max over thresholds of TPR - FPR, at least 0 (nothing called positive); signed: "
            "positives higher. The largest threshold of a tie is in details",
        .edge_cases = "one class only: undefined",
        .equals = "scipy.stats.ks_2samp(neg, pos, alternative='greater').statistic",
        .source = "Youden 1950",
        .example = "cupel eval data/breast_cancer.csv --metrics ks",
        .default_for_binary = true,
        .tasks = kAllTasks,
        .options = {}};
    return kInfo;
  }

 protected:
  RankQueryKind query() const override { return RankQueryKind::kGap; }
  Fraction argument(const Options&) const override { return {}; }
  MetricValue value_at(const RankSummary& s, const RankAnswer& answer,
                       const Options&) const override {
    const auto p = exact::integer(s.pos);
    const auto n = exact::integer(s.neg);
    return at(s, answer.at,
              exact::to_double(exact::integer(answer.at.tp) * n - exact::integer(answer.at.fp) * p,
                               p * n));
  }
};

class Eer final : public PointMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "eer",
        .summary = "equal error rate",
        .formula =
            "FPR where FPR = FNR, linearly interpolated on the segment of the ROC curve where "
            "FPR - FNR changes sign; exact, rounded once",
        .edge_cases = "one class only: undefined",
        .equals =
            "scipy.optimize.brentq on 1 - x - interp(x, fpr, tpr); torchmetrics takes the mean of "
            "FPR and FNR at the nearest threshold instead",
        .source = "the crossing of the ROC curve with the antidiagonal",
        .example = "cupel eval data/breast_cancer.csv --metrics eer",
        .direction = Direction::kLower,
        .default_for_verification = true,
        .tasks = kAllTasks,
        .options = {}};
    return kInfo;
  }

 protected:
  RankQueryKind query() const override { return RankQueryKind::kEqualError; }
  Fraction argument(const Options&) const override { return {}; }
  MetricValue value_at(const RankSummary& s, const RankAnswer& answer,
                       const Options&) const override {
    // With d = FPR - FNR in units of 1/(P N): from d0 < 0 at the point before to d1 >= 0 at the
    // point.
    const Rational p(exact::integer(s.pos));
    const Rational n(exact::integer(s.neg));
    const auto difference = [&](const OperatingPoint& point) -> Rational {
      return Rational(exact::integer(point.fp)) * p - (p - Rational(exact::integer(point.tp))) * n;
    };
    const Rational d0 = difference(answer.before);
    const Rational d1 = difference(answer.at);
    const Rational step = -d0 / (d1 - d0);
    const Rational fp0(exact::integer(answer.before.fp));
    const Rational fp1(exact::integer(answer.at.fp));
    return at(s, answer.at, exact::to_double((fp0 + step * (fp1 - fp0)) / n));
  }
};

class TprAtFpr final : public PointMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "tpr_at_fpr",
        .summary = "largest true positive rate with a false positive rate within the target",
        .formula =
            "max TPR over thresholds with FPR <= target; interpolation=linear: the curve at target",
        .edge_cases =
            "no threshold within the target: 0 (nothing called positive); one class: undefined",
        .equals =
            "max(tpr[fpr <= target]) of sklearn.metrics.roc_curve(..., drop_intermediate=False)",
        .source = "TAR@FAR of verification",
        .example = "cupel eval data/breast_cancer.csv --metrics 'tpr_at_fpr(target=0.05)'",
        .tasks = kAllTasks,
        .options = {target_option("0.01", "largest false positive rate"), interpolation_option()}};
    return kInfo;
  }

 protected:
  RankQueryKind query() const override { return RankQueryKind::kFprAtMost; }
  MetricValue value_at(const RankSummary& s, const RankAnswer& answer,
                       const Options& options) const override {
    const OperatingPoint& last = answer.before;
    if (options.text("interpolation") == "none" || !answer.at.exists) {
      return at(s, last, exact::ratio(last.tp, s.pos));
    }
    const Rational fp0(exact::integer(last.fp));
    const Rational fp1(exact::integer(answer.at.fp));
    const Rational tp0(exact::integer(last.tp));
    const Rational tp1(exact::integer(answer.at.tp));
    const Rational step =
        (exact::rational(options.fraction("target")) * Rational(exact::integer(s.neg)) - fp0) /
        (fp1 - fp0);
    return at(s, last,
              exact::to_double((tp0 + step * (tp1 - tp0)) / Rational(exact::integer(s.pos))));
  }
};

class FprAtTpr final : public PointMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "fpr_at_tpr",
        .summary =
            "smallest false positive rate with a true positive rate of at least the target (FPR95)",
        .formula =
            "min FPR over thresholds with TPR >= target; interpolation=linear: the curve at target",
        .edge_cases =
            "one class only: undefined. Label 1 is the class to detect; swap with --pos-label",
        .equals =
            "min(fpr[tpr >= target]) of sklearn.metrics.roc_curve(..., drop_intermediate=False)",
        .source = "Liang et al. 2018 (FPR at 95 % TPR)",
        .example = "cupel eval data/breast_cancer.csv --metrics fpr_at_tpr",
        .direction = Direction::kLower,
        .tasks = kAllTasks,
        .options = {target_option("0.95", "smallest true positive rate"), interpolation_option()}};
    return kInfo;
  }

 protected:
  RankQueryKind query() const override { return RankQueryKind::kTprAtLeast; }
  MetricValue value_at(const RankSummary& s, const RankAnswer& answer,
                       const Options& options) const override {
    const Rational target = exact::rational(options.fraction("target"));
    if (target == 0) return at(s, {.exists = true}, 0);  // nothing called positive
    const Rational tp0(exact::integer(answer.before.tp));
    const Rational tp1(exact::integer(answer.at.tp));
    if (options.text("interpolation") == "none" || tp1 == tp0) {
      return at(s, answer.at, exact::ratio(answer.at.fp, s.neg));
    }
    const Rational fp0(exact::integer(answer.before.fp));
    const Rational fp1(exact::integer(answer.at.fp));
    const Rational step = (target * Rational(exact::integer(s.pos)) - tp0) / (tp1 - tp0);
    return at(s, answer.at,
              exact::to_double((fp0 + step * (fp1 - fp0)) / Rational(exact::integer(s.neg))));
  }
};

class PrecisionAtRecall final : public PointMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "precision_at_recall",
        .summary = "largest precision with a recall of at least the target",
        .formula =
            "max of TP/(TP+FP) over thresholds with TP/P >= target; without the artificial point "
            "(recall 0, precision 1)",
        .edge_cases = "no positives: undefined",
        .equals = "torchmetrics BinaryPrecisionAtFixedRecall",
        .source = "the precision-recall curve",
        .example = "cupel eval data/breast_cancer.csv --metrics 'precision_at_recall(target=0.9)'",
        .tasks = kAllTasks,
        .options = {target_option("0.8", "smallest recall")}};
    return kInfo;
  }

 protected:
  RankQueryKind query() const override { return RankQueryKind::kPrecisionAtRecall; }
  Requires required() const override { return Requires::kPositives; }
  MetricValue value_at(const RankSummary& s, const RankAnswer& answer,
                       const Options&) const override {
    return at(s, answer.at, exact::ratio(answer.at.tp, answer.at.tp + answer.at.fp));
  }
};

class RecallAtPrecision final : public PointMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "recall_at_precision",
        .summary = "largest recall with a precision of at least the target",
        .formula = "max of TP/P over thresholds with TP/(TP+FP) >= target",
        .edge_cases =
            "no positives: undefined no_positive; no threshold is that precise: undefined "
            "not_reached (torchmetrics returns 0 with threshold NaN)",
        .equals = "torchmetrics BinaryRecallAtFixedPrecision",
        .source = "the precision-recall curve",
        .example = "cupel eval data/breast_cancer.csv --metrics 'recall_at_precision(target=0.95)'",
        .tasks = kAllTasks,
        .options = {target_option("0.9", "smallest precision")}};
    return kInfo;
  }

 protected:
  RankQueryKind query() const override { return RankQueryKind::kRecallAtPrecision; }
  Requires required() const override { return Requires::kPositives; }
  MetricValue value_at(const RankSummary& s, const RankAnswer& answer,
                       const Options&) const override {
    if (!answer.at.exists) return MetricValue::none(Undefined::kNotReached);
    return at(s, answer.at, exact::ratio(answer.at.tp, s.pos));
  }
};

class FBetaMax final : public PointMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "f_beta_max",
        .summary = "largest F-beta over all thresholds, with the threshold",
        .formula =
            "max over thresholds of (1+b^2) TP / ((1+b^2) TP + b^2 FN + FP); the largest threshold "
            "of a tie",
        .edge_cases = "no positives: undefined",
        .equals = "max of the F-beta computed from sklearn.metrics.precision_recall_curve",
        .source = "van Rijsbergen 1979",
        .example = "cupel eval data/breast_cancer.csv --metrics 'f_beta_max,f_beta_max(beta=2)'",
        .default_for_binary = true,
        .tasks = kAllTasks,
        .options = {{"beta",
                     OptionType::kNumber,
                     "1",
                     {},
                     0.001,
                     1000,
                     "weight of recall against precision"}}};
    return kInfo;
  }
  Result<Needs> needs(const Options& options, Task task, i64 classes, bool logits) const override {
    const Fraction beta = options.fraction("beta");
    if (beta.num > kMaxBetaTerm || beta.den > kMaxBetaTerm) {
      return usage_error("beta of 'f_beta_max' has too many digits", "give at most 6");
    }
    return PointMetric::needs(options, task, classes, logits);
  }

 protected:
  RankQueryKind query() const override { return RankQueryKind::kFBetaMax; }
  Fraction argument(const Options& options) const override { return options.fraction("beta"); }
  Requires required() const override { return Requires::kPositives; }
  MetricValue value_at(const RankSummary& s, const RankAnswer& answer,
                       const Options& options) const override {
    const Rational beta = exact::rational(options.fraction("beta"));
    const Rational beta2 = beta * beta;
    const Rational tp(exact::integer(answer.at.tp));
    const Rational fp(exact::integer(answer.at.fp));
    const Rational p(exact::integer(s.pos));
    return at(s, answer.at, exact::to_double((1 + beta2) * tp / (beta2 * p + tp + fp)));
  }
};

}  // namespace

const Metric& ks() {
  static const Ks kMetric;
  return kMetric;
}
const Metric& eer() {
  static const Eer kMetric;
  return kMetric;
}
const Metric& tpr_at_fpr() {
  static const TprAtFpr kMetric;
  return kMetric;
}
const Metric& fpr_at_tpr() {
  static const FprAtTpr kMetric;
  return kMetric;
}
const Metric& precision_at_recall() {
  static const PrecisionAtRecall kMetric;
  return kMetric;
}
const Metric& recall_at_precision() {
  static const RecallAtPrecision kMetric;
  return kMetric;
}
const Metric& f_beta_max() {
  static const FBetaMax kMetric;
  return kMetric;
}

}  // namespace cupel
