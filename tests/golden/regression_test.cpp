// Whole evaluations of regression dumps: which columns make which task, what is prepared, what the
// details tell, and that threads, shards and order leave no trace on many rows of any magnitude.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "eval/compute.hpp"
#include "eval/interval_passes.hpp"
#include "eval/prepare.hpp"
#include "io/fixtures.hpp"
#include "support/test_backend.hpp"

namespace cupel {
namespace {

using fixtures::le_all;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Columns {
  std::vector<fixtures::ZipMember> members;

  Columns& add(const std::string& name, const std::vector<double>& values, std::size_t width = 0) {
    const std::size_t rows = width == 0 ? values.size() : values.size() / width;
    const std::string shape = width == 0
                                  ? "(" + std::to_string(rows) + ",)"
                                  : "(" + std::to_string(rows) + ", " + std::to_string(width) + ")";
    members.push_back({name + ".npy", fixtures::npy("<f8", shape, le_all(values))});
    return *this;
  }
  Columns& integers(const std::string& name, const std::vector<i64>& values) {
    const std::string shape = "(" + std::to_string(values.size()) + ",)";
    members.push_back({name + ".npy", fixtures::npy("<i8", shape, le_all(values))});
    return *this;
  }
  std::string bytes() const { return fixtures::zip(members); }
};

/// An open dump, its columns, and its rows.
struct Opened {
  std::unique_ptr<Dump> dump;
  Binding binding;
  PreparedTable table;
};

Result<Opened> open(const std::string& bytes, const EvalRequest& request, i64 first_row = 0) {
  Opened opened;
  auto dump = fixtures::open_as("npz", "d.npz", bytes);
  if (!dump) return dump.error();
  opened.dump = std::move(*dump);
  auto binding = bind_roles(*opened.dump, request);
  if (!binding) return binding.error();
  opened.binding = std::move(*binding);
  const auto backend = make_test_backend(1);
  auto table = prepare_table(opened.binding, request, first_row, *backend);
  if (!table) return table.error();
  opened.table = std::move(*table);
  return opened;
}

std::string task_of(const Columns& columns, const EvalRequest& request = {}) {
  auto dump = fixtures::open_as("npz", "d.npz", columns.bytes());
  EXPECT_TRUE(dump.ok());
  const auto binding = bind_roles(**dump, request);
  return binding.ok() ? std::string(task_name(binding->task)) : binding.error().text();
}

bool mentions(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// ---- columns and tasks --------------------------------------------------------------------------

TEST(RegressionColumns, MakeTheTask) {
  const std::vector<double> numbers{1.5, 2.5};
  EXPECT_EQ(task_of(Columns().add("y", numbers).add("pred", numbers)), "regression");
  EXPECT_EQ(task_of(Columns().add("target", numbers).add("y_lower", numbers).add("hi", numbers)),
            "regression");
  EXPECT_EQ(task_of(Columns().add("y", numbers).integers("pred", {1, 2})), "regression");
  // Scores come first, whatever else there is.
  const Columns both = Columns().integers("y", {0, 1}).add("pred", numbers).add("score", numbers);
  EXPECT_EQ(task_of(both), "binary");
  EvalRequest request;
  request.roles.pred = "pred";
  EXPECT_EQ(task_of(both, request), "regression") << "a column that is named";
  request = {};
  request.task = Task::kRegression;
  EXPECT_EQ(task_of(both, request), "regression");
}

// Labels that are integers may be classes: predictions found by their name do not say.
TEST(RegressionColumns, IntegerLabelsNeedAWord) {
  const Columns integers = Columns().integers("y", {1, 0}).add("y_pred", {0.9, 0.2});
  EXPECT_TRUE(mentions(task_of(integers),
                       "label 'y' is i64: classes or numbers; say --task regression for numbers, "
                       "or name scores with --score y_pred"));
  EXPECT_TRUE(mentions(task_of(Columns().integers("y", {1, 0}).add("pred", {1, 2, 3, 4}, 2)),
                       "name scores with --probs pred"));
  EXPECT_TRUE(mentions(task_of(Columns().integers("y", {1, 0}).add("lo", {1, 2}).add("hi", {3, 4})),
                       "name scores with --score or --probs"));
  EvalRequest request;
  request.task = Task::kRegression;
  EXPECT_EQ(task_of(integers, request), "regression");
  request = {};
  request.roles.pred = "y_pred";
  EXPECT_EQ(task_of(integers, request), "regression");
  request = {};
  request.roles.score = "y_pred";
  EXPECT_EQ(task_of(integers, request), "binary");
}

// A scale or a level that no metric takes is not looked at, unless an option names it.
TEST(RegressionColumns, NoMetricTakesThem) {
  Columns columns = Columns().add("y", {1.5, 2.5}).add("pred", {1, 2}).add("scale", {0, 1});
  columns.members.push_back({"threshold.npy", fixtures::npy("<f8", "()", le_all<double>({1}))});
  EvalRequest request;
  request.nan = NanPolicy::kDrop;
  const auto without = open(columns.bytes(), request);
  ASSERT_TRUE(without.ok()) << without.error().text();
  EXPECT_EQ(without->table.regression->rows, 2);
  EXPECT_EQ(without->table.regression->sigma, nullptr);
  request.levels = true;
  EXPECT_TRUE(mentions(task_of(columns, request), "'threshold' is a single value, not a column"));
  request = {};
  request.scales = true;
  const auto scaled = open(columns.bytes(), request);
  ASSERT_FALSE(scaled.ok());
  EXPECT_TRUE(mentions(scaled.error().text(), "sigma 'scale' is 0, and a scale is above 0"));
  request.nan = NanPolicy::kDrop;
  const auto dropped = open(columns.bytes(), request);
  ASSERT_TRUE(dropped.ok());
  EXPECT_EQ(dropped->table.dropped.scores, 1);
  request = {};
  request.roles.sigma = "scale";
  EXPECT_FALSE(open(columns.bytes(), request).ok());
  request = {};
  request.roles.threshold = "nope";
  EXPECT_TRUE(mentions(task_of(columns, request), "no array 'nope' for --threshold-column; it"));
}

TEST(RegressionColumns, OptionsOfTwoTasksAreRefused) {
  EvalRequest request;
  request.roles.pred = "pred";
  request.roles.score = "score";
  EXPECT_TRUE(
      mentions(task_of(Columns().add("y", {1.5}).add("pred", {1}).add("score", {0.5}), request),
               "options name columns of different tasks: scores, predictions or losses"));
}

TEST(RegressionColumns, SayWhatIsMissing) {
  const std::vector<double> numbers{1.5, 2.5};
  EvalRequest request;
  request.task = Task::kRegression;
  EXPECT_TRUE(mentions(task_of(Columns().add("y", numbers), request),
                       "no array for predictions or intervals; it has y [2] f64; name them with "
                       "--pred, or --lower and --upper"));
  EXPECT_TRUE(mentions(task_of(Columns().add("pred", numbers), request), "no array for the label"));
  EXPECT_TRUE(mentions(task_of(Columns().add("y", numbers).add("hi", numbers), request),
                       "'hi' is the upper end of intervals, and no array is the other"));
  EXPECT_TRUE(mentions(
      task_of(Columns().add("y", numbers).add("pred", numbers).add("predictions", numbers)),
      "'pred' and 'predictions' could both be the pred; name one with --pred"));
  EXPECT_TRUE(mentions(task_of(Columns().add("y", numbers).add("pred", {1.0, 2.0, 3.0})),
                       "'pred' has 3 rows, 'y' has 2"));
  request.roles.sigma = "sigma";
  EXPECT_TRUE(mentions(
      task_of(Columns().add("y", numbers).add("pred", numbers).add("sigma", numbers, 1), request),
      "'sigma' [2,1] is not one value a row"));
  request.roles.sigma = "sgima";
  EXPECT_TRUE(mentions(
      task_of(Columns().add("y", numbers).add("pred", numbers).add("sigma", numbers), request),
      "no array 'sgima' for --sigma, did you mean 'sigma'?"));
}

TEST(RiskColumns, MakeTheTask) {
  const std::vector<double> losses{1, 0.5, 0, 0.8, 0.4, 0.1};
  EXPECT_EQ(task_of(Columns().add("loss", losses, 3)), "risk");
  EXPECT_EQ(task_of(Columns().add("losses", losses, 3).add("lambda", {0, 0.5, 1})), "risk");
  EXPECT_TRUE(mentions(task_of(Columns().add("loss", losses)),
                       "losses 'loss' [6] are not one row of losses each"));
  EXPECT_TRUE(mentions(task_of(Columns().add("loss", losses, 3).add("lambdas", {0, 1})),
                       "lambdas 'lambdas' [2] do not fit losses 'loss' [2,3]"));
  EvalRequest request;
  request.task = Task::kRisk;
  EXPECT_TRUE(mentions(task_of(Columns().add("y", losses), request), "no array for the loss"));
}

// ---- rows ---------------------------------------------------------------------------------------

TEST(PreparedRegression, HoldsColumnsCellsAndKeys) {
  const Columns columns = Columns()
                              .add("y", {1, 2, 3, 4})
                              .add("pred", {1, 10, 2, 20, 3, 30, 4, 40}, 2)
                              .add("threshold", {-1, 0, 1, 2})
                              .add("c", {1, 0, 1, 0})
                              .integers("id", {7, 8, 9, 10});
  EvalRequest request;
  request.roles.calibration = "c";
  request.roles.id = "id";
  request.fits = true;
  request.levels = true;
  auto opened = open(columns.bytes(), request);
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  const RegressionView& rows = *opened->table.regression;
  EXPECT_EQ(rows.rows, 4);
  EXPECT_EQ(rows.models, 2);
  EXPECT_EQ(rows.pred[5], 30);
  EXPECT_EQ(rows.y[3], 4);
  EXPECT_EQ(rows.threshold[0], -1);
  EXPECT_EQ(rows.sigma, nullptr);
  EXPECT_EQ(rows.row_key(2), 9u);
  ASSERT_TRUE(opened->table.has_halves);
  EXPECT_TRUE(opened->table.calibration_cells[rows.cell(0)]);
  EXPECT_FALSE(opened->table.calibration_cells[rows.cell(1)]);
}

// Of rows that are left out, what remains keeps its own values and keys.
TEST(PreparedRegression, LeavesOutRowsWhole) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Columns columns = Columns()
                              .add("y", {1, nan, 3, 4})
                              .add("pred", {5, 6, kInfinity, 8})
                              .add("lo", {0, 0, 0, 1})
                              .add("hi", {1, 1, 1, 2});
  EvalRequest request;
  const auto refused = open(columns.bytes(), request);
  ASSERT_FALSE(refused.ok());
  EXPECT_TRUE(mentions(refused.error().text(), "label 'y' is nan (1 such row in all)"));
  request.nan = NanPolicy::kDrop;
  const auto opened = open(columns.bytes(), request, 100);
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  const RegressionView& rows = *opened->table.regression;
  ASSERT_EQ(rows.rows, 2);
  EXPECT_EQ(opened->table.dropped.labels, 1);
  EXPECT_EQ(opened->table.dropped.scores, 1);
  EXPECT_EQ(rows.y[1], 4);
  EXPECT_EQ(rows.pred[1], 8);
  EXPECT_EQ(rows.lower[1], 1);
  EXPECT_EQ(rows.row_key(0), 100u);
  EXPECT_EQ(rows.row_key(1), 103u);
}

// As weights of scores are.
TEST(PreparedRegression, ChecksWeights) {
  const Columns numbers = Columns().add("y", {1, 2, 3}).add("pred", {1, 2, 3});
  const Columns losses = Columns().add("loss", {1, 0, 1, 0, 1, 0}, 2);
  for (Columns columns : {numbers, losses}) {
    columns.add("weight", {1, -1, std::numeric_limits<double>::quiet_NaN()});
    EvalRequest request;
    const auto refused = open(columns.bytes(), request);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kInput);
    EXPECT_TRUE(mentions(refused.error().text(), "weight 'weight' is -1 (2 such rows in all)"));
    request.nan = NanPolicy::kDrop;
    const auto opened = open(columns.bytes(), request);
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    EXPECT_EQ(opened->table.view.rows, 1);
    EXPECT_EQ(opened->table.dropped.weights, 2);
  }
}

TEST(PreparedRisk, HoldsLosses) {
  EvalRequest request;
  const auto opened =
      open(Columns().add("loss", {1, 0.5, 0, 0.8, 0.4, 0.1}, 3).add("lambdas", {0, 0.5, 1}).bytes(),
           request);
  ASSERT_TRUE(opened.ok()) << opened.error().text();
  const RiskView& rows = *opened->table.risk;
  EXPECT_EQ(rows.rows, 2);
  EXPECT_EQ(rows.lambda_count, 3);
  EXPECT_EQ(rows.losses[3], 0.8);
  EXPECT_EQ(rows.lambdas[1], 0.5);
  const auto bad = open(Columns().add("loss", {1, kInfinity}, 2).bytes(), request);
  ASSERT_FALSE(bad.ok());
  EXPECT_TRUE(mentions(bad.error().text(), "loss 'loss' is inf in column 1 (1 such row in all)"));
}

TEST(PreparedRegression, RefusesWhatIsOfClasses) {
  EvalRequest request;
  request.pos_label = "1";
  const auto refused = open(Columns().add("y", {1.5}).add("pred", {1}).bytes(), request);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUsage);
  EXPECT_TRUE(mentions(refused.error().text(), "--pos-label is for classes"));
}

