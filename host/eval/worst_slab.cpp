#include "eval/worst_slab.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <new>

#include "backend/cpu_level.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/math/counter_random.hpp"
#include "cupel/math/half.hpp"
#include "cupel/math/random_direction.hpp"

namespace cupel {
namespace {

/// Directions whose projections are made in one read of the rows.
constexpr i64 kLanes = 16;

// ---- projections --------------------------------------------------------------------------------

/// Projections of rows on kLanes vectors, `vectors` [feature][lane], to `out` [lane][row]: of each
/// one chain of fma over ascending features.
CUPEL_INLINE void project_body(const double* features, i64 rows, i64 width, const double* vectors,
                               double* out) {
  for (i64 row = 0; row < rows; ++row) {
    const double* x = features + row * width;
    double sum[kLanes] = {};
    for (i64 k = 0; k < width; ++k) {
      const double* v = vectors + k * kLanes;
      for (i64 lane = 0; lane < kLanes; ++lane) sum[lane] = fused(x[k], v[lane], sum[lane]);
    }
    for (i64 lane = 0; lane < kLanes; ++lane) out[lane * rows + row] = sum[lane];
  }
}
void project_base(const double* features, i64 rows, i64 width, const double* vectors, double* out) {
  project_body(features, rows, width, vectors, out);
}
CUPEL_TARGET_V3 void project_v3(const double* features, i64 rows, i64 width, const double* vectors,
                                double* out) {
  project_body(features, rows, width, vectors, out);
}
CUPEL_TARGET_V4 void project_v4(const double* features, i64 rows, i64 width, const double* vectors,
                                double* out) {
  project_body(features, rows, width, vectors, out);
}
auto projection() {
  const CpuLevel level = cpu_level();
  return level >= CpuLevel::kV4 ? project_v4 : level >= CpuLevel::kV3 ? project_v3 : project_base;
}

// ---- one direction ------------------------------------------------------------------------------

/// Rows up to and including those of one projection.
struct Prefix {
  double projection = 0;
  i64 rows = 0;
  i64 covered = 0;
};

/// A slab of rows in the order of one direction.
struct SlabRange {
  double low = 0;
  double high = 0;
  i64 rows = 0;
  i64 covered = 0;
};

/// Prefixes of one direction after another, for one thread.
class OrderedRows {
 public:
  /// Sorts the projections: of the rows not covered first, then of the others. Equal ones make one
  /// prefix, -0 and +0 among them.
  void take(double* projections, i64 rows, i64 uncovered) {
    std::sort(projections, projections + uncovered);
    std::sort(projections + uncovered, projections + rows);
    prefixes_.clear();
    i64 a = 0;          // of those not covered
    i64 b = uncovered;  // of the covered ones
    while (a < uncovered || b < rows) {
      const double next = b == rows || (a < uncovered && projections[a] < projections[b])
                              ? projections[a]
                              : projections[b];
      while (a < uncovered && projections[a] == next) ++a;
      while (b < rows && projections[b] == next) ++b;
      prefixes_.push_back({next + 0.0, a + b - uncovered, b - uncovered});
    }
  }

  /// Of the intervals of at least `least` rows one with the smallest covered * q - rows * p: the
  /// first in ascending order of ends. There is one where least <= all rows.
  SlabRange best(i64 least, i64 p, i64 q, i128& value) const {
    SlabRange found;
    bool any = false;
    std::size_t first = 0;  // next start to become eligible: its prefix lies before it
    std::size_t start = 0;  // with the largest value before it
    std::size_t found_start = 0;
    i128 largest = 0;
    const auto before = [&](std::size_t i) { return i == 0 ? Prefix{} : prefixes_[i - 1]; };
    const auto value_of = [&](const Prefix& prefix) {
      return static_cast<i128>(prefix.covered) * q - static_cast<i128>(prefix.rows) * p;
    };
    for (const Prefix& end : prefixes_) {
      while (first < prefixes_.size() && end.rows - before(first).rows >= least) {
        const i128 own = value_of(before(first));
        if (first == 0 || own > largest) {
          largest = own;
          start = first;
        }
        ++first;
      }
      if (first == 0) continue;
      const i128 own = value_of(end) - largest;
      if (any && (own > value || (own == value && start >= found_start))) continue;
      any = true;
      value = own;
      found_start = start;
      const Prefix from = before(start);
      found = {prefixes_[start].projection, end.projection, end.rows - from.rows,
               end.covered - from.covered};
    }
    return found;
  }

