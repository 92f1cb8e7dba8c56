// A bare npy file as a dump of one array, named by the file's stem. The array is a view of the
// mapped file, unless its byte order has to be changed.
#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>

#include "cupel/io/dump.hpp"
#include "io/byte_source.hpp"
#include "io/checksum.hpp"
#include "io/npy_header.hpp"

namespace cupel {
namespace {

std::string stem(const std::string& path) {
  std::string name = path.substr(path.find_last_of('/') + 1);
  if (name.ends_with(".npy")) name.resize(name.size() - 4);
  return name.empty() || name == "-" ? "arr_0" : name;
}

class NpyDump final : public Dump {
 public:
  NpyDump(std::shared_ptr<const ByteSource> source, NpyHeader header, bool in_blocks)
      : source_(std::move(source)), header_(std::move(header)), in_blocks_(in_blocks) {}

  const std::string& path() const override { return source_->path(); }
  std::string_view format() const override { return "npy"; }
  i64 file_bytes() const override { return source_->size(); }
  std::span<const ArrayInfo> arrays() const override { return {&header_.info, 1}; }
  Result<void> readable(i64) const override {
    if (header_.refusal) return *header_.refusal;
    return {};
  }

  Result<std::vector<Array>> load(std::span<const i64> wanted) override {
    std::vector<Array> out;
    for ([[maybe_unused]] const i64 index : wanted) {
      CUPEL_ASSERT(index == 0);
      if (header_.refusal) return *header_.refusal;
      if (!array_) {
        source_->will_need(data());
        Result<Array> made = make_npy_array(header_, data().data(), source_, source_->where());
        if (!made) return made.error();
        array_ = std::move(made).value();
      }
      out.push_back(*array_);
    }
    return out;
  }

  Result<HashText> verify() override {
    StreamHash hash;
    if (array_) {
      source_->in_pieces(data(), in_blocks_,
                         [&](std::span<const std::byte> piece) { hash.update(piece); });
    }
    return hash.digest();
  }

  void release(std::span<const std::byte> bytes) const override { source_->release(bytes); }

 private:
  std::span<const std::byte> data() const {
    return source_->bytes().subspan(static_cast<std::size_t>(header_.header_bytes),
                                    static_cast<std::size_t>(header_.data_bytes));
  }

  std::shared_ptr<const ByteSource> source_;
  NpyHeader header_;
  bool in_blocks_;
  std::optional<Array> array_;
};

bool recognises_npy(std::span<const std::byte> head, std::string_view) {
  return has_npy_magic(head);
}

Result<std::unique_ptr<Dump>> open_npy(std::shared_ptr<const ByteSource> source,
                                       const OpenOptions& options) {
  const std::string& where = source->where();
  Result<NpyHeader> header = parse_npy_header(source->bytes(), stem(source->path()), where, "");
  if (!header) return header.error();
  if (!header->refusal) {
    const i64 there = source->size() - header->header_bytes;
    if (there < header->data_bytes) {
      return input_error(where, fmt::format("truncated: {} bytes of data, its shape needs {}",
                                            there, header->data_bytes));
    }
    if (there > header->data_bytes) {
      return input_error(where, fmt::format("{} bytes after the array", there - header->data_bytes),
                         "an npy dump holds one array; use npz for several");
    }
  }
  const std::string names[] = {header->info.name, "arr_0"};
  Result<void> marked = apply_bfloat16(*header, names, options, where);
  if (!marked) return marked.error();
  return std::unique_ptr<Dump>(
      std::make_unique<NpyDump>(std::move(source), std::move(header).value(), options.in_blocks));
}

}  // namespace

DumpFormat npy_format() { return {"npy", {".npy"}, recognises_npy, open_npy}; }

}  // namespace cupel
