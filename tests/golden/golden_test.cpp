// Runs every golden case: exact rationals from outside, under every configuration that must not
// matter. A failure names the case, the line and the configuration.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <numeric>

#include "eval/compute.hpp"
#include "eval/prepare.hpp"
#include "support/golden_case.hpp"
#include "support/round_trip_backend.hpp"
#include "support/test_backend.hpp"

namespace cupel::golden {
namespace {

struct Configuration {
  int threads = 1;
  std::size_t shards = 1;      ///< the rows dealt to this many files; 0: by batch_rows
  std::size_t batch_rows = 0;  ///< rows of each file
  bool round_trip = false;
  bool reversed = false;
  std::string text() const {
    return fmt::format("threads={} shards={} batch={} round_trip={} reversed={}", threads, shards,
                       batch_rows, round_trip, reversed);
  }
};

EvalRequest request_of(const GoldenCase& golden) {
  EvalRequest request;
  request.metrics = golden.metrics;
  request.task = golden.task == "binary"         ? Task::kBinary
                 : golden.task == "multiclass"   ? Task::kMulticlass
                 : golden.task == "regression"   ? Task::kRegression
                 : golden.task == "risk"         ? Task::kRisk
                 : golden.task == "verification" ? Task::kVerification
                                                 : Task::kMultilabel;
  for (std::size_t i = 0; i < golden.options.size(); ++i) {
    const std::string& option = golden.options[i];
    const auto value = [&] { return golden.options[++i]; };
    if (option == "--group") {
      std::istringstream names(value());
      for (std::string name; std::getline(names, name, ',');) request.roles.groups.push_back(name);
    } else if (option == "--by-class") {
      request.by_class = true;
    } else if (option == "--id") {
      request.roles.id = value();
    } else if (option == "--intersect") {
      request.intersect = true;
    } else if (option == "--nan") {
      request.nan = value() == "drop" ? NanPolicy::kDrop : NanPolicy::kError;
    } else if (option == "--calibration") {
      request.roles.calibration = value();
    } else if (option == "--split") {
      request.split = value() == "test" ? RowSplit::kTest : RowSplit::kCalibration;
    } else if (option == "--seed") {
      request.seed = static_cast<u64>(std::stoull(value()));
    } else if (option == "--pos-label") {
      request.pos_label = value();
    } else {
      ADD_FAILURE() << "the case has an option that this test does not know: " << option;
    }
  }
  return request;
}

std::vector<std::vector<std::size_t>> deal_rows(std::size_t rows, const Configuration& c) {
  std::vector<std::size_t> order(rows);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (c.reversed) std::reverse(order.begin(), order.end());
  std::vector<std::vector<std::size_t>> files(std::max<std::size_t>(1, c.shards));
  if (c.shards != 0) {
    for (std::size_t i = 0; i < rows; ++i) files[i % c.shards].push_back(order[i]);
    return files;
  }
  files.clear();
  for (std::size_t i = 0; i < rows; i += c.batch_rows) {
    files.emplace_back(
        order.begin() + static_cast<std::ptrdiff_t>(i),
        order.begin() + static_cast<std::ptrdiff_t>(std::min(rows, i + c.batch_rows)));
  }
  if (files.empty()) files.emplace_back();
  return files;
}

Result<std::vector<EvalResult>> run(const GoldenCase& golden, const std::string& metrics,
                                    const Configuration& c) {
  EvalRequest request = request_of(golden);
  auto specs = parse_metrics(metrics);
  if (!specs) return specs.error();
  request.fits = has_fits(*specs) && !request.roles.calibration.empty();
  request.embedding = has_features(*specs);
  request.scales = has_scales(*specs);
  request.levels = has_levels(*specs);
  request.draws = has_draws(*specs) || request.embedding;
  std::unique_ptr<Backend> backend = make_test_backend(c.threads);
  if (c.round_trip) backend = std::make_unique<RoundTripBackend>(std::move(backend));

  const auto files = deal_rows(golden.rows.size(), c);
  request.pool = files.size() > 1;
  std::vector<std::string> bytes;
  for (const auto& rows : files) bytes.push_back(npz_of(golden, rows));
  std::vector<std::unique_ptr<Dump>> dumps;
  std::vector<Binding> bindings;
  std::vector<PreparedTable> parts;
  for (const std::string& file : bytes) {
    auto dump = fixtures::open_as("npz", golden.name + ".npz", file);
    if (!dump) return dump.error();
    dumps.push_back(std::move(*dump));
    auto binding = bind_roles(*dumps.back(), request);
    if (!binding) return binding.error();
    bindings.push_back(std::move(*binding));
    auto prepared = prepare_table(bindings.back(), request, 0, *backend);
    if (!prepared) return prepared.error();
    parts.push_back(std::move(*prepared));
  }
  ComputeRequest compute;
  compute.metrics = std::move(*specs);
  compute.group_columns = request.roles.groups;
  compute.intersect = request.intersect;
  compute.by_class = request.by_class;
  compute.split = request.split;
  compute.seed = request.seed;
  compute.threads = c.threads;
  std::vector<std::string> states;
  return compute_results(parts, compute, *backend, states);
}

std::string group_text(const EvalResult& result) {
  std::string text;
  for (const auto& [column, value] : result.group) {
    text += (text.empty() ? "" : ",") + column + ":" + value;
  }
  return result.group_against.empty() ? text : text + "|" + result.group_against;
}

/// "auroc(max_fpr=0.25)" without the average, as the lines of a case name it.
std::string line_name(const std::string& item) {
  const auto open = item.find('(');
  if (open == std::string::npos) return item;
  std::string options;
  std::istringstream list(item.substr(open + 1, item.size() - open - 2));
  for (std::string option; std::getline(list, option, ',');) {
    if (!option.starts_with("average=")) options += (options.empty() ? "" : ",") + option;
  }
  return options.empty() ? item.substr(0, open) : item.substr(0, open) + "(" + options + ")";
}

std::vector<std::string> metric_items(const std::string& list) {
  std::vector<std::string> items(1);
  int depth = 0;
  for (const char c : list) {
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    if (c == ',' && depth == 0) {
      items.emplace_back();
    } else {
      items.back() += c;
    }
  }
  return items;
}

bool same(const EvalResult& a, const EvalResult& b) {
  return a.metric == b.metric && a.average == b.average && a.cls == b.cls && a.group == b.group &&
         a.group_against == b.group_against && a.value == b.value && a.undefined == b.undefined &&
         a.n == b.n && a.n_pos == b.n_pos && a.n_neg == b.n_neg && a.params == b.params &&
         a.details == b.details;
}

void expect_value(const Expected& expected, const EvalResult& result) {
  if (!expected.undefined.empty()) {
    EXPECT_EQ(undefined_name(result.undefined), expected.undefined) << expected.line;
    return;
  }
  ASSERT_EQ(result.undefined, Undefined::kNone)
      << expected.line << ": " << undefined_name(result.undefined);
  double low = expected.value;
  double high = expected.value;
  for (int i = 0; i < expected.ulps; ++i) {
    low = std::nextafter(low, -std::numeric_limits<double>::infinity());
    high = std::nextafter(high, std::numeric_limits<double>::infinity());
  }
  if (expected.relative != 0) {
    low -= expected.relative * std::fabs(expected.value);
    high += expected.relative * std::fabs(expected.value);
  }
  EXPECT_GE(result.value, low) << expected.line;
  EXPECT_LE(result.value, high) << expected.line;
}

class Golden : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(Golden, EqualsTheExactRationals) {
  const GoldenCase golden = read_case(GetParam());
  ASSERT_FALSE(golden.columns.empty());
  const auto results = run(golden, golden.metrics, Configuration{});
  if (golden.error_code != 0) {
    ASSERT_FALSE(results.ok());
    EXPECT_EQ(static_cast<int>(results.error().code), golden.error_code) << results.error().text();
    EXPECT_NE(results.error().text().find(golden.error_text), std::string::npos)
        << results.error().text();
    return;
  }
  ASSERT_TRUE(results.ok()) << results.error().text();
  ASSERT_FALSE(golden.expected.empty());

