#include "support/test_backend.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "cupel/backend/device.hpp"

#if CUPEL_HAS_SIM
#include "sim_backend.hpp"
#endif

namespace cupel {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::string wanted_backend() {
  const std::string wanted = environment("CUPEL_TEST_BACKEND");
  return wanted.empty() ? "cpu" : wanted;
}

std::atomic<int> states_built = 0;

/// Counts the states that were asked of a backend, so that none is not mistaken for success.
class CountingBackend final : public Backend {
 public:
  explicit CountingBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  BackendInfo info() const override { return inner_->info(); }
  Result<std::vector<std::vector<RankTable>>> rank_tables(const TableView& table, i64 first,
                                                          i64 last) override {
    ++states_built;
    return inner_->rank_tables(table, first, last);
  }
  Result<std::vector<RankSummary>> rank_summaries(const TableView& table, i64 first, i64 last,
                                                  std::span<const RankQuery> queries) override {
    ++states_built;
    return inner_->rank_summaries(table, first, last, queries);
  }
  Result<std::vector<std::vector<RowSums>>> row_sums(const TableView& table,
                                                     const RowSpec& spec) override {
    ++states_built;
    return inner_->row_sums(table, spec);
  }
  Result<BadScores> bad_scores(const TableView& table) override {
    return inner_->bad_scores(table);
  }
  Result<i128> pair_sum(const TableView& table, i64 first, i64 last, double nu) override {
    ++states_built;
    return inner_->pair_sum(table, first, last, nu);
  }
  Result<std::vector<u64>> pair_distances(const TableView& table, i64 first, i64 last,
                                          std::optional<u32> high) override {
    ++states_built;
    return inner_->pair_distances(table, first, last, high);
  }
  void hold_columns(bool hold) override { inner_->hold_columns(hold); }
  void forget_columns() override { inner_->forget_columns(); }

 private:
  std::unique_ptr<Backend> inner_;
};

std::string missing_reason() {
  const std::string wanted = wanted_backend();
  if (wanted == "cpu") return {};
  if (wanted == "sim") return CUPEL_HAS_SIM ? "" : "built without the kernels on the host";
  if (wanted != "cuda") return "unknown backend '" + wanted + "'";
  const DeviceProvider* provider = cuda_provider();
  return provider == nullptr ? "built without CUDA" : provider->probe().reason;
}

class BackendEnvironment final : public testing::Environment {
 public:
  void SetUp() override {
    missing_ = missing_reason();
    if (missing_.empty()) return;
    if (environment("CUPEL_REQUIRE_BACKEND") == wanted_backend()) {
      FAIL() << wanted_backend() << " is required: " << missing_;
    }
    // Tests that did not run are counted as passed; this line is what ctest looks for.
    std::printf("skipped: no %s: %s\n", wanted_backend().c_str(), missing_.c_str());
    GTEST_SKIP();
  }
  void TearDown() override {
    const bool ran = testing::UnitTest::GetInstance()->test_to_run_count() > 0;
    if (missing_.empty() && wanted_backend() != "cpu" && ran) {
      EXPECT_GT(states_built.load(), 0) << "no state was built on " << wanted_backend();
    }
  }

 private:
  std::string missing_;
};

// Owned by GoogleTest.
const testing::Environment* const kEnvironment =
    testing::AddGlobalTestEnvironment(new BackendEnvironment);

}  // namespace

std::unique_ptr<Backend> make_test_backend(int threads) {
  const std::string wanted = wanted_backend();
#if CUPEL_HAS_SIM
  if (wanted == "sim") return std::make_unique<CountingBackend>(sim::make_sim_backend());
#endif
  if (wanted == "cuda" && missing_reason().empty()) {
    auto opened = cuda_provider()->open(0, {});
    EXPECT_TRUE(opened.ok()) << (opened.ok() ? "" : opened.error().text());
    if (opened.ok()) return std::make_unique<CountingBackend>(std::move(*opened));
  }
  return make_cpu_backend(threads);
}

}  // namespace cupel
