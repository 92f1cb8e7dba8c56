// The executor of the pipelines on a CUDA device: a stream to compute on and one for the columns
// that come, memory from the device's pool in the order of the first, CUB for sorting, selecting
// and scanning. Nothing here waits for the whole device, and nothing throws: the first error is
// kept, and what follows does nothing.
#pragma once

#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

#include <algorithm>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_segmented_sort.cuh>
#include <cub/device/device_select.cuh>
#include <limits>
#include <string>
#include <vector>

#include "block.hpp"
#include "cuda_memory.hpp"
#include "pipelines.hpp"

namespace cupel::device {

template <class Functor>
__global__ void __launch_bounds__(256, 1) run_for_each(i64 n, Functor functor) {
  const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
  for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    functor(i);
  }
}

/// Device memory for each element of an index space: what scan_masses() reads.
template <class MassOf>
struct MassOrZero {
  MassOf mass_of;
  i64 size;
  CUPEL_HD u128 operator()(i64 i) const { return i < size ? mass_of(i) : u128{0}; }
};
struct AddMasses {
  CUPEL_HD u128 operator()(const u128& a, const u128& b) const { return a + b; }
};
template <class Predicate>
struct HoldsAt {
  Predicate predicate;
  CUPEL_HD bool operator()(const u64& i) const { return predicate(static_cast<i64>(i)); }
};

class CudaExec {
 public:
  CudaExec(int ordinal, const RunOptions& options)
      : context_(ordinal, options), part_rows_(options.part_rows) {}

  bool ok() const { return context_.ok(); }
  const Status& status() const { return context_.status(); }
  void recover() { context_.recover(); }
  i64 free_bytes() { return context_.free_bytes(); }
  i64 most_shared_bytes() const { return context_.most_shared_bytes(); }

  void* allocate(i64 bytes) { return context_.allocate(bytes); }
  void release(void* memory, i64 bytes) noexcept { context_.release(memory, bytes); }
  void zero(void* to, i64 bytes) { context_.zero(to, bytes); }
  void to_device(void* to, const void* from, i64 bytes) { context_.to_device(to, from, bytes); }
  void to_host(void* to, const void* from, i64 bytes) { context_.to_host(to, from, bytes); }

  i64 part_rows() const { return part_rows_; }
  void begin_copies() { context_.begin_copies(); }
  bool copies_itself(const HostCopy& copy) { return context_.copies_itself(copy); }
  void start_copy(const HostCopy& copy) { context_.start_copy(copy); }
  i64 mark_copies() { return context_.mark_copies(); }
  void await_copies(i64 mark) { context_.await_copies(mark); }
  void finish_copies() noexcept { context_.finish_copies(); }

  template <class Functor>
  void for_each(i64 n, Functor functor) {
    if (n <= 0 || !context_.start()) return;
    const i64 blocks = std::min<i64>((n + 255) / 256, 32 * i64{context_.multiprocessors()});
    run_for_each<<<static_cast<unsigned>(blocks), 256, 0, context_.stream()>>>(n, functor);
    context_.launched("for_each");
  }

