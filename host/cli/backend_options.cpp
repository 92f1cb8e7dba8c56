#include "cli/backend_options.hpp"

#include <cstdlib>
#include <limits>

#include "cli/arguments.hpp"

namespace cupel {
namespace {

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

}  // namespace

Result<std::string> backend_name(const std::string& given) {
  std::string name = given.empty() ? setting("CUPEL_BACKEND") : given;
  if (name.empty()) name = "auto";
  if (name.starts_with("cuda:")) {
    const auto ordinal = parse_integer("device of --backend", name.substr(5), 0, 1023);
    if (!ordinal) return ordinal.error();
    return name;
  }
  const auto known = parse_choice("backend", name, {"auto", "cpu", "cuda"});
  if (!known) return known.error();
  return name;
}

Result<DeviceOptions> device_options() {
  DeviceOptions options;
  if (const std::string memory = setting("CUPEL_DEVICE_MEMORY"); !memory.empty()) {
    const auto bytes = parse_size("CUPEL_DEVICE_MEMORY", memory);
    if (!bytes) return bytes.error();
    options.memory_limit = *bytes;
  }
  const auto count = [](const char* name, i64& into) -> Result<void> {
    const std::string text = setting(name);
    if (text.empty()) return {};
    const auto number = parse_integer(name, text, 1, std::numeric_limits<i64>::max());
    if (!number) return number.error();
    into = *number;
    return {};
  };
  if (auto read = count("CUPEL_DEVICE_FAIL_AT", options.fail_at_launch); !read) return read.error();
  if (auto read = count("CUPEL_DEVICE_PART_ROWS", options.part_rows); !read) return read.error();
  return options;
}

}  // namespace cupel
