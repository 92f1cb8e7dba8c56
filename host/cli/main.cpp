// The program: a list of commands, and what they share (help, version, signals, the last resort).
#include <fmt/format.h>

#include <exception>
#include <new>

#include "cli/command.hpp"
#include "cli/output.hpp"

namespace cupel {
namespace {

constexpr Command kCommands[] = {
    {"eval", "metrics of prediction dumps", run_eval},
    {"sets", "conformal prediction sets, written out", run_sets},
    {"inspect", "columns, types, shapes, roles that eval would pick", run_inspect},
    {"metrics", "what there is; NAME: formula, options, edge cases, an example", run_metrics},
    {"devices", "what can compute here, and why a GPU is not usable", run_devices},
    {"selftest", "cpu against every other backend, bit for bit, at awkward sizes", run_selftest},
};

constexpr std::string_view kExamples =
    "examples:\n"
    "  cupel eval scores.csv\n"
    "  cupel eval 'dumps/*.npz' --group sex --format json -o results.json\n"
    "  cupel inspect model.npz\n"
    "  cupel metrics auroc\n";

std::string help() {
  std::string text = std::string(kExamples) + "\nusage: cupel COMMAND [options]\n\ncommands:\n";
  for (const Command& command : kCommands) {
    text += fmt::format("  {:<10}{}\n", command.name, command.summary);
  }
  return text +
         "\nother:\n"
         "  -h, --help  show this and exit; after a command, its own help\n"
         "  --version   show the version and exit\n";
}

Error unknown_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : kCommands) names.emplace_back(command.name);
  const bool is_option = name.starts_with('-');
  const std::string_view kind = is_option ? "option" : "command";
  const auto near =
      nearest_name(name, is_option ? std::vector<std::string>{"--help", "--version"} : names);
  return near ? usage_error(fmt::format("unknown {} '{}', did you mean '{}'?", kind, name, *near))
              : usage_error(fmt::format("unknown {} '{}'", kind, name),
                            fmt::format("commands are {}", fmt::join(names, ", ")));
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    return fail(usage_error("no command", "'cupel --help' lists all"));
  }
  const std::string& name = arguments.front();
  if (name == "--help" || name == "-h") return show(help());
  if (name == "--version") return show(fmt::format("cupel {}\n", program_version()));
  for (const Command& command : kCommands) {
    if (command.name == name) return command.run({arguments.begin() + 1, arguments.end()});
  }
  return fail(unknown_command(name));
}

}  // namespace
}  // namespace cupel

int main(int argc, char** argv) {
  cupel::install_signal_handlers();
  try {
    return cupel::run({argv + (argc > 0 ? 1 : 0), argv + argc});
  } catch (const std::bad_alloc&) {
    return cupel::fail({cupel::ErrorCode::kInternal, {}, "out of memory", {}});
  } catch (const std::exception& error) {
    return cupel::fail({cupel::ErrorCode::kInternal, {}, error.what(), {}});
  }
}
