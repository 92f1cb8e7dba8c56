#include "eval/conformal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "backend/thread_pool.hpp"
#include "cupel/math/weight.hpp"
#include "eval/class_clusters.hpp"
#include "eval/select_ranks.hpp"

namespace cupel {
namespace {

/// Of a row that is in no category.
constexpr u32 kNoCategory = 0xFFFFFFFF;

/// Where a value is in a list, which it joins when it is not there.
template <class T>
std::size_t place_in(std::vector<T>& list, const T& value) {
  const auto at = std::find(list.begin(), list.end(), value);
  const auto index = static_cast<std::size_t>(at - list.begin());
  if (at == list.end()) list.push_back(value);
  return index;
}

i64 label_of(const TableView& view, i64 row) {
  return view.task == Task::kBinary ? view.binary_labels[row] : view.class_labels[row];
}

u128 mass_of(const TableView& view, i64 row) {
  return weight_mass(view.weights_f64 != nullptr ? view.weights_f64[row]
                                                 : static_cast<double>(view.weights_f32[row]))
      .mass;
}

i64 classes_of(const TableView& view) { return view.task == Task::kBinary ? 2 : view.classes; }

/// Calls take(view, row, cell) for the wanted rows, in the order of their scores.
template <class Take>
void for_wanted(std::span<const ConformalRows> tables, const Take& take) {
  for (const ConformalRows& rows : tables) {
    const TableView& view = *rows.view;
    for (i64 row = 0; row < view.rows; ++row) {
      const u32 cell = view.cells == nullptr ? 0 : view.cells[row];
      if (rows.wanted[cell]) take(rows, row, cell);
    }
  }
}

CategoryThreshold unfound(const ConformalQuery& query, i64 rows) {
  return {rows, rows == 0 ? 0 : quantile_rank(query.quantile, rows, query.alpha), kEveryLabel};
}

/// Scores of one rule, category by category.
struct Grouped {
  Buffer<i64> scores;
  std::vector<i64> first;  ///< [category], and the number of scores

  std::span<i64> of(std::size_t category) {
    return {scores.data() + first[category],
            static_cast<std::size_t>(first[category + 1] - first[category])};
  }
};

Grouped group_scores(const Buffer<i64>& scores, const Buffer<u32>& category, std::size_t count) {
  Grouped grouped;
  grouped.first.assign(count + 1, 0);
  for (const u32 c : category) {
    if (c != kNoCategory) ++grouped.first[c + 1];
  }
  for (std::size_t c = 0; c < count; ++c) grouped.first[c + 1] += grouped.first[c];
  grouped.scores.resize(static_cast<std::size_t>(grouped.first.back()));
  std::vector<i64> next(grouped.first.begin(), grouped.first.end() - 1);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const u32 c = category[i];
    if (c != kNoCategory) grouped.scores[static_cast<std::size_t>(next[c]++)] = scores[i];
  }
  return grouped;
}

std::vector<CategoryThreshold> category_thresholds(Grouped& grouped, const ConformalQuery& query,
                                                   ThreadPool& pool) {
  std::vector<CategoryThreshold> found(grouped.first.size() - 1);
  pool.parallel_for(static_cast<i64>(found.size()), [&](int, i64 category) {
    const auto c = static_cast<std::size_t>(category);
    const auto own = grouped.of(c);
    CategoryThreshold threshold = unfound(query, static_cast<i64>(own.size()));
    if (threshold.rank != 0) {
      const auto at = own.begin() + (threshold.rank - 1);
      std::nth_element(own.begin(), at, own.end());
      threshold.score = *at;
    }
    found[c] = threshold;
  });
  return found;
}

/// Finds the thresholds of all queries with one rule.
class RuleThresholds {
 public:
  RuleThresholds(std::span<const ConformalRows> tables, u32 combinations, Buffer<i64> scores,
                 ThreadPool& pool)
      : tables_(tables),
        combinations_(combinations),
        classes_(tables.empty() ? 1 : static_cast<std::size_t>(classes_of(*tables[0].view))),
        scores_(std::move(scores)),
        pool_(pool) {}

