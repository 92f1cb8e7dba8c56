#include "backend/cpu_rank_half.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "backend/cpu_level.hpp"
#include "cupel/math/score_key.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel::cpu {
namespace {

constexpr std::size_t kKeys = 65'536;
constexpr i64 kBatch = 256;
// The counters' misses keep the processor from looking far enough ahead in the rows by itself:
// without asking for these lines early, counting takes half as long again.
constexpr i64 kAhead = 4 * kBatch;

/// Two tables by turns, because an increment waits for the previous one of the same counter.
/// Counters are at (label << 16 | bits): rows of one label share lines, and the rare label takes
/// few of them.
struct Counters {
  /// Between the tables: a processor that compares the low 12 bits of addresses would take the
  /// same counter of the other table for this one, and wait after all.
  static constexpr std::size_t kStagger = 256;
  std::vector<u32> both;

  void clear() { both.assign(4 * kKeys + kStagger, 0); }
  u32* even() { return both.data(); }
  u32* odd() { return both.data() + 2 * kKeys + kStagger; }
  u32 sum(std::size_t cell) const { return both[cell] + both[2 * kKeys + kStagger + cell]; }
};

void make_cells_scalar(const std::byte* scores, const u8* labels, i64 n, u32* cells) {
  for (i64 i = 0; i < n; ++i) {
    cells[i] = load<u16>(scores + 2 * i) | static_cast<u32>(labels[i]) << 16;
  }
}

#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V3 void make_cells_v3(const std::byte* scores, const u8* labels, i64 n, u32* cells) {
  i64 i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256i bits =
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scores + 2 * i)));
    const __m256i label =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(labels + i)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(cells + i),
                        _mm256_or_si256(bits, _mm256_slli_epi32(label, 16)));
  }
  make_cells_scalar(scores + 2 * i, labels + i, n - i, cells + i);
}
#endif

/// The counters of the rows, in order.
void make_cells(const std::byte* scores, const u8* labels, i64 n, u32* cells) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) return make_cells_v3(scores, labels, n, cells);
#endif
  make_cells_scalar(scores, labels, n, cells);
}

/// Whether neighbours are equal so often that increments would wait for each other. Judged by the
/// first rows; it changes speed only.
bool often_repeats(const std::byte* scores, i64 n) {
  constexpr i64 kLooked = 2048;
  const i64 looked = std::min(kLooked, n - 1);
  i64 repeats = 0;
  for (i64 i = 0; i < looked; ++i) {
    repeats += load<u16>(scores + 2 * i) == load<u16>(scores + 2 * i + 2) ? 1 : 0;
  }
  return repeats > looked / 128;
}

/// Counts rows by label and by the bits of their score.
void count_raw(const std::byte* scores, const u8* labels, i64 n, u32* even, u32* odd) {
  // One table where it does no harm: it takes half the cache.
  if (!often_repeats(scores, n)) odd = even;
  std::array<u32, kBatch> cells;
  i64 i = 0;
  for (; i + kBatch <= n; i += kBatch) {
    const std::byte* block = scores + 2 * i;
    if (i + kAhead + kBatch <= n) {
      for (i64 line = 0; line < 2 * kBatch; line += 64) {
        __builtin_prefetch(block + 2 * kAhead + line);
      }
      for (i64 line = 0; line < kBatch; line += 64) {
        __builtin_prefetch(labels + i + kAhead + line);
      }
    }
    const bool may_be_equal = load<u16>(block) == load<u16>(block + 2);
    if (may_be_equal && std::memcmp(block, block + 2, 2 * (kBatch - 1)) == 0) [[unlikely]] {
      u32 ones = 0;
      for (i64 j = i; j < i + kBatch; ++j) ones += labels[j];
      const std::size_t cell = load<u16>(block);
      even[cell] += static_cast<u32>(kBatch) - ones;
      even[kKeys + cell] += ones;
      continue;
    }
    make_cells(block, labels + i, kBatch, cells.data());
    for (std::size_t j = 0; j < static_cast<std::size_t>(kBatch); j += 2) {
      u64 two;  // read before anything is written: the compiler cannot tell counters from cells
      std::memcpy(&two, cells.data() + j, sizeof two);
      ++even[static_cast<u32>(two)];
      ++odd[two >> 32];
    }
  }
  make_cells(scores + 2 * i, labels + i, n - i, cells.data());
  for (std::size_t j = 0; j < static_cast<std::size_t>(n - i); ++j) ++even[cells[j]];
}

}  // namespace

