// What a pass over pairs has to find, by two loops: one pair after another, nothing clever. And
// small embeddings to try it on.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cupel/state/embedding_pairs.hpp"
#include "support/rank_data.hpp"

namespace cupel::test {

/// Rows in memory with a view of them.
struct PlainEmbedding {
  PairDomain domain = PairDomain::kL2;
  i64 rows = 0, width = 0, stride = 0;
  std::vector<float> values, squares;
  std::vector<u32> classes, ties;
  u32 class_count = 0;

  float* row(i64 i) { return values.data() + i * stride; }
  EmbeddingView view() const {
    EmbeddingView v;
    v.domain = domain;
    v.rows = rows;
    v.width = width;
    v.stride = stride;
    v.values = values.data();
    v.squares = squares.data();
    v.classes = classes.data();
    v.class_count = class_count;
    v.ties = ties.data();
    return v;
  }
  void find_squares() {
    squares.resize(static_cast<std::size_t>(rows));
    for (i64 i = 0; i < rows; ++i) {
      squares[static_cast<std::size_t>(i)] = dot_chain(row(i), row(i), width);
    }
  }
};

enum class Rows : u8 { kRandom, kDuplicates, kOpposite, kAllEqual, kLong };

/// Unit rows (kLong: of any length) of classes of uneven size; ties in a shuffled order.
inline PlainEmbedding make_embedding(i64 rows, i64 width, u32 classes, u64 seed,
                                     Rows kind = Rows::kRandom,
                                     PairDomain domain = PairDomain::kL2) {
  Draws draws(seed);
  PlainEmbedding made;
  made.domain = domain;
  made.rows = rows;
  made.width = width;
  made.stride = width + 3;  // a row need not begin where it is convenient
  made.class_count = classes;
  made.values.resize(static_cast<std::size_t>(rows * made.stride));
  for (i64 i = 0; i < rows; ++i) {
    made.classes.push_back(static_cast<u32>(std::min(draws.below(classes), draws.below(classes))));
    made.ties.push_back(static_cast<u32>(i));
  }
  std::sort(made.classes.begin(), made.classes.end());
  for (i64 i = rows; i > 1; --i) {
    std::swap(made.ties[static_cast<std::size_t>(i - 1)],
              made.ties[static_cast<std::size_t>(draws.below(static_cast<u64>(i)))]);
  }
  for (i64 i = 0; i < rows; ++i) {
    float* to = made.row(i);
    const bool repeats =
        i > 0 && (kind == Rows::kAllEqual || (kind == Rows::kDuplicates && draws.below(2) == 0));
    const bool turns = i > 0 && kind == Rows::kOpposite && draws.below(2) == 0;
    if (repeats || turns) {
      const float* from = made.row(
          kind == Rows::kAllEqual ? 0 : static_cast<i64>(draws.below(static_cast<u64>(i))));
      for (i64 k = 0; k < width; ++k) to[k] = turns ? -from[k] : from[k];
      continue;
    }
    for (i64 k = 0; k < width; ++k) to[k] = static_cast<float>(draws.unit()) - 0.4F;
    if (kind == Rows::kLong) {
      const float scale = std::exp2(static_cast<float>(draws.below(12)) - 6.0F);
      for (i64 k = 0; k < width; ++k) to[k] *= scale;
    } else if (!normalise_row(to, width, to)) {
      to[0] = 1;
    }
  }
  made.find_squares();
  return made;
}

/// The gap of two rows.
inline float plain_gap(const EmbeddingView& view, i64 i, i64 j) {
  return pair_gap(view.domain, dot_chain(view.row(i), view.row(j), view.width), view.squares[i],
                  view.squares[j]);
}

/// Everything that the pass asks for; the list as one tile a pair.
inline PairStates plain_pairs(const EmbeddingView& view, const PairPass& pass) {
  PairStates states;
  if (!pass.cuts.empty()) states.cuts = ClassCuts(view.class_count, pass.cuts.size());
  Buffer<u32> pos_keys;
  Buffer<u32> neg_keys;
  std::vector<std::vector<Neighbours::One>> near(pass.neighbours.size());
  PairList::Chunk chunk;
  const auto offer = [&](i64 of, i64 other, u32 key) {
    if (near.empty()) return;
    near[static_cast<std::size_t>(of)].push_back({key, view.ties[other], static_cast<u32>(other)});
  };
  for (i64 i = pass.a_first; i < pass.a_last; ++i) {
    for (i64 j = std::max(i + 1, pass.b_first); j < pass.b_last; ++j) {
      const float gap = plain_gap(view, i, j);
      const u32 a = view.classes[i];
      const u32 b = view.classes[j];
      if (!pass.cuts.empty()) {
        std::size_t column = 0;
        while (column < pass.cuts.size() && !(gap <= pass.cuts[column])) ++column;
        if (a == b) {
          ++states.cuts.pos_at(a, column);
        } else {
          ++states.cuts.neg_at(a, column);
          ++states.cuts.neg_at(b, column);
        }
      }
      const u32 key = gap_key(view.domain, gap);
      if (pass.ranks) (a == b ? pos_keys : neg_keys).push_back(key);
      offer(i, j, key);
      offer(j, i, key);
      for (const GapRange& range : pass.kept) {
        if (gap <= range.low || gap > range.high || (pass.kept_negatives_only && a == b)) continue;
        chunk.tiles.push_back({static_cast<u32>(i), static_cast<u32>(j), 1});
        chunk.gaps.push_back(gap);
        chunk.places.push_back(0);
      }
    }
  }
  if (pass.ranks) {
    const u64 pos = pos_keys.size();
    const u64 neg = neg_keys.size();
    std::sort(pos_keys.begin(), pos_keys.end());
    std::sort(neg_keys.begin(), neg_keys.end());
    KeyRuns<u32> runs{canonical_run(std::move(pos_keys)), canonical_run(std::move(neg_keys))};
    states.ranks = RankTable(ScoreKind::kF32, false, std::move(runs), pos, neg);
  }
  if (!near.empty()) states.neighbours.offsets.push_back(0);
  for (std::size_t row = 0; row < near.size(); ++row) {
    std::vector<Neighbours::One>& of = near[row];
    std::sort(of.begin(), of.end(), [](const auto& x, const auto& y) {
      return x.key != y.key ? x.key > y.key : x.tie < y.tie;
    });
    if (of.size() > pass.neighbours[row]) of.resize(pass.neighbours[row]);
    states.neighbours.rows.insert(states.neighbours.rows.end(), of.begin(), of.end());
    states.neighbours.offsets.push_back(states.neighbours.rows.size());
  }
  if (!chunk.gaps.empty()) states.kept.chunks.push_back(std::move(chunk));
  return states;
}

/// The pairs of a list in order: first row, second row, bits of the gap.
inline std::vector<std::tuple<u32, u32, u32>> sorted_pairs(const PairList& list) {
  std::vector<std::tuple<u32, u32, u32>> pairs;
  for (const PairList::Chunk& chunk : list.chunks) {
    std::size_t at = 0;
    for (const PairList::Tile& tile : chunk.tiles) {
      for (u32 i = 0; i < tile.count; ++i, ++at) {
        pairs.emplace_back(tile.row + (chunk.places[at] >> 8), tile.col + (chunk.places[at] & 255),
                           bits_from_float(chunk.gaps[at]));
      }
    }
  }
  std::sort(pairs.begin(), pairs.end());
  return pairs;
}

}  // namespace cupel::test