  Result<void> find(std::span<QueryThresholds*> queries) {
    for (QueryThresholds* one : queries) one->calibration_rows = static_cast<i64>(scores_.size());
    marginal(queries);
    by_category(queries, ConformalMode::kClass, classes_, [this](Buffer<u32>& category) {
      for_wanted(tables_, [&](const ConformalRows& rows, i64 row, u32) {
        category.push_back(static_cast<u32>(label_of(*rows.view, row)));
      });
    });
    by_category(queries, ConformalMode::kGroup, combinations_, [this](Buffer<u32>& category) {
      for_wanted(tables_, [&](const ConformalRows& rows, i64, u32 cell) {
        category.push_back(rows.combination[cell]);
      });
    });
    for (QueryThresholds* one : queries) {
      if (one->query.mode == ConformalMode::kCluster) clustered(*one);
    }
    return weighted(queries);
  }

 private:
  void marginal(std::span<QueryThresholds*> queries) {
    std::vector<i64> ranks;
    for (QueryThresholds* one : queries) {
      if (one->query.mode != ConformalMode::kMarginal) continue;
      one->categories = {unfound(one->query, one->calibration_rows)};
      if (one->categories[0].rank != 0) ranks.push_back(one->categories[0].rank);
    }
    std::sort(ranks.begin(), ranks.end());
    ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    const std::vector<i64> found = values_of_ranks(scores_, ranks, pool_);
    for (QueryThresholds* one : queries) {
      if (one->query.mode != ConformalMode::kMarginal || one->categories[0].rank == 0) continue;
      const auto at = std::lower_bound(ranks.begin(), ranks.end(), one->categories[0].rank);
      one->categories[0].score = found[static_cast<std::size_t>(at - ranks.begin())];
    }
  }

  template <class Fill>
  void by_category(std::span<QueryThresholds*> queries, ConformalMode mode, std::size_t count,
                   const Fill& fill) {
    std::optional<Grouped> grouped;
    for (QueryThresholds* one : queries) {
      if (one->query.mode != mode) continue;
      if (!grouped) {
        Buffer<u32> category;
        category.reserve(scores_.size());
        fill(category);
        grouped = group_scores(scores_, category, count);
      }
      one->categories = category_thresholds(*grouped, one->query, pool_);
    }
  }

  void clustered(QueryThresholds& one) {
    std::vector<i64> class_rows(classes_, 0);
    for_wanted(tables_, [&](const ConformalRows& rows, i64 row, u32) {
      ++class_rows[static_cast<std::size_t>(label_of(*rows.view, row))];
    });
    const ClusterPlan plan = plan_clusters(class_rows, one.query.alpha);
    // Rows that clusters are made from by label, the others by cluster.
    Buffer<u32> category(scores_.size());
    Buffer<u32> label(scores_.size());
    std::size_t at = 0;
    for_wanted(tables_, [&](const ConformalRows& rows, i64 row, u32) {
      const bool for_clusters = is_for_clusters(plan, one.query.seed, rows.view->row_key(row));
      label[at] = static_cast<u32>(label_of(*rows.view, row));
      category[at] = for_clusters ? label[at] : kNoCategory;
      one.clustering_rows += for_clusters ? 1 : 0;
      ++at;
    });
    Grouped for_clusters = group_scores(scores_, category, classes_);
    const ClassClusters clusters =
        cluster_classes(plan, for_clusters.scores, for_clusters.first, one.query.seed);
    one.cluster_of = clusters.of_class;
    for (std::size_t i = 0; i < category.size(); ++i) {
      category[i] = category[i] == kNoCategory ? clusters.of_class[label[i]] : kNoCategory;
    }
    Grouped grouped = group_scores(scores_, category, clusters.count + std::size_t{1});
    one.categories = category_thresholds(grouped, one.query, pool_);
    CategoryThreshold& none = one.categories.back();
    if (one.query.null_infinite) {
      none = {none.calibration_rows, 0, kEveryLabel};
      return;
    }
    // The paper's: of all rows that no cluster was made from.
    none = unfound(one.query, static_cast<i64>(grouped.scores.size()));
    if (none.rank != 0) none.score = values_of_ranks(grouped.scores, {none.rank}, pool_)[0];
  }

