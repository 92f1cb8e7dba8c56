// CUDA devices: what there is and why it is not usable, without making a context; and a backend on
// one.
#include <cuda_runtime_api.h>

#include <utility>

#include "cuda_pipelines.hpp"
#include "cuda_probe.hpp"
#include "cupel/backend/device.hpp"
#include "device_backend.hpp"

namespace cupel::device {
namespace {

/// Less is not worth a call.
constexpr i64 kLeastFreeBytes = i64{1} << 26;

std::string name_of(int ordinal) { return "cuda:" + std::to_string(ordinal); }

DeviceInfo describe(int ordinal) {
  DeviceInfo info;
  info.ordinal = ordinal;
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, ordinal);
      error != cudaSuccess) {
    info.reason = std::string("it cannot be asked: ") + cudaGetErrorString(error);
    return info;
  }
  info.name = properties.name;
  info.architecture = "sm_" + std::to_string(properties.major) + std::to_string(properties.minor);
  info.memory_bytes = static_cast<i64>(properties.totalGlobalMem);
  int pools = 0;
  int mode = cudaComputeModeDefault;
  static_cast<void>(cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, ordinal));
  static_cast<void>(cudaDeviceGetAttribute(&mode, cudaDevAttrComputeMode, ordinal));
  if (!has_code_for(CUPEL_CUDA_ARCHITECTURES, properties.major, properties.minor)) {
    info.reason = "this build has no code for its architecture, " + info.architecture;
  } else if (pools == 0) {
    info.reason = "it has no memory pools";
  } else if (mode == cudaComputeModeProhibited) {
    info.reason = "its compute mode prohibits use";
  }
  return info;
}

class CudaProvider final : public DeviceProvider {
 public:
  std::string_view name() const override { return "cuda"; }

  DeviceProbe probe() const override {
    DeviceProbe probe;
    int driver = 0;
    static_cast<void>(cudaDriverGetVersion(&driver));
    if (driver != 0) probe.driver = version_text(driver);
    probe.reason = driver_problem(driver, CUDART_VERSION);
    if (!probe.reason.empty()) return probe;
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
      probe.reason = "no CUDA device is visible";
      return probe;
    }
    if (error != cudaSuccess) {
      probe.reason = std::string("the driver refuses: ") + cudaGetErrorString(error);
      return probe;
    }
    bool any_usable = false;
    for (int ordinal = 0; ordinal < count; ++ordinal) {
      probe.devices.push_back(describe(ordinal));
      any_usable = any_usable || probe.devices.back().reason.empty();
    }
    if (!any_usable) {
      const DeviceInfo& first = probe.devices.front();
      probe.reason = name_of(0) + " (" + first.name + "): " + first.reason;
    }
    return probe;
  }

  Result<std::unique_ptr<DeviceBackend>> open(int ordinal,
                                              const DeviceOptions& options) const override {
    const auto refuse = [&](std::string why) {
      return Error{ErrorCode::kBackend, name_of(ordinal), std::move(why), "use --backend cpu"};
    };
    const DeviceProbe found = probe();
    if (!found.reason.empty()) return refuse(found.reason);
    if (ordinal < 0 || ordinal >= static_cast<int>(found.devices.size())) {
      return refuse("there is no such device");
    }
    const DeviceInfo& info = found.devices[static_cast<std::size_t>(ordinal)];
    if (!info.reason.empty()) return refuse(info.reason);
    auto pipelines = make_cuda_pipelines(
        ordinal, {options.memory_limit, options.fail_at_launch, options.part_rows});
    if (!pipelines->status().ok()) return refuse(pipelines->status().what);
    if (const i64 free = pipelines->free_bytes(); free < kLeastFreeBytes) {
      return refuse("not enough memory: " + std::to_string(free) + " bytes of the device are free");
    }
    return make_device_backend(std::move(pipelines), name_of(ordinal),
                               info.name + " (" + info.architecture + ")");
  }
};

}  // namespace
}  // namespace cupel::device

namespace cupel {

const DeviceProvider* cuda_provider() {
  static const device::CudaProvider kProvider;
  return &kProvider;
}

}  // namespace cupel
