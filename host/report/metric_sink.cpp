// The catalogue of metrics, from their own descriptions: nothing is said twice.
#include <fmt/format.h>

#include <algorithm>

#include "report/json.hpp"
#include "report/table.hpp"
#include "report/text.hpp"

namespace cupel {
namespace {

struct Scope {
  MetricScope scope;
  std::string_view name;
  std::string_view title;
};

constexpr Scope kScopes[] = {
    {MetricScope::kRanking, "ranking", "of a ranking (several classes: one against the rest)"},
    {MetricScope::kRows, "rows", "of rows"},
    {MetricScope::kFitted, "fitted", "of fits on calibration rows (with --calibration)"},
    {MetricScope::kConformal, "conformal", "of conformal sets (with --calibration)"},
    {MetricScope::kSelection, "selection",
     "of p-values, selections and controlled risks (with --calibration)"},
    {MetricScope::kPairs, "pairs", "between groups (with --group)"},
    {MetricScope::kVerification, "verification", "of pairs of embeddings, and of nearest rows"},
};

std::string_view scope_name(MetricScope scope) {
  for (const Scope& entry : kScopes) {
    if (entry.scope == scope) return entry.name;
  }
  return {};
}

std::string task_names(const MetricInfo& info) {
  std::string names;
  for (const Task task : info.tasks) {
    names += names.empty() ? "" : ", ";
    names += task_name(task);
  }
  return names;
}

std::string_view type_name(OptionType type) {
  switch (type) {
    case OptionType::kNumber:
      return "number";
    case OptionType::kInteger:
      return "integer";
    case OptionType::kChoice:
      return "choice";
    case OptionType::kFlag:
      return "flag";
    case OptionType::kList:
      return "list";
    case OptionType::kRange:
      return "range";
  }
  return {};
}

/// "0 to 1", "step | trapezoid", "true | false".
std::string range_text(const OptionSpec& option) {
  switch (option.type) {
    case OptionType::kNumber:
    case OptionType::kInteger:
      return fmt::format("{} to {}", option.minimum, option.maximum);
    case OptionType::kChoice:
      return fmt::format("{}", fmt::join(option.choices, " | "));
    case OptionType::kFlag:
      return "true | false";
    case OptionType::kList:
      return fmt::format("integers from {} to {}, joined by ':'", option.minimum, option.maximum);
    case OptionType::kRange:
      return fmt::format("two numbers from {} to {}, joined by ':'", option.minimum,
                         option.maximum);
  }
  return {};
}

/// Whether es_NAME has a value: an equity-scaled value needs [0, 1] and higher to be better.
bool has_equity_scaled(const Metric& metric) {
  const MetricInfo& info = metric.info();
  return info.in_unit_interval && info.direction == Direction::kHigher &&
         metric.scope() != MetricScope::kPairs;
}

/// The default as the value it stands for.
Json json_default(const Metric& metric, const OptionSpec& option) {
  const std::vector<OptionSpec> specs = {option};
  const auto defaults = Options::make(metric.info().name, specs, {});
  if (!defaults || !defaults->has(option.name)) return nullptr;
  return json_detail(defaults->params().front().second);
}

Json json_metric(const Metric* metric) {
  const MetricInfo& info = metric->info();
  Json options = Json::array();
  for (const OptionSpec& option : effective_options(*metric)) {
    const bool number = option.type != OptionType::kChoice && option.type != OptionType::kFlag;
    options.push_back({{"name", option.name},
                       {"type", type_name(option.type)},
                       {"default", json_default(*metric, option)},
                       {"choices", option.choices},
                       {"minimum", number ? json_number(option.minimum) : Json(nullptr)},
                       {"maximum", number ? json_number(option.maximum) : Json(nullptr)},
                       {"summary", option.summary}});
  }
  Json tasks = Json::array();
  for (const Task task : info.tasks) tasks.push_back(task_name(task));
  Json defaults = Json::array();
  if (info.default_for_binary) defaults.push_back(task_name(Task::kBinary));
  if (info.default_for_multiclass) defaults.push_back(task_name(Task::kMulticlass));
  if (info.default_for_multilabel) defaults.push_back(task_name(Task::kMultilabel));
  if (info.default_for_regression) defaults.push_back(task_name(Task::kRegression));
  if (info.default_for_verification) defaults.push_back(task_name(Task::kVerification));
  return {{"name", info.name},
          {"summary", info.summary},
          {"scope", scope_name(metric->scope())},
          {"tasks", std::move(tasks)},
          {"default_for", std::move(defaults)},
          {"direction", direction_name(info.direction)},
          {"equity_scaled", has_equity_scaled(*metric)},
          {"formula", info.formula},
          {"edge_cases", info.edge_cases},
          {"equals", info.equals},
          {"source", info.source},
          {"example", info.example},
          {"options", std::move(options)}};
}

std::string document_of(std::span<const Metric* const> metrics) {
  DocumentWriter document;
  document.member("schema", "cupel.metrics/1");
  document.lines("metrics", metrics, json_metric);
  return std::move(document).finish();
}

/// `text` broken at blanks into lines of at most `width`; a longer word stands alone.
std::vector<std::string> wrapped(std::string_view text, i64 width) {
  std::vector<std::string> lines;
  std::string line;
  while (!text.empty()) {
    const std::size_t blank = text.find(' ');
    const std::string word(text.substr(0, blank));
    text.remove_prefix(blank == std::string_view::npos ? text.size() : blank + 1);
    if (word.empty()) continue;
    if (!line.empty() && display_width(line) + 1 + display_width(word) > width) {
      lines.push_back(std::move(line));
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  if (!line.empty()) lines.push_back(std::move(line));
  return lines;
}

constexpr i64 kNameWidth = 12;

/// A paragraph of the page: its name in the first column, its text beside it. The second column may
/// begin with a name of its own, `item`, in `item_width` characters.
void append_entry(std::string& out, std::string_view name, std::string_view item, i64 item_width,
                  std::string_view text, const ReportStyle& style) {
  const i64 width = std::max<i64>(style.width - kNameWidth - item_width - 2, 20);
  bool first = true;
  for (const std::string& line : wrapped(text, width)) {
    const std::string label = fmt::format("{:<{}}", first ? name : "", kNameWidth);
    out += fmt::format("  {}{:<{}}{}\n", toned(label, Tone::kFaint, style), first ? item : "",
                       item_width, line);
    first = false;
  }
}

/// "partial area up to this rate (1e-09 to 1, default 0.1)".
std::string option_text(const OptionSpec& option) {
  const std::string preset = option.default_text.empty()
                                 ? std::string("no default")
                                 : fmt::format("default {}", option.default_text);
  return fmt::format("{} ({}; {})", option.summary, range_text(option), preset);
}

/// "higher is better; es_auroc is its equity-scaled value (with --group)".
std::string direction_text(const Metric& metric) {
  const MetricInfo& info = metric.info();
  std::string text = info.direction == Direction::kNone
                         ? std::string("no direction is better")
                         : fmt::format("{} is better", direction_name(info.direction));
  if (has_equity_scaled(metric)) {
    text += fmt::format("; es_{} is the equity-scaled value (with --group)", info.name);
  }
  return text;
}

std::string tasks_text(const MetricInfo& info) {
  std::string defaults;
  const auto add = [&](bool is_default, Task task) {
    if (!is_default) return;
    defaults += defaults.empty() ? "" : ", ";
    defaults += task_name(task);
  };
  add(info.default_for_binary, Task::kBinary);
  add(info.default_for_multiclass, Task::kMulticlass);
  add(info.default_for_multilabel, Task::kMultilabel);
  add(info.default_for_regression, Task::kRegression);
  add(info.default_for_verification, Task::kVerification);
  return task_names(info) + (defaults.empty() ? "" : "; a default metric for " + defaults);
}

}  // namespace

std::string render_metric_list(std::span<const Metric* const> metrics, ReportFormat format,
                               const ReportStyle& style) {
  if (format == ReportFormat::kJson) return document_of(metrics);
  std::size_t longest = 0;
  for (const Metric* metric : metrics) longest = std::max(longest, metric->info().name.size());
  std::string out;
  for (const Scope& scope : kScopes) {
    std::string lines;
    for (const Metric* metric : metrics) {
      if (metric->scope() != scope.scope) continue;
      lines += fmt::format("  {:<{}}  {}\n", metric->info().name, longest, metric->info().summary);
    }
    if (lines.empty()) continue;
    if (!out.empty()) out += "\n";
    out += toned(std::string(scope.title), Tone::kStrong, style) + "\n" + lines;
  }
  out +=
      "\nes_NAME is the equity-scaled value of NAME (with --group). Options go in parentheses:\n"
      "--metrics 'auroc(max_fpr=0.1),es_auroc'. 'cupel metrics NAME' has formula, options, edge "
      "cases.\n";
  return out;
}

std::string render_metric_page(const Metric& metric, ReportFormat format,
                               const ReportStyle& style) {
  const Metric* const one = &metric;
  if (format == ReportFormat::kJson) return document_of({&one, 1});
  const MetricInfo& info = metric.info();
  std::string out =
      toned(std::string(info.name), Tone::kStrong, style) + fmt::format("  {}\n\n", info.summary);
  append_entry(out, "formula", {}, 0, info.formula, style);
  append_entry(out, "better", {}, 0, direction_text(metric), style);
  append_entry(out, "tasks", {}, 0, tasks_text(info), style);
  append_entry(out, "edge cases", {}, 0, info.edge_cases, style);
  append_entry(out, "equals", {}, 0, info.equals, style);
  append_entry(out, "source", {}, 0, info.source, style);
  const std::vector<OptionSpec> options = effective_options(metric);
  std::size_t longest = 0;
  for (const OptionSpec& option : options) longest = std::max(longest, option.name.size());
  if (!options.empty()) out += "\n";
  bool first = true;
  for (const OptionSpec& option : options) {
    append_entry(out, first ? "options" : "", option.name, static_cast<i64>(longest) + 2,
                 option_text(option), style);
    first = false;
  }
  return out + fmt::format("\n  {}{}\n",
                           toned(fmt::format("{:<{}}", "example", kNameWidth), Tone::kFaint, style),
                           info.example);
}

}  // namespace cupel
