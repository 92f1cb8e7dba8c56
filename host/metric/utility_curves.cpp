#include "metric/utility_curves.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "cupel/core/config.hpp"
#include "metric/compensated_sum.hpp"

namespace cupel {
namespace {

/// The curves read threshold by threshold.
class Curves {
 public:
  Curves(const ClassCurves& curves, const CurveQuery& query)
      : curves_(curves),
        c2_(squared_weight(query)),
        trapezoid_(query.rule != IntegrationRule::kMean) {}

  std::size_t classes() const { return curves_.classes(); }
  std::size_t thresholds() const { return curves_.thresholds.size(); }
  double weight(std::size_t k) const {
    if (!trapezoid_) return 1.0 / static_cast<double>(thresholds());
    const double step = 1.0 / static_cast<double>(thresholds() - 1);
    return k == 0 || k + 1 == thresholds() ? step / 2 : step;
  }
  void read(std::size_t k, std::vector<double>& utilities) const {
    for (std::size_t i = 0; i < classes(); ++i) {
      const std::size_t at = i * thresholds() + k;
      utilities[i] =
          utility(c2_, curves_.pos[at], curves_.all_pos[i], curves_.neg[at], curves_.all_neg[i]);
    }
  }

 private:
  const ClassCurves& curves_;
  double c2_;
  bool trapezoid_;
};

double mean_of(std::span<const double> values) {
  CompensatedSum sum;
  for (const double value : values) sum.add(value);
  return sum.value() / static_cast<double>(values.size());
}

double powered(double gap, int power) { return power == 1 ? std::fabs(gap) : gap * gap; }

/// The best classes' mean less the worst ones', ranked at one threshold.
double pointwise_gap(std::vector<double>& utilities, std::size_t count) {
  std::sort(utilities.begin(), utilities.end());
  return mean_of(std::span(utilities).last(count)) - mean_of(std::span(utilities).first(count));
}

/// Averaged over thresholds: the power of the gap between the classes that are best and worst by
/// their means over the range; of equal means the class that comes first is the worse one.
double ranked_gap(const Curves& curves, const std::vector<ClassUtility>& classes, std::size_t count,
                  int power) {
  std::vector<std::size_t> order(classes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return classes[a].mean < classes[b].mean; });
  std::vector<double> utilities(classes.size());
  std::vector<double> worst(count);
  std::vector<double> best(count);
  CompensatedSum sum;
  for (std::size_t k = 0; k < curves.thresholds(); ++k) {
    curves.read(k, utilities);
    for (std::size_t i = 0; i < count; ++i) {
      worst[i] = utilities[order[i]];
      best[i] = utilities[order[order.size() - count + i]];
    }
    sum.add(curves.weight(k) * powered(mean_of(best) - mean_of(worst), power));
  }
  return sum.value();
}

}  // namespace

double squared_weight(const CurveQuery& query) {
  const double c = static_cast<double>(query.c.num) / static_cast<double>(query.c.den);
  return c * c;
}

u64 share_of(const Fraction& share, u64 classes) {
  const u128 product = static_cast<u128>(share.num) * classes;
  return std::max<u64>(1, static_cast<u64>((product + share.den - 1) / share.den));
}

CurveSummary summarise_curves(const ClassCurves& curves, const CurveQuery& query) {
  const Curves all(curves, query);
  const std::size_t classes = all.classes();
  CUPEL_ASSERT(classes > 0 && all.thresholds() >= 2);
  const std::size_t count = static_cast<std::size_t>(share_of(query.epsilon, classes));

  CurveSummary summary;
  summary.classes.resize(classes);
  std::vector<double> utilities(classes);
  std::vector<CompensatedSum> means(classes);
  std::vector<CompensatedSum> squares(classes);
  CompensatedSum opis;
  CompensatedSum mean_utility;
  CompensatedSum extremes;
  for (std::size_t k = 0; k < all.thresholds(); ++k) {
    all.read(k, utilities);
    const double weight = all.weight(k);
    const double mean = mean_of(utilities);
    CompensatedSum variance;
    for (std::size_t i = 0; i < classes; ++i) {
      const double square = (utilities[i] - mean) * (utilities[i] - mean);
      variance.add(square);
      means[i].add(weight * utilities[i]);
      squares[i].add(weight * square);
      ClassUtility& one = summary.classes[i];
      if (k == 0 || utilities[i] < one.worst) {
        one.worst = utilities[i];
        one.worst_at = k;
      }
    }
    summary.mean_curve.push_back(mean);
    opis.add(weight * (variance.value() / static_cast<double>(classes)));
    mean_utility.add(weight * mean);
    if (query.extremes && !query.ranked_once) {
      extremes.add(weight * powered(pointwise_gap(utilities, count), query.power));
    }
  }
  for (std::size_t i = 0; i < classes; ++i) {
    summary.classes[i].mean = means[i].value();
    summary.classes[i].contribution = squares[i].value() / static_cast<double>(classes);
  }
  summary.opis = opis.value();
  summary.mean_utility = mean_utility.value();
  if (query.extremes) {
    summary.extremes =
        query.ranked_once ? ranked_gap(all, summary.classes, count, query.power) : extremes.value();
  }
  return summary;
}

}  // namespace cupel
