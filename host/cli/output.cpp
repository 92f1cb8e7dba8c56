// Files are written as .cupel-<pid>-<k>.tmp in the folder of their destination, synchronised, and
// renamed. The name of the temporary file is kept where a signal handler can read it.
#include "cli/output.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <span>
#include <utility>

#include "cupel/report/report.hpp"

namespace cupel {
namespace {

constexpr std::string_view kClear = "\r\x1b[K";
constexpr std::string_view kStandardOutput = "-";
constexpr int kUnreadable = static_cast<int>(ErrorCode::kInput);

// Read by the signal handler: the name is complete before the flag is set.
char temporary_name[PATH_MAX];
volatile std::sig_atomic_t has_temporary = 0;
volatile std::sig_atomic_t has_progress_line = 0;

extern "C" void end_process(int signal) {
  if (has_temporary != 0) ::unlink(temporary_name);
  if (has_progress_line != 0) clear_line();
  ::_exit(128 + signal);
}

/// A mapped file that became shorter, or whose disk fails, is a signal where its bytes are used.
extern "C" void end_unreadable(int) {
  constexpr std::string_view kMessage =
      "cupel: cannot read: a file became shorter, or its disk failed, while it was being read\n";
  // Every thread that reads the file comes here: one speaks, and the others wait for its end.
  static std::atomic_flag spoken = ATOMIC_FLAG_INIT;
  while (spoken.test_and_set()) ::pause();
  if (has_temporary != 0) ::unlink(temporary_name);
  if (has_progress_line != 0) clear_line();
  const ssize_t written = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
  (void)written;
  ::_exit(kUnreadable);
}

Error write_error(const std::string& place, int reason) {
  return {ErrorCode::kInternal, place, fmt::format("cannot write: {}", std::strerror(reason)), {}};
}

/// 0, or the errno of the write that failed.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// The file that `path` names, through symbolic links, also where it is not there yet: a rename
/// must not replace the link.
std::string destination_of(const std::string& path) {
  constexpr int kMostLinks = 40;  // as the system has it
  char target[PATH_MAX];
  std::string place = path;
  for (int followed = 0; followed < kMostLinks; ++followed) {
    if (::realpath(place.c_str(), target) != nullptr) return target;
    const ssize_t size = ::readlink(place.c_str(), target, sizeof target);
    if (size <= 0) return place;
    const std::string next(target, static_cast<std::size_t>(size));
    place = next.starts_with('/') ? next : fmt::format("{}/{}", folder_of(place), next);
  }
  return path;
}

/// Creates the temporary file in a folder; a descriptor, or minus the errno.
int create_temporary(const std::string& folder) {
  constexpr int kAttempts = 100;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::string name = fmt::format("{}/.cupel-{}-{}.tmp", folder, ::getpid(), attempt);
    if (name.size() >= sizeof temporary_name) return -ENAMETOOLONG;
    std::memcpy(temporary_name, name.c_str(), name.size() + 1);
    // The flag goes first: between open() and the flag a signal would leave the file behind.
    has_temporary = 1;
    const int descriptor = ::open(temporary_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) return descriptor;
    has_temporary = 0;
    if (errno != EEXIST) return -errno;
  }
  return -EEXIST;
}

Result<void> write_standard_output(std::string_view text) {
  int reason = write_all(STDOUT_FILENO, text);
  // Some file systems report a full disk only here.
  if (reason == 0 && ::close(STDOUT_FILENO) != 0) reason = errno;
  if (reason != 0) return write_error("standard output", reason);
  return {};
}

/// Copies a file without a name to standard output, a device or a pipe.
Result<void> copy_out(const FileSink& from, const std::string& path) {
  const bool standard = path == kStandardOutput;
  const int to = standard ? STDOUT_FILENO : ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (to < 0) return write_error(path, errno);
  constexpr std::size_t kBlock = std::size_t{256} << 10;
  std::string block(kBlock, '\0');
  int reason = 0;
  for (i64 offset = 0; reason == 0 && offset < from.size();) {
    const ssize_t got = ::pread(from.descriptor(), block.data(), kBlock, offset);
    if (got < 0 && errno == EINTR) continue;
    reason = got < 0    ? errno
             : got == 0 ? EIO
                        : write_all(to, {block.data(), static_cast<std::size_t>(got)});
    offset += got;
  }
  // Some file systems report a full disk only here.
  if (::close(to) != 0 && reason == 0) reason = errno;
  if (reason != 0) return write_error(standard ? "standard output" : path, reason);
  return {};
}

}  // namespace

void say(std::string_view text) {
  (void)write_all(STDERR_FILENO, "cupel: " + printable(text) + "\n");
}

int fail(const Error& error) {
  say(error.text());
  return static_cast<int>(error.code);
}

Result<void> check_output_path(const std::string& path, std::string_view option) {
  const auto usage = [&](std::string what, std::string hint) -> Error {
    return {ErrorCode::kUsage, path, std::move(what), std::move(hint)};
  };
  if (path == kStandardOutput) return {};
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode))
      return usage("is a folder", fmt::format("name a file for {}", option));
    if (::access(path.c_str(), W_OK) != 0) return write_error(path, errno);
    if (!S_ISREG(status.st_mode)) return {};
  } else if (errno == ELOOP) {
    return write_error(path, errno);
  }
  const std::string folder = folder_of(destination_of(path));
  if (::stat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    return usage(fmt::format("there is no folder '{}'", folder), "create it first");
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) return write_error(path, errno);
  return {};
}

