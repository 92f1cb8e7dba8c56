// Pieces of text that more than one sink needs: UTF-8 that is never trusted, and numbers for
// people.
#pragma once

#include <string>
#include <string_view>

#include "cupel/core/int.hpp"

namespace cupel {

/// Well-formed UTF-8: shortest form, no surrogates, at most U+10FFFF.
bool is_utf8(std::string_view text);
/// `text` with U+FFFD for every byte that belongs to no well-formed sequence.
std::string valid_utf8(std::string_view text);
/// Standard base64 with padding.
std::string base64(std::string_view bytes);

/// Terminal columns that well-formed UTF-8 takes: wide East Asian characters and emoji count twice,
/// combining marks not at all.
i64 display_width(std::string_view text);

/// Five significant digits, trailing zeros kept: 0.93125, 1.0000, 1.2346e-05, inf.
std::string five_digits(double number);
/// The shortest text that reads back as the same double; "inf" and "-inf".
std::string round_trip(double number);

}  // namespace cupel
