// What the JSON sinks share: trees in the order of insertion, one line per value.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "cupel/eval/evaluate.hpp"
#include "cupel/metric/detail.hpp"

namespace cupel {

using Json = nlohmann::ordered_json;

/// Text as a JSON string, U+FFFD where it is not UTF-8.
Json json_text(std::string_view text);
/// Null for empty text.
Json json_text_or_null(std::string_view text);
/// A number; the strings "inf" and "-inf" for infinities.
Json json_number(double number);
Json json_detail(const Detail& detail);
Json json_object(const Detail::Object& object);

/// One result as in the document's "results".
Json json_result(const EvalResult& result);
/// {column: value} or {column: [a, b]}; null without groups.
Json json_group(const EvalResult& result);
/// One failure as in the document's "failures".
Json json_failure(const EvalFailure& failure);

/// The compact form, in one line, valid UTF-8.
std::string one_line(const Json& value);

/// A document that is an object: small members on one line, arrays with one element per line, so
/// that people, diff and line tools can read it too.
class DocumentWriter {
 public:
  void member(std::string_view name, const Json& value);
  /// An array of to_json(element), built one element at a time.
  template <class Range, class ToJson>
  void lines(std::string_view name, const Range& range, ToJson to_json) {
    begin(name);
    text_ += "[";
    bool first = true;
    for (const auto& element : range) {
      text_ += first ? "\n    " : ",\n    ";
      text_ += one_line(to_json(element));
      first = false;
    }
    text_ += first ? "]" : "\n  ]";
  }
  std::string finish() &&;

 private:
  void begin(std::string_view name);
  std::string text_;
};

/// `file` gets its text under `name`, and its bytes as "path_bytes" where it is not UTF-8.
void put_path(Json& object, const char* name, const std::string& path);

}  // namespace cupel
