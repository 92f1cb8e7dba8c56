// The CPU implementation of what a backend does for ranking metrics: tables, summaries without
// tables, and the search for scores that cannot be ranked. Equal bytes at any thread count.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "cupel/backend/backend.hpp"

namespace cupel {

class ThreadPool;

/// Memory that calls may share one after another, so that only the first pays for its pages: about
/// 4 bytes a row of the largest problem seen (8 where keys have 64 bits).
class RankScratch {
 public:
  RankScratch();
  ~RankScratch();
  RankScratch(const RankScratch&) = delete;
  RankScratch& operator=(const RankScratch&) = delete;

  struct Memory;
  Memory& memory() { return *memory_; }
  /// Returns the memory to the system.
  void release();

 private:
  std::unique_ptr<Memory> memory_;
};

/// Backend::rank_tables.
Result<std::vector<std::vector<RankTable>>> cpu_rank_tables(const TableView& table, i64 first,
                                                            i64 last, ThreadPool& pool,
                                                            RankScratch* scratch = nullptr);

/// Backend::rank_summaries; `distinct` is 0 where it was not counted.
Result<std::vector<RankSummary>> cpu_rank_summaries(const TableView& table, i64 first, i64 last,
                                                    std::span<const RankQuery> queries,
                                                    ThreadPool& pool,
                                                    RankScratch* scratch = nullptr);

/// Backend::bad_scores. Reads the scores once.
Result<Backend::BadScores> cpu_bad_scores(const TableView& table, ThreadPool& pool);

/// Rows of a binary table of 16-bit scores, counted by score and label. Their counts say both
/// whether any score is NaN or infinite and how the rows rank, so one pass over memory does for
/// the check and the ranking that follows it.
class CountedRows {
 public:
  CountedRows();
  ~CountedRows();
  CountedRows(const CountedRows&) = delete;
  CountedRows& operator=(const CountedRows&) = delete;

  /// Counts the rows of `table` in place of cpu_bad_scores where that pays: labels are set, there
  /// are neither weights nor cells, and the scores lie side by side. True when this was done and
  /// all scores are finite; else nothing is held and cpu_bad_scores has to look.
  Result<bool> count(const TableView& table, ThreadPool& pool);
  /// Whether these are the counts of this table: the same rows at the same place.
  bool are_of(const TableView& table) const;
  void forget();

  /// What cpu_rank_tables and cpu_rank_summaries give for problem 0 of the counted table.
  Result<std::vector<std::vector<RankTable>>> tables(const TableView& table) const;
  Result<std::vector<RankSummary>> summaries(const TableView& table,
                                             std::span<const RankQuery> queries,
                                             ThreadPool& pool) const;

 private:
  struct Counts;
  std::unique_ptr<Counts> counts_;
};

}  // namespace cupel
