// rule=exact over the pairs of an embedding: lists of pairs inside the range, in as many passes as
// memory asks for.
#pragma once

#include <span>
#include <vector>

#include "backend/thread_pool.hpp"
#include "eval/pair_runner.hpp"
#include "metric/exact_sweep.hpp"

namespace cupel {

struct ExactTask {
  GapRange range;  ///< behind the cut of the first threshold, up to that of the last
  SweepStart start;
  std::vector<float> known;        ///< cuts from range.low to range.high, ascending
  std::vector<u64> pairs_up_to;    ///< [known]
  const PairList* list = nullptr;  ///< where all pairs of the range are known already
  i64 bytes = 0;                   ///< of lists and events
};

struct ExactFound {
  std::vector<ExactCurves> curves;  ///< [query]
  i64 passes = 0;
  i64 blocks = 0;  ///< of events
};

/// Queries of one range. Errors: those of passes.
Result<ExactFound> exact_curves(const EmbeddingView& view, std::span<const CurveQuery> queries,
                                const ExactTask& task, ThreadPool& pool, PairRunner& runner);

}  // namespace cupel
