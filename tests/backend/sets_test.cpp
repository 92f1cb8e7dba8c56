// Sets of rows as make_sets() gives them: by hand, against what evaluate() counts, and at the edges
// of what a dump can hold.
#include "cupel/eval/sets.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>

#include "cupel/io/npz_writer.hpp"

namespace cupel {
namespace {

namespace fs = std::filesystem;

using Labels = std::vector<std::vector<int>>;

/// Keeps what it is given.
struct Kept {
  std::vector<i64> rows;
  std::vector<Labels> sets;                   ///< [alpha][row]
  std::vector<std::vector<double>> p_values;  ///< [alpha] as the labels of its sets
  std::vector<double> all_p_values;
  SetsResult result;
  bool ended = false;
};

class KeepingSink final : public SetsSink {
 public:
  explicit KeepingSink(Kept& kept) : kept_(kept) { kept_ = {}; }
  Result<void> begin(const SetsResult& result) override {
    kept_.sets.resize(result.levels.size());
    kept_.p_values.resize(result.levels.size());
    return {};
  }
  Result<void> block(const SetsBlock& block) override {
    kept_.rows.insert(kept_.rows.end(), block.rows.begin(), block.rows.end());
    for (std::size_t l = 0; l < block.levels.size(); ++l) {
      const SetsBlock::Level& level = block.levels[l];
      auto at = level.labels.begin();
      for (const u32 size : level.sizes) {
        kept_.sets[l].emplace_back(at, at + size);
        at += size;
      }
      EXPECT_EQ(at, level.labels.end());
      kept_.p_values[l].insert(kept_.p_values[l].end(), level.p_values.begin(),
                               level.p_values.end());
    }
    kept_.all_p_values.insert(kept_.all_p_values.end(), block.p_values.begin(),
                              block.p_values.end());
    return {};
  }
  Result<void> end(const SetsResult& result) override {
    kept_.result = result;
    kept_.ended = true;
    return {};
  }