// ---- details ------------------------------------------------------------------------------------

Result<std::vector<EvalResult>> results_of(const std::vector<std::string>& shards,
                                           EvalRequest request, const std::string& metrics,
                                           int threads = 1) {
  auto specs = parse_metrics(metrics);
  if (!specs) return specs.error();
  request.fits = has_fits(*specs) && !request.roles.calibration.empty();
  request.scales = has_scales(*specs);
  request.levels = has_levels(*specs);
  request.pool = shards.size() > 1;
  std::vector<Opened> opened;
  std::vector<PreparedTable> parts;
  for (const std::string& bytes : shards) {
    auto one = open(bytes, request);
    if (!one) return one.error();
    opened.push_back(std::move(*one));
    parts.push_back(std::move(opened.back().table));
  }
  ComputeRequest compute;
  compute.metrics = std::move(*specs);
  compute.group_columns = request.roles.groups;
  compute.split = request.split;
  compute.threads = threads;
  std::vector<std::string> states;
  const auto backend = make_test_backend(threads);
  return compute_results(parts, compute, *backend, states);
}

Detail field(const Detail::Object& object, std::string_view name) {
  for (const auto& [key, detail] : object) {
    if (key == name) return detail;
  }
  ADD_FAILURE() << "no field " << name;
  return {};
}

