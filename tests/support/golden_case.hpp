// Reads the golden cases that scripts/gen_golden.py writes (the format is described there) and
// turns their rows into npz bytes.
#pragma once

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "io/fixtures.hpp"

namespace cupel::golden {

struct CaseColumn {
  std::string name;
  std::size_t width = 0;  ///< 0: one-dimensional
  std::string dtype;
};

struct Expected {
  std::string line;
  std::string metric;   ///< "auroc(max_fpr=0.25)"
  std::string average;  ///< empty: null
  std::string cls;      ///< empty: null
  std::string group;    ///< "g:a,h:b", "g:a|b", or empty
  std::string undefined;
  double value = 0;
  int ulps = 0;
  double relative = 0;
};

struct GoldenCase {
  std::string name;
  std::string task, metrics;
  std::vector<std::string> options;
  std::vector<CaseColumn> columns;
  std::vector<std::vector<std::string>> rows;  ///< cells in order of the columns
  std::vector<Expected> expected;
  int error_code = 0;
  std::string error_text;
};

inline std::vector<std::string> words_of(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

inline Expected parse_expected(const std::string& line) {
  Expected e;
  e.line = line;
  const auto words = words_of(line);
  e.metric = words[0];
  std::size_t i = 1;
  for (; words[i] != "="; ++i) {
    const auto equals = words[i].find('=');
    const std::string key = words[i].substr(0, equals);
    const std::string value = words[i].substr(equals + 1);
    if (key == "average") e.average = value;
    if (key == "class") e.cls = value;
    if (key == "group") e.group = value;
  }
  ++i;
  if (words[i] == "undefined") {
    e.undefined = words[i + 1];
    return e;
  }
  const auto slash = words[i].find('/');
  e.value = std::strtod(words[i].substr(0, slash).c_str(), nullptr) /
            std::strtod(words[i].substr(slash + 1).c_str(), nullptr);
  for (++i; i < words.size(); ++i) {
    if (words[i].starts_with("ulp=")) e.ulps = std::atoi(words[i].c_str() + 4);
    if (words[i].starts_with("rel=")) e.relative = std::strtod(words[i].c_str() + 4, nullptr);
  }
  return e;
}

inline GoldenCase read_case(const std::filesystem::path& path) {
  GoldenCase golden;
  golden.name = path.stem().string();
  std::ifstream file(path);
  bool results = false;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.starts_with("#")) continue;
    const auto words = words_of(line);
    if (line == "----") {
      results = true;
    } else if (results && words[0] == "error") {
      golden.error_code = std::atoi(words[1].c_str());
      golden.error_text = line.substr(line.find(words[1]) + words[1].size() + 1);
    } else if (results) {
      golden.expected.push_back(parse_expected(line));
    } else if (golden.columns.empty() && words[0] == "task") {
      golden.task = words[1];
    } else if (golden.columns.empty() && words[0] == "metrics") {
      golden.metrics = words[1];
    } else if (golden.columns.empty() && words[0] == "options") {
      golden.options.assign(words.begin() + 1, words.end());
    } else if (golden.columns.empty()) {
      for (std::size_t i = 1; i < words.size(); ++i) {
        const auto colon = words[i].find(':');
        CaseColumn column{words[i].substr(0, colon), 0, words[i].substr(colon + 1)};
        if (const auto open = column.name.find('['); open != std::string::npos) {
          column.width = static_cast<std::size_t>(std::atoi(column.name.c_str() + open + 1));
          column.name.resize(open);
        }
        golden.columns.push_back(column);
      }
    } else {
      golden.rows.push_back(words);
    }
  }
  return golden;
}

/// Rounds to `bits` of significand with `least` as exponent of the smallest unit, ties to even.
inline double round_to_bits(double value, int bits, int least) {
  if (value == 0 || !std::isfinite(value)) return value;
  int exponent = 0;
  std::frexp(value, &exponent);
  const int unit = std::max(exponent - bits, least);
  return std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
}

/// One cell as the bytes of its dtype. f16 and bf16 are encoded from the definition of their
/// fields.
inline std::string cell_bytes(const std::string& dtype, const std::string& text) {
  using fixtures::le;
  const double value = std::strtod(text.c_str(), nullptr);
  if (dtype == "bool" || dtype == "u8") return le(static_cast<u8>(value));
  if (dtype == "i32") return le(static_cast<i32>(value));
  if (dtype == "i64") return le(static_cast<i64>(std::strtoll(text.c_str(), nullptr, 10)));
  if (dtype == "f32") return le(static_cast<float>(value));
  if (dtype == "f64") return le(value);
  if (dtype == "bf16") {
    const float rounded = static_cast<float>(round_to_bits(value, 8, -133));
    u32 bits = 0;
    std::memcpy(&bits, &rounded, sizeof bits);
    return le(static_cast<u16>(bits >> 16));
  }
  if (dtype == "f16") {
    const u16 sign = std::signbit(value) ? 0x8000 : 0;
    const double magnitude = std::fabs(round_to_bits(value, 11, -24));
    if (std::isnan(value)) return le(static_cast<u16>(0x7E00));
    if (magnitude >= 65520) return le(static_cast<u16>(sign | 0x7C00));
    if (magnitude < 0x1p-14) {
      return le(static_cast<u16>(sign | static_cast<u16>(std::ldexp(magnitude, 24))));
    }
    const int exponent = std::ilogb(magnitude);
    const u16 fraction = static_cast<u16>(std::ldexp(magnitude, 10 - exponent) - 1024);
    return le(static_cast<u16>(sign | ((exponent + 15) << 10) | fraction));
  }
  std::string padded = text;
  padded.resize(16, '\0');
  return padded;
}

inline std::string descr_of(const std::string& dtype) {
  if (dtype == "bool") return "|b1";
  if (dtype == "u8") return "|u1";
  if (dtype == "i32") return "<i4";
  if (dtype == "i64") return "<i8";
  if (dtype == "f16") return "<f2";
  if (dtype == "bf16") return "|V2";
  if (dtype == "f32") return "<f4";
  if (dtype == "f64") return "<f8";
  return "|S16";
}

/// The npz of these rows of the case, in this order.
inline std::string npz_of(const GoldenCase& golden, const std::vector<std::size_t>& rows) {
  std::vector<fixtures::ZipMember> members;
  std::size_t first = 0;
  for (const CaseColumn& column : golden.columns) {
    const std::size_t width = std::max<std::size_t>(1, column.width);
    std::string data;
    for (const std::size_t row : rows) {
      for (std::size_t c = 0; c < width; ++c) {
        data += cell_bytes(column.dtype, golden.rows[row][first + c]);
      }
    }
    first += width;
    const std::string shape =
        column.width == 0 ? "(" + std::to_string(rows.size()) + ",)"
                          : "(" + std::to_string(rows.size()) + ", " + std::to_string(width) + ")";
    members.push_back({column.name + ".npy", fixtures::npy(descr_of(column.dtype), shape, data)});
  }
  return fixtures::zip(members);
}

}  // namespace cupel::golden
