// Losses as integers: rounded once, to 10^-12, so that sums of them do not depend on an order and
// decimals are what they say. 0.2 + 0.1 + 0.2 is 0.5 here, and is above it in doubles.
#pragma once

#include "cupel/core/int.hpp"

namespace cupel {

/// Units in a loss of 1.
inline constexpr i64 kLossOne = 1'000'000'000'000;
/// The largest loss there may be, so that a loss has fewer than 2^60 units.
inline constexpr double kMostLoss = 1e6;

/// round-half-even of the double loss * 10^12; 0 <= loss <= kMostLoss. Monotone in the loss. Exact
/// of decimals below 4000 with at most 12 digits behind the point.
CUPEL_HD CUPEL_INLINE i64 loss_units(double loss) {
  const double scaled = loss * 1e12;
  // 2^52 + y has a unit of 1, so the sum rounds y; from 2^52 on y is an integer already.
  return static_cast<i64>(scaled < 0x1p52 ? (scaled + 0x1p52) - 0x1p52 : scaled);
}

}  // namespace cupel
