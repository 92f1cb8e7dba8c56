// Whether a row's nearest rows are of its class.
#include <algorithm>

#include "metric/exact.hpp"
#include "metric/list.hpp"
#include "metric/verification_metric.hpp"

namespace cupel {
namespace {

using exact::Rational;

constexpr std::string_view kEdges =
    "a row alone in its class is no query, and counted in details; no query: undefined "
    "no_positive; "
    "equally near rows: the smaller id first, without ids the earlier row";

class RetrievalMetric : public VerificationMetric {
 public:
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    if (evidence.verification == nullptr) return MetricValue::none(Undefined::kEmpty);
    const VerificationEvidence& pairs = *evidence.verification;
    if (pairs.scored) return MetricValue::none(Undefined::kNotDefined);
    if (pairs.retrieval == nullptr) return MetricValue::none(Undefined::kEmpty);
    const RetrievalSums& sums = *pairs.retrieval;
    if (sums.queries + sums.alone == 0) return MetricValue::none(Undefined::kEmpty);
    MetricValue value = sums.queries == 0 ? MetricValue::none(Undefined::kNoPositive)
                                          : MetricValue::of(mean(sums, options));
    value.details = {{"queries", sums.queries}, {"alone_in_class", sums.alone}};
    if (sums.queries != 0) describe(sums, options, value.details);
    return value;
  }

 protected:
  virtual double mean(const RetrievalSums& sums, const Options& options) const = 0;
  virtual void describe(const RetrievalSums&, const Options&, Detail::Object&) const {}
};

class RecallAtK final : public RetrievalMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "recall_at_k",
        .summary = "share of rows with one of their class among the k nearest others",
        .formula =
            "(rows of whose k nearest other rows at least one has their class) / (rows whose class "
            "has another row); in details also for k = 1, 2, 4, 8, 10",
        .edge_cases = kEdges,
        .equals =
            "pytorch_metric_learning AccuracyCalculator precision_at_1 for k = 1, but for ties",
        .source = "Jegou et al. 2011; recall@k of deep metric learning",
        .example = "cupel eval data/digits_embeddings.npz --metrics 'recall_at_k,recall_at_k(k=5)'",
        .default_for_verification = true,
        .tasks = {Task::kVerification},
        .options = options()};
    return kInfo;
  }
  Result<Needs> needs(const Options& options, Task, i64, bool) const override {
    Needs needs;
    needs.verification = pair_query(options);
    needs.verification->retrieval = RetrievalQuery{shown(options), false};
    return needs;
  }

 protected:
  double mean(const RetrievalSums& sums, const Options& options) const override {
    return at(sums, options.integer("k")).value_or(0);
  }
  void describe(const RetrievalSums& sums, const Options& options,
                Detail::Object& details) const override {
    Detail::List list;
    for (const i64 k : shown(options)) {
      const auto recall = at(sums, k);
      if (recall) list.emplace_back(Detail::Object{{"k", k}, {"recall", *recall}});
    }
    details.emplace_back("recall", std::move(list));
  }

 private:
  static std::vector<OptionSpec> options() {
    std::vector<OptionSpec> options = pair_options();
    options.push_back({"k", OptionType::kInteger, "1", {}, 1, 10000, "how many nearest rows"});
    return options;
  }
  static std::vector<i64> shown(const Options& options) {
    std::vector<i64> ks{1, 2, 4, 8, 10, options.integer("k")};
    std::sort(ks.begin(), ks.end());
    ks.erase(std::unique(ks.begin(), ks.end()), ks.end());
    return ks;
  }
  /// The sums may be of more k than this metric asked for.
  static std::optional<double> at(const RetrievalSums& sums, i64 k) {
    const auto found = std::find(sums.ks.begin(), sums.ks.end(), k);
    if (found == sums.ks.end()) return std::nullopt;
    return exact::ratio(sums.found[static_cast<std::size_t>(found - sums.ks.begin())],
                        sums.queries);
  }
};

/// Means over queries of something divided by the number R of other rows of the query's class.
class AtR : public RetrievalMetric {
 public:
  Result<Needs> needs(const Options& options, Task, i64, bool) const override {
    Needs needs;
    needs.verification = pair_query(options);
    needs.verification->retrieval = RetrievalQuery{{}, true};
    return needs;
  }

 protected:
  virtual Rational total(const RetrievalSums::BySize& one) const = 0;
  double mean(const RetrievalSums& sums, const Options&) const override {
    Rational all = 0;
    for (const RetrievalSums::BySize& one : sums.by_size) {
      all += total(one) / Rational(exact::integer(one.positives));
    }
    return exact::to_double(all / Rational(exact::integer(sums.queries)));
  }
};

class MapAtR final : public AtR {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "map_at_r",
        .summary = "mean average precision of the R nearest rows, R the size of the class less one",
        .formula =
            "mean over queries of (1/R) sum over the ranks i <= R with a row of the query's class "
            "of "
            "(rows of the class up to i) / i",
        .edge_cases = kEdges,
        .equals =
            "pytorch_metric_learning AccuracyCalculator mean_average_precision_at_r, but for ties",
        .source = "Musgrave et al. 2020, A Metric Learning Reality Check",
        .example = "cupel eval data/digits_embeddings.npz --metrics map_at_r",
        .default_for_verification = true,
        .tasks = {Task::kVerification},
        .options = pair_options()};
    return kInfo;
  }

 protected:
  Rational total(const RetrievalSums::BySize& one) const override {
    return Rational(exact::integer(one.precision), exact::Integer(1) << 60);
  }
};

class RPrecision final : public AtR {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "r_precision",
        .summary = "share of a row's class among its R nearest rows, R the class's size less one",
        .formula = "mean over queries of (rows of the query's class among the R nearest) / R",
        .edge_cases = kEdges,
        .equals = "pytorch_metric_learning AccuracyCalculator r_precision, but for ties",
        .source = "Musgrave et al. 2020, A Metric Learning Reality Check",
        .example = "cupel eval data/digits_embeddings.npz --metrics r_precision",
        .default_for_verification = true,
        .tasks = {Task::kVerification},
        .options = pair_options()};
    return kInfo;
  }

 protected:
  Rational total(const RetrievalSums::BySize& one) const override {
    return Rational(exact::integer(one.hits));
  }
};

}  // namespace

const Metric& recall_at_k() {
  static const RecallAtK kMetric;
  return kMetric;
}
const Metric& map_at_r() {
  static const MapAtR kMetric;
  return kMetric;
}
const Metric& r_precision() {
  static const RPrecision kMetric;
  return kMetric;
}

}  // namespace cupel
