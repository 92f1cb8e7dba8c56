// The true accept rate at a bound on the false accept rate, and a table of such bounds as deep as
// the negative pairs can tell.
#include <array>

#include "metric/list.hpp"
#include "metric/ranking.hpp"
#include "metric/verification_metric.hpp"

namespace cupel {
namespace {

constexpr std::array kTable{Fraction{1, 10},    Fraction{1, 100},    Fraction{1, 1000},
                            Fraction{1, 10000}, Fraction{1, 100000}, Fraction{1, 1000000}};

class TarAtFar final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "tar_at_far",
        .summary = "true accept rate at a bound on the false accept rate",
        .formula =
            "TP/P at the loosest threshold with FP/N <= far, exact; P pairs of one class, N pairs "
            "of "
            "two, all of them. In details the same for 1e-1 to 1e-6",
        .edge_cases =
            "no positive or no negative pair: undefined; far < 1/N, which no threshold can tell "
            "from "
            "0: undefined not_resolved, with the smallest that can (of weighted rows: a value)",
        .equals = "max(tpr[fpr <= far]) of sklearn.metrics.roc_curve(..., drop_intermediate=False)",
        .source = "TAR@FAR of verification (IJB, NIST FRVT)",
        .example = "cupel eval data/digits_embeddings.npz --metrics 'tar_at_far(far=0.0001)'",
        .default_for_verification = true,
        .tasks = {Task::kVerification, Task::kBinary},
        .options = {{"far", OptionType::kNumber, "0.001", {}, 0, 1, "largest false accept rate"}}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRanking; }

  Result<Needs> needs(const Options& options, Task, i64, bool) const override {
    if (options.fraction("far").num == 0) {
      return usage_error("far of 'tar_at_far' is 0",
                         "a rate above 0: no pair tells where none is accepted");
    }
    Needs needs;
    needs.queries = {{RankQueryKind::kFprAtMost, options.fraction("far")}};
    for (const Fraction& far : kTable) needs.queries.push_back({RankQueryKind::kFprAtMost, far});
    return needs;
  }

  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const RankSummary& s = *evidence.ranks;
    if (const Undefined why = missing(s, Requires::kBothClasses); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    const bool resolved = resolves(s, options.fraction("far"));
    const OperatingPoint& point = s.answers[0].before;
    MetricValue value =
        resolved ? MetricValue::of(exact::ratio(point.tp, s.pos)) : not_resolved(s.neg);
    if (resolved) describe(evidence, s, point, value.details);
    Detail::List table;
    for (std::size_t i = 0; i < kTable.size(); ++i) {
      Detail::Object row{{"far", exact::to_double(exact::rational(kTable[i]))},
                         {"resolved", resolves(s, kTable[i])}};
      describe(evidence, s, s.answers[i + 1].before, row);
      table.emplace_back(std::move(row));
    }
    value.details.emplace_back("table", std::move(table));
    return value;
  }

 private:
  /// Whether one negative more or less is within the rate. Masses of weights are no counts.
  static bool resolves(const RankSummary& s, const Fraction& far) {
    return s.weighted || exact::rational(far) * exact::Rational(exact::integer(s.neg)) >= 1;
  }

  static void describe(const Evidence& evidence, const RankSummary& s, const OperatingPoint& point,
                       Detail::Object& details) {
    details.emplace_back("far_reached", exact::ratio(point.fp, s.neg));
    details.emplace_back("tar", exact::ratio(point.tp, s.pos));
    const double score = threshold_of(s, point);
    details.emplace_back("threshold", score);
    const VerificationEvidence* pairs = evidence.verification;
    if (pairs != nullptr && !pairs->scored && pairs->domain == PairDomain::kL2 && point.has_key) {
      details.emplace_back("distance", 0.0 - score);
    }
  }
};

}  // namespace

const Metric& tar_at_far() {
  static const TarAtFar kMetric;
  return kMetric;
}

}  // namespace cupel
