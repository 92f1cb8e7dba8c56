// What metrics ask of the pairs of one embedding, answered in as few passes as fit. How it is found
// depends on memory and on a sample; what is found does not.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cupel/metric/verification.hpp"
#include "eval/pair_runner.hpp"

namespace cupel {

/// How thresholds of false accept rates are found.
enum class BoundsBy : u8 {
  kAuto,
  kRanks,     ///< from the ranking of all pairs
  kBrackets,  ///< from the negative pairs inside brackets that a sample gives
  kList,      ///< from all pairs up to the loosest one, in which the rest is counted as well
};

struct PairLimits {
  i64 bytes = 0;  ///< of lists, of events and of nearest rows
  BoundsBy bounds = BoundsBy::kAuto;
  i64 samples = i64{1} << 18;
  double sigmas = 6;
};

struct PairQuestions {
  bool ranks = false;
  std::vector<CurveQuery> curves;
  std::vector<ClassRateQuery> rates;
  std::vector<RetrievalQuery> retrieval;
};

struct CurveAnswer {
  double first = 0, last = 0;
  bool unresolved = false;
  bool empty_range = false;
  ClassCurves curves;  ///< without thresholds where unresolved, or of fewer classes than needed
  std::optional<ExactCurves> exact;
};

struct PairAnswers {
  RankTable ranks;
  std::vector<CurveAnswer> curves, rates;  ///< rates: curves of one threshold
  std::vector<RetrievalSums> retrieval;
  i64 passes = 0;    ///< over the pairs, that it all took
  std::string plan;  ///< a line for people
};

/// Class by class: rows, all pairs and who has a utility.
struct PairClasses {
  std::vector<u32> of;
  std::vector<u64> all_pos, all_neg;  ///< [class of `of`]
  std::vector<i32> place;             ///< [class] index into `of`, or -1
  u64 pos = 0, neg = 0;               ///< all pairs
};

/// An order statistic of the negative pairs that a false accept rate stands for.
struct FarTarget {
  u64 rank = 0;  ///< from 1, closest first; 0: not resolved
  /// The threshold is the next stricter one.
  bool below = false;
};
/// The bound of a range: the ceil(far * neg)-th closest negative pair's distance.
FarTarget far_bound(const Fraction& far, u64 neg);
/// The loosest threshold that accepts at most far * neg of the negative pairs: just stricter than
/// the next one's distance. Of far >= 1 that of the last one.
FarTarget far_limit(const Fraction& far, u64 neg);

/// first + (last - first) * k / (count - 1) for k from 0, the last one exactly `last`.
std::vector<double> threshold_grid(double first, double last, i64 count);

Result<PairAnswers> answer_pairs(const EmbeddingView& view, std::span<const u64> class_rows,
                                 const PairQuestions& questions, const PairLimits& limits,
                                 int threads, PairRunner& runner);

}  // namespace cupel
