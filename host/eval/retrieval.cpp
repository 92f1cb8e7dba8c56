#include "eval/retrieval.hpp"

#include <algorithm>
#include <map>

namespace cupel {
namespace {

/// Rows of each class.
std::vector<u64> class_sizes(const EmbeddingView& view) {
  std::vector<u64> sizes(view.class_count);
  for (i64 row = 0; row < view.rows; ++row) ++sizes[view.classes[row]];
  return sizes;
}

}  // namespace

std::vector<u32> wanted_neighbours(const EmbeddingView& view, std::span<const i64> ks,
                                   bool by_class_size) {
  const std::vector<u64> sizes = class_sizes(view);
  const i64 others = std::max<i64>(view.rows - 1, 0);
  const i64 largest_k = ks.empty() ? 0 : std::min(*std::max_element(ks.begin(), ks.end()), others);
  std::vector<u32> wanted(static_cast<std::size_t>(view.rows));
  for (i64 row = 0; row < view.rows; ++row) {
    const u64 positives = sizes[view.classes[row]] - 1;
    if (positives == 0) continue;
    const u64 of_class = by_class_size ? positives : 0;
    wanted[static_cast<std::size_t>(row)] =
        static_cast<u32>(std::max(static_cast<u64>(largest_k), of_class));
  }
  return wanted;
}

RetrievalSums retrieval_sums(const EmbeddingView& view, const Neighbours& neighbours, i64 first,
                             i64 last, std::span<const i64> ks, bool by_class_size) {
  const std::vector<u64> sizes = class_sizes(view);
  RetrievalSums sums;
  sums.ks.assign(ks.begin(), ks.end());
  sums.found.resize(ks.size());
  std::map<u64, RetrievalSums::BySize> by_size;
  for (i64 row = first; row < last; ++row) {
    const u32 cls = view.classes[row];
    const u64 positives = sizes[cls] - 1;
    if (positives == 0) {
      ++sums.alone;
      continue;
    }
    ++sums.queries;
    const auto at = static_cast<std::size_t>(row);
    const auto near =
        std::span(neighbours.rows)
            .subspan(neighbours.offsets[at], neighbours.offsets[at + 1] - neighbours.offsets[at]);
    const auto hit = [&](const Neighbours::One& one) { return view.classes[one.row] == cls; };
    const auto first_hit = std::find_if(near.begin(), near.end(), hit) - near.begin();
    for (std::size_t k = 0; k < ks.size(); ++k) {
      // Where no row of the list is a hit, its length is not below any k that it was made for.
      const bool found = first_hit < static_cast<std::ptrdiff_t>(near.size()) && first_hit < ks[k];
      sums.found[k] += found ? 1 : 0;
    }
    if (!by_class_size) continue;
    RetrievalSums::BySize& of_size = by_size[positives];
    of_size.positives = positives;
    ++of_size.queries;
    u64 hits = 0;
    for (u64 rank = 1; rank <= positives && rank <= near.size(); ++rank) {
      if (!hit(near[rank - 1])) continue;
      ++hits;
      of_size.precision += (static_cast<u128>(hits) << 60) / rank;
    }
    of_size.hits += hits;
  }
  for (const auto& [positives, of_size] : by_size) sums.by_size.push_back(of_size);
  return sums;
}

}  // namespace cupel
