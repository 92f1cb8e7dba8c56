#include "backend/cpu_rank.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "backend/cpu_rank_half.hpp"
#include "backend/cpu_rank_matrix.hpp"
#include "backend/cpu_rank_partition.hpp"
#include "backend/cpu_rank_rows.hpp"
#include "backend/cpu_rank_split.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/state/rank_table.hpp"

namespace cupel {

struct RankScratch::Memory {
  cpu::PartitionScratch shared;
  std::vector<std::unique_ptr<cpu::PartitionScratch>> own;  ///< one per worker

  cpu::PartitionScratch& of(int worker) { return *own[static_cast<std::size_t>(worker)]; }
  void make_own(int workers) {
    while (static_cast<int>(own.size()) < workers) {
      own.push_back(std::make_unique<cpu::PartitionScratch>());
    }
  }
};

RankScratch::RankScratch() : memory_(std::make_unique<Memory>()) {}
RankScratch::~RankScratch() = default;
void RankScratch::release() { memory_ = std::make_unique<Memory>(); }

namespace cpu {
namespace {

/// Problems (or cells) with fewer rows are ranked by one worker each, several at a time.
constexpr i64 kLeastSharedRows = 400'000;

/// Runs `body`; what the standard library throws becomes an Error.
template <class Body>
auto guarded(const TableView& table, const char* what, Body body) -> decltype(body()) {
  const auto failure = [&](const std::string& problem, const std::string& hint) {
    return Error{ErrorCode::kInternal, what,
                 problem + " (" + std::to_string(table.rows) + " rows, " +
                     std::to_string(table.problems()) + " problems)",
                 hint};
  };
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return failure("out of memory", "evaluate fewer rows or problems at a time");
  } catch (const std::exception& e) {
    return failure(e.what(), {});
  }
}

RankTable table_of(const RankHistogram& histogram, ScoreKind kind,
                   const std::vector<BlockCounts>&) {
  return histogram.table(kind);
}

template <class Key>
RankTable table_of(const RankPartition<Key>& partition, ScoreKind kind,
                   const std::vector<BlockCounts>& counts) {
  std::vector<BlockCounts> below(counts.size());
  BlockCounts all;
  for (std::size_t b = 0; b < counts.size(); ++b) {
    below[b] = all;
    all.pos += counts[b].pos;
    all.neg += counts[b].neg;
  }
  Buffer<Key> pos(all.pos);
  Buffer<Key> neg(all.neg);
  partition.for_each_bucket(
      [](i64) { return true; },
      [&](int, i64 b, const GroupSpan<Key>& groups) {
        Key* next_pos = pos.data() + below[static_cast<std::size_t>(b)].pos;
        Key* next_neg = neg.data() + below[static_cast<std::size_t>(b)].neg;
        for (i64 g = 0; g < groups.size; ++g) {
          const Key key = static_cast<Key>(groups.base + groups.offsets[g]);
          next_pos = std::fill_n(next_pos, groups.pos[g] - groups.pos[g - 1], key);
          next_neg = std::fill_n(next_neg, groups.neg[g] - groups.neg[g - 1], key);
        }
      });
  KeyRuns<Key> runs;
  runs.pos = canonical_run(std::move(pos));
  runs.neg = canonical_run(std::move(neg));
  return RankTable(kind, false, std::move(runs), all.pos, all.neg);
}

template <class Key>
RankTable partition_table(const ProblemRows& problem, const Workers& workers,
                          PartitionScratch& scratch) {
  if (problem.rows() == 0) return RankTable(problem.kind(), false);
  const RankPartition<Key> partition(problem, workers, scratch);
  return table_of(partition, problem.kind(), partition.count_labels());
}

bool is_counted_whole(const ProblemRows& problem) {
  return key_bits(problem.kind()) == 16 && problem.rows() >= RankHistogram::kLeastRows;
}

RankTable unweighted_table(const ProblemRows& problem, const Workers& workers,
                           PartitionScratch& scratch) {
  if (is_counted_whole(problem)) return RankHistogram(problem, workers).table(problem.kind());
  return has_narrow_keys(problem.kind()) ? partition_table<u32>(problem, workers, scratch)
                                         : partition_table<u64>(problem, workers, scratch);
}

/// Calls body with as many queries as a plan can hold, until all had their turn.
template <class Body>
void for_each_query_batch(std::span<const RankQuery> queries, Body body) {
  for (std::size_t q = 0; q < queries.size(); q += RankPlan::kMaxQueries) {
    body(queries.subspan(q, std::min(RankPlan::kMaxQueries, queries.size() - q)));
  }
}

bool is_area_only(std::span<const RankQuery> queries) {
  return !queries.empty() && std::all_of(queries.begin(), queries.end(), [](const RankQuery& q) {
    return q.kind == RankQueryKind::kTwoU;
  });
}

/// The summary of rows that are cut into buckets when nothing but 2U is asked for: every bucket is
/// opened anyway, and its groups tell its labels. None if there is a single class.
template <class Cut>
std::optional<RankSummary> area_of(const Cut& cut, ScoreKind kind, std::size_t queries) {
  const std::size_t buckets = static_cast<std::size_t>(cut.buckets());
  std::vector<BlockCounts> counts(buckets);
  std::vector<u64> inside(buckets);
  cut.for_each_bucket([](i64) { return true; },
                      [&](int, i64 b, const auto& groups) {
                        if (groups.size == 0) return;
                        const std::size_t bucket = static_cast<std::size_t>(b);
                        counts[bucket] = {groups.pos[groups.size - 1], groups.neg[groups.size - 1]};
                        inside[bucket] = groups_two_u(groups);
                      });
  RankSummary summary;
  summary.kind = kind;
  u128 two_u = 0;
  for (std::size_t b = 0; b < buckets; ++b) {
    two_u += inside[b] + static_cast<u128>(counts[b].pos) * (2 * summary.neg_rows);
    summary.pos_rows += counts[b].pos;
    summary.neg_rows += counts[b].neg;
  }
  summary.pos = summary.pos_rows;
  summary.neg = summary.neg_rows;
  if (summary.pos == 0 || summary.neg == 0) return std::nullopt;
  RankAnswer answer;
  answer.sum = to_u256(two_u);
  summary.answers.assign(queries, answer);
  return summary;
}

/// The summary of rows that are cut into buckets.
template <class Cut>
RankSummary summary_of(const Cut& cut, ScoreKind kind, std::span<const RankQuery> queries,
                       const Workers& workers) {
  if (is_area_only(queries)) {
    if (auto area = area_of(cut, kind, queries.size())) return std::move(*area);
  }
  const std::vector<BlockCounts> counts = cut.count_labels();
  RankSummary summary;
  summary.kind = kind;
  for (const BlockCounts& block : counts) {
    summary.pos_rows += block.pos;
    summary.neg_rows += block.neg;
  }
  summary.pos = summary.pos_rows;
  summary.neg = summary.neg_rows;
  if (summary.pos == 0 || summary.neg == 0) return summarise(table_of(cut, kind, counts), queries);
  for_each_query_batch(queries, [&](std::span<const RankQuery> batch) {
    const RankPlan plan(batch, counts);
    std::vector<RankPartial> partials;
    for (int w = 0; w < workers.count(); ++w) partials.push_back(plan.make_partial());
    std::vector<BlockSums> sums(counts.size());
    cut.for_each_bucket([&](i64 b) { return plan.needs_block(b); },
                        [&](int worker, i64 b, const auto& groups) {
                          scan_groups(plan, b, groups, partials[static_cast<std::size_t>(worker)],
                                      sums[static_cast<std::size_t>(b)]);
                        });
    for (RankAnswer& answer : plan.finish(partials, sums)) {
      summary.answers.push_back(std::move(answer));
    }
  });
  return summary;
}

RankSummary unweighted_summary(const ProblemRows& problem, std::span<const RankQuery> queries,
                               const Workers& workers, PartitionScratch& scratch) {
  const ScoreKind kind = problem.kind();
  if (problem.rows() == 0) return summarise(RankTable(kind, false), queries);
  if (is_counted_whole(problem)) {
    return summary_of(RankHistogram(problem, workers), kind, queries, workers);
  }
  return has_narrow_keys(kind)
             ? summary_of(RankPartition<u32>(problem, workers, scratch), kind, queries, workers)
             : summary_of(RankPartition<u64>(problem, workers, scratch), kind, queries, workers);
}

/// Splits [0, count) problems between working on several at a time, each on one worker, and on one
/// at a time with all workers. Calls body(index, workers, scratch).
template <class Body>
void for_each_problem(i64 count, bool shared, ThreadPool& pool, RankScratch::Memory& memory,
                      Body body) {
  if (shared) {
    const Workers all(pool);
    for (i64 i = 0; i < count; ++i) body(i, all, memory.shared);
    return;
  }
  memory.make_own(pool.threads());
  const Workers alone;
  pool.parallel_for(count, [&](int worker, i64 i) { body(i, alone, memory.of(worker)); });
}

/// Calls body(index, rows, worker) for problems [first, first + count) of a matrix, each on one
/// worker, reading the matrix a tile of columns at a time.
template <class Key, class Body>
void for_each_column(const TableView& table, i64 first, i64 count, const RowSoftmax* softmax,
                     ThreadPool& pool, Body body) {
  const i64 width = RankTile<Key>::width(table.rows, count, pool.threads());
  std::vector<RankTile<Key>> tiles(static_cast<std::size_t>(pool.threads()));
  pool.parallel_for((count + width - 1) / width, [&](int worker, i64 t) {
    RankTile<Key>& tile = tiles[static_cast<std::size_t>(worker)];
    const i64 begin = t * width;
    const i64 end = std::min(count, begin + width);
    tile.read(table, first + begin, end - begin, softmax);
    for (i64 i = begin; i < end; ++i) body(i, tile.problem(i - begin), worker);
  });
}

/// The summary of a column when nothing but 2U is asked for; none if it has a single class.
std::optional<RankSummary> area_summary(const ProblemRows& problem, std::size_t queries,
                                        PairCounter& counter) {
  const PairCounter::Answer counted =
      counter.count(problem.narrow_keys(), problem.contiguous_labels(), problem.rows());
  RankSummary summary;
  summary.kind = problem.kind();
  summary.pos_rows = counted.pos;
  summary.neg_rows = static_cast<u64>(problem.rows()) - counted.pos;
  summary.pos = summary.pos_rows;
  summary.neg = summary.neg_rows;
  if (summary.pos == 0 || summary.neg == 0) return std::nullopt;
  RankAnswer answer;
  answer.sum = to_u256(u128{counted.two_u});
  summary.answers.assign(queries, answer);
  return summary;
}

/// The tables of all cells of one problem; `order` is the table's split by cell.
template <class Key>
std::vector<RankTable> tables_by_cell(const ProblemRows& problem, const CellSplit& split,
                                      const Workers& workers, RankScratch::Memory& memory,
                                      int worker) {
  const CellRows<Key> rows = gather_cells<Key>(problem, split, workers);
  std::vector<RankTable> tables(static_cast<std::size_t>(split.cells()));
  std::vector<i64> small;
  const auto make = [&](i64 cell, const Workers& with, PartitionScratch& scratch) {
    const i64 first = split.first_row(cell);
    tables[static_cast<std::size_t>(cell)] = partition_table<Key>(
        ProblemRows(problem.kind(), rows.keys.data() + first, rows.labels.data() + first,
                    split.first_row(cell + 1) - first),
        with, scratch);
  };
  for (i64 cell = 0; cell < split.cells(); ++cell) {
    if (workers.count() > 1 &&
        split.first_row(cell + 1) - split.first_row(cell) >= kLeastSharedRows) {
      make(cell, workers, memory.shared);
    } else {
      small.push_back(cell);
    }
  }
  const Workers alone;
  workers.parallel_for(static_cast<i64>(small.size()), [&](int w, i64 i) {
    make(small[static_cast<std::size_t>(i)], alone, memory.of(workers.count() > 1 ? w : worker));
  });
  return tables;
}

}  // namespace
}  // namespace cpu