/// METRICS 4.9: residuals .1 to 2 of the calibration rows, then some rows to judge.
Columns documented() {
  return Columns()
      .add("y", {.1, .2, .3, .5, .8, .9, 1.2, 1.5, 2, 1.5, -1.6, 0, 3})
      .add("pred", std::vector<double>(13, 0.0))
      .add("c", {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0});
}

TEST(IntervalDetails, OfTheDocumentedExample) {
  EvalRequest request;
  request.roles.calibration = "c";
  const auto results =
      results_of({documented().bytes()}, request, "coverage(alpha=0.2),interval_width(alpha=0.2)");
  ASSERT_TRUE(results.ok()) << results.error().text();
  const EvalResult& coverage = (*results)[0];
  EXPECT_EQ(coverage.value, 0.5);
  EXPECT_EQ(coverage.n, 4);
  EXPECT_EQ(field(coverage.params, "conformal"), Detail("absolute"));
  EXPECT_EQ(field(coverage.details, "qhat"), Detail(1.5));
  EXPECT_EQ(field(coverage.details, "rank"), Detail(8));
  EXPECT_EQ(field(coverage.details, "n_calibration"), Detail(9));
  EXPECT_EQ(field(coverage.details, "target"), Detail(0.8));
  EXPECT_EQ(field(coverage.details, "covered"), Detail(2));
  const Detail law = field(coverage.details, "beta_law");
  EXPECT_EQ(field(std::get<Detail::Object>(law.held()), "mean"), Detail(0.8));
  const EvalResult& width = (*results)[1];
  EXPECT_EQ(width.value, 3.0);
  EXPECT_EQ(field(width.details, "median"), Detail(3.0));
  EXPECT_EQ(field(width.details, "min"), Detail(3.0));
  EXPECT_EQ(field(width.details, "max"), Detail(3.0));
}

