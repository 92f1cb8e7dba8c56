// Row sums: what each row adds to decisions, ranks, squared errors and log losses, summed by
// problem and cell as limbs. A matrix is read once: a row's values stay in the caches between the
// steps.
#pragma once

#include "atomic.hpp"
#include "block.hpp"
#include "cupel/math/row_terms.hpp"
#include "pipeline/scores.hpp"
#include "pipeline/sorted.hpp"
#include "pipeline/table.hpp"

namespace cupel::device {

/// What to sum of each row, on the device.
struct RowWorkOnDevice {
  const double* thresholds = nullptr;
  i64 rules = 0;
  const i64* top_k = nullptr;
  i64 top_k_count = 0;
  bool brier = false;
  bool log_loss = false;
  bool ranks = false;
  bool predicts = false;  ///< the predicted class is asked for
  const BinPlace* bins = nullptr;
  i64 bin_queries = 0;
  double epsilon = 0;
};

/// A log loss as an integer in units of 2^-44, below 2^96; not for one that overflows.
CUPEL_HD CUPEL_INLINE u128 loss_term(double loss) {
  return has_short_loss(loss) ? u128{short_loss_term(loss)} : long_loss_term(loss);
}

/// Where a block adds: its own limbs in shared memory where all of them fit, else the global ones.
struct LimbSink {
  u64* limbs;
  const RowLayout& layout;
  bool weighted;

  /// mass (1 without weights) * term, or the mass alone.
  CUPEL_HD CUPEL_INLINE void add_mass(i64 at, u128 mass) const {
    if (weighted) {
      add_limbs(limbs + at, mass, 4);
    } else {
      atomic_add(&limbs[at], u64{1});
    }
  }
  CUPEL_HD CUPEL_INLINE void add_product(i64 at, u128 mass, u128 term) const {
    if (weighted) {
      add_limbs(limbs + at, multiply(mass, term), 7);
    } else {
      add_limbs(limbs + at, term, 3);
    }
  }
  CUPEL_HD CUPEL_INLINE void count_row(i64 segment, i64 label, u128 mass) const {
    const i64 at = layout.class_first(segment, label);
    atomic_add(&limbs[at], u64{1});
    if (weighted) add_limbs(limbs + at + layout.mass_at(), mass, 4);
  }
  CUPEL_HD CUPEL_INLINE void add_hit(i64 segment, i64 rule, i64 label, u128 mass) const {
    add_mass(layout.class_first(segment, label) + layout.hits_at(rule), mass);
  }
  CUPEL_HD CUPEL_INLINE void add_loss(i64 segment, u128 mass, double loss) const {
    const i64 at = layout.segment_first(segment);
    if (is_loss_overflow(loss)) {
      atomic_add(&limbs[at + layout.overflowed_at()], u64{1});
    } else {
      add_product(at + layout.loss_at(), mass, loss_term(loss));
    }
  }
  CUPEL_HD CUPEL_INLINE void add_to_bin(const BinPlace& place, i64 segment, i64 set,
                                        double confidence, bool right, u128 mass) const {
    const i64 slot =
        bin_slot(confidence, static_cast<i32>(place.query.bins), place.query.closed_left);
    const i64 bin = place.at(segment, set, slot);
    const i64 at = layout.bin_first(bin);
    atomic_add(&limbs[at], u64{1});
    if (weighted) add_limbs(limbs + at + 1, mass, 4);
    if (right) add_mass(at + layout.right_at(), mass);
    const u64 term = confidence_term(confidence);
    add_confidence(at + layout.confidence_at(), mass, term);
    if (!place.query.moments) return;
    const i64 moments = layout.moments_first(place.moments_at(bin));
    const MomentTerms terms = moment_terms(confidence);
    if (right) add_confidence(moments, mass, term);
    add_confidence(moments + layout.square_at(), mass, terms.square);
    add_confidence(moments + layout.spread_at(), mass, terms.spread);
  }
  /// mass (1 without weights) * term, at most 2^50, to the sum of such terms.
  CUPEL_HD CUPEL_INLINE void add_confidence(i64 at, u128 mass, u64 term) const {
    if (weighted) {
      add_limbs(limbs + at, multiply(mass, u128{term}), 7);
    } else {
      add_limbs(limbs + at, u128{term}, 2);
    }
  }
  CUPEL_HD CUPEL_INLINE void count_flag(i64 segment, i64 flag_at) const {
    atomic_add(&limbs[layout.segment_first(segment) + flag_at], u64{1});
  }
};

CUPEL_HD CUPEL_INLINE u128 row_mass(const TableOnDevice& table, i64 row) {
  return table.weighted() ? weight_mass(table.weight(row)).mass : u128{1};
}

/// Sets the block's own limbs to zero, runs body(sink), and hands the limbs over.
template <int kThreads, class Block, class Body>
CUPEL_HD CUPEL_INLINE void with_sink(Block& block, const RowLayout& layout, bool weighted,
                                     bool in_shared, u64* limbs, Body body) {
  u64* own = reinterpret_cast<u64*>(block.shared());
  if (in_shared) {
    block.each([&](int t) {
      for (i64 i = t; i < layout.total(); i += kThreads) own[i] = 0;
    });
  }
  body(LimbSink{in_shared ? own : limbs, layout, weighted});
  if (in_shared) {
    block.each([&](int t) {
      for (i64 i = t; i < layout.total(); i += kThreads) {
        if (own[i] != 0) atomic_add(&limbs[i], own[i]);
      }
    });
  }
}

/// Binary problems: one, or one for each label of a multilabel table. Fewer than 2^31 rows.
template <class E>
struct BinaryRowSums {
  static constexpr int kThreads = 256;

