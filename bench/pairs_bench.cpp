// How fast the host goes over all pairs of an embedding, and which part of the machine's peak of
// fused multiply-adds that is. The peak is measured right before and after each pass; both by the
// clock and by processor time, which other programs on the machine disturb less.
//
//   pairs_bench [rows] [width] [classes] [threads] [repeats] [level] [name]
//
// level: 1 baseline, 3 AVX2, 4 AVX-512; name: only the cases whose name has it
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
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

struct Times {
  double wall = 0;
  double cpu = 0;
};

Times time_of(const std::function<void()>& work) {
  const auto cpu_now = [] {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  };
  const auto start = std::chrono::steady_clock::now();
  const double cpu = cpu_now();
  work();
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
  return {wall.count(), cpu_now() - cpu};
}

// ---- the peak -----------------------------------------------------------------------------------

constexpr i64 kPeakSteps = 10'000'000;
constexpr int kPeakChains = 12;  // none waits for another, all in registers

float peak_base() {
  float sum[kPeakChains] = {};
  for (i64 step = 0; step < kPeakSteps / 32; ++step) {
    for (float& one : sum) one = __builtin_fmaf(one, 0.5F, 1.0F);
  }
  float all = 0;
  for (const float one : sum) all += one;
  return all;
}
#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V3 float peak_v3() {
  __m256 sum[kPeakChains];
  for (__m256& one : sum) one = _mm256_setzero_ps();
  const __m256 by = _mm256_set1_ps(0.5F);
  for (i64 step = 0; step < kPeakSteps; ++step) {
    for (__m256& one : sum) one = _mm256_fmadd_ps(one, by, by);
  }
  for (int i = 1; i < kPeakChains; ++i) sum[0] = _mm256_add_ps(sum[0], sum[i]);
  return _mm256_cvtss_f32(sum[0]);
}
CUPEL_TARGET_V4 float peak_v4() {
  __m512 sum[kPeakChains];
  for (__m512& one : sum) one = _mm512_setzero_ps();
  const __m512 by = _mm512_set1_ps(0.5F);
  for (i64 step = 0; step < kPeakSteps; ++step) {
    for (__m512& one : sum) one = _mm512_fmadd_ps(one, by, by);
  }
  for (int i = 1; i < kPeakChains; ++i) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  return _mm512_cvtss_f32(sum[0]);
}
#endif

/// Of all threads together, in 1e9 operations a second; `cpu`: for a second of processor time.
Times peak(ThreadPool& pool) {
  const CpuLevel level = cpu_level();
  std::atomic<float> kept{0};
  const Times took = time_of([&] {
    pool.parallel_for(pool.threads(), [&](int, i64) {
#if CUPEL_HAS_TARGETS
      kept = level >= CpuLevel::kV4 ? peak_v4() : level >= CpuLevel::kV3 ? peak_v3() : peak_base();
#else
      kept = peak_base();
#endif
    });
  });
  double work = 2.0 * kPeakChains * static_cast<double>(kPeakSteps) * pool.threads();
  work *= level >= CpuLevel::kV4 ? 16 : level >= CpuLevel::kV3 ? 8 : 1.0 / 32;
  return {1e-9 * work / took.wall, 1e-9 * work / took.cpu};
}

// ---- the passes ---------------------------------------------------------------------------------

/// Unit rows around a direction of their class.
test::PlainEmbedding clustered(i64 rows, i64 width, u32 classes) {
  test::Draws draws(1);
  test::PlainEmbedding made;
  made.rows = rows;
  made.width = made.stride = width;
  made.class_count = classes;
  made.values.resize(static_cast<std::size_t>(rows * width));
  std::vector<float> centre(static_cast<std::size_t>(width));
  for (i64 i = 0; i < rows; ++i) {
    made.classes.push_back(static_cast<u32>(i * classes / rows));
    made.ties.push_back(static_cast<u32>(i));
    const auto draw = [&] { return static_cast<float>(draws.unit() + draws.unit()) - 1; };
    if (i == 0 || made.classes.back() != made.classes[static_cast<std::size_t>(i - 1)]) {
      for (float& of : centre) of = draw();
    }
    float* row = made.row(i);
    for (i64 k = 0; k < width; ++k) row[k] = centre[static_cast<std::size_t>(k)] + 0.9F * draw();
    normalise_row(row, width, row);
  }
  made.find_squares();
  return made;
}

/// A quantile of the gaps of pairs that are drawn.
float gap_at(const std::vector<float>& sorted, double part) {
  return sorted[static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1))];
}

struct Case {
  std::string name;
  PairPass pass;
};

