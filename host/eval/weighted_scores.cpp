#include "eval/weighted_scores.hpp"

#include <algorithm>

#include "cupel/core/config.hpp"

namespace cupel {
namespace {

/// ceil(mass * num / den) for num <= den <= 10^18.
u128 share_of(u128 mass, u64 num, u64 den) {
  const u128 low = static_cast<u128>(static_cast<u64>(mass)) * num;
  const u128 high = (mass >> 64) * num + (low >> 64);  // below 2^124
  // Long division of high * 2^64 + (low mod 2^64), whose quotient is at most mass.
  const u128 first = high / den;
  const u128 rest = ((high % den) << 64) | static_cast<u64>(low);
  return (first << 64) + rest / den + (rest % den != 0 ? 1 : 0);
}

}  // namespace

Result<WeightedScores> WeightedScores::make(std::vector<ScoredMass> rows) {
  std::erase_if(rows, [](const ScoredMass& row) { return row.mass == 0; });
  std::sort(rows.begin(), rows.end(),
            [](const ScoredMass& a, const ScoredMass& b) { return a.score < b.score; });
  WeightedScores made;
  u128 sum = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    sum += rows[i].mass;  // each is below 2^127
    if ((sum >> 127) != 0) {
      return input_error("the weights of the calibration rows", "add up to 2^63 or more",
                         "scale them down");
    }
    if (i + 1 < rows.size() && rows[i + 1].score == rows[i].score) continue;
    made.scores_.push_back(rows[i].score);
    made.through_.push_back(sum);
  }
  return made;
}

i64 WeightedScores::threshold(u128 own, Fraction alpha) const {
  CUPEL_ASSERT(!through_.empty() && alpha.num > 0 && alpha.num < alpha.den);
  const u128 least = share_of(total() + own, alpha.den - alpha.num, alpha.den);
  const auto at = std::lower_bound(through_.begin(), through_.end(), least);
  return at == through_.end() ? kEveryLabel
                              : scores_[static_cast<std::size_t>(at - through_.begin())];
}

}  // namespace cupel
