// What people and programs read: an evaluation's report as text in one of several formats, what a
// dump holds, and what metrics there are. The JSON and CSV forms are a contract that scripts depend
// on; tables and Markdown are for people. Rendering is pure: no file, no terminal, no locale, and
// the same report and style give the same bytes.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cupel/eval/evaluate.hpp"
#include "cupel/metric/metric.hpp"

namespace cupel {

enum class ReportFormat : u8 { kTable, kJson, kJsonl, kCsv, kMarkdown };

/// How a report looks; what it says does not depend on it.
struct ReportStyle {
  bool terminal = false;     ///< kTable: bold, dim and colour by ANSI sequences
  int width = 100;           ///< kTable: a table wider than this continues below itself
  std::string_view version;  ///< kJson: the program's version; must outlive the call
};

/// "table", "json", "jsonl", "csv", "md": the names that parse_format() takes, in this order.
std::span<const std::string_view> format_names();
/// The format of that name. Errors: kUsage, with the nearest name.
Result<ReportFormat> parse_format(std::string_view name);

/// The whole report, ending in a newline (empty where a line format has no result).
///
/// - kJson: one document of schema "cupel.result/1"; inputs, results and failures one per line.
/// - kJsonl: one result per line, as in the document. kCsv: a header and one result per line, RFC
/// 4180
///   quoting, group, params and details as compact JSON in a cell.
/// - kTable, kMarkdown: per dump a heading, the overall values, a table per group column and for
/// the
///   classes; numbers have five significant digits, a value that does not exist is `-` with its
///   reason below. Details beyond gaps and worst groups appear in JSON only.
///
/// Numbers round-trip; infinities are "inf" and "-inf"; a value is null (CSV: empty) exactly when
/// it is undefined. Strings that are not UTF-8 show U+FFFD, and "path_bytes" ("group_bytes") has
/// their bytes in base64; tables show control characters escaped. Cost: linear in the text.
std::string render(const EvalReport& report, ReportFormat format, const ReportStyle& style);

/// The rows of all selections as CSV: a header, then a line for each row of each list. Ids are as
/// in the dump, numbers round-trip, what does not apply is empty.
std::string render_rows(std::span<const EvalRows> lists);

/// Columns, roles and task of each dump; kTable or kJson (schema "cupel.inspect/1"). Ends in a
/// newline.
std::string render_inspection(std::span<const InspectedDump> dumps,
                              std::span<const EvalFailure> failures, ReportFormat format,
                              const ReportStyle& style);

/// One line per metric, by scope (kTable), or everything about each (kJson, schema
/// "cupel.metrics/1").
std::string render_metric_list(std::span<const Metric* const> metrics, ReportFormat format,
                               const ReportStyle& style);

/// The full page of one metric (kTable), or the list document with this one metric (kJson).
std::string render_metric_page(const Metric& metric, ReportFormat format, const ReportStyle& style);

/// `text` made fit for a terminal: what is not UTF-8 becomes U+FFFD, control characters become
/// \n, \t or \x1b, so that a name inside a file cannot move the cursor.
std::string printable(std::string_view text);

/// {"key":value} in one line.
std::string compact_json(const Detail::Object& object);

/// 4377 as "4,377".
std::string with_separators(i64 number);

}  // namespace cupel
