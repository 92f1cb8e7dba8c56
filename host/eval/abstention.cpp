#include "eval/abstention.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>

#include "cupel/math/counter_random.hpp"

namespace cupel {
namespace {

/// Bytes of the sets of rows that one pass may make.
constexpr u64 kRowSetBytes = u64{1} << 28;
/// Which half a calibration row is in. Not a seed that --calibration draws with: a row would be in
/// one half because it is in the other.
constexpr u64 kTuneKey = 0x7E3A91C45BD20F68u;

enum Half : std::size_t { kForQuantiles, kForTuning, kBoth };

/// The calibration rows of one part, or the others, in order.
struct RowsOfPart {
  std::vector<bool> wanted;  ///< [cell of the part]
  Buffer<u8> tunes;          ///< [wanted row]
  Buffer<u32> cells;         ///< [wanted row] of all cells
};

RowsOfPart rows_of_part(const PreparedTable& part, const std::vector<u32>& cell_map,
                        const std::vector<bool>& calibration, bool others) {
  RowsOfPart rows;
  for (const u32 cell : cell_map) rows.wanted.push_back(calibration[cell] != others);
  const TableView& view = part.view;
  for (i64 row = 0; row < view.rows; ++row) {
    const u32 cell = view.cells == nullptr ? 0 : view.cells[row];
    if (!rows.wanted[cell]) continue;
    if (others) {
      rows.cells.push_back(cell_map[cell]);
    } else {
      rows.tunes.push_back(static_cast<u8>(counter_random(kTuneKey, view.row_key(row)) >> 63));
    }
  }
  return rows;
}

ConformalThreshold threshold_at(const Buffer<i64>& sorted, QuantileRule rule, Fraction level) {
  ConformalThreshold threshold;
  threshold.calibration_rows = static_cast<i64>(sorted.size());
  threshold.rank = quantile_rank(rule, threshold.calibration_rows, level);
  if (threshold.rank != 0) threshold.score = sorted[static_cast<std::size_t>(threshold.rank - 1)];
  return threshold;
}

/// The decisions of every policy of a grid on the rows for tuning. A row is told by how many of the
/// alphas give it a single answer: those with the largest thresholds, in whose order alphas count
/// here (that of the alphas themselves, but for conventions that raise a threshold to infinity).
class Grid {
 public:
  Grid(std::size_t alphas, std::size_t betas) : singles_(alphas + 1), rest_(betas, singles_) {}

  void add_single(std::size_t alphas, bool right) {
    ++singles_[alphas].singles;
    singles_[alphas].singles_right += right ? 1 : 0;
  }
  /// What the row gets under a beta where it has no single answer.
  void add_rest(std::size_t alphas, std::size_t beta, i64 size, bool covers) {
    AbstentionCounts& counts = rest_[beta][alphas];
    if (size == 0) {
      ++counts.abstained;
      return;
    }
    ++counts.sets;
    counts.sets_covered += covers ? 1 : 0;
    counts.set_labels += static_cast<u64>(size);
  }
  /// Sums up; after that no row is added.
  void finish() {
    for (std::size_t i = singles_.size() - 1; i > 0; --i) singles_[i - 1].merge(singles_[i]);
    for (auto& of_beta : rest_) {
      for (std::size_t i = 1; i < of_beta.size(); ++i) of_beta[i].merge(of_beta[i - 1]);
    }
  }
  AbstentionCounts counts(std::size_t alpha, std::size_t beta) const {
    AbstentionCounts all = singles_[alpha + 1];
    all.merge(rest_[beta][alpha]);
    return all;
  }

 private:
  std::vector<AbstentionCounts> singles_;            ///< [how many alphas]
  std::vector<std::vector<AbstentionCounts>> rest_;  ///< [beta][how many alphas]
};

class Chooser {
 public:
  Chooser(std::span<const PreparedTable> parts, const std::vector<std::vector<u32>>& cell_map,
          const std::vector<bool>& calibration, Backend& backend, int threads)
      : parts_(parts),
        cell_map_(cell_map),
        calibration_(calibration),
        backend_(backend),
        threads_(threads) {}

