#include "eval/verification_entry.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "metric/class_rates.hpp"
#include "metric/list.hpp"
#include "metric/verification_metric.hpp"

namespace cupel {
namespace {

/// The index of a value in a list that has each once.
template <class T>
std::size_t index_in(std::vector<T>& list, const T& value) {
  const auto at = std::find(list.begin(), list.end(), value);
  const auto index = static_cast<std::size_t>(at - list.begin());
  if (at == list.end()) list.push_back(value);
  return index;
}

/// Why pairs with scores do not have what a metric asks.
std::optional<Error> missing_of_scores(const MetricSpec& spec, const VerificationRows& rows,
                                       const VerificationQuery& query) {
  if (query.retrieval) {
    return usage_error(
        fmt::format("'{}' looks for the nearest rows of each row, and pairs with scores have none",
                    spec.name),
        "give the embeddings with --embedding and their --label");
  }
  if (rows.class_a.empty() && rows.rows != 0) {
    return usage_error(
        fmt::format("'{}' is of classes, and the dump does not say those of its pairs", spec.name),
        "name the classes of both sides with --class-a and --class-b");
  }
  const PairDomain own = rows.is_distance ? PairDomain::kL2 : PairDomain::kCosine;
  if (query.domain && *query.domain != own) {
    return usage_error(
        fmt::format("'{}' asks for domain={}, and the pairs have {}", spec.name,
                    domain_name(*query.domain), rows.is_distance ? "distances" : "similarities"),
        "leave the domain out: thresholds are of what the dump has");
  }
  if (query.normalize) {
    return usage_error(
        fmt::format("'{}' says normalize, and pairs with scores have no rows", spec.name),
        "leave it out");
  }
  return std::nullopt;
}

/// Values of classes of a metric that has them.
std::vector<ClassRate> rates_of(const MetricSpec& spec, const VerificationEvidence& evidence) {
  const bool accept = spec.metric == &class_far();
  if (!accept && spec.metric != &class_frr()) return {};
  return class_rates(evidence, accept);
}

/// The label as an integer, as results name classes.
std::optional<i64> class_number(const std::string& name) {
  i64 number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return number;
}

/// Results of classes, or one more detail where labels are no integers.
std::vector<EvalResult> class_results(const MetricSpec& spec, const VerificationEvidence& evidence,
                                      ScopedValue& whole) {
  std::vector<EvalResult> results;
  Detail::Object named;
  for (const ClassRate& one : rates_of(spec, evidence)) {
    const std::string& name = evidence.class_names[one.cls];
    const std::optional<i64> number = class_number(name);
    if (!number) {
      named.emplace_back(name, one.rate);
      continue;
    }
    ScopedValue own;
    own.value = MetricValue::of(one.rate);
    own.value.details = {{"errors", one.errors}};
    own.params = whole.params;
    own.n = static_cast<i64>(one.pairs);
    EvalResult result = make_result(spec, own);
    result.cls = number;
    results.push_back(std::move(result));
  }
  if (!named.empty()) whole.value.details.emplace_back("by_class", std::move(named));
  return results;
}

}  // namespace

bool has_scores(const VerificationRows& rows) { return rows.embedding.shape.empty(); }

Result<std::vector<VerificationEntry>> plan_verification(std::span<const PreparedTable> parts,
                                                         const ComputeRequest& request) {
  std::vector<VerificationEntry> entries;
  const TableView& view = parts.front().view;
  for (const MetricSpec& spec : request.metrics) {
    if (auto fits = check_metric(spec, view.task, request.group_columns); !fits) {
      return fits.error();
    }
    VerificationEntry entry;
    entry.spec = &spec;
    auto needs = spec.metric->needs(spec.options, view.task, view.classes, false);
    if (!needs) return needs.error();
    entry.needs = std::move(*needs);
    const VerificationRows& rows = *parts.front().verification;
    if (has_scores(rows) && entry.needs.verification) {
      auto missing = missing_of_scores(spec, rows, *entry.needs.verification);
      if (missing && spec.is_default) continue;
      if (missing) return std::move(*missing);
    }
    entries.push_back(std::move(entry));
  }
  if (entries.empty()) {
    return usage_error("this verification dump has no default metric",
                       "name metrics with --metrics; 'cupel metrics' lists all");
  }
  return entries;
}

VerificationQuestions questions_of(std::span<VerificationEntry* const> entries) {
  VerificationQuestions asked;
  for (const VerificationEntry* entry : entries) {
    std::vector<std::size_t>& at = asked.at.emplace_back();
    if (entry->ranks()) {
      asked.questions.ranks = true;
      for (const RankQuery& query : entry->needs.queries) {
        at.push_back(index_in(asked.ranks, query));
      }
      continue;
    }
    const VerificationQuery& query = *entry->needs.verification;
    if (query.curves) at.push_back(index_in(asked.questions.curves, *query.curves));
    if (query.rates) at.push_back(index_in(asked.questions.rates, *query.rates));
    if (query.retrieval) at.push_back(index_in(asked.questions.retrieval, *query.retrieval));
  }
  return asked;
}

void finish_entries(std::span<VerificationEntry* const> entries,
                    const VerificationQuestions& questions, const PairAnswers& answers,
                    const VerificationEvidence& evidence, std::size_t scope, bool by_class) {
  RankSummary summary;
  if (questions.questions.ranks) summary = summarise(answers.ranks, questions.ranks);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    VerificationEntry& entry = *entries[i];
    const std::vector<std::size_t>& at = questions.at[i];
    VerificationEvidence own = evidence;
    Evidence e;
    e.task = Task::kVerification;
    e.classes = static_cast<i64>(evidence.class_names.size());
    e.verification = &own;
    RankSummary ranks;
    ScopedValue& value = entry.values[scope];
    value.n = static_cast<i64>(own.pos + own.neg);
    if (!own.scored) value.rows = static_cast<i64>(own.rows);
    value.n_pos = static_cast<i64>(own.pos);
    value.n_neg = static_cast<i64>(own.neg);
    if (entry.ranks()) {
      ranks = summary;
      ranks.answers.clear();
      for (const std::size_t q : at) ranks.answers.push_back(summary.answers[q]);
      e.ranks = &ranks;
      e.table = entry.needs.table ? &answers.ranks : nullptr;
      value.support = ranks.pos;
    } else if (const VerificationQuery& query = *entry.needs.verification; query.retrieval) {
      own.retrieval = &answers.retrieval[at[0]];
      value.n = static_cast<i64>(own.retrieval->queries);
      value.n_pos.reset();
      value.n_neg.reset();
    } else {
      const CurveAnswer& answer = query.curves ? answers.curves[at[0]] : answers.rates[at[0]];
      own.first = answer.first;
      own.last = answer.last;
      own.unresolved = answer.unresolved;
      own.empty_range = answer.empty_range;
      own.curves = &answer.curves;
      own.exact = answer.exact ? &*answer.exact : nullptr;
    }
    value.value = entry.spec->metric->finish(e, entry.spec->options);
    value.params = entry.spec->metric->params(entry.spec->options, e);
    if (entry.ranks() && !own.scored) {
      value.params.emplace_back("domain", std::string(domain_name(own.domain)));
      value.params.emplace_back("normalize", own.normalize);
    }
    if (by_class && own.curves != nullptr) {
      entry.by_class[scope] = class_results(*entry.spec, own, value);
    }
  }
}

std::vector<EvalResult> verification_results(std::span<const VerificationEntry> entries,
                                             const Scopes& scopes) {
  std::vector<EvalResult> results;
  for (const VerificationEntry& entry : entries) {
    std::vector<EvalResult> own;
    add_scope_results(*entry.spec, scopes, entry.values, own);
    // One result for each scope, but for what compares groups.
    const bool by_scope = own.size() == scopes.all.size() && !entry.spec->equity_scaled;
    for (std::size_t s = 0; s < own.size(); ++s) {
      results.push_back(std::move(own[s]));
      for (EvalResult result : by_scope ? entry.by_class[s] : std::vector<EvalResult>{}) {
        result.group = scopes.all[s].group;
        results.push_back(std::move(result));
      }
    }
  }
  return results;
}

}  // namespace cupel
