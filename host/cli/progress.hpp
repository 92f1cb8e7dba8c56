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
};

/// "3/9 dumps  12.3 M rows/s  0:42 left  m.npz" after `seconds`; what is not known yet is left out.
std::string progress_text(const EvalProgress& progress, double seconds);

}  // namespace cupel
