// How fast the CUDA backend is on the GPU at hand, beside what that GPU copies in the same run.
//
// Every answer is compared with the CPU backend's, bit for bit, before a time of it is written: at
// full size where the CPU answers within seconds, else over the first rows of the same columns.
// Times are a host's clock around calls that return their results, so that all work on the device
// has ended; "resident" means that the columns were on the device before. Clocks of the device are
// not touched.
//
// Exits 0 when every answer was right, 1 when one was wrong or a case broke, 2 for a wrong option,
// 5 when no GPU is usable. A goal that was missed is in the result and is no failure.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <thread>

#include "cupel/backend/device.hpp"
#include "device_card.hpp"
#include "support/rank_data.hpp"

namespace cupel::bench {
namespace {

using Json = nlohmann::ordered_json;
using test::Draws;

struct Settings {
  int device = 0;
  i64 rows = 1'000'000'000;
  i64 fewer_rows = 100'000'000;
  i64 segments = 1'000;
  i64 matrix_rows = 1'000'000;
  i64 matrix_columns = 1'000;
  int samples = 9;
  i64 check_rows = 62'500'000;
  i64 host_memory = -1;
  std::string output;
  std::vector<std::string> only;
};

/// What a case is held against.
struct Goal {
  double value = 0;
  bool at_most = false;
  const char* unit = "";
  /// The device that it was stated for; on others it is neither met nor missed. Empty: all.
  const char* device = "";
};

// ---- rows -------------------------------------------------------------------------------------

int threads() { return static_cast<int>(std::max(1u, std::thread::hardware_concurrency())); }

/// Elements that are drawn from one seed, so that the number of threads changes nothing.
constexpr i64 kDrawn = i64{1} << 20;

template <class T, class Draw>
void fill(std::vector<T, DefaultInitAllocator<T>>& values, u64 seed, const Draw& draw) {
  const i64 size = static_cast<i64>(values.size());
  const auto work = [&](int thread) {
    for (i64 chunk = thread; chunk * kDrawn < size; chunk += threads()) {
      Draws draws(seed * 0x9E3779B97F4A7C15u + static_cast<u64>(chunk));
      const i64 end = std::min(size, (chunk + 1) * kDrawn);
      for (i64 i = chunk * kDrawn; i < end; ++i) values[static_cast<std::size_t>(i)] = draw(draws);
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads(); ++thread) others.emplace_back(work, thread);
  work(0);
  for (std::thread& other : others) other.join();
}

/// A table, the columns behind it, and how many bytes of them a row has.
struct Rows {
  TableView view;
  i64 row_bytes = 0;
  struct Column {
    std::shared_ptr<const void> owner;
    const void* data = nullptr;
    i64 bytes = 0;
  };
  std::vector<Column> columns;

  template <class T, class Draw>
  const T* add(i64 rows, i64 each, u64 seed, const Draw& draw) {
    auto values = std::make_shared<Buffer<T>>(static_cast<std::size_t>(rows * each));
    fill(*values, seed, draw);
    const T* data = values->data();
    row_bytes += each * static_cast<i64>(sizeof(T));
    columns.push_back({values, data, rows * each * static_cast<i64>(sizeof(T))});
    return data;
  }
};

TableView first_rows(TableView view, i64 rows) {
  view.rows = rows;
  view.scores.shape[0] = rows;
  return view;
}

float unit_float(Draws& draws) { return static_cast<float>(draws.next() >> 40) * 0x1p-24f; }
u8 one_in_ten(Draws& draws) { return draws.below(10) == 0 ? 1 : 0; }
/// Near a normal number, from one draw.
float logit(Draws& draws) {
  const u64 bits = draws.next();
  const u64 sum = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48);
  return (static_cast<float>(sum) * 0x1p-16f - 2.0f) * 3.0f;
}
/// The upper bits of a float in [0, 1): what is below the smallest normal number is 0.
u16 unit_half(Draws& draws) {
  const u32 bits = std::bit_cast<u32>(unit_float(draws));
  return bits < 113u << 23 ? u16{0} : static_cast<u16>((bits >> 13) - (112u << 10));
}
u16 unit_bf16(Draws& draws) {
  return static_cast<u16>(std::bit_cast<u32>(unit_float(draws)) >> 16);
}

template <class T, class Draw>
Rows binary(i64 rows, DType dtype, const Draw& draw) {
  Rows table;
  table.view.rows = rows;
  table.view.scores = make_view(table.add<T>(rows, 1, 11, draw), dtype, {rows});
  table.view.binary_labels = table.add<u8>(rows, 1, 12, one_in_ten);
  return table;
}

Rows weighted(i64 rows) {
  Rows table = binary<float>(rows, DType::kF32, unit_float);
  table.view.weights_f32 =
      table.add<float>(rows, 1, 13, [](Draws& draws) { return 0.5f + unit_float(draws); });
  return table;
}

Rows in_cells(Rows table, i64 cells) {
  const auto limit = static_cast<u64>(cells);
  table.view.cells = table.add<u32>(
      table.view.rows, 1, 14, [=](Draws& draws) { return static_cast<u32>(draws.below(limit)); });
  table.view.cell_count = static_cast<u32>(cells);
  return table;
}

Rows multilabel(i64 rows, i64 labels) {
  Rows table;
  table.view.task = Task::kMultilabel;
  table.view.rows = rows;
  table.view.classes = labels;
  table.view.scores =
      make_view(table.add<float>(rows, labels, 15, unit_float), DType::kF32, {rows, labels});
  table.view.label_matrix = table.add<u8>(rows, labels, 16, one_in_ten);
  return table;
}

Rows multiclass_logits(i64 rows, i64 classes) {
  Rows table;
  table.view.task = Task::kMulticlass;
  table.view.logits = true;
  table.view.rows = rows;
  table.view.classes = classes;
  table.view.scores =
      make_view(table.add<float>(rows, classes, 17, logit), DType::kF32, {rows, classes});
  const auto limit = static_cast<u64>(classes);
  table.view.class_labels = table.add<i32>(
      rows, 1, 18, [=](Draws& draws) { return static_cast<i32>(draws.below(limit)); });
  return table;
}

// ---- questions and answers ----------------------------------------------------------------------

struct Answer {
  std::vector<std::vector<RankTable>> tables;
  std::vector<RankSummary> summaries;
  std::vector<std::vector<RowSums>> sums;
  ConformalScores scores;
  std::vector<std::vector<SetSums>> sets;
};

bool same(const RankSummary& a, const RankSummary& b) {
  // `distinct` is the backend's to count or not.
  return a.kind == b.kind && a.weighted == b.weighted && a.pos_rows == b.pos_rows &&
         a.neg_rows == b.neg_rows && a.pos == b.pos && a.neg == b.neg && a.answers == b.answers;
}
bool same(const Answer& a, const Answer& b) {
  return a.tables == b.tables && a.sums == b.sums && a.sets == b.sets &&
         a.scores.scores == b.scores.scores && a.scores.outside_unit == b.scores.outside_unit &&
         std::equal(a.summaries.begin(), a.summaries.end(), b.summaries.begin(), b.summaries.end(),
                    [](const RankSummary& x, const RankSummary& y) { return same(x, y); });
}

/// What a case asks of a table; one pass or two.
struct Question {
  bool tables = false;
  std::vector<RankQuery> queries;
  std::optional<RowSpec> spec;
  std::vector<ConformalRule> rules;
  std::vector<ConformalSet> sets;