TEST(IntervalDetails, WidthsInOrder) {
  const auto width = [](const std::vector<double>& upper) {
    const std::vector<double> zeros(upper.size(), 0.0);
    const auto results =
        results_of({Columns().add("y", zeros).add("lower", zeros).add("upper", upper).bytes()}, {},
                   "interval_width(conformal=none)");
    EXPECT_TRUE(results.ok());
    return (*results)[0].details;
  };
  EXPECT_EQ(field(width({5, 1, 4}), "median"), Detail(4.0));
  EXPECT_EQ(field(width({5, 1, 4, 2}), "median"), Detail(3.0));
  EXPECT_EQ(field(width({5, 1, 4, 2}), "min"), Detail(1.0));
  EXPECT_EQ(field(width({5, 1, 4, 2}), "max"), Detail(5.0));
  EXPECT_EQ(field(width({7}), "median"), Detail(7.0));
  // Neither half of the two in the middle overflows.
  EXPECT_EQ(field(width({1.7e308, 1.7e308}), "median"), Detail(1.7e308));
}

TEST(IntervalDetails, ThresholdsOfGroups) {
  Columns columns = documented();
  columns.integers("g", {1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 2, 3});
  EvalRequest request;
  request.roles.calibration = "c";
  request.roles.groups = {"g"};
  const auto results = results_of({columns.bytes()}, request, "coverage(alpha=0.2,mode=group)");
  ASSERT_TRUE(results.ok()) << results.error().text();
  ASSERT_EQ(results->size(), 4u);
  const Detail listed = field((*results)[0].details, "thresholds");
  const auto& thresholds = std::get<Detail::List>(listed.held());
  ASSERT_EQ(thresholds.size(), 3u);
  const auto of = [&](std::size_t i, std::string_view name) {
    return field(std::get<Detail::Object>(thresholds[i].held()), name);
  };
  EXPECT_EQ(of(0, "group"), Detail("1"));
  EXPECT_EQ(of(0, "qhat"), Detail(1.5));  // the 8th of 8
  EXPECT_EQ(of(1, "qhat"), Detail(kInfinity));
  EXPECT_EQ(of(1, "qhat_reason"), Detail("too_few_calibration"));
  EXPECT_EQ(of(1, "n_calibration"), Detail(1));
  EXPECT_EQ(of(2, "n_calibration"), Detail(0)) << "a group that was never seen";
  EXPECT_EQ((*results)[3].value, 1.0) << "its intervals are endless";
}

