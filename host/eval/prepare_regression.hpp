// Prepares the rows of regression and risk tasks: PreparedTable's `regression` and `risk`.
#pragma once

#include <functional>

#include "eval/prepare.hpp"

namespace cupel {

/// Loads the bound columns and prepares them, as prepare_table() does for other tasks. Columns are
/// used where they lie when they are float64, contiguous and aligned and no row is left out; else
/// they are copied, 8 bytes a value. Errors (kInput), with the first row and the count, unless
/// --nan drop leaves such rows out: NaN or infinite values, sigma that is not above 0, lower above
/// upper. kUsage: --pos-label, --normalize.
Result<PreparedTable> prepare_regression(const Binding& binding, const EvalRequest& request,
                                         i64 first_row, const std::function<void()>& loaded);

/// The same for the losses of a risk task; lambdas are finite, whatever --nan says.
Result<PreparedTable> prepare_risk(const Binding& binding, const EvalRequest& request,
                                   i64 first_row, const std::function<void()>& loaded);

}  // namespace cupel
