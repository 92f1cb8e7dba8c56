#include "backend/cpu_rows.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "backend/cpu_bins_f32.hpp"
#include "backend/cpu_level.hpp"
#include "backend/cpu_row_kernels.hpp"
#include "backend/cpu_softmax_f32.hpp"
#include "backend/cpu_tempered.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/core/buffer.hpp"
#include "cupel/math/bins.hpp"
#include "cupel/math/curve.hpp"
#include "cupel/math/row_terms.hpp"
#include "cupel/math/softmax.hpp"
#include "cupel/math/weight.hpp"

namespace cupel {
namespace {

using cpu::BinBlock;
using cpu::ClassBlock;
using cpu::ColumnBlock;
using cpu::FloatBlock;
using cpu::kBlockRows;
using cpu::kClassBlockRows;
using cpu::kFloatBlockRows;
using cpu::RowKernels;
using cpu::ScoreMatrix;
using cpu::TermSpec;

/// Bytes of scores that one task reads: enough to pay for handing it out, few enough to balance.
constexpr i64 kTaskBytes = i64{1} << 20;
/// All copies of the sums together stay below this, down to one copy.
constexpr u64 kSumsBytes = u64{1} << 28;
/// Columns of a matrix that are read together: a cache line of float32.
constexpr i64 kTileColumns = 16;
constexpr i64 kTileRows = 128;
/// Columns of a tile lie apart by more than a power of two, or they would share cache sets.
constexpr i64 kTileStride = kTileRows + 8;

/// Scores and labels of rows by columns, or of kBlockRows rows of one column.
struct Tile {
  alignas(64) double scores[kTileColumns * kTileStride];
  alignas(64) u64 labels[kTileColumns * kTileStride];
};
static_assert(kBlockRows <= kTileColumns * kTileStride);

constexpr std::size_t index(i64 i) { return static_cast<std::size_t>(i); }

// ---- sums while they grow ----------------------------------------------------------------------

U256 shifted_by_64(u128 value) {
  return {{0, static_cast<u64>(value), static_cast<u64>(value >> 64), 0}};
}

/// mass * term, added. Masses are u64, and 1, without weights.
void add_product(u128& sum, u64, u128 term) { sum += term; }
void add_product(U256& sum, u128 mass, u128 term) { sum += multiply(mass, term); }
void add_product(U256& sum, u128 mass, u64 term) {
  const u128 low = static_cast<u128>(static_cast<u64>(mass)) * term;
  const u128 high = static_cast<u128>(static_cast<u64>(mass >> 64)) * term + (low >> 64);
  sum += U256{{static_cast<u64>(low), static_cast<u64>(high), static_cast<u64>(high >> 64), 0}};
}

/// `mass` or 0, without a branch: which it is follows from the data.
template <class Mass>
Mass mass_if(bool condition, Mass mass) {
  return mass & (Mass{0} - static_cast<Mass>(condition));
}

/// The sum of mass * term over the rows of a block, for terms of at most 2^52: the halves of the
/// masses apart, so that both sums stay below 2^(64 + 52 + 9).
struct BlockProduct {
  u128 low = 0;
  u128 high = 0;
  void add(u128 mass, u64 term) {
    low += static_cast<u128>(static_cast<u64>(mass)) * term;
    high += static_cast<u128>(static_cast<u64>(mass >> 64)) * term;
  }
  U256 value() const { return widen<4>(low) + shifted_by_64(high); }
};
static_assert(kBlockRows <= 1 << 9);

/// How many of everything there is. All problems are laid out with the same number of classes.
struct Shape {
  i64 problems = 1;
  i64 cells = 1;
  i64 classes = 2;
  i64 rules = 0;
  i64 top_k = 0;
  std::vector<BinPlace> bins = {};
  i64 bin_count = 0;     ///< of all queries
  i64 moment_count = 0;  ///< bins of the queries with moments

  i64 segments() const { return problems * cells; }

  Shape with_bins(const std::vector<BinQuery>& queries) const {
    Shape shape = *this;
    for (const BinQuery& query : queries) {
      const i64 sets = bin_sets(query.points, classes);
      const i64 count = segments() * sets * bin_slots(query.bins);
      shape.bins.push_back({query, sets, shape.bin_count, shape.moment_count});
      shape.bin_count += count;
      if (query.moments) shape.moment_count += count;
    }
    return shape;
  }
};

/// RowSums of all problems and cells as flat arrays; a segment is problem * cells + cell.
template <class Mass>
struct Sums {
  using Wide = std::conditional_t<std::is_same_v<Mass, u64>, u128, U256>;
  struct Segment {
    Wide brier{};
    Wide log_loss{};
    u64 clipped = 0;
    u64 outside_unit = 0;
    u64 overflowed = 0;
  };
  struct Bin {
    u64 rows = 0;
    Mass mass{};
    Mass right{};
    Wide confidence{};
  };
  struct Moments {
    Wide right_confidence{};
    Wide square{};
    Wide spread{};
  };

  explicit Sums(const Shape& s)
      : shape(s),
        class_rows(index(s.segments() * s.classes)),
        class_mass(std::is_same_v<Mass, u64> ? 0 : class_rows.size()),
        hits(class_rows.size() * index(s.rules)),
        top_k_hits(index(s.segments() * s.top_k)),
        segments(index(s.segments())),
        bins(index(s.bin_count)),
        moments(index(s.moment_count)) {}

