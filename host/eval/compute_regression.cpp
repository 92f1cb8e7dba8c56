#include "eval/compute_regression.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "eval/group_view.hpp"
#include "eval/interval_passes.hpp"
#include "eval/risk.hpp"
#include "eval/scopes.hpp"
#include "eval/selection.hpp"

namespace cupel {
namespace {

/// One metric, what it asks, and its value in each scope.
struct Entry {
  const MetricSpec* spec = nullptr;
  Needs needs;
  std::vector<ScopedValue> values;  ///< [scope]
};

class RegressionComputer {
 public:
  RegressionComputer(std::span<const PreparedTable> parts, const ComputeRequest& request,
                     std::vector<std::string>& states)
      : parts_(parts), request_(request), states_(states) {}

  Result<std::vector<EvalResult>> run() {
    cells_ = unite_cells(parts_);
    scopes_ = make_scopes(cells_.keys, request_.group_columns, request_.intersect);
    if (auto planned = plan(); !planned) return planned.error();
    for (Entry& entry : entries_) entry.values.resize(scopes_.all.size());
    if (auto done = compute_errors(); !done) return done.error();
    compute_intervals();
    if (auto done = compute_selections(); !done) return done.error();
    if (auto done = compute_risks(); !done) return done.error();
    std::vector<EvalResult> results;
    for (const Entry& entry : entries_) {
      add_scope_results(*entry.spec, scopes_, entry.values, results);
    }
    return results;
  }

 private:
  Task task() const { return parts_.front().view.task; }
  bool has_halves() const { return parts_.front().has_halves; }
  bool weighted() const {
    return task() == Task::kRisk ? parts_.front().risk->weighted
                                 : parts_.front().regression->weighted;
  }

  Result<void> plan() {
    for (const MetricSpec& spec : request_.metrics) {
      if (auto fits = check_metric(spec, task(), request_.group_columns); !fits) {
        return fits.error();
      }
      Entry entry;
      entry.spec = &spec;
      auto needs = spec.metric->needs(spec.options, task(), parts_.front().view.classes, false);
      if (!needs) return needs.error();
      entry.needs = std::move(*needs);
      if (entry.needs.interval) {
        IntervalQuery& query = *entry.needs.interval;
        const auto rule = interval_rule(query, *parts_.front().regression, has_halves());
        if (!rule && spec.is_default) continue;
        if (!rule) return rule.error();
        query.rule = *rule;
        if (*rule != IntervalRule::kGiven && !has_halves()) return fit_without_split(spec);
        if (query.by_group && request_.group_columns.empty()) {
          return usage_error(
              fmt::format("mode=group of '{}' takes a threshold for each group", spec.name),
              "name the group column with --group");
        }
      }
      if (entry.needs.errors) {
        const RegressionView& rows = *parts_.front().regression;
        const bool one = rows.pred != nullptr && rows.models == 1;
        if (!one && spec.is_default) continue;
        if (rows.pred == nullptr) {
          return input_error(
              "", fmt::format("there is no array for the predictions that '{}' takes", spec.name),
              "name it with --pred");
        }
        if (!one) {
          return usage_error(fmt::format("the predictions are of {} models, and '{}' is of one",
                                         rows.models, spec.name),
                             "name a column of one model with --pred");
        }
      }
      if (spec.metric->scope() == MetricScope::kSelection && !has_halves()) {
        return fit_without_split(spec);
      }
      entries_.push_back(std::move(entry));
    }
    if (entries_.empty()) {
      return usage_error(fmt::format("this {} dump has no default metric", task_name(task())),
                         "name metrics with --metrics; 'cupel metrics' lists all");
    }
    return {};
  }

  // ---- which rows ------------------------------------------------------------------------------

  /// The cells of a scope that are not for calibration.
  std::vector<u32> others(const Scope& scope) const {
    std::vector<u32> kept = scope.cells;
    if (has_halves()) std::erase_if(kept, [&](u32 cell) { return cells_.calibration[cell]; });
    return kept;
  }
  /// The cells of a scope that --split leaves.
  std::vector<u32> in_split(const Scope& scope) const {
    std::vector<u32> kept = scope.cells;
    if (has_halves() && request_.split != RowSplit::kAll) {
      const bool wanted = request_.split == RowSplit::kCalibration;
      std::erase_if(kept, [&](u32 cell) { return cells_.calibration[cell] != wanted; });
    }
    return kept;
  }

