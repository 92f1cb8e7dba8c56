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
/// Tallies of all cells and sets.
constexpr u64 kMostTallies = 50'000'000;
/// Masses that are sorted first; more of them where sets are larger.
constexpr i64 kFirstSorted = 16;
constexpr i64 kMostClasses = 65535;

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
  return {row_largest(row, classes), label_place(row, classes, label)};
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

CUPEL_INLINE i64 size_body(const ConformalRule& rule, i64 threshold, const i64* masses, i64 classes,
                           const RowLargest& largest) {
  return set_size_unordered(
      rule, threshold, [masses](i64 j) { return masses[j]; }, classes, largest);
}
i64 size_base(const ConformalRule& rule, i64 threshold, const i64* masses, i64 classes,
              const RowLargest& largest) {
  return size_body(rule, threshold, masses, classes, largest);
}
CUPEL_TARGET_V3 i64 size_v3(const ConformalRule& rule, i64 threshold, const i64* masses,
                            i64 classes, const RowLargest& largest) {
  return size_body(rule, threshold, masses, classes, largest);
}
CUPEL_TARGET_V4 i64 size_v4(const ConformalRule& rule, i64 threshold, const i64* masses,
                            i64 classes, const RowLargest& largest) {
  return size_body(rule, threshold, masses, classes, largest);
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
  i64 size(const ConformalRule& rule, i64 threshold) const {
    if (threshold == kEveryLabel) return classes_;
    i64 low = 0;
    i64 high = sorted_;
    while (low < high) {
      const i64 rank = low + (high - low) / 2 + 1;
      if (holds_rank(rule, threshold, through_[static_cast<std::size_t>(rank - 1)], rank)) {
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

i64 task_rows(const TableView& table) {
  const i64 columns = table.task == Task::kBinary ? 1 : table.classes;
  const i64 row_bytes = std::max<i64>(1, columns * table.scores.item_bytes);
  return std::max<i64>(1, kTaskBytes / row_bytes);
}

/// Calls take(task, first row, last row) for ranges of task_rows() rows, on all threads of the
/// pool.
void for_row_ranges(const TableView& table, ThreadPool& pool,
                    const std::function<void(i64, i64, i64)>& take) {
  const i64 rows = task_rows(table);
  pool.parallel_for((table.rows + rows - 1) / rows, [&](int, i64 task) {
    take(task, task * rows, std::min(table.rows, (task + 1) * rows));
  });
}

/// The set of one row: its size, and whether it holds the row's label.
struct RowSet {
  i64 size = 0;
  bool covers = false;
};

/// Whether the size of a row's set follows from one threshold and the masses alone, whatever labels
/// they are of.
bool sizes_by_masses(const ConformalSet& set) {
  return set.by != ThresholdsBy::kLabel && set.rule.draw == ConformalDraw::kNone &&
         set.rule.ties == ConformalTies::kIndex;
}

/// The sets of one row after another, for one thread.
class RowSets {
 public:
  RowSets(const TableView& table, std::span<const ConformalSet> sets)
      : table_(table), sets_(sets), reader_(table), ordered_(reader_.classes()) {
    found_.resize(sets.size());
    for (const ConformalSet& set : sets) {
      by_masses_.push_back(sizes_by_masses(set));
      by_labels_ = by_labels_ || !by_masses_.back();
    }
    order_.resize(static_cast<std::size_t>(reader_.classes()));
  }

  /// Finds the sets of a row; they are then in found().
  void take(i64 row, u64& outside) {
    const RowShape shape = reader_.read(row, outside);
    const i64 classes = reader_.classes();
    const i64* masses = reader_.masses();
    const u32 cell = table_.cells == nullptr ? 0 : table_.cells[row];
    const i64 label =
        table_.task == Task::kBinary ? table_.binary_labels[row] : table_.class_labels[row];
    const u64 key = table_.row_key(row);
    rank_ = shape.label.rank;
    i64 furthest = -1;  // how far the sums of ordered masses are asked for
    bool ordered = false;
    if (by_labels_) sort_labels(masses, classes);
    for (std::size_t s = 0; s < sets_.size(); ++s) {
      const ConformalSet& set = sets_[s];
      RowSet& found = found_[s];
      const i64 own = conformal_score(set.rule, shape.label, shape.largest, key, label);
      found = {0, own <= set.threshold(row, cell, label)};
      if (!by_masses_[s]) {
        found.size = count_labels(set, row, cell, key);
        continue;
      }
      const i64 threshold = set.threshold(row, cell, 0);
      if (!sums_in_order(set.rule.score)) {
        found.size = unordered_size_(set.rule, threshold, masses, classes, shape.largest);
      } else if (threshold != kEveryLabel) {
        ordered = true;
        furthest = std::max(furthest, threshold);
      } else {
        found.size = classes;
      }
    }
    // Sorting moves the masses, so this comes last.
    if (ordered) ordered_.take(reader_.masses(), classes, furthest);
    for (std::size_t s = 0; s < sets_.size(); ++s) {
      const ConformalSet& set = sets_[s];
      RowSet& found = found_[s];
      if (ordered && by_masses_[s] && sums_in_order(set.rule.score)) {
        found.size = ordered_.size(set.rule, set.threshold(row, cell, 0));
      }
      if (found.size == 0 && set.argmax_if_empty) found = {1, rank_ == 1};
    }
  }

  const std::vector<RowSet>& found() const { return found_; }
  /// Of the label of the row, from 1.
  i64 rank() const { return rank_; }

 private:
  void sort_labels(const i64* masses, i64 classes) {
    for (i64 j = 0; j < classes; ++j) order_[static_cast<std::size_t>(j)] = static_cast<i32>(j);
    std::sort(order_.begin(), order_.end(), [masses](i32 a, i32 b) {
      return masses[a] != masses[b] ? masses[a] > masses[b] : a < b;
    });
  }
  i64 count_labels(const ConformalSet& set, i64 row, u32 cell, u64 key) {
    const i64* masses = reader_.masses();
    i64 size = 0;
    for_each_score(
        set.rule, [masses](i64 j) { return masses[j]; },
        [this](i64 r) { return static_cast<i64>(order_[static_cast<std::size_t>(r)]); },
        reader_.classes(), key,
        [&](i64 label, i64, i64 score) {
          size += score <= set.threshold(row, cell, label) ? 1 : 0;
        });
    return size;
  }

  const TableView& table_;
  std::span<const ConformalSet> sets_;
  RowReader reader_;
  OrderedMasses ordered_;
  decltype(size_of_set()) unordered_size_ = size_of_set();
  std::vector<bool> by_masses_;  ///< [set]
  bool by_labels_ = false;
  std::vector<i32> order_;
  std::vector<RowSet> found_;
  i64 rank_ = 1;
};

/// How many wanted rows come before each range of rows, and in all.
struct WantedRows {
  std::vector<i64> before;  ///< [task]
  i64 all = 0;
};
WantedRows count_wanted(const TableView& table, const std::vector<bool>& wanted, i64 task_rows) {
  WantedRows counted;
  for (i64 first = 0; first < table.rows; first += task_rows) {
    counted.before.push_back(counted.all);
    const i64 last = std::min(table.rows, first + task_rows);
    for (i64 row = first; row < last; ++row) counted.all += is_wanted(table, wanted, row) ? 1 : 0;
  }
  return counted;
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
    const WantedRows counted = count_wanted(table, wanted, task_rows(table));
    for (Buffer<i64>& scores : out.scores) scores.resize(static_cast<std::size_t>(counted.all));
    std::mutex mutex;
    for_row_ranges(table, pool, [&](i64 task, i64 first, i64 last) {
      RowReader reader(table);
      u64 outside = 0;
      auto at = static_cast<std::size_t>(counted.before[static_cast<std::size_t>(task)]);
      for (i64 row = first; row < last; ++row) {
        if (!is_wanted(table, wanted, row)) continue;
        const RowShape shape = reader.read(row, outside);
        const i64 label =
            table.task == Task::kBinary ? table.binary_labels[row] : table.class_labels[row];
        for (std::size_t r = 0; r < rules.size(); ++r) {
          out.scores[r][at] =
              conformal_score(rules[r], shape.label, shape.largest, table.row_key(row), label);
        }
        ++at;
      }
      const std::lock_guard lock(mutex);
      out.outside_unit += outside;
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
  const u64 tallies = 3 * static_cast<u64>(classes) + 1;
  if (cells * std::max<std::size_t>(1, sets.size()) > kMostTallies / tallies) {
    return usage_error("sizes of sets of this many classes, groups and combinations are too many",
                       "ask for fewer of --conformal and --alpha, or fewer groups");
  }
  try {
    std::vector<std::vector<SetSums>> sums(cells, std::vector<SetSums>(sets.size()));
    if (table.rows == 0) return sums;
    ThreadPool pool(std::max(1, threads));
    std::mutex mutex;
    for_row_ranges(table, pool, [&](i64, i64 first, i64 last) {
      RowSets row_sets(table, sets);
      std::vector<RowSet> found;  // [wanted row of the range][set]
      std::vector<i64> rows;
      std::vector<i64> ranks;
      u64 outside = 0;
      for (i64 row = first; row < last; ++row) {
        if (!is_wanted(table, wanted, row)) continue;
        row_sets.take(row, outside);
        found.insert(found.end(), row_sets.found().begin(), row_sets.found().end());
        rows.push_back(row);
        ranks.push_back(row_sets.rank());
      }
      const std::lock_guard lock(mutex);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const i64 row = rows[i];
        const i64 label =
            table.task == Task::kBinary ? table.binary_labels[row] : table.class_labels[row];
        for (std::size_t s = 0; s < sets.size(); ++s) {
          SetSums& own = sums[table.cells == nullptr ? 0 : table.cells[row]][s];
          if (own.by_size.empty()) own.resize(classes);
          const RowSet& set = found[i * sets.size() + s];
          own.add(set.size, set.covers, label, ranks[i]);
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

Result<ConformalRowSets> Backend::conformal_row_sets(const TableView& table,
                                                     std::span<const ConformalSet> sets,
                                                     const std::vector<bool>& wanted, int threads) {
  if (auto checked = check_table(table, wanted); !checked) return checked.error();
  try {
    ConformalRowSets out;
    out.sets.resize(sets.size());
    if (table.rows == 0) return out;
    ThreadPool pool(std::max(1, threads));
    const WantedRows counted = count_wanted(table, wanted, task_rows(table));
    for (Buffer<u32>& own : out.sets) own.resize(static_cast<std::size_t>(counted.all));
    out.ranks.resize(static_cast<std::size_t>(counted.all));
    std::mutex mutex;
    for_row_ranges(table, pool, [&](i64 task, i64 first, i64 last) {
      RowSets row_sets(table, sets);
      u64 outside = 0;
      auto at = static_cast<std::size_t>(counted.before[static_cast<std::size_t>(task)]);
      for (i64 row = first; row < last; ++row) {
        if (!is_wanted(table, wanted, row)) continue;
        row_sets.take(row, outside);
        for (std::size_t s = 0; s < sets.size(); ++s) {
          const RowSet& found = row_sets.found()[s];
          out.sets[s][at] = ConformalRowSets::pack(found.size, found.covers);
        }
        out.ranks[at] = static_cast<i32>(row_sets.rank());
        ++at;
      }
      const std::lock_guard lock(mutex);
      out.outside_unit += outside;
    });
    return out;
  } catch (const std::bad_alloc&) {
    return no_memory(table);
  }
}

}  // namespace cupel
