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

}  // namespace

PairPass left_to_host(const EmbeddingView&, const PairPass& pass) {
  PairPass rest = pass;
  rest.cuts.clear();
  rest.ranks = false;
  return rest;
}

bool asks_for_something(const PairPass& pass) {
  return !pass.cuts.empty() || pass.ranks || !pass.neighbours.empty() || !pass.kept.empty();
}

bool pairs_on_device(Pipelines& pipelines, const EmbeddingView& view, const PairPass& pass,
                     bool keep, const PairProgress& progress, PairStates& states) {
  const u64 pairs = pass.pairs();
  if (!pass.cuts.empty()) states.cuts = ClassCuts(view.class_count, pass.cuts.size());
  if (pass.ranks) states.ranks = RankTable(ScoreKind::kF32, false);
  if (pairs == 0) return true;
  PairWork work{pass.a_first, pass.a_last, pass.b_first, pass.b_last, pairs, {}};
  if (progress) work.progress = progress;
  if (!pipelines.set_embedding(host_embedding(view), keep)) return false;
  const u64 steps = (pass.cuts.empty() ? 0 : 1) + (pass.ranks ? 2 : 0);
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
    if (!pipelines.pair_ranks(share_of(work, step, steps), pos, neg)) return false;
    KeyRuns<u32> runs;
    runs.pos = canonical_run(std::move(pos.keys), std::move(pos.counts));
    runs.neg = canonical_run(std::move(neg.keys), std::move(neg.counts));
    states.ranks = RankTable(ScoreKind::kF32, false, std::move(runs), pos.rows, neg.rows);
  }
  return true;
}

}  // namespace cupel::device
