#include "backend/cpu_rank_partition.hpp"

#include <hwy/contrib/sort/vqsort.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <new>

#include "backend/cpu_level.hpp"
#include "backend/thread_pool.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel::cpu {
namespace {

constexpr i64 kRegularBins = 65'536;
/// Wide keys outside the mapped range fall into four more bins: below and above it, and for each
/// the lower and the upper half of the key space.
template <class Key>
constexpr i64 kLowBins = sizeof(Key) == 4 ? 0 : 2;
template <class Key>
constexpr i64 kBins = sizeof(Key) == 4 ? kRegularBins : kRegularBins + 4;
template <class Key>
constexpr Key kHalf = Key{1} << (8 * sizeof(Key) - 1);

/// Buckets: more and their open ends crowd the first-level cache, fewer and they outgrow the
/// second.
constexpr i64 kMostBuckets = 640;
constexpr i64 kAimBuckets = 400;
constexpr i64 kLeastBucketRows = 4096;
/// Fewer rows than this are only split at the middle of the key space.
constexpr i64 kLeastPartitioned = 32'768;
/// From here on a sample is worth its trouble: the cells of cut_by_range() would grow too full.
constexpr i64 kLeastSampled = 1'000'000;
constexpr i64 kMostSample = 65'536;
/// A sampled stretch: as many neighbours as one memory access brings anyway.
constexpr i64 kSampleStretch = 8;
/// A bucket that all workers count together has at least so many rows.
constexpr i64 kLeastSharedBucket = 65'536;
constexpr i64 kScatterRows = 65'536;
constexpr i64 kBatch = 256;
/// How far ahead of their use rows are asked for.
constexpr i64 kAhead = 4 * kBatch;

/// Tables of one byte a cell up to here are counted into; more would miss the caches.
constexpr u64 kMostCountedKeys = u64{1} << 19;

u64 mix(u64 x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

u64 count_ones_scalar(const u32* data, i64 size) {
  u64 ones = 0;
  for (i64 i = 0; i < size; ++i) ones += data[i] & 1;
  return ones;
}
u64 count_ones(const u64* data, i64 size) {
  u64 ones = 0;
  for (i64 i = 0; i < size; ++i) ones += data[i] & 1;
  return ones;
}

#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V3 u64 count_ones_v3(const u32* data, i64 size) {
  const __m256i one = _mm256_set1_epi32(1);
  __m256i a = _mm256_setzero_si256();
  __m256i b = _mm256_setzero_si256();
  i64 i = 0;
  for (; i + 16 <= size; i += 16) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + i));
    const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + i + 8));
    a = _mm256_add_epi32(a, _mm256_and_si256(x, one));
    b = _mm256_add_epi32(b, _mm256_and_si256(y, one));
  }
  alignas(32) u32 lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_add_epi32(a, b));
  u64 ones = 0;
  for (const u32 lane : lanes) ones += lane;
  return ones + count_ones_scalar(data + i, size - i);
}
#endif

u64 count_ones(const u32* data, i64 size) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) return count_ones_v3(data, size);
#endif
  return count_ones_scalar(data, size);
}

/// Entries and bins of a batch of narrow keys.
void prepare_scalar(const u32* keys, const u8* labels, i64 first, i64 n, u32* entries, u16* bins) {
  for (i64 i = first; i < n; ++i) {
    entries[i] = keys[i] << 1 | labels[i];
    bins[i] = static_cast<u16>(keys[i] >> 16);
  }
}

#if CUPEL_HAS_TARGETS
CUPEL_TARGET_V3 void prepare_v3(const u32* keys, const u8* labels, i64 n, u32* entries, u16* bins) {
  i64 i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + i));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + i + 8));
    const __m128i label = _mm_loadu_si128(reinterpret_cast<const __m128i*>(labels + i));
    const __m256i label_a = _mm256_cvtepu8_epi32(label);
    const __m256i label_b = _mm256_cvtepu8_epi32(_mm_srli_si128(label, 8));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(entries + i),
                        _mm256_or_si256(_mm256_add_epi32(a, a), label_a));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(entries + i + 8),
                        _mm256_or_si256(_mm256_add_epi32(b, b), label_b));
    const __m256i packed = _mm256_packus_epi32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(bins + i),
                        _mm256_permute4x64_epi64(packed, 0xD8));
  }
  prepare_scalar(keys, labels, i, n, entries, bins);
}
#endif

void prepare(const u32* keys, const u8* labels, i64 n, u32* entries, u16* bins) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) return prepare_v3(keys, labels, n, entries, bins);
#endif
  prepare_scalar(keys, labels, 0, n, entries, bins);
}

template <class Key>
void insertion_sort(Key* data, i64 size) {
  for (i64 i = 1; i < size; ++i) {
    const Key x = data[i];
    i64 j = i;
    for (; j > 0 && data[j - 1] > x; --j) data[j] = data[j - 1];
    data[j] = x;
  }
}

template <class Key>
void sort_small(Key* data, i64 size) {
  if (size <= 24) {
    insertion_sort(data, size);
  } else {
    const hwy::Sorter sorter;
    sorter(data, static_cast<std::size_t>(size), hwy::SortAscending());
  }
}

/// Copies entries less `base`, and returns the bits in which any of them differs from `first`.
template <class Key>
Key copy_entries_scalar(const Stretch<Key>& part, i64 from, Key base, Key first, Key* out) {
  Key difference = 0;
  for (i64 i = from; i < part.size; ++i) {
    const Key x = static_cast<Key>(part.data[i] - base);
    difference |= x ^ first;
    out[i] = x;
  }
  return difference;
}

