// A vector whose new elements are left uninitialised: large scratch is written once, not twice.
#pragma once

#include <memory>
#include <utility>
#include <vector>

namespace cupel {

template <class T>
struct DefaultInitAllocator : std::allocator<T> {
  template <class U>
  struct rebind {  // NOLINT(readability-identifier-naming): the standard's name
    using other = DefaultInitAllocator<U>;
  };
  DefaultInitAllocator() = default;
  template <class U>
  DefaultInitAllocator(const DefaultInitAllocator<U>&) noexcept {}
  template <class U>
  void construct(U* p) noexcept {
    ::new (static_cast<void*>(p)) U;
  }
  template <class U, class... A>
  void construct(U* p, A&&... args) {
    ::new (static_cast<void*>(p)) U(std::forward<A>(args)...);
  }
};

/// std::vector without zero-filling on resize.
template <class T>
using Buffer = std::vector<T, DefaultInitAllocator<T>>;

}  // namespace cupel
