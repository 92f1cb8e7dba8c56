// CLI11 does the parsing and stays inside this file: its exceptions become Errors here.
#include "cli/arguments.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <limits>

#include "cupel/metric/metric.hpp"

namespace cupel {
namespace {

constexpr std::size_t kHelpColumn = 26;

/// All parts, the empty ones too: "a,,b" is a mistake that its reader should see.
std::vector<std::string> split_at_commas(const std::vector<std::string>& values) {
  std::vector<std::string> parts;
  for (std::string_view rest : values) {
    for (std::size_t comma = rest.find(','); comma != std::string_view::npos;
         comma = rest.find(',')) {
      parts.emplace_back(rest.substr(0, comma));
      rest.remove_prefix(comma + 1);
    }
    parts.emplace_back(rest);
  }
  return parts;
}

}  // namespace

/// Examples, usage, options: in this order.
class HelpFormatter : public CLI::Formatter {
 public:
  explicit HelpFormatter(std::string usage) : usage_(std::move(usage)) {
    column_width(kHelpColumn);
  }
  /// What the help says of the arguments that are not options.
  void describe_positionals(std::string_view name, std::string_view summary) {
    positionals_ = fmt::format("\narguments:\n  {:<{}}{}\n", name, kHelpColumn - 2, summary);
  }

  std::string make_usage(const CLI::App*, std::string) const override {
    return "usage: cupel " + usage_ + "\n";
  }
  std::string make_positionals(const CLI::App*) const override { return positionals_ + "\n"; }
  std::string make_group(std::string group, bool is_positional,
                         std::vector<const CLI::Option*> options) const override {
    std::string text = group + ":\n";
    for (const CLI::Option* option : options) text += make_option(option, is_positional);
    return text;
  }
  std::string make_option_name(const CLI::Option* option, bool) const override {
    std::string names = option->get_name(false, true);
    const std::size_t comma = names.find(',');
    if (comma == std::string::npos) return names;
    return names.substr(0, comma) + ", " + names.substr(comma + 1);
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string& value = option->get_option_text();
    return value.empty() ? std::string() : " " + value;
  }

