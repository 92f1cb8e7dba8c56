// What a policy that may abstain is chosen on: whole evaluations in which the labels of some rows
// are changed, and what then may differ.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "cupel/eval/evaluate.hpp"
#include "io/fixtures.hpp"
#include "support/rank_data.hpp"

namespace cupel {
namespace {

constexpr std::size_t kRows = 600;
constexpr i64 kClasses = 4;

struct Dump {
  std::vector<double> probs;
  std::vector<i64> labels, ids;
  std::vector<u8> calibration;

  Dump() {
    test::Draws draws(411);
    for (std::size_t row = 0; row < kRows; ++row) {
      const auto favourite = static_cast<i64>(draws.below(kClasses));
      // In 64ths, so that equal scores are common and every row sums to 1.
      i64 left = 64;
      std::vector<i64> parts(kClasses);
      for (i64 k = 0; k < kClasses; ++k) {
        const auto part = static_cast<i64>(draws.below(static_cast<u64>(left) / 2 + 1));
        parts[static_cast<std::size_t>(k)] = part;
        left -= part;
      }
      parts[static_cast<std::size_t>(favourite)] += left;
      for (const i64 part : parts) probs.push_back(static_cast<double>(part) / 64);
      labels.push_back(draws.below(3) == 0 ? static_cast<i64>(draws.below(kClasses)) : favourite);
      ids.push_back(static_cast<i64>(draws.next() >> 1));
      calibration.push_back(static_cast<u8>(draws.below(2)));
    }
  }

