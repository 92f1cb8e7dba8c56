#include "cupel/metric/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "cupel/metric/metric.hpp"

namespace cupel {
namespace {

std::string joined(std::span<const std::string_view> words) {
  return fmt::format("{}", fmt::join(words.begin(), words.end(), ", "));
}

/// "1", "3" and "10" of "1:3:10".
std::vector<std::string> parts_of(std::string_view text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ':') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

/// The number that a checked text says.
double number_of(std::string_view text) {
  double number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

/// Whether it is a number that the option takes, and which.
std::optional<double> checked_number(const OptionSpec& spec, std::string_view text) {
  double value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc() || end != text.data() + text.size() || !(value >= spec.minimum) ||
      !(value <= spec.maximum) || (spec.open && (value == spec.minimum || value == spec.maximum))) {
    return std::nullopt;
  }
  return value;
}

/// "between 0 and 1, neither of them".
std::string bounds_of(const OptionSpec& spec) {
  return fmt::format("{} {} {} {}{}", spec.open ? "between" : "from", spec.minimum,
                     spec.open ? "and" : "to", spec.maximum, spec.open ? ", neither of them" : "");
}

Result<std::string> checked_value(std::string_view metric, const OptionSpec& spec,
                                  const std::string& text) {
  const auto refuse = [&](std::string expected) -> Error {
    return usage_error(fmt::format("option '{}' of '{}' is '{}'", spec.name, metric, text),
                       "expected " + std::move(expected));
  };
  switch (spec.type) {
    case OptionType::kChoice:
      if (std::find(spec.choices.begin(), spec.choices.end(), text) == spec.choices.end()) {
        return refuse("one of " + joined(spec.choices));
      }
      return text;
    case OptionType::kFlag:
      if (text == "true" || text == "1" || text == "yes") return std::string("true");
      if (text == "false" || text == "0" || text == "no") return std::string("false");
      return refuse("true or false");
    case OptionType::kInteger: {
      i64 value = 0;
      const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
      const auto inside = [&](double v) { return v >= spec.minimum && v <= spec.maximum; };
      if (fault != std::errc() || end != text.data() + text.size() ||
          !inside(static_cast<double>(value))) {
        return refuse(fmt::format("an integer from {:.0f} to {:.0f}", spec.minimum, spec.maximum));
      }
      return std::to_string(value);
    }
    case OptionType::kList: {
      i64 last = std::numeric_limits<i64>::min();
      for (const std::string& part : parts_of(text)) {
        i64 value = 0;
        const auto [end, fault] = std::from_chars(part.data(), part.data() + part.size(), value);
        if (fault != std::errc() || end != part.data() + part.size() || value <= last ||
            static_cast<double>(value) < spec.minimum ||
            static_cast<double>(value) > spec.maximum) {
          return refuse(fmt::format("integers from {:.0f} to {:.0f}, ascending, joined by ':'",
                                    spec.minimum, spec.maximum));
        }
        last = value;
      }
      return text;
    }
    case OptionType::kNumber: {
      if (!checked_number(spec, text)) return refuse("a number " + bounds_of(spec));
      if (spec.minimum >= 0 && !parse_decimal(text)) {
        return refuse("a decimal with at most 18 digits");
      }
      return text;
    }
    case OptionType::kRange: {
      const std::vector<std::string> parts = parts_of(text);
      if (parts.size() == 2) {
        const auto low = checked_number(spec, parts[0]);
        const auto high = checked_number(spec, parts[1]);
        const bool decimal =
            spec.minimum < 0 || (parse_decimal(parts[0]) && parse_decimal(parts[1]));
        if (low && high && *low < *high && decimal) return text;
      }
      return refuse(
          fmt::format("two numbers {}, the smaller first, joined by ':'", bounds_of(spec)));
    }
  }
  return text;
}

}  // namespace

Result<Fraction> parse_decimal(std::string_view text) {
  const auto refuse = [&]() -> Error {
    return usage_error(fmt::format("'{}' is not a decimal with at most 18 digits", text));
  };
  std::string_view rest = text;
  int exponent = 0;
  if (const auto e = rest.find_first_of("eE"); e != std::string_view::npos) {
    std::string_view digits = rest.substr(e + 1);
    if (!digits.empty() && digits.front() == '+') digits.remove_prefix(1);
    const auto [end, fault] =
        std::from_chars(digits.data(), digits.data() + digits.size(), exponent);
    if (fault != std::errc() || end != digits.data() + digits.size() || std::abs(exponent) > 40) {
      return refuse();
    }
    rest = rest.substr(0, e);
  }
  constexpr u64 kLimit = 1'000'000'000'000'000'000u;
  u64 number = 0;
  bool point = false;
  bool any = false;
  for (const char c : rest) {
    if (c == '.' && !point) {
      point = true;
      continue;
    }
    if (c < '0' || c > '9' || number >= kLimit / 10) return refuse();
    number = number * 10 + static_cast<u64>(c - '0');
    exponent -= point ? 1 : 0;
    any = true;
  }
  if (!any) return refuse();
  Fraction fraction{number, 1};
  while (exponent < 0 && fraction.num != 0 && fraction.num % 10 == 0) {
    fraction.num /= 10;
    ++exponent;
  }
  if (fraction.num == 0) return Fraction{0, 1};
  for (; exponent < 0; ++exponent) {
    if (fraction.den >= kLimit) return refuse();
    fraction.den *= 10;
  }
  for (; exponent > 0; --exponent) {
    if (fraction.num > kLimit / 10) return refuse();
    fraction.num *= 10;
  }
  return fraction;
}

Result<Options> Options::make(std::string_view metric, std::span<const OptionSpec> specs,
                              std::span<const std::pair<std::string, std::string>> given) {
  for (std::size_t i = 0; i < given.size(); ++i) {
    const std::string& name = given[i].first;
    const bool known = std::any_of(specs.begin(), specs.end(),
                                   [&](const OptionSpec& spec) { return spec.name == name; });
    if (!known) {
      std::vector<std::string> names;
      for (const OptionSpec& spec : specs) names.emplace_back(spec.name);
      const auto near = nearest_name(name, names);
      std::string hint = near            ? fmt::format("did you mean '{}'?", *near)
                         : names.empty() ? "it has no options"
                                         : fmt::format("it has {}", fmt::join(names, ", "));
      return usage_error(fmt::format("'{}' has no option '{}'", metric, name), std::move(hint));
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (given[j].first == name) {
        return usage_error(fmt::format("option '{}' of '{}' is given twice", name, metric));
      }
    }
  }
  Options options;
  for (const OptionSpec& spec : specs) {
    const auto at = std::find_if(given.begin(), given.end(),
                                 [&](const auto& pair) { return pair.first == spec.name; });
    if (at == given.end()) {
      if (spec.default_text.empty()) continue;
      options.entries_.push_back(
          {std::string(spec.name), spec.type, std::string(spec.default_text), false});
      continue;
    }
    auto value = checked_value(metric, spec, at->second);
    if (!value) return value.error();
    options.entries_.push_back({std::string(spec.name), spec.type, std::move(*value), true});
  }
  return options;
}

const Options::Entry* Options::find(std::string_view name) const {
  for (const Entry& entry : entries_) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

bool Options::given(std::string_view name) const {
  const Entry* entry = find(name);
  return entry != nullptr && entry->given;
}
bool Options::has(std::string_view name) const { return find(name) != nullptr; }

std::string_view Options::text(std::string_view name) const {
  const Entry* entry = find(name);
  return entry == nullptr ? std::string_view() : std::string_view(entry->text);
}

double Options::number(std::string_view name) const { return number_of(text(name)); }

Fraction Options::fraction(std::string_view name) const {
  const auto parsed = parse_decimal(text(name));
  return parsed.ok() ? *parsed : Fraction{};
}

i64 Options::integer(std::string_view name) const {
  const std::string_view value = text(name);
  i64 number = 0;
  std::from_chars(value.data(), value.data() + value.size(), number);
  return number;
}

bool Options::flag(std::string_view name) const { return text(name) == "true"; }

std::vector<i64> Options::list(std::string_view name) const {
  std::vector<i64> values;
  for (const std::string& part : parts_of(text(name))) {
    i64 value = 0;
    std::from_chars(part.data(), part.data() + part.size(), value);
    values.push_back(value);
  }
  return values;
}

std::pair<double, double> Options::range(std::string_view name) const {
  const std::vector<std::string> parts = parts_of(text(name));
  if (parts.size() != 2) return {};
  return {number_of(parts[0]), number_of(parts[1])};
}

std::pair<Fraction, Fraction> Options::fractions(std::string_view name) const {
  const std::vector<std::string> parts = parts_of(text(name));
  if (parts.size() != 2) return {};
  const auto low = parse_decimal(parts[0]);
  const auto high = parse_decimal(parts[1]);
  return low.ok() && high.ok() ? std::pair{*low, *high} : std::pair<Fraction, Fraction>{};
}

Detail::Object Options::params() const {
  Detail::Object params;
  for (const Entry& entry : entries_) {
    switch (entry.type) {
      case OptionType::kChoice:
      case OptionType::kList:
      case OptionType::kRange:
        params.emplace_back(entry.name, entry.text);
        break;
      case OptionType::kFlag:
        params.emplace_back(entry.name, entry.text == "true");
        break;
      case OptionType::kInteger:
        params.emplace_back(entry.name, integer(entry.name));
        break;
      case OptionType::kNumber:
        params.emplace_back(entry.name, number(entry.name));
        break;
    }
  }
  return params;
}

}  // namespace cupel
