// What a dump holds and what eval would make of it.
#include <fmt/format.h>

#include "report/json.hpp"
#include "report/table.hpp"
#include "report/text.hpp"

namespace cupel {
namespace {

std::string shape_text(const std::vector<i64>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

Json json_inspected(const InspectedDump& dump) {
  Json json = Json::object();
  put_path(json, "path", dump.path);
  json["format"] = json_text(dump.format);
  json["rows"] = dump.rows;
  json["bytes"] = dump.bytes;
  Json columns = Json::array();
  for (const InspectedColumn& column : dump.columns) {
    columns.push_back({{"name", json_text(column.info.name)},
                       {"dtype", dtype_name(column.info.dtype)},
                       {"shape", column.info.shape},
                       {"role", json_text_or_null(column.role)}});
  }
  json["columns"] = std::move(columns);
  json["task"] = json_text_or_null(dump.task);
  json["problem"] = json_text_or_null(dump.problem);
  return json;
}

Section section_of(const InspectedDump& dump) {
  Section section;
  section.heading = printable(dump.path);
  section.facts = fmt::format("{}, {} rows, {} bytes", dump.format, with_separators(dump.rows),
                              with_separators(dump.bytes));
  Table table;
  table.columns = {{"column", Align::kLeft},
                   {"type", Align::kLeft},
                   {"shape", Align::kLeft},
                   {"role", Align::kLeft}};
  table.keys = table.columns.size();
  for (const InspectedColumn& column : dump.columns) {
    table.rows.push_back({{{printable(column.info.name)},
                           {std::string(dtype_name(column.info.dtype))},
                           {shape_text(column.info.shape)},
                           {printable(column.role), Tone::kStrong}}});
  }
  section.tables.push_back(std::move(table));
  if (!dump.task.empty()) section.notes.push_back("task: " + dump.task);
  if (!dump.problem.empty()) section.notes.push_back("problem: " + printable(dump.problem));
  return section;
}

}  // namespace

std::string render_inspection(std::span<const InspectedDump> dumps,
                              std::span<const EvalFailure> failures, ReportFormat format,
                              const ReportStyle& style) {
  if (format == ReportFormat::kJson) {
    DocumentWriter document;
    document.member("schema", "cupel.inspect/1");
    document.lines("dumps", dumps, json_inspected);
    document.lines("failures", failures, json_failure);
    return std::move(document).finish();
  }
  std::vector<Section> sections;
  for (const InspectedDump& dump : dumps) sections.push_back(section_of(dump));
  if (!failures.empty()) {
    Section failed;
    failed.heading = fmt::format("{} failed", failures.size());
    for (const EvalFailure& failure : failures) {
      failed.notes.push_back(printable(failure.error.text()));
    }
    sections.push_back(std::move(failed));
  }
  return to_text(sections, style);
}

}  // namespace cupel
