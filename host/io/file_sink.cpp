#include "cupel/io/file_sink.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace cupel {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{256} << 10;

Error write_failure(const std::string& place, int reason) {
  return {ErrorCode::kInternal, place, std::string("cannot write: ") + std::strerror(reason), {}};
}

/// An open file without a name; -1 with errno.
int open_nameless(const std::string& folder) {
  const int descriptor = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor >= 0) return descriptor;
  // Not every file system has these: a name that goes at once.
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL) return -1;
  std::string name = folder + "/.cupel-XXXXXX";
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

}  // namespace

FileSink::FileSink(int descriptor, std::string place, std::string folder)
    : descriptor_(descriptor), place_(std::move(place)), folder_(std::move(folder)) {
  buffer_.reserve(kBufferBytes);
}

FileSink::~FileSink() {
  if (owned_) ::close(descriptor_);
}

Result<std::unique_ptr<FileSink>> FileSink::nameless() const {
  return nameless_in(folder_, place_);
}

Result<std::unique_ptr<FileSink>> FileSink::nameless_in(const std::string& folder,
                                                        const std::string& place) {
  const int descriptor = open_nameless(folder);
  if (descriptor < 0) return write_failure(place, errno);
  auto sink = std::make_unique<FileSink>(descriptor, place, folder);
  sink->owned_ = true;
  return sink;
}

Result<void> FileSink::write_at(i64 offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return write_failure(place_, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += written;
  }
  return {};
}

Result<void> FileSink::flush() {
  const i64 offset = size_ - static_cast<i64>(buffer_.size());
  auto written = write_at(offset, buffer_);
  if (written) buffer_.clear();
  return written;
}

Result<void> FileSink::append(std::span<const std::byte> bytes) {
  if (buffer_.size() + bytes.size() > kBufferBytes) {
    if (auto flushed = flush(); !flushed) return flushed;
  }
  if (bytes.size() > kBufferBytes) {
    if (auto written = write_at(size_, bytes); !written) return written;
  } else {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
  size_ += static_cast<i64>(bytes.size());
  return {};
}

Result<void> FileSink::rewrite(i64 offset, std::span<const std::byte> bytes) {
  CUPEL_ASSERT(offset >= 0 && offset + static_cast<i64>(bytes.size()) <= size_);
  if (auto flushed = flush(); !flushed) return flushed;
  return write_at(offset, bytes);
}

Result<void> FileSink::append_from(FileSink& other) {
  if (auto flushed = other.flush(); !flushed) return flushed;
  Buffer<std::byte> block(kBufferBytes);
  for (i64 offset = 0; offset < other.size_;) {
    const auto want = std::min<u64>(block.size(), static_cast<u64>(other.size_ - offset));
    const ssize_t got = ::pread(other.descriptor_, block.data(), want, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return Error{ErrorCode::kInternal,
                   place_,
                   std::string("cannot read back what was written: ") +
                       (got < 0 ? std::strerror(errno) : "the file is shorter"),
                   {}};
    }
    const std::span<const std::byte> part(block.data(), static_cast<std::size_t>(got));
    if (auto appended = append(part); !appended) return appended;
    offset += got;
  }
  return {};
}

}  // namespace cupel