// The test rows of many groups, each with a threshold: time and memory that grew with the square of
// their number would not end here.
TEST(IntervalDetails, ThresholdsOfManyGroups) {
  constexpr i64 kGroups = 50'000;
  std::vector<double> y, half;
  std::vector<i64> group;
  for (i64 g = 0; g < kGroups; ++g) {
    group.insert(group.end(), 2, g);
    half.insert(half.end(), {1.0, g % 2 == 0 ? 1.0 : 0.0});  // every other has no rows to judge
    y.insert(y.end(), {static_cast<double>(g), 0.0});
  }
  Columns columns = Columns().add("y", y).add("pred", std::vector<double>(y.size())).add("c", half);
  columns.integers("g", group);
  EvalRequest request;
  request.roles.calibration = "c";
  request.roles.groups = {"g"};
  const auto results =
      results_of({columns.bytes()}, request, "interval_width(mode=group,alpha=0.6)");
  ASSERT_TRUE(results.ok()) << results.error().text();
  ASSERT_EQ(results->size(), kGroups + 1u);
  for (std::size_t i = 1; i < results->size(); i += 997) {
    const Detail listed = field((*results)[i].details, "thresholds");
    EXPECT_EQ(std::get<Detail::List>(listed.held()).size(), 1u);
  }
}

