// A strict reader of the one Python literal that an npy header is: a dict with the keys 'descr',
// 'fortran_order' and 'shape', in any order. It evaluates nothing and copies no more than the
// header.
#include "io/npy_header.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include "io/checksum.hpp"
#include "io/shown.hpp"

namespace cupel {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kMaxDimensions = 64;  // NumPy 2; earlier versions stop at 32
constexpr int kMaxNesting = 32;

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

struct HeaderFields {
  std::string descr;        ///< empty for a structured type
  bool structured = false;  ///< descr is a list or tuple, not a string
  bool fortran_order = false;
  std::vector<i64> shape;
};

/// What went wrong, in words; empty for success.
using Problem = std::string;

class LiteralParser {
 public:
  explicit LiteralParser(std::string_view text) : rest_(text) {}

  Problem parse(HeaderFields& out) {
    bool seen_descr = false, seen_order = false, seen_shape = false;
    if (!take('{')) return "does not begin with '{'";
    while (!take('}')) {
      std::string key;
      if (!string(key)) return "has a key that is not a string";
      if (!take(':')) return fmt::format("has no ':' after the key '{}'", shown(key));
      Problem problem;
      bool* seen = nullptr;
      if (key == "descr") {
        seen = &seen_descr;
        problem = descr(out);
      } else if (key == "fortran_order") {
        seen = &seen_order;
        problem = boolean(out.fortran_order);
      } else if (key == "shape") {
        seen = &seen_shape;
        problem = shape(out.shape);
      } else {
        return fmt::format("has an unknown key '{}'", shown(key));
      }
      if (!problem.empty()) return problem;
      if (*seen) return fmt::format("has the key '{}' twice", key);
      *seen = true;
      if (!take(',')) {
        if (!take('}')) return "does not end with '}'";
        break;
      }
    }
    skip_space();
    if (!rest_.empty()) return "has something after its '}'";
    if (!seen_descr) return "has no 'descr'";
    if (!seen_order) return "has no 'fortran_order'";
    if (!seen_shape) return "has no 'shape'";
    return {};
  }

 private:
  void skip_space() {
    const std::size_t at = rest_.find_first_not_of(" \t\r\n");
    rest_.remove_prefix(at == std::string_view::npos ? rest_.size() : at);
  }

