// What metrics share that read sorted confidences alone.
#pragma once

#include "metric/rows.hpp"
#include "metric/sorted_bins.hpp"

namespace cupel {

/// A value from one set of sorted confidences: of the positive class, or of the predicted class of
/// several. reduce() makes the value.
class SortedMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kRows; }
  Result<Needs> needs(const Options&, Task task, i64, bool logits) const override {
    Needs needs;
    // Says which rows hold no probabilities.
    needs.rows.brier = !logits;
    needs.confidences = points(task);
    return needs;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    if (const Undefined why = missing_probabilities(evidence); why != Undefined::kNone) {
      return MetricValue::none(why);
    }
    return value_of(evidence.sets, options);
  }

 protected:
  virtual BinPoints points(Task task) const {
    return task == Task::kMulticlass ? BinPoints::kTop : BinPoints::kPositive;
  }
  virtual MetricValue value_of(std::span<const ReducedSet> sets, const Options&) const {
    return sets[0].value;
  }
};

}  // namespace cupel
