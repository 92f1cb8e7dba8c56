#include "report/sets_json.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace cupel {
namespace {

constexpr std::string_view kSchema = "cupel.sets/1";

double share(u64 part, i64 whole) { return static_cast<double>(part) / static_cast<double>(whole); }

/// Of a rate whose rows may be none.
Json json_share(u64 part, i64 whole) {
  return whole == 0 ? Json(nullptr) : Json(share(part, whole));
}

std::string_view p_values_name(PValues kind) {
  return kind == PValues::kPlain ? "plain" : "smoothed";
}

/// Many thresholds in short; null where each row has its own.
Json json_spread(const std::vector<double>& qhats) {
  if (qhats.empty()) return nullptr;
  const auto [least, most] = std::minmax_element(qhats.begin(), qhats.end());
  Json json = Json::object();
  json["count"] = qhats.size();
  json["infinite"] =
      std::count(qhats.begin(), qhats.end(), std::numeric_limits<double>::infinity());
  json["min"] = json_number(*least);
  json["max"] = json_number(*most);
  return json;
}

/// The options of the score, without alpha: "raps(quantile=exact,...)" is in params.
Json json_level(const SetsLevel& level, const SetsResult& result) {
  const i64 rows = result.rows;
  const bool labelled = result.labelled;
  Json json = Json::object();
  json["alpha"] = json_text(level.alpha);
  if (result.mode == ConformalMode::kMarginal) {
    json["qhat"] = json_number(level.qhat);
  } else {
    json["qhat"] = nullptr;
    json["qhats"] = json_spread(level.qhats);
  }
  json["qhat_reason"] = json_text_or_null(level.qhat_reason);
  json["rank"] = level.rank == 0 ? Json(nullptr) : Json(level.rank);
  json["mean_size"] = json_share(level.labels, rows);
  json["labels"] = level.labels;
  json["empty"] = level.sizes[0];
  json["singletons"] = level.sizes[1];
  json["covered"] = labelled ? Json(level.covered) : Json(nullptr);
  json["coverage"] = labelled ? json_share(level.covered, rows) : Json(nullptr);
  json["params"] = json_object(level.params);
  return json;
}

/// "1 row", "2 rows".
std::string counted(i64 number, std::string_view what) {
  return fmt::format("{} {}{}", with_separators(number), what, number == 1 ? "" : "s");
}

Json json_input(const EvalInput& input) {
  Json json = Json::object();
  put_path(json, "path", input.path);
  json["format"] = input.format;
  json["rows"] = input.rows;
  json["bytes"] = input.bytes;
  json["hash"] = input.hash.empty() ? Json(nullptr) : Json("xxh3:" + input.hash);
  return json;
}

}  // namespace

Json json_sets(const SetsResult& result) {
  Json json = Json::object();
  json["dump"] = json_text(result.dump);
  json["task"] = std::string(task_name(result.task));
  json["rows"] = result.rows;
  json["classes"] = result.classes;
  json["calibration"] = json_text(result.calibration);
  json["n_calibration"] = result.calibration_rows;
  json["seed"] = result.seed;
  json["p_values"] = result.p_values == PValues::kNone
                         ? Json(nullptr)
                         : Json(std::string(p_values_name(result.p_values)));
  Json levels = Json::array();
  for (const SetsLevel& level : result.levels) {
    levels.push_back(json_level(level, result));
  }
  json["levels"] = std::move(levels);
  if (result.mode == ConformalMode::kGroup) {
    Json groups = Json::array();
    for (const Detail& group : result.groups) groups.push_back(json_detail(group));
    json["groups"] = std::move(groups);
    json["unseen_group_rows"] = result.unseen_group_rows;
  }
  Json inputs = Json::array();
  for (const EvalInput& input : result.inputs) inputs.push_back(json_input(input));
  json["inputs"] = std::move(inputs);
  return json;
}

std::string about_sets(const SetsResult& result, SetsLayout layout) {
  Json json = Json::object();
  json["schema"] = kSchema;
  json["layout"] = layout == SetsLayout::kCsr ? "csr" : "bitmask";
  if (layout == SetsLayout::kBitmask) json["bit_order"] = "little";
  json.update(json_sets(result));
  return one_line(json);
}

std::string render_sets(const SetsReport& report, std::span<const std::string> outputs,
                        std::string_view version) {
  DocumentWriter writer;
  writer.member("schema", kSchema);
  Json cupel = Json::object();
  cupel["version"] = std::string(version);
  cupel["backend"] = report.backend;
  cupel["device"] = json_text(report.device);
  cupel["fallback"] = json_text_or_null(report.fallback);
  writer.member("cupel", cupel);
  std::size_t next = 0;
  writer.lines("results", report.results, [&](const SetsResult& result) {
    Json json = json_sets(result);
    json["output"] = json_text(outputs[next++]);
    return json;
  });
  writer.lines("failures", report.failures, json_failure);
  writer.member("timing", Json{{"total_s", report.total_s}});
  return std::move(writer).finish();
}

std::vector<std::string> describe_sets(const SetsResult& result, const std::string& output) {
  std::vector<std::string> lines;
  std::string first = fmt::format(
      "{}: sets of {} in {}; {} classes, {} ({})", result.dump, counted(result.rows, "row"), output,
      result.classes, counted(result.calibration_rows, "calibration row"), result.calibration);
  if (result.unseen_group_rows != 0) {
    first += fmt::format("; {} of groups without one", counted(result.unseen_group_rows, "row"));
  }
  lines.push_back(std::move(first));
  for (const SetsLevel& level : result.levels) {
    std::string line = fmt::format("  alpha {}: ", level.alpha);
    if (result.mode == ConformalMode::kMarginal) {
      line += fmt::format("qhat {:.6g}", level.qhat);
    } else if (level.qhats.empty()) {
      line += "a qhat for each row";
    } else {
      const auto [least, most] = std::minmax_element(level.qhats.begin(), level.qhats.end());
      line += level.qhats.size() == 1 ? fmt::format("1 qhat, {:.6g}", *least)
                                      : fmt::format("{} qhats from {:.6g} to {:.6g}",
                                                    level.qhats.size(), *least, *most);
    }
    if (!level.qhat_reason.empty()) {
      line += fmt::format(" ({}: every set holds all labels)", level.qhat_reason);
    }
    if (result.rows != 0) {
      line += fmt::format(", mean size {:.5g}, {} empty, {} of one label",
                          share(level.labels, result.rows),
                          with_separators(static_cast<i64>(level.sizes[0])),
                          with_separators(static_cast<i64>(level.sizes[1])));
      if (result.labelled)
        line += fmt::format(", coverage {:.5g}", share(level.covered, result.rows));
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace cupel
