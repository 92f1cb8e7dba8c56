// Accelerators as the host sees them: what there is, why it is not usable, and a backend on one of
// them. A device may run out of memory or break down in the middle of a run; it says so, and who
// called it computes the batch elsewhere (make_device_group() does).
#pragma once

#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/core/result.hpp"

namespace cupel {

/// What stopped a call on a device.
enum class DeviceTrouble : u8 {
  kNone,         ///< nothing of the device's: another backend would refuse the input alike
  kOutOfMemory,  ///< a smaller batch may fit
  kFailed,       ///< the device cannot be trusted for the rest of the run
};

/// A backend on one device. It computes a table whole, or not at all.
class DeviceBackend : public Backend {
 public:
  /// Why the last call returned an Error.
  virtual DeviceTrouble trouble() const = 0;
  /// Bytes of device memory that are free for a call now, within the limit of DeviceOptions; held
  /// columns make way for it.
  virtual i64 free_bytes() = 0;
  /// The most rows of a table that a call takes, whatever the memory.
  virtual i64 most_rows() const { return std::numeric_limits<i64>::max(); }
  /// An upper estimate of the device memory that ranking `problems` problems of a table needs for
  /// each of its rows, input columns included; a call may still run out.
  virtual i64 bytes_per_row(const TableView& table, i64 problems) const = 0;
};

/// What a machine says of one device.
struct DeviceInfo {
  int ordinal = 0;
  std::string name;          ///< "NVIDIA H200"
  std::string architecture;  ///< "sm_90"
  i64 memory_bytes = 0;
  std::string reason;  ///< why it is not usable; empty: it is
};

struct DeviceProbe {
  std::string reason;  ///< why no device is usable, for people; empty: at least one is
  std::string driver;  ///< version; empty: none found
  std::vector<DeviceInfo> devices;
};

struct DeviceOptions {
  i64 memory_limit = 0;  ///< bytes of device memory to stay within; 0: what is free
  /// For tests: the launch with this number (from 1) fails as a broken device would; 0: none.
  i64 fail_at_launch = 0;
  /// Rows of the parts in which a table travels to the device; 0: parts of some 32 MiB. There are
  /// never more than 4,096 parts.
  i64 part_rows = 0;
};

/// A kind of device: finds and opens them. Stateless; probe() touches no device memory and makes no
/// context.
class DeviceProvider {
 public:
  virtual ~DeviceProvider() = default;
  virtual std::string_view name() const = 0;  ///< "cuda"
  virtual DeviceProbe probe() const = 0;
  /// Errors: kBackend, with the reason.
  virtual Result<std::unique_ptr<DeviceBackend>> open(int ordinal,
                                                      const DeviceOptions& options) const = 0;
};

/// The CUDA provider, or null in a build without CUDA.
const DeviceProvider* cuda_provider();

}  // namespace cupel
