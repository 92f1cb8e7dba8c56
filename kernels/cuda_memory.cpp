#include "cuda_memory.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace cupel::device {
namespace {

constexpr i64 kStageBytes = i64{1} << 25;
/// Bytes from which a copy is worth another thread, and how many threads there are at most: one
/// alone does not fill the bus.
constexpr i64 kThreadBytes = i64{1} << 22;
constexpr i64 kMostThreads = 8;
/// Copies up to this size go straight through the driver, which stages them itself.
constexpr i64 kDirectBytes = i64{1} << 16;

/// memcpy by several threads.
void copy_by_threads(unsigned char* to, const unsigned char* from, i64 bytes) {
  const i64 cores = std::max<i64>(1, std::thread::hardware_concurrency());
  const i64 threads = std::clamp<i64>(bytes / kThreadBytes, 1, std::min(kMostThreads, cores));
  const i64 part = (bytes + threads - 1) / threads;
  std::vector<std::jthread> others;
  for (i64 i = 1; i < threads; ++i) {
    const i64 begin = std::min(bytes, i * part);
    const i64 size = std::min(bytes - begin, part);
    others.emplace_back(
        [=] { std::memcpy(to + begin, from + begin, static_cast<std::size_t>(size)); });
  }
  std::memcpy(to, from, static_cast<std::size_t>(std::min(bytes, part)));
}

}  // namespace

CudaContext::CudaContext(int ordinal, i64 memory_limit, i64 fail_at_launch)
    : ordinal_(ordinal), limit_(memory_limit), fail_at_launch_(fail_at_launch) {
  if (!check(cudaSetDevice(ordinal), "cudaSetDevice")) return;
  if (!check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate"))
    return;
  if (!check(cudaDeviceGetDefaultMemPool(&pool_, ordinal), "memory pool")) return;
  // What was given back stays here until the end: the next table needs it again.
  u64 keep = ~u64{0};
  if (!check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep),
             "memory pool")) {
    return;
  }
  int shared = 0;
  if (check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, ordinal),
            "device attributes") &&
      check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal),
            "device attributes")) {
    // Some is the system's.
    most_shared_bytes_ = shared - 1024;
  }
}

CudaContext::~CudaContext() {
  // Errors have been told, or are of no account any more.
  static_cast<void>(cudaSetDevice(ordinal_));
  for (Stage& stage : stages_) {
    if (stage.copied != nullptr) {
      static_cast<void>(cudaEventSynchronize(stage.copied));
      static_cast<void>(cudaEventDestroy(stage.copied));
    }
    if (stage.memory != nullptr) static_cast<void>(cudaFreeHost(stage.memory));
  }
  if (stream_ != nullptr) {
    // Memory that was given back is the device's again once the stream has come to it.
    static_cast<void>(cudaStreamSynchronize(stream_));
    static_cast<void>(cudaStreamDestroy(stream_));
  }
  if (pool_ != nullptr) static_cast<void>(cudaMemPoolTrimTo(pool_, 0));
}

void CudaContext::recover() {
  if (status_.fault == Fault::kOutOfMemory) status_ = {};
}

i64 CudaContext::free_bytes() {
  std::size_t free = 0;
  std::size_t total = 0;
  if (!enter() || !check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo")) return 0;
  u64 reserved = 0;
  u64 used = 0;
  if (!check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrReservedMemCurrent, &reserved),
             "memory pool") ||
      !check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrUsedMemCurrent, &used), "memory pool")) {
    return 0;
  }
  const i64 available = static_cast<i64>(free) + static_cast<i64>(reserved - used);
  return limit_ > 0 ? std::min(available, limit_ - used_) : available;
}

void* CudaContext::allocate(i64 bytes) {
  if (!enter()) return nullptr;
  if (limit_ > 0 && used_ + bytes > limit_) {
    status_ = {Fault::kOutOfMemory, "out of device memory: " + std::to_string(bytes) +
                                        " bytes beside " + std::to_string(used_) +
                                        " of a limit of " + std::to_string(limit_)};
    return nullptr;
  }
  void* memory = nullptr;
  const auto size = static_cast<std::size_t>(std::max<i64>(bytes, 1));
  if (!check(cudaMallocAsync(&memory, size, stream_), "allocating device memory")) return nullptr;
  used_ += bytes;
  return memory;
}

