// The tree is built by nlohmann-json, which also writes it: doubles round-trip. Only the line
// breaks of a document are made here.
#include "report/json.hpp"

#include <cmath>
#include <type_traits>
#include <variant>

#include "cupel/report/report.hpp"
#include "report/text.hpp"

namespace cupel {

Json json_text(std::string_view text) { return valid_utf8(text); }

Json json_text_or_null(std::string_view text) {
  return text.empty() ? Json(nullptr) : json_text(text);
}

Json json_number(double number) {
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  return number;
}

Json json_object(const Detail::Object& object) {
  Json json = Json::object();
  for (const auto& [name, value] : object) json[valid_utf8(name)] = json_detail(value);
  return json;
}

Json json_detail(const Detail& detail) {
  return std::visit(
      [](const auto& held) -> Json {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, std::monostate>) {
          return nullptr;
        } else if constexpr (std::is_same_v<Held, double>) {
          return json_number(held);
        } else if constexpr (std::is_same_v<Held, std::string>) {
          return json_text(held);
        } else if constexpr (std::is_same_v<Held, Detail::List>) {
          Json list = Json::array();
          for (const Detail& element : held) list.push_back(json_detail(element));
          return list;
        } else if constexpr (std::is_same_v<Held, Detail::Object>) {
          return json_object(held);
        } else {
          return held;
        }
      },
      detail.held());
}

void put_path(Json& object, const char* name, const std::string& path) {
  object[name] = json_text(path);
  if (!is_utf8(path)) object["path_bytes"] = base64(path);
}

Json json_group(const EvalResult& result) {
  if (result.group.empty()) return nullptr;
  Json group = Json::object();
  for (const auto& [column, value] : result.group) group[valid_utf8(column)] = json_text(value);
  if (!result.group_against.empty()) {
    group.front() =
        Json::array({json_text(result.group[0].second), json_text(result.group_against)});
  }
  return group;
}

std::string one_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string compact_json(const Detail::Object& object) { return one_line(json_object(object)); }

Json json_result(const EvalResult& result) {
  const auto count = [](const std::optional<i64>& rows) {
    return rows ? Json(*rows) : Json(nullptr);
  };
  const bool defined = result.undefined == Undefined::kNone;
  Json json = Json::object();
  put_path(json, "dump", result.dump);
  json["metric"] = json_text(result.metric);
  json["average"] = json_text_or_null(result.average);
  json["class"] = count(result.cls);
  json["group"] = json_group(result);
  Json group_bytes = Json::object();
  for (const auto& [column, value] : result.group) {
    if (!is_utf8(value)) group_bytes[valid_utf8(column)] = base64(value);
  }
  if (!group_bytes.empty()) json["group_bytes"] = std::move(group_bytes);
  json["value"] = defined ? json_number(result.value) : Json(nullptr);
  json["undefined"] = json_text_or_null(undefined_name(result.undefined));
  json["n"] = result.n;
  json["n_pos"] = count(result.n_pos);
  json["n_neg"] = count(result.n_neg);
  json["params"] = json_object(result.params);
  json["details"] = json_object(result.details);
  return json;
}

Json json_failure(const EvalFailure& failure) {
  Json json = Json::object();
  put_path(json, "dump", failure.dump);
  json["code"] = static_cast<int>(failure.error.code);
  json["where"] = json_text_or_null(failure.error.where);
  json["what"] = json_text(failure.error.what);
  json["hint"] = json_text_or_null(failure.error.hint);
  json["message"] = json_text(failure.error.text());
  return json;
}

void DocumentWriter::begin(std::string_view name) {
  text_ += text_.empty() ? "{\n  " : ",\n  ";
  text_ += one_line(json_text(name)) + ": ";
}

void DocumentWriter::member(std::string_view name, const Json& value) {
  begin(name);
  text_ += one_line(value);
}

std::string DocumentWriter::finish() && {
  text_ += text_.empty() ? "{}\n" : "\n}\n";
  return std::move(text_);
}

}  // namespace cupel
