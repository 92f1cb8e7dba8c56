// Ranks the unweighted rows of one binary problem without sorting them as a whole: rows are
// scattered into a few hundred buckets of ascending key ranges, and each bucket is then counted or
// sorted where it fits a cache. The cut points come from a sample and the buckets fill in any
// order, but a bucket's tie groups follow from the rows alone, so nothing of this shows in a
// result.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/cpu_rank_groups.hpp"
#include "backend/cpu_rank_rows.hpp"
#include "cupel/core/buffer.hpp"

namespace cupel {

class ThreadPool;

namespace cpu {

/// Runs tasks on a pool, or all on the calling thread where other threads have their own work.
class Workers {
 public:
  explicit Workers(ThreadPool& pool);
  Workers() = default;  ///< the calling thread only

  int count() const { return count_; }
  void parallel_for(i64 count, const std::function<void(int worker, i64 index)>& task) const;

 private:
  ThreadPool* pool_ = nullptr;
  int count_ = 1;
};

/// Address space whose pages cost memory only once they are written, kept from call to call.
class PageArena {
 public:
  PageArena() = default;
  ~PageArena();
  PageArena(const PageArena&) = delete;
  PageArena& operator=(const PageArena&) = delete;

  static constexpr std::size_t kAlignment = 16'384;

  /// At least `bytes` bytes at a multiple of kAlignment, with any content. Throws std::bad_alloc.
  std::byte* reserve(std::size_t bytes);

 private:
  void* mapped_ = nullptr;
  std::size_t mapped_size_ = 0;
  std::byte* data_ = nullptr;
};

/// A stretch of bucket entries.
template <class Key>
struct Stretch {
  const Key* data;
  i64 size;
};

/// Turns the entries of a bucket into tie groups. An entry is (key << 1 | label) without its top
/// bit, which the bucket's lowest key supplies. One per worker.
template <class Key>
class BucketReader {
 public:
  /// The groups of entries whose keys lie in [low, high], high - low below half the key space.
  /// Valid until the next call.
  GroupSpan<Key> read(std::span<const Stretch<Key>> parts, i64 rows, Key low, Key high);
  /// The same from [low .. low + range) counts, negatives at 2*i and positives at 2*i + 1.
  GroupSpan<Key> read_counts(const u32* counts, i64 range, Key low);

  /// Whether a bucket is better counted than sorted.
  static bool is_counted(i64 rows, Key low, Key high);
  /// Adds entries to counts of keys from `low` up.
  static void count(const Stretch<Key>& part, Key low, u32* counts);

 private:
  GroupSpan<Key> count_and_read(std::span<const Stretch<Key>> parts, i64 rows, Key low, i64 range);
  GroupSpan<Key> sort_and_read(std::span<const Stretch<Key>> parts, i64 rows, Key low);
  void make_room(i64 groups);
  GroupSpan<Key> span(Key low, i64 groups) const;

  Buffer<Key> offsets_;
  Buffer<u32> pos_;
  Buffer<u32> neg_;
  Buffer<u8> table_;
  std::vector<u32> wraps_;
  Buffer<Key> entries_;
  Buffer<Key> spare_;
};

/// The rows that a partition looks at before it chooses its cuts: one short stretch in each of as
/// many equal parts, at places that only the number of rows decides.
class SamplePlan {
 public:
  explicit SamplePlan(i64 rows);
  i64 stretches() const { return stretches_; }
  i64 length() const { return length_; }
  i64 begin(i64 stretch) const;

 private:
  i64 stretches_;
  i64 length_;
  i64 step_;
};

/// Memory that a worker or a call reuses.
struct PartitionScratch {
  PageArena pages;
  std::vector<u16> bucket_of_bin;
  std::vector<u32> bins;
};

/// One problem cut into buckets.
template <class Key>
class RankPartition {
 public:
  static constexpr i64 kMaxRows = (i64{1} << 31) - 1;

  /// Reads and scatters all rows. Throws std::bad_alloc.
  RankPartition(const ProblemRows& rows, const Workers& workers, PartitionScratch& scratch);

  i64 buckets() const { return static_cast<i64>(low_.size()); }
  i64 rows_of(i64 b) const { return rows_of_[static_cast<std::size_t>(b)]; }

  /// Rows of each bucket by label.
  std::vector<BlockCounts> count_labels() const;

  /// Calls visit(worker, bucket, groups) for every filled bucket that is wanted, in any order.
  using Visit = std::function<void(int worker, i64 bucket, const GroupSpan<Key>& groups)>;
  void for_each_bucket(const std::function<bool(i64 bucket)>& wanted, const Visit& visit) const;

 private:
  struct Mapping {
    Key origin = 0;  ///< key of bin 0
    int shift = 0;
  };

  void choose_mapping();
  void sample_bins();
  void count_bins();
  void make_buckets();
  void split_in_two();
  void cut_by_range();
  void scatter();
  bool has_overfull_bucket() const;
  u32 bin_of(Key key) const;
  Key lowest_key_of_bin(u32 bin) const;

  const ProblemRows* problem_;
  const Workers* workers_;
  PartitionScratch* scratch_;
  i64 rows_;
  Mapping mapping_;
  std::vector<Key> low_;   ///< lowest key of each bucket
  std::vector<Key> high_;  ///< highest key
  std::vector<bool> single_bin_;
  std::vector<i64> rows_of_;
  std::vector<Stretch<Key>> stretches_;  ///< by bucket
  std::vector<std::size_t> first_stretch_;
  std::vector<Key> sample_;
};

}  // namespace cpu
}  // namespace cupel
