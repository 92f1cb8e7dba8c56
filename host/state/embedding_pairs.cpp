#include "cupel/state/embedding_pairs.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cupel {

float gap_of_key(PairDomain domain, u32 key) {
  // Scores are 0 - value: the largest gap with a score of at least this one.
  const float value = 0.0F - float_from_bits(bits_of_f32(key));
  if (domain == PairDomain::kCosine) return value;
  return gap_cut(domain, static_cast<double>(value));
}

float gap_cut(PairDomain domain, double threshold) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  const auto below = [](double value) {  // the largest float that is not above
    const float nearest = static_cast<float>(value);
    if (static_cast<double>(nearest) <= value) return nearest;
    return std::nextafter(nearest, -std::numeric_limits<float>::infinity());
  };
  if (domain == PairDomain::kCosine) {
    const double gap = 0.0 - threshold;
    if (gap >= static_cast<double>(kLargest)) return kLargest;
    if (gap < -static_cast<double>(kLargest)) return -std::numeric_limits<float>::infinity();
    return below(gap);
  }
  if (threshold < 0) return -1;
  // Distances are square roots of floats: none is above that of the largest.
  const float distance = threshold >= static_cast<double>(kLargest) ? kLargest : below(threshold);
  if (distance >= std::sqrt(kLargest)) return kLargest;
  // Square roots are correctly rounded and so do not fall: gaps below 2^31 patterns of bits, in
  // order.
  u32 low = 0;  // accepted: sqrt(0) is 0
  u32 high = bits_from_float(kLargest);
  while (low < high) {
    const u32 middle = low + (high - low + 1) / 2;
    if (std::sqrt(float_from_bits(middle)) <= distance) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return float_from_bits(low);
}

u64 PairPass::pairs() const {
  // Rows i of a with all rows of b behind them.
  u64 count = 0;
  const i64 whole_to = std::min(a_last, b_first);  // rows in front of all of b
  if (a_first < whole_to) {
    count += static_cast<u64>(whole_to - a_first) * static_cast<u64>(b_last - b_first);
  }
  const i64 from = std::max(a_first, b_first);
  const i64 to = std::min(a_last, b_last);
  if (from < to) {
    const u64 most = static_cast<u64>(b_last - 1 - from);
    const u64 least = static_cast<u64>(b_last - to);
    // One of the factors of most + ... + least is even.
    const u64 terms = most - least + 1;
    const u64 sum = most + least;
    count += terms % 2 == 0 ? terms / 2 * sum : terms * (sum / 2);
  }
  return count;
}

ClassCuts::ClassCuts(u32 class_count, std::size_t cuts)
    : classes(class_count),
      columns(cuts + 1),
      pos(class_count * (cuts + 1)),
      neg(class_count * (cuts + 1)) {}

void ClassCuts::merge(const ClassCuts& other) {
  if (other.columns == 0) return;
  if (columns == 0) {
    *this = other;
    return;
  }
  CUPEL_ASSERT(classes == other.classes && columns == other.columns);
  for (std::size_t i = 0; i < pos.size(); ++i) pos[i] += other.pos[i];
  for (std::size_t i = 0; i < neg.size(); ++i) neg[i] += other.neg[i];
}

void Neighbours::merge(const Neighbours& other, std::span<const u32> wanted) {
  if (other.offsets.empty()) return;
  if (offsets.empty()) {
    *this = other;
    return;
  }
  const auto nearer = [](const One& a, const One& b) {
    return a.key != b.key ? a.key > b.key : a.tie < b.tie;
  };
  std::vector<u64> to{0};
  std::vector<One> joined;
  std::vector<One> both;
  for (std::size_t row = 0; row + 1 < offsets.size(); ++row) {
    const auto part = [&](const Neighbours& of) {
      return std::span(of.rows).subspan(of.offsets[row], of.offsets[row + 1] - of.offsets[row]);
    };
    both.resize(part(*this).size() + part(other).size());
    std::merge(part(*this).begin(), part(*this).end(), part(other).begin(), part(other).end(),
               both.begin(), nearer);
    if (both.size() > wanted[row]) both.resize(wanted[row]);
    joined.insert(joined.end(), both.begin(), both.end());
    to.push_back(joined.size());
  }
  offsets = std::move(to);
  rows = std::move(joined);
}

u64 PairList::size() const {
  u64 pairs = 0;
  for (const Chunk& chunk : chunks) pairs += chunk.gaps.size();
  return pairs;
}

u64 PairList::bytes() const {
  u64 bytes = 0;
  for (const Chunk& chunk : chunks) {
    bytes += chunk.tiles.capacity() * sizeof(Tile) + chunk.gaps.capacity() * sizeof(float) +
             chunk.places.capacity() * sizeof(u16);
  }
  return bytes;
}

Result<void> PairStates::merge(PairStates other, std::span<const u32> wanted) {
  cuts.merge(other.cuts);
  if (auto done = ranks.merge(other.ranks); !done) return done.error();
  neighbours.merge(other.neighbours, wanted);
  kept.complete = kept.complete && other.kept.complete;
  for (PairList::Chunk& chunk : other.kept.chunks) kept.chunks.push_back(std::move(chunk));
  if (!kept.complete) kept.chunks.clear();
  return {};
}

}  // namespace cupel
