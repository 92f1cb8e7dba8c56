#include "cupel/state/class_pairs.hpp"

#include <algorithm>
#include <utility>

namespace cupel {
namespace {

/// The pairs of the rows of `a` with the rows of `b`, first <= i < last, i < j.
u64 pairs_between(i64 a_first, i64 a_last, i64 b_first, i64 b_last) {
  PairPass pass;
  pass.a_first = a_first;
  pass.a_last = std::max(a_first, a_last);
  pass.b_first = b_first;
  pass.b_last = std::max(b_first, b_last);
  return pass.pairs();
}

}  // namespace

void count_above_cuts(const EmbeddingView& view, const PairPass& pass, ClassCuts& counts) {
  i64 first = 0;
  for (u32 cls = 0; cls < view.class_count; ++cls) {
    i64 last = first;
    while (last < view.rows && view.classes[last] == cls) ++last;
    const auto inside = [&](i64 side_first, i64 side_last) {
      return std::pair(std::max(first, side_first), std::min(last, side_last));
    };
    const auto [a_first, a_last] = inside(pass.a_first, pass.a_last);
    const auto [b_first, b_last] = inside(pass.b_first, pass.b_last);
    const u64 pos = pairs_between(a_first, a_last, b_first, b_last);
    const u64 touching = pairs_between(a_first, a_last, pass.b_first, pass.b_last) +
                         pairs_between(pass.a_first, pass.a_last, b_first, b_last);
    const std::size_t above = counts.columns - 1;
    u64 pos_below = 0;
    u64 neg_below = 0;
    for (std::size_t column = 0; column < above; ++column) {
      pos_below += counts.pos_at(cls, column);
      neg_below += counts.neg_at(cls, column);
    }
    counts.pos_at(cls, above) = pos - pos_below;
    counts.neg_at(cls, above) = touching - 2 * pos - neg_below;
    first = last;
  }
}

}  // namespace cupel
