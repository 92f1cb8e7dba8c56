// A policy of three answers - one label, a set of labels, none - whose two thresholds are chosen on
// the calibration rows alone, and what it costs on the others.
#include "cupel/metric/abstention.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "cupel/math/elementary.hpp"
#include "metric/exact.hpp"
#include "metric/list.hpp"
#include "metric/set_metric.hpp"

namespace cupel {
namespace {

/// Values of alpha, and of beta, that are tried at most.
constexpr u64 kMostLevels = 1000;
/// Sizes that the details list at most.
constexpr std::size_t kMostShownSizes = 200;

double share(u64 part, u64 whole) { return static_cast<double>(part) / static_cast<double>(whole); }

/// A share, or nothing where there is nothing to share.
Detail share_or_null(u64 part, u64 whole) {
  return whole == 0 ? Detail() : Detail(exact::ratio(part, whole));
}

/// The parts of a cost, each as it enters the sum.
struct CostTerms {
  double error = 0;
  double size = 0;
  double abstention = 0;
  double answers = 0;
  double entropy = 0;
  double single = 0;

  double sum() const { return error + size + abstention + answers + entropy + single; }
};

CostTerms cost_terms(const AbstentionCounts& counts, const AbstentionCosts& costs) {
  const u64 rows = counts.rows();
  const u64 answered = counts.answered();
  const u64 held = counts.singles_right + counts.sets_covered;
  const double singles = share(counts.singles, rows);
  CostTerms terms;
  terms.error = answered == 0 ? 1 : share(answered - held, answered);
  terms.size = counts.sets == 0 ? 0 : costs.size * share(counts.set_labels, counts.sets);
  terms.abstention = costs.abstention * share(counts.abstained, rows);
  terms.answers = -costs.answers * share(answered, rows);
  terms.entropy = -costs.entropy * entropy_of_decisions(counts);
  terms.single = singles > costs.single_from ? costs.single * (singles - costs.single_from) : 0;
  return terms;
}

// ---- options ------------------------------------------------------------------------------------

OptionSpec level_option(std::string_view name, std::string_view usual, std::string_view summary) {
  return {name, OptionType::kNumber, usual, {}, 0, 1, summary, true};
}
OptionSpec weight_option(std::string_view name, std::string_view usual, std::string_view summary) {
  return {name, OptionType::kNumber, usual, {}, 0, 1000, summary};
}

std::vector<OptionSpec> policy_options() {
  return {level_option("alpha_from", "0.75", "smallest alpha tried, an exact decimal"),
          level_option("alpha_to", "0.9", "no alpha above it"),
          level_option("alpha_step", "0.01", "from one alpha to the next"),
          level_option("beta_from", "0.01", "smallest beta tried, an exact decimal"),
          level_option("beta_to", "0.05", "no beta above it"),
          level_option("beta_step", "0.005", "from one beta to the next"),
          {"tune",
           OptionType::kChoice,
           "same",
           {"same", "split"},
           0,
           0,
           "policies are chosen on the calibration rows whose scores are the quantiles, or on one "
           "half of them, with the quantiles of the other"},
          {"quantile", OptionType::kChoice, "exact", names_of(kQuantiles), 0, 0,
           "which calibration score is the quantile, as of coverage"},
          weight_option("size_weight", "0.3", "cost of the mean set size"),
          weight_option("abstain_weight", "0.3", "cost of the share of abstentions"),
          weight_option("answer_weight", "0.4", "gain of the share of answered rows"),
          weight_option("entropy_weight", "0.2", "gain of the entropy of the three shares"),
          weight_option("single_weight", "0.5", "cost of single answers beyond single_from"),
          {"single_from",
           OptionType::kNumber,
           "0.8",
           {},
           0,
           1,
           "share of single answers without a cost"}};
}

/// from, from + step, ... up to `to`, as exact decimals.
Result<std::vector<Fraction>> levels_of(const Options& options, std::string_view name) {
  const auto option = [&](std::string_view part) {
    return options.fraction(fmt::format("{}_{}", name, part));
  };
  const Fraction from = option("from");
  const Fraction to = option("to");
  const Fraction step = option("step");
  // Denominators are powers of ten up to 10^18, so that all of them divide the largest.
  const u64 den = std::max({from.den, to.den, step.den});
  const auto scaled = [den](const Fraction& f) { return f.num * (den / f.den); };
  if (scaled(from) > scaled(to)) {
    return usage_error(fmt::format("{0}_from of 'abstention_policy' is above {0}_to", name),
                       "give the smaller one first, or both the same");
  }
  const u64 more = (scaled(to) - scaled(from)) / scaled(step);
  if (more >= kMostLevels) {
    return usage_error(fmt::format("{}_step of 'abstention_policy' is too small", name),
                       fmt::format("at most {} values are tried", kMostLevels));
  }
  std::vector<Fraction> levels;
  for (u64 i = 0; i <= more; ++i) levels.push_back({scaled(from) + i * scaled(step), den});
  return levels;
}

AbstentionCosts costs_of(const Options& options) {
  return {options.number("size_weight"),   options.number("abstain_weight"),
          options.number("answer_weight"), options.number("entropy_weight"),
          options.number("single_weight"), options.number("single_from")};
}

// ---- what a value comes with
// ----------------------------------------------------------------------

Detail threshold_of(const ConformalThreshold& threshold) {
  if (threshold.rank == 0) return std::numeric_limits<double>::infinity();
  return static_cast<double>(threshold.score) * 0x1p-48;
}

Detail::Object describe_choice(const AbstentionChoice& choice, const AbstentionCosts& costs) {
  const auto rank = [](const ConformalThreshold& threshold) {
    return threshold.rank == 0 ? Detail() : Detail(threshold.rank);
  };
  return {{"alpha", exact::ratio(choice.alpha.num, choice.alpha.den)},
          {"beta", exact::ratio(choice.beta.num, choice.beta.den)},
          {"q_predict", threshold_of(choice.predict)},
          {"q_abstain", threshold_of(choice.abstain)},
          {"rank_predict", rank(choice.predict)},
          {"rank_abstain", rank(choice.abstain)},
          {"n_calibration", choice.calibration_rows},
          {"n_tuning", choice.tuning_rows},
          {"cost_when_chosen", abstention_cost(choice.tuned, costs)}};
}

Detail::List describe_sizes(const std::vector<u64>& sizes) {
  Detail::List list;
  for (std::size_t size = 0; size < sizes.size() && list.size() < kMostShownSizes; ++size) {
    if (sizes[size] == 0) continue;
    list.emplace_back(Detail::Object{{"size", static_cast<i64>(size)}, {"n", sizes[size]}});
  }
  return list;
}

void describe_answers(const AbstentionSums& sums, i64 classes, Detail::Object& details) {
  const AbstentionCounts& counts = sums.counts;
  const u64 rows = counts.rows();
  const u64 answered = counts.answered();
  const u64 held = counts.singles_right + counts.sets_covered;
  const u64 shown = counts.singles + counts.set_labels;
  const u64 right = counts.singles_right + sums.sets_right;
  details.emplace_back(
      "single", Detail::Object{{"n", counts.singles},
                               {"share", share(counts.singles, rows)},
                               {"accuracy", share_or_null(counts.singles_right, counts.singles)}});
  details.emplace_back("set",
                       Detail::Object{{"n", counts.sets},
                                      {"share", share(counts.sets, rows)},
                                      {"coverage", share_or_null(counts.sets_covered, counts.sets)},
                                      {"mean_size", share_or_null(counts.set_labels, counts.sets)},
                                      {"accuracy", share_or_null(sums.sets_right, counts.sets)},
                                      {"sizes", describe_sizes(sums.sizes)}});
  details.emplace_back(
      "abstain",
      Detail::Object{{"n", counts.abstained},
                     {"share", share(counts.abstained, rows)},
                     {"accuracy", share_or_null(sums.abstained_right, counts.abstained)}});
  details.emplace_back("coverage_of_answers", share_or_null(held, answered));
  details.emplace_back("coverage_of_all", exact::ratio(held, rows));
  details.emplace_back("mean_size_of_answers", share_or_null(shown, answered));
  details.emplace_back("selective_accuracy", share_or_null(right, answered));
  // Accuracy * sqrt(classes) / size, both of the answered rows.
  details.emplace_back(
      "uncertainty_aware_accuracy",
      answered == 0 ? Detail()
                    : Detail(exact::ratio(right, shown) * std::sqrt(static_cast<double>(classes))));
  details.emplace_back("entropy", entropy_of_decisions(counts));
}

class AbstentionPolicy final : public Metric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "abstention_policy",
        .summary = "cost of answering with one label, with a conformal set, or not at all",
        .formula =
            "with s = 1 - p of a label, in integers of 2^-48, and s_min that of the most probable "
            "one, a row gets this label alone where s_min <= q_predict, else no answer where s_min "
            "> q_abstain, else the set of labels with s <= q_abstain, which holds the most "
            "probable "
            "one. q_predict and q_abstain are the calibration quantiles of alpha and of beta (rank "
            "ceil((n + 1)(1 - level)), exact). (alpha, beta) is the pair of the grid with the "
            "least "
            "cost on calibration rows; of equal costs the smallest alpha, then the smallest beta. "
            "The value is the cost of the other rows: error + size_weight * mean size of the sets "
            "+ "
            "abstain_weight * a - answer_weight * (1 - a) - entropy_weight * H + single_weight * "
            "max(0, single answers - single_from), with a the share of abstentions, H the entropy "
            "of the three shares in nats, and error the share of the answers that do not hold the "
            "label. tune=split draws half of the calibration rows, by id as --calibration does, "
            "chooses on them with their own quantiles, and takes the thresholds from the other "
            "half. details: the choice, each kind of answer, what answers hold with abstentions "
            "left out (coverage_of_answers) and counted as not held (coverage_of_all), "
            "selective_accuracy of the most probable label on answered rows, and "
            "uncertainty_aware_accuracy = this * sqrt(classes) / mean size of answers. Nothing is "
            "sampled",
        .edge_cases =
            "an abstention is never right and has no size; no answer at all: the error is 1; no "
            "sets: their size counts 0; a level with ceil((n + 1)(1 - level)) > n has the "
            "threshold "
            "inf; no calibration rows, or with tune=split a half without any: too_few_calibration; "
            "no other rows: empty; probabilities outside [0, 1] or rows that do not sum to 1: "
            "not_probability; weighted rows: not_defined. Rows without an answer have an empty set "
            "at beta, so that their share is at most beta in expectation",
        .equals =
            "none: vlm-uncertainty samples decisions, scores abstentions as right and tunes "
            "on the rows it reports",
        .source = "Tayebati et al. 2025, Learning conformal abstention policies (the cost)",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics "
            "'abstention_policy,abstention_policy(tune=split)'",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = policy_options()};
    return kInfo;
  }
  MetricScope scope() const override { return MetricScope::kConformal; }
  Result<Needs> needs(const Options& options, Task, i64, bool) const override {
    AbstentionQuery query;
    auto alphas = levels_of(options, "alpha");
    if (!alphas) return alphas.error();
    auto betas = levels_of(options, "beta");
    if (!betas) return betas.error();
    query.alphas = std::move(*alphas);
    query.betas = std::move(*betas);
    query.quantile = value_named(kQuantiles, options.text("quantile"));
    query.costs = costs_of(options);
    query.tune_apart = options.text("tune") == "split";
    Needs needs;
    needs.abstention = std::move(query);
    return needs;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const AbstentionEvidence& given = evidence.abstention;
    if (given.choice == nullptr) return MetricValue::none(Undefined::kTooFewCalibration);
    if (evidence.outside_unit) return MetricValue::none(Undefined::kNotProbability);
    if (given.weighted) return MetricValue::none(Undefined::kNotDefined);
    MetricValue value;
    const AbstentionChoice& choice = *given.choice;
    if (choice.tuning_rows == 0 || choice.calibration_rows == 0) {
      value.undefined = Undefined::kTooFewCalibration;
      value.details = {{"n_calibration", choice.calibration_rows},
                       {"n_tuning", choice.tuning_rows}};
      return value;
    }
    const AbstentionCosts costs = costs_of(options);
    value.details = describe_choice(choice, costs);
    const AbstentionCounts& counts = given.sums->counts;
    if (counts.rows() == 0) {
      value.undefined = Undefined::kEmpty;
      return value;
    }
    const CostTerms terms = cost_terms(counts, costs);
    value.number = terms.sum();
    value.details.emplace_back("terms", Detail::Object{{"error", terms.error},
                                                       {"size", terms.size},
                                                       {"abstention", terms.abstention},
                                                       {"answers", terms.answers},
                                                       {"entropy", terms.entropy},
                                                       {"single", terms.single}});
    describe_answers(*given.sums, evidence.task == Task::kBinary ? 2 : evidence.classes,
                     value.details);
    return value;
  }
};

}  // namespace

double entropy_of_decisions(const AbstentionCounts& counts) {
  double entropy = 0;
  for (const u64 kind : {counts.singles, counts.sets, counts.abstained}) {
    if (kind == 0) continue;
    const double part = share(kind, counts.rows());
    entropy -= part * log_det(part);
  }
  return entropy;
}

double abstention_cost(const AbstentionCounts& counts, const AbstentionCosts& costs) {
  return cost_terms(counts, costs).sum();
}

const Metric& abstention_policy() {
  static const AbstentionPolicy kMetric;
  return kMetric;
}

}  // namespace cupel
