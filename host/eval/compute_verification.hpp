// From prepared rows of a verification task to results: what compute_results() calls for it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "eval/compute.hpp"
#include "eval/pair_plan.hpp"

namespace cupel {

/// What passes may take with --mem (bytes; 0: not given): half of it, the rest being rows and
/// counts.
PairLimits pair_limits(i64 memory);

/// As compute_results(): passes over all pairs of the rows of each scope, or over pairs with
/// scores.
Result<std::vector<EvalResult>> compute_verification(std::span<const PreparedTable> parts,
                                                     const ComputeRequest& request,
                                                     Backend& backend,
                                                     std::vector<std::string>& states);
/// With limits of passes of one's own.
Result<std::vector<EvalResult>> compute_verification(std::span<const PreparedTable> parts,
                                                     const ComputeRequest& request,
                                                     Backend& backend,
                                                     std::vector<std::string>& states,
                                                     const PairLimits& limits);

}  // namespace cupel
