// What every test of a GPU starts with: a device, or a reason to skip that a required GPU turns
// into a failure.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string_view>
#include <utility>

#include "cupel/backend/device.hpp"

namespace cupel {

class OnDevice : public testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = cuda_provider()->probe().reason;
    if (reason.empty()) return;
    const char* required = std::getenv("CUPEL_REQUIRE_BACKEND");
    if (required != nullptr && std::string_view(required) == "cuda") {
      FAIL() << "a GPU is required: " << reason;
    }
    GTEST_SKIP() << reason;
  }

  static std::unique_ptr<DeviceBackend> open(const DeviceOptions& options = {}) {
    auto opened = cuda_provider()->open(0, options);
    EXPECT_TRUE(opened.ok()) << (opened.ok() ? "" : opened.error().text());
    return opened.ok() ? std::move(*opened) : nullptr;
  }
};

}  // namespace cupel
