// The header of an npy array (NEP 1; format versions 1, 2 and 3), which npy files and the members
// of npz archives share. Everything in it is a claim of the file: no field is used before it is
// checked, and nothing is allocated by it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "cupel/core/column.hpp"
#include "cupel/core/result.hpp"
#include "cupel/io/dump.hpp"

namespace cupel {

struct NpyHeader {
  ArrayInfo info;
  bool fortran_order = false;
  i64 swap_bytes = 0;    ///< bytes of a group to reverse; 0 when the data is in the machine's order
  i64 header_bytes = 0;  ///< where the data begins
  i64 data_bytes = 0;    ///< product of shape and element size; 0 when the type is not readable
  std::optional<Error> refusal;  ///< why load() refuses the array's type

  i64 total_bytes() const { return header_bytes + data_bytes; }
};

/// Longest header that is accepted; NumPy itself stops at 10,000 characters.
inline constexpr i64 kMaxNpyHeader = 1 << 20;
/// Bytes that must be seen to know how long the header is.
inline constexpr i64 kNpyPreambleBytes = 12;

/// Whether these bytes begin with the magic string of npy.
bool has_npy_magic(std::span<const std::byte> head);

/// Bytes of the whole header, given at least its preamble (or the whole array, where that is
/// shorter). Errors: kInput; `where` and `subject` ("array 'x': ", or empty) name the place.
Result<i64> npy_header_bytes(std::span<const std::byte> head, const std::string& where,
                             const std::string& subject);

/// The header in `head`, which holds all of it. `name` becomes the array's name. A type that cupel
/// does not read sets `refusal`; anything malformed is an error.
Result<NpyHeader> parse_npy_header(std::span<const std::byte> head, std::string name,
                                   const std::string& where, const std::string& subject);

/// Marks the array as bfloat16 when one of `names` is among `options.bfloat16_columns`.
/// Errors: kInput when its elements do not have two bytes.
Result<void> apply_bfloat16(NpyHeader& header, std::span<const std::string> names,
                            const OpenOptions& options, const std::string& where);

/// The array over `data` (header.data_bytes bytes, kept alive by `owner`). Data in the other byte
/// order is copied into the machine's; otherwise nothing is copied. Fortran order becomes strides.
/// Errors: kInternal when memory for the copy is not to be had.
Result<Array> make_npy_array(const NpyHeader& header, const std::byte* data,
                             std::shared_ptr<const void> owner, const std::string& where);

/// `count` bytes of memory, or null.
std::shared_ptr<std::byte[]> allocate_bytes(i64 count);
/// The error for memory that could not be had.
Error out_of_memory(const std::string& where, const std::string& what, i64 bytes);

}  // namespace cupel
