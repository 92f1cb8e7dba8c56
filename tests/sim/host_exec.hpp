// The executor of the pipelines on the host: Thrust's algorithms with a host system (OpenMP, or one
// thread for ThreadSanitizer) where the device has CUB's, and kernels as loops. Device memory is
// memory of the host that is filled with a pattern, bounded, and counted; a launch can be told to
// fail.
#pragma once

#include <thrust/copy.h>
#include <thrust/execution_policy.h>
#include <thrust/for_each.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
#include <thrust/scan.h>
#include <thrust/sort.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "block.hpp"
#include "host_copy.hpp"
#include "pipelines.hpp"

namespace cupel::sim {

using device::Fault;
using device::Status;

struct HostExecOptions {
  i64 memory = i64{1} << 40;  ///< bytes that may be allocated at a time
  i64 fail_at_launch = 0;     ///< this launch (from 1) fails; 0: none
  i64 blocks = 3;             ///< that fill the device: few, so that they go around
  /// What a block may have on the smallest device (sm_75), less what may be the system's.
  i64 shared_bytes = 63 * 1024;
  i64 part_rows = 0;  ///< as in DeviceOptions
  /// Whether the host's memory is pinned: copies read it when they run, else when they are asked
  /// for, through a stage of so many bytes.
  bool pinned = false;
  i64 stage_bytes = 1000;
};

class HostExec {
 public:
  explicit HostExec(const HostExecOptions& options, i64* live_bytes = nullptr)
      : options_(options), live_(live_bytes) {}

  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }
  void recover() {
    if (status_.fault == Fault::kOutOfMemory) status_ = {};
  }
  i64 free_bytes() const { return options_.memory - used_; }

  void* allocate(i64 bytes) {
    if (!ok()) return nullptr;
    if (used_ + bytes > options_.memory) {
      status_ = {Fault::kOutOfMemory, "out of device memory"};
      return nullptr;
    }
    count(bytes);
    void* memory = std::aligned_alloc(256, static_cast<std::size_t>((bytes + 511) / 256 * 256));
    std::memset(memory, 0xA5, static_cast<std::size_t>(bytes));
    return memory;
  }
  void release(void* memory, i64 bytes) {
    count(-bytes);
    std::free(memory);
  }

  void zero(void* to, i64 bytes) {
    if (ok() && bytes > 0) std::memset(to, 0, static_cast<std::size_t>(bytes));
  }
  void to_device(void* to, const void* from, i64 bytes) { copy(to, from, bytes); }
  void to_host(void* to, const void* from, i64 bytes) { copy(to, from, bytes); }

  // Copies of columns run when they are waited for and not before, so that what computes on a part
  // too early finds the pattern of fresh memory.
  i64 part_rows() const { return options_.part_rows; }
  void begin_copies() {}
  bool copies_itself(const device::HostCopy& copy) const {
    return options_.pinned && copy.from.items == 1;
  }
  void start_copy(const device::HostCopy& from) {
    if (!ok()) return;
    Copy started{from, {}};
    if (!copies_itself(from)) {
      from.pieces(options_.stage_bytes, [&](i64 first, i64 bytes, i64 lines, unsigned char* to) {
        std::vector<unsigned char> stage(static_cast<std::size_t>(bytes * lines));
        from.from.pack(stage.data(), first, bytes * lines);
        started.staged.push_back({std::move(stage), bytes, lines, to});
      });
    }
    started_.push_back(std::move(started));
  }
  i64 mark_copies() { return ok() ? static_cast<i64>(started_.size()) : -1; }
  void await_copies(i64 mark) {
    while (ok() && run_ < mark) run_copy(started_[static_cast<std::size_t>(run_++)]);
  }
  void finish_copies() noexcept {
    await_copies(static_cast<i64>(started_.size()));
    started_.clear();
    run_ = 0;
  }

  template <class Functor>
  void for_each(i64 n, Functor functor) {
    if (!started() || n <= 0) return;
    thrust::for_each_n(thrust::device, thrust::counting_iterator<i64>(0), n, functor);
  }

  template <class Program>
  i64 blocks_for(const Program&) const {
    return options_.blocks;
  }
  i64 most_shared_bytes() const { return options_.shared_bytes; }

