// The two checksums of reading: CRC-32 as zip archives use it (ISO 3309, polynomial 0x04c11db7),
// and the XXH3 hash (128 bits, no seed) that identifies the input in a result. Both are taken in
// one pass over memory, block by block, because that pass competes with the computation for
// bandwidth.
#pragma once

#include <memory>
#include <span>

#include "cupel/core/int.hpp"
#include "cupel/io/dump.hpp"

namespace cupel {

/// CRC-32 continued from `crc`, which is 0 at the start.
u32 crc32(u32 crc, std::span<const std::byte> bytes);

/// XXH3-128 of a sequence of spans, equal to that of their concatenation.
class StreamHash {
 public:
  StreamHash();
  ~StreamHash();
  StreamHash(const StreamHash&) = delete;
  StreamHash& operator=(const StreamHash&) = delete;

  void update(std::span<const std::byte> bytes);
  /// Hashes `bytes` and returns their CRC continued from `crc`, reading memory once.
  u32 update_with_crc(u32 crc, std::span<const std::byte> bytes);
  /// Hashes `bytes` with every group of `unit` bytes reversed: the file's order of a column whose
  /// memory was brought into the machine's. `bytes.size()` is a multiple of `unit`, at most 8.
  void update_reversed(std::span<const std::byte> bytes, i64 unit);
  /// 32 hexadecimal digits, high half first.
  HashText digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Reverses the bytes of every group of `unit` (2, 4 or 8) bytes, from `from` to `to`, which may be
/// equal but not otherwise overlap.
void reverse_units(const std::byte* from, std::byte* to, i64 bytes, i64 unit);

}  // namespace cupel
