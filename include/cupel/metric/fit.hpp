// How a fit of one temperature ended.
#pragma once

#include "cupel/core/int.hpp"

namespace cupel {

/// Temperatures are sought between these.
inline constexpr double kLeastTemperature = 0.05;
inline constexpr double kMostTemperature = 20;

enum class FitStatus : u8 {
  kConverged,
  kTowardsZero,      ///< the log loss still falls at the least temperature
  kTowardsInfinity,  ///< it still falls at the greatest
  kFlat,             ///< it does not depend on the temperature
  kOverflow,         ///< it is beyond the range of the sum at a temperature that was tried
  kUnsettled,        ///< too many steps
};

/// The inverse temperature that was found; of kConverged alone it is an optimum.
struct TemperatureFit {
  FitStatus status = FitStatus::kUnsettled;
  double factor = 1;
  i64 steps = 0;  ///< times that the slope was taken
};

}  // namespace cupel
