#include "eval/prepare_verification.hpp"

namespace cupel {

Result<PreparedTable> prepare_verification(const Binding&, const EvalRequest&, i64,
                                           const std::function<void()>&) {
  return usage_error("verification tasks are not read yet");
}

}  // namespace cupel
