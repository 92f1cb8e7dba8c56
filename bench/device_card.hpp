// A CUDA device as the benchmark sees it beside the backend: what it is, how fast it copies, and
// how much memory a call used. Every measure is taken in the run that reports it.
#pragma once

#include <string>
#include <vector>

#include "cupel/core/int.hpp"
#include "cupel/core/result.hpp"

namespace cupel::bench {

/// Seconds of repeated runs of the same work.
struct Samples {
  std::vector<double> seconds;

  double median() const;
  double least() const;
  double most() const;
};

/// Bytes per second.
struct CopyRates {
  double device = 0;    ///< device to device, bytes read and bytes written
  double pinned = 0;    ///< from pinned memory to the device
  double pageable = 0;  ///< from memory that was not pinned
};

/// Makes the device current to the calling thread.
Result<void> use_device(int ordinal);
/// "13.0" and "13.0": what the driver supports, and the runtime in this program.
std::string driver_version();
std::string runtime_version();

/// Copies blocks of at most `most_bytes`.
Result<CopyRates> measure_copies(i64 most_bytes, int samples);

/// Device memory of the backend's pool in use at its highest since reset_peak().
Result<void> reset_peak();
Result<i64> peak_bytes();

/// Pins host memory while it lives.
class Pinned {
 public:
  Pinned() = default;
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  ~Pinned();
  Result<void> add(const void* memory, i64 bytes);

 private:
  std::vector<void*> memory_;
};

}  // namespace cupel::bench
