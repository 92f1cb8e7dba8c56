#include "backend/thread_pool.hpp"

#include <sched.h>

#include <algorithm>
#include <exception>
#include <system_error>

namespace cupel {

ThreadPool::ThreadPool(int threads) {
  try {
    for (int worker = 1; worker < threads; ++worker) {
      workers_.emplace_back([this, worker] { serve(worker); });
    }
  } catch (const std::system_error&) {
    // A limit of processes or memory: the threads that there are do all the work.
  }
}

void ThreadPool::serve(int worker) {
  u64 seen = 0;
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
    if (stopping_) return;
    seen = generation_;
    Round& round = *round_;
    lock.unlock();
    work(worker, round);
    lock.lock();
    if (--busy_ == 0) done_.notify_all();
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
}

void ThreadPool::work(int worker, Round& round) {
  while (true) {
    const i64 index = round.next.fetch_add(1, std::memory_order_relaxed);
    if (index >= round.count) return;
    try {
      (*round.task)(worker, index);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!round.failure) round.failure = std::current_exception();
    }
  }
}

void ThreadPool::parallel_for(i64 count, const std::function<void(int, i64)>& task) {
  if (count <= 0) return;
  Round round;
  round.task = &task;
  round.count = count;
  if (count > 1 && !workers_.empty()) {
    {
      const std::lock_guard lock(mutex_);
      round_ = &round;
      ++generation_;
      busy_ = static_cast<int>(workers_.size());
    }
    wake_.notify_all();
    work(0, round);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return busy_ == 0; });
  } else {
    work(0, round);
  }
  if (round.failure) std::rethrow_exception(round.failure);
}

int available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) {
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace cupel
