#include "backend/cpu_rank_split.hpp"

#include <hwy/contrib/sort/vqsort.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace cupel::cpu {
namespace {

constexpr i64 kBatch = 256;

u32 cell_of(const TableView& table, i64 row) {
  return load<u32>(reinterpret_cast<const std::byte*>(table.cells) + 4 * row);
}

/// A row to be sorted by key: `value` is its position, in the layout of hwy::K64V64.
using KeyedRow = hwy::K64V64;

void sort_range(KeyedRow* rows, i64 size) {
  if (size <= 32) {
    std::sort(rows, rows + size,
              [](const KeyedRow& a, const KeyedRow& b) { return a.key < b.key; });
    return;
  }
  // The sorter pads with the largest key, and may give a row that has this key the value of its
  // padding (Highway 1.0): such rows go last and stay out of it.
  constexpr u64 kLargestKey = ~u64{0};
  KeyedRow* const end =
      std::partition(rows, rows + size, [](const KeyedRow& row) { return row.key != kLargestKey; });
  const hwy::Sorter sorter;
  sorter(rows, static_cast<std::size_t>(end - rows), hwy::SortAscending());
}

/// Sorts by key with all workers: cut at sampled keys into parts that are sorted on their own.
void sort_rows(Buffer<KeyedRow>& rows, i64 first, i64 size, const Workers& workers) {
  constexpr i64 kLeastParallel = 200'000;
  KeyedRow* data = rows.data() + first;
  if (workers.count() == 1 || size < kLeastParallel) return sort_range(data, size);
  const std::size_t parts = static_cast<std::size_t>(workers.count()) * 8;
  std::vector<u64> sample;
  const i64 samples = static_cast<i64>(parts) * 64;
  for (i64 i = 0; i < samples; ++i) sample.push_back(data[i * (size / samples)].key);
  std::sort(sample.begin(), sample.end());
  std::vector<u64> cuts;
  for (std::size_t p = 1; p < parts; ++p) cuts.push_back(sample[p * 64]);

  const std::size_t chunks = static_cast<std::size_t>(workers.count()) * 4;
  const auto chunk_begin = [&](std::size_t chunk) {
    return static_cast<i64>(chunk) * size / static_cast<i64>(chunks);
  };
  const auto part_of = [&](u64 key) {
    return static_cast<std::size_t>(std::upper_bound(cuts.begin(), cuts.end(), key) - cuts.begin());
  };
  std::vector<i64> starts(parts * chunks + 1, 0);
  workers.parallel_for(static_cast<i64>(chunks), [&](int, i64 c) {
    const std::size_t chunk = static_cast<std::size_t>(c);
    std::vector<i64> counts(parts, 0);
    for (i64 i = chunk_begin(chunk); i < chunk_begin(chunk + 1); ++i) {
      ++counts[part_of(data[i].key)];
    }
    for (std::size_t p = 0; p < parts; ++p) starts[p * chunks + chunk + 1] = counts[p];
  });
  for (std::size_t i = 1; i < starts.size(); ++i) starts[i] += starts[i - 1];
  Buffer<KeyedRow> spare(static_cast<std::size_t>(size));
  workers.parallel_for(static_cast<i64>(chunks), [&](int, i64 c) {
    const std::size_t chunk = static_cast<std::size_t>(c);
    std::vector<i64> next(parts);
    for (std::size_t p = 0; p < parts; ++p) next[p] = starts[p * chunks + chunk];
    for (i64 i = chunk_begin(chunk); i < chunk_begin(chunk + 1); ++i) {
      spare[static_cast<std::size_t>(next[part_of(data[i].key)]++)] = data[i];
    }
  });
  workers.parallel_for(static_cast<i64>(parts), [&](int, i64 p) {
    const std::size_t part = static_cast<std::size_t>(p);
    const i64 begin = starts[part * chunks];
    const i64 end = starts[(part + 1) * chunks];
    std::copy(spare.data() + begin, spare.data() + end, data + begin);
    sort_range(data + begin, end - begin);
  });
}

/// The run of sorted rows, weighted or counted.
template <class Key>
KeyRun<Key> run_of(const KeyedRow* rows, i64 size, const ProblemRows& problem, bool weighted) {
  if (!weighted) {
    Buffer<Key> keys(static_cast<std::size_t>(size));
    for (i64 i = 0; i < size; ++i)
      keys[static_cast<std::size_t>(i)] = static_cast<Key>(rows[i].key);
    return canonical_run(std::move(keys));
  }
  KeyRun<Key> run;
  for (i64 i = 0; i < size;) {
    const u64 key = rows[i].key;
    u128 mass = 0;
    for (; i < size && rows[i].key == key; ++i)
      mass += problem.mass(static_cast<i64>(rows[i].value));
    if (mass == 0) continue;
    run.keys.push_back(static_cast<Key>(key));
    run.weights.push_back(mass);
  }
  return run;
}

template <class Key>
std::vector<RankTable> sorted_tables_of(const ProblemRows& problem, const CellSplit& split,
                                        const Workers& workers, bool weighted) {
  const i64 rows = problem.rows();
  const i64 cells = split.cells();
  // Negatives of a cell from its front, positives from its back: both segments stay in place.
  Buffer<KeyedRow> keyed(static_cast<std::size_t>(rows));
  std::vector<i64> positives_begin(static_cast<std::size_t>(cells));
  workers.parallel_for(cells, [&](int, i64 cell) {
    i64 front = split.first_row(cell);
    i64 back = split.first_row(cell + 1);
    std::array<Key, kBatch> keys;
    std::array<u8, kBatch> labels;
    const i64 end = back;
    for (i64 position = front; position < end;) {
      const i64 row = split.row_at(position);
      const i64 n = split.is_identity() ? std::min(kBatch, end - position) : 1;
      problem.keys(row, n, keys.data());
      problem.labels(row, n, labels.data());
      for (i64 i = 0; i < n; ++i) {
        const std::size_t at = static_cast<std::size_t>(i);
        KeyedRow& place = keyed[static_cast<std::size_t>(labels[at] == 0 ? front++ : --back)];
        place.key = keys[at];
        place.value = static_cast<u64>(row + i);
      }
      position += n;
    }
    positives_begin[static_cast<std::size_t>(cell)] = front;
  });

  std::vector<RankTable> tables(static_cast<std::size_t>(cells));
  const auto make = [&](i64 cell, const Workers& with) {
    const std::size_t c = static_cast<std::size_t>(cell);
    const i64 begin = split.first_row(cell);
    const i64 middle = positives_begin[c];
    const i64 end = split.first_row(cell + 1);
    sort_rows(keyed, begin, middle - begin, with);
    sort_rows(keyed, middle, end - middle, with);
    KeyRuns<Key> runs;
    runs.neg = run_of<Key>(keyed.data() + begin, middle - begin, problem, weighted);
    runs.pos = run_of<Key>(keyed.data() + middle, end - middle, problem, weighted);
    tables[c] = RankTable(problem.kind(), weighted, std::move(runs), static_cast<u64>(end - middle),
                          static_cast<u64>(middle - begin));
  };
  if (cells < workers.count()) {
    for (i64 cell = 0; cell < cells; ++cell) make(cell, workers);
  } else {
    const Workers alone;
    workers.parallel_for(cells, [&](int, i64 cell) { make(cell, alone); });
  }
  return tables;
}

}  // namespace

