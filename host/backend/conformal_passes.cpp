// Conformal scores and sets of whole tables, on the host: ranges of rows on all threads, integers
// that are added or put in their place.
#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <string>

#include "backend/conformal_ranges.hpp"
#include "backend/conformal_rows.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/backend/backend.hpp"

namespace cupel {
namespace {

/// Tallies of all cells and sets.
constexpr u64 kMostTallies = 50'000'000;
/// Tallies that threads have of their own.
constexpr u64 kMostOwnTallies = 4'000'000;

/// A thing for each worker of a pool, made when it is first asked for.
template <class Thing>
class PerWorker {
 public:
  explicit PerWorker(const ThreadPool& pool) : things_(static_cast<std::size_t>(pool.threads())) {}

  template <class... Args>
  Thing& get(int worker, Args&&... args) {
    std::unique_ptr<Thing>& mine = things_[static_cast<std::size_t>(worker)];
    if (!mine) mine = std::make_unique<Thing>(args...);
    return *mine;
  }

 private:
  std::vector<std::unique_ptr<Thing>> things_;
};

/// How many wanted rows come before each range of rows, and in all.
struct WantedRows {
  std::vector<i64> before;  ///< [task]
  i64 all = 0;
};
WantedRows count_wanted(const TableView& table, const std::vector<bool>& wanted, i64 task_rows) {
  WantedRows counted;
  for (i64 first = 0; first < table.rows; first += task_rows) {
    counted.before.push_back(counted.all);
    const i64 last = std::min(table.rows, first + task_rows);
    for (i64 row = first; row < last; ++row) counted.all += is_wanted(table, wanted, row) ? 1 : 0;
  }
  return counted;
}

}  // namespace

Result<ConformalScores> Backend::conformal_scores(const TableView& table,
                                                  std::span<const ConformalRule> rules,
                                                  const std::vector<bool>& wanted, int threads) {
  if (auto checked = check_table(table, wanted); !checked) return checked.error();
  try {
    ConformalScores out;
    out.scores.resize(rules.size());
    if (table.rows == 0) return out;
    ThreadPool pool(std::max(1, threads));
    const WantedRows counted = count_wanted(table, wanted, task_rows(table));
    for (Buffer<i64>& scores : out.scores) scores.resize(static_cast<std::size_t>(counted.all));
    const bool margin = std::any_of(rules.begin(), rules.end(), [](const ConformalRule& rule) {
      return rule.score == ConformalScore::kMargin;
    });
    PerWorker<MassReader> readers(pool);
    std::vector<u64> outside(static_cast<std::size_t>(pool.threads()));
    for_row_ranges(table, pool, [&](int worker, i64 task, i64 first, i64 last) {
      MassReader& reader = readers.get(worker, table);
      auto at = static_cast<std::size_t>(counted.before[static_cast<std::size_t>(task)]);
      for (i64 row = first; row < last; ++row) {
        if (!is_wanted(table, wanted, row)) continue;
        outside[static_cast<std::size_t>(worker)] += reader.read(row) ? 0 : 1;
        const RowLargest largest = reader.largest(margin);
        const LabelPlace place = reader.place();
        for (std::size_t r = 0; r < rules.size(); ++r) {
          out.scores[r][at] =
              conformal_score(rules[r], place, largest, table.row_key(row), reader.label());
        }
        ++at;
      }
    });
    for (const u64 rows : outside) out.outside_unit += rows;
    return out;
  } catch (const std::bad_alloc&) {
    return no_memory(table);
  }
}

Result<std::vector<std::vector<SetSums>>> Backend::conformal_sets(
    const TableView& table, std::span<const ConformalSet> sets, const std::vector<bool>& wanted,
    int threads) {
  if (auto checked = check_table(table, wanted); !checked) return checked.error();
  const i64 classes = table.task == Task::kBinary ? 2 : table.classes;
  const u64 cells = std::max<u64>(1, table.cell_count);
  const u64 tallies = 3 * static_cast<u64>(classes) + 1;
  if (cells * std::max<std::size_t>(1, sets.size()) > kMostTallies / tallies) {
    return usage_error("sizes of sets of this many classes, groups and combinations are too many",
                       "ask for fewer of --conformal and --alpha, or fewer groups");
  }
  try {
    using Sums = std::vector<std::vector<SetSums>>;
    const auto no_sums = [&] { return Sums(cells, std::vector<SetSums>(sets.size())); };
    Sums sums = no_sums();
    if (table.rows == 0) return sums;
    ThreadPool pool(std::max(1, threads));
    const auto workers = static_cast<u64>(pool.threads());
    const bool own = cells * sets.size() * tallies * workers <= kMostOwnTallies;
    std::vector<Sums> of_worker(own ? workers : 0);
    for (Sums& mine : of_worker) mine = no_sums();
    const auto add = [&](Sums& to, i64 row, i64 label, i64 rank, const RowSet* found) {
      std::vector<SetSums>& of_cell = to[table.cells == nullptr ? 0 : table.cells[row]];
      for (std::size_t s = 0; s < sets.size(); ++s) {
        if (of_cell[s].by_size.empty()) of_cell[s].resize(classes);
        of_cell[s].add(found[s].size, found[s].covers, label, rank);
      }
    };
    PerWorker<RowSets> readers(pool);
    std::vector<u64> outside(workers);
    std::mutex mutex;
    for_row_ranges(table, pool, [&](int worker, i64, i64 first, i64 last) {
      RowSets& row_sets = readers.get(worker, table, sets);
      struct Kept {
        i64 row;
        i64 label;
        i64 rank;
      };
      std::vector<Kept> kept;  // where all threads share the sums
      std::vector<RowSet> found;
      for (i64 row = first; row < last; ++row) {
        if (!is_wanted(table, wanted, row)) continue;
        outside[static_cast<std::size_t>(worker)] += row_sets.take(row) ? 0 : 1;
        if (own) {
          add(of_worker[static_cast<std::size_t>(worker)], row, row_sets.label(), row_sets.rank(),
              row_sets.found().data());
          continue;
        }
        kept.push_back({row, row_sets.label(), row_sets.rank()});
        found.insert(found.end(), row_sets.found().begin(), row_sets.found().end());
      }
      const std::lock_guard lock(mutex);
      for (std::size_t i = 0; i < kept.size(); ++i) {
        add(sums, kept[i].row, kept[i].label, kept[i].rank, found.data() + i * sets.size());
      }
    });
    for (const Sums& mine : of_worker) {
      for (std::size_t c = 0; c < mine.size(); ++c) {
        for (std::size_t s = 0; s < sets.size(); ++s) sums[c][s].merge(mine[c][s]);
      }
    }
    // Of which cell does not matter: one such row makes no row's masses probabilities.
    for (const u64 rows : outside) {
      if (!sets.empty()) sums[0][0].outside_unit += rows;
    }
    return sums;
  } catch (const std::bad_alloc&) {
    return no_memory(table);
  }
}

Result<ConformalRowSets> Backend::conformal_row_sets(const TableView& table,
                                                     std::span<const ConformalSet> sets,
                                                     const std::vector<bool>& wanted, int threads) {
  if (auto checked = check_table(table, wanted); !checked) return checked.error();
  try {
    ConformalRowSets out;
    out.sets.resize(sets.size());
    if (table.rows == 0) return out;
    ThreadPool pool(std::max(1, threads));
    const WantedRows counted = count_wanted(table, wanted, task_rows(table));
    for (Buffer<u32>& own : out.sets) own.resize(static_cast<std::size_t>(counted.all));
    out.ranks.resize(static_cast<std::size_t>(counted.all));
    PerWorker<RowSets> readers(pool);
    std::vector<u64> outside(static_cast<std::size_t>(pool.threads()));
    for_row_ranges(table, pool, [&](int worker, i64 task, i64 first, i64 last) {
      RowSets& row_sets = readers.get(worker, table, sets);
      auto at = static_cast<std::size_t>(counted.before[static_cast<std::size_t>(task)]);
      for (i64 row = first; row < last; ++row) {
        if (!is_wanted(table, wanted, row)) continue;
        outside[static_cast<std::size_t>(worker)] += row_sets.take(row) ? 0 : 1;
        for (std::size_t s = 0; s < sets.size(); ++s) {
          const RowSet& found = row_sets.found()[s];
          out.sets[s][at] = ConformalRowSets::pack(found.size, found.covers);
        }
        out.ranks[at] = static_cast<i32>(row_sets.rank());
        ++at;
      }
    });
    for (const u64 rows : outside) out.outside_unit += rows;
    return out;
  } catch (const std::bad_alloc&) {
    return no_memory(table);
  }
}

Result<std::vector<std::vector<PValueSums>>> Backend::p_value_sums(
    const TableView& table, std::span<const PValueRule> rules, const std::vector<bool>& wanted,
    int threads) {
  if (auto checked = check_table(table, wanted); !checked) return checked.error();
  try {
    const u64 cells = std::max<u64>(1, table.cell_count);
    std::vector<std::vector<PValueSums>> sums(cells, std::vector<PValueSums>(rules.size()));
    if (table.rows == 0) return sums;
    ThreadPool pool(std::max(1, threads));
    std::mutex mutex;
    PerWorker<MassReader> readers(pool);
    for_row_ranges(table, pool, [&](int worker, i64, i64 first, i64 last) {
      MassReader& reader = readers.get(worker, table);
      const i64 classes = reader.classes();
      std::vector<i32> order(static_cast<std::size_t>(classes));
      std::vector<std::vector<PValueSums>> own(cells);
      u64 outside = 0;
      for (i64 row = first; row < last; ++row) {
        if (!is_wanted(table, wanted, row)) continue;
        if (!reader.read(row)) ++outside;
        const i64* masses = reader.masses();
        for (i64 j = 0; j < classes; ++j) order[static_cast<std::size_t>(j)] = static_cast<i32>(j);
        std::sort(order.begin(), order.end(), [masses](i32 a, i32 b) {
          return masses[a] != masses[b] ? masses[a] > masses[b] : a < b;
        });
        const i64 label = reader.label();
        auto& cell = own[table.cells == nullptr ? 0 : table.cells[row]];
        cell.resize(rules.size());
        for (std::size_t r = 0; r < rules.size(); ++r) {
          const PValueRule& rule = rules[r];
          const u64 u =
              rule.smoothed ? uniform_of(Draw::kPValue, rule.seed, table.row_key(row)) : 0;
          PValueRow labels(rule.level_units);
          for_each_score(
              rule.rule, [masses](i64 j) { return masses[j]; },
              [&order](i64 at) { return static_cast<i64>(order[static_cast<std::size_t>(at)]); },
              classes, table.row_key(row),
              [&](i64 j, i64, i64 score) {
                // Larger scores are the extreme ones.
                const auto [from, to] =
                    std::equal_range(rule.calibration.begin(), rule.calibration.end(), score);
                const ScorePlace place{static_cast<u64>(rule.calibration.end() - to),
                                       static_cast<u64>(to - from)};
                labels.add(
                    p_value_units(place, rule.smoothed ? TieRule::kRandom : TieRule::kCount, u),
                    j == label);
              });
          labels.end(cell[r]);
        }
      }
      const std::lock_guard lock(mutex);
      for (std::size_t c = 0; c < cells; ++c) {
        for (std::size_t r = 0; r < own[c].size(); ++r) sums[c][r].merge(own[c][r]);
      }
      if (!rules.empty()) sums[0][0].outside_unit += outside;
    });
    return sums;
  } catch (const std::bad_alloc&) {
    return no_memory(table);
  }
}

}  // namespace cupel
