// Clusters of classes whose calibration scores are alike, for clustered conformal prediction: Ding,
// Angelopoulos, Bates, Jordan, Tibshirani, "Class-conditional conformal prediction with many
// classes", 2023.
#pragma once

#include <span>
#include <vector>

#include "cupel/core/buffer.hpp"
#include "cupel/core/int.hpp"
#include "cupel/math/curve.hpp"

namespace cupel {

/// How many clusters there are to be, and which share of the calibration rows they are made from:
/// the heuristic of the paper, in exact integers. With n_alpha the smallest n that has a threshold,
/// ceil((1 - alpha) / alpha), n_min = max(smallest n_c, n_alpha), K' the classes with n_c >= n_min:
/// clustering rows of a class n_clust = floor(n_min K' / (75 + K')), share n_clust / n_min,
/// clusters floor(n_clust / 2).
struct ClusterPlan {
  i64 n_alpha = 0;
  i64 n_min = 0;
  i64 n_clust = 0;
  i64 clusters = 0;
};
ClusterPlan plan_clusters(std::span<const i64> class_rows, Fraction alpha);

/// Whether a row is one of those that clusters are made from, by its key alone.
bool is_for_clusters(const ClusterPlan& plan, u64 seed, u64 row_key);

struct ClassClusters {
  u32 count = 0;
  std::vector<u32> of_class;  ///< [class]; `count` for classes in no cluster
};

/// The clusters of classes by the quantiles .5, .6, .7, .8, .9 (the ceil(n q)-th smallest) of the
/// scores of their clustering rows: k-means with weights sqrt(n), the best of 10 runs, first
/// centres by k-means++ drawn by the counter generator. Classes with fewer than n_alpha such rows
/// are in no cluster; so are all where there are fewer than two clusters to be. Where there are at
/// least as many as classes left, each is a cluster of its own. Numbered by their lowest class.
/// `scores` has those of the clustering rows, grouped by class: class c has [first[c],
/// first[c + 1]); they are put into ascending order. Depends neither on the order of rows nor on
/// threads: all sums go over classes in ascending order.
/// Time: O(n log n + runs * steps * classes * clusters).
ClassClusters cluster_classes(const ClusterPlan& plan, std::span<i64> scores,
                              std::span<const i64> first, u64 seed);

}  // namespace cupel
