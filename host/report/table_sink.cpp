// Results as a person compares them. One dump: its metrics below each other. Several: one row per
// dump. A breakdown (a group column, the classes) is a table of its own with a row per value and a
// column per metric, and gap, worst group and equity-scaled value below it.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <tuple>

#include "report/sinks.hpp"
#include "report/table.hpp"
#include "report/text.hpp"

namespace cupel {
namespace {

constexpr i64 kLongestName = 32;
constexpr i64 kLongestWorst = 12;  // stands in a column of numbers
constexpr std::size_t kNamesInNote = 4;
constexpr std::string_view kUsualAverage = "macro";  // what nobody needs to be told

using Results = std::vector<const EvalResult*>;

/// The entry of that name, or nullptr.
const Detail* find(const Detail::Object& object, std::string_view name) {
  for (const auto& [key, value] : object) {
    if (key == name) return &value;
  }
  return nullptr;
}

template <class T>
const T* get(const Detail* detail) {
  return detail == nullptr ? nullptr : std::get_if<T>(&detail->held());
}

/// How wide the names of a file may be in a cell. Markdown has no width to keep to.
struct NameLimits {
  i64 longest = kLongestName;
  i64 worst = kLongestWorst;
};
constexpr NameLimits kNoLimits = {std::numeric_limits<i64>::max(), std::numeric_limits<i64>::max()};

/// A name from a file, fit for a cell.
std::string cell_name(std::string_view name, i64 longest) {
  std::string shown = printable(name);
  if (display_width(shown) <= longest) return shown;
  std::size_t end = 0;
  for (std::size_t at = 1; at <= shown.size(); ++at) {
    const bool boundary = at == shown.size() || (shown[at] & '\xC0') != '\x80';
    if (boundary && display_width(shown.substr(0, at)) + 2 <= longest) end = at;
  }
  return shown.substr(0, end) + "..";
}

/// Likewise, but the end of it.
std::string cell_name_end(std::string_view name, i64 longest) {
  std::string shown = printable(name);
  if (display_width(shown) <= longest) return shown;
  std::size_t begin = shown.size();
  for (std::size_t at = shown.size(); at > 0; --at) {
    const bool boundary = at == shown.size() || (shown[at] & '\xC0') != '\x80';
    if (boundary && display_width(shown.substr(at)) + 2 <= longest) begin = at;
  }
  return ".." + shown.substr(begin);
}

/// The width at which two names, cut, are still different: one character behind what they share.
i64 telling_width(std::string_view a, std::string_view b) {
  const auto differ = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  auto same = static_cast<std::size_t>(differ.first - a.begin());
  while (same > 0 && same < a.size() && (a[same] & '\xC0') == '\x80') --same;  // a whole character
  constexpr i64 kWidest = 2;  // of a character, and of the dots
  return display_width(a.substr(0, same)) + 2 * kWidest;
}

/// `longest`, or as much more as keeps the cut forms of all `names` different.
i64 telling_width(std::vector<std::string> names, i64 longest) {
  std::erase_if(names, [&](const std::string& name) { return display_width(name) <= longest; });
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  for (std::size_t i = 1; i < names.size(); ++i) {
    longest = std::max(longest, telling_width(names[i - 1], names[i]));
  }
  return longest;
}

/// A name in a narrow cell: its beginning, or where another name begins so too, its end.
std::string telling_name(const std::string& name, const std::vector<std::string>& others,
                         i64 longest) {
  const auto shared = [&](const auto& cut) {
    return std::any_of(others.begin(), others.end(),
                       [&](const std::string& other) { return cut(other) == cut(name); });
  };
  const auto beginning = [&](const std::string& text) { return cell_name(text, longest); };
  if (!shared(beginning)) return beginning(name);
  const auto end = [&](const std::string& text) { return cell_name_end(text, longest); };
  if (!shared(end)) return end(name);
  return printable(name);
}

std::string option_text(const Detail& value) {
  if (const bool* flag = get<bool>(&value)) return *flag ? "true" : "false";
  if (const i64* number = get<i64>(&value)) return std::to_string(*number);
  if (const double* number = get<double>(&value)) return round_trip(*number);
  if (const std::string* text = get<std::string>(&value)) return printable(*text);
  return "?";
}

/// Names of metrics with the options that differ from their defaults: `auroc(max_fpr=0.1)`.
class Labels {
 public:
  explicit Labels(const EvalReport& report) {
    for (const EvalResult& result : report.results) {
      const Detail* threshold = find(result.params, "threshold");
      const double* number = get<double>(threshold);
      if (number != nullptr) thresholds_[result.metric].insert(*number);
    }
  }

