// Which order statistic of the calibration scores is the threshold, in exact integers.
#include <algorithm>

#include "cupel/core/config.hpp"
#include "cupel/metric/conformal.hpp"
#include "metric/exact.hpp"

namespace cupel {

i64 quantile_rank(QuantileRule rule, i64 n, Fraction alpha) {
  CUPEL_ASSERT(n >= 0 && alpha.num > 0 && alpha.num < alpha.den);
  const exact::Integer num(alpha.num);
  const exact::Integer den(alpha.den);
  const exact::Integer rows(n);
  const auto k = n + 1 - static_cast<i64>((rows + 1) * num / den);
  const i64 known = k > n ? 0 : k;
  // MAPIE raises unless n reaches 1 / alpha and 1 / (1 - alpha).
  const bool too_few = rows * std::min(alpha.num, alpha.den - alpha.num) < den;
  switch (rule) {
    case QuantileRule::kExact:
    case QuantileRule::kPuncc:
      return known;
    case QuantileRule::kNumpyHigher:
      return known == 0 || known == n ? known : known + 1;
    case QuantileRule::kMapieCls: {
      if (too_few) return 0;
      // Position (n + 1)(1 - alpha)(n - 1) / n from 0, rounded up.
      const exact::Integer above = (rows + 1) * (den - num) * (rows - 1);
      const exact::Integer below = den * rows;
      return static_cast<i64>((above + below - 1) / below) + 1;
    }
    case QuantileRule::kMapieReg:
      return too_few ? 0 : known;
    case QuantileRule::kCrepes: {
      const double confidence = exact::ratio(alpha.den - alpha.num, alpha.den);
      const auto from_largest =
          static_cast<i64>((1.0 - confidence) * (static_cast<double>(n) + 1.0));
      return from_largest == 0 ? 0 : n + 1 - from_largest;
    }
  }
  return known;
}

}  // namespace cupel
