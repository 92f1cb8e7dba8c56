#include "eval/exact_passes.hpp"

#include <algorithm>
#include <limits>

#include "eval/exact_events.hpp"

namespace cupel {
namespace {

/// What a pair of a block takes: its share of a list, at most, and its event.
constexpr i64 kListBytes = sizeof(float) + sizeof(u16) + sizeof(PairList::Tile);
constexpr i64 kPairBytes = kListBytes + static_cast<i64>(sizeof(PairEvent));

class Passes {
 public:
  Passes(const EmbeddingView& view, const ExactTask& task, std::vector<ExactSweep>& sweeps,
         ThreadPool& pool, PairRunner& runner)
      : view_(view), task_(task), sweeps_(sweeps), pool_(pool), runner_(runner) {
    active_.assign(sweeps.size(), true);
  }

  Result<void> run() {
    for (bool first = true; first || ask_again(); first = false) {
      if (auto done = once(); !done) return done.error();
    }
    return {};
  }
  i64 passes() const { return passes_; }
  i64 blocks() const { return blocks_; }

 private:
  bool ask_again() {
    bool any = false;
    for (std::size_t q = 0; q < sweeps_.size(); ++q) {
      active_[q] = active_[q] && sweeps_[q].again();
      any = any || active_[q];
    }
    return any;
  }

  Result<void> once() {
    blocks_ = 0;
    if (task_.list != nullptr) {
      // What the list leaves, or a quarter where it leaves less.
      const i64 left = task_.bytes - static_cast<i64>(task_.list->bytes());
      feed(*task_.list, task_.range, std::max(left, task_.bytes / 4));
      return {};
    }
    const std::vector<GapRange> parts = plan();
    const u64 pairs = PairPass::whole(view_).pairs();
    runner_.plan(pairs * parts.size());
    for (const GapRange& part : parts) {
      if (auto done = pass(part); !done) return done.error();
    }
    return {};
  }

  void feed(const PairList& list, const GapRange& range, i64 bytes) {
    each_event_block(view_, list, range, bytes, pool_, [&](std::span<const PairEvent> events) {
      ++blocks_;
      for (std::size_t q = 0; q < sweeps_.size(); ++q) {
        if (active_[q]) sweeps_[q].take(events);
      }
    });
  }

  // ---- ranges that fit
  // ---------------------------------------------------------------------------

  u32 step(float cut) const { return ~gap_key(view_.domain, cut); }
  /// A cut at or below which steps end; cuts stand for thresholds, and so end steps.
  float cut_behind(u64 step) const { return gap_of_key(view_.domain, ~static_cast<u32>(step)); }
  /// The step of the last pair that `low` may still accept.
  i64 step_before(float low) const {
    if (view_.domain == PairDomain::kL2 && low < 0) return i64{step(0)} - 1;
    return i64{step(low)};
  }

  /// Neighbouring cells of the known cuts together as long as they fit, and large ones cut by step.
  std::vector<GapRange> plan() const {
    const u64 fit = static_cast<u64>(std::max<i64>(task_.bytes / kPairBytes, 1));
    std::vector<GapRange> parts;
    GapRange open{task_.range.low, task_.range.low};
    u64 in_open = 0;
    const auto close = [&] {
      if (open.low < open.high && in_open != 0) parts.push_back(open);
      open.low = open.high;
      in_open = 0;
    };
    for (std::size_t k = 1; k < task_.known.size(); ++k) {
      const u64 pairs = task_.pairs_up_to[k] - task_.pairs_up_to[k - 1];
      if (in_open + pairs > fit) close();
      if (pairs > fit) {
        const GapRange cell{task_.known[k - 1], task_.known[k]};
        for (const GapRange& part : cut_evenly(cell, pairs / fit * 5 / 4 + 2))
          parts.push_back(part);
        open = {cell.high, cell.high};
        continue;
      }
      open.high = task_.known[k];
      in_open += pairs;
    }
    close();
    return parts;
  }

  std::vector<GapRange> cut_evenly(const GapRange& range, u64 count) const {
    const i64 before = step_before(range.low);
    const auto steps = static_cast<u64>(i64{step(range.high)} - before);
    count = std::clamp<u64>(count, 1, std::max<u64>(steps, 1));
    std::vector<GapRange> parts;
    float low = range.low;
    for (u64 p = 1; p <= count; ++p) {
      const float high =
          p == count ? range.high
                     : cut_behind(static_cast<u64>(before + static_cast<i64>(steps / count * p)));
      if (!(low < high)) continue;
      parts.push_back({low, high});
      low = high;
    }
    return parts;
  }

  Result<void> pass(const GapRange& range) {
    const bool one = i64{step(range.high)} - step_before(range.low) <= 1;
    PairPass pass = PairPass::whole(view_);
    pass.kept = {range};
    constexpr i64 kSlack = 4096;
    pass.kept_bytes =
        one ? std::numeric_limits<i64>::max() : task_.bytes / kPairBytes * kListBytes + kSlack;
    ++passes_;
    auto states = runner_.run(pass);
    if (!states) return states.error();
    if (states->kept.complete) {
      feed(states->kept, range, task_.bytes / kPairBytes * static_cast<i64>(sizeof(PairEvent)));
      return {};
    }
    for (const GapRange& half : cut_evenly(range, 2)) {
      if (auto done = this->pass(half); !done) return done.error();
    }
    return {};
  }

  const EmbeddingView& view_;
  const ExactTask& task_;
  std::vector<ExactSweep>& sweeps_;
  ThreadPool& pool_;
  PairRunner& runner_;
  std::vector<bool> active_;
  i64 passes_ = 0, blocks_ = 0;
};

}  // namespace

Result<ExactFound> exact_curves(const EmbeddingView& view, std::span<const CurveQuery> queries,
                                const ExactTask& task, ThreadPool& pool, PairRunner& runner) {
  std::vector<ExactSweep> sweeps;
  for (const CurveQuery& query : queries) sweeps.emplace_back(query, task.start);
  Passes passes(view, task, sweeps, pool, runner);
  if (auto done = passes.run(); !done) return done.error();
  ExactFound found;
  found.passes = passes.passes();
  found.blocks = passes.blocks();
  for (ExactSweep& sweep : sweeps) found.curves.push_back(sweep.finish());
  return found;
}

}  // namespace cupel
