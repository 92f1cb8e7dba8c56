// How fast a pass over all pairs of an embedding goes on the host, by what it collects: useful
// floating-point operations a second (2 * width a pair) and their share of what the machine's fused
// operations reach in the same run. The answer is checked on a smaller embedding first.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "backend/cpu_level.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/backend/backend.hpp"
#include "support/plain_pairs.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace {

using namespace cupel;

// ---- the machine's peak ------------------------------------------------------------------------

constexpr i64 kPeakSteps = 4'000'000;

#if CUPEL_HAS_TARGETS
/// Sixteen chains that do not wait for each other.
CUPEL_TARGET_V4 float chains_v4() {
  __m512 sum[16];
  const __m512 factor = _mm512_set1_ps(0.999F);
  const __m512 term = _mm512_set1_ps(0.001F);
  CUPEL_UNROLL
  for (int i = 0; i < 16; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  for (i64 step = 0; step < kPeakSteps; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) sum[i] = _mm512_fmadd_ps(sum[i], factor, term);
  }
  for (int i = 1; i < 16; ++i) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  float lanes[16];
  _mm512_storeu_ps(lanes, sum[0]);
  return lanes[0];
}
CUPEL_TARGET_V3 float chains_v3() {
  __m256 sum[12];
  const __m256 factor = _mm256_set1_ps(0.999F);
  const __m256 term = _mm256_set1_ps(0.001F);
  for (int i = 0; i < 12; ++i) sum[i] = _mm256_set1_ps(static_cast<float>(i));
  for (i64 step = 0; step < kPeakSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) sum[i] = _mm256_fmadd_ps(sum[i], factor, term);
  }
  for (int i = 1; i < 12; ++i) sum[0] = _mm256_add_ps(sum[0], sum[i]);
  return _mm256_cvtss_f32(sum[0]);
}
#endif

/// Floating-point operations a second of all threads together; 0 where it is not known.
double peak(ThreadPool& pool) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() < CpuLevel::kV3) return 0;
  const bool wide = cpu_level() >= CpuLevel::kV4;
  const double operations = static_cast<double>(kPeakSteps) * 2 * (wide ? 16 * 16 : 12 * 8);
  double best = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    pool.parallel_for(pool.threads(), [&](int, i64) {
      float sum = wide ? chains_v4() : chains_v3();
      benchmark::DoNotOptimize(sum);
    });
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::max(best, operations * pool.threads() / taken.count());
  }
  return best;
#else
  static_cast<void>(pool);
  return 0;
#endif
}

// ---- the passes --------------------------------------------------------------------------------

enum Asked : i64 { kProducts, kCuts, kAllInside, kRanks, kNeighbours, kList };
const char* const kNames[] = {"products alone",       "101 cuts, a tenth of the pairs inside",
                              "101 cuts, all inside", "ranks",
                              "12 nearest rows",      "a tenth of the pairs listed"};

const test::PlainEmbedding& embedding(i64 rows, i64 width) {
  static test::PlainEmbedding held;
  if (held.rows != rows || held.width != width) {
    held = test::make_embedding(rows, width, static_cast<u32>(std::max<i64>(2, rows / 5)), 1);
  }
  return held;
}

struct Plan {
  PairPass pass;
  std::vector<u32> wanted;
};

/// Cuts between quantiles of a sample of gaps.
void plan_pass(const EmbeddingView& view, Asked asked, Plan& plan) {
  plan.pass = PairPass::whole(view);
  std::vector<float> sample;
  test::Draws draws(2);
  for (int i = 0; i < 20000; ++i) {
    sample.push_back(test::plain_gap(view,
                                     static_cast<i64>(draws.below(static_cast<u64>(view.rows))),
                                     static_cast<i64>(draws.below(static_cast<u64>(view.rows)))));
  }
  std::sort(sample.begin(), sample.end());
  const float low = sample[asked == kAllInside ? 200 : sample.size() / 100];
  const float high = sample[asked == kAllInside ? sample.size() - 1 : sample.size() / 10];
  if (asked == kCuts || asked == kAllInside) {
    for (int k = 0; k <= 100; ++k) {
      plan.pass.cuts.push_back(
          asked == kAllInside && k == 0 ? -1.0F : low + (high - low) * static_cast<float>(k) / 100);
    }
  }
  if (asked == kProducts) plan.pass.cuts = {-1.0F};
  plan.pass.ranks = asked == kRanks;
  if (asked == kNeighbours) plan.wanted.assign(static_cast<std::size_t>(view.rows), 12);
  plan.pass.neighbours = plan.wanted;
  if (asked == kList) plan.pass.kept = {{low, high}};
  plan.pass.kept_bytes = i64{8} << 30;
}

void check(Asked asked, i64 width) {
  const test::PlainEmbedding rows = test::make_embedding(700, width, 140, 3);
  const EmbeddingView view = rows.view();
  Plan plan;
  plan_pass(view, asked, plan);
  const auto backend = make_cpu_backend(1);
  const auto got = backend->embedding_pairs(view, plan.pass, available_threads(), {});
  const PairStates want = test::plain_pairs(view, plan.pass);
  const bool right = got.ok() && got->cuts == want.cuts && got->ranks == want.ranks &&
                     got->neighbours == want.neighbours &&
                     test::sorted_pairs(got->kept) == test::sorted_pairs(want.kept);
  if (!right) {
    std::fprintf(stderr, "wrong answer: %s\n", kNames[asked]);
    std::exit(1);
  }
}

void pass_over_pairs(benchmark::State& state) {
  const auto asked = static_cast<Asked>(state.range(0));
  const i64 rows = state.range(1);
  const i64 width = state.range(2);
  check(asked, width);
  const EmbeddingView view = embedding(rows, width).view();
  Plan plan;
  plan_pass(view, asked, plan);
  ThreadPool pool(available_threads());
  const auto backend = make_cpu_backend(1);
  const double before = peak(pool);
  for (auto _ : state) {
    auto states = backend->embedding_pairs(view, plan.pass, pool.threads(), {});
    if (!states.ok()) std::exit(1);
    benchmark::DoNotOptimize(states);
  }
  const double after = peak(pool);
  const double operations =
      2.0 * static_cast<double>(width) * static_cast<double>(plan.pass.pairs());
  state.SetLabel(kNames[asked]);
  state.counters["flops"] = benchmark::Counter(
      operations, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
  state.counters["peak"] = benchmark::Counter(
      std::max(before, after), benchmark::Counter::kDefaults, benchmark::Counter::kIs1000);
  state.counters["per_peak"] = benchmark::Counter(operations / std::max({before, after, 1.0}),
                                                  benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(pass_over_pairs)
    ->ArgNames({"asked", "rows", "width"})
    ->ArgsProduct({{kProducts, kCuts, kAllInside, kRanks, kNeighbours, kList}, {20000}, {512}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
