// How good probabilities are on some rows: log loss, Brier score and calibration error from the
// integers that the metrics of these names sum, so that they have the same bits.
#pragma once

#include <optional>

#include "cupel/metric/metric.hpp"

namespace cupel {

/// The bins of the calibration error: 15 of equal width, (lo, hi].
inline constexpr i64 kHeldOutBins = 15;

class HeldOut {
 public:
  HeldOut() : bins_(static_cast<std::size_t>(bin_slots(kHeldOutBins))) {}
  /// From sums of a spec with log_loss, brier and, as its first query, these bins.
  HeldOut(const RowSums& sums, const BinTotals& bins);

  /// Rows of a binary problem with one logit, or with one probability and what its loss is clipped
  /// by.
  void add_logit(double logit, u128 positive, u128 negative);
  void add_probability(double p, double epsilon, u128 positive, u128 negative);

  u128 mass() const { return mass_; }
  /// Nothing without mass; the log loss also where a row's is beyond the range of the sum.
  std::optional<double> log_loss() const;
  std::optional<double> brier() const;
  std::optional<double> ece() const;

 private:
  struct Bin {
    u128 mass = 0;
    u128 right = 0;
    U256 confidence{};
  };
  void add_loss(double loss, u128 mass);
  void add_pair(double p, u128 positive, u128 negative);

  u128 mass_ = 0;
  U256 log_loss_{};
  U256 brier_{};
  bool overflowed_ = false;
  std::vector<Bin> bins_;  ///< [slot]
};

}  // namespace cupel
