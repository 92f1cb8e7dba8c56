// Maps that make scores into better probabilities, fitted on the calibration rows and judged on the
// others: temperature, Platt's scaling, isotonic regression.
#include <optional>
#include <utility>

#include "cupel/math/row_terms.hpp"
#include "cupel/math/tempering.hpp"
#include "metric/binary_fits.hpp"
#include "metric/held_out.hpp"
#include "metric/list.hpp"
#include "metric/rows.hpp"
#include "metric/score_walk.hpp"

namespace cupel {
namespace {

/// Blocks that the details list at most.
constexpr std::size_t kMostShownBlocks = 200;
constexpr std::string_view kConverged = "converged";
constexpr std::string_view kRanAway = "ran_away";

const std::vector<Task> kBinaryTasks{Task::kBinary, Task::kMultilabel};
const std::vector<Task> kEveryTask{Task::kBinary, Task::kMulticlass, Task::kMultilabel};

Detail shown(const std::optional<double>& value) { return value ? Detail(*value) : Detail(); }

/// {before, after} of one score; null where it has no value.
Detail::Object change(const std::optional<double>& before, const std::optional<double>& after) {
  return {{"before", shown(before)}, {"after", shown(after)}};
}

using Half = std::optional<HeldOut>;

/// What the details say of the rows that were fitted on, and of the others.
Detail::Object describe_calibration(u64 rows, const Half& before, const Half& after) {
  return {{"n", rows},
          {"log_loss", change(before ? before->log_loss() : std::nullopt,
                              after ? after->log_loss() : std::nullopt)}};
}
Detail::Object describe_others(u64 rows, const Half& before, const Half& after) {
  Detail::Object described = describe_calibration(rows, before, after);
  described.emplace_back("brier", change(before ? before->brier() : std::nullopt,
                                         after ? after->brier() : std::nullopt));
  described.emplace_back(
      "ece", change(before ? before->ece() : std::nullopt, after ? after->ece() : std::nullopt));
  return described;
}

u64 rows_of(const RankTable& table) { return table.pos_rows() + table.neg_rows(); }

/// Sums over a table's scores of what add(sums, score, positive, negative) says of each.
template <class Add>
HeldOut held_out(const RankTable& table, const Add& add) {
  HeldOut sums;
  for_each_score(table, [&](double score, u128 positive, u128 negative) {
    add(sums, score, positive, negative);
  });
  return sums;
}

/// The scores as they came; nothing where they are no probabilities.
Half before_fit(const RankTable& table, const Evidence& evidence) {
  if (evidence.outside_unit) return std::nullopt;
  return held_out(table, [&](HeldOut& sums, double score, u128 positive, u128 negative) {
    if (evidence.logits) {
      sums.add_logit(score, positive, negative);
    } else {
      sums.add_probability(score, evidence.probability_epsilon, positive, negative);
    }
  });
}

struct MassesOfClasses {
  u128 positive = 0;
  u128 negative = 0;
};
MassesOfClasses masses_of(const RankTable& table) {
  MassesOfClasses masses;
  for_each_score(table, [&](double, u128 positive, u128 negative) {
    masses.positive += positive;
    masses.negative += negative;
  });
  return masses;
}

/// Why nothing can be fitted on these rows, or kNone.
Undefined missing_calibration(u64 rows, bool has_mass) {
  if (rows == 0) return Undefined::kTooFewCalibration;
  return has_mass ? Undefined::kNone : Undefined::kZeroWeight;
}

Detail::Object not_fitted(std::string_view why) {
  return {{"status", "not_fitted"}, {"why", std::string(why)}};
}

std::string_view explain(Undefined why) {
  switch (why) {
    case Undefined::kTooFewCalibration:
      return "no calibration row is here";
    case Undefined::kZeroWeight:
      return "all calibration rows weigh nothing";
    case Undefined::kNoPositive:
      return "no calibration row is positive";
    case Undefined::kNoNegative:
      return "no calibration row is negative";
    case Undefined::kNotProbability:
      return "scores outside [0, 1] are no probabilities; say --logits if they are logits";
    default:
      return "";
  }
}

/// What fitted metrics of a binary problem share.
class FittedMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kFitted; }