#if CUPEL_HAS_TARGETS
template <class Key>
CUPEL_TARGET_V3 Key copy_entries_v3(const Stretch<Key>& part, Key base, Key first, Key* out) {
  constexpr bool kNarrow = sizeof(Key) == 4;
  constexpr i64 kLanes = 32 / static_cast<i64>(sizeof(Key));
  __m256i base_lanes;
  __m256i first_lanes;
  if constexpr (kNarrow) {
    base_lanes = _mm256_set1_epi32(static_cast<i32>(base));
    first_lanes = _mm256_set1_epi32(static_cast<i32>(first));
  } else {
    base_lanes = _mm256_set1_epi64x(static_cast<i64>(base));
    first_lanes = _mm256_set1_epi64x(static_cast<i64>(first));
  }
  __m256i difference = _mm256_setzero_si256();
  i64 i = 0;
  for (; i + kLanes <= part.size; i += kLanes) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(part.data + i));
    const __m256i shifted =
        kNarrow ? _mm256_sub_epi32(x, base_lanes) : _mm256_sub_epi64(x, base_lanes);
    difference = _mm256_or_si256(difference, _mm256_xor_si256(shifted, first_lanes));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), shifted);
  }
  alignas(32) Key lanes[kLanes];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), difference);
  Key bits = 0;
  for (const Key lane : lanes) bits |= lane;
  return bits | copy_entries_scalar(part, i, base, first, out);
}
#endif

template <class Key>
Key copy_entries(const Stretch<Key>& part, Key base, Key first, Key* out) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) return copy_entries_v3(part, base, first, out);
#endif
  return copy_entries_scalar(part, 0, base, first, out);
}

/// Where the groups of a counted bucket go.
template <class Key>
struct GroupWriter {
  Key* offsets;
  u32* pos;
  u32* neg;
  i64 groups;
  u32 pos_sum;
  u32 neg_sum;
};

template <class Key>
CUPEL_INLINE void emit_cell(i64 cell, u32 neg, u32 pos, GroupWriter<Key>& out) {
  out.neg_sum += neg;
  out.pos_sum += pos;
  out.offsets[out.groups] = static_cast<Key>(cell);
  out.pos[out.groups] = out.pos_sum;
  out.neg[out.groups] = out.neg_sum;
  out.groups += (neg | pos) != 0 ? 1 : 0;
}

template <class Key>
void emit_cells_scalar(const u8* table, i64 first, i64 last, GroupWriter<Key>& out) {
  for (i64 c = first; c < last; ++c) emit_cell(c, table[2 * c], table[2 * c + 1], out);
}

#if CUPEL_HAS_TARGETS
/// For each set of eight lanes, the byte shuffle that moves its 16-bit lanes to the front.
struct PackShuffles {
  alignas(16) u8 bytes[256][16];
};
constexpr PackShuffles make_pack_shuffles() {
  PackShuffles shuffles{};
  for (int set = 0; set < 256; ++set) {
    int to = 0;
    for (int lane = 0; lane < 8; ++lane) {
      if ((set >> lane & 1) == 0) continue;
      shuffles.bytes[set][2 * to] = static_cast<u8>(2 * lane);
      shuffles.bytes[set][2 * to + 1] = static_cast<u8>(2 * lane + 1);
      ++to;
    }
    for (int byte = 2 * to; byte < 16; ++byte) shuffles.bytes[set][byte] = 0x80;
  }
  return shuffles;
}
constexpr PackShuffles kPackShuffles = make_pack_shuffles();

/// Sums of 16-bit lanes up to and including each.
CUPEL_TARGET_V3 inline __m128i running_sums(__m128i x) {
  x = _mm_add_epi16(x, _mm_slli_si128(x, 2));
  x = _mm_add_epi16(x, _mm_slli_si128(x, 4));
  return _mm_add_epi16(x, _mm_slli_si128(x, 8));
}

template <class Key>
CUPEL_TARGET_V3 void emit_cells_v3(const u8* table, i64 first, i64 last, GroupWriter<Key>& out) {
  const __m128i lanes = _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7);
  const __m128i last_lane =
      _mm_setr_epi8(14, 15, -128, -128, 14, 15, -128, -128, 14, 15, -128, -128, 14, 15, -128, -128);
  __m256i pos_sum = _mm256_set1_epi32(static_cast<i32>(out.pos_sum));
  __m256i neg_sum = _mm256_set1_epi32(static_cast<i32>(out.neg_sum));
  i64 g = out.groups;
  for (i64 c = first; c < last; c += 8) {
    const __m128i cells = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 2 * c));
    const __m128i empty = _mm_cmpeq_epi16(cells, _mm_setzero_si128());
    const u32 filled = ~static_cast<u32>(_mm_movemask_epi8(_mm_packs_epi16(empty, empty))) & 0xFFu;
    if (filled == 0) continue;
    const __m128i neg = running_sums(_mm_and_si128(cells, _mm_set1_epi16(0xFF)));
    const __m128i pos = running_sums(_mm_srli_epi16(cells, 8));
    const __m128i pack =
        _mm_load_si128(reinterpret_cast<const __m128i*>(kPackShuffles.bytes[filled]));
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(out.neg + g),
        _mm256_add_epi32(neg_sum, _mm256_cvtepu16_epi32(_mm_shuffle_epi8(neg, pack))));
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(out.pos + g),
        _mm256_add_epi32(pos_sum, _mm256_cvtepu16_epi32(_mm_shuffle_epi8(pos, pack))));
    const __m128i packed_lanes = _mm_shuffle_epi8(lanes, pack);
    if constexpr (sizeof(Key) == 4) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.offsets + g),
                          _mm256_add_epi32(_mm256_cvtepu16_epi32(packed_lanes),
                                           _mm256_set1_epi32(static_cast<i32>(c))));
    } else {
      const __m256i base = _mm256_set1_epi64x(c);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.offsets + g),
                          _mm256_add_epi64(_mm256_cvtepu16_epi64(packed_lanes), base));
      _mm256_storeu_si256(
          reinterpret_cast<__m256i*>(out.offsets + g + 4),
          _mm256_add_epi64(_mm256_cvtepu16_epi64(_mm_srli_si128(packed_lanes, 8)), base));
    }
    neg_sum =
        _mm256_add_epi32(neg_sum, _mm256_broadcastsi128_si256(_mm_shuffle_epi8(neg, last_lane)));
    pos_sum =
        _mm256_add_epi32(pos_sum, _mm256_broadcastsi128_si256(_mm_shuffle_epi8(pos, last_lane)));
    g += __builtin_popcount(filled);
  }
  out.groups = g;
  out.pos_sum = static_cast<u32>(_mm256_cvtsi256_si32(pos_sum));
  out.neg_sum = static_cast<u32>(_mm256_cvtsi256_si32(neg_sum));
}
#endif