  Result<Answer> ask(Backend& backend, const TableView& table) const {
    Answer answer;
    if (tables) {
      auto found = backend.rank_tables(table, 0, table.problems());
      if (!found) return found.error();
      answer.tables = std::move(*found);
    }
    if (!queries.empty()) {
      auto found = backend.rank_summaries(table, 0, table.problems(), queries);
      if (!found) return found.error();
      answer.summaries = std::move(*found);
    }
    if (spec) {
      auto found = backend.row_sums(table, *spec);
      if (!found) return found.error();
      answer.sums = std::move(*found);
    }
    const std::vector<bool> wanted(table.cell_count, true);
    if (!rules.empty()) {
      auto found = backend.conformal_scores(table, rules, wanted, threads());
      if (!found) return found.error();
      answer.scores = std::move(*found);
    }
    if (!sets.empty()) {
      auto found = backend.conformal_sets(table, sets, wanted, threads());
      if (!found) return found.error();
      answer.sets = std::move(*found);
    }
    return answer;
  }
};

const std::vector<RankQuery> kAuroc{{RankQueryKind::kTwoU, {}}};

Question auroc() { return {false, kAuroc, {}, {}, {}}; }
Question four_metrics() {
  RowSpec spec;
  spec.brier = true;
  return {false,
          {{RankQueryKind::kTwoU, {}},
           {RankQueryKind::kAveragePrecision, {}},
           {RankQueryKind::kGap, {}}},
          spec,
          {},
          {}};
}
Question rank_tables() { return {true, {}, {}, {}, {}}; }
Question row_metrics() {
  RowSpec spec;
  spec.thresholds = {0};
  spec.top_k = {5};
  spec.brier = true;
  spec.log_loss = true;
  return {false, {}, spec, {}, {}};
}

std::vector<ConformalRule> conformal_rules() {
  std::vector<ConformalRule> rules;
  for (const auto score : {ConformalScore::kLac, ConformalScore::kAps, ConformalScore::kRaps}) {
    ConformalRule rule;
    rule.score = score;
    if (score == ConformalScore::kRaps) {
      rule.lambda = kConformalOne / 100;
      rule.k_reg = 5;
    }
    rules.push_back(rule);
  }
  return rules;
}
Question conformal_scores() { return {false, {}, {}, conformal_rules(), {}}; }
/// Sets of a few labels and of most.
Question conformal_sets() {
  Question question;
  for (const ConformalRule& rule : conformal_rules()) {
    for (const i64 share : {50, 80, 90, 95, 99}) {
      // Of LAC the labels with a probability of at least 0.5 % ... 0.01 %.
      const i64 threshold = rule.score == ConformalScore::kLac
                                ? kConformalOne - kConformalOne / 10'000 * (100 - share)
                                : kConformalOne / 100 * share;
      question.sets.push_back({rule, {threshold}, ThresholdsBy::kAll, false});
    }
  }
  return question;
}

// ---- cases --------------------------------------------------------------------------------------

enum class From : u8 { kDevice, kPinned, kPageable };

struct Case {
  const char* name;
  const char* what;
  std::function<Rows(i64 rows)> rows;
  i64 rows_asked = 0;
  Question question;
  From from = From::kDevice;
  bool own_rows = false;  ///< has no use for the columns that most cases share