  bool take(char c) {
    skip_space();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  bool take(std::string_view word) {
    skip_space();
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }

  /// A quoted string without escapes: no type name or key needs one.
  bool string(std::string& out) {
    skip_space();
    if (rest_.empty() || (rest_[0] != '\'' && rest_[0] != '"')) return false;
    const std::size_t end = rest_.find(rest_[0], 1);
    if (end == std::string_view::npos) return false;
    out = std::string(rest_.substr(1, end - 1));
    if (out.find('\\') != std::string::npos) return false;
    rest_.remove_prefix(end + 1);
    return true;
  }

  Problem descr(HeaderFields& out) {
    skip_space();
    if (!rest_.empty() && (rest_[0] == '[' || rest_[0] == '(')) {
      out.structured = true;
      return skip_nested();
    }
    return string(out.descr) ? Problem{} : "has a 'descr' that is not a string";
  }

  /// Steps over a bracketed list of fields, of which only the end matters.
  Problem skip_nested() {
    std::string open;
    do {
      skip_space();
      if (rest_.empty()) return "has a 'descr' that does not end";
      const char c = rest_[0];
      if (c == '\'' || c == '"') {
        std::string ignored;
        if (!string(ignored)) return "has a 'descr' with a malformed string";
        continue;
      }
      if (c == '[' || c == '(' || c == '{') open.push_back(c);
      if (c == ']' || c == ')' || c == '}') {
        const char expected = c == ']' ? '[' : c == ')' ? '(' : '{';
        if (open.empty() || open.back() != expected) return "has a 'descr' with unpaired brackets";
        open.pop_back();
      }
      if (open.size() > kMaxNesting) return "has a 'descr' that is nested too deeply";
      rest_.remove_prefix(1);
    } while (!open.empty());
    return {};
  }

  Problem boolean(bool& out) {
    if (take("True")) {
      out = true;
    } else if (take("False")) {
      out = false;
    } else {
      return "has a 'fortran_order' that is neither True nor False";
    }
    return {};
  }

  Problem shape(std::vector<i64>& out) {
    if (!take('(')) return "has a 'shape' that is not a tuple";
    for (bool comma = true; !take(')');) {
      if (!comma) return "has a 'shape' without a comma between its numbers";
      skip_space();
      i64 value = 0;
      const auto [end, code] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
      if (code == std::errc::result_out_of_range) return "has a 'shape' that is too large";
      if (code != std::errc()) return "has a 'shape' that is not a tuple of whole numbers";
      if (value < 0) return "has a negative number in its 'shape'";
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
      take('L');  // written by Python 2
      if (out.size() == kMaxDimensions) return "has a 'shape' with more than 64 dimensions";
      out.push_back(value);
      comma = take(',');
      // Python reads (3) as the number 3.
      if (!comma && out.size() == 1) return "has a 'shape' that is a number, not a tuple";
    }
    return {};
  }

  std::string_view rest_;
};

struct TypeRow {
  std::string_view code;
  DType dtype;
};

constexpr TypeRow kTypes[] = {
    {"b1", DType::kBool},
    {"i1", DType::kI8},
    {"i2", DType::kI16},
    {"i4", DType::kI32},
    {"i8", DType::kI64},
    {"u1", DType::kU8},
    {"u2", DType::kU16},
    {"u4", DType::kU32},
    {"u8", DType::kU64},
    {"f2", DType::kF16},
    {"f4", DType::kF32},
    {"f8", DType::kF64},
    // ml_dtypes registers bfloat16 with NumPy as an opaque type of two bytes.
    {"V2", DType::kBF16},
};

bool known_kind(char c) {
  return std::string_view("biufcmMOSUVa").find(c) != std::string_view::npos;
}

/// Fills dtype, element size, swap and refusal from the type string. A string that no NumPy would
/// write is a Problem.
Problem read_type(const HeaderFields& fields, const std::string& where, const std::string& subject,
                  NpyHeader& out) {
  const auto refuse = [&](std::string what, std::string hint) {
    out.refusal = input_error(where, subject + std::move(what), std::move(hint));
    out.info.dtype = DType::kBytes;
    return Problem{};
  };
  if (fields.structured) {
    return refuse("structured array (named fields)", "save each field as an array of its own");
  }
  const std::string& descr = fields.descr;
  const Problem unknown = fmt::format("has an unknown type '{}'", shown(descr));
  if (descr.size() < 2 || std::string_view("<>|").find(descr[0]) == std::string_view::npos ||
      !known_kind(descr[1])) {
    return unknown;
  }
  if (descr[1] == 'O') {
    return refuse("object array (a pickle), cupel never loads pickles", "save it as a plain array");
  }
  const std::string_view code = std::string_view(descr).substr(1);
  const std::string_view digits = code.substr(1);
  const bool big = descr[0] == '>';
  if (code[0] == 'm' || code[0] == 'M') {
    return refuse(fmt::format("type '{}' (dates and times) is not read", shown(descr)),
                  "save it as integers or text");
  }
  i64 length = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
  if (error != std::errc() || end != digits.data() + digits.size() || length < 0) return unknown;

  if (code[0] == 'S' || code[0] == 'a') {
    out.info.dtype = DType::kBytes;
    out.info.item_bytes = length;
    return {};
  }
  if (code[0] == 'U') {
    out.info.dtype = DType::kUnicode;
    if (!checked_mul(length, 4, out.info.item_bytes)) return "has strings that are too long";
    if (descr[0] == '|' && length > 0) return unknown;
    out.swap_bytes = big ? 4 : 0;
    return {};
  }
  const auto* row = std::find_if(std::begin(kTypes), std::end(kTypes),
                                 [&](const TypeRow& type) { return type.code == code; });
  if (row == std::end(kTypes)) {
    return refuse(fmt::format("type '{}' is not read", shown(descr)),
                  "save it as bool, integers, f16, bf16, f32, f64 or strings");
  }
  out.info.dtype = row->dtype;
  out.info.item_bytes = dtype_size(row->dtype);
  if (out.info.item_bytes > 1) {
    if (descr[0] == '|' && row->dtype != DType::kBF16) return unknown;  // order not stated
    out.swap_bytes = big ? out.info.item_bytes : 0;
  }
  return {};
}

}  // namespace

bool has_npy_magic(std::span<const std::byte> head) { return as_text(head).starts_with(kMagic); }

Result<i64> npy_header_bytes(std::span<const std::byte> head, const std::string& where,
                             const std::string& subject) {
  if (!has_npy_magic(head)) return input_error(where, subject + "is not an npy array");
  const auto truncated = [&] {
    return input_error(
        where, subject + fmt::format("truncated inside its header, at {} bytes", head.size()));
  };
  if (head.size() < 8) return truncated();
  const auto byte = [&](std::size_t at) { return static_cast<i64>(head[at]); };
  const i64 major = byte(6), minor = byte(7);
  if (major < 1 || major > 3 || minor != 0) {
    return input_error(where, subject + fmt::format("npy version {}.{} is not known", major, minor),
                       "cupel reads 1.0, 2.0 and 3.0");
  }
  if (head.size() < (major == 1 ? 10 : 12)) return truncated();
  if (major == 1) return 10 + (byte(8) | byte(9) << 8);
  const i64 length = byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24;
  if (length > kMaxNpyHeader) {
    return input_error(
        where, subject + fmt::format("header of {} bytes, more than {}", length, kMaxNpyHeader));
  }
  return 12 + length;
}

Result<NpyHeader> parse_npy_header(std::span<const std::byte> head, std::string name,
                                   const std::string& where, const std::string& subject) {
  const Result<i64> header_bytes = npy_header_bytes(head, where, subject);
  if (!header_bytes) return header_bytes.error();
  if (static_cast<i64>(head.size()) < header_bytes.value()) {
    return input_error(
        where, subject + fmt::format("truncated inside its header, at {} of {} bytes", head.size(),
                                     header_bytes.value()));
  }
  const auto malformed = [&](const Problem& problem) {
    return input_error(where, subject + "malformed npy header: it " + problem);
  };
  const std::size_t begin = head[6] == std::byte{1} ? 10 : 12;
  const std::string_view text =
      as_text(head.subspan(begin, static_cast<std::size_t>(header_bytes.value()) - begin));
  HeaderFields fields;
  Problem problem = LiteralParser(text).parse(fields);
  if (!problem.empty()) return malformed(problem);

  NpyHeader header;
  header.info.name = std::move(name);
  header.info.shape = std::move(fields.shape);
  header.fortran_order = fields.fortran_order;
  header.header_bytes = header_bytes.value();
  problem = read_type(fields, where, subject, header);
  if (!problem.empty()) return malformed(problem);

  // Strides are products of the dimensions as if none were 0, so these must fit as well.
  i64 span = std::max<i64>(header.info.item_bytes, 1);
  bool empty = false;
  for (const i64 dimension : header.info.shape) {
    empty = empty || dimension == 0;
    if (!checked_mul(span, std::max<i64>(dimension, 1), span)) {
      return malformed("has a 'shape' that is too large");
    }
  }
  i64 total = 0;
  if (!checked_add(span, header.header_bytes, total)) {
    return malformed("has a 'shape' that is too large");
  }
  const bool has_data = !empty && header.info.item_bytes > 0 && !header.refusal;
  header.data_bytes = has_data ? span : 0;
  return header;
}

Result<void> apply_bfloat16(NpyHeader& header, std::span<const std::string> names,
                            const OpenOptions& options, const std::string& where) {
  const bool asked = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return std::find(options.bfloat16_columns.begin(), options.bfloat16_columns.end(), name) !=
           options.bfloat16_columns.end();
  });
  if (!asked || header.refusal || header.info.dtype == DType::kBF16) return {};
  if (is_string(header.info.dtype) || header.info.item_bytes != 2) {
    return input_error(
        where,
        fmt::format("array '{}' is {}, it cannot be read as bf16",
                    shown(header.info.name, kShownName), dtype_name(header.info.dtype)),
        "bf16 has elements of two bytes");
  }
  header.info.dtype = DType::kBF16;
  return {};
}

