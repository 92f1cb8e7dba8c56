// Newton's method for one inverse temperature, kept inside its bounds: the log loss is convex in
// it. Whoever searches takes the slopes, from rows or from a table, at the factors asked for.
#pragma once

#include <algorithm>
#include <cmath>

#include "cupel/metric/fit.hpp"

namespace cupel {

/// The means over rows of the log loss L, of factor * dL/dfactor and of factor^2 * d2L/dfactor2.
struct TemperatureSlope {
  double loss = 0;
  double first = 0;
  double second = 0;
};

/// Asks for the slope at factor() until done(). Plain double arithmetic: equal slopes, equal steps.
class TemperatureSearch {
 public:
  double factor() const { return fit_.factor; }
  bool done() const { return done_; }
  const TemperatureFit& fit() const { return fit_; }

  /// Ends the search where a row's loss has no number.
  void overflow() { end(FitStatus::kOverflow); }

  void take(const TemperatureSlope& slope) {
    ++fit_.steps;
    const double at = fit_.factor;
    if (std::fabs(slope.first) <= kFlat && slope.second <= kFlatCurve) {
      // Either the distances are too small to matter, or so large that nothing is left to gain:
      // the least factor makes the difference, or where it does not, the loss.
      if (at > kLeast) {
        fit_.factor = kLeast;
        at_end_ = true;
        return;
      }
      return end(slope.loss <= kFlat ? FitStatus::kTowardsZero : FitStatus::kFlat);
    }
    if (at_end_)
      return end(slope.first < 0 ? FitStatus::kTowardsZero : FitStatus::kTowardsInfinity);
    // A falling loss wants a larger factor.
    if (slope.first < 0) {
      if (at >= kMost) return end(FitStatus::kTowardsZero);
      low_ = at;
    } else {
      if (at <= kLeast && slope.first > 0) return end(FitStatus::kTowardsInfinity);
      high_ = at;
    }
    const double step = slope.second > 0 ? slope.first / slope.second : HUGE_VAL * slope.first;
    // So small a step is exact: the next would be of its square.
    if (std::fabs(step) <= kSmallStep) {
      fit_.factor = at * (1 - step);
      return end(FitStatus::kConverged);
    }
    if (fit_.steps >= kMostSteps) return end(FitStatus::kUnsettled);
    double next = at * (1 - step);
    // Outside of what the slopes allow: to the bound while there is no other end, else between
    // both.
    if (!(next < high_)) next = high_is_slope() ? std::sqrt(low_ * high_) : kMost;
    if (!(next > low_)) next = low_is_slope() ? std::sqrt(low_ * high_) : kLeast;
    next = std::clamp(next, kLeast, kMost);
    if (next == at) return end(FitStatus::kConverged);
    fit_.factor = next;
  }

 private:
  static constexpr double kLeast = 1 / kMostTemperature;
  static constexpr double kMost = 1 / kLeastTemperature;
  static constexpr double kSmallStep = 1e-9;
  static constexpr i64 kMostSteps = 200;
  /// Below the resolution of a row's terms; and a curve by which such a slope has its zero
  /// anywhere.
  static constexpr double kFlat = 0x1p-43;
  static constexpr double kFlatCurve = 0x1p-33;

  bool low_is_slope() const { return low_ > 0; }
  bool high_is_slope() const { return high_ < HUGE_VAL; }
  void end(FitStatus status) {
    fit_.status = status;
    done_ = true;
  }

  TemperatureFit fit_;
  double low_ = 0;          ///< the largest factor at which the loss falls
  double high_ = HUGE_VAL;  ///< the smallest at which it does not
  bool at_end_ = false;     ///< the loss had no slope at a larger factor
  bool done_ = false;
};

}  // namespace cupel
