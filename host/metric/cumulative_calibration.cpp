// Calibration without bins or kernels: the running sum of label less probability, in the order of
// the probabilities, and how far it strays from zero.
#include <cmath>
#include <numbers>

#include "metric/list.hpp"
#include "metric/sorted_metric.hpp"

namespace cupel {
namespace {

const std::vector<Task> kEveryTask{Task::kBinary, Task::kMulticlass, Task::kMultilabel};

/// Terms of these series beyond which nothing changes.
constexpr int kTerms = 40;

/// P(max |B| > x) for a standard Brownian motion B on [0, 1], x >= 0.
double brownian_maximum_above(double x) {
  if (x <= 0) return 1;
  double sum = 0;
  if (x > 1) {  // reflection
    for (int k = 0; k < kTerms; ++k) {
      sum += (k % 2 == 0 ? 2 : -2) * std::erfc((2 * k + 1) * x / std::numbers::sqrt2);
    }
    return sum;
  }
  constexpr double kPi = std::numbers::pi;
  for (int k = 0; k < kTerms; ++k) {
    const double odd = 2 * k + 1;
    sum += (k % 2 == 0 ? 4 : -4) / (kPi * odd) * std::exp(-odd * odd * kPi * kPi / (8 * x * x));
  }
  return 1 - sum;
}

/// P(max B - min B > x) for a standard Brownian motion B on [0, 1], x >= 0 (Feller 1951).
double brownian_range_above(double x) {
  if (x <= 0) return 1;
  double sum = 0;
  if (x > 2) {
    for (int k = 1; k <= kTerms; ++k) {
      sum += (k % 2 == 1 ? 4 : -4) * k * std::erfc(k * x / std::numbers::sqrt2);
    }
    return sum;
  }
  constexpr double kPi = std::numbers::pi;
  for (int k = 0; k < kTerms; ++k) {
    const double t = (k + 0.5) * kPi;
    sum += (8 / (x * x) + 2 / (t * t)) * std::exp(-2 * t * t / (x * x));
  }
  return 1 - sum;
}

/// The extremes of sum over p_i <= t of mass (y - p), in units of 2^-kConfidenceBits of mass.
struct Excursion {
  U256 up{};    ///< the largest, at least 0
  U256 down{};  ///< less the smallest, at least 0
  double up_at = 0;
  double down_at = 0;
  u128 variance = 0;  ///< sum of p (1 - p), same units; without weights
};

Excursion excursion_of(const SortedConfidences& set) {
  Excursion out;
  U256 right{};
  U256 confidence{};
  set.visit([&](std::span<const ConfidenceGroup> groups) {
    for (const ConfidenceGroup& group : groups) {
      const u128 mass = group.mass();
      const u64 term = confidence_term(group.p);
      if (mass >> 64 == 0) {
        right += widen<4>(group.right << kConfidenceBits);
        confidence += widen<4>(mass * term);
      } else {
        right += shift_left(widen<4>(group.right), kConfidenceBits);
        confidence += multiply(mass, u128{term});
      }
      if (!set.weighted()) out.variance += mass * confidence_term(group.p * (1.0 - group.p));
      if (right < confidence) {
        const U256 down = subtract(confidence, right);
        if (out.down < down) {
          out.down = down;
          out.down_at = group.p;
        }
      } else {
        const U256 up = subtract(right, confidence);
        if (out.up < up) {
          out.up = up;
          out.up_at = group.p;
        }
      }
    }
  });
  return out;
}

class Cumulative : public SortedMetric {
 public:
  ReducedSet reduce(const SortedConfidences& set, const Options&) const override {
    ReducedSet reduced;
    const u128 mass = set.mass();
    if (mass == 0) return reduced;
    const Excursion excursion = excursion_of(set);
    const exact::Integer up = exact::integer(excursion.up);
    const exact::Integer down = exact::integer(excursion.down);
    const exact::Integer unit = exact::integer(mass) << kConfidenceBits;
    const double number = exact::to_double(statistic(up, down), unit);
    reduced.value = MetricValue::of(number);
    Detail::Object& details = reduced.value.details;
    details = {{"highest", exact::to_double(up, unit)},
               {"lowest", exact::to_double(-down, unit)},
               {"highest_at", excursion.up == U256{} ? Detail() : Detail(excursion.up_at)},
               {"lowest_at", excursion.down == U256{} ? Detail() : Detail(excursion.down_at)}};
    if (excursion.variance == 0) {
      details.emplace_back("p_value", Detail());
      details.emplace_back("p_value_undefined",
                           std::string(undefined_name(Undefined::kNotDefined)));
      return reduced;
    }
    const double variance = std::ldexp(static_cast<double>(excursion.variance), -kConfidenceBits);
    details.emplace_back("p_value",
                         above(number * static_cast<double>(mass) / std::sqrt(variance)));
    return reduced;
  }

