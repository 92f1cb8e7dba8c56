#include "backend/cpu_tempered.hpp"

#include <algorithm>
#include <memory>
#include <mutex>

#include "backend/cpu_level.hpp"
#include "backend/cpu_row_kernels.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/core/buffer.hpp"
#include "cupel/math/row_terms.hpp"
#include "cupel/math/tempering.hpp"
#include "cupel/math/weight.hpp"

namespace cupel {
namespace {

constexpr i64 kTaskBytes = i64{1} << 20;
/// All copies of the sums together stay below this, down to one copy.
constexpr u64 kSumsBytes = u64{1} << 28;
/// Rows whose terms are computed before they are added.
constexpr i64 kRows = 64;

constexpr std::size_t index(i64 i) { return static_cast<std::size_t>(i); }

/// Classes up to which a block's rows are read at once.
constexpr i64 kFewClasses = 64;

/// What a row adds.
struct RowTerms {
  double loss = 0;
  double label_distance = 0;
  RowSlope slope{};
  u128 brier = 0;
  double top_p = 0;
  i32 predicted = 0;
};

struct Asked {
  bool slopes = false;
  bool brier = false;
};

CUPEL_INLINE void row_body(const Asked& asked, const double* logits, i64 classes, double factor,
                           i64 label, double* terms, RowTerms& out) {
  const auto raw = [logits](i64 j) { return logits[j]; };
  const double largest = row_max(raw, classes);
  const double max = tempered_logit(largest, factor) + 0.0;
  RowSoftmax softmax{max, 1.0};
  if (asked.slopes) {
    SlopeMoments moments;
    for (i64 j = 0; j < classes; ++j) moments.add(tempered_logit(logits[j], factor), max);
    softmax.denominator = moments.denominator.value();
    out.slope = row_slope(moments);
  } else {
    UnitSum sum;
    for (i64 j = 0; j < classes; ++j) {
      terms[j] = softmax_term(tempered_logit(logits[j], factor), max);
      sum.add(terms[j]);
    }
    softmax.denominator = sum.value();
  }
  const double of_label = tempered_logit(logits[label], factor);
  out.label_distance = max - of_label;
  out.loss = log_softmax_loss(of_label, softmax);
  if (!asked.brier) return;
  const double scale = softmax_scale(softmax);
  u128 squares = 0;
  // A partial sum of terms of at most 2^50 stays below 2^64.
  constexpr i64 kChunk = i64{1} << 13;
  for (i64 first = 0; first < classes; first += kChunk) {
    u64 part = 0;
    const i64 last = std::min(classes, first + kChunk);
    for (i64 j = first; j < last; ++j) part += squared_term(scaled_softmax_p(terms[j], scale));
    squares += part;
  }
  const double p = scaled_softmax_p(terms[label], scale);
  out.brier = squares - brier_term(p, false) + brier_term(p, true);
  out.top_p = scale;  // the largest logit's term is 1
  i32 predicted = 0;
  while (logits[predicted] != largest) ++predicted;
  out.predicted = predicted;
}

using RowFunction = void (*)(const Asked&, const double*, i64, double, i64, double*, RowTerms&);

void row_baseline(const Asked& asked, const double* logits, i64 classes, double factor, i64 label,
                  double* terms, RowTerms& out) {
  row_body(asked, logits, classes, factor, label, terms, out);
}
CUPEL_TARGET_V3 void row_v3(const Asked& asked, const double* logits, i64 classes, double factor,
                            i64 label, double* terms, RowTerms& out) {
  row_body(asked, logits, classes, factor, label, terms, out);
}
CUPEL_TARGET_V4 void row_v4(const Asked& asked, const double* logits, i64 classes, double factor,
                            i64 label, double* terms, RowTerms& out) {
  row_body(asked, logits, classes, factor, label, terms, out);
}

RowFunction row_function(CpuLevel level) {
  return level == CpuLevel::kV4 ? row_v4 : level == CpuLevel::kV3 ? row_v3 : row_baseline;
}

class TemperedPass {
 public:
  TemperedPass(const TableView& table, const RowSpec& spec, int threads)
      : table_(table),
        spec_(spec),
        asked_{spec.tempering.slopes, spec.brier},
        row_(row_function(cpu_level())),
        load_(cpu::row_kernels(cpu_level()).load_rows_f64),
        matrix_{table.scores.data, table.scores.dtype, table.scores.strides[0],
                table.scores.strides[1]},
        load_rows_(table.classes <= kFewClasses ? kRows : 1),
        workers_(index(threads)) {
    const u64 bytes = table.cell_count * cell_bytes();
    const u64 copies = std::clamp<u64>(kSumsBytes / std::max<u64>(bytes, 1), 1, index(threads));
    for (u64 i = 0; i < copies; ++i) {
      copies_.push_back(std::make_unique<Copy>());
      copies_.back()->cells.assign(table.cell_count, empty_sums());
    }
    for (Worker& worker : workers_) {
      worker.logits.resize(index(load_rows_ * table.classes));
      worker.scratch.resize(index(table.classes));
    }
  }

