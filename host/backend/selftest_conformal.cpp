#include "backend/selftest_conformal.hpp"

#include <algorithm>

#include "cupel/math/counter_random.hpp"

namespace cupel {
namespace {

constexpr i64 kFewRows = 300;
constexpr i64 kMostRows = 5000;
constexpr i64 kMostWideRows = 4;

}  // namespace

bool has_selftest_sets(const TableView& table, std::size_t variant) {
  return (table.task == Task::kBinary || table.task == Task::kMulticlass) &&
         table.rows <= (variant % 11 == 0 ? kMostRows : kFewRows);
}

SelftestSets::SelftestSets(const TableView& table, std::size_t variant) : view_(table) {
  if (table.task == Task::kMulticlass && table.rows >= 31 && table.rows <= 33) {
    // 0: the table as it is.
    constexpr i64 kClasses[]{0, 65, 0, 1000, 130, 0, 64, 7000, 33};
    if (const i64 classes = kClasses[variant % 9]; classes != 0) make_wide(classes, variant);
  }
  view_.first_row = static_cast<i64>(variant) * 1000;
  if (variant % 2 == 0) {
    for (i64 row = 0; row < view_.rows; ++row) {
      keys_.push_back(counter_random(variant, static_cast<u64>(row)));
    }
    keys_.push_back(0);  // an empty table has them too
    view_.row_keys = keys_.data();
  }
  constexpr ConformalScore kScores[]{ConformalScore::kLac,  ConformalScore::kAps,
                                     ConformalScore::kRaps, ConformalScore::kSaps,
                                     ConformalScore::kTopK, ConformalScore::kMargin};
  for (std::size_t i = 0; i < 6; ++i) {
    ConformalRule rule;
    rule.score = kScores[i];
    if (rule.score == ConformalScore::kRaps || rule.score == ConformalScore::kSaps) {
      rule.lambda = kConformalOne / 50;
    }
    if (rule.score == ConformalScore::kRaps) rule.k_reg = 2;
    rule.ties = static_cast<ConformalTies>((variant + i) % 2);
    rule.draw = static_cast<ConformalDraw>((variant / 2 + i) % 3);
    rule.seed = variant;
    rules_.push_back(rule);
  }
  for (u32 cell = 0; cell < std::max<u32>(1, view_.cell_count); ++cell) {
    wanted_.push_back(view_.cell_count < 2 || (cell + variant) % 3 != 0);
  }
  make_sets(variant);
}

void SelftestSets::make_wide(i64 classes, std::size_t variant) {
  const i64 rows = std::min(view_.rows, kMostWideRows);
  for (i64 row = 0; row < rows; ++row) {
    const auto drawn = [&](i64 j) {
      return counter_random(static_cast<u64>(row) + (variant << 20), static_cast<u64>(j));
    };
    for (i64 j = 0; j < classes; ++j) {
      // Equal logits in some rows; a third of some others too small for a mass.
      const u64 bits = drawn(j) >> 40;
      const float value = static_cast<float>(bits) * 0x1p-21f;
      const bool few = row % 3 == 0;
      logits_.push_back(row % 3 == 1 && bits % 3 == 0 ? value - 90.0f
                        : few                         ? static_cast<float>(bits % 9)
                                                      : value);
    }
    labels_.push_back(static_cast<i32>(drawn(-1) % static_cast<u64>(classes)));
    cells_.push_back(static_cast<u32>(drawn(-2) % 3));
  }
  labels_.push_back(0);
  cells_.push_back(0);
  view_ = TableView{};
  view_.task = Task::kMulticlass;
  view_.logits = true;
  view_.rows = rows;
  view_.classes = classes;
  view_.scores = make_view(logits_.data(), DType::kF32, {rows, classes});
  view_.class_labels = labels_.data();
  view_.cells = cells_.data();
  view_.cell_count = 3;
}

void SelftestSets::make_sets(std::size_t variant) {
  const auto scores = make_cpu_backend(1)->conformal_scores(view_, rules_, wanted_, 1);
  if (!scores) return;
  u64 next = variant;
  for (std::size_t r = 0; r < rules_.size(); ++r) {
    const Buffer<i64>& of = scores->scores[r];
    // A score, mostly; now and then one less.
    const auto pick = [&]() -> i64 {
      if (of.empty()) return kConformalOne / 2;
      ++next;
      return of[counter_random(variant, next) % of.size()] - (next % 5 == 0 ? 1 : 0);
    };
    ConformalSet set;
    set.rule = rules_[r];
    set.by = static_cast<ThresholdsBy>((variant / 3 + r) % 4);
    const std::size_t sizes[]{1, std::max<std::size_t>(1, view_.cell_count),
                              static_cast<std::size_t>(view_.classes),
                              static_cast<std::size_t>(view_.rows)};
    set.thresholds.clear();
    for (std::size_t i = 0; i < sizes[static_cast<std::size_t>(set.by)]; ++i) {
      set.thresholds.push_back(pick());
    }
    set.argmax_if_empty = (variant + r) % 2 == 0;
    sets_.push_back(set);
    sets_.push_back({rules_[r], {pick()}, ThresholdsBy::kAll, false});
  }
  sets_.push_back({rules_[variant % 6], {kEveryLabel}, ThresholdsBy::kAll, false});
  sets_.push_back({rules_[variant % 6], {-2 * kConformalOne}, ThresholdsBy::kAll, true});
  // More than a launch takes.
  if (variant % 7 == 3) {
    while (sets_.size() < 40) sets_.push_back(sets_[sets_.size() - 13]);
  }
}

}  // namespace cupel
