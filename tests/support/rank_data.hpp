// Seeded rows for tests and benchmarks of ranking: the score distributions on which counting,
// sorting and cutting into buckets go different ways, the same on every machine.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <string_view>
#include <vector>

#include "cupel/core/int.hpp"

namespace cupel::test {

/// splitmix64: all draws of the tests come from here.
class Draws {
 public:
  explicit Draws(u64 seed) : state_(seed) {}
  u64 next() {
    u64 z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  u64 below(u64 limit) { return next() % limit; }
  /// In [0, 1), a multiple of 2^-53.
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  /// Nearly normal: the sum of twelve uniform draws, without their mean.
  double normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += unit();
    return sum;
  }

 private:
  u64 state_;
};

enum class ScoreShape : u8 {
  kUniform,        ///< uniform in [0, 1), independent of the label
  kNormal,         ///< logits that tell the classes apart
  kSigmoid,        ///< their probabilities
  kFewValues,      ///< 101 distinct values
  kAllEqual,       ///< one value
  kOneBin,         ///< values that agree in their upper 16 bits
  kSpecial,        ///< subnormals, both zeros, largest finite values
  kSorted,         ///< ascending
  kHidden,         ///< one value, except in a stretch of rows where everything else is
  kRarePositives,  ///< normal, one positive in 5000
  kAllPositive,
  kAllNegative,
};

inline constexpr std::array kAllShapes{
    ScoreShape::kUniform,       ScoreShape::kNormal,      ScoreShape::kSigmoid,
    ScoreShape::kFewValues,     ScoreShape::kAllEqual,    ScoreShape::kOneBin,
    ScoreShape::kSpecial,       ScoreShape::kSorted,      ScoreShape::kHidden,
    ScoreShape::kRarePositives, ScoreShape::kAllPositive, ScoreShape::kAllNegative};

inline std::string_view shape_name(ScoreShape shape) {
  constexpr std::array<std::string_view, 12> kNames{
      "uniform", "normal", "sigmoid", "few_values",     "all_equal",    "one_bin",
      "special", "sorted", "hidden",  "rare_positives", "all_positive", "all_negative"};
  return kNames[static_cast<std::size_t>(shape)];
}

struct RankRows {
  std::vector<double> scores;  ///< each a float32
  std::vector<u8> labels;
};

inline float draw_score(ScoreShape shape, bool positive, i64 row, i64 rows, Draws& draws) {
  switch (shape) {
    case ScoreShape::kUniform:
    case ScoreShape::kAllPositive:
      return static_cast<float>(draws.next() >> 40) * 0x1p-24f;
    case ScoreShape::kNormal:
    case ScoreShape::kRarePositives:
    case ScoreShape::kAllNegative:
      return static_cast<float>(draws.normal() + (positive ? 1.0 : 0.0));
    case ScoreShape::kSigmoid: {
      const double z = 2 * draws.normal() + (positive ? 1.0 : -1.0);
      return static_cast<float>(1 / (1 + std::exp(-z)));
    }
    case ScoreShape::kFewValues:
      return static_cast<float>(draws.below(101)) / 100.0f;
    case ScoreShape::kAllEqual:
      return 0.25f;
    case ScoreShape::kOneBin:
      return std::bit_cast<float>(0x3F000000u + static_cast<u32>(draws.below(40'000)));
    case ScoreShape::kSpecial: {
      constexpr std::array kValues{0x00000000u, 0x80000000u, 0x00000001u, 0x80000001u, 0x007FFFFFu,
                                   0x807FFFFFu, 0x7F7FFFFFu, 0xFF7FFFFFu, 0x3F800000u, 0xBF800000u};
      const u64 pick = draws.below(16);
      if (pick < kValues.size()) return std::bit_cast<float>(kValues[pick]);
      return std::bit_cast<float>(static_cast<u32>(draws.below(0x00800000u)) |
                                  static_cast<u32>(draws.below(2)) << 31);
    }
    case ScoreShape::kSorted:
      return static_cast<float>(row) / static_cast<float>(rows);
    case ScoreShape::kHidden:
      return row % 4096 < 64 && row >= rows / 2 ? 0.5f : static_cast<float>(draws.normal());
  }
  return 0;
}

/// `rows` rows of a shape; about a third of the labels are positive where the shape says nothing.
inline RankRows rank_rows(ScoreShape shape, i64 rows, u64 seed) {
  Draws draws(seed);
  RankRows out;
  out.scores.reserve(static_cast<std::size_t>(rows));
  out.labels.reserve(static_cast<std::size_t>(rows));
  for (i64 row = 0; row < rows; ++row) {
    const u64 draw = draws.below(15'000);
    const bool positive = shape == ScoreShape::kAllPositive ||
                          (shape != ScoreShape::kAllNegative &&
                           draw < (shape == ScoreShape::kRarePositives ? 3u : 5'000u));
    out.labels.push_back(positive ? 1 : 0);
    out.scores.push_back(static_cast<double>(draw_score(shape, positive, row, rows, draws)));
  }
  return out;
}

}  // namespace cupel::test
