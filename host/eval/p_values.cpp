#include "eval/p_values.hpp"

#include <algorithm>

namespace cupel {
namespace {

/// The cells of a part whose rows are for calibration, or, with `others`, the rest.
std::vector<bool> wanted_cells(const std::vector<u32>& cell_map,
                               const std::vector<bool>& calibration, bool others) {
  std::vector<bool> wanted;
  for (const u32 cell : cell_map) wanted.push_back(calibration[cell] != others);
  return wanted;
}

}  // namespace

Result<PValueStates> p_value_states(std::span<const PreparedTable> parts,
                                    const std::vector<std::vector<u32>>& cell_map,
                                    const std::vector<bool>& calibration,
                                    std::span<const PValueQuery> queries, u64 seed,
                                    Backend& backend, int threads) {
  PValueStates states;
  std::vector<ConformalRule> rules;
  std::vector<std::size_t> rule_of;  // [query]
  for (const PValueQuery& query : queries) {
    const auto at = std::find(rules.begin(), rules.end(), query.rule);
    rule_of.push_back(static_cast<std::size_t>(at - rules.begin()));
    if (at == rules.end()) rules.push_back(query.rule);
  }
  std::vector<std::vector<i64>> scores(rules.size());
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const auto own = backend.conformal_scores(
        parts[part].view, rules, wanted_cells(cell_map[part], calibration, false), threads);
    if (!own) return own.error();
    states.outside_unit = states.outside_unit || own->outside_unit != 0;
    for (std::size_t r = 0; r < rules.size(); ++r) {
      scores[r].insert(scores[r].end(), own->scores[r].begin(), own->scores[r].end());
    }
  }
  for (auto& of_rule : scores) std::sort(of_rule.begin(), of_rule.end());
  states.calibration_rows = scores.front().size();

  std::vector<PValueRule> asked;
  for (std::size_t q = 0; q < queries.size(); ++q) {
    asked.push_back({queries[q].rule, scores[rule_of[q]], queries[q].smoothed, seed,
                     level_units(queries[q].alpha, states.calibration_rows)});
  }
  states.sums.assign(queries.size(), std::vector<PValueSums>(calibration.size()));
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const auto own = backend.p_value_sums(parts[part].view, asked,
                                          wanted_cells(cell_map[part], calibration, true), threads);
    if (!own) return own.error();
    // Without rows a part has no cells, but a backend counts one.
    for (std::size_t c = 0; c < cell_map[part].size(); ++c) {
      for (std::size_t q = 0; q < queries.size(); ++q) {
        states.outside_unit = states.outside_unit || (*own)[c][q].outside_unit != 0;
        states.sums[q][cell_map[part][c]].merge((*own)[c][q]);
      }
    }
  }
  return states;
}

}  // namespace cupel
