// Metrics of prediction intervals besides their coverage, which metric/conformal.cpp has: width,
// interval score, and the criterion that joins width and coverage.
#include <cmath>
#include <limits>

#include "metric/exact.hpp"
#include "metric/interval_metric.hpp"
#include "metric/list.hpp"

namespace cupel {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The mean width, rounded once; infinite where one is.
double mean_width(const IntervalSums& sums) {
  if (sums.endless != 0) return kInfinity;
  return exact::to_double(exact::rational(sums.width) / sums.rows);
}

class IntervalWidth final : public IntervalMetric {
 public:
  Result<Needs> needs(const Options& options, Task task, i64 classes, bool logits) const override {
    auto needs = IntervalMetric::needs(options, task, classes, logits);
    if (needs) needs->interval_widths = true;
    return needs;
  }
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "interval_width",
        .summary = "mean width of prediction intervals",
        .formula =
            "the mean of max(0, upper - lower) over the rows that are not for calibration: the sum "
            "is exact and is rounded once. conformal=absolute: pred -+ qhat; normalized: pred -+ "
            "qhat sigma; cqr: lower - qhat, upper + qhat, and qhat may be negative; "
            "cqr_asymmetric: a qhat for each end at alpha / 2; none: lower and upper as they are, "
            "of every row that --split leaves. qhat as in 'coverage'. mode=group: a qhat of each "
            "combination of the --group columns. details: qhat and its rank, median, least and "
            "largest width, how many intervals are empty (lower > upper: width 0) or infinite",
        .edge_cases =
            "too few calibration rows: qhat and the width are inf, details.qhat_reason says "
            "too_few_calibration; a group that calibration rows never had likewise; no calibration "
            "rows: the value is undefined, too_few_calibration; no other rows: empty; weighted "
            "rows: not_defined",
        .equals =
            "MAPIE's regression_mean_width_score where no interval is empty; torchcp takes "
            "|upper - lower| of empty ones",
        .source = "Lei et al. 2018; Romano, Patterson, Candes 2019",
        .example =
            "cupel eval data/diabetes_intervals.csv --calibration 0.5 --metrics "
            "interval_width --conformal absolute,normalized,cqr",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .default_for_regression = true,
        .tasks = {Task::kRegression},
        .options = interval_options()};
    return kInfo;
  }

 protected:
  void describe(const IntervalEvidence& given, const Options&, MetricValue& value) const override {
    const IntervalSums& sums = *given.sums;
    value.number = mean_width(sums);
    value.details.emplace_back("median", given.widths.median);
    value.details.emplace_back("min", given.widths.least);
    value.details.emplace_back("max", given.widths.most);
    value.details.emplace_back("empty_intervals", sums.empty);
    value.details.emplace_back("infinite_intervals", sums.endless);
  }
};

class IntervalScoreMetric final : public IntervalMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "interval_score",
        .summary = "mean interval score of Winkler: width, and a price for missing",
        .formula =
            "the mean of max(0, upper - lower) + (2 / alpha) ((lower - y) [y < lower] + (y - "
            "upper) [y > upper]), of the intervals of 'interval_width', which tells what the "
            "options mean; exact sums, alpha as an exact decimal, rounded once. A proper score of "
            "the alpha / 2 and 1 - alpha / 2 quantiles. details: qhat and its rank, the mean width "
            "and the mean price",
        .edge_cases =
            "as interval_width. A y outside by less than half a unit in the last place "
            "of the interval's end may count as covered in 'coverage'",
        .equals = "MAPIE's regression_mwi_score with confidence_level = 1 - alpha",
        .source = "Winkler 1972; Gneiting and Raftery 2007, equation 43",
        .example = "cupel eval data/diabetes_intervals.csv --metrics 'interval_score(alpha=0.2)'",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .default_for_regression = true,
        .tasks = {Task::kRegression},
        .options = interval_options()};
    return kInfo;
  }

 protected:
  void describe(const IntervalEvidence& given, const Options&, MetricValue& value) const override {
    const IntervalSums& sums = *given.sums;
    const exact::Rational price =
        exact::rational(sums.misses) * 2 / exact::rational(given.query.alpha);
    const bool endless = sums.endless != 0 || sums.endless_misses != 0;
    value.number =
        endless ? kInfinity : exact::to_double((exact::rational(sums.width) + price) / sums.rows);
    value.details.emplace_back("mean_width", mean_width(sums));
    value.details.emplace_back(
        "mean_price", sums.endless_misses != 0 ? kInfinity : exact::to_double(price / sums.rows));
  }
};

class Cwc final : public IntervalMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "cwc",
        .summary = "coverage width-based criterion: narrow intervals, and coverage on target",
        .formula =
            "(1 - W) exp(-eta (c - (1 - alpha))^2), W the mean width over the range of y (largest "
            "minus smallest, of the rows that are judged) and c the coverage, of the intervals of "
            "'interval_width', which tells what the options mean. 1 is best; too much coverage "
            "costs as much as too little. details: qhat, coverage, mean width, range of y",
        .edge_cases = "as interval_width; one value of y: not_defined; an infinite width: -inf",
        .equals =
            "MAPIE's coverage_width_based(y, lower, upper, eta, 1 - alpha), which has no "
            "default for eta",
        .source = "Khosravi, Nahavandi, Creighton 2010, in the form that MAPIE has",
        .example =
            "cupel eval data/diabetes_intervals.csv --calibration 0.5 --metrics "
            "'cwc(conformal=cqr,eta=10)'",
        .direction = Direction::kHigher,
        .in_unit_interval = false,
        .tasks = {Task::kRegression},
        .options = options()};
    return kInfo;
  }

 protected:
  void describe(const IntervalEvidence& given, const Options& options,
                MetricValue& value) const override {
    const IntervalSums& sums = *given.sums;
    const exact::Rational range = exact::rational(residual_of_key(sums.most_y)) -
                                  exact::rational(residual_of_key(sums.least_y));
    const exact::Rational coverage(exact::Integer(sums.covered), exact::Integer(sums.rows));
    value.details.emplace_back("coverage", exact::ratio(sums.covered, sums.rows));
    value.details.emplace_back("mean_width", mean_width(sums));
    value.details.emplace_back("range", exact::to_double(range));
    if (range == 0) {
      value.undefined = Undefined::kNotDefined;
      return;
    }
    if (sums.endless != 0) {
      value.number = -kInfinity;
      return;
    }
    const double room = exact::to_double(1 - exact::rational(sums.width) / sums.rows / range);
    const double off = exact::to_double(coverage - 1 + exact::rational(given.query.alpha));
    value.number = room * std::exp(-options.number("eta") * off * off);
  }

 private:
  static std::vector<OptionSpec> options() {
    std::vector<OptionSpec> all = interval_options();
    all.push_back(
        {"eta", OptionType::kNumber, "30", {}, 0, 1e6, "how much coverage off its target costs"});
    return all;
  }
};

}  // namespace

const Metric& interval_width() {
  static const IntervalWidth kMetric;
  return kMetric;
}
const Metric& interval_score() {
  static const IntervalScoreMetric kMetric;
  return kMetric;
}
const Metric& cwc() {
  static const Cwc kMetric;
  return kMetric;
}

}  // namespace cupel