  Result<AbstentionStates> run(std::span<const AbstentionQuery> queries) {
    AbstentionStates states;
    if (auto done = sort_scores(); !done) return done.error();
    for (const AbstentionQuery& query : queries) {
      auto choice = choose(query);
      if (!choice) return choice.error();
      states.choices.push_back(*choice);
    }
    if (auto done = judge(states); !done) return done.error();
    states.outside_unit = outside_unit_;
    return states;
  }

 private:
  Result<void> sort_scores() {
    const ConformalRule lac;
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      own_.push_back(rows_of_part(parts_[p], cell_map_[p], calibration_, false));
      if (parts_[p].view.rows == 0) continue;
      auto found =
          backend_.conformal_scores(parts_[p].view, {&lac, 1}, own_.back().wanted, threads_);
      if (!found) return found.error();
      outside_unit_ = outside_unit_ || found->outside_unit != 0;
      for (std::size_t i = 0; i < found->scores[0].size(); ++i) {
        const i64 score = found->scores[0][i];
        scores_[own_.back().tunes[i] != 0 ? kForTuning : kForQuantiles].push_back(score);
        scores_[kBoth].push_back(score);
      }
    }
    for (Buffer<i64>& scores : scores_) std::sort(scores.begin(), scores.end());
    return {};
  }

  /// Calls take(part, row, set, packed, rank) for the rows of some parts under LAC sets of these
  /// thresholds; sets come in ascending order, a pass taking as many as memory allows.
  using Take = std::function<void(std::size_t, std::size_t, std::size_t, u32, i32)>;
  Result<void> visit_sets(std::span<const RowsOfPart> rows, const std::vector<i64>& thresholds,
                          const Take& take) {
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      const TableView& view = parts_[p].view;
      if (view.rows == 0) continue;
      const u64 each = std::max<u64>(1, static_cast<u64>(view.rows) * sizeof(u32));
      const auto most = static_cast<std::size_t>(std::max<u64>(1, kRowSetBytes / each));
      for (std::size_t first = 0; first < thresholds.size(); first += most) {
        std::vector<ConformalSet> sets;
        for (std::size_t s = first; s < std::min(first + most, thresholds.size()); ++s) {
          sets.push_back({{}, {thresholds[s]}, ThresholdsBy::kAll, false});
        }
        auto found = backend_.conformal_row_sets(view, sets, rows[p].wanted, threads_);
        if (!found) return found.error();
        outside_unit_ = outside_unit_ || found->outside_unit != 0;
        for (std::size_t s = 0; s < sets.size(); ++s) {
          for (std::size_t row = 0; row < found->sets[s].size(); ++row) {
            take(p, row, first + s, found->sets[s][row], found->ranks[row]);
          }
        }
      }
    }
    return {};
  }

  Result<AbstentionChoice> choose(const AbstentionQuery& query) {
    const Buffer<i64>& tuning = scores_[query.tune_apart ? kForTuning : kBoth];
    const Buffer<i64>& final_scores = scores_[query.tune_apart ? kForQuantiles : kBoth];
    AbstentionChoice choice;
    choice.tuning_rows = static_cast<i64>(tuning.size());
    choice.calibration_rows = static_cast<i64>(final_scores.size());
    if (tuning.empty() || final_scores.empty()) return choice;

    const auto tunes = [&](std::size_t part, std::size_t row) {
      return !query.tune_apart || own_[part].tunes[row] != 0;
    };
    const auto thresholds_of = [&](const std::vector<Fraction>& levels) {
      std::vector<i64> thresholds;
      for (const Fraction& level : levels) {
        thresholds.push_back(threshold_at(tuning, query.quantile, level).score);
      }
      return thresholds;
    };
    const std::vector<i64> predict = thresholds_of(query.alphas);
    std::vector<std::size_t> order(predict.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return predict[a] > predict[b]; });
    std::vector<std::size_t> place(order.size());  // [alpha] in this order
    for (std::size_t i = 0; i < order.size(); ++i) place[order[i]] = i;
    // A set is empty where even the most probable label's score is above its threshold.
    std::vector<Buffer<u16>> single_alphas;  // [part][row]
    for (const RowsOfPart& rows : own_) single_alphas.emplace_back(rows.tunes.size(), u16{0});
    auto done = visit_sets(own_, predict,
                           [&](std::size_t part, std::size_t row, std::size_t, u32 set, i32) {
                             if (ConformalRowSets::size(set) != 0) ++single_alphas[part][row];
                           });
    if (!done) return done.error();
    Grid grid(query.alphas.size(), query.betas.size());
    done = visit_sets(own_, thresholds_of(query.betas),
                      [&](std::size_t part, std::size_t row, std::size_t beta, u32 set, i32 rank) {
                        if (!tunes(part, row)) return;
                        const std::size_t alphas = single_alphas[part][row];
                        if (beta == 0) grid.add_single(alphas, rank == 1);
                        grid.add_rest(alphas, beta, ConformalRowSets::size(set),
                                      ConformalRowSets::covers(set));
                      });
    if (!done) return done.error();