 protected:
  /// A value that was not fitted, with the reason and the rows of both halves.
  static MetricValue without_fit(Undefined why, Detail::Object fit, Detail::Object calibration,
                                 Detail::Object others) {
    MetricValue value = MetricValue::none(why);
    value.details = {{"fit", std::move(fit)},
                     {"calibration", std::move(calibration)},
                     {"others", std::move(others)}};
    return value;
  }
};

// ---- temperature -------------------------------------------------------------------------------

/// Why a fit has no temperature, or kNone; the details say how it went.
Undefined describe_temperature(const TemperatureFit& fit, Detail::Object& described) {
  const auto say = [&](std::string_view status, std::string_view towards, std::string_view why) {
    described = {{"status", std::string(status)}, {"steps", fit.steps}};
    if (!towards.empty()) described.emplace_back("towards", std::string(towards));
    if (!why.empty()) described.emplace_back("why", std::string(why));
  };
  switch (fit.status) {
    case FitStatus::kConverged:
      say(kConverged, "", "");
      return Undefined::kNone;
    case FitStatus::kTowardsZero:
      say(kRanAway, "0",
          "the log loss of the calibration rows falls down to the least temperature: almost all of "
          "them are right by a margin");
      return Undefined::kRanAway;
    case FitStatus::kTowardsInfinity:
      say(kRanAway, "inf",
          "the log loss of the calibration rows falls up to the greatest temperature: their logits "
          "are no better than none");
      return Undefined::kRanAway;
    case FitStatus::kFlat:
      say("flat", "",
          "the log loss of the calibration rows does not depend on the temperature: the logits of "
          "each row are all but equal");
      return Undefined::kNotDefined;
    case FitStatus::kOverflow:
      say("overflow", "", "the loss of a calibration row is 2^52 or more");
      return Undefined::kOverflow;
    case FitStatus::kUnsettled:
      say("not_converged", "", "the steps did not settle");
      return Undefined::kNotConverged;
  }
  return Undefined::kNotConverged;
}

