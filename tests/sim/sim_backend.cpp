#include "sim_backend.hpp"

#include "device_backend.hpp"
#include "host_exec.hpp"
#include "pipeline/pipelines_on.hpp"

namespace cupel::sim {

std::unique_ptr<DeviceBackend> make_sim_backend(const SimOptions& options) {
  HostExecOptions exec;
  exec.memory = options.memory;
  exec.fail_at_launch = options.fail_at_launch;
  exec.blocks = options.blocks;
  exec.part_rows = options.part_rows;
  exec.pinned = options.pinned;
  return device::make_device_backend(
      std::make_unique<device::PipelinesOn<HostExec>>(exec, options.live_bytes), "sim",
      "kernels on the host");
}

}  // namespace cupel::sim
