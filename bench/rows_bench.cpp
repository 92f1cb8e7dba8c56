// How fast rows are summed for calibration: rows and input bytes a second, by what is asked, from
// memory. Beside them what the same machine reads, multiplies and ticks at that moment, because
// goals scale with these. Each problem's answer is checked on a smaller one before it is timed.
#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "backend/cpu_level.hpp"
#include "backend/cpu_rows.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/math/half.hpp"
#include "support/rank_data.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace {

using namespace cupel;

constexpr i64 kCheckedRows = 100'000;
constexpr i64 kCheckedMatrixRows = 2'000;

[[noreturn]] void wrong(const std::string& what) {
  std::fprintf(stderr, "wrong answer: %s\n", what.c_str());
  std::exit(1);
}
void must_agree(const std::string& what, double got, double want, double tolerance) {
  if (!(std::fabs(got - want) <= tolerance)) {
    wrong(what + ": " + std::to_string(got) + " instead of " + std::to_string(want));
  }
}

RowSums sums_of(const TableView& table, const RowSpec& spec, ThreadPool& pool) {
  auto sums = cpu_row_sums(table, spec, pool);
  if (!sums.ok()) wrong("no sums");
  return std::move((*sums)[0][0]);
}
double number_of(const U256& sum, int bits) {
  double value = 0;
  for (int i = 3; i >= 0; --i) value = value * 0x1p64 + static_cast<double>(sum.limb[i]);
  return std::ldexp(value, -bits);
}

// ---- binary ------------------------------------------------------------------------------------

enum Asked : i64 { kEce, kFour, kBrier, kLoss };  ///< kFour: ece, mce, brier, log_loss

RowSpec binary_spec(i64 asked, i64 bins) {
  RowSpec spec;
  spec.brier = asked != kLoss;
  spec.log_loss = asked == kFour || asked == kLoss;
  if (asked == kEce || asked == kFour) spec.bins = {{BinPoints::kPositive, bins, false}};
  return spec;
}

/// Sums in long double, a row at a time, edges by a search.
void check_binary(const TableView& table, const std::vector<float>& scores,
                  const std::vector<u8>& labels, i64 bins) {
  ThreadPool pool(2);
  const RowSums sums = sums_of(table, binary_spec(kFour, bins), pool);
  std::vector<u64> rows(static_cast<std::size_t>(bins + 2));
  std::vector<u64> right(rows.size());
  std::vector<long double> confidence(rows.size());
  long double brier = 0;
  long double loss = 0;
  const double epsilon = probability_epsilon(table.scores.dtype);
  for (std::size_t i = 0; i < static_cast<std::size_t>(table.rows); ++i) {
    const double p = static_cast<double>(scores[i]);
    std::size_t slot = 1;
    while (p > static_cast<double>(slot) / static_cast<double>(bins)) ++slot;
    if (p == 0) slot = 0;
    if (p == 1) slot = rows.size() - 1;
    ++rows[slot];
    right[slot] += labels[i];
    confidence[slot] += p;
    const double q = labels[i] != 0 ? p : 1 - p;
    brier += static_cast<long double>(1 - q) * (1 - q);
    loss -= std::log(static_cast<long double>(std::fmin(std::fmax(q, epsilon), 1 - epsilon)));
  }
  for (std::size_t slot = 0; slot < rows.size(); ++slot) {
    if (sums.bins[0].rows[slot] != rows[slot] || sums.bins[0].right[slot] != right[slot]) {
      wrong("rows of bin " + std::to_string(slot));
    }
    must_agree("confidence", number_of(sums.bins[0].confidence[slot], 50),
               static_cast<double>(confidence[slot]), 1e-8);
  }
  must_agree("brier", number_of(sums.brier, 50), static_cast<double>(brier), 1e-6);
  must_agree("log loss", number_of(sums.log_loss, 44), static_cast<double>(loss), 1e-6);
}

/// What the scores look like.
enum Shape : i64 { kUniform, kMostlySmall, kOneValue };

