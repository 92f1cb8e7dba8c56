// Metrics of a verification task: what they ask of pairs, and their values from the answers. The
// same for embeddings and for pairs with scores.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "eval/compute.hpp"
#include "eval/group_view.hpp"
#include "eval/pair_plan.hpp"

namespace cupel {

/// One metric, what it asks, and its value in each scope.
struct VerificationEntry {
  const MetricSpec* spec = nullptr;
  Needs needs;
  std::vector<ScopedValue> values;                ///< [scope]
  std::vector<std::vector<EvalResult>> by_class;  ///< [scope] with --by-class, where there are any

  bool ranks() const { return spec->metric->scope() == MetricScope::kRanking; }
};

/// Whether the rows are pairs with scores.
bool has_scores(const VerificationRows& rows);

/// The metrics of a request. Errors (kUsage): a metric that the task does not have, or that pairs
/// with scores do not have; no metric at all. Defaults that the dump cannot have are left out.
Result<std::vector<VerificationEntry>> plan_verification(std::span<const PreparedTable> parts,
                                                         const ComputeRequest& request);

/// What some entries ask, each query once.
struct VerificationQuestions {
  PairQuestions questions;
  std::vector<RankQuery> ranks;
  /// [entry] where its queries are: of the ranking, or in the list of their kind.
  std::vector<std::vector<std::size_t>> at;
};
VerificationQuestions questions_of(std::span<VerificationEntry* const> entries);

/// Gives the entries their values in a scope. `evidence` says what the pairs are. With `by_class`
/// also those of classes: each a result where labels are integers, else in the details.
void finish_entries(std::span<VerificationEntry* const> entries,
                    const VerificationQuestions& questions, const PairAnswers& answers,
                    const VerificationEvidence& evidence, std::size_t scope, bool by_class);

/// In the order metric, scope, class.
std::vector<EvalResult> verification_results(std::span<const VerificationEntry> entries,
                                             const Scopes& scopes);

}  // namespace cupel
