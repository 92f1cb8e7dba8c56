#include "eval/class_clusters.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "cupel/core/config.hpp"
#include "cupel/math/counter_random.hpp"

namespace cupel {
namespace {

constexpr i64 kPseudoClasses = 75;
constexpr int kQuantiles = 5;
constexpr int kRuns = 10;
constexpr int kMostSteps = 300;
// Draws of one seed for different purposes are apart.
constexpr u64 kShareStream = 0x636C75737465727Au;
constexpr u64 kCentreStream = 0x6B6D65616E732B2Bu;

using Point = std::array<double, kQuantiles>;

/// Sums in one order, products rounded: the same bits wherever it is compiled.
double squared_distance(const Point& a, const Point& b) {
  double sum = 0;
  for (std::size_t i = 0; i < kQuantiles; ++i) {
    const double d = a[i] - b[i];
    const double square = d * d;
    sum = sum + square;
  }
  return sum;
}

/// [0, 1), 53 bits.
double uniform(u64 stream, u64 counter) {
  return static_cast<double>(counter_random(stream, counter) >> 11) * 0x1p-53;
}

class KMeans {
 public:
  KMeans(const std::vector<Point>& points, const std::vector<double>& weights, std::size_t centres)
      : points_(points), weights_(weights), centres_(centres) {}

  /// The cluster of each point, of the run with the smallest weighted sum of squares.
  std::vector<u32> best(u64 seed) {
    std::vector<u32> best;
    double least = 0;
    for (u64 run = 0; run < kRuns; ++run) {
      const double found = one_run(seed ^ kCentreStream, run);
      if (best.empty() || found < least) {
        least = found;
        best = nearest_;
      }
    }
    return best;
  }

 private:
  double one_run(u64 stream, u64 run) {
    first_centres(stream, run);
    double inertia = assign();
    for (int step = 0; step < kMostSteps; ++step) {
      move_centres();
      const std::vector<u32> before = nearest_;
      inertia = assign();
      if (nearest_ == before) break;
    }
    return inertia;
  }

  /// Arthur and Vassilvitskii 2007, weighted.
  void first_centres(u64 stream, u64 run) {
    centre_.clear();
    std::vector<double> chance = weights_;
    std::vector<double> nearest;
    while (centre_.size() < centres_) {
      double all = 0;
      for (const double c : chance) all = all + c;
      const double at = uniform(stream, (run << 32) | centre_.size()) * all;
      double sum = 0;
      std::size_t chosen = 0;
      for (std::size_t i = 0; i < chance.size(); ++i) {
        if (chance[i] > 0) chosen = i;
        sum = sum + chance[i];
        if (sum > at && chance[i] > 0) break;
      }
      centre_.push_back(points_[chosen]);
      for (std::size_t i = 0; i < chance.size(); ++i) {
        const double d = squared_distance(points_[i], centre_.back());
        if (nearest.size() == i) {
          nearest.push_back(d);
        } else {
          nearest[i] = std::min(nearest[i], d);
        }
        chance[i] = weights_[i] * nearest[i];
      }
    }
  }

  /// Ties go to the first centre.
  double assign() {
    nearest_.resize(points_.size());
    double inertia = 0;
    for (std::size_t i = 0; i < points_.size(); ++i) {
      double least = squared_distance(points_[i], centre_[0]);
      u32 at = 0;
      for (u32 c = 1; c < centre_.size(); ++c) {
        const double d = squared_distance(points_[i], centre_[c]);
        if (d < least) {
          least = d;
          at = c;
        }
      }
      nearest_[i] = at;
      const double part = weights_[i] * least;
      inertia = inertia + part;
    }
    return inertia;
  }

  /// A centre without points stays where it is.
  void move_centres() {
    std::vector<Point> sums(centre_.size(), Point{});
    std::vector<double> masses(centre_.size(), 0.0);
    for (std::size_t i = 0; i < points_.size(); ++i) {
      const u32 c = nearest_[i];
      masses[c] = masses[c] + weights_[i];
      for (std::size_t q = 0; q < kQuantiles; ++q) {
        const double part = weights_[i] * points_[i][q];
        sums[c][q] = sums[c][q] + part;
      }
    }
    for (std::size_t c = 0; c < centre_.size(); ++c) {
      if (masses[c] == 0) continue;
      for (std::size_t q = 0; q < kQuantiles; ++q) centre_[c][q] = sums[c][q] / masses[c];
    }
  }