Result<std::vector<std::vector<RankTable>>> cpu_rank_tables(const TableView& table, i64 first,
                                                            i64 last, ThreadPool& pool,
                                                            RankScratch* scratch) {
  using namespace cpu;
  using Tables = std::vector<std::vector<RankTable>>;
  return guarded(table, "rank tables", [&]() -> Result<Tables> {
    RankScratch temporary;
    RankScratch::Memory& memory = (scratch != nullptr ? *scratch : temporary).memory();
    const i64 problems = last - first;
    Tables tables(static_cast<std::size_t>(problems));
    const Buffer<RowSoftmax> softmaxes = row_softmaxes(table, pool);
    const RowSoftmax* softmax = softmaxes.empty() ? nullptr : softmaxes.data();
    memory.make_own(pool.threads());
    const bool by_cell = table.cells != nullptr && table.cell_count != 1;
    const bool split_rows =
        by_cell || table.weighted() || table.rows > RankPartition<u32>::kMaxRows;
    const CellSplit split = split_rows ? CellSplit(table, Workers(pool)) : CellSplit();

    if (split_rows) {
      const auto of_problem = [&](i64 i, const Workers& workers, int worker) {
        const ProblemRows problem(table, first + i, softmax);
        std::vector<RankTable>& out = tables[static_cast<std::size_t>(i)];
        if (table.weighted() || split.largest() > RankPartition<u32>::kMaxRows) {
          out = sorted_tables(problem, split, workers);
        } else if (has_narrow_keys(problem.kind())) {
          out = tables_by_cell<u32>(problem, split, workers, memory, worker);
        } else {
          out = tables_by_cell<u64>(problem, split, workers, memory, worker);
        }
      };
      if (problems < 2 * pool.threads()) {
        for (i64 i = 0; i < problems; ++i) of_problem(i, Workers(pool), 0);
      } else {
        pool.parallel_for(problems, [&](int worker, i64 i) { of_problem(i, Workers(), worker); });
      }
      return tables;
    }
    const ScoreKind kind = score_kind(table);
    const bool shared = pool.threads() > 1 && (table.rows >= kLeastSharedRows || problems == 1);
    if (!shared && table.task != Task::kBinary && table.rows > 0) {
      const Workers alone;
      const auto table_of_column = [&](i64 i, const ProblemRows& problem, int worker) {
        tables[static_cast<std::size_t>(i)].push_back(
            unweighted_table(problem, alone, memory.of(worker)));
      };
      if (has_narrow_keys(kind)) {
        for_each_column<u32>(table, first, problems, softmax, pool, table_of_column);
      } else {
        for_each_column<u64>(table, first, problems, softmax, pool, table_of_column);
      }
      return tables;
    }
    for_each_problem(
        problems, shared, pool, memory, [&](i64 i, const Workers& workers, PartitionScratch& own) {
          const ProblemRows problem(table, first + i, softmax);
          tables[static_cast<std::size_t>(i)].push_back(unweighted_table(problem, workers, own));
        });
    return tables;
  });
}

