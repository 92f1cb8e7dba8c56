#include <algorithm>

#include "cupel/core/config.hpp"
#include "cupel/metric/verification.hpp"

namespace cupel {

void RetrievalSums::merge(const RetrievalSums& other) {
  CUPEL_ASSERT(ks == other.ks || ks.empty());
  if (ks.empty()) {
    ks = other.ks;
    found.resize(other.found.size());
  }
  for (std::size_t i = 0; i < found.size(); ++i) found[i] += other.found[i];
  queries += other.queries;
  alone += other.alone;
  for (const BySize& theirs : other.by_size) {
    const auto at = std::lower_bound(
        by_size.begin(), by_size.end(), theirs,
        [](const BySize& a, const BySize& b) { return a.positives < b.positives; });
    if (at == by_size.end() || at->positives != theirs.positives) {
      by_size.insert(at, theirs);
      continue;
    }
    at->queries += theirs.queries;
    at->hits += theirs.hits;
    at->precision += theirs.precision;
  }
}

}  // namespace cupel
