// Rows of conformal sets in strata: by what they are stratified, how each fares.
#pragma once

#include <span>
#include <vector>

#include "cupel/metric/detail.hpp"
#include "cupel/metric/options.hpp"
#include "cupel/state/conformal.hpp"
#include "metric/exact.hpp"

namespace cupel {

/// What lists of details show at most.
inline constexpr std::size_t kMostShownStrata = 200;

/// Rows whose size or rank is in [first, last].
struct Stratum {
  i64 first = 0;
  i64 last = 0;
  SetTally tally;
};

/// The strata [base, ends[0]], [ends[0] + 1, ends[1]], ... of tallies of base, base + 1, ... Values
/// above the last end are in none.
std::vector<Stratum> make_strata(std::span<const SetTally> tallies, i64 base,
                                 const std::vector<i64>& ends);

/// |covered / rows - (1 - alpha)|; rows > 0.
exact::Rational coverage_violation(const SetTally& tally, const Fraction& alpha);

}  // namespace cupel