RankHistogram::RankHistogram(const ProblemRows& problem, const Workers& workers) {
  constexpr i64 kPart = 262'144;
  const i64 rows = problem.rows();
  CUPEL_ASSERT(rows <= kMostRows);
  const std::byte* raw = problem.contiguous_halves();
  const u8* all_labels = problem.contiguous_labels();
  const bool is_raw = raw != nullptr && all_labels != nullptr;
  std::vector<Counters> counters(static_cast<std::size_t>(workers.count()));
  workers.parallel_for((rows + kPart - 1) / kPart, [&](int worker, i64 part) {
    Counters& own = counters[static_cast<std::size_t>(worker)];
    if (own.both.empty()) own.clear();
    const i64 begin = part * kPart;
    const i64 end = std::min(rows, begin + kPart);
    if (is_raw) {
      count_raw(raw + 2 * begin, all_labels + begin, end - begin, own.even(), own.odd());
      return;
    }
    std::array<u32, kBatch> keys;
    std::array<u8, kBatch> labels;
    for (i64 row = begin; row < end; row += kBatch) {
      const i64 n = std::min(kBatch, end - row);
      problem.keys(row, n, keys.data());
      problem.labels(row, n, labels.data());
      for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
        ++own.both[keys[i] | static_cast<u32>(labels[i]) << 16];
      }
    }
  });
  // Bits become keys here, where -0 joins +0.
  counts_.assign(2 * kKeys, 0);
  for (const Counters& own : counters) {
    if (own.both.empty()) continue;
    for (std::size_t index = 0; index < kKeys; ++index) {
      const std::size_t key = is_raw ? key_of_16(static_cast<u16>(index)) : index;
      counts_[2 * key] += own.sum(index);
      counts_[2 * key + 1] += own.sum(kKeys + index);
    }
  }
}

bool RankHistogram::all_finite(ScoreKind kind) const {
  const u32 exponent = kind == ScoreKind::kF16 ? 0x7C00 : 0x7F80;
  for (std::size_t key = 0; key < kKeys; ++key) {
    if ((counts_[2 * key] | counts_[2 * key + 1]) == 0) continue;
    if ((bits_of_16(static_cast<u32>(key)) & exponent) == exponent) return false;
  }
  return true;
}

std::vector<BlockCounts> RankHistogram::count_labels() const {
  BlockCounts all;
  for (std::size_t key = 0; key < kKeys; ++key) {
    all.neg += counts_[2 * key];
    all.pos += counts_[2 * key + 1];
  }
  return {all};
}

void RankHistogram::for_each_bucket(const std::function<bool(i64)>& wanted,
                                    const Visit& visit) const {
  if (!wanted(0)) return;
  BucketReader<u32> reader;
  visit(0, 0, reader.read_counts(counts_.data(), static_cast<i64>(kKeys), 0));
}

RankTable RankHistogram::table(ScoreKind kind) const {
  KeyRuns<u32> runs;
  for (std::size_t label = 0; label < 2; ++label) {
    Buffer<u32> keys;
    Buffer<u64> counts;
    for (std::size_t key = 0; key < kKeys; ++key) {
      const u32 count = counts_[2 * key + label];
      if (count == 0) continue;
      keys.push_back(static_cast<u32>(key));
      counts.push_back(count);
    }
    (label == 0 ? runs.neg : runs.pos) = canonical_run(std::move(keys), std::move(counts));
  }
  const BlockCounts all = count_labels().front();
  return RankTable(kind, false, std::move(runs), all.pos, all.neg);
}

}  // namespace cupel::cpu
