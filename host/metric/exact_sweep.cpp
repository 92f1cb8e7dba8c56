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

u64 in_units(double utility) { return static_cast<u64>(std::llround(utility * kUnit)); }

/// The classes in order of utility, and the sums of its first and its last `count`.
class Ranked {
 public:
  Ranked() = default;
  Ranked(const std::vector<u64>& values, std::size_t count) : count_(count) {
    order_.resize(values.size());
    std::iota(order_.begin(), order_.end(), u32{0});
    std::stable_sort(order_.begin(), order_.end(),
                     [&](u32 a, u32 b) { return values[a] < values[b]; });
    rank_.resize(values.size());
    values_.resize(values.size());
    for (std::size_t r = 0; r < order_.size(); ++r) {
      rank_[order_[r]] = static_cast<u32>(r);
      values_[r] = values[order_[r]];
      if (r < count) low_ += values_[r];
      if (r >= first_high()) high_ += values_[r];
    }
  }

  /// Moves a class among its neighbours: O(classes between its old and its new value).
  void change(u32 place, u64 value) {
    std::size_t r = rank_[place];
    const u64 old = values_[r];
    const i128 more = i128{value} - i128{old};
    if (r < count_) low_ += more;
    if (r >= first_high()) high_ += more;
    values_[r] = value;
    while (r + 1 < order_.size() && values_[r + 1] < value) swap_up(r++);
    while (r > 0 && values_[r - 1] > value) swap_up(--r);
  }

  /// The sum of the largest less that of the smallest.
  i128 gap() const { return high_ - low_; }

 private:
  std::size_t first_high() const { return order_.size() - count_; }
  /// Exchanges the classes at ranks r and r + 1.
  void swap_up(std::size_t r) {
    if (r + 1 == count_) low_ += i128{values_[r + 1]} - i128{values_[r]};
    if (r + 1 == first_high()) high_ += i128{values_[r]} - i128{values_[r + 1]};
    std::swap(values_[r], values_[r + 1]);
    std::swap(order_[r], order_[r + 1]);
    rank_[order_[r]] = static_cast<u32>(r);
    rank_[order_[r + 1]] = static_cast<u32>(r + 1);
  }

  std::size_t count_ = 0;
  std::vector<u32> order_, rank_;
  std::vector<u64> values_;  ///< [rank]
  i128 low_ = 0, high_ = 0;
};

/// One class on its way.
struct Course {
  u64 pos = 0, neg = 0;
  double utility = 0;
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
  Ranked ranked;
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
    std::vector<u64> units(classes);
    sum = 0;
    squares = 0;
    side_gap = 0;
    for (std::size_t i = 0; i < classes; ++i) {
      Course& course = courses[i];
      course.pos = start.pos[i];
      course.neg = start.neg[i];
      course.utility = utility(c2, course.pos, start.all_pos[i], course.neg, start.all_neg[i]);
      course.since = start.first;
      units[i] = in_units(course.utility);
      sum += units[i];
      squares += u128{units[i]} * units[i];
      if (second) side_gap += i128{units[i]} * side[i];
    }
    if (pointwise()) ranked = Ranked(units, count);
    changed.clear();
    step_number = 0;
    steps = 0;
    at = start.first;
    mean = {};
  }

  double mean_now() const {
    return static_cast<double>(sum) / (static_cast<double>(classes) * kUnit);
  }
  /// sum of (u - q)^2, q the mean rounded down, less what q is off: no digits cancel.
  double variance_now() const {
    const u128 all = static_cast<u128>(sum);
    const u128 q = all / classes;
    const u128 rest = all - q * classes;
    const double around = static_cast<double>(squares - q * (all + rest));
    const double off = static_cast<double>(rest);
    const double t = static_cast<double>(classes);
    return std::max(around - off * off / t, 0.0) / t / (kUnit * kUnit);
  }
  double extreme_now() const {
    const double gap = static_cast<double>(second ? side_gap : ranked.gap()) /
                       (static_cast<double>(count) * kUnit);
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
    const double next =
        utility(c2, course.pos, start.all_pos[place], course.neg, start.all_neg[place]);
    if (next == course.utility) return;
    const u64 old_units = in_units(course.utility);
    const u64 units = in_units(next);
    if (second) {
      side_gap += (i128{units} - i128{old_units}) * side[place];
      course.utility = next;
      return;
    }
    close(course);
    course.utility = next;
    sum += i128{units} - i128{old_units};
    squares += u128{units} * units - u128{old_units} * old_units;  // modulo 2^128
    if (pointwise()) ranked.change(place, units);
  }

  /// All pairs of one step.
  void step(std::span<const PairEvent> events) {
    const double value = key_value(start.domain, ~events.front().step);
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
