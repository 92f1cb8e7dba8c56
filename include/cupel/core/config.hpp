// The project's only macros: where a function may run, how a row loop is compiled, and what may
// never happen.
#pragma once

#include <cstdlib>

#if defined(__CUDACC__)
#define CUPEL_HD __host__ __device__
#else
#define CUPEL_HD
#endif

// Forces a row function into the loop that calls it, so that a loop compiled for a wider
// instruction set (CUPEL_TARGET_V3) carries its arithmetic along.
#if defined(__CUDACC__)
#define CUPEL_INLINE __forceinline__
#elif defined(__GNUC__)
#define CUPEL_INLINE inline __attribute__((always_inline))
#else
#define CUPEL_INLINE inline
#endif

// Before a loop of a constant few steps: all of them one after another, so that an array that the
// loop indexes can stay in registers.
#if defined(__CUDACC__)
#define CUPEL_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define CUPEL_UNROLL _Pragma("GCC unroll 8")
#else
#define CUPEL_UNROLL
#endif

// Compiles one function for x86-64-v3 (AVX2, FMA, BMI2) or x86-64-v4 (AVX-512) inside a baseline
// build; the caller asks cpu_level() first. The bits do not change: all operations are correctly
// rounded.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__CUDACC__)
#define CUPEL_HAS_TARGETS 1
#define CUPEL_TARGET_V3 __attribute__((target("arch=x86-64-v3")))
#define CUPEL_TARGET_V4 __attribute__((target("arch=x86-64-v4")))
#else
#define CUPEL_HAS_TARGETS 0
#define CUPEL_TARGET_V3
#define CUPEL_TARGET_V4
#endif

// A broken promise inside cupel itself: checked in debug builds, never reachable from user input.
#if defined(NDEBUG) || defined(__CUDA_ARCH__)
#define CUPEL_ASSERT(condition) ((void)0)
#else
#define CUPEL_ASSERT(condition) ((condition) ? (void)0 : std::abort())
#endif
