#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "backend/cpu_level.hpp"
#include "backend/device_group.hpp"
#include "cupel/backend/choose.hpp"

namespace cupel {
namespace {

constexpr std::string_view kAll = "cuda";
constexpr std::string_view kOne = "cuda:";

Error not_usable(const std::string& name, std::string_view reason) {
  return {ErrorCode::kBackend, "", fmt::format("backend '{}' is not usable: {}", name, reason),
          "use --backend auto or cpu"};
}

/// The devices of a probe that can be used, or why there are none.
Result<std::vector<DeviceInfo>> usable(const DeviceProbe& probe) {
  std::vector<DeviceInfo> devices;
  for (const DeviceInfo& device : probe.devices) {
    if (device.reason.empty()) devices.push_back(device);
  }
  if (probe.reason.empty() && !devices.empty()) return devices;
  std::string reason = probe.reason;
  if (reason.empty()) {
    reason = probe.devices.empty() ? "there is no device" : probe.devices.front().reason;
  }
  return Error{ErrorCode::kBackend, "", std::move(reason), ""};
}

/// The device that cuda:N means, or why it is not usable.
Result<std::vector<DeviceInfo>> device_numbered(const DeviceProbe& probe, int ordinal) {
  for (const DeviceInfo& device : probe.devices) {
    if (device.ordinal != ordinal) continue;
    if (device.reason.empty()) return std::vector{device};
    return Error{ErrorCode::kBackend, "", device.reason, ""};
  }
  // Without any device the reason (no driver, say) tells more than the number.
  if (probe.devices.empty() && !probe.reason.empty()) {
    return Error{ErrorCode::kBackend, "", probe.reason, ""};
  }
  const std::size_t count = probe.devices.size();
  return Error{
      ErrorCode::kBackend, "",
      fmt::format("there is no device {} ({} device{})", ordinal, count, count == 1 ? "" : "s"),
      ""};
}

}  // namespace

Result<std::vector<DeviceInfo>> usable_devices(const BackendChoice& choice) {
  const std::string& name = choice.name;
  int ordinal = -1;
  if (name.starts_with(kOne)) {
    const char* const begin = name.data() + kOne.size();
    const char* const end = name.data() + name.size();
    const auto [stop, fault] = std::from_chars(begin, end, ordinal);
    if (fault != std::errc() || stop != end || ordinal < 0) ordinal = -1;
  }
  if (name != "auto" && name != kAll && ordinal < 0) {
    return usage_error(fmt::format("unknown backend '{}'", name), "use auto, cpu, cuda or cuda:N");
  }
  Result<std::vector<DeviceInfo>> devices =
      Error{ErrorCode::kBackend, "", "this build has no CUDA backend", ""};
  if (choice.provider != nullptr) {
    const DeviceProbe probe = choice.provider->probe();
    devices = ordinal < 0 ? usable(probe) : device_numbered(probe, ordinal);
  }
  if (!devices && name != "auto") return not_usable(name, devices.error().what);
  return devices;
}

Result<std::unique_ptr<ChosenBackend>> choose_backend(const BackendChoice& choice) {
  const auto make_cpu = [threads = choice.threads] { return make_cpu_backend(threads); };
  DeviceGroupOptions options;
  std::vector<GroupDevice> devices;
  const bool by_name = choice.name != "auto" && choice.name != "cpu";
  if (choice.name != "cpu") {
    const auto found = usable_devices(choice);
    if (!found && by_name) return found.error();
    if (!found) {
      options.fallback = found.error().what;
    } else {
      options.kind = choice.provider->name();
      options.least_device_bytes = by_name ? 0 : choice.least_device_bytes;
      for (const DeviceInfo& device : *found) {
        devices.push_back(
            {fmt::format("{}:{}", options.kind, device.ordinal),
             [provider = choice.provider, ordinal = device.ordinal,
              device_options = choice.device] { return provider->open(ordinal, device_options); }});
      }
    }
  }
  auto group = make_device_group(std::move(devices), make_cpu, std::move(options));
  if (by_name) {
    if (auto opened = group->open_one(); !opened) {
      return not_usable(choice.name, opened.error().what);
    }
  }
  return std::unique_ptr<ChosenBackend>(std::move(group));
}

std::string_view cpu_instructions() {
  switch (cpu_level()) {
    case CpuLevel::kV4:
      return "AVX-512";
    case CpuLevel::kV3:
      return "AVX2";
    case CpuLevel::kBaseline:
      break;
  }
  return "baseline";
}

}  // namespace cupel
