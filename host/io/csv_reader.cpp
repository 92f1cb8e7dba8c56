// CSV and TSV dumps. Opening reads the file once, to check it and to find each column's type and
// size; load() reads it a second time and stores only the columns that are asked for, in buffers of
// exactly their size. Text is streamed in blocks and never held as a whole, except what comes
// through a pipe.
#include <fmt/format.h>
#include <locale.h>
#include <stdlib.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "cupel/io/dump.hpp"
#include "io/byte_source.hpp"
#include "io/checksum.hpp"
#include "io/csv_scanner.hpp"
#include "io/npy_header.hpp"
#include "io/shown.hpp"

namespace cupel {
namespace {

std::size_t index(i64 i) { return static_cast<std::size_t>(i); }

// ---- fields -------------------------------------------------------------------------------------

// What a field can be read as. A column has the types that all of its fields have in common.
constexpr u8 kAsI64 = 1;
constexpr u8 kAsU64 = 2;
constexpr u8 kAsF64 = 4;
constexpr u8 kAsBool = 8;
constexpr u8 kAsAny = kAsI64 | kAsU64 | kAsF64 | kAsBool;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  return text.size() == lower.size() &&
         std::equal(text.begin(), text.end(), lower.begin(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; });
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// from_chars() knows no plus sign.
std::string_view without_plus(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  return text;
}

template <class T>
bool parse_integer(std::string_view text, T& out) {
  text = without_plus(text);
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out);
  return code == std::errc() && end == text.data() + text.size();
}

u8 classify_word(std::string_view text, bool has_sign) {
  if (equals_ignoring_case(text, "nan") || equals_ignoring_case(text, "inf") ||
      equals_ignoring_case(text, "infinity")) {
    return kAsF64;
  }
  if (has_sign) return 0;
  const bool is_bool = equals_ignoring_case(text, "true") || equals_ignoring_case(text, "false");
  return is_bool ? kAsBool : 0;
}

/// The types that a field can be read as: decimal integers, decimal fractions with or without an
/// exponent, inf and nan in any case, true and false in any case. An empty field is a NaN.
u8 classify(std::string_view field) {
  const std::string_view text = trimmed(field);
  if (text.empty()) return kAsF64;
  const bool negative = text[0] == '-';
  const bool has_sign = negative || text[0] == '+';
  std::size_t at = has_sign ? 1 : 0;
  const std::size_t digits_begin = at;
  while (at < text.size() && is_digit(text[at])) ++at;
  std::size_t digits = at - digits_begin;
  if (at == text.size() && digits > 0) {
    constexpr std::size_t kAlwaysFits = 18;
    if (digits <= kAlwaysFits) return negative ? kAsI64 | kAsF64 : kAsI64 | kAsU64 | kAsF64;
    i64 as_signed = 0;
    u64 as_unsigned = 0;
    u8 types = kAsF64;
    if (parse_integer(text, as_signed)) types |= kAsI64;
    if (!negative && parse_integer(text, as_unsigned)) types |= kAsU64;
    return types;
  }
  if (at < text.size() && text[at] == '.') {
    const std::size_t fraction = ++at;
    while (at < text.size() && is_digit(text[at])) ++at;
    digits += at - fraction;
  }
  if (digits == 0) return classify_word(text.substr(digits_begin), has_sign);
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
    const std::size_t exponent = at;
    while (at < text.size() && is_digit(text[at])) ++at;
    if (at == exponent) return 0;
  }
  return at == text.size() ? kAsF64 : 0;
}

/// A number beyond the range of double; strtod() without the locale's decimal point.
double parse_extreme(std::string_view text) {
  static const locale_t kPlain = ::newlocale(LC_ALL_MASK, "C", nullptr);
  return ::strtod_l(std::string(text).c_str(), nullptr, kPlain);
}

/// The double nearest to a field that classify() finds a number; beyond the range of double it is
/// infinite or zero, as in IEEE 754.
bool parse_double(std::string_view field, double& out) {
  const std::string_view text = without_plus(trimmed(field));
  if (text.empty()) {
    out = std::numeric_limits<double>::quiet_NaN();
    return true;
  }
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (code == std::errc::result_out_of_range) out = parse_extreme(text);
  return code != std::errc::invalid_argument && end == text.data() + text.size();
}

bool parse_bool(std::string_view field, u8& out) {
  const std::string_view text = trimmed(field);
  out = equals_ignoring_case(text, "true") ? 1 : 0;
  return out == 1 || equals_ignoring_case(text, "false");
}

// ---- columns ------------------------------------------------------------------------------------