Result<std::vector<RankSummary>> cpu_rank_summaries(const TableView& table, i64 first, i64 last,
                                                    std::span<const RankQuery> queries,
                                                    ThreadPool& pool, RankScratch* scratch) {
  using namespace cpu;
  using Summaries = std::vector<RankSummary>;
  if (table.weighted() || table.rows > RankPartition<u32>::kMaxRows) {
    TableView one_cell = table;
    one_cell.cells = nullptr;
    one_cell.cell_count = 1;
    Summaries summaries;
    // A problem at a time bounds the memory to one table.
    for (i64 p = first; p < last; ++p) {
      auto tables = cpu_rank_tables(one_cell, p, p + 1, pool, scratch);
      if (!tables) return tables.error();
      summaries.push_back(summarise(tables.value().front().front(), queries));
    }
    return summaries;
  }
  return guarded(table, "rank summaries", [&]() -> Result<Summaries> {
    RankScratch temporary;
    RankScratch::Memory& memory = (scratch != nullptr ? *scratch : temporary).memory();
    const i64 problems = last - first;
    Summaries summaries(static_cast<std::size_t>(problems));
    const Buffer<RowSoftmax> softmaxes = row_softmaxes(table, pool);
    const RowSoftmax* softmax = softmaxes.empty() ? nullptr : softmaxes.data();
    const ScoreKind kind = score_kind(table);
    const bool shared = pool.threads() > 1 && (table.rows >= kLeastSharedRows || problems == 1);
    if (!shared && table.task != Task::kBinary && table.rows > 0) {
      const bool area_only = is_area_only(queries);
      std::vector<PairCounter> counters(static_cast<std::size_t>(pool.threads()));
      const Workers alone;
      memory.make_own(pool.threads());
      const auto summarise_column = [&](i64 i, const ProblemRows& problem, int worker) {
        RankSummary& out = summaries[static_cast<std::size_t>(i)];
        if (area_only && has_narrow_keys(kind)) {
          if (auto area = area_summary(problem, queries.size(),
                                       counters[static_cast<std::size_t>(worker)])) {
            out = std::move(*area);
            return;
          }
        }
        out = unweighted_summary(problem, queries, alone, memory.of(worker));
      };
      if (has_narrow_keys(kind)) {
        for_each_column<u32>(table, first, problems, softmax, pool, summarise_column);
      } else {
        for_each_column<u64>(table, first, problems, softmax, pool, summarise_column);
      }
      return summaries;
    }
    for_each_problem(problems, shared, pool, memory,
                     [&](i64 i, const Workers& workers, PartitionScratch& own) {
                       const ProblemRows problem(table, first + i, softmax);
                       summaries[static_cast<std::size_t>(i)] =
                           unweighted_summary(problem, queries, workers, own);
                     });
    return summaries;
  });
}