  std::string operator()(const EvalResult& result) { return label(result, true); }
  /// For a table with a column for the average.
  std::string without_average(const EvalResult& result) { return label(result, false); }

 private:
  std::string label(const EvalResult& result, bool with_average) {
    std::string options;
    const auto add = [&](const std::string& name, const std::string& value) {
      options += (options.empty() ? "" : ",") + name + "=" + value;
    };
    for (const auto& [name, preset] : presets(result.metric)) {
      const Detail* value = find(result.params, name);
      if (value == nullptr || *value == preset || is_implied(result, name, *value)) continue;
      add(name, option_text(*value));
    }
    if (with_average && !result.average.empty() && result.average != kUsualAverage) {
      add("average", result.average);
    }
    std::string label = options.empty() ? result.metric : result.metric + "(" + options + ")";
    // An equity-scaled value is one per group column.
    if (const auto* attribute = get<std::string>(find(result.params, "attribute"))) {
      label += " by " + printable(*attribute);
    }
    return label;
  }

  const Detail::Object& presets(const std::string& name) {
    const auto [at, is_new] = presets_.try_emplace(name);
    if (!is_new) return at->second;
    const auto specs = parse_metrics(name);
    if (!specs) return at->second;
    at->second = specs->front().options.params();
    for (const OptionSpec& option : effective_options(*specs->front().metric)) {
      if (find(at->second, option.name) == nullptr) {
        at->second.emplace_back(std::string(option.name), Detail());
      }
    }
    return at->second;
  }

  /// What takes effect when nothing is said, although the option has no default of its own.
  bool is_implied(const EvalResult& result, std::string_view name, const Detail& value) const {
    if (name == "average") return true;  // said by the result's own field
    if (name == "domain" && value == Detail("l2")) return true;
    if (name == "normalize" && value == Detail(true)) return true;
    // The rates that take effect where no range or threshold is given.
    if (name == "far_low" && value == Detail(0.01)) return true;
    if (name == "far_high" && value == Detail(0.1)) return true;
    if (name == "far" && value == Detail(0.01)) return true;
    const double* number = get<double>(&value);
    if (name != "threshold" || number == nullptr || (*number != 0.5 && *number != 0)) return false;
    const auto at = thresholds_.find(result.metric);
    return at != thresholds_.end() && at->second.size() == 1;
  }

  std::map<std::string, Detail::Object, std::less<>> presets_;
  std::map<std::string, std::set<double>> thresholds_;
};

Cell number_cell(double number, Tone tone = Tone::kPlain) {
  return {five_digits(number), tone, true};
}

Cell value_cell(const EvalResult& result, Tone tone = Tone::kPlain) {
  if (result.undefined != Undefined::kNone) return {"-", Tone::kFaint};
  return number_cell(result.value, tone);
}

Cell count_cell(std::optional<i64> count) { return count ? Cell{with_separators(*count)} : Cell{}; }

/// Things in the order in which they first appear.
template <class T>
class Ordered {
 public:
  std::size_t index(const T& value) {
    const auto [at, is_new] = indices_.try_emplace(value, values_.size());
    if (is_new) values_.push_back(value);
    return at->second;
  }
  const std::vector<T>& values() const { return values_; }
  std::size_t size() const { return values_.size(); }
  bool contains(const T& value) const { return indices_.contains(value); }

