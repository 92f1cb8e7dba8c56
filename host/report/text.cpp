// Decoding follows Unicode 15, table 3-7 (well-formed byte sequences); widths follow the East Asian
// Wide and Fullwidth blocks, coarsely, as terminals do.
#include "report/text.hpp"

#include <fmt/format.h>

#include <cmath>

#include "cupel/report/report.hpp"

namespace cupel {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

struct Character {
  char32_t code = 0;
  std::size_t bytes = 0;  ///< 0: the first byte begins no well-formed sequence
};

Character decode(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead >= 0xC2 && lead <= 0xDF   ? 2
                            : (lead & 0xF0) == 0xE0        ? 3
                            : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                           : 0;
  if (bytes == 0 || text.size() < bytes) return {};
  char32_t code = lead & (0xFFu >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = (code << 6) | (byte(i) & 0x3Fu);
  }
  const bool overlong = (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (overlong || surrogate || code > 0x10FFFF) return {};
  return {code, bytes};
}

i64 width_of(char32_t code) {
  const bool combining = (code >= 0x300 && code <= 0x36F) || (code >= 0x1AB0 && code <= 0x1AFF) ||
                         (code >= 0x20D0 && code <= 0x20FF) || (code >= 0xFE00 && code <= 0xFE0F) ||
                         code == 0x200B || code == 0x200D;
  if (combining) return 0;
  const bool wide = (code >= 0x1100 && code <= 0x115F) || (code >= 0x2E80 && code <= 0xA4CF) ||
                    (code >= 0xAC00 && code <= 0xD7A3) || (code >= 0xF900 && code <= 0xFAFF) ||
                    (code >= 0xFE30 && code <= 0xFE6F) || (code >= 0xFF00 && code <= 0xFF60) ||
                    (code >= 0xFFE0 && code <= 0xFFE6) || (code >= 0x1F300 && code <= 0x1F64F) ||
                    (code >= 0x1F900 && code <= 0x1F9FF) || (code >= 0x20000 && code <= 0x3FFFD);
  return wide ? 2 : 1;
}

/// Calls each(character, its bytes) for every character; bytes outside any come as {0, 0}.
template <class Each>
void for_each_character(std::string_view text, Each&& each) {
  while (!text.empty()) {
    const Character character = decode(text);
    const std::size_t bytes = character.bytes == 0 ? 1 : character.bytes;
    each(character, text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
}

}  // namespace

bool is_utf8(std::string_view text) {
  bool valid = true;
  for_each_character(text, [&](Character c, std::string_view) { valid = valid && c.bytes != 0; });
  return valid;
}

std::string valid_utf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  for_each_character(text, [&](Character c, std::string_view bytes) {
    valid += c.bytes == 0 ? kReplacement : bytes;
  });
  return valid;
}

std::string printable(std::string_view text) {
  std::string shown;
  shown.reserve(text.size());
  for_each_character(text, [&](Character c, std::string_view bytes) {
    const bool control = c.code < 0x20 || (c.code >= 0x7F && c.code <= 0x9F);
    if (c.bytes == 0) {
      shown += kReplacement;
    } else if (c.code == '\n') {
      shown += "\\n";
    } else if (c.code == '\t') {
      shown += "\\t";
    } else if (control) {
      shown += fmt::format("\\x{:02x}", static_cast<unsigned>(c.code));
    } else {
      shown += bytes;
    }
  });
  return shown;
}

i64 display_width(std::string_view text) {
  i64 width = 0;
  for_each_character(text, [&](Character c, std::string_view) { width += width_of(c.code); });
  return width;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const std::string_view chunk = bytes.substr(at, 3);
    u32 bits = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      bits = (bits << 8) | (i < chunk.size() ? static_cast<unsigned char>(chunk[i]) : 0u);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      text += i <= chunk.size() ? kDigits[(bits >> (18 - 6 * i)) & 63u] : '=';
    }
  }
  return text;
}

std::string with_separators(i64 number) {
  std::string digits = fmt::format("{}", number);
  const std::size_t sign = number < 0 ? 1 : 0;
  for (std::size_t at = digits.size(); at > sign + 3;) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

std::string five_digits(double number) {
  std::string text = fmt::format("{:#.5g}", number);
  // fmt writes 12346 as "12346.0": a sixth digit that is not known.
  const std::size_t point = text.find('.');
  const std::size_t sign = text.front() == '-' ? 1 : 0;
  if (point != std::string::npos && point >= sign + 5) text.resize(point);
  return text;
}

std::string round_trip(double number) { return fmt::format("{}", number); }

}  // namespace cupel
