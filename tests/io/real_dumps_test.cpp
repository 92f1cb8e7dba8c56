// Dumps of real models, written by NumPy. The expected values were read with Python's zipfile and
// struct modules.
#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>

#include "io/fixtures.hpp"

namespace cupel {
namespace {

using namespace fixtures;

class RealDumps : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("CUPEL_EXTRA_DATA");
    if (folder == nullptr) GTEST_SKIP() << "CUPEL_EXTRA_DATA is not set";
    folder_ = folder;
  }

  std::unique_ptr<Dump> open(const std::string& name) {
    Result<std::unique_ptr<Dump>> dump = open_dump(folder_ + "/" + name, {});
    EXPECT_TRUE(dump.ok()) << text_of(dump);
    return dump.ok() ? std::move(dump).value() : nullptr;
  }

  static double sum(const Array& array) {
    const std::vector<double> all = numbers(array.view);
    return std::accumulate(all.begin(), all.end(), 0.0);
  }

  std::string folder_;
};

TEST_F(RealDumps, StoredNpz) {
  const auto dump = open("vlm/Qwen-VL__mmbench.npz");
  ASSERT_NE(dump, nullptr);
  std::vector<std::string> names;
  for (const ArrayInfo& info : dump->arrays()) names.push_back(info.name);
  EXPECT_EQ(names, (std::vector<std::string>{"logits", "label", "is_calibration", "id", "category",
                                             "l2_category"}));
  EXPECT_EQ(dump->arrays()[0].shape, (std::vector<i64>{4377, 6}));
  const Array logits = load_one(*dump, "logits");
  EXPECT_EQ(load<float>(logits.view.at(0, 1)), 21.125f);
  EXPECT_EQ(load<float>(logits.view.at(4376, 3)), 20.75f);
  EXPECT_EQ(sum(load_one(*dump, "label")), 6224.0);
  EXPECT_EQ(sum(load_one(*dump, "is_calibration")), 2188.0);
  const Array category = load_one(*dump, "category");
  EXPECT_EQ(text_at(category.view, 0), "identity_reasoning");
  EXPECT_EQ(text_at(category.view, 4376), "nature_relation");
  const Result<HashText> verified = dump->verify();
  EXPECT_TRUE(verified.ok()) << text_of(verified);
}

TEST_F(RealDumps, DeflatedNpz) {
  const auto dump = open("vlm/Qwen-VL__oodcv.npz");
  ASSERT_NE(dump, nullptr);
  const Array logits = load_one(*dump, "logits");
  EXPECT_EQ(logits.view.shape, (std::vector<i64>{2844, 6}));
  EXPECT_EQ(load<float>(logits.view.at(0, 2)), 20.625f);
  EXPECT_EQ(load<float>(logits.view.at(2843, 5)), 19.375f);
  EXPECT_EQ(sum(load_one(*dump, "label")), 4221.0);
  EXPECT_EQ(sum(load_one(*dump, "is_calibration")), 1422.0);
  EXPECT_EQ(text_at(load_one(*dump, "situation").view, 0), "weather");
  EXPECT_EQ(text_at(load_one(*dump, "phase").view, 2843), "phase-2");
  const Result<HashText> verified = dump->verify();
  EXPECT_TRUE(verified.ok()) << text_of(verified);
}

TEST_F(RealDumps, AllOfThemVerify) {
  const std::string pattern = folder_ + "/**/*.npz";
  const Result<std::vector<std::string>> paths = expand_dump_arguments({&pattern, 1});
  ASSERT_TRUE(paths.ok()) << text_of(paths);
  EXPECT_GE(paths->size(), 19u);
  for (const std::string& path : *paths) {
    Result<std::unique_ptr<Dump>> dump = open_dump(path, {});
    ASSERT_TRUE(dump.ok()) << text_of(dump);
    std::vector<i64> all((*dump)->arrays().size());
    std::iota(all.begin(), all.end(), 0);
    EXPECT_TRUE((*dump)->load(all).ok()) << path;
    EXPECT_TRUE((*dump)->verify().ok()) << path;
  }
}

}  // namespace
}  // namespace cupel
