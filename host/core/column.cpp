// Names, strides and single-element access of columns. Element access here is for messages, labels
// and group names; row loops read typed data with load<T>().
#include "cupel/core/column.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <string>

namespace cupel {
namespace {

struct DTypeEntry {
  std::string_view name;
  i64 size;
};

constexpr std::array<DTypeEntry, 16> kDTypes = {{{"bool", 1},
                                                 {"i8", 1},
                                                 {"i16", 2},
                                                 {"i32", 4},
                                                 {"i64", 8},
                                                 {"u8", 1},
                                                 {"u16", 2},
                                                 {"u32", 4},
                                                 {"u64", 8},
                                                 {"f16", 2},
                                                 {"bf16", 2},
                                                 {"f32", 4},
                                                 {"f64", 8},
                                                 {"bytes", 0},
                                                 {"str", 0},
                                                 {"str", 0}}};
static_assert(static_cast<std::size_t>(DType::kText) + 1 == kDTypes.size());

double half_to_double(u16 half) {
  const u64 sign = static_cast<u64>(half >> 15) << 63;
  const u64 exponent = (half >> 10) & 0x1f;
  const u64 fraction = half & 0x3ff;
  if (exponent == 0) {
    const double magnitude = static_cast<double>(fraction) * 0x1p-24;
    return sign != 0 ? -magnitude : magnitude;
  }
  const u64 biased = exponent == 31 ? 2047 : exponent - 15 + 1023;
  return std::bit_cast<double>(sign | biased << 52 | fraction << 42);
}

void append_utf8(std::string& out, u32 code) {
  const auto push = [&out](u32 byte) { out.push_back(static_cast<char>(byte)); };
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  if (code > 0x10ffff || surrogate) code = 0xfffd;
  if (code < 0x80) {
    push(code);
  } else if (code < 0x800) {
    push(0xc0 | code >> 6);
    push(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    push(0xe0 | code >> 12);
    push(0x80 | (code >> 6 & 0x3f));
    push(0x80 | (code & 0x3f));
  } else {
    push(0xf0 | code >> 18);
    push(0x80 | (code >> 12 & 0x3f));
    push(0x80 | (code >> 6 & 0x3f));
    push(0x80 | (code & 0x3f));
  }
}

}  // namespace

std::string_view dtype_name(DType type) { return kDTypes[static_cast<std::size_t>(type)].name; }

i64 dtype_size(DType type) { return kDTypes[static_cast<std::size_t>(type)].size; }

bool ArrayView::is_contiguous() const {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return true;
  i64 expected = item_bytes;
  for (std::size_t d = shape.size(); d-- > 0;) {
    // The stride of a dimension with one element is never used.
    if (shape[d] != 1 && strides[d] != expected) return false;
    expected *= shape[d];
  }
  return true;
}

ArrayView make_view(const void* data, DType dtype, std::vector<i64> shape, i64 item_bytes) {
  ArrayView view;
  view.data = static_cast<const std::byte*>(data);
  view.dtype = dtype;
  view.item_bytes = is_string(dtype) ? item_bytes : dtype_size(dtype);
  view.shape = std::move(shape);
  view.strides.resize(view.shape.size());
  i64 stride = view.item_bytes;
  for (std::size_t d = view.shape.size(); d-- > 0;) {
    view.strides[d] = stride;
    stride *= std::max<i64>(view.shape[d], 1);
  }
  return view;
}

std::string text_at(const ArrayView& column, i64 row) {
  switch (column.dtype) {
    case DType::kBytes: {
      const auto* text = reinterpret_cast<const char*>(column.at(row));
      i64 size = column.item_bytes;
      while (size > 0 && text[size - 1] == '\0') --size;
      return std::string(text, static_cast<std::size_t>(size));
    }
    case DType::kUnicode: {
      const std::byte* text = column.at(row);
      i64 size = column.item_bytes / 4;
      while (size > 0 && load<u32>(text + (size - 1) * 4) == 0) --size;
      std::string out;
      out.reserve(static_cast<std::size_t>(size));
      for (i64 i = 0; i < size; ++i) append_utf8(out, load<u32>(text + i * 4));
      return out;
    }
    case DType::kText: {
      const i64 begin = column.offsets[row];
      const i64 size = column.offsets[row + 1] - begin;
      if (size == 0) return {};
      return std::string(reinterpret_cast<const char*>(column.data + begin),
                         static_cast<std::size_t>(size));
    }
    case DType::kBool:
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64:
    case DType::kU8:
    case DType::kU16:
    case DType::kU32:
    case DType::kU64:
    case DType::kF16:
    case DType::kBF16:
    case DType::kF32:
    case DType::kF64:
      break;
  }
  CUPEL_ASSERT(is_string(column.dtype));
  return {};
}

double number_at(const ArrayView& column, i64 row) {
  const std::byte* at = column.at(row);
  switch (column.dtype) {
    case DType::kBool:
      return load<u8>(at) != 0 ? 1.0 : 0.0;
    case DType::kI8:
      return static_cast<double>(load<i8>(at));
    case DType::kI16:
      return static_cast<double>(load<i16>(at));
    case DType::kI32:
      return static_cast<double>(load<i32>(at));
    case DType::kI64:
      return static_cast<double>(load<i64>(at));
    case DType::kU8:
      return static_cast<double>(load<u8>(at));
    case DType::kU16:
      return static_cast<double>(load<u16>(at));
    case DType::kU32:
      return static_cast<double>(load<u32>(at));
    case DType::kU64:
      return static_cast<double>(load<u64>(at));
    case DType::kF16:
      return half_to_double(load<u16>(at));
    case DType::kBF16:
      return static_cast<double>(std::bit_cast<float>(static_cast<u32>(load<u16>(at)) << 16));
    case DType::kF32:
      return static_cast<double>(load<float>(at));
    case DType::kF64:
      return load<double>(at);
    case DType::kBytes:
    case DType::kUnicode:
    case DType::kText:
      break;
  }
  CUPEL_ASSERT(!is_string(column.dtype));
  return 0.0;
}

}  // namespace cupel
