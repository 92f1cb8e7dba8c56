#include "cupel/io/npz_writer.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <bit>
#include <cstring>
#include <utility>

#include "io/checksum.hpp"

namespace cupel {
namespace {

// A column's npy header has this many bytes, whatever numbers its shape will have.
constexpr std::size_t kHeaderBytes = 128;
constexpr std::size_t kHeaderUnit = 64;
constexpr std::size_t kPreambleBytes = 10;
// As numpy.savez and Python's zipfile write: version 4.5 (zip64), made on Unix, mode 0600.
constexpr u16 kVersion = 45;
constexpr u16 kMadeBy = (3 << 8) | 45;
constexpr u32 kAttributes = u32{0600} << 16;
constexpr u16 kFirstDay = 0x21;  // 1980-01-01
constexpr u32 kInExtra = 0xFFFFFFFF;
constexpr u16 kZip64 = 1;

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

std::span<const std::byte> bytes_of(const std::string& bytes) {
  return std::as_bytes(std::span(bytes));
}

std::string descriptor_of(DType dtype, i64 item_bytes) {
  switch (dtype) {
    case DType::kBool:
      return "|b1";
    case DType::kI8:
      return "|i1";
    case DType::kU8:
      return "|u1";
    case DType::kUnicode:
      return fmt::format("<U{}", item_bytes / 4);
    case DType::kF16:
    case DType::kF32:
    case DType::kF64:
      return fmt::format("<f{}", item_bytes);
    case DType::kU16:
    case DType::kU32:
    case DType::kU64:
      return fmt::format("<u{}", item_bytes);
    default:
      return fmt::format("<i{}", item_bytes);
  }
}

/// The npy header, padded to at least `least` bytes.
std::string npy_header(DType dtype, i64 item_bytes, const std::vector<i64>& shape,
                       std::size_t least) {
  std::string dims;
  for (const i64 extent : shape) dims += fmt::format("{}, ", extent);
  // (), (5,), (5, 2): as Python writes tuples.
  if (shape.size() == 1) dims.pop_back();
  if (shape.size() > 1) dims.resize(dims.size() - 2);
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                 descriptor_of(dtype, item_bytes), dims);
  std::size_t total = least;
  while (kPreambleBytes + text.size() + 1 > total) total += kHeaderUnit;
  text.append(total - kPreambleBytes - text.size() - 1, ' ');
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  put(header, static_cast<u16>(text.size()));
  return header + text;
}

/// What of a size stands in its 32-bit field.
u32 short_size(i64 size) {
  return size >= static_cast<i64>(kInExtra) ? kInExtra : static_cast<u32>(size);
}

std::u32string code_points(std::string_view utf8) {
  std::u32string text;
  for (std::size_t i = 0; i < utf8.size();) {
    const auto lead = static_cast<u8>(utf8[i]);
    const int more = lead < 0x80 ? 0 : std::countl_one(lead) - 1;
    char32_t code = more == 0 ? lead : lead & (0x3Fu >> more);
    bool whole = lead < 0x80 || (more >= 1 && more <= 3);
    std::size_t next = i + 1;
    for (int k = 0; whole && k < more; ++k, ++next) {
      whole = next < utf8.size() && (static_cast<u8>(utf8[next]) & 0xC0) == 0x80;
      if (whole) code = (code << 6) | (static_cast<u8>(utf8[next]) & 0x3F);
    }
    if (!whole || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      code = 0xFFFD;
      next = i + 1;
    }
    text.push_back(code);
    i = next;
  }
  return text;
}

}  // namespace

struct NpzWriter::Member {
  std::string name;  ///< with .npy
  DType dtype = DType::kU8;
  i64 item_bytes = 1;
  i64 width = -1;          ///< of a column
  std::vector<i64> shape;  ///< of a whole array
  std::vector<std::byte> whole;
  bool grows = false;
  std::unique_ptr<FileSink> spool;  ///< of a column that is not the first

  i64 begin = 0;       ///< of the local header in the archive
  i64 data_bytes = 0;  ///< without the npy header
  u32 data_crc = 0;
  u32 crc = 0;
  i64 bytes = 0;

  std::string header() const {
    if (!grows) return npy_header(dtype, item_bytes, shape, kHeaderUnit);
    std::vector<i64> full{data_bytes / (item_bytes * (width < 0 ? 1 : std::max<i64>(1, width)))};
    if (width >= 0) full.push_back(width);
    return npy_header(dtype, item_bytes, full, kHeaderBytes);
  }

  /// Once data_bytes and data_crc are those of all data.
  std::string settle() {
    const std::string npy = header();
    const u32 head = crc32(0, bytes_of(npy));
    crc = data_bytes == 0
              ? head
              : static_cast<u32>(crc32_combine(head, data_crc, static_cast<z_off_t>(data_bytes)));
    bytes = static_cast<i64>(npy.size()) + data_bytes;
    std::string local;
    put(local, u32{0x04034B50});
    put(local, kVersion);
    put(local, u16{0});  // flags
    put(local, u16{0});  // stored
    put(local, u16{0});
    put(local, kFirstDay);
    put(local, crc);
    put(local, kInExtra);
    put(local, kInExtra);
    put(local, static_cast<u16>(name.size()));
    put(local, u16{20});
    local += name;
    put(local, kZip64);
    put(local, u16{16});
    put(local, static_cast<u64>(bytes));
    put(local, static_cast<u64>(bytes));
    return local + npy;
  }