  static u64 bytes(const Shape& s) {
    const u64 per_class = sizeof(u64) + sizeof(Mass) * (static_cast<u64>(s.rules) + 1);
    const u64 per_segment = sizeof(Segment) + sizeof(Mass) * static_cast<u64>(s.top_k);
    return static_cast<u64>(s.segments()) *
               (static_cast<u64>(s.classes) * per_class + per_segment) +
           static_cast<u64>(s.bin_count) * sizeof(Bin) +
           static_cast<u64>(s.moment_count) * sizeof(Moments);
  }

  void add_to_bin(const BinPlace& place, i64 segment, i64 set, double confidence, bool right,
                  Mass mass) {
    const BinQuery& query = place.query;
    const i64 slot = bin_slot(confidence, static_cast<i32>(query.bins), query.closed_left);
    const i64 at = place.at(segment, set, slot);
    const u64 term = confidence_term(confidence);
    add_to_bin(at, term, right, mass);
    if (query.moments) add_moments(place.moments_at(at), confidence, term, right, mass);
  }
  void add_moments(i64 at, double confidence, u64 term, bool right, Mass mass) {
    const MomentTerms terms = moment_terms(confidence);
    Moments& sums = moments[index(at)];
    add_product(sums.right_confidence, mass_if(right, mass), right ? term : 0);
    add_product(sums.square, mass, terms.square);
    add_product(sums.spread, mass, terms.spread);
  }
  void add_to_bin(i64 at, u64 term, bool right, Mass mass) {
    Bin& bin = bins[index(at)];
    ++bin.rows;
    bin.mass += mass;
    bin.right += mass_if(right, mass);
    add_product(bin.confidence, mass, term);
  }

  void count_row(i64 segment, i64 label, Mass mass) {
    const std::size_t at = index(segment * shape.classes + label);
    ++class_rows[at];
    if constexpr (!std::is_same_v<Mass, u64>) class_mass[at] += mass;
  }
  Mass& hits_of(i64 segment, i64 rule, i64 label) {
    return hits[index((segment * shape.rules + rule) * shape.classes + label)];
  }

  /// Adds a loss of 2^8 or more.
  void add_long_loss(i64 segment, Mass mass, double loss) {
    if (is_loss_overflow(loss)) {
      ++segments[index(segment)].overflowed;
    } else {
      add_product(segments[index(segment)].log_loss, mass, long_loss_term(loss));
    }
  }

  void merge(const Sums& other) {
    const auto add = [](auto& mine, const auto& theirs) {
      for (std::size_t i = 0; i < mine.size(); ++i) mine[i] += theirs[i];
    };
    add(class_rows, other.class_rows);
    add(class_mass, other.class_mass);
    add(hits, other.hits);
    add(top_k_hits, other.top_k_hits);
    for (std::size_t i = 0; i < segments.size(); ++i) {
      segments[i].brier += other.segments[i].brier;
      segments[i].log_loss += other.segments[i].log_loss;
      segments[i].clipped += other.segments[i].clipped;
      segments[i].outside_unit += other.segments[i].outside_unit;
      segments[i].overflowed += other.segments[i].overflowed;
    }
    for (std::size_t i = 0; i < bins.size(); ++i) {
      bins[i].rows += other.bins[i].rows;
      bins[i].mass += other.bins[i].mass;
      bins[i].right += other.bins[i].right;
      bins[i].confidence += other.bins[i].confidence;
    }
    for (std::size_t i = 0; i < moments.size(); ++i) {
      moments[i].right_confidence += other.moments[i].right_confidence;
      moments[i].square += other.moments[i].square;
      moments[i].spread += other.moments[i].spread;
    }
  }

  RowSums finish(i64 segment, i64 classes) const {
    RowSums out;
    out.weighted = !std::is_same_v<Mass, u64>;
    const auto first = segment * shape.classes;
    for (i64 c = 0; c < classes; ++c) {
      out.class_rows.push_back(class_rows[index(first + c)]);
      out.rows += out.class_rows.back();
    }
    const auto& mass = [this]() -> const std::vector<Mass>& {
      if constexpr (std::is_same_v<Mass, u64>) {
        return class_rows;
      } else {
        return class_mass;
      }
    }();
    out.class_mass.assign(mass.begin() + first, mass.begin() + first + classes);
    out.hits.reserve(index(shape.rules * classes));
    for (i64 rule = 0; rule < shape.rules; ++rule) {
      const auto from = hits.begin() + (segment * shape.rules + rule) * shape.classes;
      out.hits.insert(out.hits.end(), from, from + classes);
    }
    const auto ranked = top_k_hits.begin() + segment * shape.top_k;
    out.top_k_hits.assign(ranked, ranked + shape.top_k);
    const Segment& sums = segments[index(segment)];
    out.brier = to_u256(sums.brier);
    out.log_loss = to_u256(sums.log_loss);
    out.clipped = sums.clipped;
    out.outside_unit = sums.outside_unit;
    out.overflowed = sums.overflowed;
    return out;
  }

  /// The bins of a segment, one for each query.
  std::vector<BinTotals> finish_bins(i64 segment) const {
    std::vector<BinTotals> all;
    for (const BinPlace& place : shape.bins) {
      BinTotals totals;
      const auto from = bins.begin() + place.at(segment, 0, 0);
      for (auto bin = from; bin != from + place.sets * place.slots(); ++bin) {
        totals.rows.push_back(bin->rows);
        totals.mass.push_back(bin->mass);
        totals.right.push_back(bin->right);
        totals.confidence.push_back(to_u256(bin->confidence));
      }
      const auto moment = moments.begin() + place.moments_at(place.at(segment, 0, 0));
      for (i64 i = 0; place.query.moments && i < place.sets * place.slots(); ++i) {
        totals.right_confidence.push_back(to_u256(moment[i].right_confidence));
        totals.square.push_back(to_u256(moment[i].square));
        totals.spread.push_back(to_u256(moment[i].spread));
      }
      all.push_back(std::move(totals));
    }
    return all;
  }

