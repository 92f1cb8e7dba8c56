// Prediction dumps: a file with named arrays of equal row count. A Dump tells what is there without
// reading it, loads only the arrays that are asked for, and afterwards verifies what it loaded.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cupel/core/column.hpp"
#include "cupel/core/result.hpp"

namespace cupel {

/// The bytes of a 128-bit XXH3 hash, high half first, as 32 hexadecimal digits.
using HashText = std::string;

class Dump {
 public:
  virtual ~Dump() = default;

  /// As given on the command line; "-" for standard input.
  virtual const std::string& path() const = 0;
  /// "npy", "npz", "csv" or "tsv".
  virtual std::string_view format() const = 0;
  /// Size of the file (as stored; bytes consumed so far for a stream).
  virtual i64 file_bytes() const = 0;
  /// The arrays in file order. An array that exists but cannot be read (an object array) is listed
  /// with what is known; loading it is the error, and readable() gives that error without loading.
  virtual std::span<const ArrayInfo> arrays() const = 0;

  /// Whether load() understands the type of this array; otherwise the error that load() would give
  /// (an object array, a structured or complex type). Reads nothing.
  virtual Result<void> readable(i64 /*array*/) const { return {}; }

  /// How a person finds this row: "m.npz: 'logits' row 41" (rows from 0), or for text
  /// "scores.csv:17", the physical line (from 1) on which the row begins. For an Error's `where`.
  virtual std::string place(i64 array, i64 row) const {
    return path() + ": '" + arrays()[static_cast<std::size_t>(array)].name + "' row " +
           std::to_string(row);
  }

  /// The error of using a string column where numbers are needed. For text it names the first line
  /// and field that is not a number: "scores.csv:17: column 'score': 'abc' is not a number".
  virtual Error not_numeric(i64 array) const {
    return input_error(path(), "column '" + arrays()[static_cast<std::size_t>(array)].name +
                                   "' holds text, not numbers");
  }

  /// The arrays at `wanted` (indices into arrays()), in that order. Uncompressed arrays are views
  /// of the mapped file and may be unverified until verify(). Errors: kInput with path and array
  /// name. Cost: nothing is copied where the file's bytes can be used as they are.
  virtual Result<std::vector<Array>> load(std::span<const i64> wanted) = 0;

  /// Checks the checksums of all arrays loaded so far and returns the XXH3 of the bytes of these
  /// columns in file order. May run on another thread than the one that computes on the arrays,
  /// but not at the same time as load(). Call once after the last load().
  virtual Result<HashText> verify() = 0;

  /// The caller needs these bytes of a loaded array no more, or not soon: pages of a mapped file
  /// leave the process and come back when they are read again. Other memory stays as it is. Safe
  /// beside readers.
  virtual void release(std::span<const std::byte> /*bytes*/) const {}
};

struct OpenOptions {
  /// Columns whose two-byte elements are bfloat16 although the file does not mark them, by name;
  /// the array of a bare npy file is called "arr_0" and by the file's stem. A name that the dump
  /// does not have is left to the caller, who knows all dumps; another element size is an error.
  std::vector<std::string> bfloat16_columns;
  /// verify() releases what it has read, for callers who read in blocks and release these: then no
  /// more of a mapped file is in memory than they work on.
  bool in_blocks = false;
};

/// Opens a dump; the format follows from the content (magic bytes), not from the name, except that
/// text is CSV, or TSV when the name ends in .tsv or .tsv.gz (then, for standard input, by the
/// first line). "-" reads CSV or TSV from standard input. Errors: kInput with the path: missing,
/// unreadable, a directory, empty, unknown format, malformed.
Result<std::unique_ptr<Dump>> open_dump(const std::string& path, const OpenOptions& options);

/// The bytes of a file, however they are reached; internal to the readers
/// (host/io/byte_source.hpp).
class ByteSource;

/// One file format: how to recognise it and how to open it.
struct DumpFormat {
  std::string_view name;
  std::vector<std::string_view> extensions;  ///< what a directory is searched for
  /// Whether these first bytes (up to 512) begin such a file.
  bool (*recognises)(std::span<const std::byte> head, std::string_view path);
  Result<std::unique_ptr<Dump>> (*open)(std::shared_ptr<const ByteSource> source,
                                        const OpenOptions& options);
};

/// All formats, in the order in which they are tried. The only list to extend for a new format.
std::span<const DumpFormat> dump_formats();

/// Expands the DUMP arguments of the command line, in order, duplicates kept: a file; a directory
/// (all files below it with a known extension, sorted by name); a glob (`*`, `?`, `[...]`, `**`)
/// unless a file of that very name exists; `@list.txt` (one of these per line, relative to the
/// working directory, lines that begin with `#` are comments); `-`. Globs match files, hidden ones
/// only where the pattern spells the dot; paths are sorted bytewise; symbolic links to folders are
/// followed where an argument names them, not while searching, so that loops cannot occur.
/// Errors: kInput naming the argument that matches nothing or does not exist; a directory without
/// dumps.
Result<std::vector<std::string>> expand_dump_arguments(std::span<const std::string> arguments);

}  // namespace cupel
