#include "cli/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>

#include "cli/output.hpp"
#include "cupel/report/report.hpp"

namespace cupel {
namespace {

constexpr std::chrono::milliseconds kSilence{300};
constexpr std::chrono::milliseconds kInterval{100};

std::string rate_text(double rows_per_second) {
  if (rows_per_second >= 1e9) return fmt::format("{:.1f} G rows/s", rows_per_second / 1e9);
  if (rows_per_second >= 1e6) return fmt::format("{:.1f} M rows/s", rows_per_second / 1e6);
  if (rows_per_second >= 1e3) return fmt::format("{:.1f} k rows/s", rows_per_second / 1e3);
  return fmt::format("{:.0f} rows/s", rows_per_second);
}

}  // namespace

std::string progress_text(const EvalProgress& progress, double seconds) {
  std::string line = fmt::format("{}/{} dumps", progress.dumps_done, progress.dumps);
  if (seconds > 0 && progress.rows_done > 0) {
    line += "  " + rate_text(static_cast<double>(progress.rows_done) / seconds);
  }
  if (progress.dumps_done > 0 && progress.dumps_done < progress.dumps) {
    const i64 dumps_left = progress.dumps - progress.dumps_done;
    const double per_dump = seconds / static_cast<double>(progress.dumps_done);
    const i64 left = std::llround(per_dump * static_cast<double>(dumps_left));
    line += fmt::format("  {}:{:02} left", left / 60, left % 60);
  }
  if (!progress.current.empty()) line += "  " + printable(progress.current);
  return line;
}

Progress::~Progress() {
  if (!drawn_) return;
  clear_line();
  set_progress_line(false);
}

void Progress::update(const EvalProgress& progress) {
  if (!enabled_) return;
  const Clock::time_point now = Clock::now();
  if (now - start_ < kSilence || (drawn_ && now - last_ < kInterval)) return;
  last_ = now;
  std::string line = progress_text(progress, std::chrono::duration<double>(now - start_).count());
  // A line that wraps could not be cleared. Cut bytes, not columns: never too long.
  const int width = terminal_width(STDERR_FILENO);
  const std::size_t room = width > 1 ? static_cast<std::size_t>(width - 1) : 79;
  if (line.size() > room) {
    line.resize(room);
    while (!line.empty() && (line.back() & '\x80') != 0) line.pop_back();
  }
  set_progress_line(true);
  drawn_ = true;
  clear_line();
  const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  (void)written;
}

}  // namespace cupel
