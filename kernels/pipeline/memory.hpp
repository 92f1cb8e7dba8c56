// Device memory of a pipeline: an array that its executor made and that goes back when it leaves
// its scope, in the order of the executor's work.
#pragma once

#include <utility>

#include "cupel/core/int.hpp"

namespace cupel::device {

/// `size` elements of device memory, uninitialised; null when the executor has failed.
template <class Exec, class T>
class Array {
 public:
  Array() = default;
  Array(Exec& exec, i64 size)
      : exec_(&exec),
        data_(static_cast<T*>(exec.allocate(size * static_cast<i64>(sizeof(T))))),
        size_(size) {}
  Array(Array&& other) noexcept { swap(other); }
  Array& operator=(Array&& other) noexcept {
    Array moved(std::move(other));
    swap(moved);
    return *this;
  }
  ~Array() {
    if (data_ != nullptr) exec_->release(data_, size_ * static_cast<i64>(sizeof(T)));
  }

  T* data() const { return data_; }
  i64 size() const { return size_; }
  i64 bytes() const { return size_ * static_cast<i64>(sizeof(T)); }

 private:
  void swap(Array& other) noexcept {
    std::swap(exec_, other.exec_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  Exec* exec_ = nullptr;
  T* data_ = nullptr;
  i64 size_ = 0;
};

}  // namespace cupel::device
