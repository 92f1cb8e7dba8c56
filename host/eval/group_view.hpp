// Values of one metric in every scope, and what groups make of them: gap, worst group,
// equity-scaled value, and the results that are given out.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cupel/eval/evaluate.hpp"
#include "cupel/metric/metric.hpp"
#include "eval/scopes.hpp"

namespace cupel {

/// A value with the rows behind it.
struct ScopedValue {
  MetricValue value = MetricValue::none(Undefined::kEmpty);
  Detail::Object params;
  i64 n = 0;
  std::optional<i64> rows;  ///< where n counts something else: those of the scope
  std::optional<i64> n_pos, n_neg;
  u128 support = 0;  ///< mass of positives: the weight of a class in a weighted average
};

/// "f", or "f,old" of an intersection.
std::string group_label(const Scope& scope);

/// The result of one value; group, class and average are the caller's.
EvalResult make_result(const MetricSpec& spec, const ScopedValue& scoped);

/// Adds details.groups to the result of everyone, where there are groups. `by_scope` has a value
/// for each of scopes.all.
void describe_groups(const MetricSpec& spec, const Scopes& scopes,
                     const std::vector<const ScopedValue*>& by_scope, EvalResult& result);

/// The equity-scaled value by each attribute.
std::vector<EvalResult> equity_results(const MetricSpec& spec, const Scopes& scopes,
                                       const std::vector<const ScopedValue*>& by_scope);

/// All results of a metric with one value a scope.
void add_scope_results(const MetricSpec& spec, const Scopes& scopes,
                       const std::vector<ScopedValue>& values, std::vector<EvalResult>& results);

}  // namespace cupel
