// Stands in for the CUDA backend in a build without CUDA.
#include "cupel/backend/device.hpp"

namespace cupel {

const DeviceProvider* cuda_provider() { return nullptr; }

}  // namespace cupel
