// From each row's nearest rows to the sums of retrieval metrics.
#pragma once

#include <span>
#include <vector>

#include "cupel/metric/verification.hpp"
#include "cupel/state/embedding_pairs.hpp"

namespace cupel {

/// How many of its nearest rows a query needs: the larger of the largest k and, with
/// `by_class_size`, of the other rows of its class; [row]. 0 for rows whose class has no other.
std::vector<u32> wanted_neighbours(const EmbeddingView& view, std::span<const i64> ks,
                                   bool by_class_size);

/// The sums of the queries [first, last), whose lists are complete. O(rows of the lists).
RetrievalSums retrieval_sums(const EmbeddingView& view, const Neighbours& neighbours, i64 first,
                             i64 last, std::span<const i64> ks, bool by_class_size);

}  // namespace cupel
