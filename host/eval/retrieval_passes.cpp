#include "eval/retrieval_passes.hpp"

#include <algorithm>

namespace cupel {

RetrievalPasses::RetrievalPasses(const EmbeddingView& view, std::span<const RetrievalQuery> queries,
                                 i64 bytes)
    : view_(view), queries_(queries), sums_(queries.size()) {
  std::vector<i64> ks;
  bool by_class_size = false;
  for (const RetrievalQuery& query : queries) {
    ks.insert(ks.end(), query.ks.begin(), query.ks.end());
    by_class_size = by_class_size || query.by_class_size;
  }
  std::sort(ks.begin(), ks.end());
  ks.erase(std::unique(ks.begin(), ks.end()), ks.end());
  wanted_ = wanted_neighbours(view, ks, by_class_size);
  // While they are gathered there is room for as many again.
  constexpr u64 kBytes = 2 * sizeof(Neighbours::One);
  const u64 fit = static_cast<u64>(std::max<i64>(bytes, 1)) / kBytes;
  Block open;
  u64 rows = 0;
  for (i64 i = 0; i < view.rows; ++i) {
    const u64 own = wanted_[static_cast<std::size_t>(i)];
    if (rows + own > fit && open.first < i) {
      blocks_.push_back(open);
      open = {i, i};
      rows = 0;
    }
    rows += own;
    open.last = i + 1;
  }
  blocks_.push_back(open);
}

void RetrievalPasses::add(const Neighbours& neighbours, const Block& block) {
  for (std::size_t q = 0; q < queries_.size(); ++q) {
    const RetrievalSums sums = retrieval_sums(view_, neighbours, block.first, block.last,
                                              queries_[q].ks, queries_[q].by_class_size);
    if (block.first == 0) {
      sums_[q] = sums;
    } else {
      sums_[q].merge(sums);
    }
  }
}

void RetrievalPasses::take(const Neighbours& neighbours) { add(neighbours, {0, view_.rows}); }

Result<void> RetrievalPasses::run(PairRunner& runner) {
  const auto passes_of = [&](const Block& block) {
    PairPass before;  // of a pair with one end in the block, the first row is in front of it ...
    before.a_last = block.first;
    before.b_first = block.first;
    before.b_last = block.last;
    PairPass behind;  // ... or in it
    behind.a_first = behind.b_first = block.first;
    behind.a_last = block.last;
    behind.b_last = view_.rows;
    return std::pair{std::move(before), std::move(behind)};
  };
  for (const Block& block : blocks_) {
    const auto [before, behind] = passes_of(block);
    runner.plan(before.pairs() + behind.pairs());
  }
  std::vector<u32> wanted(wanted_.size(), 0);
  for (const Block& block : blocks_) {
    const auto first = static_cast<std::ptrdiff_t>(block.first);
    const auto last = static_cast<std::ptrdiff_t>(block.last);
    std::copy(wanted_.begin() + first, wanted_.begin() + last, wanted.begin() + first);
    Neighbours neighbours;
    auto [before, behind] = passes_of(block);
    for (PairPass* pass : {&before, &behind}) {
      pass->neighbours = wanted;
      auto states = runner.run(*pass);
      if (!states) return states.error();
      neighbours.merge(states->neighbours, wanted);
    }
    add(neighbours, block);
    std::fill(wanted.begin() + first, wanted.begin() + last, 0);
  }
  return {};
}

}  // namespace cupel
