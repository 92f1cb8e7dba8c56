// Writes an npz, as numpy.savez does, of arrays whose lengths are known only at the end: rows come
// in blocks, memory does not grow with them. Members are stored, not deflated, so that a reader can
// map them; sizes beyond 4 GiB are in zip64 records. The same arrays give the same bytes: times are
// those of numpy.savez, 1980-01-01.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cupel/core/column.hpp"
#include "cupel/core/result.hpp"
#include "cupel/io/file_sink.hpp"

namespace cupel {

class NpzWriter {
 public:
  /// The archive is all of `out`, which is empty and outlives this object.
  explicit NpzWriter(FileSink& out);
  ~NpzWriter();
  NpzWriter(const NpzWriter&) = delete;
  NpzWriter& operator=(const NpzWriter&) = delete;

  /// Declares an array [rows] (`width` < 0) or [rows, width] of numbers, and returns what append()
  /// calls it. The first one goes straight into the archive, the others into files without a name
  /// until finish(): declare the largest first. Errors: those of FileSink.
  Result<std::size_t> column(std::string name, DType dtype, i64 width = -1);
  /// Whole elements of a column in the machine's order, which is little-endian. Errors: as above.
  Result<void> append(std::size_t column, std::span<const std::byte> bytes);
  template <class T>
  Result<void> append(std::size_t column, std::span<const T> values) {
    return append(column, std::as_bytes(values));
  }

  /// A small array as a whole; an empty shape is a single value. Kept in memory until finish().
  void array(std::string name, DType dtype, std::vector<i64> shape,
             std::span<const std::byte> bytes);
  void number(std::string name, double value);
  void integer(std::string name, i64 value);
  /// A single text, of numpy's type `U`: code points, so that no pickle is needed.
  void text(std::string name, std::string_view utf8);

  /// Writes what is left, and the directory. Once, last. Errors: as above.
  Result<void> finish();

 private:
  struct Member;
  Result<void> write_directory();

  FileSink& out_;
  std::vector<std::unique_ptr<Member>> members_;
};

}  // namespace cupel