struct Offence {
  i64 line = 0;  ///< 0 while there is none
  std::string field;
};

/// What the first reading finds out about a column.
struct Column {
  u8 types = kAsAny;
  i64 text_bytes = 0;
  Offence not_number;
  Offence not_bool;

  void observe(std::string_view field, i64 line) {
    text_bytes += static_cast<i64>(field.size());
    if (types == 0) return;
    const u8 possible = classify(field);
    const u8 lost = types & static_cast<u8>(~possible);
    if (lost == 0) return;
    if ((lost & kAsF64) != 0) not_number = {line, shown(field)};
    if ((lost & kAsBool) != 0) not_bool = {line, shown(field)};
    types &= possible;
  }

  DType dtype(i64 rows) const {
    if (rows == 0) return DType::kF64;
    if ((types & kAsI64) != 0) return DType::kI64;
    if ((types & kAsU64) != 0) return DType::kU64;
    if ((types & kAsF64) != 0) return DType::kF64;
    if ((types & kAsBool) != 0) return DType::kBool;
    return DType::kText;
  }
};

/// Where a row begins in the file, when that is not the line after the row before it.
struct LineJump {
  i64 row;
  i64 line;
};

/// The memory of one loaded column.
struct Storage {
  std::shared_ptr<std::byte[]> data;
  std::shared_ptr<std::byte[]> offsets;  ///< kText: rows + 1 numbers of i64
};

class CsvDump final : public Dump {
 public:
  CsvDump(std::shared_ptr<const ByteSource> source, char delimiter)
      : source_(std::move(source)), delimiter_(delimiter) {}