  // Results of one metric follow each other; asked for alone, a metric must say the same.
  std::vector<std::pair<std::string, std::vector<EvalResult>>> by_item;
  std::size_t next = 0;
  for (const std::string& item : metric_items(golden.metrics)) {
    const auto alone = run(golden, item, Configuration{});
    ASSERT_TRUE(alone.ok()) << item;
    for (const EvalResult& result : *alone) {
      ASSERT_LT(next, results->size());
      EXPECT_TRUE(same(result, (*results)[next])) << item << " differs beside other metrics";
      ++next;
    }
    by_item.emplace_back(line_name(item), *alone);
  }
  EXPECT_EQ(next, results->size());

  for (const Expected& expected : golden.expected) {
    const EvalResult* found = nullptr;
    for (const auto& [name, of_item] : by_item) {
      for (const EvalResult& result : of_item) {
        const std::string cls = result.cls ? std::to_string(*result.cls) : "";
        if (found == nullptr && name == expected.metric && result.average == expected.average &&
            cls == expected.cls && group_text(result) == expected.group) {
          found = &result;
        }
      }
    }
    ASSERT_NE(found, nullptr) << "no result for: " << expected.line;
    expect_value(expected, *found);
  }
}

TEST_P(Golden, DoesNotDependOnHowItIsRun) {
  const GoldenCase golden = read_case(GetParam());
  if (golden.error_code != 0) return;
  const auto reference = run(golden, golden.metrics, Configuration{});
  ASSERT_TRUE(reference.ok()) << reference.error().text();
  std::vector<Configuration> configurations;
  const bool small = golden.rows.size() <= 64;
  for (const int threads : {1, 2}) {
    for (const bool round_trip : {false, true}) {
      for (const std::size_t shards : {1, 3}) {
        configurations.push_back({threads, shards, 0, round_trip, false});
      }
      for (const std::size_t batch : {1, 2, 3}) {
        const std::size_t rows = small ? batch : batch * (golden.rows.size() / 7);
        configurations.push_back({threads, 0, rows, round_trip, threads == 2});
      }
    }
    configurations.push_back({threads, 1, 0, false, true});
  }
  for (const Configuration& c : configurations) {
    SCOPED_TRACE(c.text());
    const auto results = run(golden, golden.metrics, c);
    ASSERT_TRUE(results.ok()) << results.error().text();
    ASSERT_EQ(results->size(), reference->size());
    for (std::size_t i = 0; i < results->size(); ++i) {
      EXPECT_TRUE(same((*results)[i], (*reference)[i]))
          << (*results)[i].metric << " " << group_text((*results)[i]) << " " << (*results)[i].value
          << " instead of " << (*reference)[i].value;
    }
  }
}

std::vector<std::filesystem::path> case_files() {
  // In an archive for another machine the cases are elsewhere than where this was compiled.
  const char* moved = std::getenv("CUPEL_SOURCE_DIR");
  const std::filesystem::path root = moved != nullptr ? moved : CUPEL_SOURCE_DIR;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(root / "tests" / "golden")) {
    if (entry.path().extension() == ".case") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, testing::ValuesIn(case_files()), [](const auto& test) {
  std::string name = test.param.stem().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<u8>(c)) == 0; }, '_');
  return name;
});

TEST(GoldenCases, AreThere) { EXPECT_GE(case_files().size(), 60u); }

}  // namespace
}  // namespace cupel::golden
