// npz: a zip archive of npy arrays (stored or deflated, zip64). libzip reads the directory; a
// stored array is a view of the mapped file, a deflated one is decoded into a buffer of exactly its
// size.
//
// Sizes in the archive are claims: a member is accepted only when its local header, its directory
// entry, its npy header and the file's own size agree, and before memory for it is asked for.
#include <fmt/format.h>
#include <libdeflate.h>
#include <zip.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "cupel/io/dump.hpp"
#include "io/byte_source.hpp"
#include "io/checksum.hpp"
#include "io/npy_header.hpp"
#include "io/shown.hpp"

namespace cupel {
namespace {

using Bytes = std::span<const std::byte>;

// A deflate block of two-bit codes, each standing for 258 bytes: no stream expands further.
constexpr i64 kMaxDeflateRatio = 1032;
constexpr i64 kLocalHeaderBytes = 30;
constexpr i64 kDirectoryEntryBytes = 46;
constexpr u32 kInZip64Extra = 0xffff'ffff;

std::size_t index(i64 i) { return static_cast<std::size_t>(i); }

struct Member {
  NpyHeader header;
  i64 offset = 0;        ///< of the member's (compressed) bytes in the file
  i64 stored_bytes = 0;  ///< how many these are
  i64 bytes = 0;         ///< of the npy array with its header
  u32 crc = 0;
  bool deflated = false;
  std::shared_ptr<std::byte[]> decoded;
  std::optional<Array> array;  ///< set once loaded
};

/// libzip's view of a ByteSource. libzip does not say where in the file a member lies; the position
/// of its last read does, once one byte of the member has been asked for.
struct ZipSource {
  Bytes bytes;
  u64 position = 0;
  u64 last_read = 0;
  zip_error_t error;

