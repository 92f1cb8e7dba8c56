// Lines from blocks, and fields from lines.
#include "io/csv_scanner.hpp"

#include <csv.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace cupel {
namespace {

constexpr std::size_t kBlockBytes = 1 << 20;
constexpr std::size_t kSmallestBlock = 4096;
// A record longer than this is a missing quote or not a table; without a limit it would be read
// into memory whole.
constexpr std::size_t kMaxRecordBytes = 64 << 20;
constexpr std::size_t kUnknown = ~std::size_t{0};

}  // namespace

/// libcsv and the record that it is putting together.
struct CsvScanner::Quoted {
  csv_parser parser = {};
  bool inside = false;  ///< a record has begun and not ended
  i64 first_line = 0;
  std::size_t bytes = 0;
  std::string text;
  std::vector<std::size_t> ends;  ///< of the fields in `text`
  bool ended = false;
  bool continued = false;  ///< something followed the record's end on its line

  Quoted() = default;
  ~Quoted() { csv_free(&parser); }
  Quoted(const Quoted&) = delete;
  Quoted& operator=(const Quoted&) = delete;

  static void on_field(void* field, std::size_t size, void* self) {
    auto& quoted = *static_cast<Quoted*>(self);
    quoted.continued = quoted.continued || quoted.ended;
    if (size > 0) quoted.text.append(static_cast<const char*>(field), size);
    quoted.ends.push_back(quoted.text.size());
  }
  static void on_record(int, void* self) { static_cast<Quoted*>(self)->ended = true; }
  static int is_space(unsigned char) { return 0; }  // spaces belong to the field
};

CsvScanner::CsvScanner(std::shared_ptr<const ByteSource> source, char delimiter)
    : source_(std::move(source)),
      stream_(source_),
      delimiter_(delimiter),
      next_quote_(kUnknown),
      next_nul_(kUnknown),
      next_return_(kUnknown) {}

CsvScanner::~CsvScanner() = default;

Error CsvScanner::error_at(i64 line, std::string what, std::string hint) const {
  return input_error(fmt::format("{}:{}", source_->where(), line), std::move(what),
                     std::move(hint));
}

Result<bool> CsvScanner::next(CsvRecord& record) {
  if (blanks_left_ > 0) {
    --blanks_left_;
    record.line = blank_line_++;
    record.fields.assign(1, std::string_view());
    return true;
  }
  if (has_held_) {
    has_held_ = false;
    std::swap(record, held_);
    return true;
  }
  const bool first = line_ == 0;
  Result<Found> found = scan(record);
  if (found && *found == Found::kBlank) {
    // Blank lines before the end are nothing; before another record they are rows or mistakes.
    blank_line_ = record.line;
    i64 blanks = 0;
    while (found && *found == Found::kBlank) {
      ++blanks;
      found = scan(held_);
    }
    if (found && *found == Found::kRecord) {
      if (first) return error_at(blank_line_, "blank line where the column names should be");
      if (columns_ != 1)
        return error_at(blank_line_, fmt::format("blank line, the header has {} "
                                                 "columns",
                                                 columns_));
      if (held_.fields.size() == 1) {
        has_held_ = true;
        blanks_left_ = blanks;
        return next(record);
      }
      std::swap(record, held_);
    }
  }
  if (!found) return found.error();
  if (*found != Found::kRecord) return false;
  const i64 fields = static_cast<i64>(record.fields.size());
  if (first) columns_ = fields;
  if (fields != columns_) {
    return error_at(record.line, fmt::format("{} field{}, the header has {}", fields,
                                             fields == 1 ? "" : "s", columns_));
  }
  return true;
}

Result<CsvScanner::Found> CsvScanner::scan(CsvRecord& record) {
  record.fields.clear();
  for (;;) {
    Line line;
    const Result<bool> have = next_line(line);
    if (!have) return have.error();
    const bool inside = quoted_ != nullptr && quoted_->inside;
    if (!have.value()) {
      if (!inside) return Found::kEnd;
      const Result<bool> done = finish_quoted(record);
      if (!done) return done.error();
      return Found::kRecord;
    }
    ++line_;
    const std::size_t line_end = begin_;
    begin_ -= line.raw.size();
    const bool has_quote = find_next('"', next_quote_) < line_end;
    const bool has_nul = find_next('\0', next_nul_) < line_end;
    const bool has_return = find_next('\r', next_return_) < begin_ + line.text.size();
    begin_ = line_end;
    if (line_ == 1) {
      if (line.raw.starts_with("\xff\xfe") || line.raw.starts_with("\xfe\xff")) {
        return error_at(1, "UTF-16 text", "save it as UTF-8");
      }
      if (line.raw.starts_with("\xef\xbb\xbf")) {
        line.raw.remove_prefix(3);
        line.text.remove_prefix(3);
      }
    }
    if (has_nul) {
      return error_at(line_, "NUL byte in the text", "is this a text file in UTF-8?");
    }
    if (inside || has_quote) {
      const Result<bool> done = feed_quoted(line, record);
      if (!done) return done.error();
      if (done.value()) return Found::kRecord;
      continue;
    }
    if (has_return) {
      return error_at(line_, "carriage return inside the line", "end lines with LF or CRLF");
    }
    record.line = line_;
    if (line.text.empty()) return Found::kBlank;
    const char* at = line.text.data();
    const char* const end = at + line.text.size();
    for (;;) {
      const auto* stop =
          static_cast<const char*>(std::memchr(at, delimiter_, static_cast<std::size_t>(end - at)));
      if (stop == nullptr) break;
      record.fields.emplace_back(at, static_cast<std::size_t>(stop - at));
      at = stop + 1;
    }
    record.fields.emplace_back(at, static_cast<std::size_t>(end - at));
    return Found::kRecord;
  }
}

