// Where the host code of the CUDA backend meets its device code.
#pragma once

#include <memory>

#include "pipelines.hpp"

namespace cupel::device {

/// Pipelines on a device; status() says whether it could be opened. Limit and launch as in
/// DeviceOptions.
std::unique_ptr<Pipelines> make_cuda_pipelines(int ordinal, i64 memory_limit, i64 fail_at_launch);

}  // namespace cupel::device
