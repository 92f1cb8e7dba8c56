// cupel devices: what can compute on this machine, and why what cannot cannot.
#include <fmt/format.h>

#include "cli/backend_options.hpp"
#include "cli/command.hpp"
#include "cli/output.hpp"
#include "report/table.hpp"

namespace cupel {
namespace {

constexpr std::string_view kExamples =
    "  cupel devices\n"
    "  cupel devices --format json\n";

std::string gibibytes(i64 bytes) {
  return fmt::format("{:.1f} GiB", static_cast<double>(bytes) * 0x1p-30);
}

/// Why no device is usable; empty: one is.
std::string no_device_reason(const DeviceProvider* provider) {
  BackendChoice choice;
  choice.provider = provider;
  const auto devices = usable_devices(choice);
  return devices ? std::string() : devices.error().what;
}

std::string as_table(const BackendInfo& cpu, const DeviceProbe& probe, const std::string& reason,
                     const ReportStyle& style) {
  Section section;
  Table table;
  table.columns = {{"backend", Align::kLeft},
                   {"device", Align::kLeft},
                   {"code for", Align::kLeft},
                   {"memory", Align::kRight},
                   {"usable", Align::kLeft}};
  table.keys = table.columns.size();
  table.rows.push_back({{{"cpu", Tone::kStrong},
                         {printable(cpu.device)},
                         {std::string(cpu_instructions())},
                         {},
                         {"yes"}}});
  for (const DeviceInfo& device : probe.devices) {
    const bool usable = device.reason.empty();
    table.rows.push_back({{{fmt::format("cuda:{}", device.ordinal), Tone::kStrong},
                           {printable(device.name)},
                           {printable(device.architecture)},
                           {gibibytes(device.memory_bytes)},
                           {usable ? "yes" : "no: " + printable(device.reason),
                            usable ? Tone::kPlain : Tone::kAlert}}});
  }
  section.tables.push_back(std::move(table));
  if (!probe.driver.empty()) section.notes.push_back("driver " + printable(probe.driver));
  if (!reason.empty()) section.notes.push_back("no usable GPU: " + printable(reason));
  return to_text({&section, 1}, style);
}

std::string as_json(const BackendInfo& cpu, const DeviceProbe& probe, const std::string& reason) {
  const auto or_null = [](const std::string& text) {
    return text.empty() ? Detail() : Detail(text);
  };
  Detail::List devices;
  for (const DeviceInfo& device : probe.devices) {
    devices.emplace_back(Detail::Object{{"backend", fmt::format("cuda:{}", device.ordinal)},
                                        {"device", device.name},
                                        {"architecture", device.architecture},
                                        {"memory_bytes", device.memory_bytes},
                                        {"usable", device.reason.empty()},
                                        {"reason", or_null(device.reason)}});
  }
  return document({{"schema", "cupel.devices/1"},
                   {"cpu", Detail::Object{{"device", cpu.device},
                                          {"instructions", std::string(cpu_instructions())}}},
                   {"driver", or_null(probe.driver)},
                   {"no_gpu", or_null(reason)},
                   {"devices", std::move(devices)}});
}

}  // namespace

int run_devices(const std::vector<std::string>& arguments) {
  Arguments parser("devices [options]", kExamples);
  std::string format_name = "table";
  parser.section("output");
  parser.text("--format", "F", format_name, "table or json");

  const auto outcome = parser.parse(arguments);
  if (!outcome) return fail(outcome.error());
  if (*outcome == Arguments::Outcome::kHelp) {
    return show(parser.help() + "\n" + std::string(kDeviceEnvironment));
  }
  const auto format = parse_choice("format", format_name, {"table", "json"});
  if (!format) return fail(format.error());

  const BackendInfo cpu = make_cpu_backend(0)->info();
  const DeviceProvider* const provider = cuda_provider();
  const DeviceProbe probe = provider == nullptr ? DeviceProbe{} : provider->probe();
  const std::string reason = no_device_reason(provider);
  return show(*format == 0 ? as_table(cpu, probe, reason, output_style(false))
                           : as_json(cpu, probe, reason));
}

}  // namespace cupel
