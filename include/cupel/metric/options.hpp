// Options of a metric, as written in parentheses behind its name: declared by the metric, checked
// against the declaration, kept as text and as the exact number that the text says.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cupel/core/result.hpp"
#include "cupel/math/curve.hpp"
#include "cupel/metric/detail.hpp"

namespace cupel {

/// kList: integers in ascending order, joined by colons: "1:3:10". kRange: two numbers, the first
/// below the second, joined by a colon: "0.01:0.1".
enum class OptionType : u8 { kNumber, kInteger, kChoice, kFlag, kList, kRange };

/// One option that a metric has. An empty default means "none unless given".
struct OptionSpec {
  std::string_view name;
  OptionType type = OptionType::kNumber;
  std::string_view default_text;
  std::vector<std::string_view> choices;  ///< kChoice
  double minimum = 0;                     ///< of every number, inclusive
  double maximum = 0;
  std::string_view summary;
  bool open = false;  ///< kNumber, kRange: minimum and maximum themselves are refused
};

/// A decimal text as an exact fraction: digits with an optional point and exponent, not negative,
/// at most 18 significant digits, value and denominator at most 10^18. Errors: kUsage.
Result<Fraction> parse_decimal(std::string_view text);

/// The options of one metric as they take effect: every declared option that has a value.
class Options {
 public:
  /// Defaults overlaid with `given`; errors (kUsage): unknown option (with the nearest name), a
  /// value of the wrong type or range, an option given twice. `metric` is for the message.
  static Result<Options> make(std::string_view metric, std::span<const OptionSpec> specs,
                              std::span<const std::pair<std::string, std::string>> given);

  bool has(std::string_view name) const;
  /// Whether the value is the caller's, not the default.
  bool given(std::string_view name) const;
  /// The text of a choice or of any option; empty when it has no value.
  std::string_view text(std::string_view name) const;
  double number(std::string_view name) const;
  Fraction fraction(std::string_view name) const;
  i64 integer(std::string_view name) const;
  bool flag(std::string_view name) const;
  std::vector<i64> list(std::string_view name) const;
  std::pair<double, double> range(std::string_view name) const;
  /// Of a range without negative numbers.
  std::pair<Fraction, Fraction> fractions(std::string_view name) const;
  /// Effective options for a result's `params`, in order of declaration.
  Detail::Object params() const;

  bool operator==(const Options&) const = default;

 private:
  struct Entry {
    std::string name;
    OptionType type = OptionType::kNumber;
    std::string text;
    bool given = false;
    bool operator==(const Entry&) const = default;
  };
  const Entry* find(std::string_view name) const;
  std::vector<Entry> entries_;
};

}  // namespace cupel
