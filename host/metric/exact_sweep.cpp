// Between two neighbouring distances all utilities are constant. Their sums are kept as integers in
// units of 2^-48, so that they do not drift, whatever the number of pairs; integrals are sums of
// rectangles, from strict to loose.
#include "metric/exact_sweep.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cupel/core/config.hpp"
#include "metric/compensated_sum.hpp"
#include "metric/utility_curves.hpp"

namespace cupel {
namespace {

/// Utilities in integers: squares of 2^48 of fewer than 2^31 classes add up in 127 bits.
constexpr double kUnit = 281474976710656.0;

u64 in_units(double utility) {
  // NOLINTNEXTLINE(bugprone-incorrect-roundings): below 2^49 the half is added exactly
  return static_cast<u64>(utility * kUnit + 0.5);
}

/// The sum of the `count` smallest of many values that change one at a time. Values near the
/// count-th are kept in order, the others only as a sum below and as what is left above: a change
/// costs O(1) but for the few near the edge. All in integers, so that how it was reached does not
/// matter.
class SmallestSum {
 public:
  SmallestSum() = default;
  SmallestSum(const std::vector<u64>& values, std::size_t count) : count_(count) { place(values); }

  void change(u64 old, u64 value) {
    remove(old);
    add(value);
  }
  /// `values`: all, as changed so far.
  u128 sum(const std::vector<u64>& values) {
    if (below_ > count_ || !reaches() || near_.size() > 8 * kNear) place(values);
    u128 sum = sum_below_;
    u64 left = count_ - below_;
    for (auto at = near_.begin(); left != 0; ++at) {
      const u64 taken = std::min(left, at->second);
      sum += u128{at->first} * taken;
      left -= taken;
    }
    return sum;
  }

 private:
  static constexpr std::size_t kNear = 32;

  bool reaches() const { return count_ - below_ <= in_near_; }

  /// Puts the values around the count-th into order.
  void place(const std::vector<u64>& values) {
    scratch_ = values;
    const auto rank = [&](std::size_t r) {
      std::nth_element(scratch_.begin(), scratch_.begin() + static_cast<std::ptrdiff_t>(r),
                       scratch_.end());
      return scratch_[r];
    };
    low_ = count_ > kNear ? rank(count_ - kNear) : 0;
    high_ = count_ + kNear < values.size() ? rank(count_ + kNear) : std::numeric_limits<u64>::max();
    below_ = in_near_ = 0;
    sum_below_ = 0;
    near_.clear();
    scratch_.clear();
    for (const u64 value : values) {
      if (value < low_) {
        ++below_;
        sum_below_ += value;
      } else if (value <= high_) {
        scratch_.push_back(value);
      }
    }
    in_near_ = scratch_.size();
    std::sort(scratch_.begin(), scratch_.end());
    for (const u64 value : scratch_) {
      if (near_.empty() || near_.back().first != value) near_.emplace_back(value, 0);
      ++near_.back().second;
    }
  }
  auto find(u64 value) {
    return std::lower_bound(near_.begin(), near_.end(), value,
                            [](const auto& one, u64 v) { return one.first < v; });
  }
  void remove(u64 value) {
    if (value < low_) {
      --below_;
      sum_below_ -= value;
    } else if (value <= high_) {
      const auto at = find(value);
      --in_near_;
      if (--at->second == 0) near_.erase(at);
    }
  }
  void add(u64 value) {
    if (value < low_) {
      ++below_;
      sum_below_ += value;
    } else if (value <= high_) {
      const auto at = find(value);
      ++in_near_;
      if (at != near_.end() && at->first == value) {
        ++at->second;
      } else {
        near_.insert(at, {value, 1});
      }
    }
  }

  std::size_t count_ = 0;
  u64 low_ = 0, high_ = 0;  ///< values from low to high are near
  u64 below_ = 0, in_near_ = 0;
  u128 sum_below_ = 0;
  std::vector<std::pair<u64, u64>> near_;  ///< ascending values, and how many have them
  std::vector<u64> scratch_;
};

/// One class on its way.
struct alignas(64) Course {
  u64 pos = 0, neg = 0, all_pos = 1, all_neg = 1;
  double utility = 0;
  u64 units = 0;              ///< the same in integers
  double since = 0;           ///< where it got this utility ...
  CompensatedSum mean_since;  ///< ... and the integral of the mean up to there
  CompensatedSum mean;        ///< integral of U
  CompensatedSum square;      ///< integral of U^2 - 2 U mean U
  u64 changed = 0;            ///< the last step that changed it
};

}  // namespace

struct ExactSweep::Held {
  CurveQuery query;
  SweepStart start;
  double c2 = 1;
  std::size_t classes = 0;
  std::size_t count = 0;  ///< of the best, and of the worst
  bool second = false;    ///< the sweep of classes that were ranked once