/// Arguments: rows, what is asked, bins, threads, shape of the scores, 1 for f16.
void binary(benchmark::State& state) {
  const i64 rows = state.range(0);
  const bool half = state.range(5) == 1;
  std::vector<float> scores(static_cast<std::size_t>(rows));
  std::vector<u16> halves(half ? scores.size() : 0);
  std::vector<u8> labels(scores.size());
  test::Draws draws(11);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    double p = draws.unit();
    if (state.range(4) == kMostlySmall) p = p * p * p * p * p * p;
    if (state.range(4) == kOneValue) p = 0.7;
    scores[i] = static_cast<float>(p);
    labels[i] = draws.unit() < p ? 1 : 0;
    if (half) {
      halves[i] = static_cast<u16>(draws.below(0x3C01));
      scores[i] = float_from_f16(halves[i]);
    }
  }
  TableView table;
  table.rows = rows;
  table.scores = half ? make_view(halves.data(), DType::kF16, {rows})
                      : make_view(scores.data(), DType::kF32, {rows});
  table.binary_labels = labels.data();
  const RowSpec spec = binary_spec(state.range(1), state.range(2));
  {
    TableView part = table;
    part.rows = std::min(rows, kCheckedRows);
    part.scores.shape = {part.rows};
    check_binary(part, scores, labels, state.range(2));
  }
  ThreadPool pool(static_cast<int>(state.range(3)));
  for (auto _ : state) {
    auto result = cpu_row_sums(table, spec, pool);
    benchmark::DoNotOptimize(result);
  }
  state.SetItemsProcessed(state.iterations() * rows);
  state.SetBytesProcessed(state.iterations() * rows * (half ? 3 : 5));
}

// ---- multiclass --------------------------------------------------------------------------------

RowSpec matrix_spec() {
  RowSpec spec;
  spec.thresholds = {0};
  spec.top_k = {5};
  spec.brier = true;
  spec.log_loss = true;
  spec.bins = {{BinPoints::kTop, 15, false}};
  return spec;
}

void check_matrix(const TableView& table, const float* x, const i32* labels, double tolerance) {
  ThreadPool pool(2);
  const RowSums sums = sums_of(table, matrix_spec(), pool);
  long double brier = 0;
  long double loss = 0;
  long double confidence = 0;
  u64 top = 0;
  for (i64 row = 0; row < table.rows; ++row, x += table.classes) {
    long double max = -INFINITY;
    for (i64 j = 0; j < table.classes; ++j) max = std::fmax(max, static_cast<long double>(x[j]));
    long double sum = 0;
    long double squares = 0;
    i64 above = 0;
    for (i64 j = 0; j < table.classes; ++j) {
      const long double e = std::exp(static_cast<long double>(x[j]) - max);
      sum += e;
      squares += e * e;
      above += x[j] > x[labels[row]] || (x[j] == x[labels[row]] && j < labels[row]) ? 1 : 0;
    }
    const long double p = std::exp(static_cast<long double>(x[labels[row]]) - max) / sum;
    brier += squares / (sum * sum) - 2 * p + 1;
    loss -= std::log(p);
    confidence += 1 / sum;
    top += above < 5 ? 1 : 0;
  }
  double confidences = 0;
  for (const U256& sum : sums.bins[0].confidence) confidences += number_of(sum, 50);
  const double scale = tolerance * static_cast<double>(table.rows);
  must_agree("brier", number_of(sums.brier, 50), static_cast<double>(brier), scale);
  must_agree("log loss", number_of(sums.log_loss, 44), static_cast<double>(loss), 10 * scale);
  must_agree("confidence", confidences, static_cast<double>(confidence), scale);
  if (sums.top_k_hits[0] != top) wrong("top 5");
}

