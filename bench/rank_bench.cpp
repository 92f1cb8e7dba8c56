// How fast binary and multilabel rows are ranked: rows per second and input bytes per second, by
// shape of the scores and by what is asked. Each problem's answer is checked against a plain sort
// of the same shape before anything is timed.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "backend/cpu_rank.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/math/half.hpp"
#include "support/rank_data.hpp"

namespace {

using namespace cupel;
using test::ScoreShape;

constexpr i64 kCheckedRows = 1'000'000;

/// Twice U by sorting rows: an oracle that shares nothing with the code under test.
u128 sorted_two_u(const std::vector<float>& scores, const std::vector<u8>& labels) {
  std::vector<std::pair<float, u8>> rows;
  for (std::size_t i = 0; i < scores.size(); ++i) rows.emplace_back(scores[i], labels[i]);
  std::sort(rows.begin(), rows.end());
  u128 sum = 0;
  u64 below = 0;
  for (std::size_t i = 0; i < rows.size();) {
    u64 pos = 0;
    u64 neg = 0;
    for (const float score = rows[i].first; i < rows.size() && rows[i].first == score; ++i) {
      (rows[i].second != 0 ? pos : neg) += 1;
    }
    sum += static_cast<u128>(pos) * (2 * below + neg);
    below += neg;
  }
  return sum;
}

struct Data {
  std::vector<float> scores;
  std::vector<u8> labels;

  TableView table() const {
    TableView view;
    view.rows = static_cast<i64>(labels.size());
    view.scores = make_view(scores.data(), DType::kF32, {view.rows});
    view.binary_labels = labels.data();
    return view;
  }
};

Data make_data(ScoreShape shape, i64 rows) {
  const test::RankRows drawn = test::rank_rows(shape, std::min<i64>(rows, kCheckedRows), 7);
  Data data;
  data.scores.resize(static_cast<std::size_t>(rows));
  data.labels.resize(static_cast<std::size_t>(rows));
  test::Draws draws(11);
  for (std::size_t i = 0; i < data.scores.size(); ++i) {
    const bool positive = draws.below(10) == 0;
    data.labels[i] = positive ? 1 : 0;
    data.scores[i] = test::draw_score(shape, positive, static_cast<i64>(i), rows, draws);
  }
  // The oracle answers for a smaller problem of the same shape.
  Data small;
  small.labels = drawn.labels;
  for (const double score : drawn.scores) small.scores.push_back(static_cast<float>(score));
  ThreadPool pool(2);
  const std::vector<RankQuery> area{{RankQueryKind::kTwoU, {}}};
  const auto summary = cpu_rank_summaries(small.table(), 0, 1, area, pool);
  if (!summary.ok() ||
      !(summary.value()[0].answers[0].sum == widen<4>(sorted_two_u(small.scores, small.labels)))) {
    std::fprintf(stderr, "wrong answer for %s\n", std::string(test::shape_name(shape)).c_str());
    std::exit(1);
  }
  return data;
}

const Data& data_of(ScoreShape shape, i64 rows) {
  static std::map<std::pair<ScoreShape, i64>, Data> kept;
  const auto key = std::make_pair(shape, rows);
  if (kept.find(key) == kept.end()) {
    kept.clear();
    kept.emplace(key, make_data(shape, rows));
  }
  return kept.at(key);
}

std::vector<RankQuery> query_set(i64 which) {
  std::vector<RankQuery> queries{{RankQueryKind::kTwoU, {}}};
  if (which >= 1) {
    queries.push_back({RankQueryKind::kAveragePrecision, {}});
    queries.push_back({RankQueryKind::kGap, {}});
    queries.push_back({RankQueryKind::kFBetaMax, {1, 1}});
  }
  if (which >= 2) {
    queries.push_back({RankQueryKind::kRanges, {}});
    queries.push_back({RankQueryKind::kEqualError, {}});
    queries.push_back({RankQueryKind::kTprAtLeast, {9, 10}});
    queries.push_back({RankQueryKind::kFprAtMost, {1, 100}});
  }
  return queries;
}

/// Arguments: shape, rows, queries (0: AUROC; 1: with AP, KS, best F1; 2: with six more), threads.
void summaries(benchmark::State& state) {
  const ScoreShape shape = static_cast<ScoreShape>(state.range(0));
  const Data& data = data_of(shape, state.range(1));
  const std::vector<RankQuery> queries = query_set(state.range(2));
  ThreadPool pool(static_cast<int>(state.range(3)));
  RankScratch scratch;
  const TableView table = data.table();
  if (!cpu_rank_summaries(table, 0, 1, queries, pool, &scratch).ok()) std::exit(1);
  for (auto _ : state) {
    auto result = cpu_rank_summaries(table, 0, 1, queries, pool, &scratch);
    benchmark::DoNotOptimize(result);
  }
  state.SetLabel(std::string(test::shape_name(shape)));
  state.SetItemsProcessed(state.iterations() * state.range(1));
  state.SetBytesProcessed(state.iterations() * state.range(1) * 5);
}

void tables(benchmark::State& state) {
  const ScoreShape shape = static_cast<ScoreShape>(state.range(0));
  const Data& data = data_of(shape, state.range(1));
  ThreadPool pool(static_cast<int>(state.range(2)));
  RankScratch scratch;
  const TableView table = data.table();
  for (auto _ : state) {
    auto result = cpu_rank_tables(table, 0, 1, pool, &scratch);
    benchmark::DoNotOptimize(result);
  }
  state.SetLabel(std::string(test::shape_name(shape)));
  state.SetItemsProcessed(state.iterations() * state.range(1));
  state.SetBytesProcessed(state.iterations() * state.range(1) * 5);
}

/// 16-bit floats: rows, distinct values (0: uniform in [0, 1)), queries, threads.
void halves(benchmark::State& state) {
  const i64 rows = state.range(0);
  const u64 values = static_cast<u64>(state.range(1));
  std::vector<u16> scores(static_cast<std::size_t>(rows));
  std::vector<u8> labels(static_cast<std::size_t>(rows));
  test::Draws draws(13);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const float score = static_cast<float>(values == 0 ? draws.unit()
                                                       : static_cast<double>(draws.below(values)) /
                                                             static_cast<double>(values));
    u32 bits;
    std::memcpy(&bits, &score, sizeof bits);
    // Positive and below 1: the exponent has fewer bits, and what is too small becomes 0.
    scores[i] = bits < 0x3880'0000u ? u16{0} : static_cast<u16>((bits >> 13) - (112u << 10));
    labels[i] = draws.below(10) == 0 ? 1 : 0;
  }
  TableView table;
  table.rows = rows;
  table.scores = make_view(scores.data(), DType::kF16, {rows});
  table.binary_labels = labels.data();
  ThreadPool pool(static_cast<int>(state.range(3)));
  const std::vector<RankQuery> queries = query_set(state.range(2));
  {
    TableView part = table;
    part.rows = std::min(rows, kCheckedRows);
    part.scores.shape = {part.rows};
    std::vector<float> floats;
    for (i64 i = 0; i < part.rows; ++i) {
      floats.push_back(float_from_f16(scores[static_cast<std::size_t>(i)]));
    }
    const std::vector<u8> checked_labels(labels.begin(), labels.begin() + part.rows);
    const auto summary = cpu_rank_summaries(part, 0, 1, queries, pool);
    if (!summary.ok() ||
        !(summary.value()[0].answers[0].sum == widen<4>(sorted_two_u(floats, checked_labels)))) {
      std::fprintf(stderr, "wrong answer for 16-bit scores\n");
      std::exit(1);
    }
  }
  for (auto _ : state) {
    auto result = cpu_rank_summaries(table, 0, 1, queries, pool);
    benchmark::DoNotOptimize(result);
  }
  state.SetItemsProcessed(state.iterations() * rows);
  state.SetBytesProcessed(state.iterations() * rows * 3);
}