  Shape shape;
  std::vector<u64> class_rows;   // [segment][class]
  std::vector<Mass> class_mass;  // [segment][class]; with weights
  std::vector<Mass> hits;        // [segment][rule][class]
  std::vector<Mass> top_k_hits;  // [segment][top_k]
  std::vector<Segment> segments;
  std::vector<Bin> bins;         // see BinPlace
  std::vector<Moments> moments;  // likewise
};

/// Sums that workers share: a copy for each where that is cheap, else fewer. A worker computes its
/// terms alone; where copies are shared it locks one for the additions of a block.
template <class Mass>
class SharedSums {
 public:
  SharedSums(const Shape& shape, int threads) {
    const u64 affordable = kSumsBytes / std::max<u64>(Sums<Mass>::bytes(shape), 1);
    const u64 copies = std::clamp<u64>(affordable, 1, static_cast<u64>(threads));
    for (u64 i = 0; i < copies; ++i) copies_.push_back(std::make_unique<Copy>(shape));
    shared_ = copies < static_cast<u64>(threads);
  }

  /// Calls add(sums) with a copy that no other worker has meanwhile.
  template <class Add>
  void with(int worker, const Add& add) {
    Copy& copy = *copies_[static_cast<std::size_t>(worker) % copies_.size()];
    std::unique_lock lock(copy.mutex, std::defer_lock);
    if (shared_) lock.lock();
    add(copy.sums);
  }

  const Sums<Mass>& merged() {
    for (; copies_.size() > 1; copies_.pop_back())
      copies_.front()->sums.merge(copies_.back()->sums);
    return copies_.front()->sums;
  }

 private:
  struct Copy {
    explicit Copy(const Shape& shape) : sums(shape) {}
    std::mutex mutex;
    Sums<Mass> sums;
  };
  std::vector<std::unique_ptr<Copy>> copies_;
  bool shared_ = false;
};

/// The masses of rows [row, row + rows) where they have weights; else they stay as they are, 1.
void load_masses(const TableView&, i64, i64, u64*) {}
void load_masses(const TableView& table, i64 row, i64 rows, u128* out) {
  for (i64 i = 0; i < rows; ++i) {
    const double weight = table.weights_f64 != nullptr
                              ? table.weights_f64[row + i]
                              : static_cast<double>(table.weights_f32[row + i]);
    const WeightMass mass = weight_mass(weight);
    CUPEL_ASSERT(mass.fault == WeightFault::kNone);
    out[i] = mass.mass;
  }
}

i64 cell_of(const TableView& table, i64 row) {
  return table.cells != nullptr ? static_cast<i64>(table.cells[row]) : 0;
}

ScoreMatrix matrix_of(const ArrayView& view) {
  return {view.data, view.dtype, view.strides.empty() ? 0 : view.strides[0],
          view.strides.size() < 2 ? 0 : view.strides[1]};
}

/// Rows of a task that reads about kTaskBytes: a multiple of a block.
i64 task_rows(i64 row_bytes, i64 block_rows) {
  const i64 blocks = kTaskBytes / std::max<i64>(row_bytes, 1) / block_rows;
  return std::max<i64>(blocks, 1) * block_rows;
}

TermSpec term_spec(const TableView& table, const RowSpec& spec) {
  TermSpec terms;
  terms.logits = table.logits;
  terms.ranks = !spec.thresholds.empty() || !spec.top_k.empty();
  terms.brier = spec.brier;
  terms.log_loss = spec.log_loss;
  for (const BinQuery& query : spec.bins) {
    terms.each_class = terms.each_class || query.points == BinPoints::kEachClass;
    terms.top =
        terms.top || query.points == BinPoints::kTop || query.points == BinPoints::kByPredicted;
    terms.predicts = terms.predicts || query.points == BinPoints::kByPredicted;
  }
  terms.ranks = terms.ranks || terms.top;
  CUPEL_ASSERT(spec.bins.empty() || spec.brier);
  terms.epsilon = probability_epsilon(table.scores.dtype);
  return terms;
}

// ---- binary problems, one or one for each label ------------------------------------------------

template <class Mass>
class BinaryPass {
 public:
  BinaryPass(const TableView& table, const RowSpec& spec, int threads)
      : table_(table),
        spec_(spec),
        terms_(term_spec(table, spec)),
        kernels_(cpu::row_kernels(cpu_level())),
        matrix_(matrix_of(table.scores)),
        labels_(table.task == Task::kBinary ? table.binary_labels : table.label_matrix),
        columns_(table.problems()),
        block_rows_(columns_ == 1 ? kBlockRows : kTileRows),
        exact_match_(spec.exact_match && table.task == Task::kMultilabel),
        one_cell_(table.cells == nullptr || table.cell_count == 1),
        floats_(sums_floats(table, spec, matrix_, one_cell_)),
        sums_(Shape{columns_ + (exact_match_ ? 1 : 0), table.cell_count, 2,
                    static_cast<i64>(spec.thresholds.size()), 0}
                  .with_bins(spec.bins),
              threads),
        workers_(static_cast<std::size_t>(threads)) {
    for (Worker& worker : workers_) {
      worker.tile = std::make_unique<Tile>();
      worker.mass.assign(index(block_rows_), Mass{1});
      worker.block = std::make_unique<ColumnBlock>();
      if (exact_match_) worker.all_right.resize(spec.thresholds.size() * index(block_rows_));
      if (!spec.bins.empty()) {
        worker.probabilities.resize(index(block_rows_));
        worker.bins = std::make_unique<OwnBins>();
      }
      if (floats_) {
        worker.float_block = std::make_unique<FloatBlock>();
        worker.floats.resize(index(kFloatBlockRows));
      }
    }
  }

