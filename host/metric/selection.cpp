// Conformal selection: which test rows are said to have y > c, with a bound on the expected share
// of those that have not.
#include <fmt/format.h>

#include <algorithm>

#include "metric/exact.hpp"
#include "metric/list.hpp"

namespace cupel {
namespace {

/// SelectionQuery::model where several models need a choice.
constexpr i64 kNoModel = -1;

std::vector<OptionSpec> selection_options() {
  return {{"q",
           OptionType::kNumber,
           "0.1",
           {},
           0,
           1,
           "bound on the false discovery rate, an exact decimal",
           true},
          {"method",
           OptionType::kChoice,
           "bh",
           {"bh", "optcs"},
           0,
           0,
           "Benjamini and Hochberg with one model, or the best model of each row"},
          {"score",
           OptionType::kChoice,
           "clip",
           {"clip", "residual"},
           0,
           0,
           "what calibration rows are compared by: predictions of null rows, or residuals"},
          {"ties",
           OptionType::kChoice,
           "count",
           {"count", "strict", "random"},
           0,
           0,
           "equal scores count; or do not, as in published code; or by u of the row (--seed)"},
          {"c",
           OptionType::kNumber,
           "",
           {},
           -1e308,
           1e308,
           "regression: the level that y has to exceed, where there is no such column"},
          {"model",
           OptionType::kInteger,
           "",
           {},
           0,
           65534,
           "bh: which column of several predictions (0)"},
          {"equal_models",
           OptionType::kChoice,
           "first",
           {"first", "random"},
           0,
           0,
           "optcs: which of models that are as good"},
          {"pruning",
           OptionType::kChoice,
           "dtm",
           {"dtm", "hete", "homo"},
           0,
           0,
           "optcs: e-values as they are, or divided by u of the row, or by one u of all"}};
}

Result<SelectionQuery> query_of(std::string_view metric, const Options& options, Task task,
                                i64 models) {
  SelectionQuery query;
  query.q = options.fraction("q");
  query.optimized = options.text("method") == "optcs";
  query.score = options.text("score") == "clip" ? SelectionScore::kClip : SelectionScore::kResidual;
  const std::string_view ties = options.text("ties");
  query.ties = ties == "count"    ? TieRule::kCount
               : ties == "strict" ? TieRule::kStrict
                                  : TieRule::kRandom;
  const std::string_view pruning = options.text("pruning");
  query.pruning = pruning == "dtm"    ? Pruning::kNone
                  : pruning == "hete" ? Pruning::kHeterogeneous
                                      : Pruning::kHomogeneous;
  query.draw_model = options.text("equal_models") == "random";
  if (options.has("c")) query.level = options.number("c");
  if (options.has("model")) query.model = options.integer("model");
  const auto refuse = [&](std::string_view option, std::string why, std::string next) {
    return usage_error(fmt::format("option '{}' of '{}' {}", option, metric, why), std::move(next));
  };
  if (task == Task::kBinary) {
    if (options.has("c")) {
      return refuse("c", "is for a regression task", "null rows of a binary task have label 0");
    }
    if (query.score == SelectionScore::kResidual) {
      return refuse("score", "is residual, which a binary task has not", "leave it out");
    }
  }
  if (query.optimized) {
    if (options.has("model")) return refuse("model", "is for method=bh", "leave it out");
  } else {
    for (const std::string_view name : {"equal_models", "pruning"}) {
      if (options.given(name)) return refuse(name, "is for method=optcs", "add method=optcs");
    }
    const i64 columns = task == Task::kBinary ? 1 : models;
    if (query.model >= columns) {
      return refuse(
          "model",
          fmt::format("is {}, and there are {} columns of predictions", query.model, columns),
          "columns count from 0");
    }
    // Which of them is asked for where it is known that there are rows.
    if (columns > 1 && !options.has("model")) query.model = kNoModel;
  }
  return query;
}

void describe_outcome(const SelectionOutcome& outcome, const SelectionTally& tally,
                      Detail::Object& details) {
  details = {{"selected", tally.selected},
             {"false_selected", tally.selected_nulls},
             {"true_rows", tally.rows - tally.nulls},
             {"test_rows", outcome.test_rows},
             {"n_calibration", outcome.calibration_rows},
             {"calibration_nulls", outcome.calibration_nulls},
             {"largest_p", outcome.largest_p ? Detail(*outcome.largest_p) : Detail()}};
  if (!outcome.models.empty()) {
    Detail::List models;
    for (std::size_t t = 0; t < outcome.models.size(); ++t) {
      models.emplace_back(Detail::Object{{"model", static_cast<i64>(t)},
                                         {"rows", outcome.models[t].first},
                                         {"selected", outcome.models[t].second}});
    }
    details.emplace_back("models", std::move(models));
  } else {
    details.emplace_back("smallest_prediction", outcome.smallest_prediction
                                                    ? Detail(*outcome.smallest_prediction)
                                                    : Detail());
  }
}

class SelectionMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kSelection; }
  Result<Needs> needs(const Options& options, Task task, i64 classes, bool) const override {
    auto query = query_of(info().name, options, task, classes);
    if (!query) return query.error();
    Needs needs;
    needs.selection = *query;
    return needs;
  }
  Detail::Object params(const Options& options, const Evidence& evidence) const override {
    Detail::Object params = options.params();
    const bool optimized = options.text("method") == "optcs";
    std::erase_if(params, [&](const auto& field) {
      return !optimized && (field.first == "equal_models" || field.first == "pruning");
    });
    if (!optimized && !options.has("model") && evidence.task == Task::kRegression) {
      params.emplace_back("model", i64{0});
    }
    if (options.text("ties") == "random" ||
        (optimized &&
         (options.text("equal_models") == "random" || options.text("pruning") != "dtm"))) {
      params.emplace_back("seed", evidence.selection.seed);
    }
    return params;
  }
  MetricValue finish(const Evidence& evidence, const Options&) const override {
    const SelectionEvidence& given = evidence.selection;
    if (given.outcome == nullptr) return MetricValue::none(Undefined::kTooFewCalibration);
    if (given.weighted) return MetricValue::none(Undefined::kNotDefined);
    MetricValue value;
    describe_outcome(*given.outcome, *given.tally, value.details);
    if (given.outcome->calibration_rows == 0) {
      value.undefined = Undefined::kTooFewCalibration;
    } else if (given.tally->rows == 0) {
      value.undefined = Undefined::kEmpty;
    } else {
      judge(*given.tally, value);
    }
    return value;
  }