  /// The first reading.
  Result<void> scan() {
    CsvScanner scanner(source_, delimiter_);
    CsvRecord record;
    Result<bool> more = scanner.next(record);
    if (!more) return more.error();
    if (!more.value()) return input_error(source_->where(), "has no header line");
    Result<void> named = read_header(record);
    if (!named) return named;
    i64 expected_line = record.line + 1;
    for (;;) {
      more = scanner.next(record);
      if (!more) return more.error();
      if (!more.value()) break;
      if (record.line != expected_line || rows_ == 0) jumps_.push_back({rows_, record.line});
      expected_line = record.line + 1;
      for (std::size_t c = 0; c < columns_.size(); ++c) {
        columns_[c].observe(record.fields[c], record.line);
      }
      ++rows_;
    }
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      infos_[c].dtype = columns_[c].dtype(rows_);
      infos_[c].shape = {rows_};
      infos_[c].item_bytes = dtype_size(infos_[c].dtype);
    }
    loaded_.resize(columns_.size());
    return {};
  }

  const std::string& path() const override { return source_->path(); }
  std::string_view format() const override { return delimiter_ == '\t' ? "tsv" : "csv"; }
  i64 file_bytes() const override { return source_->size(); }
  std::span<const ArrayInfo> arrays() const override { return infos_; }

  std::string place(i64, i64 row) const override {
    return fmt::format("{}:{}", source_->where(), line_of(row));
  }

  Error not_numeric(i64 array) const override {
    const Column& column = columns_[index(array)];
    const std::string& name = infos_[index(array)].name;
    // In a column that begins with truth values, the odd one out is what is not a truth value.
    const bool almost_bool = column.not_bool.line > column.not_number.line;
    const Offence& offence = almost_bool ? column.not_bool : column.not_number;
    if (offence.line == 0) return Dump::not_numeric(array);
    return input_error(fmt::format("{}:{}", source_->where(), offence.line),
                       fmt::format("column '{}': '{}' is not {}", shown(name, kShownName),
                                   offence.field, almost_bool ? "true or false" : "a number"));
  }

  Result<std::vector<Array>> load(std::span<const i64> wanted) override {
    std::vector<i64> missing;
    for (const i64 array : wanted) {
      CUPEL_ASSERT(array >= 0 && array < static_cast<i64>(columns_.size()));
      const bool listed = std::find(missing.begin(), missing.end(), array) != missing.end();
      if (!loaded_[index(array)] && !listed) missing.push_back(array);
    }
    try {
      if (!missing.empty()) {
        Result<void> done = fill(missing);
        if (!done) return done.error();
      }
    } catch (const std::bad_alloc&) {  // a very long line
      return Error{ErrorCode::kInternal, source_->where(), "not enough memory to read it", {}};
    }
    std::vector<Array> out;
    out.reserve(wanted.size());
    for (const i64 array : wanted) out.push_back(*loaded_[index(array)]);
    return out;
  }

  Result<HashText> verify() override {
    StreamHash hash;
    for (const std::optional<Array>& array : loaded_) {
      if (!array) continue;
      const ArrayView& view = array->view;
      if (view.dtype == DType::kText) {
        hash_text(view, hash);
      } else {
        hash.update({view.data, index(rows_ * view.item_bytes)});
      }
    }
    return hash.digest();
  }

 private:
  Result<void> read_header(const CsvRecord& record) {
    std::unordered_set<std::string_view> seen;
    bool numbers = true, fractions = false;
    for (const std::string_view field : record.fields) {
      const std::string_view name = trimmed(field);
      if (!seen.insert(name).second) {
        return input_error(fmt::format("{}:{}", source_->where(), record.line),
                           fmt::format("two columns are called '{}'", shown(name, kShownName)));
      }
      const u8 types = name.empty() ? u8{0} : classify(name);
      numbers = numbers && (types & kAsF64) != 0;
      fractions = fractions || (types & (kAsI64 | kAsU64)) == 0;
      infos_.push_back({std::string(name), DType::kF64, {}, 0});
    }
    // Whole numbers can be the names of classes; 0.25 cannot.
    if (numbers && fractions) {
      return input_error(fmt::format("{}:{}", source_->where(), record.line),
                         "numbers where the column names should be", "add a header line");
    }
    columns_.resize(infos_.size());
    return {};
  }

  i64 line_of(i64 row) const {
    auto after = std::upper_bound(jumps_.begin(), jumps_.end(), row,
                                  [](i64 r, const LineJump& jump) { return r < jump.row; });
    if (after == jumps_.begin()) return row + 2;
    --after;
    return after->line + (row - after->row);
  }

  /// The second reading: parses and stores the columns in `missing`.
  Result<void> fill(std::span<const i64> missing) {
    std::vector<Storage> storage(missing.size());
    for (std::size_t m = 0; m < missing.size(); ++m) {
      Result<Storage> allocated = allocate(missing[m]);
      if (!allocated) return allocated.error();
      storage[m] = std::move(allocated).value();
    }
    CsvScanner scanner(source_, delimiter_);
    CsvRecord record;
    const Error changed = input_error(source_->where(), "changed while it was being read");
    Result<bool> more = scanner.next(record);
    for (i64 row = 0;; ++row) {
      if (more) more = scanner.next(record);
      if (!more) return more.error();
      if (!more.value()) {
        if (row != rows_) return changed;
        break;
      }
      if (row == rows_ || record.fields.size() != columns_.size()) return changed;
      for (std::size_t m = 0; m < missing.size(); ++m) {
        const std::size_t c = index(missing[m]);
        if (!store(record.fields[c], row, infos_[c].dtype, columns_[c].text_bytes, storage[m])) {
          return changed;
        }
      }
    }
    for (std::size_t m = 0; m < missing.size(); ++m) {
      loaded_[index(missing[m])] = as_array(missing[m], std::move(storage[m]));
    }
    return {};
  }

  Result<Storage> allocate(i64 array) const {
    const ArrayInfo& info = infos_[index(array)];
    const bool is_text = info.dtype == DType::kText;
    const i64 bytes = is_text ? columns_[index(array)].text_bytes : rows_ * info.item_bytes;
    const i64 offset_bytes = (rows_ + 1) * static_cast<i64>(sizeof(i64));
    Storage storage{allocate_bytes(bytes), is_text ? allocate_bytes(offset_bytes) : nullptr};
    if (!storage.data || (is_text && !storage.offsets)) {
      return out_of_memory(source_->where(),
                           fmt::format("column '{}'", shown(info.name, kShownName)),
                           is_text ? bytes + offset_bytes : bytes);
    }
    if (is_text) put(storage.offsets.get(), 0, i64{0});
    return storage;
  }

  template <class T>
  static void put(std::byte* column, i64 row, T value) {
    std::memcpy(column + row * static_cast<i64>(sizeof(T)), &value, sizeof(T));
  }

  template <class T, class Parse>
  static bool parse_into(std::string_view field, i64 row, Storage& storage, Parse parse) {
    T value{};
    if (!parse(field, value)) return false;
    put(storage.data.get(), row, value);
    return true;
  }

  /// False when the field is not what the first reading found here.
  static bool store(std::string_view field, i64 row, DType dtype, i64 text_bytes,
                    Storage& storage) {
    const auto integer = [](std::string_view text, auto& out) {
      return parse_integer(trimmed(text), out);
    };
    if (dtype == DType::kF64) return parse_into<double>(field, row, storage, parse_double);
    if (dtype == DType::kI64) return parse_into<i64>(field, row, storage, integer);
    if (dtype == DType::kU64) return parse_into<u64>(field, row, storage, integer);
    if (dtype == DType::kBool) return parse_into<u8>(field, row, storage, parse_bool);
    const i64 begin = load_offset(storage, row);
    const i64 size = static_cast<i64>(field.size());
    if (size > text_bytes - begin) return false;
    if (size > 0) std::memcpy(storage.data.get() + begin, field.data(), field.size());
    put(storage.offsets.get(), row + 1, begin + size);
    return true;
  }

  static i64 load_offset(const Storage& storage, i64 row) {
    return cupel::load<i64>(storage.offsets.get() + row * static_cast<i64>(sizeof(i64)));
  }

  Array as_array(i64 array, Storage storage) const {
    const ArrayInfo& info = infos_[index(array)];
    auto owner = std::make_shared<Storage>(std::move(storage));
    Array out{make_view(owner->data.get(), info.dtype, {rows_}), owner};
    out.view.offsets = reinterpret_cast<const i64*>(owner->offsets.get());
    return out;
  }

  void hash_text(const ArrayView& view, StreamHash& hash) const {
    constexpr std::size_t kBlockBytes = 32 * 1024;
    std::vector<std::byte> block;
    block.reserve(kBlockBytes);
    const auto flush = [&] {
      hash.update(block);
      block.clear();
    };
    for (i64 row = 0; row < rows_; ++row) {
      const i64 begin = view.offsets[row];
      const std::span field(view.data + begin, index(view.offsets[row + 1] - begin));
      if (block.size() + field.size() + 1 > kBlockBytes) flush();
      if (field.size() >= kBlockBytes) {
        hash.update(field);
      } else {
        block.insert(block.end(), field.begin(), field.end());
      }
      block.push_back(std::byte{'\n'});
    }
    flush();
  }

  std::shared_ptr<const ByteSource> source_;
  char delimiter_;
  i64 rows_ = 0;
  std::vector<ArrayInfo> infos_;
  std::vector<Column> columns_;
  std::vector<LineJump> jumps_;
  std::vector<std::optional<Array>> loaded_;
};