  /// Blocks that are resident at a time.
  template <class Program>
  i64 blocks_for(const Program& program) {
    if (!context_.enter()) return 0;
    const std::size_t shared = static_cast<std::size_t>(program.shared_bytes());
    // The limit is the kernel's, whoever launches it: always the same one, since another executor
    // on this device may be about to launch it with more.
    if (program.shared_bytes() > kUsualSharedBytes &&
        !context_.check(
            cudaFuncSetAttribute(run_program<Program>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(most_shared_bytes())),
            "shared memory of a kernel")) {
      return 0;
    }
    int blocks = 0;
    context_.check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, run_program<Program>,
                                                                 Program::kThreads, shared),
                   "occupancy of a kernel");
    return std::max<i64>(1, i64{blocks} * context_.multiprocessors());
  }

  /// `blocks` are what blocks_for() allows, or fewer.
  template <class Program>
  void launch(const Program& program, i64 blocks) {
    if (blocks <= 0 || !context_.start()) return;
    run_program<<<static_cast<unsigned>(blocks), Program::kThreads,
                  static_cast<std::size_t>(program.shared_bytes()), context_.stream()>>>(program);
    context_.launched("a kernel");
  }

  /// Large segments one by one, each by all of the device; the others in one launch.
  template <class Key>
  void sort(Key* keys, Key* scratch, const std::vector<i64>& starts, int bits) {
    each_part(starts, [&](std::size_t first, std::size_t last) {
      const i64 begin = starts[first];
      const i64 size = starts[last] - begin;
      cub::DoubleBuffer<Key> buffer(keys + begin, scratch + begin);
      if (last - first == 1) {
        call("radix sort", [&](void* temp, std::size_t& bytes) {
          return cub::DeviceRadixSort::SortKeys(temp, bytes, buffer, size, 0, bits,
                                                context_.stream());
        });
      } else {
        Segments segments(*this, starts, first, last);
        call("segmented sort", [&](void* temp, std::size_t& bytes) {
          return cub::DeviceSegmentedSort::SortKeys(temp, bytes, buffer, size, segments.count(),
                                                    segments.begins(), segments.ends(),
                                                    context_.stream());
        });
      }
      bring_back(keys + begin, buffer.Current(), size);
    });
  }

  template <class Key>
  void sort_pairs(Key* keys, u64* values, Key* key_scratch, u64* value_scratch,
                  const std::vector<i64>& starts, int bits) {
    each_part(starts, [&](std::size_t first, std::size_t last) {
      const i64 begin = starts[first];
      const i64 size = starts[last] - begin;
      cub::DoubleBuffer<Key> key_buffer(keys + begin, key_scratch + begin);
      cub::DoubleBuffer<u64> value_buffer(values + begin, value_scratch + begin);
      if (last - first == 1) {
        call("radix sort", [&](void* temp, std::size_t& bytes) {
          return cub::DeviceRadixSort::SortPairs(temp, bytes, key_buffer, value_buffer, size, 0,
                                                 bits, context_.stream());
        });
      } else {
        Segments segments(*this, starts, first, last);
        call("segmented sort", [&](void* temp, std::size_t& bytes) {
          return cub::DeviceSegmentedSort::SortPairs(temp, bytes, key_buffer, value_buffer, size,
                                                     segments.count(), segments.begins(),
                                                     segments.ends(), context_.stream());
        });
      }
      bring_back(keys + begin, key_buffer.Current(), size);
      bring_back(values + begin, value_buffer.Current(), size);
    });
  }

  template <class Predicate>
  i64 select(i64 n, Predicate predicate, u64* out) {
    u64 count = 0;
    u64* device_count = static_cast<u64*>(allocate(sizeof(u64)));
    call("selection", [&](void* temp, std::size_t& bytes) {
      return cub::DeviceSelect::If(temp, bytes, thrust::counting_iterator<u64>(0), out,
                                   device_count, n, HoldsAt<Predicate>{predicate},
                                   context_.stream());
    });
    to_host(&count, device_count, sizeof count);
    if (device_count != nullptr) release(device_count, sizeof(u64));
    return ok() ? static_cast<i64>(count) : 0;
  }

  template <class MassOf>
  void scan_masses(i64 n, MassOf mass_of, u128* out) {
    const auto masses = thrust::make_transform_iterator(thrust::counting_iterator<i64>(0),
                                                        MassOrZero<MassOf>{mass_of, n});
    call("scan", [&](void* temp, std::size_t& bytes) {
      return cub::DeviceScan::ExclusiveScan(temp, bytes, masses, out, AddMasses{}, u128{0}, n + 1,
                                            context_.stream());
    });
  }

  CudaContext& context() { return context_; }

 private:
  /// What a block may have without being asked for.
  static constexpr i64 kUsualSharedBytes = 48 * 1024;
  /// From so many keys on a segment is sorted by the whole device.
  static constexpr i64 kLargeSegment = i64{1} << 22;

  /// Begins and ends of segments [first, last) on the device, from the first one's begin.
  class Segments {
   public:
    Segments(CudaExec& exec, const std::vector<i64>& starts, std::size_t first, std::size_t last)
        : exec_(exec), count_(static_cast<i64>(last - first)) {
      std::vector<i64> own;
      for (std::size_t s = first; s <= last; ++s) own.push_back(starts[s] - starts[first]);
      starts_ = static_cast<i64*>(exec_.allocate(bytes()));
      exec_.to_device(starts_, own.data(), bytes());
    }
    Segments(const Segments&) = delete;
    Segments& operator=(const Segments&) = delete;
    ~Segments() {
      if (starts_ != nullptr) exec_.release(starts_, bytes());
    }
    i64 count() const { return count_; }
    const i64* begins() const { return starts_; }
    const i64* ends() const { return starts_ + 1; }

   private:
    i64 bytes() const { return (count_ + 1) * static_cast<i64>(sizeof(i64)); }
    CudaExec& exec_;
    i64 count_;
    i64* starts_ = nullptr;
  };

  /// Calls sort_part(first, last) for runs of small segments, and for each large one alone.
  template <class SortPart>
  void each_part(const std::vector<i64>& starts, SortPart sort_part) {
    const std::size_t segments = starts.size() - 1;
    const auto is_large = [&](std::size_t s) { return starts[s + 1] - starts[s] >= kLargeSegment; };
    for (std::size_t first = 0; first < segments && ok();) {
      std::size_t last = first + 1;
      if (!is_large(first)) {
        while (last < segments && !is_large(last)) ++last;
      }
      if (starts[last] != starts[first]) sort_part(first, last);
      first = last;
    }
  }

  /// A CUB algorithm: asks for its scratch, then runs.
  template <class Algorithm>
  void call(const char* what, Algorithm algorithm) {
    if (!context_.start()) return;
    std::size_t bytes = 0;
    if (!context_.check(algorithm(nullptr, bytes), what)) return;
    const i64 size = static_cast<i64>(std::max<std::size_t>(bytes, 1));
    void* temp = allocate(size);
    if (temp == nullptr) return;
    context_.check(algorithm(temp, bytes), what);
    release(temp, size);
  }

  /// A sort ends in either of its two buffers.
  template <class T>
  void bring_back(T* to, const T* from, i64 size) {
    if (to != from) context_.copy(to, from, size * static_cast<i64>(sizeof(T)));
  }

  CudaContext context_;
  i64 part_rows_;
};

}  // namespace cupel::device
