#include "backend/cpu_rank_half.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "cupel/math/score_key.hpp"

namespace cupel::cpu {
namespace {

constexpr std::size_t kKeys = 65'536;
constexpr i64 kBatch = 256;

/// Two tables by turns, because an increment waits for the previous one of the same counter.
struct Counters {
  std::vector<u32> even;
  std::vector<u32> odd;
};

/// Counts rows by the bits of their score and by label.
void count_raw(const std::byte* scores, const u8* labels, i64 n, u32* even, u32* odd) {
  i64 i = 0;
  for (; i + kBatch <= n; i += kBatch) {
    const std::byte* block = scores + 2 * i;
    if (std::memcmp(block, block + 2, 2 * (kBatch - 1)) == 0) [[unlikely]] {
      u32 ones = 0;
      for (i64 j = i; j < i + kBatch; ++j) ones += labels[j];
      const std::size_t cell = 2 * static_cast<std::size_t>(load<u16>(block));
      even[cell] += static_cast<u32>(kBatch) - ones;
      even[cell + 1] += ones;
      continue;
    }
    for (i64 j = i; j < i + kBatch; j += 4) {
      const u64 four = load<u64>(scores + 2 * j);
      u32 label;
      std::memcpy(&label, labels + j, sizeof label);
      ++even[2 * (four & 0xFFFF) + (label & 1)];
      ++odd[2 * (four >> 16 & 0xFFFF) + (label >> 8 & 1)];
      ++even[2 * (four >> 32 & 0xFFFF) + (label >> 16 & 1)];
      ++odd[2 * (four >> 48) + (label >> 24)];
    }
  }
  for (; i < n; ++i) ++even[2 * static_cast<std::size_t>(load<u16>(scores + 2 * i)) + labels[i]];
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
    if (own.even.empty()) {
      own.even.assign(2 * kKeys, 0);
      own.odd.assign(2 * kKeys, 0);
    }
    const i64 begin = part * kPart;
    const i64 end = std::min(rows, begin + kPart);
    if (is_raw) {
      count_raw(raw + 2 * begin, all_labels + begin, end - begin, own.even.data(), own.odd.data());
      return;
    }
    std::array<u32, kBatch> keys;
    std::array<u8, kBatch> labels;
    for (i64 row = begin; row < end; row += kBatch) {
      const i64 n = std::min(kBatch, end - row);
      problem.keys(row, n, keys.data());
      problem.labels(row, n, labels.data());
      for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
        ++own.even[2 * keys[i] + labels[i]];
      }
    }
  });
  // Bits become keys here, where -0 joins +0.
  counts_.assign(2 * kKeys, 0);
  for (const Counters& own : counters) {
    if (own.even.empty()) continue;
    for (std::size_t index = 0; index < kKeys; ++index) {
      const std::size_t key = is_raw ? key_of_16(static_cast<u16>(index)) : index;
      counts_[2 * key] += own.even[2 * index] + own.odd[2 * index];
      counts_[2 * key + 1] += own.even[2 * index + 1] + own.odd[2 * index + 1];
    }
  }
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
