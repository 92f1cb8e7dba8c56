// Where a reader's bytes come from: a mapped file, or memory for what cannot be mapped (a pipe,
// standard input, a test). Readers see one span of known size and never a file descriptor.
//
// A file that another process shortens while it is mapped raises SIGBUS on access; guarding against
// that is out of scope, as it is for every program that maps its input.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cupel/core/buffer.hpp"
#include "cupel/core/int.hpp"
#include "cupel/core/result.hpp"

namespace cupel {

class ByteSource {
 public:
  /// Maps the file at `path`, or reads it into memory where it cannot be mapped; "-" is standard
  /// input. Errors: kInput for a path that is missing, unreadable, a directory or empty.
  static Result<std::shared_ptr<const ByteSource>> open(const std::string& path);
  /// Bytes in memory under a name, for tests and fuzzing.
  static std::shared_ptr<const ByteSource> from_memory(std::string path,
                                                       std::span<const std::byte> bytes);

  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  ~ByteSource();

  /// As given on the command line.
  const std::string& path() const { return path_; }
  /// As shown to people: the path, or "standard input".
  const std::string& where() const { return where_; }
  i64 size() const { return static_cast<i64>(bytes_.size()); }
  /// All bytes. Touching them makes mapped pages resident.
  std::span<const std::byte> bytes() const { return bytes_; }
  /// Asks the system to read these bytes ahead; a hint only.
  void will_need(std::span<const std::byte> part) const;
  /// Lets go of mapped pages that hold any of these bytes; does nothing for others.
  void release(std::span<const std::byte> part) const;
  /// Calls visit(bytes) for `part` piece by piece, and lets go of each with `release_them`.
  template <class Visit>
  void in_pieces(std::span<const std::byte> part, bool release_them, const Visit& visit) const {
    constexpr std::size_t kPieceBytes = std::size_t{8} << 20;
    if (!release_them) return visit(part);
    for (; !part.empty(); part = part.subspan(std::min(kPieceBytes, part.size()))) {
      const auto piece = part.first(std::min(kPieceBytes, part.size()));
      visit(piece);
      release(piece);
    }
  }
  /// Copies up to `into.size()` bytes at `offset` and returns how many; 0 at the end. Mapped files
  /// are read through the descriptor, so that a streaming reader does not keep the file resident.
  Result<i64> read_at(i64 offset, std::span<std::byte> into) const;

 private:
  explicit ByteSource(std::string path);

  std::string path_;
  std::string where_;
  std::span<const std::byte> bytes_;
  Buffer<std::byte> memory_;
  int descriptor_ = -1;
  bool mapped_ = false;
};

}  // namespace cupel