// ---- losses -------------------------------------------------------------------------------------

std::string losses_of(const std::string& type, const std::vector<float>& losses,
                      const std::vector<double>& lambdas, const std::vector<double>& half) {
  Columns columns;
  const std::string shape =
      "(" + std::to_string(half.size()) + ", " + std::to_string(losses.size() / half.size()) + ")";
  if (type == "<f4") {
    columns.members.push_back({"loss.npy", fixtures::npy(type, shape, le_all(losses))});
  } else {
    columns.members.push_back(
        {"loss.npy",
         fixtures::npy(type, shape, le_all(std::vector<double>(losses.begin(), losses.end())))});
  }
  return columns.add("lambdas", lambdas).add("c", half).bytes();
}

// 0.1f is above 0.1, and is the B of its type; as a double it is a loss above B.
TEST(Losses, AtBInTheTypeOfTheColumn) {
  EvalRequest request;
  request.roles.calibration = "c";
  const std::vector<float> losses{0.1F, 0.1F, 0, 0.1F, 0, 0, 0.1F, 0.1F, 0};
  const auto controlled = [&](const std::string& type, const std::string& metrics) {
    return results_of({losses_of(type, losses, {1, 2, 3}, {1, 1, 0})}, request, metrics);
  };
  const auto single =
      controlled("<f4", "risk_control(B=0.1,alpha=0.07),controlled_risk(B=0.1,alpha=0.07)");
  ASSERT_TRUE(single.ok()) << single.error().text();
  EXPECT_EQ((*single)[0].value, 2) << "(0.1 + 0.1) / 3 <= 0.07";
  EXPECT_EQ((*single)[1].value, 0.1) << "B itself";
  // What another metric has as B is nothing to this one.
  const auto both = controlled("<f4", "risk_control(B=0.1,alpha=0.07),controlled_risk(alpha=0.5)");
  const auto alone = controlled("<f4", "controlled_risk(alpha=0.5)");
  ASSERT_TRUE(both.ok() && alone.ok());
  EXPECT_EQ((*both)[1].value, (*alone)[0].value);
  EXPECT_GT((*alone)[0].value, 0.1);
  const auto wide = controlled("<f8", "risk_control(B=0.1,alpha=0.07)");
  ASSERT_FALSE(wide.ok());
  EXPECT_TRUE(mentions(wide.error().text(), "outside 0 to B = 0.1"));
}

