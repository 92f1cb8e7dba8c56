// Text out of a file as it may stand in a message: on one line, of limited length.
#pragma once

#include <string>
#include <string_view>

namespace cupel {

/// `text` with control characters as '?', cut after `most` bytes, which "..." then marks.
inline std::string shown(std::string_view text, std::size_t most = 40) {
  std::string out;
  for (const char c : text.substr(0, most)) {
    const auto byte = static_cast<unsigned char>(c);
    out.push_back(byte < 0x20 || byte == 0x7f ? '?' : c);
  }
  if (text.size() > most) out += "...";
  return out;
}

/// The longest name of an array that a message repeats in full.
inline constexpr std::size_t kShownName = 100;

}  // namespace cupel
