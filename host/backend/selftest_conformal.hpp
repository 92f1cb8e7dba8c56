// Conformal scores and sets for the self-test: rules, thresholds and rows that differ by variant.
#pragma once

#include <vector>

#include "cupel/backend/backend.hpp"

namespace cupel {

/// Whether a table has conformal scores and is asked for them: all of few rows, some of up to
/// 5,000.
bool has_selftest_sets(const TableView& table, std::size_t variant);

/// What a table is asked for: all scores, ties, draws and kinds of thresholds by turns. Where a
/// table of several classes has few rows, some variants take rows of many classes instead, more
/// than a block of a device has threads, or than it has memory for.
class SelftestSets {
 public:
  SelftestSets(const TableView& table, std::size_t variant);
  SelftestSets(const SelftestSets&) = delete;
  SelftestSets& operator=(const SelftestSets&) = delete;

  const TableView& view() const { return view_; }
  const std::vector<ConformalRule>& rules() const { return rules_; }
  const std::vector<bool>& wanted() const { return wanted_; }
  /// Thresholds are scores of rows, so that equality decides too.
  const std::vector<ConformalSet>& sets() const { return sets_; }

 private:
  void make_wide(i64 classes, std::size_t variant);
  void make_sets(std::size_t variant);

  TableView view_;
  std::vector<float> logits_;
  std::vector<i32> labels_;
  std::vector<u32> cells_;
  std::vector<u64> keys_;
  std::vector<ConformalRule> rules_;
  std::vector<bool> wanted_;
  std::vector<ConformalSet> sets_;
};

}  // namespace cupel
