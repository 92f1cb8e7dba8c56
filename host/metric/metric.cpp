#include "cupel/metric/metric.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "metric/split_list.hpp"

namespace cupel {

std::string_view task_name(Task task) {
  switch (task) {
    case Task::kBinary:
      return "binary";
    case Task::kMulticlass:
      return "multiclass";
    case Task::kMultilabel:
      return "multilabel";
    case Task::kRegression:
      return "regression";
    case Task::kRisk:
      return "risk";
    case Task::kVerification:
      return "verification";
  }
  return "";
}

std::string_view undefined_name(Undefined reason) {
  switch (reason) {
    case Undefined::kNone:
      return "";
    case Undefined::kEmpty:
      return "empty";
    case Undefined::kNoPositive:
      return "no_positive";
    case Undefined::kNoNegative:
      return "no_negative";
    case Undefined::kSingleClass:
      return "single_class";
    case Undefined::kZeroWeight:
      return "zero_weight";
    case Undefined::kNotProbability:
      return "not_probability";
    case Undefined::kNotReached:
      return "not_reached";
    case Undefined::kNotDefined:
      return "not_defined";
    case Undefined::kAllUndefined:
      return "all_undefined";
    case Undefined::kOverflow:
      return "overflow";
    case Undefined::kTooFewCalibration:
      return "too_few_calibration";
    case Undefined::kRanAway:
      return "ran_away";
    case Undefined::kNotConverged:
      return "not_converged";
    case Undefined::kTooFewClasses:
      return "too_few_classes";
    case Undefined::kNotResolved:
      return "not_resolved";
  }
  return "";
}

std::string_view direction_name(Direction direction) {
  switch (direction) {
    case Direction::kNone:
      return "none";
    case Direction::kHigher:
      return "higher";
    case Direction::kLower:
      return "lower";
  }
  return "";
}

Detail::Object Metric::params(const Options& options, const Evidence&) const {
  return options.params();
}

ReducedSet Metric::reduce(const SortedConfidences&, const Options&) const { return {}; }

std::optional<std::string> nearest_name(std::string_view word, std::span<const std::string> names) {
  std::optional<std::string> best;
  std::size_t best_distance = word.size() / 3 + 2;
  for (const std::string& name : names) {
    // Optimal string alignment distance: insert, delete, replace, swap neighbours.
    std::vector<std::size_t> two_ago(name.size() + 1);
    std::vector<std::size_t> ago(name.size() + 1);
    std::vector<std::size_t> row(name.size() + 1);
    std::iota(ago.begin(), ago.end(), std::size_t{0});
    for (std::size_t i = 1; i <= word.size(); ++i) {
      row[0] = i;
      for (std::size_t j = 1; j <= name.size(); ++j) {
        const bool same = word[i - 1] == name[j - 1];
        row[j] = std::min({ago[j] + 1, row[j - 1] + 1, ago[j - 1] + (same ? 0 : 1)});
        if (i > 1 && j > 1 && word[i - 1] == name[j - 2] && word[i - 2] == name[j - 1]) {
          row[j] = std::min(row[j], two_ago[j - 2] + 1);
        }
      }
      std::swap(two_ago, ago);
      std::swap(ago, row);
    }
    if (ago[name.size()] < best_distance) {
      best_distance = ago[name.size()];
      best = name;
    }
  }
  return best;
}

Result<const Metric*> find_metric(std::string_view name) {
  std::vector<std::string> names;
  for (const Metric* metric : all_metrics()) {
    if (metric->info().name == name) return metric;
    names.emplace_back(metric->info().name);
  }
  const auto near = nearest_name(name, names);
  return usage_error(near ? fmt::format("unknown metric '{}', did you mean '{}'?", name, *near)
                          : fmt::format("unknown metric '{}'", name),
                     near ? "" : "'cupel metrics' lists all");
}

std::vector<OptionSpec> effective_options(const Metric& metric) {
  std::vector<OptionSpec> options = metric.info().options;
  const auto& tasks = metric.info().tasks;
  const auto has = [&](Task task) {
    return std::find(tasks.begin(), tasks.end(), task) != tasks.end();
  };
  if (metric.scope() == MetricScope::kRanking && has(Task::kMulticlass)) {
    options.push_back({"average",
                       OptionType::kChoice,
                       "",
                       {"macro", "weighted", "micro", "samples", "ovo_macro", "ovo_weighted"},
                       0,
                       0,
                       "several classes: how they become one value; macro when not given"});
  } else if (metric.scope() == MetricScope::kRows && has(Task::kMultilabel)) {
    options.push_back({"average",
                       OptionType::kChoice,
                       "",
                       {"macro", "weighted", "micro"},
                       0,
                       0,
                       "multilabel: how labels become one value; macro when not given"});
  } else if (metric.scope() == MetricScope::kFitted && has(Task::kMultilabel)) {
    options.push_back({"average",
                       OptionType::kChoice,
                       "",
                       {"macro", "weighted"},
                       0,
                       0,
                       "multilabel: how labels become one value; macro when not given"});
  }
  return options;
}

Result<std::vector<std::string>> split_list(std::string_view text) {
  std::vector<std::string> items;
  std::string item;
  int depth = 0;
  for (const char c : text) {
    if (c == '(') ++depth;
    if (c == ')' && --depth < 0) return usage_error(fmt::format("')' without '(' in '{}'", text));
    if (c == ',' && depth == 0) {
      items.push_back(std::move(item));
      item.clear();
    } else {
      item += c;
    }
  }
  if (depth != 0) return usage_error(fmt::format("'(' without ')' in '{}'", text));
  items.push_back(std::move(item));
  for (std::string& one : items) {
    const auto first = one.find_first_not_of(" \t");
    const auto last = one.find_last_not_of(" \t");
    one = first == std::string::npos ? std::string() : one.substr(first, last - first + 1);
  }
  return items;
}

Result<NamedOptions> parse_named_options(const std::string& text) {
  NamedOptions parsed;
  const auto open = text.find('(');
  parsed.name = text.substr(0, open);
  if (open == std::string::npos) return parsed;
  if (text.back() != ')') return usage_error(fmt::format("text after ')' in '{}'", text));
  auto options = split_list(std::string_view(text).substr(open + 1, text.size() - open - 2));
  if (!options) return options.error();
  for (const std::string& option : *options) {
    if (option.empty() && options->size() == 1) continue;
    const auto equals = option.find('=');
    if (equals == std::string::npos) {
      return usage_error(fmt::format("option '{}' of '{}' has no value", option, parsed.name),
                         "write name=value");
    }
    parsed.options.emplace_back(option.substr(0, equals), option.substr(equals + 1));
  }
  return parsed;
}

namespace {

Result<MetricSpec> parse_metric(const std::string& text) {
  auto parsed = parse_named_options(text);
  if (!parsed) return parsed.error();
  MetricSpec spec;
  spec.name = std::move(parsed->name);
  const auto& given = parsed->options;
  std::string base = spec.name;
  if (base.starts_with("es_") && base.size() > 3) {
    spec.equity_scaled = true;
    base = base.substr(3);
  }
  auto metric = find_metric(base);
  if (!metric) return metric.error();
  spec.metric = *metric;
  if (spec.equity_scaled && spec.metric->scope() == MetricScope::kPairs) {
    return usage_error(
        fmt::format("'{}' is a comparison of groups and has no equity-scaled value", base));
  }
  auto declared = effective_options(*spec.metric);
  if (spec.equity_scaled) {
    declared.push_back({"form",
                        OptionType::kChoice,
                        "sum_abs",
                        {"sum_abs", "std"},
                        0,
                        0,
                        "M / (1 + sum of |M_g - M|), or M / (1 + standard deviation of M_g)"});
  }
  auto options = Options::make(spec.name, declared, given);
  if (!options) return options.error();
  spec.options = std::move(*options);
  return spec;
}

}  // namespace

Result<std::vector<MetricSpec>> parse_metrics(std::string_view text) {
  auto items = split_list(text);
  if (!items) return items.error();
  std::vector<MetricSpec> specs;
  for (const std::string& item : *items) {
    if (item.empty()) return usage_error(fmt::format("an empty metric name in '{}'", text));
    auto spec = parse_metric(item);
    if (!spec) return spec.error();
    // The same metric with the same options twice would only repeat its rows.
    const bool repeated = std::any_of(specs.begin(), specs.end(), [&](const MetricSpec& other) {
      return other.name == spec->name && other.options == spec->options;
    });
    if (!repeated) specs.push_back(std::move(*spec));
  }
  return specs;
}

std::vector<MetricSpec> default_metrics(Task task) {
  std::vector<MetricSpec> specs;
  for (const Metric* metric : all_metrics()) {
    const MetricInfo& info = metric->info();
    const bool wanted = task == Task::kBinary         ? info.default_for_binary
                        : task == Task::kMulticlass   ? info.default_for_multiclass
                        : task == Task::kMultilabel   ? info.default_for_multilabel
                        : task == Task::kRegression   ? info.default_for_regression
                        : task == Task::kVerification ? info.default_for_verification
                                                      : false;
    if (!wanted) continue;
    auto options = Options::make(info.name, effective_options(*metric), {});
    CUPEL_ASSERT(options.ok());
    specs.push_back({metric, false, std::string(info.name), *options, true});
  }
  return specs;
}

}  // namespace cupel
