// Error rates of classes at one threshold.
#pragma once

#include <vector>

#include "cupel/metric/verification.hpp"

namespace cupel {

struct ClassRate {
  u32 cls = 0;  ///< index into VerificationEvidence::class_names
  double rate = 0;
  u64 pairs = 0;   ///< of which the rate is a share
  u64 errors = 0;  ///< pairs with others accepted, or the class's own rejected
};

/// Of each class of curves with one threshold, in their order: the false accept rate (`accept`,
/// accepted pairs with other classes), or the false reject rate (pairs of the class not accepted).
/// Each rounded once. Without curves of one threshold: none. O(classes).
std::vector<ClassRate> class_rates(const VerificationEvidence& evidence, bool accept);

}  // namespace cupel
