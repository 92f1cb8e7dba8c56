// A small fixed pool: tasks of one parallel_for are handed out by an atomic counter, so that uneven
// tasks balance. The caller works too. std::jthread only: OpenMP and TBB runtimes are not
// instrumented and would hide races from ThreadSanitizer.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "cupel/core/int.hpp"

namespace cupel {

class ThreadPool {
 public:
  /// `threads` >= 1 workers, the calling thread among them; fewer where no more can be made.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls task(worker, index) for every index in [0, count), worker in [0, threads()); returns
  /// when all are done. An exception of a task is rethrown here after the others have finished. Not
  /// reentrant: a task must not call parallel_for of the same pool.
  void parallel_for(i64 count, const std::function<void(int worker, i64 index)>& task);

 private:
  struct Round {
    const std::function<void(int, i64)>* task = nullptr;
    i64 count = 0;
    std::atomic<i64> next{0};
    std::exception_ptr failure;
  };
  void serve(int worker);
  void work(int worker, Round& round);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  Round* round_ = nullptr;
  u64 generation_ = 0;
  int busy_ = 0;
  bool stopping_ = false;
  std::vector<std::jthread> workers_;
};

/// Processors that this process may run on (the affinity mask), at least 1.
int available_threads();

}  // namespace cupel
