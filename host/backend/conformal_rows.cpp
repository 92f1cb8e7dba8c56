#include "backend/conformal_rows.hpp"

#include <hwy/contrib/sort/vqsort.h>

#include <algorithm>

#include "cupel/math/row_terms.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel {
namespace {

/// Thresholds by label are kept below this, so that a mass can be added.
constexpr i64 kMostBound = i64{1} << 61;
/// Below this many masses a plain sort is as fast.
constexpr i64 kFewMasses = 24;

}  // namespace

// ---- masses -------------------------------------------------------------------------------------

MassReader::MassReader(const TableView& table)
    : table_(table),
      rows_(cpu::row_kernels(cpu_level())),
      kernels_(cpu::mass_kernels(cpu_level())),
      matrix_{table.scores.data, table.scores.dtype,
              table.scores.strides.empty() ? 0 : table.scores.strides[0],
              table.task == Task::kBinary || table.scores.strides.size() < 2
                  ? 0
                  : table.scores.strides[1]},
      wide_(cpu::wide_values(table.scores.dtype)),
      classes_(table.task == Task::kBinary ? 2 : table.classes),
      contiguous_f32_(matrix_.dtype == DType::kF32 && matrix_.column_stride == 4 &&
                      matrix_.row_stride % 4 == 0 &&
                      reinterpret_cast<std::uintptr_t>(matrix_.data) % 4 == 0) {
  const auto count = static_cast<std::size_t>(classes_);
  if (wide_) {
    doubles_.resize(count);
  } else {
    floats_.resize(count);
  }
  terms_.resize(count);
  masses_.resize(count);
}

/// A binary row as two classes, whose masses sum to 1.
bool MassReader::read_binary(i64 row) {
  double score = 0;
  if (wide_) {
    rows_.load_rows_f64(matrix_, row, 1, 1, &score);
  } else {
    float narrow = 0;
    rows_.load_rows_f32(matrix_, row, 1, 1, &narrow);
    score = static_cast<double>(narrow);
  }
  const double p = table_.logits ? sigmoid_det(score) : score;
  const bool inside = is_probability(p);
  masses_[1] = conformal_mass(inside ? p : 0.0);
  masses_[0] = kConformalOne - masses_[1];
  return inside;
}

bool MassReader::read(i64 row) {
  if (table_.task == Task::kBinary) {
    label_ = table_.binary_labels == nullptr ? 0 : table_.binary_labels[row];
    return read_binary(row);
  }
  label_ = table_.class_labels == nullptr ? 0 : table_.class_labels[row];
  if (wide_) {
    rows_.load_rows_f64(matrix_, row, 1, classes_, doubles_.data());
    return kernels_.masses_f64(doubles_.data(), classes_, table_.logits, terms_.data(),
                               masses_.data());
  }
  const float* values = floats_.data();
  if (contiguous_f32_) {
    values = reinterpret_cast<const float*>(matrix_.data + row * matrix_.row_stride);
  } else {
    rows_.load_rows_f32(matrix_, row, 1, classes_, floats_.data());
  }
  return kernels_.masses_f32(values, classes_, table_.logits, terms_.data(), masses_.data());
}

RowLargest MassReader::largest(bool second) const {
  RowLargest largest{kernels_.largest(masses_.data(), classes_), 0};
  if (second) largest.second = kernels_.second(masses_.data(), classes_, largest.first);
  return largest;
}

// ---- labels in order ----------------------------------------------------------------------------

OrderedLabels::OrderedLabels(i64 classes) : classes_(classes) {
  const auto count = static_cast<std::size_t>(classes);
  keys_.resize(count + 8);
  masses_.resize(count);
  labels_.resize(count);
  before_.resize(count);
}

void OrderedLabels::order_keys(const MassReader& row, i64 cut, i64 first) {
  if (first >= kConformalOne) {
    order_largest(row, cut);
    return;
  }
  count_ = row.kernels().keys_from(row.masses(), classes_, cut, keys_.data());
  if (count_ < kFewMasses) {
    std::sort(keys_.data(), keys_.data() + count_, std::greater<>());
  } else {
    const hwy::Sorter sorter;
    sorter(keys_.data(), static_cast<std::size_t>(count_), hwy::SortDescending());
  }
  for (i64 r = 0; r < count_; ++r) {
    const auto at = static_cast<std::size_t>(r);
    masses_[at] = cpu::mass_of_key(keys_[at]);
    labels_[at] = cpu::label_of_key(keys_[at]);
  }
}

