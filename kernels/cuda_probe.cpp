#include "cuda_probe.hpp"

#include <charconv>

namespace cupel::device {
namespace {

/// Whether one entry of the list has code for the version, in tenths: 90, 120.
bool entry_has_code(std::string_view entry, int version) {
  bool real = true;
  bool is_virtual = true;
  if (const auto dash = entry.find('-'); dash != std::string_view::npos) {
    real = entry.substr(dash) == "-real";
    is_virtual = entry.substr(dash) == "-virtual";
    entry = entry.substr(0, dash);
  }
  int built = 0;
  const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), built);
  if (error != std::errc()) return false;
  if (end != entry.data() + entry.size()) return version == built;
  const bool same_major = version / 10 == built / 10;
  return (real && same_major && version >= built) || (is_virtual && version >= built);
}

}  // namespace

bool has_code_for(std::string_view architectures, int major, int minor) {
  const int version = major * 10 + minor;
  while (!architectures.empty()) {
    const auto end = architectures.find(',');
    if (entry_has_code(architectures.substr(0, end), version)) return true;
    if (end == std::string_view::npos) return false;
    architectures = architectures.substr(end + 1);
  }
  return false;
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string driver_problem(int driver_version, int runtime_version) {
  if (driver_version == 0) return "no NVIDIA driver was found";
  // A driver runs what was built with any minor version of its major one.
  if (driver_version / 1000 < runtime_version / 1000) {
    return "the NVIDIA driver is too old: it supports CUDA " + version_text(driver_version) +
           ", this build needs " + version_text(runtime_version / 1000 * 1000);
  }
  return {};
}

}  // namespace cupel::device
