#include "eval/sorted_confidences.hpp"

#include <utility>

#include "eval/temporary_columns.hpp"

namespace cupel {
namespace {

constexpr u64 kMostTables = 10'000'000;

/// Adds the tables of one part to those of all.
Result<void> add_part(const TableView& table, const std::vector<u32>& cell_map, std::size_t cells,
                      const TopConfidences& top, Backend& backend, TopTables& all) {
  if (table.rows == 0) return {};
  TableView binary;
  binary.task = Task::kBinary;
  binary.rows = table.rows;
  binary.scores = make_view(top.confidence.data(), DType::kF64, {table.rows});
  binary.binary_labels = top.right.data();
  binary.weights_f64 = table.weights_f64;
  binary.weights_f32 = table.weights_f32;
  const std::size_t count = cells * static_cast<std::size_t>(all.sets);
  Buffer<u32> cell_of_row;
  if (count > 1) {
    cell_of_row.resize(static_cast<std::size_t>(table.rows));
    for (i64 i = 0; i < table.rows; ++i) {
      const auto row = static_cast<std::size_t>(i);
      const u32 cell = cell_map[table.cells == nullptr ? 0 : table.cells[i]];
      const i64 set = all.sets == 1 ? 0 : i64{top.predicted[row]};
      cell_of_row[row] = cell * static_cast<u32>(all.sets) + static_cast<u32>(set);
    }
    binary.cells = cell_of_row.data();
    binary.cell_count = static_cast<u32>(count);
  }
  const TemporaryColumns passed(backend);
  auto tables = backend.rank_tables(binary, 0, 1);
  if (!tables) return tables.error();
  for (std::size_t at = 0; at < count; ++at) {
    RankTable& own = (*tables)[0][at];
    if (own.pos_rows() + own.neg_rows() != 0) all.tables[at].push_back(std::move(own));
  }
  return {};
}

}  // namespace

Result<RankTable> TopTables::of(std::span<const u32> cells, i64 set, bool weighted) const {
  std::vector<RankTable> united;
  for (const u32 cell : cells) {
    const auto at = static_cast<std::size_t>(i64{cell} * sets + set);
    united.insert(united.end(), tables[at].begin(), tables[at].end());
  }
  if (united.empty()) return RankTable(ScoreKind::kF64, weighted);
  return merge_all(std::move(united));
}

Result<TopTablesOf> top_tables(std::span<const PreparedTable> parts, const CellsOfParts& cells,
                               bool all, bool by_predicted, Backend& backend, int threads) {
  const i64 classes = parts.front().view.classes;
  if (by_predicted && static_cast<u64>(classes) * cells.count > kMostTables) {
    return usage_error("sorted confidences of this many classes and groups are too many",
                       "use binning=width");
  }
  TopTablesOf tables;
  if (all) tables.all = TopTables{1, std::vector<std::vector<RankTable>>(cells.count)};
  if (by_predicted) {
    tables.by_predicted = TopTables{classes, std::vector<std::vector<RankTable>>(
                                                 cells.count * static_cast<std::size_t>(classes))};
  }
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const TableView& view = parts[part].view;
    auto top = backend.top_confidences(view, threads);
    if (!top) return top.error();
    for (auto* wanted : {&tables.all, &tables.by_predicted}) {
      if (!*wanted) continue;
      auto added = add_part(view, cells.of_part[part], cells.count, *top, backend, **wanted);
      if (!added) return added.error();
    }
  }
  return tables;
}

}  // namespace cupel