/// The groups of cells [first, last), both multiples of 8.
template <class Key>
void emit_cells(const u8* table, i64 first, i64 last, GroupWriter<Key>& out) {
#if CUPEL_HAS_TARGETS
  if (cpu_level() >= CpuLevel::kV3) return emit_cells_v3(table, first, last, out);
#endif
  emit_cells_scalar(table, first, last, out);
}

constexpr int kDigitBits = 11;
constexpr i64 kLeastRadixSize = 768;

/// One stable pass by the digit of `width` bits at `shift`; `starts` holds where each value begins.
template <class Key>
void radix_pass(const Key* from, Key* to, i64 size, int shift, int width, u32* starts) {
  const Key mask = static_cast<Key>((Key{1} << width) - 1);
  for (i64 i = 0; i < size; ++i) {
    const Key x = from[i];
    to[starts[static_cast<std::size_t>(x >> shift & mask)]++] = x;
  }
}

/// Sorts entries whose keys (the bits above the lowest) differ only in their low `bits` bits. The
/// result is in `entries` or in `spare`, and is returned. Labels of equal keys stay in any order.
template <class Key>
Key* sort_entries(Key* entries, Key* spare, i64 size, int bits) {
  if (bits == 0 || size < 2) return entries;
  if (size < kLeastRadixSize) {
    sort_small(entries, size);
    return entries;
  }
  // Two or three digits of the bits that differ; a wide key's rest rarely matters and is repaired.
  const int covered =
      std::min(bits, size < (i64{1} << 20) && sizeof(Key) == 8 ? 2 * kDigitBits : 3 * kDigitBits);
  const int passes = (covered + kDigitBits - 1) / kDigitBits;
  const int width = (covered + passes - 1) / passes;
  const int shift = bits - std::min(bits, width * passes) + 1;
  std::array<std::array<u32, std::size_t{1} << kDigitBits>, 3> starts;
  for (int pass = 0; pass < passes; ++pass) {
    std::fill_n(starts[static_cast<std::size_t>(pass)].data(), std::size_t{1} << width, 0u);
  }
  const Key mask = static_cast<Key>((Key{1} << width) - 1);
  // A digit may reach past the top bits that are all equal; shifts stay inside the word.
  for (i64 i = 0; i < size; ++i) {
    const Key x = entries[i] >> shift;
    ++starts[0][static_cast<std::size_t>(x & mask)];
    if (passes > 1) ++starts[1][static_cast<std::size_t>(x >> width & mask)];
    if (passes > 2) ++starts[2][static_cast<std::size_t>(x >> (2 * width) & mask)];
  }
  for (int pass = 0; pass < passes; ++pass) {
    u32 sum = 0;
    for (std::size_t d = 0; d < std::size_t{1} << width; ++d) {
      sum += std::exchange(starts[static_cast<std::size_t>(pass)][d], sum);
    }
  }
  for (int pass = 0; pass < passes; ++pass) {
    radix_pass(entries, spare, size, shift + pass * width, width,
               starts[static_cast<std::size_t>(pass)].data());
    std::swap(entries, spare);
  }
  if (shift > 1) {
    for (i64 i = 0; i < size;) {
      i64 end = i + 1;
      while (end < size && entries[end] >> shift == entries[i] >> shift) ++end;
      if (end - i > 1) sort_small(entries + i, end - i);
      i = end;
    }
  }
  return entries;
}

}  // namespace

// ---- workers and memory ----

Workers::Workers(ThreadPool& pool) : pool_(&pool), count_(pool.threads()) {}

void Workers::parallel_for(i64 count, const std::function<void(int, i64)>& task) const {
  if (pool_ != nullptr) return pool_->parallel_for(count, task);
  for (i64 i = 0; i < count; ++i) task(0, i);
}

PageArena::~PageArena() {
  if (mapped_ != nullptr) ::munmap(mapped_, mapped_size_);
}

