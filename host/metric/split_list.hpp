// Lists on the command line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cupel/core/result.hpp"

namespace cupel {

/// Splits at commas outside parentheses and trims blanks. Errors (kUsage): parentheses that do not
/// match.
Result<std::vector<std::string>> split_list(std::string_view text);

/// A name with options in parentheses: "raps(lambda=0.1,k_reg=1)".
struct NamedOptions {
  std::string name;
  std::vector<std::pair<std::string, std::string>> options;
};
/// Errors (kUsage): text behind the parentheses; an option without a value.
Result<NamedOptions> parse_named_options(const std::string& text);

}  // namespace cupel
