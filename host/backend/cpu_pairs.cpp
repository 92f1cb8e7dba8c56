#include "backend/cpu_pairs.hpp"

#include <algorithm>
#include <cmath>

#include "backend/cpu_level.hpp"
#include "cupel/core/buffer.hpp"
#include "cupel/math/pair_kernel.hpp"

#if CUPEL_HAS_TARGETS
#include <immintrin.h>
#endif

namespace cupel {
namespace {

/// Rows j of a panel, whose probabilities lie class by class, and rows i that meet it at a time.
constexpr i64 kLanes = 16;
constexpr i64 kRows = 4;
/// Rows i of a task.
constexpr i64 kTaskRows = 64;

/// Rows with a probability for each class.
struct PairRows {
  i64 rows = 0;
  i64 classes = 0;
  const double* p = nullptr;
  const i32* labels = nullptr;
};

PairRows rows_of_pairs(const TableView& table) {
  CUPEL_ASSERT(holds_probabilities(table));
  return {table.rows, table.classes, reinterpret_cast<const double*>(table.scores.data),
          table.class_labels};
}

/// The pairs of kRows rows with a panel.
struct Tile {
  alignas(64) double squared[kRows][kLanes];   ///< distances
  alignas(64) double distance[kRows][kLanes];  ///< their roots
};

/// What a task knows of its panel: rows [first, first + kLanes), the last ones repeated at the end.
struct Panel {
  i64 first = 0;
  Buffer<double> p;  ///< [classes][kLanes]
  alignas(64) double squares[kLanes];
  i64 label[kLanes];
};

// ---- distances
// -----------------------------------------------------------------------------------

CUPEL_INLINE void find_roots(Tile& tile) {
  const double* squared = tile.squared[0];
  double* distance = tile.distance[0];
  for (i64 i = 0; i < kRows * kLanes; ++i) distance[i] = std::sqrt(squared[i]);
}

void distances_base(const double* const (&rows)[kRows], const double* panel, i64 classes,
                    Tile& tile) {
  double sum[kRows][kLanes] = {};
  for (i64 k = 0; k < classes; ++k) {
    const double* other = panel + k * kLanes;
    for (i64 r = 0; r < kRows; ++r) {
      for (i64 l = 0; l < kLanes; ++l) {
        sum[r][l] = add_squared_difference(sum[r][l], rows[r][k], other[l]);
      }
    }
  }
  for (i64 r = 0; r < kRows; ++r) {
    for (i64 l = 0; l < kLanes; ++l) tile.squared[r][l] = sum[r][l];
  }
  find_roots(tile);
}

#if CUPEL_HAS_TARGETS

// By hand, because a compiler takes the sums of a tile apart into scalars before it looks for
// vectors. The operations are those of add_squared_difference().
CUPEL_TARGET_V3 void distances_v3(const double* const (&rows)[kRows], const double* panel,
                                  i64 classes, Tile& tile) {
  constexpr i64 kWidth = 4;
  for (i64 first = 0; first < kLanes; first += 2 * kWidth) {
    __m256d sum[kRows][2];
    for (auto& of_row : sum) of_row[0] = of_row[1] = _mm256_setzero_pd();
    for (i64 k = 0; k < classes; ++k) {
      const __m256d low = _mm256_loadu_pd(panel + k * kLanes + first);
      const __m256d high = _mm256_loadu_pd(panel + k * kLanes + first + kWidth);
      for (i64 r = 0; r < kRows; ++r) {
        const __m256d own = _mm256_broadcast_sd(rows[r] + k);
        const __m256d d0 = _mm256_sub_pd(own, low);
        const __m256d d1 = _mm256_sub_pd(own, high);
        sum[r][0] = _mm256_fmadd_pd(d0, d0, sum[r][0]);
        sum[r][1] = _mm256_fmadd_pd(d1, d1, sum[r][1]);
      }
    }
    for (i64 r = 0; r < kRows; ++r) {
      for (i64 half = 0; half < 2; ++half) {
        _mm256_store_pd(tile.squared[r] + first + half * kWidth, sum[r][half]);
      }
    }
  }
  find_roots(tile);
}

CUPEL_TARGET_V4 void distances_v4(const double* const (&rows)[kRows], const double* panel,
                                  i64 classes, Tile& tile) {
  constexpr i64 kWidth = 8;
  __m512d sum[kRows][2];
  for (auto& of_row : sum) of_row[0] = of_row[1] = _mm512_setzero_pd();
  for (i64 k = 0; k < classes; ++k) {
    const __m512d low = _mm512_loadu_pd(panel + k * kLanes);
    const __m512d high = _mm512_loadu_pd(panel + k * kLanes + kWidth);
    for (i64 r = 0; r < kRows; ++r) {
      const __m512d own = _mm512_set1_pd(rows[r][k]);
      const __m512d d0 = _mm512_sub_pd(own, low);
      const __m512d d1 = _mm512_sub_pd(own, high);
      sum[r][0] = _mm512_fmadd_pd(d0, d0, sum[r][0]);
      sum[r][1] = _mm512_fmadd_pd(d1, d1, sum[r][1]);
    }
  }
  for (i64 r = 0; r < kRows; ++r) {
    for (i64 half = 0; half < 2; ++half) {
      _mm512_store_pd(tile.squared[r] + half * kWidth, sum[r][half]);
    }
  }
  find_roots(tile);
}

#else

constexpr auto distances_v3 = distances_base;
constexpr auto distances_v4 = distances_base;

#endif

// ---- terms
// ---------------------------------------------------------------------------------------

/// A row i beside a panel, and the sum over its pairs with rows [from, to) of the panel.
struct RowOfPairs {
  i64 label = 0;
  double squares = 0;
  double p_of_label[kLanes];  ///< of each of the panel's labels
  double minus_inverse = 0;   ///< -1 / nu
  i64 from = 0;
  i64 to = 0;
};

CUPEL_INLINE i64 terms_body(const RowOfPairs& row, const Panel& panel, const double* squared,
                            const double* distance) {
  const double* of_label = panel.p.data() + row.label * kLanes;
  i64 sum = 0;
  for (i64 l = 0; l < kLanes; ++l) {
    const double residuals =
        residual_product(row.squares, panel.squares[l], squared[l], row.p_of_label[l], of_label[l],
                         panel.label[l] == row.label);
    const i64 term = pair_term(pair_value(residuals, distance[l], row.minus_inverse));
    sum += l >= row.from && l < row.to ? term : 0;
  }
  return sum;
}

i64 terms_base(const RowOfPairs& row, const Panel& panel, const double* squared,
               const double* distance) {
  return terms_body(row, panel, squared, distance);
}
CUPEL_TARGET_V3 i64 terms_v3(const RowOfPairs& row, const Panel& panel, const double* squared,
                             const double* distance) {
  return terms_body(row, panel, squared, distance);
}
CUPEL_TARGET_V4 i64 terms_v4(const RowOfPairs& row, const Panel& panel, const double* squared,
                             const double* distance) {
  return terms_body(row, panel, squared, distance);
}

// ---- tiles
// ---------------------------------------------------------------------------------------

void load_panel(const PairRows& rows, i64 first, Panel& panel) {
  panel.first = first;
  for (i64 l = 0; l < kLanes; ++l) {
    const i64 row = std::min(first + l, rows.rows - 1);
    const double* p = rows.p + row * rows.classes;
    double squares = 0;
    for (i64 k = 0; k < rows.classes; ++k) {
      panel.p[static_cast<std::size_t>(k * kLanes + l)] = p[k];
      squares = add_square(squares, p[k]);
    }
    panel.squares[l] = squares;
    panel.label[l] = rows.labels[row];
  }
}

/// Calls visit(worker, i, panel, squared, distance, from, to) for every row i in [first, last) and
/// panel that have pairs i < j: those with rows [from, to) of the panel.
template <class Visit>
void for_each_tile(const PairRows& rows, i64 first, i64 last, ThreadPool& pool,
                   const Visit& visit) {
  const CpuLevel level = cpu_level();
  const auto distances = level >= CpuLevel::kV4   ? distances_v4
                         : level >= CpuLevel::kV3 ? distances_v3
                                                  : distances_base;
  std::vector<Panel> panels(static_cast<std::size_t>(pool.threads()));
  for (Panel& panel : panels) panel.p.resize(static_cast<std::size_t>(rows.classes * kLanes));
  const i64 tasks = (last - first + kTaskRows - 1) / kTaskRows;
  pool.parallel_for(tasks, [&](int worker, i64 task) {
    Panel& panel = panels[static_cast<std::size_t>(worker)];
    Tile tile;
    const i64 begin = first + task * kTaskRows;
    const i64 end = std::min(last, begin + kTaskRows);
    for (i64 j = begin; j < rows.rows; j += kLanes) {
      load_panel(rows, j, panel);
      const i64 lanes = std::min(kLanes, rows.rows - j);
      for (i64 i = begin; i < std::min(end, j + lanes - 1); i += kRows) {
        const double* of_row[kRows];
        for (i64 r = 0; r < kRows; ++r) {
          of_row[r] = rows.p + std::min(i + r, rows.rows - 1) * rows.classes;
        }
        distances(of_row, panel.p.data(), rows.classes, tile);
        for (i64 r = 0; r < kRows && i + r < end; ++r) {
          const i64 from = std::max<i64>(0, i + r + 1 - j);
          if (from < lanes) {
            visit(worker, i + r, panel, tile.squared[r], tile.distance[r], from, lanes);
          }
        }
      }
    }
  });
}

}  // namespace

i128 cpu_pair_sum(const TableView& table, i64 first, i64 last, double nu, ThreadPool& pool) {
  const PairRows rows = rows_of_pairs(table);
  const CpuLevel level = cpu_level();
  const auto terms = level >= CpuLevel::kV4   ? terms_v4
                     : level >= CpuLevel::kV3 ? terms_v3
                                              : terms_base;
  std::vector<i128> sums(static_cast<std::size_t>(pool.threads()));
  Buffer<double> squares(static_cast<std::size_t>(rows.rows));
  for (i64 i = 0; i < rows.rows; ++i) {
    double sum = 0;
    for (i64 k = 0; k < rows.classes; ++k) sum = add_square(sum, rows.p[i * rows.classes + k]);
    squares[static_cast<std::size_t>(i)] = sum;
  }
  for_each_tile(rows, first, last, pool,
                [&](int worker, i64 i, const Panel& panel, const double* squared,
                    const double* distance, i64 from, i64 to) {
                  RowOfPairs row;
                  row.label = rows.labels[i];
                  row.squares = squares[static_cast<std::size_t>(i)];
                  const double* p = rows.p + i * rows.classes;
                  for (i64 l = 0; l < kLanes; ++l) row.p_of_label[l] = p[panel.label[l]];
                  row.minus_inverse = -1.0 / nu;
                  row.from = from;
                  row.to = to;
                  sums[static_cast<std::size_t>(worker)] += terms(row, panel, squared, distance);
                });
  i128 all = 0;
  for (const i128 sum : sums) all += sum;
  return all;
}

std::vector<u64> cpu_pair_distances(const TableView& table, i64 first, i64 last,
                                    std::optional<u32> high, ThreadPool& pool) {
  const PairRows rows = rows_of_pairs(table);
  std::vector<std::vector<u64>> counts(static_cast<std::size_t>(pool.threads()),
                                       std::vector<u64>(kDistanceBuckets));
  for_each_tile(
      rows, first, last, pool,
      [&](int worker, i64, const Panel&, const double*, const double* distance, i64 from, i64 to) {
        auto& own = counts[static_cast<std::size_t>(worker)];
        for (i64 l = from; l < to; ++l) {
          const u32 key = distance_key(distance[l]);
          if (!high) {
            ++own[key >> 16];
          } else if (key >> 16 == *high) {
            ++own[key & 0xFFFFu];
          }
        }
      });
  for (std::size_t worker = 1; worker < counts.size(); ++worker) {
    for (std::size_t i = 0; i < kDistanceBuckets; ++i) counts[0][i] += counts[worker][i];
  }
  return counts[0];
}

Result<i128> Backend::pair_sum(const TableView& table, i64 first, i64 last, double nu) {
  ThreadPool pool(available_threads());
  return cpu_pair_sum(table, first, last, nu, pool);
}

Result<std::vector<u64>> Backend::pair_distances(const TableView& table, i64 first, i64 last,
                                                 std::optional<u32> high) {
  ThreadPool pool(available_threads());
  return cpu_pair_distances(table, first, last, high, pool);
}

}  // namespace cupel