  std::string directory_entry() const {
    std::string extra;
    if (short_size(bytes) == kInExtra) {
      put(extra, static_cast<u64>(bytes));
      put(extra, static_cast<u64>(bytes));
    }
    if (short_size(begin) == kInExtra) put(extra, static_cast<u64>(begin));
    std::string entry;
    put(entry, u32{0x02014B50});
    put(entry, kMadeBy);
    put(entry, kVersion);
    put(entry, u16{0});
    put(entry, u16{0});
    put(entry, u16{0});
    put(entry, kFirstDay);
    put(entry, crc);
    put(entry, short_size(bytes));
    put(entry, short_size(bytes));
    put(entry, static_cast<u16>(name.size()));
    put(entry, static_cast<u16>(extra.empty() ? 0 : extra.size() + 4));
    put(entry, u16{0});  // comment
    put(entry, u16{0});  // disk
    put(entry, u16{0});
    put(entry, kAttributes);
    put(entry, short_size(begin));
    entry += name;
    if (!extra.empty()) {
      put(entry, kZip64);
      put(entry, static_cast<u16>(extra.size()));
      entry += extra;
    }
    return entry;
  }
};

NpzWriter::NpzWriter(FileSink& out) : out_(out) {}
NpzWriter::~NpzWriter() = default;

Result<std::size_t> NpzWriter::column(std::string name, DType dtype, i64 width) {
  CUPEL_ASSERT(!is_string(dtype));
  auto member = std::make_unique<Member>();
  member->name = std::move(name) + ".npy";
  member->dtype = dtype;
  member->item_bytes = dtype_size(dtype);
  member->width = width;
  member->grows = true;
  if (members_.empty()) {
    // Its header is written over once its length is known.
    if (auto done = out_.append(bytes_of(member->settle())); !done) return done.error();
  } else {
    auto spool = out_.nameless();
    if (!spool) return spool.error();
    member->spool = std::move(*spool);
  }
  members_.push_back(std::move(member));
  return members_.size() - 1;
}

Result<void> NpzWriter::append(std::size_t column, std::span<const std::byte> bytes) {
  CUPEL_ASSERT(column < members_.size() && members_[column]->grows);
  Member& member = *members_[column];
  member.data_crc = crc32(member.data_crc, bytes);
  member.data_bytes += static_cast<i64>(bytes.size());
  return (member.spool ? *member.spool : out_).append(bytes);
}

void NpzWriter::array(std::string name, DType dtype, std::vector<i64> shape,
                      std::span<const std::byte> bytes) {
  auto member = std::make_unique<Member>();
  member->name = std::move(name) + ".npy";
  member->dtype = dtype;
  member->item_bytes = is_string(dtype) ? static_cast<i64>(bytes.size()) : dtype_size(dtype);
  member->shape = std::move(shape);
  member->whole.assign(bytes.begin(), bytes.end());
  member->data_bytes = static_cast<i64>(bytes.size());
  member->data_crc = crc32(0, bytes);
  members_.push_back(std::move(member));
}

void NpzWriter::number(std::string name, double value) {
  array(std::move(name), DType::kF64, {}, std::as_bytes(std::span(&value, 1)));
}

void NpzWriter::integer(std::string name, i64 value) {
  array(std::move(name), DType::kI64, {}, std::as_bytes(std::span(&value, 1)));
}

void NpzWriter::text(std::string name, std::string_view utf8) {
  // numpy has no text of no characters: one NUL reads back as the empty one.
  std::u32string text = code_points(utf8);
  if (text.empty()) text.push_back(0);
  array(std::move(name), DType::kUnicode, {}, std::as_bytes(std::span(text)));
}

Result<void> NpzWriter::finish() {
  for (std::size_t i = 0; i < members_.size(); ++i) {
    Member& member = *members_[i];
    if (member.grows && !member.spool) {
      if (auto done = out_.rewrite(0, bytes_of(member.settle())); !done) return done;
      continue;
    }
    member.begin = out_.size();
    if (auto done = out_.append(bytes_of(member.settle())); !done) return done;
    auto done = member.spool ? out_.append_from(*member.spool) : out_.append(member.whole);
    if (!done) return done;
    member.spool.reset();
  }
  if (auto done = write_directory(); !done) return done;
  return out_.flush();
}

Result<void> NpzWriter::write_directory() {
  const i64 begin = out_.size();
  for (const auto& member : members_) {
    if (auto done = out_.append(bytes_of(member->directory_entry())); !done) return done;
  }
  const i64 size = out_.size() - begin;
  const auto count = static_cast<u64>(members_.size());
  const bool far = short_size(begin) == kInExtra;
  std::string end;
  if (far) {
    const i64 record = out_.size();
    put(end, u32{0x06064B50});
    put(end, u64{44});
    put(end, kMadeBy);
    put(end, kVersion);
    put(end, u32{0});
    put(end, u32{0});
    put(end, count);
    put(end, count);
    put(end, static_cast<u64>(size));
    put(end, static_cast<u64>(begin));
    put(end, u32{0x07064B50});
    put(end, u32{0});
    put(end, static_cast<u64>(record));
    put(end, u32{1});
  }
  put(end, u32{0x06054B50});
  put(end, u16{0});
  put(end, u16{0});
  put(end, static_cast<u16>(count));
  put(end, static_cast<u16>(count));
  put(end, static_cast<u32>(size));
  put(end, short_size(begin));
  put(end, u16{0});
  return out_.append(bytes_of(end));
}

}  // namespace cupel