 private:
  std::vector<T> values_;
  std::map<T, std::size_t> indices_;
};

bool is_pair(const EvalResult& result) { return !result.group_against.empty(); }
bool is_overall(const EvalResult& result) { return result.group.empty() && !result.cls; }

/// Whether a metric compares groups and has no value of its own without them.
bool is_group_comparison(const std::string& name) {
  const auto metric = find_metric(name);
  return metric.ok() && (*metric)->scope() == MetricScope::kPairs;
}

/// Whether a metric has a value per group: neither a comparison of groups nor equity-scaled.
bool is_plain(const EvalResult& result) {
  return find(result.params, "attribute") == nullptr && !is_group_comparison(result.metric);
}

std::vector<std::string> columns_of(const EvalResult& result) {
  std::vector<std::string> columns;
  for (const auto& [column, value] : result.group) columns.push_back(column);
  return columns;
}

/// Rows by what they are of, columns by metric.
class Pivot {
 public:
  using RowKey = std::vector<std::string>;

  /// The names of rows are cut to `longest`.
  Pivot(std::vector<std::string> key_heads, i64 longest) : longest_(longest) {
    table_.keys = key_heads.size();
    for (std::string& head : key_heads) table_.columns.push_back({std::move(head), Align::kLeft});
  }

  void put(const RowKey& key, const std::string& label, const EvalResult& result) {
    const std::size_t row = rows_.index(key);
    if (row == entries_.size()) entries_.emplace_back();
    Entry& entry = entries_[row];
    entry.cells[metrics_.index(label)] = value_cell(result);
    // A fit counts some of the rows only, and so do conformal sets: their count stands where
    // nothing else is counted.
    const bool fitted =
        find(result.details, "fit") != nullptr || find(result.details, "n_calibration") != nullptr;
    if (!entry.n || (entry.of_fit && !fitted)) {
      entry.n = result.n;
      entry.n_pos = result.n_pos;
      entry.of_fit = fitted;
    }
    if (!entry.n_pos) entry.n_pos = result.n_pos;
  }

  /// A line below the rows, under the name `what`.
  void put_below(const std::string& what, const std::string& label, Cell cell) {
    const std::size_t row = below_.index(what);
    if (row == below_cells_.size()) below_cells_.emplace_back();
    below_cells_[row][metrics_.index(label)] = std::move(cell);
  }

  void mark(const RowKey& key, const std::string& label, Tone tone) {
    if (!rows_.contains(key)) return;
    entries_[rows_.index(key)].cells[metrics_.index(label)].tone = tone;
  }

  bool empty() const { return rows_.size() == 0; }
  const std::vector<RowKey>& keys() const { return rows_.values(); }
  /// Whether a metric has a value in some row.
  bool has(const std::string& label) const { return metrics_.contains(label); }

  Table finish() {
    const bool any_pos = std::any_of(entries_.begin(), entries_.end(),
                                     [](const Entry& entry) { return entry.n_pos.has_value(); });
    table_.columns.push_back({"n", Align::kRight});
    if (any_pos) table_.columns.push_back({"n_pos", Align::kRight});
    const std::size_t lead = table_.columns.size();
    for (const std::string& label : metrics_.values()) {
      table_.columns.push_back({label, Align::kDecimal});
    }
    std::vector<i64> widths;
    for (std::size_t k = 0; k < table_.keys; ++k) {
      std::vector<std::string> names;
      for (const RowKey& keys : rows_.values()) names.push_back(printable(keys[k]));
      widths.push_back(telling_width(std::move(names), longest_));
    }
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      std::vector<Cell> row;
      const RowKey& keys = rows_.values()[r];
      bool repeats = r > 0;  // the names of the row above need not be said again
      for (std::size_t k = 0; k < keys.size(); ++k) {
        repeats = repeats && keys[k] == rows_.values()[r - 1][k];
        row.push_back({repeats ? std::string() : cell_name(keys[k], widths[k])});
      }
      row.push_back(count_cell(entries_[r].n));
      if (any_pos) row.push_back(count_cell(entries_[r].n_pos));
      append(row, entries_[r].cells);
    }
    for (std::size_t r = 0; r < below_.size(); ++r) {
      std::vector<Cell> row(lead);
      row[0] = {below_.values()[r], Tone::kFaint};
      append(row, below_cells_[r], r == 0);
    }
    return std::move(table_);
  }