  std::vector<std::vector<RowSums>> run(ThreadPool& pool) {
    const i64 rows_of_task = task_rows(columns_ * table_.scores.item_bytes, block_rows_);
    const i64 tasks = (table_.rows + rows_of_task - 1) / rows_of_task;
    pool.parallel_for(tasks, [&](int worker, i64 task) {
      const i64 end = std::min(table_.rows, (task + 1) * rows_of_task);
      i64 row = task * rows_of_task;
      if constexpr (std::is_same_v<Mass, u64>) {
        for (; floats_ && row < end; row += kFloatBlockRows) {
          const i64 rows = std::min(kFloatBlockRows, end - row);
          if (add_float_rows(worker, row, rows)) continue;
          for (i64 i = 0; i < rows; i += block_rows_) {
            add_rows(worker, row + i, std::min(block_rows_, rows - i));
          }
        }
      }
      for (; row < end; row += block_rows_) {
        add_rows(worker, row, std::min(block_rows_, end - row));
      }
    });
    const Sums<Mass>& total = sums_.merged();
    std::vector<std::vector<RowSums>> result(index(total.shape.problems));
    for (i64 p = 0; p < total.shape.problems; ++p) {
      for (i64 cell = 0; cell < total.shape.cells; ++cell) {
        const i64 segment = p * total.shape.cells + cell;
        RowSums sums = total.finish(segment, p < columns_ ? 2 : 1);
        if (p < columns_) sums.bins = total.finish_bins(segment);
        result[index(p)].push_back(std::move(sums));
      }
    }
    return result;
  }

 private:
  /// Slots of a query up to which a block has sums of its own: more would cost more to hand over
  /// than its rows do. A block's sums of confidences stay below 2^60.
  static constexpr i64 kFewSlots = 128;
  struct OwnBins {
    BinBlock terms;
    u64 confidence[kFewSlots + 1];
    u64 counts[kFewSlots + 1];  // rows, and from bit 32 on those that were right
  };

  struct Worker {
    std::unique_ptr<Tile> tile;
    std::vector<Mass> mass;  // [block_rows_]
    Buffer<u8> all_right;    // [rule][block_rows_]: so far all labels of the row are decided right
    std::unique_ptr<ColumnBlock> block;
    Buffer<double> probabilities;             // [block_rows_], where bins are asked for
    std::unique_ptr<OwnBins> bins;            // likewise
    std::unique_ptr<FloatBlock> float_block;  // where floats_
    Buffer<float> floats;                     // [kFloatBlockRows], likewise
  };

  /// Whether rows may go the way of cpu_bins_f32.hpp.
  static bool sums_floats(const TableView& table, const RowSpec& spec, const ScoreMatrix& matrix,
                          bool one_cell) {
    const bool f32 = matrix.dtype == DType::kF32;
    const bool half = matrix.dtype == DType::kF16 || matrix.dtype == DType::kBF16;
    const i64 size = f32 ? sizeof(float) : sizeof(u16);
    bool few = true;
    for (const BinQuery& query : spec.bins) {
      few = few && query.points == BinPoints::kPositive && query.bins <= cpu::kMostFloatBins &&
            !query.moments;
    }
    return std::is_same_v<Mass, u64> && table.task == Task::kBinary && !table.logits && one_cell &&
           spec.brier && few && (f32 || half) && matrix.row_stride == size;
  }

  /// Up to kFloatBlockRows rows; false, and nothing done, where one is no probability.
  bool add_float_rows(int worker_index, i64 row, i64 rows) {
    Worker& worker = workers_[static_cast<std::size_t>(worker_index)];
    FloatBlock& block = *worker.float_block;
    const std::byte* scores = matrix_.data + row * matrix_.row_stride;
    const float* p = worker.floats.data();
    if (matrix_.dtype != DType::kF32) {
      float_kernels_.widen(matrix_.dtype, scores, rows, worker.floats.data());
    } else if (reinterpret_cast<std::uintptr_t>(scores) % alignof(float) == 0) {
      p = reinterpret_cast<const float*>(scores);
    } else {  // as a column of an npz mostly is
      std::memcpy(worker.floats.data(), scores, index(rows) * sizeof(float));
    }
    const u8* labels = labels_ + row;
    if (!float_kernels_.terms(p, labels, rows, block)) return false;
    cpu::FloatLosses losses;
    if (terms_.log_loss) losses = float_kernels_.losses(p, labels, rows, terms_.epsilon);
    sums_.with(worker_index, [&](Sums<Mass>& sums) {
      const u64 negatives = static_cast<u64>(rows) - block.positives;
      sums.class_rows[0] += negatives;
      sums.class_rows[1] += block.positives;
      for (i64 rule = 0; rule < sums.shape.rules; ++rule) {
        const auto d = float_kernels_.decisions(p, labels, rows, spec_.thresholds[index(rule)]);
        sums.hits_of(0, rule, 0) += negatives - (d.positive - d.true_positive);
        sums.hits_of(0, rule, 1) += d.true_positive;
      }
      sums.segments[0].brier += block.brier;
      sums.segments[0].log_loss += losses.sum;
      sums.segments[0].clipped += losses.clipped;
      for (const BinPlace& place : sums.shape.bins) {
        float_kernels_.count(p, rows, place.query, block);
        for (i64 slot = 0; slot < place.slots(); ++slot) {
          const u64 packed = block.even[index(slot)];
          auto& bin = sums.bins[index(place.at(0, 0, slot))];
          bin.rows += cpu::float_rows(packed);
          bin.mass += cpu::float_rows(packed);
          bin.right += cpu::float_right(packed);
          bin.confidence += slot == place.slots() - 1 ? cpu::float_rows(packed) << kConfidenceBits
                                                      : cpu::float_confidence(packed);
        }
        sums.bins[index(place.at(0, 0, 1))].confidence += block.rest;
      }
    });
    return true;
  }

