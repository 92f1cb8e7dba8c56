// A CUDA device as the executor uses it: a stream to compute on, memory in the order of that stream
// and within a limit, copies through pinned memory, a stream of their own for the columns of a
// table, and the first error. Compiled by g++.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "cupel/core/int.hpp"
#include "host_copy.hpp"
#include "pipelines.hpp"

namespace cupel::device {

class CudaContext {
 public:
  /// Makes the device current, a stream, and nothing else; status() says whether that went well.
  CudaContext(int ordinal, const RunOptions& options);
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
  void release(void* memory, i64 bytes) noexcept;
  void zero(void* to, i64 bytes);
  void copy(void* to, const void* from, i64 bytes);
  /// Returns when `from` has been read: the copy to the device may still be under way.
  void to_device(void* to, const void* from, i64 bytes);
  /// Waits for the stream.
  void to_host(void* to, const void* from, i64 bytes);

  // Columns, on a stream of their own.

  /// Before the first of them: they come after all that was asked of the computing stream so far,
  /// whose memory they may be given. Forgets the marks.
  void begin_copies();
  /// Whether start_copy() only asks for it: its source is pinned and the device brings it alone.
  bool copies_itself(const HostCopy& copy);
  /// Returns when pageable memory has been read; pinned memory is read until finish_copies().
  void start_copy(const HostCopy& copy);
  /// A mark behind the copies so far.
  i64 mark_copies();
  /// What the computing stream is asked for from here on comes after the copies before a mark.
  void await_copies(i64 mark);
  /// Waits until no copy reads the host's memory any more, whatever has failed.
  void finish_copies() noexcept;

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
  /// check() where nothing may be thrown.
  void keep(cudaError_t error, const char* what) noexcept;
  /// Pinned memory through which pageable memory is copied, one part while the other is filled.
  struct Stage {
    void* memory = nullptr;
    cudaEvent_t copied = nullptr;
    bool busy = false;
  };
  bool make_stages();
  /// Copies bytes [first, ...) of what `from` is without gaps through the next stage.
  void copy_by_stage(const HostCopy& copy, i64 first, i64 bytes, i64 lines, unsigned char* to,
                     cudaStream_t stream);
  /// Lines without gaps on the host, `pitch` apart on the device.
  bool copy_lines(unsigned char* to, i64 pitch, const void* from, i64 stride, i64 bytes, i64 lines,
                  cudaStream_t stream);

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
  int next_stage_ = 0;

  cudaStream_t copies_ = nullptr;
  cudaEvent_t begun_ = nullptr;
  std::vector<cudaEvent_t> marks_;  ///< those that were made; the first used_marks_ are in use
  std::size_t used_marks_ = 0;
  bool copying_ = false;  ///< since the last finish_copies()
};

}  // namespace cupel::device
