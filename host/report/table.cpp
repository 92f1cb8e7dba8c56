// Layout measures every column once (width left and right of the decimal point), then packs columns
// into blocks no wider than the style allows. White space does the work of rules: nothing is drawn.
#include "report/table.hpp"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "report/text.hpp"

namespace cupel {
namespace {

constexpr i64 kIndent = 2;
constexpr i64 kBetween = 2;
constexpr i64 kWidestHead = 10;  // a wider one is broken over lines, if its column needs no more

std::string spaces(i64 count) {
  return std::string(static_cast<std::size_t>(std::max<i64>(count, 0)), ' ');
}

std::string_view escape_of(Tone tone) {
  switch (tone) {
    case Tone::kStrong:
      return "\x1b[1m";
    case Tone::kFaint:
      return "\x1b[2m";
    case Tone::kAlert:
      return "\x1b[33m";
    case Tone::kPlain:
      break;
  }
  return {};
}

/// Characters of a number from its decimal point (or exponent) on.
i64 fraction_width(std::string_view number) {
  const std::size_t point = number.find_first_of(".e");
  return point == std::string_view::npos ? 0 : static_cast<i64>(number.size() - point);
}

struct Measure {
  i64 width = 0;
  i64 fraction = 0;
  std::vector<std::string> head;  ///< lines
};

/// `head` in lines of at most `width`, where it has places to break.
std::vector<std::string> broken_head(std::string_view head, i64 width) {
  std::vector<std::string> lines(1);
  std::size_t begin = 0;
  for (std::size_t at = 1; at <= head.size(); ++at) {
    const bool may_break =
        at == head.size() || head[at] == '(' || head[at - 1] == '_' || head[at - 1] == ',';
    if (!may_break) continue;
    const std::string_view piece = head.substr(begin, at - begin);
    begin = at;
    const bool fits = display_width(lines.back()) + display_width(piece) <= width;
    if (!lines.back().empty() && (!fits || piece.front() == '(')) lines.emplace_back();
    lines.back() += piece;
  }
  return lines;
}

Measure measure(const Table& table, std::size_t column) {
  const bool decimal = table.columns[column].align == Align::kDecimal;
  Measure result;
  i64 whole = 0;
  i64 other = 0;
  for (const TableRow& row : table.rows) {
    if (column >= row.cells.size()) continue;
    const Cell& cell = row.cells[column];
    if (decimal && cell.number) {
      const i64 fraction = fraction_width(cell.text);
      whole = std::max(whole, display_width(cell.text) - fraction);
      result.fraction = std::max(result.fraction, fraction);
    } else {
      other = std::max(other, display_width(cell.text));
    }
  }
  result.width = std::max(whole + result.fraction, other);
  const std::string& head = table.columns[column].head;
  result.head = decimal ? broken_head(head, std::max(result.width, kWidestHead))
                        : std::vector<std::string>{head};
  for (const std::string& line : result.head) {
    result.width = std::max(result.width, display_width(line));
  }
  return result;
}

std::string aligned(const Cell& cell, Align align, const Measure& size, const ReportStyle& style) {
  const i64 missing = size.width - display_width(cell.text);
  i64 right = 0;
  if (align == Align::kLeft) right = missing;
  if (align == Align::kDecimal && cell.number) right = size.fraction - fraction_width(cell.text);
  return spaces(missing - right) + toned(cell.text, cell.tone, style) + spaces(right);
}

void trim_right(std::string& line) {
  while (!line.empty() && line.back() == ' ') line.pop_back();
}

/// Runs of columns behind the keys that fit into `width` together with the keys.
std::vector<std::pair<std::size_t, std::size_t>> blocks(const std::vector<Measure>& sizes,
                                                        std::size_t keys, i64 width) {
  i64 key_width = kIndent;
  for (std::size_t c = 0; c < keys; ++c) key_width += sizes[c].width + kBetween;
  std::vector<std::pair<std::size_t, std::size_t>> runs;
  std::size_t first = keys;
  i64 used = key_width;
  for (std::size_t c = keys; c < sizes.size(); ++c) {
    if (c > first && used + sizes[c].width > width) {
      runs.emplace_back(first, c);
      first = c;
      used = key_width;
    }
    used += sizes[c].width + kBetween;
  }
  runs.emplace_back(first, sizes.size());
  return runs;
}

bool has_text(const TableRow& row, std::size_t begin, std::size_t end) {
  for (std::size_t c = begin; c < std::min(end, row.cells.size()); ++c) {
    if (!row.cells[c].text.empty()) return true;
  }
  return false;
}

void append_table(std::string& out, const Table& table, const ReportStyle& style) {
  std::vector<Measure> sizes;
  for (std::size_t c = 0; c < table.columns.size(); ++c) sizes.push_back(measure(table, c));

  if (!table.title.empty()) {
    out += spaces(kIndent) + toned(table.title, Tone::kStrong, style) + "\n";
  }
  bool first_block = true;
  for (const auto& [begin, end] : blocks(sizes, table.keys, style.width)) {
    if (!first_block) out += "\n";
    first_block = false;
    const auto append_row = [&, from = begin, to = end](const std::vector<Cell>& row) {
      std::string line = spaces(kIndent);
      for (std::size_t c = 0; c < to; ++c) {
        if (c >= table.keys && c < from) continue;
        const Cell cell = c < row.size() ? row[c] : Cell{};
        line += aligned(cell, table.columns[c].align, sizes[c], style) + spaces(kBetween);
      }
      trim_right(line);
      out += line + "\n";
    };
    std::size_t head_lines = 1;
    for (std::size_t c = 0; c < end; ++c) {
      if (c < table.keys || c >= begin) head_lines = std::max(head_lines, sizes[c].head.size());
    }
    for (std::size_t line = 0; line < head_lines; ++line) {
      std::vector<Cell> head(end);
      for (std::size_t c = 0; c < end; ++c) {
        const std::vector<std::string>& lines = sizes[c].head;
        const std::size_t skipped = head_lines - std::min(lines.size(), head_lines);
        if (line >= skipped) head[c] = {lines[line - skipped], Tone::kFaint};
      }
      append_row(head);
    }
    for (const TableRow& row : table.rows) {
      if (row.begins_summary) out += "\n";
      if (begin == table.keys || has_text(row, begin, end)) append_row(row.cells);
    }
  }
}

/// Text that Markdown shows as it is: a bar would end a cell, and the rest would be markup.
std::string markdown_text(std::string_view text) {
  const auto is_word = [&](std::size_t at) {
    return at < text.size() && std::isalnum(static_cast<unsigned char>(text[at])) != 0;
  };
  std::string safe;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const bool inside_word = at > 0 && is_word(at - 1) && is_word(at + 1);
    const bool markup = std::string_view("\\|`*<[").find(text[at]) != std::string_view::npos;
    if (markup || (text[at] == '_' && !inside_word)) safe += '\\';
    safe += text[at];
  }
  return safe;
}

void append_markdown_table(std::string& out, const Table& table) {
  if (!table.title.empty()) out += "### " + markdown_text(table.title) + "\n\n";
  std::vector<i64> widths;
  std::vector<std::vector<std::string>> texts;
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    std::vector<std::string> column = {markdown_text(table.columns[c].head)};
    bool summary = false;
    for (const TableRow& row : table.rows) {
      summary = summary || row.begins_summary;
      const std::string text = c < row.cells.size() ? markdown_text(row.cells[c].text) : "";
      column.push_back(summary && c == 0 ? "*" + text + "*" : text);
    }
    i64 width = 3;
    for (const std::string& text : column) width = std::max(width, display_width(text));
    widths.push_back(width);
    texts.push_back(std::move(column));
  }
  for (std::size_t r = 0; r <= table.rows.size(); ++r) {
    out += "|";
    for (std::size_t c = 0; c < texts.size(); ++c) {
      const std::string padding = spaces(widths[c] - display_width(texts[c][r]));
      const bool left = table.columns[c].align == Align::kLeft;
      out += " " + (left ? texts[c][r] + padding : padding + texts[c][r]) + " |";
    }
    out += "\n";
    if (r > 0) continue;
    out += "|";
    for (std::size_t c = 0; c < texts.size(); ++c) {
      const std::string rule(static_cast<std::size_t>(widths[c] - 1), '-');
      out += table.columns[c].align == Align::kLeft ? " :" + rule + " |" : " " + rule + ": |";
    }
    out += "\n";
  }
}

}  // namespace

