// Bytes on their way into a file that somebody else opened and will close, rename or throw away.
// What is written is buffered; what was written can be written over, which is how an archive learns
// sizes that are known at its end. Memory: one buffer, whatever the file's size.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "cupel/core/buffer.hpp"
#include "cupel/core/int.hpp"
#include "cupel/core/result.hpp"

namespace cupel {

class FileSink {
 public:
  /// Appends to `descriptor`, open for reading and writing, empty, not closed here. `place` names
  /// it in errors; files without a name are made in `folder`.
  FileSink(int descriptor, std::string place, std::string folder);
  /// What is still buffered is lost: a file that counts was flushed.
  ~FileSink();
  FileSink(const FileSink&) = delete;
  FileSink& operator=(const FileSink&) = delete;

  /// A file of its own in the same folder that has no name, and so is gone with this object or the
  /// process, whatever ends it. Errors: kInternal, as below.
  Result<std::unique_ptr<FileSink>> nameless() const;
  /// The same in any folder.
  static Result<std::unique_ptr<FileSink>> nameless_in(const std::string& folder,
                                                       const std::string& place);

  /// Errors (kInternal): "PLACE: cannot write: No space left on device".
  Result<void> append(std::span<const std::byte> bytes);
  /// Replaces bytes that were appended before.
  Result<void> rewrite(i64 offset, std::span<const std::byte> bytes);
  /// Appends all bytes of `other`.
  Result<void> append_from(FileSink& other);
  /// Hands everything to the system.
  Result<void> flush();

  i64 size() const { return size_; }
  int descriptor() const { return descriptor_; }
  const std::string& place() const { return place_; }

 private:
  Result<void> write_at(i64 offset, std::span<const std::byte> bytes) const;

  int descriptor_ = -1;
  bool owned_ = false;
  std::string place_;
  std::string folder_;
  Buffer<std::byte> buffer_;
  i64 size_ = 0;  ///< with what is buffered
};

}  // namespace cupel
