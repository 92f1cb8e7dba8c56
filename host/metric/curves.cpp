// The points of the ROC and precision-recall curves, in the order and with the end points that
// scikit-learn returns, so that a plot made from either is the same plot.
#include <limits>

#include "metric/list.hpp"
#include "metric/ranking.hpp"

namespace cupel {
namespace {

struct Vertex {
  u128 tp;
  u128 fp;
  double threshold;
};

const OptionSpec kPointsOption{"points",
                               OptionType::kInteger,
                               "200",
                               {},
                               0,
                               1e9,
                               "at most this many of the curve's vertices, evenly thinned, ends "
                               "kept; 0: every vertex"};

std::vector<Vertex> vertices_of(const Evidence& evidence) {
  std::vector<Vertex> vertices;
  for (const CurveVertex& v : curve_vertices(*evidence.table)) {
    vertices.push_back({v.tp, v.fp, score_of_key(evidence.ranks->kind, v.key)});
  }
  return vertices;
}

/// Keeps the first and the last vertex and those inner ones that `keep` wants.
template <class Keep>
std::vector<Vertex> without_intermediate(const std::vector<Vertex>& all, const Keep& keep) {
  std::vector<Vertex> kept;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i == 0 || i + 1 == all.size() || keep(all[i - 1], all[i], all[i + 1])) {
      kept.push_back(all[i]);
    }
  }
  return kept;
}

std::vector<Vertex> thinned(const std::vector<Vertex>& all, i64 points) {
  const u64 count = all.size();
  const u64 limit = static_cast<u64>(points);
  if (limit == 0 || count <= limit || limit < 2) return all;
  std::vector<Vertex> kept;
  for (u64 i = 0; i < limit; ++i) kept.push_back(all[i * (count - 1) / (limit - 1)]);
  return kept;
}

class Roc final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "roc",
        .summary = "points of the ROC curve (details), with its area as value",
        .formula =
            "(FP/N, TP/P) at each distinct score, falling threshold, after (0, 0) with threshold "
            "+inf. drop_intermediate keeps an inner point only where the step of FP or of TP "
            "changes there",
        .edge_cases = "one class only: undefined, as auroc",
        .equals = "sklearn.metrics.roc_curve(y, s, drop_intermediate=True)",
        .source = "Fawcett 2006, An introduction to ROC analysis",
        .example = "cupel eval data/breast_cancer.csv --metrics 'roc(points=0)' --format json",
        .tasks = {Task::kBinary, Task::kMulticlass, Task::kMultilabel, Task::kVerification},
        .options = {{"drop_intermediate",
                     OptionType::kFlag,
                     "true",
                     {},
                     0,
                     0,
                     "leave out points on straight runs"},
                    kPointsOption}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRanking; }
  Result<Needs> needs(const Options&, Task, i64, bool) const override {
    Needs needs;
    needs.queries = {{RankQueryKind::kTwoU, {}}};
    needs.table = true;
    return needs;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const RankSummary& s = *evidence.ranks;
    if (const Undefined why = missing(s, Requires::kBothClasses); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    std::vector<Vertex> vertices = vertices_of(evidence);
    if (options.flag("drop_intermediate")) {
      vertices = without_intermediate(vertices, [](const auto& a, const auto& b, const auto& c) {
        return c.fp - b.fp != b.fp - a.fp || c.tp - b.tp != b.tp - a.tp;
      });
    }
    const u64 total = vertices.size() + 1;
    vertices.insert(vertices.begin(), {0, 0, std::numeric_limits<double>::infinity()});
    vertices = thinned(vertices, options.integer("points"));
    Detail::List fpr;
    Detail::List tpr;
    Detail::List thresholds;
    for (const Vertex& v : vertices) {
      fpr.emplace_back(exact::ratio(v.fp, s.neg));
      tpr.emplace_back(exact::ratio(v.tp, s.pos));
      thresholds.emplace_back(v.threshold);
    }
    MetricValue value = MetricValue::of(area_of(s, s.answers[0].sum));
    value.details = {{"vertices", total},
                     {"fpr", std::move(fpr)},
                     {"tpr", std::move(tpr)},
                     {"thresholds", std::move(thresholds)}};
    add_distances(evidence, value.details);
    return value;
  }
};

class Pr final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "pr",
        .summary =
            "points of the precision-recall curve (details), with average precision as value",
        .formula =
            "(TP/P, TP/(TP+FP)) at each distinct score, rising threshold, then (0, 1) without a "
            "threshold. drop_intermediate leaves out a point whose TP equals both neighbours'",
        .edge_cases = "no positives: undefined no_positive",
        .equals = "sklearn.metrics.precision_recall_curve(y, s, drop_intermediate=False)",
        .source = "Davis and Goadrich 2006",
        .example = "cupel eval data/breast_cancer.csv --metrics 'pr(points=50)' --format json",
        .tasks = {Task::kBinary, Task::kMulticlass, Task::kMultilabel, Task::kVerification},
        .options = {{"drop_intermediate",
                     OptionType::kFlag,
                     "false",
                     {},
                     0,
                     0,
                     "leave out points between two of the same recall"},
                    kPointsOption}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRanking; }
  Result<Needs> needs(const Options&, Task, i64, bool) const override {
    Needs needs;
    needs.queries = {{RankQueryKind::kAveragePrecision, {}}};
    needs.table = true;
    return needs;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const RankSummary& s = *evidence.ranks;
    if (const Undefined why = missing(s, Requires::kPositives); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    std::vector<Vertex> vertices = vertices_of(evidence);
    if (options.flag("drop_intermediate")) {
      vertices = without_intermediate(vertices, [](const auto& a, const auto& b, const auto& c) {
        return b.tp != a.tp || c.tp != b.tp;
      });
    }
    const u64 total = vertices.size() + 1;
    const i64 points = options.integer("points");
    vertices = thinned(vertices, points > 2 ? points - 1 : points);
    Detail::List precision;
    Detail::List recall;
    Detail::List thresholds;
    for (auto v = vertices.rbegin(); v != vertices.rend(); ++v) {
      precision.emplace_back(exact::ratio(v->tp, v->tp + v->fp));
      recall.emplace_back(exact::ratio(v->tp, s.pos));
      thresholds.emplace_back(v->threshold);
    }
    precision.emplace_back(1.0);
    recall.emplace_back(0.0);
    MetricValue value = MetricValue::of(precision_of(s, s.answers[0].sum));
    value.details = {{"vertices", total},
                     {"precision", std::move(precision)},
                     {"recall", std::move(recall)},
                     {"thresholds", std::move(thresholds)}};
    add_distances(evidence, value.details);
    return value;
  }
};

}  // namespace

const Metric& roc() {
  static const Roc kMetric;
  return kMetric;
}
const Metric& pr() {
  static const Pr kMetric;
  return kMetric;
}

}  // namespace cupel