  std::vector<Course> courses;
  std::vector<u32> changed;
  u64 step_number = 0;
  u64 steps = 0;
  double at = 0;  ///< up to where there are integrals
  i128 sum = 0;
  u128 squares = 0;
  u64 centre = 0;  ///< a value near the mean, which squares are taken around
  // Of the best and the worst at each threshold: [place] utilities, all but the best, the worst.
  std::vector<u64> units;
  SmallestSum others, worst;
  /// [place] of classes ranked once: how often one of the best less how often one of the worst.
  std::vector<i8> side;
  i128 side_gap = 0;

  // Integrals from `first` to `at`.
  CompensatedSum mean, mean_square, variance, extremes;
  ExactCurves found;

  bool pointwise() const { return query.extremes && !query.ranked_once; }
  bool ranks_once() const { return query.extremes && query.ranked_once; }
  double width() const { return std::fabs(start.last - start.first); }

  void begin() {
    courses.assign(classes, {});
    units.resize(classes);
    sum = 0;
    squares = 0;
    side_gap = 0;
    for (std::size_t i = 0; i < classes; ++i) {
      Course& course = courses[i];
      course.pos = start.pos[i];
      course.neg = start.neg[i];
      course.all_pos = start.all_pos[i];
      course.all_neg = start.all_neg[i];
      course.utility = utility(c2, course.pos, course.all_pos, course.neg, course.all_neg);
      course.since = start.first;
      course.units = units[i] = in_units(course.utility);
      sum += course.units;
      squares += u128{course.units} * course.units;
      if (second) side_gap += i128{course.units} * side[i];
    }
    if (classes != 0) centre = static_cast<u64>(sum / static_cast<i128>(classes));
    if (pointwise()) {
      others = SmallestSum(units, classes - count);
      worst = SmallestSum(units, count);
    }
    changed.clear();
    step_number = 0;
    steps = 0;
    at = start.first;
    mean = {};
  }

  double mean_now() const {
    return static_cast<double>(sum) / (static_cast<double>(classes) * kUnit);
  }
  /// The sum of (u - q)^2 less what q is off the mean: with q near the mean no digits cancel.
  double variance_now() {
    const i128 t = static_cast<i128>(classes);
    i128 off = sum - i128{centre} * t;
    if (off > t << 20 || -off > t << 20) {
      centre = static_cast<u64>(sum / t);
      off = sum - i128{centre} * t;
    }
    // squares - 2 q sum + q^2 T, modulo 2^128.
    const u128 around = squares - u128{centre} * static_cast<u128>(sum + off);
    const double rest = static_cast<double>(off);
    const auto count_of = static_cast<double>(classes);
    return std::max(static_cast<double>(around) - rest * rest / count_of, 0.0) / count_of /
           (kUnit * kUnit);
  }
  double extreme_now() {
    const i128 between =
        second ? side_gap
               : sum - static_cast<i128>(others.sum(units)) - static_cast<i128>(worst.sum(units));
    const double gap = static_cast<double>(between) / (static_cast<double>(count) * kUnit);
    return query.power == 1 ? std::fabs(gap) : gap * gap;
  }

  /// Integrals up to a threshold.
  void advance(double to) {
    const double step = std::fabs(to - at);
    at = to;
    if (!(step > 0)) return;
    if (!second) {
      const double now = mean_now();
      mean.add(step * now);
      mean_square.add(step * now * now);
      variance.add(step * variance_now());
    }
    if (second || pointwise()) extremes.add(step * extreme_now());
  }

  void close(Course& course) {
    const double step = std::fabs(at - course.since);
    course.mean.add(step * course.utility);
    course.square.add(course.utility * (step * course.utility - 2 * mean.since(course.mean_since)));
    course.since = at;
    course.mean_since = mean;
  }

  void touch(u32 cls, bool positive) {
    const i32 place = start.place[cls];
    if (place < 0) return;
    Course& course = courses[static_cast<std::size_t>(place)];
    ++(positive ? course.pos : course.neg);
    if (course.changed == step_number) return;
    course.changed = step_number;
    changed.push_back(static_cast<u32>(place));
  }