std::byte* PageArena::reserve(std::size_t bytes) {
  if (mapped_ != nullptr && bytes + kAlignment <= mapped_size_) return data_;
  if (mapped_ != nullptr) ::munmap(mapped_, mapped_size_);
  mapped_ = nullptr;
  mapped_size_ = bytes + kAlignment;
  void* pages = ::mmap(nullptr, mapped_size_, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  // Advice only: a hundred thousand page faults fewer for 1e8 rows (bench/NOTES.md).
  (void)::madvise(pages, mapped_size_, MADV_HUGEPAGE);
  mapped_ = pages;
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(pages);
  const std::uintptr_t aligned = (address + kAlignment - 1) / kAlignment * kAlignment;
  data_ = static_cast<std::byte*>(pages) + (aligned - address);
  return data_;
}

// ---- one bucket ----

template <class Key>
void BucketReader<Key>::make_room(i64 groups) {
  const std::size_t size = static_cast<std::size_t>(groups) + 2;
  if (offsets_.size() >= size) return;
  offsets_.resize(size);
  pos_.resize(size);
  neg_.resize(size);
  pos_[0] = 0;
  neg_[0] = 0;
}

template <class Key>
GroupSpan<Key> BucketReader<Key>::span(Key low, i64 groups) const {
  return {low, offsets_.data() + 1, pos_.data() + 1, neg_.data() + 1, groups};
}

template <class Key>
bool BucketReader<Key>::is_counted(i64 rows, Key low, Key high) {
  const u64 distance = high - low;
  return distance < kMostCountedKeys && distance / 3 < static_cast<u64>(rows);
}

template <class Key>
GroupSpan<Key> BucketReader<Key>::read(std::span<const Stretch<Key>> parts, i64 rows, Key low,
                                       Key high) {
  if (is_counted(rows, low, high)) {
    return count_and_read(parts, rows, low, static_cast<i64>(high - low) + 1);
  }
  return sort_and_read(parts, rows, low);
}

template <class Key>
GroupSpan<Key> BucketReader<Key>::count_and_read(std::span<const Stretch<Key>> parts, i64 rows,
                                                 Key low, i64 range) {
  const std::size_t cells = 2 * static_cast<std::size_t>(range);
  const std::size_t padded = (cells + 63) / 64 * 64;
  if (table_.size() < padded) table_.resize(padded);
  u8* table = table_.data();
  std::memset(table, 0, padded);
  wraps_.clear();
  const Key base = static_cast<Key>(low << 1);
  // A byte that passes 255 is noted in `wraps` and stands for 256 rows fewer than there are.
  const auto add = [&](Key cell, u8 rows_added) {
    const u8 now = static_cast<u8>(table[cell] + rows_added);
    table[cell] = now;
    if (now < rows_added) [[unlikely]] {
      wraps_.push_back(static_cast<u32>(cell));
    }
  };
  for (const Stretch<Key>& part : parts) {
    const Key* e = part.data;
    i64 i = 0;
    for (; i + 16 <= part.size; i += 16) {
      if (((e[i] ^ e[i + 1]) | (e[i] ^ e[i + 15])) <= 1) [[unlikely]] {
        // Ties: increments of one cell would wait for each other.
        Key difference = 0;
        u32 ones = 0;
        for (i64 j = i; j < i + 16; ++j) {
          difference |= e[j] ^ e[i];
          ones += static_cast<u32>(e[j] & 1);
        }
        if (difference <= 1) {
          const Key cell = static_cast<Key>((e[i] & ~Key{1}) - base);
          add(cell, static_cast<u8>(16 - ones));
          add(cell + 1, static_cast<u8>(ones));
          continue;
        }
      }
      for (i64 j = i; j < i + 16; ++j) add(static_cast<Key>(e[j] - base), 1);
    }
    for (; i < part.size; ++i) add(static_cast<Key>(e[i] - base), 1);
  }

  // Emission writes eight groups at a time.
  make_room(std::min(rows, range) + 8);
  GroupWriter<Key> out{offsets_.data() + 1, pos_.data() + 1, neg_.data() + 1, 0, 0, 0};
  const i64 end = static_cast<i64>(padded) / 2;
  i64 done = 0;
  if (!wraps_.empty()) {
    std::sort(wraps_.begin(), wraps_.end());
    for (std::size_t w = 0; w < wraps_.size();) {
      const i64 block = wraps_[w] / 2 / 8 * 8;
      emit_cells(table, done, block, out);
      std::array<u32, 16> rows_of_cell;
      for (std::size_t i = 0; i < 16; ++i) rows_of_cell[i] = table[2 * block + static_cast<i64>(i)];
      for (; w < wraps_.size() && wraps_[w] / 2 / 8 * 8 == block; ++w) {
        rows_of_cell[wraps_[w] - static_cast<std::size_t>(2 * block)] += 256;
      }
      for (std::size_t i = 0; i < 16; i += 2) {
        emit_cell(block + static_cast<i64>(i / 2), rows_of_cell[i], rows_of_cell[i + 1], out);
      }
      done = block + 8;
    }
  }
  emit_cells(table, done, end, out);
  return span(low, out.groups);
}

template <class Key>
GroupSpan<Key> BucketReader<Key>::sort_and_read(std::span<const Stretch<Key>> parts, i64 rows,
                                                Key low) {
  const std::size_t size = static_cast<std::size_t>(rows);
  if (entries_.size() < size + 1) entries_.resize(size + 1);
  if (spare_.size() < size + 1) spare_.resize(size + 1);
  const Key base = static_cast<Key>(low << 1);
  Key* entry = entries_.data();
  i64 filled = 0;
  Key difference = 0;
  Key first = 0;
  for (const Stretch<Key>& part : parts) {
    if (part.size == 0) continue;
    if (filled == 0) first = static_cast<Key>(part.data[0] - base);
    difference |= copy_entries(part, base, first, entry + filled);
    filled += part.size;
  }
  entry = sort_entries(entry, spare_.data(), rows,
                       static_cast<int>(std::bit_width(static_cast<Key>(difference >> 1))));

  make_room(rows);
  Key* offsets = offsets_.data() + 1;
  u32* pos = pos_.data() + 1;
  u32* neg = neg_.data() + 1;
  entry[rows] = static_cast<Key>(~entry[rows - 1]);  // so that the last group ends
  u32 pos_sum = 0;
  std::size_t g = 0;
  for (i64 i = 0; i < rows; ++i) {
    const Key key = entry[i] >> 1;
    pos_sum += static_cast<u32>(entry[i] & 1);
    offsets[g] = key;
    pos[g] = pos_sum;
    neg[g] = static_cast<u32>(i + 1) - pos_sum;
    g += key != entry[i + 1] >> 1 ? 1 : 0;
  }
  return span(low, static_cast<i64>(g));
}

template <class Key>
void BucketReader<Key>::count(const Stretch<Key>& part, Key low, u32* counts) {
  const Key base = static_cast<Key>(low << 1);
  const Key* e = part.data;
  i64 i = 0;
  for (; i + 16 <= part.size; i += 16) {
    if (((e[i] ^ e[i + 1]) | (e[i] ^ e[i + 15])) <= 1) {
      Key difference = 0;
      u32 ones = 0;
      for (i64 j = i; j < i + 16; ++j) {
        difference |= e[j] ^ e[i];
        ones += static_cast<u32>(e[j] & 1);
      }
      if (difference <= 1) {
        const Key cell = static_cast<Key>((e[i] & ~Key{1}) - base);
        counts[cell] += 16 - ones;
        counts[cell + 1] += ones;
        continue;
      }
    }
    for (i64 j = i; j < i + 16; ++j) ++counts[static_cast<Key>(e[j] - base)];
  }
  for (; i < part.size; ++i) ++counts[static_cast<Key>(e[i] - base)];
}

template <class Key>
GroupSpan<Key> BucketReader<Key>::read_counts(const u32* counts, i64 range, Key low) {
  make_room(range + 1);
  GroupWriter<Key> out{offsets_.data() + 1, pos_.data() + 1, neg_.data() + 1, 0, 0, 0};
  for (i64 c = 0; c < range; ++c) emit_cell(c, counts[2 * c], counts[2 * c + 1], out);
  return span(low, out.groups);
}

template class BucketReader<u32>;
template class BucketReader<u64>;

// ---- the partition ----

SamplePlan::SamplePlan(i64 rows)
    : stretches_(std::max<i64>(1, std::min(kMostSample, rows / 8) / kSampleStretch)),
      length_(std::min(kSampleStretch, rows)),
      step_(rows / stretches_) {}

i64 SamplePlan::begin(i64 stretch) const {
  const u64 room = static_cast<u64>(std::max<i64>(step_ - length_, 0)) + 1;
  return stretch * step_ + static_cast<i64>(mix(static_cast<u64>(stretch) + 1) % room);
}

template <class Key>
u32 RankPartition<Key>::bin_of(Key key) const {
  if constexpr (sizeof(Key) == 4) {
    return key >> 16;
  } else {
    const u32 half = static_cast<u32>(key >> 63);
    if (key < mapping_.origin) return half;
    const u64 bin = (key - mapping_.origin) >> mapping_.shift;
    return bin < static_cast<u64>(kRegularBins) ? static_cast<u32>(bin) + 2
                                                : static_cast<u32>(kRegularBins) + 2 + half;
  }
}

template <class Key>
Key RankPartition<Key>::lowest_key_of_bin(u32 bin) const {
  if constexpr (sizeof(Key) == 4) {
    return bin << 16;
  } else {
    constexpr u64 kMost = std::numeric_limits<u64>::max();
    const u128 above =
        static_cast<u128>(mapping_.origin) + (static_cast<u128>(kRegularBins) << mapping_.shift);
    const u64 first_above = above > kMost ? kMost : static_cast<u64>(above);
    if (bin == 0) return 0;
    if (bin == 1) return kHalf<u64>;
    if (bin < kRegularBins + 2)
      return mapping_.origin + (static_cast<u64>(bin - 2) << mapping_.shift);
    return bin == kRegularBins + 2 ? first_above : std::max(first_above, kHalf<u64>);
  }
}

template <class Key>
RankPartition<Key>::RankPartition(const ProblemRows& problem, const Workers& workers,
                                  PartitionScratch& scratch)
    : problem_(&problem), workers_(&workers), scratch_(&scratch), rows_(problem.rows()) {
  CUPEL_ASSERT(rows_ > 0 && rows_ <= kMaxRows);
  if (rows_ < kLeastPartitioned) {
    split_in_two();
    return;
  }
  if (workers_->count() == 1 && rows_ < kLeastSampled) {
    cut_by_range();
    return;
  }
  sample_bins();
  make_buckets();
  scatter();
  if (has_overfull_bucket()) {
    // The sample missed where the rows are. Every row is looked at, and the cuts are made again.
    count_bins();
    make_buckets();
    scatter();
  }
}

template <class Key>
void RankPartition<Key>::choose_mapping() {
  mapping_.shift = 16;
  if constexpr (sizeof(Key) == 8) {
    const std::size_t tail = sample_.size() / 2048;
    std::nth_element(sample_.begin(), sample_.begin() + static_cast<std::ptrdiff_t>(tail),
                     sample_.end());
    const u64 low = sample_[tail];
    const std::size_t top = sample_.size() - 1 - tail;
    std::nth_element(sample_.begin(), sample_.begin() + static_cast<std::ptrdiff_t>(top),
                     sample_.end());
    const u64 high = sample_[top];
    mapping_.shift = std::max(0, static_cast<int>(std::bit_width(high - low)) - 16);
    // A bin must not reach from one half of the key space into the other.
    mapping_.origin = low >> mapping_.shift << mapping_.shift;
  }
}

template <class Key>
void RankPartition<Key>::sample_bins() {
  const SamplePlan plan(rows_);
  constexpr i64 kPart = 1024;
  sample_.resize(static_cast<std::size_t>(plan.stretches() * plan.length()));
  workers_->parallel_for((plan.stretches() + kPart - 1) / kPart, [&](int, i64 part) {
    for (i64 s = part * kPart; s < std::min(plan.stretches(), (part + 1) * kPart); ++s) {
      problem_->keys(plan.begin(s), plan.length(), sample_.data() + s * plan.length());
    }
  });
  choose_mapping();
  std::vector<u32>& bins = scratch_->bins;
  bins.assign(static_cast<std::size_t>(kBins<Key>), 0);
  for (const Key key : sample_) ++bins[bin_of(key)];
}

template <class Key>
void RankPartition<Key>::count_bins() {
  const std::size_t workers = static_cast<std::size_t>(workers_->count());
  std::vector<std::vector<u32>> tables(workers);
  for (auto& table : tables) table.assign(static_cast<std::size_t>(kBins<Key>), 0);
  workers_->parallel_for((rows_ + kScatterRows - 1) / kScatterRows, [&](int worker, i64 part) {
    std::vector<u32>& table = tables[static_cast<std::size_t>(worker)];
    std::array<Key, kBatch> keys;
    const i64 end = std::min(rows_, (part + 1) * kScatterRows);
    for (i64 row = part * kScatterRows; row < end; row += kBatch) {
      const i64 n = std::min(kBatch, end - row);
      problem_->keys(row, n, keys.data());
      for (i64 i = 0; i < n; ++i) ++table[bin_of(keys[static_cast<std::size_t>(i)])];
    }
  });
  scratch_->bins.assign(static_cast<std::size_t>(kBins<Key>), 0);
  for (const auto& table : tables) {
    for (std::size_t i = 0; i < table.size(); ++i) scratch_->bins[i] += table[i];
  }
}

template <class Key>
void RankPartition<Key>::make_buckets() {
  const std::vector<u32>& bins = scratch_->bins;
  scratch_->bucket_of_bin.resize(bins.size());
  u16* bucket_of_bin = scratch_->bucket_of_bin.data();
  u64 total = 0;
  for (const u32 count : bins) total += count;
  const u64 aim = static_cast<u64>(std::clamp(rows_ / kLeastBucketRows, i64{1}, kAimBuckets));
  for (u64 target = std::max<u64>(1, total / aim);; target += target / 4 + 1) {
    low_.clear();
    high_.clear();
    single_bin_.clear();
    u64 held = 0;
    for (std::size_t bin = 0; bin < bins.size(); ++bin) {
      const Key low = lowest_key_of_bin(static_cast<u32>(bin));
      const bool special = sizeof(Key) == 8 && (bin < 2 || bin >= kRegularBins + 2);
      const bool after_special = sizeof(Key) == 8 && bin == 2;
      const bool heavy = bins[bin] >= target / 2 + 1;
      const bool after_heavy = bin > 0 && bins[bin - 1] >= target / 2 + 1;
      if (bin == 0 || special || after_special || low == kHalf<Key> || heavy || after_heavy ||
          held >= target) {
        low_.push_back(low);
        single_bin_.push_back(true);
        held = 0;
      } else {
        single_bin_.back() = false;
      }
      held += bins[bin];
      bucket_of_bin[bin] = static_cast<u16>(low_.size() - 1);
    }
    if (static_cast<i64>(low_.size()) <= kMostBuckets) break;
  }
  // The last key of a bucket is the one before the next bucket, within the half of the key space.
  for (std::size_t b = 0; b < low_.size(); ++b) {
    const Key end_of_half = low_[b] | (kHalf<Key> - 1);
    high_.push_back(b + 1 < low_.size() && low_[b + 1] > low_[b]
                        ? std::min<Key>(static_cast<Key>(low_[b + 1] - 1), end_of_half)
                        : end_of_half);
  }
}

template <class Key>
bool RankPartition<Key>::has_overfull_bucket() const {
  const i64 most = std::max<i64>(16 * rows_ / kAimBuckets, 8 * kLeastBucketRows);
  for (std::size_t b = 0; b < low_.size(); ++b) {
    if (!single_bin_[b] && rows_of_[b] > most) return true;
  }
  return false;
}

template <class Key>
void RankPartition<Key>::split_in_two() {
  low_ = {0, kHalf<Key>};
  high_ = {kHalf<Key> - 1, std::numeric_limits<Key>::max()};
  single_bin_ = {false, false};
  const std::size_t rows = static_cast<std::size_t>(rows_);
  Key* data = reinterpret_cast<Key*>(scratch_->pages.reserve(rows * sizeof(Key)));
  // The lower half fills from the front, the upper one from the back.
  Key* front = data;
  Key* back = data + rows;
  std::array<Key, kBatch> keys;
  std::array<u8, kBatch> labels;
  for (i64 row = 0; row < rows_; row += kBatch) {
    const i64 n = std::min(kBatch, rows_ - row);
    problem_->keys(row, n, keys.data());
    problem_->labels(row, n, labels.data());
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
      const Key entry = static_cast<Key>(keys[i] << 1 | labels[i]);
      if (keys[i] < kHalf<Key>) {
        *front++ = entry;
      } else {
        *--back = entry;
      }
    }
  }
  stretches_ = {{data, front - data}, {back, data + rows - back}};
  first_stretch_ = {0, 1, 2};
  rows_of_ = {stretches_[0].size, stretches_[1].size};
}

