// What the conformal p-values of the labels of rows sum up to.
#pragma once

#include <span>

#include "cupel/math/conformal.hpp"
#include "cupel/math/p_value.hpp"
#include "cupel/math/wide.hpp"

namespace cupel {

/// Which p-values: of label y of a row, (#{s_i >= s(y)} + 1) / (n + 1), s_i the scores of the
/// calibration rows' labels; or smoothed, with one u a row.
struct PValueRule {
  ConformalRule rule;
  std::span<const i64> calibration;  ///< s_i, ascending
  bool smoothed = false;
  u64 seed = 0;          ///< of u
  u128 level_units = 0;  ///< a label is in a row's set where its units are above this
};

/// Sums over rows, p-values in units of 2^-48 / (n + 1), sets those of labels with p > alpha. The
/// letters are those of Vovk, Fedorova, Nouretdinov, Gammerman 2016.
struct PValueSums {
  u64 rows = 0;
  U256 own{};            ///< of the row's own label
  U256 all{};            ///< S: of all labels
  U256 second{};         ///< U: the second largest; of one class nothing
  U256 but_largest{};    ///< F: of all labels but the largest
  U256 largest_false{};  ///< OU: the largest of the labels that are not the row's
  U256 all_false{};      ///< OF: of all labels that are not the row's
  u64 labels = 0;        ///< N: sizes of the sets
  u64 multiple = 0;      ///< M: sets of two labels or more
  u64 excess = 0;        ///< E: labels in sets beyond one
  u64 false_sets = 0;    ///< OM: sets with a label that is not the row's
  u64 false_labels = 0;  ///< OE: labels in sets that are not the row's
  u64 covered = 0;       ///< sets with the row's own label
  u64 outside_unit = 0;  ///< rows with a score outside [0, 1]; never of logits

  void merge(const PValueSums& other) {
    rows += other.rows;
    own += other.own;
    all += other.all;
    second += other.second;
    but_largest += other.but_largest;
    largest_false += other.largest_false;
    all_false += other.all_false;
    labels += other.labels;
    multiple += other.multiple;
    excess += other.excess;
    false_sets += other.false_sets;
    false_labels += other.false_labels;
    covered += other.covered;
    outside_unit += other.outside_unit;
  }

  friend bool operator==(const PValueSums& a, const PValueSums& b) {
    return a.rows == b.rows && a.own == b.own && a.all == b.all && a.second == b.second &&
           a.but_largest == b.but_largest && a.largest_false == b.largest_false &&
           a.all_false == b.all_false && a.labels == b.labels && a.multiple == b.multiple &&
           a.excess == b.excess && a.false_sets == b.false_sets &&
           a.false_labels == b.false_labels && a.covered == b.covered &&
           a.outside_unit == b.outside_unit;
  }
};

/// Adds one row: the p-values of its labels, one after another, then end().
class PValueRow {
 public:
  explicit PValueRow(u128 level_units) : level_(level_units) {}

  void add(u128 units, bool is_own) {
    sum_ += widen<4>(units);
    const u128 below = units > largest_ ? largest_ : units;
    largest_ = units > largest_ ? units : largest_;
    second_ = below > second_ ? below : second_;
    size_ += units > level_ ? 1 : 0;
    if (is_own) {
      own_ = units;
    } else {
      largest_false_ = units > largest_false_ ? units : largest_false_;
    }
  }
  void end(PValueSums& sums) const {
    ++sums.rows;
    sums.own += widen<4>(own_);
    sums.all += sum_;
    sums.second += widen<4>(second_);
    sums.but_largest += subtract(sum_, widen<4>(largest_));
    sums.largest_false += widen<4>(largest_false_);
    sums.all_false += subtract(sum_, widen<4>(own_));
    const u64 covers = own_ > level_ ? 1 : 0;
    sums.labels += size_;
    sums.multiple += size_ > 1 ? 1 : 0;
    sums.excess += size_ > 1 ? size_ - 1 : 0;
    sums.false_sets += size_ > covers ? 1 : 0;
    sums.false_labels += size_ - covers;
    sums.covered += covers;
  }

 private:
  u128 level_;
  U256 sum_{};
  u128 largest_ = 0;
  u128 second_ = 0;
  u128 own_ = 0;
  u128 largest_false_ = 0;
  u64 size_ = 0;
};

}  // namespace cupel