bool same_file(const std::string& a, const std::string& b) {
  struct stat of_a {};
  struct stat of_b {};
  if (::stat(a.c_str(), &of_a) == 0 && ::stat(b.c_str(), &of_b) == 0) {
    return of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
  }
  // One of them is not there: as it would be called, beginning at the root.
  std::error_code failed;
  const auto place_of = [&](const std::string& path) {
    const std::filesystem::path whole = std::filesystem::absolute(destination_of(path), failed);
    return failed ? whole : std::filesystem::weakly_canonical(whole, failed);
  };
  const auto path_a = place_of(a);
  if (failed) return false;
  const auto path_b = place_of(b);
  return !failed && path_a == path_b;
}

Result<void> check_no_input(const std::string& output, const std::vector<std::string>& inputs,
                            std::string_view option) {
  if (output == kStandardOutput) return {};
  for (const std::string& input : inputs) {
    struct stat status {};
    const bool is_file = ::stat(input.c_str(), &status) == 0 && S_ISREG(status.st_mode);
    if (is_file && same_file(output, input)) {
      return Error{ErrorCode::kUsage, output, "is an input, which would be replaced",
                   fmt::format("name another file with {}", option)};
    }
  }
  return {};
}

Result<void> write_output(const std::string& path, std::string_view text) {
  if (path.empty() || path == kStandardOutput) return write_standard_output(text);
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) return write_error(path, errno);
    int reason = write_all(descriptor, text);
    if (::close(descriptor) != 0 && reason == 0) reason = errno;
    if (reason != 0) return write_error(path, reason);
    return {};
  }
  auto file = OutputFile::open(path);
  if (!file) return file.error();
  if (auto done = (*file)->sink().append(std::as_bytes(std::span(text))); !done) return done;
  return (*file)->commit();
}

Result<std::unique_ptr<OutputFile>> OutputFile::open(const std::string& path) {
  std::unique_ptr<OutputFile> file(new OutputFile());
  file->path_ = path;
  struct stat status {};
  const bool exists = path != kStandardOutput && ::stat(path.c_str(), &status) == 0;
  if (path == kStandardOutput || (exists && !S_ISREG(status.st_mode))) {
    const char* folder = std::getenv("TMPDIR");
    auto sink = FileSink::nameless_in(folder == nullptr || *folder == '\0' ? "/tmp" : folder,
                                      path == kStandardOutput ? "standard output" : path);
    if (!sink) return sink.error();
    file->sink_ = std::move(*sink);
    return file;
  }
  file->destination_ = destination_of(path);
  const std::string folder = folder_of(file->destination_);
  const int descriptor = create_temporary(folder);
  if (descriptor < 0) return write_error(path, -descriptor);
  file->descriptor_ = descriptor;
  file->sink_ = std::make_unique<FileSink>(descriptor, path, folder);
  if (exists && ::fchmod(descriptor, status.st_mode & 07777) != 0) return write_error(path, errno);
  return file;
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!destination_.empty() && has_temporary != 0) {
    ::unlink(temporary_name);
    has_temporary = 0;
  }
}

Result<void> OutputFile::commit() {
  if (auto flushed = sink_->flush(); !flushed) return flushed;
  if (descriptor_ < 0) return copy_out(*sink_, path_);
  if (::fsync(descriptor_) != 0) return write_error(path_, errno);
  const int closed = ::close(descriptor_);
  descriptor_ = -1;
  if (closed != 0) return write_error(path_, errno);
  if (::rename(temporary_name, destination_.c_str()) != 0) return write_error(path_, errno);
  has_temporary = 0;
  return {};
}

void install_signal_handlers() {
  for (const int signal : {SIGINT, SIGTERM}) {
    struct sigaction current {};
    if (::sigaction(signal, nullptr, &current) == 0 && current.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_handler = end_process;
    ::sigemptyset(&action.sa_mask);
    (void)::sigaction(signal, &action, nullptr);
  }
  struct sigaction unreadable {};
  unreadable.sa_handler = end_unreadable;
  ::sigemptyset(&unreadable.sa_mask);
  (void)::sigaction(SIGBUS, &unreadable, nullptr);
  // A limit on file size is a full disk like any other: an error of write().
  (void)std::signal(SIGXFSZ, SIG_IGN);
}

bool is_terminal(int descriptor) {
  const char* kind = std::getenv("TERM");
  return ::isatty(descriptor) == 1 && kind != nullptr && std::strcmp(kind, "dumb") != 0;
}

int terminal_width(int descriptor) {
  struct winsize size {};
  return ::ioctl(descriptor, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

void set_progress_line(bool shown) { has_progress_line = shown ? 1 : 0; }

void clear_line() {
  const ssize_t written = ::write(STDERR_FILENO, kClear.data(), kClear.size());
  (void)written;
}

}  // namespace cupel
