// A Backend over the pipelines of a device: tables in, states out. What is the same for every
// device stands here; g++ compiles it as C++20.
#pragma once

#include <memory>
#include <string>

#include "cupel/backend/device.hpp"
#include "pipelines.hpp"

namespace cupel::device {

/// `name` and `device` as BackendInfo has them.
std::unique_ptr<DeviceBackend> make_device_backend(std::unique_ptr<Pipelines> pipelines,
                                                   std::string name, std::string device);

}  // namespace cupel::device
