// Conformal p-values of labels from sorted calibration scores; what they are stands at PValues in
// cupel/eval/sets.hpp.
#pragma once

#include <algorithm>
#include <span>

#include "backend/conformal_labels.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/math/counter_random.hpp"

namespace cupel {

class PValueMaker {
 public:
  /// `ascending` outlives this object. `seed`: of the draws of smoothed p-values.
  PValueMaker(std::span<const i64> ascending, bool smoothed, u64 seed)
      : scores_(ascending), smoothed_(smoothed), seed_(seed ^ kDraw) {}

  /// Of a label of the row with this key. Plain: correctly rounded; smoothed: u has 32 bits, and
  /// the value is within one unit in the last place.
  double of(i64 score, u64 row_key, i64 label) const {
    const auto from = std::lower_bound(scores_.begin(), scores_.end(), score);
    const auto n = static_cast<u64>(scores_.size());
    const auto reach = static_cast<u64>(scores_.end() - from);  // scores of at least this one
    if (!smoothed_) return static_cast<double>(reach + 1) / static_cast<double>(n + 1);
    const auto above =
        static_cast<u64>(scores_.end() - std::upper_bound(from, scores_.end(), score));
    const u64 u = counter_random(counter_random(seed_, row_key), static_cast<u64>(label)) >> 32;
    const u128 units =
        (static_cast<u128>(above) << 32) + static_cast<u128>(u) * (reach - above + 1);
    return static_cast<double>(units) * 0x1p-32 / static_cast<double>(n + 1);
  }

  /// Of every label of every row, [row, class].
  Buffer<double> of_all(const ConformalLabelSets& made, const TableView& table,
                        ThreadPool& pool) const {
    const std::size_t rows = made.rows.size();
    Buffer<double> out(made.scores.size());
    if (rows == 0) return out;
    const std::size_t classes = made.scores.size() / rows;
    for_ranges(rows, pool, [&](std::size_t row) {
      const u64 key = table.row_key(made.rows[row]);
      for (std::size_t j = 0; j < classes; ++j) {
        const std::size_t at = row * classes + j;
        out[at] = of(made.scores[at], key, static_cast<i64>(j));
      }
    });
    return out;
  }

  /// Of the labels of one set of each row, as they lie in `sets`.
  Buffer<double> of_sets(const ConformalLabelSets& made, const LabelSets& sets,
                         const TableView& table, ThreadPool& pool) const {
    Buffer<double> out(sets.labels.size());
    std::vector<std::size_t> begin(made.rows.size());
    std::size_t at = 0;
    for (std::size_t row = 0; row < begin.size(); ++row) {
      begin[row] = at;
      at += sets.sizes[row];
    }
    for_ranges(begin.size(), pool, [&](std::size_t row) {
      const u64 key = table.row_key(made.rows[row]);
      for (std::size_t i = begin[row]; i < begin[row] + sets.sizes[row]; ++i) {
        out[i] = of(sets.scores[i], key, sets.labels[i]);
      }
    });
    return out;
  }

 private:
  /// Not the numbers that --calibration and randomised scores draw of equal seeds.
  static constexpr u64 kDraw = 0x702D76616C756573u;

  template <class Take>
  static void for_ranges(std::size_t rows, ThreadPool& pool, const Take& take) {
    constexpr std::size_t kRange = 256;
    pool.parallel_for(static_cast<i64>((rows + kRange - 1) / kRange), [&](int, i64 range) {
      const std::size_t first = static_cast<std::size_t>(range) * kRange;
      for (std::size_t row = first; row < std::min(rows, first + kRange); ++row) take(row);
    });
  }

  std::span<const i64> scores_;
  bool smoothed_;
  u64 seed_;
};

}  // namespace cupel
