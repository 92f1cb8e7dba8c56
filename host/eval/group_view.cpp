#include "eval/group_view.hpp"

#include <algorithm>
#include <cmath>

namespace cupel {
namespace {

/// What groups make of a value: gap, worst, equity-scaled value, and who was left out.
struct GroupView {
  Detail::Object described;
  MetricValue equity = MetricValue::none(Undefined::kAllUndefined);
};

MetricValue equity_scaled(const MetricSpec& spec, const MetricValue& overall,
                          const std::vector<std::size_t>& defined,
                          const std::vector<const ScopedValue*>& by_scope) {
  const MetricInfo& info = spec.metric->info();
  if (!info.in_unit_interval || info.direction != Direction::kHigher) {
    return MetricValue::none(Undefined::kNotDefined);
  }
  if (!overall.is_defined()) return overall;
  if (spec.options.text("form") == "std") {
    double mean = 0;
    for (const std::size_t s : defined) mean += by_scope[s]->value.number;
    mean /= static_cast<double>(defined.size());
    double squares = 0;
    for (const std::size_t s : defined) {
      const double d = by_scope[s]->value.number - mean;
      squares += d * d;
    }
    if (defined.size() < 2) return MetricValue::none(Undefined::kNotDefined);
    return MetricValue::of(overall.number /
                           (1 + std::sqrt(squares / static_cast<double>(defined.size() - 1))));
  }
  double spread = 0;
  for (const std::size_t s : defined) {
    spread += std::fabs(by_scope[s]->value.number - overall.number);
  }
  return MetricValue::of(overall.number / (1 + spread));
}

GroupView view_groups(const MetricSpec& spec, const Scopes& scopes, const Attribute& attribute,
                      const std::vector<const ScopedValue*>& by_scope) {
  const MetricInfo& info = spec.metric->info();
  std::vector<std::size_t> defined;
  Detail::Object undefined;
  for (const std::size_t s : attribute.scopes) {
    const MetricValue& value = by_scope[s]->value;
    if (value.is_defined()) {
      defined.push_back(s);
    } else {
      undefined.emplace_back(group_label(scopes.all[s]),
                             std::string(undefined_name(value.undefined)));
    }
  }
  GroupView view;
  const auto less = [&](std::size_t a, std::size_t b) {
    return by_scope[a]->value.number < by_scope[b]->value.number;
  };
  if (!defined.empty()) {
    const std::size_t low = *std::min_element(defined.begin(), defined.end(), less);
    const std::size_t high = *std::max_element(defined.begin(), defined.end(), less);
    const double least = by_scope[low]->value.number;
    const double most = by_scope[high]->value.number;
    // Of infinite values the difference would be no number.
    view.described.emplace_back("gap", least == most ? 0.0 : most - least);
    if (info.direction != Direction::kNone) {
      const std::size_t worst = info.direction == Direction::kHigher ? low : high;
      view.described.emplace_back("worst",
                                  Detail::Object{{"group", group_label(scopes.all[worst])},
                                                 {"value", by_scope[worst]->value.number}});
    }
    view.equity = equity_scaled(spec, by_scope[0]->value, defined, by_scope);
  } else {
    view.described.emplace_back("gap", Detail());
  }
  if (view.equity.is_defined()) {
    view.described.emplace_back("equity_scaled", view.equity.number);
  } else {
    view.described.emplace_back("equity_scaled", Detail());
    view.described.emplace_back("equity_scaled_undefined",
                                std::string(undefined_name(view.equity.undefined)));
  }
  view.described.emplace_back("groups", static_cast<i64>(attribute.scopes.size()));
  view.described.emplace_back("undefined", std::move(undefined));
  i64 known = 0;
  const auto rows = [&](std::size_t s) { return by_scope[s]->rows.value_or(by_scope[s]->n); };
  for (const std::size_t s : attribute.scopes) known += rows(s);
  view.described.emplace_back("rows_in_no_group", rows(0) - known);
  return view;
}

}  // namespace

std::string group_label(const Scope& scope) {
  std::string label;
  for (const auto& [column, value] : scope.group) label += (label.empty() ? "" : ",") + value;
  return label;
}

EvalResult make_result(const MetricSpec& spec, const ScopedValue& scoped) {
  EvalResult result;
  result.metric = spec.name;
  result.value = scoped.value.is_defined() ? scoped.value.number : 0;
  result.undefined = scoped.value.undefined;
  result.n = scoped.n;
  result.n_pos = scoped.n_pos;
  result.n_neg = scoped.n_neg;
  result.params = scoped.params;
  result.details = scoped.value.details;
  return result;
}

void describe_groups(const MetricSpec& spec, const Scopes& scopes,
                     const std::vector<const ScopedValue*>& by_scope, EvalResult& result) {
  if (scopes.attributes.empty()) return;
  Detail::Object groups;
  for (const Attribute& attribute : scopes.attributes) {
    groups.emplace_back(attribute.name, view_groups(spec, scopes, attribute, by_scope).described);
  }
  result.details.emplace_back("groups", std::move(groups));
}

std::vector<EvalResult> equity_results(const MetricSpec& spec, const Scopes& scopes,
                                       const std::vector<const ScopedValue*>& by_scope) {
  std::vector<EvalResult> results;
  for (const Attribute& attribute : scopes.attributes) {
    GroupView groups = view_groups(spec, scopes, attribute, by_scope);
    ScopedValue scoped = *by_scope[0];
    const MetricValue overall = scoped.value;
    scoped.value = groups.equity;
    EvalResult result = make_result(spec, scoped);
    result.details = {{"overall", overall.is_defined() ? Detail(overall.number) : Detail()}};
    result.params.emplace_back("attribute", attribute.name);
    Detail::Object values;
    for (const std::size_t s : attribute.scopes) {
      const MetricValue& value = by_scope[s]->value;
      values.emplace_back(group_label(scopes.all[s]),
                          value.is_defined() ? Detail(value.number) : Detail());
    }
    result.details.emplace_back("values", std::move(values));
    result.details.emplace_back("groups",
                                Detail::Object{{attribute.name, std::move(groups.described)}});
    results.push_back(std::move(result));
  }
  return results;
}

void add_scope_results(const MetricSpec& spec, const Scopes& scopes,
                       const std::vector<ScopedValue>& values, std::vector<EvalResult>& results) {
  std::vector<const ScopedValue*> by_scope;
  for (const ScopedValue& value : values) by_scope.push_back(&value);
  if (spec.equity_scaled) {
    for (EvalResult& result : equity_results(spec, scopes, by_scope)) {
      results.push_back(std::move(result));
    }
    return;
  }
  for (std::size_t s = 0; s < values.size(); ++s) {
    EvalResult result = make_result(spec, values[s]);
    result.group = scopes.all[s].group;
    if (s == 0) describe_groups(spec, scopes, by_scope, result);
    results.push_back(std::move(result));
  }
}

}  // namespace cupel
