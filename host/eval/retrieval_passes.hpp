// Each row's nearest rows for retrieval metrics: beside another pass, or block of queries by block.
#pragma once

#include <span>
#include <vector>

#include "eval/pair_runner.hpp"
#include "eval/retrieval.hpp"

namespace cupel {

class RetrievalPasses {
 public:
  /// `view` and `queries` stay. Lists of nearest rows take at most about `bytes`.
  RetrievalPasses(const EmbeddingView& view, std::span<const RetrievalQuery> queries, i64 bytes);

  /// One pass will do: it takes wanted() as its neighbours and gives them to take().
  bool in_one() const { return blocks_.size() <= 1; }
  std::span<const u32> wanted() const { return wanted_; }
  void take(const Neighbours& neighbours);

  /// Otherwise: blocks of queries, each with the pairs that have an end in it. Every pair is
  /// computed at most twice.
  Result<void> run(PairRunner& runner);

  /// [query]
  const std::vector<RetrievalSums>& sums() const { return sums_; }
  std::size_t blocks() const { return blocks_.size(); }

 private:
  struct Block {
    i64 first = 0, last = 0;
  };
  void add(const Neighbours& neighbours, const Block& block);

  const EmbeddingView& view_;
  std::span<const RetrievalQuery> queries_;
  std::vector<u32> wanted_;
  std::vector<Block> blocks_;
  std::vector<RetrievalSums> sums_;
};

}  // namespace cupel