  Result<void> weighted(std::span<QueryThresholds*> queries) {
    std::shared_ptr<const WeightedScores> made;
    for (QueryThresholds* one : queries) {
      if (one->query.mode != ConformalMode::kWeighted) continue;
      if (made == nullptr) {
        std::vector<ScoredMass> rows;
        rows.reserve(scores_.size());
        for_wanted(tables_, [&](const ConformalRows& table, i64 row, u32) {
          rows.push_back({scores_[rows.size()], mass_of(*table.view, row)});
        });
        auto all = WeightedScores::make(std::move(rows));
        if (!all) return all.error();
        made = std::make_shared<const WeightedScores>(std::move(*all));
      }
      one->weighted = made;
    }
    return {};
  }

  std::span<const ConformalRows> tables_;
  std::size_t combinations_;
  std::size_t classes_;
  Buffer<i64> scores_;
  ThreadPool& pool_;
};

/// Numbers of combinations by cell: equal keys follow each other.
std::vector<u32> number_combinations(const std::vector<CellKey>& keys) {
  std::vector<u32> number;
  for (std::size_t c = 0; c < keys.size(); ++c) {
    number.push_back(c == 0 ? 0 : number.back() + (keys[c] == keys[c - 1] ? 0 : 1));
  }
  return number;
}

std::vector<ConformalRows> rows_of(std::span<const PreparedTable> parts,
                                   const ConformalCells& cells, const std::vector<u32>& numbers,
                                   bool calibration) {
  std::vector<ConformalRows> all;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    ConformalRows rows;
    rows.view = &parts[part].view;
    for (const u32 cell : cells.map[part]) {
      rows.wanted.push_back(cells.calibration[cell] == calibration);
      rows.combination.push_back(numbers[cell]);
    }
    all.push_back(std::move(rows));
  }
  return all;
}

ThresholdSpread spread_of(std::vector<i64> thresholds) {
  ThresholdSpread spread;
  spread.count = static_cast<i64>(thresholds.size());
  if (thresholds.empty()) return spread;
  const auto middle = thresholds.begin() + (spread.count - 1) / 2;
  std::nth_element(thresholds.begin(), middle, thresholds.end());
  spread.median = *middle;
  spread.infinite = std::count(thresholds.begin(), thresholds.end(), kEveryLabel);
  const auto [least, most] = std::minmax_element(thresholds.begin(), thresholds.end());
  spread.least = *least;
  spread.most = *most;
  return spread;
}

}  // namespace

Detail named_combination(const CellKey& key, const std::vector<std::string>& columns) {
  Detail::Object name;
  for (std::size_t c = 0; c < columns.size(); ++c) {
    name.emplace_back(columns[c], key[c] ? Detail(*key[c]) : Detail());
  }
  return name;
}

Result<CalibrationThresholds> find_thresholds(std::span<const ConformalRows> calibration,
                                              u32 combinations,
                                              std::span<const ConformalQuery> queries,
                                              Backend& backend, int threads) {
  CalibrationThresholds found;
  std::vector<ConformalRule> rules;
  std::vector<ConformalQuery> distinct;
  std::vector<std::size_t> place;
  for (const ConformalQuery& query : queries) {
    place.push_back(place_in(distinct, query));
    place_in(rules, query.rule);
  }
  std::vector<Buffer<i64>> scores(rules.size());
  for (const ConformalRows& rows : calibration) {
    auto own = backend.conformal_scores(*rows.view, rules, rows.wanted, threads);
    if (!own) return own.error();
    found.outside_unit = found.outside_unit || own->outside_unit != 0;
    for (std::size_t r = 0; r < rules.size(); ++r) {
      if (scores[r].empty()) {
        scores[r] = std::move(own->scores[r]);
      } else {
        scores[r].insert(scores[r].end(), own->scores[r].begin(), own->scores[r].end());
      }
    }
  }
  ThreadPool pool(std::max(1, threads));
  std::vector<QueryThresholds> thresholds(distinct.size());
  for (std::size_t q = 0; q < distinct.size(); ++q) thresholds[q].query = distinct[q];
  for (std::size_t r = 0; r < rules.size(); ++r) {
    std::vector<QueryThresholds*> own;
    for (QueryThresholds& one : thresholds) {
      if (one.query.rule == rules[r]) own.push_back(&one);
    }
    RuleThresholds rule(calibration, combinations, std::move(scores[r]), pool);
    if (auto done = rule.find(own); !done) return done.error();
  }
  for (const std::size_t q : place) found.queries.push_back(thresholds[q]);
  return found;
}

