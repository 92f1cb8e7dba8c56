// Passes over the pairs of one embedding, with their progress.
#pragma once

#include <functional>

#include "cupel/backend/backend.hpp"

namespace cupel {

/// What all embeddings of one evaluation share: pairs that were done and those that are planned.
struct PairWork {
  std::function<void(u64 done, u64 all)> told;
  u64 done = 0;
  u64 planned = 0;
};

/// Makes passes over one embedding. `backend`, `view` and `work` stay. Embeddings come and go while
/// columns are held, maybe at the same addresses: a backend forgets the one before.
class PairRunner {
 public:
  PairRunner(Backend& backend, const EmbeddingView& view, int threads, PairWork& work)
      : backend_(backend), view_(view), threads_(threads), work_(work) {
    backend_.forget_columns();
  }

  /// The pairs of a pass that is to come.
  void plan(u64 pairs) { work_.planned += pairs; }
  Result<PairStates> run(const PairPass& pass);

 private:
  Backend& backend_;
  const EmbeddingView& view_;
  int threads_ = 1;
  PairWork& work_;
};

}  // namespace cupel
