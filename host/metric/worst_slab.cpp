// Coverage of conformal sets in the slab of feature space where it was found lowest.
#include <algorithm>
#include <utility>

#include "metric/exact.hpp"
#include "metric/list.hpp"
#include "metric/set_metric.hpp"

namespace cupel {
namespace {

/// Vectors that details list whole.
constexpr std::size_t kMostShownFeatures = 64;

class WorstSlabCoverage final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "worst_slab_coverage",
        .summary = "coverage in the slab of the features where it is lowest, judged on other rows",
        .formula =
            "the rows that are not for calibration are held out with probability held_out and "
            "searched otherwise, by their row id and --seed. Of all slabs {x: low <= v . x <= "
            "high} that hold a share of at least delta of the rows searched, v one of `directions` "
            "random unit vectors, the one whose rows' sets hold their label least often is found "
            "exactly; the value is the coverage of the rows held out that lie in it. Features are "
            "--embedding. Rows of equal v . x (double, one fma chain) are in a slab together; of "
            "slabs of equal coverage the first direction counts, then the smallest low, then the "
            "smallest high. 'coverage' tells what the other options mean. A group's slab is "
            "searched among its own rows. details: the slab, its coverage where it was found, and "
            "Clopper and Pearson's 95 % interval of the value",
        .edge_cases =
            "as coverage. No rows to search, or none held out in the slab: empty, and details say "
            "which; NaN or infinite features, or features beyond 1e150: an error (--nan drop "
            "leaves "
            "such rows out). The value is far above the coverage of the slab where it was found, "
            "which is low because it was chosen",
        .equals =
            "none: torchcp's WSC hands labels to the search where coverage belongs (1.2.1), its "
            "slabs hold round(delta n) + 1 rows or more, and its directions and split are numpy's; "
            "MAPIE's worst-slab coverage likewise draws others",
        .source = "Cauchois, Gupta, Duchi 2021; Romano, Sesia, Candes 2020",
        .example =
            "cupel eval data/digits_probs.npz --calibration 0.5 --metrics worst_slab_coverage "
            "--embedding probs",
        .direction = Direction::kHigher,
        .in_unit_interval = true,
        .takes_embedding = true,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = options_of()};
    return kInfo;
  }

  Result<Needs> needs(const Options& options, Task task, i64 classes, bool logits) const override {
    auto needs = SetMetric::needs(options, task, classes, logits);
    if (!needs) return needs.error();
    needs->conformal->slab = SlabQuery{options.fraction("delta"), options.integer("directions"),
                                       options.fraction("held_out"), 0};
    return needs;
  }

  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    Detail::Object params = set_params(options, evidence.conformal.seed);
    const bool there = std::any_of(params.begin(), params.end(),
                                   [](const auto& field) { return field.first == "seed"; });
    if (!there) params.emplace_back("seed", evidence.conformal.seed);
    return params;
  }

  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    MetricValue value = SetMetric::finish(evidence, options);
    if (!value.is_defined()) return value;
    CUPEL_ASSERT(evidence.conformal.slab != nullptr);
    const WorstSlab& slab = *evidence.conformal.slab;
    value.details.emplace_back("features", slab.width);
    value.details.emplace_back("searched", slab.searched);
    value.details.emplace_back("held_out", slab.held_out);
    if (slab.searched == 0) {
      value.undefined = Undefined::kEmpty;
      return value;
    }
    value.details.emplace_back("slab", describe_slab(slab));
    value.details.emplace_back("n", slab.outcome.rows);
    value.details.emplace_back("covered", slab.outcome.covered);
    if (slab.outcome.rows == 0) {
      value.undefined = Undefined::kEmpty;
      return value;
    }
    value.number = exact::ratio(slab.outcome.covered, slab.outcome.rows);
    value.details.emplace_back("interval", exact_interval(slab.outcome.covered, slab.outcome.rows));
    return value;
  }

 protected:
  void describe(const ConformalThreshold&, const SetSums&, const Options&,
                MetricValue&) const override {}

 private:
  static Detail describe_slab(const WorstSlab& slab) {
    Detail::Object found{{"direction", slab.direction},
                         {"low", slab.low},
                         {"high", slab.high},
                         {"n", slab.found.rows},
                         {"coverage", exact::ratio(slab.found.covered, slab.found.rows)}};
    if (slab.vector.size() <= kMostShownFeatures) {
      Detail::List vector;
      for (const double x : slab.vector) vector.emplace_back(x);
      found.emplace_back("vector", std::move(vector));
    }
    return found;
  }

  static std::vector<OptionSpec> options_of() {
    std::vector<OptionSpec> options = set_options();
    options.push_back({"delta",
                       OptionType::kNumber,
                       "0.1",
                       {},
                       0,
                       1,
                       "share of the rows searched that a slab holds at least",
                       true});
    options.push_back(
        {"directions", OptionType::kInteger, "1000", {}, 1, 1'000'000, "random unit vectors"});
    options.push_back({"held_out",
                       OptionType::kNumber,
                       "0.75",
                       {},
                       0,
                       1,
                       "share of the rows that the slab is judged on, not searched",
                       true});
    return options;
  }
};

}  // namespace

const Metric& worst_slab_coverage() {
  static const WorstSlabCoverage kMetric;
  return kMetric;
}

}  // namespace cupel
