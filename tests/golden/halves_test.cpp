// Whole evaluations of dumps with 16-bit scores and enough rows to be counted while they are
// checked: the values of the same scores as float32, and the messages of the plain search.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "cupel/eval/evaluate.hpp"
#include "cupel/math/half.hpp"
#include "io/fixtures.hpp"
#include "support/rank_data.hpp"

namespace cupel {
namespace {

constexpr std::size_t kRows = 40'000;

struct Dumps {
  std::vector<u16> halves = std::vector<u16>(kRows);
  std::vector<u8> labels = std::vector<u8>(kRows);
  u32 crc_lie = 0;

  Dumps() {
    test::Draws draws(97);
    for (std::size_t i = 0; i < kRows; ++i) {
      halves[i] = static_cast<u16>(draws.below(0x3C00) | draws.below(2) << 15);
      labels[i] = draws.below(4) == 0 ? 1 : 0;
    }
    halves[5] = 0x8000;
    halves[6] = 0;
  }

  std::string write(const fixtures::TempFolder& folder, bool as_floats) const {
    std::vector<float> floats;
    for (const u16 half : halves) floats.push_back(float_from_f16(half));
    const std::string shape = "(" + std::to_string(kRows) + ",)";
    const std::string score = as_floats ? fixtures::npy("<f4", shape, fixtures::le_all(floats))
                                        : fixtures::npy("<f2", shape, fixtures::le_all(halves));
    const std::string label = fixtures::npy("|u1", shape, fixtures::le_all(labels));
    fixtures::ZipMember damaged{"label.npy", label};
    damaged.crc_lie = crc_lie;
    return folder.write(as_floats ? "f32.npz" : "f16.npz",
                        fixtures::zip({{"score.npy", score}, damaged}));
  }
};

EvalRequest request_of(const std::string& path) {
  EvalRequest request;
  request.dumps = {path};
  request.metrics = "auroc,auprc,ks,f_beta_max,roc";
  request.backend = "cpu";
  return request;
}

/// The values of both dumps are equal to the last bit; the number of rows they have.
i64 expect_equal_values(const Dumps& dumps, NanPolicy nan) {
  const fixtures::TempFolder folder;
  std::vector<EvalReport> reports;
  for (const bool as_floats : {false, true}) {
    EvalRequest request = request_of(dumps.write(folder, as_floats));
    request.nan = nan;
    auto report = evaluate(request, {});
    EXPECT_TRUE(report.ok()) << fixtures::text_of(report);
    if (!report.ok()) return -1;
    reports.push_back(std::move(*report));
  }
  EXPECT_EQ(reports[0].results.size(), 5u);
  EXPECT_EQ(reports[0].results.size(), reports[1].results.size());
  for (std::size_t i = 0; i < reports[0].results.size(); ++i) {
    EXPECT_EQ(reports[0].results[i].value, reports[1].results[i].value)
        << reports[0].results[i].metric;
    EXPECT_EQ(reports[0].results[i].n_pos, reports[1].results[i].n_pos);
  }
  return reports[0].results[0].n;
}

std::string message(const Dumps& dumps, const std::string& pos_label = {}) {
  const fixtures::TempFolder folder;
  const std::string path = dumps.write(folder, false);
  EvalRequest request = request_of(path);
  request.pos_label = pos_label;
  std::string text = fixtures::text_of(evaluate(request, {}));
  const auto at = text.find(path);
  return at == std::string::npos ? text : text.replace(at, path.size(), "FILE");
}

TEST(Halves, ValuesAreThoseOfTheSameScoresAsFloats) {
  Dumps dumps;
  EXPECT_EQ(expect_equal_values(dumps, NanPolicy::kError), static_cast<i64>(kRows));
  dumps.halves[3] = 0x7E00;
  dumps.halves[kRows - 1] = 0xFC00;
  EXPECT_EQ(expect_equal_values(dumps, NanPolicy::kDrop), static_cast<i64>(kRows) - 2);
}

TEST(Halves, SeveralDumpsOfACommandDoNotMix) {
  const fixtures::TempFolder folder, other;
  Dumps dumps;
  EvalRequest request = request_of(dumps.write(folder, false));
  for (u16& half : dumps.halves) half = static_cast<u16>(half ^ 0x0155);
  request.dumps.push_back(dumps.write(other, false));
  request.dumps.push_back(request.dumps[0]);
  request.metrics = "auroc";
  const auto together = evaluate(request, {});
  ASSERT_TRUE(together.ok());
  ASSERT_EQ(together->results.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EvalRequest alone = request;
    alone.dumps = {request.dumps[i]};
    const auto single = evaluate(alone, {});
    ASSERT_TRUE(single.ok());
    EXPECT_EQ(together->results[i].value, single->results[0].value);
  }
  EXPECT_NE(together->results[0].value, together->results[1].value);
}

TEST(Halves, MessagesNameTheFirstBadRowAndTheirNumber) {
  Dumps dumps;
  dumps.halves[12'345] = 0x7C00;
  dumps.halves[23'456] = 0x7E01;
  EXPECT_NE(message(dumps).find("FILE: 'score' row 12345: score 'score' is inf (2 such rows"),
            std::string::npos)
      << message(dumps);
  dumps.halves[1] = 0xFE00;
  EXPECT_NE(message(dumps).find("FILE: 'score' row 1: score 'score' is nan (3 such rows"),
            std::string::npos)
      << message(dumps);
  // Scores come before labels, and damage before both.
  dumps.labels[0] = 2;
  EXPECT_NE(message(dumps).find("is nan (3 such rows"), std::string::npos) << message(dumps);
  dumps.crc_lie = 1;
  EXPECT_NE(message(dumps).find("checksum"), std::string::npos) << message(dumps);
  // A mistake in the request is the error even where the file is damaged.
  Dumps damaged;
  damaged.crc_lie = 1;
  EXPECT_NE(message(damaged, "yes").find("--pos-label"), std::string::npos)
      << message(damaged, "yes");
  EXPECT_NE(message(damaged).find("checksum"), std::string::npos) << message(damaged);
  Dumps labels;
  labels.labels[7] = 3;
  EXPECT_NE(message(labels).find("row 7: label 'label' is 3, neither 0 nor 1 (1 such row"),
            std::string::npos)
      << message(labels);
}

}  // namespace
}  // namespace cupel
