#include "metric/binary_fits.hpp"

#include <algorithm>
#include <cmath>

#include "cupel/math/row_terms.hpp"
#include "cupel/math/tempering.hpp"
#include "metric/compensated_sum.hpp"
#include "metric/exact.hpp"
#include "metric/score_walk.hpp"
#include "metric/temperature_search.hpp"

namespace cupel {
namespace {

using Sum = CompensatedSum;

struct Masses {
  u128 positive = 0;
  u128 negative = 0;
  double all() const { return static_cast<double>(positive + negative); }
};
Masses masses_of(const RankTable& table) {
  Masses masses;
  std::visit(
      [&](const auto& runs) {
        masses.positive = runs.pos.mass();
        masses.negative = runs.neg.mass();
      },
      table.runs());
  return masses;
}

// ---- temperature -------------------------------------------------------------------------------

/// False where a row's loss has no number.
bool slope_at(const RankTable& logits, double factor, double all, TemperatureSlope& slope) {
  Sum loss;
  Sum first;
  Sum second;
  bool fits = true;
  for_each_score(logits, [&](double score, u128 positive, u128 negative) {
    const double x = tempered_logit(score, factor);
    const double p = static_cast<double>(positive) / all;
    const double n = static_cast<double>(negative) / all;
    const double up = sigmoid_det(x);
    const double down = sigmoid_det(-x);
    const double of_positive = log_loss_of_logit(x, true);
    const double of_negative = log_loss_of_logit(x, false);
    fits = fits && (positive == 0 || !is_loss_overflow(of_positive)) &&
           (negative == 0 || !is_loss_overflow(of_negative));
    loss.add(p * of_positive);
    loss.add(n * of_negative);
    first.add((n * up - p * down) * x);
    // A product that is 0 first cannot meet an infinite square.
    second.add((p + n) * ((up * x) * (down * x)));
  });
  slope = {loss.value(), first.value(), second.value()};
  return fits;
}

// ---- Platt -------------------------------------------------------------------------------------

/// Features brought to mean 0 and deviation 1, so that Newton's equations are well conditioned
/// whatever the scale of the scores.
struct Standard {
  double largest = 1;  ///< in magnitude
  double mean = 0;     ///< of feature / largest
  double deviation = 1;
  double operator()(double feature) const { return (feature / largest - mean) / deviation; }
};

struct Line {
  double slope = 0;
  double intercept = 0;
};

class PlattProblem {
 public:
  PlattProblem(const RankTable& table, bool logits, bool smoothed)
      : table_(table), logits_(logits), masses_(masses_of(table)), all_(masses_.all()) {
    if (smoothed) {
      const double unit = table.weighted() ? 0x1p-64 : 1;
      target_of_positive_ = smoothed_target(static_cast<double>(masses_.positive) * unit);
      target_of_negative_ = 1 - smoothed_target(static_cast<double>(masses_.negative) * unit);
    }
    measure();
  }

  bool is_flat() const { return !(least_ < greatest_) || !(standard_.deviation > 0); }
  bool rises() const { return greatest_negative_ <= least_positive_; }
  bool falls() const { return greatest_positive_ <= least_negative_; }
  const Standard& standard() const { return standard_; }
  /// The line that says the share of positives everywhere.
  Line start() const {
    const double p = static_cast<double>(masses_.positive) / all_;
    return {0, std::log(p) - std::log1p(-p)};
  }

  double loss(const Line& line) const {
    Sum sum;
    visit([&](double x, double p, double n) {
      const double z = line.slope * x + line.intercept;
      const double positive = p * target_of_positive_ + n * target_of_negative_;
      sum.add(positive * log1p_exp_det(-z));
      sum.add((p + n - positive) * log1p_exp_det(z));
    });
    return sum.value();
  }

  /// Newton's step, and how much the loss would fall by it if it were a parabola, twice.
  struct Step {
    Line line;
    double gain = 0;
  };
  Step step(const Line& line) const {
    Sum by_slope;
    Sum by_intercept;
    Sum xx;
    Sum x1;
    Sum one;
    visit([&](double x, double p, double n) {
      const double z = line.slope * x + line.intercept;
      const double up = sigmoid_det(z);
      const double down = sigmoid_det(-z);
      const double positive = p * target_of_positive_ + n * target_of_negative_;
      const double residual = (p + n - positive) * up - positive * down;
      const double weight = (p + n) * up * down;
      by_slope.add(residual * x);
      by_intercept.add(residual);
      xx.add(weight * x * x);
      x1.add(weight * x);
      one.add(weight);
    });
    // With the scores centred by these weights the two equations fall apart.
    const double centre = x1.value() / one.value();
    const double spread = xx.value() - centre * x1.value();
    const double g = by_slope.value() - centre * by_intercept.value();
    Step step;
    step.line.slope = -g / spread;
    step.line.intercept = -by_intercept.value() / one.value() - step.line.slope * centre;
    step.gain = g * (g / spread) + by_intercept.value() * (by_intercept.value() / one.value());
    return step;
  }

 private:
  static double smoothed_target(double mass) { return (mass + 1) / (mass + 2); }

  template <class Visit>
  void visit(const Visit& visit) const {
    for_each_score(table_, [&](double score, u128 positive, u128 negative) {
      visit(standard_(platt_feature(score, logits_)), static_cast<double>(positive) / all_,
            static_cast<double>(negative) / all_);
    });
  }