  void renew(u32 place) {
    Course& course = courses[place];
    const double next = utility(c2, course.pos, course.all_pos, course.neg, course.all_neg);
    if (next == course.utility) return;
    const u64 old_units = course.units;
    const u64 new_units = in_units(next);
    course.units = new_units;
    if (second) {
      side_gap += (i128{new_units} - i128{old_units}) * side[place];
      course.utility = next;
      return;
    }
    close(course);
    course.utility = next;
    sum += i128{new_units} - i128{old_units};
    squares += u128{new_units} * new_units - u128{old_units} * old_units;  // modulo 2^128
    if (!pointwise()) return;
    others.change(old_units, new_units);
    worst.change(old_units, new_units);
    units[place] = new_units;
  }

  /// All pairs of one step.
  void step(std::span<const PairEvent> events) {
    const u32 number = events.front().step;
    const double value = start.values.empty()
                             ? static_cast<double>(key_value(start.domain, ~number))
                             : start.values[number];
    const auto [low, high] = std::minmax(start.first, start.last);
    advance(std::clamp(value, low, high));
    ++step_number;
    steps += events.size();
    changed.clear();
    for (const PairEvent& event : events) {
      touch(event.a, event.a == event.b);
      if (event.a != event.b) touch(event.b, false);
    }
    for (const u32 place : changed) renew(place);
  }

  /// What the first sweep found. Where the range has no width, the values at its threshold.
  void conclude() {
    const double whole = width();
    if (whole > 0) advance(start.last);
    found.steps = steps;
    found.means.resize(classes);
    found.contributions.resize(classes);
    if (classes == 0) return;
    const double flat = mean_now();
    found.mean_utility = whole > 0 ? mean.value() / whole : flat;
    found.opis = whole > 0 ? variance.value() / whole : variance_now();
    if (pointwise()) found.extremes = whole > 0 ? extremes.value() / whole : extreme_now();
    for (std::size_t i = 0; i < classes; ++i) {
      Course& course = courses[i];
      if (!(whole > 0)) {
        found.means[i] = course.utility;
        found.contributions[i] = (course.utility - flat) * (course.utility - flat);
        continue;
      }
      close(course);
      found.means[i] = course.mean.value() / whole;
      found.contributions[i] = std::max(course.square.value() + mean_square.value(), 0.0) / whole;
    }
  }

  void choose_sides() {
    std::vector<u32> order(classes);
    std::iota(order.begin(), order.end(), u32{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](u32 a, u32 b) { return found.means[a] < found.means[b]; });
    side.assign(classes, 0);
    for (std::size_t i = 0; i < count; ++i) {
      --side[order[i]];
      ++side[order[classes - 1 - i]];
    }
  }
};

ExactSweep::ExactSweep(const CurveQuery& query, SweepStart start)
    : held_(std::make_unique<Held>()) {
  held_->query = query;
  held_->start = std::move(start);
  held_->c2 = squared_weight(query);
  held_->classes = held_->start.all_pos.size();
  held_->count = static_cast<std::size_t>(share_of(query.epsilon, held_->classes));
  if (held_->classes == 0) held_->query.extremes = false;
  CUPEL_ASSERT(held_->count <= std::max<std::size_t>(held_->classes, 1));
  held_->begin();
}
ExactSweep::~ExactSweep() = default;
ExactSweep::ExactSweep(ExactSweep&&) noexcept = default;
ExactSweep& ExactSweep::operator=(ExactSweep&&) noexcept = default;

void ExactSweep::take(std::span<const PairEvent> events) {
  for (std::size_t i = 0; i < events.size();) {
    std::size_t end = i + 1;
    while (end < events.size() && events[end].step == events[i].step) ++end;
    held_->step(events.subspan(i, end - i));
    i = end;
  }
}

bool ExactSweep::again() {
  if (!held_->ranks_once() || held_->second) return false;
  held_->conclude();
  held_->choose_sides();
  held_->second = true;
  held_->begin();
  return true;
}

ExactCurves ExactSweep::finish() {
  if (!held_->second) {
    held_->conclude();
  } else {
    const double whole = held_->width();
    if (whole > 0) held_->advance(held_->start.last);
    held_->found.extremes = whole > 0 ? held_->extremes.value() / whole : held_->extreme_now();
  }
  return std::move(held_->found);
}

}  // namespace cupel
