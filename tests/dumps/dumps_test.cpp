// Whole evaluations of real dumps: the project's own sample dumps against scikit-learn's values,
// and, where CUPEL_EXTRA_DATA names them, the published ones against scikit-learn, an exact oracle
// and the numbers that their authors published.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "cupel/eval/evaluate.hpp"
#include "cupel/math/softmax.hpp"
#include "support/reference.hpp"

namespace cupel {
namespace {

using nlohmann::json;

std::string source(const std::string& path) { return std::string(CUPEL_SOURCE_DIR) + "/" + path; }

json read_json(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  return json::parse(file);
}

double number_of(const Detail& detail) {
  if (const auto* d = std::get_if<double>(&detail.held())) return *d;
  if (const auto* i = std::get_if<i64>(&detail.held())) return static_cast<double>(*i);
  return std::numeric_limits<double>::quiet_NaN();
}

/// The few options that data/expected.json uses, as on the command line.
EvalRequest request_of(const std::string& dump, const std::vector<std::string>& arguments) {
  EvalRequest request;
  request.dumps = {source("data/" + dump)};
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& option = arguments[i];
    if (option == "--by-class") {
      request.by_class = true;
      continue;
    }
    const std::string value = arguments.at(++i);
    const auto list = [](const std::string& text) {
      std::vector<std::string> items(1);
      for (const char c : text) {
        if (c == ',') {
          items.emplace_back();
        } else {
          items.back() += c;
        }
      }
      return items;
    };
    if (option == "--metrics") {
      request.metrics = value;
    } else if (option == "--group") {
      request.roles.groups = list(value);
    } else if (option == "--label") {
      request.roles.label =
          std::ifstream(source("data/" + value)).good() ? source("data/" + value) : value;
    } else if (option == "--score") {
      request.roles.score = value;
    } else if (option == "--probs") {
      request.roles.probs = value;
    } else if (option == "--logits") {
      request.roles.logits = value;
    } else if (option == "--weight") {
      request.roles.weight = value;
    } else if (option == "--pos-label") {
      request.pos_label = value;
    } else if (option == "--dtype") {
      request.bfloat16_columns.push_back(value.substr(0, value.find('=')));
    } else {
      ADD_FAILURE() << "expected.json uses an option that this test does not know: " << option;
    }
  }
  return request;
}

bool same_group(const EvalResult& result, const json& group) {
  if (!group.is_object()) return result.group.empty();
  if (group.size() != result.group.size()) return false;
  for (const auto& [column, value] : result.group) {
    if (!group.contains(column) || !group[column].is_string() || group[column] != value)
      return false;
  }
  return result.group_against.empty();
}

bool same_params(const EvalResult& result, const json& params) {
  std::map<std::string, Detail> shown(result.params.begin(), result.params.end());
  // What follows from the data or is a default need not be named there.
  for (const char* implied : {"threshold", "eps", "clipped", "scale", "method", "target", "beta",
                              "interpolation", "k", "subset"}) {
    if (!params.contains(implied) && shown.contains(implied)) {
      const bool is_default = std::string(implied) == "method"   ? shown[implied] == Detail("step")
                              : std::string(implied) == "scale"  ? shown[implied] == Detail("sum")
                              : std::string(implied) == "subset" ? shown[implied] == Detail(false)
                              : std::string(implied) == "interpolation"
                                  ? shown[implied] == Detail("none")
                              : std::string(implied) == "k"    ? shown[implied] == Detail(5)
                              : std::string(implied) == "beta" ? shown[implied] == Detail(1.0)
                                                               : true;
      if (is_default) shown.erase(implied);
    }
  }
  if (shown.size() != params.size()) return false;
  for (const auto& [name, value] : params.items()) {
    if (!shown.contains(name)) return false;
    if (value.is_string()    ? shown[name] != Detail(value.get<std::string>())
        : value.is_boolean() ? shown[name] != Detail(value.get<bool>())
                             : number_of(shown[name]) != value.get<double>()) {
      return false;
    }
  }
  return true;
}

// Would catch any difference of definition, weighting, averaging or reading from scikit-learn's.
TEST(SampleDumps, AgreeWithScikitLearn) {
  const json expected = read_json(source("data/expected.json"));
  i64 compared = 0;
  for (const json& dump : expected["dumps"]) {
    SCOPED_TRACE(dump["dump"].get<std::string>());
    const auto report =
        evaluate(request_of(dump["dump"], dump["arguments"].get<std::vector<std::string>>()));
    ASSERT_TRUE(report.ok()) << report.error().text();
    for (const json& want : dump["results"]) {
      const EvalResult* found = nullptr;
      for (const EvalResult& result : report->results) {
        const bool average =
            want["average"].is_null() ? result.average.empty() : want["average"] == result.average;
        const bool cls =
            want["class"].is_null() ? !result.cls : result.cls && want["class"] == *result.cls;
        if (result.metric == want["metric"] && average && cls &&
            same_group(result, want["group"]) && same_params(result, want["params"])) {
          found = &result;
          break;
        }
      }
      ASSERT_NE(found, nullptr) << "no result for " << want.dump();
      if (want["value"].is_null()) {
        EXPECT_NE(found->undefined, Undefined::kNone) << want.dump();
        continue;
      }
      ASSERT_EQ(found->undefined, Undefined::kNone) << want.dump();
      const double value = want["value"].get<double>();
      EXPECT_NEAR(found->value, value, 1e-12 * std::max(1.0, std::fabs(value))) << want.dump();
      ++compared;
    }
  }
  EXPECT_GT(compared, 400);
}

class ExtraDumps : public testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("CUPEL_EXTRA_DATA");
    if (folder == nullptr || *folder == '\0') {
      GTEST_SKIP() << "CUPEL_EXTRA_DATA is not set: the published dumps are not there";
    }
    folder_ = std::string(folder) + "/";
  }
  std::string folder_;
};

