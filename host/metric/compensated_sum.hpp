// A sum of doubles with what rounding lost kept beside it (Neumaier 1974).
#pragma once

#include <cmath>

namespace cupel {

class CompensatedSum {
 public:
  void add(double term) {
    const double next = sum_ + term;
    lost_ += std::fabs(sum_) >= std::fabs(term) ? (sum_ - next) + term : (term - next) + sum_;
    sum_ = next;
  }
  double value() const { return sum_ + lost_; }
  /// What was added since it was `before`.
  double since(const CompensatedSum& before) const {
    return (sum_ - before.sum_) + (lost_ - before.lost_);
  }

 private:
  double sum_ = 0;
  double lost_ = 0;
};

}  // namespace cupel
