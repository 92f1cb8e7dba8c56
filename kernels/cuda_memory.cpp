#include "cuda_memory.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <system_error>
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
/// Lines from which the device fetches them one by one as fast as in one piece.
constexpr i64 kLeastLineBytes = i64{1} << 12;
/// From one line to the next, in a copy of many.
constexpr i64 kMostPitch = (i64{1} << 31) - 1;

/// Brings bytes [first, first + bytes) of the lines together, by several threads.
void pack_by_threads(unsigned char* to, const HostLines& from, i64 first, i64 bytes) {
  const i64 cores = std::max<i64>(1, std::thread::hardware_concurrency());
  const i64 threads = std::clamp<i64>(bytes / kThreadBytes, 1, std::min(kMostThreads, cores));
  const i64 part = (bytes + threads - 1) / threads;
  std::vector<std::jthread> others;
  for (i64 i = 1; i < threads; ++i) {
    const i64 begin = std::min(bytes, i * part);
    const i64 size = std::min(bytes - begin, part);
    try {
      others.emplace_back([=, &from] { from.pack(to + begin, first + begin, size); });
    } catch (const std::system_error&) {  // no more threads
      from.pack(to + begin, first + begin, size);
    }
  }
  from.pack(to, first, std::min(bytes, part));
}

bool is_pinned(const void* at) {
  cudaPointerAttributes attributes{};
  return cudaPointerGetAttributes(&attributes, at) == cudaSuccess &&
         attributes.type == cudaMemoryTypeHost;
}

HostCopy plain_copy(void* to, const void* from, i64 bytes) {
  HostCopy copy;
  copy.from.from = static_cast<const unsigned char*>(from);
  copy.from.item_bytes = copy.from.item_stride = copy.from.line_stride = copy.pitch = bytes;
  copy.to = static_cast<unsigned char*>(to);
  return copy;
}

}  // namespace

