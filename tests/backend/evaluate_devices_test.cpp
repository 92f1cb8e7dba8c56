// What an evaluation says of its devices: which backend computed, why no GPU did, and what went
// otherwise than planned; and that the results do not know.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "cupel/eval/evaluate.hpp"
#include "cupel/report/report.hpp"
#include "support/fake_device.hpp"

namespace cupel {
namespace {

namespace fs = std::filesystem;
using test::FakePlan;
using test::FakeProvider;
using Strings = std::vector<std::string>;

class EvaluateOnDevices : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "cupel-devices-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    write("a.csv", 1000);
    write("b.csv", 700);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, int rows) const {
    std::ofstream file(folder_ / name);
    file << "label,score,sex\n";
    unsigned state = 7;
    for (int i = 0; i < rows; ++i) {
      state = state * 1664525u + 1013904223u;
      file << (state >> 20) % 3 % 2 << ",0." << 100 + (state >> 8) % 800 << ","
           << ((state >> 28) % 2 == 0 ? "f" : "m") << "\n";
    }
  }

  EvalRequest request(const std::string& backend, const DeviceProvider* provider) const {
    EvalRequest request;
    request.dumps = {(folder_ / "a.csv").string(), (folder_ / "b.csv").string()};
    request.metrics = "auroc,auprc,brier,accuracy";
    request.roles.groups = {"sex"};
    request.backend = backend;
    request.threads = 1;
    request.device_provider = provider;
    return request;
  }

  static EvalReport evaluated(const EvalRequest& request) {
    auto report = evaluate(request);
    EXPECT_TRUE(report.ok()) << report.error().text();
    return report ? std::move(*report) : EvalReport();
  }

  /// The document's inputs and results, which are the same everywhere.
  static std::string results(const EvalReport& report) {
    EvalReport copy = report;
    copy.plan.clear();
    copy.backend = copy.device = copy.fallback = "";
    copy.read_s = copy.compute_s = copy.total_s = 0;
    return render(copy, ReportFormat::kJson, {});
  }

  static Strings notes(const EvalReport& report, std::size_t dump) {
    Strings texts;
    const auto& dumps = std::get<Detail::List>(report.plan.front().second.held());
    for (const auto& [name, value] : std::get<Detail::Object>(dumps[dump].held())) {
      if (name != "notes") continue;
      for (const Detail& note : std::get<Detail::List>(value.held())) {
        texts.push_back(std::get<std::string>(note.held()));
      }
    }
    return texts;
  }

  std::string expected() const { return results(evaluated(request("cpu", nullptr))); }

  fs::path folder_;
};

TEST_F(EvaluateOnDevices, TheCpuByName) {
  const FakeProvider provider(std::vector<FakeProvider::Device>(1));
  const EvalReport report = evaluated(request("cpu", &provider));
  EXPECT_EQ(report.backend, "cpu");
  EXPECT_EQ(report.fallback, "");
  EXPECT_EQ(notes(report, 0), Strings());
  EXPECT_EQ(provider.opened, 0);
}

TEST_F(EvaluateOnDevices, AutoWithoutADeviceSaysWhy) {
  const EvalReport without = evaluated(request("auto", nullptr));
  EXPECT_EQ(without.backend, "cpu");
  EXPECT_EQ(without.fallback, "this build has no CUDA backend");
  FakeProvider none;
  none.reason = "no NVIDIA driver was found";
  const EvalReport report = evaluated(request("auto", &none));
  EXPECT_EQ(report.backend, "cpu");
  EXPECT_EQ(report.fallback, "no NVIDIA driver was found");
  EXPECT_EQ(report.warnings, Strings()) << "the fallback is said once";
  EXPECT_EQ(results(report), expected());
}

TEST_F(EvaluateOnDevices, AutoKeepsSmallTablesOnTheCpuByPlan) {
  const FakeProvider provider(std::vector<FakeProvider::Device>(1));
  const EvalReport report = evaluated(request("auto", &provider));
  EXPECT_EQ(report.backend, "cpu");
  EXPECT_EQ(report.fallback, "") << "a usable device is there";
  EXPECT_EQ(provider.opened, 0);
  for (const std::size_t dump : {0u, 1u}) {
    const Strings said = notes(report, dump);
    ASSERT_FALSE(said.empty());
    EXPECT_NE(said[0].find("too few to pay for a device"), std::string::npos) << said[0];
  }
  EXPECT_EQ(report.warnings, Strings());
}

TEST_F(EvaluateOnDevices, ADeviceGivesTheResultsOfTheCpu) {
  const FakeProvider provider(std::vector<FakeProvider::Device>(2));
  for (const char* name : {"cuda", "cuda:1"}) {
    const EvalReport report = evaluated(request(name, &provider));
    EXPECT_EQ(report.backend, "cuda");
    EXPECT_EQ(report.device, std::string(name) == "cuda" ? "Fake 0" : "Fake 1");
    EXPECT_EQ(report.fallback, "");
    EXPECT_EQ(notes(report, 0), Strings());
    EXPECT_EQ(results(report), expected());
  }
}

TEST_F(EvaluateOnDevices, MemoryThatEndsIsInThePlanOfItsDump) {
  FakePlan plan;
  plan.most_rows = 700;
  const FakeProvider provider(std::vector<FakeProvider::Device>{{plan, "", ""}});
  const EvalReport report = evaluated(request("cuda", &provider));
  EXPECT_EQ(report.backend, "cuda");
  ASSERT_EQ(notes(report, 0).size(), 1u);
  EXPECT_EQ(notes(report, 0)[0].rfind("cuda:0: out of memory at 1,000 rows, trying 500", 0), 0u);
  EXPECT_EQ(notes(report, 1), Strings());
  EXPECT_EQ(report.warnings, Strings()) << "nothing to worry about";
  EXPECT_EQ(results(report), expected());
}

TEST_F(EvaluateOnDevices, AFailureInTheMiddleOfARunLosesNothing) {
  for (const char* name : {"cuda", "cuda:0"}) {
    FakePlan plan;
    plan.fail_at = 2;
    const FakeProvider provider(std::vector<FakeProvider::Device>{{plan, "", ""}});
    const EvalReport report = evaluated(request(name, &provider));
    EXPECT_EQ(report.backend, "cuda+cpu");
    EXPECT_EQ(report.fallback, "");
    ASSERT_EQ(notes(report, 0).size(), 1u);
    EXPECT_EQ(notes(report, 0)[0],
              "cuda:0: an illegal memory access; 1,000 rows computed on the CPU, the device is "
              "left alone from here on");
    EXPECT_EQ(report.warnings,
              (Strings{(folder_ / "a.csv").string() + ": " + notes(report, 0)[0]}));
    EXPECT_EQ(notes(report, 1), Strings());
    EXPECT_EQ(results(report), expected());
    EXPECT_EQ(provider.logs[0]->calls.size(), 2u);
  }
}

TEST_F(EvaluateOnDevices, ADeviceByNameThatIsNotUsableEndsTheRun) {
  const FakeProvider provider(std::vector<FakeProvider::Device>(2));
  const auto report = evaluate(request("cuda:9", &provider));
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code, ErrorCode::kBackend);
  EXPECT_EQ(report.error().what,
            "backend 'cuda:9' is not usable: there is no device 9 (2 devices)");
}

}  // namespace
}  // namespace cupel
