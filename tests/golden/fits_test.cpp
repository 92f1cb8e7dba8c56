// Fits through the engine, on every backend: a temperature that is known exactly, and what the
// details say against the metrics of those names.
#include <gtest/gtest.h>

#include <cmath>

#include "eval/compute.hpp"
#include "support/test_backend.hpp"

namespace cupel::golden {
namespace {

/// Rows in memory; `calibration` says which are to be fitted on.
struct Table {
  i64 classes = 2;  ///< 2: binary
  std::vector<double> logits;
  std::vector<i32> labels;
  std::vector<double> weights;
  std::vector<bool> calibration;

  bool binary() const { return classes == 2; }

  PreparedTable prepared() {
    PreparedTable part;
    part.view.task = binary() ? Task::kBinary : Task::kMulticlass;
    part.view.logits = true;
    part.view.rows = static_cast<i64>(labels.size());
    part.view.classes = classes;
    const std::vector<i64> shape =
        binary() ? std::vector<i64>{part.view.rows} : std::vector<i64>{part.view.rows, classes};
    part.view.scores = make_view(logits.data(), DType::kF64, shape);
    for (const i32 label : labels) part.label_bytes.push_back(static_cast<u8>(label));
    if (binary()) {
      part.view.binary_labels = part.label_bytes.data();
    } else {
      part.view.class_labels = labels.data();
    }
    if (!weights.empty()) part.view.weights_f64 = weights.data();
    for (const bool fits : calibration) part.cell_of_row.push_back(fits ? 1 : 0);
    part.view.cells = part.cell_of_row.data();
    part.view.cell_count = 2;
    part.cells = {CellKey{}, CellKey{}};
    part.has_halves = true;
    part.calibration_cells = {false, true};
    return part;
  }
};

std::vector<EvalResult> evaluated(Table& table, const std::string& metrics,
                                  RowSplit split = RowSplit::kAll) {
  std::vector<PreparedTable> parts;
  parts.push_back(table.prepared());
  ComputeRequest request;
  auto specs = parse_metrics(metrics);
  EXPECT_TRUE(specs.ok());
  request.metrics = std::move(*specs);
  request.split = split;
  const auto backend = make_test_backend(2);
  std::vector<std::string> states;
  auto results = compute_results(parts, request, *backend, states);
  EXPECT_TRUE(results.ok()) << (results.ok() ? "" : results.error().text());
  return std::move(*results);
}

/// A number at a path such as "others/ece/after".
double number_at(const EvalResult& result, const std::string& path) {
  const Detail::Object* object = &result.details;
  std::size_t from = 0;
  for (;;) {
    const std::size_t slash = path.find('/', from);
    const std::string name = path.substr(from, slash - from);
    const Detail* found = nullptr;
    for (const auto& [key, value] : *object) {
      if (key == name) found = &value;
    }
    if (found == nullptr) break;
    if (slash == std::string::npos) {
      if (const auto* count = std::get_if<i64>(&found->held())) return static_cast<double>(*count);
      if (const auto* number = std::get_if<double>(&found->held())) return *number;
      break;
    }
    object = std::get_if<Detail::Object>(&found->held());
    if (object == nullptr) break;
    from = slash + 1;
  }
  ADD_FAILURE() << "no number at " << path;
  return NAN;
}

double draw(u64& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<double>(state >> 40) / 0x1p24;
}

// Each row stands once for every label, with the probability of the label at T as its weight: the
// expected log loss, whose optimum is T itself.
TEST(Fits, FindTheTemperatureThatTheRowsHave) {
  for (const i64 classes : {2, 5, 40}) {
    for (const double temperature : {0.3, 1.0, 2.5, 11.0}) {
      Table table;
      table.classes = classes;
      u64 state = 5;
      for (int row = 0; row < 40; ++row) {
        std::vector<double> z(static_cast<std::size_t>(classes));
        double total = 0;
        for (double& value : z) value = std::round((draw(state) - 0.5) * 640) / 64;
        if (classes == 2) z[0] = 0;
        for (const double value : z) total += std::exp(value / temperature);
        for (i32 label = 0; label < classes; ++label) {
          if (classes == 2) {
            table.logits.push_back(z[1]);
          } else {
            table.logits.insert(table.logits.end(), z.begin(), z.end());
          }
          table.labels.push_back(label);
          table.weights.push_back(std::exp(z[static_cast<std::size_t>(label)] / temperature) /
                                  total);
          table.calibration.push_back(true);
        }
      }
      const EvalResult result = evaluated(table, "temperature").front();
      ASSERT_EQ(result.undefined, Undefined::kNone);
      EXPECT_NEAR(result.value, temperature, 1e-10 * temperature) << classes;
    }
  }
}

Table random_table(i64 classes, u64 seed) {
  Table table;
  table.classes = classes;
  u64 state = seed;
  for (int row = 0; row < 300; ++row) {
    const i32 label = static_cast<i32>(draw(state) * static_cast<double>(classes));
    for (i64 k = 0; k < (classes == 2 ? 1 : classes); ++k) {
      const bool up = classes == 2 ? label == 1 : k == label;
      table.logits.push_back((draw(state) - (up ? 0.2 : 0.6)) * 12);
    }
    table.labels.push_back(label);
    table.calibration.push_back(draw(state) < 0.4);
  }
  return table;
}

// Before and after are the values of log_loss, brier and ece, to the bit: of the logits, and of the
// logits divided by T.
TEST(Fits, SayTheScoresOfTheOtherRowsBeforeAndAfter) {
  for (const i64 classes : {2, 6}) {
    Table table = random_table(classes, 77);
    const auto results = evaluated(table, "temperature,log_loss,brier,ece", RowSplit::kTest);
    const EvalResult& fit = results[0];
    ASSERT_EQ(fit.undefined, Undefined::kNone);
    EXPECT_EQ(number_at(fit, "others/log_loss/before"), results[1].value);
    EXPECT_EQ(number_at(fit, "others/brier/before"), results[2].value);
    EXPECT_EQ(number_at(fit, "others/ece/before"), results[3].value);
    EXPECT_EQ(number_at(fit, "others/n"), static_cast<double>(results[1].n));
    EXPECT_EQ(number_at(fit, "calibration/n"), static_cast<double>(fit.n));
    EXPECT_EQ(fit.n + results[1].n, 300);
    EXPECT_EQ(number_at(fit, "calibration/log_loss/before"),
              evaluated(table, "temperature,log_loss", RowSplit::kCalibration)[1].value);

    Table divided = table;
    for (double& logit : divided.logits) logit /= fit.value;
    const auto after = evaluated(divided, "temperature,log_loss,brier,ece", RowSplit::kTest);
    EXPECT_NEAR(after[0].value, 1, 1e-12);
    EXPECT_NEAR(number_at(fit, "others/log_loss/after"), after[1].value, 1e-13);
    EXPECT_NEAR(number_at(fit, "others/brier/after"), after[2].value, 1e-13);
    EXPECT_NEAR(number_at(fit, "others/ece/after"), after[3].value, 1e-13);
    EXPECT_LT(number_at(fit, "calibration/log_loss/after"),
              number_at(fit, "calibration/log_loss/before"));
  }
}

// Other rows do not move a fit, and --split does not either.
TEST(Fits, AreMadeFromTheCalibrationRowsAlone) {
  for (const i64 classes : {2, 6}) {
    Table table = random_table(classes, 78);
    const std::string metrics =
        classes == 2 ? "temperature,platt,isotonic(value=brier)" : "temperature";
    const auto all = evaluated(table, metrics);
    for (const RowSplit split : {RowSplit::kTest, RowSplit::kCalibration}) {
      const auto again = evaluated(table, metrics, split);
      for (std::size_t i = 0; i < all.size(); ++i) {
        EXPECT_EQ(again[i].value, all[i].value);
        EXPECT_EQ(again[i].details, all[i].details);
      }
    }
    Table other = table;
    const std::size_t width = classes == 2 ? 1 : static_cast<std::size_t>(classes);
    for (std::size_t row = 0; row < other.labels.size(); ++row) {
      if (!other.calibration[row]) other.logits[row * width] += 3;
    }
    const auto moved = evaluated(other, metrics);
    EXPECT_EQ(moved[0].value, all[0].value);
    EXPECT_NE(number_at(moved[0], "others/log_loss/after"),
              number_at(all[0], "others/log_loss/after"));
    if (classes == 2) {
      EXPECT_EQ(number_at(moved[1], "fit/slope"), number_at(all[1], "fit/slope"));
      EXPECT_EQ(number_at(moved[2], "fit/blocks"), number_at(all[2], "fit/blocks"));
      EXPECT_NE(moved[2].value, all[2].value);
    }
  }
}

// Labels of a multilabel table are binary problems of their own; the value is the mean.
TEST(Fits, OfSeveralLabelsAreMadeLabelByLabel) {
  constexpr i64 kLabels = 3;
  std::vector<Table> tables;
  for (i64 k = 0; k < kLabels; ++k) tables.push_back(random_table(2, 90 + static_cast<u64>(k)));
  std::vector<double> logits;
  PreparedTable part;
  for (std::size_t row = 0; row < 300; ++row) {
    for (const Table& table : tables) {
      logits.push_back(table.logits[row]);
      part.label_bytes.push_back(static_cast<u8>(table.labels[row]));
    }
    part.cell_of_row.push_back(tables[0].calibration[row] ? 1 : 0);
  }
  part.view.task = Task::kMultilabel;
  part.view.logits = true;
  part.view.rows = 300;
  part.view.classes = kLabels;
  part.view.scores = make_view(logits.data(), DType::kF64, {300, kLabels});
  part.view.label_matrix = part.label_bytes.data();
  part.view.cells = part.cell_of_row.data();
  part.view.cell_count = 2;
  part.cells = {CellKey{}, CellKey{}};
  part.has_halves = true;
  part.calibration_cells = {false, true};
  ComputeRequest request;
  request.metrics = *parse_metrics("temperature,platt");
  request.by_class = true;
  const auto backend = make_test_backend(1);
  std::vector<std::string> states;
  std::vector<PreparedTable> parts;
  parts.push_back(std::move(part));
  const auto results = compute_results(parts, request, *backend, states);
  ASSERT_TRUE(results.ok()) << results.error().text();
  ASSERT_EQ(results->size(), 8u);
  for (std::size_t m = 0; m < 2; ++m) {
    double sum = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      Table alone = tables[k];
      alone.calibration = tables[0].calibration;
      const EvalResult single = evaluated(alone, "temperature,platt")[m];
      const EvalResult& label = (*results)[m * 4 + 1 + k];
      EXPECT_EQ(label.value, single.value);
      EXPECT_EQ(label.n, single.n);
      EXPECT_EQ(label.details, single.details);
      sum += single.value;
    }
    EXPECT_EQ((*results)[m * 4].average, "macro");
    EXPECT_NEAR((*results)[m * 4].value, sum / 3, 1e-15);
  }
}

TEST(Fits, NeedCalibrationRowsToBeSaid) {
  Table table = random_table(2, 3);
  const auto backend = make_test_backend(1);
  const auto specs = parse_metrics("isotonic");
  const auto refused = evaluate_table(table.prepared().view, *specs, *backend);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUsage);
  EXPECT_NE(refused.error().text().find("--calibration COLUMN"), std::string::npos);
}

}  // namespace
}  // namespace cupel::golden