  std::vector<std::vector<RowSums>> run(ThreadPool& pool) {
    const i64 row_bytes = std::max<i64>(table_.classes * table_.scores.item_bytes, 1);
    const i64 rows_of_task = std::max<i64>(kTaskBytes / row_bytes / kRows, 1) * kRows;
    const i64 tasks = (table_.rows + rows_of_task - 1) / rows_of_task;
    pool.parallel_for(tasks, [&](int worker, i64 task) {
      const i64 end = std::min(table_.rows, (task + 1) * rows_of_task);
      for (i64 row = task * rows_of_task; row < end; row += kRows) {
        add_rows(worker, row, std::min(kRows, end - row));
      }
    });
    for (; copies_.size() > 1; copies_.pop_back()) {
      for (std::size_t cell = 0; cell < copies_.front()->cells.size(); ++cell) {
        // Both have the shape of empty_sums().
        const auto merged = copies_.front()->cells[cell].merge(copies_.back()->cells[cell]);
        CUPEL_ASSERT(merged.ok());
      }
    }
    return {std::move(copies_.front()->cells)};
  }

 private:
  struct Worker {
    Buffer<double> logits;   // [load_rows_][classes]
    Buffer<double> scratch;  // [classes]
    double factors[kRows];
    RowTerms terms[kRows];
  };
  struct Copy {
    std::mutex mutex;
    std::vector<RowSums> cells;
  };

  u64 cell_bytes() const {
    u64 bytes = sizeof(RowSums) + index(table_.classes) * (sizeof(u64) + sizeof(u128));
    for (const BinQuery& query : spec_.bins) {
      bytes += index(bin_slots(query.bins)) * (sizeof(u64) + 2 * sizeof(u128) + sizeof(U256));
    }
    return bytes;
  }

  RowSums empty_sums() const {
    RowSums sums;
    sums.weighted = table_.weighted();
    sums.class_rows.resize(index(table_.classes));
    sums.class_mass.resize(index(table_.classes));
    for (const BinQuery& query : spec_.bins) {
      CUPEL_ASSERT(query.points == BinPoints::kTop);
      const std::size_t slots = index(bin_slots(query.bins));
      BinTotals totals;
      totals.rows.resize(slots);
      totals.mass.resize(slots);
      totals.right.resize(slots);
      totals.confidence.resize(slots);
      sums.bins.push_back(std::move(totals));
    }
    return sums;
  }

  std::size_t cell_of(i64 row) const { return table_.cells == nullptr ? 0 : table_.cells[row]; }

  void add_rows(int worker_index, i64 row, i64 rows) {
    Worker& worker = workers_[static_cast<std::size_t>(worker_index)];
    bool any = false;
    for (i64 i = 0; i < rows; ++i) {
      worker.factors[i] = spec_.tempering.factors[cell_of(row + i)];
      any = any || worker.factors[i] != 0;
    }
    if (!any) return;
    for (i64 i = 0; i < rows;) {
      if (worker.factors[i] == 0) {
        ++i;
        continue;
      }
      i64 end = i + 1;
      while (end < rows && end - i < load_rows_ && worker.factors[end] != 0) ++end;
      load_(matrix_, row + i, end - i, table_.classes, worker.logits.data());
      for (const double* logits = worker.logits.data(); i < end; ++i, logits += table_.classes) {
        row_(asked_, logits, table_.classes, worker.factors[i], table_.class_labels[row + i],
             worker.scratch.data(), worker.terms[i]);
      }
    }
    Copy& copy = *copies_[static_cast<std::size_t>(worker_index) % copies_.size()];
    std::unique_lock lock(copy.mutex, std::defer_lock);
    if (copies_.size() < workers_.size()) lock.lock();
    // Rows of one cell often follow each other.
    Short sums;
    std::size_t cell = cell_of(row);
    for (i64 i = 0; i < rows; ++i) {
      if (worker.factors[i] == 0) continue;
      if (const std::size_t own = cell_of(row + i); own != cell) {
        hand_over(sums, copy.cells[cell]);
        cell = own;
      }
      add_row(copy.cells[cell], sums, row + i, worker.terms[i]);
    }
    hand_over(sums, copy.cells[cell]);
  }

