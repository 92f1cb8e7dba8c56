// The options by which commands choose a backend, and the settings of the environment behind them.
#pragma once

#include <string>

#include "cupel/backend/choose.hpp"
#include "cupel/core/result.hpp"

namespace cupel {

/// The most threads that --threads takes.
constexpr i64 kMostThreads = 4096;

/// What help says of the environment.
constexpr std::string_view kDeviceEnvironment =
    "environment:\n"
    "  CUPEL_BACKEND           the backend where --backend is not given\n"
    "  CUPEL_DEVICE_MEMORY     memory of a device to stay within, such as 2G: for tests\n"
    "  CUPEL_DEVICE_FAIL_AT    the launch on a device that fails, from 1: for tests\n"
    "  CUPEL_DEVICE_PART_ROWS  rows of the parts that come to a device, from 1: for tests\n";

/// `given`, or CUPEL_BACKEND where it is empty and that is set, else "auto". Errors: kUsage, a name
/// that no backend has, with the nearest.
Result<std::string> backend_name(const std::string& given);
/// CUPEL_DEVICE_MEMORY, CUPEL_DEVICE_FAIL_AT and CUPEL_DEVICE_PART_ROWS. Errors: kUsage.
Result<DeviceOptions> device_options();

}  // namespace cupel