 private:
  std::vector<Prefix> prefixes_;
};

// ---- all directions -----------------------------------------------------------------------------

/// The smallest ratio found so far and where; shared by threads.
class Lowest {
 public:
  SlabRange get() {
    const std::lock_guard lock(mutex_);
    return interval_;
  }
  /// Takes an interval of a direction, which has to be that direction's first of lowest ratio.
  void offer(const SlabRange& interval, i64 direction) {
    const std::lock_guard lock(mutex_);
    const i128 own = static_cast<i128>(interval.covered) * interval_.rows;
    const i128 known = static_cast<i128>(interval_.covered) * interval.rows;
    if (direction_ >= 0 && (own > known || (own == known && direction > direction_))) return;
    interval_ = interval;
    direction_ = direction;
  }
  i64 direction() const { return direction_; }

 private:
  std::mutex mutex_;
  SlabRange interval_{0, 0, 1, 1};  // a ratio of 1, which no slab is above
  i64 direction_ = -1;
};

/// Offers a direction's slab where it is not above the lowest known.
void search(const OrderedRows& ordered, i64 least, i64 direction, Lowest& lowest) {
  SlabRange known = lowest.get();
  for (;;) {
    i128 value = 0;
    const SlabRange found = ordered.best(least, known.covered, known.rows, value);
    if (value > 0) return;
    if (value == 0) {
      lowest.offer(found, direction);
      return;
    }
    known = found;
  }
}

i64 least_rows(const SlabQuery& query, i64 rows) {
  const u128 product = static_cast<u128>(query.delta.num) * static_cast<u128>(rows);
  return std::max<i64>(1, static_cast<i64>((product + query.delta.den - 1) / query.delta.den));
}

double feature(const ArrayView& features, i64 row, i64 column) {
  const std::byte* at = features.at(row, column);
  switch (features.dtype) {
    case DType::kF16:
      return float_from_f16(load<u16>(at));
    case DType::kBF16:
      return float_from_bf16(load<u16>(at));
    case DType::kF32:
      return load<float>(at);
    case DType::kF64:
      return load<double>(at);
    case DType::kI8:
      return load<i8>(at);
    case DType::kI16:
      return load<i16>(at);
    case DType::kI32:
      return load<i32>(at);
    case DType::kI64:
      return static_cast<double>(load<i64>(at));
    case DType::kU16:
      return load<u16>(at);
    case DType::kU32:
      return load<u32>(at);
    case DType::kU64:
      return static_cast<double>(load<u64>(at));
    default:
      return load<u8>(at);
  }
}

/// A row that may be in a scope.
struct OtherRow {
  std::size_t part = 0;
  i64 row = 0;
  u32 cell = 0;  // of all parts
  bool covered = false;
  bool held_out = false;
};

WorstSlab slab_of(std::span<const PreparedTable> parts, std::span<const OtherRow> others,
                  const std::vector<bool>& wanted, i64 width, const SlabQuery& query, int threads) {
  SlabRows searched;
  searched.width = width;
  WorstSlab slab;
  for (const OtherRow& other : others) {
    if (!wanted[other.cell]) continue;
    ++(other.held_out ? slab.held_out : slab.searched);
    searched.uncovered += other.held_out || other.covered ? 0 : 1;
  }
  const u64 held_out = slab.held_out;
  searched.rows = static_cast<i64>(slab.searched);
  searched.features.resize(static_cast<std::size_t>(searched.rows * width));
  const auto read = [&](const OtherRow& other, double* to) {
    const PreparedTable& part = parts[other.part];
    const i64 row = part.feature_row(other.row);
    for (i64 k = 0; k < width; ++k) to[k] = feature(part.features, row, k);
  };
  i64 uncovered = 0;
  i64 covered = searched.uncovered;
  for (const OtherRow& other : others) {
    if (!wanted[other.cell] || other.held_out) continue;
    read(other, searched.features.data() + (other.covered ? covered++ : uncovered++) * width);
  }
  slab = find_worst_slab(searched, query, threads);
  slab.held_out = held_out;
  if (slab.direction < 0) return slab;
  std::vector<double> x(static_cast<std::size_t>(width));
  for (const OtherRow& other : others) {
    if (!wanted[other.cell] || !other.held_out) continue;
    read(other, x.data());
    double sum = 0;
    for (std::size_t k = 0; k < x.size(); ++k) sum = fused(x[k], slab.vector[k], sum);
    if (sum < slab.low || sum > slab.high) continue;
    ++slab.outcome.rows;
    slab.outcome.covered += other.covered ? 1 : 0;
  }
  return slab;
}

}  // namespace

bool is_held_out(const SlabQuery& query, u64 row_key) {
  const Fraction& share = query.held_out_share;
  const u64 u = counter_random(query.seed ^ 0x776F727374536C61u, row_key);
  return static_cast<u128>(u) * share.den < (static_cast<u128>(share.num) << 64);
}

WorstSlab find_worst_slab(const SlabRows& rows, const SlabQuery& query, int threads) {
  WorstSlab slab;
  slab.searched = static_cast<u64>(rows.rows);
  slab.width = rows.width;
  if (rows.rows == 0 || query.directions == 0) return slab;
  const i64 least = least_rows(query, rows.rows);
  const i64 width = rows.width;
  ThreadPool pool(std::max(1, threads));
  struct Scratch {
    std::vector<double> vector, vectors, projections;
    OrderedRows ordered;
  };
  std::vector<Scratch> scratch(static_cast<std::size_t>(pool.threads()));
  Lowest lowest;
  const auto project = projection();
  pool.parallel_for((query.directions + kLanes - 1) / kLanes, [&](int worker, i64 block) {
    Scratch& own = scratch[static_cast<std::size_t>(worker)];
    own.vector.resize(static_cast<std::size_t>(width));
    own.vectors.resize(static_cast<std::size_t>(width * kLanes));
    own.projections.resize(static_cast<std::size_t>(rows.rows * kLanes));
    for (i64 lane = 0; lane < kLanes; ++lane) {
      random_direction(query.seed, static_cast<u64>(block * kLanes + lane), width,
                       own.vector.data());
      for (i64 k = 0; k < width; ++k) {
        own.vectors[static_cast<std::size_t>(k * kLanes + lane)] =
            own.vector[static_cast<std::size_t>(k)];
      }
    }
    project(rows.features.data(), rows.rows, width, own.vectors.data(), own.projections.data());
    const i64 last = std::min(query.directions, (block + 1) * kLanes);
    for (i64 direction = block * kLanes; direction < last; ++direction) {
      double* projections = own.projections.data() + (direction - block * kLanes) * rows.rows;
      own.ordered.take(projections, rows.rows, rows.uncovered);
      search(own.ordered, least, direction, lowest);
    }
  });
  const SlabRange found = lowest.get();
  slab.direction = lowest.direction();
  slab.vector.resize(static_cast<std::size_t>(width));
  random_direction(query.seed, static_cast<u64>(slab.direction), width, slab.vector.data());
  slab.low = found.low;
  slab.high = found.high;
  slab.found.rows = static_cast<u64>(found.rows);
  slab.found.covered = static_cast<u64>(found.covered);
  return slab;
}

Result<std::vector<WorstSlab>> worst_slabs(std::span<const PreparedTable> parts,
                                           const std::vector<std::vector<u32>>& cell_map,
                                           std::span<const ConformalSet> sets,
                                           const std::vector<std::vector<u32>>& scopes,
                                           const SlabQuery& query, Backend& backend, int threads) {
  const i64 width = parts.front().features.cols();
  std::size_t cells = 0;
  for (const auto& map : cell_map) {
    for (const u32 cell : map) cells = std::max<std::size_t>(cells, cell + 1);
  }
  for (const auto& scope : scopes) {
    for (const u32 cell : scope) cells = std::max<std::size_t>(cells, cell + 1);
  }
  try {
    std::vector<bool> other(cells, false);  // the rows of calibration are in no scope
    for (const auto& scope : scopes) {
      for (const u32 cell : scope) other[cell] = true;
    }
    std::vector<OtherRow> rows;
    for (std::size_t p = 0; p < parts.size(); ++p) {
      const TableView& view = parts[p].view;
      if (parts[p].features.cols() != width) {
        return input_error(
            "", fmt::format("embeddings have {} and {} features", width, parts[p].features.cols()),
            "pool dumps with vectors of one length");
      }
      std::vector<bool> wanted;
      for (const u32 cell : cell_map[p]) wanted.push_back(other[cell]);
      auto found = backend.conformal_row_sets(view, sets.subspan(p, 1), wanted, threads);
      if (!found) return found.error();
      std::size_t next = 0;
      for (i64 row = 0; row < view.rows; ++row) {
        const u32 cell = view.cells == nullptr ? 0 : view.cells[row];
        if (!wanted[cell]) continue;
        const bool covered = ConformalRowSets::covers(found->sets[0][next++]);
        rows.push_back({p, row, cell_map[p][cell], covered, is_held_out(query, view.row_key(row))});
      }
    }
    std::vector<WorstSlab> slabs;
    for (const auto& scope : scopes) {
      std::vector<bool> wanted(cells, false);
      for (const u32 cell : scope) wanted[cell] = true;
      slabs.push_back(slab_of(parts, rows, wanted, width, query, threads));
    }
    return slabs;
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kInternal, "worst slabs",
                 "no memory for the features of the rows searched",
                 "hold more of them out with held_out, or evaluate fewer rows at a time"};
  }
}

}  // namespace cupel