  /// Problems whose keys it keeps on the device at once.
  i64 ranked(const TableView& table) const {
    return question.tables || !question.queries.empty() ? table.problems() : 0;
  }
};

std::string host_field(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos || !line.starts_with(key)) continue;
    const auto start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? std::string() : line.substr(start);
  }
  return {};
}

i64 available_host_memory() {
  std::istringstream field(host_field("/proc/meminfo", "MemAvailable"));
  i64 kibibytes = 0;
  field >> kibibytes;
  return kibibytes * 1024;
}

class Bench {
 public:
  Bench(const Settings& settings, const DeviceInfo& info, DeviceBackend& device)
      : settings_(settings),
        info_(info),
        device_(device),
        cpu_(make_cpu_backend(0)),
        host_memory_(settings.host_memory >= 0 ? settings.host_memory : available_host_memory()) {}

  int run();

 private:
  std::vector<Case> cases();
  Json measure(const Case& wanted);
  /// Why the rows differ from those asked for; empty: they do not.
  std::string fit(const Case& wanted, i64& rows);
  Result<std::string> check(const Question& question, const TableView& table, const Answer* first);
  /// Time a score of one case over that of another; none where one was not measured.
  std::optional<double> over(const Json& record, const char* other) const;
  void judge(Json& record, const char* figure, std::optional<double> value, const Goal& goal) const;
  void compare();
  bool write() const;
  Rows base(i64 rows);

  const Settings& settings_;
  const DeviceInfo& info_;
  DeviceBackend& device_;
  std::unique_ptr<Backend> cpu_;
  i64 host_memory_;  ///< 0: not looked at
  CopyRates rates_;
  Rows base_;
  Json document_;
  std::vector<Json> records_;
  bool broken_ = false;
};