/// A row with a mass that no key has room for.
void OrderedLabels::order_largest(const MassReader& row, i64 cut) {
  const i64* masses = row.masses();
  count_ = 0;
  for (i64 j = 0; j < classes_; ++j) {
    if (masses[j] >= cut) labels_[static_cast<std::size_t>(count_++)] = j;
  }
  std::sort(labels_.begin(), labels_.begin() + count_, [masses](i64 a, i64 b) {
    return masses[a] != masses[b] ? masses[a] > masses[b] : a < b;
  });
  for (i64 r = 0; r < count_; ++r) {
    masses_[static_cast<std::size_t>(r)] = masses[labels_[static_cast<std::size_t>(r)]];
  }
}

void OrderedLabels::take(const MassReader& row, const RowLargest& largest,
                         std::span<const Bound> bounds, bool groups) {
  // Labels with at least a mass of `cut` are enough when all that rank after them are beyond every
  // threshold. The cut of the row before is a good guess.
  const auto enough = [&](const cpu::MassesFrom& from) {
    const LabelPlace next{0, from.count, 1, from.count + 1, from.sum};
    return from.count == classes_ || std::all_of(bounds.begin(), bounds.end(), [&](const Bound& b) {
             return score_range(*b.rule, next, largest).low > b.threshold;
           });
  };
  int bits = cut_bits_;
  i64 cut = i64{1} << bits;
  bool first_try = true;
  while (!enough(row.kernels().from(row.masses(), classes_, cut))) {
    first_try = false;
    bits = std::max(bits - 2, -1);
    if (bits < 0) {
      cut = 0;
      break;
    }
    cut = i64{1} << bits;
  }
  cut_bits_ = std::clamp(first_try ? bits + 1 : bits, 2, kConformalBits - 1);
  order_keys(row, cut, largest.first);

  u64 sum = 0;
  for (i64 r = 0; r < count_; ++r) {
    before_[static_cast<std::size_t>(r)] = sum;
    sum += static_cast<u64>(masses_[static_cast<std::size_t>(r)]);
  }
  if (!groups) return;
  group_first_.resize(static_cast<std::size_t>(classes_));
  group_end_.resize(static_cast<std::size_t>(classes_));
  for (i64 first = 0; first < count_;) {
    i64 end = first + 1;
    while (end < count_ &&
           masses_[static_cast<std::size_t>(end)] == masses_[static_cast<std::size_t>(first)]) {
      ++end;
    }
    for (i64 r = first; r < end; ++r) {
      group_first_[static_cast<std::size_t>(r)] = first;
      group_end_[static_cast<std::size_t>(r)] = end;
    }
    first = end;
  }
}

LabelPlace OrderedLabels::place(const ConformalRule& rule, i64 r) const {
  const auto at = static_cast<std::size_t>(r);
  // By class index a rank is as good as a group of its own.
  if (rule.ties == ConformalTies::kIndex) return {masses_[at], r, 1, r + 1, before_[at]};
  const i64 first = group_first_[at];
  return {masses_[at], first, group_end_[at] - first, r + 1,
          before_[static_cast<std::size_t>(first)]};
}

// ---- sets ---------------------------------------------------------------------------------------

RowSets::RowSets(const TableView& table, std::span<const ConformalSet> sets)
    : table_(table), sets_(sets), reader_(table), order_(reader_.classes()) {
  const auto classes = static_cast<std::size_t>(reader_.classes());
  found_.resize(sets.size());
  bounds_.resize(sets.size());
  for (std::size_t s = 0; s < sets.size(); ++s) {
    const ConformalSet& set = sets[s];
    const ConformalScore score = set.rule.score;
    const bool single = score == ConformalScore::kLac || score == ConformalScore::kMargin;
    const bool by_label = set.by == ThresholdsBy::kLabel;
    const bool plain =
        set.rule.draw == ConformalDraw::kNone && set.rule.ties == ConformalTies::kIndex;
    second_ = second_ || score == ConformalScore::kMargin;
    Way way = Way::kOrder;
    if (single) {
      way = by_label ? Way::kBounds : Way::kMasses;
    } else if (plain && !by_label && !sums_in_order(score)) {
      way = Way::kMasses;
    }
    groups_ = groups_ || (way == Way::kOrder && set.rule.ties == ConformalTies::kGroup);
    ways_.push_back(way);
    i64 furthest = -kMostBound;
    i64 every = 0;
    if (by_label) {
      for (const i64 threshold : set.thresholds) {
        if (threshold == kEveryLabel) {
          ++every;
        } else {
          furthest = std::max(furthest, threshold);
        }
      }
    }
    furthest_.push_back(furthest);
    every_.push_back(every);
    if (way == Way::kBounds) {
      bounds_[s].resize(classes);
      for (std::size_t j = 0; j < classes; ++j) {
        bounds_[s][j] = std::clamp(set.thresholds[j], -kMostBound, kMostBound);
      }
    }
  }
}

