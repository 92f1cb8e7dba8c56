// From lists of pairs to what the sweep of rule=exact takes: events in order, in blocks that fit.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "backend/thread_pool.hpp"
#include "cupel/metric/verification.hpp"
#include "cupel/state/embedding_pairs.hpp"
#include "metric/exact_sweep.hpp"

namespace cupel {

/// Called with blocks of events that ascend by (step, a, b), each step in one of them.
using EventSink = std::function<void(std::span<const PairEvent>)>;

/// The pairs of a list whose gap is in a range whose ends are those of keys, in order. Blocks take
/// at most about `bytes`, but a step is never cut. O(pairs) for each block, and its sort.
void each_event_block(const EmbeddingView& view, const PairList& list, const GapRange& range,
                      i64 bytes, ThreadPool& pool, const EventSink& sink);

/// Sorts by (step, a, b).
void sort_events(std::vector<PairEvent>& events, ThreadPool& pool);

}  // namespace cupel
