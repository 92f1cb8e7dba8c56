// rule=exact: the integrals of the utility curves of all classes as the step functions that they
// are. One sweep over the pairs inside the range, in order; what it keeps is O(classes).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "cupel/metric/verification.hpp"

namespace cupel {

/// A pair inside the range. `step` ascends from strict to loose thresholds: ~gap_key.
struct PairEvent {
  u32 step = 0;
  u32 a = 0;  ///< classes of both sides, a <= b; equal: a positive pair
  u32 b = 0;
};

/// Where a sweep begins: the classes with their pairs, and how many are accepted at `first`.
struct SweepStart {
  PairDomain domain = PairDomain::kL2;
  double first = 0, last = 0;  ///< thresholds, from strict to loose
  /// Index among the classes of the sweep, by class; -1: it has no utility.
  std::vector<i32> place;
  std::vector<u64> pos, neg;          ///< [place] accepted at `first`
  std::vector<u64> all_pos, all_neg;  ///< [place]
  /// [step] the threshold that reaches its pairs, of pairs whose scores are no float32; empty: a
  /// step is ~gap_key.
  std::vector<double> values;
};

class ExactSweep {
 public:
  ExactSweep(const CurveQuery& query, SweepStart start);
  ~ExactSweep();
  ExactSweep(ExactSweep&&) noexcept;
  ExactSweep& operator=(ExactSweep&&) noexcept;

  /// The next pairs behind `first` and up to `last`, ascending by (step, a, b). All pairs of one
  /// step in one call.
  void take(std::span<const PairEvent> events);
  /// After the last pair. True: the query ranks classes once, by what was found now, and all pairs
  /// have to be taken once more.
  bool again();
  ExactCurves finish();

 private:
  struct Held;
  std::unique_ptr<Held> held_;
};

}  // namespace cupel
