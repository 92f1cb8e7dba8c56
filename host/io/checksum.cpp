// CRC-32 by carry-less multiplication, of 512 bits at a time where the processor can
// (libdeflate 1.14 takes 128, which made the checksum the longest part of reading), and XXH3 by
// xxHash's run-time dispatch (AVX2, AVX-512); neither is within the baseline build's reach.
#include "io/checksum.hpp"

#include <libdeflate.h>
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#endif

#include "cupel/core/config.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

#include <algorithm>
#include <array>
#include <cstring>

namespace cupel {
namespace {

// A quarter of a small first-level cache: the second checksum reads no memory, and meanwhile the
// processor fetches what the first will read next.
constexpr std::size_t kBlockBytes = 8 * 1024;

template <class T>
T reverse_bytes(T value) {
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}

template <class T>
void reverse_all(const std::byte* from, std::byte* to, i64 bytes) {
  for (i64 i = 0; i + static_cast<i64>(sizeof(T)) <= bytes; i += static_cast<i64>(sizeof(T))) {
    T value;
    std::memcpy(&value, from + i, sizeof(T));
    value = reverse_bytes(value);
    std::memcpy(to + i, &value, sizeof(T));
  }
}

#if CUPEL_HAS_TARGETS && !defined(__clang_analyzer__)
#define CUPEL_TARGET_CLMUL512 __attribute__((target("arch=x86-64-v4,pclmul,vpclmulqdq")))

/// x^n modulo the polynomial of CRC-32, in the order of bits and at the place that the product of
/// two reflected numbers asks for.
constexpr i64 fold_constant(int n) {
  u64 power = 1;
  for (int i = 0; i < n; ++i) {
    power <<= 1;
    if ((power >> 32) != 0) power ^= 0x1'04C1'1DB7u;
  }
  u64 reflected = 0;
  for (int bit = 0; bit < 32; ++bit) reflected |= (power >> bit & 1) << (31 - bit);
  return static_cast<i64>(reflected << 1);
}

/// Each of the four numbers of 128 bits in `x` moved `kBits` bits towards the front of the message
/// and added to those in `y`.
template <int kBits>
CUPEL_TARGET_CLMUL512 inline __m512i fold(__m512i x, __m512i y) {
  constexpr i64 kLow = fold_constant(kBits + 32);
  constexpr i64 kHigh = fold_constant(kBits - 32);
  const __m512i k = _mm512_set4_epi64(kHigh, kLow, kHigh, kLow);
  return _mm512_xor_si512(
      _mm512_xor_si512(_mm512_clmulepi64_epi128(x, k, 0x00), _mm512_clmulepi64_epi128(x, k, 0x11)),
      y);
}

constexpr std::size_t kFoldBytes = 256;

/// At least kFoldBytes bytes: all but the tail is folded into 64 bytes that leave the same
/// remainder (Gopal et al., "Fast CRC computation using PCLMULQDQ").
CUPEL_TARGET_CLMUL512 u32 crc32_by_512(u32 crc, std::span<const std::byte> bytes) {
  const std::byte* at = bytes.data();
  const std::byte* const end = at + bytes.size() / kFoldBytes * kFoldBytes;
  __m512i a = _mm512_loadu_si512(at);
  __m512i b = _mm512_loadu_si512(at + 64);
  __m512i c = _mm512_loadu_si512(at + 128);
  __m512i d = _mm512_loadu_si512(at + 192);
  // A CRC begins with the complement of the one before it.
  a = _mm512_xor_si512(a, _mm512_maskz_set1_epi32(1, static_cast<i32>(~crc)));
  for (at += kFoldBytes; at != end; at += kFoldBytes) {
    a = fold<2048>(a, _mm512_loadu_si512(at));
    b = fold<2048>(b, _mm512_loadu_si512(at + 64));
    c = fold<2048>(c, _mm512_loadu_si512(at + 128));
    d = fold<2048>(d, _mm512_loadu_si512(at + 192));
  }
  d = fold<512>(fold<512>(fold<512>(a, b), c), d);
  alignas(64) std::array<std::byte, 64> rest;
  _mm512_store_si512(rest.data(), d);
  const u32 folded = libdeflate_crc32(~u32{0}, rest.data(), rest.size());
  return libdeflate_crc32(folded, end, bytes.size() % kFoldBytes);
}

bool has_clmul_512() {
  static const bool kHas = [] {
    __builtin_cpu_init();
    return __builtin_cpu_supports("x86-64-v4") != 0 && __builtin_cpu_supports("pclmul") != 0 &&
           __builtin_cpu_supports("vpclmulqdq") != 0;
  }();
  return kHas;
}
#endif

}  // namespace

struct StreamHash::State {
  // xxHash asks for 64-byte alignment of its state.
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> xxh{XXH3_createState()};
};

u32 crc32(u32 crc, std::span<const std::byte> bytes) {
  if (bytes.empty()) return crc;  // an empty span has no address, by which libdeflate starts anew
#if CUPEL_HAS_TARGETS && !defined(__clang_analyzer__)
  if (bytes.size() >= kFoldBytes && has_clmul_512()) return crc32_by_512(crc, bytes);
#endif
  return libdeflate_crc32(crc, bytes.data(), bytes.size());
}

StreamHash::StreamHash() : state_(std::make_unique<State>()) {
  XXH3_128bits_reset(state_->xxh.get());
}

StreamHash::~StreamHash() = default;

void StreamHash::update(std::span<const std::byte> bytes) {
  if (!bytes.empty()) XXH3_128bits_update(state_->xxh.get(), bytes.data(), bytes.size());
}

u32 StreamHash::update_with_crc(u32 crc, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::span<const std::byte> block = bytes.first(std::min(bytes.size(), kBlockBytes));
    crc = crc32(crc, block);
    update(block);
    bytes = bytes.subspan(block.size());
  }
  return crc;
}

void StreamHash::update_reversed(std::span<const std::byte> bytes, i64 unit) {
  std::array<std::byte, kBlockBytes> block;
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), block.size());
    reverse_units(bytes.data(), block.data(), static_cast<i64>(count), unit);
    update(std::span(block).first(count));
    bytes = bytes.subspan(count);
  }
}

HashText StreamHash::digest() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh.get());
  XXH128_canonical_t bytes;  // big endian, high half first
  XXH128_canonicalFromHash(&bytes, hash);
  constexpr std::string_view kDigits = "0123456789abcdef";
  HashText text;
  for (const unsigned char byte : bytes.digest) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

void reverse_units(const std::byte* from, std::byte* to, i64 bytes, i64 unit) {
  switch (unit) {
    case 2:
      return reverse_all<u16>(from, to, bytes);
    case 4:
      return reverse_all<u32>(from, to, bytes);
    case 8:
      return reverse_all<u64>(from, to, bytes);
    default:
      CUPEL_ASSERT(unit == 2 || unit == 4 || unit == 8);
  }
}

}  // namespace cupel