std::vector<std::string> benchmark_dumps(const json& expected) {
  std::vector<std::string> names;
  for (const auto& [name, groups] : expected["dumps"].items()) {
    if (name.starts_with("vlm/")) names.push_back(name);
  }
  return names;
}

/// The rows of the dump: cupel's own probabilities of class c, the label, and the group.
struct OracleRows {
  std::vector<std::vector<double>> probs;  ///< [row][class]
  std::vector<i64> label;
  std::vector<std::string> group;
};

OracleRows oracle_rows(const std::string& path) {
  OracleRows rows;
  auto dump = open_dump(path, {});
  EXPECT_TRUE(dump.ok());
  std::vector<i64> wanted;
  for (const char* name : {"logits", "label", "l2_category"}) {
    const auto arrays = (*dump)->arrays();
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      if (arrays[i].name == name) wanted.push_back(static_cast<i64>(i));
    }
  }
  auto arrays = (*dump)->load(wanted);
  EXPECT_TRUE(arrays.ok());
  const ArrayView& logits = (*arrays)[0].view;
  for (i64 row = 0; row < logits.rows(); ++row) {
    const auto logit = [&](i64 c) { return static_cast<double>(load<float>(logits.at(row, c))); };
    const RowSoftmax softmax = softmax_row(logit, logits.cols());
    std::vector<double> probs;
    for (i64 c = 0; c < logits.cols(); ++c) probs.push_back(softmax_p(logit(c), softmax));
    rows.probs.push_back(std::move(probs));
    rows.label.push_back(load<i64>((*arrays)[1].view.at(row)));
    rows.group.push_back(text_at((*arrays)[2].view, row));
  }
  return rows;
}