/// The first of the rows that most cases share.
Rows Bench::base(i64 rows) {
  if (base_.view.rows < rows) {
    base_ = Rows{};
    base_ = binary<float>(rows, DType::kF32, unit_float);
  }
  Rows part = base_;
  part.view = first_rows(part.view, rows);
  return part;
}

std::vector<Case> Bench::cases() {
  const Settings& s = settings_;
  const auto shared = [this](i64 rows) { return base(rows); };
  const auto labels = [&s](i64 rows) { return multilabel(rows, s.matrix_columns); };
  const auto f16 = [](i64 rows) { return binary<u16>(rows, DType::kF16, unit_half); };
  const auto bf16 = [](i64 rows) { return binary<u16>(rows, DType::kBF16, unit_bf16); };
  const auto f64 = [](i64 rows) {
    return binary<double>(rows, DType::kF64, [](Draws& draws) { return draws.unit(); });
  };
  const auto cells = [this, &s](i64 rows) { return in_cells(base(rows), s.segments); };
  const auto logits = [&s](i64 rows) { return multiclass_logits(rows, s.matrix_columns); };
  const From here = From::kDevice;
  return {
      {"auroc_f32", "AUROC, f32 + u8", shared, s.rows, auroc()},
      {"auroc_f32_fewer", "AUROC, f32 + u8, fewer rows", shared, s.fewer_rows, auroc()},
      {"four_metrics_f32", "AUROC, AP, KS and Brier, f32 + u8", shared, s.rows, four_metrics()},
      {"one_segment_table", "state of one segment, brought to the host, f32 + u8", shared, s.rows,
       rank_tables()},
      {"segment_tables", "states of segments by a column, brought to the host, f32 + u8 + u32",
       cells, s.rows, rank_tables()},
      {"auroc_f32_pinned", "AUROC, f32 + u8 in pinned host memory", shared, s.rows, auroc(),
       From::kPinned},
      {"auroc_f32_pageable", "AUROC, f32 + u8 in pageable host memory", shared, s.rows, auroc(),
       From::kPageable},
      {"auroc_f16", "AUROC, f16 + u8", f16, s.rows, auroc(), here, true},
      {"auroc_f16_pinned", "AUROC, f16 + u8 in pinned host memory", f16, s.rows, auroc(),
       From::kPinned, true},
      {"auroc_bf16", "AUROC, bf16 + u8", bf16, s.rows, auroc(), here, true},
      {"auroc_f64", "AUROC, f64 + u8", f64, s.fewer_rows, auroc(), here, true},
      {"auroc_weighted", "AUROC, f32 + u8 + f32 weights", weighted, s.fewer_rows, auroc(), here,
       true},
      {"auroc_labels", "AUROC of every column, f32 matrix + u8 matrix", labels, s.matrix_rows,
       auroc(), here, true},
      {"rows_multiclass", "accuracy, top 5, Brier and log loss, f32 matrix of logits + i32", logits,
       s.matrix_rows, row_metrics(), here, true},
      {"conformal_scores", "LAC, APS and RAPS scores, f32 matrix of logits + i32", logits,
       s.matrix_rows, conformal_scores(), here, true},
      {"conformal_sets", "LAC, APS and RAPS sets at 5 thresholds each, f32 matrix of logits + i32",
       logits, s.matrix_rows, conformal_sets(), here, true},
  };
}

std::string Bench::fit(const Case& wanted, i64& rows) {
  rows = wanted.rows_asked;
  const Rows sample = wanted.rows(1);
  const i64 ranked = wanted.ranked(sample.view);
  const i64 device_bytes = device_.bytes_per_row(sample.view, ranked);
  // A sixteenth is left for what is not counted by the row.
  const i64 device_rows = device_.free_bytes() / 16 * 15 / device_bytes;
  // Beside the columns the CPU's scratch or two states; of a matrix it ranks a column at a time.
  const i64 host_bytes = sample.row_bytes + (ranked == 1 ? 16 : 0);
  const i64 host_rows = host_memory_ == 0 ? rows : host_memory_ / 8 * 7 / host_bytes;
  if (device_rows < rows && device_rows <= host_rows) {
    rows = device_rows;
    return fmt::format("device memory: {} B a row", device_bytes);
  }
  if (host_rows < rows) {
    rows = host_rows;
    return fmt::format("host memory: {} B a row", host_bytes);
  }
  return {};
}

