// Passes over pairs of an embedding by the pipelines of a device; g++ compiles it as C++20.
#pragma once

#include "cupel/backend/backend.hpp"
#include "pipelines.hpp"

namespace cupel::device {

/// All that a pass collects. False when the device ran out of memory or failed. `keep`: the view's
/// columns have not changed since the last call.
bool pairs_on_device(Pipelines& pipelines, const EmbeddingView& view, const PairPass& pass,
                     bool keep, const PairProgress& progress, PairStates& states);

}  // namespace cupel::device