// Nine vision-language models: overall and per group, each class against the rest, equal to an
// exact oracle and near scikit-learn; classes without rows are undefined, listed and left out.
TEST_F(ExtraDumps, OneAgainstRestEqualsTheExactOracleAndScikitLearn) {
  const json expected = read_json(source("tests/dumps/expected.json"));
  const auto names = benchmark_dumps(expected);
  ASSERT_EQ(names.size(), 9u);
  EvalRequest request;
  for (const std::string& name : names) request.dumps.push_back(folder_ + name);
  request.roles.groups = {"l2_category"};
  request.metrics = "auroc,auprc";
  request.by_class = true;
  const auto report = evaluate(request);
  ASSERT_TRUE(report.ok()) << report.error().text();
  ASSERT_TRUE(report->failures.empty());
  i64 compared = 0;
  std::size_t next = 0;
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const OracleRows rows = oracle_rows(folder_ + name);
    for (; next < report->results.size() && report->results[next].dump == folder_ + name; ++next) {
      const EvalResult& result = report->results[next];
      const std::string group = result.group.empty() ? "" : result.group[0].second;
      SCOPED_TRACE(result.metric + " " + group);
      const json& classes = expected["dumps"][name][group];
      ASSERT_TRUE(classes.is_array());
      if (!result.cls) {
        EXPECT_EQ(result.average, "macro");
        // Options E and F have no row: left out of the mean, and listed.
        double sum = 0;
        int defined = 0;
        for (const json& cls : classes) {
          if (cls[result.metric].is_null()) continue;
          sum += cls[result.metric].get<double>();
          ++defined;
        }
        EXPECT_NEAR(result.value, sum / defined, 2e-5);
        const auto left_out =
            std::find_if(result.details.begin(), result.details.end(),
                         [](const auto& field) { return field.first == "left_out"; });
        ASSERT_NE(left_out, result.details.end());
        EXPECT_EQ(std::get<Detail::List>(left_out->second.held()).size(),
                  classes.size() - static_cast<std::size_t>(defined));
        continue;
      }
      const auto c = static_cast<std::size_t>(*result.cls);
      EXPECT_EQ(result.n_pos, classes[c]["n_pos"].get<i64>());
      EXPECT_EQ(result.n_neg, classes[c]["n_neg"].get<i64>());
      if (classes[c][result.metric].is_null()) {
        EXPECT_EQ(undefined_name(result.undefined),
                  classes[c]["n_pos"] == 0 ? "no_positive" : "no_negative");
        continue;
      }
      ASSERT_EQ(result.undefined, Undefined::kNone);
      EXPECT_NEAR(result.value, classes[c][result.metric].get<double>(), 2e-5);
      std::vector<reference::Row> one;
      for (std::size_t row = 0; row < rows.label.size(); ++row) {
        if (!group.empty() && rows.group[row] != group) continue;
        one.push_back({rows.probs[row][c], rows.label[row] == *result.cls});
      }
      if (result.metric == "auroc") {
        EXPECT_EQ(result.value, reference::auroc(one));
      } else {
        const double exact = reference::average_precision(one);
        EXPECT_LE(std::fabs(result.value - exact), std::nextafter(exact, 2.0) - exact);
      }
      ++compared;
    }
  }
  EXPECT_EQ(next, report->results.size());
  EXPECT_EQ(compared, 9 * 7 * 4 * 2);  // models, scopes, classes with rows, metrics
}

TEST_F(ExtraDumps, DefaultMetricsListEveryClass) {
  EvalRequest request;
  request.dumps = {folder_ + "vlm/Qwen-VL__mmbench.npz"};
  request.roles.groups = {"l2_category"};
  const auto report = evaluate(request);
  ASSERT_TRUE(report.ok()) << report.error().text();
  const EvalResult& auroc = report->results.front();
  ASSERT_EQ(auroc.metric, "auroc");
  const auto per_class = std::find_if(auroc.details.begin(), auroc.details.end(),
                                      [](const auto& field) { return field.first == "per_class"; });
  ASSERT_NE(per_class, auroc.details.end());
  EXPECT_EQ(std::get<Detail::List>(per_class->second.held()).size(), 6u);
}

TEST_F(ExtraDumps, ProbabilitiesAgreeWithScikitLearn) {
  const json expected = read_json(source("tests/dumps/expected.json"));
  EvalRequest request;
  request.dumps = {folder_ + "cifar10_vgg/probs.npz"};
  request.metrics = "auroc,auprc";
  request.by_class = true;
  const auto report = evaluate(request);
  ASSERT_TRUE(report.ok()) << report.error().text();
  int compared = 0;
  for (const EvalResult& result : report->results) {
    if (!result.cls) continue;
    const json& cls =
        expected["dumps"]["cifar10_vgg/probs.npz"][""][static_cast<std::size_t>(*result.cls)];
    EXPECT_NEAR(result.value, cls[result.metric].get<double>(), 1e-12);
    ++compared;
  }
  EXPECT_EQ(compared, 20);
}

