#include "eval/class_names.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <tuple>

#include "eval/prepare_rows.hpp"

namespace cupel {
namespace {

constexpr std::size_t kMostClasses = std::size_t{1} << 31;

/// The value of a number's text so that integers stay exact: the integer at or below it, clamped
/// far outside those that columns hold, then the value itself.
std::pair<i128, double> value_of(const std::string& text) {
  const bool negative = text.starts_with('-');
  const std::size_t first = negative ? 1 : 0;
  constexpr std::size_t kMostDigits = 20;  // those of 2^64
  const bool digits = text.find_first_not_of("0123456789", first) == std::string::npos;
  if (digits && text.size() > first && text.size() - first <= kMostDigits) {
    i128 whole = 0;
    for (std::size_t i = first; i < text.size(); ++i) whole = 10 * whole + (text[i] - '0');
    if (negative) whole = -whole;
    return {whole, static_cast<double>(whole)};
  }
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  constexpr double kFar = 0x1p100;
  return {static_cast<i128>(std::floor(std::clamp(value, -kFar, kFar))), value};
}

bool number_before(const std::string& a, const std::string& b) {
  const auto x = value_of(a);
  const auto y = value_of(b);
  return x != y ? x < y : a < b;
}

/// As an integer where it is one.
std::string number_text(double value) {
  value += 0.0;  // no -0
  if (std::floor(value) == value && value >= -0x1p63 && value < 0x1p64) {
    return value < 0 ? fmt::format("{}", static_cast<i64>(value))
                     : fmt::format("{}", static_cast<u64>(value));
  }
  return fmt::format("{}", value);
}

}  // namespace

void sort_class_names(std::vector<std::string>& names, bool numeric) {
  if (!numeric) {
    std::sort(names.begin(), names.end());
  } else {
    // Each text is read once.
    std::vector<std::tuple<i128, double, std::string>> keyed;
    keyed.reserve(names.size());
    for (std::string& name : names) {
      const auto [whole, value] = value_of(name);
      keyed.emplace_back(whole, value, std::move(name));
    }
    std::sort(keyed.begin(), keyed.end());
    for (std::size_t i = 0; i < keyed.size(); ++i) names[i] = std::move(std::get<2>(keyed[i]));
  }
  names.erase(std::unique(names.begin(), names.end()), names.end());
}

u32 find_class_name(const std::vector<std::string>& names, bool numeric, const std::string& name) {
  const auto at = numeric ? std::lower_bound(names.begin(), names.end(), name, number_before)
                          : std::lower_bound(names.begin(), names.end(), name);
  return static_cast<u32>(at - names.begin());
}

u32 ClassReader::number_of(const std::string& name) {
  const auto [at, added] = numbers_.try_emplace(name, static_cast<u32>(names_.size()));
  if (added) names_.push_back(name);
  return at->second;
}

Result<Buffer<u32>> ClassReader::read(const ArrayView& column, i64 rows) {
  Buffer<u32> classes(static_cast<std::size_t>(rows));
  const auto full = [&]() -> Result<Buffer<u32>> {
    return usage_error("the labels name 2^31 classes or more",
                       "evaluate rows of fewer classes at a time");
  };
  if (is_string(column.dtype)) {
    numeric_ = false;
    for (i64 row = 0; row < rows; ++row) {
      const std::string name = text_at(column, row);
      classes[static_cast<std::size_t>(row)] = name.empty() ? kMissing : number_of(name);
      if (names_.size() >= kMostClasses) return full();
    }
    return classes;
  }
  // Numbers are written as texts once each.
  std::unordered_map<u64, u32> known;
  u64 last_key = 0;
  u32 last = kMissing;
  bool any = false;
  const auto take = [&](i64 row, u64 key, auto name) {
    if (!any || key != last_key) {
      const auto [at, added] = known.try_emplace(key, 0);
      if (added) at->second = number_of(name());
      last_key = key;
      last = at->second;
      any = true;
    }
    classes[static_cast<std::size_t>(row)] = last;
  };
  for (i64 row = 0; row < rows; ++row) {
    if (is_float(column.dtype)) {
      const double value = element(column, row, 0) + 0.0;
      if (!std::isfinite(value)) {
        classes[static_cast<std::size_t>(row)] = kMissing;
      } else {
        take(row, std::bit_cast<u64>(value), [&] { return number_text(value); });
      }
    } else {
      with_type(column.dtype, [&](auto zero) {
        const auto value = load<decltype(zero)>(column.at(row));
        take(row, static_cast<u64>(value), [&] { return fmt::format("{}", value); });
      });
    }
    if (names_.size() >= kMostClasses) return full();
  }
  return classes;
}

std::vector<std::string> ClassReader::finish(std::initializer_list<Buffer<u32>*> classes) {
  std::vector<std::string> sorted = names_;
  sort_class_names(sorted, numeric_);
  std::vector<u32> renumbered(names_.size());
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    renumbered[numbers_.at(sorted[i])] = static_cast<u32>(i);
  }
  for (Buffer<u32>* of : classes) {
    for (u32& cls : *of) cls = cls == kMissing ? kMissing : renumbered[cls];
  }
  return sorted;
}

}  // namespace cupel
