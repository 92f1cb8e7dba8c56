// Verification and retrieval from pairs of rows: what a metric of these asks for and is given.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cupel/math/curve.hpp"
#include "cupel/math/embedding.hpp"

namespace cupel {

/// The range of thresholds that OPIS looks at: thresholds themselves, or those at which the global
/// false accept rate reaches the first and the second bound.
struct ThresholdRange {
  std::optional<std::pair<double, double>> values;  ///< the smaller number first
  Fraction far_low{1, 100};
  Fraction far_high{1, 10};
  friend bool operator==(const ThresholdRange&, const ThresholdRange&) = default;
};

enum class IntegrationRule : u8 { kMean, kTrapezoid, kExact };

/// Utility curves of classes over a range of thresholds.
struct CurveQuery {
  ThresholdRange range;
  i64 n_thresholds = 101;
  IntegrationRule rule = IntegrationRule::kMean;
  Fraction c{1, 1};  ///< U = (1 + c^2) phi psi / (c^2 phi + psi)
  // Of eps_opis.
  bool extremes = false;     ///< also the means of the best and the worst classes
  Fraction epsilon{1, 10};   ///< share of the classes that these are
  bool ranked_once = false;  ///< by mean utility over the range, not at each threshold
  int power = 2;
  friend bool operator==(const CurveQuery&, const CurveQuery&) = default;
};

/// Error rates of classes at one threshold: a given one, or the loosest whose global false accept
/// rate is at most `far`.
struct ClassRateQuery {
  std::optional<double> threshold;
  Fraction far{1, 100};
  friend bool operator==(const ClassRateQuery&, const ClassRateQuery&) = default;
};

/// Nearest rows: hits among the first k, and among as many as the class has other rows.
struct RetrievalQuery {
  std::vector<i64> ks;  ///< ascending, from 1
  bool by_class_size = false;
  friend bool operator==(const RetrievalQuery&, const RetrievalQuery&) = default;
};

/// Exactly one of these.
struct VerificationQuery {
  std::optional<PairDomain> domain;  ///< none: as the command says
  std::optional<bool> normalize;
  std::optional<CurveQuery> curves;
  std::optional<ClassRateQuery> rates;
  std::optional<RetrievalQuery> retrieval;
  friend bool operator==(const VerificationQuery&, const VerificationQuery&) = default;
};

/// Pairs by class that each threshold accepts. Thresholds go from strict to loose: ascending
/// distances or descending similarities. Only classes of two rows and more whose pairs with others
/// exist are here; `of` says which.
struct ClassCurves {
  std::vector<u32> of;                ///< [class here] index into VerificationEvidence::class_names
  std::vector<double> thresholds;     ///< [k]
  std::vector<u64> pos, neg;          ///< [class here][k] accepted pairs
  std::vector<u64> all_pos, all_neg;  ///< [class here] all pairs, accepted or not
  std::size_t classes() const { return of.size(); }
};

/// rule=exact: integrals of step functions over the range, divided by its width.
struct ExactCurves {
  double opis = 0;
  double mean_utility = 0;
  double extremes = 0;                ///< as the query says: squared or absolute
  std::vector<double> contributions;  ///< [class here] mean of (U - mean U)^2
  std::vector<double> means;          ///< [class here] mean of U
  u64 steps = 0;                      ///< pairs inside the range
};

/// Hits of the queries whose class has `positives` other rows; sums that add up.
struct RetrievalSums {
  struct BySize {
    u64 positives = 0;
    u64 queries = 0;
    u64 hits = 0;        ///< of the first `positives` rows, those of the class
    u128 precision = 0;  ///< sum of floor(2^60 * hits so far / rank) at each of these hits
    bool operator==(const BySize&) const = default;
  };
  std::vector<i64> ks;
  std::vector<u64> found;       ///< [k] queries with one of their class among the first k
  u64 queries = 0;              ///< rows whose class has another row
  u64 alone = 0;                ///< rows whose class has none
  std::vector<BySize> by_size;  ///< ascending positives; empty unless by_class_size

  void merge(const RetrievalSums& other);
  bool operator==(const RetrievalSums&) const = default;
};

/// What a metric of pairs is given.
struct VerificationEvidence {
  PairDomain domain = PairDomain::kL2;
  bool normalize = true;
  bool scored = false;  ///< pairs came with scores: there are no rows
  u64 rows = 0;
  u64 pos = 0, neg = 0;                      ///< pairs of one class, of two
  std::span<const std::string> class_names;  ///< labels as text, in ascending order
  std::span<const u64> class_rows;           ///< [class] rows; of scored pairs empty
  /// The range that was looked at, from strict to loose; where `unresolved`, none.
  double first = 0, last = 0;
  /// A false accept rate was asked for that is below 1 / neg.
  bool unresolved = false;
  bool empty_range = false;  ///< both bounds of the rate fall on one threshold
  /// Of curves, and of rates with one threshold. With rule=exact too: `of` is needed, thresholds
  /// (the grid's, for the curve that details show) may be empty.
  const ClassCurves* curves = nullptr;
  const ExactCurves* exact = nullptr;  ///< rule=exact
  const RetrievalSums* retrieval = nullptr;
};

}  // namespace cupel