  TableOnDevice table;
  E element;
  RowWorkOnDevice work;
  RowLayout layout;
  bool in_shared;
  u64* limbs;

  CUPEL_HD i64 shared_bytes() const {
    return in_shared ? layout.total() * static_cast<i64>(sizeof(u64)) : 0;
  }

  /// Sums that a thread keeps to itself while its rows are of one segment: the counters of a block
  /// are few, and all its threads would queue for them.
  struct Own {
    i64 segment = -1;
    u64 rows = 0;
    u64 positives = 0;
    u128 brier = 0;
    u128 loss = 0;
    u64 clipped = 0;
    u64 outside = 0;
  };

  template <class Block>
  CUPEL_HD void operator()(Block& block) const {
    const bool weighted = table.weighted();
    const i64 width = table.task == TaskKind::kBinary ? 1 : table.columns;
    const i64 elements = table.rows * width;
    with_sink<kThreads>(block, layout, weighted, in_shared, limbs, [&](const LimbSink& sink) {
      block.each([&](int t) {
        Own own;
        const i64 step = block.count() * kThreads;
        for (i64 i = block.index() * kThreads + t; i < elements; i += step) {
          const i64 row = width == 1 ? i : i / width;
          const i64 problem = i - row * width;
          const i64 segment = problem * layout.cells + table.cell(row);
          const bool positive = table.labels[i] != 0;
          const i64 label = positive ? 1 : 0;
          const double score = decision_number(element.get(), table.at(row, problem));
          const u128 mass = row_mass(table, row);
          if (!weighted && segment != own.segment) {
            hand_over(own, sink);
            own.segment = segment;
          }
          if (weighted) {
            sink.count_row(segment, label, mass);
          } else {
            ++own.rows;
            own.positives += positive ? 1 : 0;
          }
          for (i64 rule = 0; rule < work.rules; ++rule) {
            if (decides_positive(score, work.thresholds[rule]) == positive) {
              sink.add_hit(segment, rule, label, mass);
            }
          }
          if (work.brier || work.log_loss) add_terms(sink, own, segment, score, positive, mass);
        }
        hand_over(own, sink);
      });
    });
  }

 private:
  CUPEL_HD CUPEL_INLINE void add_terms(const LimbSink& sink, Own& own, i64 segment, double score,
                                       bool positive, u128 mass) const {
    const bool weighted = sink.weighted;
    const i64 at = layout.segment_first(segment);
    if (!table.logits && !is_probability(score)) {
      if (weighted) {
        sink.count_flag(segment, layout.outside_at());
      } else {
        ++own.outside;
      }
      return;
    }
    if (work.brier) {
      const u64 term = brier_term(table.logits ? sigmoid_det(score) : score, positive);
      if (weighted) {
        sink.add_product(at + layout.brier_at(), mass, term);
      } else {
        own.brier += term;
      }
    }
    if (work.bin_queries != 0) {
      const double p = table.logits ? sigmoid_det(score) : score;
      for (i64 q = 0; q < work.bin_queries; ++q) {
        const BinPlace& place = work.bins[q];
        const TopConfidence pair = place.query.points == BinPoints::kTop
                                       ? top_of_binary(p, positive)
                                       : TopConfidence{p, positive};
        sink.add_to_bin(place, segment, 0, pair.confidence, pair.right, mass);
      }
    }
    if (!work.log_loss) return;
    double loss = 0;
    if (table.logits) {
      loss = log_loss_of_logit(score, positive);
    } else {
      const double p = label_probability(score, positive);
      loss = log_loss_of_probability(p, work.epsilon);
      if (is_clipped(p, work.epsilon)) {
        if (weighted) {
          sink.count_flag(segment, layout.clipped_at());
        } else {
          ++own.clipped;
        }
      }
    }
    if (weighted || is_loss_overflow(loss)) {
      sink.add_loss(segment, mass, loss);
    } else {
      own.loss += loss_term(loss);
    }
  }

