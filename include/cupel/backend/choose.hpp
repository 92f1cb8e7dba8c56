// Which backend computes: by name, by what the machine has, and why it is not the GPU where it is
// not.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/backend/device.hpp"
#include "cupel/core/result.hpp"

namespace cupel {

/// What went otherwise than planned.
struct BackendNote {
  std::string text;      ///< one line, for people
  bool warning = false;  ///< worth a line on standard error: time was lost, or a device
};

/// A backend that knows how it was chosen.
class ChosenBackend : public Backend {
 public:
  /// Why no device is used though one was looked for; empty: a usable one is there, or none was
  /// wanted. Final once something was computed, since `auto` opens a device when it needs it.
  virtual std::string fallback() const = 0;
  /// take_notes() with their weight; either of the two empties the list.
  virtual std::vector<BackendNote> take_weighted_notes() = 0;

  std::vector<std::string> take_notes() override {
    std::vector<std::string> texts;
    for (BackendNote& note : take_weighted_notes()) texts.push_back(std::move(note.text));
    return texts;
  }
};

struct BackendChoice {
  std::string name = "auto";  ///< auto, cpu, cuda, cuda:N
  int threads = 0;            ///< of the CPU; 0: as many as the process may use
  const DeviceProvider* provider = cuda_provider();  ///< null: a build without devices
  DeviceOptions device;
  /// `auto` computes tables of fewer bytes on the CPU: a device has to be started, and rows brought
  /// to it, before it is faster.
  i64 least_device_bytes = i64{32} << 20;
};

/// `cpu`: the CPU. `auto`: all usable devices, each opened when a table first needs it, and the CPU
/// where there is none. `cuda`, `cuda:N`: all usable devices, or that one; the first is opened now.
/// Whatever a device fails to compute is computed on the CPU (DeviceGroupOptions). Probes (but for
/// `cpu`), and makes no context but for a device by name. Errors: kUsage, an unknown name;
/// kBackend, a device by name that is not usable, with the reason.
Result<std::unique_ptr<ChosenBackend>> choose_backend(const BackendChoice& choice);

/// The usable devices that a name means. Errors: those of choose_backend() for `cuda` and `cuda:N`;
/// for `auto` a kBackend error whose `what` is the reason alone. Probes.
Result<std::vector<DeviceInfo>> usable_devices(const BackendChoice& choice);

/// The widest instruction set that CPU code is chosen for on this machine: "AVX-512", "AVX2",
/// "baseline".
std::string_view cpu_instructions();

}  // namespace cupel