  Evidence evidence() const {
    Evidence e;
    e.task = task();
    e.classes = parts_.front().view.classes;
    return e;
  }

  void finish(Entry& entry, std::size_t scope, const Evidence& e, u64 rows) {
    ScopedValue& value = entry.values[scope];
    value.value = entry.spec->metric->finish(e, entry.spec->options);
    value.params = entry.spec->metric->params(entry.spec->options, e);
    value.n = static_cast<i64>(rows);
  }

  // ---- errors of predictions -------------------------------------------------------------------

  Result<void> compute_errors() {
    const auto wanted = [](const Entry& entry) { return entry.needs.errors; };
    if (std::none_of(entries_.begin(), entries_.end(), wanted)) return {};
    states_.push_back(fmt::format("errors of predictions x {} cell{}", cells_.keys.size(),
                                  cells_.keys.size() == 1 ? "" : "s"));
    const std::vector<ErrorSums> of_cell = error_sums(parts_, cells_, request_.threads);
    for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
      ErrorSums sums;
      for (const u32 cell : in_split(scopes_.all[s])) sums.merge(of_cell[cell]);
      Evidence e = evidence();
      e.errors = {&sums, weighted()};
      for (Entry& entry : entries_) {
        if (wanted(entry)) finish(entry, s, e, sums.rows);
      }
    }
    return {};
  }

  // ---- intervals -------------------------------------------------------------------------------

  /// Queries one after another, so that no more than one has its widths in memory.
  void compute_intervals() {
    std::vector<bool> done(entries_.size(), false);
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (done[i] || !entries_[i].needs.interval) continue;
      std::vector<Entry*> same;
      for (std::size_t j = i; j < entries_.size(); ++j) {
        if (entries_[j].needs.interval != entries_[i].needs.interval) continue;
        done[j] = true;
        same.push_back(&entries_[j]);
      }
      compute_query(*entries_[i].needs.interval, same);
    }
  }

