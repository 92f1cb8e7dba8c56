#include "eval/float_store.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

namespace cupel {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kLargePage = std::size_t{1} << 21;

Result<std::shared_ptr<float>> in_memory(std::size_t bytes) {
  const std::size_t boundary = bytes >= 2 * kLargePage ? kLargePage : kLine;
  bytes = (bytes + boundary - 1) / boundary * boundary;
  void* at = std::aligned_alloc(boundary, bytes);
  if (at == nullptr) {
    return Error{ErrorCode::kInternal,
                 {},
                 fmt::format("out of memory: {} bytes for the rows of an embedding", bytes),
                 "give a limit with --mem, so that they lie in a file, or evaluate fewer rows"};
  }
#ifdef MADV_HUGEPAGE
  // Fewer page faults and translations; where the system has none, nothing is lost.
  if (boundary == kLargePage) (void)::madvise(at, bytes, MADV_HUGEPAGE);
#endif
  return std::shared_ptr<float>(static_cast<float*>(at), [](float* memory) { std::free(memory); });
}

Result<std::shared_ptr<float>> in_a_file(std::size_t bytes) {
  const char* folder = std::getenv("TMPDIR");
  const std::string base = folder != nullptr && *folder != '\0' ? folder : "/tmp";
  const auto failed = [&](const std::string& what, int code) -> Result<std::shared_ptr<float>> {
    return Error{ErrorCode::kInternal, base,
                 fmt::format("{} for the rows of an embedding, {} bytes: {}", what, bytes,
                             std::strerror(code)),
                 "name a folder with room in TMPDIR, or give more memory with --mem"};
  };
  std::string name = base + "/cupel-XXXXXX";
  const int file = ::mkostemp(name.data(), O_CLOEXEC);
  if (file < 0) return failed("cannot make a temporary file", errno);
  (void)::unlink(name.c_str());
  // Room is taken now: a disk that fills later would end the program at a write to memory.
  const int full = ::posix_fallocate(file, 0, static_cast<off_t>(bytes));
  if (full != 0) {
    ::close(file);
    return failed("no room in a temporary file", full);
  }
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  const int code = errno;
  ::close(file);
  if (at == MAP_FAILED) return failed("cannot map a temporary file", code);
  return std::shared_ptr<float>(static_cast<float*>(at),
                                [bytes](float* memory) { (void)::munmap(memory, bytes); });
}

}  // namespace

Result<std::shared_ptr<float>> make_floats(i64 count, bool in_file) {
  const std::size_t bytes = (static_cast<std::size_t>(count) + 1) * sizeof(float);
  return in_file ? in_a_file(bytes) : in_memory(bytes);
}

}  // namespace cupel