 protected:
  virtual exact::Integer statistic(const exact::Integer& up, const exact::Integer& down) const = 0;
  /// The asymptotic probability of a larger statistic, in standard deviations of the whole sum.
  virtual double above(double x) const = 0;
};

constexpr std::string_view kPValue =
    "details.p_value: under calibration the sums tend to a Brownian motion whose variance at the "
    "end is sum p (1 - p) / N^2";
constexpr std::string_view kEdges =
    "probabilities outside [0, 1]: not_probability; p_value is not defined for weighted rows, and "
    "where every p is 0 or 1";

MetricInfo cumulative_info(std::string_view name, std::string_view summary,
                           std::string_view formula, std::string_view equals,
                           std::string_view source, std::string_view example) {
  MetricInfo info;
  info.name = name;
  info.summary = summary;
  info.formula = formula;
  info.edge_cases = kEdges;
  info.equals = equals;
  info.source = source;
  info.example = example;
  info.direction = Direction::kLower;
  info.in_unit_interval = false;
  info.tasks = kEveryTask;
  return info;
}

constexpr std::string_view kSums =
    "of C(t) = (1/N) sum over rows with p <= t of (y - p), t over the distinct p. Binary and "
    "multilabel: p of the positive class; multiclass: the largest p, and y whether its class is "
    "the label's. ";

class KsCalibration final : public Cumulative {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula = "max |C| " + std::string(kSums) + std::string(kPValue);
    static const MetricInfo kInfo = cumulative_info(
        "ks_calibration", "Kolmogorov-Smirnov calibration error: largest cumulative difference",
        kFormula, "none; the KS error of Gupta et al.'s code where no confidences are equal",
        "Gupta et al. 2021, Calibration of neural networks using splines; p-value: Arrieta-Ibarra "
        "et al. 2022 (ECCE-MAD)",
        "cupel eval data/digits_attributes.npz --metrics ks_calibration,kuiper_calibration "
        "--by-class");
    return kInfo;
  }

 protected:
  exact::Integer statistic(const exact::Integer& up, const exact::Integer& down) const override {
    return up < down ? down : up;
  }
  double above(double x) const override { return brownian_maximum_above(x); }
};

class KuiperCalibration final : public Cumulative {
 public:
  const MetricInfo& info() const override {
    static const std::string kFormula = "max(C, 0) - min(C, 0) " + std::string(kSums) +
                                        "The largest difference over any interval of "
                                        "probabilities. " +
                                        std::string(kPValue);
    static const MetricInfo kInfo = cumulative_info(
        "kuiper_calibration", "Kuiper calibration error: range of the cumulative differences",
        kFormula, "none; ECCE-R of Arrieta-Ibarra et al.'s code where no confidences are equal",
        "Arrieta-Ibarra et al. 2022, Metrics of calibration for probabilistic predictions (ECCE-R)",
        "cupel eval data/digits_attributes.npz --metrics ks_calibration,kuiper_calibration "
        "--by-class");
    return kInfo;
  }

 protected:
  exact::Integer statistic(const exact::Integer& up, const exact::Integer& down) const override {
    return up + down;
  }
  double above(double x) const override { return brownian_range_above(x); }
};

}  // namespace

const Metric& ks_calibration() {
  static const KsCalibration kMetric;
  return kMetric;
}
const Metric& kuiper_calibration() {
  static const KuiperCalibration kMetric;
  return kMetric;
}

}  // namespace cupel
