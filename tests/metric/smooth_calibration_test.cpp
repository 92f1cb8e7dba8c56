// Calibration without bins, and what a Brier score consists of, against values from elsewhere:
// SciPy's quadrature between the zeros of the smoothed residual, METRICS' example H, and sums in
// long double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "cupel/eval/evaluate.hpp"

namespace cupel {
namespace {

struct Rows {
  std::vector<double> scores;  ///< [n] or [n, classes]
  std::vector<u8> binary;
  std::vector<i32> classes;
  std::vector<double> weights;
  i64 width = 1;
};

TableView table_of(const Rows& rows) {
  TableView table;
  table.task = rows.width == 1 ? Task::kBinary : Task::kMulticlass;
  table.rows = static_cast<i64>(rows.scores.size()) / rows.width;
  table.classes = std::max<i64>(rows.width, 2);
  table.scores.data = reinterpret_cast<const std::byte*>(rows.scores.data());
  table.scores.dtype = DType::kF64;
  table.scores.item_bytes = 8;
  table.scores.shape = {table.rows};
  table.scores.strides = {8 * rows.width};
  if (rows.width > 1) {
    table.scores.shape.push_back(rows.width);
    table.scores.strides.push_back(8);
  }
  table.binary_labels = rows.binary.empty() ? nullptr : rows.binary.data();
  table.class_labels = rows.classes.empty() ? nullptr : rows.classes.data();
  table.weights_f64 = rows.weights.empty() ? nullptr : rows.weights.data();
  return table;
}

std::vector<EvalResult> evaluated(const Rows& rows, const std::string& metrics) {
  const auto specs = parse_metrics(metrics);
  EXPECT_TRUE(specs.ok());
  const auto backend = make_cpu_backend(2);
  auto results = evaluate_table(table_of(rows), *specs, *backend);
  EXPECT_TRUE(results.ok());
  return std::move(*results);
}

double number(const Detail::Object& object, std::string_view name) {
  for (const auto& [key, value] : object) {
    if (key == name) return std::get<double>(value.held());
  }
  ADD_FAILURE() << "no " << name;
  return NAN;
}
Detail::Object murphy(const EvalResult& result) {
  for (const auto& [key, value] : result.details) {
    if (key == "murphy") return std::get<Detail::Object>(value.held());
  }
  ADD_FAILURE() << "no decomposition";
  return {};
}

const std::vector<u8> kExampleLabels{0, 0, 1, 0, 1, 0, 1, 1, 0, 1};

// A kernel that loses mass at the ends, or a series cut too early, misses these.
TEST(SmoothEce, ExampleJ) {
  const Rows rows{{.05, .1, .2, .25, .5, .5, .6, .8, .9, .95}, kExampleLabels, {}, {}, 1};
  const auto r = evaluated(
      rows, "smooth_ece(sigma=0.05),smooth_ece(sigma=0.1),smooth_ece(sigma=0.2),smooth_ece");
  EXPECT_NEAR(r[0].value, 0.1816472464103392, 1e-13);
  EXPECT_NEAR(r[1].value, 0.14037760044370634, 1e-13);
  EXPECT_NEAR(r[2].value, 0.10169845248979939, 1e-13);
  // METRICS has .1279748313, which is not a fixed point to its last digits: its error there is
  // .1279748229.
  EXPECT_NEAR(r[3].value, 0.1279748253775319, 1e-13);
  EXPECT_NEAR(number(r[3].details, "sigma"), r[3].value, 1e-13);
}

TEST(SmoothEce, RowsAtTheEndsKeepTheirMass) {
  const Rows rows{{0, .1, .2, .25, .5, .5, .6, .8, .9, 1}, kExampleLabels, {}, {}, 1};
  EXPECT_NEAR(evaluated(rows, "smooth_ece")[0].value, .1345832, 1e-7);
}

// The width's floor: rows that are right in every bin have an error below it, and it is said.
TEST(SmoothEce, NoKernelNarrowerThanItsFloor) {
  Rows rows;
  for (int i = 0; i < 4096; ++i) {
    rows.scores.push_back(.5);
    rows.binary.push_back(static_cast<u8>(i % 2));
  }
  const auto r = evaluated(rows, "smooth_ece");
  EXPECT_LT(r[0].value, 1e-15);
  EXPECT_EQ(number(r[0].details, "sigma"), 0x1p-10);
}

// Rows within one fine bin, by the definition: a kernel summed at the bin's middle would be off by
// about 1e-6, the first moments bring it below 1e-9.
TEST(SmoothEce, ManyRowsInABin) {
  std::mt19937_64 random(7);
  Rows rows;
  for (int i = 0; i < 2000; ++i) {
    const double p = std::ldexp(static_cast<double>(random() % (1u << 20)), -20);
    rows.scores.push_back(p);
    rows.binary.push_back(static_cast<u8>(static_cast<double>(random() % 1000) < 1000 * p * p));
  }
  constexpr double kSigma = 0.06;
  constexpr int kIntervals = 20'000;
  double sum = 0;
  for (int i = 0; i <= kIntervals; ++i) {
    const double t = static_cast<double>(i) / kIntervals;
    double at_t = 0;
    for (std::size_t row = 0; row < rows.scores.size(); ++row) {
      for (const double image : {rows.scores[row], -rows.scores[row], 2 - rows.scores[row]}) {
        const double z = (t - image) / kSigma;
        if (std::fabs(z) < 8) at_t += std::exp(-z * z / 2) * (rows.binary[row] - rows.scores[row]);
      }
    }
    sum += std::fabs(at_t) * (i == 0 || i == kIntervals ? 0.5 : 1);
  }
  const double expected = sum / kIntervals / 2000 / (kSigma * std::sqrt(2 * M_PI));
  EXPECT_NEAR(evaluated(rows, "smooth_ece(sigma=0.06)")[0].value, expected, 2e-9);
}

TEST(Brier, MurphyOfExampleH) {
  const Rows rows{{0, .1, .2, .25, .5, .5, .6, .8, .9, 1}, kExampleLabels, {}, {}, 1};
  const auto r = evaluated(rows, "brier(decomposition=murphy,bins=4)");
  const Detail::Object parts = murphy(r[0]);
  EXPECT_NEAR(r[0].value, .22225, 1e-15);
  EXPECT_NEAR(number(parts, "reliability"), .0373958333, 5e-11);
  EXPECT_NEAR(number(parts, "resolution"), .0583333333, 5e-11);
  EXPECT_NEAR(number(parts, "uncertainty"), .25, 1e-15);
  EXPECT_NEAR(number(parts, "within_bin_variance"), .0056875, 1e-14);
  EXPECT_NEAR(number(parts, "within_bin_covariance"), .00625, 1e-14);
}

// The parts add up to the score whatever the bins; without the within-bin parts they would not.
TEST(Brier, PartsAddUp) {
  std::mt19937_64 random(11);
  for (const i64 width : {i64{1}, i64{5}}) {
    for (const bool weighted : {false, true}) {
      Rows rows;
      rows.width = width;
      for (int i = 0; i < 700; ++i) {
        double total = 0;
        for (i64 k = 0; k < width; ++k) {
          rows.scores.push_back(static_cast<double>(random() % 1000 + (k == 0 ? 1 : 0)));
          total += rows.scores.back();
        }
        if (width == 1) total = 1000;
        for (i64 k = 0; k < width; ++k)
          rows.scores[rows.scores.size() - 1 - static_cast<std::size_t>(k)] /= total;
        if (width == 1) {
          rows.binary.push_back(static_cast<u8>(random() % 3 == 0));
        } else {
          rows.classes.push_back(static_cast<i32>(random() % 5));
        }
        if (weighted) rows.weights.push_back(static_cast<double>(random() % 9) / 4);
      }
      for (const char* bins : {"bins=1", "bins=7,closed=left", "bins=15", "bins=1000"}) {
        const auto r = evaluated(rows, "brier(decomposition=murphy," + std::string(bins) + ")");
        const Detail::Object parts = murphy(r[0]);
        const double sum = number(parts, "reliability") - number(parts, "resolution") +
                           number(parts, "uncertainty") + number(parts, "within_bin_variance") -
                           2 * number(parts, "within_bin_covariance");
        EXPECT_NEAR(sum, r[0].value, 1e-13) << bins << ", " << width << " classes";
        EXPECT_GE(number(parts, "within_bin_variance"), -1e-15);
      }
    }
  }
}

}  // namespace
}  // namespace cupel