  void compute_query(const IntervalQuery& query, const std::vector<Entry*>& entries) {
    const IntervalThresholds thresholds = interval_thresholds(parts_, cells_, query, *query.rule);
    const bool given = query.rule == IntervalRule::kGiven;
    states_.push_back(given ? std::string("intervals as they are")
                            : fmt::format("{} interval threshold{} of {} rows",
                                          thresholds.of_category.size(),
                                          thresholds.of_category.size() == 1 ? "" : "s",
                                          thresholds.calibration_rows));
    const std::vector<IntervalSums> of_cell =
        interval_sums(parts_, cells_, thresholds, request_.threads);
    const bool asks_widths = std::any_of(entries.begin(), entries.end(), [](const Entry* entry) {
      return entry->needs.interval_widths;
    });
    std::optional<IntervalWidths> widths;
    if (asks_widths) widths.emplace(parts_, cells_, thresholds);
    for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
      const std::vector<u32> cells = given ? in_split(scopes_.all[s]) : others(scopes_.all[s]);
      IntervalSums sums;
      for (const u32 cell : cells) sums.merge(of_cell[cell]);
      IntervalEvidence own;
      own.query = query;
      own.weighted = weighted();
      own.calibration_rows = thresholds.calibration_rows;
      own.sums = &sums;
      if (widths) own.widths = widths->of(cells);
      name_thresholds(thresholds, cells.empty() ? scopes_.all[s].cells : cells, own);
      Evidence e = evidence();
      e.interval = &own;
      for (Entry* entry : entries) finish(*entry, s, e, sums.rows);
    }
  }

  /// The thresholds of the categories of some cells. O(cells log cells).
  static void name_thresholds(const IntervalThresholds& thresholds, const std::vector<u32>& cells,
                              IntervalEvidence& evidence) {
    if (thresholds.of_category.empty()) return;
    std::vector<u32> used;
    for (const u32 cell : cells) used.push_back(thresholds.category[cell]);
    std::sort(used.begin(), used.end());
    used.erase(std::unique(used.begin(), used.end()), used.end());
    for (const u32 category : used) {
      evidence.thresholds.push_back(thresholds.of_category[category]);
      evidence.names.push_back(thresholds.names[category]);
    }
  }

  // ---- selections and risks --------------------------------------------------------------------

  Result<void> compute_selections() {
    std::vector<Entry*> entries;
    for (Entry& entry : entries_) {
      if (entry.needs.selection) entries.push_back(&entry);
    }
    if (entries.empty()) return {};
    std::vector<SelectionQuery> queries;
    std::vector<std::size_t> query_of;  // [entry]
    for (const Entry* entry : entries) {
      const auto at = std::find(queries.begin(), queries.end(), *entry->needs.selection);
      query_of.push_back(static_cast<std::size_t>(at - queries.begin()));
      if (at == queries.end()) queries.push_back(*entry->needs.selection);
    }
    const auto states =
        selection_states(parts_, cells_.of_part, cells_.calibration, queries, request_.seed);
    if (!states) return states.error();
    states_.push_back(fmt::format("{} selection{} among {} rows", queries.size(),
                                  queries.size() == 1 ? "" : "s", states->rows.size()));
    if (request_.rows != nullptr && weighted()) {
      return usage_error("--per-item lists what is selected, and of weighted rows nothing is",
                         "evaluate a dump without a weight column");
    }
    for (std::size_t q = 0; q < queries.size() && request_.rows != nullptr; ++q) {
      const auto first = std::find(query_of.begin(), query_of.end(), q);
      const Entry& entry = *entries[static_cast<std::size_t>(first - query_of.begin())];
      list_rows(*states, q, *entry.spec, parts_.size(), *request_.rows);
    }
    for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
      const std::vector<u32> cells = others(scopes_.all[s]);
      for (std::size_t i = 0; i < entries.size(); ++i) {
        const SelectedRows& found = states->of_query[query_of[i]];
        SelectionTally tally;
        for (const u32 cell : cells) tally.merge(found.by_cell[cell]);
        Evidence e = evidence();
        e.selection = {&found.outcome, &tally, request_.seed, weighted()};
        finish(*entries[i], s, e, tally.rows);
      }
    }
    return {};
  }

  Result<void> compute_risks() {
    std::vector<Fraction> limits;  // each B
    for (const Entry& entry : entries_) {
      if (entry.needs.risk) limits.push_back(entry.needs.risk->most_loss);
    }
    std::sort(limits.begin(), limits.end(), less);
    const auto equal = [](const Fraction& a, const Fraction& b) { return !less(a, b); };
    limits.erase(std::unique(limits.begin(), limits.end(), equal), limits.end());
    for (const Fraction& most : limits) {  // the smallest B refuses first
      if (auto done = compute_risks(most); !done) return done.error();
    }
    return {};
  }

  /// The metrics with this B.
  Result<void> compute_risks(const Fraction& most) {
    const auto wanted = [&](const Entry& entry) {
      const auto& rule = entry.needs.risk;
      return rule && !less(rule->most_loss, most) && !less(most, rule->most_loss);
    };
    const auto sums = risk_sums(parts_, cells_.of_part, cells_.keys.size(), most);
    if (!sums) return sums.error();
    const RiskView& rows = *parts_.front().risk;
    const auto count = static_cast<std::size_t>(rows.lambda_count);
    states_.push_back(fmt::format("losses at {} values of lambda", count));
    const auto merged = [&](const std::vector<u32>& cells, bool calibration) {
      RiskSums all(count);
      for (const u32 cell : cells) {
        if (cells_.calibration[cell] == calibration) all.merge((*sums)[cell]);
      }
      return all;
    };
    const RiskSums calibration = merged(scopes_.all.front().cells, true);
    for (std::size_t s = 0; s < scopes_.all.size(); ++s) {
      const RiskSums own = merged(scopes_.all[s].cells, false);
      Evidence e = evidence();
      e.risk = {&calibration, &own, {}, weighted()};
      if (rows.lambdas != nullptr) e.risk.lambdas = {rows.lambdas, count};
      for (Entry& entry : entries_) {
        if (wanted(entry)) finish(entry, s, e, own.rows);
      }
    }
    return {};
  }

  std::span<const PreparedTable> parts_;
  const ComputeRequest& request_;
  std::vector<std::string>& states_;
  UnitedCells cells_;
  Scopes scopes_;
  std::vector<Entry> entries_;
};

}  // namespace

Result<std::vector<EvalResult>> compute_regression(std::span<const PreparedTable> parts,
                                                   const ComputeRequest& request,
                                                   std::vector<std::string>& states) {
  return RegressionComputer(parts, request, states).run();
}

}  // namespace cupel
