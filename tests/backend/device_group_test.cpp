// Several devices as one backend: the bytes of the CPU however a table is cut, whatever a device
// runs out of, and whenever it breaks; and the words for it.
#include "backend/device_group.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/selftest_case.hpp"
#include "cupel/backend/choose.hpp"
#include "cupel/backend/selftest.hpp"
#include "support/fake_device.hpp"

namespace cupel {
namespace {

using test::FakeCall;
using test::FakeDevice;
using test::FakeLog;
using test::FakePlan;
using test::FakeProvider;

using Strings = std::vector<std::string>;

/// Fake devices as a group, and what they did.
struct Fakes {
  explicit Fakes(const std::vector<FakePlan>& plans, DeviceGroupOptions options = {}) {
    std::vector<std::unique_ptr<DeviceBackend>> devices;
    for (std::size_t i = 0; i < plans.size(); ++i) {
      logs.push_back(std::make_shared<FakeLog>());
      devices.push_back(
          std::make_unique<FakeDevice>(plans[i], logs[i], "Fake " + std::to_string(i)));
    }
    group = make_device_group(
        std::move(devices), [] { return make_cpu_backend(1); }, std::move(options));
  }

  void expect_sound() const {
    for (const auto& log : logs) {
      EXPECT_FALSE(log->called_after_failure);
      EXPECT_FALSE(log->called_at_once);
    }
  }

