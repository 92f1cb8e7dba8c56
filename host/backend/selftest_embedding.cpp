#include "backend/selftest_embedding.hpp"

#include <algorithm>
#include <span>
#include <tuple>

#include "cupel/math/counter_random.hpp"

namespace cupel {
namespace {

float gap_of(const EmbeddingView& view, i64 i, i64 j) {
  return pair_gap(view.domain, dot_chain(view.row(i), view.row(j), view.width), view.squares[i],
                  view.squares[j]);
}

}  // namespace

SelftestEmbedding::SelftestEmbedding(i64 rows, i64 width, std::size_t variant) {
  const auto count = static_cast<std::size_t>(rows);
  const i64 stride = width + static_cast<i64>(variant % 3);
  values_.resize(count * static_cast<std::size_t>(stride));
  for (i64 i = 0; i < rows; ++i) {
    float* const to = values_.data() + i * stride;
    const float* const before = to - stride;
    const u64 kind = i == 0 ? 9 : counter_random(static_cast<u64>(i), 3) % 10;
    for (i64 k = 0; k < width; ++k) {
      const u64 drawn = counter_random(static_cast<u64>(i), static_cast<u64>(k) + 8);
      to[k] = static_cast<float>(drawn >> 40) * 0x1p-24F - 0.4F;
      if (kind == 0) to[k] = before[k];
      if (kind == 1) to[k] = -before[k];
      if (kind == 2) to[k] *= 32.0F;
    }
    if (kind > 2 && variant % 5 != 0) normalise_row(to, width, to);
  }
  for (i64 i = 0; i < rows; ++i) {
    squares_.push_back(dot_chain(values_.data() + i * stride, values_.data() + i * stride, width));
    const auto row = static_cast<u32>(i);
    const u32 uneven = row * row / (static_cast<u32>(rows) * 37 + 1);
    classes_.push_back(variant % 4 == 0 ? 0 : variant % 4 == 1 ? row : uneven);
    ties_.push_back(static_cast<u32>(rows - 1 - i) ^ (rows % 2 == 0 ? 1U : 0U));
    wanted_.push_back(row % 7 == 0 ? 0 : row * 11 % 40);
  }
  view_.domain = variant % 2 == 0 ? PairDomain::kL2 : PairDomain::kCosine;
  view_.rows = rows;
  view_.width = width;
  view_.stride = stride;
  view_.values = values_.data();
  view_.squares = squares_.data();
  view_.classes = classes_.data();
  view_.class_count = classes_.back() + 1;
  view_.ties = ties_.data();
  make_pass(variant);
}

void SelftestEmbedding::make_pass(std::size_t variant) {
  const i64 rows = view_.rows;
  pass_ = PairPass::whole(view_);
  if (variant % 3 == 2) {
    pass_.a_first = rows / 5;
    pass_.b_last = rows - rows / 7;
  }
  std::vector<float> gaps{0.5F};
  for (i64 i = 0; i + 1 < rows; ++i) {
    gaps.push_back(gap_of(view_, i, i + 1));
    gaps.push_back(gap_of(view_, i / 2, rows - 1));
  }
  std::sort(gaps.begin(), gaps.end());
  gaps.erase(std::unique(gaps.begin(), gaps.end()), gaps.end());
  // Some have room in a block's shared memory, others have not; the farthest pairs are above all.
  const std::size_t most = variant % 6 < 3 ? 12 : 150;
  const std::size_t step = std::max<std::size_t>(gaps.size() * 9 / (10 * most), 1);
  for (std::size_t at = 0; at < gaps.size() && pass_.cuts.size() < most; at += step) {
    pass_.cuts.push_back(gaps[at]);
  }
  pass_.ranks = true;
  pass_.neighbours = wanted_;
  const std::size_t middle = gaps.size() / 2;
  pass_.kept = {{gaps.front() - 1.0F, gaps[gaps.size() / 8]}};
  if (middle > gaps.size() / 8) pass_.kept.push_back({gaps[middle - 1], gaps[middle]});
  pass_.kept_negatives_only = variant % 4 >= 2;
  pass_.kept_bytes = i64{1} << 30;
}

void put_pairs(ByteWriter& writer, const PairStates& states) {
  writer.put_array(std::span<const u64>(states.cuts.pos));
  writer.put_array(std::span<const u64>(states.cuts.neg));
  states.ranks.encode(writer);
  writer.put_array(std::span<const u64>(states.neighbours.offsets));
  std::vector<u32> words;
  for (const Neighbours::One& one : states.neighbours.rows) {
    words.insert(words.end(), {one.key, one.row});
  }
  std::vector<std::tuple<u32, u32, u32>> pairs;
  for (const PairList::Chunk& chunk : states.kept.chunks) {
    std::size_t at = 0;
    for (const PairList::Tile& tile : chunk.tiles) {
      for (u32 i = 0; i < tile.count; ++i, ++at) {
        pairs.emplace_back(tile.row + (chunk.places[at] >> 8), tile.col + (chunk.places[at] & 255),
                           bits_from_float(chunk.gaps[at]));
      }
    }
  }
  std::sort(pairs.begin(), pairs.end());
  for (const auto& [row, col, gap] : pairs) words.insert(words.end(), {row, col, gap});
  writer.put_array(std::span<const u32>(words));
}

}  // namespace cupel