Result<Array> make_npy_array(const NpyHeader& header, const std::byte* data,
                             std::shared_ptr<const void> owner, const std::string& where) {
  if (header.swap_bytes != 0) {
    std::shared_ptr<std::byte[]> swapped = allocate_bytes(header.data_bytes);
    if (!swapped) {
      return out_of_memory(where, fmt::format("array '{}'", shown(header.info.name, kShownName)),
                           header.data_bytes);
    }
    reverse_units(data, swapped.get(), header.data_bytes, header.swap_bytes);
    data = swapped.get();
    owner = std::move(swapped);
  }
  Array array{make_view(data, header.info.dtype, header.info.shape, header.info.item_bytes),
              std::move(owner)};
  if (header.fortran_order) {
    i64 stride = header.info.item_bytes;
    for (std::size_t d = 0; d < array.view.shape.size(); ++d) {
      array.view.strides[d] = stride;
      stride *= std::max<i64>(array.view.shape[d], 1);
    }
  }
  return array;
}

std::shared_ptr<std::byte[]> allocate_bytes(i64 count) {
  // At least one byte: the pointer of an empty array is valid too.
  const auto size = static_cast<std::size_t>(std::max<i64>(count, 1));
  return std::shared_ptr<std::byte[]>(new (std::nothrow) std::byte[size]);
}

Error out_of_memory(const std::string& where, const std::string& what, i64 bytes) {
  return {ErrorCode::kInternal, where, fmt::format("no memory for {} ({} bytes)", what, bytes), {}};
}

}  // namespace cupel