  void add_rows(int worker_index, i64 row, i64 rows) {
    Worker& worker = workers_[static_cast<std::size_t>(worker_index)];
    ColumnBlock& block = *worker.block;
    block.rows = rows;
    load_masses(table_, row, rows, worker.mass.data());
    std::fill(worker.all_right.begin(), worker.all_right.end(), u8{1});
    for (i64 first = 0; first < columns_; first += kTileColumns) {
      const i64 width = std::min(kTileColumns, columns_ - first);
      kernels_.load_columns(matrix_, row, rows, first, width, worker.tile->scores, kTileStride);
      kernels_.load_labels(labels_ + row * columns_ + first, columns_, rows, width,
                           worker.tile->labels, kTileStride);
      for (i64 c = 0; c < width; ++c) {
        block.score = worker.tile->scores + c * kTileStride;
        block.label = worker.tile->labels + c * kTileStride;
        const cpu::BlockSums block_sums = kernels_.terms(terms_, block);
        if (exact_match_) match(worker);
        if (!spec_.bins.empty()) {
          kernels_.probabilities(terms_, block, worker.probabilities.data());
        }
        sums_.with(worker_index, [&](Sums<Mass>& sums) {
          add_block(sums, first + c, row, worker, block_sums);
          for (const BinPlace& place : sums.shape.bins) {
            add_bins(sums, place, first + c, row, worker);
          }
        });
      }
    }
    if (exact_match_) {
      sums_.with(worker_index, [&](Sums<Mass>& sums) { add_match(sums, row, rows, worker); });
    }
  }

  void add_block(Sums<Mass>& sums, i64 problem, i64 row, const Worker& worker,
                 const cpu::BlockSums& block_sums) const {
    if (!one_cell_) return add_rows_of_cells(sums, problem, row, worker);
    const ColumnBlock& block = *worker.block;
    if constexpr (std::is_same_v<Mass, u64>) {
      add_counts(sums, problem, block, block_sums);
    } else {
      add_masses(sums, problem, block, worker.mass.data());
    }
    auto& segment = sums.segments[index(problem)];
    segment.clipped += cpu::clipped_count(block_sums.flags);
    segment.outside_unit += cpu::outside_count(block_sums.flags);
    if (cpu::long_count(block_sums.flags) != 0) {
      for (i64 i = 0; i < block.rows; ++i) {
        if (cpu::long_count(block.flags[i]) != 0) {
          add_long_loss(sums, problem, block, i, worker.mass[index(i)]);
        }
      }
    }
  }

  void add_bins(Sums<Mass>& sums, const BinPlace& place, i64 problem, i64 row,
                Worker& worker) const {
    const ColumnBlock& block = *worker.block;
    BinBlock& terms = worker.bins->terms;
    kernels_.bin_terms(place.query, block, worker.probabilities.data(), terms);
    bool few = false;
    if constexpr (std::is_same_v<Mass, u64>) {
      few = one_cell_ && place.slots() <= kFewSlots;
      if (few) add_few_bins(sums, place, problem, worker);
      if (few && !place.query.moments) return;
    }
    for (i64 i = 0; i < block.rows; ++i) {
      const i64 slot = static_cast<i64>(terms.slot[i]);
      if (slot == place.slots()) continue;
      const i64 segment = problem * sums.shape.cells + (one_cell_ ? 0 : cell_of(table_, row + i));
      const i64 at = place.at(segment, 0, slot);
      const bool right = terms.right[i] != 0;
      const Mass mass = worker.mass[index(i)];
      if (!few) sums.add_to_bin(at, terms.term[i], right, mass);
      if (!place.query.moments) continue;
      const double p = worker.probabilities[index(i)];
      const double confidence = place.query.points == BinPoints::kTop
                                    ? top_of_binary(p, block.label[i] != 0).confidence
                                    : p;
      sums.add_moments(place.moments_at(at), confidence, terms.term[i], right, mass);
    }
  }

  /// A block's rows into narrow sums of the block's own, then these into the wide ones.
  void add_few_bins(Sums<Mass>& sums, const BinPlace& place, i64 problem, Worker& worker) const {
    const BinBlock& terms = worker.bins->terms;
    u64* const confidence = worker.bins->confidence;
    u64* const counts = worker.bins->counts;
    std::fill_n(confidence, place.slots() + 1, u64{0});
    std::fill_n(counts, place.slots() + 1, u64{0});
    for (i64 i = 0; i < worker.block->rows; ++i) {
      const std::size_t slot = terms.slot[i];
      confidence[slot] += terms.term[i];
      counts[slot] += terms.right[i] << 32 | 1;
    }
    for (i64 slot = 0; slot < place.slots(); ++slot) {
      auto& bin = sums.bins[index(place.at(problem * sums.shape.cells, 0, slot))];
      bin.rows += counts[slot] & 0xFFFF'FFFFu;
      bin.mass += counts[slot] & 0xFFFF'FFFFu;
      bin.right += counts[slot] >> 32;
      bin.confidence += confidence[slot];
    }
  }

