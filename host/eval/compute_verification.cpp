#include "eval/compute_verification.hpp"

namespace cupel {

Result<std::vector<EvalResult>> compute_verification(std::span<const PreparedTable>,
                                                     const ComputeRequest&, Backend&,
                                                     std::vector<std::string>&) {
  return usage_error("verification tasks are not computed yet");
}

}  // namespace cupel
