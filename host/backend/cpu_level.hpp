// Which instruction set the processor offers, asked once: functions compiled for more than the
// baseline (CUPEL_TARGET_V3) run only behind this answer. Levels change speed, never bits.
#pragma once

#include <atomic>

#include "cupel/core/config.hpp"

namespace cupel {

enum class CpuLevel : int {
  kBaseline = 1,
  kV3 = 3,  ///< AVX2, BMI1, BMI2, F16C, FMA, LZCNT, MOVBE
  kV4 = 4,  ///< AVX-512 F, BW, CD, DQ, VL as well
};

namespace detail {

inline CpuLevel detect_cpu_level() {
#if CUPEL_HAS_TARGETS && !defined(__clang_analyzer__)  // clang 14 does not know these names
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return CpuLevel::kV4;
  if (__builtin_cpu_supports("x86-64-v3")) return CpuLevel::kV3;
#endif
  return CpuLevel::kBaseline;
}

inline std::atomic<CpuLevel>& cpu_level_limit() {
  static std::atomic<CpuLevel> limit{CpuLevel::kV4};
  return limit;
}

}  // namespace detail

/// The highest level that the processor and the operating system support.
inline CpuLevel cpu_level() {
  static const CpuLevel kDetected = detail::detect_cpu_level();
  const CpuLevel limit = detail::cpu_level_limit().load(std::memory_order_relaxed);
  return kDetected < limit ? kDetected : limit;
}

/// Pretends that the processor has no more than `limit`, so that tests reach the other paths.
inline void limit_cpu_level(CpuLevel limit) {
  detail::cpu_level_limit().store(limit, std::memory_order_relaxed);
}

}  // namespace cupel