  /// Sums of short terms of rows without weights: at most 2^52 each, so those of a block fit.
  struct Short {
    u64 loss = 0;
    u64 label = 0;
    u64 mean = 0;
    u64 variance = 0;
  };
  static_assert(kRows <= 1 << 12);
  static void hand_over(Short& from, RowSums& to) {
    to.log_loss += widen<4>(from.loss);
    to.slopes.label += widen<4>(from.label);
    to.slopes.mean += widen<4>(from.mean);
    to.slopes.variance += widen<4>(from.variance);
    from = Short{};
  }

  u128 mass_of(i64 row) const {
    if (!table_.weighted()) return 1;
    return weight_mass(table_.weights_f64 != nullptr ? table_.weights_f64[row]
                                                     : static_cast<double>(table_.weights_f32[row]))
        .mass;
  }

  void add_row(RowSums& sums, Short& narrow, i64 row, const RowTerms& terms) const {
    const u128 mass = mass_of(row);
    const auto add = [&](U256& sum, u128 term) {
      sum += table_.weighted() ? multiply(mass, term) : widen<4>(term);
    };
    const i32 label = table_.class_labels[row];
    ++sums.rows;
    ++sums.class_rows[index(label)];
    sums.class_mass[index(label)] += mass;
    // The label's distance is at most the loss.
    if (!table_.weighted() && has_short_loss(terms.loss)) {
      if (spec_.log_loss) narrow.loss += short_loss_term(terms.loss);
      if (asked_.slopes) {
        narrow.label += short_loss_term(terms.label_distance);
        narrow.mean += slope_term(terms.slope.mean);
        narrow.variance += slope_term(terms.slope.variance);
      }
    } else if (is_loss_overflow(terms.loss)) {
      if (spec_.log_loss) ++sums.overflowed;
    } else {
      if (spec_.log_loss) add(sums.log_loss, distance_term(terms.loss));
      if (asked_.slopes) {
        add(sums.slopes.label, distance_term(terms.label_distance));
        add(sums.slopes.mean, slope_term(terms.slope.mean));
        add(sums.slopes.variance, slope_term(terms.slope.variance));
      }
    }
    if (!asked_.brier) return;
    add(sums.brier, terms.brier);
    for (std::size_t q = 0; q < sums.bins.size(); ++q) {
      const BinQuery& query = spec_.bins[q];
      const std::size_t slot = static_cast<std::size_t>(
          bin_slot(terms.top_p, static_cast<i32>(query.bins), query.closed_left));
      BinTotals& bins = sums.bins[q];
      ++bins.rows[slot];
      bins.mass[slot] += mass;
      if (terms.predicted == label) bins.right[slot] += mass;
      add(bins.confidence[slot], confidence_term(terms.top_p));
    }
  }

  const TableView& table_;
  const RowSpec& spec_;
  Asked asked_;
  RowFunction row_;
  decltype(cpu::RowKernels::load_rows_f64) load_;
  cpu::ScoreMatrix matrix_;
  i64 load_rows_;
  std::vector<Worker> workers_;
  std::vector<std::unique_ptr<Copy>> copies_;
};

}  // namespace

std::vector<std::vector<RowSums>> cpu_tempered_sums(const TableView& table, const RowSpec& spec,
                                                    ThreadPool& pool) {
  CUPEL_ASSERT(table.task == Task::kMulticlass && table.logits);
  CUPEL_ASSERT(spec.tempering.factors.size() == table.cell_count);
  CUPEL_ASSERT(spec.thresholds.empty() && spec.top_k.empty());
  CUPEL_ASSERT(!spec.brier || !spec.tempering.slopes);
  return TemperedPass(table, spec, pool.threads()).run(pool);
}

}  // namespace cupel