Result<std::string> Bench::check(const Question& question, const TableView& table,
                                 const Answer* first) {
  const i64 most = settings_.check_rows * threads();
  const i64 rows = std::clamp<i64>(most / table.problems(), 1, table.rows);
  const TableView checked = first_rows(table, rows);
  const auto want = question.ask(*cpu_, checked);
  if (!want) return want.error();
  const std::string size = rows == table.rows ? "all rows" : fmt::format("the first {} rows", rows);
  if (rows == table.rows) {
    if (!same(*first, want.value())) {
      return Error{ErrorCode::kInternal, "cuda", "the answer differs from the CPU's", {}};
    }
  } else {
    const auto got = question.ask(device_, checked);
    if (!got) return got.error();
    if (!same(got.value(), want.value())) {
      return Error{ErrorCode::kInternal, "cuda", "the answer differs from the CPU's, " + size, {}};
    }
  }
  return "the CPU backend, " + size;
}

Json Bench::measure(const Case& wanted) {
  Json record{{"name", wanted.name}, {"what", wanted.what}, {"rows_asked", wanted.rows_asked}};
  const auto stop = [&](const std::string& why) {
    broken_ = true;
    record["error"] = why;
    std::fprintf(stderr, "device_bench: %s: %s\n", wanted.name, why.c_str());
    return record;
  };
  i64 count = 0;
  const std::string limited = fit(wanted, count);
  record["limited_by"] = limited.empty() ? Json() : Json(limited);
  if (count < 1) return stop("not enough memory for a row: " + limited);

  const Rows rows = wanted.rows(count);
  const TableView& table = rows.view;
  const double elements = static_cast<double>(count) * static_cast<double>(table.scores.cols());
  const double bytes = static_cast<double>(count) * static_cast<double>(rows.row_bytes);
  record["rows"] = count;
  record["columns"] = table.scores.cols();
  record["segments"] = table.problems() * table.cell_count;
  record["row_bytes"] = rows.row_bytes;
  record["resident"] = wanted.from == From::kDevice;

  Pinned pinned;
  if (wanted.from == From::kPinned) {
    for (const Rows::Column& column : rows.columns) {
      if (const auto ok = pinned.add(column.data, column.bytes); !ok) {
        return stop(ok.error().text());
      }
    }
  }
  std::string checked;
  {
    const auto first = wanted.question.ask(device_, table);
    if (!first) return stop(first.error().text());
    const auto agreed = check(wanted.question, table, &first.value());
    if (!agreed) return stop(agreed.error().text());
    checked = agreed.value();
  }
  device_.hold_columns(wanted.from == From::kDevice);
  Samples samples;
  i64 peak = 0;
  std::string failure;
  // The first call brings the columns there, the second finds them; neither is timed.
  for (int i = -2; i < settings_.samples && failure.empty(); ++i) {
    if (i == 0) {
      if (const auto ok = reset_peak(); !ok) failure = ok.error().text();
    }
    const auto start = std::chrono::steady_clock::now();
    const auto answer = wanted.question.ask(device_, table);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (!answer) failure = answer.error().text();
    if (i >= 0) samples.seconds.push_back(took.count());
  }
  if (failure.empty()) {
    const auto high = peak_bytes();
    if (high) {
      peak = high.value();
    } else {
      failure = high.error().text();
    }
  }
  device_.hold_columns(false);
  if (!failure.empty()) return stop(failure);

  const double median = samples.median();
  record["seconds"] = {{"median", median},
                       {"min", samples.least()},
                       {"max", samples.most()},
                       {"spread", (samples.most() - samples.least()) / median},
                       {"samples", samples.seconds}};
  record["rows_per_s"] = static_cast<double>(count) / median;
  record["scores_per_s"] = elements / median;
  record["gb_per_s"] = bytes / median / 1e9;
  record["share_of_copy"] =
      wanted.from == From::kDevice ? Json(bytes / median / rates_.device) : Json();
  record["share_of_pinned_copy"] =
      wanted.from == From::kDevice ? Json() : Json(bytes / median / rates_.pinned);
  record["working_bytes_per_score"] = (static_cast<double>(peak) - bytes) / elements;
  record["figure"] = nullptr;
  record["goal"] = nullptr;
  record["met"] = nullptr;
  record["checked_against"] = checked;
  std::fprintf(stderr, "%-20s %13lld rows  %9.3f ms  %8.2f G scores/s  %8.1f GB/s\n", wanted.name,
               static_cast<long long>(count), median * 1e3, elements / median / 1e9,
               bytes / median / 1e9);
  return record;
}

