// DUMP arguments of the command line: files, folders, globs and lists become paths. Patterns are
// matched segment by segment with fnmatch(3), `**` by walking folders.
#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "cupel/io/dump.hpp"

namespace cupel {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxListDepth = 8;

bool has_pattern(std::string_view text) { return text.find_first_of("*?[") != std::string::npos; }

bool is_hidden(std::string_view name) { return name.starts_with('.'); }

/// Paths without a leading "./" of their own: `dir/name`, or `name` where dir is empty.
std::string join(const std::string& folder, const std::string& name) {
  if (folder.empty() || folder.ends_with('/')) return folder + name;
  return folder + "/" + name;
}

struct Entry {
  std::string name;
  bool is_folder;  ///< a folder itself; a link to one counts as a folder only for `*` segments
  bool is_link;
};

/// The entries of a folder; one that cannot be read counts as empty while searching.
std::vector<Entry> entries_of(const std::string& folder) {
  std::vector<Entry> out;
  std::error_code error;
  fs::directory_iterator it(folder.empty() ? "." : folder, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    std::error_code ignored;
    out.push_back(
        {it->path().filename().string(), it->is_directory(ignored), it->is_symlink(ignored)});
  }
  return out;
}

std::vector<std::string> split_path(std::string_view pattern) {
  std::vector<std::string> segments;
  while (!pattern.empty()) {
    const std::size_t slash = std::min(pattern.find('/'), pattern.size());
    if (slash > 0) segments.emplace_back(pattern.substr(0, slash));
    pattern.remove_prefix(std::min(slash + 1, pattern.size()));
  }
  return segments;
}

/// Appends the files below `folder` that match segments[at...].
void match(const std::string& folder, const std::vector<std::string>& segments, std::size_t at,
           std::vector<std::string>& out) {
  const std::string& segment = segments[at];
  const bool last = at + 1 == segments.size();
  if (!has_pattern(segment)) {
    const std::string path = join(folder, segment);
    std::error_code ignored;
    const bool is_folder = fs::is_directory(path, ignored);
    if (last && fs::exists(path, ignored) && !is_folder) out.push_back(path);
    if (!last && is_folder) match(path, segments, at + 1, out);
    return;
  }
  if (segment == "**") {
    if (!last) match(folder, segments, at + 1, out);
    for (const Entry& entry : entries_of(folder)) {
      if (is_hidden(entry.name)) continue;
      const std::string path = join(folder, entry.name);
      if (entry.is_folder && !entry.is_link) match(path, segments, at, out);
      if (last && !entry.is_folder) out.push_back(path);
    }
    return;
  }
  for (const Entry& entry : entries_of(folder)) {
    if (fnmatch(segment.c_str(), entry.name.c_str(), FNM_PERIOD) != 0) continue;
    const std::string path = join(folder, entry.name);
    if (last && !entry.is_folder) out.push_back(path);
    if (!last && entry.is_folder) match(path, segments, at + 1, out);
  }
}

void sort_unique(std::vector<std::string>& paths) {
  std::sort(paths.begin(), paths.end());
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
}

Result<void> expand_glob(const std::string& pattern, const std::string& where,
                         std::vector<std::string>& out) {
  std::vector<std::string> found;
  match(pattern.starts_with('/') ? "/" : "", split_path(pattern), 0, found);
  if (found.empty()) return input_error(where, fmt::format("'{}' matches no file", pattern));
  sort_unique(found);
  out.insert(out.end(), found.begin(), found.end());
  return {};
}

bool has_known_extension(std::string_view name) {
  const std::span<const DumpFormat> formats = dump_formats();
  return std::any_of(formats.begin(), formats.end(), [name](const DumpFormat& format) {
    return std::any_of(format.extensions.begin(), format.extensions.end(),
                       [name](std::string_view extension) { return name.ends_with(extension); });
  });
}

Result<void> expand_folder(const std::string& folder, const std::string& where,
                           std::vector<std::string>& out) {
  std::error_code error;
  fs::directory_iterator probe(folder, error);
  if (error) {
    return input_error(where, fmt::format("cannot read the directory '{}'", folder));
  }
  std::vector<std::string> found;
  match(folder, {"**"}, 0, found);
  std::erase_if(found, [](const std::string& path) { return !has_known_extension(path); });
  if (found.empty()) {
    std::string extensions;
    for (const DumpFormat& format : dump_formats()) {
      for (const std::string_view extension : format.extensions) {
        extensions += extensions.empty() ? "" : ", ";
        extensions += extension;
      }
    }
    return input_error(where, fmt::format("no dumps in '{}'", folder),
                       "a directory is searched for " + extensions);
  }
  sort_unique(found);
  out.insert(out.end(), found.begin(), found.end());
  return {};
}

Result<void> expand(const std::string& argument, const std::string& where, int depth,
                    std::vector<std::string>& out);

Result<void> expand_list(const std::string& list, const std::string& where, int depth,
                         std::vector<std::string>& out) {
  if (depth == kMaxListDepth) {
    return input_error(where, fmt::format("list '{}' is nested too deeply", list),
                       "does a list name itself?");
  }
  std::error_code ignored;
  std::ifstream file;
  if (!fs::is_directory(list, ignored)) file.open(list);
  if (!file.is_open()) return input_error(where, fmt::format("cannot read the list '{}'", list));
  const std::size_t before = out.size();
  std::string line;
  for (i64 number = 1; std::getline(file, line); ++number) {
    const std::size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string::npos || line[begin] == '#') continue;
    line = line.substr(begin, line.find_last_not_of(" \t\r") + 1 - begin);
    Result<void> done = expand(line, fmt::format("{}:{}", list, number), depth + 1, out);
    if (!done) return done;
  }
  if (file.bad()) return input_error(where, fmt::format("cannot read the list '{}'", list));
  if (out.size() == before)
    return input_error(where, fmt::format("list '{}' names no dumps", list));
  return {};
}

/// `where` is the line of a list, or empty for the command line.
Result<void> expand(const std::string& argument, const std::string& where, int depth,
                    std::vector<std::string>& out) {
  if (argument == "-") {
    out.push_back(argument);
    return {};
  }
  if (argument.starts_with('@')) return expand_list(argument.substr(1), where, depth, out);
  std::error_code error;
  const fs::file_status status = fs::status(argument, error);
  if (fs::is_directory(status)) return expand_folder(argument, where, out);
  if (fs::exists(status)) {
    out.push_back(argument);
    return {};
  }
  if (has_pattern(argument)) return expand_glob(argument, where, out);
  if (status.type() == fs::file_type::not_found) {
    return input_error(where, fmt::format("no such file '{}'", argument));
  }
  // It cannot be seen whether it is there (a folder on the way is closed): opening it says why,
  // and fails alone.
  out.push_back(argument);
  return {};
}

}  // namespace

Result<std::vector<std::string>> expand_dump_arguments(std::span<const std::string> arguments) {
  try {
    std::vector<std::string> out;
    for (const std::string& argument : arguments) {
      const Result<void> done = expand(argument, {}, 0, out);
      if (!done) return done.error();
    }
    if (std::count(out.begin(), out.end(), "-") > 1) {
      return usage_error("standard input is named twice", "it can be read only once");
    }
    return out;
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kInternal, {}, "not enough memory to list the dumps", {}};
  }
}

}  // namespace cupel
