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

}  // namespace cupel