struct CountedRows::Counts {
  const std::byte* scores;
  const u8* labels;
  i64 rows;
  DType dtype;
  cpu::RankHistogram histogram;
};

CountedRows::CountedRows() = default;
CountedRows::~CountedRows() = default;
void CountedRows::forget() { counts_.reset(); }

Result<bool> CountedRows::count(const TableView& table, ThreadPool& pool) {
  using namespace cpu;
  counts_.reset();
  const bool has_halves = table.scores.dtype == DType::kF16 || table.scores.dtype == DType::kBF16;
  if (table.task != Task::kBinary || !has_halves || table.binary_labels == nullptr ||
      table.weighted() || table.cells != nullptr || table.rows < RankHistogram::kLeastRows ||
      table.rows > RankHistogram::kMostRows) {
    return false;
  }
  return guarded(table, "rank counts", [&]() -> Result<bool> {
    const ProblemRows problem(table, 0, nullptr);
    if (problem.contiguous_halves() == nullptr) return false;
    RankHistogram histogram(problem, Workers(pool));
    if (!histogram.all_finite(problem.kind())) return false;
    counts_ = std::make_unique<Counts>(Counts{table.scores.data, table.binary_labels, table.rows,
                                              table.scores.dtype, std::move(histogram)});
    return true;
  });
}

bool CountedRows::are_of(const TableView& table) const {
  return counts_ != nullptr && table.task == Task::kBinary && !table.weighted() &&
         (table.cells == nullptr || table.cell_count == 1) &&
         table.scores.data == counts_->scores && table.scores.dtype == counts_->dtype &&
         table.binary_labels == counts_->labels && table.rows == counts_->rows &&
         table.scores.strides == std::vector<i64>{2};
}

Result<std::vector<std::vector<RankTable>>> CountedRows::tables(const TableView& table) const {
  using Tables = std::vector<std::vector<RankTable>>;
  return cpu::guarded(table, "rank tables", [&]() -> Result<Tables> {
    Tables tables(1);
    tables[0].push_back(counts_->histogram.table(score_kind(table)));
    return tables;
  });
}

Result<std::vector<RankSummary>> CountedRows::summaries(const TableView& table,
                                                        std::span<const RankQuery> queries,
                                                        ThreadPool& pool) const {
  using Summaries = std::vector<RankSummary>;
  return cpu::guarded(table, "rank summaries", [&]() -> Result<Summaries> {
    return Summaries{
        cpu::summary_of(counts_->histogram, score_kind(table), queries, cpu::Workers(pool))};
  });
}

}  // namespace cupel
