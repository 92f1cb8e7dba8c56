// Selective prediction and abstention on the published dumps that CUPEL_EXTRA_DATA names: against
// NumPy (tests/dumps/selective.json), and against the published accuracies and sets.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cupel/eval/evaluate.hpp"

namespace cupel {
namespace {

using nlohmann::json;

json read_json(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  return json::parse(file);
}

const Detail& field(const Detail::Object& object, std::string_view name) {
  for (const auto& [key, held] : object) {
    if (key == name) return held;
  }
  static const Detail kNone;
  ADD_FAILURE() << "no field " << name;
  return kNone;
}
double real(const EvalResult& result, std::string_view name) {
  return std::get<double>(field(result.details, name).held());
}
/// A field of one kind of answer: "single", "set", "abstain".
const Detail& answer(const EvalResult& result, std::string_view kind, std::string_view name) {
  return field(std::get<Detail::Object>(field(result.details, kind).held()), name);
}
i64 rows_of(const EvalResult& result, std::string_view kind) {
  return std::get<i64>(answer(result, kind, "n").held());
}
/// A share of the rows of a kind of answer, as a number of rows; 0 where there are none.
i64 part_of(const EvalResult& result, std::string_view kind, std::string_view name) {
  const auto* share = std::get_if<double>(&answer(result, kind, name).held());
  return share == nullptr ? 0 : std::llround(*share * static_cast<double>(rows_of(result, kind)));
}

class SelectiveDumps : public testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("CUPEL_EXTRA_DATA");
    if (folder == nullptr || *folder == '\0') {
      GTEST_SKIP() << "CUPEL_EXTRA_DATA is not set: the published dumps are not there";
    }
    folder_ = std::string(folder) + "/vlm/";
  }
  std::vector<EvalResult> results(const std::string& name, const std::string& metrics) const {
    EvalRequest request;
    request.dumps = {folder_ + name + ".npz"};
    request.roles.calibration = "is_calibration";
    request.split = RowSplit::kTest;
    request.metrics = metrics;
    const auto report = evaluate(request);
    EXPECT_TRUE(report.ok()) << report.error().text();
    return report.ok() ? report->results : std::vector<EvalResult>{};
  }
  std::string folder_;
};

TEST_F(SelectiveDumps, EqualNumPy) {
  const json expected = read_json(std::string(CUPEL_SOURCE_DIR) + "/tests/dumps/selective.json");
  ASSERT_EQ(expected.size(), 18u);
  for (const auto& [name, own] : expected.items()) {
    SCOPED_TRACE(name);
    std::string metrics = "aurc,e_aurc,auarc(form=trapezoid)";
    std::vector<json> policies;
    for (const auto& [grid, policy] : own["policies"].items()) {
      metrics += ",abstention_policy" + (grid.empty() ? "" : "(" + grid + ")");
      policies.push_back(policy);
    }
    const auto found = results(name, metrics);
    ASSERT_EQ(found.size(), 3 + policies.size());
    EXPECT_EQ(field(found[0].details, "vertices"), Detail(own["distinct"].get<i64>()));
    EXPECT_NEAR(found[0].value, own["aurc"].get<double>(), 1e-12);
    EXPECT_NEAR(found[1].value, own["e_aurc"].get<double>(), 1e-12);
    EXPECT_NEAR(found[2].value, own["auarc"].get<double>(), 1e-12);
    for (std::size_t p = 0; p < policies.size(); ++p) {
      const EvalResult& result = found[3 + p];
      const json& policy = policies[p];
      EXPECT_EQ(real(result, "alpha"), policy["alpha"].get<double>());
      EXPECT_EQ(real(result, "beta"), policy["beta"].get<double>());
      EXPECT_EQ(rows_of(result, "single"), policy["counts"][0].get<i64>());
      EXPECT_EQ(part_of(result, "single", "accuracy"), policy["counts"][1].get<i64>());
      EXPECT_EQ(rows_of(result, "set"), policy["counts"][2].get<i64>());
      EXPECT_EQ(part_of(result, "set", "coverage"), policy["counts"][3].get<i64>());
      EXPECT_EQ(part_of(result, "set", "mean_size"), policy["counts"][4].get<i64>());
      EXPECT_EQ(rows_of(result, "abstain"), policy["counts"][5].get<i64>());
      EXPECT_NEAR(result.value, policy["cost"].get<double>(), 1e-14);
    }
  }
}

// At full coverage the risk is what the published accuracy leaves. A policy that answers alone only
// where it is all but sure, and abstains where the LAC set is empty, makes the published sets:
// these put the most probable label into an empty one.
TEST_F(SelectiveDumps, PublishedAccuraciesAndSets) {
  const json published = read_json(folder_ + "published.json");
  int compared = 0;
  for (const auto& [model, of_model] : published.items()) {
    for (const auto& [dataset, own] : of_model.items()) {
      SCOPED_TRACE(model + " " + dataset);
      const auto found = results(
          model + "__" + dataset,
          "risk_at_coverage(coverage=1),abstention_policy(alpha_from=0.9999,alpha_to=0.9999,"
          "beta_from=0.1,beta_to=0.1,quantile=numpy_higher)");
      ASSERT_EQ(found.size(), 2u);
      const EvalResult& policy = found[1];
      EXPECT_NEAR(found[0].value, 1 - own["acc"].get<double>(), 1e-15);
      const i64 covered = part_of(policy, "single", "accuracy") +
                          part_of(policy, "set", "coverage") +
                          part_of(policy, "abstain", "accuracy");
      const i64 labels = rows_of(policy, "single") + part_of(policy, "set", "mean_size") +
                         rows_of(policy, "abstain");
      const auto rows = static_cast<double>(policy.n);
      EXPECT_EQ(static_cast<double>(covered) / rows, own["coverage_lac"].get<double>());
      EXPECT_EQ(static_cast<double>(labels) / rows, own["size_lac"].get<double>());
      ++compared;
    }
  }
  EXPECT_EQ(compared, 18);
}

}  // namespace
}  // namespace cupel