 private:
  Kept& kept_;
};

class SetsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "cupel-sets-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  /// An npz whose arrays `fill` writes.
  template <class Fill>
  std::string write(const std::string& name, const Fill& fill) const {
    const std::string file = path(name);
    fs::remove(file);
    const int descriptor = ::open(file.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
    FileSink sink(descriptor, file, folder_.string());
    NpzWriter npz(sink);
    fill(npz);
    EXPECT_TRUE(npz.finish().ok());
    ::close(descriptor);
    return file;
  }
  template <class T>
  static void matrix(NpzWriter& npz, const char* name, DType dtype, i64 columns,
                     const std::vector<T>& values) {
    npz.array(name, dtype, {static_cast<i64>(values.size()) / columns, columns},
              std::as_bytes(std::span(values)));
  }
  template <class T>
  static void column(NpzWriter& npz, const char* name, DType dtype, const std::vector<T>& values) {
    npz.array(name, dtype, {static_cast<i64>(values.size())}, std::as_bytes(std::span(values)));
  }

  static SetsRequest request_of(std::vector<std::string> dumps, const std::string& calibration,
                                const std::string& conformal = "lac",
                                std::vector<std::string> alphas = {"0.1"}) {
    SetsRequest request;
    request.rows.dumps = std::move(dumps);
    request.rows.roles.calibration = calibration;
    request.rows.backend = "cpu";
    request.rows.threads = 2;
    request.conformal = conformal;
    request.alphas = std::move(alphas);
    return request;
  }
  /// What the sink of the last dump was given.
  static Result<Kept> make(const SetsRequest& request, SetsReport* report = nullptr) {
    Kept kept;
    auto made = make_sets(request, [&](const std::string&) -> Result<std::unique_ptr<SetsSink>> {
      return std::unique_ptr<SetsSink>(std::make_unique<KeepingSink>(kept));
    });
    if (!made) return made.error();
    if (report != nullptr) *report = *made;
    return kept;
  }
  static std::string error_of(const SetsRequest& request) {
    auto made = make(request);
    return made.ok() ? "no error" : made.error().text();
  }

  fs::path folder_;
};

// ---- by hand
// --------------------------------------------------------------------------------------

// Example K: the scores of METRICS 4.2, and a calibration row whose label's score is known, which
// is qhat at alpha = 0.5: one row, k = ceil(2 / 2) = 1.
TEST_F(SetsTest, ExampleK) {
  const std::string dump = write("k.npz", [](NpzWriter& npz) {
    matrix<double>(npz, "probs", DType::kF64, 4,
                   {.5, .3, .15, .05, .1, .6, .2, .1, .25, .25, .4, .1});
  });
  // Of label 1: lac .65, aps .85, raps .95, saps .7, topk 2, margin .15.
  const auto calibrate = [&](double second) {
    return write("c.npz", [&](NpzWriter& npz) {
      matrix<double>(npz, "probs", DType::kF64, 4, {.5, second, .45 - second, .05});
      column<u8>(npz, "label", DType::kU8, {1});
    });
  };
  const std::string one = calibrate(.35);
  const auto sets_of = [&](const std::string& conformal) {
    auto kept = make(request_of({dump}, one, conformal, {"0.5"}));
    EXPECT_TRUE(kept.ok()) << kept.error().text();
    return kept.ok() ? kept->sets[0] : Labels{};
  };
  EXPECT_EQ(sets_of("lac"), (Labels{{0}, {1}, {2}}));
  // .5 .8 .95 1, .9 .6 .8 1, .65 .9 .4 1 up to .85.
  EXPECT_EQ(sets_of("aps"), (Labels{{0, 1}, {1, 2}, {0, 2}}));
  // .5 .9 1.15 1.3, 1.1 .6 .9 1.3, .75 1.1 .4 1.3 up to .95.
  EXPECT_EQ(sets_of("raps(lambda=0.1,k_reg=1)"), (Labels{{0, 1}, {1, 2}, {0, 2}}));
  // Not randomised, u = 1: .5 .7 .9 1.1, 1 .6 .8 1.2, .6 .8 .4 1 up to .7, which is reached.
  EXPECT_EQ(sets_of("saps(lambda=0.2)"), (Labels{{0, 1}, {1}, {0, 2}}));
  EXPECT_EQ(sets_of("topk"), (Labels{{0, 1}, {1, 2}, {0, 2}}));
  // -.2 .2 .35 .45, .5 -.4 .4 .5, .15 .15 -.15 .3 up to .16.
  calibrate(.34);
  EXPECT_EQ(sets_of("margin"), (Labels{{0}, {1}, {0, 1, 2}}));
}

// The p-values of METRICS 4.5: calibration scores .10 to .9, of which lac makes 1 - p.
TEST_F(SetsTest, PValuesByHand) {
  const std::vector<double> scores = {.10, .15, .2, .3, .35, .4, .55, .6, .9};
  const std::string cal = write("c.npz", [&](NpzWriter& npz) {
    std::vector<double> positive;
    for (const double score : scores) positive.push_back(1 - score);
    column<double>(npz, "score", DType::kF64, positive);
    column<u8>(npz, "label", DType::kU8, std::vector<u8>(scores.size(), 1));
  });
  const std::string dump = write("d.npz", [&](NpzWriter& npz) {
    column<double>(npz, "score", DType::kF64, {.95, 1 - .3, 1 - .6, .05});
  });
  SetsRequest request = request_of({dump}, cal, "lac", {"0.2"});
  request.p_values = PValues::kPlain;
  request.all_p_values = true;
  auto kept = make(request);
  ASSERT_TRUE(kept.ok()) << kept.error().text();
  ASSERT_EQ(kept->all_p_values.size(), 8u);
  // The positive label's: p(.05) = 1, p(.3) = .7, p(.6) = .3, p(.95) = .1.
  EXPECT_EQ(kept->all_p_values[1], 1.0);
  EXPECT_EQ(kept->all_p_values[3], 0.7);
  EXPECT_EQ(kept->all_p_values[5], 0.3);
  EXPECT_EQ(kept->all_p_values[7], 0.1);
  // qhat = .6, k = 8; the negative label's score is p itself.
  EXPECT_NEAR(kept->result.levels[0].qhat, .6, 0x1p-48);
  EXPECT_EQ(kept->sets[0], (Labels{{1}, {1}, {0, 1}, {0}}));
  // In csr order they are the same numbers.
  request.all_p_values = false;
  auto sparse = make(request);
  ASSERT_TRUE(sparse.ok());
  std::vector<double> wanted;
  for (std::size_t row = 0; row < 4; ++row) {
    for (const int label : kept->sets[0][row]) {
      wanted.push_back(kept->all_p_values[row * 2 + static_cast<std::size_t>(label)]);
    }
  }
  EXPECT_EQ(sparse->p_values[0], wanted);
  // Smoothed: #{s_i > .3} = 5 and one equal, so between .5 and .7; of .05 between .9 and 1.
  request.p_values = PValues::kSmoothed;
  request.all_p_values = true;
  auto smoothed = make(request);
  ASSERT_TRUE(smoothed.ok());
  EXPECT_GE(smoothed->all_p_values[3], .5);
  EXPECT_LT(smoothed->all_p_values[3], .7);
  EXPECT_GE(smoothed->all_p_values[1], .9);
  EXPECT_LT(smoothed->all_p_values[1], 1.0);
}

// Smoothed p-values of exchangeable rows are uniform: their mean over n rows is within 4 standard
// deviations, 4 / sqrt(12 n), of a half (a false alarm in 16,000).
TEST_F(SetsTest, SmoothedPValuesAreUniform) {
  std::mt19937_64 random(5);
  std::uniform_int_distribution<int> tenth(0, 10);
  constexpr std::size_t kRows = 20000;
  std::vector<double> score(kRows);
  for (double& s : score) s = tenth(random) / 10.0;  // many ties
  const std::string dump = write("u.npz", [&](NpzWriter& npz) {
    column<double>(npz, "score", DType::kF64, score);
    column<u8>(npz, "label", DType::kU8, std::vector<u8>(kRows, 1));
  });
  SetsRequest request = request_of({dump}, "0.5");
  request.p_values = PValues::kSmoothed;
  request.all_p_values = true;
  auto kept = make(request);
  ASSERT_TRUE(kept.ok()) << kept.error().text();
  double sum = 0;
  for (std::size_t i = 1; i < kept->all_p_values.size(); i += 2) sum += kept->all_p_values[i];
  const auto n = static_cast<double>(kept->rows.size());
  // The calibration half is one draw too: its share of the error is as large.
  EXPECT_NEAR(sum / n, 0.5, 4 * std::sqrt(2 / (12 * n)));
}

// ---- against evaluate()
// ---------------------------------------------------------------------------

struct Numbers {
  double coverage = 0;
  double size = 0;
};

/// coverage and set_size as evaluate() has them.
Numbers evaluated(const SetsRequest& request, const std::string& alpha) {
  EvalRequest eval = request.rows;
  const std::size_t open = request.conformal.find('(');
  std::string options = "conformal=" + request.conformal.substr(0, open) + ",alpha=" + alpha;
  if (open != std::string::npos) {
    options += "," + request.conformal.substr(open + 1, request.conformal.size() - open - 2);
  }
  if (!request.quantile.empty()) options += ",quantile=" + request.quantile;
  if (!request.empty.empty()) options += ",empty=" + request.empty;
  eval.metrics = "coverage(" + options + "),set_size(" + options + ")";
  auto report = evaluate(eval);
  EXPECT_TRUE(report.ok()) << report.error().text();
  Numbers numbers;
  if (!report.ok()) return numbers;
  for (const EvalResult& result : report->results) {
    if (!result.group.empty()) continue;
    (result.metric == "coverage" ? numbers.coverage : numbers.size) = result.value;
  }
  return numbers;
}

void expect_as_evaluated(const SetsRequest& request, const Kept& kept,
                         const std::vector<int>& label_of_row) {
  for (std::size_t l = 0; l < kept.sets.size(); ++l) {
    const SetsLevel& level = kept.result.levels[l];
    const Numbers wanted = evaluated(request, level.alpha);
    const auto rows = static_cast<double>(kept.rows.size());
    u64 labels = 0;
    u64 covered = 0;
    for (std::size_t row = 0; row < kept.rows.size(); ++row) {
      const std::vector<int>& set = kept.sets[l][row];
      EXPECT_TRUE(std::is_sorted(set.begin(), set.end()));
      labels += set.size();
      const int label = label_of_row[static_cast<std::size_t>(kept.rows[row])];
      covered += std::find(set.begin(), set.end(), label) != set.end() ? 1 : 0;
    }
    EXPECT_EQ(labels, level.labels);
    EXPECT_EQ(covered, level.covered);
    EXPECT_EQ(static_cast<double>(labels) / rows, wanted.size) << request.conformal << level.alpha;
    EXPECT_EQ(static_cast<double>(covered) / rows, wanted.coverage)
        << request.conformal << level.alpha;
  }
}

TEST_F(SetsTest, SizesAndCoverageAreThoseOfEval) {
  std::mt19937_64 random(11);
  constexpr std::size_t kRows = 700;
  for (const i64 classes : {2, 3, 37, 130}) {
    const auto columns = static_cast<std::size_t>(classes);
    // Logits in steps of a half: many equal probabilities.
    std::vector<float> logits(kRows * columns);
    std::vector<int> labels(kRows);
    std::vector<u8> calibrates(kRows);
    std::vector<i64> ids(kRows);
    for (std::size_t row = 0; row < kRows; ++row) {
      labels[row] = static_cast<int>(random() % columns);
      calibrates[row] = static_cast<u8>(random() % 3 == 0);
      ids[row] = static_cast<i64>(random() >> 2);
      for (std::size_t j = 0; j < columns; ++j) {
        logits[row * columns + j] = static_cast<float>(static_cast<int>(random() % 9)) / 2.0F;
      }
      logits[row * columns + static_cast<std::size_t>(labels[row])] += 1.5F;
    }
    const std::string dump = write("p.npz", [&](NpzWriter& npz) {
      matrix<float>(npz, "logits", DType::kF32, classes, logits);
      column<int>(npz, "label", DType::kI32, labels);
      column<u8>(npz, "is_calibration", DType::kBool, calibrates);
      column<i64>(npz, "id", DType::kI64, ids);
    });
    for (const std::string conformal : {"lac", "aps", "raps", "raps(lambda=0.1,k_reg=1)", "saps",
                                        "saps(lambda=0)", "topk", "margin"}) {
      for (const std::string calibration : {"is_calibration", "0.4"}) {
        SetsRequest request =
            request_of({dump}, calibration, conformal, {"0.1", "0.3", "0.0001", "0.77"});
        request.rows.seed = 3;
        for (const std::string empty : {"", "argmax"}) {
          request.empty = empty;
          request.quantile = empty.empty() ? "" : "numpy_higher";
          auto kept = make(request);
          ASSERT_TRUE(kept.ok()) << kept.error().text();
          expect_as_evaluated(request, *kept, labels);
        }
      }
    }
  }
}

TEST_F(SetsTest, DrawsTiesAndModesAreThoseOfEval) {
  std::mt19937_64 random(15);
  constexpr std::size_t kRows = 900;
  constexpr std::size_t kClasses = 6;
  std::vector<double> probs;
  std::vector<int> labels;
  std::vector<u8> calibrates;
  std::vector<i64> groups;
  std::vector<i64> ids;
  std::vector<double> weights;
  for (std::size_t row = 0; row < kRows; ++row) {
    // Class 5 and group 4 are never in the calibration half.
    calibrates.push_back(static_cast<u8>(random() % 2 == 0));
    labels.push_back(static_cast<int>(random() % (calibrates.back() != 0 ? 5 : 6)));
    groups.push_back(static_cast<i64>(random() % (calibrates.back() != 0 ? 4 : 5)));
    ids.push_back(static_cast<i64>(random() >> 1));
    weights.push_back(static_cast<double>(random() % 100) / 10);
    double parts[kClasses];
    double sum = 0;
    for (std::size_t j = 0; j < kClasses; ++j) {
      parts[j] =
          static_cast<double>(1 + random() % 3 + (static_cast<int>(j) == labels.back() ? 2 : 0));
      sum += parts[j];
    }
    for (const double part : parts) probs.push_back(part / sum);
  }
  const auto dump_of = [&](const std::string& name, bool weighted) {
    return write(name, [&](NpzWriter& npz) {
      matrix<double>(npz, "probs", DType::kF64, kClasses, probs);
      column<int>(npz, "label", DType::kI32, labels);
      column<u8>(npz, "cal", DType::kBool, calibrates);
      column<i64>(npz, "g", DType::kI64, groups);
      column<i64>(npz, "id", DType::kI64, ids);
      if (weighted) column<double>(npz, "weight", DType::kF64, weights);
    });
  };
  const std::string plain = dump_of("p.npz", false);
  const std::string weighted = dump_of("w.npz", true);
  for (const std::string score : {"lac", "aps", "raps", "saps", "topk", "margin"}) {
    const bool ranged = score != "lac" && score != "margin";
    for (const std::string mode : {"marginal", "class", "group", "cluster", "weighted"}) {
      for (const std::string more :
           {"", ",ties=group", ",randomised=row", ",randomised=label,ties=group"}) {
        if (!ranged && more.find("randomised") != std::string::npos) continue;
        SetsRequest request = request_of({mode == "weighted" ? weighted : plain}, "cal",
                                         score + "(mode=" + mode + more + ")", {"0.2", "0.05"});
        request.rows.seed = 4;
        if (mode == "group") request.rows.roles.groups = {"g"};
        auto kept = make(request);
        ASSERT_TRUE(kept.ok()) << request.conformal << ": " << kept.error().text();
        expect_as_evaluated(request, *kept, labels);
        const std::vector<double>& qhats = kept->result.levels[0].qhats;
        const double infinite = std::numeric_limits<double>::infinity();
        if (mode == "class") {
          ASSERT_EQ(qhats.size(), kClasses);
          EXPECT_EQ(qhats[5], infinite) << "a class that no calibration row has";
          EXPECT_LT(qhats[0], infinite);
          for (const std::vector<int>& set : kept->sets[0]) {
            EXPECT_NE(std::find(set.begin(), set.end(), 5), set.end());
          }
        }
        EXPECT_EQ(qhats.size(), mode == "group"                        ? 4u
                                : mode == "class" || mode == "cluster" ? 6u
                                                                       : 0u);
      }
    }
  }
  // Never one qhat under another's name, nor p-values among other scores than those of qhat.
  SetsRequest request = request_of({plain}, "cal", "aps(mode=class)");
  request.p_values = PValues::kPlain;
  EXPECT_EQ(error_of(request),
            "p-values are among all calibration scores, and this is mode=class; leave one of them "
            "out");
  EXPECT_EQ(error_of(request_of({plain}, "cal", "aps(mode=group)")),
            "mode=group takes a qhat for each group; name the group column with --group");
  EXPECT_EQ(error_of(request_of({plain}, "cal", "aps(mode=weighted)")),
            plain +
                ": mode=weighted takes the likelihood ratio of each row, and there is no array "
                "for the weight; name it with --weight");
  request = request_of({plain}, "cal", "aps");
  request.rows.roles.groups = {"g"};
  EXPECT_EQ(error_of(request), "--group is for mode=group, this is mode=marginal; leave it out");
}

TEST_F(SetsTest, BinaryScoresToo) {
  std::mt19937_64 random(12);
  constexpr std::size_t kRows = 500;
  std::vector<double> score(kRows);
  std::vector<int> labels(kRows);
  for (std::size_t row = 0; row < kRows; ++row) {
    score[row] = static_cast<double>(random() % 1001) / 1000;
    labels[row] = static_cast<double>(random() % 1001) / 1000 < score[row] ? 1 : 0;
  }
  const std::string dump = write("b.npz", [&](NpzWriter& npz) {
    column<double>(npz, "score", DType::kF64, score);
    column<int>(npz, "label", DType::kI32, labels);
  });
  for (const std::string conformal : {"lac", "aps", "raps", "saps", "topk", "margin"}) {
    const SetsRequest request = request_of({dump}, "0.5", conformal, {"0.1", "0.4"});
    auto kept = make(request);
    ASSERT_TRUE(kept.ok()) << kept.error().text();
    expect_as_evaluated(request, *kept, labels);
  }
}

// A calibration file and a dump are the two halves of the dump that holds both.
TEST_F(SetsTest, AFileCalibratesLikeAColumn) {
  std::mt19937_64 random(13);
  constexpr std::size_t kRows = 300;
  std::vector<double> both(kRows * 3);
  std::vector<int> labels(kRows);
  std::vector<u8> first(kRows);
  for (std::size_t row = 0; row < kRows; ++row) {
    const double a = static_cast<double>(random() % 100) / 200;
    const double b = static_cast<double>(random() % 100) / 200;
    both[row * 3] = a;
    both[row * 3 + 1] = b;
    both[row * 3 + 2] = 1 - a - b;
    labels[row] = static_cast<int>(random() % 3);
    first[row] = row < 100 ? 1 : 0;
  }
  const auto part = [&](const std::string& name, std::size_t from, std::size_t to, bool labelled,
                        bool flagged) {
    return write(name, [&](NpzWriter& npz) {
      const auto at = [&](std::size_t row, std::size_t width) {
        return static_cast<std::ptrdiff_t>(row * width);
      };
      matrix<double>(npz, "probs", DType::kF64, 3,
                     {both.begin() + at(from, 3), both.begin() + at(to, 3)});
      if (labelled) {
        column<int>(npz, "label", DType::kI32,
                    {labels.begin() + at(from, 1), labels.begin() + at(to, 1)});
      }
      if (flagged) column<u8>(npz, "is_calibration", DType::kBool, first);
    });
  };
  const std::string whole = part("w.npz", 0, kRows, true, true);
  const std::string cal = part("c.npz", 0, 100, true, false);
  const std::string rest = part("r.npz", 100, kRows, false, false);
  for (const std::string conformal : {"lac", "aps", "raps", "saps", "topk", "margin"}) {
    auto by_column = make(request_of({whole}, "is_calibration", conformal, {"0.2"}));
    auto by_file = make(request_of({rest}, cal, conformal, {"0.2"}));
    ASSERT_TRUE(by_column.ok()) << by_column.error().text();
    ASSERT_TRUE(by_file.ok()) << by_file.error().text();
    EXPECT_EQ(by_file->sets, by_column->sets);
    EXPECT_EQ(by_file->result.levels[0].qhat, by_column->result.levels[0].qhat);
    EXPECT_FALSE(by_file->result.labelled);
    EXPECT_EQ(by_file->rows.front(), 0);
    EXPECT_EQ(by_column->rows.front(), 100);
  }
  // Shards of a pool are one dump, whose rows count on.
  const std::string a = part("a.npz", 100, 160, false, false);
  const std::string b = part("b.npz", 160, kRows, false, false);
  SetsRequest pooled = request_of({a, b}, cal, "aps", {"0.2"});
  pooled.rows.pool = true;
  auto shards = make(pooled);
  auto one = make(request_of({rest}, cal, "aps", {"0.2"}));
  ASSERT_TRUE(shards.ok() && one.ok());
  EXPECT_EQ(shards->sets, one->sets);
  EXPECT_EQ(shards->rows, one->rows);
}

TEST_F(SetsTest, ThreadsChangeNothing) {
  std::mt19937_64 random(14);
  constexpr std::size_t kRows = 30000;  // several ranges of a thread
  std::vector<float> logits(kRows * 40);
  for (float& value : logits) value = static_cast<float>(random() % 1000) / 200.0F;
  std::vector<int> labels(kRows);
  for (int& label : labels) label = static_cast<int>(random() % 40);
  const std::string dump = write("t.npz", [&](NpzWriter& npz) {
    matrix<float>(npz, "logits", DType::kF32, 40, logits);
    column<int>(npz, "label", DType::kI32, labels);
  });
  SetsRequest request = request_of({dump}, "0.3", "raps", {"0.1", "0.2"});
  request.p_values = PValues::kSmoothed;
  request.rows.threads = 1;
  auto one = make(request);
  request.rows.threads = 5;
  auto five = make(request);
  ASSERT_TRUE(one.ok() && five.ok());
  EXPECT_EQ(one->rows, five->rows);
  EXPECT_EQ(one->sets, five->sets);
  EXPECT_EQ(one->p_values, five->p_values);
  expect_as_evaluated(request, *five, labels);
}

// ---- edges
// ----------------------------------------------------------------------------------------

TEST_F(SetsTest, TooFewCalibrationRowsMakeEverySetWhole) {
  const std::string dump = write("f.npz", [](NpzWriter& npz) {
    matrix<double>(npz, "probs", DType::kF64, 2, {.9, .1, .2, .8, .5, .5});
    column<u8>(npz, "label", DType::kU8, {0, 1, 1});
    column<u8>(npz, "cal", DType::kBool, {1, 0, 0});
  });
  auto kept = make(request_of({dump}, "cal", "aps"));
  ASSERT_TRUE(kept.ok()) << kept.error().text();
  EXPECT_EQ(kept->sets[0], (Labels{{0, 1}, {0, 1}}));
  EXPECT_EQ(kept->result.levels[0].qhat, std::numeric_limits<double>::infinity());
  EXPECT_EQ(kept->result.levels[0].qhat_reason, "too_few_calibration");
  EXPECT_EQ(kept->result.levels[0].rank, 0);
}

TEST_F(SetsTest, NoRows) {
  const std::string empty =
      write("e.npz", [](NpzWriter& npz) { EXPECT_TRUE(npz.column("probs", DType::kF64, 3).ok()); });
  const std::string cal = write("c.npz", [](NpzWriter& npz) {
    matrix<double>(npz, "probs", DType::kF64, 3, {.5, .3, .2});
    column<u8>(npz, "label", DType::kU8, {1});
  });
  auto kept = make(request_of({empty}, cal, "aps", {"0.5"}));
  ASSERT_TRUE(kept.ok()) << kept.error().text();
  EXPECT_TRUE(kept->ended);
  EXPECT_TRUE(kept->rows.empty());
  EXPECT_EQ(kept->result.calibration_rows, 1);
  EXPECT_EQ(kept->result.inputs.size(), 2u);
  // All rows are for calibration: none has a set.
  const std::string all = write("a.npz", [](NpzWriter& npz) {
    matrix<double>(npz, "probs", DType::kF64, 2, {.5, .5});
    column<u8>(npz, "label", DType::kU8, {1});
    column<u8>(npz, "cal", DType::kBool, {1});
  });
  auto none = make(request_of({all}, "cal", "aps", {"0.5"}));
  ASSERT_TRUE(none.ok()) << none.error().text();
  EXPECT_TRUE(none->rows.empty());
}

TEST_F(SetsTest, RefusesWhatHasNoSets) {
  const std::string dump = write("d.npz", [](NpzWriter& npz) {
    matrix<double>(npz, "probs", DType::kF64, 3, {.5, .3, .2, .5, .3, .2});
    matrix<double>(npz, "raw", DType::kF64, 3, {.5, .3, .2, 1.5, .3, .2});
    matrix<double>(npz, "sums", DType::kF64, 3, {.5, .3, .2, .5, .3, .1});
    matrix<double>(npz, "single", DType::kF64, 1, {.5, .3});
    matrix<u8>(npz, "labels2", DType::kU8, 3, {1, 0, 0, 1, 1, 0});
    column<u8>(npz, "label", DType::kU8, {1, 2});
    column<u8>(npz, "far", DType::kU8, {1, 3});
    column<u8>(npz, "cal", DType::kBool, {1, 0});
    column<u8>(npz, "never", DType::kBool, {0, 0});
    column<u8>(npz, "odd", DType::kU8, {0, 2});
  });
  const std::string other = write("o.npz", [](NpzWriter& npz) {
    matrix<double>(npz, "probs", DType::kF64, 4, {.5, .3, .1, .1});
    column<u8>(npz, "label", DType::kU8, {1});
  });
  EXPECT_EQ(error_of(request_of({dump}, "")),
            "no rows to calibrate on; name a column, a file or a fraction with --calibration");
  EXPECT_EQ(error_of(request_of({dump}, "never")),
            dump + ": no row is for calibration; without scores there is no qhat");
  EXPECT_EQ(error_of(request_of({dump}, "odd")),
            dump +
                ": 'odd' row 1: calibration 'odd' is 2, neither 0 nor 1; the column says which "
                "rows are for calibration");
  EXPECT_EQ(error_of(request_of({dump}, other)),
            dump + ": has multiclass probabilities of 3 classes, the calibration file " + other +
                " has probabilities of 4; calibrate on a dump of the same model");
  SetsRequest request = request_of({dump}, "cal");
  request.rows.roles.probs = "raw";
  EXPECT_EQ(error_of(request),
            dump +
                ": 'raw' row 1: probs 'raw' is 1.5 in column 0, outside [0, 1], and sets need "
                "probabilities; divide rows by their sums with --normalize, or name the column "
                "with --logits if these are logits");
  request.rows.roles.probs = "sums";
  EXPECT_EQ(error_of(request),
            dump +
                ": 'sums' row 1: probs 'sums' sums to 0.9, not to 1 within 0.0039, and sets need "
                "probabilities; divide rows by their sums with --normalize");
  request.rows.normalize = true;
  EXPECT_EQ(error_of(request), "no error");
  request = request_of({dump}, "cal");
  request.rows.roles.label = "far";
  EXPECT_EQ(error_of(request),
            dump +
                ": 'far' row 1: label 'far' is 3, outside 0..2 (1 such row in all); mend the "
                "dump, or leave such rows out with --nan drop");
  request.rows.roles.label = "labels2";
  EXPECT_EQ(error_of(request), dump +
                                   ": is a multilabel dump, and conformal sets are of one label "
                                   "a row, binary or of several classes");
  request = request_of({dump}, "cal");
  request.rows.roles.probs = "single";
  EXPECT_EQ(error_of(request), dump +
                                   ": scores 'single' [2,1] have fewer than two classes; give "
                                   "an array with one dimension for a binary task");
  EXPECT_EQ(error_of(request_of({dump}, "cal", "rasp")),
            "unknown --conformal 'rasp', did you mean 'raps'?");
  EXPECT_EQ(error_of(request_of({dump}, "cal", "raps(lamda=1)")),
            "'raps' has no option 'lamda'; did you mean 'lambda'?");
  EXPECT_EQ(error_of(request_of({dump}, "cal", "raps(lambda=1")),
            "--conformal 'raps(lambda=1' has no closing ')'");
  EXPECT_EQ(error_of(request_of({dump}, "cal", "lac", {"1"})),
            "--alpha '1' is not a decimal between 0 and 1; give the share of labels that may be "
            "missed, such as 0.1");
}

TEST_F(SetsTest, LeavesOutBadRowsWhereAsked) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string dump = write("n.npz", [&](NpzWriter& npz) {
    matrix<double>(npz, "probs", DType::kF64, 2, {.9, .1, nan, 1, .2, .8, .5, .5, .6, .4});
    column<u8>(npz, "label", DType::kU8, {0, 0, 1, 7, 0});
    column<u8>(npz, "cal", DType::kBool, {1, 0, 0, 0, 0});
  });
  SetsRequest request = request_of({dump}, "cal", "lac", {"0.5"});
  EXPECT_NE(error_of(request).find("probs 'probs' is nan in column 0"), std::string::npos);
  request.rows.nan = NanPolicy::kDrop;
  SetsReport report;
  auto kept = make(request, &report);
  ASSERT_TRUE(kept.ok()) << kept.error().text();
  EXPECT_EQ(kept->rows, (std::vector<i64>{2, 4}));
  ASSERT_EQ(report.warnings.size(), 1u);
  EXPECT_EQ(report.warnings[0], dump + ": left out 2 rows (bad scores 1, labels 1)");
}

TEST_F(SetsTest, ManyClasses) {
  constexpr std::size_t kClasses = 65535;
  std::vector<float> logits(3 * kClasses, 0.0F);
  logits[kClasses + 65534] = 40;  // row 1 is certain of the last class
  const std::string dump = write("m.npz", [&](NpzWriter& npz) {
    matrix<float>(npz, "logits", DType::kF32, kClasses, logits);
    column<int>(npz, "label", DType::kI32, {0, 65534, 3});
    column<u8>(npz, "cal", DType::kBool, {1, 0, 0});
  });
  auto kept = make(request_of({dump}, "cal", "topk", {"0.5"}));
  ASSERT_TRUE(kept.ok()) << kept.error().text();
  EXPECT_EQ(kept->sets[0], (Labels{{65534}, {0}}));
  auto all = make(request_of({dump}, "cal", "aps"));
  ASSERT_TRUE(all.ok());
  EXPECT_EQ(all->sets[0][0].size(), kClasses);
  EXPECT_EQ(all->sets[0][0].back(), 65534);
}

TEST_F(SetsTest, OneDumpThatFailsLeavesTheOthersAlone) {
  const std::string good = write("g.npz", [](NpzWriter& npz) {
    matrix<double>(npz, "probs", DType::kF64, 2, {.9, .1});
  });
  const std::string bad = write("b.npz", [](NpzWriter& npz) {
    matrix<double>(npz, "probs", DType::kF64, 2, {1.9, .1});
  });
  const std::string cal = write("c.npz", [](NpzWriter& npz) {
    matrix<double>(npz, "probs", DType::kF64, 2, {.7, .3});
    column<u8>(npz, "label", DType::kU8, {0});
  });
  SetsReport report;
  auto kept = make(request_of({bad, good}, cal, "lac", {"0.5"}), &report);
  ASSERT_TRUE(kept.ok()) << kept.error().text();
  ASSERT_EQ(report.failures.size(), 1u);
  EXPECT_EQ(report.failures[0].dump, bad);
  ASSERT_EQ(report.results.size(), 1u);
  EXPECT_EQ(report.results[0].dump, good);
  EXPECT_EQ(kept->sets[0], (Labels{{0}}));
}

TEST_F(SetsTest, TheOrderOfDumpsDecidesNothing) {
  const auto dump = [&](const std::string& name, i64 classes, bool labelled) {
    return write(name, [&](NpzWriter& npz) {
      std::vector<double> probs(static_cast<std::size_t>(classes), 0);
      probs[0] = 1;
      matrix<double>(npz, "probs", DType::kF64, classes, probs);
      if (labelled) column<u8>(npz, "label", DType::kU8, {0});
    });
  };
  const std::string five = dump("five.npz", 5, false);
  const std::string other = dump("other.npz", 5, false);
  const std::string four = dump("four.npz", 4, false);
  const std::string cal = dump("c.npz", 4, true);
  for (const std::vector<std::string>& dumps : {std::vector{five, four}, std::vector{four, five}}) {
    SetsReport report;
    auto kept = make(request_of(dumps, cal, "lac", {"0.5"}), &report);
    ASSERT_TRUE(kept.ok()) << kept.error().text();
    ASSERT_EQ(report.results.size(), 1u);
    EXPECT_EQ(report.results[0].dump, four);
    EXPECT_EQ(report.results[0].calibration_rows, 1);
    EXPECT_EQ(report.results[0].levels[0].qhat, 0);
    ASSERT_EQ(report.failures.size(), 1u);
    EXPECT_EQ(report.failures[0].error.text(),
              five + ": has multiclass probabilities of 5 classes, the calibration file " + cal +
                  " has probabilities of 4; calibrate on a dump of the same model");
  }
  SetsReport report;
  ASSERT_TRUE(make(request_of({five, other}, cal, "lac", {"0.5"}), &report).ok());
  EXPECT_TRUE(report.results.empty());
  ASSERT_EQ(report.failures.size(), 2u);
  EXPECT_EQ(report.failures[1].dump, other);
}

// Options are of one dump where they fit another.
TEST_F(SetsTest, OptionsThatDoNotFitADumpAreItsFailure) {
  const auto dump = [&](const std::string& name, std::size_t classes) {
    return write(name, [&](NpzWriter& npz) {
      matrix<float>(npz, "logits", DType::kF32, static_cast<i64>(classes),
                    std::vector<float>(2 * classes, 0.0F));
      column<u8>(npz, "label", DType::kU8, {0, 0});
      column<u8>(npz, "cal", DType::kBool, {1, 0});
    });
  };
  const std::string few = dump("few.npz", 4);
  const std::string many = dump("many.npz", 9000);
  const std::string error =
      "lambda=0.95 of conformal=raps is too large for 9000 classes; lambda times the classes may "
      "be "
      "8192 at most: give lambda=0.909 or less";
  SetsReport report;
  ASSERT_TRUE(make(request_of({many, few}, "cal", "raps(lambda=0.95)"), &report).ok());
  ASSERT_EQ(report.results.size(), 1u);
  EXPECT_EQ(report.results[0].dump, few);
  ASSERT_EQ(report.failures.size(), 1u);
  EXPECT_EQ(report.failures[0].error.text(), many + ": " + error);
  EXPECT_EQ(report.failures[0].error.code, ErrorCode::kUsage);
  EXPECT_EQ(error_of(request_of({many}, "cal", "raps(lambda=0.95)")), error);
}

// Named by their values, in an order that the rows do not decide; and none is taken for another.
TEST_F(SetsTest, GroupsAreToldApart) {
  const std::string dump = path("g.csv");
  const auto write_rows = [&](std::vector<std::string> rows) {
    std::ofstream file(dump);
    file << "score,label,cal,a,b\n";
    for (const std::string& row : rows) file << row << '\n';
  };
  std::vector<std::string> rows = {"0.9,1,1,\"x,y\",z", "0.8,1,1,x,\"y,z\"", "0.7,1,1,,z",
                                   "0.6,1,0,x,\"y,z\"", "0.6,1,0,new,z",     "0.6,0,0,x,z"};
  std::vector<std::vector<double>> qhats;
  for (int turn = 0; turn < 2; ++turn) {
    write_rows(rows);
    SetsRequest request = request_of({dump}, "cal", "lac(mode=group)", {"0.5"});
    request.rows.roles.groups = {"a", "b"};
    SetsReport report;
    auto kept = make(request, &report);
    ASSERT_TRUE(kept.ok()) << kept.error().text();
    const auto group = [](Detail a, const char* b) {
      return Detail(Detail::Object{{"a", std::move(a)}, {"b", b}});
    };
    EXPECT_EQ(kept->result.groups,
              (Detail::List{group(Detail(), "z"), group("x", "y,z"), group("x,y", "z")}));
    qhats.push_back(kept->result.levels[0].qhats);
    EXPECT_EQ(kept->result.rows, 3);
    EXPECT_EQ(kept->result.unseen_group_rows, 2);
    ASSERT_EQ(report.warnings.size(), 1u);
    EXPECT_EQ(report.warnings[0],
              dump +
                  ": 2 of 3 rows are in groups without a calibration row, and their sets have "
                  "every label");
    std::reverse(rows.begin(), rows.end());
  }
  ASSERT_EQ(qhats[0].size(), 3u);
  EXPECT_NEAR(qhats[0][0], .3, 1e-12);
  EXPECT_NEAR(qhats[0][1], .2, 1e-12);
  EXPECT_NEAR(qhats[0][2], .1, 1e-12);
  EXPECT_EQ(qhats[1], qhats[0]);
}

TEST_F(SetsTest, AWrongCalibrationIsNoFaultOfTheDump) {
  const auto dump = [&](const std::string& name, bool more) {
    return write(name, [&](NpzWriter& npz) {
      matrix<double>(npz, "probs", DType::kF64, 2, {.5, .5});
      if (more) column<u8>(npz, "more", DType::kU8, {1});
    });
  };
  const std::string test = dump("test.npz", false);
  EXPECT_EQ(error_of(request_of({test}, "nosuch.npz")),
            test + ": no column or file 'nosuch.npz' for --calibration; it has probs [1,2] f64");
  const std::string bad = path("bad.npz");
  std::ofstream(bad) << "this is text\n";
  EXPECT_EQ(error_of(request_of({test}, bad)),
            bad + ": is not a zip, as an npz is; it looks like csv");
  for (const bool more : {false, true}) {
    const std::string cal = dump("cal.npz", more);
    EXPECT_EQ(error_of(request_of({test}, cal)).rfind(cal + ": no array for the label; it has", 0),
              0u)
        << error_of(request_of({test}, cal));
  }
}

TEST_F(SetsTest, ASetFileHasOneScoreOfLabels) {
  const auto refused = [&](const std::string& conformal) {
    return error_of(request_of({"unread.npz"}, "cal", conformal));
  };
  EXPECT_EQ(refused("lac,aps"),
            "--conformal 'lac,aps' is 2 scores, and a set file has the sets of one; call cupel "
            "sets for each, with an -o of its own");
  for (const std::string score : {"none", "absolute"}) {
    EXPECT_EQ(refused(score), "--conformal '" + score +
                                  "' is a score of a regression task, and sets are of labels; one "
                                  "of lac, aps, raps, saps, topk, margin");
  }
  EXPECT_EQ(refused("hinge"),
            "unknown --conformal 'hinge'; one of lac, aps, raps, saps, topk, margin");
  EXPECT_EQ(refused("lac(randomised=row)").rfind("randomised=row of 'lac' has nothing to draw", 0),
            0u)
      << refused("lac(randomised=row)");
}

TEST_F(SetsTest, NoRowLeftIsSaid) {
  const std::string dump = write("a.npz", [](NpzWriter& npz) {
    matrix<double>(npz, "probs", DType::kF64, 2, {.5, .5});
    column<u8>(npz, "label", DType::kU8, {1});
    column<u8>(npz, "cal", DType::kBool, {1});
  });
  SetsReport report;
  ASSERT_TRUE(make(request_of({dump}, "cal"), &report).ok());
  ASSERT_EQ(report.warnings.size(), 1u);
  EXPECT_EQ(report.warnings[0],
            dump + ": no row has a set: none is left besides those for calibration");
}

}  // namespace
}  // namespace cupel
