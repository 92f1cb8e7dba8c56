// The shapes of prediction problems.
#pragma once

#include <string_view>

#include "cupel/core/int.hpp"

namespace cupel {

enum class Task : u8 { kBinary, kMulticlass, kMultilabel, kRegression, kRisk, kVerification };
/// "binary", "multiclass", "multilabel", "regression", "risk", "verification".
std::string_view task_name(Task task);

}  // namespace cupel
