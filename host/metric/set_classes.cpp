// Coverage of conformal sets by class.
#include <algorithm>
#include <utility>

#include "metric/exact.hpp"
#include "metric/list.hpp"
#include "metric/set_metric.hpp"
#include "metric/set_strata.hpp"

namespace cupel {
namespace {

/// What is known of each class with rows, and which have none.
void describe_classes(const SetSums& sums, const Fraction& alpha, MetricValue& value) {
  Detail::List shown;
  Detail::List absent;
  i64 present = 0;
  i64 below = 0;
  i64 without = 0;
  for (std::size_t c = 0; c < sums.by_class.size(); ++c) {
    const SetTally& tally = sums.by_class[c];
    if (tally.rows == 0) {
      ++without;
      if (absent.size() < kMostShownStrata) absent.emplace_back(static_cast<i64>(c));
      continue;
    }
    ++present;
    const bool low = static_cast<u128>(tally.covered) * alpha.den <
                     static_cast<u128>(tally.rows) * (alpha.den - alpha.num);
    below += low ? 1 : 0;
    if (shown.size() == kMostShownStrata) continue;
    shown.emplace_back(Detail::Object{{"class", static_cast<i64>(c)},
                                      {"n", tally.rows},
                                      {"coverage", exact::ratio(tally.covered, tally.rows)},
                                      {"mean_size", exact::ratio(tally.labels, tally.rows)},
                                      {"gap", exact::to_double(coverage_violation(tally, alpha))}});
  }
  value.details.emplace_back("classes", present);
  value.details.emplace_back("classes_below", below);
  value.details.emplace_back("without_rows", without);
  value.details.emplace_back("left_out", std::move(absent));
  value.details.emplace_back("classes_not_shown", present - static_cast<i64>(shown.size()));
  value.details.emplace_back("per_class", std::move(shown));
}

class CoverageGap final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "cov_gap",
        .summary = "mean distance of a class's coverage from 1 - alpha, in percent",
        .formula =
            "100 * mean over classes with rows of |coverage of the class - (1 - alpha)|, of the "
            "rows that are not for calibration: percentage points, from 0 to 100. weighted=true "
            "weights a class by its rows. 'coverage' tells what the other options mean. details: "
            "each class's rows, coverage, mean size and gap (of up to 200 classes), how many "
            "classes are covered less often than 1 - alpha, and which have no rows",
        .edge_cases =
            "as coverage. Classes without rows are left out (left_out). Of few rows a class's gap "
            "is large by chance: the value of valid sets is not 0",
        .equals =
            "torchcp's CovGap; its VioClasses is details.classes_below. 100 * MAPIE's "
            "coverage_gap (covmetrics), which has weighted too; puncc's raises where a class has "
            "no rows",
        .source = "Ding, Angelopoulos, Bates, Jordan, Tibshirani 2023",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics "
            "'cov_gap,cov_gap(weighted=true)' --alpha 0.1,0.05",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = options_of()};
    return kInfo;
  }

 protected:
  void describe(const ConformalThreshold&, const SetSums& sums, const Options& options,
                MetricValue& value) const override {
    const Fraction alpha = options.fraction("alpha");
    describe_classes(sums, alpha, value);
    if (options.flag("weighted")) {
      // rows_c * |gap_c| has the denominator of alpha alone: exact.
      exact::Rational sum = 0;
      for (const SetTally& tally : sums.by_class) {
        if (tally.rows != 0) sum += coverage_violation(tally, alpha) * exact::Integer(tally.rows);
      }
      value.number = exact::to_double(100 * sum / exact::Integer(sums.all.rows));
      return;
    }
    double sum = 0;
    i64 present = 0;
    for (const SetTally& tally : sums.by_class) {
      if (tally.rows == 0) continue;
      sum += exact::to_double(coverage_violation(tally, alpha));
      ++present;
    }
    value.number = 100 * sum / static_cast<double>(present);
  }

 private:
  static std::vector<OptionSpec> options_of() {
    std::vector<OptionSpec> options = set_options();
    options.push_back({"weighted",
                       OptionType::kFlag,
                       "false",
                       {},
                       0,
                       0,
                       "classes count by their rows, instead of alike"});
    return options;
  }
};

class MacroCoverage final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "macro_coverage",
        .summary = "mean over classes of how often the conformal sets of its rows hold it",
        .formula =
            "mean over classes with rows of the coverage of the class, of the rows that are not "
            "for calibration; absent=zero counts a class without rows as coverage 0. 'coverage' "
            "tells what the other options mean. details: as cov_gap",
        .edge_cases =
            "as coverage. Classes without rows are left out (left_out) but for absent=zero",
        .equals = "torchcp's coverage_rate with coverage_type='macro' for absent=zero",
        .source = "Ding, Angelopoulos, Bates, Jordan, Tibshirani 2023",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics macro_coverage "
            "--conformal lac,aps",
        .direction = Direction::kNone,
        .in_unit_interval = true,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = options_of()};
    return kInfo;
  }

 protected:
  void describe(const ConformalThreshold&, const SetSums& sums, const Options& options,
                MetricValue& value) const override {
    describe_classes(sums, options.fraction("alpha"), value);
    double sum = 0;
    i64 present = 0;
    for (const SetTally& tally : sums.by_class) {
      if (tally.rows == 0) continue;
      sum += exact::ratio(tally.covered, tally.rows);
      ++present;
    }
    const auto all = static_cast<i64>(sums.by_class.size());
    value.number = sum / static_cast<double>(options.text("absent") == "zero" ? all : present);
  }

 private:
  static std::vector<OptionSpec> options_of() {
    std::vector<OptionSpec> options = set_options();
    options.push_back({"absent",
                       OptionType::kChoice,
                       "skip",
                       {"skip", "zero"},
                       0,
                       0,
                       "a class without rows is left out, or has coverage 0"});
    return options;
  }
};

}  // namespace

const Metric& cov_gap() {
  static const CoverageGap kMetric;
  return kMetric;
}
const Metric& macro_coverage() {
  static const MacroCoverage kMetric;
  return kMetric;
}

}  // namespace cupel
