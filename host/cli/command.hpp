// The commands of the program, each a function from its arguments to an exit code.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/arguments.hpp"
#include "cupel/eval/evaluate.hpp"
#include "cupel/report/report.hpp"

namespace cupel {

struct Command {
  std::string_view name;
  std::string_view summary;
  int (*run)(const std::vector<std::string>& arguments);
};

/// Exit codes besides those of ErrorCode.
constexpr int kExitOk = 0;
constexpr int kExitPartial = 4;

/// No limit to the number of arguments.
constexpr std::size_t kAnyNumber = static_cast<std::size_t>(-1);

int run_devices(const std::vector<std::string>& arguments);
int run_eval(const std::vector<std::string>& arguments);
int run_inspect(const std::vector<std::string>& arguments);
int run_metrics(const std::vector<std::string>& arguments);
int run_selftest(const std::vector<std::string>& arguments);
int run_sets(const std::vector<std::string>& arguments);

std::string_view program_version();

/// Options that say which column plays which part: the same for every command that opens dumps.
struct ColumnArguments {
  std::string task;
  std::string unknown;
  std::vector<std::string> dtypes;

  void declare(Arguments& arguments, EvalRequest& request);
  /// Checks what was given and completes the request. Errors: kUsage.
  Result<void> apply(const Arguments& arguments, EvalRequest& request) const;
};

/// What a request may read: its dumps, the lists in `arguments` that name them (@list), and the
/// values of options that may be files.
std::vector<std::string> input_paths(const EvalRequest& request,
                                     const std::vector<std::string>& arguments);
/// Takes the values of --dtype. Errors: kUsage.
Result<void> apply_dtypes(const std::vector<std::string>& dtypes, EvalRequest& request);
/// The style for results on standard output (`to_file`: in a file), by terminal and NO_COLOR.
ReportStyle output_style(bool to_file);
/// Failures on standard error, one line each.
void say_failures(const std::vector<EvalFailure>& failures);
/// An object as JSON, a member per line, and an element per line where a member is a list.
std::string document(const Detail::Object& object);
/// Writes the text of a command that only shows something; returns the exit code.
int show(const std::string& text, const std::string& output = {});

}  // namespace cupel
