// Kernel calibration errors with the Laplacian kernel exp(-|p - q| / nu). Over sorted confidences
// the double sum is a recurrence, because exp(-(p_j - p_i) / nu) is the product of the steps
// between: O(N) and exact up to rounding, no matrix and no tiles. Of several classes' probabilities
// the sum over all pairs is a backend's, by tiles.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <optional>

#include "cupel/core/buffer.hpp"
#include "cupel/math/elementary.hpp"
#include "cupel/math/pair_kernel.hpp"
#include "metric/list.hpp"
#include "metric/sorted_metric.hpp"

namespace cupel {
namespace {

/// Masses as doubles: rows, or weights.
double mass_of(u128 mass, bool weighted) {
  return weighted ? std::ldexp(static_cast<double>(mass), -64) : static_cast<double>(mass);
}

struct KernelSums {
  double all = 0;  ///< sum over pairs i, j, also i = j, of w_i w_j d_i d_j kernel; d = y - p
  double own = 0;  ///< the part of i = j; without weights
  double mass = 0;
};

/// O(groups).
KernelSums kernel_sums(const SortedConfidences& set, double nu) {
  KernelSums sums;
  double before = 0;  // sum over smaller confidences of w d, each times its kernel
  double last = 0;
  set.visit([&](std::span<const ConfidenceGroup> groups) {
    for (const ConfidenceGroup& group : groups) {
      const double right = mass_of(group.right, set.weighted());
      const double wrong = mass_of(group.wrong, set.weighted());
      const double residual = right * (1.0 - group.p) - wrong * group.p;
      before *= exp_det((last - group.p) / nu);
      sums.all += residual * (2.0 * before + residual);
      sums.own += right * (1.0 - group.p) * (1.0 - group.p) + wrong * group.p * group.p;
      sums.mass += right + wrong;
      before += residual;
      last = group.p;
    }
  });
  return sums;
}

// ---- the median of the distances ----------------------------------------------------------------

/// The distances |p_i - p_j| of all pairs of rows i < j, without weights: counted, never listed.
class Distances {
 public:
  explicit Distances(const SortedConfidences& set) {
    before_.push_back(0);
    set.visit([&](std::span<const ConfidenceGroup> groups) {
      for (const ConfidenceGroup& group : groups) {
        p_.push_back(group.p);
        before_.push_back(before_.back() + static_cast<u64>(group.mass()));
      }
    });
  }

  u128 pairs() const { return pairs_among(before_.back()); }

  /// The mean of the two middle distances, or the middle one; at least one pair. Some ten passes
  /// over the groups, at most 200.
  double median() const {
    const u128 middle = (pairs() + 1) / 2;  // the lower one, counted from 1
    const u128 few = std::max<u128>(u128{1} << 16, p_.size() / 16);
    // Distances up to `low` are fewer than `middle`, those up to `high` are not.
    double low = 0;
    double high = 1;
    u128 to_low = count_to(low);
    u128 to_high = pairs();
    if (to_low > middle || (to_low == middle && pairs() % 2 == 1)) return 0;
    if (to_low == middle) return least_above(0) / 2;
    std::array<double, 2> sampled{};
    for (std::size_t step = 0; steps_between(low, high) > 1 && to_high - to_low > few; ++step) {
      if (step == 0) sampled = sampled_middle();
      const double probe = step < sampled.size() ? inside(sampled[step], low, high)
                                                 : next_probe(low, high, to_low, to_high, middle,
                                                              few, step - sampled.size());
      const u128 to_probe = count_to(probe);
      if (to_probe < middle) {
        low = probe;
        to_low = to_probe;
      } else {
        high = probe;
        to_high = to_probe;
      }
    }
    const auto rest = between(low, high);
    const double lower = distance_at(middle - to_low, rest);
    if (pairs() % 2 == 1) return lower;
    return (lower +
            (middle < to_high ? distance_at(middle + 1 - to_low, rest) : least_above(high))) /
           2;
  }

 private:
  static u128 pairs_among(u64 rows) { return u128{rows} * (rows - (rows == 0 ? 0 : 1)) / 2; }

  /// Doubles from one to another; the bits of those that are not negative are ordered alike.
  static u64 steps_between(double low, double high) {
    return std::bit_cast<u64>(high) - std::bit_cast<u64>(low);
  }

  /// The double nearest to `probe` that is above `low` and below `high`, which are not neighbours.
  static double inside(double probe, double low, double high) {
    const u64 first = std::bit_cast<u64>(low) + 1;
    const u64 last = std::bit_cast<u64>(high) - 1;
    return std::bit_cast<double>(std::clamp(std::bit_cast<u64>(probe), first, last));
  }