/// Arguments: rows, classes, threads, level of instructions (4: AVX-512, 3: AVX2), 1 for
/// softmax=f32.
void matrix(benchmark::State& state) {
  const i64 rows = state.range(0);
  const i64 classes = state.range(1);
  std::vector<float> logits(static_cast<std::size_t>(rows * classes));
  std::vector<i32> labels(static_cast<std::size_t>(rows));
  test::Draws draws(17);
  // Sums of three draws: near enough to normal for exponentials that differ.
  for (float& x : logits) {
    const u64 draw = draws.next();
    const u64 sum = (draw & 0xFFFFF) + (draw >> 20 & 0xFFFFF) + (draw >> 40 & 0xFFFFF);
    x = (static_cast<float>(sum) * 0x1p-20f - 1.5f) * 6;
  }
  for (std::size_t i = 0; i < labels.size(); ++i) {
    labels[i] = static_cast<i32>(draws.below(static_cast<u64>(classes)));
    // Half of the rows have their label on top.
    if (i % 2 == 0)
      logits[i * static_cast<std::size_t>(classes) + static_cast<std::size_t>(labels[i])] += 9;
  }
  TableView table;
  table.task = Task::kMulticlass;
  table.rows = rows;
  table.classes = classes;
  table.logits = true;
  table.softmax = state.range(4) == 1 ? SoftmaxKind::kF32 : SoftmaxKind::kF64;
  table.scores = make_view(logits.data(), DType::kF32, {rows, classes});
  table.class_labels = labels.data();
  limit_cpu_level(static_cast<CpuLevel>(state.range(3)));
  {
    TableView part = table;
    part.rows = std::min(rows, kCheckedMatrixRows);
    part.scores.shape = {part.rows, classes};
    check_matrix(part, logits.data(), labels.data(), state.range(4) == 1 ? 1e-6 : 1e-12);
  }
  ThreadPool pool(static_cast<int>(state.range(2)));
  const RowSpec spec = matrix_spec();
  for (auto _ : state) {
    auto result = cpu_row_sums(table, spec, pool);
    benchmark::DoNotOptimize(result);
  }
  limit_cpu_level(CpuLevel::kV4);
  state.SetItemsProcessed(state.iterations() * rows);
  state.SetBytesProcessed(state.iterations() * rows * (4 * classes + 4));
}

// ---- the machine -------------------------------------------------------------------------------

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
    if (sum != words.size()) wrong("sum of words");
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}

/// Cycles a second, as items: a chain of additions, one a cycle.
void cycles(benchmark::State& state) {
  constexpr i64 kChain = 10'000'000;
  for (auto _ : state) {
    u64 x = 1;
    for (i64 i = 0; i < kChain / 10; ++i) {
      for (int j = 0; j < 10; ++j) asm volatile("" : "+r"(x += 3));
    }
    benchmark::DoNotOptimize(x);
  }
  state.SetItemsProcessed(state.iterations() * kChain);
}

#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V4 float multiply_v4(i64 rounds) {
  __m512 sums[8];
  for (int l = 0; l < 8; ++l) sums[l] = _mm512_set1_ps(static_cast<float>(l));
  const __m512 factor = _mm512_set1_ps(0.999f);
  for (i64 i = 0; i < rounds; ++i) {
    CUPEL_UNROLL
    for (int l = 0; l < 8; ++l) sums[l] = _mm512_fmadd_ps(sums[l], factor, factor);
  }
  float all[16];
  float sum = 0;
  for (int l = 0; l < 8; ++l) {
    _mm512_storeu_ps(all, sums[l]);
    for (const float one : all) sum += one;
  }
  return sum;
}
/// Flops a second of one thread in float32 with 512 bits, as items.
void multiplications(benchmark::State& state) {
  if (cpu_level() < CpuLevel::kV4) return state.SkipWithError("no AVX-512");
  constexpr i64 kRounds = 1'000'000;
  for (auto _ : state) {
    i64 rounds = kRounds;
    benchmark::DoNotOptimize(rounds);  // or the call would leave the loop
    benchmark::DoNotOptimize(multiply_v4(rounds));
  }
  state.SetItemsProcessed(state.iterations() * kRounds * 8 * 16 * 2);
}
BENCHMARK(multiplications)->Unit(benchmark::kMillisecond);
#endif

void binary_arguments(benchmark::internal::Benchmark* bench) {
  constexpr i64 kRows = 100'000'000;
  for (const i64 asked : {kEce, kFour, kBrier, kLoss}) {
    for (const i64 threads : {1, 2}) bench->Args({kRows, asked, 15, threads, kUniform, 0});
  }
  bench->Args({kRows, kEce, 15, 1, kMostlySmall, 0});
  bench->Args({kRows, kEce, 15, 1, kOneValue, 0});
  bench->Args({kRows, kEce, 100, 1, kUniform, 0});
  bench->Args({kRows, kEce, 1000, 1, kUniform, 0});
  bench->Args({kRows, kEce, 15, 1, kUniform, 1});
}

BENCHMARK(cycles)->Unit(benchmark::kMillisecond);
BENCHMARK(read_memory)
    ->ArgsProduct({{500'000'000}, {1, 2}})
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(binary)
    ->Apply(binary_arguments)
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(matrix)
    ->ArgsProduct({{200, 200'000}, {1000}, {1, 2}, {4, 3}, {0, 1}})
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
