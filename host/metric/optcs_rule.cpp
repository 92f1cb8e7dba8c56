#include <algorithm>
#include <numeric>

#include "cupel/math/wide.hpp"
#include "cupel/metric/optcs.hpp"

namespace cupel {
namespace {

/// What one model says of all test rows.
struct ModelRanks {
  std::vector<ScorePlace> places;  ///< [test row] among the calibration scores
  std::vector<u64> rejections;     ///< [test row] R_j
};

ModelRanks rank_model(const ModelScores& model, u64 calibration_rows, const Fraction& q) {
  const std::size_t m = model.test.size();
  ModelRanks ranks;
  ranks.places.resize(m);
  ranks.rejections.resize(m);
  std::vector<std::size_t> order(m);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return model.test[a] < model.test[b]; });
  // (count + more) / (n + 1) <= q k / m
  const auto passes = [&](u64 count, u64 k) {
    return within_level(u128{count} << kUniformBits, calibration_rows, q, k, m);
  };
  // Positions count from 1 in ascending order of the test scores, c being #{V_i <= V} there. Row j,
  // whose tie group begins at position t, is taken out and put first with p-value 0. Those before t
  // then have rank position + 1 and count c, those behind it rank position and count c + 1; which
  // row of a tie group is taken out does not matter, so it is the first.
  std::vector<u64> counts(m);
  u64 last_behind = 0;  // largest position with c + 1 <= L(position)
  for (std::size_t i = 0; i < m; ++i) {
    ScorePlace& place = ranks.places[order[i]];
    const bool repeats = i > 0 && model.test[order[i]] == model.test[order[i - 1]];
    place =
        repeats ? ranks.places[order[i - 1]] : place_among(model.calibration, model.test[order[i]]);
    counts[i] = place.below + place.equal;
    if (passes(counts[i] + 1, i + 1)) last_behind = i + 1;
  }
  u64 last_before = 0;  // largest position before the tie group with c <= L(position + 1)
  for (std::size_t first = 0; first < m;) {
    std::size_t end = first + 1;
    while (end < m && model.test[order[end]] == model.test[order[first]]) ++end;
    const u64 rejections = last_behind > first + 1 ? last_behind : last_before + 1;
    for (std::size_t i = first; i < end; ++i) ranks.rejections[order[i]] = rejections;
    for (std::size_t i = first; i < end; ++i) {
      if (passes(counts[i], i + 2)) last_before = i + 1;
    }
    first = end;
  }
  return ranks;
}

/// The model of a row: one of those with the most rejections, by the row's draw.
u32 choose_model(std::span<const ModelRanks> models, std::size_t row,
                 const std::span<const u64>& draws) {
  u64 most = 0;
  u64 equal = 0;
  for (const ModelRanks& model : models) {
    if (model.rejections[row] > most) {
      most = model.rejections[row];
      equal = 0;
    }
    equal += model.rejections[row] == most ? 1 : 0;
  }
  u64 skip = draws.empty() ? 0 : static_cast<u64>((u128{draws[row] - 1} * equal) >> kUniformBits);
  for (u32 t = 0; t < models.size(); ++t) {
    if (models[t].rejections[row] == most && skip-- == 0) return t;
  }
  return 0;
}

/// The u of a row that its e-value is divided by, in units of 2^-48.
u64 pruning_of(const OptcsRule& rule, const OptcsDraws& draws, std::size_t row) {
  switch (rule.pruning) {
    case Pruning::kNone:
      return kUniformOne;
    case Pruning::kHeterogeneous:
      return draws.pruning[row];
    case Pruning::kHomogeneous:
      return draws.common;
  }
  return kUniformOne;
}

}  // namespace

std::vector<OptcsRow> optcs(std::span<const ModelScores> models, u64 calibration_rows,
                            const OptcsRule& rule, const OptcsDraws& draws) {
  CUPEL_ASSERT(!models.empty());
  const std::size_t m = models.front().test.size();
  std::vector<ModelRanks> ranks;
  for (const ModelScores& model : models) {
    CUPEL_ASSERT(model.test.size() == m);
    ranks.push_back(rank_model(model, calibration_rows, rule.q));
  }
  std::vector<OptcsRow> rows(m);
  // q e_j / u_j >= m / k is R_j u_j <= k, without a rounding.
  std::vector<u128> costs;
  const auto cost_of = [&](std::size_t j) {
    return u128{rows[j].rejections} * pruning_of(rule, draws, j);
  };
  for (std::size_t j = 0; j < m; ++j) {
    OptcsRow& row = rows[j];
    row.model = choose_model(ranks, j, draws.model);
    row.rejections = ranks[row.model].rejections[j];
    row.units = p_value_units(ranks[row.model].places[j], rule.ties,
                              rule.ties == TieRule::kRandom ? draws.p_value[j] : 1);
    row.candidate = within_level(row.units, calibration_rows, rule.q, row.rejections, m);
    if (row.candidate) costs.push_back(cost_of(j));
  }
  std::sort(costs.begin(), costs.end());
  u64 kept = costs.size();
  while (kept > 0 && costs[kept - 1] > u128{kept} << kUniformBits) --kept;
  for (std::size_t j = 0; j < m; ++j) {
    rows[j].selected = rows[j].candidate && cost_of(j) <= u128{kept} << kUniformBits;
  }
  return rows;
}

}  // namespace cupel
