// The CUDA backend on a GPU: the bytes of the CPU's states, and what it does when memory or the
// device fails.
#include <cuda_runtime_api.h>

#include <memory>
#include <thread>
#include <vector>

#include "cupel/backend/selftest.hpp"
#include "cupel/core/bytes.hpp"
#include "gpu/device_test.hpp"
#include "support/rank_data.hpp"

namespace cupel {
namespace {

using Gpu = OnDevice;

/// A binary table of f32 scores.
struct Table {
  std::vector<float> scores;
  std::vector<u8> labels;
  TableView view;

  Table(i64 rows, u64 seed) {
    const test::RankRows drawn = test::rank_rows(test::ScoreShape::kNormal, rows, seed);
    scores.assign(drawn.scores.begin(), drawn.scores.end());
    labels = drawn.labels;
    view.rows = rows;
    view.scores = make_view(scores.data(), DType::kF32, {rows});
    view.binary_labels = labels.data();
  }
};

std::vector<std::byte> bytes_of(const RankTable& table) {
  ByteWriter writer;
  table.encode(writer);
  return writer.take();
}

const std::vector<RankQuery> kQueries{{RankQueryKind::kTwoU, {}},
                                      {RankQueryKind::kAveragePrecision, {}},
                                      {RankQueryKind::kGap, {}},
                                      {RankQueryKind::kRanges, {}}};

bool same_answers(const Result<std::vector<RankSummary>>& a,
                  const Result<std::vector<RankSummary>>& b) {
  return a.ok() && b.ok() && (*a)[0].answers == (*b)[0].answers;
}

TEST_F(Gpu, EveryStateHasTheBytesOfTheCpu) {
  auto cpu = make_cpu_backend(0);
  auto gpu = open();
  ASSERT_NE(gpu, nullptr);
  const SelftestReport report = run_selftest(*cpu, *gpu);
  EXPECT_GT(report.cases(), 100);
  for (const SelftestLine& line : report.lines) {
    EXPECT_EQ(line.different, 0) << selftest_state_name(line.state) << ": "
                                 << line.first_difference;
  }
}

// More rows than a grid has threads, and than one block of counters holds.
TEST_F(Gpu, ManyRows) {
  const Table table(50'000'003, 3);
  auto cpu = make_cpu_backend(0);
  auto gpu = open();
  ASSERT_NE(gpu, nullptr);
  EXPECT_TRUE(same_answers(gpu->rank_summaries(table.view, 0, 1, kQueries),
                           cpu->rank_summaries(table.view, 0, 1, kQueries)));
  const auto got = gpu->rank_tables(table.view, 0, 1);
  const auto wanted = cpu->rank_tables(table.view, 0, 1);
  ASSERT_TRUE(got.ok() && wanted.ok());
  EXPECT_EQ(bytes_of((*got)[0][0]), bytes_of((*wanted)[0][0]));
}

/// Pins the columns of a table while it lives.
class Pinned {
 public:
  explicit Pinned(Table& table)
      : memory_{table.scores.data(), table.labels.data()},
        bytes_{table.scores.size() * sizeof(float), table.labels.size()} {
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(cudaHostRegister(memory_[i], bytes_[i], cudaHostRegisterDefault), cudaSuccess);
    }
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  ~Pinned() {
    for (void* memory : memory_) static_cast<void>(cudaHostUnregister(memory));
  }

 private:
  void* memory_[2];
  std::size_t bytes_[2];
};

// Rows are computed on while others come: from pinned memory, which the device reads by itself, and
// through stages. What is computed too early, or memory that is reused too early, changes bytes.
TEST_F(Gpu, PartsThatComeMeanwhile) {
  Table table(20'000'003, 10);
  auto cpu = make_cpu_backend(0);
  const auto wanted = cpu->rank_summaries(table.view, 0, 1, kQueries);
  const auto wanted_table = cpu->rank_tables(table.view, 0, 1);
  ASSERT_TRUE(wanted.ok() && wanted_table.ok());
  for (const i64 part_rows : {0, 10'007, 1'000'000}) {
    auto gpu = open({0, 0, part_rows});
    ASSERT_NE(gpu, nullptr);
    for (const bool pinned : {false, true, true, false}) {
      const auto pin = pinned ? std::make_unique<Pinned>(table) : nullptr;
      EXPECT_TRUE(same_answers(gpu->rank_summaries(table.view, 0, 1, kQueries), wanted));
      const auto got = gpu->rank_tables(table.view, 0, 1);
      ASSERT_TRUE(got.ok());
      EXPECT_EQ(bytes_of((*got)[0][0]), bytes_of((*wanted_table)[0][0]));
    }
  }
}

// What a device with other jobs on it does: a call that does not fit says so, a smaller one works.
TEST_F(Gpu, OutOfMemoryIsAnErrorAndPasses) {
  const Table large(4'000'000, 4);
  const Table small(20'000, 5);
  const Table larger(12'000'000, 6);
  auto gpu = open();
  auto tight = open({i64{80} << 20, 0});
  ASSERT_TRUE(gpu != nullptr && tight != nullptr);
  EXPECT_FALSE(tight->rank_tables(larger.view, 0, 1).ok());
  EXPECT_EQ(tight->trouble(), DeviceTrouble::kOutOfMemory);
  EXPECT_TRUE(same_answers(tight->rank_summaries(small.view, 0, 1, kQueries),
                           gpu->rank_summaries(small.view, 0, 1, kQueries)));
  EXPECT_TRUE(same_answers(tight->rank_summaries(large.view, 0, 1, kQueries),
                           gpu->rank_summaries(large.view, 0, 1, kQueries)));
}

TEST_F(Gpu, AFailedLaunchIsAnErrorAndStays) {
  const Table table(10'000, 7);
  int failures = 0;
  for (i64 launch = 1; launch < 40; ++launch) {
    auto gpu = open({0, launch});
    ASSERT_NE(gpu, nullptr);
    if (gpu->rank_summaries(table.view, 0, 1, kQueries).ok()) break;
    ++failures;
    EXPECT_EQ(gpu->trouble(), DeviceTrouble::kFailed);
    EXPECT_FALSE(gpu->rank_tables(table.view, 0, 1).ok());
  }
  EXPECT_GT(failures, 3);
  auto healthy = open();
  ASSERT_NE(healthy, nullptr);
  EXPECT_TRUE(healthy->rank_tables(table.view, 0, 1).ok()) << "a made-up failure broke the device";
}

// Backends on one device, each on a stream of its own, called from threads that did not make them.
TEST_F(Gpu, BackendsShareADevice) {
  const Table table(300'000, 8);
  auto cpu = make_cpu_backend(1);
  const auto wanted = cpu->rank_summaries(table.view, 0, 1, kQueries);
  std::vector<std::unique_ptr<DeviceBackend>> backends;
  for (int i = 0; i < 4; ++i) backends.push_back(open());
  std::vector<int> right(backends.size(), 0);
  std::vector<std::jthread> threads;
  for (std::size_t i = 0; i < backends.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int repeat = 0; repeat < 20; ++repeat) {
        right[i] += same_answers(backends[i]->rank_summaries(table.view, 0, 1, kQueries), wanted);
      }
    });
  }
  threads.clear();
  for (const int count : right) EXPECT_EQ(count, 20);
}

}  // namespace
}  // namespace cupel
