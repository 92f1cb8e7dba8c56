#include "cli/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "cli/output.hpp"
#include "cupel/report/report.hpp"

namespace cupel {
namespace {

constexpr std::chrono::milliseconds kSilence{300};
constexpr std::chrono::milliseconds kInterval{100};

std::string rate_text(double per_second, std::string_view what) {
  if (per_second >= 1e9) return fmt::format("{:.1f} G {}/s", per_second / 1e9, what);
  if (per_second >= 1e6) return fmt::format("{:.1f} M {}/s", per_second / 1e6, what);
  if (per_second >= 1e3) return fmt::format("{:.1f} k {}/s", per_second / 1e3, what);
  return fmt::format("{:.0f} {}/s", per_second, what);
}

std::string left_text(double seconds) {
  constexpr double kLongest = 1e9;  // whatever a first look says of years
  const i64 left = std::llround(std::min(seconds, kLongest));
  if (left < 3600) return fmt::format("  {}:{:02} left", left / 60, left % 60);
  return fmt::format("  {}:{:02}:{:02} left", left / 3600, left / 60 % 60, left % 60);
}

}  // namespace

std::string progress_text(const EvalProgress& progress, double seconds, double pair_seconds) {
  std::string line = fmt::format("{}/{} dumps", progress.dumps_done, progress.dumps);
  const bool compares = progress.pairs > 0;
  const auto done = static_cast<double>(std::min(progress.pairs_done, progress.pairs));
  if (compares) {
    // Down, so that 100 % is all of them.
    const double share = 100 * (done / static_cast<double>(progress.pairs));
    line += fmt::format("  {} %", static_cast<int>(share));
    if (pair_seconds > 0 && done > 0) line += "  " + rate_text(done / pair_seconds, "pairs");
  } else if (seconds > 0 && progress.rows_done > 0) {
    line += "  " + rate_text(static_cast<double>(progress.rows_done) / seconds, "rows");
  }
  const i64 dumps_left = progress.dumps - progress.dumps_done;
  if (compares && dumps_left > 0) {
    if (pair_seconds > 0 && done > 0) {
      const double left = pair_seconds * ((static_cast<double>(progress.pairs) - done) / done);
      const double per_dump = (seconds + left) / static_cast<double>(progress.dumps_done + 1);
      line += left_text(left + per_dump * static_cast<double>(dumps_left - 1));
    }
  } else if (progress.dumps_done > 0 && dumps_left > 0) {
    const double per_dump = seconds / static_cast<double>(progress.dumps_done);
    line += left_text(per_dump * static_cast<double>(dumps_left));
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
  if (progress.pairs > 0 && progress.dumps_done != dump_) {
    dump_ = progress.dumps_done;
    pairs_start_ = now;
  }
  if (now - start_ < kSilence || (drawn_ && now - last_ < kInterval)) return;
  last_ = now;
  const auto since = [&](Clock::time_point start) {
    return std::chrono::duration<double>(now - start).count();
  };
  std::string line = progress_text(progress, since(start_), since(pairs_start_));
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