  CUPEL_HD CUPEL_INLINE void hand_over(Own& own, const LimbSink& sink) const {
    if (own.segment >= 0) {
      atomic_add(&sink.limbs[layout.class_first(own.segment, 0)], own.rows - own.positives);
      atomic_add(&sink.limbs[layout.class_first(own.segment, 1)], own.positives);
      const i64 at = layout.segment_first(own.segment);
      // A sum of up to 2^31 terms below 2^96 has 127 bits: its limbs are four, the last one's place
      // is kept by the layout.
      add_limbs(sink.limbs + at + layout.brier_at(), own.brier, 4);
      add_limbs(sink.limbs + at + layout.loss_at(), own.loss, 4);
      if (own.clipped != 0) atomic_add(&sink.limbs[at + layout.clipped_at()], own.clipped);
      if (own.outside != 0) atomic_add(&sink.limbs[at + layout.outside_at()], own.outside);
    }
    own = Own{};
  }
};

/// Multilabel: whether all labels of a row are decided right, as one more problem of one class.
struct ExactMatchRows {
  TableOnDevice table;
  RowWorkOnDevice work;
  RowLayout layout;
  u64* limbs;

  CUPEL_HD void operator()(i64 row) const {
    const LimbSink sink{limbs, layout, table.weighted()};
    const i64 segment = table.columns * layout.cells + table.cell(row);
    const u128 mass = row_mass(table, row);
    sink.count_row(segment, 0, mass);
    for (i64 rule = 0; rule < work.rules; ++rule) {
      bool right = true;
      for (i64 j = 0; j < table.columns && right; ++j) {
        const double score = decision_number(table.element, table.at(row, j));
        right = decides_positive(score, work.thresholds[rule]) ==
                (table.labels[row * table.columns + j] != 0);
      }
      if (right) sink.add_hit(segment, rule, 0, mass);
    }
  }
};

/// What a lane knows of its columns of a multiclass row.
struct LaneRow {
  i32 rank = 0;     ///< of its columns, those that rank before the label
  i32 outside = 0;  ///< of its columns, those that are no probability
  i32 predicted =
      0x7FFFFFFF;  ///< of its columns, the first of the largest, where that is asked for
  double max = 0;
};
struct MergeLaneRows {
  CUPEL_HD void operator()(const LaneRow& from, LaneRow& into) const {
    into.rank += from.rank;
    into.outside += from.outside;
    if (from.max > into.max || (from.max == into.max && from.predicted < into.predicted)) {
      into.predicted = from.predicted;
    }
    into.max = from.max > into.max ? from.max : into.max;
  }
};
struct AddWide {
  CUPEL_HD void operator()(const u128& from, u128& into) const { into += from; }
};

/// Multiclass rows, kGroup threads a row.
template <int kGroup, class E>
struct MulticlassRowSums {
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
    const bool terms = work.brier || work.log_loss;
    const bool soft = table.logits && terms;
    typename Block::template PerThread<LaneRow> lane_row;
    typename Block::template PerThread<UnitSum> sum;
    typename Block::template PerThread<u128> squares;
    with_sink<kThreads>(
        block, layout, table.weighted(), in_shared, limbs, [&](const LimbSink& sink) {
          for (i64 first = block.index() * kRows; first < table.rows;
               first += block.count() * kRows) {
            block.each([&](int t) {
              const i64 row = first + t / kGroup;
              lane_row[t] = row < table.rows ? read_lane(row, t % kGroup, terms) : LaneRow{};
            });
            block.template merge_groups<kGroup>(lane_row, MergeLaneRows{});
            if (soft) {
              block.each([&](int t) {
                const i64 row = first + t / kGroup;
                sum[t] = UnitSum{};
                if (row >= table.rows) return;
                lane_row[t].max += 0.0;  // +0 where it is a zero
                for (i64 j = t % kGroup; j < table.columns; j += kGroup) {
                  sum[t].add(softmax_term(value(row, j), lane_row[t].max));
                }
              });
              block.template merge_groups<kGroup>(sum, MergeUnitSums{});
            }
            if (work.brier) {
              block.each([&](int t) {
                const i64 row = first + t / kGroup;
                squares[t] = 0;
                if (row >= table.rows || (!soft && lane_row[t].outside != 0)) return;
                const RowSoftmax softmax{lane_row[t].max, soft ? sum[t].value() : 1.0};
                const double scale = softmax_scale(softmax);
                for (i64 j = t % kGroup; j < table.columns; j += kGroup) {
                  const double term =
                      soft ? softmax_term(value(row, j), softmax.max) : value(row, j);
                  const double p = scaled_softmax_p(term, scale);
                  squares[t] += squared_term(p);
                  add_class(sink, row, j, p);
                }
              });
              block.template merge_groups<kGroup>(squares, AddWide{});
            }
            block.each([&](int t) {
              const i64 row = first + t / kGroup;
              if (row >= table.rows || t % kGroup != 0) return;
              const RowSoftmax softmax{lane_row[t].max, soft ? sum[t].value() : 1.0};
              add_row(sink, row, lane_row[t], softmax, squares[t]);
            });
          }
        });
  }