  template <class Program>
  void launch(const Program& program, i64 blocks) {
    if (!started() || blocks <= 0) return;
    if (program.shared_bytes() > options_.shared_bytes) {
      status_ = {Fault::kFailed, "a program asks for more shared memory than there is"};
      return;
    }
    thrust::for_each_n(thrust::device, thrust::counting_iterator<i64>(0), blocks,
                       RunBlock<Program>{program, blocks});
  }

  template <class Key>
  void sort(Key* keys, Key*, const std::vector<i64>& starts, int) {
    if (!started()) return;
    for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
      thrust::sort(thrust::device, keys + starts[s], keys + starts[s + 1]);
    }
  }
  template <class Key>
  void sort_pairs(Key* keys, u64* values, Key*, u64*, const std::vector<i64>& starts, int) {
    if (!started()) return;
    for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
      thrust::sort_by_key(thrust::device, keys + starts[s], keys + starts[s + 1],
                          values + starts[s]);
    }
  }

  template <class Predicate>
  i64 select(i64 n, Predicate predicate, u64* out) {
    if (!started()) return 0;
    const auto first = thrust::counting_iterator<u64>(0);
    const auto holds = [predicate](u64 i) { return predicate(static_cast<i64>(i)); };
    return thrust::copy_if(thrust::device, first, first + n, out, holds) - out;
  }

  template <class MassOf>
  void scan_masses(i64 n, MassOf mass_of, u128* out) {
    if (!started()) return;
    const auto masses = thrust::make_transform_iterator(
        thrust::counting_iterator<i64>(0),
        [mass_of, n](i64 i) { return i < n ? mass_of(i) : u128{0}; });
    thrust::exclusive_scan(thrust::device, masses, masses + n + 1, out, u128{0});
  }

  i64 launches() const { return launches_; }

 private:
  template <class Program>
  struct RunBlock {
    Program program;
    i64 blocks;
    void operator()(i64 index) const {
      // One byte more than asked for would be seen by the sanitizers.
      const std::size_t bytes = static_cast<std::size_t>(program.shared_bytes());
      const u128 pattern = ~u128{0} / 0xFF * 0x5A;
      std::vector<u128> shared((bytes + sizeof(u128) - 1) / sizeof(u128), pattern);
      device::HostBlock<Program::kThreads> block(reinterpret_cast<unsigned char*>(shared.data()),
                                                 index, blocks);
      program(block);
    }
  };

  /// Lines that were packed, on their way.
  struct Staged {
    std::vector<unsigned char> bytes;
    i64 line_bytes;
    i64 lines;
    unsigned char* to;
  };
  struct Copy {
    device::HostCopy copy;
    std::vector<Staged> staged;
  };
  static void run_copy(const Copy& one) {
    const auto put = [&](unsigned char* to, const unsigned char* from, i64 stride, i64 bytes,
                         i64 lines) {
      for (i64 line = 0; line < lines; ++line) {
        std::memcpy(to + line * one.copy.pitch, from + line * stride,
                    static_cast<std::size_t>(bytes));
      }
    };
    const device::HostLines& from = one.copy.from;
    if (one.staged.empty())
      put(one.copy.to, from.from, from.line_stride, from.item_bytes, from.lines);
    for (const Staged& part : one.staged) {
      put(part.to, part.bytes.data(), part.line_bytes, part.line_bytes, part.lines);
    }
  }

  bool started() {
    if (!ok()) return false;
    if (++launches_ == options_.fail_at_launch) {
      status_ = {Fault::kFailed, "a launch was made to fail"};
    }
    return ok();
  }
  void copy(void* to, const void* from, i64 bytes) {
    if (ok() && bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
  void count(i64 bytes) {
    used_ += bytes;
    if (live_ != nullptr) *live_ = used_;
  }

  HostExecOptions options_;
  Status status_;
  i64 used_ = 0;
  i64 launches_ = 0;
  std::vector<Copy> started_;
  i64 run_ = 0;  ///< of them
  i64* live_;    ///< where a test looks for memory that was not given back
};

}  // namespace cupel::sim