  void add_counts(Sums<u64>& sums, i64 problem, const ColumnBlock& block,
                  const cpu::BlockSums& block_sums) const {
    const u64 negatives = static_cast<u64>(block.rows) - block_sums.positives;
    sums.class_rows[index(problem * 2)] += negatives;
    sums.class_rows[index(problem * 2 + 1)] += block_sums.positives;
    for (i64 rule = 0; rule < sums.shape.rules; ++rule) {
      const cpu::Decisions d = kernels_.decisions(block, spec_.thresholds[index(rule)]);
      sums.hits_of(problem, rule, 0) += negatives - (d.positive - d.true_positive);
      sums.hits_of(problem, rule, 1) += d.true_positive;
    }
    sums.segments[index(problem)].brier += block_sums.brier;
    sums.segments[index(problem)].log_loss += block_sums.loss;
  }

  void add_masses(Sums<u128>& sums, i64 problem, const ColumnBlock& block, const u128* mass) const {
    u128 all = 0;
    u128 of_positives = 0;
    u64 positives = 0;
    for (i64 i = 0; i < block.rows; ++i) {
      all += mass[i];
      of_positives += mass_if(block.label[i] != 0, mass[i]);
      positives += block.label[i];
    }
    const std::size_t at = index(problem * 2);
    sums.class_rows[at] += static_cast<u64>(block.rows) - positives;
    sums.class_rows[at + 1] += positives;
    sums.class_mass[at] += all - of_positives;
    sums.class_mass[at + 1] += of_positives;
    for (i64 rule = 0; rule < sums.shape.rules; ++rule) {
      const double threshold = spec_.thresholds[index(rule)];
      u128 called = 0;
      u128 rightly = 0;
      for (i64 i = 0; i < block.rows; ++i) {
        const u128 decided = mass_if(decides_positive(block.score[i], threshold), mass[i]);
        called += decided;
        rightly += mass_if(block.label[i] != 0, decided);
      }
      sums.hits_of(problem, rule, 0) += (all - of_positives) - (called - rightly);
      sums.hits_of(problem, rule, 1) += rightly;
    }
    if (terms_.brier) {
      BlockProduct product;
      for (i64 i = 0; i < block.rows; ++i) product.add(mass[i], block.brier[i]);
      sums.segments[index(problem)].brier += product.value();
    }
    if (terms_.log_loss) {
      BlockProduct product;
      for (i64 i = 0; i < block.rows; ++i) product.add(mass[i], block.loss[i]);
      sums.segments[index(problem)].log_loss += product.value();
    }
  }

  void add_rows_of_cells(Sums<Mass>& sums, i64 problem, i64 row, const Worker& worker) const {
    const ColumnBlock& block = *worker.block;
    for (i64 i = 0; i < block.rows; ++i) {
      const Mass mass = worker.mass[index(i)];
      const i64 at = problem * sums.shape.cells + cell_of(table_, row + i);
      const i64 label = static_cast<i64>(block.label[i]);
      sums.count_row(at, label, mass);
      for (i64 rule = 0; rule < sums.shape.rules; ++rule) {
        const bool positive = decides_positive(block.score[i], spec_.thresholds[index(rule)]);
        sums.hits_of(at, rule, label) += mass_if(positive == (label != 0), mass);
      }
      if (!terms_.brier && !terms_.log_loss) continue;
      auto& segment = sums.segments[index(at)];
      if (terms_.brier) add_product(segment.brier, mass, block.brier[i]);
      if (terms_.log_loss) add_product(segment.log_loss, mass, block.loss[i]);
      if (block.flags[i] != 0) {
        segment.clipped += cpu::clipped_count(block.flags[i]);
        segment.outside_unit += cpu::outside_count(block.flags[i]);
        if (cpu::long_count(block.flags[i]) != 0) add_long_loss(sums, at, block, i, mass);
      }
    }
  }

  static void add_long_loss(Sums<Mass>& sums, i64 at, const ColumnBlock& block, i64 i, Mass mass) {
    sums.add_long_loss(at, mass, log_loss_of_logit(block.score[i], block.label[i] != 0));
  }

  void match(Worker& worker) const {
    const ColumnBlock& block = *worker.block;
    u8* right = worker.all_right.data();
    for (const double threshold : spec_.thresholds) {
      for (i64 i = 0; i < block.rows; ++i) {
        const bool decided_right =
            decides_positive(block.score[i], threshold) == (block.label[i] != 0);
        right[i] = decided_right ? right[i] : u8{0};
      }
      right += block_rows_;
    }
  }

  void add_match(Sums<Mass>& sums, i64 row, i64 rows, const Worker& worker) const {
    for (i64 i = 0; i < rows; ++i) {
      const Mass mass = worker.mass[index(i)];
      const i64 at = columns_ * sums.shape.cells + cell_of(table_, row + i);
      sums.count_row(at, 0, mass);
      for (i64 rule = 0; rule < sums.shape.rules; ++rule) {
        if (worker.all_right[index(rule * block_rows_ + i)] != 0) sums.hits_of(at, rule, 0) += mass;
      }
    }
  }