std::optional<double> Bench::over(const Json& record, const char* other) const {
  for (const Json& one : records_) {
    if (one["name"] != other || !one.contains("scores_per_s")) continue;
    return one["scores_per_s"].get<double>() / record["scores_per_s"].get<double>();
  }
  return std::nullopt;
}

void Bench::judge(Json& record, const char* figure, std::optional<double> value,
                  const Goal& goal) const {
  const bool applies = *goal.device == '\0' || info_.name.find(goal.device) != std::string::npos;
  record["figure"] = {{"name", figure}, {"value", value ? Json(*value) : Json()}};
  record["goal"] = {{"at", goal.at_most ? "most" : "least"},
                    {"value", goal.value},
                    {"unit", goal.unit},
                    {"device", *goal.device == '\0' ? Json() : Json(goal.device)}};
  record["met"] = nullptr;
  if (value && applies) {
    record["met"] = goal.at_most ? *value <= goal.value : *value >= goal.value;
  }
}

/// Holds what was measured against the goals, some of which need two cases.
void Bench::compare() {
  constexpr const char* kOverOne = "time a score, over that of auroc_f32";
  for (Json& record : records_) {
    if (!record.contains("seconds")) continue;
    const std::string name = record["name"];
    if (name == "auroc_f32") {
      judge(record, "rows per second", record["rows_per_s"].get<double>(),
            {10e9, false, "rows/s", "H200"});
      Json memory;
      judge(memory, "bytes of device memory a row, beside the columns",
            record["working_bytes_per_score"].get<double>(), {8.8, true, "B", ""});
      document_["working_memory"] = std::move(memory);
    } else if (name == "four_metrics_f32" || name == "auroc_labels") {
      judge(record, kOverOne, over(record, "auroc_f32"), {1.3, true, "x", ""});
    } else if (name == "segment_tables") {
      judge(record, "time a score, over that of one_segment_table",
            over(record, "one_segment_table"), {1.3, true, "x", ""});
    } else if (name == "auroc_f16" || name == "auroc_bf16" || name.starts_with("conformal_")) {
      judge(record, "share of the copy bandwidth", record["share_of_copy"].get<double>(),
            {0.6, false, "x", ""});
    } else if (name == "auroc_f32_pinned" || name == "auroc_f16_pinned") {
      judge(record, "share of the rate of pinned copies",
            record["share_of_pinned_copy"].get<double>(), {0.8, false, "x", ""});
    }
  }
}

/// False when the file could not be written.
bool Bench::write() const {
  Json document = document_;
  document["cases"] = records_;
  const std::string text = document.dump(1) + "\n";
  if (settings_.output.empty()) return true;
  // Whole or not at all, since a run may be stopped.
  const std::string partial = settings_.output + ".partial";
  std::ofstream file(partial);
  file << text;
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(partial, settings_.output, error);
  if (file && !error) return true;
  std::fprintf(stderr, "device_bench: %s cannot be written\n", settings_.output.c_str());
  return false;
}

