// The arguments of one command: declared once, for parsing, help and "did you mean" alike. Values
// arrive as text; what they mean is checked by whoever uses them, with errors as values.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cupel/core/int.hpp"
#include "cupel/core/result.hpp"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace cupel {

class HelpFormatter;

class Arguments {
 public:
  /// `usage` is what follows "cupel"; `examples` are lines to copy, shown first in the help.
  Arguments(std::string_view usage, std::string_view examples);
  ~Arguments();
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;

  /// Options declared from here on stand under this heading in the help.
  void section(std::string heading) { section_ = std::move(heading); }

  /// `names` as in "-o,--output"; `value` is what the help calls the value.
  void text(std::string names, std::string value, std::string& into, std::string summary);
  /// May be repeated; each value may hold several, separated by commas.
  void list(std::string names, std::string value, std::vector<std::string>& into,
            std::string summary);
  void flag(std::string names, bool& into, std::string summary);
  /// The arguments that are not options, at most `most`; whatever follows "--" is none.
  void positionals(std::string_view name, std::string_view summary, std::vector<std::string>& into,
                   std::size_t most);

  /// Whether the option was given, by one of its names.
  bool given(const std::string& name) const;

  enum class Outcome { kRun, kHelp };
  /// Errors (kUsage): an unknown option, with the nearest name; a missing value; an option given
  /// twice; an argument too many.
  Result<Outcome> parse(std::vector<std::string> arguments);
  std::string help() const;

 private:
  void describe(CLI::Option* option, std::string value);
  Error unknown_option(const std::string& argument) const;

  std::unique_ptr<CLI::App> app_;
  std::shared_ptr<HelpFormatter> formatter_;
  std::string usage_;
  std::string section_;
  std::vector<std::string>* positionals_ = nullptr;
  std::size_t most_positionals_ = 0;
  std::vector<std::vector<std::string>*> lists_;
};

/// "512M", "4G", "1048576": a size in bytes; suffixes K, M, G, T count in 1024. Errors: kUsage.
Result<i64> parse_size(std::string_view option, std::string_view text);
/// An integer from `least` to `most`. Errors: kUsage.
Result<i64> parse_integer(std::string_view option, std::string_view text, i64 least, i64 most);
/// The index of `text` among `choices`. Errors: kUsage, with the nearest choice.
Result<std::size_t> parse_choice(std::string_view option, std::string_view text,
                                 const std::vector<std::string>& choices);

}  // namespace cupel
