// Calibration errors whose bins follow the data: the adaptive error of Nixon et al., which averages
// ranges of equal mass, and the sweep of Roelofs et al., which takes as many bins as keep the
// accuracies in order.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "metric/list.hpp"
#include "metric/sorted_metric.hpp"

namespace cupel {
namespace {

using exact::Integer;

constexpr std::size_t kMostShownBins = 1000;
/// The sweep's cost grows with the square of its bins.
constexpr i64 kMostSweptBins = i64{1} << 14;

const std::vector<Task> kEveryTask{Task::kBinary, Task::kMulticlass, Task::kMultilabel};

// ---- adaptive ----------------------------------------------------------------------------------

class Adaptive : public SortedMetric {
 public:
  ReducedSet reduce(const SortedConfidences& set, const Options& options) const override {
    ReducedSet reduced;
    const double threshold = options.has("threshold") ? options.number("threshold") : -1.0;
    reduced.ranges = mass_ranges(set, options.integer("bins"), threshold);
    if (!reduced.ranges.empty()) {
      double sum = 0;
      for (const ConfidenceRange& range : reduced.ranges) sum += std::fabs(gap_of(range));
      reduced.value = MetricValue::of(sum / static_cast<double>(reduced.ranges.size()));
      if (reduced.ranges.size() <= kMostShownBins) {
        reduced.value.details.emplace_back("bins", describe_bins(reduced.ranges, set.weighted()));
      }
      reduced.ranges.clear();
    }
    return reduced;
  }

 protected:
  BinPoints points(Task task) const override {
    return task == Task::kMulticlass ? BinPoints::kEachClass : BinPoints::kPositive;
  }
  MetricValue value_of(std::span<const ReducedSet> sets, const Options&) const override {
    if (sets.size() == 1) {
      return sets[0].value.is_defined() ? sets[0].value
                                        : MetricValue::none(Undefined::kAllUndefined);
    }
    double sum = 0;
    i64 averaged = 0;
    Detail::List per_class;
    for (std::size_t k = 0; k < sets.size(); ++k) {
      const MetricValue& value = sets[k].value;
      per_class.emplace_back(
          Detail::Object{{"class", static_cast<i64>(k)},
                         {"value", value.is_defined() ? Detail(value.number) : Detail()}});
      if (!value.is_defined()) continue;
      sum += value.number;
      ++averaged;
    }
    MetricValue value = averaged == 0 ? MetricValue::none(Undefined::kAllUndefined)
                                      : MetricValue::of(sum / static_cast<double>(averaged));
    value.details = {{"classes_averaged", averaged}, {"per_class", std::move(per_class)}};
    return value;
  }
};

const OptionSpec kRangesOption{
    "bins", OptionType::kInteger, "15", {}, 1, static_cast<double>(kMostBins), "how many ranges"};

class Ace final : public Adaptive {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "ace",
        .summary = "adaptive calibration error: mean gap of ranges of equal mass",
        .formula =
            "a confidence is in range floor(R r / N), r the mass of smaller ones, so that equal "
            "ones share a range; the mean of |accuracy - confidence| over the ranges that have "
            "mass, each counting once, of each class's probability; then the mean over the "
            "classes. "
            "Binary and multilabel: of the positive class's probability",
        .edge_cases = "probabilities outside [0, 1]: not_probability",
        .equals =
            "none: robustness_metrics' ace splits equal confidences by their row order "
            "(netcal's ACE is average_ce)",
        .source = "Nixon et al. 2019",
        .example = "cupel eval data/digits_probs.npz --metrics ace",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .tasks = kEveryTask,
        .options = {kRangesOption}};
    return kInfo;
  }
};

class Tace final : public Adaptive {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "tace",
        .summary = "ace of the confidences above a threshold",
        .formula =
            "ace, where only probabilities > threshold are there: ranges of equal mass are "
            "made of those. A class without any is left out of the mean",
        .edge_cases =
            "no probability above the threshold: all_undefined; probabilities outside "
            "[0, 1]: not_probability",
        .equals = "none: robustness_metrics' tace splits equal confidences by their row order",
        .source = "Nixon et al. 2019",
        .example = "cupel eval data/digits_probs.npz --metrics 'tace,tace(threshold=0.1)'",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .tasks = kEveryTask,
        .options = {
            kRangesOption,
            {"threshold", OptionType::kNumber, "0.01", {}, 0, 1, "only probabilities above it"}}};
    return kInfo;
  }
};

// ---- the sweep ---------------------------------------------------------------------------------

