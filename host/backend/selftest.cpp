#include "cupel/backend/selftest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <new>
#include <optional>
#include <sstream>
#include <type_traits>

#include "backend/device_group.hpp"
#include "backend/selftest_case.hpp"
#include "backend/selftest_conformal.hpp"
#include "backend/selftest_embedding.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/core/bytes.hpp"

namespace cupel {
namespace {

/// A part of a state that can be told from the others, in bytes.
struct NamedBytes {
  std::string name;
  std::vector<std::byte> bytes;
};
/// What a backend made of a case: its parts, or its refusal.
struct Outcome {
  std::vector<NamedBytes> parts;
  std::string refusal;
};

void put_point(ByteWriter& writer, const OperatingPoint& point) {
  // Field by field: padding has no value.
  writer.put(static_cast<u8>(point.exists ? 1 : 0));
  writer.put(static_cast<u8>(point.has_key ? 1 : 0));
  writer.put(point.key);
  writer.put(point.tp);
  writer.put(point.fp);
}

std::vector<std::byte> bytes_of(const RankSummary& summary) {
  ByteWriter writer;
  writer.put(static_cast<u8>(summary.kind));
  writer.put(static_cast<u8>(summary.weighted ? 1 : 0));
  writer.put(summary.pos_rows);
  writer.put(summary.neg_rows);
  writer.put(summary.pos);
  writer.put(summary.neg);
  for (const RankAnswer& answer : summary.answers) {
    writer.put(answer.sum);
    put_point(writer, answer.at);
    put_point(writer, answer.before);
    writer.put(static_cast<u64>(answer.ranges.size()));
    for (const RangeShare& range : answer.ranges) {
      writer.put(range.pos);
      writer.put(range.neg);
      writer.put(range.two_u);
      writer.put(range.precision);
    }
  }
  return writer.take();
}

template <class State>
Outcome encoded(const Result<std::vector<std::vector<State>>>& states) {
  Outcome outcome;
  if (!states) {
    outcome.refusal = states.error().text();
    return outcome;
  }
  for (std::size_t p = 0; p < states.value().size(); ++p) {
    for (std::size_t cell = 0; cell < states.value()[p].size(); ++cell) {
      ByteWriter writer;
      states.value()[p][cell].encode(writer);
      outcome.parts.push_back({fmt::format("problem {}, cell {}", p, cell), writer.take()});
    }
  }
  return outcome;
}

Outcome scores_of(const Result<ConformalScores>& scores) {
  Outcome outcome;
  if (!scores) {
    outcome.refusal = scores.error().text();
    return outcome;
  }
  for (std::size_t r = 0; r < scores->scores.size(); ++r) {
    ByteWriter writer;
    writer.put_array(std::span<const i64>(scores->scores[r]));
    outcome.parts.push_back({fmt::format("rule {}", r), writer.take()});
  }
  ByteWriter writer;
  writer.put(scores->outside_unit);
  outcome.parts.push_back({"rows outside [0, 1]", writer.take()});
  return outcome;
}

void put_tallies(ByteWriter& writer, std::span<const SetTally> tallies) {
  writer.put(static_cast<u64>(tallies.size()));
  for (const SetTally& tally : tallies) {
    writer.put(tally.rows);
    writer.put(tally.covered);
    writer.put(tally.labels);
  }
}

Outcome sets_of(const Result<std::vector<std::vector<SetSums>>>& sums,
                const Result<ConformalRowSets>& rows) {
  Outcome outcome;
  if (!sums || !rows) {
    outcome.refusal = (!sums ? sums.error() : rows.error()).text();
    return outcome;
  }
  for (std::size_t cell = 0; cell < sums->size(); ++cell) {
    for (std::size_t s = 0; s < (*sums)[cell].size(); ++s) {
      const SetSums& own = (*sums)[cell][s];
      ByteWriter writer;
      put_tallies(writer, {&own.all, 1});
      put_tallies(writer, own.by_size);
      put_tallies(writer, own.by_class);
      put_tallies(writer, own.by_rank);
      writer.put(own.outside_unit);
      outcome.parts.push_back({fmt::format("cell {}, set {}", cell, s), writer.take()});
    }
  }
  for (std::size_t s = 0; s < rows->sets.size(); ++s) {
    ByteWriter writer;
    writer.put_array(std::span<const u32>(rows->sets[s]));
    outcome.parts.push_back({fmt::format("rows of set {}", s), writer.take()});
  }
  ByteWriter writer;
  writer.put_array(std::span<const i32>(rows->ranks));
  writer.put(rows->outside_unit);
  outcome.parts.push_back({"ranks of labels", writer.take()});
  return outcome;
}

/// Problems that are ranked: all, or, in some cases, without the first and the last.
std::pair<i64, i64> ranked_problems(const TableView& table, std::size_t variant) {
  const i64 problems = table.problems();
  if (problems < 3 || variant % 4 != 3) return {0, problems};
  return {1, problems - 1};
}

/// `asked`: of conformal prediction; `threads`: of passes that are told how many to take.
Outcome compute(Backend& backend, SelftestState state, const SelftestCase& shape,
                const TableView& table, std::size_t variant, const SelftestSets* asked,
                int threads) {
  const auto [first, last] = ranked_problems(table, variant);
  Outcome outcome;
  switch (state) {
    case SelftestState::kRankTables:
      return encoded(backend.rank_tables(table, first, last));
    case SelftestState::kRankSummaries: {
      const auto summaries = backend.rank_summaries(table, first, last, selftest_queries());
      if (!summaries) {
        outcome.refusal = summaries.error().text();
        return outcome;
      }
      for (std::size_t p = 0; p < summaries.value().size(); ++p) {
        outcome.parts.push_back({fmt::format("problem {}", p), bytes_of(summaries.value()[p])});
      }
      return outcome;
    }
    case SelftestState::kRowSums: {
      TableView own = table;
      // By turns that meet those of the specs.
      own.softmax = variant / 3 % 2 == 0 ? SoftmaxKind::kF64 : SoftmaxKind::kF32;
      return encoded(backend.row_sums(own, selftest_spec(shape, variant)));
    }
    case SelftestState::kTemperedSums:
      return encoded(backend.row_sums(table, tempered_spec(shape, variant)));
    case SelftestState::kPairSums: {
      const SelftestPairs pairs(table);
      const i64 rows = table.rows;
      ByteWriter writer;
      for (const auto& [from, to] : {std::pair{i64{0}, rows / 3}, std::pair{rows / 3, rows}}) {
        const auto sum = backend.pair_sum(pairs.view(), from, to, variant % 2 == 0 ? 0.4 : 0.01);
        const auto counts = backend.pair_distances(pairs.view(), from, to, std::nullopt);
        const auto within = backend.pair_distances(pairs.view(), from, to, kSelftestDistance);
        if (!sum || !counts || !within) {
          outcome.refusal = (!sum ? sum.error() : !counts ? counts.error() : within.error()).text();
          return outcome;
        }
        writer.put(static_cast<u128>(*sum));
        writer.put_array(std::span<const u64>(*counts));
        writer.put_array(std::span<const u64>(*within));
      }
      outcome.parts.push_back({"pairs", writer.take()});
      return outcome;
    }
    case SelftestState::kConformalScores: {
      return scores_of(
          backend.conformal_scores(asked->view(), asked->rules(), asked->wanted(), threads));
    }
    case SelftestState::kConformalSets: {
      return sets_of(
          backend.conformal_sets(asked->view(), asked->sets(), asked->wanted(), threads),
          backend.conformal_row_sets(asked->view(), asked->sets(), asked->wanted(), threads));
    }
    case SelftestState::kEmbeddingPairs: {
      const SelftestEmbedding rows(std::max<i64>(table.rows, 1), table.classes, variant);
      backend.forget_columns();  // those of another may have been there
      const auto states = backend.embedding_pairs(rows.view(), rows.pass(), threads, {});
      if (!states) {
        outcome.refusal = states.error().text();
        return outcome;
      }
      ByteWriter writer;
      put_pairs(writer, *states);
      outcome.parts.push_back({"pairs", writer.take()});
      return outcome;
    }
    case SelftestState::kBadScores: {
      const auto bad = backend.bad_scores(table);
      if (!bad) {
        outcome.refusal = bad.error().text();
        return outcome;
      }
      ByteWriter writer;
      writer.put(bad.value().rows);
      writer.put(bad.value().first_row);
      writer.put(bad.value().first_column);
      outcome.parts.push_back({fmt::format("{} in rows from {}, column {}", bad.value().rows,
                                           bad.value().first_row, bad.value().first_column),
                               writer.take()});
      return outcome;
    }
  }
  return outcome;
}

/// Where the outcomes part; empty: nowhere.
std::string difference(const Outcome& expected, const Outcome& actual) {
  if (expected.refusal != actual.refusal) {
    return actual.refusal.empty() ? "was computed, though the reference says: " + expected.refusal
                                  : actual.refusal;
  }
  if (expected.parts.size() != actual.parts.size()) {
    return fmt::format("{} parts, expected {}", actual.parts.size(), expected.parts.size());
  }
  for (std::size_t i = 0; i < expected.parts.size(); ++i) {
    const auto& a = actual.parts[i].bytes;
    const auto& e = expected.parts[i].bytes;
    if (a == e) continue;
    const auto at = std::mismatch(a.begin(), a.end(), e.begin(), e.end()).first - a.begin();
    return fmt::format("{}: byte {} of {}", actual.parts[i].name, at, e.size());
  }
  return {};
}

class Selftest {
 public:
  Selftest(Backend& reference, std::span<Backend* const> candidates, u64 seed)
      : reference_(reference), candidates_(candidates), seed_(seed), reports_(candidates.size()) {
    for (SelftestReport& report : reports_) {
      for (int state = 0; state < kSelftestStates; ++state) {
        report.lines.push_back({static_cast<SelftestState>(state), 0, 0, {}});
      }
    }
  }

