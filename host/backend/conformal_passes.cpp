// Conformal scores and sets of rows, on the host: masses from the softmax that all metrics share,
// then integers alone.
#include <algorithm>
#include <functional>
#include <mutex>
#include <new>
#include <string>

#include "backend/cpu_level.hpp"
#include "backend/cpu_row_kernels.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/backend/backend.hpp"
#include "cupel/math/row_terms.hpp"
#include "cupel/math/softmax.hpp"

namespace cupel {
namespace {

/// Bytes of scores that one task reads.
constexpr i64 kTaskBytes = i64{1} << 20;
/// Counts of set sizes of all cells and sets.
constexpr u64 kMostSizes = 100'000'000;
/// Masses that are sorted first; more of them where sets are larger.
constexpr i64 kFirstSorted = 16;
constexpr i64 kMostClasses = 65535;
/// Sums of masses stop here, where no probabilities come: with a penalty they fit 63 bits.
constexpr i64 kMostThrough = i64{1} << 61;

// ---- one row ------------------------------------------------------------------------------------

/// The masses of a row of several classes; whether all its values are probabilities. `terms` has
/// `classes` doubles for logits.
template <class T>
CUPEL_INLINE bool class_masses(const T* values, i64 classes, bool logits, double* terms,
                               i64* masses) {
  if (!logits) {
    int inside = 1;
    for (i64 j = 0; j < classes; ++j) {
      const double p = static_cast<double>(values[j]);
      const bool is = is_probability(p);
      inside &= static_cast<int>(is);
      masses[j] = conformal_mass(is ? p : 0.0);
    }
    return inside != 0;
  }
  const auto row = [values](i64 j) { return values[j]; };
  const double largest = static_cast<double>(row_max(row, classes));
  UnitSum sum;
  for (i64 j = 0; j < classes; ++j) {
    terms[j] = softmax_term(static_cast<double>(values[j]), largest);
    sum.add(terms[j]);
  }
  const double scale = softmax_scale({largest, sum.value()});
  for (i64 j = 0; j < classes; ++j) {
    masses[j] = conformal_mass(scaled_softmax_p(terms[j], scale));
  }
  return true;
}

/// A binary row as two classes, whose masses sum to 1.
inline bool binary_masses(double score, bool logits, i64* masses) {
  const double p = logits ? sigmoid_det(score) : score;
  const bool inside = is_probability(p);
  masses[1] = conformal_mass(inside ? p : 0.0);
  masses[0] = kConformalOne - masses[1];
  return inside;
}

/// What every score of a row is made from.
struct RowShape {
  RowLargest largest;
  LabelPlace label;
};

template <class T>
CUPEL_INLINE RowShape shape_body(const T* values, i64 classes, bool logits, i64 label,
                                 double* terms, i64* masses, u64* outside) {
  if (!class_masses(values, classes, logits, terms, masses)) ++*outside;
  const auto row = [masses](i64 j) { return masses[j]; };
  RowShape shape{row_largest(row, classes), label_place(row, classes, label)};
  const bool fits = static_cast<u64>(shape.label.through) <= static_cast<u64>(kMostThrough);
  if (!fits) shape.label.through = kMostThrough;
  return shape;
}
template <class T>
RowShape shape_base(const T* values, i64 classes, bool logits, i64 label, double* terms,
                    i64* masses, u64* outside) {
  return shape_body(values, classes, logits, label, terms, masses, outside);
}
template <class T>
CUPEL_TARGET_V3 RowShape shape_v3(const T* values, i64 classes, bool logits, i64 label,
                                  double* terms, i64* masses, u64* outside) {
  return shape_body(values, classes, logits, label, terms, masses, outside);
}
template <class T>
CUPEL_TARGET_V4 RowShape shape_v4(const T* values, i64 classes, bool logits, i64 label,
                                  double* terms, i64* masses, u64* outside) {
  return shape_body(values, classes, logits, label, terms, masses, outside);
}
template <class T>
auto shape_of_row() {
  const CpuLevel level = cpu_level();
  return level >= CpuLevel::kV4   ? shape_v4<T>
         : level >= CpuLevel::kV3 ? shape_v3<T>
                                  : shape_base<T>;
}

CUPEL_INLINE i64 size_body(const ConformalSet& set, const i64* masses, i64 classes,
                           const RowLargest& largest) {
  return set_size_unordered(
      set.rule, set.threshold, [masses](i64 j) { return masses[j]; }, classes, largest);
}
i64 size_base(const ConformalSet& set, const i64* masses, i64 classes, const RowLargest& largest) {
  return size_body(set, masses, classes, largest);
}
CUPEL_TARGET_V3 i64 size_v3(const ConformalSet& set, const i64* masses, i64 classes,
                            const RowLargest& largest) {
  return size_body(set, masses, classes, largest);
}
CUPEL_TARGET_V4 i64 size_v4(const ConformalSet& set, const i64* masses, i64 classes,
                            const RowLargest& largest) {
  return size_body(set, masses, classes, largest);
}
auto size_of_set() {
  const CpuLevel level = cpu_level();
  return level >= CpuLevel::kV4 ? size_v4 : level >= CpuLevel::kV3 ? size_v3 : size_base;
}

/// The masses of a row from the largest down, summed up only as far as sets go.
class OrderedMasses {
 public:
  explicit OrderedMasses(i64 classes) : through_(static_cast<std::size_t>(classes)) {}

