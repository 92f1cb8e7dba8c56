// Row sums of multiclass logits times a factor of their cell: what a fit of temperatures takes from
// rows, step by step.
#pragma once

#include "cupel/math/tempering.hpp"
#include "pipeline/rows.hpp"

namespace cupel::device {

struct MergeSlopeMoments {
  CUPEL_HD void operator()(const SlopeMoments& from, SlopeMoments& into) const { into.merge(from); }
};

/// kGroup threads a row; rows whose cell has the factor 0 are in no sum. The element type is known
/// where it runs only: a fit makes few passes, and each form is compiled once.
template <int kGroup>
struct TemperedRowSums {
  static constexpr int kThreads = 128;
  static constexpr int kRows = kThreads / kGroup;

  TableOnDevice table;
  RowWorkOnDevice work;
  const double* factors;  ///< [cells]
  bool slopes;
  RowLayout layout;
  SlopeLayout slope_layout;
  bool in_shared;
  u64* limbs;

  CUPEL_HD i64 all_limbs() const {
    return slopes ? slope_layout.at(layout.segments(), 0) : layout.total();
  }
  CUPEL_HD i64 shared_bytes() const {
    return in_shared ? all_limbs() * static_cast<i64>(sizeof(u64)) : 0;
  }

  /// The largest logit of a row, of a lane's columns at first, as it is in the table.
  struct Largest {
    double value = 0;
    i32 column = 0;  ///< the first that has it
    i32 counts = 0;  ///< 0 for a lane without columns
  };
  struct MergeLargest {
    CUPEL_HD void operator()(const Largest& from, Largest& into) const {
      if (from.counts == 0) return;
      const bool better = into.counts == 0 || from.value > into.value ||
                          (from.value == into.value && from.column < into.column);
      if (better) into = from;
    }
  };

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    typename Block::template PerThread<Largest> largest;
    typename Block::template PerThread<SlopeMoments> moments;
    typename Block::template PerThread<u128> squares;
    with_sink<kThreads>(
        block, layout, table.weighted(), in_shared, limbs, [&](const LimbSink& sink) {
          // The slopes stand behind what with_sink() sets to zero and hands over.
          if (in_shared) {
            block.each([&](int t) {
              for (i64 i = layout.total() + t; i < all_limbs(); i += kThreads) sink.limbs[i] = 0;
            });
          }
          for (i64 first = block.index() * kRows; first < table.rows;
               first += block.count() * kRows) {
            block.each([&](int t) {
              const i64 row = first + t / kGroup;
              largest[t] = factor_of(row) != 0 ? read_lane(row, t % kGroup) : Largest{};
            });
            block.template merge_groups<kGroup>(largest, MergeLargest{});
            block.each([&](int t) {
              const i64 row = first + t / kGroup;
              const double factor = factor_of(row);
              moments[t] = SlopeMoments{};
              if (factor == 0) return;
              const double max = tempered_logit(largest[t].value, factor) + 0.0;
              for (i64 j = t % kGroup; j < table.columns; j += kGroup) {
                const double logit = tempered_logit(value(row, j), factor);
                if (slopes) {
                  moments[t].add(logit, max);
                } else {
                  moments[t].denominator.add(softmax_term(logit, max));
                }
              }
            });
            block.template merge_groups<kGroup>(moments, MergeSlopeMoments{});
            if (work.brier) {
              block.each([&](int t) {
                const i64 row = first + t / kGroup;
                const double factor = factor_of(row);
                squares[t] = 0;
                if (factor == 0) return;
                const RowSoftmax softmax = softmax_of(largest[t], moments[t], factor);
                const double scale = softmax_scale(softmax);
                for (i64 j = t % kGroup; j < table.columns; j += kGroup) {
                  const double term =
                      softmax_term(tempered_logit(value(row, j), factor), softmax.max);
                  squares[t] += squared_term(scaled_softmax_p(term, scale));
                }
              });
              block.template merge_groups<kGroup>(squares, AddWide{});
            }
            block.each([&](int t) {
              const i64 row = first + t / kGroup;
              const double factor = factor_of(row);
              if (factor == 0 || t % kGroup != 0) return;
              add_row(sink, row, factor, largest[t], moments[t], squares[t]);
            });
          }
          if (in_shared) {
            block.each([&](int t) {
              for (i64 i = layout.total() + t; i < all_limbs(); i += kThreads) {
                if (sink.limbs[i] != 0) atomic_add(&limbs[i], sink.limbs[i]);
              }
            });
          }
        });
  }

 private:
  CUPEL_HD CUPEL_INLINE double value(i64 row, i64 column) const {
    return number(table.element, table.at(row, column));
  }

  /// 0 beyond the last row too.
  CUPEL_HD CUPEL_INLINE double factor_of(i64 row) const {
    return row < table.rows ? factors[table.cell(row)] : 0.0;
  }

  CUPEL_HD CUPEL_INLINE Largest read_lane(i64 row, i64 lane) const {
    Largest own;
    if (lane >= table.columns) return own;
    own = {value(row, lane), static_cast<i32>(lane), 1};
    for (i64 j = lane + kGroup; j < table.columns; j += kGroup) {
      const double next = value(row, j);
      if (next > own.value) own = {next, static_cast<i32>(j), 1};
    }
    return own;
  }

  CUPEL_HD CUPEL_INLINE static RowSoftmax softmax_of(const Largest& largest,
                                                     const SlopeMoments& moments, double factor) {
    return {tempered_logit(largest.value, factor) + 0.0, moments.denominator.value()};
  }

  CUPEL_HD CUPEL_INLINE void add_row(const LimbSink& sink, i64 row, double factor,
                                     const Largest& largest, const SlopeMoments& moments,
                                     u128 squares) const {
    const i64 segment = table.cell(row);
    const i64 label = table.class_labels[row];
    const u128 mass = row_mass(table, row);
    const i64 at = layout.segment_first(segment);
    sink.count_row(segment, label, mass);
    const RowSoftmax softmax = softmax_of(largest, moments, factor);
    const double of_label = tempered_logit(value(row, label), factor);
    const double loss = log_softmax_loss(of_label, softmax);
    if (work.log_loss) sink.add_loss(segment, mass, loss);
    if (slopes && !is_loss_overflow(loss)) {
      const RowSlope slope = row_slope(moments);
      sink.add_product(slope_layout.at(segment, 0), mass, distance_term(softmax.max - of_label));
      sink.add_product(slope_layout.at(segment, 1), mass, slope_term(slope.mean));
      sink.add_product(slope_layout.at(segment, 2), mass, slope_term(slope.variance));
    }
    if (!work.brier) return;
    const double scale = softmax_scale(softmax);
    const double p = scaled_softmax_p(softmax_term(of_label, softmax.max), scale);
    sink.add_product(at + layout.brier_at(), mass,
                     squares - brier_term(p, false) + brier_term(p, true));
    for (i64 q = 0; q < work.bin_queries; ++q) {
      // The largest logit's term is 1.
      sink.add_to_bin(work.bins[q], segment, 0, scale, largest.column == label, mass);
    }
  }
};

}  // namespace cupel::device
