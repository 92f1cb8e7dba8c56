// Files for the reader tests, written byte by byte from the formats' specifications (NEP 1 for npy,
// APPNOTE 6.3 for zip, RFC 1952 for gzip), so that no reader is tested against its own writer.
#pragma once

#include <gtest/gtest.h>
#include <libdeflate.h>
#include <stdlib.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cupel/io/dump.hpp"
#include "io/byte_source.hpp"

namespace cupel::fixtures {

/// An integer in little-endian bytes.
template <class T>
std::string le(T value) {
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}

template <class T>
std::string le_all(const std::vector<T>& values) {
  std::string out;
  for (const T value : values) out += le(value);
  return out;
}

inline std::string reversed(std::string bytes, std::size_t unit) {
  for (std::size_t i = 0; i + unit <= bytes.size(); i += unit) {
    for (std::size_t j = 0; j < unit / 2; ++j) std::swap(bytes[i + j], bytes[i + unit - 1 - j]);
  }
  return bytes;
}

// ---- npy ----------------------------------------------------------------------------------------

/// An npy file with any header text.
inline std::string npy_with_header(std::string header, const std::string& data, int version = 1) {
  header += '\n';
  std::string out = "\x93NUMPY";
  out += static_cast<char>(version);
  out += '\0';
  out += version == 1 ? le(static_cast<u16>(header.size())) : le(static_cast<u32>(header.size()));
  return out + header + data;
}

inline std::string npy(const std::string& descr, const std::string& shape, const std::string& data,
                       bool fortran = false, int version = 1) {
  return npy_with_header("{'descr': '" + descr + "', 'fortran_order': " +
                             (fortran ? "True" : "False") + ", 'shape': " + shape + ", }",
                         data, version);
}

// ---- zip and gzip -------------------------------------------------------------------------------

inline std::string deflated(const std::string& data) {
  std::unique_ptr<libdeflate_compressor, void (*)(libdeflate_compressor*)> compressor(
      libdeflate_alloc_compressor(6), libdeflate_free_compressor);
  std::string out(libdeflate_deflate_compress_bound(compressor.get(), data.size()), '\0');
  out.resize(libdeflate_deflate_compress(compressor.get(), data.data(), data.size(), out.data(),
                                         out.size()));
  return out;
}

inline std::string gzipped(const std::string& data) {
  std::unique_ptr<libdeflate_compressor, void (*)(libdeflate_compressor*)> compressor(
      libdeflate_alloc_compressor(6), libdeflate_free_compressor);
  std::string out(libdeflate_gzip_compress_bound(compressor.get(), data.size()), '\0');
  out.resize(
      libdeflate_gzip_compress(compressor.get(), data.data(), data.size(), out.data(), out.size()));
  return out;
}

struct ZipMember {
  std::string name;
  std::string content;
  u16 method = 0;                ///< 0 stored, 8 deflated
  bool zip64 = false;            ///< sizes and offset in extra fields
  bool data_descriptor = false;  ///< sizes and CRC behind the data, as a stream writer does
  u16 flags = 0;
  i64 size_lie = 0;             ///< added to the declared uncompressed size, in both headers
  u32 crc_lie = 0;              ///< xored into the CRC, in both headers
  std::string local_name = {};  ///< the local header's name where it differs
};

inline std::string zip(const std::vector<ZipMember>& members, const std::string& comment = {}) {
  std::string out, directory;
  for (const ZipMember& member : members) {
    const std::string data = member.method == 8 ? deflated(member.content) : member.content;
    const u32 crc =
        libdeflate_crc32(0, member.content.data(), member.content.size()) ^ member.crc_lie;
    const u64 size = member.content.size() + static_cast<u64>(member.size_lie);
    const u64 offset = out.size();
    const u16 flags = static_cast<u16>(member.flags | (member.data_descriptor ? 8 : 0));
    const std::string& local_name = member.local_name.empty() ? member.name : member.local_name;
    const bool later = member.data_descriptor;
    const auto narrow = [&](u64 value) {
      return member.zip64 ? 0xffff'ffffu : static_cast<u32>(value);
    };

    std::string extra;
    if (member.zip64) extra = le<u16>(1) + le<u16>(16) + le(size) + le<u64>(data.size());
    out += "PK\x03\x04" + le<u16>(member.zip64 ? 45 : 20) + le(flags) + le(member.method) +
           le<u32>(0) + le<u32>(later ? 0 : crc) + le<u32>(later ? 0 : narrow(data.size())) +
           le<u32>(later ? 0 : narrow(size)) + le(static_cast<u16>(local_name.size())) +
           le(static_cast<u16>(extra.size())) + local_name + extra + data;
    if (later) {
      out +=
          "PK\x07\x08" + le(crc) + le(static_cast<u32>(data.size())) + le(static_cast<u32>(size));
    }
    if (member.zip64) {
      extra = le<u16>(1) + le<u16>(24) + le(size) + le<u64>(data.size()) + le(offset);
    }
    directory += "PK\x01\x02" + le<u16>(45) + le<u16>(member.zip64 ? 45 : 20) + le(flags) +
                 le(member.method) + le<u32>(0) + le(crc) + le(narrow(data.size())) +
                 le(narrow(size)) + le(static_cast<u16>(member.name.size())) +
                 le(static_cast<u16>(extra.size())) + le<u16>(0) + le<u16>(0) + le<u16>(0) +
                 le<u32>(0) + le(narrow(offset)) + member.name + extra;
  }
  const u64 begin = out.size();
  const auto count = static_cast<u16>(members.size());
  out += directory;
  const bool zip64 = !members.empty() && members.front().zip64;
  if (zip64) {
    const u64 record = out.size();
    out += "PK\x06\x06" + le<u64>(44) + le<u16>(45) + le<u16>(45) + le<u32>(0) + le<u32>(0) +
           le<u64>(count) + le<u64>(count) + le<u64>(directory.size()) + le(begin);
    out += "PK\x06\x07" + le<u32>(0) + le(record) + le<u32>(1);
  }
  out += "PK\x05\x06" + le<u16>(0) + le<u16>(0) + le(zip64 ? u16{0xffff} : count) +
         le(zip64 ? u16{0xffff} : count) +
         le(zip64 ? 0xffff'ffffu : static_cast<u32>(directory.size())) +
         le(zip64 ? 0xffff'ffffu : static_cast<u32>(begin)) + le(static_cast<u16>(comment.size())) +
         comment;
  return out;
}

// ---- opening ------------------------------------------------------------------------------------

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

/// Opens bytes in memory with the reader of one format.
inline Result<std::unique_ptr<Dump>> open_as(std::string_view format, const std::string& name,
                                             const std::string& bytes,
                                             const OpenOptions& options = {}) {
  for (const DumpFormat& candidate : dump_formats()) {
    if (candidate.name == format) {
      return candidate.open(ByteSource::from_memory(name, as_bytes(bytes)), options);
    }
  }
  return input_error(name, "the test names an unknown format");
}

/// A folder of its own, removed at the end.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cupel-test-XXXXXX").string();
    const char* made = ::mkdtemp(pattern.data());
    EXPECT_NE(made, nullptr);
    path_ = pattern;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  /// Writes a file, with its folders, and returns its path.
  std::string write(const std::string& name, const std::string& bytes) const {
    const std::filesystem::path path = path_ + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    return path.string();
  }

 private:
  std::string path_;
};

/// The text of an error, or "no error".
template <class T>
std::string text_of(const Result<T>& result) {
  return result.ok() ? "no error" : result.error().text();
}

/// The array called `name`; the test fails where it is missing or does not load.
inline Array load_one(Dump& dump, std::string_view name) {
  const std::span<const ArrayInfo> arrays = dump.arrays();
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    if (arrays[i].name != name) continue;
    const i64 wanted = static_cast<i64>(i);
    Result<std::vector<Array>> loaded = dump.load({&wanted, 1});
    EXPECT_TRUE(loaded.ok()) << text_of(loaded);
    return loaded.ok() ? loaded->front() : Array{};
  }
  ADD_FAILURE() << "no array " << name;
  return {};
}

inline std::vector<double> numbers(const ArrayView& view) {
  std::vector<double> out;
  for (i64 row = 0; row < view.rows(); ++row) out.push_back(number_at(view, row));
  return out;
}

inline std::vector<std::string> texts(const ArrayView& view) {
  std::vector<std::string> out;
  for (i64 row = 0; row < view.rows(); ++row) out.push_back(text_at(view, row));
  return out;
}

}  // namespace cupel::fixtures
