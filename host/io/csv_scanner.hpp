// CSV (RFC 4180) as records of fields with the physical line on which each begins. A line without a
// quote needs no parser: its fields are the pieces between delimiters. A record with one goes
// through libcsv in strict mode, so that quoting has a single, well-tried meaning.
//
// Beyond the RFC: UTF-8 with or without a byte order mark, LF or CRLF, any one-byte delimiter, and
// blank lines at the end. Spaces belong to the field. NUL bytes and lone carriage returns are
// errors.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/byte_source.hpp"
#include "io/text_stream.hpp"

namespace cupel {

struct CsvRecord {
  i64 line = 0;                          ///< physical, from 1
  std::vector<std::string_view> fields;  ///< valid until the next record is asked for
};

class CsvScanner {
 public:
  CsvScanner(std::shared_ptr<const ByteSource> source, char delimiter);
  ~CsvScanner();
  CsvScanner(const CsvScanner&) = delete;
  CsvScanner& operator=(const CsvScanner&) = delete;

  /// Reads the next record: true with it, false at the end. Every record has as many fields as the
  /// first; in a file of one column, a blank line between others is an empty field.
  /// Errors: kInput with the line: ragged, unterminated quote, NUL byte, damaged gzip data.
  Result<bool> next(CsvRecord& record);

 private:
  struct Quoted;
  struct Line {
    std::string_view raw;   ///< with its line end
    std::string_view text;  ///< without
  };
  enum class Found { kRecord, kBlank, kEnd };

  Result<Found> scan(CsvRecord& record);
  Result<bool> next_line(Line& line);
  Result<bool> refill();
  Result<bool> feed_quoted(const Line& line, CsvRecord& record);
  Result<bool> finish_quoted(CsvRecord& record);
  void take_quoted_fields(CsvRecord& record);
  std::size_t find_next(char wanted, std::size_t& cached) const;
  Error error_at(i64 line, std::string what, std::string hint = {}) const;

  std::shared_ptr<const ByteSource> source_;
  TextStream stream_;
  char delimiter_;
  i64 columns_ = 0;  ///< 0 until the first record

  Buffer<char> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  bool at_end_ = false;
  i64 line_ = 0;  ///< lines taken so far
  // Where the next of each lies in the buffer, so that one search serves many lines.
  std::size_t next_quote_;
  std::size_t next_nul_;
  std::size_t next_return_;

  std::unique_ptr<Quoted> quoted_;
  CsvRecord held_;  ///< the record after the blank lines that are being handed out
  bool has_held_ = false;
  i64 blank_line_ = 0;
  i64 blanks_left_ = 0;
};

}  // namespace cupel