void CudaContext::release(void* memory, i64 bytes) {
  used_ -= bytes;
  // Whoever lets go of memory may be on another device, and after a failure it is given back too:
  // of a broken device the calls say no more than what is known.
  const cudaError_t error = cudaSetDevice(ordinal_);
  check(error != cudaSuccess ? error : cudaFreeAsync(memory, stream_), "cudaFreeAsync");
}

void CudaContext::zero(void* to, i64 bytes) {
  if (bytes > 0 && enter()) {
    check(cudaMemsetAsync(to, 0, static_cast<std::size_t>(bytes), stream_), "cudaMemsetAsync");
  }
}

void CudaContext::copy(void* to, const void* from, i64 bytes) {
  if (bytes > 0 && enter()) {
    check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                          stream_),
          "copying on the device");
  }
}

bool CudaContext::make_stages() {
  for (Stage& stage : stages_) {
    if (stage.copied == nullptr &&
        !check(cudaEventCreateWithFlags(&stage.copied, cudaEventDisableTiming), "cudaEvent")) {
      return false;
    }
    if (stage.memory == nullptr &&
        cudaMallocHost(&stage.memory, static_cast<std::size_t>(kStageBytes)) != cudaSuccess) {
      // Pinned memory is the host's: without it copies are slower, and the device is none the
      // worse.
      static_cast<void>(cudaGetLastError());
      stage.memory = nullptr;
      return false;
    }
  }
  return true;
}

void CudaContext::to_device(void* to, const void* from, i64 bytes) {
  if (bytes <= 0 || !enter()) return;
  cudaPointerAttributes attributes{};
  const bool known = cudaPointerGetAttributes(&attributes, from) == cudaSuccess;
  const bool pinned = known && attributes.type == cudaMemoryTypeHost;
  const bool small = bytes <= kDirectBytes && !pinned;
  if (small || pinned || !make_stages()) {
    if (!ok()) return;
    check(
        cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, stream_),
        "copying to the device");
    // What the driver does not stage is read later; the caller may change it only after that.
    if (!small) check(cudaStreamSynchronize(stream_), "copying to the device");
    return;
  }
  for (i64 done = 0, part = 0; done < bytes && ok(); done += kStageBytes, ++part) {
    Stage& stage = stages_[part % 2];
    const i64 size = std::min(kStageBytes, bytes - done);
    if (stage.busy && !check(cudaEventSynchronize(stage.copied), "copying to the device")) return;
    copy_by_threads(static_cast<unsigned char*>(stage.memory),
                    static_cast<const unsigned char*>(from) + done, size);
    if (!check(cudaMemcpyAsync(static_cast<unsigned char*>(to) + done, stage.memory,
                               static_cast<std::size_t>(size), cudaMemcpyHostToDevice, stream_),
               "copying to the device") ||
        !check(cudaEventRecord(stage.copied, stream_), "copying to the device")) {
      return;
    }
    stage.busy = true;
  }
}

void CudaContext::to_host(void* to, const void* from, i64 bytes) {
  if (bytes <= 0 || !enter()) return;
  check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost, stream_),
        "copying from the device");
  if (ok()) check(cudaStreamSynchronize(stream_), "a kernel");
}

bool CudaContext::enter() { return ok() && check(cudaSetDevice(ordinal_), "cudaSetDevice"); }

bool CudaContext::start() {
  if (!enter()) return false;
  // An error that a call before left to this thread is not the launch's.
  static_cast<void>(cudaGetLastError());
  if (++launches_ == fail_at_launch_) {
    status_ = {Fault::kFailed, "a launch was made to fail"};
    return false;
  }
  return true;
}

void CudaContext::launched(const char* what) { check(cudaGetLastError(), what); }

bool CudaContext::check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return true;
  if (status_.fault == Fault::kFailed) return false;
  const std::string text = std::string(what) + ": " + cudaGetErrorString(error);
  if (error == cudaErrorMemoryAllocation) {
    // Not one of those that stay: clears it.
    static_cast<void>(cudaGetLastError());
    if (status_.ok()) status_ = {Fault::kOutOfMemory, "out of device memory: " + text};
  } else {
    status_ = {Fault::kFailed, text};
  }
  return false;
}

}  // namespace cupel::device