TEST_F(ExtraDumps, CalibrationOfProbabilitiesAgreesWithNumPy) {
  const json expected = read_json(source("tests/dumps/expected.json"));
  EvalRequest request;
  request.dumps = {folder_ + "cifar10_vgg/probs.npz"};
  request.metrics = "ece,mce,classwise_ece,brier";
  const auto report = evaluate(request);
  ASSERT_TRUE(report.ok()) << report.error().text();
  ASSERT_EQ(report->results.size(), 4u);
  for (const EvalResult& result : report->results) {
    EXPECT_NEAR(result.value,
                expected["dumps"]["cifar10_vgg/probs.npz calibration"][result.metric].get<double>(),
                1e-12)
        << result.metric;
  }
}

TEST_F(ExtraDumps, PublishedAccuracies) {
  const json published = read_json(folder_ + "vlm/published.json");
  int compared = 0;
  for (const auto& [model, of_model] : published.items()) {
    for (const auto& [dataset, of_dataset] : of_model.items()) {
      EvalRequest request;
      request.dumps = {folder_ + "vlm/" + model + "__" + dataset + ".npz"};
      request.roles.calibration = "is_calibration";
      request.split = RowSplit::kTest;
      request.metrics = "accuracy";
      const auto report = evaluate(request);
      ASSERT_TRUE(report.ok()) << report.error().text();
      ASSERT_EQ(report->results.size(), 1u);
      EXPECT_EQ(report->results[0].value, of_dataset["acc"].get<double>()) << model << dataset;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 18);
}

// Computed by torchmetrics in float32; 1e-6 is what that leaves of the double.
TEST_F(ExtraDumps, PublishedCalibrationErrors) {
  const json published = read_json(folder_ + "vlm/published.json");
  int compared = 0;
  for (const auto& [model, of_model] : published.items()) {
    for (const auto& [dataset, of_dataset] : of_model.items()) {
      EvalRequest request;
      request.dumps = {folder_ + "vlm/" + model + "__" + dataset + ".npz"};
      request.metrics = "ece(preset=torchmetrics),mce(preset=torchmetrics)";
      const auto report = evaluate(request);
      ASSERT_TRUE(report.ok()) << report.error().text();
      ASSERT_EQ(report->results.size(), 2u);
      EXPECT_NEAR(report->results[0].value, of_dataset["ece"].get<double>(), 1e-6) << model;
      EXPECT_NEAR(report->results[1].value, of_dataset["mce"].get<double>(), 1e-6) << model;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 18);
}

// The published sets: numpy's quantile, empty sets hold the arg-max. LAC is equal to the last bit.
// APS is NumPy's in float64 with equal probabilities by ascending class; the published code leaves
// their order to an unstable sort, and the logits are bfloat16, so that ties are common.
TEST_F(ExtraDumps, PublishedConformalSets) {
  const json published = read_json(folder_ + "vlm/published.json");
  const json by_numpy = read_json(source("tests/dumps/expected.json"))["dumps"]["aps"];
  int compared = 0;
  for (const auto& [model, of_model] : published.items()) {
    for (const auto& [dataset, of_dataset] : of_model.items()) {
      SCOPED_TRACE(model + " " + dataset);
      EvalRequest request;
      request.dumps = {folder_ + "vlm/" + model + "__" + dataset + ".npz"};
      request.roles.calibration = "is_calibration";
      request.metrics = "coverage,set_size";
      request.conformal = {{"lac", "aps"}, {"0.1"}, "numpy_higher", "argmax"};
      const auto report = evaluate(request);
      ASSERT_TRUE(report.ok()) << report.error().text();
      ASSERT_EQ(report->results.size(), 4u);
      const auto value = [&](std::size_t i) { return report->results[i].value; };
      EXPECT_EQ(value(0), of_dataset["coverage_lac"].get<double>());
      EXPECT_EQ(value(2), of_dataset["size_lac"].get<double>());
      const json& aps = by_numpy[model + "__" + dataset];
      EXPECT_EQ(value(1), aps["coverage"].get<double>());
      EXPECT_EQ(value(3), aps["size"].get<double>());
      EXPECT_NEAR(value(1), of_dataset["coverage_aps"].get<double>(), 0.005);
      EXPECT_NEAR(value(3), of_dataset["size_aps"].get<double>(), 0.16);
      ++compared;
    }
  }
  EXPECT_EQ(compared, 18);
}

// UAcc of the VLM benchmark is accuracy * sqrt(6) / mean size, of published accuracies and sizes of
// LAC, and of NumPy's sizes of APS. Would catch another count of classes, or of right decisions.
TEST_F(ExtraDumps, UncertaintyAwareAccuracy) {
  const json published = read_json(folder_ + "vlm/published.json");
  const json by_numpy = read_json(source("tests/dumps/expected.json"))["dumps"]["aps"];
  int compared = 0;
  for (const auto& [model, of_model] : published.items()) {
    for (const auto& [dataset, of_dataset] : of_model.items()) {
      SCOPED_TRACE(model + " " + dataset);
      EvalRequest request;
      request.dumps = {folder_ + "vlm/" + model + "__" + dataset + ".npz"};
      request.roles.calibration = "is_calibration";
      request.metrics = "uacc";
      request.conformal = {{"lac", "aps"}, {"0.1"}, "numpy_higher", "argmax"};
      const auto report = evaluate(request);
      ASSERT_TRUE(report.ok()) << report.error().text();
      ASSERT_EQ(report->results.size(), 2u);
      const double accuracy = of_dataset["acc"].get<double>() * std::sqrt(6.0);
      const double sizes[]{of_dataset["size_lac"].get<double>(),
                           by_numpy[model + "__" + dataset]["size"].get<double>()};
      for (std::size_t i = 0; i < 2; ++i) {
        EXPECT_NEAR(report->results[i].value, accuracy / sizes[i], 1e-14 * accuracy);
      }
      ++compared;
    }
  }
  EXPECT_EQ(compared, 18);
}

// Over random splits of one dump the number of covered rows among m follows the beta-binomial law
// of (k, n + 1 - k) exactly, one split independent of the next, but for equal scores at the
// threshold. Would catch rows that are in both halves or drawn by what they hold. Each bound is 4
// standard deviations: an error rate of 1e-4, for seeds that are fixed.
TEST_F(ExtraDumps, CoverageOverRandomSplitsFollowsTheBetaLaw) {
  constexpr int kSplits = 200;
  double sum = 0;
  double squares = 0;
  for (int seed = 0; seed < kSplits; ++seed) {
    EvalRequest request;
    request.dumps = {folder_ + "cifar10_vgg/probs.npz"};
    request.roles.calibration = "0.5";
    request.seed = static_cast<u64>(seed);
    request.metrics = "coverage";
    request.backend = "cpu";
    const auto report = evaluate(request);
    ASSERT_TRUE(report.ok()) << report.error().text();
    const EvalResult& result = report->results[0];
    std::map<std::string, Detail> details(result.details.begin(), result.details.end());
    const double k = number_of(details["rank"]);
    const double n = number_of(details["n_calibration"]);
    const double m = static_cast<double>(result.n);
    ASSERT_EQ(n + m, 10000);
    ASSERT_EQ(k, std::ceil((n + 1) * 9 / 10));
    const double mean = m * k / (n + 1);
    const double variance = mean * (n + 1 - k) / (n + 1) * (n + 1 + m) / (n + 2);
    const double z = (number_of(details["covered"]) - mean) / std::sqrt(variance);
    sum += z;
    squares += z * z;
  }
  EXPECT_LT(std::fabs(sum), 4 * std::sqrt(kSplits));
  EXPECT_LT(std::fabs(squares - kSplits), 4 * std::sqrt(2.0 * kSplits));
}

}  // namespace
}  // namespace cupel