 protected:
  /// Of one or more rows.
  virtual void judge(const SelectionTally& tally, MetricValue& value) const = 0;
};

class SelectionFdp final : public SelectionMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "selection_fdp",
        .summary = "share of wrong rows among those that conformal selection picks",
        .formula =
            "the test rows are the rows that are not for calibration, whatever --split says; a row "
            "is null where its label is 0 or, in a regression task, y <= c. With n calibration "
            "rows, score=clip, p_j = (1 + number of null calibration rows with a prediction >= "
            "that "
            "of row j) / (n + 1); rows are selected by Benjamini and Hochberg: those with p_j up "
            "to the k-th smallest, k the largest with p_(k) <= q k / m for m test rows, compared "
            "as integers. The value is selected null rows / max(1, selected rows); its expectation "
            "is at most q where rows are exchangeable. ties=strict counts larger predictions "
            "alone, which is not valid where predictions repeat; ties=random counts equal ones and "
            "the row itself u times, u in (0, 1] of (--seed, row id). score=residual: V = y - pred "
            "of calibration rows, c - pred of test rows, p_j = (1 + #{V_i <= V_j}) / (n + 1). "
            "method=optcs chooses a model for each test row: for each model, auxiliary p-values of "
            "the other test rows l, (#{V_i <= V_l} + [V_j <= V_l]) / (n + 1), and 0 of row j, give "
            "R_j rejections; the model with the largest R_j gives p_j and the e-value [p_j <= q "
            "R_j / m] m / (q R_j), and e-BH at q selects; pruning=hete and homo divide e-values by "
            "u of the row or one u. details: how many rows are selected, the largest p-value and "
            "the smallest prediction among them; of optcs how many rows took each model",
        .edge_cases =
            "nothing selected: 0; no calibration rows: undefined, too_few_calibration; no test "
            "rows: empty; weighted rows: not_defined. No null calibration row: every p-value is 1 "
            "/ (n + 1). Groups: one selection of all test rows by all calibration rows, of which "
            "each group's share is told. Predictions of several columns need model= or "
            "method=optcs; where that selects nothing, e-values just too small, pruning=homo often "
            "does. Without --calibration, or a level c in a regression task: an error. "
            "'--per-item FILE' lists the rows with their p-values",
        .equals = "none; ties=strict and method=optcs are what the code of OptCS computes",
        .source =
            "Jin and Candes 2023; Benjamini and Hochberg 1995; Bai and Jin 2024 (OptCS); Wang and "
            "Ramdas 2022",
        .example =
            "cupel eval data/diabetes.csv.gz --calibration 0.5 --metrics "
            "'selection_fdp(q=0.3),selection_power(q=0.3)'",
        .direction = Direction::kLower,
        .in_unit_interval = true,
        .tasks = {Task::kBinary, Task::kRegression},
        .options = selection_options()};
    return kInfo;
  }

 protected:
  void judge(const SelectionTally& tally, MetricValue& value) const override {
    value.number = exact::ratio(tally.selected_nulls, std::max<u64>(1, tally.selected));
  }
};