  /// Every row of one half gets another label.
  Dump with_other_labels(bool of_calibration) const {
    Dump other = *this;
    for (std::size_t row = 0; row < kRows; ++row) {
      if ((calibration[row] != 0) == of_calibration) {
        other.labels[row] = (labels[row] + 1 + static_cast<i64>(row % 3)) % kClasses;
      }
    }
    return other;
  }
};

EvalResult evaluated(const Dump& dump, const std::string& metric) {
  const fixtures::TempFolder folder;
  const std::string rows = "(" + std::to_string(kRows) + ",";
  EvalRequest request;
  request.dumps = {folder.write(
      "d.npz",
      fixtures::zip(
          {{"probs.npy", fixtures::npy("<f8", rows + " 4)", fixtures::le_all(dump.probs))},
           {"label.npy", fixtures::npy("<i8", rows + ")", fixtures::le_all(dump.labels))},
           {"id.npy", fixtures::npy("<i8", rows + ")", fixtures::le_all(dump.ids))},
           {"cal.npy", fixtures::npy("|b1", rows + ")", fixtures::le_all(dump.calibration))}}))};
  request.roles.calibration = "cal";
  request.metrics = metric;
  request.backend = "cpu";
  const auto report = evaluate(request, {});
  EXPECT_TRUE(report.ok()) << fixtures::text_of(report);
  if (!report.ok()) return {};
  EXPECT_EQ(report->results.size(), 1u);
  EXPECT_EQ(report->results[0].undefined, Undefined::kNone);
  return report->results[0];
}

/// All numbers of a result's details by name, those of objects as "set.n".
std::map<std::string, double> numbers_of(const Detail::Object& object,
                                         const std::string& prefix = {}) {
  std::map<std::string, double> all;
  for (const auto& [name, detail] : object) {
    const auto& held = detail.held();
    if (const auto* number = std::get_if<double>(&held)) all[prefix + name] = *number;
    if (const auto* count = std::get_if<i64>(&held)) {
      all[prefix + name] = static_cast<double>(*count);
    }
    if (const auto* inner = std::get_if<Detail::Object>(&held)) {
      all.merge(numbers_of(*inner, prefix + name + "."));
    }
  }
  return all;
}

const std::vector<std::string> kChoice{"alpha",         "beta",         "q_predict",
                                       "q_abstain",     "rank_predict", "rank_abstain",
                                       "n_calibration", "n_tuning",     "cost_when_chosen"};
/// What depends on the scores of the rows judged, and on no label of theirs.
const std::vector<std::string> kDecisions{
    "single.n",      "set.n",        "abstain.n",           "set.mean_size",
    "entropy",       "terms.size",   "terms.abstention",    "terms.answers",
    "terms.entropy", "terms.single", "mean_size_of_answers"};

constexpr const char* kGrid =
    "alpha_from=0.3,alpha_to=0.8,alpha_step=0.02,beta_from=0.35,beta_to=0.6,beta_step=0.025,"
    "size_weight=0.02,abstain_weight=0.01,answer_weight=0.1";

std::string policy(const std::string& more = {}) {
  return std::string("abstention_policy(") + kGrid + (more.empty() ? "" : "," + more) + ")";
}

// Would catch a choice, a threshold or a decision that looks at what it is judged on.
TEST(AbstentionPolicy, LabelsOfTheRowsJudgedChangeTheirOwnCountsAlone) {
  const Dump dump;
  for (const char* tune : {"tune=same", "tune=split"}) {
    SCOPED_TRACE(tune);
    const auto before = numbers_of(evaluated(dump, policy(tune)).details);
    const auto after = numbers_of(evaluated(dump.with_other_labels(false), policy(tune)).details);
    for (const auto* names : {&kChoice, &kDecisions}) {
      for (const std::string& name : *names) {
        ASSERT_TRUE(before.contains(name)) << name;
        EXPECT_EQ(before.at(name), after.at(name)) << name;
      }
    }
    EXPECT_GT(before.at("single.n"), 0);
    EXPECT_GT(before.at("set.n"), 0);
    EXPECT_GT(before.at("abstain.n"), 0);
    EXPECT_LT(after.at("coverage_of_answers"), before.at("coverage_of_answers") - 0.2);
  }
}

// The counterpart: the labels of the calibration rows do decide.
TEST(AbstentionPolicy, LabelsOfCalibrationRowsChangeTheChoice) {
  const Dump dump;
  for (const char* tune : {"tune=same", "tune=split"}) {
    const auto before = numbers_of(evaluated(dump, policy(tune)).details);
    const auto after = numbers_of(evaluated(dump.with_other_labels(true), policy(tune)).details);
    EXPECT_TRUE(before.at("alpha") != after.at("alpha") || before.at("beta") != after.at("beta"));
    EXPECT_NE(before.at("q_abstain"), after.at("q_abstain"));
  }
}

// With tune=split one half of the calibration rows has the quantiles and the other the choice:
// label by label, exactly one of the two follows. Would catch a half that takes part in both.
TEST(AbstentionPolicy, HalvesOfTheCalibrationRowsDoNotMix) {
  const Dump dump;
  const std::string fixed =
      "abstention_policy(tune=split,alpha_from=0.5,alpha_to=0.5,beta_from=0.3,beta_to=0.3)";
  const auto choice = numbers_of(evaluated(dump, fixed).details);
  const double rows = choice.at("n_calibration") + choice.at("n_tuning");
  EXPECT_NEAR(choice.at("n_tuning"), rows / 2, 4 * std::sqrt(rows / 4));
  int in_tuning = 0;
  int in_quantiles = 0;
  for (std::size_t row = 0; row < 60; ++row) {
    if (dump.calibration[row] == 0) continue;
    Dump other = dump;
    other.labels[row] = (dump.labels[row] + 1) % kClasses;
    const auto after = numbers_of(evaluated(other, fixed).details);
    const bool tuned = after.at("cost_when_chosen") != choice.at("cost_when_chosen");
    const bool moved = after.at("q_abstain") != choice.at("q_abstain") ||
                       after.at("q_predict") != choice.at("q_predict");
    EXPECT_FALSE(tuned && moved) << row;
    in_tuning += tuned ? 1 : 0;
    in_quantiles += moved ? 1 : 0;
  }
  EXPECT_GT(in_tuning, 3);
  EXPECT_GT(in_quantiles, 3);
}

// Where nothing tells two policies apart, the smallest alpha and beta: all of the grid's thresholds
// are the one score that there is.
TEST(AbstentionPolicy, EqualCostsGoToTheSmallestLevels) {
  Dump dump;
  for (std::size_t i = 0; i < dump.probs.size(); ++i) dump.probs[i] = i % 4 == 1 ? 0.625 : 0.125;
  for (i64& label : dump.labels) label = 1;
  const auto found = numbers_of(evaluated(dump, policy()).details);
  EXPECT_EQ(found.at("alpha"), 0.3);
  EXPECT_EQ(found.at("beta"), 0.35);
  EXPECT_EQ(found.at("single.share"), 1);
}

}  // namespace
}  // namespace cupel
