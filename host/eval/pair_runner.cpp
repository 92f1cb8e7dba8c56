#include "eval/pair_runner.hpp"

#include <algorithm>

namespace cupel {

Result<PairStates> PairRunner::run(const PairPass& pass) {
  const u64 pairs = pass.pairs();
  const u64 before = work_.done;
  work_.planned = std::max(work_.planned, before + pairs);
  PairProgress progress;
  if (work_.told) {
    progress = [&](u64 done) { work_.told(before + std::min(done, pairs), work_.planned); };
  }
  auto states = backend_.embedding_pairs(view_, pass, threads_, progress);
  if (!states) return states.error();
  work_.done += pairs;
  return states;
}

}  // namespace cupel
