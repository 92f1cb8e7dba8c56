// A CUDA device as the executor uses it: a stream, memory in the order of that stream and within a
// limit, copies through pinned memory, and the first error. Compiled by g++.
#pragma once

#include <cuda_runtime_api.h>

#include "cupel/core/int.hpp"
#include "pipelines.hpp"

namespace cupel::device {

class CudaContext {
 public:
  /// Makes the device current, a stream, and nothing else; status() says whether that went well.
  CudaContext(int ordinal, i64 memory_limit, i64 fail_at_launch);
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;
  ~CudaContext();

  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }
  /// Forgets that memory ran out; a failure stays.
  void recover();

  cudaStream_t stream() const { return stream_; }
  int multiprocessors() const { return multiprocessors_; }
  i64 most_shared_bytes() const { return most_shared_bytes_; }
  /// What may be allocated: what the device and its pool have free, within the limit.
  i64 free_bytes();

  /// Null after a failure, and when memory runs out.
  void* allocate(i64 bytes);
  void release(void* memory, i64 bytes);
  void zero(void* to, i64 bytes);
  void copy(void* to, const void* from, i64 bytes);
  /// Returns when `from` has been read: the copy to the device may still be under way.
  void to_device(void* to, const void* from, i64 bytes);
  /// Waits for the stream.
  void to_host(void* to, const void* from, i64 bytes);

  /// Makes the device current for the calling thread, which may not be the one that made this:
  /// false after a failure.
  bool enter();
  /// Before a launch: false after a failure, and where a launch is to fail.
  bool start();
  /// After a launch: takes its error.
  void launched(const char* what);
  /// Keeps an error; true when there is none.
  bool check(cudaError_t error, const char* what);

 private:
  /// Pinned memory through which pageable memory is copied, one part while the other is filled.
  struct Stage {
    void* memory = nullptr;
    cudaEvent_t copied = nullptr;
    bool busy = false;
  };
  bool make_stages();

  int ordinal_;
  i64 limit_;
  i64 fail_at_launch_;
  i64 launches_ = 0;
  i64 used_ = 0;
  Status status_;
  cudaStream_t stream_ = nullptr;
  cudaMemPool_t pool_ = nullptr;
  int multiprocessors_ = 1;
  i64 most_shared_bytes_ = 48 * 1024;
  Stage stages_[2];
};

}  // namespace cupel::device