  void run(const SelftestCase& shape) {
    const SelftestTable table(shape, seed_ + 0x9E3779B97F4A7C15u * variant_);
    compare(shape, table.view());
    ++variant_;
  }

  void compare(const SelftestCase& shape, const TableView& table) {
    std::optional<SelftestSets> asked;
    if (!shape.bad() && has_selftest_sets(table, variant_)) asked.emplace(table, variant_);
    const SelftestSets* const sets = asked ? &*asked : nullptr;
    for (int at = 0; at < kSelftestStates; ++at) {
      const auto state = static_cast<SelftestState>(at);
      // The other passes are for rows that can be ranked.
      if (shape.bad() && state != SelftestState::kBadScores) continue;
      const bool tempers = shape.task == Task::kMulticlass && shape.logits;
      if (state == SelftestState::kTemperedSums && !tempers) continue;
      const bool pairs =
          state == SelftestState::kPairSums || state == SelftestState::kEmbeddingPairs;
      if (pairs && !has_selftest_pairs(table)) continue;
      const bool conformal =
          state == SelftestState::kConformalScores || state == SelftestState::kConformalSets;
      if (conformal && sets == nullptr) continue;
      const Outcome expected = compute(reference_, state, shape, table, variant_, sets, 1);
      for (std::size_t i = 0; i < candidates_.size(); ++i) {
        SelftestLine& line = reports_[i].lines[static_cast<std::size_t>(at)];
        ++line.cases;
        std::string found =
            difference(expected, compute(*candidates_[i], state, shape, table, variant_, sets, 2));
        if (found.empty()) continue;
        ++line.different;
        if (line.first_difference.empty()) line.first_difference = shape.text() + ": " + found;
      }
    }
  }

