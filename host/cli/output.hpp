// Where words go: results to standard output or whole into a file, everything else to standard
// error. A file is either the complete result or what it was before.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cupel/core/result.hpp"
#include "cupel/io/file_sink.hpp"

namespace cupel {

/// "cupel: <text>" on standard error, as one line fit for a terminal.
void say(std::string_view text);
/// The same for an error; returns its exit code.
int fail(const Error& error);

/// Whether `path` can become a result file, asked before the work. Errors: kUsage where its folder
/// does not exist or it is a folder; kInternal where it may not be written. Creates nothing.
Result<void> check_output_path(const std::string& path, std::string_view option = "-o");
/// Whether two paths are one file, or would be once they are written.
bool same_file(const std::string& a, const std::string& b);
/// Errors (kUsage): an output in the place of one of these files, some of which may be no files.
Result<void> check_no_input(const std::string& output, const std::vector<std::string>& inputs,
                            std::string_view option = "-o");

/// Writes all of `text`; an empty path or "-" is standard output. A regular file is written beside
/// its place and renamed into it; a device or pipe is written as it is. Errors: kInternal with the
/// system's reason; then nothing is left behind. A reader that has gone away is SIGPIPE's business.
Result<void> write_output(const std::string& path, std::string_view text);

/// A result that is written bit by bit, and that nobody sees before it is whole: a regular file is
/// written beside its place and renamed into it; for "-", a device or a pipe the bytes wait in a
/// file without a name and are then copied there. At most one is open at a time. Unless committed,
/// nothing is left behind, also where a signal ends the process.
class OutputFile {
 public:
  /// Errors: kInternal with the system's reason.
  static Result<std::unique_ptr<OutputFile>> open(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  FileSink& sink() { return *sink_; }
  /// Makes the file appear, synchronised. Once, last. Errors: kInternal.
  Result<void> commit();

 private:
  OutputFile() = default;

  std::string path_;
  std::string destination_;
  int descriptor_ = -1;  ///< of the file beside its place; -1: nameless
  std::unique_ptr<FileSink> sink_;
};

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
