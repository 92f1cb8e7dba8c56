// The text of a source from its beginning to its end, in blocks, decompressed where it is gzip (by
// magic bytes, RFC 1952, several members too). Memory: one block, whatever the size of the file.
#pragma once

#include <memory>
#include <span>

#include "io/byte_source.hpp"

namespace cupel {

class TextStream {
 public:
  explicit TextStream(std::shared_ptr<const ByteSource> source);
  ~TextStream();
  TextStream(const TextStream&) = delete;
  TextStream& operator=(const TextStream&) = delete;

  /// Fills up to `into.size()` bytes and returns how many; 0 only at the end.
  /// Errors: kInput when the file cannot be read or its gzip data is damaged or truncated.
  Result<i64> read(std::span<char> into);

 private:
  struct Gzip;
  Result<i64> read_gzip(std::span<char> into);

  std::shared_ptr<const ByteSource> source_;
  i64 offset_ = 0;
  std::unique_ptr<Gzip> gzip_;
};

}  // namespace cupel
