// Devices for tests: they compute on the CPU, run out of memory or break down when told to, and
// remember what was asked of them.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cupel/backend/device.hpp"

namespace cupel::test {

struct FakePlan {
  i64 most_rows = std::numeric_limits<i64>::max();     ///< beyond: out of memory
  i64 rows_of_call = std::numeric_limits<i64>::max();  ///< most_rows()
  i64 fail_at = 0;                                     ///< the call with this number (from 1) fails
  i64 free_bytes = i64{1} << 40;
  i64 bytes_of_row = 100;      ///< bytes_per_row() of no problem
  i64 bytes_of_problem = 100;  ///< and for each problem
  bool refuse = false;         ///< every call is refused as another backend would
};

struct FakeCall {
  std::string pass;
  i64 first = 0, last = 0;  ///< problems; of pairs, rows
  i64 rows = 0;
  bool computed = false;
};

/// What a device did; outlives it.
struct FakeLog {
  std::vector<FakeCall> calls;
  std::vector<bool> held;  ///< calls of hold_columns()
  int forgotten = 0;       ///< calls of forget_columns()
  bool failed = false;
  bool called_after_failure = false;
  bool called_at_once = false;  ///< by two threads
  std::atomic<bool> busy{false};

  i64 computed() const {
    i64 sum = 0;
    for (const FakeCall& call : calls) sum += call.computed ? 1 : 0;
    return sum;
  }
};

class FakeDevice final : public DeviceBackend {
 public:
  FakeDevice(FakePlan plan, std::shared_ptr<FakeLog> log, std::string about = "a fake device")
      : plan_(plan), log_(std::move(log)), about_(std::move(about)), cpu_(make_cpu_backend(1)) {}

  BackendInfo info() const override { return {"cuda", about_}; }
  DeviceTrouble trouble() const override { return trouble_; }
  i64 free_bytes() override {
    if (log_->failed) log_->called_after_failure = true;
    return plan_.free_bytes;
  }
  i64 most_rows() const override { return plan_.rows_of_call; }
  i64 bytes_per_row(const TableView& table, i64 problems) const override {
    EXPECT_LE(problems, table.problems());
    return plan_.bytes_of_row + plan_.bytes_of_problem * problems;
  }

  Result<std::vector<std::vector<RankTable>>> rank_tables(const TableView& table, i64 first,
                                                          i64 last) override {
    return call("rank_tables", table, first, last,
                [&] { return cpu_->rank_tables(table, first, last); });
  }
  Result<std::vector<RankSummary>> rank_summaries(const TableView& table, i64 first, i64 last,
                                                  std::span<const RankQuery> queries) override {
    return call("rank_summaries", table, first, last,
                [&] { return cpu_->rank_summaries(table, first, last, queries); });
  }
  Result<std::vector<std::vector<RowSums>>> row_sums(const TableView& table,
                                                     const RowSpec& spec) override {
    return call("row_sums", table, 0, 0, [&] { return cpu_->row_sums(table, spec); });
  }
  Result<i128> pair_sum(const TableView& table, i64 first, i64 last, double nu) override {
    return call("pair_sum", table, first, last,
                [&] { return cpu_->pair_sum(table, first, last, nu); });
  }
  Result<std::vector<u64>> pair_distances(const TableView& table, i64 first, i64 last,
                                          std::optional<u32> high) override {
    return call("pair_distances", table, first, last,
                [&] { return cpu_->pair_distances(table, first, last, high); });
  }
  void hold_columns(bool hold) override { log_->held.push_back(hold); }
  void forget_columns() override { ++log_->forgotten; }
  Result<BadScores> bad_scores(const TableView& table) override {
    return call("bad_scores", table, 0, 0, [&] { return cpu_->bad_scores(table); });
  }

 private:
  template <class Compute>
  auto call(const char* pass, const TableView& table, i64 first, i64 last, const Compute& compute)
      -> decltype(compute()) {
    if (log_->busy.exchange(true)) log_->called_at_once = true;
    if (log_->failed) log_->called_after_failure = true;
    log_->calls.push_back({pass, first, last, table.rows, false});
    auto result = attempt(table, compute);
    log_->calls.back().computed = result.ok();
    log_->busy = false;
    return result;
  }
  template <class Compute>
  auto attempt(const TableView& table, const Compute& compute) -> decltype(compute()) {
    trouble_ = DeviceTrouble::kNone;
    if (plan_.refuse) return input_error("table", "is refused");
    if (static_cast<i64>(log_->calls.size()) == plan_.fail_at) {
      trouble_ = DeviceTrouble::kFailed;
      log_->failed = true;
      return Error{ErrorCode::kInternal, "", "an illegal memory access", ""};
    }
    if (table.rows > plan_.most_rows) {
      trouble_ = DeviceTrouble::kOutOfMemory;
      return Error{ErrorCode::kInternal, "", "out of device memory", ""};
    }
    return compute();
  }

  FakePlan plan_;
  std::shared_ptr<FakeLog> log_;
  std::string about_;
  std::unique_ptr<Backend> cpu_;
  DeviceTrouble trouble_ = DeviceTrouble::kNone;
};

/// A machine with fake devices.
class FakeProvider final : public DeviceProvider {
 public:
  struct Device {
    FakePlan plan;
    std::string reason;      ///< not usable: why
    std::string open_error;  ///< cannot be opened: why
  };

  FakeProvider() = default;
  explicit FakeProvider(std::vector<Device> all) : devices(std::move(all)) {
    for (std::size_t i = 0; i < devices.size(); ++i) logs.push_back(std::make_shared<FakeLog>());
  }

  std::string_view name() const override { return "cuda"; }
  DeviceProbe probe() const override {
    DeviceProbe probe;
    probe.reason = reason;
    probe.driver = driver;
    for (std::size_t i = 0; i < devices.size(); ++i) {
      probe.devices.push_back({static_cast<int>(i), "Fake " + std::to_string(i), "sm_00",
                               i64{16} << 30, devices[i].reason});
    }
    return probe;
  }
  Result<std::unique_ptr<DeviceBackend>> open(int ordinal,
                                              const DeviceOptions& options) const override {
    const Device& device = devices[static_cast<std::size_t>(ordinal)];
    ++opened;
    if (!device.open_error.empty()) {
      return Error{ErrorCode::kBackend, "", device.open_error, ""};
    }
    FakePlan plan = device.plan;
    if (options.memory_limit > 0) plan.free_bytes = options.memory_limit;
    if (options.fail_at_launch > 0) plan.fail_at = options.fail_at_launch;
    return std::unique_ptr<DeviceBackend>(std::make_unique<FakeDevice>(
        plan, logs[static_cast<std::size_t>(ordinal)], "Fake " + std::to_string(ordinal)));
  }

  std::vector<Device> devices;
  std::vector<std::shared_ptr<FakeLog>> logs;
  std::string reason;
  std::string driver = "1.0";
  mutable std::atomic<int> opened{0};
};

}  // namespace cupel::test