CudaContext::CudaContext(int ordinal, const RunOptions& options)
    : ordinal_(ordinal), limit_(options.memory_limit), fail_at_launch_(options.fail_at_launch) {
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
  if (copies_ != nullptr) {
    static_cast<void>(cudaStreamSynchronize(copies_));
    static_cast<void>(cudaStreamDestroy(copies_));
  }
  if (begun_ != nullptr) static_cast<void>(cudaEventDestroy(begun_));
  for (cudaEvent_t mark : marks_) {
    if (mark != nullptr) static_cast<void>(cudaEventDestroy(mark));
  }
  if (stream_ != nullptr) {
    // Memory that was given back is the device's again once the stream has come to it.
    static_cast<void>(cudaStreamSynchronize(stream_));
    static_cast<void>(cudaStreamDestroy(stream_));
  }
  // Neither stream reads them any more.
  for (Stage& stage : stages_) {
    if (stage.copied != nullptr) static_cast<void>(cudaEventDestroy(stage.copied));
    if (stage.memory != nullptr) static_cast<void>(cudaFreeHost(stage.memory));
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

void CudaContext::release(void* memory, i64 bytes) noexcept {
  used_ -= bytes;
  // Whoever lets go of memory may be on another device, and after a failure it is given back too:
  // of a broken device the calls say no more than what is known.
  const cudaError_t error = cudaSetDevice(ordinal_);
  keep(error != cudaSuccess ? error : cudaFreeAsync(memory, stream_), "cudaFreeAsync");
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

bool CudaContext::copy_lines(unsigned char* to, i64 pitch, const void* from, i64 stride, i64 bytes,
                             i64 lines, cudaStream_t stream) {
  const auto copied = [&](cudaError_t error) { return check(error, "copying to the device"); };
  const auto size = [](i64 value) { return static_cast<std::size_t>(value); };
  if (lines > 1 && std::max(pitch, stride) <= kMostPitch) {
    return copied(cudaMemcpy2DAsync(to, size(pitch), from, size(stride), size(bytes), size(lines),
                                    cudaMemcpyHostToDevice, stream));
  }
  const auto* at = static_cast<const unsigned char*>(from);
  for (i64 line = 0; line < lines; ++line, to += pitch, at += stride) {
    if (!copied(cudaMemcpyAsync(to, at, size(bytes), cudaMemcpyHostToDevice, stream))) return false;
  }
  return true;
}

void CudaContext::copy_by_stage(const HostCopy& copy, i64 first, i64 bytes, i64 lines,
                                unsigned char* to, cudaStream_t stream) {
  if (!ok()) return;
  Stage& stage = stages_[next_stage_];
  next_stage_ = 1 - next_stage_;
  if (stage.busy && !check(cudaEventSynchronize(stage.copied), "copying to the device")) return;
  stage.busy = false;
  pack_by_threads(static_cast<unsigned char*>(stage.memory), copy.from, first, bytes * lines);
  stage.busy = copy_lines(to, copy.pitch, stage.memory, bytes, bytes, lines, stream) &&
               check(cudaEventRecord(stage.copied, stream), "copying to the device");
  // Some lines may be on their way without a mark behind them, and memory that ended is recovered
  // from: the stage is not to be filled again meanwhile. What failed is known already.
  if (!stage.busy) static_cast<void>(cudaStreamSynchronize(stream));
}

void CudaContext::to_device(void* to, const void* from, i64 bytes) {
  if (bytes <= 0 || !enter()) return;
  const HostCopy copy = plain_copy(to, from, bytes);
  const bool small = bytes <= kDirectBytes && !is_pinned(from);
  if (small || copies_itself(copy) || !make_stages()) {
    if (!ok()) return;
    copy_lines(copy.to, bytes, from, bytes, bytes, 1, stream_);
    // What the driver does not stage is read later; the caller may change it only after that.
    if (ok() && !small) check(cudaStreamSynchronize(stream_), "copying to the device");
    return;
  }
  copy.pieces(kStageBytes, [&](i64 first, i64 size, i64 lines, unsigned char* at) {
    copy_by_stage(copy, first, size, lines, at, stream_);
  });
}

void CudaContext::begin_copies() {
  if (!enter()) return;
  used_marks_ = 0;
  if (copies_ == nullptr &&
      !check(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking), "cudaStreamCreate")) {
    return;
  }
  if (begun_ == nullptr &&
      !check(cudaEventCreateWithFlags(&begun_, cudaEventDisableTiming), "cudaEvent")) {
    return;
  }
  if (!check(cudaEventRecord(begun_, stream_), "cudaEvent")) return;
  check(cudaStreamWaitEvent(copies_, begun_, 0), "cudaEvent");
}

bool CudaContext::copies_itself(const HostCopy& copy) {
  const HostLines& from = copy.from;
  const bool fetched =
      from.items == 1 && (from.lines == 1 || (from.item_bytes >= kLeastLineBytes &&
                                              from.line_stride >= from.item_bytes));
  if (!fetched || from.bytes() <= 0 || !enter()) return false;
  const i64 last = (from.lines - 1) * from.line_stride + from.item_bytes - 1;
  return is_pinned(from.from) && is_pinned(from.from + last);
}

void CudaContext::start_copy(const HostCopy& copy) {
  const HostLines& from = copy.from;
  if (from.bytes() <= 0 || !enter()) return;
  copying_ = true;
  if (copies_itself(copy)) {
    copy_lines(copy.to, copy.pitch, from.from, from.line_stride, from.item_bytes, from.lines,
               copies_);
    return;
  }
  const bool small = from.bytes() <= kDirectBytes;
  if (small && copy.is_one_piece()) {
    copy_lines(copy.to, copy.pitch, from.from, 0, from.item_bytes, 1, copies_);
    return;
  }
  if (!small && make_stages()) {
    copy.pieces(kStageBytes, [&](i64 first, i64 size, i64 lines, unsigned char* to) {
      copy_by_stage(copy, first, size, lines, to, copies_);
    });
    return;
  }
  std::vector<unsigned char> packed;
  copy.pieces(kStageBytes, [&](i64 first, i64 size, i64 lines, unsigned char* to) {
    if (!ok()) return;
    packed.resize(static_cast<std::size_t>(size * lines));
    from.pack(packed.data(), first, size * lines);
    if (copy_lines(to, copy.pitch, packed.data(), size, size, lines, copies_)) {
      check(cudaStreamSynchronize(copies_), "copying to the device");
    }
  });
}

i64 CudaContext::mark_copies() {
  if (!enter()) return -1;
  if (used_marks_ == marks_.size()) {
    marks_.push_back(nullptr);
    if (!check(cudaEventCreateWithFlags(&marks_.back(), cudaEventDisableTiming), "cudaEvent")) {
      marks_.pop_back();
      return -1;
    }
  }
  if (!check(cudaEventRecord(marks_[used_marks_], copies_), "cudaEvent")) return -1;
  return static_cast<i64>(used_marks_++);
}

void CudaContext::await_copies(i64 mark) {
  if (mark < 0 || !enter()) return;
  check(cudaStreamWaitEvent(stream_, marks_[static_cast<std::size_t>(mark)], 0), "cudaEvent");
}

void CudaContext::finish_copies() noexcept {
  if (!copying_) return;
  copying_ = false;
  const cudaError_t error = cudaSetDevice(ordinal_);
  keep(error != cudaSuccess ? error : cudaStreamSynchronize(copies_), "copying to the device");
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

void CudaContext::keep(cudaError_t error, const char* what) noexcept {
  try {
    check(error, what);
  } catch (...) {  // no memory for the words
    status_.fault = Fault::kFailed;
  }
}

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
