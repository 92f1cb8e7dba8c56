// Calibration errors without bins: residuals smoothed by a kernel, and a test of their sum.
//
// Both read the bins' moments. A residual is y - p; within a fine bin its sum and its first moment
// are known exactly, so that a smooth function of p is summed up to its second derivative in a bin.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "metric/list.hpp"
#include "metric/rows.hpp"

namespace cupel {
namespace {

using exact::Integer;

const std::vector<Task> kEveryTask{Task::kBinary, Task::kMulticlass, Task::kMultilabel};

BinPoints points_of(Task task) {
  return task == Task::kMulticlass ? BinPoints::kTop : BinPoints::kPositive;
}

// ---- smoothed residuals
// --------------------------------------------------------------------------

/// Bins that hold the residuals of smooth_ece.
constexpr i64 kFineBins = 4096;
/// No kernel is narrower: it would see the bins. relplot stops there as well.
constexpr double kLeastSigma = 0x1p-10;

/// The residuals of a fine bin: `sum` at `centre`, with `moment` the sum of residual * (p -
/// centre); all divided by the number of rows.
struct Residual {
  double centre = 0;
  double sum = 0;
  double moment = 0;
};

std::vector<Residual> residuals_of(const BinTotals& totals) {
  Integer mass = 0;
  for (const u128 own : totals.mass) mass += exact::integer(own);
  const Integer unit = mass << kConfidenceBits;
  std::vector<Residual> residuals;
  for (std::size_t i = 0; i < totals.mass.size(); ++i) {
    if (totals.mass[i] == 0) continue;
    const Integer confidence = exact::integer(totals.confidence[i]);
    const Integer sum = (exact::integer(totals.right[i]) << kConfidenceBits) - confidence;
    const Integer moment =
        exact::integer(totals.right_confidence[i]) - exact::integer(totals.square[i]);
    Residual residual;
    residual.centre =
        exact::to_double(confidence, exact::integer(totals.mass[i]) << kConfidenceBits);
    residual.sum = exact::to_double(sum, unit);
    // sum of residual * p less centre * sum, over the common denominator 2^bits * mass of the bin.
    residual.moment = exact::to_double(
        ((moment * exact::integer(totals.mass[i])) << kConfidenceBits) - confidence * sum,
        (unit * exact::integer(totals.mass[i])) << kConfidenceBits);
    residuals.push_back(residual);
  }
  return residuals;
}

/// The residuals convolved with a Gaussian that is reflected at 0 and at 1, as a function of t in
/// [0, 1]. Reflected without end, the Gaussian is the heat kernel of the interval, whose cosine
/// series is exp(-(m pi sigma)^2 / 2) cos(m pi p) cos(m pi t): no sum over rows for each t, and no
/// quadrature, because the series is integrated term by term between its zeros.
class SmoothedResiduals {
 public:
  explicit SmoothedResiduals(std::vector<Residual> residuals)
      : residuals_(std::move(residuals)), phases_(residuals_.size(), {1, 0}) {
    for (const Residual& r : residuals_) {
      mean_ += r.sum;
      steps_.push_back(
          {std::cos(std::numbers::pi * r.centre), std::sin(std::numbers::pi * r.centre)});
    }
  }

  /// The integral over [0, 1] of |smoothed residual|. O(terms * (bins + mesh)), terms about 3 /
  /// sigma, of which those of the bins are kept.
  double error(double sigma) {
    series_.clear();
    for (i64 m = 1;; ++m) {
      const double x = static_cast<double>(m) * std::numbers::pi * sigma;
      if (x > kCutoff) break;
      series_.push_back(coefficient(m) * std::exp(-x * x / 2));
    }
    const i64 mesh = std::max<i64>(512, 4 * static_cast<i64>(series_.size()));
    double integral = 0;
    double from = primitive(0);
    double left = 0;
    double left_value = value(0);
    for (i64 i = 1; i <= mesh; ++i) {
      const double right = static_cast<double>(i) / static_cast<double>(mesh);
      const double right_value = value(right);
      if ((left_value < 0 && right_value > 0) || (left_value > 0 && right_value < 0)) {
        const double to = primitive(zero_between(left, right, left_value < 0));
        integral += std::fabs(to - from);
        from = to;
      }
      left = right;
      if (right_value != 0) left_value = right_value;
    }
    return integral + std::fabs(primitive(1) - from);
  }

  /// |sum of residuals|, which no smoothing goes below.
  double floor() const { return std::fabs(mean_); }

