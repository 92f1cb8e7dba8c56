// Row sums of several classes' logits whose softmax is asked for in float32 (softmax_f32.hpp): what
// MulticlassRowSums (rows.hpp) adds, in two readings of a row instead of three.
#pragma once

#include "cupel/math/softmax_f32.hpp"
#include "pipeline/rows.hpp"

namespace cupel::device {

struct MergeSoftmaxF32 {
  CUPEL_HD void operator()(const SoftmaxF32Sums& from, SoftmaxF32Sums& into) const {
    into.merge(from);
  }
};

/// Rows of logits, kGroup threads a row; with a squared error or a log loss to sum.
template <int kGroup, class E>
struct MulticlassSoftmaxF32Sums {
  static constexpr int kThreads = 128;
  static constexpr int kRows = kThreads / kGroup;

  TableOnDevice table;
  E element;
  RowWorkOnDevice work;
  RowLayout layout;
  bool in_shared;
  u64* limbs;

  CUPEL_HD i64 shared_bytes() const {
    return in_shared ? layout.total() * static_cast<i64>(sizeof(u64)) : 0;
  }

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    bool each_class = false;
    for (i64 q = 0; q < work.bin_queries; ++q) {
      each_class = each_class || work.bins[q].query.points == BinPoints::kEachClass;
    }
    typename Block::template PerThread<LaneRow> lane_row;
    typename Block::template PerThread<SoftmaxF32Sums> sums;
    with_sink<kThreads>(
        block, layout, table.weighted(), in_shared, limbs, [&](const LimbSink& sink) {
          for (i64 first = block.index() * kRows; first < table.rows;
               first += block.count() * kRows) {
            block.each([&](int t) {
              const i64 row = first + t / kGroup;
              lane_row[t] = row < table.rows ? read_lane(row, t % kGroup) : LaneRow{};
            });
            block.template merge_groups<kGroup>(lane_row, MergeLaneRows{});
            block.each([&](int t) {
              const i64 row = first + t / kGroup;
              sums[t] = SoftmaxF32Sums{};
              if (row >= table.rows) return;
              const float max = row_max_f32(lane_row[t]);
              for (i64 j = t % kGroup; j < table.columns; j += kGroup) {
                sums[t].add(softmax_f32_term(logit(row, j), max));
              }
            });
            block.template merge_groups<kGroup>(sums, MergeSoftmaxF32{});
            block.each([&](int t) {
              const i64 row = first + t / kGroup;
              if (row >= table.rows) return;
              const float max = row_max_f32(lane_row[t]);
              if (each_class) add_classes(sink, row, t % kGroup, max, sums[t]);
              if (t % kGroup == 0) add_row(sink, row, lane_row[t], max, sums[t]);
            });
          }
        });
  }

 private:
  CUPEL_HD CUPEL_INLINE double value(i64 row, i64 column) const {
    return number(element.get(), table.at(row, column));
  }
  CUPEL_HD CUPEL_INLINE float logit(i64 row, i64 column) const {
    if (is_narrow(element.get())) return narrow_number(element.get(), table.at(row, column));
    return softmax_f32_logit(value(row, column));
  }
  /// The largest of the row's float32 logits is that of the largest logit; +0 where it is a zero.
  CUPEL_HD static CUPEL_INLINE float row_max_f32(const LaneRow& read) {
    return softmax_f32_logit(read.max) + 0.0f;
  }

  CUPEL_HD CUPEL_INLINE LaneRow read_lane(i64 row, i64 lane) const {
    LaneRow own;
    // A lane beyond the last column repeats the maximum of the first and counts nothing.
    own.max = lane_max<kGroup>(table, element, row, lane < table.columns ? lane : 0);
    if (work.predicts && lane < table.columns) {
      i64 j = lane;
      while (value(row, j) != own.max) j += kGroup;
      own.predicted = static_cast<i32>(j);
    }
    if (!work.ranks) return own;
    const i64 label = table.class_labels[row];
    const unsigned char* of_label = table.at(row, label);
    for (i64 j = lane; j < table.columns; j += kGroup) {
      if (j == label) continue;
      own.rank += score_above(element.get(), table.at(row, j), of_label, j < label) ? 1 : 0;
    }
    return own;
  }

  /// Probabilities of a lane's classes, to the bins of every class.
  CUPEL_HD CUPEL_INLINE void add_classes(const LimbSink& sink, i64 row, i64 lane, float max,
                                         const SoftmaxF32Sums& sums) const {
    const double scale = softmax_scale({static_cast<double>(max), sums.denominator()});
    const u128 mass = row_mass(table, row);
    for (i64 j = lane; j < table.columns; j += kGroup) {
      const float term = softmax_f32_term(logit(row, j), max);
      const double p = scaled_softmax_p(softmax_f32_exp(term), scale);
      for (i64 q = 0; q < work.bin_queries; ++q) {
        const BinPlace& place = work.bins[q];
        if (place.query.points != BinPoints::kEachClass) continue;
        sink.add_to_bin(place, table.cell(row), j, p, table.class_labels[row] == j, mass);
      }
    }
  }

  CUPEL_HD CUPEL_INLINE void add_row(const LimbSink& sink, i64 row, const LaneRow& read, float max,
                                     const SoftmaxF32Sums& sums) const {
    const i64 segment = table.cell(row);
    const i64 label = table.class_labels[row];
    const u128 mass = row_mass(table, row);
    const i64 at = layout.segment_first(segment);
    sink.count_row(segment, label, mass);
    if (work.ranks) {
      if (work.rules != 0 && read.rank == 0) sink.add_hit(segment, 0, label, mass);
      for (i64 k = 0; k < work.top_k_count; ++k) {
        if (read.rank < work.top_k[k]) sink.add_mass(at + layout.top_k_at(k), mass);
      }
    }
    const float label_logit = logit(row, label);
    const RowSoftmax softmax{static_cast<double>(max), sums.denominator()};
    if (work.brier) {
      sink.add_product(at + layout.brier_at(), mass,
                       u128{softmax_f32_brier(sums, softmax_f32_term(label_logit, max))});
    }
    for (i64 q = 0; q < work.bin_queries; ++q) {
      const BinPlace& place = work.bins[q];
      if (place.query.points == BinPoints::kEachClass) continue;
      const i64 set = place.query.points == BinPoints::kByPredicted ? read.predicted : 0;
      // The largest logit's term is 1.
      sink.add_to_bin(place, segment, set, softmax_scale(softmax), read.predicted == label, mass);
    }
    if (work.log_loss) {
      sink.add_loss(segment, mass, log_softmax_loss(static_cast<double>(label_logit), softmax));
    }
  }
};

}  // namespace cupel::device