 private:
  std::string usage_;
  std::string positionals_;
};

Arguments::Arguments(std::string_view usage, std::string_view examples)
    : app_(std::make_unique<CLI::App>()), usage_(usage) {
  app_->set_help_flag();  // declared by help's own section, last
  app_->description("examples:\n" + std::string(examples));
  formatter_ = std::make_shared<HelpFormatter>(usage_);
  app_->formatter(formatter_);
  app_->allow_extras();
}

Arguments::~Arguments() = default;

void Arguments::describe(CLI::Option* option, std::string value) {
  option->group(section_);
  option->option_text(std::move(value));
}

void Arguments::text(std::string names, std::string value, std::string& into, std::string summary) {
  describe(app_->add_option(std::move(names), into, std::move(summary)), std::move(value));
}

void Arguments::list(std::string names, std::string value, std::vector<std::string>& into,
                     std::string summary) {
  CLI::Option* option = app_->add_option(std::move(names), into, std::move(summary));
  describe(option->expected(1)->take_all()->allow_extra_args(false), std::move(value));
  lists_.push_back(&into);
}

void Arguments::flag(std::string names, bool& into, std::string summary) {
  CLI::Option* flag = app_->add_flag(std::move(names), into, std::move(summary));
  describe(flag->disable_flag_override(), {});  // "--pool=no" is a mistake, not a way to say yes
}

void Arguments::positionals(std::string_view name, std::string_view summary,
                            std::vector<std::string>& into, std::size_t most) {
  positionals_ = &into;
  most_positionals_ = most;
  formatter_->describe_positionals(name, summary);
}

bool Arguments::given(const std::string& name) const { return app_->count(name) > 0; }

Error Arguments::unknown_option(const std::string& argument) const {
  const std::string command = usage_.substr(0, usage_.find(' '));
  const std::string name = argument.substr(0, argument.find('='));
  std::vector<std::string> names;
  for (const CLI::Option* option : app_->get_options()) {
    for (const std::string& known : option->get_lnames()) names.push_back("--" + known);
  }
  if (const auto near = nearest_name(name, names)) {
    return usage_error(fmt::format("unknown option '{}', did you mean '{}'?", name, *near));
  }
  return usage_error(fmt::format("unknown option '{}'", name),
                     fmt::format("'cupel {} --help' lists all", command));
}

Result<Arguments::Outcome> Arguments::parse(std::vector<std::string> arguments) {
  section("help");
  CLI::Option* help_flag = app_->set_help_flag("-h,--help", "show this and exit");
  help_flag->group(section_);
  // CLI11 would read "[ab]" as a list of values; here it is a pattern. So it sees options only and
  // leaves the rest alone.
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  std::vector<std::string> behind;
  if (dashes != arguments.end()) {
    behind.assign(dashes + 1, arguments.end());
    arguments.erase(dashes, arguments.end());
  }
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  try {
    app_->parse(arguments);
  } catch (const CLI::CallForHelp&) {
    return Outcome::kHelp;
  } catch (const CLI::ParseError& error) {
    // "--label: 1 required TEXT missing" and the like: the option's name, then CLI11's words.
    // Of flags it says no dashes and goes on without a colon.
    const std::string message = error.what();
    const std::string name = message.substr(0, message.find_first_of(": "));
    for (const CLI::Option* option : app_->get_options()) {
      if (!option->check_name(name) && !option->check_lname(name)) continue;
      const std::string shown = name.starts_with('-') ? name : "--" + name;
      if (option->count() > 1) return usage_error(fmt::format("{} is given twice", shown));
      if (option->get_expected_min() == 0)
        return usage_error(fmt::format("{} takes no value", shown));
      return usage_error(fmt::format("{} needs a value", shown));
    }
    return usage_error(message);
  }
  std::vector<std::string> rest = app_->remaining();
  for (const std::string& argument : rest) {
    if (argument.size() > 1 && argument.front() == '-') return unknown_option(argument);
  }
  rest.insert(rest.end(), behind.begin(), behind.end());
  if (rest.size() > most_positionals_) {
    return usage_error(fmt::format("unexpected argument '{}'", rest[most_positionals_]),
                       fmt::format("the usage is 'cupel {}'", usage_));
  }
  if (positionals_ != nullptr) *positionals_ = std::move(rest);
  for (std::vector<std::string>* list : lists_) *list = split_at_commas(*list);
  return Outcome::kRun;
}

std::string Arguments::help() const { return app_->help(); }

Result<i64> parse_size(std::string_view option, std::string_view text) {
  const auto refuse = [&]() -> Error {
    return usage_error(fmt::format("{} '{}' is not a size", option, text),
                       "write bytes, or a number with K, M, G or T, such as 512M");
  };
  i64 number = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (fault != std::errc() || number <= 0) return refuse();
  const std::string_view suffix(end, static_cast<std::size_t>(text.data() + text.size() - end));
  constexpr std::string_view kSuffixes = "KMGT";
  i64 unit = 1;
  if (!suffix.empty()) {
    const std::size_t power = kSuffixes.find(suffix.front());
    const bool known = suffix.size() == 1 || suffix.substr(1) == "B" || suffix.substr(1) == "iB";
    if (power == std::string_view::npos || !known) return refuse();
    unit = i64{1024} << (10 * power);
  }
  i64 bytes = 0;
  if (!checked_mul(number, unit, bytes)) return refuse();
  return bytes;
}

Result<i64> parse_integer(std::string_view option, std::string_view text, i64 least, i64 most) {
  i64 number = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (fault != std::errc() || end != text.data() + text.size() || number < least || number > most) {
    const std::string range = most == std::numeric_limits<i64>::max()
                                  ? fmt::format("{} or more", least)
                                  : fmt::format("from {} to {}", least, most);
    return usage_error(fmt::format("{} '{}' is not an integer {}", option, text, range));
  }
  return number;
}

Result<std::size_t> parse_choice(std::string_view option, std::string_view text,
                                 const std::vector<std::string>& choices) {
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (choices[i] == text) return i;
  }
  if (const auto near = nearest_name(text, choices)) {
    return usage_error(fmt::format("unknown {} '{}', did you mean '{}'?", option, text, *near));
  }
  return usage_error(fmt::format("unknown {} '{}'", option, text),
                     fmt::format("one of {}", fmt::join(choices, ", ")));
}

}  // namespace cupel
