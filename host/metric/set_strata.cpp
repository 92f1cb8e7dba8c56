// Coverage by the size of the set, in both published forms, and by the rank of the label.
#include "metric/set_strata.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "metric/list.hpp"
#include "metric/set_metric.hpp"

namespace cupel {

std::vector<Stratum> make_strata(std::span<const SetTally> tallies, i64 base,
                                 const std::vector<i64>& ends) {
  std::vector<Stratum> strata;
  i64 first = base;
  for (const i64 end : ends) {
    Stratum stratum{first, end, {}};
    for (i64 v = first; v <= end && v - base < static_cast<i64>(tallies.size()); ++v) {
      stratum.tally.merge(tallies[static_cast<std::size_t>(v - base)]);
    }
    strata.push_back(stratum);
    first = end + 1;
  }
  return strata;
}

exact::Rational coverage_violation(const SetTally& tally, const Fraction& alpha) {
  const exact::Rational coverage(exact::Integer(tally.covered), exact::Integer(tally.rows));
  const exact::Rational gap = coverage - 1 + exact::rational(alpha);
  return gap < 0 ? exact::Rational(-gap) : gap;
}

namespace {

Detail describe_stratum(std::string_view what, const Stratum& stratum) {
  const SetTally& tally = stratum.tally;
  Detail::Object one{{std::string(what), Detail::List{stratum.first, stratum.last}},
                     {"n", tally.rows}};
  const bool any = tally.rows != 0;
  one.emplace_back("coverage", any ? Detail(exact::ratio(tally.covered, tally.rows)) : Detail());
  one.emplace_back("mean_size", any ? Detail(exact::ratio(tally.labels, tally.rows)) : Detail());
  return one;
}

/// The list of strata, the worst of them, and how many rows are in none. The worst is the first of
/// those that `worse` finds no other worse than.
template <class Worse>
std::optional<Stratum> describe_strata(std::string_view what, const std::vector<Stratum>& strata,
                                       u64 rows, const Worse& worse, MetricValue& value) {
  Detail::List shown;
  std::optional<Stratum> worst;
  u64 inside = 0;
  u64 present = 0;
  for (const Stratum& stratum : strata) {
    inside += stratum.tally.rows;
    if (shown.size() < kMostShownStrata) shown.push_back(describe_stratum(what, stratum));
    if (stratum.tally.rows == 0) continue;
    ++present;
    if (!worst || worse(stratum.tally, worst->tally)) worst = stratum;
  }
  value.details.emplace_back("strata", std::move(shown));
  value.details.emplace_back("strata_with_rows", present);
  value.details.emplace_back("rows_in_none", rows - inside);
  value.details.emplace_back("worst",
                             worst ? Detail(Detail::List{worst->first, worst->last}) : Detail());
  return worst;
}

/// The largest violation over strata, which every stratum with rows has one of.
void largest_violation(std::string_view what, const std::vector<Stratum>& strata, u64 rows,
                       const Options& options, MetricValue& value) {
  const Fraction alpha = options.fraction("alpha");
  const auto worst = describe_strata(
      what, strata, rows,
      [&](const SetTally& a, const SetTally& b) {
        return coverage_violation(a, alpha) > coverage_violation(b, alpha);
      },
      value);
  if (!worst) {
    value.undefined = Undefined::kEmpty;
    return;
  }
  value.number = exact::to_double(coverage_violation(worst->tally, alpha));
}

std::vector<OptionSpec> with_strata(std::string_view usual, double least,
                                    std::string_view summary) {
  std::vector<OptionSpec> options = set_options();
  options.push_back({"strata", OptionType::kList, usual, {}, least, 65535, summary});
  return options;
}

class SizeStratifiedViolation final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "sscv",
        .summary = "largest deviation of coverage from 1 - alpha over strata of set size",
        .formula =
            "rows that are not for calibration are put into strata by the size of their set, and "
            "the value is the largest |coverage - (1 - alpha)| of a stratum with rows, in exact "
            "fractions. strata=1:3:10:100:1000 are the largest sizes of the strata [0,1], [2,3], "
            "[4,10], [11,100], [101,1000]. 'coverage' tells what the other options mean. details: "
            "each stratum's rows, coverage and mean size; the worst one; rows in none",
        .edge_cases =
            "as coverage. Sizes above the last stratum are in none (rows_in_none); no row in a "
            "stratum: empty. An empty set covers nothing, which is what the first stratum tells",
        .equals =
            "torchcp's SSCV, which gives -1 where no stratum has rows. MAPIE's score of a similar "
            "name is 'ssc'",
        .source = "Angelopoulos, Bates, Malik, Jordan 2021",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics "
            "'sscv,sscv(strata=0:1:2:3:10)'",
        .direction = Direction::kLower,
        .in_unit_interval = true,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = with_strata("1:3:10:100:1000", 0, "the largest size of each stratum")};
    return kInfo;
  }

 protected:
  void describe(const ConformalThreshold&, const SetSums& sums, const Options& options,
                MetricValue& value) const override {
    largest_violation("sizes", make_strata(sums.by_size, 0, options.list("strata")), sums.all.rows,
                      options, value);
  }
};

