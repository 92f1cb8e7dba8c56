// Utility curves of classes counted pair by pair, and integrals of them interval by interval: slow,
// and with nothing in common with the library but the definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "cupel/metric/verification.hpp"
#include "metric/exact_sweep.hpp"

namespace cupel::plain {

struct Pair {
  double value = 0;  ///< distance or similarity
  u32 a = 0, b = 0;  ///< classes
};

struct Pairs {
  PairDomain domain = PairDomain::kL2;
  u32 classes = 0;
  std::vector<Pair> pairs;

  bool accepts(double threshold, const Pair& pair) const {
    return domain == PairDomain::kL2 ? pair.value <= threshold : pair.value >= threshold;
  }
  bool is_of(const Pair& pair, u32 cls, bool positive) const {
    return positive ? pair.a == cls && pair.b == cls
                    : pair.a != pair.b && (pair.a == cls || pair.b == cls);
  }
  u64 count(u32 cls, bool positive) const {
    return static_cast<u64>(std::count_if(
        pairs.begin(), pairs.end(), [&](const Pair& pair) { return is_of(pair, cls, positive); }));
  }
  u64 accepted(u32 cls, bool positive, double threshold) const {
    return static_cast<u64>(std::count_if(pairs.begin(), pairs.end(), [&](const Pair& pair) {
      return is_of(pair, cls, positive) && accepts(threshold, pair);
    }));
  }
  /// Classes with both kinds of pairs.
  std::vector<u32> compared() const {
    std::vector<u32> all;
    for (u32 cls = 0; cls < classes; ++cls) {
      if (count(cls, true) != 0 && count(cls, false) != 0) all.push_back(cls);
    }
    return all;
  }
};

inline ClassCurves curves_of(const Pairs& pairs, std::vector<double> thresholds) {
  ClassCurves curves;
  curves.of = pairs.compared();
  curves.thresholds = std::move(thresholds);
  for (const u32 cls : curves.of) {
    curves.all_pos.push_back(pairs.count(cls, true));
    curves.all_neg.push_back(pairs.count(cls, false));
    for (const double threshold : curves.thresholds) {
      curves.pos.push_back(pairs.accepted(cls, true, threshold));
      curves.neg.push_back(pairs.accepted(cls, false, threshold));
    }
  }
  return curves;
}

/// Equally spaced from strict to loose, as everywhere.
inline std::vector<double> grid(double first, double last, i64 count) {
  std::vector<double> all;
  for (i64 k = 0; k < count; ++k) {
    all.push_back(first + (last - first) * static_cast<double>(k) / static_cast<double>(count - 1));
  }
  all.back() = last;
  return all;
}

struct Integrals {
  double opis = 0, mean = 0, extremes = 0;
  std::vector<double> means, contributions;
};

/// [class] utilities at a threshold, as the harmonic mean is written.
inline std::vector<double> utilities_at(const ClassCurves& curves, std::size_t k, double c) {
  std::vector<double> all;
  for (std::size_t i = 0; i < curves.classes(); ++i) {
    const std::size_t at = i * curves.thresholds.size() + k;
    const double psi = static_cast<double>(curves.pos[at]) / static_cast<double>(curves.all_pos[i]);
    const double phi =
        1 - static_cast<double>(curves.neg[at]) / static_cast<double>(curves.all_neg[i]);
    all.push_back(phi == 0 && psi == 0 ? 0 : (1 + c * c) * phi * psi / (c * c * phi + psi));
  }
  return all;
}

/// Sums of weight times what the utilities at each threshold give; weights add up to 1.
inline Integrals integrals(const ClassCurves& curves, const std::vector<double>& weights, double c,
                           std::size_t extreme, bool ranked_once, int power) {
  Integrals found;
  const std::size_t classes = curves.classes();
  const auto t = static_cast<double>(classes);
  found.means.resize(classes);
  found.contributions.resize(classes);
  std::vector<std::vector<double>> all;
  for (std::size_t k = 0; k < weights.size(); ++k) {
    all.push_back(utilities_at(curves, k, c));
    double mean = 0;
    for (const double u : all[k]) mean += u / t;
    found.mean += weights[k] * mean;
    for (std::size_t i = 0; i < classes; ++i) {
      const double off = all[k][i] - mean;
      found.opis += weights[k] * off * off / t;
      found.contributions[i] += weights[k] * off * off;
      found.means[i] += weights[k] * all[k][i];
    }
  }
  std::vector<std::size_t> order(classes);
  for (std::size_t i = 0; i < classes; ++i) order[i] = i;
  const auto rank = [&](const std::vector<double>& by) {
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return by[a] != by[b] ? by[a] < by[b] : a < b; });
  };
  rank(found.means);
  for (std::size_t k = 0; k < weights.size(); ++k) {
    if (!ranked_once) rank(all[k]);
    double gap = 0;
    for (std::size_t i = 0; i < extreme; ++i) {
      gap += all[k][order[classes - 1 - i]] - all[k][order[i]];
    }
    gap = std::fabs(gap) / static_cast<double>(extreme);
    found.extremes += weights[k] * (power == 1 ? gap : gap * gap);
  }
  return found;
}

/// Over the intervals between neighbouring values in the range.
inline Integrals exact_integrals(const Pairs& pairs, double first, double last, double c,
                                 std::size_t extreme, bool ranked_once, int power) {
  std::vector<double> at{first};
  for (const Pair& pair : pairs.pairs) {
    const bool inside = std::min(first, last) < pair.value && pair.value < std::max(first, last);
    if (inside) at.push_back(pair.value);
  }
  std::sort(at.begin(), at.end());
  at.erase(std::unique(at.begin(), at.end()), at.end());
  if (first > last) std::reverse(at.begin(), at.end());
  std::vector<double> weights;
  for (std::size_t k = 0; k < at.size(); ++k) {
    const double next = k + 1 < at.size() ? at[k + 1] : last;
    weights.push_back((next - at[k]) / (last - first));
  }
  return integrals(curves_of(pairs, at), weights, c, extreme, ranked_once, power);
}

/// What an exact sweep starts from and takes. Values have to be floats.
inline SweepStart start_of(const Pairs& pairs, double first, double last) {
  const ClassCurves curves = curves_of(pairs, {first});
  SweepStart start;
  start.domain = pairs.domain;
  start.first = first;
  start.last = last;
  start.place.assign(pairs.classes, -1);
  for (std::size_t i = 0; i < curves.of.size(); ++i) {
    start.place[curves.of[i]] = static_cast<i32>(i);
  }
  start.pos = curves.pos;
  start.neg = curves.neg;
  start.all_pos = curves.all_pos;
  start.all_neg = curves.all_neg;
  return start;
}

inline std::vector<PairEvent> events_of(const Pairs& pairs, double first, double last) {
  std::vector<PairEvent> events;
  for (const Pair& pair : pairs.pairs) {
    if (pairs.accepts(first, pair) || !pairs.accepts(last, pair)) continue;
    const auto value = static_cast<float>(pair.value);
    const float score = 0.0F + (pairs.domain == PairDomain::kL2 ? 0.0F - value : value);
    events.push_back(
        {~key_of_f32(bits_from_float(score)), std::min(pair.a, pair.b), std::max(pair.a, pair.b)});
  }
  std::sort(events.begin(), events.end(), [](const PairEvent& x, const PairEvent& y) {
    return std::tuple(x.step, x.a, x.b) < std::tuple(y.step, y.a, y.b);
  });
  return events;
}

}  // namespace cupel::plain
