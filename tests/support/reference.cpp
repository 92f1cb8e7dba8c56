#include "support/reference.hpp"

#include <algorithm>

namespace cupel::reference {

__extension__ typedef __float128 Quad;

std::pair<unsigned long long, unsigned long long> two_u_and_pairs(const std::vector<Row>& rows) {
  std::vector<double> negatives;
  unsigned long long positives = 0;
  for (const Row& row : rows) {
    if (row.positive) {
      ++positives;
    } else {
      negatives.push_back(row.score);
    }
  }
  std::sort(negatives.begin(), negatives.end());
  unsigned long long two_u = 0;
  for (const Row& row : rows) {
    if (!row.positive) continue;
    const auto [first, last] = std::equal_range(negatives.begin(), negatives.end(), row.score);
    two_u += static_cast<unsigned long long>(first - negatives.begin()) +
             static_cast<unsigned long long>(last - negatives.begin());
  }
  return {two_u, positives * negatives.size()};
}

double auroc(const std::vector<Row>& rows) {
  const auto [two_u, pairs] = two_u_and_pairs(rows);
  return static_cast<double>(two_u) / static_cast<double>(2 * pairs);
}

double average_precision(const std::vector<Row>& rows) {
  std::vector<Row> sorted = rows;
  std::sort(sorted.begin(), sorted.end(),
            [](const Row& a, const Row& b) { return a.score > b.score; });
  Quad sum = 0;
  unsigned long long tp = 0;
  unsigned long long total = 0;
  for (std::size_t i = 0; i < sorted.size();) {
    std::size_t end = i;
    unsigned long long positives = 0;
    while (end < sorted.size() && sorted[end].score == sorted[i].score) {
      positives += sorted[end++].positive ? 1 : 0;
    }
    tp += positives;
    total += end - i;
    sum += static_cast<Quad>(positives) * static_cast<Quad>(tp) / static_cast<Quad>(total);
    i = end;
  }
  return static_cast<double>(sum / static_cast<Quad>(tp));
}

}  // namespace cupel::reference
