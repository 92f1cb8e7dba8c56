// A pool that may not have all the threads it is asked for.
#include "backend/thread_pool.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>

namespace cupel {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// Would catch threads that wait for ever for a pool that could not be finished: in a process that
// may map room for a few stacks, where the default would be 500.
TEST(ThreadPool, DoesItsWorkWithTheThreadsThatThereCanBe) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer maps memory of its own";
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::alarm(60);
    i64 pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const auto room = static_cast<rlim_t>(pages * ::sysconf(_SC_PAGESIZE)) + (rlim_t{100} << 20);
    const rlimit limit{room, room};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) ::_exit(2);
    ThreadPool pool(500);
    std::atomic<i64> sum{0};
    pool.parallel_for(1000, [&](int worker, i64 index) {
      if (worker >= pool.threads()) ::_exit(3);
      sum += index;
    });
    ::_exit(sum == 499500 && pool.threads() < 500 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace cupel