// A problem that stays in a cache: rows are spread, with exact counts, over equal parts of the
// range of their keys, and neighbouring parts make a bucket.
template <class Key>
void RankPartition<Key>::cut_by_range() {
  constexpr int kPartBits = 13;
  constexpr i64 kBucketRows = 4096;
  const std::size_t rows = static_cast<std::size_t>(rows_);
  Key* const pages = reinterpret_cast<Key*>(scratch_->pages.reserve(2 * rows * sizeof(Key)));
  Key* const keys = pages;
  Key* const entries = pages + rows;
  for (i64 row = 0; row < rows_; row += kScatterRows) {
    problem_->keys(row, std::min(kScatterRows, rows_ - row), keys + row);
  }
  Key low = keys[0];
  Key high = keys[0];
  for (std::size_t i = 1; i < rows; ++i) {
    low = std::min(low, keys[i]);
    high = std::max(high, keys[i]);
  }
  const int shift =
      std::max(0, static_cast<int>(std::bit_width(static_cast<Key>(high - low))) - kPartBits);
  low = static_cast<Key>(low >> shift << shift);
  const std::size_t parts = static_cast<std::size_t>((high - low) >> shift) + 1;
  std::vector<u32>& ends = scratch_->bins;
  ends.assign(parts, 0);
  for (std::size_t i = 0; i < rows; ++i) ++ends[static_cast<std::size_t>((keys[i] - low) >> shift)];

  u32 sum = 0;
  for (std::size_t part = 0; part < parts; ++part) {
    const Key begin = static_cast<Key>(low + (static_cast<Key>(part) << shift));
    const bool crosses = begin >= kHalf<Key> && !low_.empty() && low_.back() < kHalf<Key>;
    if (low_.empty() || rows_of_.back() >= kBucketRows || crosses) {
      low_.push_back(begin);
      high_.push_back(begin);
      rows_of_.push_back(0);
      stretches_.push_back({entries + sum, 0});
    }
    high_.back() = static_cast<Key>(begin + ((Key{1} << shift) - 1));
    rows_of_.back() += ends[part];
    stretches_.back().size += ends[part];
    sum += std::exchange(ends[part], sum);
  }
  single_bin_.assign(low_.size(), false);
  for (std::size_t b = 0; b <= low_.size(); ++b) first_stretch_.push_back(b);

  std::array<u8, kBatch> label_copy;
  const u8* all_labels = problem_->contiguous_labels();
  for (i64 row = 0; row < rows_; row += kBatch) {
    const i64 n = std::min(kBatch, rows_ - row);
    const u8* labels = all_labels != nullptr ? all_labels + row : label_copy.data();
    if (all_labels == nullptr) problem_->labels(row, n, label_copy.data());
    for (i64 i = 0; i < n; ++i) {
      const Key key = keys[row + i];
      entries[ends[static_cast<std::size_t>((key - low) >> shift)]++] =
          static_cast<Key>(key << 1 | labels[i]);
    }
  }
}

