// How many pairs there are of each class.
#pragma once

#include "cupel/state/embedding_pairs.hpp"

namespace cupel {

/// Sets the last column of counts whose other columns are those of the pass: pairs above every cut
/// are those of its rows that are not below one. O(rows + classes * columns).
void count_above_cuts(const EmbeddingView& view, const PairPass& pass, ClassCuts& counts);

}  // namespace cupel