  static zip_int64_t call(void* self, void* data, zip_uint64_t length, zip_source_cmd_t command) {
    auto& source = *static_cast<ZipSource*>(self);
    switch (command) {
      case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(
            ZIP_SOURCE_OPEN, ZIP_SOURCE_READ, ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT, ZIP_SOURCE_ERROR,
            ZIP_SOURCE_FREE, ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL, ZIP_SOURCE_SUPPORTS, -1);
      case ZIP_SOURCE_OPEN:
        source.position = 0;
        return 0;
      case ZIP_SOURCE_READ: {
        const u64 count = std::min<u64>(length, source.bytes.size() - source.position);
        source.last_read = source.position;
        if (count > 0) std::memcpy(data, source.bytes.data() + source.position, count);
        source.position += count;
        return static_cast<zip_int64_t>(count);
      }
      case ZIP_SOURCE_SEEK: {
        const zip_int64_t target = zip_source_seek_compute_offset(
            source.position, source.bytes.size(), data, length, &source.error);
        if (target < 0) return -1;
        source.position = static_cast<u64>(target);
        return 0;
      }
      case ZIP_SOURCE_TELL:
        return static_cast<zip_int64_t>(source.position);
      case ZIP_SOURCE_STAT: {
        auto& status = *static_cast<zip_stat_t*>(data);
        zip_stat_init(&status);
        status.size = source.bytes.size();
        status.valid |= ZIP_STAT_SIZE;
        return sizeof(zip_stat_t);
      }
      case ZIP_SOURCE_ERROR:
        return zip_error_to_data(&source.error, data, length);
      case ZIP_SOURCE_CLOSE:
      case ZIP_SOURCE_FREE:
        return 0;
      default:
        zip_error_set(&source.error, ZIP_ER_OPNOTSUPP, 0);
        return -1;
    }
  }
};

std::string lower_first(std::string text) {
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] = static_cast<char>(text[0] + 32);
  return text;
}

std::string method_name(u16 method) {
  const char* name = nullptr;
  switch (method) {
    case ZIP_CM_DEFLATE64:
      name = "deflate64";
      break;
    case ZIP_CM_BZIP2:
      name = "bzip2";
      break;
    case ZIP_CM_LZMA:
      name = "lzma";
      break;
    case 93:  // not in every libzip
      name = "zstd";
      break;
    case ZIP_CM_XZ:
      name = "xz";
      break;
    default:
      break;
  }
  return name != nullptr ? fmt::format("{} ({})", method, name) : fmt::format("{}", method);
}

/// The archive's directory, read by libzip and closed with this object.
class Directory {
 public:
  Directory(Bytes bytes, const std::string& where) : where_(where) {
    source_.bytes = bytes;
    zip_error_init(&source_.error);
    zip_error_init(&error_);
  }
  ~Directory() {
    if (zip_ != nullptr) zip_discard(zip_);
    zip_error_fini(&error_);
    zip_error_fini(&source_.error);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  Result<void> open() {
    if (counts_more_than_fits()) {
      return input_error(where_,
                         "malformed zip archive: its directory counts more members than the "
                         "file has room for");
    }
    zip_source_t* source = zip_source_function_create(&ZipSource::call, &source_, &error_);
    if (source == nullptr) return failure("cannot read the zip archive");
    zip_ = zip_open_from_source(source, ZIP_RDONLY, &error_);
    if (zip_ == nullptr) {
      zip_source_free(source);
      return failure("truncated or malformed zip archive");
    }
    return {};
  }

  i64 count() const { return zip_get_num_entries(zip_, 0); }
  std::string_view name(i64 i) const {
    const char* name = zip_get_name(zip_, static_cast<u64>(i), ZIP_FL_ENC_RAW);
    return name == nullptr ? std::string_view() : name;
  }

  /// Fills what the directory says of entry i and where its bytes begin, all of it checked against
  /// the member's local header and the size of the file. `label` is how messages call the member.
  Result<void> locate(i64 i, const std::string& label, Member& member) {
    zip_stat_t status;
    zip_stat_init(&status);
    constexpr u64 kNeeded = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_CRC |
                            ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if (zip_stat_index(zip_, static_cast<u64>(i), 0, &status) != 0 ||
        (status.valid & kNeeded) != kNeeded) {
      return input_error(where_, fmt::format("{}: malformed directory entry", label));
    }
    if (status.encryption_method != ZIP_EM_NONE) {
      return input_error(where_, fmt::format("{} is encrypted", label),
                         "save it without a password");
    }
    if (status.comp_method != ZIP_CM_STORE && status.comp_method != ZIP_CM_DEFLATE) {
      return input_error(
          where_,
          fmt::format("{} uses compression method {}", label, method_name(status.comp_method)),
          "cupel reads stored and deflated members");
    }
    const i64 file_bytes = static_cast<i64>(source_.bytes.size());
    if (status.comp_size > static_cast<u64>(file_bytes) ||
        status.size / kMaxDeflateRatio > status.comp_size) {
      return input_error(where_, fmt::format("{}: declared sizes ({} bytes, {} in the archive) are "
                                             "impossible",
                                             label, status.size, status.comp_size));
    }
    member.deflated = status.comp_method == ZIP_CM_DEFLATE;
    member.stored_bytes = static_cast<i64>(status.comp_size);
    member.bytes = static_cast<i64>(status.size);
    member.crc = status.crc;
    if (!member.deflated && member.bytes != member.stored_bytes) {
      return input_error(where_,
                         fmt::format("{}: stored without compression, but with two sizes, {} "
                                     "and {}",
                                     label, member.bytes, member.stored_bytes));
    }
    if (member.stored_bytes == 0) return {};

    zip_file_t* file = zip_fopen_index(zip_, static_cast<u64>(i), ZIP_FL_COMPRESSED);
    if (file == nullptr) {
      return input_error(where_, fmt::format("{}: {}", label, lower_first(zip_strerror(zip_))));
    }
    char byte = 0;
    const zip_int64_t got = zip_fread(file, &byte, 1);
    zip_fclose(file);
    member.offset = static_cast<i64>(source_.last_read);
    if (got != 1 || member.offset > file_bytes - member.stored_bytes) {
      return input_error(where_, fmt::format("{}: truncated, the file ends inside it", label));
    }
    if (!local_header_agrees(name(i), member)) {
      return input_error(where_,
                         fmt::format("{}: its local header and the directory disagree", label));
    }
    return {};
  }

 private:
  Error failure(const std::string& what) {
    std::string why = lower_first(zip_error_strerror(&error_));
    return input_error(where_, fmt::format("{}: {}", what, why));
  }

  /// libzip allocates by the number of entries that a zip64 archive claims.
  bool counts_more_than_fits() const {
    const Bytes bytes = source_.bytes;
    constexpr std::size_t kLocatorBytes = 20, kRecordBytes = 56, kTailBytes = 22 + 0xffff + 20;
    const std::size_t begin = bytes.size() > kTailBytes ? bytes.size() - kTailBytes : 0;
    for (std::size_t at = begin; at + kLocatorBytes <= bytes.size(); ++at) {
      if (std::memcmp(bytes.data() + at, "PK\x06\x07", 4) != 0) continue;
      const u64 record = load<u64>(bytes.data() + at + 8);
      if (bytes.size() < kRecordBytes || record > bytes.size() - kRecordBytes) continue;
      if (std::memcmp(bytes.data() + record, "PK\x06\x06", 4) != 0) continue;
      const u64 most = bytes.size() / static_cast<u64>(kDirectoryEntryBytes);
      if (load<u64>(bytes.data() + record + 24) > most) return true;
      if (load<u64>(bytes.data() + record + 32) > most) return true;
    }
    return false;
  }

  /// Looks for the local header whose end is the member's offset and compares its fields. Sizes and
  /// CRC are zero there when they follow the data (flag bit 3).
  bool local_header_agrees(std::string_view name, const Member& member) const {
    const std::byte* data = source_.bytes.data();
    const i64 fixed = kLocalHeaderBytes + static_cast<i64>(name.size());
    const i64 last = member.offset - fixed;
    for (i64 at = last; at >= 0 && at >= last - 0xffff; --at) {
      const std::byte* header = data + at;
      if (std::memcmp(header, "PK\x03\x04", 4) != 0) continue;
      const i64 name_bytes = load<u16>(header + 26);
      const i64 extra_bytes = load<u16>(header + 28);
      if (kLocalHeaderBytes + name_bytes + extra_bytes != member.offset - at) continue;
      if (name_bytes != static_cast<i64>(name.size()) ||
          std::memcmp(header + kLocalHeaderBytes, name.data(), name.size()) != 0) {
        return false;
      }
      const u16 flags = load<u16>(header + 6);
      const u16 method = load<u16>(header + 8);
      if (method != (member.deflated ? ZIP_CM_DEFLATE : ZIP_CM_STORE)) return false;
      if ((flags & 1) != 0) return false;  // encrypted here, not there
      if ((flags & 8) != 0) return true;
      return load<u32>(header + 14) == member.crc &&
             size_agrees(load<u32>(header + 18), member.stored_bytes) &&
             size_agrees(load<u32>(header + 22), member.bytes);
    }
    return false;
  }

  static bool size_agrees(u32 field, i64 size) {
    return field == kInZip64Extra || static_cast<i64>(field) == size;
  }

  const std::string& where_;
  ZipSource source_;
  zip_error_t error_;
  zip_t* zip_ = nullptr;
};

/// Up to `want` first bytes of a raw deflate stream; fewer when it is shorter. Empty optional:
/// damaged.
std::optional<Buffer<std::byte>> inflate_prefix(Bytes compressed, i64 want) {
  z_stream stream = {};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return std::nullopt;
  Buffer<std::byte> out(index(want));
  // A prefix of a megabyte at most needs no more input than this, whatever the coding.
  stream.avail_in = static_cast<uInt>(std::min<std::size_t>(compressed.size(), 2 * kMaxNpyHeader));
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(compressed.data()));
  stream.avail_out = static_cast<uInt>(out.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  const int code = inflate(&stream, Z_SYNC_FLUSH);
  out.resize(out.size() - stream.avail_out);
  inflateEnd(&stream);
  if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) return std::nullopt;
  return out;
}

std::string array_label(std::string_view name) {
  return fmt::format("array '{}'", shown(name, kShownName));
}

class NpzDump final : public Dump {
 public:
  NpzDump(std::shared_ptr<const ByteSource> source, std::vector<Member> members, bool in_blocks)
      : source_(std::move(source)), members_(std::move(members)), in_blocks_(in_blocks) {
    for (const Member& member : members_) infos_.push_back(member.header.info);
  }

