// A backend whose every state has been written to bytes and read back, and which answers queries
// from tables only: results must not notice.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/core/bytes.hpp"

namespace cupel {

template <class State>
State round_trip(const State& state) {
  ByteWriter writer;
  state.encode(writer);
  const auto bytes = writer.take();
  ByteReader reader(bytes);
  auto decoded = State::decode(reader);
  EXPECT_TRUE(decoded.ok()) << (decoded.ok() ? "" : decoded.error().text());
  EXPECT_TRUE(reader.at_end());
  if (!decoded.ok()) return State();
  EXPECT_TRUE(*decoded == state);
  return std::move(*decoded);
}

class RoundTripBackend final : public Backend {
 public:
  explicit RoundTripBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  BackendInfo info() const override { return inner_->info(); }
  Result<std::vector<std::vector<RankTable>>> rank_tables(const TableView& table, i64 first,
                                                          i64 last) override {
    return all_round_trip(inner_->rank_tables(table, first, last));
  }
  Result<std::vector<RankSummary>> rank_summaries(const TableView& table, i64 first, i64 last,
                                                  std::span<const RankQuery> queries) override {
    TableView one_cell = table;
    one_cell.cells = nullptr;
    one_cell.cell_count = 1;
    auto tables = rank_tables(one_cell, first, last);
    if (!tables) return tables.error();
    std::vector<RankSummary> summaries;
    for (const auto& cells : *tables) summaries.push_back(summarise(cells[0], queries));
    return summaries;
  }
  Result<std::vector<std::vector<RowSums>>> row_sums(const TableView& table,
                                                     const RowSpec& spec) override {
    return all_round_trip(inner_->row_sums(table, spec));
  }
  Result<BadScores> bad_scores(const TableView& table) override {
    return inner_->bad_scores(table);
  }
  Result<i128> pair_sum(const TableView& table, i64 first, i64 last, double nu) override {
    return inner_->pair_sum(table, first, last, nu);
  }
  Result<std::vector<u64>> pair_distances(const TableView& table, i64 first, i64 last,
                                          std::optional<u32> high) override {
    return inner_->pair_distances(table, first, last, high);
  }
  void hold_columns(bool hold) override { inner_->hold_columns(hold); }
  void forget_columns() override { inner_->forget_columns(); }

 private:
  template <class State>
  static Result<std::vector<std::vector<State>>> all_round_trip(
      Result<std::vector<std::vector<State>>> states) {
    if (!states) return states;
    for (auto& cells : *states) {
      for (State& state : cells) state = round_trip(state);
    }
    return states;
  }

  std::unique_ptr<Backend> inner_;
};

}  // namespace cupel
