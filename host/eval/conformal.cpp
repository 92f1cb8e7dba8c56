#include "eval/conformal.hpp"

#include <algorithm>

namespace cupel {
namespace {

/// Where a value is in a list, which it joins when it is not there.
template <class T>
std::size_t place_in(std::vector<T>& list, const T& value) {
  const auto at = std::find(list.begin(), list.end(), value);
  const auto index = static_cast<std::size_t>(at - list.begin());
  if (at == list.end()) list.push_back(value);
  return index;
}

/// The cells of a part whose rows are for calibration, or, with `others`, the rest.
std::vector<bool> wanted_cells(const std::vector<u32>& cell_map,
                               const std::vector<bool>& calibration, bool others) {
  std::vector<bool> wanted;
  for (const u32 cell : cell_map) wanted.push_back(calibration[cell] != others);
  return wanted;
}

/// The scores of these ranks, which ascend and count from 1. Each selection leaves smaller scores
/// before it, where the next one need not look.
std::vector<i64> scores_of_ranks(Buffer<i64>& scores, const std::vector<i64>& ranks) {
  std::vector<i64> found;
  auto from = scores.begin();
  for (const i64 rank : ranks) {
    const auto at = scores.begin() + (rank - 1);
    if (at >= from) std::nth_element(from, at, scores.end());
    found.push_back(*at);
    from = at + 1;
  }
  return found;
}

}  // namespace

Result<ConformalStates> conformal_states(std::span<const PreparedTable> parts,
                                         const std::vector<std::vector<u32>>& cell_map,
                                         const std::vector<bool>& calibration,
                                         std::span<const ConformalQuery> queries, Backend& backend,
                                         int threads) {
  ConformalStates states;
  std::vector<ConformalRule> rules;
  std::vector<std::size_t> rule_of;  // [query]
  for (const ConformalQuery& query : queries) rule_of.push_back(place_in(rules, query.rule));

  std::vector<Buffer<i64>> scores(rules.size());
  for (std::size_t part = 0; part < parts.size(); ++part) {
    auto own = backend.conformal_scores(parts[part].view, rules,
                                        wanted_cells(cell_map[part], calibration, false), threads);
    if (!own) return own.error();
    states.outside_unit = states.outside_unit || own->outside_unit != 0;
    for (std::size_t r = 0; r < rules.size(); ++r) {
      if (scores[r].empty()) {
        scores[r] = std::move(own->scores[r]);
      } else {
        scores[r].insert(scores[r].end(), own->scores[r].begin(), own->scores[r].end());
      }
    }
  }

  for (std::size_t q = 0; q < queries.size(); ++q) {
    ConformalThreshold threshold;
    threshold.calibration_rows = static_cast<i64>(scores[rule_of[q]].size());
    if (threshold.calibration_rows != 0) {
      threshold.rank =
          quantile_rank(queries[q].quantile, threshold.calibration_rows, queries[q].alpha);
    }
    states.thresholds.push_back(threshold);
  }
  for (std::size_t r = 0; r < rules.size(); ++r) {
    std::vector<i64> ranks;
    for (std::size_t q = 0; q < queries.size(); ++q) {
      if (rule_of[q] == r && states.thresholds[q].rank != 0) {
        ranks.push_back(states.thresholds[q].rank);
      }
    }
    std::sort(ranks.begin(), ranks.end());
    ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    const std::vector<i64> found = scores_of_ranks(scores[r], ranks);
    for (std::size_t q = 0; q < queries.size(); ++q) {
      ConformalThreshold& threshold = states.thresholds[q];
      if (rule_of[q] != r || threshold.rank == 0) continue;
      const auto at = std::lower_bound(ranks.begin(), ranks.end(), threshold.rank);
      threshold.score = found[static_cast<std::size_t>(at - ranks.begin())];
    }
    scores[r] = {};
  }

  std::vector<ConformalSet> sets;
  std::vector<std::size_t> set_of;  // [query]
  for (std::size_t q = 0; q < queries.size(); ++q) {
    set_of.push_back(place_in(sets, ConformalSet{queries[q].rule,
                                                 {states.thresholds[q].score},
                                                 ThresholdsBy::kAll,
                                                 queries[q].argmax_if_empty}));
  }
  std::vector<std::vector<SetSums>> of_sets(sets.size(), std::vector<SetSums>(calibration.size()));
  for (std::size_t part = 0; part < parts.size(); ++part) {
    auto own = backend.conformal_sets(parts[part].view, sets,
                                      wanted_cells(cell_map[part], calibration, true), threads);
    if (!own) return own.error();
    // Without rows a part has no cells, but a backend counts one.
    for (std::size_t c = 0; c < cell_map[part].size(); ++c) {
      for (std::size_t s = 0; s < sets.size(); ++s) {
        states.outside_unit = states.outside_unit || (*own)[c][s].outside_unit != 0;
        of_sets[s][cell_map[part][c]].merge((*own)[c][s]);
      }
    }
  }
  for (const std::size_t s : set_of) states.sums.push_back(of_sets[s]);
  return states;
}

}  // namespace cupel