  const std::vector<Point>& points_;
  const std::vector<double>& weights_;
  std::size_t centres_;
  std::vector<Point> centre_;
  std::vector<u32> nearest_;
};

/// Renumbers clusters in the order of their lowest class; `none` stays as it is.
u32 number_clusters(std::vector<u32>& of_class, u32 none) {
  std::vector<u32> number(none, none);
  u32 next = 0;
  for (u32& cluster : of_class) {
    if (cluster == none) continue;
    if (number[cluster] == none) number[cluster] = next++;
    cluster = number[cluster];
  }
  return next;
}

}  // namespace

ClusterPlan plan_clusters(std::span<const i64> class_rows, Fraction alpha) {
  CUPEL_ASSERT(!class_rows.empty() && alpha.num > 0 && alpha.num < alpha.den);
  ClusterPlan plan;
  const u64 kept = alpha.den - alpha.num;
  plan.n_alpha = static_cast<i64>(kept / alpha.num + (kept % alpha.num != 0 ? 1 : 0));
  plan.n_min = std::max(*std::min_element(class_rows.begin(), class_rows.end()), plan.n_alpha);
  const auto enough = static_cast<i64>(std::count_if(class_rows.begin(), class_rows.end(),
                                                     [&](i64 rows) { return rows >= plan.n_min; }));
  plan.n_clust =
      static_cast<i64>(static_cast<i128>(plan.n_min) * enough / (kPseudoClasses + enough));
  plan.clusters = plan.n_clust / 2;
  return plan;
}

bool is_for_clusters(const ClusterPlan& plan, u64 seed, u64 row_key) {
  const u64 u = counter_random(seed ^ kShareStream, row_key);
  return static_cast<u128>(u) * static_cast<u64>(plan.n_min) <
         (static_cast<u128>(static_cast<u64>(plan.n_clust)) << 64);
}

ClassClusters cluster_classes(const ClusterPlan& plan, std::span<i64> scores,
                              std::span<const i64> first, u64 seed) {
  const std::size_t classes = first.size() - 1;
  std::vector<std::size_t> kept;
  std::vector<Point> points;
  std::vector<double> weights;
  for (std::size_t c = 0; c < classes; ++c) {
    const i64 rows = first[c + 1] - first[c];
    if (rows < plan.n_alpha) continue;
    const auto own =
        scores.subspan(static_cast<std::size_t>(first[c]), static_cast<std::size_t>(rows));
    std::sort(own.begin(), own.end());
    Point point{};
    for (i64 q = 0; q < kQuantiles; ++q) {
      const i64 rank = ((q + 5) * rows + 9) / 10;  // ceil((.5 + .1 q) rows)
      point[static_cast<std::size_t>(q)] =
          static_cast<double>(own[static_cast<std::size_t>(rank - 1)]);
    }
    kept.push_back(c);
    points.push_back(point);
    weights.push_back(std::sqrt(static_cast<double>(rows)));
  }
  ClassClusters clusters;
  clusters.of_class.assign(classes, 0);
  if (plan.clusters < 2 || kept.empty()) return clusters;
  const auto wanted = std::min(static_cast<std::size_t>(plan.clusters), kept.size());
  std::vector<u32> of_kept(kept.size());
  if (wanted == kept.size()) {
    for (std::size_t i = 0; i < kept.size(); ++i) of_kept[i] = static_cast<u32>(i);
  } else {
    of_kept = KMeans(points, weights, wanted).best(seed);
  }
  const auto none = static_cast<u32>(wanted);
  std::fill(clusters.of_class.begin(), clusters.of_class.end(), none);
  for (std::size_t i = 0; i < kept.size(); ++i) clusters.of_class[kept[i]] = of_kept[i];
  clusters.count = number_clusters(clusters.of_class, none);
  for (u32& cluster : clusters.of_class) cluster = std::min(cluster, clusters.count);
  return clusters;
}

}  // namespace cupel
