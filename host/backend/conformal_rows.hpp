// Rows of a table one after another, as conformal prediction sees them: their masses, the score of
// their own label, and their sets. An object serves one thread.
#pragma once

#include <span>
#include <vector>

#include "backend/cpu_row_kernels.hpp"
#include "backend/mass_kernels.hpp"
#include "cupel/backend/backend.hpp"
#include "cupel/core/buffer.hpp"
#include "cupel/state/conformal.hpp"

namespace cupel {

/// The masses of one row of a binary or multiclass table.
class MassReader {
 public:
  explicit MassReader(const TableView& table);

  /// Takes a row. False where it has a score outside [0, 1], whose mass is 0 then.
  bool read(i64 row);

  i64 classes() const { return classes_; }
  const i64* masses() const { return masses_.data(); }
  const cpu::MassKernels& kernels() const { return kernels_; }
  /// The two largest masses; the second only if asked for.
  RowLargest largest(bool second) const;
  /// Where the row's own label is.
  LabelPlace place() const { return kernels_.place(masses_.data(), classes_, label_); }
  /// 0 in a table without labels.
  i64 label() const { return label_; }

 private:
  bool read_binary(i64 row);

  const TableView& table_;
  const cpu::RowKernels& rows_;
  const cpu::MassKernels& kernels_;
  cpu::ScoreMatrix matrix_;
  bool wide_;
  i64 classes_;
  bool contiguous_f32_;
  i64 label_ = 0;
  Buffer<double> doubles_;
  Buffer<float> floats_;
  Buffer<double> terms_;
  Buffer<i64> masses_;
};

/// The labels of a row from the most probable down, no further than sets go.
class OrderedLabels {
 public:
  explicit OrderedLabels(i64 classes);

  /// A set that is to be counted: labels that rank after `through` the threshold cannot be in it.
  struct Bound {
    const ConformalRule* rule;
    i64 threshold;
  };
  /// Orders the labels of a row as far as all the bounds ask.
  void take(const MassReader& row, const RowLargest& largest, std::span<const Bound> bounds,
            bool groups);

  i64 count() const { return count_; }
  i64 label(i64 r) const { return labels_[static_cast<std::size_t>(r)]; }
  /// The place of rank r + 1, for this rule's ties.
  LabelPlace place(const ConformalRule& rule, i64 r) const;

 private:
  void order_keys(const MassReader& row, i64 cut, i64 first);
  void order_largest(const MassReader& row, i64 cut);

  i64 classes_;
  i64 count_ = 0;
  int cut_bits_ = 40;  ///< where the search for a cut begins
  Buffer<u64> keys_;
  Buffer<i64> masses_;       ///< [rank - 1]
  Buffer<i64> labels_;       ///< [rank - 1]
  Buffer<u64> before_;       ///< [rank - 1] the sum of the masses of lower ranks
  Buffer<i64> group_first_;  ///< [rank - 1] index of the first equal mass
  Buffer<i64> group_end_;    ///< [rank - 1] index behind the last
};

/// The set of one row: its size, and whether it holds the row's label.
struct RowSet {
  i64 size = 0;
  bool covers = false;
};

/// The sets of one row after another.
class RowSets {
 public:
  RowSets(const TableView& table, std::span<const ConformalSet> sets);

  /// Finds the sets of a row. False where it has a score outside [0, 1].
  bool take(i64 row);

  /// [set]
  const std::vector<RowSet>& found() const { return found_; }
  i64 label() const { return reader_.label(); }
  /// Of the row's label, from 1, equal masses by class index.
  i64 rank() const { return rank_; }

 private:
  /// How the size of a set is found.
  enum class Way : u8 { kMasses, kBounds, kOrder };

  i64 size_by_bounds(std::size_t s, const RowLargest& largest) const;
  i64 size_by_masses(const ConformalRule& rule, i64 threshold, const RowLargest& largest) const;
  i64 size_by_order(std::size_t s, i64 threshold, const RowLargest& largest, u64 key);

  const TableView& table_;
  std::span<const ConformalSet> sets_;
  MassReader reader_;
  OrderedLabels order_;
  std::vector<Way> ways_;            ///< [set]
  std::vector<Buffer<i64>> bounds_;  ///< [set][label] of sets by label
  std::vector<i64> furthest_;        ///< [set] by label: the largest threshold but kEveryLabel
  std::vector<i64> every_;           ///< [set] by label: labels with kEveryLabel
  std::vector<OrderedLabels::Bound> asked_;
  bool second_ = false;  ///< whether a score asks for the second largest mass
  bool groups_ = false;
  std::vector<RowSet> found_;
  i64 rank_ = 1;
};

}  // namespace cupel