std::size_t CsvScanner::find_next(char wanted, std::size_t& cached) const {
  if (cached != kUnknown && cached >= begin_) return cached;
  return cached = [&] {
    const void* at = std::memchr(buffer_.data() + begin_, wanted, end_ - begin_);
    return at == nullptr ? end_
                         : static_cast<std::size_t>(static_cast<const char*>(at) - buffer_.data());
  }();
}

/// Takes the next line out of the buffer; begin_ is behind it afterwards.
Result<bool> CsvScanner::next_line(Line& line) {
  std::size_t searched = 0;
  for (;;) {
    const char* at = buffer_.data() + begin_;
    const std::size_t size = end_ - begin_;
    const void* newline =
        size > searched ? std::memchr(at + searched, '\n', size - searched) : nullptr;
    if (newline == nullptr && !at_end_) {
      searched = size;
      if (size >= kMaxRecordBytes) {
        return error_at(line_ + 1, fmt::format("line longer than {} MiB", kMaxRecordBytes >> 20));
      }
      const Result<bool> filled = refill();
      if (!filled) return filled.error();
      continue;
    }
    if (newline == nullptr && size == 0) return false;
    const std::size_t text_size =
        newline == nullptr ? size
                           : static_cast<std::size_t>(static_cast<const char*>(newline) - at);
    line.raw = {at, newline == nullptr ? text_size : text_size + 1};
    line.text = {at, text_size};
    if (line.text.ends_with('\r')) line.text.remove_suffix(1);
    begin_ += line.raw.size();
    return true;
  }
}

/// Moves what is left to the front of the buffer and reads behind it.
Result<bool> CsvScanner::refill() {
  const std::size_t left = end_ - begin_;
  if (left > 0) std::memmove(buffer_.data(), buffer_.data() + begin_, left);
  // Not more than a small file needs: it is read whole at once.
  const std::size_t block =
      std::clamp(static_cast<std::size_t>(source_->size()) + 1, kSmallestBlock, kBlockBytes);
  if (buffer_.size() < left + std::max(left, block)) buffer_.resize(left + std::max(left, block));
  begin_ = 0;
  end_ = left;
  next_quote_ = next_nul_ = next_return_ = kUnknown;
  const Result<i64> got = stream_.read(std::span(buffer_).subspan(left, std::max(left, block)));
  if (!got) return got.error();
  at_end_ = *got == 0;
  end_ += static_cast<std::size_t>(*got);
  return true;
}

/// True when the line completes a record.
Result<bool> CsvScanner::feed_quoted(const Line& line, CsvRecord& record) {
  if (quoted_ == nullptr) {
    quoted_ = std::make_unique<Quoted>();
    csv_init(&quoted_->parser, CSV_STRICT | CSV_STRICT_FINI);
    csv_set_delim(&quoted_->parser, static_cast<unsigned char>(delimiter_));
    csv_set_space_func(&quoted_->parser, &Quoted::is_space);
    csv_set_blk_size(&quoted_->parser, 4096);
  }
  Quoted& quoted = *quoted_;
  if (!quoted.inside) {
    quoted.inside = true;
    quoted.first_line = line_;
    quoted.bytes = 0;
    quoted.text.clear();
    quoted.ends.clear();
    quoted.ended = quoted.continued = false;
  }
  quoted.bytes += line.raw.size();
  if (quoted.bytes > kMaxRecordBytes) {
    return error_at(
        quoted.first_line,
        fmt::format("quoted field that does not end within {} MiB", kMaxRecordBytes >> 20),
        "is its closing quote missing?");
  }
  const std::size_t taken = csv_parse(&quoted.parser, line.raw.data(), line.raw.size(),
                                      &Quoted::on_field, &Quoted::on_record, &quoted);
  if (taken != line.raw.size()) {
    if (csv_error(&quoted.parser) == CSV_EPARSE) {
      return error_at(line_, "misplaced quote",
                      "a field with quotes is quoted as a whole, quotes inside it are doubled");
    }
    return Error{
        ErrorCode::kInternal, source_->where(), csv_strerror(csv_error(&quoted.parser)), {}};
  }
  if (quoted.continued) {
    return error_at(line_, "carriage return inside the line", "end lines with LF or CRLF");
  }
  if (!quoted.ended) return false;
  take_quoted_fields(record);
  return true;
}

/// The file ended without a line end inside a record.
Result<bool> CsvScanner::finish_quoted(CsvRecord& record) {
  Quoted& quoted = *quoted_;
  if (csv_fini(&quoted.parser, &Quoted::on_field, &Quoted::on_record, &quoted) != 0) {
    return error_at(quoted.first_line, "quoted field without its closing quote");
  }
  take_quoted_fields(record);
  return true;
}

void CsvScanner::take_quoted_fields(CsvRecord& record) {
  Quoted& quoted = *quoted_;
  quoted.inside = false;
  record.line = quoted.first_line;
  std::size_t begin = 0;
  for (const std::size_t end : quoted.ends) {
    record.fields.push_back(std::string_view(quoted.text).substr(begin, end - begin));
    begin = end;
  }
}

}  // namespace cupel
