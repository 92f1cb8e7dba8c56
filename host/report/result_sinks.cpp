// The formats for programs: one JSON document, JSON lines, CSV. CLI.md's "cupel.result/1" is the
// contract; `inputs` and `results` depend on the input and the options alone.
#include "report/json.hpp"
#include "report/sinks.hpp"
#include "report/text.hpp"

namespace cupel {
namespace {

/// RFC 4180: quoted where a comma, a quote or a line break would be misread.
std::string csv_field(std::string text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + "\"";
}

void add_csv_line(std::string& lines, std::span<const std::string> fields) {
  bool first = true;
  for (const std::string& field : fields) {
    if (!first) lines += ',';
    lines += csv_field(field);
    first = false;
  }
  lines += '\n';
}

std::string csv_count(const std::optional<i64>& count) {
  return count ? std::to_string(*count) : std::string();
}

}  // namespace

std::string render_document(const EvalReport& report, const ReportStyle& style) {
  DocumentWriter document;
  document.member("schema", "cupel.result/1");
  document.member("cupel", {{"version", json_text(style.version)},
                            {"backend", json_text(report.backend)},
                            {"device", json_text(report.device)},
                            {"fallback", json_text_or_null(report.fallback)}});
  document.lines("inputs", report.inputs, [](const EvalInput& input) {
    Json json = Json::object();
    put_path(json, "path", input.path);
    json["format"] = json_text(input.format);
    json["rows"] = input.rows;
    json["bytes"] = input.bytes;
    json["hash"] = input.hash.empty() ? Json(nullptr) : json_text("xxh3:" + input.hash);
    return json;
  });
  document.member("plan", json_object(report.plan));
  document.lines("results", report.results, json_result);
  document.lines("failures", report.failures, json_failure);
  document.member(
      "timing",
      {{"read_s", report.read_s}, {"compute_s", report.compute_s}, {"total_s", report.total_s}});
  return std::move(document).finish();
}

std::string render_lines(const EvalReport& report, const ReportStyle& /*style*/) {
  std::string lines;
  for (const EvalResult& result : report.results) lines += one_line(json_result(result)) + "\n";
  return lines;
}

std::string render_csv(const EvalReport& report, const ReportStyle& /*style*/) {
  std::string lines =
      "dump,metric,average,class,group,value,undefined,n,n_pos,n_neg,params,details\n";
  for (const EvalResult& result : report.results) {
    const bool defined = result.undefined == Undefined::kNone;
    const std::string fields[] = {
        valid_utf8(result.dump),
        valid_utf8(result.metric),
        valid_utf8(result.average),
        csv_count(result.cls),
        result.group.empty() ? std::string() : one_line(json_group(result)),
        defined ? round_trip(result.value) : std::string(),
        std::string(undefined_name(result.undefined)),
        std::to_string(result.n),
        csv_count(result.n_pos),
        csv_count(result.n_neg),
        one_line(json_object(result.params)),
        one_line(json_object(result.details)),
    };
    add_csv_line(lines, fields);
  }
  return lines;
}

std::string render_rows(std::span<const EvalRows> lists) {
  std::string lines = "dump,metric,row,id,selected,p_value,prediction,model\n";
  for (const EvalRows& list : lists) {
    for (std::size_t i = 0; i < list.rows.size(); ++i) {
      const std::string fields[] = {
          valid_utf8(list.dump),
          list.metric,
          std::to_string(list.rows[i]),
          list.ids.empty() ? std::string() : valid_utf8(list.ids[i]),
          std::to_string(list.selected[i]),
          round_trip(list.p_values[i]),
          round_trip(list.predictions[i]),
          list.models.empty() ? std::string() : std::to_string(list.models[i]),
      };
      add_csv_line(lines, fields);
    }
  }
  return lines;
}

}  // namespace cupel
