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
#include <optional>

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

/// The file that `path` names, through symbolic links: a rename must not replace the link.
std::string destination_of(const std::string& path) {
  char resolved[PATH_MAX];
  return ::realpath(path.c_str(), resolved) == nullptr ? path : std::string(resolved);
}

/// A temporary file in being; removed unless it was renamed.
class TemporaryFile {
 public:
  TemporaryFile() = default;
  ~TemporaryFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (has_temporary != 0) ::unlink(temporary_name);
    has_temporary = 0;
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  /// 0, or the errno of the step that failed.
  int write_and_rename(const std::string& destination, std::optional<mode_t> mode,
                       std::string_view text) {
    if (const int reason = create(folder_of(destination)); reason != 0) return reason;
    if (mode && ::fchmod(descriptor_, *mode) != 0) return errno;
    if (const int reason = write_all(descriptor_, text); reason != 0) return reason;
    if (::fsync(descriptor_) != 0) return errno;
    const int closed = ::close(descriptor_);
    descriptor_ = -1;
    if (closed != 0) return errno;
    if (::rename(temporary_name, destination.c_str()) != 0) return errno;
    has_temporary = 0;
    return 0;
  }

 private:
  int create(const std::string& folder) {
    constexpr int kAttempts = 100;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      const std::string name = fmt::format("{}/.cupel-{}-{}.tmp", folder, ::getpid(), attempt);
      if (name.size() >= sizeof temporary_name) return ENAMETOOLONG;
      std::memcpy(temporary_name, name.c_str(), name.size() + 1);
      // The flag goes first: between open() and the flag a signal would leave the file behind.
      has_temporary = 1;
      descriptor_ = ::open(temporary_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (descriptor_ >= 0) return 0;
      has_temporary = 0;
      if (errno != EEXIST) return errno;
    }
    return EEXIST;
  }

  int descriptor_ = -1;
};

Result<void> write_standard_output(std::string_view text) {
  int reason = write_all(STDOUT_FILENO, text);
  // Some file systems report a full disk only here.
  if (reason == 0 && ::close(STDOUT_FILENO) != 0) reason = errno;
  if (reason != 0) return write_error("standard output", reason);
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

Result<void> check_output_path(const std::string& path) {
  const auto usage = [&](std::string what, std::string hint) -> Error {
    return {ErrorCode::kUsage, path, std::move(what), std::move(hint)};
  };
  if (path == kStandardOutput) return {};
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) return usage("is a folder", "name a file for -o");
    if (::access(path.c_str(), W_OK) != 0) return write_error(path, errno);
    if (!S_ISREG(status.st_mode)) return {};
  }
  const std::string folder = folder_of(destination_of(path));
  if (::stat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    return usage(fmt::format("there is no folder '{}'", folder), "create it first");
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) return write_error(path, errno);
  return {};
}

Result<void> write_output(const std::string& path, std::string_view text) {
  if (path.empty() || path == kStandardOutput) return write_standard_output(text);
  struct stat status {};
  const bool exists = ::stat(path.c_str(), &status) == 0;
  if (exists && !S_ISREG(status.st_mode)) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) return write_error(path, errno);
    int reason = write_all(descriptor, text);
    if (::close(descriptor) != 0 && reason == 0) reason = errno;
    if (reason != 0) return write_error(path, reason);
    return {};
  }
  TemporaryFile file;
  const std::optional<mode_t> mode = exists ? std::optional(status.st_mode & 07777) : std::nullopt;
  if (const int reason = file.write_and_rename(destination_of(path), mode, text); reason != 0) {
    return write_error(path, reason);
  }
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
