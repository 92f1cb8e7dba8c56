// Opening, mapping and reading files.
#include "io/byte_source.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace cupel {
namespace {

constexpr std::size_t kBlockBytes = 1 << 20;

std::string system_text(int code) {
  std::string text = std::generic_category().message(code);
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] = static_cast<char>(text[0] + 32);
  return text;
}

Error read_failure(const std::string& where, int code) {
  return input_error(where, "cannot read: " + system_text(code));
}

Result<void> read_all(int descriptor, const std::string& where, Buffer<std::byte>& into) {
  for (std::size_t used = 0;;) {
    if (into.size() - used < kBlockBytes) into.resize(std::max(into.size() * 2, 2 * kBlockBytes));
    const ssize_t got = ::read(descriptor, into.data() + used, into.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return read_failure(where, errno);
    if (got == 0) {
      into.resize(used);
      into.shrink_to_fit();
      return {};
    }
    used += static_cast<std::size_t>(got);
  }
}

}  // namespace

ByteSource::ByteSource(std::string path)
    : path_(std::move(path)), where_(path_ == "-" ? "standard input" : path_) {}

ByteSource::~ByteSource() {
  if (mapped_) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<std::shared_ptr<const ByteSource>> ByteSource::open(const std::string& path) {
  std::shared_ptr<ByteSource> source(new ByteSource(path));
  const std::string& where = source->where_;
  int descriptor = STDIN_FILENO;
  if (path != "-") {
    descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
      if (errno == ENOENT) return input_error(where, "no such file");
      return input_error(where, "cannot open: " + system_text(errno));
    }
    source->descriptor_ = descriptor;
  }
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) return read_failure(where, errno);
  if (S_ISDIR(status.st_mode)) return input_error(where, "is a directory, not a dump");

  // Standard input is read, not mapped, even when it is a file: its offset belongs to the caller.
  if (S_ISREG(status.st_mode) && path != "-" && status.st_size > 0) {
    const auto size = static_cast<std::size_t>(status.st_size);
    void* mapping = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (mapping != MAP_FAILED) {
      source->bytes_ = {static_cast<const std::byte*>(mapping), size};
      source->mapped_ = true;
      return std::shared_ptr<const ByteSource>(std::move(source));
    }
  }
  Result<void> read = read_all(descriptor, where, source->memory_);
  if (!read) return read.error();
  source->bytes_ = source->memory_;
  if (source->bytes_.empty()) return input_error(where, "is empty");
  return std::shared_ptr<const ByteSource>(std::move(source));
}

std::shared_ptr<const ByteSource> ByteSource::from_memory(std::string path,
                                                          std::span<const std::byte> bytes) {
  std::shared_ptr<ByteSource> source(new ByteSource(std::move(path)));
  source->memory_.assign(bytes.begin(), bytes.end());
  source->bytes_ = source->memory_;
  return source;
}

void ByteSource::will_need(std::span<const std::byte> part) const {
  if (!mapped_ || part.empty()) return;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<std::size_t>(part.data() - bytes_.data());
  const std::size_t begin = offset / page * page;
  ::madvise(const_cast<std::byte*>(bytes_.data()) + begin, offset + part.size() - begin,
            MADV_WILLNEED);
}

void ByteSource::release(std::span<const std::byte> part) const {
  if (!mapped_ || part.empty() || part.data() < bytes_.data() ||
      part.data() + part.size() > bytes_.data() + bytes_.size()) {
    return;
  }
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<std::size_t>(part.data() - bytes_.data());
  const std::size_t begin = offset / page * page;
  // Pages of a file that nobody writes: they are read again where they are needed again.
  ::madvise(const_cast<std::byte*>(bytes_.data()) + begin, offset + part.size() - begin,
            MADV_DONTNEED);
}

Result<i64> ByteSource::read_at(i64 offset, std::span<std::byte> into) const {
  if (offset >= size()) return i64{0};
  if (mapped_) {
    for (;;) {
      const ssize_t got = ::pread(descriptor_, into.data(), into.size(), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return read_failure(where_, errno);
      return static_cast<i64>(got);
    }
  }
  const std::size_t count = std::min(into.size(), static_cast<std::size_t>(size() - offset));
  std::memcpy(into.data(), bytes_.data() + offset, count);
  return static_cast<i64>(count);
}

}  // namespace cupel
