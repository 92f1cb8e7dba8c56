// A report for people as a small document: sections with tables and notes, laid out once as aligned
// text and once as Markdown. Nothing here knows what a metric is.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cupel/core/int.hpp"
#include "cupel/report/report.hpp"

namespace cupel {

enum class Align : u8 {
  kLeft,
  kRight,
  kDecimal,  ///< numbers stand with their decimal points below each other; other text to the right
};
enum class Tone : u8 { kPlain, kStrong, kFaint, kAlert };

struct Cell {
  std::string text;  ///< printable UTF-8
  Tone tone = Tone::kPlain;
  bool number = false;  ///< takes part in decimal alignment
};

struct TableColumn {
  std::string
      head;  ///< as text, broken over lines behind `_` and `,` and before `(` where it is wide
  Align align = Align::kLeft;
};

struct TableRow {
  std::vector<Cell> cells;      ///< missing ones are empty
  bool begins_summary = false;  ///< set apart from the rows above
};

struct Table {
  std::string title;  ///< may be empty
  std::vector<TableColumn> columns;
  std::size_t keys = 1;  ///< leading columns that name a row: repeated where a wide table continues
  std::vector<TableRow> rows;
};

struct Section {
  std::string heading;  ///< may be empty
  std::string facts;    ///< beside the heading
  std::vector<Table> tables;
  std::vector<std::string> notes;
};

/// `text` in that tone where the style is for a terminal.
std::string toned(const std::string& text, Tone tone, const ReportStyle& style);
/// Aligned text: two spaces between columns, no rules; ends in a newline.
std::string to_text(std::span<const Section> sections, const ReportStyle& style);
/// The same as GitHub-flavoured Markdown.
std::string to_markdown(std::span<const Section> sections);

}  // namespace cupel
