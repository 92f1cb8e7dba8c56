#include "cli/command.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "cli/output.hpp"

namespace cupel {

std::string_view program_version() { return CUPEL_VERSION; }

void ColumnArguments::declare(Arguments& arguments, EvalRequest& request) {
  ColumnRoles& roles = request.roles;
  arguments.section("columns (names, or files that hold one column)");
  arguments.text("--label", "X", roles.label, "the truth; found as label, y, y_true, target, ..");
  arguments.text("--score", "X", roles.score, "one score per row: binary");
  arguments.text("--probs", "X", roles.probs, "one probability per class and row");
  arguments.text("--logits", "X", roles.logits, "logits, ranked by their softmax");
  arguments.text("--pred", "X", roles.pred, "regression: predictions; found as pred, y_pred, ..");
  arguments.text("--sigma", "X", roles.sigma, "regression: scale of the residuals, above 0");
  arguments.text("--lower", "X", roles.lower, "regression: lower ends of intervals");
  arguments.text("--upper", "X", roles.upper, "regression: upper ends of intervals");
  arguments.text("--threshold-column", "X", roles.threshold,
                 "regression: what a label has to exceed to be worth selecting");
  arguments.text("--loss", "X", roles.loss, "risk: losses, a row at L values of lambda");
  arguments.text("--lambdas", "X", roles.lambdas, "risk: these L values");
  arguments.text("--weight", "X", roles.weight, "sample weights");
  arguments.text("--id", "X", roles.id, "row ids for whatever is drawn at random");
  arguments.text("--embedding", "X", roles.embedding,
                 "verification: a vector a row; features, for worst_slab_coverage");
  arguments.text("--distance", "X", roles.distance,
                 "verification: distances of pairs; --score if larger is closer");
  arguments.text("--class-a", "X", roles.class_a, "verification: class of one side of a pair");
  arguments.text("--class-b", "X", roles.class_b, "verification: class of the other side");
  arguments.list("--group", "X[,Y]", roles.groups, "values per group of these columns too");
  arguments.flag("--intersect", request.intersect, "and per combination of the group columns");
  arguments.text("--unknown", "V", unknown,
                 "a group value that means unknown, besides -1 and empty");
  arguments.text("--calibration", "X", roles.calibration,
                 "a boolean column, or a fraction of rows");
  arguments.text("--task", "T", task,
                 "binary, multiclass, multilabel, regression, risk, verification");
  arguments.text("--pos-label", "V", request.pos_label, "the label that counts as positive");
  arguments.list("--dtype", "X=bf16", dtypes, "column X holds bfloat16");
}

std::vector<std::string> input_paths(const EvalRequest& request,
                                     const std::vector<std::string>& arguments) {
  const ColumnRoles& roles = request.roles;
  std::vector<std::string> paths = request.dumps;
  for (const std::string& argument : arguments) {
    if (argument.starts_with('@')) paths.push_back(argument.substr(1));
  }
  paths.insert(paths.end(), roles.groups.begin(), roles.groups.end());
  paths.insert(paths.end(), {roles.label, roles.score, roles.probs, roles.logits, roles.weight,
                             roles.id, roles.embedding, roles.calibration, roles.pred, roles.sigma,
                             roles.lower, roles.upper, roles.threshold, roles.loss, roles.lambdas,
                             roles.distance, roles.class_a, roles.class_b});
  return paths;
}

Result<void> ColumnArguments::apply(const Arguments& arguments, EvalRequest& request) const {
  if (arguments.given("--task")) {
    const std::vector<Task> tasks = {Task::kBinary,     Task::kMulticlass, Task::kMultilabel,
                                     Task::kRegression, Task::kRisk,       Task::kVerification};
    std::vector<std::string> names;
    for (const Task known : tasks) names.emplace_back(task_name(known));
    const auto chosen = parse_choice("task", task, names);
    if (!chosen) return chosen.error();
    request.task = tasks[*chosen];
  }
  if (arguments.given("--unknown")) request.unknown = unknown;
  for (const std::string& group : request.roles.groups) {
    if (group.empty()) return usage_error("--group has an empty column name");
  }
  return apply_dtypes(dtypes, request);
}

Result<void> apply_dtypes(const std::vector<std::string>& dtypes, EvalRequest& request) {
  for (const std::string& entry : dtypes) {
    const std::size_t equals = entry.rfind('=');
    if (equals == std::string::npos || equals == 0) {
      return usage_error(fmt::format("--dtype '{}' names no column", entry),
                         "write --dtype X=bf16");
    }
    if (entry.substr(equals + 1) != "bf16") {
      return usage_error(fmt::format("--dtype '{}' is not a type to choose", entry),
                         "bf16 is the only type that files cannot say themselves");
    }
    request.bfloat16_columns.push_back(entry.substr(0, equals));
  }
  return {};
}

ReportStyle output_style(bool to_file) {
  ReportStyle style;
  style.version = program_version();
  if (to_file || !is_terminal(STDOUT_FILENO)) return style;
  const char* no_color = std::getenv("NO_COLOR");
  style.terminal = no_color == nullptr || *no_color == '\0';
  constexpr int kNarrowest = 60;
  if (const int width = terminal_width(STDOUT_FILENO); width > 0) {
    style.width = std::max(width, kNarrowest);
  }
  return style;
}

void say_failures(const std::vector<EvalFailure>& failures) {
  for (const EvalFailure& failure : failures) say(failure.error.text());
}

std::string document(const Detail::Object& object) {
  // compact_json() takes objects: the value of {"key":value} is what stands between.
  const auto value_of = [](const Detail& detail) {
    const std::string wrapped = compact_json({{"v", detail}});
    constexpr std::size_t kBefore = 5;  // {"v":
    return wrapped.substr(kBefore, wrapped.size() - kBefore - 1);
  };
  std::vector<std::string> members;
  for (const auto& [name, value] : object) {
    const auto* list = std::get_if<Detail::List>(&value.held());
    std::string text = list == nullptr || list->empty() ? value_of(value) : std::string();
    if (text.empty()) {
      std::vector<std::string> lines;
      for (const Detail& element : *list) lines.push_back("    " + value_of(element));
      text = fmt::format("[\n{}\n  ]", fmt::join(lines, ",\n"));
    }
    members.push_back(fmt::format("  \"{}\": {}", name, text));
  }
  return fmt::format("{{\n{}\n}}\n", fmt::join(members, ",\n"));
}

int show(const std::string& text, const std::string& output) {
  const auto written = write_output(output, text);
  return written ? kExitOk : fail(written.error());
}

}  // namespace cupel
