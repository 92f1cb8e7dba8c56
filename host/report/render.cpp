// The formats by name.
#include <fmt/format.h>

#include <array>
#include <vector>

#include "report/sinks.hpp"

namespace cupel {
namespace {

struct Sink {
  std::string_view name;
  ReportFormat format;
  std::string (*render)(const EvalReport&, const ReportStyle&);
};

constexpr std::array kSinks = {
    Sink{"table", ReportFormat::kTable, render_table},
    Sink{"json", ReportFormat::kJson, render_document},
    Sink{"jsonl", ReportFormat::kJsonl, render_lines},
    Sink{"csv", ReportFormat::kCsv, render_csv},
    Sink{"md", ReportFormat::kMarkdown, render_markdown},
};

constexpr auto kNames = [] {
  std::array<std::string_view, kSinks.size()> names{};
  for (std::size_t i = 0; i < kSinks.size(); ++i) names[i] = kSinks[i].name;
  return names;
}();

}  // namespace

std::span<const std::string_view> format_names() { return kNames; }

Result<ReportFormat> parse_format(std::string_view name) {
  std::vector<std::string> names;
  for (const Sink& sink : kSinks) {
    if (sink.name == name) return sink.format;
    names.emplace_back(sink.name);
  }
  const auto near = nearest_name(name, names);
  if (near) return usage_error(fmt::format("unknown format '{}', did you mean '{}'?", name, *near));
  return usage_error(fmt::format("unknown format '{}'", name),
                     fmt::format("formats are {}", fmt::join(names, ", ")));
}

std::string render(const EvalReport& report, ReportFormat format, const ReportStyle& style) {
  for (const Sink& sink : kSinks) {
    if (sink.format == format) return sink.render(report, style);
  }
  return {};
}

}  // namespace cupel