template <class Key>
void RankPartition<Key>::scatter() {
  struct State {
    std::vector<Key*> ends;
    std::vector<std::pair<u32, u32>> blocks;  ///< bucket and block, in order of use
  };
  const i64 buckets = static_cast<i64>(low_.size());
  const i64 workers = workers_->count();
  // Blocks as large as an unfinished one for every worker and bucket allows within rows / 8 keys.
  i64 block_bytes = static_cast<i64>(PageArena::kAlignment);
  while (block_bytes > 512 &&
         block_bytes * workers * buckets > rows_ * static_cast<i64>(sizeof(Key)) / 8) {
    block_bytes /= 2;
  }
  const i64 block_entries = block_bytes / static_cast<i64>(sizeof(Key));
  // Buckets of equal size fill in step: were their first blocks all written from the start, their
  // open lines would crowd into a few sets of the cache for good. So these begin at staggered
  // lines.
  constexpr i64 kLineBytes = 64;
  constexpr i64 kSets = 64;
  const auto first_entry = [&](i64 block) {
    if (block >= workers * buckets) return i64{0};
    const i64 line = block % buckets % kSets;
    return line * kLineBytes % (block_bytes / 2) / static_cast<i64>(sizeof(Key));
  };
  const i64 most_blocks = rows_ / block_entries + 2 * workers * buckets + 1;
  std::byte* pages = scratch_->pages.reserve(static_cast<std::size_t>(most_blocks * block_bytes));
  const auto block_data = [&](i64 block) {
    return reinterpret_cast<Key*>(pages + block * block_bytes);
  };
  std::atomic<i64> next_block{workers * buckets};
  std::vector<State> states(static_cast<std::size_t>(workers));
  for (i64 w = 0; w < workers; ++w) {
    State& state = states[static_cast<std::size_t>(w)];
    for (i64 b = 0; b < buckets; ++b) {
      state.blocks.emplace_back(static_cast<u32>(b), static_cast<u32>(w * buckets + b));
      state.ends.push_back(block_data(w * buckets + b) + first_entry(w * buckets + b));
    }
  }
  // Out of line, so that the loop below keeps its registers.
  const auto start_block = [&](State & state, std::size_t bucket) __attribute__((noinline)) {
    const i64 block = next_block.fetch_add(1, std::memory_order_relaxed);
    state.blocks.emplace_back(static_cast<u32>(bucket), static_cast<u32>(block));
    state.ends[bucket] = block_data(block);
  };
  const u16* bucket_of_bin = scratch_->bucket_of_bin.data();
  const std::uintptr_t block_mask = static_cast<std::uintptr_t>(block_bytes) - 1;
  const u8* all_labels = problem_->contiguous_labels();

  workers_->parallel_for((rows_ + kScatterRows - 1) / kScatterRows, [&](int worker, i64 part) {
    State& state = states[static_cast<std::size_t>(worker)];
    Key** ends = state.ends.data();
    std::array<Key, kBatch> keys;
    std::array<Key, kBatch> entries;
    std::array<u8, kBatch> label_copy;
    std::array<u16, kBatch> bins;
    const i64 end = std::min(rows_, (part + 1) * kScatterRows);
    for (i64 row = part * kScatterRows; row < end; row += kBatch) {
      const i64 n = std::min(kBatch, end - row);
      // The scattered writes keep the processor from looking this far ahead by itself.
      if (row + kAhead + kBatch <= rows_) problem_->prefetch(row + kAhead, kBatch);
      problem_->keys(row, n, keys.data());
      const u8* labels = all_labels != nullptr ? all_labels + row : label_copy.data();
      if (all_labels == nullptr) problem_->labels(row, n, label_copy.data());
      if constexpr (sizeof(Key) == 4) {
        prepare(keys.data(), labels, n, entries.data(), bins.data());
      }
      for (i64 i = 0; i < n; ++i) {
        const std::size_t at = static_cast<std::size_t>(i);
        std::size_t bucket;
        Key entry;
        if constexpr (sizeof(Key) == 4) {
          bucket = bucket_of_bin[bins[at]];
          entry = entries[at];
        } else {
          bucket = bucket_of_bin[bin_of(keys[at])];
          entry = static_cast<Key>(keys[at] << 1 | labels[i]);
        }
        Key* place = ends[bucket];
        *place++ = entry;
        ends[bucket] = place;
        if ((reinterpret_cast<std::uintptr_t>(place) & block_mask) == 0) [[unlikely]] {
          start_block(state, bucket);
        }
      }
    }
  });

  // All blocks are full but the last of each worker and bucket.
  rows_of_.assign(static_cast<std::size_t>(buckets), 0);
  first_stretch_.assign(static_cast<std::size_t>(buckets) + 1, 0);
  for (const State& state : states) {
    for (const auto& [bucket, block] : state.blocks) ++first_stretch_[bucket + 1];
  }
  for (std::size_t b = 0; b < static_cast<std::size_t>(buckets); ++b) {
    first_stretch_[b + 1] += first_stretch_[b];
  }
  stretches_.resize(first_stretch_.back());
  std::vector<std::size_t> next(first_stretch_.begin(), first_stretch_.end() - 1);
  for (const State& state : states) {
    for (const auto& [bucket, block] : state.blocks) {
      const Key* data = block_data(block);
      const Key* filled_to = state.ends[bucket];
      const bool is_last = filled_to >= data && filled_to < data + block_entries;
      const i64 skipped = first_entry(block);
      const i64 size = (is_last ? filled_to - data : block_entries) - skipped;
      stretches_[next[bucket]++] = {data + skipped, size};
      rows_of_[bucket] += size;
    }
  }
}

