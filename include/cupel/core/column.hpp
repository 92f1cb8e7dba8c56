// Columns as they lie in memory: a view names bytes, a type and strides and owns nothing; an Array
// keeps the memory behind a view alive (an owned buffer or a mapped file).
//
// Data is in the machine's byte order but may be unaligned (an array inside a zip archive starts
// anywhere), so elements are read with load<T>(), never through a typed pointer.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cupel/core/int.hpp"

namespace cupel {

enum class DType : u8 {
  kBool,
  kI8,
  kI16,
  kI32,
  kI64,
  kU8,
  kU16,
  kU32,
  kU64,
  kF16,
  kBF16,
  kF32,
  kF64,
  kBytes,    ///< fixed-width byte strings (npy 'S'): item_bytes per element, NUL padded
  kUnicode,  ///< fixed-width UCS-4 strings (npy 'U'): item_bytes per element, NUL padded
  kText,     ///< variable-length UTF-8: `offsets` has rows + 1 entries into `data`
};

/// Short name as shown to people: `f32`, `u8`, `str`.
std::string_view dtype_name(DType type);
/// Bytes of one element of a numeric type or bool; 0 for the string types.
i64 dtype_size(DType type);
constexpr bool is_string(DType t) { return t >= DType::kBytes; }
constexpr bool is_float(DType t) { return t >= DType::kF16 && t <= DType::kF64; }
constexpr bool is_integer(DType t) { return t >= DType::kI8 && t <= DType::kU64; }

/// Reads a T at any address.
template <class T>
CUPEL_INLINE T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

/// What a dump says about one of its arrays before anything is read.
struct ArrayInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<i64> shape;  ///< as declared; a CSV column has one dimension
  i64 item_bytes = 0;      ///< bytes of one element; for kText 0

  i64 rows() const { return shape.empty() ? 1 : shape[0]; }
  i64 cols() const { return shape.size() < 2 ? 1 : shape[1]; }
};

/// A strided view of an n-dimensional array. Element (i0, i1, ...) starts at
/// data + sum(i_d * strides[d]). Strides are in bytes and not negative.
struct ArrayView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  i64 item_bytes = 0;
  std::vector<i64> shape;
  std::vector<i64> strides;
  const i64* offsets = nullptr;  ///< kText only

  i64 rows() const { return shape.empty() ? 1 : shape[0]; }
  i64 cols() const { return shape.size() < 2 ? 1 : shape[1]; }
  const std::byte* at(i64 row) const { return data + row * (strides.empty() ? 0 : strides[0]); }
  const std::byte* at(i64 row, i64 col) const {
    return at(row) + col * (strides.size() < 2 ? 0 : strides[1]);
  }
  /// Elements follow each other without gaps, first dimension slowest.
  bool is_contiguous() const;
};

/// A view for a C-ordered array of `shape` at `data`.
ArrayView make_view(const void* data, DType dtype, std::vector<i64> shape, i64 item_bytes = 0);

/// The text of element `row` of a one-dimensional string column, as UTF-8: NUL padding removed;
/// invalid UCS-4 becomes U+FFFD; byte strings are returned as they are. Cost: O(length).
std::string text_at(const ArrayView& column, i64 row);
/// The number at `row` (1-D) as a double; integers beyond 2^53 round to nearest; bool is 0 or 1.
/// Not for strings.
double number_at(const ArrayView& column, i64 row);

/// A view and the owner of its bytes.
struct Array {
  ArrayView view;
  std::shared_ptr<const void> owner;
};

}  // namespace cupel