 private:
  using Cells = std::map<std::size_t, Cell>;
  struct Entry {
    std::optional<i64> n, n_pos;
    bool of_fit = false;
    Cells cells;
  };

  void append(std::vector<Cell>& row, const Cells& cells, bool begins_summary = false) {
    for (std::size_t c = 0; c < metrics_.size(); ++c) {
      const auto at = cells.find(c);
      row.push_back(at == cells.end() ? Cell{} : at->second);
    }
    table_.rows.push_back({std::move(row), begins_summary});
  }

  i64 longest_;
  Table table_;
  Ordered<std::string> metrics_;
  Ordered<RowKey> rows_;
  std::vector<Entry> entries_;
  Ordered<std::string> below_;
  std::vector<Cells> below_cells_;
};

/// The overall values of one dump below each other.
Table overall_table(const Results& results, Labels& labels) {
  Table table;
  const bool averages = std::any_of(results.begin(), results.end(), [](const EvalResult* result) {
    return !result->average.empty();
  });
  const bool positives = std::any_of(results.begin(), results.end(), [](const EvalResult* result) {
    return result->n_pos.has_value();
  });
  table.columns.push_back({"metric", Align::kLeft});
  if (averages) table.columns.push_back({"average", Align::kLeft});
  table.columns.push_back({"value", Align::kDecimal});
  table.columns.push_back({"n", Align::kRight});
  if (positives) table.columns.push_back({"n_pos", Align::kRight});
  for (const EvalResult* result : results) {
    std::vector<Cell> row = {{averages ? labels.without_average(*result) : labels(*result)}};
    if (averages) row.push_back({result->average, Tone::kFaint});
    row.push_back(value_cell(*result, Tone::kStrong));
    row.push_back(count_cell(result->n));
    if (positives) row.push_back(count_cell(result->n_pos));
    table.rows.push_back({std::move(row)});
  }
  return table;
}

/// Scores of the rows that were not fitted on, before and after each fit. Nothing where a value has
/// no fit of its own, as the mean over labels.
void append_fits(std::vector<Table>& tables, const Results& results, Labels& labels) {
  constexpr std::string_view kScores[] = {"log_loss", "brier", "ece"};
  Table table;
  table.title = "fits: scores of the other rows, before and after";
  table.columns = {{"fit", Align::kLeft}, {"n", Align::kRight}};
  for (const std::string_view score : kScores) {
    table.columns.push_back({std::string(score), Align::kDecimal});
    table.columns.push_back({"after", Align::kDecimal});
  }
  for (const EvalResult* result : results) {
    const auto* others = get<Detail::Object>(find(result->details, "others"));
    if (others == nullptr || find(result->details, "fit") == nullptr) continue;
    const i64* n = get<i64>(find(*others, "n"));
    std::vector<Cell> row = {{labels(*result)}, count_cell(n ? std::optional(*n) : std::nullopt)};
    for (const std::string_view score : kScores) {
      const auto* change = get<Detail::Object>(find(*others, score));
      for (const std::string_view when : {"before", "after"}) {
        const double* number = change ? get<double>(find(*change, when)) : nullptr;
        row.push_back(number != nullptr ? number_cell(*number) : Cell{"-", Tone::kFaint});
      }
    }
    table.rows.push_back({std::move(row)});
  }
  if (!table.rows.empty()) tables.push_back(std::move(table));
}

/// How fits failed that have no value.
std::vector<std::string> fit_notes(const Results& results, Labels& labels) {
  std::vector<std::string> notes;
  for (const EvalResult* result : results) {
    if (!is_overall(*result)) continue;
    const auto* fit = get<Detail::Object>(find(result->details, "fit"));
    const auto* why = fit ? get<std::string>(find(*fit, "why")) : nullptr;
    if (why == nullptr || why->empty()) continue;
    const auto* towards = get<std::string>(find(*fit, "towards"));
    notes.push_back(fmt::format("{}{}: {}", labels(*result),
                                towards ? fmt::format(" runs towards {}", *towards) : "",
                                printable(*why)));
  }
  return notes;
}

/// Gap, worst group and equity-scaled value of one metric, from the overall result's details.
/// `classes`: the pivot's rows have a class, empty for all of them together.
void put_disparity(Pivot& pivot, const std::string& label, const std::vector<std::string>& columns,
                   bool classes, const NameLimits& limits, const EvalResult& overall) {
  pivot.put_below("overall", label, value_cell(overall));
  const auto* groups = get<Detail::Object>(find(overall.details, "groups"));
  if (groups == nullptr) return;
  const auto* facts =
      get<Detail::Object>(find(*groups, fmt::format("{}", fmt::join(columns, ","))));
  if (facts == nullptr) return;
  const auto put_number = [&](std::string_view key, const std::string& shown) {
    const Detail* value = find(*facts, key);
    if (value == nullptr) return;
    const double* number = get<double>(value);
    pivot.put_below(shown, label,
                    number != nullptr ? number_cell(*number) : Cell{"-", Tone::kFaint});
  };
  put_number("gap", "gap");
  const auto* worst = get<Detail::Object>(find(*facts, "worst"));
  if (worst != nullptr) {
    if (const auto* group = get<std::string>(find(*worst, "group"))) {
      std::vector<std::string> others;
      for (Pivot::RowKey key : pivot.keys()) {
        key.resize(columns.size());
        others.push_back(fmt::format("{}", fmt::join(key, ",")));
        if (others.back() == *group) others.pop_back();
      }
      pivot.put_below("worst", label, {telling_name(*group, others, limits.worst)});
      Pivot::RowKey key = {*group};
      if (classes) key.emplace_back();
      if (columns.size() == 1) pivot.mark(key, label, Tone::kAlert);
    }
  }
  put_number("equity_scaled", "equity-scaled");
}

/// A table per set of group columns, in order of appearance.
void append_groups(std::vector<Table>& tables, const Results& results, const NameLimits& limits,
                   Labels& labels) {
  Ordered<std::vector<std::string>> partitions;
  for (const EvalResult* result : results) {
    if (!result->group.empty() && !is_pair(*result)) partitions.index(columns_of(*result));
  }
  for (const std::vector<std::string>& columns : partitions.values()) {
    const bool classes = std::any_of(results.begin(), results.end(), [&](const EvalResult* result) {
      return result->cls && columns_of(*result) == columns;
    });
    std::vector<std::string> heads;
    for (const std::string& column : columns) heads.push_back(cell_name(column, limits.longest));
    if (classes) heads.push_back("class");
    Pivot pivot(heads, limits.longest);
    for (const EvalResult* result : results) {
      if (is_pair(*result) || columns_of(*result) != columns) continue;
      Pivot::RowKey key;
      for (const auto& [column, value] : result->group) key.push_back(value);
      if (classes) key.push_back(result->cls ? std::to_string(*result->cls) : "");
      pivot.put(key, labels(*result), *result);
    }
    for (const EvalResult* result : results) {
      if (!is_overall(*result) || !is_plain(*result)) continue;
      put_disparity(pivot, labels(*result), columns, classes, limits, *result);
    }
    tables.push_back(pivot.finish());
  }
}

void append_classes(std::vector<Table>& tables, const Results& results, Labels& labels) {
  Pivot pivot({"class"}, kLongestName);
  for (const EvalResult* result : results) {
    if (result->group.empty() && result->cls) {
      pivot.put({std::to_string(*result->cls)}, labels(*result), *result);
    }
  }
  if (pivot.empty()) return;
  for (const EvalResult* result : results) {
    if (!is_overall(*result) || !pivot.has(labels(*result))) continue;
    pivot.put_below("overall", labels(*result), value_cell(*result));
  }
  tables.push_back(pivot.finish());
}

/// xauc: the positives' group down, the negatives' group across.
void append_pairs(std::vector<Table>& tables, const Results& results, const NameLimits& limits,
                  Labels& labels) {
  Ordered<std::pair<std::string, std::string>> matrices;
  for (const EvalResult* result : results) {
    if (is_pair(*result) && !result->cls) {
      matrices.index({labels(*result), result->group.front().first});
    }
  }
  for (const auto& [label, column] : matrices.values()) {
    Ordered<std::string> groups;
    std::map<std::pair<std::size_t, std::size_t>, Cell> cells;
    for (const EvalResult* result : results) {
      if (!is_pair(*result) || result->cls || labels(*result) != label ||
          result->group.front().first != column) {
        continue;
      }
      const std::size_t positives = groups.index(result->group.front().second);
      const std::size_t negatives = groups.index(result->group_against);
      cells[{positives, negatives}] = value_cell(*result);
    }
    Table table;
    table.title =
        label + " by " + printable(column) + ": positives of the row, negatives of the column";
    std::vector<std::string> names;
    for (const std::string& group : groups.values()) names.push_back(printable(group));
    const i64 width = telling_width(std::move(names), limits.longest);
    table.columns.push_back({cell_name(column, limits.longest), Align::kLeft});
    for (const std::string& group : groups.values()) {
      table.columns.push_back({cell_name(group, width), Align::kDecimal});
    }
    for (std::size_t r = 0; r < groups.size(); ++r) {
      std::vector<Cell> row = {{cell_name(groups.values()[r], width)}};
      for (std::size_t c = 0; c < groups.size(); ++c) row.push_back(cells[{r, c}]);
      table.rows.push_back({std::move(row)});
    }
    tables.push_back(std::move(table));
  }
}

/// "a, b, c", or how many `things` there are.
std::string some(const std::vector<std::string>& names, std::string_view things) {
  if (names.size() > kNamesInNote) return fmt::format("{} {}", names.size(), things);
  return fmt::format("{}", fmt::join(names, ", "));
}

/// "m.npz sex=f class 3": what a value is of, as far as it says.
std::string place_of(const EvalResult& result, std::optional<i64> cls, bool name_dumps) {
  std::vector<std::string> place;
  if (name_dumps) place.push_back(printable(result.dump));
  for (const auto& [column, value] : result.group) {
    place.push_back(printable(column) + "=" + printable(value));
  }
  if (is_pair(result)) place.push_back("against " + printable(result.group_against));
  if (cls) place.push_back("class " + std::to_string(*cls));
  return fmt::format("{}", fmt::join(place, " "));
}

/// What values are missing for one reason.
struct Reason {
  i64 count = 0;
  Ordered<std::string> metrics, places;

