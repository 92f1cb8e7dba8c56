// Passes over pairs of rows of an embedding, on the host.
#include <algorithm>

#include "cupel/backend/backend.hpp"

namespace cupel {

Result<PairStates> Backend::embedding_pairs(const EmbeddingView& view, const PairPass& pass, int,
                                            const PairProgress& progress) {
  PairStates states;
  if (!pass.cuts.empty()) states.cuts = ClassCuts(view.class_count, pass.cuts.size());
  Buffer<u32> pos_keys;
  Buffer<u32> neg_keys;
  std::vector<std::vector<Neighbours::One>> near(pass.neighbours.size());
  PairList::Chunk chunk;
  const auto offer = [&](i64 of, i64 other, u32 key) {
    if (near.empty() || pass.neighbours[static_cast<std::size_t>(of)] == 0) return;
    near[static_cast<std::size_t>(of)].push_back({key, view.ties[other], static_cast<u32>(other)});
  };
  for (i64 i = pass.a_first; i < pass.a_last; ++i) {
    for (i64 j = std::max(i + 1, pass.b_first); j < pass.b_last; ++j) {
      const float gap = pair_gap(view.domain, dot_chain(view.row(i), view.row(j), view.width),
                                 view.squares[i], view.squares[j]);
      const u32 a = view.classes[i];
      const u32 b = view.classes[j];
      if (!pass.cuts.empty()) {
        const auto column = static_cast<std::size_t>(
            std::lower_bound(pass.cuts.begin(), pass.cuts.end(), gap) - pass.cuts.begin());
        if (a == b) {
          ++states.cuts.pos_at(a, column);
        } else {
          ++states.cuts.neg_at(a, column);
          ++states.cuts.neg_at(b, column);
        }
      }
      const u32 key = gap_key(view.domain, gap);
      if (pass.ranks) (a == b ? pos_keys : neg_keys).push_back(key);
      offer(i, j, key);
      offer(j, i, key);
      for (const GapRange& range : pass.kept) {
        if (gap <= range.low || gap > range.high) continue;
        if (pass.kept_negatives_only && a == b) continue;
        chunk.tiles.push_back({static_cast<u32>(i), static_cast<u32>(j), 1});
        chunk.gaps.push_back(gap);
        chunk.places.push_back(0);
      }
    }
  }
  if (pass.ranks) {
    const u64 pos = pos_keys.size();
    const u64 neg = neg_keys.size();
    std::sort(pos_keys.begin(), pos_keys.end());
    std::sort(neg_keys.begin(), neg_keys.end());
    KeyRuns<u32> runs{canonical_run(std::move(pos_keys)), canonical_run(std::move(neg_keys))};
    states.ranks = RankTable(ScoreKind::kF32, false, std::move(runs), pos, neg);
  }
  if (!near.empty()) {
    states.neighbours.offsets.push_back(0);
    for (std::size_t row = 0; row < near.size(); ++row) {
      std::vector<Neighbours::One>& of = near[row];
      std::sort(of.begin(), of.end(), [](const auto& x, const auto& y) {
        return x.key != y.key ? x.key > y.key : x.tie < y.tie;
      });
      if (of.size() > pass.neighbours[row]) of.resize(pass.neighbours[row]);
      states.neighbours.rows.insert(states.neighbours.rows.end(), of.begin(), of.end());
      states.neighbours.offsets.push_back(states.neighbours.rows.size());
    }
  }
  if (!chunk.gaps.empty()) states.kept.chunks.push_back(std::move(chunk));
  if (static_cast<i64>(states.kept.bytes()) > pass.kept_bytes && !pass.kept.empty()) {
    states.kept = {};
    states.kept.complete = false;
  }
  if (progress) progress(pass.pairs());
  return states;
}

}  // namespace cupel