  /// Takes a row and changes the order of its masses. Sums beyond `most` are not asked for.
  void take(i64* masses, i64 classes, i64 most) {
    classes_ = classes;
    sorted_ = 0;
    i64 sum = 0;
    i64 step = kFirstSorted;
    while (sorted_ < classes && (sorted_ == 0 || sum <= most)) {
      const i64 last = classes - sorted_ <= 2 * step ? classes : sorted_ + step;
      if (last != classes) {
        std::nth_element(masses + sorted_, masses + last, masses + classes, std::greater<>());
      }
      std::sort(masses + sorted_, masses + last, std::greater<>());
      for (; sorted_ < last; ++sorted_) {
        sum = std::min(sum + masses[sorted_], kMostThrough);
        through_[static_cast<std::size_t>(sorted_)] = sum;
      }
      step *= 4;
    }
  }

  /// How many labels have a score of aps or raps <= threshold.
  i64 size(const ConformalSet& set) const {
    if (set.threshold == kEveryLabel) return classes_;
    i64 low = 0;
    i64 high = sorted_;
    while (low < high) {
      const i64 rank = low + (high - low) / 2 + 1;
      if (holds_rank(set.rule, set.threshold, through_[static_cast<std::size_t>(rank - 1)], rank)) {
        low = rank;
      } else {
        high = rank - 1;
      }
    }
    return low;
  }

 private:
  std::vector<i64> through_;  ///< [rank - 1]
  i64 classes_ = 0;
  i64 sorted_ = 0;
};

// ---- rows ---------------------------------------------------------------------------------------

bool is_wanted(const TableView& table, const std::vector<bool>& wanted, i64 row) {
  return wanted[table.cells == nullptr ? 0 : table.cells[row]];
}

/// Reads one row after another, for one thread.
class RowReader {
 public:
  explicit RowReader(const TableView& table)
      : table_(table),
        kernels_(cpu::row_kernels(cpu_level())),
        matrix_{table.scores.data, table.scores.dtype, table.scores.strides[0],
                table.task == Task::kBinary ? 0 : table.scores.strides[1]},
        wide_(cpu::wide_values(table.scores.dtype)),
        classes_(table.task == Task::kBinary ? 2 : table.classes) {
    const auto count = static_cast<std::size_t>(classes_);
    if (wide_ || table.task == Task::kBinary) {
      doubles_.resize(count);
    } else {
      floats_.resize(count);
    }
    terms_.resize(count);
    masses_.resize(count);
  }

