// Little-endian, bounded serialisation of states. A reader never trusts a length: every read says
// whether it fitted.
#pragma once

#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "cupel/core/int.hpp"
#include "cupel/math/wide.hpp"

namespace cupel {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "states are written as they lie in memory");

class ByteWriter {
 public:
  template <class T>
  void put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto* from = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), from, from + sizeof(T));
  }
  template <class T>
  void put_array(std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T>);
    put(static_cast<u64>(values.size()));
    const auto* from = reinterpret_cast<const std::byte*>(values.data());
    bytes_.insert(bytes_.end(), from, from + values.size_bytes());
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  /// Reads a value; false, leaving `value` alone, when the bytes end before it.
  template <class T>
  bool get(T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (bytes_.size() < sizeof(T)) return false;
    std::memcpy(&value, bytes_.data(), sizeof(T));
    bytes_ = bytes_.subspan(sizeof(T));
    return true;
  }
  /// Reads a counted array; false when its length exceeds what is left. Allocates no more than
  /// that.
  template <class Vector>
  bool get_array(Vector& values) {
    using T = typename Vector::value_type;
    static_assert(std::is_trivially_copyable_v<T>);
    u64 count = 0;
    if (!get(count) || count > bytes_.size() / sizeof(T)) return false;
    values.resize(count);
    if (count != 0) std::memcpy(values.data(), bytes_.data(), count * sizeof(T));
    bytes_ = bytes_.subspan(count * sizeof(T));
    return true;
  }
  bool at_end() const { return bytes_.empty(); }
  u64 left() const { return bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace cupel