std::vector<Case> cases(const EmbeddingView& view, const std::vector<u32>& wanted) {
  test::Draws draws(2);
  std::vector<float> gaps;
  for (int i = 0; i < 20000; ++i) {
    const auto a = static_cast<i64>(draws.below(static_cast<u64>(view.rows)));
    const auto b = static_cast<i64>(draws.below(static_cast<u64>(view.rows)));
    if (a != b) gaps.push_back(test::plain_gap(view, a, b));
  }
  std::sort(gaps.begin(), gaps.end());
  const auto with_cuts = [&](double first, double last, std::size_t count) {
    PairPass pass = PairPass::whole(view);
    const double low = std::sqrt(static_cast<double>(gap_at(gaps, first)));
    const double high = std::sqrt(static_cast<double>(gap_at(gaps, last)));
    for (std::size_t k = 0; k < count; ++k) {
      const double part = static_cast<double>(k) / static_cast<double>(count - 1);
      pass.cuts.push_back(gap_cut(view.domain, low + (high - low) * part));
    }
    return pass;
  };
  const PairPass plain = PairPass::whole(view);
  std::vector<Case> all;
  all.push_back({"products alone", plain});
  all.push_back({"+ 101 cuts, 9 % of the pairs between", with_cuts(0.001, 0.091, 101)});
  all.push_back({"+ 101 cuts, half below, 9 % between", with_cuts(0.5, 0.59, 101)});
  all.push_back({"+ 101 cuts, all between", with_cuts(0, 1, 101)});
  all.push_back({"+ 1001 cuts, all between", with_cuts(0, 1, 1001)});
  PairPass listed = with_cuts(0.001, 0.091, 101);
  listed.kept = {{gap_at(gaps, 0.1), gap_at(gaps, 0.11)}};
  listed.kept_bytes = i64{1} << 30;
  all.push_back({"+ 101 cuts, 9 % between, 1 % listed", listed});
  PairPass near = plain;
  near.neighbours = wanted;
  all.push_back({"+ 12 neighbours", near});
  PairPass ranks = plain;
  ranks.ranks = true;
  all.push_back({"+ ranks", ranks});
  return all;
}

i64 argument(int count, char** values, int at, i64 otherwise) {
  return count > at ? std::strtoll(values[at], nullptr, 10) : otherwise;
}

}  // namespace

int main(int argc, char** argv) {
  const i64 rows = argument(argc, argv, 1, 20000);
  const i64 width = argument(argc, argv, 2, 512);
  const auto classes = static_cast<u32>(argument(argc, argv, 3, rows * 11316 / 60502 + 1));
  const auto threads = static_cast<int>(argument(argc, argv, 4, available_threads()));
  const i64 repeats = argument(argc, argv, 5, 2);
  limit_cpu_level(static_cast<CpuLevel>(argument(argc, argv, 6, 4)));
  const std::string only = argc > 7 ? argv[7] : "";
  if (rows < 2 || width < 1 || classes < 1 || threads < 1) return 2;
  const test::PlainEmbedding embedding = clustered(rows, width, classes);
  const EmbeddingView view = embedding.view();
  const std::vector<u32> wanted(static_cast<std::size_t>(rows), 12);
  const auto backend = make_cpu_backend(threads);
  ThreadPool pool(threads);
  fmt::print("{} rows of {}, {} classes, {} threads, {}\n", rows, width, classes, threads,
             backend->info().name);
  fmt::print("{:<38} {:>8} {:>8} {:>9} {:>8} {:>8}\n", "", "wall s", "cpu s", "GFLOP/s", "of peak",
             "by cpu");
  for (const Case& one : cases(view, wanted)) {
    if (one.name.find(only) == std::string::npos) continue;
    for (i64 repeat = 0; repeat < repeats; ++repeat) {
      const Times before = peak(pool);
      const Times took = time_of([&] {
        const auto states = backend->embedding_pairs(view, one.pass, threads, {});
        if (!states.ok() || !states.value().kept.complete) std::abort();
      });
      const Times after = peak(pool);
      const double work = 2e-9 * static_cast<double>(one.pass.pairs()) * static_cast<double>(width);
      fmt::print("{:<38} {:>8.4f} {:>8.4f} {:>9.1f} {:>7.1f}% {:>7.1f}%\n", one.name, took.wall,
                 took.cpu, work / took.wall, 200 * work / took.wall / (before.wall + after.wall),
                 200 * work / took.cpu / (before.cpu + after.cpu));
      std::fflush(stdout);
    }
  }
  return 0;
}
