// Several devices and the CPU as one backend. A table that fits a device is computed there whole;
// else it is cut into pieces, by problems where the rows of one problem fit, by rows otherwise, and
// all devices take pieces until none is left. States of pieces merge exactly, so nobody can tell
// from the result.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/backend/choose.hpp"
#include "cupel/backend/device.hpp"
#include "cupel/core/result.hpp"

namespace cupel {

/// A device that is opened when it is first needed.
struct GroupDevice {
  std::string name;  ///< in notes: "cuda:0"
  std::function<Result<std::unique_ptr<DeviceBackend>>()> open;
};

struct DeviceGroupOptions {
  std::string kind = "cuda";  ///< BackendInfo::name of what devices computed
  /// Pieces that a device cannot compute go to the CPU; else they are a kBackend error. A device
  /// that runs out of memory tries pieces of half the rows, then of a quarter, before; one that
  /// fails is left alone from then on. Each step is a note.
  bool may_use_cpu = true;
  i64 least_device_bytes = 0;  ///< tables of fewer bytes are computed on the CPU
  /// Rows of a piece, or more where there would be over 4,096 of them; 0: as many as fit the
  /// device's free memory.
  i64 batch_rows = 0;
  std::string fallback;  ///< ChosenBackend::fallback() where there is no device
};

class DeviceGroup : public ChosenBackend {
 public:
  /// Opens a device now, the first that can be opened; nothing where one is open. Errors: kBackend,
  /// why the first device could not be opened, where none could.
  virtual Result<void> open_one() = 0;
};

/// The group; without devices it is the CPU. `cpu` makes the CPU backend when something is first
/// computed there. Devices are called by one thread each at a time, several at once only for a
/// table that is cut. Memory: the states of the pieces of about a gigabyte of tables at a time.
std::unique_ptr<DeviceGroup> make_device_group(std::vector<GroupDevice> devices,
                                               std::function<std::unique_ptr<Backend>()> cpu,
                                               DeviceGroupOptions options);

/// The same of devices that are open, named kind:0, kind:1, ...
std::unique_ptr<DeviceGroup> make_device_group(std::vector<std::unique_ptr<DeviceBackend>> devices,
                                               std::function<std::unique_ptr<Backend>()> cpu,
                                               DeviceGroupOptions options);

/// Rows [first, first + rows) of a table, as views into it.
TableView rows_of(const TableView& table, i64 first, i64 rows);

/// Bytes of a table's columns, without gaps.
i64 table_bytes(const TableView& table);

}  // namespace cupel