  /// Where the middle distance is likely to be: a little below and above the middle distance of
  /// evenly spaced rows.
  std::array<double, 2> sampled_middle() const {
    constexpr u64 kRows = 256;
    std::vector<double> rows;
    std::size_t group = 0;
    for (u64 i = 0; i < kRows; ++i) {
      const u128 at = u128{before_.back()} * (2 * i + 1) / (2 * kRows);
      while (before_[group + 1] <= at) ++group;
      rows.push_back(p_[group]);
    }
    std::vector<double> distances;
    for (std::size_t i = 0; i < kRows; ++i) {
      for (std::size_t j = 0; j < i; ++j) distances.push_back(rows[i] - rows[j]);
    }
    const auto quantile = [&](std::size_t per_mille) {
      const auto at =
          distances.begin() + static_cast<std::ptrdiff_t>(distances.size() * per_mille / 1000);
      std::nth_element(distances.begin(), at, distances.end());
      return *at;
    };
    return {quantile(494), quantile(506)};
  }

  /// A double between both: by turns where a little less than the middle is expected, a little
  /// more, and half of the doubles between, which ends the search whatever the distances are.
  static double next_probe(double low, double high, u128 to_low, u128 to_high, u128 middle,
                           u128 few, std::size_t step) {
    if (step % 3 == 2) {
      return std::bit_cast<double>(std::bit_cast<u64>(low) + steps_between(low, high) / 2);
    }
    const double wanted = static_cast<double>(middle - to_low) +
                          (step % 3 == 0 ? -0.25 : 0.25) * static_cast<double>(few);
    const double share = std::clamp(wanted / static_cast<double>(to_high - to_low), 0.0, 1.0);
    return inside(low + share * (high - low), low, high);
  }

  struct Some {
    double distance;
    u128 pairs;
  };
  /// The distances above `low` and up to `high`, ascending: listed, or the one that there can be.
  std::vector<Some> between(double low, double high) const {
    if (steps_between(low, high) == 1) return {{high, pairs()}};
    std::vector<Some> found;
    std::size_t begin = 0;
    std::size_t end = 0;
    for (std::size_t g = 0; g < p_.size(); ++g) {
      while (begin < p_.size() && p_[begin] - p_[g] <= low) ++begin;
      while (end < p_.size() && p_[end] - p_[g] <= high) ++end;
      for (std::size_t j = begin; j < end; ++j) {
        found.push_back({p_[j] - p_[g], u128{rows_of(g)} * rows_of(j)});
      }
    }
    std::sort(found.begin(), found.end(),
              [](const Some& a, const Some& b) { return a.distance < b.distance; });
    return found;
  }
  /// The distance of a rank among them, counted from 1.
  static double distance_at(u128 rank, const std::vector<Some>& ascending) {
    u128 count = 0;
    for (const Some& some : ascending) {
      count += some.pairs;
      if (count >= rank) return some.distance;
    }
    return 1;  // not reached: the rank is among them
  }

  u64 rows_of(std::size_t group) const { return before_[group + 1] - before_[group]; }

  /// Pairs whose distance, as a double, is at most `limit`. O(groups): what rounds is monotone.
  u128 count_to(double limit) const {
    u128 count = 0;
    std::size_t end = 0;
    for (std::size_t g = 0; g < p_.size(); ++g) {
      while (end < p_.size() && p_[end] - p_[g] <= limit) ++end;
      const u64 rows = rows_of(g);
      count += pairs_among(rows) + u128{rows} * (before_[end] - before_[g + 1]);
    }
    return count;
  }
  /// The least distance above `limit`, which some pair has.
  double least_above(double limit) const {
    double least = 1;
    std::size_t end = 0;
    for (std::size_t g = 0; g < p_.size(); ++g) {
      while (end < p_.size() && p_[end] - p_[g] <= limit) ++end;
      if (end < p_.size()) least = std::min(least, p_[end] - p_[g]);
    }
    return least;
  }

  Buffer<double> p_;
  Buffer<u64> before_;  ///< rows before each group, and all
};

// ---- metrics -----------------------------------------------------------------------------------

class Mmce final : public SortedMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "mmce",
        .summary = "maximum mean calibration error: a kernel calibration error of confidences",
        .formula =
            "sqrt(sum over i, j of w_i w_j (y_i - p_i) (y_j - p_j) exp(-|p_i - p_j| / nu)) / sum "
            "of "
            "w. Binary and multilabel: p of the positive class; multiclass: the largest p, and y "
            "whether its class is the label's. O(N log N): a recurrence over the sorted p",
        .edge_cases = "probabilities outside [0, 1]: not_probability",
        .equals = "netcal.metrics.MMCE",
        .source = "Kumar et al. 2018, Trainable calibration measures from kernel mean embeddings",
        .example = "cupel eval data/digits_probs.npz --metrics mmce",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .tasks = {Task::kBinary, Task::kMulticlass, Task::kMultilabel},
        .options = {{"nu",
                     OptionType::kNumber,
                     "0.4",
                     {},
                     1e-6,
                     1e6,
                     "the distance at which the kernel has fallen to 1/e"}}};
    return kInfo;
  }
  ReducedSet reduce(const SortedConfidences& set, const Options& options) const override {
    ReducedSet reduced;
    if (set.mass() == 0) return reduced;
    const KernelSums sums = kernel_sums(set, options.number("nu"));
    reduced.value = MetricValue::of(std::sqrt(std::max(0.0, sums.all)) / sums.mass);
    return reduced;
  }
};