/// The tie groups of a set as sums before each, and the search for the number of bins. Counts are
/// u64, weights u128.
template <class M>
class Sweep {
 public:
  Sweep(const SortedConfidences& set, bool by_width) : by_width_(by_width) {
    before_.push_back(M{});
    right_before_.push_back(M{});
    set.visit([&](std::span<const ConfidenceGroup> groups) {
      for (const ConfidenceGroup& group : groups) {
        if (by_width_) p_.push_back(group.p);
        before_.push_back(before_.back() + static_cast<M>(group.mass()));
        right_before_.push_back(right_before_.back() + static_cast<M>(group.right));
      }
    });
    for (std::size_t g = 1; g < groups(); ++g) {
      if (falls(g - 1, g, g + 1)) descents_.push_back(g);
    }
    cells_.push_back(0);
    for (i64 cell = 1; cell <= kCells; ++cell) {
      std::size_t at = cells_.back();
      if (by_width_) {
        const double edge = bin_edge(cell, kCells);
        while (at < groups() && !(p_[at] > edge)) ++at;
      } else {
        const M least = least_mass_of_bin(before_.back(), cell, kCells);
        while (at < groups() && before_[at] < least) ++at;
      }
      cells_.push_back(at);
    }
  }

  std::size_t groups() const { return before_.size() - 1; }

  /// The largest number of bins up to `most` such that it and each smaller one keep the accuracies
  /// from falling.
  i64 bins(i64 most) const {
    if (descents_.empty()) return std::max<i64>(1, most);
    i64 bins = 1;
    while (bins < most && keeps_order(bins + 1)) ++bins;
    return bins;
  }

  /// The first group of each bin that has any.
  std::vector<std::size_t> starts(i64 bins) const {
    std::vector<std::size_t> starts;
    walk(bins, [&](std::size_t begin, std::size_t) {
      starts.push_back(begin);
      return true;
    });
    return starts;
  }

 private:
  /// Whether the accuracy of groups [b, c) is below that of [a, b).
  bool falls(std::size_t a, std::size_t b, std::size_t c) const {
    const M right = right_before_[c] - right_before_[b];
    const M right_of_last = right_before_[b] - right_before_[a];
    const M mass = before_[c] - before_[b];
    const M mass_of_last = before_[b] - before_[a];
    if constexpr (std::is_same_v<M, u64>) {
      return u128{right} * mass_of_last < u128{right_of_last} * mass;
    } else {
      return multiply(right, mass_of_last) < multiply(right_of_last, mass);
    }
  }

  /// Neighbouring bins can fall only where some group of theirs falls behind the one before it, so
  /// no other bins are looked at.
  bool keeps_order(i64 bins) const {
    for (auto descent = descents_.begin(); descent != descents_.end();) {
      const Bin own = bin_with(*descent, bins);
      if (own.begin != 0 && falls(bin_with(own.begin - 1, bins).begin, own.begin, own.end)) {
        return false;
      }
      descent = std::lower_bound(descent, descents_.end(), own.end);
      const bool inside = *(descent - 1) != own.begin;
      if (inside && own.end != groups() && falls(own.begin, own.end, bin_with(own.end, bins).end)) {
        return false;
      }
    }
    return true;
  }

  /// The groups [begin, end) of a bin.
  struct Bin {
    std::size_t begin;
    std::size_t end;
  };
  /// The bin that a group is in.
  Bin bin_with(std::size_t group, i64 bins) const {
    // What the double says is off by one at most.
    const double share =
        by_width_ ? p_[group]
                  : static_cast<double>(before_[group]) / static_cast<double>(before_.back());
    i64 b = std::clamp<i64>(static_cast<i64>(share * static_cast<double>(bins)), 0, bins - 1);
    while (b > 0 && first_of_bin(b, bins) > group) --b;
    while (b + 1 < bins && first_of_bin(b + 1, bins) <= group) ++b;
    return {b == 0 ? 0 : first_of_bin(b, bins),
            b + 1 == bins ? groups() : first_of_bin(b + 1, bins)};
  }

  /// Calls visit(begin, end) with the groups of each bin that has any, until it says no.
  template <class Visit>
  bool walk(i64 bins, const Visit& visit) const {
    std::size_t begin = 0;
    for (i64 b = 1; b <= bins && begin < groups(); ++b) {
      const std::size_t end = b == bins ? groups() : first_of_bin(b, bins);
      if (end == begin) continue;
      if (!visit(begin, end)) return false;
      begin = end;
    }
    return true;
  }

  /// The first group of bin b or a later one.
  std::size_t first_of_bin(i64 b, i64 bins) const {
    // The bin begins in the cell that b / bins lies in, or with the next.
    const auto cell = static_cast<std::size_t>(b * kCells / bins);
    return first_between(cells_[cell], cells_[cell + 1], b, bins);
  }

  /// The same, known to be among groups [low, high].
  std::size_t first_between(std::size_t low, std::size_t high, i64 b, i64 bins) const {
    const auto begin = [low](const auto& values) {
      return values.begin() + static_cast<std::ptrdiff_t>(low);
    };
    const auto end = [high](const auto& values) {
      return values.begin() + static_cast<std::ptrdiff_t>(high);
    };
    if (by_width_) {
      const auto at = std::upper_bound(begin(p_), end(p_), bin_edge(b, bins));
      return static_cast<std::size_t>(at - p_.begin());
    }
    const M least = least_mass_of_bin(before_.back(), b, bins);
    const auto at = std::lower_bound(begin(before_), end(before_), least);
    return static_cast<std::size_t>(at - before_.begin());
  }