class Temperature final : public FittedMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "temperature",
        .summary = "temperature of least log loss on the calibration rows",
        .formula =
            "T that minimises the mean of -ln softmax(logits / T)[label] (binary and multilabel: "
            "-ln of the logistic function of the logit / T) over the calibration rows, by Newton's "
            "method on 1/T, in which the mean is convex, between 0.05 and 20. details: how the fit "
            "ended, and log loss, Brier score and ece (15 bins of equal width) of the other rows "
            "at T = 1 (before) and at T (after)",
        .edge_cases =
            "no calibration rows: too_few_calibration; the mean still falls at a bound: ran_away, "
            "details.fit says towards 0 (almost all rows right by a margin) or towards inf (logits "
            "no better than none); all logits of each row equal: not_defined; a loss of 2^52 or "
            "more: overflow; no other rows: T has a value, their scores have none. Of "
            "probabilities: an error",
        .equals =
            "scipy.optimize.minimize_scalar over T of the log loss; netcal's "
            "TemperatureScaling without its regularisation",
        .source = "Guo et al. 2017",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --seed 1 --metrics "
            "temperature",
        .direction = Direction::kNone,
        .in_unit_interval = false,
        .tasks = kEveryTask,
        .options = {}};
    return kInfo;
  }
  Result<Needs> needs(const Options&, Task task, i64, bool logits) const override {
    if (!logits) {
      return usage_error("'temperature' divides logits, and these scores are probabilities",
                         "name a column of logits with --logits");
    }
    Needs needs;
    if (task == Task::kMulticlass) {
      needs.rows.log_loss = true;
      needs.rows.brier = true;
      needs.rows.bins = {bin_query()};
    }
    return needs;
  }
  Detail::Object params(const Options& options, const Evidence&) const override {
    Detail::Object params = options.params();
    params.emplace_back("least", kLeastTemperature);
    params.emplace_back("most", kMostTemperature);
    return params;
  }
  MetricValue finish(const Evidence& evidence, const Options&) const override {
    const FitEvidence& given = evidence.fit;
    if (given.temperature != nullptr) return of_classes(evidence);
    if (given.calibration == nullptr) return MetricValue::none(Undefined::kTooFewCalibration);
    const RankTable& calibration = *given.calibration;
    const RankTable& others = *given.others;
    const MassesOfClasses mass = masses_of(calibration);
    const Half calibration_before = before_fit(calibration, evidence);
    const Half others_before = before_fit(others, evidence);
    const Undefined missing =
        missing_calibration(rows_of(calibration), mass.positive + mass.negative != 0);
    TemperatureFit fit;
    if (missing == Undefined::kNone) fit = fit_temperature(calibration);
    const auto after = [&](const RankTable& table) -> Half {
      if (missing != Undefined::kNone || fit.status != FitStatus::kConverged) return std::nullopt;
      return held_out(table, [&](HeldOut& sums, double score, u128 positive, u128 negative) {
        sums.add_logit(tempered_logit(score, fit.factor), positive, negative);
      });
    };
    return value_of(
        missing, fit,
        describe_calibration(rows_of(calibration), calibration_before, after(calibration)),
        describe_others(rows_of(others), others_before, after(others)));
  }

 private:
  static BinQuery bin_query() { return {BinPoints::kTop, kHeldOutBins, false}; }

  static MetricValue value_of(Undefined missing, const TemperatureFit& fit,
                              Detail::Object calibration, Detail::Object others) {
    if (missing != Undefined::kNone) {
      return without_fit(missing, not_fitted(explain(missing)), std::move(calibration),
                         std::move(others));
    }
    Detail::Object described;
    const Undefined why = describe_temperature(fit, described);
    MetricValue value =
        without_fit(why, std::move(described), std::move(calibration), std::move(others));
    if (why == Undefined::kNone) value.number = 1 / fit.factor;
    return value;
  }

  static MetricValue of_classes(const Evidence& evidence) {
    const FitEvidence& given = evidence.fit;
    const RowSums& calibration = *given.calibration_before;
    const RowSums& others = *given.others_before;
    const auto before = [&](const RowSums& sums) -> Half {
      if (sums.bins.empty()) return std::nullopt;  // a scope without rows
      return HeldOut(sums, bins_of_query(sums, *evidence.row_spec, bin_query()));
    };
    const auto after = [](const RowSums* sums) -> Half {
      if (sums == nullptr || sums->bins.empty()) return std::nullopt;
      return HeldOut(*sums, sums->bins.front());
    };
    const Undefined missing = missing_calibration(calibration.rows, total_mass(calibration) != 0);
    return value_of(
        missing, *given.temperature,
        describe_calibration(calibration.rows, before(calibration), after(given.calibration_after)),
        describe_others(others.rows, before(others), after(given.others_after)));
  }
};

// ---- maps of a binary score --------------------------------------------------------------------

OptionSpec value_option() {
  return {"value",
          OptionType::kChoice,
          "ece",
          {"ece", "log_loss", "brier"},
          0,
          0,
          "which score of the other rows, after the fit, is the value"};
}

/// A map whose value is a score of the other rows after it.
class JudgedMetric : public FittedMetric {
 public:
  Result<Needs> needs(const Options&, Task, i64, bool) const override { return Needs{}; }

 protected:
  /// The value, once the map is fitted.
  static MetricValue judged(const Options& options, const Half& after, u64 rows, Detail::Object fit,
                            Detail::Object calibration, Detail::Object others) {
    MetricValue value =
        without_fit(Undefined::kNone, std::move(fit), std::move(calibration), std::move(others));
    const std::string_view which = options.text("value");
    const auto number = which == "ece"        ? after->ece()
                        : which == "log_loss" ? after->log_loss()
                                              : after->brier();
    if (number) {
      value.number = *number;
    } else {
      value.undefined = rows == 0            ? Undefined::kEmpty
                        : after->mass() == 0 ? Undefined::kZeroWeight
                                             : Undefined::kOverflow;
    }
    return value;
  }
};