  /// "(auroc, auprc; class 4, class 5)".
  std::string text() const {
    std::string text = "(" + some(metrics.values(), "metrics");
    if (places.size() > 0) text += "; " + some(places.values(), "places");
    return text + ")";
  }
};

/// Why there are dashes: one line per reason, with how many, which metrics, and where.
std::vector<std::string> undefined_notes(const Results& results, bool name_dumps, Labels& labels) {
  std::map<Undefined, Reason> reasons;
  for (const EvalResult* result : results) {
    if (result->undefined == Undefined::kNone) continue;
    Reason& reason = reasons[result->undefined];
    ++reason.count;
    reason.metrics.index(labels(*result));
    const std::string place = place_of(*result, result->cls, name_dumps);
    if (!place.empty()) reason.places.index(place);
  }
  std::vector<std::string> notes;
  for (const auto& [why, reason] : reasons) {
    notes.push_back(fmt::format("undefined: {}, {} value{} {}", undefined_name(why),
                                with_separators(reason.count), reason.count == 1 ? "" : "s",
                                reason.text()));
  }
  return notes;
}

/// Which classes an average is not of. Where classes have results of their own, their dashes say
/// so; and a group is not named for what is left out overall too.
std::vector<std::string> left_out_notes(const Results& results, bool name_dumps, Labels& labels) {
  std::set<std::string> by_class;
  for (const EvalResult* result : results) {
    if (result->cls) by_class.insert(result->metric);
  }
  std::set<std::tuple<std::string, std::string, i64>> overall;  // dump, label, class
  std::map<std::string, Reason> reasons;
  const auto collect = [&](const EvalResult& result) {
    const auto* left_out = get<Detail::List>(find(result.details, "left_out"));
    if (left_out == nullptr || result.cls || by_class.contains(result.metric)) return;
    // Where no class is left the average itself is a dash with a note.
    if (result.undefined != Undefined::kNone) return;
    for (const Detail& entry : *left_out) {
      const auto* facts = get<Detail::Object>(&entry);
      if (facts == nullptr) continue;
      const i64* cls = get<i64>(find(*facts, "class"));
      const auto* why = get<std::string>(find(*facts, "undefined"));
      if (cls == nullptr || why == nullptr) continue;
      const std::tuple key{result.dump, labels(result), *cls};
      if (result.group.empty()) overall.insert(key);
      if (!result.group.empty() && overall.contains(key)) continue;
      Reason& reason = reasons[*why];
      reason.metrics.index(labels(result));
      reason.places.index(place_of(result, *cls, name_dumps));
    }
  };
  for (const EvalResult* result : results) {
    if (result->group.empty()) collect(*result);
  }
  for (const EvalResult* result : results) {
    if (!result->group.empty()) collect(*result);
  }
  std::vector<std::string> notes;
  for (const auto& [why, reason] : reasons) {
    notes.push_back(fmt::format("left out of averages: {} {}", printable(why), reason.text()));
  }
  return notes;
}

std::vector<std::string> notes_of(const Results& results, bool name_dumps, Labels& labels) {
  std::vector<std::string> notes = undefined_notes(results, name_dumps, labels);
  for (std::string& note : left_out_notes(results, name_dumps, labels)) {
    notes.push_back(std::move(note));
  }
  if (name_dumps) return notes;
  for (std::string& note : fit_notes(results, labels)) notes.push_back(std::move(note));
  return notes;
}

/// The longest folder that all paths share, with its slash.
std::string common_folder(const std::vector<std::string>& paths) {
  std::string_view common = paths.front();
  for (const std::string& path : paths) {
    std::size_t same = 0;
    while (same < common.size() && same < path.size() && common[same] == path[same]) ++same;
    common = common.substr(0, same);
  }
  const std::size_t slash = common.rfind('/');
  return slash == std::string_view::npos ? std::string() : std::string(common.substr(0, slash + 1));
}

struct DumpResults {
  std::string path;
  Results all, overall;
};

std::vector<DumpResults> by_dump(const EvalReport& report) {
  std::vector<DumpResults> dumps;
  std::map<std::string_view, std::size_t> indices;
  for (const EvalResult& result : report.results) {
    const auto [at, is_new] = indices.try_emplace(result.dump, dumps.size());
    if (is_new) dumps.push_back({result.dump, {}, {}});
    DumpResults& dump = dumps[at->second];
    dump.all.push_back(&result);
    // A comparison of groups has nothing to show where there are no groups.
    if (is_overall(result) && !is_group_comparison(result.metric)) dump.overall.push_back(&result);
  }
  return dumps;
}

/// What the plan knows of a dump under `key`; nullptr when it does not.
const Detail* planned(const EvalReport& report, const std::string& path, std::string_view key) {
  const auto* dumps = get<Detail::List>(find(report.plan, "dumps"));
  if (dumps == nullptr) return nullptr;
  for (const Detail& entry : *dumps) {
    const auto* dump = get<Detail::Object>(&entry);
    if (dump == nullptr) continue;
    const auto* name = get<std::string>(find(*dump, "dump"));
    if (name != nullptr && *name == path) return find(*dump, key);
  }
  return nullptr;
}

std::string task_of(const EvalReport& report, const std::string& path) {
  const auto* task = get<std::string>(planned(report, path, "task"));
  return task == nullptr ? std::string() : *task;
}

/// "binary, 4,377 rows, cpu".
std::string facts_of(const EvalReport& report, const std::string& path) {
  std::vector<std::string> facts;
  if (std::string task = task_of(report, path); !task.empty()) facts.push_back(std::move(task));
  if (const i64* rows = get<i64>(planned(report, path, "rows"))) {
    facts.push_back(with_separators(*rows) + " rows");
  }
  facts.push_back(printable(report.backend));
  return fmt::format("{}", fmt::join(facts, ", "));
}

/// One row per dump, so that they can be compared.
Section overview(const EvalReport& report, const std::vector<DumpResults>& dumps, Labels& labels) {
  std::vector<std::string> paths;
  for (const DumpResults& dump : dumps) paths.push_back(dump.path);
  const std::string folder = common_folder(paths);
  Section section;
  section.heading = fmt::format("{} dumps", dumps.size());
  if (!folder.empty()) section.heading += " in " + printable(folder);
  std::set<std::string> tasks;
  for (const std::string& path : paths) tasks.insert(task_of(report, path));
  const bool one_task = tasks.size() == 1 && !tasks.begin()->empty();
  section.facts = (one_task ? *tasks.begin() + ", " : "") + printable(report.backend);
  Pivot pivot({"dump"}, kNoLimits.longest);
  for (const DumpResults& dump : dumps) {
    for (const EvalResult* result : dump.overall) {
      pivot.put({dump.path.substr(folder.size())}, labels(*result), *result);
    }
  }
  if (!pivot.empty()) section.tables.push_back(pivot.finish());
  return section;
}

std::vector<Section> sections_of(const EvalReport& report, const NameLimits& limits) {
  Labels labels(report);
  const std::vector<DumpResults> dumps = by_dump(report);
  const bool several = dumps.size() > 1;
  std::vector<Section> sections;
  if (several) sections.push_back(overview(report, dumps, labels));
  Results unsectioned;
  for (const DumpResults& dump : dumps) {
    Section section;
    section.heading = printable(dump.path);
    section.facts = facts_of(report, dump.path);
    if (!several && !dump.overall.empty()) {
      section.tables.push_back(overall_table(dump.overall, labels));
      append_fits(section.tables, dump.overall, labels);
    }
    append_classes(section.tables, dump.all, labels);
    append_groups(section.tables, dump.all, limits, labels);
    append_pairs(section.tables, dump.all, limits, labels);
    if (section.tables.empty()) {
      unsectioned.insert(unsectioned.end(), dump.all.begin(), dump.all.end());
      continue;
    }
    section.notes = notes_of(dump.all, false, labels);
    sections.push_back(std::move(section));
  }
  if (several) sections.front().notes = notes_of(unsectioned, true, labels);
  if (!report.failures.empty()) {
    Section failed;
    failed.heading = fmt::format("{} failed", report.failures.size());
    for (const EvalFailure& failure : report.failures) {
      failed.notes.push_back(printable(failure.error.text()));
    }
    sections.push_back(std::move(failed));
  }
  return sections;
}

}  // namespace

std::string render_table(const EvalReport& report, const ReportStyle& style) {
  return to_text(sections_of(report, {}), style);
}

std::string render_markdown(const EvalReport& report, const ReportStyle& /*style*/) {
  return to_markdown(sections_of(report, kNoLimits));
}

}  // namespace cupel
