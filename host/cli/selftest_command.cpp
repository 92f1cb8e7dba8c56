// cupel selftest: every state on every backend against one thread of the CPU, byte for byte.
#include <fmt/format.h>

#include "cli/backend_options.hpp"
#include "cli/command.hpp"
#include "cli/output.hpp"
#include "cupel/backend/selftest.hpp"
#include "report/table.hpp"

namespace cupel {
namespace {

constexpr std::string_view kExamples =
    "  cupel selftest\n"
    "  cupel selftest --backend cuda:0 --large\n"
    "  cupel selftest --quick --format json\n";

constexpr std::string_view kReference = "cpu, 1 thread";

struct Tested {
  std::string name;
  SelftestReport report;
};

std::string as_table(const std::vector<Tested>& tested, const std::vector<std::string>& notes,
                     const ReportStyle& style) {
  Section section;
  section.heading = fmt::format("states against {}, byte for byte", kReference);
  Table table;
  table.columns = {{"backend", Align::kLeft},
                   {"state", Align::kLeft},
                   {"cases", Align::kRight},
                   {"result", Align::kLeft}};
  table.keys = table.columns.size();
  for (const Tested& one : tested) {
    for (const SelftestLine& line : one.report.lines) {
      const bool equal = line.different == 0;
      table.rows.push_back(
          {{{printable(one.name), Tone::kStrong},
            {std::string(selftest_state_name(line.state))},
            {with_separators(line.cases)},
            {equal ? "equal"
                   : fmt::format("DIFFERENT in {}, first: {}", with_separators(line.different),
                                 printable(line.first_difference)),
             equal ? Tone::kPlain : Tone::kAlert}}});
    }
  }
  section.tables.push_back(std::move(table));
  for (const std::string& note : notes) section.notes.push_back(printable(note));
  return to_text({&section, 1}, style);
}

std::string as_json(const std::vector<Tested>& tested, const std::string& no_device, bool equal) {
  const auto or_null = [](const std::string& text) {
    return text.empty() ? Detail() : Detail(text);
  };
  Detail::List results;
  for (const Tested& one : tested) {
    for (const SelftestLine& line : one.report.lines) {
      results.emplace_back(Detail::Object{{"backend", one.name},
                                          {"state", std::string(selftest_state_name(line.state))},
                                          {"cases", line.cases},
                                          {"different", line.different},
                                          {"first_difference", or_null(line.first_difference)}});
    }
  }
  const std::string large = tested.empty() ? std::string() : tested.front().report.large;
  return document({{"schema", "cupel.selftest/1"},
                   {"reference", std::string(kReference)},
                   {"equal", equal},
                   {"no_gpu", or_null(no_device)},
                   {"large_left_out", or_null(large)},
                   {"results", std::move(results)}});
}

}  // namespace

int run_selftest(const std::vector<std::string>& arguments) {
  Arguments parser("selftest [options]", kExamples);
  std::string backend;
  std::string threads = "0";
  std::string format_name = "table";
  SelftestOptions options;
  parser.section("what");
  parser.text("--backend", "B", backend, "auto (all that there are), cpu, cuda or cuda:N");
  parser.text("--threads", "N", threads, "threads of the CPU to compare; 0: all that there are");
  parser.flag("--quick", options.quick, "a tenth of the cases, in about a second");
  parser.flag("--large", options.large, "2^31 + 1 rows too: minutes, and 20 GiB of memory");
  parser.section("output");
  parser.text("--format", "F", format_name, "table or json");

  const auto outcome = parser.parse(arguments);
  if (!outcome) return fail(outcome.error());
  if (*outcome == Arguments::Outcome::kHelp) {
    return show(parser.help() + "\n" + std::string(kDeviceEnvironment));
  }
  BackendChoice choice;
  const auto name = backend_name(backend);
  if (!name) return fail(name.error());
  choice.name = *name;
  const auto count = parse_integer("--threads", threads, 0, kMostThreads);
  if (!count) return fail(count.error());
  choice.threads = static_cast<int>(*count);
  const auto device = device_options();
  if (!device) return fail(device.error());
  choice.device = *device;
  const auto format = parse_choice("format", format_name, {"table", "json"});
  if (!format) return fail(format.error());

  auto candidates = selftest_candidates(choice);
  if (!candidates) return fail(candidates.error());
  const auto reference = make_cpu_backend(1);
  std::vector<Backend*> backends;
  for (const SelftestCandidate& one : candidates->backends) backends.push_back(one.backend.get());
  std::vector<SelftestReport> reports = run_selftest(*reference, backends, options);

  std::vector<Tested> tested;
  bool equal = true;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    equal = equal && reports[i].equal();
    tested.push_back({candidates->backends[i].name, std::move(reports[i])});
  }
  std::vector<std::string> notes;
  if (!candidates->no_device.empty()) {
    notes.push_back("no GPU took part: " + candidates->no_device);
  }
  if (!tested.empty() && !tested.front().report.large.empty()) {
    notes.push_back("left out: " + tested.front().report.large);
  }
  const int written = show(*format == 0 ? as_table(tested, notes, output_style(false))
                                        : as_json(tested, candidates->no_device, equal));
  if (written != kExitOk) return written;
  return equal ? kExitOk : static_cast<int>(ErrorCode::kGate);
}

}  // namespace cupel