class Platt final : public JudgedMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "platt",
        .summary = "calibration error of the other rows after Platt's scaling",
        .formula =
            "p = logistic(slope * x + intercept) with the least log loss over the calibration "
            "rows, "
            "without penalty, x the logit as it is, or ln(p / (1 - p)) of a probability clipped to "
            "[1e-12, 1 - 1e-12]. The value is the ece (15 bins of equal width), log loss or Brier "
            "score of the other rows after it; details: slope, intercept, and all three before and "
            "after. targets=smoothed: (P + 1) / (P + 2) for positives and 1 / (N + 2) for "
            "negatives, P and N their masses",
        .edge_cases =
            "no calibration rows: too_few_calibration; none positive or negative: no_positive, "
            "no_negative; classes that do not overlap: ran_away, details.fit says towards inf or "
            "-inf (not with targets=smoothed); all scores one: not_defined; no other rows: empty; "
            "probabilities outside [0, 1]: not_probability, for every group of the dump",
        .equals =
            "sklearn.linear_model.LogisticRegression(penalty=None) on the logits; the "
            "calibrator of uncertainty-calibration",
        .source = "Platt 1999",
        .example = "cupel eval data/diabetes.csv.gz --calibration 0.5 --seed 1 --metrics platt",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .judged_on_others = true,
        .tasks = kBinaryTasks,
        .options = {value_option(),
                    {"targets",
                     OptionType::kChoice,
                     "labels",
                     {"labels", "smoothed"},
                     0,
                     0,
                     "what is fitted to: 0 and 1, or Platt's values near them"}}};
    return kInfo;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    if (evidence.fit.calibration == nullptr) {
      return MetricValue::none(Undefined::kTooFewCalibration);
    }
    const RankTable& calibration = *evidence.fit.calibration;
    const RankTable& others = *evidence.fit.others;
    const MassesOfClasses mass = masses_of(calibration);
    Undefined why = missing_calibration(rows_of(calibration), mass.positive + mass.negative != 0);
    if (why == Undefined::kNone && evidence.outside_unit) why = Undefined::kNotProbability;
    if (why == Undefined::kNone && mass.positive == 0) why = Undefined::kNoPositive;
    if (why == Undefined::kNone && mass.negative == 0) why = Undefined::kNoNegative;
    PlattFit fit;
    Detail::Object described = not_fitted(explain(why));
    if (why == Undefined::kNone) {
      fit = fit_platt(calibration, evidence.logits, options.text("targets") == "smoothed");
      why = describe(fit, described);
    }
    const bool fitted = why == Undefined::kNone;
    const auto after = [&](const RankTable& table) -> Half {
      if (!fitted) return std::nullopt;
      return held_out(table, [&](HeldOut& sums, double score, u128 positive, u128 negative) {
        const double x = platt_feature(score, evidence.logits);
        sums.add_logit(line(fit, x), positive, negative);
      });
    };
    const Half others_after = after(others);
    auto of_calibration = describe_calibration(
        rows_of(calibration), before_fit(calibration, evidence), after(calibration));
    auto of_others = describe_others(rows_of(others), before_fit(others, evidence), others_after);
    if (!fitted) {
      return without_fit(why, std::move(described), std::move(of_calibration),
                         std::move(of_others));
    }
    return judged(options, others_after, rows_of(others), std::move(described),
                  std::move(of_calibration), std::move(of_others));
  }

 private:
  static double line(const PlattFit& fit, double x) {
    // A slope of 0 and no more than the largest double: no NaN comes out of it.
    return fit.slope == 0 ? fit.intercept : tempered_logit(x, fit.slope) + fit.intercept;
  }

  static Undefined describe(const PlattFit& fit, Detail::Object& described) {
    const auto say = [&](std::string_view status, std::string_view towards, std::string_view why) {
      described = {{"status", std::string(status)}};
      if (!towards.empty()) described.emplace_back("towards", std::string(towards));
      described.emplace_back("why", std::string(why));
    };
    switch (fit.status) {
      case PlattStatus::kConverged:
        described = {{"status", std::string(kConverged)},
                     {"steps", fit.steps},
                     {"slope", fit.slope},
                     {"intercept", fit.intercept}};
        return Undefined::kNone;
      case PlattStatus::kRises:
        say(kRanAway, "inf",
            "no negative calibration row is above a positive one: the steeper the slope, the "
            "smaller the log loss; targets=smoothed has an end");
        return Undefined::kRanAway;
      case PlattStatus::kFalls:
        say(kRanAway, "-inf",
            "no positive calibration row is above a negative one: the steeper the falling slope, "
            "the smaller the log loss");
        return Undefined::kRanAway;
      case PlattStatus::kFlat:
        say("flat", "", "all scores of the calibration rows are one: they fit any slope");
        return Undefined::kNotDefined;
      case PlattStatus::kUnsettled:
        say("not_converged", "", "the steps did not settle, or the slope is beyond any double");
        return Undefined::kNotConverged;
    }
    return Undefined::kNotConverged;
  }
};