TEST(Losses, AreRoundedBeforeTheyAreChecked) {
  EvalRequest request;
  request.roles.calibration = "c";
  const auto of = [&](const std::vector<double>& losses) {
    return results_of({Columns().add("loss", losses, 2).add("c", {1, 0}).bytes()}, request,
                      "risk_control(alpha=0.5)");
  };
  const double third = 1.0 / 3;
  EXPECT_TRUE(of({third, std::nextafter(third, 1), -1e-17, 0}).ok()) << "a last digit";
  EXPECT_TRUE(of({std::nextafter(1.0, 2), 1, 0, 0}).ok());
  EXPECT_FALSE(of({third, third + 1e-12, 0, 0}).ok());
  EXPECT_FALSE(of({1 + 1e-12, 1, 0, 0}).ok());
  EXPECT_FALSE(of({1, -1e-12, 0, 0}).ok());
  EXPECT_FALSE(of({1e300, 0, 0, 0}).ok());
  EXPECT_FALSE(of({1, -1e300, 0, 0}).ok());
}

TEST(Losses, PooledHaveTheSameLambdas) {
  EvalRequest request;
  request.roles.calibration = "c";
  const auto pool = [&](const std::vector<double>& a, const std::vector<double>& b) {
    return results_of({losses_of("<f8", {1, 0.5, 1, 0.5}, a, {1, 0}),
                       losses_of("<f8", {1, 0.5, 1, 0.5}, b, {1, 0})},
                      request, "risk_control(alpha=0.9)");
  };
  const auto refused = pool({0, 1}, {-0.0, -10});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kInput);
  EXPECT_TRUE(mentions(refused.error().text(), "lambda 1 is -10, in the first dump it is 1"));
  EXPECT_TRUE(mentions(refused.error().text(), "d.npz: 'lambdas' row 1")) << "which file";
  EXPECT_TRUE(pool({0, 1}, {-0.0, 1}).ok());
}

// ---- laws ---------------------------------------------------------------------------------------

struct Drawn {
  std::vector<double> y, pred, sigma, lower, upper, half, group;

  std::string bytes(std::size_t first, std::size_t step, bool reversed = false) const {
    const auto take = [&](const std::vector<double>& all) {
      std::vector<double> taken;
      for (std::size_t i = first; i < all.size(); i += step) taken.push_back(all[i]);
      if (reversed) std::reverse(taken.begin(), taken.end());
      return taken;
    };
    return Columns()
        .add("y", take(y))
        .add("pred", take(pred))
        .add("sigma", take(sigma))
        .add("lower", take(lower))
        .add("upper", take(upper))
        .add("c", take(half))
        .add("g", take(group))
        .bytes();
  }
};

/// Numbers of every magnitude, so that a sum in doubles would depend on the order.
Drawn draw(std::size_t rows) {
  std::mt19937_64 random(20'261'126);
  const auto number = [&] {
    const double unit = static_cast<double>(random() >> 11) * 0x1p-53 - 0.5;
    return std::ldexp(unit, static_cast<int>(random() % 80) - 40);
  };
  Drawn drawn;
  for (std::size_t i = 0; i < rows; ++i) {
    const double pred = number();
    const double low = pred - std::fabs(number());
    const double high = pred + std::fabs(number());
    drawn.pred.push_back(pred);
    drawn.y.push_back(pred + number());
    drawn.sigma.push_back(std::fabs(number()) + 1e-9);
    drawn.lower.push_back(low);
    drawn.upper.push_back(high);
    drawn.half.push_back(static_cast<double>(random() % 2));
    drawn.group.push_back(static_cast<double>(random() % 5));
  }
  return drawn;
}