/// What the machine can read: the sum of so many bytes by so many threads.
void read_memory(benchmark::State& state) {
  const i64 bytes = state.range(0);
  const std::vector<u64> words(static_cast<std::size_t>(bytes) / sizeof(u64), 1);
  constexpr std::size_t kPart = 65'536;
  const std::size_t parts = (words.size() + kPart - 1) / kPart;
  ThreadPool pool(static_cast<int>(state.range(1)));
  for (auto _ : state) {
    std::atomic<u64> sum{0};
    pool.parallel_for(static_cast<i64>(parts), [&](int, i64 part) {
      const std::size_t first = static_cast<std::size_t>(part) * kPart;
      const std::size_t last = std::min(words.size(), first + kPart);
      u64 own = 0;
      for (std::size_t i = first; i < last; ++i) own += words[i];
      sum += own;
    });
    if (sum != words.size()) std::exit(1);
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}

/// Rows, labels, queries, threads; uniform scores, a tenth positive.
void multilabel(benchmark::State& state) {
  const i64 rows = state.range(0);
  const i64 labels = state.range(1);
  std::vector<float> scores(static_cast<std::size_t>(rows * labels));
  std::vector<u8> matrix(static_cast<std::size_t>(rows * labels));
  test::Draws draws(17);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const u64 draw = draws.next();
    scores[i] = static_cast<float>(draw >> 40) * 0x1p-24f;
    matrix[i] = draw % 10 == 0 ? 1 : 0;
  }
  TableView table;
  table.task = Task::kMultilabel;
  table.rows = rows;
  table.classes = labels;
  table.scores = make_view(scores.data(), DType::kF32, {rows, labels});
  table.label_matrix = matrix.data();
  ThreadPool pool(static_cast<int>(state.range(3)));
  const std::vector<RankQuery> queries = query_set(state.range(2));
  RankScratch scratch;
  for (auto _ : state) {
    auto result = cpu_rank_summaries(table, 0, labels, queries, pool, &scratch);
    benchmark::DoNotOptimize(result);
  }
  state.SetItemsProcessed(state.iterations() * rows * labels);
  state.SetBytesProcessed(state.iterations() * rows * labels * 5);
}

void all_shapes(benchmark::internal::Benchmark* bench) {
  for (const i64 rows : {1'000'000, 20'000'000, 100'000'000}) {
    for (const ScoreShape shape :
         {ScoreShape::kUniform, ScoreShape::kNormal, ScoreShape::kSigmoid, ScoreShape::kFewValues,
          ScoreShape::kAllEqual, ScoreShape::kOneBin, ScoreShape::kSorted}) {
      for (const i64 queries : {0, 1, 2}) {
        bench->Args({static_cast<i64>(shape), rows, queries, 2});
      }
    }
  }
}

BENCHMARK(summaries)
    ->Apply(all_shapes)
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(tables)
    ->ArgsProduct({{0, 1, 2, 3}, {20'000'000}, {2}})
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(halves)
    ->ArgsProduct({{100'000'000}, {0, 1, 11, 1000}, {0}, {1, 2}})
    ->Args({100'000'000, 0, 1, 2})
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(read_memory)
    ->Args({300'000'000, 1})
    ->Args({300'000'000, 2})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(multilabel)
    ->Args({100'000, 1000, 0, 2})
    ->Args({100'000, 1000, 1, 2})
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