std::string toned(const std::string& text, Tone tone, const ReportStyle& style) {
  const std::string_view escape = style.terminal ? escape_of(tone) : std::string_view();
  if (escape.empty() || text.empty()) return text;
  return std::string(escape) + text + "\x1b[0m";
}

std::string to_text(std::span<const Section> sections, const ReportStyle& style) {
  std::string out;
  for (const Section& section : sections) {
    if (!out.empty()) out += "\n";
    if (!section.heading.empty()) {
      out += toned(section.heading, Tone::kStrong, style);
      if (!section.facts.empty()) {
        out += "  " + toned(section.facts, Tone::kFaint, style);
      }
      out += "\n";
      if (!section.tables.empty()) out += "\n";
    }
    bool first = true;
    for (const Table& table : section.tables) {
      if (!first) out += "\n";
      first = false;
      append_table(out, table, style);
    }
    if (!section.notes.empty() && !section.tables.empty()) out += "\n";
    for (const std::string& note : section.notes) {
      out += spaces(kIndent) + toned(note, Tone::kFaint, style) + "\n";
    }
  }
  return out;
}

std::string to_markdown(std::span<const Section> sections) {
  std::string out;
  for (const Section& section : sections) {
    if (!out.empty()) out += "\n";
    if (!section.heading.empty()) out += "## " + markdown_text(section.heading) + "\n\n";
    if (!section.facts.empty()) out += markdown_text(section.facts) + "\n\n";
    bool first = true;
    for (const Table& table : section.tables) {
      if (!first) out += "\n";
      first = false;
      append_markdown_table(out, table);
    }
    if (!section.notes.empty() && !section.tables.empty()) out += "\n";
    for (const std::string& note : section.notes) out += "- " + markdown_text(note) + "\n";
  }
  return out;
}

}  // namespace cupel