  /// The shape of a row; its masses are then in masses(). `outside` counts rows of no
  /// probabilities.
  RowShape read(i64 row, u64& outside) {
    if (table_.task == Task::kBinary) {
      double score = 0;
      if (wide_) {
        kernels_.load_rows_f64(matrix_, row, 1, 1, &score);
      } else {
        float narrow = 0;
        kernels_.load_rows_f32(matrix_, row, 1, 1, &narrow);
        score = static_cast<double>(narrow);
      }
      if (!binary_masses(score, table_.logits, masses_.data())) ++outside;
      const auto mass = [this](i64 j) { return masses_[static_cast<std::size_t>(j)]; };
      return {row_largest(mass, 2), label_place(mass, 2, table_.binary_labels[row])};
    }
    const i64 label = table_.class_labels[row];
    if (wide_) {
      kernels_.load_rows_f64(matrix_, row, 1, classes_, doubles_.data());
      return shape_f64_(doubles_.data(), classes_, table_.logits, label, terms_.data(),
                        masses_.data(), &outside);
    }
    kernels_.load_rows_f32(matrix_, row, 1, classes_, floats_.data());
    return shape_f32_(floats_.data(), classes_, table_.logits, label, terms_.data(), masses_.data(),
                      &outside);
  }

  i64 classes() const { return classes_; }
  i64* masses() { return masses_.data(); }