  const std::string& path() const override { return source_->path(); }
  std::string_view format() const override { return "npz"; }
  i64 file_bytes() const override { return source_->size(); }
  std::span<const ArrayInfo> arrays() const override { return infos_; }
  Result<void> readable(i64 array) const override {
    const std::optional<Error>& refusal = members_[index(array)].header.refusal;
    if (refusal) return *refusal;
    return {};
  }

  Result<std::vector<Array>> load(std::span<const i64> wanted) override {
    std::vector<Array> out;
    out.reserve(wanted.size());
    for (const i64 array : wanted) {
      CUPEL_ASSERT(array >= 0 && array < static_cast<i64>(members_.size()));
      Member& member = members_[index(array)];
      if (member.header.refusal) return *member.header.refusal;
      if (!member.array) {
        Result<Array> loaded = member.deflated ? load_deflated(member) : load_stored(member);
        if (!loaded) return loaded.error();
        member.array = std::move(loaded).value();
      }
      out.push_back(*member.array);
    }
    return out;
  }

  Result<HashText> verify() override {
    StreamHash hash;
    for (const Member& member : members_) {
      if (!member.array) continue;
      if (member.deflated) {  // its CRC was checked when it was decoded
        const Bytes data = array_bytes(member, {member.decoded.get(), index(member.bytes)});
        if (member.header.swap_bytes == 0) {
          hash.update(data);
        } else {
          hash.update_reversed(data, member.header.swap_bytes);
        }
        continue;
      }
      const Bytes whole = file_bytes_of(member);
      u32 crc = crc32(0, whole.first(index(member.header.header_bytes)));
      source_->in_pieces(array_bytes(member, whole), in_blocks_,
                         [&](Bytes piece) { crc = hash.update_with_crc(crc, piece); });
      if (crc != member.crc) return checksum_error(member);
    }
    return hash.digest();
  }

