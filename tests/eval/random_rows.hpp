// Rows of an embedding for tests of passes over pairs, and their pairs one by one.
#pragma once

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "cupel/state/embedding_pairs.hpp"

namespace cupel {

/// Rows around a centre for each class; some are equal to another row.
struct RandomRows {
  std::vector<float> values, squares;
  std::vector<u32> classes, ties;
  std::vector<u64> class_rows;
  EmbeddingView view;

  RandomRows(PairDomain domain, const std::vector<i64>& rows_of_class, i64 width, u64 seed,
             double spread = 0.4) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    const auto stride = (width + 15) / 16 * 16;
    for (std::size_t c = 0; c < rows_of_class.size(); ++c) {
      std::vector<float> centre(static_cast<std::size_t>(width));
      for (float& x : centre) x = normal(random);
      class_rows.push_back(static_cast<u64>(rows_of_class[c]));
      for (i64 i = 0; i < rows_of_class[c]; ++i) {
        classes.push_back(static_cast<u32>(c));
        const std::size_t at = values.size();
        values.resize(at + static_cast<std::size_t>(stride), 0.0F);
        float* row = values.data() + at;
        const bool equal = at != 0 && random() % 8 == 0;
        for (i64 k = 0; k < width; ++k) {
          const auto own = static_cast<std::size_t>(k);
          row[k] = equal ? values[at - static_cast<std::size_t>(stride) + own]
                         : centre[own] + static_cast<float>(spread) * normal(random);
        }
        normalise_row(row, width, row);
      }
    }
    view.domain = domain;
    view.rows = static_cast<i64>(classes.size());
    view.width = width;
    view.stride = stride;
    view.values = values.data();
    for (i64 i = 0; i < view.rows; ++i) {
      squares.push_back(dot_chain(view.row(i), view.row(i), width));
    }
    ties.resize(classes.size());
    std::iota(ties.begin(), ties.end(), 0U);
    std::shuffle(ties.begin(), ties.end(), random);
    view.squares = squares.data();
    view.classes = classes.data();
    view.class_count = static_cast<u32>(rows_of_class.size());
    view.ties = ties.data();
  }
  RandomRows(const RandomRows&) = delete;
  RandomRows& operator=(const RandomRows&) = delete;
};

/// All pairs, one by one.
struct PlainPair {
  float value = 0;  ///< distance or similarity
  u32 a = 0, b = 0;
  bool same() const { return a == b; }
};
inline std::vector<PlainPair> plain_pairs(const EmbeddingView& view) {
  std::vector<PlainPair> pairs;
  for (i64 i = 0; i < view.rows; ++i) {
    for (i64 j = i + 1; j < view.rows; ++j) {
      const float gap = pair_gap(view.domain, dot_chain(view.row(i), view.row(j), view.width),
                                 view.squares[i], view.squares[j]);
      pairs.push_back(
          {key_value(view.domain, gap_key(view.domain, gap)), view.classes[i], view.classes[j]});
    }
  }
  return pairs;
}
/// Distances ascending, similarities descending.
inline bool closer(PairDomain domain, float x, float y) {
  return domain == PairDomain::kL2 ? x < y : x > y;
}
inline bool accepts(PairDomain domain, double threshold, float value) {
  return domain == PairDomain::kL2 ? static_cast<double>(value) <= threshold
                                   : static_cast<double>(value) >= threshold;
}

}  // namespace cupel
