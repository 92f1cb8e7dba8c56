// Atomic integer updates that device code and a host thread write alike.
#pragma once

#include "cupel/core/int.hpp"

namespace cupel::device {

/// *at += value; returns what was there.
CUPEL_HD CUPEL_INLINE u64 atomic_add(u64* at, u64 value) {
#if defined(__CUDA_ARCH__)
  return atomicAdd(reinterpret_cast<unsigned long long*>(at),
                   static_cast<unsigned long long>(value));
#else
  return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
#endif
}
CUPEL_HD CUPEL_INLINE u32 atomic_add(u32* at, u32 value) {
#if defined(__CUDA_ARCH__)
  return atomicAdd(at, value);
#else
  return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
#endif
}

/// *at = min(*at, value).
CUPEL_HD CUPEL_INLINE void atomic_min(u64* at, u64 value) {
#if defined(__CUDA_ARCH__)
  atomicMin(reinterpret_cast<unsigned long long*>(at), static_cast<unsigned long long>(value));
#else
  u64 seen = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (value < seen &&
         !__atomic_compare_exchange_n(at, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
#endif
}

}  // namespace cupel::device
