// Why a CUDA device is usable or not, case by case: these texts are what a user without a working
// GPU sees, and the machines on which each appears are not at hand.
#include <gtest/gtest.h>

#include "cuda_probe.hpp"

namespace cupel::device {
namespace {

TEST(Architectures, MachineCodeRunsOnItsMajorVersionFromItsMinorOneOn) {
  EXPECT_TRUE(has_code_for("86-real", 8, 6));
  EXPECT_TRUE(has_code_for("86-real", 8, 9));
  EXPECT_FALSE(has_code_for("86-real", 8, 0));
  EXPECT_FALSE(has_code_for("86-real", 9, 0));
  EXPECT_FALSE(has_code_for("86-real", 7, 5));
}

TEST(Architectures, VirtualCodeRunsOnEverythingFromItsVersionOn) {
  EXPECT_TRUE(has_code_for("80-virtual", 8, 0));
  EXPECT_TRUE(has_code_for("80-virtual", 12, 0));
  EXPECT_FALSE(has_code_for("80-virtual", 7, 5));
  EXPECT_TRUE(has_code_for("90", 10, 0)) << "a plain number has both kinds of code";
}

TEST(Architectures, EveryEntryOfTheListCounts) {
  constexpr std::string_view kRelease = "75-real,80-real,86-real,89-real,90-real,100-real,120";
  for (const auto& [major, minor] :
       {std::pair{7, 5}, {8, 0}, {8, 6}, {8, 9}, {9, 0}, {10, 0}, {12, 0}, {13, 0}}) {
    EXPECT_TRUE(has_code_for(kRelease, major, minor)) << major << "." << minor;
  }
  EXPECT_FALSE(has_code_for(kRelease, 7, 0));
  EXPECT_FALSE(has_code_for(kRelease, 11, 0));
}

TEST(Architectures, CodeForFeaturesRunsOnExactlyItsVersion) {
  EXPECT_TRUE(has_code_for("90a-real", 9, 0));
  EXPECT_FALSE(has_code_for("90a", 10, 0));
  EXPECT_FALSE(has_code_for("", 9, 0));
  EXPECT_FALSE(has_code_for("native", 9, 0));
}

TEST(Driver, NoneAndTooOldAreToldApart) {
  EXPECT_EQ(driver_problem(0, 13000), "no NVIDIA driver was found");
  EXPECT_EQ(driver_problem(12040, 13000),
            "the NVIDIA driver is too old: it supports CUDA 12.4, this build needs 13.0");
  EXPECT_EQ(driver_problem(13000, 13010), "") << "a minor version older is compatible";
  EXPECT_EQ(driver_problem(13020, 13000), "");
}

}  // namespace
}  // namespace cupel::device