// More rows than one block of a pass has.
TEST(RegressionLaws, OrderShardsAndThreadsDoNotMatter) {
  const Drawn drawn = draw(100'000);
  EvalRequest request;
  request.roles.calibration = "c";
  request.roles.groups = {"g"};
  const std::string metrics =
      "mae,rmse,coverage(conformal=normalized),interval_width(conformal=cqr),"
      "interval_score(conformal=cqr_asymmetric,mode=group),interval_score(conformal=none),"
      "cwc(conformal=absolute),interval_width(conformal=normalized,mode=group)";
  const auto reference = results_of({drawn.bytes(0, 1)}, request, metrics);
  ASSERT_TRUE(reference.ok()) << reference.error().text();
  ASSERT_EQ(reference->size(), 8u * 6);
  for (const int threads : {1, 3}) {
    for (const std::size_t shards : {1u, 3u}) {
      std::vector<std::string> files;
      for (std::size_t s = 0; s < shards; ++s) files.push_back(drawn.bytes(s, shards, true));
      const auto results = results_of(files, request, metrics, threads);
      ASSERT_TRUE(results.ok()) << results.error().text();
      for (std::size_t i = 0; i < reference->size(); ++i) {
        EXPECT_EQ((*results)[i].value, (*reference)[i].value) << (*results)[i].metric;
        EXPECT_EQ((*results)[i].details, (*reference)[i].details) << (*results)[i].metric;
      }
    }
  }
}

// The threshold is the calibration score of its rank, and the intervals of calibration rows know
// it: those with a score up to it are covered, no other. Would catch keys that differ by a
// rounding.
TEST(RegressionLaws, CalibrationRowsAreCoveredUpToTheThreshold) {
  const Drawn drawn = draw(20'001);
  EvalRequest request;
  request.roles.calibration = "c";
  request.fits = true;
  request.scales = true;
  auto opened = open(drawn.bytes(0, 1), request);
  ASSERT_TRUE(opened.ok());
  const std::span<const PreparedTable> parts(&opened->table, 1);
  const UnitedCells cells = unite_cells(parts);
  for (const IntervalRule rule :
       {IntervalRule::kAbsolute, IntervalRule::kNormalized, IntervalRule::kCqr}) {
    std::vector<i64> keys;
    const RegressionView& rows = *opened->table.regression;
    for (i64 row = 0; row < rows.rows; ++row) {
      if (!cells.calibration[rows.cell(row)]) continue;
      keys.push_back(interval_keys(rule, rows.columns(row), rows.y[row]).side[0]);
    }
    std::sort(keys.begin(), keys.end());
    for (const u64 tenths : {1u, 4u, 9u}) {
      IntervalQuery query;
      query.alpha = {tenths, 10};
      const IntervalThresholds thresholds = interval_thresholds(parts, cells, query, rule);
      const IntervalThreshold& found = thresholds.of_category[0];
      EXPECT_EQ(found.keys.side[0], keys[static_cast<std::size_t>(found.rank - 1)]);
      const auto up_to = std::upper_bound(keys.begin(), keys.end(), found.keys.side[0]);
      const auto sums = interval_sums(parts, cells, thresholds, 2);
      for (std::size_t cell = 0; cell < sums.size(); ++cell) {
        if (!cells.calibration[cell]) continue;
        EXPECT_EQ(sums[cell].covered, static_cast<u64>(up_to - keys.begin()));
      }
    }
  }
}

// Residuals doubled, thresholds doubled: powers of two leave no rounding.
TEST(RegressionLaws, WidthsScaleWithTheRows) {
  Drawn drawn = draw(3000);
  EvalRequest request;
  request.roles.calibration = "c";
  const std::string metrics =
      "coverage(conformal=absolute),interval_width(conformal=absolute),interval_score(conformal="
      "cqr),mae,rmse";
  const auto before = results_of({drawn.bytes(0, 1)}, request, metrics);
  for (auto* column : {&drawn.y, &drawn.pred, &drawn.lower, &drawn.upper}) {
    for (double& value : *column) value *= 4;
  }
  const auto after = results_of({drawn.bytes(0, 1)}, request, metrics);
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_EQ((*after)[0].value, (*before)[0].value);
  for (std::size_t i = 1; i < before->size(); ++i) {
    EXPECT_EQ((*after)[i].value, 4 * (*before)[i].value) << (*before)[i].metric;
  }
}

}  // namespace
}  // namespace cupel