/// lac and margin, whose scores are a level less the label's mass.
i64 RowSets::size_by_bounds(std::size_t s, const RowLargest& largest) const {
  const Buffer<i64>& bounds = bounds_[s];
  const i64* masses = reader_.masses();
  const i64 classes = reader_.classes();
  const bool margin = sets_[s].rule.score == ConformalScore::kMargin;
  const i64 level = margin ? largest.first : kConformalOne;
  i64 size = reader_.kernels().count_reaching(masses, bounds.data(), classes, level);
  if (!margin) return size;
  // The label of rank 1 is measured against the second largest.
  const auto top =
      static_cast<std::size_t>(std::find(masses, masses + classes, largest.first) - masses);
  size -= largest.first + bounds[top] >= level ? 1 : 0;
  return size + (largest.first + bounds[top] >= largest.second ? 1 : 0);
}

i64 RowSets::size_by_masses(const ConformalRule& rule, i64 threshold,
                            const RowLargest& largest) const {
  const i64 classes = reader_.classes();
  const auto count_from = [&](i64 least) {
    return reader_.kernels().from(reader_.masses(), classes, least).count;
  };
  return set_size_counted(rule, threshold, count_from, classes, largest);
}

i64 RowSets::size_by_order(std::size_t s, i64 threshold, const RowLargest& largest, u64 key) {
  const ConformalSet& set = sets_[s];
  const ConformalRule& rule = set.rule;
  const auto score = [&](i64 r) {
    const ScoreRange range = score_range(rule, order_.place(rule, r), largest);
    return drawn_score(rule, range, conformal_draw(rule, key, order_.label(r)));
  };
  if (set.by == ThresholdsBy::kLabel) {
    i64 size = every_[s];
    for (i64 r = 0; r < order_.count(); ++r) {
      const i64 own = set.thresholds[static_cast<std::size_t>(order_.label(r))];
      if (own != kEveryLabel) size += score(r) <= own ? 1 : 0;
    }
    return size;
  }
  // Ranks whose whole range is within the threshold, then those of the one rank, or group, in whose
  // range it lies.
  i64 low = 0;
  i64 high = order_.count();
  while (low < high) {
    const i64 r = low + (high - low) / 2;
    if (score_range(rule, order_.place(rule, r), largest).high <= threshold) {
      low = r + 1;
    } else {
      high = r;
    }
  }
  i64 size = low;
  if (rule.draw == ConformalDraw::kNone || low == order_.count()) return size;
  const LabelPlace at = order_.place(rule, low);
  for (i64 r = low; r < at.larger + at.equal; ++r) size += score(r) <= threshold ? 1 : 0;
  return size;
}

bool RowSets::take(i64 row) {
  const bool inside = reader_.read(row);
  const i64 classes = reader_.classes();
  const RowLargest largest = reader_.largest(second_);
  const LabelPlace place = reader_.place();
  const u32 cell = table_.cells == nullptr ? 0 : table_.cells[row];
  const i64 label = reader_.label();
  const u64 key = table_.row_key(row);
  rank_ = place.rank;
  asked_.clear();
  for (std::size_t s = 0; s < sets_.size(); ++s) {
    const ConformalSet& set = sets_[s];
    RowSet& found = found_[s];
    const i64 own = conformal_score(set.rule, place, largest, key, label);
    found = {classes, own <= set.threshold(row, cell, label)};
    if (ways_[s] == Way::kBounds) {
      found.size = size_by_bounds(s, largest);
      continue;
    }
    const bool by_label = set.by == ThresholdsBy::kLabel;
    const i64 threshold = by_label ? furthest_[s] : set.threshold(row, cell, 0);
    if (threshold == kEveryLabel) continue;
    if (ways_[s] == Way::kMasses) {
      found.size = size_by_masses(set.rule, threshold, largest);
    } else {
      asked_.push_back({&set.rule, threshold});
    }
  }
  if (!asked_.empty()) {
    order_.take(reader_, largest, asked_, groups_);
    auto asked = asked_.cbegin();
    for (std::size_t s = 0; s < sets_.size(); ++s) {
      if (asked == asked_.cend() || asked->rule != &sets_[s].rule) continue;
      found_[s].size = size_by_order(s, asked->threshold, largest, key);
      ++asked;
    }
  }
  for (std::size_t s = 0; s < sets_.size(); ++s) {
    if (found_[s].size == 0 && sets_[s].argmax_if_empty) found_[s] = {1, rank_ == 1};
  }
  return inside;
}

}  // namespace cupel