 private:
  struct Phase {
    double cos;
    double sin;
  };
  /// exp(-kCutoff^2 / 2) is below 1e-16.
  static constexpr double kCutoff = 8.6;

  static Phase turned(Phase a, Phase b) {
    return {a.cos * b.cos - a.sin * b.sin, a.sin * b.cos + a.cos * b.sin};
  }

  /// Coefficient m >= 1 of the residuals themselves; asked for in ascending order at first.
  double coefficient(i64 m) {
    while (static_cast<i64>(coefficients_.size()) < m) {
      const double frequency = static_cast<double>(coefficients_.size() + 1) * std::numbers::pi;
      double sum = 0;
      for (std::size_t i = 0; i < residuals_.size(); ++i) {
        phases_[i] = turned(phases_[i], steps_[i]);
        sum +=
            residuals_[i].sum * phases_[i].cos - residuals_[i].moment * frequency * phases_[i].sin;
      }
      coefficients_.push_back(2 * sum);
    }
    return coefficients_[static_cast<std::size_t>(m) - 1];
  }

  template <class Term>
  double sum_over(double t, Term term) const {
    const Phase step{std::cos(std::numbers::pi * t), std::sin(std::numbers::pi * t)};
    Phase phase{1, 0};
    double sum = 0;
    for (std::size_t i = 0; i < series_.size(); ++i) {
      phase = turned(phase, step);
      sum += term(series_[i], phase, i + 1);
    }
    return sum;
  }
  double value(double t) const {
    return mean_ +
           sum_over(t, [](double a, const Phase& phase, std::size_t) { return a * phase.cos; });
  }
  double primitive(double t) const {
    return mean_ * t + sum_over(t, [](double a, const Phase& phase, std::size_t m) {
             return a * phase.sin / (std::numbers::pi * static_cast<double>(m));
           });
  }
  double zero_between(double low, double high, bool rising) const {
    // The primitive is flat at a zero: half of a double's digits of its place are enough.
    for (int step = 0; step < 30; ++step) {
      const double middle = (low + high) / 2;
      ((value(middle) < 0) == rising ? low : high) = middle;
    }
    return (low + high) / 2;
  }

