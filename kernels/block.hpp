// How a kernel of the project is written: as a program for one block of threads, in phases with a
// barrier after each. The same program runs on a device, where a phase is run by all threads of a
// block at once, and on the host, where a loop runs it thread by thread, so that its result can be
// compared with the CPU's on a machine without a GPU. What the host cannot show: races inside a
// phase, launch limits, and speed.
//
//   struct Program {
//     static constexpr int kThreads = 128;
//     static constexpr int kLeastBlocks = 2;  // on a multiprocessor; may be left out
//     template <class Block> CUPEL_HD void operator()(Block& block) const;
//   };
//
// Between two phases only the block's shared memory and PerThread values live.
#pragma once

#include "cupel/core/int.hpp"

#if !defined(__CUDACC__)
#include <vector>
#endif

namespace cupel::device {

#if defined(__CUDACC__)

/// A block on the device.
class DeviceBlock {
 public:
  template <class T>
  struct PerThread {
    T value{};
    CUPEL_HD T& operator[](int) { return value; }
  };

  CUPEL_HD DeviceBlock(unsigned char* shared, i64 index, i64 count)
      : shared_(shared), index_(index), count_(count) {}

  CUPEL_HD i64 index() const { return index_; }
  CUPEL_HD i64 count() const { return count_; }
  CUPEL_HD unsigned char* shared() const { return shared_; }

  /// Runs a phase: phase(thread) on every thread, then a barrier.
  template <class Phase>
  CUPEL_HD CUPEL_INLINE void each(Phase phase) {
#if defined(__CUDA_ARCH__)
    phase(static_cast<int>(threadIdx.x));
    __syncthreads();
#else
    phase(0);
#endif
  }

  /// Merges the values of each kGroup neighbouring threads (a power of two, at most 32); all of
  /// them have the result then. merge(from, into) is commutative and associative.
  template <int kGroup, class T, class Merge>
  CUPEL_HD CUPEL_INLINE void merge_groups(PerThread<T>& values, Merge merge) {
    static_assert(sizeof(T) % 4 == 0 && kGroup <= 32);
#if defined(__CUDA_ARCH__)
#pragma unroll
    for (int lane = 1; lane < kGroup; lane *= 2) {
      T other;
      u32 words[sizeof(T) / 4];
      __builtin_memcpy(words, &values.value, sizeof(T));
#pragma unroll
      for (unsigned i = 0; i < sizeof(T) / 4; ++i) {
        words[i] = __shfl_xor_sync(0xFFFFFFFFu, words[i], lane);
      }
      __builtin_memcpy(&other, words, sizeof(T));
      merge(other, values.value);
    }
#endif
  }

 private:
  unsigned char* shared_;
  i64 index_;
  i64 count_;
};

/// Blocks of a program that a multiprocessor should hold: Program::kLeastBlocks, or 1.
template <class Program, class = void>
struct LeastBlocks {
  static constexpr int kValue = 1;
};
template <class Program>
struct LeastBlocks<Program, decltype(void(Program::kLeastBlocks))> {
  static constexpr int kValue = Program::kLeastBlocks;
};

template <class Program>
__global__ void __launch_bounds__(Program::kThreads, LeastBlocks<Program>::kValue)
    run_program(Program program) {
  extern __shared__ __align__(16) unsigned char shared[];
  DeviceBlock block(shared, blockIdx.x, gridDim.x);
  program(block);
}

#else

/// A block on the host: one thread plays all.
template <int kThreads>
class HostBlock {
 public:
  template <class T>
  class PerThread {
   public:
    T& operator[](int thread) { return values_[static_cast<std::size_t>(thread)]; }

   private:
    std::vector<T> values_ = std::vector<T>(kThreads);
  };

  HostBlock(unsigned char* shared, i64 index, i64 count)
      : shared_(shared), index_(index), count_(count) {}

  i64 index() const { return index_; }
  i64 count() const { return count_; }
  unsigned char* shared() const { return shared_; }

  template <class Phase>
  void each(Phase phase) {
    // By turns up and down, so that a phase whose result depends on the order of threads is seen.
    backwards_ = !backwards_;
    for (int i = 0; i < kThreads; ++i) phase(backwards_ ? kThreads - 1 - i : i);
  }

  template <int kGroup, class T, class Merge>
  void merge_groups(PerThread<T>& values, Merge merge) {
    for (int first = 0; first < kThreads; first += kGroup) {
      T all = values[first];
      for (int i = 1; i < kGroup; ++i) merge(values[first + i], all);
      for (int i = 0; i < kGroup; ++i) values[first + i] = all;
    }
  }

 private:
  unsigned char* shared_;
  i64 index_;
  i64 count_;
  bool backwards_ = false;
};

#endif

/// Merges one value per thread into that of thread 0. `scratch` has kThreads values of shared
/// memory, which nothing else uses until the next phase after this.
template <int kThreads, class Block, class T, class Merge>
CUPEL_HD CUPEL_INLINE void merge_block(Block& block, typename Block::template PerThread<T>& values,
                                       T* scratch, Merge merge) {
  block.each([&](int t) { scratch[t] = values[t]; });
  for (int half = kThreads / 2; half > 0; half /= 2) {
    block.each([&](int t) {
      if (t < half) merge(scratch[t + half], scratch[t]);
    });
  }
  block.each([&](int t) {
    if (t == 0) values[t] = scratch[0];
  });
}

}  // namespace cupel::device