 private:
  CUPEL_HD CUPEL_INLINE double value(i64 row, i64 column) const {
    return number(element.get(), table.at(row, column));
  }

  /// A class's probability, to the bins of every class.
  CUPEL_HD CUPEL_INLINE void add_class(const LimbSink& sink, i64 row, i64 column, double p) const {
    for (i64 q = 0; q < work.bin_queries; ++q) {
      const BinPlace& place = work.bins[q];
      if (place.query.points != BinPoints::kEachClass) continue;
      sink.add_to_bin(place, table.cell(row), column, p, table.class_labels[row] == column,
                      row_mass(table, row));
    }
  }

  CUPEL_HD CUPEL_INLINE LaneRow read_lane(i64 row, i64 lane, bool terms) const {
    LaneRow own;
    // A lane beyond the last column repeats the maximum of the first and counts nothing.
    own.max = terms && (table.logits || work.predicts)
                  ? lane_max<kGroup>(table, element, row, lane < table.columns ? lane : 0)
                  : 0;
    if (work.predicts && lane < table.columns) {
      i64 j = lane;
      while (value(row, j) != own.max) j += kGroup;
      own.predicted = static_cast<i32>(j);
    }
    const i64 label = table.class_labels[row];
    const unsigned char* of_label = table.at(row, label);
    const bool probabilities = terms && !table.logits;
    for (i64 j = lane; j < table.columns; j += kGroup) {
      const unsigned char* at = table.at(row, j);
      if (work.ranks && j != label) {
        own.rank += score_above(element.get(), at, of_label, j < label) ? 1 : 0;
      }
      if (probabilities) own.outside += is_probability(number(element.get(), at)) ? 0 : 1;
    }
    return own;
  }

  CUPEL_HD CUPEL_INLINE void add_row(const LimbSink& sink, i64 row, const LaneRow& read,
                                     const RowSoftmax& softmax, u128 squares) const {
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
    if (!work.brier && !work.log_loss) return;
    if (!table.logits && read.outside != 0) {
      sink.count_flag(segment, layout.outside_at());
      return;
    }
    if (work.brier) {
      const double scale = softmax_scale(softmax);
      const double term =
          table.logits ? softmax_term(value(row, label), softmax.max) : value(row, label);
      const double p = scaled_softmax_p(term, scale);
      // The label's own squared error in place of what the sum took it for.
      const u128 brier = squares - brier_term(p, false) + brier_term(p, true);
      sink.add_product(at + layout.brier_at(), mass, brier);
    }
    for (i64 q = 0; q < work.bin_queries; ++q) {
      const BinPlace& place = work.bins[q];
      if (place.query.points == BinPoints::kEachClass) continue;
      const i64 set = place.query.points == BinPoints::kByPredicted ? read.predicted : 0;
      // The largest logit's term is 1.
      const double p = table.logits ? softmax_scale(softmax) : read.max;
      sink.add_to_bin(place, segment, set, p, read.predicted == label, mass);
    }
    if (!work.log_loss) return;
    if (table.logits) {
      sink.add_loss(segment, mass, log_softmax_loss(value(row, label), softmax));
    } else {
      const double p = value(row, label);
      if (is_clipped(p, work.epsilon)) sink.count_flag(segment, layout.clipped_at());
      sink.add_loss(segment, mass, log_loss_of_probability(p, work.epsilon));
    }
  }
};

}  // namespace cupel::device