  void measure() {
    for_each_score(table_, [&](double score, u128 positive, u128 negative) {
      const double x = platt_feature(score, logits_);
      least_ = std::min(least_, x);
      greatest_ = std::max(greatest_, x);
      if (positive != 0) {
        least_positive_ = std::min(least_positive_, x);
        greatest_positive_ = std::max(greatest_positive_, x);
      }
      if (negative != 0) {
        least_negative_ = std::min(least_negative_, x);
        greatest_negative_ = std::max(greatest_negative_, x);
      }
    });
    if (!(least_ < greatest_)) return;
    Standard standard;
    standard.largest = std::max(std::fabs(least_), std::fabs(greatest_));
    Sum mean;
    visit_with(standard, [&](double x, double m) { mean.add(m * x); });
    standard.mean = mean.value();
    Sum square;
    visit_with(standard, [&](double x, double m) { square.add(m * x * x); });
    standard.deviation = std::sqrt(square.value());
    standard_ = standard;
  }
  template <class Visit>
  void visit_with(const Standard& standard, const Visit& visit) const {
    for_each_score(table_, [&](double score, u128 positive, u128 negative) {
      visit(standard(platt_feature(score, logits_)),
            static_cast<double>(positive + negative) / all_);
    });
  }

  const RankTable& table_;
  bool logits_;
  Masses masses_;
  double all_;
  double target_of_positive_ = 1;
  double target_of_negative_ = 0;
  Standard standard_;
  double least_ = HUGE_VAL;
  double greatest_ = -HUGE_VAL;
  double least_positive_ = HUGE_VAL;
  double greatest_positive_ = -HUGE_VAL;
  double least_negative_ = HUGE_VAL;
  double greatest_negative_ = -HUGE_VAL;
};

}  // namespace

TemperatureFit fit_temperature(const RankTable& logits) {
  const double all = masses_of(logits).all();
  TemperatureSearch search;
  while (!search.done()) {
    TemperatureSlope slope;
    if (slope_at(logits, search.factor(), all, slope)) {
      search.take(slope);
    } else {
      search.overflow();
    }
  }
  return search.fit();
}

double platt_feature(double score, bool logits) {
  if (logits) return score;
  constexpr double kClip = 1e-12;
  const double p = std::clamp(score, kClip, 1 - kClip);
  return log_det(p) - log_det(1 - p);
}

PlattFit fit_platt(const RankTable& scores, bool logits, bool smoothed) {
  constexpr double kSmallGain = 1e-20;
  constexpr i64 kMostSteps = 200;
  constexpr double kLeastShare = 0x1p-40;
  const PlattProblem problem(scores, logits, smoothed);
  PlattFit fit;
  if (problem.is_flat()) {
    fit.status = PlattStatus::kFlat;
    return fit;
  }
  if (!smoothed && (problem.rises() || problem.falls())) {
    fit.status = problem.rises() ? PlattStatus::kRises : PlattStatus::kFalls;
    return fit;
  }
  Line line = problem.start();
  double loss = problem.loss(line);
  while (fit.status == PlattStatus::kUnsettled && fit.steps < kMostSteps) {
    ++fit.steps;
    const PlattProblem::Step step = problem.step(line);
    const auto along = [&](double share) {
      return Line{line.slope + share * step.line.slope,
                  line.intercept + share * step.line.intercept};
    };
    if (step.gain <= kSmallGain) {
      // The next step would be of the square of this one.
      line = along(1);
      fit.status = PlattStatus::kConverged;
      break;
    }
    double share = 1;
    double next = problem.loss(along(share));
    while (!(next <= loss - 1e-4 * share * step.gain + 1e-15) && share > kLeastShare) {
      share /= 2;
      next = problem.loss(along(share));
    }
    if (share <= kLeastShare) break;
    line = along(share);
    loss = next;
  }
  const Standard& standard = problem.standard();
  fit.slope = line.slope / standard.deviation / standard.largest;
  fit.intercept = line.intercept - line.slope * standard.mean / standard.deviation;
  if (!std::isfinite(fit.slope) || !std::isfinite(fit.intercept)) {
    // Scores within some 1e-308 of each other: times an infinite slope they are no numbers.
    fit.status = PlattStatus::kUnsettled;
  }
  return fit;
}

std::vector<IsotonicBlock> fit_isotonic(const RankTable& scores) {
  std::vector<IsotonicBlock> blocks;
  for_each_score(scores, [&](double score, u128 positive, u128 negative) {
    IsotonicBlock block{score, score, positive, positive + negative, 0};
    while (!blocks.empty() && !(multiply(blocks.back().positive, block.mass) <
                                multiply(block.positive, blocks.back().mass))) {
      block.low = blocks.back().low;
      block.positive += blocks.back().positive;
      block.mass += blocks.back().mass;
      blocks.pop_back();
    }
    blocks.push_back(block);
  });
  for (IsotonicBlock& block : blocks) block.value = exact::ratio(block.positive, block.mass);
  return blocks;
}

double isotonic_at(const std::vector<IsotonicBlock>& blocks, double score, bool linear) {
  const auto after =
      std::upper_bound(blocks.begin(), blocks.end(), score,
                       [](double value, const IsotonicBlock& block) { return value < block.low; });
  if (after == blocks.begin()) return blocks.front().value;
  const IsotonicBlock& block = *(after - 1);
  if (after == blocks.end() || score <= block.high || !linear) return block.value;
  // Halves where the distance is beyond the largest double; elsewhere halves of the least doubles
  // might have no distance.
  const double unit = std::isfinite(after->low - block.high) ? 1 : 0.5;
  const double share = (score * unit - block.high * unit) / (after->low * unit - block.high * unit);
  return block.value + share * (after->value - block.value);
}

}  // namespace cupel
