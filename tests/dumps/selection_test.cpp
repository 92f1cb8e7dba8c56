// Selections, p-values and risks of dumps: the rows that are listed, what has to agree with other
// metrics, and what randomness has to be independent of.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "cupel/eval/evaluate.hpp"
#include "cupel/report/report.hpp"

namespace cupel {
namespace {

const std::string kData = std::string(CUPEL_SOURCE_DIR) + "/data/";

EvalReport evaluated(const std::string& dump, const std::string& metrics,
                     const std::string& calibration, u64 seed = 0,
                     NanPolicy nan = NanPolicy::kError) {
  EvalRequest request;
  request.dumps = {dump};
  request.metrics = metrics;
  request.roles.calibration = calibration;
  request.seed = seed;
  request.nan = nan;
  request.backend = "cpu";
  request.threads = 1;
  request.list_rows = metrics.find("selection") != std::string::npos;
  auto report = evaluate(request);
  EXPECT_TRUE(report.ok()) << (report.ok() ? "" : report.error().text());
  return report.ok() ? std::move(*report) : EvalReport{};
}

double detail(const EvalResult& result, std::string_view name) {
  for (const auto& [key, value] : result.details) {
    if (key != name) continue;
    if (const auto* integer = std::get_if<i64>(&value.held())) return static_cast<double>(*integer);
    if (const auto* number = std::get_if<double>(&value.held())) return *number;
  }
  ADD_FAILURE() << "no detail " << name;
  return 0;
}

// The n criterion counts p > alpha, set_size the scores up to a threshold: two ways to one number.
TEST(PValues, CountTheLabelsOfSets) {
  for (const char* score : {"lac", "aps", "raps", "saps", "topk", "margin"}) {
    for (const char* alpha : {"0.1", "0.03", "0.5"}) {
      const auto report =
          evaluated(kData + "digits_logits_f16.npz",
                    fmt::format("set_size(conformal={0},alpha={1}),p_value_efficiency(conformal={"
                                "0},alpha={1},criterion=n)",
                                score, alpha),
                    "0.4", 3);
      ASSERT_EQ(report.results.size(), 2u);
      EXPECT_EQ(report.results[0].value, report.results[1].value) << score << alpha;
      EXPECT_GT(report.results[0].value, 0);
    }
  }
}

/// A file of this text, removed at the end.
class TextFile {
 public:
  explicit TextFile(const std::string& text)
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("cupel_selection_{}.csv", ::getpid())) {
    std::ofstream(path_) << text;
  }
  ~TextFile() { std::filesystem::remove(path_); }
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

// Where all scores are equal a smoothed p-value is u. Of the numbers that draw the calibration rows
// the other rows have the larger half, and u would have a mean of 3/4. 4,000 u have a mean within
// five standard deviations of 1/2 but once in a million seeds.
TEST(PValues, SmoothingIsIndependentOfTheSplit) {
  std::string text = "score,label\n";
  for (int i = 0; i < 8000; ++i) text += i % 2 == 0 ? "0.5,0\n" : "0.5,1\n";
  const TextFile file(text);
  for (const u64 seed : {u64{0}, u64{1}, u64{7}}) {
    const auto report = evaluated(file.path(), "p_value(smoothed=true),p_value", "0.5", seed);
    ASSERT_EQ(report.results.size(), 2u);
    const double rows = static_cast<double>(report.results[0].n);
    EXPECT_NEAR(report.results[0].value, 0.5, 5 * std::sqrt(1.0 / 12 / rows)) << seed;
    EXPECT_EQ(report.results[1].value, 1.0);
  }
}

TEST(Selection, ListsTheTestRows) {
  const auto report =
      evaluated(kData + "conformal/diabetes_models.npz",
                "selection_fdp(q=0.3,method=optcs),selection_rate(q=0.3,method=optcs),selection_"
                "power(q=0.3,model=1),selection_rate(q=0.001,model=2)",
                "0.5", 0);
  ASSERT_EQ(report.results.size(), 4u);
  ASSERT_EQ(report.rows.size(), 3u);  // two metrics are of one selection
  const std::size_t result_of[]{0, 2, 3};
  for (std::size_t list = 0; list < 3; ++list) {
    const EvalRows& rows = report.rows[list];
    const EvalResult& result = report.results[result_of[list]];
    EXPECT_EQ(static_cast<i64>(rows.rows.size()), result.n);
    EXPECT_EQ(rows.ids.size(), rows.rows.size());
    EXPECT_EQ(rows.models.empty(), list != 0);
    EXPECT_EQ(std::set<i64>(rows.rows.begin(), rows.rows.end()).size(), rows.rows.size());
    i64 selected = 0;
    for (std::size_t i = 0; i < rows.rows.size(); ++i) {
      selected += rows.selected[i];
      EXPECT_GT(rows.p_values[i], 0);
      EXPECT_LE(rows.p_values[i], 1);
      if (list == 1) {
        EXPECT_EQ(rows.selected[i] != 0, rows.p_values[i] <= detail(result, "largest_p"));
        EXPECT_EQ(rows.selected[i] != 0,
                  rows.predictions[i] >= detail(result, "smallest_prediction"));
      }
    }
    EXPECT_EQ(static_cast<double>(selected), detail(result, "selected"));
    EXPECT_EQ(selected == 0, list == 2);
  }
}

// Positions are those of the file although rows are left out, and ids are as written there.
TEST(Selection, PositionsAreOfTheFile) {
  const TextFile file(
      "id,score,label,c\n\"a,1\",0.1,0,1\nb,,0,0\nc,0.9,1,0\nd,0.2,0,0\ne,0.3,0,1\nf,0.1,0,1\n");
  const auto report = evaluated(file.path(), "selection_fdp(q=0.5)", "c", 0, NanPolicy::kDrop);
  ASSERT_EQ(report.rows.size(), 1u);
  EXPECT_EQ(render_rows(report.rows), "dump,metric,row,id,selected,p_value,prediction,model\n" +
                                          file.path() + ",selection_fdp(q=0.5),2,c,1,0.25,0.9,\n" +
                                          file.path() + ",selection_fdp(q=0.5),3,d,1,0.5,0.2,\n");
}

TEST(Selection, ListsNothingWithoutASelection) {
  EvalRequest request;
  request.dumps = {kData + "diabetes.csv.gz"};
  request.metrics = "auroc";
  request.list_rows = true;
  const auto report = evaluate(request);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, ErrorCode::kUsage);
  EXPECT_EQ(report.error().text(),
            "--per-item lists the rows of selections, and no metric selects rows; add "
            "selection_fdp to --metrics");
}

// Lambda is named by the column of lambdas, and the promise is about the mean over many splits.
TEST(RiskControl, KeepsTheLossOfOtherRows) {
  double sum = 0;
  constexpr int kSplits = 60;
  for (u64 seed = 0; seed < kSplits; ++seed) {
    const auto report =
        evaluated(kData + "conformal/digits_losses.npz",
                  "risk_control(alpha=0.1),controlled_risk(alpha=0.1)", "0.1", seed);
    ASSERT_EQ(report.results.size(), 2u);
    const double lambda = report.results[0].value;
    EXPECT_EQ(lambda, detail(report.results[0], "index") / 40);
    EXPECT_LE(detail(report.results[0], "bound"), 0.1);
    EXPECT_EQ(report.results[1].value, detail(report.results[0], "other_risk"));
    sum += report.results[1].value;
  }
  // Held-out means of splits have a standard deviation below 0.03: four of 60.
  EXPECT_LE(sum / kSplits, 0.1 + 4 * 0.03 / std::sqrt(kSplits));
  EXPECT_GE(sum / kSplits, 0.02);
}

}  // namespace
}  // namespace cupel