class DifficultyViolation final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "diff_violation",
        .summary = "largest deviation of coverage from 1 - alpha over strata of difficulty",
        .formula =
            "rows that are not for calibration are put into strata by the rank of their label, "
            "larger probabilities first and equal ones by class index, and the value is the "
            "largest |coverage - (1 - alpha)| of a stratum with rows, in exact fractions. "
            "strata=1:3:6:10:100:1000 are the largest ranks of the strata [1,1], [2,3], [4,6], "
            "[7,10], [11,100], [101,1000]. 'coverage' tells what the other options mean. details: "
            "each stratum's rows, coverage and mean size; the worst one; rows in none",
        .edge_cases =
            "as coverage. Ranks above the last stratum are in none (rows_in_none); no row in a "
            "stratum: empty. Easy rows are covered more often than hard ones whatever the score, "
            "so the value is rarely near 0",
        .equals = "torchcp's DiffViolation, whose order of equal logits is that of torch.argsort",
        .source = "Angelopoulos, Bates, Malik, Jordan 2021",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics diff_violation "
            "--conformal aps,raps",
        .direction = Direction::kLower,
        .in_unit_interval = true,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = with_strata("1:3:6:10:100:1000", 1, "the largest rank of each stratum")};
    return kInfo;
  }

 protected:
  void describe(const ConformalThreshold&, const SetSums& sums, const Options& options,
                MetricValue& value) const override {
    largest_violation("ranks", make_strata(sums.by_rank, 1, options.list("strata")), sums.all.rows,
                      options, value);
  }
};

class SizeStratifiedCoverage final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "ssc",
        .summary = "smallest coverage over bins of set size",
        .formula =
            "the smallest coverage of rows whose sets have sizes of one bin, over the bins with "
            "rows, of the rows that are not for calibration. Without num_bins every size 0 ... k "
            "is a bin; num_bins=b cuts these k + 1 sizes into b runs whose lengths differ by one "
            "at most, longer ones first. 'coverage' tells what the other options mean. details: "
            "each bin's rows, coverage and mean size; the worst one",
        .edge_cases =
            "as coverage. An empty set covers nothing: where each size is a bin, one empty set "
            "makes the value 0. num_bins above k + 1: an error",
        .equals =
            "MAPIE's classification_ssc_score(y, sets, num_bins). torchcp's of a similar name is "
            "'sscv', a violation",
        .source = "Angelopoulos and Bates 2021, section 3.1",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics "
            "'ssc,ssc(num_bins=3)'",
        .direction = Direction::kHigher,
        .in_unit_interval = true,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = with_bins()};
    return kInfo;
  }

  Result<Needs> needs(const Options& options, Task task, i64 classes, bool logits) const override {
    const i64 sizes = (task == Task::kBinary ? 2 : classes) + 1;
    if (options.has("num_bins") && options.integer("num_bins") > sizes) {
      return usage_error(fmt::format("num_bins={} of 'ssc' is more than the {} sizes that sets of "
                                     "{} classes can have",
                                     options.integer("num_bins"), sizes, sizes - 1),
                         "leave it out for a bin per size");
    }
    return SetMetric::needs(options, task, classes, logits);
  }

 protected:
  void describe(const ConformalThreshold&, const SetSums& sums, const Options& options,
                MetricValue& value) const override {
    const auto sizes = static_cast<i64>(sums.by_size.size());
    const i64 bins = options.has("num_bins") ? options.integer("num_bins") : sizes;
    std::vector<i64> ends;
    for (i64 bin = 0, end = -1; bin < bins; ++bin) {
      end += sizes / bins + (bin < sizes % bins ? 1 : 0);
      ends.push_back(end);
    }
    const auto worst = describe_strata(
        "sizes", make_strata(sums.by_size, 0, ends), sums.all.rows,
        [](const SetTally& a, const SetTally& b) {
          return static_cast<u128>(a.covered) * b.rows < static_cast<u128>(b.covered) * a.rows;
        },
        value);
    value.number = exact::ratio(worst->tally.covered, worst->tally.rows);
  }

 private:
  static std::vector<OptionSpec> with_bins() {
    std::vector<OptionSpec> options = set_options();
    options.push_back(
        {"num_bins", OptionType::kInteger, "", {}, 1, 65536, "runs of sizes (one for each size)"});
    return options;
  }
};

}  // namespace

const Metric& sscv() {
  static const SizeStratifiedViolation kMetric;
  return kMetric;
}
const Metric& diff_violation() {
  static const DifficultyViolation kMetric;
  return kMetric;
}
const Metric& ssc() {
  static const SizeStratifiedCoverage kMetric;
  return kMetric;
}

}  // namespace cupel