  const TableView& table_;
  const RowSpec& spec_;
  TermSpec terms_;
  const RowKernels& kernels_;
  ScoreMatrix matrix_;
  const u8* labels_;  // [rows, columns_]
  i64 columns_;
  i64 block_rows_;
  bool exact_match_;
  bool one_cell_;
  bool floats_;
  const cpu::FloatBinKernels& float_kernels_ = cpu::float_bin_kernels(cpu_level());
  SharedSums<Mass> sums_;
  std::vector<Worker> workers_;
};

// ---- multiclass --------------------------------------------------------------------------------

template <class Mass>
class MulticlassPass {
 public:
  MulticlassPass(const TableView& table, const RowSpec& spec, int threads)
      : table_(table),
        spec_(spec),
        terms_(term_spec(table, spec)),
        kernels_(cpu::row_kernels(cpu_level())),
        matrix_(matrix_of(table.scores)),
        classes_(table.classes),
        wide_(cpu::wide_values(table.scores.dtype)),
        integer_(table.scores.dtype == DType::kI64 || table.scores.dtype == DType::kU64),
        in_place_(reads_in_place(matrix_)),
        softmax_f32_(table.sums_softmax_f32() && (terms_.brier || terms_.log_loss)),
        load_rows_(classes_ <= kFewClasses ? kClassBlockRows : kLoadRows),
        sums_(Shape{1, table.cell_count, table.classes, static_cast<i64>(spec.thresholds.size()),
                    static_cast<i64>(spec.top_k.size())}
                  .with_bins(spec.bins),
              threads),
        workers_(static_cast<std::size_t>(threads)) {
    CUPEL_ASSERT(spec.thresholds.size() <= 1);
    for (Worker& worker : workers_) {
      worker.block = std::make_unique<ClassBlock>();
      worker.mass.assign(index(kClassBlockRows), Mass{1});
      if (softmax_f32_) {
        if (wide_) worker.softmax_floats.resize(index(classes_));
      } else if (terms_.logits && terms_.brier) {
        worker.scratch.resize(index(classes_));
      }
      if (terms_.each_class) {
        worker.each_p.resize(index(kClassBlockRows * classes_));
        worker.block->each_p = worker.each_p.data();
      }
      if (in_place_) continue;
      if (wide_) {
        worker.doubles.resize(index(load_rows_ * classes_));
      } else {
        worker.floats.resize(index(load_rows_ * classes_));
      }
    }
  }

  std::vector<std::vector<RowSums>> run(ThreadPool& pool) {
    const i64 rows_of_task = task_rows(classes_ * table_.scores.item_bytes, kClassBlockRows);
    const i64 tasks = (table_.rows + rows_of_task - 1) / rows_of_task;
    pool.parallel_for(tasks, [&](int worker, i64 task) {
      const i64 end = std::min(table_.rows, (task + 1) * rows_of_task);
      for (i64 row = task * rows_of_task; row < end; row += kClassBlockRows) {
        add_rows(worker, row, std::min(kClassBlockRows, end - row));
      }
    });
    const Sums<Mass>& total = sums_.merged();
    std::vector<std::vector<RowSums>> result(1);
    for (i64 cell = 0; cell < total.shape.cells; ++cell) {
      RowSums sums = total.finish(cell, classes_);
      sums.softmax_f32 = table_.sums_softmax_f32();
      sums.bins = total.finish_bins(cell);
      result[0].push_back(std::move(sums));
    }
    return result;
  }

 private:
  /// Rows that are converted together: along columns they share cache lines.
  static constexpr i64 kLoadRows = 16;
  static constexpr i64 kFewClasses = 64;

  struct Worker {
    Buffer<float> floats;          // [load_rows_][classes]
    Buffer<double> doubles;        // [load_rows_][classes]
    Buffer<double> scratch;        // [classes]
    Buffer<float> softmax_floats;  // [classes], where doubles are rounded to float32
    Buffer<double> each_p;         // [kClassBlockRows][classes], where every class has bins
    std::vector<Mass> mass;        // [kClassBlockRows]
    std::unique_ptr<ClassBlock> block;
  };

  static bool reads_in_place(const ScoreMatrix& matrix) {
    const i64 size = matrix.dtype == DType::kF32 ? 4 : matrix.dtype == DType::kF64 ? 8 : 0;
    return size != 0 && matrix.column_stride == size && matrix.row_stride % size == 0 &&
           reinterpret_cast<std::uintptr_t>(matrix.data) % static_cast<std::uintptr_t>(size) == 0;
  }

  void add_rows(int worker_index, i64 row, i64 rows) {
    Worker& worker = workers_[static_cast<std::size_t>(worker_index)];
    ClassBlock& block = *worker.block;
    block.rows = rows;
    block.labels = table_.class_labels + row;
    load_masses(table_, row, rows, worker.mass.data());
    if (terms_.ranks || terms_.brier || terms_.log_loss) {
      for (i64 i = 0; i < rows; i += load_rows_) {
        wide_ ? read_rows<double>(worker, row, i, kernels_.load_rows_f64, kernels_.class_row_f64,
                                  softmax_kernels_.class_row_f64)
              : read_rows<float>(worker, row, i, kernels_.load_rows_f32, kernels_.class_row_f32,
                                 softmax_kernels_.class_row_f32);
      }
      if (terms_.log_loss) kernels_.class_losses(terms_, block);
    }
    sums_.with(worker_index, [&](Sums<Mass>& sums) { add_block(sums, row, worker); });
  }

