// CRC-32 by libdeflate (carry-less multiplication) and XXH3 by xxHash's run-time dispatch (AVX2,
// AVX-512), neither of which the baseline build could use by itself.
#include "io/checksum.hpp"

#include <libdeflate.h>
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#endif

#include <algorithm>
#include <array>
#include <cstring>

namespace cupel {
namespace {

// Fits the first-level cache beside the hash's own state, so that the second checksum reads no
// memory.
constexpr std::size_t kBlockBytes = 32 * 1024;

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

}  // namespace

struct StreamHash::State {
  // xxHash asks for 64-byte alignment of its state.
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> xxh{XXH3_createState()};
};

u32 crc32(u32 crc, std::span<const std::byte> bytes) {
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
