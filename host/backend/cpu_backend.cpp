// The CPU backend: all cores, SIMD chosen at run time, and the answers that every other backend
// must equal. The work is in cpu_rank and cpu_rows; this file keeps the threads and stops
// exceptions.
#include <fmt/format.h>

#include <fstream>
#include <new>
#include <string>

#include "backend/cpu_pairs.hpp"
#include "backend/cpu_rank.hpp"
#include "backend/cpu_rows.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/backend/backend.hpp"

namespace cupel {
namespace {

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    const auto colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "CPU";
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int threads) : pool_(threads > 0 ? threads : available_threads()) {}

  BackendInfo info() const override {
    return {"cpu", fmt::format("{}, {} thread{}", processor_name(), pool_.threads(),
                               pool_.threads() == 1 ? "" : "s")};
  }

  Result<std::vector<std::vector<RankTable>>> rank_tables(const TableView& table, i64 first,
                                                          i64 last) override {
    return guarded([&] {
      const Forget after(counted_);
      if (first == 0 && last == 1 && counted_.are_of(table)) return counted_.tables(table);
      return cpu_rank_tables(table, first, last, pool_);
    });
  }
  Result<std::vector<RankSummary>> rank_summaries(const TableView& table, i64 first, i64 last,
                                                  std::span<const RankQuery> queries) override {
    return guarded([&] {
      const Forget after(counted_);
      if (first == 0 && last == 1 && counted_.are_of(table)) {
        return counted_.summaries(table, queries, pool_);
      }
      return cpu_rank_summaries(table, first, last, queries, pool_);
    });
  }
  Result<std::vector<std::vector<RowSums>>> row_sums(const TableView& table,
                                                     const RowSpec& spec) override {
    return guarded([&] {
      const Forget after(counted_);
      return cpu_row_sums(table, spec, pool_);
    });
  }
  Result<BadScores> bad_scores(const TableView& table) override {
    return guarded([&]() -> Result<BadScores> {
      if (hold_) {
        auto finite = counted_.count(table, pool_);
        if (!finite) return finite.error();
        if (*finite) return BadScores{};
      }
      return cpu_bad_scores(table, pool_);
    });
  }
  Result<i128> pair_sum(const TableView& table, i64 first, i64 last, double nu) override {
    return guarded([&]() -> Result<i128> { return cpu_pair_sum(table, first, last, nu, pool_); });
  }
  Result<std::vector<u64>> pair_distances(const TableView& table, i64 first, i64 last,
                                          std::optional<u32> high) override {
    return guarded([&]() -> Result<std::vector<u64>> {
      return cpu_pair_distances(table, first, last, high, pool_);
    });
  }
  void hold_columns(bool hold) override {
    hold_ = hold;
    counted_.forget();
  }
  void forget_columns() override { counted_.forget(); }

 private:
  template <class Work>
  static auto guarded(const Work& work) -> decltype(work()) {
    try {
      return work();
    } catch (const std::bad_alloc&) {
      return Error{ErrorCode::kInternal, "", "out of memory on the CPU",
                   "evaluate fewer columns or rows at a time, or pass a smaller --mem"};
    } catch (const std::exception& failure) {
      return Error{ErrorCode::kInternal, "", failure.what(), ""};
    }
  }

  /// Forgets the counts when a call ends: they serve the one that follows the check.
  struct Forget {
    explicit Forget(CountedRows& rows) : counted(rows) {}
    ~Forget() { counted.forget(); }
    Forget(const Forget&) = delete;
    Forget& operator=(const Forget&) = delete;
    CountedRows& counted;
  };

  ThreadPool pool_;
  /// Of the table that bad_scores() has just seen, while columns are held.
  CountedRows counted_;
  bool hold_ = false;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int threads) {
  return std::make_unique<CpuBackend>(threads);
}

}  // namespace cupel