  static constexpr i64 kCells = kMostBins;

  bool by_width_;
  Buffer<double> p_;
  Buffer<M> before_;  ///< mass before each group, and all
  Buffer<M> right_before_;
  std::vector<std::size_t> descents_;  ///< groups of a lower accuracy than the one before
  std::vector<std::size_t> cells_;     ///< the first group of each bin of kCells, and of none
};

class EceSweep final : public SortedMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "ece_sweep",
        .summary = "calibration error with as many bins as keep accuracies in order",
        .formula =
            "the largest B such that for 2, ..., B bins the accuracies of the bins that have mass "
            "do not fall from one to the next, B <= min(most_bins, N - 1); then ece with B bins. "
            "Of equal mass: a confidence is in bin floor(B r / N), r the mass of smaller ones, so "
            "that equal ones share a bin; binning=width: (lo, hi] with edges k/B. Binary and "
            "multilabel: of the positive class's probability; multiclass: of the largest one. "
            "Costs O(N + B^2 log N) after the sort, and less where most accuracies rise",
        .edge_cases =
            "probabilities outside [0, 1]: not_probability; of weighted rows N is not "
            "counted: B <= most_bins",
        .equals =
            "caltrain's em_ece_sweep and ew_ece_sweep (binning=width) where no confidences "
            "are equal",
        .source = "Roelofs et al. 2022, Mitigating bias in calibration error estimation",
        .example = "cupel eval data/breast_cancer.csv --metrics 'ece_sweep,ece_sweep(norm=l2)'",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .tasks = kEveryTask,
        .options = {{"binning",
                     OptionType::kChoice,
                     "mass",
                     {"mass", "width"},
                     0,
                     0,
                     "bins of equal mass with ties in one bin, or of equal width"},
                    {"norm",
                     OptionType::kChoice,
                     "l1",
                     {"l1", "l2"},
                     0,
                     0,
                     "mean of the gaps, or root of the mean of their squares"},
                    {"most_bins",
                     OptionType::kInteger,
                     "16384",
                     {},
                     1,
                     static_cast<double>(kMostSweptBins),
                     "no more bins than this are tried"}}};
    return kInfo;
  }

  ReducedSet reduce(const SortedConfidences& set, const Options& options) const override {
    return set.weighted() ? swept<u128>(set, options) : swept<u64>(set, options);
  }

 private:
  template <class M>
  static ReducedSet swept(const SortedConfidences& set, const Options& options) {
    ReducedSet reduced;
    const Sweep<M> sweep(set, options.text("binning") == "width");
    if (sweep.groups() == 0) return reduced;
    i64 most = options.integer("most_bins");
    if (!set.weighted()) {
      most = static_cast<i64>(std::min(static_cast<u64>(most), std::max<u64>(set.rows() - 1, 1)));
    }
    const i64 bins = sweep.bins(most);
    const std::vector<std::size_t> starts = sweep.starts(bins);
    std::vector<ConfidenceRange> ranges;
    std::size_t group = 0;
    set.visit([&](std::span<const ConfidenceGroup> groups) {
      for (const ConfidenceGroup& one : groups) {
        if (ranges.size() < starts.size() && starts[ranges.size()] == group) ranges.emplace_back();
        add_group(ranges.back(), one);
        ++group;
      }
    });
    reduced.value = MetricValue::of(error_of(ranges, set.mass(), options.text("norm") == "l2"));
    reduced.value.details.emplace_back("bins_chosen", bins);
    if (ranges.size() <= kMostShownBins) {
      reduced.value.details.emplace_back("bins", describe_bins(ranges, set.weighted()));
    }
    return reduced;
  }

  static double error_of(const std::vector<ConfidenceRange>& ranges, u128 mass, bool squared) {
    if (squared) {
      double sum = 0;
      for (const ConfidenceRange& range : ranges) {
        const double gap = gap_of(range);
        sum += exact::ratio(range.mass, mass) * (gap * gap);
      }
      return std::sqrt(sum);
    }
    Integer sum = 0;
    for (const ConfidenceRange& range : ranges) {
      sum +=
          abs((exact::integer(range.right) << kConfidenceBits) - exact::integer(range.confidence));
    }
    return exact::to_double(sum, exact::integer(mass) << kConfidenceBits);
  }
};

}  // namespace

const Metric& ace() {
  static const Ace kMetric;
  return kMetric;
}
const Metric& tace() {
  static const Tace kMetric;
  return kMetric;
}
const Metric& ece_sweep() {
  static const EceSweep kMetric;
  return kMetric;
}

}  // namespace cupel
