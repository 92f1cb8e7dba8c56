// Row sums on the CPU: one pass over the scores for everything that a spec asks. Rows go through
// blocks that stay in L1: values to floats, their terms by vector code, then integer sums by
// segment, so that neither the number of threads nor the borders of blocks can be seen in the
// result.
#pragma once

#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/core/result.hpp"
#include "cupel/state/row_sums.hpp"

namespace cupel {

class ThreadPool;

/// Backend::row_sums(): [problem][cell], as TableView and RowSums define them.
///
/// Binary and multilabel: decisions compare the score itself (a logit on the logit scale) with the
/// threshold, exactly for every dtype. Multiclass: the rank of the label, and with it the arg-max,
/// compares the column's values exactly, logits too, so that logits keep their order where their
/// softmax rounds to one value; spec.thresholds has at most one entry. top_k counts for multiclass
/// only, exact_match for multilabel only.
/// Counters count rows, those of mass 0 too. Shapes are complete for 0 rows.
///
/// Errors: kInput for more classes than a row may have (2^23 of logits, 2^31 - 1 of probabilities);
/// kInternal when memory runs out. Cost: one read of the table. Memory: the sums once per thread
/// (fewer times where they are large), and per thread up to 200 bytes per class.
Result<std::vector<std::vector<RowSums>>> cpu_row_sums(const TableView& table, const RowSpec& spec,
                                                       ThreadPool& pool);

}  // namespace cupel