 private:
  const TableView& table_;
  const cpu::RowKernels& kernels_;
  cpu::ScoreMatrix matrix_;
  bool wide_;
  i64 classes_;
  decltype(shape_of_row<double>()) shape_f64_ = shape_of_row<double>();
  decltype(shape_of_row<float>()) shape_f32_ = shape_of_row<float>();
  Buffer<double> doubles_;
  Buffer<float> floats_;
  Buffer<double> terms_;
  Buffer<i64> masses_;
};

Result<void> check_table(const TableView& table, const std::vector<bool>& wanted) {
  CUPEL_ASSERT(table.task != Task::kMultilabel);
  CUPEL_ASSERT(table.rows == 0 || wanted.size() >= table.cell_count);
  static_cast<void>(wanted);
  if (table.classes > kMostClasses) {
    return input_error("conformal sets",
                       "a row has " + std::to_string(table.classes) + " classes, too many",
                       "leave classes out");
  }
  return {};
}

Error no_memory(const TableView& table) {
  return Error{ErrorCode::kInternal, "conformal sets",
               "no memory for " + std::to_string(table.rows) + " rows",
               "evaluate fewer rows at a time"};
}

/// Calls task(first row, last row) for ranges of rows, on all threads of the pool.
void for_row_ranges(const TableView& table, ThreadPool& pool,
                    const std::function<void(i64, i64)>& task) {
  const i64 columns = table.task == Task::kBinary ? 1 : table.classes;
  const i64 row_bytes = std::max<i64>(1, columns * table.scores.item_bytes);
  const i64 task_rows = std::max<i64>(1, kTaskBytes / row_bytes);
  pool.parallel_for((table.rows + task_rows - 1) / task_rows, [&](int, i64 index) {
    const i64 first = index * task_rows;
    task(first, std::min(table.rows, first + task_rows));
  });
}

/// The set of one row and its size; what argmax_if_empty says is done.
struct RowSet {
  i64 size;
  bool covers;
};
RowSet row_set(const ConformalSet& set, const RowShape& shape, i64 size) {
  RowSet found{size, conformal_score(set.rule, shape.label, shape.largest) <= set.threshold};
  if (size == 0 && set.argmax_if_empty) found = {1, shape.label.rank == 1};
  return found;
}

}  // namespace

Result<ConformalScores> Backend::conformal_scores(const TableView& table,
                                                  std::span<const ConformalRule> rules,
                                                  const std::vector<bool>& wanted, int threads) {
  if (auto checked = check_table(table, wanted); !checked) return checked.error();
  try {
    ConformalScores out;
    out.scores.resize(rules.size());
    if (table.rows == 0) return out;
    ThreadPool pool(std::max(1, threads));
    std::mutex mutex;
    for_row_ranges(table, pool, [&](i64 first, i64 last) {
      RowReader reader(table);
      std::vector<Buffer<i64>> own(rules.size());
      u64 outside = 0;
      for (i64 row = first; row < last; ++row) {
        if (!is_wanted(table, wanted, row)) continue;
        const RowShape shape = reader.read(row, outside);
        for (std::size_t r = 0; r < rules.size(); ++r) {
          own[r].push_back(conformal_score(rules[r], shape.label, shape.largest));
        }
      }
      // In whatever order: a threshold is a rank among them.
      const std::lock_guard lock(mutex);
      out.outside_unit += outside;
      for (std::size_t r = 0; r < rules.size(); ++r) {
        out.scores[r].insert(out.scores[r].end(), own[r].begin(), own[r].end());
      }
    });
    return out;
  } catch (const std::bad_alloc&) {
    return no_memory(table);
  }
}

Result<std::vector<std::vector<SetSums>>> Backend::conformal_sets(
    const TableView& table, std::span<const ConformalSet> sets, const std::vector<bool>& wanted,
    int threads) {
  if (auto checked = check_table(table, wanted); !checked) return checked.error();
  const i64 classes = table.task == Task::kBinary ? 2 : table.classes;
  const u64 cells = std::max<u64>(1, table.cell_count);
  const u64 sizes = static_cast<u64>(classes) + 1;
  if (cells * std::max<std::size_t>(1, sets.size()) > kMostSizes / sizes) {
    return usage_error("sizes of sets of this many classes, groups and combinations are too many",
                       "ask for fewer of --conformal and --alpha, or fewer groups");
  }
  try {
    std::vector<std::vector<SetSums>> sums(cells, std::vector<SetSums>(sets.size()));
    if (table.rows == 0) return sums;
    i64 furthest = -1;  // how far the ordered sums of a row are asked for
    bool ordered = false;
    for (const ConformalSet& set : sets) {
      if (!sums_in_order(set.rule.score) || set.threshold == kEveryLabel) continue;
      ordered = true;
      furthest = std::max(furthest, set.threshold);
    }
    const auto unordered_size = size_of_set();
    ThreadPool pool(std::max(1, threads));
    std::mutex mutex;
    for_row_ranges(table, pool, [&](i64 first, i64 last) {
      RowReader reader(table);
      OrderedMasses order(classes);
      std::vector<RowSet> found;  // [row of the range that is wanted][set]
      std::vector<u32> cell_of;
      std::vector<i64> size(sets.size());
      u64 outside = 0;
      for (i64 row = first; row < last; ++row) {
        if (!is_wanted(table, wanted, row)) continue;
        const RowShape shape = reader.read(row, outside);
        for (std::size_t s = 0; s < sets.size(); ++s) {
          if (sums_in_order(sets[s].rule.score)) continue;
          size[s] = unordered_size(sets[s], reader.masses(), classes, shape.largest);
        }
        // Sorting moves the masses, so this comes last.
        if (ordered) order.take(reader.masses(), classes, furthest);
        for (std::size_t s = 0; s < sets.size(); ++s) {
          if (sums_in_order(sets[s].rule.score)) {
            size[s] = sets[s].threshold == kEveryLabel ? classes : order.size(sets[s]);
          }
          found.push_back(row_set(sets[s], shape, size[s]));
        }
        cell_of.push_back(table.cells == nullptr ? 0 : table.cells[row]);
      }
      const std::lock_guard lock(mutex);
      for (std::size_t i = 0; i < cell_of.size(); ++i) {
        for (std::size_t s = 0; s < sets.size(); ++s) {
          SetSums& own = sums[cell_of[i]][s];
          if (own.sizes.empty()) own.sizes.resize(sizes);
          const RowSet& set = found[i * sets.size() + s];
          own.add(static_cast<u64>(set.size), set.covers);
        }
      }
      // Of which cell does not matter: one such row makes no row's masses probabilities.
      if (!sets.empty()) sums[0][0].outside_unit += outside;
    });
    return sums;
  } catch (const std::bad_alloc&) {
    return no_memory(table);
  }
}

}  // namespace cupel
