// Where the host code of the CUDA backend meets its device code.
#pragma once

#include <memory>

#include "pipelines.hpp"

namespace cupel::device {

/// Pipelines on a device; status() says whether it could be opened.
std::unique_ptr<Pipelines> make_cuda_pipelines(int ordinal, const RunOptions& options);

}  // namespace cupel::device