template <class Key>
std::vector<BlockCounts> RankPartition<Key>::count_labels() const {
  constexpr std::size_t kPart = 16;
  std::vector<u64> ones(stretches_.size());
  workers_->parallel_for(
      static_cast<i64>((stretches_.size() + kPart - 1) / kPart), [&](int, i64 part) {
        const std::size_t first = static_cast<std::size_t>(part) * kPart;
        for (std::size_t s = first; s < std::min(first + kPart, stretches_.size()); ++s) {
          ones[s] = count_ones(stretches_[s].data, stretches_[s].size);
        }
      });
  std::vector<BlockCounts> counts(low_.size());
  for (std::size_t b = 0; b < low_.size(); ++b) {
    for (std::size_t s = first_stretch_[b]; s < first_stretch_[b + 1]; ++s) {
      counts[b].pos += ones[s];
    }
    counts[b].neg = static_cast<u64>(rows_of_[b]) - counts[b].pos;
  }
  return counts;
}

template <class Key>
void RankPartition<Key>::for_each_bucket(const std::function<bool(i64)>& wanted,
                                         const Visit& visit) const {
  const std::size_t workers = static_cast<std::size_t>(workers_->count());
  std::vector<BucketReader<Key>> readers(workers);
  std::vector<i64> order;
  const auto parts_of = [&](i64 b) {
    const std::size_t bucket = static_cast<std::size_t>(b);
    return std::span<const Stretch<Key>>(stretches_)
        .subspan(first_stretch_[bucket], first_stretch_[bucket + 1] - first_stretch_[bucket]);
  };
  const i64 large = std::max<i64>(rows_ / (4 * workers_->count()), kLeastSharedBucket);
  for (i64 b = 0; b < buckets(); ++b) {
    if (rows_of(b) == 0 || !wanted(b)) continue;
    const std::size_t bucket = static_cast<std::size_t>(b);
    if (workers > 1 && rows_of(b) > large &&
        BucketReader<Key>::is_counted(rows_of(b), low_[bucket], high_[bucket])) {
      // A bucket with a good part of all rows: everyone counts some of them.
      const i64 range = static_cast<i64>(high_[bucket] - low_[bucket]) + 1;
      const std::size_t cells = 2 * static_cast<std::size_t>(range);
      std::vector<std::vector<u32>> tables(workers);
      const auto parts = parts_of(b);
      constexpr std::size_t kPart = 16;
      workers_->parallel_for(
          static_cast<i64>((parts.size() + kPart - 1) / kPart), [&](int worker, i64 part) {
            std::vector<u32>& table = tables[static_cast<std::size_t>(worker)];
            if (table.empty()) table.assign(cells, 0);
            const std::size_t first = static_cast<std::size_t>(part) * kPart;
            for (std::size_t s = first; s < std::min(first + kPart, parts.size()); ++s) {
              BucketReader<Key>::count(parts[s], low_[bucket], table.data());
            }
          });
      std::vector<u32> sum(cells, 0);
      for (const auto& table : tables) {
        for (std::size_t i = 0; i < table.size(); ++i) sum[i] += table[i];
      }
      visit(0, b, readers[0].read_counts(sum.data(), range, low_[bucket]));
      continue;
    }
    order.push_back(b);
  }
  std::sort(order.begin(), order.end(), [&](i64 a, i64 b) {
    return rows_of(a) != rows_of(b) ? rows_of(a) > rows_of(b) : a < b;
  });
  workers_->parallel_for(static_cast<i64>(order.size()), [&](int worker, i64 index) {
    const i64 b = order[static_cast<std::size_t>(index)];
    const std::size_t bucket = static_cast<std::size_t>(b);
    visit(worker, b,
          readers[static_cast<std::size_t>(worker)].read(parts_of(b), rows_of(b), low_[bucket],
                                                         high_[bucket]));
  });
}

template class RankPartition<u32>;
template class RankPartition<u64>;

}  // namespace cupel::cpu