  /// Rows i and after of the block, at most load_rows_.
  template <class T, class Load, class Read, class ReadF32>
  void read_rows(Worker& worker, i64 row, i64 i, Load load_rows, Read read_row,
                 ReadF32 read_row_softmax_f32) const {
    ClassBlock& block = *worker.block;
    const i64 rows = std::min(load_rows_, block.rows - i);
    const T* values = nullptr;
    i64 stride = classes_;
    if (in_place_) {
      values = reinterpret_cast<const T*>(matrix_.data + (row + i) * matrix_.row_stride);
      stride = matrix_.row_stride / static_cast<i64>(sizeof(T));
    } else {
      T* to = nullptr;
      if constexpr (std::is_same_v<T, double>) {
        to = worker.doubles.data();
      } else {
        to = worker.floats.data();
      }
      load_rows(matrix_, row + i, rows, classes_, to);
      values = to;
    }
    for (i64 r = 0; r < rows; ++r) {
      if (softmax_f32_) {
        read_row_softmax_f32(terms_, values + r * stride, classes_, worker.softmax_floats.data(),
                             block, i + r);
      } else {
        read_row(terms_, values + r * stride, classes_, worker.scratch.data(), block, i + r);
      }
      if (integer_ && terms_.ranks) {  // the doubles may have lost the order
        block.rank[i + r] = cpu::integer_rank(matrix_, row + i + r, classes_, block.labels[i + r]);
      }
    }
  }

  void add_block(Sums<Mass>& sums, i64 row, const Worker& worker) const {
    const ClassBlock& block = *worker.block;
    for (i64 i = 0; i < block.rows; ++i) {
      const Mass mass = worker.mass[index(i)];
      const i64 cell = cell_of(table_, row + i);
      const i64 label = block.labels[i];
      sums.count_row(cell, label, mass);
      if (terms_.ranks) {
        const i64 rank = block.rank[i];
        if (sums.shape.rules != 0 && rank == 0) sums.hits_of(cell, 0, label) += mass;
        for (i64 k = 0; k < sums.shape.top_k; ++k) {
          if (rank < spec_.top_k[index(k)]) {
            sums.top_k_hits[index(cell * sums.shape.top_k + k)] += mass;
          }
        }
      }
      auto& segment = sums.segments[index(cell)];
      if (terms_.brier) add_product(segment.brier, mass, block.brier[i]);
      if (terms_.log_loss) add_product(segment.log_loss, mass, block.loss[i]);
      if ((terms_.brier || terms_.log_loss) && block.flags[i] != 0) {
        segment.clipped += cpu::clipped_count(block.flags[i]);
        segment.outside_unit += cpu::outside_count(block.flags[i]);
        if (cpu::long_count(block.flags[i]) != 0) {
          sums.add_long_loss(cell, mass, block.loss_value[i]);
        }
      }
      if (!sums.shape.bins.empty() && cpu::outside_count(block.flags[i]) == 0) {
        for (const BinPlace& place : sums.shape.bins) add_bins(sums, place, cell, i, mass, block);
      }
    }
  }

  void add_bins(Sums<Mass>& sums, const BinPlace& place, i64 cell, i64 i, Mass mass,
                const ClassBlock& block) const {
    const i64 label = block.labels[i];
    if (place.query.points == BinPoints::kEachClass) {
      const double* p = block.each_p + i * classes_;
      for (i64 k = 0; k < classes_; ++k) {
        sums.add_to_bin(place, cell, k, p[k], k == label, mass);
      }
      return;
    }
    const i64 predicted = block.predicted[i];
    const i64 set = place.query.points == BinPoints::kByPredicted ? predicted : 0;
    sums.add_to_bin(place, cell, set, block.top_p[i], predicted == label, mass);
  }

  const TableView& table_;
  const RowSpec& spec_;
  TermSpec terms_;
  const RowKernels& kernels_;
  ScoreMatrix matrix_;
  i64 classes_;
  bool wide_;
  bool integer_;
  bool in_place_;
  bool softmax_f32_;
  const cpu::SoftmaxF32Kernels& softmax_kernels_ = cpu::softmax_f32_kernels(cpu_level());
  i64 load_rows_;
  SharedSums<Mass> sums_;
  std::vector<Worker> workers_;
};

template <class Mass>
std::vector<std::vector<RowSums>> all_sums(const TableView& table, const RowSpec& spec,
                                           ThreadPool& pool) {
  if (table.task == Task::kMulticlass) {
    return MulticlassPass<Mass>(table, spec, pool.threads()).run(pool);
  }
  return BinaryPass<Mass>(table, spec, pool.threads()).run(pool);
}

Error out_of_memory(const TableView& table) {
  return {ErrorCode::kInternal, "row sums",
          "no memory for " + std::to_string(table.problems()) + " classes or labels in " +
              std::to_string(table.cell_count) + " groups",
          "ask for fewer groups, or use fewer threads"};
}

}  // namespace

Result<std::vector<std::vector<RowSums>>> cpu_row_sums(const TableView& table, const RowSpec& spec,
                                                       ThreadPool& pool) {
  const i64 most = table.logits ? UnitSum::kMaxTerms : std::numeric_limits<i32>::max();
  if (table.task == Task::kMulticlass && table.classes > most) {
    return input_error("row sums",
                       "a row has " + std::to_string(table.classes) + " classes, more than " +
                           std::to_string(most),
                       "leave classes out");
  }
  try {
    if (!spec.tempering.factors.empty()) return cpu_tempered_sums(table, spec, pool);
    return table.weighted() ? all_sums<u128>(table, spec, pool) : all_sums<u64>(table, spec, pool);
  } catch (const std::bad_alloc&) {
    return out_of_memory(table);
  } catch (const std::length_error&) {
    return out_of_memory(table);
  }
}

}  // namespace cupel
