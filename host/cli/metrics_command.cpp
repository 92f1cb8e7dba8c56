// cupel metrics: the catalogue, or one page of it.
#include "cli/command.hpp"
#include "cli/output.hpp"

namespace cupel {
namespace {

constexpr std::string_view kExamples =
    "  cupel metrics\n"
    "  cupel metrics auroc\n"
    "  cupel metrics --format json\n";

}  // namespace

int run_metrics(const std::vector<std::string>& arguments) {
  Arguments parser("metrics [NAME] [options]", kExamples);
  std::vector<std::string> names;
  std::string format_name = "table";
  parser.positionals("NAME", "the full page of this metric", names, 1);
  parser.section("output");
  parser.text("--format", "F", format_name, "table or json");

  const auto outcome = parser.parse(arguments);
  if (!outcome) return fail(outcome.error());
  if (*outcome == Arguments::Outcome::kHelp) return show(parser.help());
  const auto format = parse_choice("format", format_name, {"table", "json"});
  if (!format) return fail(format.error());
  const ReportFormat as = *format == 0 ? ReportFormat::kTable : ReportFormat::kJson;
  const ReportStyle style = output_style(false);
  if (names.empty()) return show(render_metric_list(all_metrics(), as, style));

  const std::string& name = names.front();
  // es_NAME is a form of NAME and has its page there.
  const auto direct = find_metric(name);
  const auto metric =
      direct.ok() || !name.starts_with("es_") ? direct : find_metric(name.substr(3));
  if (!metric) return fail(metric.error());
  return show(render_metric_page(**metric, as, style));
}

}  // namespace cupel
