// From prepared rows of a regression or a risk task to results: what compute_results() calls for
// these tasks.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "eval/compute.hpp"

namespace cupel {

/// As compute_results(). Default metrics whose columns the dump does not have are left out.
Result<std::vector<EvalResult>> compute_regression(std::span<const PreparedTable> parts,
                                                   const ComputeRequest& request,
                                                   std::vector<std::string>& states);

}  // namespace cupel