  void release(Bytes bytes) const override { source_->release(bytes); }

 private:
  Bytes file_bytes_of(const Member& member) const {
    return source_->bytes().subspan(index(member.offset), index(member.stored_bytes));
  }

  static Bytes array_bytes(const Member& member, Bytes whole) {
    return whole.subspan(index(member.header.header_bytes), index(member.header.data_bytes));
  }

  Error checksum_error(const Member& member) const {
    return input_error(source_->where(), array_label(member.header.info.name) +
                                             ": damaged, its bytes do not match their checksum");
  }

  Result<Array> load_stored(const Member& member) const {
    const Bytes whole = file_bytes_of(member);
    source_->will_need(whole);
    return make_npy_array(member.header, array_bytes(member, whole).data(), source_,
                          source_->where());
  }

  Result<Array> load_deflated(Member& member) const {
    const std::string& where = source_->where();
    const std::string label = array_label(member.header.info.name);
    const Bytes compressed = file_bytes_of(member);
    source_->will_need(compressed);
    std::shared_ptr<std::byte[]> whole = allocate_bytes(member.bytes);
    struct Free {
      void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }
    };
    std::unique_ptr<libdeflate_decompressor, Free> decoder(libdeflate_alloc_decompressor());
    if (!whole || !decoder) return out_of_memory(where, label, member.bytes);
    std::size_t used = 0;
    // Without a place for the actual size, any size but the declared one is an error.
    const libdeflate_result code =
        libdeflate_deflate_decompress_ex(decoder.get(), compressed.data(), compressed.size(),
                                         whole.get(), index(member.bytes), &used, nullptr);
    if (code != LIBDEFLATE_SUCCESS || used != compressed.size()) {
      return input_error(where, label + ": damaged compressed data");
    }
    if (crc32(0, {whole.get(), index(member.bytes)}) != member.crc) return checksum_error(member);
    std::byte* data = whole.get() + member.header.header_bytes;
    NpyHeader native = member.header;
    if (native.swap_bytes != 0) {
      reverse_units(data, data, native.data_bytes, native.swap_bytes);
      native.swap_bytes = 0;
    }
    member.decoded = std::move(whole);
    return make_npy_array(native, data, member.decoded, where);
  }

