// The list of file formats. To add one: write its reader file with a function that returns its
// DumpFormat, declare that function here and put it into the list.
#include <algorithm>
#include <array>
#include <new>
#include <utility>

#include "cupel/io/dump.hpp"
#include "io/byte_source.hpp"

namespace cupel {

DumpFormat npy_format();
DumpFormat npz_format();
DumpFormat tsv_format();
DumpFormat csv_format();

std::span<const DumpFormat> dump_formats() {
  // CSV is last: it recognises whatever looks like text.
  static const std::array kFormats = {npy_format(), npz_format(), tsv_format(), csv_format()};
  return kFormats;
}

Result<std::unique_ptr<Dump>> open_dump(const std::string& path, const OpenOptions& options) {
  try {
    Result<std::shared_ptr<const ByteSource>> opened = ByteSource::open(path);
    if (!opened) return opened.error();
    std::shared_ptr<const ByteSource> source = std::move(opened).value();
    constexpr std::size_t kHeadBytes = 512;
    std::array<std::byte, kHeadBytes> head;
    const Result<i64> got = source->read_at(0, head);
    if (!got) return got.error();
    const std::span seen = std::span<const std::byte>(head).first(static_cast<std::size_t>(*got));
    for (const DumpFormat& format : dump_formats()) {
      if (format.recognises(seen, path)) return format.open(std::move(source), options);
    }
    return input_error(source->where(), "unknown format", "cupel reads npy, npz, CSV and TSV");
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kInternal, path, "not enough memory to open it", {}};
  }
}

}  // namespace cupel