// ---- the formats --------------------------------------------------------------------------------

bool has_tsv_name(std::string_view path) {
  return path.ends_with(".tsv") || path.ends_with(".tsv.gz");
}

/// Text, or gzip: control characters other than white space do not occur in a table. A name that
/// says CSV is believed, so that the message speaks of the line that is wrong.
bool recognises_csv(std::span<const std::byte> head, std::string_view path) {
  if (path.ends_with(".csv") || path.ends_with(".csv.gz")) return true;
  const bool is_gzip = head.size() >= 2 && head[0] == std::byte{0x1f} && head[1] == std::byte{0x8b};
  return is_gzip || std::none_of(head.begin(), head.end(), [](std::byte byte) {
           const auto c = static_cast<unsigned char>(byte);
           return c < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != '\f';
         });
}

bool recognises_tsv(std::span<const std::byte>, std::string_view path) {
  return has_tsv_name(path);
}

/// Standard input has no name that says what it is: tabs in the first line do, if commas are not
/// more.
Result<char> delimiter_of(const std::shared_ptr<const ByteSource>& source) {
  if (has_tsv_name(source->path())) return '\t';
  if (source->path() != "-") return ',';
  TextStream stream(source);
  std::string head(64 * 1024, '\0');
  const Result<i64> got = stream.read(head);
  if (!got) return got.error();
  const std::string_view line = std::string_view(head).substr(0, head.find('\n'));
  const auto tabs = std::count(line.begin(), line.end(), '\t');
  return tabs > 0 && tabs >= std::count(line.begin(), line.end(), ',') ? '\t' : ',';
}

Result<std::unique_ptr<Dump>> open_text(std::shared_ptr<const ByteSource> source,
                                        const OpenOptions&) {
  const Result<char> delimiter = delimiter_of(source);
  if (!delimiter) return delimiter.error();
  auto dump = std::make_unique<CsvDump>(std::move(source), delimiter.value());
  const Result<void> scanned = dump->scan();
  if (!scanned) return scanned.error();
  return std::unique_ptr<Dump>(std::move(dump));
}

}  // namespace

DumpFormat csv_format() { return {"csv", {".csv", ".csv.gz"}, recognises_csv, open_text}; }
DumpFormat tsv_format() { return {"tsv", {".tsv", ".tsv.gz"}, recognises_tsv, open_text}; }

}  // namespace cupel