  std::vector<std::shared_ptr<FakeLog>> logs;
  std::unique_ptr<DeviceGroup> group;
};

DeviceGroupOptions batches_of(i64 rows) {
  DeviceGroupOptions options;
  options.batch_rows = rows;
  return options;
}

/// Memory for that many rows of a binary table.
FakePlan room_for(i64 rows) {
  FakePlan plan;
  plan.free_bytes = rows * (plan.bytes_of_row + plan.bytes_of_problem);
  return plan;
}

SelftestCase shape_of(Task task, i64 rows, i64 classes = 2) {
  SelftestCase shape;
  shape.task = task;
  shape.rows = rows;
  shape.classes = classes;
  return shape;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kInstrumented = true;  // takes ten times as long
#else
constexpr bool kInstrumented = false;
#endif

void expect_equal(Fakes& fakes, const std::string& what) {
  SelftestOptions options;
  options.quick = true;
  const auto reference = make_cpu_backend(1);
  const SelftestReport report = run_selftest(*reference, *fakes.group, options);
  for (const SelftestLine& line : report.lines) {
    EXPECT_GT(line.cases, 20);
    EXPECT_EQ(line.different, 0) << what << ", " << selftest_state_name(line.state) << ": "
                                 << line.first_difference;
  }
  fakes.expect_sound();
}

/// The ranking of a binary table and of what the CPU makes of it.
void expect_same_tables(Backend& backend, const TableView& table) {
  const auto expected = make_cpu_backend(1)->rank_tables(table, 0, table.problems());
  const auto actual = backend.rank_tables(table, 0, table.problems());
  ASSERT_TRUE(expected.ok() && actual.ok()) << (actual.ok() ? "" : actual.error().text());
  EXPECT_TRUE(actual.value() == expected.value());
}

// ---- slices
// --------------------------------------------------------------------------------------

TEST(DeviceGroup, SlicesKeepColumnsThatAreNotThere) {
  SelftestCase shape = shape_of(Task::kMultilabel, 10, 3);
  shape.weights = CaseWeights::kF32;
  const SelftestTable table(shape, 1);
  const TableView part = rows_of(table.view(), 4, 5);
  EXPECT_EQ(part.rows, 5);
  EXPECT_EQ(part.scores.rows(), 5);
  EXPECT_EQ(part.scores.data, table.view().scores.at(4));
  EXPECT_EQ(part.label_matrix, table.view().label_matrix + 12);
  EXPECT_EQ(part.weights_f32, table.view().weights_f32 + 4);
  EXPECT_EQ(part.weights_f64, nullptr);
  EXPECT_EQ(part.binary_labels, nullptr);
  EXPECT_EQ(part.class_labels, nullptr);
  EXPECT_EQ(part.cells, nullptr);
  EXPECT_EQ(table_bytes(part), 5 * (3 * 4 + 3 + 4));
}

// ---- the same bytes
// --------------------------------------------------------------------------------

TEST(DeviceGroup, AnyNumberOfDevicesAndBatchesGivesTheBytesOfTheCpu) {
  for (const std::size_t devices : {1u, 2u, 3u}) {
    if (kInstrumented && devices < 3) continue;
    for (const i64 rows : {1'000'000, 3000, 100}) {
      Fakes fakes(std::vector<FakePlan>(devices), batches_of(rows));
      expect_equal(fakes, std::to_string(devices) + " devices, batches of " + std::to_string(rows));
      EXPECT_EQ(fakes.group->take_notes(), Strings());
      EXPECT_EQ(fakes.group->info().name, "cuda");
    }
  }
}

TEST(DeviceGroup, FreeMemoryOfUnequalDevicesGivesTheBytesOfTheCpu) {
  Fakes fakes({room_for(700), room_for(2500), room_for(1)});
  expect_equal(fakes, "unequal devices");
  EXPECT_EQ(fakes.group->take_notes(), Strings());
}

TEST(DeviceGroup, DevicesWithoutMemoryLoseNothing) {
  FakePlan small;
  small.most_rows = 300;
  FakePlan none;
  none.most_rows = -1;
  for (const std::vector<FakePlan>& plans :
       {std::vector{small}, std::vector{none}, std::vector{small, none, FakePlan{}}}) {
    Fakes fakes(plans);
    expect_equal(fakes, "out of memory");
    EXPECT_NE(fakes.group->take_notes(), Strings());
  }
}

TEST(DeviceGroup, DevicesThatFailLoseNothing) {
  for (const i64 at : {1, 7, 150}) {
    if (kInstrumented && at != 7) continue;
    FakePlan failing;
    failing.fail_at = at;
    for (const std::vector<FakePlan>& plans : {std::vector{failing}, std::vector{failing, failing},
                                               std::vector{failing, FakePlan{}, FakePlan{}}}) {
      Fakes fakes(plans, batches_of(1400));
      expect_equal(fakes, "fails at call " + std::to_string(at));
    }
  }
}

// ---- how a table is cut
// ------------------------------------------------------------------------------

TEST(DeviceGroup, ATableThatFitsGoesToOneDeviceWhole) {
  Fakes fakes({room_for(1000), room_for(1000)});
  const SelftestTable table(shape_of(Task::kBinary, 1000), 1);
  expect_same_tables(*fakes.group, table.view());
  ASSERT_EQ(fakes.logs[0]->calls.size(), 1u);
  EXPECT_EQ(fakes.logs[0]->calls[0].rows, 1000);
  EXPECT_EQ(fakes.logs[1]->calls.size(), 0u);
  EXPECT_EQ(fakes.group->info().device, "Fake 0");
}

TEST(DeviceGroup, BatchesAreEven) {
  Fakes fakes({room_for(400)});
  const SelftestTable table(shape_of(Task::kBinary, 1000), 1);
  expect_same_tables(*fakes.group, table.view());
  std::vector<i64> rows;
  for (const FakeCall& call : fakes.logs[0]->calls) rows.push_back(call.rows);
  EXPECT_EQ(rows, (std::vector<i64>{334, 334, 332}));
}

// More rows than a kernel's counters hold are no matter of memory, and nobody is told so.
TEST(DeviceGroup, MoreRowsThanACallTakesAreCutWithoutANote) {
  FakePlan plan;
  plan.rows_of_call = 100;
  Fakes fakes({plan});
  const SelftestTable table(shape_of(Task::kBinary, 250), 1);
  expect_same_tables(*fakes.group, table.view());
  ASSERT_TRUE(fakes.group->bad_scores(table.view()).ok());
  for (const FakeCall& call : fakes.logs[0]->calls) EXPECT_LE(call.rows, 100);
  EXPECT_EQ(fakes.logs[0]->computed(), 6);
  EXPECT_EQ(fakes.group->take_notes(), Strings());
}

TEST(DeviceGroup, SmallBatchesOfALargeTableAreNotCountless) {
  Fakes fakes({FakePlan{}}, batches_of(1));
  const SelftestTable table(shape_of(Task::kBinary, 10'000), 1);
  ASSERT_TRUE(fakes.group->bad_scores(table.view()).ok());
  EXPECT_LE(fakes.logs[0]->calls.size(), 4096u);
  EXPECT_GT(fakes.logs[0]->calls.size(), 2048u);
}

TEST(DeviceGroup, ManyBatchesAreSpreadOverAllDevices) {
  Fakes fakes({room_for(100), room_for(100)});
  const SelftestTable table(shape_of(Task::kBinary, 100'000), 1);
  expect_same_tables(*fakes.group, table.view());
  EXPECT_EQ(fakes.logs[0]->computed() + fakes.logs[1]->computed(), 1000);
  fakes.expect_sound();
}

TEST(DeviceGroup, ProblemsAreCutBeforeRows) {
  FakePlan plan;
  plan.free_bytes = 1000 * (plan.bytes_of_row + 3 * plan.bytes_of_problem);
  Fakes fakes({plan});
  const SelftestTable table(shape_of(Task::kMulticlass, 1000, 7), 1);
  const auto queries = selftest_queries();
  const auto summaries = fakes.group->rank_summaries(table.view(), 0, 7, queries);
  ASSERT_TRUE(summaries.ok());
  ASSERT_EQ(summaries.value().size(), 7u);
  ASSERT_EQ(fakes.logs[0]->calls.size(), 3u);
  i64 next = 0;
  for (const FakeCall& call : fakes.logs[0]->calls) {
    EXPECT_EQ(call.pass, "rank_summaries");
    EXPECT_EQ(call.rows, 1000);
    EXPECT_EQ(call.first, next);
    EXPECT_LE(call.last - call.first, 3);
    next = call.last;
  }
  EXPECT_EQ(next, 7);
  expect_same_tables(*fakes.group, table.view());
}

TEST(DeviceGroup, SummariesOfCutRowsComeFromMergedTables) {
  Fakes fakes({room_for(300)});
  const SelftestTable table(shape_of(Task::kBinary, 1000), 1);
  const auto summaries = fakes.group->rank_summaries(table.view(), 0, 1, selftest_queries());
  ASSERT_TRUE(summaries.ok());
  for (const FakeCall& call : fakes.logs[0]->calls) EXPECT_EQ(call.pass, "rank_tables");
  EXPECT_EQ(fakes.logs[0]->calls.size(), 4u);
}

TEST(DeviceGroup, NoRowsAndNoProblems) {
  Fakes fakes({FakePlan{}});
  const SelftestTable table(shape_of(Task::kMulticlass, 0, 3), 1);
  const auto tables = fakes.group->rank_tables(table.view(), 0, 3);
  ASSERT_TRUE(tables.ok());
  EXPECT_EQ(tables.value().size(), 3u);
  EXPECT_EQ(tables.value()[0].size(), 1u);
  const auto none = fakes.group->rank_tables(table.view(), 2, 2);
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE(none.value().empty());
}

TEST(DeviceGroup, BadScoresAreCountedFromTheWholeTablesFirstRow) {
  SelftestCase shape = shape_of(Task::kMultilabel, 1000, 3);
  shape.scores = CaseScores::kFewBad;
  const SelftestTable table(shape, 1);
  for (const i64 first : {0, 1, 501}) {
    Fakes fakes({FakePlan{}, FakePlan{}}, batches_of(70));
    const TableView part = rows_of(table.view(), first, 1000 - first);
    const auto expected = make_cpu_backend(1)->bad_scores(part);
    const auto actual = fakes.group->bad_scores(part);
    ASSERT_TRUE(expected.ok() && actual.ok());
    EXPECT_EQ(actual.value().rows, expected.value().rows);
    EXPECT_EQ(actual.value().first_row, expected.value().first_row);
    EXPECT_EQ(actual.value().first_column, expected.value().first_column);
  }
}

TEST(DeviceGroup, HeldColumnsAreHeldByEveryDevice) {
  Fakes fakes({room_for(100), room_for(100)});
  const SelftestTable table(shape_of(Task::kBinary, 1000), 1);
  fakes.group->hold_columns(true);
  expect_same_tables(*fakes.group, table.view());
  fakes.group->hold_columns(false);
  for (const auto& log : fakes.logs) EXPECT_EQ(log->forgotten, 0);
  fakes.group->forget_columns();
  for (const auto& log : fakes.logs) EXPECT_EQ(log->forgotten, 1);
  for (const auto& log : fakes.logs) {
    ASSERT_EQ(log->held.size(), 2u) << "also one that is opened later";
    EXPECT_TRUE(log->held[0]);
    EXPECT_FALSE(log->held[1]);
  }
}

// Rows that pairs begin with are shared out, and each device sees the whole table: a range that is
// left out, done twice, or lost with a device changes the sum.
TEST(DeviceGroup, PairsOfRowsAreSharedByTheRowTheyBeginWith) {
  const SelftestTable drawn(shape_of(Task::kMulticlass, 500, 3), 1);
  const SelftestPairs pairs(drawn.view());
  const TableView& table = pairs.view();
  auto cpu = make_cpu_backend(1);
  FakePlan failing;
  failing.fail_at = 3;
  FakePlan small;
  small.most_rows = 499;
  const std::vector<std::vector<FakePlan>> machines{
      {FakePlan{}}, {FakePlan{}, FakePlan{}}, {failing, FakePlan{}}, {failing, failing}, {small}};
  for (std::size_t machine = 0; machine < machines.size(); ++machine) {
    for (const auto& [first, last] : std::vector<std::pair<i64, i64>>{{0, 500}, {123, 432}}) {
      Fakes fakes(machines[machine], batches_of(70));
      const auto sum = fakes.group->pair_sum(table, first, last, 0.4);
      ASSERT_TRUE(sum.ok()) << machine;
      EXPECT_TRUE(*sum == *cpu->pair_sum(table, first, last, 0.4)) << machine;
      const auto counts = fakes.group->pair_distances(table, first, last, std::nullopt);
      ASSERT_TRUE(counts.ok()) << machine;
      EXPECT_EQ(*counts, *cpu->pair_distances(table, first, last, std::nullopt)) << machine;
      fakes.expect_sound();
      i64 calls = 0;
      for (const auto& log : fakes.logs) {
        for (const FakeCall& call : log->calls) {
          EXPECT_EQ(call.rows, 500);
          EXPECT_LE(call.last - call.first, 70);
          ++calls;
        }
      }
      EXPECT_GT(calls, 2);
    }
  }
}

// ---- trouble
// -----------------------------------------------------------------------------------------

TEST(DeviceGroup, MemoryThatEndsHalvesTwiceAndThenTakesTheCpu) {
  FakePlan plan;
  plan.most_rows = 1000;
  const SelftestTable table(shape_of(Task::kBinary, 8000), 1);
  {
    plan.most_rows = 4000;
    Fakes fakes({plan});
    expect_same_tables(*fakes.group, table.view());
    EXPECT_EQ(fakes.group->take_notes(),
              (Strings{"cuda:0: out of memory at 8,000 rows, trying 4,000"}));
    EXPECT_EQ(fakes.group->take_notes(), Strings()) << "taken once";
    EXPECT_EQ(fakes.group->info().name, "cuda");
  }
  {
    plan.most_rows = 1999;
    Fakes fakes({plan});
    expect_same_tables(*fakes.group, table.view());
    EXPECT_EQ(fakes.group->take_notes(),
              (Strings{"cuda:0: out of memory at 8,000 rows, trying 4,000",
                       "cuda:0: out of memory at 4,000 rows, trying 2,000",
                       "cuda:0: out of memory at 2,000 rows, computed on the CPU (4 times)"}));
    EXPECT_EQ(fakes.group->info().name, "cpu");
  }
  {
    // The last batch is smaller, and fits.
    plan.most_rows = 1998;
    const SelftestTable odd(shape_of(Task::kBinary, 7994), 1);
    Fakes fakes({plan});
    expect_same_tables(*fakes.group, odd.view());
    EXPECT_EQ(fakes.group->take_notes(),
              (Strings{"cuda:0: out of memory at 7,994 rows, trying 3,997",
                       "cuda:0: out of memory at 3,997 rows, trying 1,999",
                       "cuda:0: out of memory at 1,999 rows, computed on the CPU (2 times)"}));
    EXPECT_EQ(fakes.group->info().name, "cuda+cpu");
  }
}

TEST(DeviceGroup, NotesSayWhatIsWorthAWarning) {
  FakePlan plan;
  plan.most_rows = 10;
  const SelftestTable table(shape_of(Task::kBinary, 100), 1);
  Fakes fakes({plan});
  expect_same_tables(*fakes.group, table.view());
  std::vector<bool> warnings;
  for (const BackendNote& note : fakes.group->take_weighted_notes()) {
    warnings.push_back(note.warning);
  }
  EXPECT_EQ(warnings, (std::vector<bool>{false, false, true}));
}

TEST(DeviceGroup, OneRowIsNotHalved) {
  FakePlan plan;
  plan.most_rows = 0;
  Fakes fakes({plan});
  const SelftestTable table(shape_of(Task::kBinary, 1), 1);
  expect_same_tables(*fakes.group, table.view());
  EXPECT_EQ(fakes.group->take_notes(),
            (Strings{"cuda:0: out of memory at 1 row, computed on the CPU"}));
}

TEST(DeviceGroup, AFailedDeviceIsLeftAloneAndTheOthersGoOn) {
  FakePlan failing;
  failing.fail_at = 2;
  Fakes fakes({failing, FakePlan{}}, batches_of(100));
  const SelftestTable table(shape_of(Task::kBinary, 10'000), 1);
  for (int round = 0; round < 5; ++round) expect_same_tables(*fakes.group, table.view());
  const auto notes = fakes.group->take_notes();
  // Threads decide which device takes more: it fails in one of the rounds, and once.
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(notes[0],
            "cuda:0: an illegal memory access; 100 rows computed on the CPU, the device is left "
            "alone from here on");
  EXPECT_EQ(fakes.logs[0]->calls.size(), 2u);
  EXPECT_GE(fakes.logs[1]->computed(), 300);
  EXPECT_EQ(fakes.group->info().name, "cuda+cpu");
  fakes.expect_sound();
}

TEST(DeviceGroup, TheCpuGoesOnWhereNoDeviceIsLeft) {
  FakePlan failing;
  failing.fail_at = 3;
  Fakes fakes({failing}, batches_of(100));
  const SelftestTable table(shape_of(Task::kBinary, 1000), 1);
  expect_same_tables(*fakes.group, table.view());
  EXPECT_EQ(fakes.logs[0]->calls.size(), 3u);
  EXPECT_EQ(fakes.group->take_notes().size(), 1u);
  expect_same_tables(*fakes.group, table.view());
  EXPECT_EQ(fakes.logs[0]->calls.size(), 3u) << "not asked again";
  EXPECT_EQ(fakes.group->fallback(), "") << "a usable device was there";
}

TEST(DeviceGroup, WithoutTheCpuTroubleIsAnError) {
  FakePlan failing;
  failing.fail_at = 1;
  FakePlan small;
  small.most_rows = 10;
  const SelftestTable table(shape_of(Task::kBinary, 1000), 1);
  DeviceGroupOptions options;
  options.may_use_cpu = false;
  Fakes broken({failing}, options);
  auto tables = broken.group->rank_tables(table.view(), 0, 1);
  ASSERT_FALSE(tables.ok());
  EXPECT_EQ(tables.error().code, ErrorCode::kBackend);
  EXPECT_EQ(tables.error().text(), "cuda:0: an illegal memory access");
  tables = broken.group->rank_tables(table.view(), 0, 1);
  ASSERT_FALSE(tables.ok());
  EXPECT_EQ(tables.error().text(), "no device is left");
  Fakes full({small}, options);
  tables = full.group->rank_tables(table.view(), 0, 1);
  ASSERT_FALSE(tables.ok());
  EXPECT_EQ(tables.error().text(), "cuda:0: out of memory at 250 rows");
}

TEST(DeviceGroup, AnErrorOfTheInputIsNotTriedElsewhere) {
  FakePlan refusing;
  refusing.refuse = true;
  Fakes fakes({refusing, FakePlan{}});
  const SelftestTable table(shape_of(Task::kBinary, 1000), 1);
  const auto sums = fakes.group->row_sums(table.view(), {});
  ASSERT_FALSE(sums.ok());
  EXPECT_EQ(sums.error().text(), "table: is refused");
  EXPECT_EQ(fakes.group->take_notes(), Strings());
  EXPECT_EQ(fakes.logs[1]->calls.size(), 0u);
}

TEST(DeviceGroup, SmallTablesStayOnTheCpuAndThePlanSaysSo) {
  DeviceGroupOptions options;
  options.least_device_bytes = 5000;
  Fakes fakes({FakePlan{}}, options);
  const SelftestTable small(shape_of(Task::kBinary, 999), 1);
  const SelftestTable large(shape_of(Task::kBinary, 1000), 1);
  expect_same_tables(*fakes.group, small.view());
  expect_same_tables(*fakes.group, small.view());
  EXPECT_EQ(fakes.group->take_notes(),
            (Strings{"computed on the CPU: 4,995 bytes are too few to pay for a device (from 5,000 "
                     "bytes)"}));
  EXPECT_EQ(fakes.group->info().name, "cpu");
  EXPECT_EQ(fakes.logs[0]->calls.size(), 0u);
  expect_same_tables(*fakes.group, large.view());
  EXPECT_EQ(fakes.group->info().name, "cuda+cpu");
  EXPECT_EQ(fakes.group->fallback(), "");
}

// ---- the choice
// ---------------------------------------------------------------------------------------

BackendChoice choice_of(const std::string& name, const DeviceProvider* provider) {
  BackendChoice choice;
  choice.name = name;
  choice.threads = 1;
  choice.provider = provider;
  choice.least_device_bytes = 0;
  return choice;
}

std::string refusal(const std::string& name, const DeviceProvider* provider,
                    ErrorCode code = ErrorCode::kBackend) {
  const auto chosen = choose_backend(choice_of(name, provider));
  if (chosen.ok()) return "was chosen";
  EXPECT_EQ(chosen.error().code, code);
  return chosen.error().text();
}

TEST(ChooseBackend, NamesOfDevicesHaveToBeUsable) {
  EXPECT_EQ(
      refusal("cuda", nullptr),
      "backend 'cuda' is not usable: this build has no CUDA backend; use --backend auto or cpu");
  FakeProvider two({{}, {{}, "its architecture sm_00 is not in this binary", ""}});
  EXPECT_EQ(refusal("cuda:9", &two),
            "backend 'cuda:9' is not usable: there is no device 9 (2 devices); use --backend auto "
            "or cpu");
  EXPECT_EQ(refusal("cuda:1", &two),
            "backend 'cuda:1' is not usable: its architecture sm_00 is not in this binary; use "
            "--backend auto or cpu");
  EXPECT_EQ(refusal("cuda:0", &two), "was chosen");
  FakeProvider none;
  none.reason = "there is no NVIDIA driver";
  EXPECT_EQ(refusal("cuda", &none),
            "backend 'cuda' is not usable: there is no NVIDIA driver; use --backend auto or cpu");
  EXPECT_EQ(refusal("cuda:0", &none),
            "backend 'cuda:0' is not usable: there is no NVIDIA driver; use --backend auto or cpu");
  FakeProvider full({{{}, "", "not enough memory: 1 MiB of 16 GiB is free"}});
  EXPECT_EQ(refusal("cuda", &full),
            "backend 'cuda' is not usable: not enough memory: 1 MiB of 16 GiB is free; use "
            "--backend auto or cpu");
  for (const char* name : {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", ""}) {
    EXPECT_EQ(refusal(name, &two, ErrorCode::kUsage),
              "unknown backend '" + std::string(name) + "'; use auto, cpu, cuda or cuda:N");
  }
}

TEST(ChooseBackend, AutoSaysWhyThereIsNoDevice) {
  const auto fallback = [](const DeviceProvider* provider) {
    auto chosen = choose_backend(choice_of("auto", provider));
    EXPECT_TRUE(chosen.ok());
    const SelftestTable table(shape_of(Task::kBinary, 100), 1);
    expect_same_tables(**chosen, table.view());
    EXPECT_EQ(chosen.value()->info().name, "cpu");
    EXPECT_EQ(chosen.value()->take_notes(), Strings());
    return chosen.value()->fallback();
  };
  EXPECT_EQ(fallback(nullptr), "this build has no CUDA backend");
  FakeProvider none;
  none.reason = "the NVIDIA driver 1.0 is too old";
  EXPECT_EQ(fallback(&none), "the NVIDIA driver 1.0 is too old");
  FakeProvider empty;
  EXPECT_EQ(fallback(&empty), "there is no device");
  FakeProvider unusable({{{}, "its architecture is too old", ""}});
  EXPECT_EQ(fallback(&unusable), "its architecture is too old");
  FakeProvider full({{{}, "", "not enough memory"}});
  EXPECT_EQ(fallback(&full), "not enough memory");
}

TEST(ChooseBackend, TheCpuAsksForNoDevice) {
  const FakeProvider provider(std::vector<FakeProvider::Device>(1));
  auto chosen = choose_backend(choice_of("cpu", &provider));
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ(chosen.value()->info().name, "cpu");
  EXPECT_EQ(chosen.value()->fallback(), "");
  EXPECT_EQ(provider.opened, 0);
}

TEST(ChooseBackend, AutoOpensADeviceWhenATableNeedsIt) {
  const FakeProvider provider({{}, {}});
  auto choice = choice_of("auto", &provider);
  choice.least_device_bytes = 1000;
  auto chosen = choose_backend(choice);
  ASSERT_TRUE(chosen.ok());
  const SelftestTable small(shape_of(Task::kBinary, 10), 1);
  expect_same_tables(**chosen, small.view());
  EXPECT_EQ(provider.opened, 0);
  const SelftestTable large(shape_of(Task::kBinary, 1000), 1);
  expect_same_tables(**chosen, large.view());
  EXPECT_EQ(provider.opened, 1) << "the second is not needed";
  EXPECT_EQ(chosen.value()->fallback(), "");
}

TEST(ChooseBackend, ADeviceThatCannotBeOpenedIsMentionedWhereAnotherCan) {
  FakeProvider provider({{{}, "", "not enough memory"}, {}});
  auto chosen = choose_backend(choice_of("cuda", &provider));
  ASSERT_TRUE(chosen.ok()) << chosen.error().text();
  const SelftestTable table(shape_of(Task::kBinary, 1000), 1);
  expect_same_tables(**chosen, table.view());
  EXPECT_EQ(chosen.value()->take_notes(), (Strings{"cuda:0: not used: not enough memory"}));
  EXPECT_EQ(chosen.value()->info().name, "cuda");
  EXPECT_EQ(chosen.value()->info().device, "Fake 1");
}

TEST(ChooseBackend, SettingsReachTheDevice) {
  const FakeProvider provider(std::vector<FakeProvider::Device>(1));
  auto choice = choice_of("cuda:0", &provider);
  choice.device.memory_limit = 200 * 100;
  auto chosen = choose_backend(choice);
  ASSERT_TRUE(chosen.ok());
  const SelftestTable table(shape_of(Task::kBinary, 1000), 1);
  expect_same_tables(**chosen, table.view());
  EXPECT_EQ(provider.logs[0]->calls.size(), 10u);
  choice.device.fail_at_launch = 12;
  chosen = choose_backend(choice);
  ASSERT_TRUE(chosen.ok());
  expect_same_tables(**chosen, table.view());
  EXPECT_EQ(chosen.value()->take_notes().size(), 1u);
}

// ---- the self-test itself
// -------------------------------------------------------------------------------

/// Computes what the CPU does, but for a bit in one state.
class WrongBackend final : public Backend {
 public:
  explicit WrongBackend(SelftestState state) : wrong_(state), cpu_(make_cpu_backend(1)) {}
  BackendInfo info() const override { return {"wrong", "a broken processor"}; }
  Result<std::vector<std::vector<RankTable>>> rank_tables(const TableView& table, i64 first,
                                                          i64 last) override {
    auto tables = cpu_->rank_tables(table, first, last);
    if (wrong_ == SelftestState::kRankTables && table.rows == 33) tables = input_error("", "no");
    return tables;
  }
  Result<std::vector<RankSummary>> rank_summaries(const TableView& table, i64 first, i64 last,
                                                  std::span<const RankQuery> queries) override {
    auto summaries = cpu_->rank_summaries(table, first, last, queries);
    if (wrong_ == SelftestState::kRankSummaries && table.rows == 33) {
      summaries->back().answers.back().ranges.back().neg += 1;
    }
    return summaries;
  }
  Result<std::vector<std::vector<RowSums>>> row_sums(const TableView& table,
                                                     const RowSpec& spec) override {
    auto sums = cpu_->row_sums(table, spec);
    if (!spec.tempering.factors.empty()) {
      if (wrong_ == SelftestState::kTemperedSums) sums->back().back().slopes.mean.limb[0] += 1;
    } else if (wrong_ == SelftestState::kRowSums && table.rows == 33) {
      sums->back().back().overflowed += 1;
    }
    return sums;
  }
  Result<i128> pair_sum(const TableView& table, i64 first, i64 last, double nu) override {
    auto sum = cpu_->pair_sum(table, first, last, nu);
    if (wrong_ == SelftestState::kPairSums && table.rows == 33) *sum += 1;
    return sum;
  }
  Result<ConformalScores> conformal_scores(const TableView& table,
                                           std::span<const ConformalRule> rules,
                                           const std::vector<bool>& wanted, int threads) override {
    auto scores = cpu_->conformal_scores(table, rules, wanted, threads);
    Buffer<i64>& last = scores->scores.back();
    if (wrong_ == SelftestState::kConformalScores && !last.empty()) last.back() += 1;
    return scores;
  }
  Result<ConformalRowSets> conformal_row_sets(const TableView& table,
                                              std::span<const ConformalSet> sets,
                                              const std::vector<bool>& wanted,
                                              int threads) override {
    auto found = cpu_->conformal_row_sets(table, sets, wanted, threads);
    Buffer<u32>& last = found->sets.back();
    if (wrong_ == SelftestState::kConformalSets && !last.empty()) last.back() ^= 1;
    return found;
  }
  Result<PairStates> embedding_pairs(const EmbeddingView& view, const PairPass& pass, int threads,
                                     const PairProgress& progress) override {
    auto states = cpu_->embedding_pairs(view, pass, threads, progress);
    if (wrong_ == SelftestState::kEmbeddingPairs && view.rows == 33) {
      states->neighbours.rows.back().key ^= 1;
    }
    return states;
  }
  Result<BadScores> bad_scores(const TableView& table) override {
    auto bad = cpu_->bad_scores(table);
    if (wrong_ == SelftestState::kBadScores && bad->first_row > 0) bad->first_row -= 1;
    return bad;
  }

 private:
  SelftestState wrong_;
  std::unique_ptr<Backend> cpu_;
};

TEST(Selftest, SeesOneWrongState) {
  SelftestOptions options;
  options.quick = true;
  const auto reference = make_cpu_backend(1);
  for (int state = 0; state < kSelftestStates; ++state) {
    WrongBackend wrong(static_cast<SelftestState>(state));
    const SelftestReport report = run_selftest(*reference, wrong, options);
    EXPECT_FALSE(report.equal());
    for (const SelftestLine& line : report.lines) {
      EXPECT_EQ(line.different > 0, line.state == static_cast<SelftestState>(state));
      EXPECT_EQ(line.first_difference.empty(), line.different == 0);
    }
  }
}

TEST(Selftest, CasesHaveEveryTypeAndTrait) {
  const std::vector<SelftestCase> cases = selftest_cases(false);
  const auto count = [&](auto wanted) { return std::count_if(cases.begin(), cases.end(), wanted); };
  for (const DType type :
       {DType::kBool, DType::kI8, DType::kI16, DType::kI32, DType::kI64, DType::kU8, DType::kU16,
        DType::kU32, DType::kU64, DType::kF16, DType::kBF16, DType::kF32, DType::kF64}) {
    for (const Task task : {Task::kBinary, Task::kMulticlass, Task::kMultilabel}) {
      for (const bool logits : {false, true}) {
        EXPECT_GT(count([&](const SelftestCase& one) {
                    return one.dtype == type && one.task == task && one.logits == logits;
                  }),
                  10);
        for (const bool grouped : {false, true}) {
          for (const auto weights : {CaseWeights::kNone, CaseWeights::kF32, CaseWeights::kF64}) {
            for (const auto layout :
                 {CaseLayout::kPlain, CaseLayout::kUnaligned, CaseLayout::kStrided}) {
              EXPECT_GT(count([&](const SelftestCase& one) {
                          return one.dtype == type && one.task == task && one.logits == logits &&
                                 (one.cells > 1) == grouped && one.weights == weights &&
                                 one.layout == layout;
                        }),
                        0);
            }
          }
        }
      }
    }
  }
  for (const i64 rows : {0, 1, 31, 32, 33, 255, 256, 257, 4095, 4096, 4097, (1 << 20) + 1}) {
    EXPECT_GT(count([&](const SelftestCase& one) { return one.rows == rows; }), 10) << rows;
  }
  for (const auto scores : {CaseScores::kTied, CaseScores::kOnlyPositive, CaseScores::kOnlyNegative,
                            CaseScores::kFewBad, CaseScores::kLastBad}) {
    EXPECT_GT(count([&](const SelftestCase& one) { return one.scores == scores; }), 30);
  }
}

TEST(Selftest, CandidatesAreWhatTheMachineHas) {
  const auto names = [](const std::string& name, const DeviceProvider* provider) {
    Strings found;
    auto candidates = selftest_candidates(choice_of(name, provider));
    if (!candidates) return Strings{candidates.error().text()};
    for (const SelftestCandidate& one : candidates->backends) found.push_back(one.name);
    if (!candidates->no_device.empty()) found.push_back(candidates->no_device);
    return found;
  };
  const FakeProvider two({{}, {}});
  EXPECT_EQ(names("cpu", &two), (Strings{"cpu, 2 threads"}));
  EXPECT_EQ(names("auto", nullptr), (Strings{"cpu, 2 threads", "this build has no CUDA backend"}));
  EXPECT_EQ(names("cuda:1", &two), (Strings{"cuda:1", "cuda:1, in batches", "cuda:1, in parts"}));
  EXPECT_EQ(names("cuda", &two),
            (Strings{"cuda:0", "cuda:0, in batches", "cuda:0, in parts", "cuda:1",
                     "cuda:1, in batches", "cuda:1, in parts", "cuda, 2 devices"}));
  EXPECT_EQ(names("cuda:2", &two),
            (Strings{"backend 'cuda:2' is not usable: there is no device 2 (2 devices); use "
                     "--backend auto or cpu"}));
}

}  // namespace
}  // namespace cupel