class Isotonic final : public JudgedMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "isotonic",
        .summary = "calibration error of the other rows after isotonic regression",
        .formula =
            "the rising map from scores to probabilities of least squared error over the "
            "calibration rows, by pool-adjacent-violators on exact fractions; rows of one score "
            "are one point. Between two blocks it is the line from the last score of the one to "
            "the first of the other (interpolation=step: the lower block's value), beyond the ends "
            "the end's. The value is the ece (15 bins of equal width), log loss or Brier score of "
            "the other rows after it; details: the blocks (up to 200), and all three before and "
            "after",
        .edge_cases =
            "no calibration rows: too_few_calibration; no other rows: empty; scores may be any "
            "numbers, outside [0, 1] the scores before are null. After it the log loss clips "
            "probabilities to [2^-52, 1 - 2^-52]: a block of one class alone may cost much",
        .equals = "sklearn.isotonic.IsotonicRegression(out_of_bounds='clip')",
        .source = "Zadrozny and Elkan 2002",
        .example = "cupel eval data/diabetes.csv.gz --calibration 0.5 --seed 1 --metrics isotonic",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .judged_on_others = true,
        .tasks = kBinaryTasks,
        .options = {value_option(),
                    {"interpolation",
                     OptionType::kChoice,
                     "linear",
                     {"linear", "step"},
                     0,
                     0,
                     "between two blocks: a line, or the lower one's value"}}};
    return kInfo;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    if (evidence.fit.calibration == nullptr) {
      return MetricValue::none(Undefined::kTooFewCalibration);
    }
    const RankTable& calibration = *evidence.fit.calibration;
    const RankTable& others = *evidence.fit.others;
    const MassesOfClasses mass = masses_of(calibration);
    const Undefined why =
        missing_calibration(rows_of(calibration), mass.positive + mass.negative != 0);
    const bool fitted = why == Undefined::kNone;
    const bool linear = options.text("interpolation") == "linear";
    const std::vector<IsotonicBlock> blocks =
        fitted ? fit_isotonic(calibration) : std::vector<IsotonicBlock>{};
    const auto after = [&](const RankTable& table) -> Half {
      if (!fitted) return std::nullopt;
      return held_out(table, [&](HeldOut& sums, double score, u128 positive, u128 negative) {
        sums.add_probability(isotonic_at(blocks, score, linear), kEpsilonF64, positive, negative);
      });
    };
    const Half others_after = after(others);
    auto of_calibration = describe_calibration(
        rows_of(calibration), before_fit(calibration, evidence), after(calibration));
    auto of_others = describe_others(rows_of(others), before_fit(others, evidence), others_after);
    if (!fitted) {
      return without_fit(why, not_fitted(explain(why)), std::move(of_calibration),
                         std::move(of_others));
    }
    return judged(options, others_after, rows_of(others), describe(blocks),
                  std::move(of_calibration), std::move(of_others));
  }

 private:
  static Detail::Object describe(const std::vector<IsotonicBlock>& blocks) {
    Detail::Object described{{"status", std::string(kConverged)}, {"blocks", blocks.size()}};
    if (blocks.size() > kMostShownBlocks) return described;
    Detail::List steps;
    for (const IsotonicBlock& block : blocks) {
      steps.emplace_back(
          Detail::Object{{"from", block.low}, {"to", block.high}, {"value", block.value}});
    }
    described.emplace_back("steps", std::move(steps));
    return described;
  }
};

}  // namespace

const Metric& temperature() {
  static const Temperature kMetric;
  return kMetric;
}
const Metric& platt() {
  static const Platt kMetric;
  return kMetric;
}
const Metric& isotonic() {
  static const Isotonic kMetric;
  return kMetric;
}

}  // namespace cupel