class Skce final : public SortedMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "skce",
        .summary = "squared kernel calibration error",
        .formula =
            "h_ij = (y_i - p_i) (y_j - p_j) exp(-|p_i - p_j| / nu); several classes: y and p are "
            "vectors, with their inner product and Euclidean distance. estimator=unbiased: sum "
            "over i "
            "!= j of h_ij / (N (N - 1)), which may be negative; estimator=biased: sum over all i, "
            "j "
            "of w_i w_j h_ij / (sum of w)^2, the square of mmce. nu, when not given: the median of "
            "|p_i - p_j| over the pairs i < j, found exactly (some ten passes over the sorted p; "
            "several classes: of the distances rounded to float32, two passes over all pairs; "
            "details.nu). Several classes take O(N^2) time and 8 N bytes a class, and each term is "
            "rounded to 2^-48. The linear estimator depends on the order of rows and is left out",
        .edge_cases =
            "probabilities outside [0, 1]: not_probability; not_defined: one row or weighted rows "
            "with estimator=unbiased; without nu, one row, weighted rows, or a median of 0; "
            "weighted "
            "rows of several classes",
        .equals =
            "none; CalibrationErrors.jl's SKCE of scalar probabilities with a Laplacian "
            "kernel of scale nu",
        .source = "Widmann et al. 2019, Calibration tests in multi-class classification",
        .example =
            "cupel eval data/digits_attributes.npz --metrics 'skce,skce(nu=0.4,estimator=biased)'",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .tasks = {Task::kBinary, Task::kMulticlass, Task::kMultilabel},
        .options = {{"estimator",
                     OptionType::kChoice,
                     "unbiased",
                     {"unbiased", "biased"},
                     0,
                     0,
                     "without or with the pairs of a row and itself"},
                    {"nu",
                     OptionType::kNumber,
                     "",
                     {},
                     1e-6,
                     1e6,
                     "the distance at which the kernel has fallen to 1/e; the median distance when "
                     "not given"}}};
    return kInfo;
  }
  Detail::Object params(const Options& options, const Evidence&) const override {
    Detail::Object params = options.params();
    if (!options.has("nu")) params.emplace_back("nu", "median");
    return params;
  }
  Result<Needs> needs(const Options& options, Task task, i64 classes, bool logits) const override {
    if (task != Task::kMulticlass) return SortedMetric::needs(options, task, classes, logits);
    Needs needs;
    needs.rows.brier = !logits;  // says which rows hold no probabilities
    needs.pairs_nu = options.has("nu") ? options.number("nu") : 0;
    return needs;
  }
  ReducedSet reduce(const SortedConfidences& set, const Options& options) const override {
    ReducedSet reduced;
    if (set.mass() != 0) reduced.value = value_of_set(set, options);
    return reduced;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    if (evidence.task != Task::kMulticlass) return SortedMetric::finish(evidence, options);
    const RowSums& rows = *evidence.rows;
    if (const Undefined why = missing_probabilities(evidence); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    const bool unbiased = options.text("estimator") == "unbiased";
    if (rows.weighted || (unbiased && rows.rows < 2)) {
      return MetricValue::none(Undefined::kNotDefined);
    }
    const PairSums& pairs = *evidence.pairs;
    if (!(pairs.nu > 0)) return MetricValue::none(Undefined::kNotDefined);
    MetricValue value = MetricValue::of(value_of_pairs(pairs, unbiased));
    value.details.emplace_back("nu", pairs.nu);
    return value;
  }

 private:
  /// The pairs i < j count twice; a row and itself give its squared error.
  static double value_of_pairs(const PairSums& pairs, bool unbiased) {
    using exact::Integer;
    const bool negative = pairs.sum < 0;
    Integer sum(static_cast<u128>(negative ? -pairs.sum : pairs.sum));
    if (negative) sum = -sum;
    sum <<= kBrierBits - kPairBits + 1;
    if (!unbiased) sum += exact::integer(pairs.own);
    const Integer n(pairs.rows);
    return exact::to_double(sum, (unbiased ? Integer(n * (n - 1)) : Integer(n * n)) << kBrierBits);
  }

  static MetricValue value_of_set(const SortedConfidences& set, const Options& options) {
    const bool unbiased = options.text("estimator") == "unbiased";
    const bool heuristic = !options.has("nu");
    if ((unbiased || heuristic) && (set.weighted() || set.rows() < 2)) {
      return MetricValue::none(Undefined::kNotDefined);
    }
    const double nu = heuristic ? Distances(set).median() : options.number("nu");
    if (!(nu > 0)) return MetricValue::none(Undefined::kNotDefined);
    const KernelSums sums = kernel_sums(set, nu);
    MetricValue value =
        MetricValue::of(unbiased ? (sums.all - sums.own) / (sums.mass * (sums.mass - 1))
                                 : sums.all / (sums.mass * sums.mass));
    value.details.emplace_back("nu", nu);
    return value;
  }
};

}  // namespace

const Metric& mmce() {
  static const Mmce kMetric;
  return kMetric;
}
const Metric& skce() {
  static const Skce kMetric;
  return kMetric;
}

}  // namespace cupel
