// Naive oracles: definitions counted out, sharing no arithmetic with the engine.
#pragma once

#include <utility>
#include <vector>

namespace cupel::reference {

struct Row {
  double score;
  bool positive;
};

/// 2U and the pair count, by binary search of each positive among the sorted negatives. Rows <
/// 2^26.
std::pair<unsigned long long, unsigned long long> two_u_and_pairs(const std::vector<Row>& rows);
/// The correctly rounded AUROC: 2U / (2 P N) with numerator and denominator below 2^53.
double auroc(const std::vector<Row>& rows);
/// Average precision, step form, in 113-bit arithmetic.
double average_precision(const std::vector<Row>& rows);

}  // namespace cupel::reference