int Bench::run() {
  if (const auto ok = use_device(settings_.device); !ok) {
    std::fprintf(stderr, "device_bench: %s\n", ok.error().text().c_str());
    return static_cast<int>(ErrorCode::kBackend);
  }
  document_["schema"] = "cupel.device_bench/1";
  document_["device"] = {{"name", info_.name},
                         {"architecture", info_.architecture},
                         {"memory_bytes", info_.memory_bytes},
                         {"driver_cuda", driver_version()},
                         {"runtime_cuda", runtime_version()},
                         {"clocks", "as found"}};
  document_["host"] = {{"cpu", host_field("/proc/cpuinfo", "model name")}, {"threads", threads()}};
  const auto rates = measure_copies(i64{1} << 32, settings_.samples);
  if (!rates) {
    std::fprintf(stderr, "device_bench: %s\n", rates.error().text().c_str());
    return 1;
  }
  rates_ = rates.value();
  document_["copy"] = {{"device_gb_per_s", rates_.device / 1e9},
                       {"pinned_to_device_gb_per_s", rates_.pinned / 1e9},
                       {"pageable_to_device_gb_per_s", rates_.pageable / 1e9}};
  std::fprintf(stderr, "%s: copies %.0f GB/s on the device, %.1f from pinned, %.1f from pageable\n",
               info_.name.c_str(), rates_.device / 1e9, rates_.pinned / 1e9, rates_.pageable / 1e9);
  for (const Case& one : cases()) {
    const auto& only = settings_.only;
    if (!only.empty() && std::find(only.begin(), only.end(), one.name) == only.end()) continue;
    if (one.own_rows) base_ = Rows{};
    records_.push_back(measure(one));
    compare();
    document_["right"] = !broken_;
    if (!write()) return static_cast<int>(ErrorCode::kInternal);
  }
  if (records_.empty()) {
    std::fprintf(stderr, "device_bench: --only names no case\n");
    return static_cast<int>(ErrorCode::kUsage);
  }
  return broken_ ? 1 : 0;
}

int refuse(const std::string& why) {
  std::fprintf(stderr, "device_bench: no usable GPU: %s\n", why.c_str());
  return static_cast<int>(ErrorCode::kBackend);
}

int run_device_bench(const Settings& settings) {
  const DeviceProvider* const provider = cuda_provider();
  if (provider == nullptr) return refuse("this build has no CUDA");
  const DeviceProbe probe = provider->probe();
  if (!probe.reason.empty()) return refuse(probe.reason);
  auto device = provider->open(settings.device, {});
  if (!device) return refuse(device.error().text());
  const DeviceInfo& info = probe.devices[static_cast<std::size_t>(settings.device)];
  return Bench(settings, info, *device.value()).run();
}

}  // namespace

}  // namespace cupel::bench

int main(int argc, char** argv) {
  using cupel::bench::Settings;
  Settings settings;
  CLI::App app("Times the CUDA backend beside the device's own copies; checks every answer first.");
  app.add_option("--device", settings.device, "ordinal of the device")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--rows", settings.rows, "rows of the large cases")->check(CLI::PositiveNumber);
  app.add_option("--fewer-rows", settings.fewer_rows, "rows of f64, weighted and smaller cases")
      ->check(CLI::PositiveNumber);
  app.add_option("--segments", settings.segments, "groups that rows are cut into")
      ->check(CLI::PositiveNumber);
  app.add_option("--matrix-rows", settings.matrix_rows, "rows of matrices")
      ->check(CLI::PositiveNumber);
  app.add_option("--matrix-columns", settings.matrix_columns, "columns of matrices")
      ->check(CLI::PositiveNumber);
  app.add_option("--samples", settings.samples, "timed calls of each case")
      ->check(CLI::Range(7, 1000));
  app.add_option("--check-rows", settings.check_rows,
                 "most scores that each thread of the CPU checks")
      ->check(CLI::PositiveNumber);
  app.add_option("--host-memory", settings.host_memory,
                 "bytes of host memory to stay within; 0: do not look; default: what is available")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--only", settings.only, "cases, by name")->delimiter(',');
  app.add_option("-o,--output", settings.output, "JSON, rewritten after every case");
  bool quick = false;
  app.add_flag("--quick", quick, "a fiftieth of the rows");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (quick) {
    settings.rows /= 50;
    settings.fewer_rows /= 50;
    settings.matrix_rows /= 50;
  }
  try {
    return cupel::bench::run_device_bench(settings);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "device_bench: %s\n", failure.what());
    return 70;
  }
}
