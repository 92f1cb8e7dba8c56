#include "device_pairs.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "cupel/state/class_pairs.hpp"

namespace cupel::device {
namespace {

HostEmbedding host_embedding(const EmbeddingView& view) {
  return {view.domain,  view.rows,    view.width,       view.stride, view.values,
          view.squares, view.classes, view.class_count, view.ties};
}

/// [class][cut] as counts that end with what is above every cut.
ClassCuts class_cuts(const EmbeddingView& view, const PairPass& pass, const std::vector<u64>& pos,
                     const std::vector<u64>& neg) {
  ClassCuts counts(view.class_count, pass.cuts.size());
  const std::size_t cuts = pass.cuts.size();
  for (u32 cls = 0; cls < view.class_count; ++cls) {
    for (std::size_t column = 0; column < cuts; ++column) {
      counts.pos_at(cls, column) = pos[cls * cuts + column];
      counts.neg_at(cls, column) = neg[cls * cuts + column];
    }
  }
  count_above_cuts(view, pass, counts);
  return counts;
}

KeyRun<u32> key_run(HostRun<u32>& run) {
  return run.counts.empty() ? canonical_run(std::move(run.keys))
                            : canonical_run(std::move(run.keys), std::move(run.counts));
}

PairList pair_list(HostPairList& found) {
  PairList list;
  list.complete = found.complete;
  for (HostPairList::Chunk& from : found.chunks) {
    PairList::Chunk chunk;
    chunk.tiles.reserve(from.tiles.size());
    for (const HostPairList::Tile& tile : from.tiles) {
      chunk.tiles.push_back({tile.row, tile.col, tile.count});
    }
    chunk.gaps = std::move(from.gaps);
    chunk.places = std::move(from.places);
    list.chunks.push_back(std::move(chunk));
  }
  return list;
}

Neighbours neighbours(const EmbeddingView& view, const HostNearest& found) {
  Neighbours near;
  near.offsets.push_back(0);
  for (std::size_t row = 0; row < found.counts.size(); ++row) {
    const auto begin = static_cast<std::ptrdiff_t>(near.rows.size());
    for (u64 at = found.firsts[row]; at < found.firsts[row] + found.counts[row]; ++at) {
      near.rows.push_back({found.keys[at], view.ties[found.rows[at]], found.rows[at]});
    }
    std::sort(near.rows.begin() + begin, near.rows.end(), [](const auto& x, const auto& y) {
      return x.key != y.key ? x.key > y.key : x.tie < y.tie;
    });
    near.offsets.push_back(near.rows.size());
  }
  return near;
}

}  // namespace

bool pairs_on_device(Pipelines& pipelines, const EmbeddingView& view, const PairPass& pass,
                     bool keep, const PairProgress& progress, PairStates& states) {
  const u64 pairs = pass.pairs();
  if (!pass.cuts.empty()) states.cuts = ClassCuts(view.class_count, pass.cuts.size());
  if (pass.ranks) states.ranks = RankTable(ScoreKind::kF32, false);
  if (!pass.neighbours.empty()) states.neighbours.offsets.resize(pass.neighbours.size() + 1);
  if (pairs == 0) return true;
  PairWork work{pass.a_first, pass.a_last, pass.b_first, pass.b_last, pairs, {}};
  if (progress) work.progress = progress;
  if (!pipelines.set_embedding(host_embedding(view), keep)) return false;
  // Ranks take two passes, mostly.
  const auto asked = [](bool asks, u64 steps) { return asks ? steps : 0; };
  const u64 steps = asked(!pass.cuts.empty(), 1) + asked(pass.ranks, 2) +
                    asked(!pass.kept.empty(), 1) + asked(!pass.neighbours.empty(), 1);
  u64 step = 0;
  if (!pass.cuts.empty()) {
    std::vector<u64> pos;
    std::vector<u64> neg;
    if (!pipelines.pair_cuts(share_of(work, step++, steps), pass.cuts, pos, neg)) return false;
    states.cuts = class_cuts(view, pass, pos, neg);
  }
  if (pass.ranks) {
    HostRun<u32> pos;
    HostRun<u32> neg;
    if (!pipelines.pair_ranks(share_of(work, step, steps, 2), pos, neg)) return false;
    KeyRuns<u32> runs;
    runs.pos = key_run(pos);
    runs.neg = key_run(neg);
    states.ranks = RankTable(ScoreKind::kF32, false, std::move(runs), pos.rows, neg.rows);
    step += 2;
  }
  if (!pass.kept.empty()) {
    ListWork list;
    list.negatives_only = pass.kept_negatives_only;
    list.most_bytes = pass.kept_bytes;
    for (const GapRange& range : pass.kept) {
      list.bounds.push_back(range.low);
      list.bounds.push_back(range.high);
    }
    HostPairList found;
    if (!pipelines.pair_list(share_of(work, step++, steps), list, found)) return false;
    states.kept = pair_list(found);
  }
  if (!pass.neighbours.empty()) {
    HostNearest found;
    if (!pipelines.pair_nearest(share_of(work, step, steps), pass.neighbours.data(), found)) {
      return false;
    }
    states.neighbours = neighbours(view, found);
  }
  return true;
}

}  // namespace cupel::device