  std::shared_ptr<const ByteSource> source_;
  std::vector<Member> members_;
  bool in_blocks_;
  std::vector<ArrayInfo> infos_;
};

/// Reads the npy header of a located member. False when the member is no array and does not claim
/// to be one (NumPy, too, passes over files that others have put into the archive).
Result<bool> read_header(const ByteSource& source, std::string_view file_name, std::string name,
                         const OpenOptions& options, Member& member) {
  const std::string& where = source.where();
  const std::string subject = array_label(name) + ": ";
  const Bytes stored = source.bytes().subspan(index(member.offset), index(member.stored_bytes));
  Bytes head = stored;
  Buffer<std::byte> inflated;
  const auto inflate_head = [&](i64 want) -> bool {
    if (!member.deflated) return true;
    std::optional<Buffer<std::byte>> prefix = inflate_prefix(stored, std::min(want, member.bytes));
    if (!prefix) return false;
    inflated = std::move(*prefix);
    head = inflated;
    return true;
  };
  const Error damaged = input_error(where, subject + "damaged compressed data");
  if (!inflate_head(kNpyPreambleBytes)) return damaged;
  if (!has_npy_magic(head) && !file_name.ends_with(".npy")) return false;
  const Result<i64> header_bytes = npy_header_bytes(head, where, subject);
  if (!header_bytes) return header_bytes.error();
  if (!inflate_head(header_bytes.value())) return damaged;
  Result<NpyHeader> header = parse_npy_header(head, name, where, subject);
  if (!header) return header.error();
  member.header = std::move(header).value();
  if (!member.header.refusal && member.header.total_bytes() != member.bytes) {
    return input_error(where,
                       subject + fmt::format("the archive declares {} bytes, its npy header {}",
                                             member.bytes, member.header.total_bytes()));
  }
  const Result<void> marked = apply_bfloat16(member.header, {&name, 1}, options, where);
  if (!marked) return marked.error();
  return true;
}

bool recognises_npz(Bytes head, std::string_view) {
  // A local header, or the end record of an empty archive.
  return head.size() >= 4 && (std::memcmp(head.data(), "PK\x03\x04", 4) == 0 ||
                              std::memcmp(head.data(), "PK\x05\x06", 4) == 0);
}

Result<std::unique_ptr<Dump>> open_npz(std::shared_ptr<const ByteSource> source,
                                       const OpenOptions& options) {
  const std::string& where = source->where();
  Directory directory(source->bytes(), where);
  const Result<void> opened = directory.open();
  if (!opened) return opened.error();
  std::vector<Member> members;
  std::unordered_set<std::string> names;
  for (i64 i = 0; i < directory.count(); ++i) {
    const std::string file_name(directory.name(i));
    if (file_name.ends_with('/')) continue;  // a folder
    std::string name = file_name;
    if (name.ends_with(".npy")) name.resize(name.size() - 4);
    Member member;
    const Result<void> located = directory.locate(i, array_label(name), member);
    if (!located) return located.error();
    const Result<bool> is_array = read_header(*source, file_name, name, options, member);
    if (!is_array) return is_array.error();
    if (!is_array.value()) continue;
    if (!names.insert(name).second) {
      return input_error(where, fmt::format("two arrays are called '{}'", shown(name, kShownName)));
    }
    members.push_back(std::move(member));
  }
  if (members.empty()) return input_error(where, "a zip archive without npy arrays");
  return std::unique_ptr<Dump>(
      std::make_unique<NpzDump>(std::move(source), std::move(members), options.in_blocks));
}

}  // namespace

DumpFormat npz_format() { return {"npz", {".npz"}, recognises_npz, open_npz}; }

}  // namespace cupel
