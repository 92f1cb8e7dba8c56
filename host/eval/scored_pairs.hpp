// Pairs that came with scores: the same answers as those of passes over an embedding.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "eval/pair_plan.hpp"
#include "eval/scopes.hpp"

namespace cupel {

class ScoredPairs {
 public:
  /// Scores are ranked as float32 where all parts have float32 or less, else as float64. Views:
  /// parts and cells stay. Memory: 4 or 8 bytes a pair, and the rankings of cells. Errors: kInput:
  /// parts with similarities beside parts with distances; those of the backend.
  static Result<ScoredPairs> make(std::span<const PreparedTable> parts, const UnitedCells& cells,
                                  int threads, Backend& backend);

  PairDomain domain() const { return domain_; }
  const std::vector<std::string>& class_names() const { return class_names_; }

  struct Answers {
    PairAnswers pairs;
    u64 pos = 0, neg = 0;
  };
  /// Of the pairs in some cells (united). Retrieval is the caller's error. O(pairs * log of the
  /// thresholds) for each query; rule=exact sorts the pairs inside the range.
  Result<Answers> answer(std::span<const u32> cells, const PairQuestions& questions) const;

 private:
  /// A pair with classes.
  struct Pair {
    double closeness = 0;  ///< the similarity, or the negated distance
    u32 a = 0, b = 0;      ///< a <= b
    bool same = false;
  };
  template <class Take>
  void each_pair(const std::vector<bool>& wanted, const Take& take) const;
  double closeness(std::size_t part, i64 row) const;
  /// Counts at the thresholds that are there already.
  void count(const std::vector<bool>& wanted, CurveAnswer& answer) const;
  void sweep(const std::vector<bool>& wanted, const CurveQuery& query, CurveAnswer& answer) const;

  std::span<const PreparedTable> parts_;
  const UnitedCells* cells_ = nullptr;
  PairDomain domain_ = PairDomain::kCosine;
  std::vector<Buffer<float>> narrow_;  ///< [part] closeness, or ...
  std::vector<Buffer<double>> wide_;   ///< ... in float64
  std::vector<std::string> class_names_;
  std::vector<std::vector<u32>> united_;  ///< [part][class of the part]
  std::vector<RankTable> tables_;         ///< [cell]
};

}  // namespace cupel
