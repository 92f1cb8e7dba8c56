// Where words go: results to standard output or whole into a file, everything else to standard
// error. A file is either the complete result or what it was before.
#pragma once

#include <string>
#include <string_view>

#include "cupel/core/result.hpp"

namespace cupel {

/// "cupel: <text>" on standard error, as one line fit for a terminal.
void say(std::string_view text);
/// The same for an error; returns its exit code.
int fail(const Error& error);

/// Whether `path` can become a result file, asked before the work. Errors: kUsage where its folder
/// does not exist or it is a folder; kInternal where it may not be written. Creates nothing.
Result<void> check_output_path(const std::string& path);

/// Writes all of `text`; an empty path or "-" is standard output. A regular file is written beside
/// its place and renamed into it; a device or pipe is written as it is. Errors: kInternal with the
/// system's reason; then nothing is left behind. A reader that has gone away is SIGPIPE's business.
Result<void> write_output(const std::string& path, std::string_view text);

/// Ends the process with 130 on SIGINT and 143 on SIGTERM, after removing a half-written file and
/// clearing a progress line, and with 3 on SIGBUS: a mapped file has lost its bytes. SIGINT and
/// SIGTERM stay ignored when they are so on entry. Writing beyond a limit on file size becomes an
/// error.
void install_signal_handlers();

/// Whether standard output (1) or standard error (2) is a terminal that understands escapes.
bool is_terminal(int descriptor);
/// Its columns; 0 when unknown.
int terminal_width(int descriptor);
/// Whether a progress line stands on the terminal: an interruption clears it.
void set_progress_line(bool shown);
/// Removes the line that the cursor is in. Async-signal-safe.
void clear_line();

}  // namespace cupel
