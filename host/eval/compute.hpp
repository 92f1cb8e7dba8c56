// From prepared rows to results: states per cell, merged into scopes (everyone, each group, each
// intersection), read by metrics, averaged over classes, compared between groups.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/eval/evaluate.hpp"
#include "cupel/metric/metric.hpp"
#include "eval/prepare.hpp"

namespace cupel {

struct ComputeRequest {
  std::vector<MetricSpec> metrics;
  std::vector<std::string> group_columns;
  bool intersect = false;
  bool by_class = false;
  /// Which rows metrics see where the parts hold both halves for fits (PreparedTable's
  /// calibration_cells); fits see all.
  RowSplit split = RowSplit::kAll;
  u64 seed = 0;    ///< of what metrics draw
  i64 memory = 0;  ///< bytes that states of one block of classes may take; 0: a default
  int threads = 1;
  // Of a verification task.
  std::optional<PairDomain> domain;
  std::optional<bool> normalize_embedding;
  std::function<void(u64 done, u64 all)> pairs_progress;  ///< pairs of all passes planned so far
  std::vector<EvalRows>* rows = nullptr;  ///< joined by the rows of selections, where wanted
};

/// Whether a metric is fitted on calibration rows, or takes a threshold from them, so that both
/// halves have to be prepared.
bool has_fits(std::span<const MetricSpec> metrics);
/// Whether a metric draws something for each row (randomised scores, clusters), so that rows need
/// keys.
bool has_draws(std::span<const MetricSpec> metrics);
/// Whether a metric takes features of rows: these have to be prepared, with keys of rows.
bool has_features(std::span<const MetricSpec> metrics);
/// Whether some metric scales residuals: conformal=normalized.
bool has_scales(std::span<const MetricSpec> metrics);
/// Whether some metric of a regression compares with a level that it does not name itself.
bool has_levels(std::span<const MetricSpec> metrics);
/// Errors (kUsage): a metric that the task does not have; one that compares groups without any.
Result<void> check_metric(const MetricSpec& spec, Task task,
                          const std::vector<std::string>& group_columns);
/// Whether a metric draws something for each row (randomised scores, clusters), so that rows need
/// keys.
bool has_draws(std::span<const MetricSpec> metrics);
/// The kUsage error of a metric that needs both halves where nothing says which rows are for
/// calibration.
Error fit_without_split(const MetricSpec& spec);

/// Evaluates the parts as one table (`parts` are shards with equal task, classes, dtype; one for an
/// ordinary dump). Results in the order metric, scope, class; `dump` is left empty. `states` lists
/// what was built, for the plan.
Result<std::vector<EvalResult>> compute_results(std::span<const PreparedTable> parts,
                                                const ComputeRequest& request, Backend& backend,
                                                std::vector<std::string>& states);

}  // namespace cupel
