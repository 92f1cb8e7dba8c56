// What is told of sets in JSON: in a set file and in a command's summary.
#pragma once

#include <string>

#include "cupel/report/sets.hpp"
#include "report/json.hpp"

namespace cupel {

/// A result: its sums and, for each alpha, qhat and what its sets sum up to. Rates of no rows are
/// null.
Json json_sets(const SetsResult& result);
/// The `about` of a set file, on one line.
std::string about_sets(const SetsResult& result, SetsLayout layout);

}  // namespace cupel