class SelectionPower final : public SelectionMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "selection_power",
        .summary = "share of the rows worth selecting that conformal selection picks",
        .formula =
            "selected rows that are not null / test rows that are not null, by the selection of "
            "'selection_fdp', which tells what the options mean",
        .edge_cases = "no test row that is not null: no_positive; else as selection_fdp",
        .equals = "none; the code of OptCS says 0 where no row is worth selecting",
        .source = "Jin and Candes 2023",
        .example =
            "cupel eval data/diabetes.csv.gz --calibration 0.5 --group sex --metrics "
            "'selection_power(q=0.3,ties=random)'",
        .direction = Direction::kHigher,
        .in_unit_interval = true,
        .tasks = {Task::kBinary, Task::kRegression},
        .options = selection_options()};
    return kInfo;
  }

 protected:
  void judge(const SelectionTally& tally, MetricValue& value) const override {
    if (tally.rows == tally.nulls) {
      value.undefined = Undefined::kNoPositive;
      return;
    }
    value.number = exact::ratio(tally.selected - tally.selected_nulls, tally.rows - tally.nulls);
  }
};

class SelectionRate final : public SelectionMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "selection_rate",
        .summary = "share of the test rows that conformal selection picks",
        .formula =
            "selected rows / test rows, by the selection of 'selection_fdp', which tells what the "
            "options mean",
        .edge_cases = "as selection_fdp",
        .equals = "none",
        .source = "Jin and Candes 2023",
        .example =
            "cupel eval data/conformal/diabetes_models.npz --calibration 0.5 --metrics "
            "'selection_rate(q=0.3,method=optcs),selection_rate(q=0.3,model=1)'",
        .direction = Direction::kNone,
        .in_unit_interval = true,
        .tasks = {Task::kBinary, Task::kRegression},
        .options = selection_options()};
    return kInfo;
  }

 protected:
  void judge(const SelectionTally& tally, MetricValue& value) const override {
    value.number = exact::ratio(tally.selected, tally.rows);
  }
};

}  // namespace

const Metric& selection_fdp() {
  static const SelectionFdp kMetric;
  return kMetric;
}
const Metric& selection_power() {
  static const SelectionPower kMetric;
  return kMetric;
}
const Metric& selection_rate() {
  static const SelectionRate kMetric;
  return kMetric;
}

}  // namespace cupel
