// Area under the precision-recall curve, in the three forms that literature and libraries mix up.
#include <cmath>

#include "metric/list.hpp"
#include "metric/ranking.hpp"

namespace cupel {
namespace {

// Between two successive points (tp_a, fp_a) and (tp_b, fp_b) true and false positives grow in
// proportion; precision at x true positives is x / (a x + b). Its integral has a closed form, so no
// points are inserted (Davis and Goadrich 2006 insert them at integers; Keilwagen et al. 2014 and
// Boyd et al. 2013 integrate). One order of terms: falling threshold.
double davis_goadrich(const RankTable& table, const RankSummary& s) {
  const double unit = s.weighted ? 0x1p-64 : 1.0;
  double area = 0;
  double tp_before = 0;
  double fp_before = 0;
  for (const CurveVertex& vertex : curve_vertices(table)) {
    const double tp = static_cast<double>(vertex.tp) * unit;
    const double fp = static_cast<double>(vertex.fp) * unit;
    if (tp > tp_before) {
      const double slope = (fp - fp_before) / (tp - tp_before);
      const double a = 1 + slope;
      const double b = fp_before - slope * tp_before;
      if (b == 0) {
        area += (tp - tp_before) / a;
      } else {
        const double from = a * tp_before + b;
        area += ((tp - tp_before) - b / a * std::log((a * tp + b) / from)) / a;
      }
    }
    tp_before = tp;
    fp_before = fp;
  }
  return area / (static_cast<double>(s.pos) * unit);
}

class Auprc final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "auprc",
        .summary = "area under the precision-recall curve (average precision)",
        .formula =
            "step: sum over tie groups of (R_k - R_{k-1}) P_k, an integer sum within 1 ulp; "
            "trapezoid: linear between points, from (R = 0, P = 1); davis_goadrich: the "
            "non-linear interpolation that counts of rows follow",
        .edge_cases =
            "no positives: undefined no_positive (scikit-learn returns 0); no negatives: 1. "
            "details.relation shows what each range of the ranking, and each group of "
            "positives, adds to AUROC and AUPRC",
        .equals =
            "step: sklearn.metrics.average_precision_score; trapezoid: sklearn.metrics.auc(recall, "
            "precision); davis_goadrich: PRROC's pr.curve(...)$auc.davis.goadrich",
        .source =
            "Davis and Goadrich 2006; McDermott et al. 2024, A Closer Look at AUROC and AUPRC "
            "under "
            "Class Imbalance",
        .example = "cupel eval data/breast_cancer.csv --metrics 'auprc,auprc(method=trapezoid)'",
        .default_for_binary = true,
        .default_for_multiclass = true,
        .default_for_multilabel = true,
        .tasks = {Task::kBinary, Task::kMulticlass, Task::kMultilabel, Task::kVerification},
        .options = {{"method",
                     OptionType::kChoice,
                     "step",
                     {"step", "trapezoid", "davis_goadrich"},
                     0,
                     0,
                     "how the curve is joined between points"}}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRanking; }

  Result<Needs> needs(const Options& options, Task, i64, bool) const override {
    Needs needs;
    if (options.text("method") == "step") {
      needs.queries = {{RankQueryKind::kAveragePrecision, {}}, {RankQueryKind::kRanges, {}}};
    } else if (options.text("method") == "trapezoid") {
      needs.queries = {{RankQueryKind::kPrTrapezoid, {}}};
    } else {
      needs.table = true;
    }
    return needs;
  }

  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const RankSummary& s = *evidence.ranks;
    if (const Undefined why = missing(s, Requires::kPositives); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    if (options.text("method") == "davis_goadrich") {
      return MetricValue::of(davis_goadrich(*evidence.table, s));
    }
    if (options.text("method") == "trapezoid") {
      return MetricValue::of(precision_of(s, s.answers[0].sum) / 2);
    }
    MetricValue value = MetricValue::of(precision_of(s, s.answers[0].sum));
    value.details.emplace_back("relation",
                               Detail::Object{{"ranges", describe_ranges(s, s.answers[1].ranges)}});
    return value;
  }
};

}  // namespace

const Metric& auprc() {
  static const Auprc kMetric;
  return kMetric;
}

}  // namespace cupel
