// From prepared rows of a verification task to results: what compute_results() calls for it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "eval/compute.hpp"

namespace cupel {

/// As compute_results(): passes over all pairs of the rows of each scope, or over pairs with
/// scores.
Result<std::vector<EvalResult>> compute_verification(std::span<const PreparedTable> parts,
                                                     const ComputeRequest& request,
                                                     Backend& backend,
                                                     std::vector<std::string>& states);

}  // namespace cupel
