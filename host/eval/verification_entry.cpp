#include "eval/verification_entry.hpp"

#include <fmt/format.h>

#include <algorithm>

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

/// Why pairs with scores do not have what a metric asks; empty: they do.
std::string missing_of_scores(const VerificationRows& rows, const VerificationQuery& query) {
  if (query.retrieval)
    return "looks for the nearest rows of each row, and pairs with scores are not rows";
  if (rows.class_a.empty() && rows.rows != 0) {
    return "needs the classes of both sides of each pair, which this dump does not have";
  }
  return {};
}

const char* domain_name(PairDomain domain) { return domain == PairDomain::kL2 ? "l2" : "cosine"; }

}  // namespace

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
    if (rows.score.data != nullptr && entry.needs.verification) {
      const std::string missing = missing_of_scores(rows, *entry.needs.verification);
      if (!missing.empty() && spec.is_default) continue;
      if (!missing.empty()) {
        return usage_error(fmt::format("'{}' {}", spec.name, missing),
                           entry.needs.verification->retrieval
                               ? "give the embeddings with --embedding and their --label"
                               : "name them with --class-a and --class-b");
      }
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
                    const VerificationEvidence& evidence, std::size_t scope) {
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
    value.n_pos = static_cast<i64>(own.pos);
    value.n_neg = static_cast<i64>(own.neg);
    if (entry.ranks()) {
      ranks = summary;
      ranks.answers.clear();
      for (const std::size_t q : at) ranks.answers.push_back(summary.answers[q]);
      e.ranks = &ranks;
      e.table = entry.needs.table ? &answers.ranks : nullptr;
      own.passes = answers.rank_passes;
      value.support = ranks.pos;
    } else if (const VerificationQuery& query = *entry.needs.verification; query.retrieval) {
      own.retrieval = &answers.retrieval[at[0]];
      own.passes = answers.retrieval_passes;
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
      own.passes = answer.passes;
    }
    value.value = entry.spec->metric->finish(e, entry.spec->options);
    value.params = entry.spec->metric->params(entry.spec->options, e);
    if (entry.ranks() && !own.scored) {
      value.params.emplace_back("domain", domain_name(own.domain));
      value.params.emplace_back("normalize", own.normalize);
    }
  }
}

std::vector<EvalResult> verification_results(std::span<const VerificationEntry> entries,
                                             const Scopes& scopes) {
  std::vector<EvalResult> results;
  for (const VerificationEntry& entry : entries) {
    add_scope_results(*entry.spec, scopes, entry.values, results);
  }
  return results;
}

}  // namespace cupel
