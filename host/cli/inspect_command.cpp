// cupel inspect: what dumps hold, and what eval would make of them. Data is not read.
#include <fmt/format.h>

#include "cli/command.hpp"
#include "cli/output.hpp"

namespace cupel {
namespace {

constexpr std::string_view kExamples =
    "  cupel inspect model.npz\n"
    "  cupel inspect 'dumps/*.npz' --label y2\n"
    "  cupel inspect scores.csv --format json\n";

}  // namespace

int run_inspect(const std::vector<std::string>& arguments) {
  Arguments parser("inspect DUMP... [options]", kExamples);
  EvalRequest request;
  ColumnArguments columns;
  std::vector<std::string> dump_arguments;
  std::string format_name = "table";
  parser.positionals("DUMP",
                     "files, folders, quoted globs, @list.txt, or - for CSV on standard input",
                     dump_arguments, kAnyNumber);
  columns.declare(parser, request);
  parser.section("output");
  parser.text("--format", "F", format_name, "table or json");

  const auto outcome = parser.parse(arguments);
  if (!outcome) return fail(outcome.error());
  if (*outcome == Arguments::Outcome::kHelp) return show(parser.help());
  if (dump_arguments.empty()) {
    return fail(usage_error("no dump", "'cupel inspect --help' shows examples"));
  }
  if (auto done = columns.apply(parser, request); !done) return fail(done.error());
  const auto format = parse_choice("format", format_name, {"table", "json"});
  if (!format) return fail(format.error());

  auto dumps = expand_dump_arguments(dump_arguments);
  if (!dumps) return fail(dumps.error());
  std::vector<InspectedDump> inspected;
  std::vector<EvalFailure> failures;
  for (const std::string& path : *dumps) {
    auto dump = inspect(path, request);
    if (dump) {
      inspected.push_back(std::move(*dump));
    } else {
      failures.push_back({path, dump.error()});
    }
  }
  say_failures(failures);
  if (inspected.empty()) return static_cast<int>(failures.front().error.code);
  const ReportFormat as = *format == 0 ? ReportFormat::kTable : ReportFormat::kJson;
  const int written = show(render_inspection(inspected, failures, as, output_style(false)));
  if (written != kExitOk) return written;
  return failures.empty() ? kExitOk : kExitPartial;
}

}  // namespace cupel
