// The pipelines of the GPU on the host, as a backend for tests.
#pragma once

#include <memory>

#include "cupel/backend/device.hpp"

namespace cupel::sim {

struct SimOptions {
  i64 memory = i64{1} << 40;
  i64 fail_at_launch = 0;
  i64 blocks = 3;
  i64 part_rows = 0;          ///< as in DeviceOptions
  bool pinned = false;        ///< the host's columns are in pinned memory
  i64* live_bytes = nullptr;  ///< kept at the bytes of device memory in use
};

std::unique_ptr<DeviceBackend> make_sim_backend(const SimOptions& options = {});

}  // namespace cupel::sim
