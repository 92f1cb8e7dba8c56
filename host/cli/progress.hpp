// One line on a terminal while an evaluation runs: dumps done, rows per second, time left.
#pragma once

#include <chrono>

#include "cupel/eval/evaluate.hpp"

namespace cupel {

/// Draws at most ten times a second, and nothing in the first third of one: short work stays
/// silent. The line is cleared at the end of its life.
class Progress {
 public:
  explicit Progress(bool enabled) : enabled_(enabled) {}
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(const EvalProgress& progress);

 private:
  using Clock = std::chrono::steady_clock;

  bool enabled_;
  bool drawn_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
  i64 dump_ = -1;  ///< whose pairs are counted since ...
  Clock::time_point pairs_start_ = start_;
};

/// "3/9 dumps  12.3 M rows/s  0:42 left  m.npz" after `seconds`; what is not known yet is left out.
/// Where pairs are compared, "0/1 dumps  45 %  2.1 G pairs/s  0:42 left  m.npz": those of the
/// current dump, `pair_seconds` after its first; the others are taken to need as long as those so
/// far.
std::string progress_text(const EvalProgress& progress, double seconds, double pair_seconds = 0);

}  // namespace cupel
