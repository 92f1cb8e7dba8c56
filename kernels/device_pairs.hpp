// Passes over pairs of an embedding by the pipelines of a device; g++ compiles it as C++20.
#pragma once

#include "cupel/backend/backend.hpp"
#include "pipelines.hpp"

namespace cupel::device {

/// What of a pass a device leaves to the host.
PairPass left_to_host(const EmbeddingView& view, const PairPass& pass);
/// Whether a pass collects anything.
bool asks_for_something(const PairPass& pass);

/// The rest. False when the device ran out of memory or failed. `keep`: the view's columns have not
/// changed since the last call.
bool pairs_on_device(Pipelines& pipelines, const EmbeddingView& view, const PairPass& pass,
                     bool keep, const PairProgress& progress, PairStates& states);

}  // namespace cupel::device