CellSplit::CellSplit(const TableView& table, const Workers& workers) {
  const bool one = table.cells == nullptr || table.cell_count == 1;
  const std::size_t cells = one ? 1 : table.cell_count;
  first_row_.assign(cells + 1, 0);
  first_row_.back() = table.rows;
  if (one) return;
  // Each chunk of rows knows where its rows of a cell begin, so chunks are placed independently.
  const i64 chunks = workers.count();
  std::vector<std::vector<i64>> next(static_cast<std::size_t>(chunks));
  const auto chunk_begin = [&](i64 chunk) { return chunk * table.rows / chunks; };
  workers.parallel_for(chunks, [&](int, i64 chunk) {
    std::vector<i64>& counts = next[static_cast<std::size_t>(chunk)];
    counts.assign(cells, 0);
    for (i64 row = chunk_begin(chunk); row < chunk_begin(chunk + 1); ++row) {
      ++counts[cell_of(table, row)];
    }
  });
  i64 sum = 0;
  for (std::size_t cell = 0; cell < cells; ++cell) {
    first_row_[cell] = sum;
    for (std::vector<i64>& counts : next) {
      const i64 count = counts[cell];
      counts[cell] = sum;
      sum += count;
    }
  }
  order_.resize(static_cast<std::size_t>(table.rows));
  workers.parallel_for(chunks, [&](int, i64 chunk) {
    std::vector<i64>& places = next[static_cast<std::size_t>(chunk)];
    for (i64 row = chunk_begin(chunk); row < chunk_begin(chunk + 1); ++row) {
      order_[static_cast<std::size_t>(places[cell_of(table, row)]++)] = row;
    }
  });
}

i64 CellSplit::largest() const {
  i64 most = 0;
  for (std::size_t c = 1; c < first_row_.size(); ++c) {
    most = std::max(most, first_row_[c] - first_row_[c - 1]);
  }
  return most;
}

template <class Key>
CellRows<Key> gather_cells(const ProblemRows& problem, const CellSplit& split,
                           const Workers& workers) {
  constexpr i64 kPart = 65'536;
  const i64 rows = problem.rows();
  CellRows<Key> gathered;
  gathered.keys.resize(static_cast<std::size_t>(rows));
  gathered.labels.resize(static_cast<std::size_t>(rows));
  workers.parallel_for((rows + kPart - 1) / kPart, [&](int, i64 part) {
    const i64 end = std::min(rows, (part + 1) * kPart);
    for (i64 position = part * kPart; position < end; ++position) {
      const i64 row = split.row_at(position);
      problem.keys(row, 1, gathered.keys.data() + position);
      problem.labels(row, 1, gathered.labels.data() + position);
    }
  });
  return gathered;
}
template CellRows<u32> gather_cells(const ProblemRows&, const CellSplit&, const Workers&);
template CellRows<u64> gather_cells(const ProblemRows&, const CellSplit&, const Workers&);

std::vector<RankTable> sorted_tables(const ProblemRows& problem, const CellSplit& split,
                                     const Workers& workers) {
  const bool weighted = problem.weighted();
  return has_narrow_keys(problem.kind()) ? sorted_tables_of<u32>(problem, split, workers, weighted)
                                         : sorted_tables_of<u64>(problem, split, workers, weighted);
}

}  // namespace cupel::cpu