ConformalSet sets_of(const QueryThresholds& thresholds, const ConformalRows& rows) {
  const ConformalQuery& query = thresholds.query;
  ConformalSet set;
  set.rule = query.rule;
  set.argmax_if_empty = query.argmax_if_empty;
  set.thresholds.clear();
  switch (query.mode) {
    case ConformalMode::kMarginal:
      set.thresholds = {thresholds.categories[0].score};
      break;
    case ConformalMode::kClass:
      set.by = ThresholdsBy::kLabel;
      for (const CategoryThreshold& one : thresholds.categories)
        set.thresholds.push_back(one.score);
      break;
    case ConformalMode::kCluster:
      set.by = ThresholdsBy::kLabel;
      for (const u32 cluster : thresholds.cluster_of) {
        set.thresholds.push_back(thresholds.categories[cluster].score);
      }
      break;
    case ConformalMode::kGroup:
      set.by = ThresholdsBy::kCell;
      for (const u32 combination : rows.combination) {
        set.thresholds.push_back(thresholds.categories[combination].score);
      }
      break;
    case ConformalMode::kWeighted: {
      set.by = ThresholdsBy::kRow;
      const TableView& view = *rows.view;
      set.thresholds.resize(static_cast<std::size_t>(view.rows), kEveryLabel);
      if (thresholds.weighted->total() == 0) break;
      for (i64 row = 0; row < view.rows; ++row) {
        if (!rows.wanted[view.cells == nullptr ? 0 : view.cells[row]]) continue;
        set.thresholds[static_cast<std::size_t>(row)] =
            thresholds.weighted->threshold(mass_of(view, row), query.alpha);
      }
      break;
    }
  }
  return set;
}

Result<ConformalStates> conformal_states(std::span<const PreparedTable> parts,
                                         const ConformalCells& cells,
                                         std::span<const ConformalQuery> queries, Backend& backend,
                                         int threads) {
  ConformalStates states;
  states.combination = number_combinations(cells.keys);
  const u32 combinations = states.combination.empty() ? 0 : states.combination.back() + 1;
  auto found = find_thresholds(rows_of(parts, cells, states.combination, true), combinations,
                               queries, backend, threads);
  if (!found) return found.error();
  states.thresholds = std::move(found->queries);
  states.outside_unit = found->outside_unit;

  // Queries that differ in what makes no difference to sets share them.
  std::vector<const QueryThresholds*> own;  // [set]
  for (const QueryThresholds& one : states.thresholds) {
    const auto same = [&](const QueryThresholds* other) {
      return other->query == one.query ||
             (other->query.rule == one.query.rule &&
              other->query.mode == ConformalMode::kMarginal &&
              one.query.mode == ConformalMode::kMarginal &&
              other->query.argmax_if_empty == one.query.argmax_if_empty &&
              other->categories[0].score == one.categories[0].score);
    };
    const auto at = std::find_if(own.begin(), own.end(), same);
    states.set_of.push_back(static_cast<std::size_t>(at - own.begin()));
    if (at == own.end()) own.push_back(&one);
  }
  const std::size_t cell_count = cells.calibration.size();
  std::vector<std::vector<SetSums>> of_sets(own.size(), std::vector<SetSums>(cell_count));
  std::vector<std::vector<std::vector<i64>>> of_rows(own.size());
  const std::vector<ConformalRows> others = rows_of(parts, cells, states.combination, false);
  states.sets.resize(queries.size());
  for (std::size_t part = 0; part < parts.size(); ++part) {
    std::vector<ConformalSet> sets;
    for (const QueryThresholds* one : own) sets.push_back(sets_of(*one, others[part]));
    for (std::size_t q = 0; q < queries.size(); ++q) {
      if (queries[q].slab) states.sets[q].push_back(sets[states.set_of[q]]);
    }
    auto sums = backend.conformal_sets(parts[part].view, sets, others[part].wanted, threads);
    if (!sums) return sums.error();
    // Without rows a part has no cells, but a backend counts one.
    for (std::size_t c = 0; c < cells.map[part].size(); ++c) {
      for (std::size_t s = 0; s < sets.size(); ++s) {
        states.outside_unit = states.outside_unit || (*sums)[c][s].outside_unit != 0;
        of_sets[s][cells.map[part][c]].merge((*sums)[c][s]);
      }
    }
    for (std::size_t s = 0; s < sets.size(); ++s) {
      if (sets[s].by != ThresholdsBy::kRow) continue;
      of_rows[s].resize(cell_count);
      for_wanted({&others[part], 1}, [&](const ConformalRows&, i64 row, u32 cell) {
        of_rows[s][cells.map[part][cell]].push_back(
            sets[s].thresholds[static_cast<std::size_t>(row)]);
      });
    }
  }
  for (const std::size_t s : states.set_of) states.sums.push_back(of_sets[s]);
  states.row_thresholds = std::move(of_rows);
  return states;
}

