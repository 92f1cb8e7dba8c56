#include "device_card.hpp"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>

namespace cupel::bench {
namespace {

Result<void> check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  // Not for the next call to find.
  static_cast<void>(cudaGetLastError());
  return Error{ErrorCode::kBackend, what, cudaGetErrorString(error), {}};
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

struct FreeDevice {
  void operator()(void* memory) const { static_cast<void>(cudaFree(memory)); }
};
struct FreeHost {
  void operator()(void* memory) const { static_cast<void>(cudaFreeHost(memory)); }
};
struct DestroyStream {
  void operator()(cudaStream_t stream) const { static_cast<void>(cudaStreamDestroy(stream)); }
};
using DeviceMemory = std::unique_ptr<void, FreeDevice>;
using Stream = std::unique_ptr<CUstream_st, DestroyStream>;

/// Several copies one after another, so that what a launch costs is no part of the rate.
constexpr int kCopies = 4;

Result<double> copy_rate(void* to, const void* from, i64 bytes, cudaMemcpyKind kind,
                         cudaStream_t stream, int samples) {
  Samples times;
  for (int i = 0; i < samples + 1; ++i) {
    const auto start = std::chrono::steady_clock::now();
    for (int copy = 0; copy < kCopies; ++copy) {
      const auto copied =
          check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, stream), "copy");
      if (!copied) return copied.error();
    }
    const auto done = check(cudaStreamSynchronize(stream), "copy");
    if (!done) return done.error();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (i > 0) times.seconds.push_back(took.count());
  }
  return static_cast<double>(bytes) * kCopies / times.median();
}

Result<cudaMemPool_t> pool() {
  int ordinal = 0;
  cudaMemPool_t found = nullptr;
  if (const auto ok = check(cudaGetDevice(&ordinal), "device"); !ok) return ok.error();
  if (const auto ok = check(cudaDeviceGetDefaultMemPool(&found, ordinal), "memory pool"); !ok) {
    return ok.error();
  }
  return found;
}

}  // namespace

double Samples::median() const {
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t n = sorted.size();
  if (n == 0) return 0;
  return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}
double Samples::least() const { return *std::min_element(seconds.begin(), seconds.end()); }
double Samples::most() const { return *std::max_element(seconds.begin(), seconds.end()); }

Result<void> use_device(int ordinal) { return check(cudaSetDevice(ordinal), "cudaSetDevice"); }

std::string driver_version() {
  int version = 0;
  static_cast<void>(cudaDriverGetVersion(&version));
  return version_text(version);
}
std::string runtime_version() { return version_text(CUDART_VERSION); }

Result<CopyRates> measure_copies(i64 most_bytes, int samples) {
  cudaStream_t made = nullptr;
  if (const auto ok = check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "stream");
      !ok) {
    return ok.error();
  }
  const Stream stream(made);
  std::size_t free = 0;
  std::size_t total = 0;
  if (const auto ok = check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo"); !ok) {
    return ok.error();
  }
  const i64 bytes = std::min<i64>(most_bytes, static_cast<i64>(free) / 4);
  const auto size = static_cast<std::size_t>(bytes);
  DeviceMemory memory[2];
  for (DeviceMemory& one : memory) {
    void* allocated = nullptr;
    if (const auto ok = check(cudaMalloc(&allocated, size), "cudaMalloc"); !ok) return ok.error();
    one.reset(allocated);
    // What was never written may be copied faster than data.
    if (const auto ok = check(cudaMemset(allocated, 0x5A, size), "cudaMemset"); !ok) {
      return ok.error();
    }
  }
  CopyRates rates;
  const auto device = copy_rate(memory[0].get(), memory[1].get(), bytes, cudaMemcpyDeviceToDevice,
                                stream.get(), samples);
  if (!device) return device.error();
  rates.device = 2 * device.value();

  const i64 host_bytes = std::min<i64>(bytes, i64{1} << 30);
  const auto host_size = static_cast<std::size_t>(host_bytes);
  void* pinned = nullptr;
  if (const auto ok = check(cudaMallocHost(&pinned, host_size), "pinned memory"); !ok) {
    return ok.error();
  }
  const std::unique_ptr<void, FreeHost> owner(pinned);
  std::memset(pinned, 0xA5, host_size);
  const auto from_pinned =
      copy_rate(memory[0].get(), pinned, host_bytes, cudaMemcpyHostToDevice, stream.get(), samples);
  if (!from_pinned) return from_pinned.error();
  rates.pinned = from_pinned.value();

  const std::vector<unsigned char> pageable(host_size, 0x5A);
  const auto from_pageable = copy_rate(memory[0].get(), pageable.data(), host_bytes,
                                       cudaMemcpyHostToDevice, stream.get(), samples);
  if (!from_pageable) return from_pageable.error();
  rates.pageable = from_pageable.value();
  return rates;
}

Result<void> reset_peak() {
  const auto found = pool();
  if (!found) return found.error();
  u64 zero = 0;
  return check(cudaMemPoolSetAttribute(found.value(), cudaMemPoolAttrUsedMemHigh, &zero),
               "memory pool");
}

Result<i64> peak_bytes() {
  const auto found = pool();
  if (!found) return found.error();
  u64 bytes = 0;
  const auto read = check(
      cudaMemPoolGetAttribute(found.value(), cudaMemPoolAttrUsedMemHigh, &bytes), "memory pool");
  if (!read) return read.error();
  return static_cast<i64>(bytes);
}

Pinned::~Pinned() {
  for (void* memory : memory_) static_cast<void>(cudaHostUnregister(memory));
}

Result<void> Pinned::add(const void* memory, i64 bytes) {
  // Registering changes where the pages may go, not what is in them.
  void* const mutable_memory = const_cast<void*>(memory);
  const auto pinned = check(
      cudaHostRegister(mutable_memory, static_cast<std::size_t>(bytes), cudaHostRegisterDefault),
      "pinned memory");
  if (pinned) memory_.push_back(mutable_memory);
  return pinned;
}

}  // namespace cupel::bench
