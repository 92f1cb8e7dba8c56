// What a command chooses for all metrics of conformal sets: every combination becomes a metric.
#include <fmt/format.h>

#include <algorithm>

#include "cupel/metric/metric.hpp"
#include "metric/interval_metric.hpp"
#include "metric/set_metric.hpp"
#include "metric/split_list.hpp"

namespace cupel {

Result<std::vector<MetricSpec>> with_conformal(std::vector<MetricSpec> metrics,
                                               const ConformalChoices& choices,
                                               std::optional<Task> task) {
  if (!choices.any()) return metrics;
  const auto check = [](std::string_view option, const std::string& word,
                        const std::vector<std::string_view>& known) -> Result<void> {
    if (std::find(known.begin(), known.end(), word) != known.end()) return {};
    const auto near = nearest_name(word, std::vector<std::string>(known.begin(), known.end()));
    return usage_error(near
                           ? fmt::format("unknown {} '{}', did you mean '{}'?", option, word, *near)
                           : fmt::format("unknown {} '{}'", option, word),
                       near ? "" : fmt::format("one of {}", fmt::join(known, ", ")));
  };
  const std::vector<std::string_view> of_intervals = names_of(kIntervalRules);
  std::vector<std::string_view> known_scores = names_of(kScores);
  known_scores.insert(known_scores.end(), of_intervals.begin(), of_intervals.end());
  // The list may have been cut at commas inside parentheses.
  auto texts = split_list(fmt::format("{}", fmt::join(choices.scores, ",")));
  if (!texts) return texts.error();
  std::vector<NamedOptions> scores;
  for (const std::string& text : choices.scores.empty() ? std::vector<std::string>() : *texts) {
    auto score = parse_named_options(text);
    if (!score) return score.error();
    if (auto fine = check("--conformal", score->name, known_scores); !fine) {
      return fine.error();
    }
    scores.push_back(std::move(*score));
  }
  if (!choices.quantile.empty()) {
    if (auto fine = check("--quantile", choices.quantile, names_of(kQuantiles)); !fine) {
      return fine.error();
    }
  }
  if (!choices.empty.empty()) {
    if (auto fine = check("--empty", choices.empty, {kEmptySets[0], kEmptySets[1]}); !fine) {
      return fine.error();
    }
  }
  for (const std::string& alpha : choices.alphas) {
    const auto parsed = parse_decimal(alpha);
    if (!parsed || parsed->num == 0 || parsed->num >= parsed->den) {
      return usage_error(fmt::format("--alpha '{}' is not a decimal between 0 and 1", alpha),
                         "give the share of labels that may be missed, such as 0.1");
    }
  }
  if (metrics.empty()) {
    const auto of_interval = [&](const NamedOptions& score) {
      return std::find(of_intervals.begin(), of_intervals.end(), score.name) != of_intervals.end();
    };
    const bool intervals = scores.empty() ? task == Task::kRegression
                                          : std::all_of(scores.begin(), scores.end(), of_interval);
    auto both = parse_metrics(intervals ? "coverage,interval_width" : "coverage,set_size");
    if (!both) return both.error();
    metrics = std::move(*both);
  }
  const auto makes_sets = [](const MetricSpec& spec) {
    const std::vector<OptionSpec>& options = spec.metric->info().options;
    return spec.metric->scope() == MetricScope::kConformal &&
           std::any_of(options.begin(), options.end(),
                       [](const OptionSpec& option) { return option.name == "conformal"; });
  };
  if (std::none_of(metrics.begin(), metrics.end(), makes_sets)) {
    return usage_error("--conformal, --alpha, --quantile and --empty are for metrics of sets",
                       "add coverage, set_size or interval_width to --metrics");
  }
  std::vector<MetricSpec> chosen;
  for (MetricSpec& spec : metrics) {
    if (!makes_sets(spec)) {
      chosen.push_back(std::move(spec));
      continue;
    }
    std::string own;  // what the metric was given itself
    const auto add = [](std::string_view name, std::string_view value, std::string& text) {
      if (!value.empty()) text += fmt::format("{}{}={}", text.empty() ? "" : ",", name, value);
    };
    const std::vector<OptionSpec> options = effective_options(*spec.metric);
    const bool has_empty =
        std::any_of(options.begin(), options.end(),
                    [](const OptionSpec& option) { return option.name == "empty"; });
    std::vector<std::string_view> declared{"form"};  // of an equity-scaled value
    for (const OptionSpec& option : options) declared.push_back(option.name);
    for (const std::string_view name : declared) {
      if (spec.options.given(name)) add(name, spec.options.text(name), own);
    }
    const bool has_score = spec.options.given("conformal") || scores.empty();
    for (const NamedOptions& score : has_score ? std::vector<NamedOptions>(1) : scores) {
      std::string of_score = own;
      add("conformal", score.name, of_score);
      const auto given = [&](std::string_view name) {
        return spec.options.given(name) ||
               std::any_of(score.options.begin(), score.options.end(),
                           [&](const auto& option) { return option.first == name; });
      };
      for (const auto& [name, value] : score.options) {
        if (!spec.options.given(name)) of_score += fmt::format(",{}={}", name, value);
      }
      if (!given("quantile")) add("quantile", choices.quantile, of_score);
      if (has_empty && !given("empty")) add("empty", choices.empty, of_score);
      const bool has_alpha = given("alpha") || choices.alphas.empty();
      for (const std::string& alpha : has_alpha ? std::vector<std::string>(1) : choices.alphas) {
        std::string text = of_score;
        add("alpha", alpha, text);
        auto one = parse_metrics(fmt::format("{}({})", spec.name, text));
        if (!one) return one.error();
        const auto same = [&](const MetricSpec& other) {
          return other.name == spec.name && other.options == one->front().options;
        };
        if (std::none_of(chosen.begin(), chosen.end(), same)) {
          chosen.push_back(std::move(one->front()));
        }
      }
    }
  }
  return chosen;
}

}  // namespace cupel
