// Which threshold keeps an expected loss below a level: conformal risk control and two bounds that
// hold with high probability.
#pragma once

#include <optional>
#include <span>

#include "cupel/math/curve.hpp"
#include "cupel/state/risk.hpp"

namespace cupel {

/// a < b, exactly.
inline bool less(const Fraction& a, const Fraction& b) {
  return u128{a.num} * b.den < u128{b.num} * a.den;
}

/// What is compared with alpha. Of n losses in [0, B] with mean R and sample variance s^2:
enum class RiskBound : u8 {
  kCrc,        ///< (sum + B) / (n + 1): Angelopoulos, Bates, Fisch, Lei, Schuster 2024
  kHoeffding,  ///< R + B sqrt(ln(1 / delta) / (2 n)): Bates et al. 2021
  kBernstein,  ///< R + sqrt(2 s^2 ln(2 / delta) / n) + 7 B ln(2 / delta) / (3 (n - 1))
};

struct RiskRule {
  RiskBound bound = RiskBound::kCrc;
  Fraction alpha{1, 10};
  Fraction most_loss{1, 1};  ///< B
  Fraction delta{1, 10};     ///< kHoeffding, kBernstein

  friend bool operator==(const RiskRule&, const RiskRule&) = default;
};

/// The bound at one threshold, as a double rounded once (kCrc) or in some steps; nothing where it
/// is not defined: no rows, or one row with kBernstein.
std::optional<double> risk_bound(const RiskSums& sums, std::size_t lambda, const RiskRule& rule);

/// The first threshold from which on the bound is at most alpha; nothing where it is above alpha at
/// the last one. kCrc compares integers; the others compare doubles. Losses do not rise along
/// thresholds, so that with kCrc it is the first threshold at which the bound is at most alpha.
std::optional<std::size_t> first_controlled(const RiskSums& sums, const RiskRule& rule);

/// The mean loss at a threshold, rounded once; sums of at least one row.
double mean_risk(const RiskSums& sums, std::size_t lambda);

/// What a metric of controlled risks is given: the losses of all calibration rows and of the other
/// rows of the scope.
struct RiskEvidence {
  const RiskSums* calibration = nullptr;
  const RiskSums* others = nullptr;
  std::span<const double> lambdas;  ///< [lambda]; empty: they are known by their index
  bool weighted = false;
};

}  // namespace cupel
