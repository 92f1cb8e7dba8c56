// Prepares the rows of verification tasks: PreparedTable's `verification`.
#pragma once

#include <functional>

#include "eval/prepare.hpp"

namespace cupel {

/// Loads the bound columns and prepares them, as prepare_table() does for other tasks. The
/// embedding stays where it lies. Errors (kInput), with the first row and the count, unless --nan
/// drop leaves such rows out: NaN or infinite elements, rows of zeros where they are to be
/// normalised, labels that are missing (NaN, an empty text); no elements in a row (d = 0). kUsage:
/// weights, --pos-label of embeddings, --normalize.
Result<PreparedTable> prepare_verification(const Binding& binding, const EvalRequest& request,
                                           i64 first_row, const std::function<void()>& loaded);

}  // namespace cupel
