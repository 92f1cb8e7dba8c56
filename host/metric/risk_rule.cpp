#include <cmath>

#include "cupel/metric/risk_control.hpp"
#include "metric/exact.hpp"

namespace cupel {
namespace {

/// (sum + B) / (n + 1)
exact::Rational crc_bound(const RiskSums& sums, std::size_t lambda, const RiskRule& rule) {
  const exact::Rational sum(exact::integer(sums.losses[lambda]), exact::Integer(kLossOne));
  const exact::Rational rows(exact::Integer(sums.rows) + 1);
  return (sum + exact::rational(rule.most_loss)) / rows;
}

/// The sample variance of the losses; at least two rows.
double variance(const RiskSums& sums, std::size_t lambda) {
  const exact::Integer n(sums.rows);
  const exact::Integer sum = exact::integer(sums.losses[lambda]);
  const exact::Integer around = exact::integer(sums.squares[lambda]) * n - sum * sum;
  const exact::Integer unit = exact::Integer(kLossOne) * kLossOne;
  return exact::to_double(around, unit * n * (n - 1));
}

double number(const Fraction& fraction) { return exact::to_double(exact::rational(fraction)); }

}  // namespace

double mean_risk(const RiskSums& sums, std::size_t lambda) {
  return exact::ratio(sums.losses[lambda], u128{sums.rows} * static_cast<u64>(kLossOne));
}

std::optional<double> risk_bound(const RiskSums& sums, std::size_t lambda, const RiskRule& rule) {
  if (sums.rows == 0) return std::nullopt;
  const auto rows = static_cast<double>(sums.rows);
  const double most = number(rule.most_loss);
  switch (rule.bound) {
    case RiskBound::kCrc:
      return exact::to_double(crc_bound(sums, lambda, rule));
    case RiskBound::kHoeffding:
      return mean_risk(sums, lambda) + most * std::sqrt(-std::log(number(rule.delta)) / (2 * rows));
    case RiskBound::kBernstein: {
      if (sums.rows < 2) return std::nullopt;
      const double log = std::log(2 / number(rule.delta));
      return mean_risk(sums, lambda) + std::sqrt(2 * variance(sums, lambda) * log / rows) +
             7 * most * log / (3 * (rows - 1));
    }
  }
  return std::nullopt;
}

std::optional<std::size_t> first_controlled(const RiskSums& sums, const RiskRule& rule) {
  const auto controlled = [&](std::size_t lambda) {
    if (rule.bound == RiskBound::kCrc) {
      return sums.rows != 0 && crc_bound(sums, lambda, rule) <= exact::rational(rule.alpha);
    }
    const auto bound = risk_bound(sums, lambda, rule);
    return bound && *bound <= number(rule.alpha);
  };
  std::size_t first = sums.losses.size();
  while (first > 0 && controlled(first - 1)) --first;
  if (first == sums.losses.size()) return std::nullopt;
  return first;
}

}  // namespace cupel
