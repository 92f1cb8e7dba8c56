// The distinct scores of a rank table in ascending order, each with its masses.
#pragma once

#include <limits>
#include <variant>

#include "cupel/state/rank_table.hpp"

namespace cupel {

namespace detail {

/// Reads a run group by group.
template <class Key>
class RunReader {
 public:
  explicit RunReader(const KeyRun<Key>& run) : run_(run) {}
  bool at_end() const { return at_ == run_.keys.size(); }
  Key key() const { return run_.keys[at_]; }
  /// The mass of the key that it stands at; moves on.
  u128 take() {
    if (!run_.weights.empty()) return run_.weights[at_++];
    if (!run_.counts.empty()) return run_.counts[at_++];
    const std::size_t first = at_;
    while (!at_end() && key() == run_.keys[first]) ++at_;
    return at_ - first;
  }

 private:
  const KeyRun<Key>& run_;
  std::size_t at_ = 0;
};

}  // namespace detail

/// Calls visit(score, positive mass, negative mass) for each distinct score of positive mass,
/// ascending; scores as by score_of_key(). O(size).
template <class Visit>
void for_each_score(const RankTable& table, const Visit& visit) {
  std::visit(
      [&](const auto& runs) {
        detail::RunReader pos(runs.pos);
        detail::RunReader neg(runs.neg);
        while (!pos.at_end() || !neg.at_end()) {
          const bool from_pos = neg.at_end() || (!pos.at_end() && pos.key() <= neg.key());
          const auto key = from_pos ? pos.key() : neg.key();
          const u128 positive = from_pos ? pos.take() : 0;
          const u128 negative = !neg.at_end() && neg.key() == key ? neg.take() : 0;
          visit(score_of_key(table.kind(), key), positive, negative);
        }
      },
      table.runs());
}

}  // namespace cupel