  std::vector<SelftestReport> take() { return std::move(reports_); }
  void leave_out_large(const std::string& why) {
    for (SelftestReport& report : reports_) report.large = why;
  }

 private:
  Backend& reference_;
  std::span<Backend* const> candidates_;
  u64 seed_;
  std::size_t variant_ = 0;
  std::vector<SelftestReport> reports_;
};

/// Memory that the system could give, in bytes; as much as one likes where it does not say.
i64 available_memory() {
  std::ifstream info("/proc/meminfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("MemAvailable:")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    i64 kibibytes = 0;
    if (words >> kibibytes) return kibibytes * 1024;
  }
  return std::numeric_limits<i64>::max();
}

/// More rows than a 32-bit integer of either kind of sign counts, 2 bytes each.
void run_large(Selftest& selftest) {
  constexpr i64 kRows = (i64{1} << 31) + 1;
  // The columns, and the keys of both classes with as much again to sort them.
  constexpr i64 kNeeded = kRows * (2 + 8);
  if (const i64 there = available_memory(); there < kNeeded) {
    selftest.leave_out_large(fmt::format("2^31 + 1 rows need {} GiB of memory, {} are available",
                                         (kNeeded >> 30) + 1, there >> 30));
    return;
  }
  SelftestCase shape;
  shape.dtype = DType::kU8;
  shape.rows = kRows;
  try {
    std::vector<u8> scores(static_cast<std::size_t>(kRows));
    std::vector<u8> labels(static_cast<std::size_t>(kRows));
    // Two periods without a common divisor, doubled up by copying.
    const auto fill = [](std::vector<u8>& column, std::size_t period, auto value) {
      for (std::size_t i = 0; i < period; ++i) column[i] = value(i);
      for (std::size_t done = period; done < column.size();) {
        const std::size_t more = std::min(done, column.size() - done);
        std::memcpy(column.data() + done, column.data(), more);
        done += more;
      }
    };
    fill(scores, 65'537, [](std::size_t i) { return static_cast<u8>(i * i >> 3); });
    fill(labels, 65'521, [](std::size_t i) { return static_cast<u8>(i % 7 < 2 ? 1 : 0); });
    TableView table;
    table.rows = kRows;
    table.scores = make_view(scores.data(), DType::kU8, {kRows});
    table.binary_labels = labels.data();
    selftest.compare(shape, table);
  } catch (const std::bad_alloc&) {
    selftest.leave_out_large("2^31 + 1 rows do not fit into memory");
  }
}

}  // namespace

std::string_view selftest_state_name(SelftestState state) {
  constexpr std::string_view kNames[kSelftestStates]{
      "rank tables",      "rank summaries", "row sums",        "tempered sums", "pair sums",
      "conformal scores", "conformal sets", "embedding pairs", "bad scores"};
  return kNames[static_cast<std::size_t>(state)];
}

bool SelftestReport::equal() const {
  return std::all_of(lines.begin(), lines.end(),
                     [](const SelftestLine& line) { return line.different == 0; });
}

i64 SelftestReport::cases() const {
  i64 sum = 0;
  for (const SelftestLine& line : lines) sum += line.cases;
  return sum;
}

std::vector<SelftestReport> run_selftest(Backend& reference, std::span<Backend* const> candidates,
                                         const SelftestOptions& options) {
  Selftest selftest(reference, candidates, options.seed);
  for (const SelftestCase& shape : selftest_cases(options.quick)) selftest.run(shape);
  if (options.large) run_large(selftest);
  return selftest.take();
}

SelftestReport run_selftest(Backend& reference, Backend& candidate,
                            const SelftestOptions& options) {
  Backend* const candidates[] = {&candidate};
  return std::move(run_selftest(reference, candidates, options).front());
}

Result<SelftestCandidates> selftest_candidates(const BackendChoice& choice) {
  SelftestCandidates candidates;
  if (choice.name == "auto" || choice.name == "cpu") {
    const int most = choice.threads > 0 ? choice.threads : available_threads();
    std::vector<int> counts{2};  // where there is one processor, they take turns
    if (most > 2) counts.push_back(most);
    for (const int threads : counts) {
      candidates.backends.push_back(
          {fmt::format("cpu, {} threads", threads), make_cpu_backend(threads)});
    }
  }
  if (choice.name == "cpu") return candidates;

  const auto devices = usable_devices(choice);
  if (!devices) {
    if (choice.name != "auto" || devices.error().code != ErrorCode::kBackend) {
      return devices.error();
    }
    candidates.no_device = devices.error().what;
    return candidates;
  }
  const auto openable = [&](const DeviceInfo& device, i64 part_rows) -> GroupDevice {
    DeviceOptions own = choice.device;
    if (part_rows > 0) own.part_rows = part_rows;
    return {fmt::format("{}:{}", choice.provider->name(), device.ordinal),
            [&provider = *choice.provider, ordinal = device.ordinal, own] {
              return provider.open(ordinal, own);
            }};
  };
  // Cases of more rows than these are cut: by the group, and on the way to the device.
  constexpr i64 kBatchRows = 3000;
  constexpr i64 kPartRows = 509;
  const auto add = [&](const std::string& name, std::vector<GroupDevice> group,
                       i64 batch_rows) -> Result<void> {
    DeviceGroupOptions options;
    options.kind = choice.provider->name();
    options.may_use_cpu = false;
    options.batch_rows = batch_rows;
    auto backend = make_device_group(
        std::move(group), [] { return make_cpu_backend(1); }, std::move(options));
    if (auto opened = backend->open_one(); !opened) {
      return Error{ErrorCode::kBackend, "",
                   fmt::format("backend '{}' is not usable: {}", choice.name, opened.error().what),
                   "use --backend auto or cpu"};
    }
    candidates.backends.push_back({name, std::move(backend)});
    return {};
  };
  std::vector<GroupDevice> all;
  for (const DeviceInfo& device : devices.value()) {
    const GroupDevice one = openable(device, 0);
    all.push_back(one);
    // `auto` goes on without a device that cannot be opened, and says why.
    auto added = add(one.name, {one}, 0);
    if (added) added = add(one.name + ", in batches", {one}, kBatchRows);
    if (added) added = add(one.name + ", in parts", {openable(device, kPartRows)}, 0);
    if (added) continue;
    if (choice.name != "auto") return added.error();
    candidates.no_device = added.error().what;
  }
  if (all.size() > 1) {
    const std::string name = fmt::format("{}, {} devices", choice.provider->name(), all.size());
    auto added = add(name, std::move(all), kBatchRows);
    if (!added && choice.name != "auto") return added.error();
  }
  return candidates;
}

}  // namespace cupel
