// A copy from the host to the device that may leave gaps out: the rows of a matrix, a part of them,
// or a column. What is not one piece is brought together (packed) on the way.
#pragma once

#include <algorithm>
#include <cstring>

#include "cupel/core/int.hpp"

namespace cupel::device {

/// Lines of items, with gaps or without. Strides are in bytes, and may be negative.
struct HostLines {
  const unsigned char* from = nullptr;
  i64 lines = 1;
  i64 line_stride = 0;
  i64 items = 1;
  i64 item_stride = 0;
  i64 item_bytes = 0;

  i64 line_bytes() const { return items * item_bytes; }
  i64 bytes() const { return lines * line_bytes(); }

  /// Copies bytes [first, first + bytes) of what the lines are without gaps.
  void pack(unsigned char* to, i64 first, i64 bytes) const {
    i64 line = first / line_bytes();
    i64 item = first % line_bytes() / item_bytes;
    i64 offset = first % item_bytes;
    while (bytes > 0) {
      const unsigned char* at = from + line * line_stride + item * item_stride + offset;
      const i64 size = std::min(bytes, item_bytes - offset);
      copy_item(to, at, size);
      to += size;
      bytes -= size;
      offset = 0;
      if (++item == items) {
        item = 0;
        ++line;
      }
    }
  }

 private:
  /// Scores one by one are mostly of these sizes, for which memcpy is an instruction.
  static void copy_item(unsigned char* to, const unsigned char* from, i64 size) {
    switch (size) {
      case 2:
        std::memcpy(to, from, 2);
        return;
      case 4:
        std::memcpy(to, from, 4);
        return;
      case 8:
        std::memcpy(to, from, 8);
        return;
      default:
        std::memcpy(to, from, static_cast<std::size_t>(size));
    }
  }
};

/// Lines of the host, and where they go: `pitch` bytes from one to the next, without gaps inside.
struct HostCopy {
  HostLines from;
  unsigned char* to = nullptr;
  i64 pitch = 0;

  /// The same copy in the fewest lines and items.
  HostCopy flattened() const {
    HostCopy flat = *this;
    HostLines& l = flat.from;
    if (l.item_stride == l.item_bytes || l.items == 1) {
      l.item_bytes = l.line_bytes();
      l.items = 1;
      l.item_stride = l.item_bytes;
    }
    const bool dense = flat.pitch == l.line_bytes() || l.lines == 1;
    if (dense && l.items == 1 && (l.line_stride == l.item_bytes || l.lines == 1)) {
      l.item_bytes = l.bytes();
      l.lines = 1;
      l.item_stride = l.line_stride = flat.pitch = l.item_bytes;
    }
    return flat;
  }

  /// Whether the host's bytes are one piece.
  bool is_one_piece() const { return from.lines == 1 && from.items == 1; }
  /// Whether the device's are.
  bool fills_one_piece() const { return from.lines == 1 || pitch == from.line_bytes(); }

  /// Calls visit(first, bytes, lines, to) for pieces of at most `most` bytes: `lines` of `bytes`
  /// each, `pitch` apart on the device, which hold what the lines are without gaps from byte
  /// `first` on.
  template <class Visit>
  void pieces(i64 most, Visit visit) const {
    const i64 line = fills_one_piece() ? from.bytes() : from.line_bytes();
    const i64 lines = fills_one_piece() ? 1 : from.lines;
    const i64 at_a_time = std::max<i64>(1, most / std::max<i64>(line, 1));
    for (i64 at = 0; at < lines; at += at_a_time) {
      if (line <= most) {
        visit(at * line, line, std::min(at_a_time, lines - at), to + at * pitch);
        continue;
      }
      for (i64 done = 0; done < line; done += most) {
        visit(at * line + done, std::min(most, line - done), i64{1}, to + at * pitch + done);
      }
    }
  }
};

}  // namespace cupel::device