    grid.finish();
    bool found = false;
    double least = 0;
    for (std::size_t a = 0; a < query.alphas.size(); ++a) {
      for (std::size_t b = 0; b < query.betas.size(); ++b) {
        const AbstentionCounts counts = grid.counts(place[a], b);
        const double cost = abstention_cost(counts, query.costs);
        if (found && !(cost < least)) continue;
        found = true;
        least = cost;
        choice.tuned = counts;
        choice.alpha = query.alphas[a];
        choice.beta = query.betas[b];
      }
    }
    choice.predict = threshold_at(final_scores, query.quantile, choice.alpha);
    choice.abstain = threshold_at(final_scores, query.quantile, choice.beta);
    return choice;
  }

  /// What the policies chosen answer to the rows that are not for calibration.
  Result<void> judge(AbstentionStates& states) {
    const std::size_t queries = states.choices.size();
    states.sums.assign(queries, std::vector<AbstentionSums>(calibration_.size()));
    std::vector<RowsOfPart> others;
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      others.push_back(rows_of_part(parts_[p], cell_map_[p], calibration_, true));
    }
    const TableView& view = parts_.front().view;
    const std::size_t sizes =
        static_cast<std::size_t>(view.task == Task::kBinary ? 2 : view.classes) + 1;
    for (std::size_t q = 0; q < queries; ++q) {
      const AbstentionChoice& choice = states.choices[q];
      if (choice.tuning_rows == 0 || choice.calibration_rows == 0) continue;
      std::vector<Buffer<u8>> single;
      for (const RowsOfPart& rows : others) single.emplace_back(rows.cells.size(), u8{0});
      auto done =
          visit_sets(others, {choice.predict.score, choice.abstain.score},
                     [&](std::size_t part, std::size_t row, std::size_t which, u32 set, i32 rank) {
                       const i64 size = ConformalRowSets::size(set);
                       if (which == 0) {
                         single[part][row] = static_cast<u8>(size != 0);
                         return;
                       }
                       AbstentionSums& sums = states.sums[q][others[part].cells[row]];
                       if (sums.sizes.empty()) sums.sizes.resize(sizes);
                       AbstentionCounts& counts = sums.counts;
                       const u64 right = rank == 1 ? 1 : 0;
                       if (single[part][row] != 0) {
                         ++counts.singles;
                         counts.singles_right += right;
                       } else if (size == 0) {
                         ++counts.abstained;
                         sums.abstained_right += right;
                       } else {
                         ++counts.sets;
                         counts.sets_covered += ConformalRowSets::covers(set) ? 1 : 0;
                         counts.set_labels += static_cast<u64>(size);
                         sums.sets_right += right;
                         ++sums.sizes[static_cast<std::size_t>(size)];
                       }
                     });
      if (!done) return done.error();
    }
    return {};
  }

  std::span<const PreparedTable> parts_;
  const std::vector<std::vector<u32>>& cell_map_;
  const std::vector<bool>& calibration_;
  Backend& backend_;
  int threads_;
  std::vector<RowsOfPart> own_;        ///< [part] the calibration rows
  std::array<Buffer<i64>, 3> scores_;  ///< [Half] of them, sorted
  bool outside_unit_ = false;
};

}  // namespace

Result<AbstentionStates> abstention_states(std::span<const PreparedTable> parts,
                                           const std::vector<std::vector<u32>>& cell_map,
                                           const std::vector<bool>& calibration,
                                           std::span<const AbstentionQuery> queries,
                                           Backend& backend, int threads) {
  return Chooser(parts, cell_map, calibration, backend, threads).run(queries);
}

}  // namespace cupel
