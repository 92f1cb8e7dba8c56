// Plain and gzip text, read block by block.
#include "io/text_stream.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <utility>

namespace cupel {
namespace {

constexpr i64 kBlockBytes = 256 * 1024;

}  // namespace

struct TextStream::Gzip {
  z_stream stream = {};
  Buffer<std::byte> block;
  bool ready = false;   ///< zlib has been initialised
  bool inside = false;  ///< between a member's first byte and its checksum
  bool done = false;

  ~Gzip() {
    if (ready) inflateEnd(&stream);
  }
};

TextStream::TextStream(std::shared_ptr<const ByteSource> source) : source_(std::move(source)) {
  std::array<std::byte, 2> magic = {};
  const Result<i64> got = source_->read_at(0, magic);
  if (got.ok() && *got == 2 && magic[0] == std::byte{0x1f} && magic[1] == std::byte{0x8b}) {
    gzip_ = std::make_unique<Gzip>();
    gzip_->block.resize(static_cast<std::size_t>(std::min(source_->size(), kBlockBytes)));
  }
}

TextStream::~TextStream() = default;

Result<i64> TextStream::read(std::span<char> into) {
  if (gzip_ != nullptr) return read_gzip(into);
  const Result<i64> got = source_->read_at(offset_, std::as_writable_bytes(into));
  if (got) offset_ += *got;
  return got;
}

Result<i64> TextStream::read_gzip(std::span<char> into) {
  Gzip& gzip = *gzip_;
  z_stream& stream = gzip.stream;
  if (!gzip.ready) {
    constexpr int kGzipOnly = 16;
    if (inflateInit2(&stream, MAX_WBITS + kGzipOnly) != Z_OK) {
      return Error{ErrorCode::kInternal, source_->where(), "no memory to decompress it", {}};
    }
    gzip.ready = true;
    gzip.inside = true;
  }
  stream.next_out = reinterpret_cast<Bytef*>(into.data());
  stream.avail_out = static_cast<uInt>(into.size());
  while (stream.avail_out == into.size() && !gzip.done) {
    if (stream.avail_in == 0) {
      const Result<i64> got = source_->read_at(offset_, gzip.block);
      if (!got) return got;
      if (*got == 0) {
        if (gzip.inside) return input_error(source_->where(), "truncated gzip data");
        gzip.done = true;
        break;
      }
      offset_ += *got;
      stream.next_in = reinterpret_cast<Bytef*>(gzip.block.data());
      stream.avail_in = static_cast<uInt>(*got);
    }
    if (!gzip.inside) {
      // Another member may follow; gzip itself also accepts zeros as padding.
      while (stream.avail_in > 0 && *stream.next_in == 0) {
        ++stream.next_in;
        --stream.avail_in;
      }
      if (stream.avail_in == 0) continue;
      inflateReset(&stream);
      gzip.inside = true;
    }
    const int code = inflate(&stream, Z_NO_FLUSH);
    if (code == Z_STREAM_END) {
      gzip.inside = false;
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      return input_error(source_->where(), "damaged gzip data");
    }
  }
  return static_cast<i64>(into.size() - stream.avail_out);
}

}  // namespace cupel