ConformalThreshold threshold_of(const ConformalStates& states, std::size_t query,
                                const ConformalCells& all, const std::vector<u32>& cells,
                                bool everyone, const std::vector<std::string>& columns) {
  const QueryThresholds& found = states.thresholds[query];
  ConformalThreshold told;
  told.calibration_rows = found.calibration_rows;
  told.mode = found.query.mode;
  told.has_law = everyone && told.mode == ConformalMode::kMarginal;
  std::vector<i64> each;
  switch (told.mode) {
    case ConformalMode::kMarginal:
      told.rank = found.categories[0].rank;
      told.score = found.categories[0].score;
      return told;
    case ConformalMode::kClass:
      told.categories = found.categories;
      for (const CategoryThreshold& one : found.categories) each.push_back(one.score);
      break;
    case ConformalMode::kCluster:
      told.categories = found.categories;
      told.labels.resize(found.categories.size());
      told.clustering_rows = found.clustering_rows;
      for (const u32 cluster : found.cluster_of) {
        ++told.labels[cluster];
        each.push_back(found.categories[cluster].score);
      }
      break;
    case ConformalMode::kGroup: {
      const std::vector<u32>& numbers = states.combination;
      std::vector<std::pair<u32, u32>> inside;  // combination, one of its cells
      for (const u32 cell : cells) inside.emplace_back(numbers[cell], cell);
      std::sort(inside.begin(), inside.end());
      inside.erase(std::unique(inside.begin(), inside.end(),
                               [](const auto& a, const auto& b) { return a.first == b.first; }),
                   inside.end());
      if (inside.size() == 1) {
        const CategoryThreshold& own = found.categories[inside[0].first];
        told.unseen = own.calibration_rows == 0 && found.calibration_rows != 0;
        told.calibration_rows = own.calibration_rows;
        told.rank = own.rank;
        told.score = own.score;
        told.has_law = true;
        return told;
      }
      for (const auto& [number, cell] : inside) {
        told.categories.push_back(found.categories[number]);
        told.names.push_back(named_combination(all.keys[cell], columns));
        each.push_back(found.categories[number].score);
      }
      break;
    }
    case ConformalMode::kWeighted: {
      told.zero_weight = found.calibration_rows != 0 && found.weighted->total() == 0;
      const auto& by_cell = states.row_thresholds[states.set_of[query]];
      if (by_cell.empty()) break;
      for (const u32 cell : cells) {
        each.insert(each.end(), by_cell[cell].begin(), by_cell[cell].end());
      }
      break;
    }
  }
  told.spread = spread_of(std::move(each));
  return told;
}

Result<void> check_conformal(std::string_view metric, const ConformalQuery& query, bool weighted,
                             bool grouped) {
  if (query.mode == ConformalMode::kWeighted && !weighted) {
    return usage_error(
        fmt::format("mode=weighted of '{}' takes likelihood ratios from the weights, and there are "
                    "none",
                    metric),
        "name their column with --weight");
  }
  if (query.mode == ConformalMode::kGroup && !grouped) {
    return usage_error(
        fmt::format("mode=group of '{}' has a threshold for each combination of groups", metric),
        "name the group columns with --group");
  }
  return {};
}

}  // namespace cupel