  std::vector<Residual> residuals_;
  std::vector<Phase> steps_;
  std::vector<Phase> phases_;  // of the last coefficient
  std::vector<double> coefficients_;
  std::vector<double> series_;
  double mean_ = 0;
};

/// Where error(sigma) = sigma. The error does not grow with sigma, so there is one such point.
double fixed_point(SmoothedResiduals& smoothed) {
  double low = std::max(kLeastSigma, smoothed.floor());
  double high = 1;
  double high_gap = smoothed.error(high) - high;
  if (high_gap >= 0) return high;
  // A kernel costs the square of 1 / its width, so the narrowest ones are tried last.
  double low_gap = 0;
  for (double at = 0.25; low_gap <= 0 && at > low; at /= 4) {
    const double gap = smoothed.error(at) - at;
    (gap > 0 ? low : high) = at;
    (gap > 0 ? low_gap : high_gap) = gap;
  }
  if (low_gap <= 0) low_gap = smoothed.error(low) - low;
  if (low_gap <= 0) return low;
  // False position, with the weight of an end that stays halved (Illinois).
  int stayed = 0;
  for (int step = 0; step < 100 && high - low > 1e-14; ++step) {
    const double at = (low * high_gap - high * low_gap) / (high_gap - low_gap);
    const double gap = smoothed.error(at) - at;
    if (std::fabs(gap) < 1e-15) return at;
    if (gap > 0) {
      low = at;
      low_gap = gap;
      if (stayed > 0) high_gap /= 2;
      stayed = 1;
    } else {
      high = at;
      high_gap = gap;
      if (stayed < 0) low_gap /= 2;
      stayed = -1;
    }
  }
  return (low + high) / 2;
}

class SmoothEce final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "smooth_ece",
        .summary = "calibration error of residuals smoothed by a Gaussian",
        .formula =
            "integral over t in [0, 1] of |mean of K(t, p) (y - p)|, K a Gaussian of width sigma "
            "reflected at 0 and 1 so that no mass is lost. Without sigma=, the fixed point: the "
            "width that equals its own error, and at least 2^-10. Residuals are summed exactly in "
            "4096 bins with their first moments; the kernel is its cosine series. Several classes: "
            "of the largest probability and whether it is the label's",
        .edge_cases =
            "probabilities outside [0, 1]: not_probability. At the least width the value is the "
            "error there, below 2^-10 (details: at_least_sigma)",
        .equals =
            "relplot.smECE within 2e-3 where no confidence is 0 or 1 (relplot gives those half "
            "their weight); relplot.smECE_sigma likewise with sigma=",
        .source = "Blasiok and Nakkiran 2023",
        .example = "cupel eval data/breast_cancer.csv --metrics 'smooth_ece,smooth_ece(sigma=0.1)'",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .tasks = kEveryTask,
        .options = {{"sigma",
                     OptionType::kNumber,
                     "",
                     {},
                     kLeastSigma,
                     1,
                     "the kernel's width, from 2^-10 to 1, instead of the fixed point"}}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRows; }
  Result<Needs> needs(const Options&, Task task, i64, bool) const override {
    Needs needs;
    needs.rows.brier = true;  // says which rows hold no probabilities
    needs.rows.bins = {query(task)};
    return needs;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    if (const Undefined why = missing_probabilities(evidence); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    SmoothedResiduals smoothed(residuals_of(bins_of_query(evidence, query(evidence.task))));
    const bool fixed = !options.has("sigma");
    const double sigma = fixed ? fixed_point(smoothed) : options.number("sigma");
    MetricValue value = MetricValue::of(smoothed.error(sigma));
    value.details.emplace_back("sigma", sigma);
    if (fixed) value.details.emplace_back("at_least_sigma", sigma <= kLeastSigma);
    return value;
  }

 private:
  static BinQuery query(Task task) { return {points_of(task), kFineBins, false, true}; }
};

// ---- Spiegelhalter's test
// ------------------------------------------------------------------------

class SpiegelhalterZ final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "spiegelhalter_z",
        .summary = "Spiegelhalter's test of calibration: a standard normal where p is right",
        .formula =
            "sum of (y - p)(1 - 2p) over the root of the sum of (1 - 2p)^2 p (1 - p): the Brier "
            "score less its expectation if p were right, over its standard deviation. "
            "details.p_value is two-sided. Several classes: of the largest probability and "
            "whether it is the label's",
        .edge_cases =
            "probabilities outside [0, 1]: not_probability; all of them 0, 1/2 or 1, or weighted "
            "rows: not_defined",
        .equals = "none in scikit-learn or torchmetrics",
        .source = "Spiegelhalter 1986",
        .example = "cupel eval data/diabetes.csv.gz --metrics spiegelhalter_z",
        .direction = Direction::kNone,
        .in_unit_interval = false,
        .tasks = kEveryTask,
        .options = {}};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kRows; }
  Result<Needs> needs(const Options&, Task task, i64, bool) const override {
    Needs needs;
    needs.rows.brier = true;  // says which rows hold no probabilities
    needs.rows.bins = {query(task)};
    return needs;
  }
  MetricValue finish(const Evidence& evidence, const Options&) const override {
    if (const Undefined why = missing_probabilities(evidence); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    if (evidence.rows->weighted) return MetricValue::none(Undefined::kNotDefined);
    const BinTotals& totals = bins_of_query(evidence, query(evidence.task));
    Integer difference = 0;
    Integer variance = 0;
    for (std::size_t i = 0; i < totals.mass.size(); ++i) {
      // (y - p)(1 - 2p) = y - 2 y p - p + 2 p^2
      difference += exact::integer(totals.right[i]) << kConfidenceBits;
      difference -= exact::integer(totals.right_confidence[i]) * 2;
      difference -= exact::integer(totals.confidence[i]);
      difference += exact::integer(totals.square[i]) * 2;
      variance += exact::integer(totals.spread[i]);
    }
    if (variance == 0) return MetricValue::none(Undefined::kNotDefined);
    const Integer unit = Integer(1) << kConfidenceBits;
    const double z =
        exact::to_double(difference, unit) / std::sqrt(exact::to_double(variance, unit));
    MetricValue value = MetricValue::of(z);
    value.details.emplace_back("p_value", std::erfc(std::fabs(z) / std::numbers::sqrt2));
    return value;
  }

 private:
  /// The bins that ece has by default: asked for together they share the sums.
  static BinQuery query(Task task) { return {points_of(task), 15, false, true}; }
};

}  // namespace

const Metric& smooth_ece() {
  static const SmoothEce kMetric;
  return kMetric;
}
const Metric& spiegelhalter_z() {
  static const SpiegelhalterZ kMetric;
  return kMetric;
}

}  // namespace cupel
