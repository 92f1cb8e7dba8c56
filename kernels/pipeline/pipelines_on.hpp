// The pipelines of pipelines.hpp over an executor: which kernels run on a table, in which order.
// The executor says where: on a CUDA device (cuda_exec.cuh) or, for tests, on the host.
//
// An executor has
//   ok(), status(), recover(), free_bytes()
//   allocate(bytes), release(p, bytes)              stream-ordered; null once it has failed
//   zero(p, bytes), to_device(to, from, bytes), to_host(to, from, bytes)    to_host waits
//   part_rows()                                     rows of parts that were asked for; 0: none were
//   begin_copies()                                  to memory that was allocated before
//   start_copy(copy)                                of a column's part, beside what is computed
//   copies_itself(copy)                             whether start_copy() would not take any time
//   mark_copies() -> mark, await_copies(mark)       what comes then is after the copies before it
//   finish_copies()                                 waits until no host memory is being read
//   for_each(n, functor)                            functor(i) for i in [0, n)
//   launch(program, blocks)                         a program of block.hpp, persistent in `blocks`
//   blocks_for(program)                             how many blocks fill the device
//   most_shared_bytes()                             that a block may have
//   sort(keys, scratch, starts, bits)               each segment ascending, in place
//   sort_pairs(keys, values, key_scratch, value_scratch, starts, bits)
//   select(n, predicate, out) -> count              indices for which it holds, ascending
//   scan_masses(n, mass_of, out)                    out[i] = sum of mass_of(j), j < i; n + 1 values
// and after a failure does nothing, so that only results need be checked.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "host_copy.hpp"
#include "pipeline/conformal_rows.hpp"
#include "pipeline/conformal_sets.hpp"
#include "pipeline/embedding_on.hpp"
#include "pipeline/histogram.hpp"
#include "pipeline/memory.hpp"
#include "pipeline/merge.hpp"
#include "pipeline/pairs.hpp"
#include "pipeline/partition.hpp"
#include "pipeline/rows.hpp"
#include "pipeline/rows_f32.hpp"
#include "pipeline/scores.hpp"
#include "pipeline/sorted.hpp"
#include "pipeline/tempered_rows.hpp"
#include "pipelines.hpp"

namespace cupel::device {

/// Rows from which a histogram of 16-bit scores is cheaper than sorting them, for each segment.
inline constexpr i64 kLeastHistogramRows = i64{1} << 17;
/// Counters of histograms that are made at a time.
inline constexpr i64 kMostHistograms = 64;
/// Bytes of a column's part: enough to fill the bus, few enough that computing starts early.
inline constexpr i64 kPartBytes = i64{1} << 25;
inline constexpr i64 kMostParts = 4096;
/// Pairs of rows, times classes, of one launch: below a second on a device that is slow in double.
inline constexpr i64 kPairWork = i64{1} << 35;
/// Bytes of what comes home of rows at a time, and of the masses of rows that are in no shared
/// memory.
inline constexpr i64 kSliceBytes = i64{1} << 25;
inline constexpr i64 kScratchBytes = i64{1} << 27;
/// Shared memory that a block may use for the masses of rows: several blocks fit a multiprocessor.
inline constexpr i64 kMostMassBytes = 48 * 1024;
/// Segments up to which groups of parts are sorted one after the other and merged.
inline constexpr i64 kMostMergedSegments = 2048;

/// Calls visit(element) with the usual types fixed where code is compiled.
template <class Visit>
void with_element(Element element, Visit visit) {
  switch (element) {
    case Element::kF16:
      return visit(FixedElement<Element::kF16>{});
    case Element::kBF16:
      return visit(FixedElement<Element::kBF16>{});
    case Element::kF32:
      return visit(FixedElement<Element::kF32>{});
    case Element::kF64:
      return visit(FixedElement<Element::kF64>{});
    default:
      return visit(AnyElement{element});
  }
}

/// Calls visit(std::integral_constant) with how many threads share a row of so many classes.
template <class Visit>
void with_row_group(i64 classes, Visit visit) {
  switch (row_group(classes)) {
    case 1:
      return visit(std::integral_constant<int, 1>{});
    case 8:
      return visit(std::integral_constant<int, 8>{});
    default:
      return visit(std::integral_constant<int, 32>{});
  }
}

/// The mass of a sorted row's weight.
struct MassOfWeight {
  const u64* weights;  ///< bits of doubles
  CUPEL_HD u128 operator()(i64 i) const { return weight_mass(double_from_bits(weights[i])).mass; }
};

/// out[i] = values[at[i]].
template <class T>
struct Pick {
  const T* values;
  const u64* at;
  T* out;
  CUPEL_HD void operator()(i64 i) const { out[i] = values[at[i]]; }
};

/// first[s] = how many heads lie before starts[s].
struct FindFirstHeads {
  const u64* heads;
  i64 head_count;
  const i64* starts;
  i64* first;
  CUPEL_HD void operator()(i64 s) const {
    first[s] = keys_below<false>(heads, head_count, static_cast<u64>(starts[s]));
  }
};

template <class Exec>
class PipelinesOn final : public Pipelines {
 public:
  template <class T>
  using Memory = Array<Exec, T>;

  template <class... A>
  explicit PipelinesOn(A&&... arguments) : exec_(std::forward<A>(arguments)...) {}

  const Status& status() const override { return exec_.status(); }
  void recover() override {
    drop_table();
    exec_.recover();
  }
  /// The columns that are there count as free: what a call needs includes its columns, and either
  /// these are them or they make way.
  i64 free_bytes() override {
    return exec_.free_bytes() + scores_.memory.bytes() + softmax_.bytes() + labels_.memory.bytes() +
           class_labels_.memory.bytes() + weights_f64_.memory.bytes() +
           weights_f32_.memory.bytes() + cells_.memory.bytes() + row_keys_.memory.bytes() +
           embedding_.bytes();
  }

  // ---- columns
  // -----------------------------------------------------------------------------------

  bool set_table(const HostTable& table, bool keep) override {
    if (!keep || arrived_ < steps_.size()) drop_table();
    host_ = table;
    place_columns();
    if (!exec_.ok()) drop_table();
    return exec_.ok();
  }

  void drop_table() override {
    exec_.finish_copies();
    copies_.clear();
    steps_.clear();
    issued_ = arrived_ = 0;
    scores_come_ = false;
    scores_ = {};
    softmax_ = {};
    labels_ = {};
    class_labels_ = {};
    weights_f64_ = {};
    weights_f32_ = {};
    cells_ = {};
    row_keys_ = {};
    device_ = TableOnDevice{};
    embedding_.drop();
  }

  // ---- scores that are not finite
  // ------------------------------------------------------------------

  bool bad_rows(BadRows& out) override {
    out = BadRows{};
    if (device_.rows == 0) return exec_.ok();
    const EndOfCopies end{exec_};
    Memory<u64> found(exec_, 2);
    exec_.zero(found.data(), found.bytes());
    with_element(device_.element, [&](auto element) {
      each_part([&](const TableOnDevice& part) {
        run(CountBadScores<decltype(element)>{part, element, found.data()});
      });
    });
    u64 count = 0;
    exec_.to_host(&count, found.data(), sizeof count);
    if (!exec_.ok() || count == 0) return exec_.ok();
    const u64 start[2] = {0, ~u64{0}};
    exec_.to_device(found.data(), start, sizeof start);
    exec_.for_each(device_.rows, FindBadRows{device_, found.data(), found.data() + 1});
    u64 rows[2] = {0, 0};
    exec_.to_host(rows, found.data(), sizeof rows);
    if (!exec_.ok()) return false;
    out.rows = static_cast<i64>(rows[0]);
    out.first_row = static_cast<i64>(rows[1]);
    // One row is looked at again, on the host.
    for (i64 column = host_.columns - 1; column >= 0; --column) {
      alignas(8) unsigned char value[8] = {};
      std::memcpy(value,
                  host_.scores + out.first_row * host_.row_stride + column * host_.column_stride,
                  static_cast<std::size_t>(element_size(host_.element)));
      if (is_bad_score(host_.element, value)) out.first_column = column;
    }
    return true;
  }

  // ---- rankings
  // ------------------------------------------------------------------------------------

  bool runs(i64 first, i64 last, HostRuns& out) override {
    const EndOfCopies end{exec_};
    return has_narrow_keys() ? runs_of<u32>(first, last, out.narrow)
                             : runs_of<u64>(first, last, out.wide);
  }

  bool has_histograms(i64 problems) const override {
    return counts_halves(ProblemBlock{0, problems, 1});
  }

  bool folds(i64 first, i64 last, const std::vector<RankQuery>& queries, HostFolds& out) override {
    const EndOfCopies end{exec_};
    if (has_narrow_keys()) {
      return host_.weighted() ? folds_of<u32, u128>(first, last, queries, out.weighted)
                              : folds_of<u32, u64>(first, last, queries, out.counted);
    }
    return host_.weighted() ? folds_of<u64, u128>(first, last, queries, out.weighted)
                            : folds_of<u64, u64>(first, last, queries, out.counted);
  }

  // ---- row sums
  // ------------------------------------------------------------------------------------

  bool row_sums(const RowWork& work, RowLayout& layout, std::vector<u64>& limbs) override {
    const EndOfCopies end{exec_};
    const bool multiclass = device_.task == TaskKind::kMulticlass;
    const bool exact = work.exact_match && device_.task == TaskKind::kMultilabel;
    layout = RowLayout{};
    layout.problems = device_.task == TaskKind::kMultilabel ? device_.columns + (exact ? 1 : 0) : 1;
    layout.cells = host_.cell_count;
    layout.classes = multiclass ? device_.columns : 2;
    layout.rules = static_cast<i64>(work.thresholds.size());
    layout.top_k = multiclass ? static_cast<i64>(work.top_k.size()) : 0;
    layout.mass_limbs = host_.weighted() ? 4 : 1;
    layout.term_limbs = host_.weighted() ? 7 : 4;
    Memory<BinPlace> bins = on_device(place_bins(work.bins, layout));
    const SlopeLayout slopes = slope_layout(layout);
    const i64 all_limbs = work.slopes ? slopes.at(layout.segments(), 0) : layout.total();
    Memory<u64> sums(exec_, all_limbs);
    Memory<double> thresholds = on_device(work.thresholds);
    Memory<i64> top_k = on_device(work.top_k);
    Memory<double> factors = on_device(work.factors);
    exec_.zero(sums.data(), sums.bytes());
    RowWorkOnDevice device_work;
    device_work.thresholds = thresholds.data();
    device_work.rules = layout.rules;
    device_work.top_k = top_k.data();
    device_work.top_k_count = layout.top_k;
    device_work.brier = work.brier;
    device_work.log_loss = work.log_loss;
    device_work.ranks = multiclass && (layout.rules != 0 || layout.top_k != 0);
    device_work.bins = bins.data();
    device_work.bin_queries = bins.size();
    for (const BinQuery& query : work.bins) {
      device_work.predicts = device_work.predicts || query.points == BinPoints::kTop ||
                             query.points == BinPoints::kByPredicted;
    }
    device_work.predicts = device_work.predicts && multiclass;
    device_work.epsilon = work.epsilon;
    // Shared memory holds all limbs or none; a quarter of a multiprocessor's, so that blocks
    // overlap.
    const bool in_shared = all_limbs * static_cast<i64>(sizeof(u64)) <=
                           std::min<i64>(exec_.most_shared_bytes(), 32'768);
    with_element(device_.element, [&](auto element) {
      using E = decltype(element);
      each_part([&](const TableOnDevice& part) {
        if (!work.factors.empty()) {
          with_row_group(part.columns, [&](auto group) {
            run(TemperedRowSums<group()>{part, device_work, factors.data(), work.slopes, layout,
                                         slopes, in_shared, sums.data()});
          });
          return;
        }
        if (!multiclass) {
          run(BinaryRowSums<E>{part, element, device_work, layout, in_shared, sums.data()});
        } else {
          with_row_group(part.columns, [&](auto group) {
            if (work.softmax_f32 && (work.brier || work.log_loss)) {
              run(MulticlassSoftmaxF32Sums<group(), E>{part, element, device_work, layout,
                                                       in_shared, sums.data()});
            } else {
              run(MulticlassRowSums<group(), E>{part, element, device_work, layout, in_shared,
                                                sums.data()});
            }
          });
        }
        if (exact) {
          exec_.for_each(part.rows, ExactMatchRows{part, device_work, layout, sums.data()});
        }
      });
    });
    limbs.assign(static_cast<std::size_t>(all_limbs), 0);
    exec_.to_host(limbs.data(), sums.data(), sums.bytes());
    return exec_.ok();
  }

  // ---- conformal prediction
  // ---------------------------------------------------------------------------

  bool conformal_scores(const std::vector<ConformalRule>& rules, const std::vector<u8>& wanted,
                        HostScores& out) override {
    const EndOfCopies end{exec_};
    const i64 count = static_cast<i64>(rules.size());
    const Memory<ConformalRule> device_rules = on_device(rules);
    const Wanted cells(*this, wanted);
    const i64 each = slice_rows(count * static_cast<i64>(sizeof(i64)), 0);
    const Memory<i64> scores(exec_, count * each);
    Buffer<i64> home(static_cast<std::size_t>(scores.size()));
    out.scores.clear();
    out.scores.resize(rules.size());
    const i64 all = cells.count(wanted, 0, device_.rows);
    for (Buffer<i64>& of : out.scores) of.resize(static_cast<std::size_t>(all));
    i64 at = 0;
    each_slice(each, [&](const TableOnDevice& slice, i64 first) {
      const ConformalRows rows = cells.rows(slice, first);
      with_row_group(rows.classes, [&](auto group) {
        using Program = ConformalScoreRows<group()>;
        const bool staged =
            rows.has_softmax() && Program::staged_bytes(rows.classes) <=
                                      std::min(exec_.most_shared_bytes(), kMostMassBytes);
        run(Program{rows, device_rules.data(), count, staged, scores.data()});
      });
      issue_next();
      exec_.to_host(home.data(), scores.data(), count * slice.rows * static_cast<i64>(sizeof(i64)));
      if (!exec_.ok()) return;
      for (i64 r = 0; r < count; ++r) {
        cells.take(wanted, first, slice.rows, home.data() + r * slice.rows,
                   out.scores[static_cast<std::size_t>(r)].data() + at);
      }
      at += cells.count(wanted, first, slice.rows);
    });
    out.outside = cells.outside();
    return exec_.ok();
  }

  bool conformal_row_sets(const std::vector<SetWork>& sets, const std::vector<u8>& wanted,
                          HostRowSets& out) override {
    const EndOfCopies end{exec_};
    const Wanted cells(*this, wanted);
    const i64 count = static_cast<i64>(sets.size());
    Buffer<u32> packed;
    Buffer<i32> ranks;
    out.packed.clear();
    out.packed.resize(sets.size());
    const i64 all = cells.count(wanted, 0, device_.rows);
    for (Buffer<u32>& of : out.packed) of.resize(static_cast<std::size_t>(all));
    out.ranks.resize(static_cast<std::size_t>(all));
    i64 at = 0;
    find_sets(sets, cells, [&](const ConformalRows& rows, i64 first, const SetsOfSlice& found) {
      issue_next();
      const i64 size = rows.table.rows;
      packed.resize(static_cast<std::size_t>(count * size));
      ranks.resize(static_cast<std::size_t>(size));
      exec_.to_host(packed.data(), found.packed, count * size * static_cast<i64>(sizeof(u32)));
      exec_.to_host(ranks.data(), found.ranks, size * static_cast<i64>(sizeof(i32)));
      if (!exec_.ok()) return;
      for (i64 s = 0; s < count; ++s) {
        cells.take(wanted, first, size, packed.data() + s * size,
                   out.packed[static_cast<std::size_t>(s)].data() + at);
      }
      cells.take(wanted, first, size, ranks.data(), out.ranks.data() + at);
      at += cells.count(wanted, first, size);
    });
    out.outside = cells.outside();
    return exec_.ok();
  }

  bool conformal_tallies(const std::vector<SetWork>& sets, const std::vector<u8>& wanted,
                         HostTallies& out) override {
    const EndOfCopies end{exec_};
    const Wanted cells(*this, wanted);
    const i64 count = static_cast<i64>(sets.size());
    out.classes = conformal_classes();
    const Memory<u64> tallies(exec_, host_.cell_count * count * out.kinds() * 2);
    exec_.zero(tallies.data(), tallies.bytes());
    find_sets(sets, cells, [&](const ConformalRows& rows, i64, const SetsOfSlice& found) {
      exec_.for_each(rows.table.rows,
                     TallySets{rows, count, found.packed, found.ranks, tallies.data()});
    });
    out.words.assign(static_cast<std::size_t>(tallies.size()), 0);
    exec_.to_host(out.words.data(), tallies.data(), tallies.bytes());
    out.outside = cells.outside();
    return exec_.ok();
  }

  // ---- pairs of rows
  // -----------------------------------------------------------------------------------

  bool pair_sum(i64 first, i64 last, double nu, i128& out) override {
    const EndOfCopies end{exec_};
    arrive_all();
    Memory<double> squares(exec_, device_.rows);
    Memory<u64> sums(exec_, Pairs::kSumLimbs);
    exec_.zero(sums.data(), sums.bytes());
    Pairs pairs = pairs_of(first, last, sums.data());
    pairs.squares = squares.data();
    pairs.minus_inverse = -1.0 / nu;
    exec_.for_each(device_.rows, SquareRows{pairs.p, pairs.classes, squares.data()});
    run_pairs(pairs);
    std::vector<u64> limbs(Pairs::kSumLimbs);
    exec_.to_host(limbs.data(), sums.data(), sums.bytes());
    u128 total = 0;
    for (int i = 0; i < Pairs::kSumLimbs; ++i) total += static_cast<u128>(limbs[i]) << (32 * i);
    // Each row of the range has a pair with each later one; every term was raised.
    const u128 count = static_cast<u128>(last - first) *
                       static_cast<u128>(2 * device_.rows - first - last - 1) / 2;
    out = static_cast<i128>(total) - static_cast<i128>(count * Pairs::kRaise);
    return exec_.ok();
  }

  bool pair_distances(i64 first, i64 last, bool within, u32 high, std::vector<u64>& out) override {
    const EndOfCopies end{exec_};
    arrive_all();
    Memory<u64> counts(exec_, static_cast<i64>(kDistanceBuckets));
    exec_.zero(counts.data(), counts.bytes());
    Pairs pairs = pairs_of(first, last, counts.data());
    pairs.within = within;
    pairs.high = high;
    run_pairs(pairs);
    out.assign(kDistanceBuckets, 0);
    exec_.to_host(out.data(), counts.data(), counts.bytes());
    return exec_.ok();
  }

  // ---- pairs of an embedding
  // ---------------------------------------------------------------------------

  bool set_embedding(const HostEmbedding& embedding, bool keep) override {
    if (!keep || !embedding_.is(embedding)) drop_table();
    return embedding_.set(embedding);
  }
  bool pair_cuts(const PairWork& work, const std::vector<float>& cuts, std::vector<u64>& pos,
                 std::vector<u64>& neg) override {
    return embedding_.cuts(work, cuts, pos, neg);
  }
  bool pair_ranks(const PairWork& work, HostRun<u32>& pos, HostRun<u32>& neg) override {
    return embedding_.ranks(work, pos, neg);
  }
  bool pair_list(const PairWork& work, const ListWork& list, HostPairList& out) override {
    return embedding_.list(work, list, out);
  }
  bool pair_nearest(const PairWork& work, const u32* wanted, HostNearest& out) override {
    return embedding_.nearest(work, wanted, out);
  }

  Exec& exec() { return exec_; }

 private:
  /// Pairs of the table's rows without what is to be done with them.
  Pairs pairs_of(i64 first, i64 last, u64* out) const {
    Pairs pairs;
    pairs.p = reinterpret_cast<const double*>(device_.scores);
    pairs.labels = device_.class_labels;
    pairs.rows = device_.rows;
    pairs.classes = device_.columns;
    pairs.first = first;
    pairs.last = last;
    pairs.out = out;
    return pairs;
  }

  /// Some rows of the range in each launch: none takes so long that a display's watchdog ends it.
  void run_pairs(const Pairs& pairs) {
    const i64 asked = exec_.part_rows();
    const i64 fitting = kPairWork / std::max<i64>(pairs.rows * pairs.classes, 1);
    const i64 each = asked > 0 ? asked : std::max<i64>(fitting, Pairs::kTile);
    for (i64 first = pairs.first; first < pairs.last && exec_.ok(); first += each) {
      Pairs own = pairs;
      own.first = first;
      own.last = std::min(pairs.last, first + each);
      run(own, own.tiles());
    }
  }

  // ---- conformal sets
  // ---------------------------------------------------------------------------------

  i64 conformal_classes() const { return host_.task == TaskKind::kBinary ? 2 : host_.columns; }

  /// Rows in wanted cells, on the device and on the host.
  class Wanted {
   public:
    Wanted(PipelinesOn& of, const std::vector<u8>& wanted)
        : of_(of), cells_(of.on_device(wanted)), outside_(of.exec_, 1) {
      of_.exec_.zero(outside_.data(), outside_.bytes());
    }
    /// Rows from `first` on.
    ConformalRows rows(const TableOnDevice& slice, i64 first) const {
      const u64* const keys = of_.row_keys_.memory.data();
      return {slice,
              of_.conformal_classes(),
              cells_.data(),
              keys != nullptr ? keys + first : nullptr,
              of_.host_.first_row + static_cast<u64>(first),
              outside_.data()};
    }
    bool has(const std::vector<u8>& wanted, i64 row) const {
      return wanted[of_.device_.cells == nullptr ? 0 : of_.host_.cells[row]] != 0;
    }
    i64 count(const std::vector<u8>& wanted, i64 first, i64 rows) const {
      i64 count = 0;
      for (i64 row = first; row < first + rows; ++row) count += has(wanted, row) ? 1 : 0;
      return count;
    }
    /// Copies the values of the wanted ones of rows [first, first + rows).
    template <class T>
    void take(const std::vector<u8>& wanted, i64 first, i64 rows, const T* from, T* to) const {
      for (i64 i = 0; i < rows; ++i) {
        if (has(wanted, first + i)) *to++ = from[i];
      }
    }
    u64 outside() const {
      u64 count = 0;
      of_.exec_.to_host(&count, outside_.data(), sizeof count);
      return count;
    }

   private:
    PipelinesOn& of_;
    Memory<u8> cells_;
    Memory<u64> outside_;
  };

  /// Rows of a slice, of which each has so many bytes of results and takes so many steps a class.
  i64 slice_rows(i64 row_bytes, i64 class_steps) const {
    const i64 steps = std::max<i64>(class_steps, 1) * conformal_classes();
    // Not so few that most of the device idles.
    const i64 rows =
        std::min(kSliceBytes / std::max<i64>(row_bytes, 1), std::max<i64>(kPairWork / steps, 64));
    return std::clamp<i64>(rows, 1, std::max<i64>(device_.rows, 1));
  }
  /// Calls visit(rows, first) for at most `each` rows at a time, in order, that are all there.
  template <class Visit>
  void each_slice(i64 each, const Visit& visit) {
    i64 first = 0;
    each_part([&](const TableOnDevice& part) {
      for (i64 row = 0; row < part.rows && exec_.ok(); row += each) {
        visit(rows_of(part, row, std::min(each, part.rows - row)), first + row);
      }
      first += part.rows;
    });
  }

  /// The sets of a slice's rows, on the device: [set][row] and [row].
  struct SetsOfSlice {
    u32* packed;
    i32* ranks;
  };

  /// Calls visit(rows, first, sets) for slice after slice.
  template <class Visit>
  void find_sets(const std::vector<SetWork>& sets, const Wanted& cells, const Visit& visit) {
    const i64 count = static_cast<i64>(sets.size());
    const i64 classes = conformal_classes();
    const auto is = [&](ThresholdOf by) {
      return std::any_of(sets.begin(), sets.end(), [by](const SetWork& s) { return s.by == by; });
    };
    const i64 each = slice_rows((count + 1) * 4 + (is(ThresholdOf::kRow) ? count * 8 : 0),
                                is(ThresholdOf::kLabel) ? classes : 1);
    const Memory<u32> packed(exec_, count * each);
    const Memory<i32> ranks(exec_, each);
    std::vector<Memory<i64>> thresholds;
    for (const SetWork& set : sets) {
      const i64 own = set.by == ThresholdOf::kRow ? each : set.threshold_count;
      thresholds.emplace_back(exec_, own);
      if (set.by == ThresholdOf::kRow) continue;
      exec_.to_device(thresholds.back().data(), set.thresholds, thresholds.back().bytes());
    }
    std::vector<SetOnDevice> list;
    for (std::size_t s = 0; s < sets.size(); ++s) {
      list.push_back({sets[s].rule, sets[s].by, sets[s].argmax_if_empty, thresholds[s].data()});
    }
    const Memory<SetOnDevice> device_sets = on_device(list);
    const bool many = classes > kMostPlacedClasses;
    const bool in_scratch = ConformalSetRows::bytes_with_masses(classes) >
                            std::min(exec_.most_shared_bytes(), kMostMassBytes);
    const i64 scratch_rows =
        std::min(each, std::max<i64>(kScratchBytes / (classes * i64{sizeof(i64)}), 1));
    const Memory<i64> scratch(exec_, many && in_scratch ? scratch_rows * classes : 0);
    each_slice(each, [&](const TableOnDevice& slice, i64 first) {
      for (std::size_t s = 0; s < sets.size(); ++s) {
        if (sets[s].by != ThresholdOf::kRow) continue;
        exec_.to_device(thresholds[s].data(), sets[s].thresholds + first,
                        slice.rows * static_cast<i64>(sizeof(i64)));
      }
      ConformalRows rows = cells.rows(slice, first);
      for (i64 s = 0; s < count || s == 0; s += kMostSetsAtOnce) {
        const SetsOfRows out{device_sets.data() + s, std::min(count - s, kMostSetsAtOnce),
                             packed.data() + s * slice.rows, ranks.data()};
        if (many) {
          const ConformalSetRows program{rows, out, in_scratch, scratch.data()};
          exec_.launch(program, std::min({slice.rows, exec_.blocks_for(program),
                                          in_scratch ? scratch_rows : slice.rows}));
        } else if (row_group(classes) == 1) {
          run(ConformalLabelSets<1>{rows, out});
        } else {
          run(ConformalLabelSets<8>{rows, out});
        }
        rows.outside = nullptr;  // counted once
      }
      visit(cells.rows(slice, first), first, SetsOfSlice{packed.data(), ranks.data()});
    });
  }

  // ---- running
  // ---------------------------------------------------------------------------------------

  template <class Program>
  void run(const Program& program) {
    exec_.launch(program, exec_.blocks_for(program));
  }
  /// With at most as many blocks as there are pieces of work.
  template <class Program>
  void run(const Program& program, i64 pieces) {
    if (pieces > 0) exec_.launch(program, std::min(pieces, exec_.blocks_for(program)));
  }

  template <class T>
  Memory<T> on_device(const std::vector<T>& values) {
    Memory<T> memory(exec_, static_cast<i64>(values.size()));
    exec_.to_device(memory.data(), values.data(), memory.bytes());
    return memory;
  }

  // ---- columns
  // ---------------------------------------------------------------------------------------

  /// A column on the device, and which one of the host it is.
  template <class T>
  struct Column {
    Memory<T> memory;
    const T* host = nullptr;
    i64 size = 0;
  };

  /// A column that has to be brought, of so many bytes a row.
  struct Coming {
    unsigned char* to;
    const unsigned char* from;
    i64 row_bytes;
  };

  template <class T>
  const T* place_column(const T* host, i64 each, Column<T>& column, std::vector<Coming>& coming) {
    const i64 size = host_.rows * each;
    if (host == nullptr || size == 0) {
      column = {};
      return nullptr;
    }
    if (column.host != host || column.size != size) {
      column = {};
      column = {Memory<T>(exec_, size), host, size};
      coming.push_back({reinterpret_cast<unsigned char*>(column.memory.data()),
                        reinterpret_cast<const unsigned char*>(host),
                        each * static_cast<i64>(sizeof(T))});
    }
    return column.memory.data();
  }

  /// The scores on the device, and which matrix of the host they are.
  struct Scores {
    Memory<unsigned char> memory;
    const unsigned char* host = nullptr;
    i64 rows = 0, columns = 0, row_stride = 0, column_stride = 0;
    Element element = Element::kF32;

    bool are(const HostTable& table) const {
      return host == table.scores && rows == table.rows && columns == table.columns &&
             row_stride == table.row_stride && column_stride == table.column_stride &&
             element == table.element;
    }
  };

  /// Makes room for the columns, and a list of the copies that bring those that are not there.
  void place_columns() {
    const i64 rows = host_.rows;
    const i64 size = element_size(host_.element);
    device_ = TableOnDevice{};
    device_.task = host_.task;
    device_.logits = host_.logits;
    device_.rows = rows;
    device_.columns = host_.columns;
    device_.element = host_.element;
    const bool by_columns = host_.columns > 1 && host_.row_stride == size;
    device_.row_stride = by_columns ? size : host_.columns * size;
    device_.column_stride = by_columns ? rows * size : size;
    const bool scores_come = !scores_.are(host_);
    if (scores_come) {
      softmax_ = {};
      scores_ = {};
      scores_ = {Memory<unsigned char>(exec_, rows * host_.columns * size),
                 host_.scores,
                 rows,
                 host_.columns,
                 host_.row_stride,
                 host_.column_stride,
                 host_.element};
    }
    std::vector<Coming> coming;
    device_.scores = scores_.memory.data();
    device_.labels = host_.task == TaskKind::kMultilabel
                         ? place_column(host_.label_matrix, host_.columns, labels_, coming)
                         : place_column(host_.binary_labels, 1, labels_, coming);
    device_.class_labels = place_column(host_.class_labels, 1, class_labels_, coming);
    device_.weights_f64 = place_column(host_.weights_f64, 1, weights_f64_, coming);
    device_.weights_f32 = place_column(host_.weights_f32, 1, weights_f32_, coming);
    const bool has_cells = host_.cells != nullptr && host_.cell_count > 1;
    device_.cells = place_column(has_cells ? host_.cells : nullptr, 1, cells_, coming);
    device_.cell_count = has_cells ? host_.cell_count : 1;
    place_column(host_.row_keys, 1, row_keys_, coming);
    if (exec_.ok() && rows > 0) plan_copies(coming, scores_come);
  }

  /// What comes together, and the mark behind it once it was asked for.
  struct Step {
    std::size_t copies_end = 0;
    i64 mark = -1;
  };

  /// The columns that say which segment a row is of come first, since rows are counted before they
  /// are placed: steps [0, parts) are those, steps [parts, 2 * parts) the scores.
  void plan_copies(const std::vector<Coming>& coming, bool scores_come) {
    const i64 rows = host_.rows;
    const i64 size = element_size(host_.element);
    copies_.clear();
    steps_.clear();
    issued_ = arrived_ = 0;
    scores_come_ = scores_come;
    if (coming.empty() && !scores_come) return;
    i64 widest = scores_come ? std::max<i64>(host_.columns * size, 1) : 1;
    for (const Coming& column : coming) widest = std::max(widest, column.row_bytes);
    part_rows_ = exec_.part_rows();
    if (part_rows_ <= 0) {
      part_rows_ = std::max<i64>(1, kPartBytes / widest);
      // Parts begin where columns are aligned.
      if (part_rows_ > 256) part_rows_ = part_rows_ / 256 * 256;
    }
    part_rows_ = std::max(part_rows_, (rows + kMostParts - 1) / kMostParts);
    for (i64 first = 0; first < rows; first += part_rows_) {
      const i64 count = std::min(part_rows_, rows - first);
      for (const Coming& column : coming) {
        HostCopy copy;
        copy.from.from = column.from + first * column.row_bytes;
        copy.from.item_bytes = copy.from.item_stride = count * column.row_bytes;
        copy.to = column.to + first * column.row_bytes;
        copies_.push_back(copy.flattened());
      }
      steps_.push_back({copies_.size()});
    }
    for (i64 first = 0; first < rows; first += part_rows_) {
      if (scores_come && host_.columns > 0) {
        copies_.push_back(scores_copy(first, std::min(part_rows_, rows - first)));
      }
      steps_.push_back({copies_.size()});
    }
  }

  HostCopy scores_copy(i64 first, i64 rows) const {
    const i64 size = element_size(host_.element);
    const bool by_columns = device_.column_stride != size;
    HostCopy copy;
    copy.from.from = host_.scores + first * host_.row_stride;
    copy.to = scores_.memory.data() + first * device_.row_stride;
    if (by_columns) {
      copy.from.lines = host_.columns;
      copy.from.line_stride = host_.column_stride;
      copy.from.item_bytes = copy.from.item_stride = rows * size;
      copy.pitch = device_.column_stride;
    } else {
      copy.from.lines = rows;
      copy.from.line_stride = host_.row_stride;
      copy.from.items = host_.columns;
      copy.from.item_stride = host_.column_stride;
      copy.from.item_bytes = size;
      copy.pitch = device_.row_stride;
    }
    return copy.flattened();
  }

  /// Asks for the copies of the next step.
  void issue() {
    if (issued_ == 0) exec_.begin_copies();
    Step& step = steps_[issued_];
    const std::size_t begin = first_copy(issued_);
    for (std::size_t i = begin; i < step.copies_end; ++i) exec_.start_copy(copies_[i]);
    if (step.copies_end != begin) {
      step.mark = exec_.mark_copies();
    } else if (issued_ > 0) {
      step.mark = steps_[issued_ - 1].mark;  // nothing comes: those before are waited for
    }
    ++issued_;
  }
  std::size_t first_copy(std::size_t step) const {
    return step == 0 ? 0 : steps_[step - 1].copies_end;
  }
  bool costs_nothing(std::size_t step) {
    for (std::size_t i = first_copy(step); i < steps_[step].copies_end; ++i) {
      if (!exec_.copies_itself(copies_[i])) return false;
    }
    return true;
  }

  /// What is computed from here on comes after a step and those before it. Copies that take the
  /// host no time are asked for as early as can be, the others when they are needed: while the host
  /// fills pinned memory with a part, the device computes on the one before.
  void arrive(std::size_t step) {
    if (step < arrived_ || step >= steps_.size()) return;
    while (exec_.ok() && issued_ < steps_.size() && (issued_ <= step || costs_nothing(issued_))) {
      issue();
    }
    if (!exec_.ok()) return;
    exec_.await_copies(steps_[step].mark);
    arrived_ = step + 1;
  }
  void arrive_all() {
    if (!steps_.empty()) arrive(steps_.size() - 1);
  }
  /// Gives the bus something to do while the host waits for the device.
  void issue_next() {
    if (exec_.ok() && issued_ < steps_.size()) issue();
  }

  /// Some rows, and the steps after which their columns are there.
  struct Part {
    i64 first;
    i64 rows;
    std::size_t segments_step;
    std::size_t scores_step;
  };
  /// The parts in which scores are still to come, or all rows as one.
  std::vector<Part> parts() const {
    if (device_.rows == 0) return {};
    const std::size_t count = steps_.size() / 2;
    if (!scores_come_ || arrived_ == steps_.size()) {
      return {{0, device_.rows, std::max<std::size_t>(count, 1) - 1,
               std::max<std::size_t>(steps_.size(), 1) - 1}};
    }
    std::vector<Part> parts;
    for (std::size_t i = 0; i < count; ++i) {
      const i64 first = static_cast<i64>(i) * part_rows_;
      parts.push_back({first, std::min(part_rows_, device_.rows - first), i, count + i});
    }
    return parts;
  }
  /// Calls visit(table) for rows that are all there, until all were.
  template <class Visit>
  void each_part(const Visit& visit) {
    for (const Part& part : parts()) {
      arrive(part.scores_step);
      if (!exec_.ok()) return;
      visit(rows_of(device_, part.first, part.rows));
    }
  }

  /// No call returns while copies read the host's memory.
  struct EndOfCopies {
    Exec& exec;
    ~EndOfCopies() { exec.finish_copies(); }
  };

  bool ranks_softmax() const { return host_.task == TaskKind::kMulticlass && host_.logits; }

  bool is_half() const {
    return !ranks_softmax() && (host_.element == Element::kF16 || host_.element == Element::kBF16);
  }
  bool has_narrow_keys() const { return !ranks_softmax() && is_narrow(host_.element); }
  int key_bits() const { return is_half() ? 16 : has_narrow_keys() ? 32 : 64; }

  /// The softmax of each row of a part, where keys are made from it.
  void find_softmax(const TableOnDevice& part, RowSoftmax* out) {
    with_element(part.element, [&](auto element) {
      using E = decltype(element);
      switch (row_group(part.columns)) {
        case 1:
          return run(SoftmaxRows<1, E>{part, element, out});
        case 8:
          return run(SoftmaxRows<8, E>{part, element, out});
        default:
          return run(SoftmaxRows<32, E>{part, element, out});
      }
    });
  }

  // ---- sorted segments
  // ---------------------------------------------------------------------------------

  /// Keys of some problems, sorted within segments. With weights, those of one key are not joined.
  template <class Key>
  struct Sorted {
    Memory<Key> keys;
    Memory<u64> weights;
    std::vector<i64> starts;  ///< [segments + 1]
    std::vector<u64> rows;    ///< [segments]; rows of zero weight too
  };

  /// Where groups of parts end that are sorted while the next ones come. Each is half as large as
  /// the one before, so that little is left to do when the last part is there: sorting the last
  /// eighth, and one merge.
  static std::vector<std::size_t> group_ends(std::size_t parts, i64 segments) {
    std::vector<std::size_t> ends;
    if (segments <= kMostMergedSegments) {
      for (const std::size_t eighths : {4, 6, 7}) {
        const std::size_t end = parts * eighths / 8;
        if (end > (ends.empty() ? 0 : ends.back())) ends.push_back(end);
      }
    }
    if (parts > (ends.empty() ? 0 : ends.back())) ends.push_back(parts);
    return ends;
  }

  /// The rows of each segment, and how many of them every group of parts places.
  struct SegmentCounts {
    std::vector<u64> rows;                 ///< [segments]; rows of zero weight too
    std::vector<std::vector<i64>> starts;  ///< [groups][segments + 1], groups one after another
  };
  SegmentCounts count_segments(const ProblemBlock& problems, const std::vector<Part>& parts,
                               const std::vector<std::size_t>& groups) {
    const bool weighted = host_.weighted();
    const i64 segments = problems.segments();
    const i64 all = segments * static_cast<i64>(groups.size());
    SegmentCounts found;
    found.rows.assign(static_cast<std::size_t>(segments), 0);
    std::vector<u64> host(static_cast<std::size_t>(all * (weighted ? 2 : 1)), 0);
    Memory<u64> counts(exec_, static_cast<i64>(host.size()));
    exec_.zero(counts.data(), counts.bytes());
    std::size_t next = 0;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      u64* rows = counts.data() + static_cast<i64>(g) * segments;
      for (; next < groups[g]; ++next) {
        const Part& part = parts[next];
        arrive(part.segments_step);
        if (!exec_.ok()) return found;
        run(CountSegments{rows_of(device_, part.first, part.rows), problems,
                          part.rows * problems.width, rows, weighted ? rows + all : nullptr});
      }
    }
    issue_next();
    exec_.to_host(host.data(), counts.data(), counts.bytes());
    i64 end = 0;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      std::vector<i64> starts(1, end);
      for (std::size_t s = 0; s < found.rows.size(); ++s) {
        const std::size_t at = g * found.rows.size() + s;
        found.rows[s] += host[at];
        end += static_cast<i64>(host[weighted ? at + static_cast<std::size_t>(all) : at]);
        starts.push_back(end);
      }
      found.starts.push_back(std::move(starts));
    }
    return found;
  }

  /// Keys, and weights where there are some, with as much again to move them through.
  template <class Key>
  struct Placed {
    Memory<Key> keys, key_scratch;
    Memory<u64> weights, weight_scratch;

    Placed(Exec& exec, i64 size, bool weighted) : keys(exec, size), key_scratch(exec, size) {
      if (!weighted) return;
      weights = Memory<u64>(exec, size);
      weight_scratch = Memory<u64>(exec, size);
    }
    void swap() {
      std::swap(keys, key_scratch);
      std::swap(weights, weight_scratch);
    }
  };

  template <class Key>
  Sorted<Key> sort_problems(const ProblemBlock& problems) {
    const std::vector<Part> all = parts();
    const std::vector<std::size_t> groups = group_ends(all.size(), problems.segments());
    SegmentCounts counts = count_segments(problems, all, groups);
    Sorted<Key> sorted;
    sorted.rows = std::move(counts.rows);
    sorted.starts.assign(sorted.rows.size() + 1, 0);
    const i64 size = counts.starts.empty() ? 0 : counts.starts.back().back();
    if (!exec_.ok() || size == 0) return sorted;
    const bool needs_softmax = ranks_softmax() && softmax_.data() == nullptr;
    if (needs_softmax) softmax_ = Memory<RowSoftmax>(exec_, device_.rows);
    TableOnDevice table = device_;
    table.softmax = softmax_.data();
    std::vector<i64> cursors;
    for (const std::vector<i64>& starts : counts.starts) {
      cursors.insert(cursors.end(), starts.begin(), starts.end() - 1);
    }
    Memory<i64> cursor = on_device(cursors);
    Placed<Key> placed(exec_, size, host_.weighted());
    std::size_t next = 0;
    for (std::size_t g = 0; g < groups.size() && exec_.ok(); ++g) {
      u64* own_cursor =
          reinterpret_cast<u64*>(cursor.data()) + static_cast<i64>(g) * problems.segments();
      for (; next < groups[g]; ++next) {
        const Part& part = all[next];
        arrive(part.scores_step);
        if (!exec_.ok()) return sorted;
        const TableOnDevice rows = rows_of(table, part.first, part.rows);
        if (needs_softmax) find_softmax(rows, softmax_.data() + part.first);
        with_element(table.element, [&](auto element) {
          run(PartitionRows<Key, decltype(element)>{rows, element, problems,
                                                    part.rows * problems.width, own_cursor,
                                                    placed.keys.data(), placed.weights.data()});
        });
      }
      sort_group(placed, counts.starts[g]);
      if (g == 0) {
        sorted.starts = counts.starts[0];
      } else {
        merge_group(placed, sorted.starts, counts.starts[g]);
      }
    }
    sorted.keys = std::move(placed.keys);
    sorted.weights = std::move(placed.weights);
    return sorted;
  }

  /// Sorts the segments of one group in place.
  template <class Key>
  void sort_group(Placed<Key>& placed, const std::vector<i64>& starts) {
    if (starts.back() == starts.front()) return;
    if (host_.weighted()) {
      exec_.sort_pairs(placed.keys.data(), placed.weights.data(), placed.key_scratch.data(),
                       placed.weight_scratch.data(), starts, key_bits());
    } else {
      exec_.sort(placed.keys.data(), placed.key_scratch.data(), starts, key_bits());
    }
  }

  /// Merges the sorted segments of the groups so far with those of the next one, which lie behind
  /// them; `starts` become those of both.
  template <class Key>
  void merge_group(Placed<Key>& placed, std::vector<i64>& starts, const std::vector<i64>& next) {
    const std::size_t segments = starts.size() - 1;
    if (next.back() == next.front()) return;
    std::vector<i64> bounds = starts;
    bounds.insert(bounds.end(), next.begin(), next.end());
    i64 tiles = 0;
    for (std::size_t s = 0; s <= segments; ++s) {
      bounds.push_back(tiles);
      if (s == segments) break;
      const i64 size = starts[s + 1] - starts[s] + next[s + 1] - next[s];
      tiles += (size + MergeShape::kTile - 1) / MergeShape::kTile;
    }
    Memory<i64> on = on_device(bounds);
    const i64 step = static_cast<i64>(segments) + 1;
    run(MergeSegments<Key>{placed.keys.data(), placed.weights.data(), on.data(), on.data() + step,
                           on.data() + 2 * step, static_cast<i64>(segments),
                           placed.key_scratch.data(), placed.weight_scratch.data()},
        tiles);
    placed.swap();
    for (std::size_t s = 0; s <= segments; ++s) starts[s] += next[s] - next[0];
  }

  /// Distinct keys with the masses below each, of segments sorted with weights.
  template <class Key>
  struct Joined {
    Memory<Key> keys;
    Memory<u128> masses_below;  ///< [keys + 1]
    std::vector<i64> starts;    ///< [segments + 1], in `keys`
  };

  /// Joins the equal keys of segments; the sorted keys and weights are given up.
  template <class Key>
  Joined<Key> join(Sorted<Key> sorted) {
    Joined<Key> joined;
    const i64 segments = static_cast<i64>(sorted.rows.size());
    const i64 size = sorted.starts.back();
    joined.starts.assign(static_cast<std::size_t>(segments) + 1, 0);
    if (!exec_.ok() || size == 0) return joined;
    Memory<i64> starts = on_device(sorted.starts);
    Memory<u128> below(exec_, size + 1);
    exec_.scan_masses(size, MassOfWeight{sorted.weights.data()}, below.data());
    sorted.weights = {};
    // One more than heads, for the end of the last.
    Memory<u64> heads(exec_, size + 1);
    const i64 count =
        exec_.select(size, IsHead<Key>{sorted.keys.data(), starts.data(), segments}, heads.data());
    const u64 end = static_cast<u64>(size);
    exec_.to_device(heads.data() + count, &end, sizeof end);
    joined.keys = Memory<Key>(exec_, count);
    joined.masses_below = Memory<u128>(exec_, count + 1);
    exec_.for_each(count, Pick<Key>{sorted.keys.data(), heads.data(), joined.keys.data()});
    exec_.for_each(count + 1, Pick<u128>{below.data(), heads.data(), joined.masses_below.data()});
    Memory<i64> first_heads(exec_, segments + 1);
    exec_.for_each(segments + 1,
                   FindFirstHeads{heads.data(), count, starts.data(), first_heads.data()});
    exec_.to_host(joined.starts.data(), first_heads.data(), first_heads.bytes());
    return joined;
  }

  template <class T>
  void bring(Buffer<T>& to, const T* from, i64 size) {
    to.resize(static_cast<std::size_t>(size));
    exec_.to_host(to.data(), from, size * static_cast<i64>(sizeof(T)));
  }

  template <class Key>
  bool runs_of(i64 first, i64 last, std::vector<HostRun<Key>>& out) {
    const ProblemBlock problems{first, last - first, static_cast<i64>(host_.cell_count)};
    out.clear();
    out.resize(static_cast<std::size_t>(problems.segments()));
    if constexpr (sizeof(Key) == 4) {
      if (counts_halves(problems)) return runs_of_halves(problems, out);
    }
    Sorted<Key> sorted = sort_problems<Key>(problems);
    for (std::size_t s = 0; s < out.size(); ++s) out[s].rows = sorted.rows[s];
    if (!exec_.ok() || sorted.starts.back() == 0) return exec_.ok();
    if (host_.weighted()) {
      bring_weighted(join(std::move(sorted)), out);
    } else {
      bring_counted(sorted, out);
    }
    return exec_.ok();
  }

  template <class Key>
  void bring_weighted(const Joined<Key>& joined, std::vector<HostRun<Key>>& out) {
    for (std::size_t s = 0; s < out.size() && exec_.ok(); ++s) {
      const i64 first = joined.starts[s];
      const i64 size = joined.starts[s + 1] - first;
      if (size == 0) continue;
      bring(out[s].keys, joined.keys.data() + first, size);
      Buffer<u128> below;
      bring(below, joined.masses_below.data() + first, size + 1);
      out[s].weights.resize(static_cast<std::size_t>(size));
      for (std::size_t i = 0; i < out[s].weights.size(); ++i) {
        out[s].weights[i] = below[i + 1] - below[i];
      }
    }
  }

  /// Whether a run is kept in counted form: is_counted_form() of the state, which is C++20.
  template <class Key>
  static bool is_counted(u64 rows, u64 distinct) {
    return distinct * (sizeof(Key) + sizeof(u64)) < rows * sizeof(Key);
  }

  template <class Key>
  void bring_counted(const Sorted<Key>& sorted, std::vector<HostRun<Key>>& out) {
    const i64 segments = static_cast<i64>(out.size());
    Memory<i64> starts = on_device(sorted.starts);
    Memory<u64> distinct(exec_, segments);
    exec_.zero(distinct.data(), distinct.bytes());
    run(CountHeads<Key>{sorted.keys.data(), starts.data(), segments, distinct.data()});
    std::vector<u64> heads(static_cast<std::size_t>(segments));
    exec_.to_host(heads.data(), distinct.data(), distinct.bytes());
    const auto counted = [&](std::size_t s) { return is_counted<Key>(out[s].rows, heads[s]); };
    for (std::size_t s = 0; s < out.size() && exec_.ok();) {
      if (!counted(s)) {
        if (out[s].rows != 0) {
          bring(out[s].keys, sorted.keys.data() + sorted.starts[s],
                sorted.starts[s + 1] - sorted.starts[s]);
        }
        ++s;
        continue;
      }
      // Neighbouring segments in counted form are brought together.
      std::size_t end = s + 1;
      while (end < out.size() && counted(end)) ++end;
      bring_heads(sorted, s, end, heads, out);
      s = end;
    }
  }

  template <class Key>
  void bring_heads(const Sorted<Key>& sorted, std::size_t first, std::size_t last,
                   const std::vector<u64>& distinct, std::vector<HostRun<Key>>& out) {
    const i64 begin = sorted.starts[first];
    const i64 size = sorted.starts[last] - begin;
    std::vector<i64> own_starts;
    i64 expected = 0;
    for (std::size_t s = first; s < last; ++s) {
      own_starts.push_back(sorted.starts[s] - begin);
      expected += static_cast<i64>(distinct[s]);
    }
    own_starts.push_back(size);
    Memory<i64> starts = on_device(own_starts);
    Memory<u64> heads(exec_, expected);
    const Key* keys = sorted.keys.data() + begin;
    const i64 count = exec_.select(
        size, IsHead<Key>{keys, starts.data(), static_cast<i64>(last - first)}, heads.data());
    if (!exec_.ok() || count != expected) return;  // the count is known: it cannot differ
    Memory<Key> picked(exec_, count);
    exec_.for_each(count, Pick<Key>{keys, heads.data(), picked.data()});
    Buffer<u64> begins;
    bring(begins, heads.data(), count);
    Buffer<Key> all;
    bring(all, picked.data(), count);
    if (!exec_.ok()) return;
    std::size_t next = 0;
    for (std::size_t s = first; s < last; ++s) {
      const std::size_t end = next + distinct[s];
      out[s].keys.assign(all.begin() + static_cast<std::ptrdiff_t>(next),
                         all.begin() + static_cast<std::ptrdiff_t>(end));
      out[s].counts.resize(distinct[s]);
      for (std::size_t i = next; i < end; ++i) {
        const u64 until = i + 1 < begins.size() ? begins[i + 1] : static_cast<u64>(size);
        out[s].counts[i - next] = until - begins[i];
      }
      next = end;
    }
  }

  // ---- 16-bit scores
  // -----------------------------------------------------------------------------------

  bool counts_halves(const ProblemBlock& problems) const {
    return is_half() && !host_.weighted() && device_.rows >= kLeastHistogramRows &&
           device_.rows < (i64{1} << 32) && problems.width * problems.cells <= kMostHistograms;
  }

  bool runs_of_halves(const ProblemBlock& problems, std::vector<HostRun<u32>>& out) {
    std::vector<u32> counts;
    for (i64 p = 0; p < problems.width; ++p) {
      if (!count_halves(problems.first + p, problems.cells, counts)) return false;
      for (i64 cell = 0; cell < problems.cells; ++cell) {
        for (i64 label = 0; label < 2; ++label) {
          const u32* of_cell = counts.data() + cell * kHalfKeys * 2 + label;
          take_histogram(of_cell,
                         out[static_cast<std::size_t>((p * problems.cells + cell) * 2 + label)]);
        }
      }
    }
    return true;
  }

  /// A run of every second counter, in the smaller form.
  static void take_histogram(const u32* counters, HostRun<u32>& run) {
    u64 distinct = 0;
    for (i64 key = 0; key < kHalfKeys; ++key) {
      run.rows += counters[2 * key];
      distinct += counters[2 * key] != 0 ? 1 : 0;
    }
    const bool counted = is_counted<u32>(run.rows, distinct);
    run.keys.reserve(counted ? distinct : run.rows);
    for (i64 key = 0; key < kHalfKeys; ++key) {
      const u32 count = counters[2 * key];
      if (count == 0) continue;
      if (counted) {
        run.keys.push_back(static_cast<u32>(key));
        run.counts.push_back(count);
      } else {
        run.keys.insert(run.keys.end(), count, static_cast<u32>(key));
      }
    }
  }

  /// Counts of one problem, [cells][kHalfKeys][2].
  bool count_halves(i64 problem, i64 cells, std::vector<u32>& out) {
    Memory<u32> counts(exec_, cells * kHalfKeys * 2);
    exec_.zero(counts.data(), counts.bytes());
    CountHalves program{device_, problem, cells, {}, counts.data()};
    std::fill(program.pages.slot, program.pages.slot + kPages, kNoSlot);
    bool first = cells == 1;
    each_part([&](const TableOnDevice& part) {
      if (first) choose_pages(part, problem, program.pages);
      first = false;
      program.table = part;
      run(program);
    });
    out.resize(static_cast<std::size_t>(counts.size()));
    exec_.to_host(out.data(), counts.data(), counts.bytes());
    return exec_.ok();
  }

  /// By a sample of the rows that come first.
  void choose_pages(const TableOnDevice& rows, i64 problem, PageSlots& pages) {
    constexpr i64 kSample = 65'536;
    const i64 step = std::max<i64>(1, rows.rows / kSample);
    Memory<u32> sampled(exec_, kPages);
    exec_.zero(sampled.data(), sampled.bytes());
    const i64 column = host_.task == TaskKind::kBinary ? 0 : problem;
    exec_.for_each((rows.rows + step - 1) / step, SamplePages{rows, column, step, sampled.data()});
    u32 counts[kPages] = {};
    issue_next();
    exec_.to_host(counts, sampled.data(), sampled.bytes());
    std::vector<i32> order;
    for (i32 page = 0; page < kPages; ++page) {
      if (counts[page] != 0) order.push_back(page);
    }
    std::sort(order.begin(), order.end(),
              [&](i32 a, i32 b) { return counts[a] != counts[b] ? counts[a] > counts[b] : a < b; });
    const i64 most = std::min<i64>((exec_.most_shared_bytes() - kPages) / kPageBytes, kNoSlot);
    for (const i32 page : order) {
      if (pages.slots == most) break;
      pages.slot[page] = static_cast<u8>(pages.slots++);
    }
  }

  // ---- answers of queries
  // --------------------------------------------------------------------------------

  template <class Key, class M>
  bool folds_of(i64 first, i64 last, const std::vector<RankQuery>& queries,
                std::vector<ProblemFolds<M>>& out) {
    const i64 count = last - first;
    out.clear();
    out.resize(static_cast<std::size_t>(count));
    const ProblemBlock problems{first, count, 1};
    Sorted<Key> sorted = sort_problems<Key>(problems);
    for (std::size_t p = 0; p < out.size(); ++p) {
      out[p].neg_rows = sorted.rows[2 * p];
      out[p].pos_rows = sorted.rows[2 * p + 1];
    }
    if (!exec_.ok()) return false;
    std::vector<SortedProblem<Key>> segments(out.size());
    Joined<Key> joined;
    std::vector<i64> starts = sorted.starts;
    const Key* keys = sorted.keys.data();
    if constexpr (sizeof(M) == 16) {
      joined = join(std::move(sorted));
      starts = joined.starts;
      keys = joined.keys.data();
    }
    if (!exec_.ok()) return false;
    std::vector<i64> chunk_starts(1, 0);
    for (std::size_t p = 0; p < out.size(); ++p) {
      SortedProblem<Key>& of = segments[p];
      of.neg = keys + starts[2 * p];
      of.pos = keys + starts[2 * p + 1];
      of.neg_size = starts[2 * p + 1] - starts[2 * p];
      of.pos_size = starts[2 * p + 2] - starts[2 * p + 1];
      if constexpr (sizeof(M) == 16) {
        of.neg_masses_below = joined.masses_below.data() + starts[2 * p];
        of.pos_masses_below = joined.masses_below.data() + starts[2 * p + 1];
      }
      const i64 size = of.neg_size + of.pos_size;
      chunk_starts.push_back(chunk_starts.back() +
                             (size + FoldShape::kChunk - 1) / FoldShape::kChunk);
    }
    if (!find_masses(segments, out)) return false;
    Memory<SortedProblem<Key>> device_problems = on_device(segments);
    Memory<i64> device_starts = on_device(chunk_starts);
    for (ProblemFolds<M>& of : out) of.folds.resize(queries.size());
    const Folding<Key, M> folding{device_problems, device_starts, chunk_starts.back(), queries};
    for (const std::vector<std::size_t>& together : shared_passes(queries)) {
      fold_together(folding, together, out);
      if (!exec_.ok()) return false;
    }
    for (ProblemFolds<M>& of : out) {
      // Queries of ranges have their shares instead.
      std::size_t kept = 0;
      for (std::size_t q = 0; q < queries.size(); ++q) {
        if (queries[q].kind != RankQueryKind::kRanges) of.folds[kept++] = of.folds[q];
      }
      of.folds.resize(kept);
    }
    return exec_.ok();
  }

  /// Queries by pass: those that are mostly asked for together share one, the others have their
  /// own.
  static std::vector<std::vector<std::size_t>> shared_passes(
      const std::vector<RankQuery>& queries) {
    constexpr RankQueryKind kUsual[]{RankQueryKind::kTwoU, RankQueryKind::kAveragePrecision,
                                     RankQueryKind::kGap};
    std::vector<std::vector<std::size_t>> passes;
    std::vector<std::size_t> usual;
    for (const RankQueryKind kind : kUsual) {
      for (std::size_t q = 0; q < queries.size(); ++q) {
        if (queries[q].kind != kind) continue;
        usual.push_back(q);
        break;
      }
    }
    if (usual.size() == 3) passes.push_back(usual);
    for (std::size_t q = 0; q < queries.size(); ++q) {
      const bool done =
          usual.size() == 3 && std::find(usual.begin(), usual.end(), q) != usual.end();
      if (!done) passes.push_back({q});
    }
    return passes;
  }

  template <class Key, class M>
  bool find_masses(const std::vector<SortedProblem<Key>>& segments,
                   std::vector<ProblemFolds<M>>& out) {
    for (std::size_t p = 0; p < out.size(); ++p) {
      if constexpr (sizeof(M) == 16) {
        out[p].all.pos = mass_of(segments[p].pos_masses_below, segments[p].pos_size);
        out[p].all.neg = mass_of(segments[p].neg_masses_below, segments[p].neg_size);
      } else {
        out[p].all.pos = out[p].pos_rows;
        out[p].all.neg = out[p].neg_rows;
      }
    }
    return exec_.ok();
  }
  u128 mass_of(const u128* masses_below, i64 size) {
    if (size == 0) return 0;
    u128 ends[2] = {0, 0};
    exec_.to_host(&ends[0], masses_below, sizeof(u128));
    exec_.to_host(&ends[1], masses_below + size, sizeof(u128));
    return ends[1] - ends[0];
  }

  /// What passes over the sorted problems share.
  template <class Key, class M>
  struct Folding {
    const Memory<SortedProblem<Key>>& problems;
    const Memory<i64>& starts;
    i64 chunks;
    const std::vector<RankQuery>& queries;
  };

  template <class Asked, class Key, class M>
  void fold(const Folding<Key, M>& folding, const std::vector<std::size_t>& together,
            std::vector<ProblemFolds<M>>& out) {
    using Folds = typename Asked::template Folds<M>;
    const i64 count = folding.problems.size();
    Memory<FoldContext<M>> contexts = contexts_of(folding, together, out);
    Memory<Folds> folds(exec_, folding.chunks);
    Memory<Folds> answers(exec_, count);
    // Folds are stored member by member and may be read whole: the gaps between get a value too.
    exec_.zero(folds.data(), folds.bytes());
    exec_.zero(answers.data(), answers.bytes());
    run(FoldChunks<Asked, Key, M>{folding.problems.data(), contexts.data(), folding.starts.data(),
                                  count, folds.data()},
        folding.chunks);
    run(MergeFolds<Asked, M>{contexts.data(), folding.starts.data(), count, folds.data(),
                             answers.data()},
        count);
    std::vector<Folds> host(static_cast<std::size_t>(count));
    exec_.to_host(host.data(), answers.data(), answers.bytes());
    for (std::size_t p = 0; p < out.size(); ++p) {
      for (std::size_t i = 0; i < together.size(); ++i) out[p].folds[together[i]] = host[p].of[i];
    }
  }

  template <class Key, class M>
  Memory<FoldContext<M>> contexts_of(const Folding<Key, M>& folding,
                                     const std::vector<std::size_t>& together,
                                     const std::vector<ProblemFolds<M>>& out) {
    std::vector<FoldContext<M>> contexts;
    for (const ProblemFolds<M>& of : out) {
      for (const std::size_t q : together) {
        contexts.push_back(fold_context(folding.queries[q], of.all));
      }
    }
    return on_device(contexts);
  }

  template <class Key, class M>
  void fold_together(const Folding<Key, M>& folding, const std::vector<std::size_t>& together,
                     std::vector<ProblemFolds<M>>& out) {
    using Kind = RankQueryKind;
    if (together.size() == 3) {
      return fold<Queries<Kind::kTwoU, Kind::kAveragePrecision, Kind::kGap>>(folding, together,
                                                                             out);
    }
    switch (folding.queries[together.front()].kind) {
      case Kind::kTwoU:
        return fold<Queries<Kind::kTwoU>>(folding, together, out);
      case Kind::kAveragePrecision:
        return fold<Queries<Kind::kAveragePrecision>>(folding, together, out);
      case Kind::kPrTrapezoid:
        return fold<Queries<Kind::kPrTrapezoid>>(folding, together, out);
      case Kind::kGap:
        return fold<Queries<Kind::kGap>>(folding, together, out);
      case Kind::kEqualError:
        return fold<Queries<Kind::kEqualError>>(folding, together, out);
      case Kind::kFprAtMost:
        return fold<Queries<Kind::kFprAtMost>>(folding, together, out);
      case Kind::kTprAtLeast:
        return fold<Queries<Kind::kTprAtLeast>>(folding, together, out);
      case Kind::kPrecisionAtRecall:
        return fold<Queries<Kind::kPrecisionAtRecall>>(folding, together, out);
      case Kind::kRecallAtPrecision:
        return fold<Queries<Kind::kRecallAtPrecision>>(folding, together, out);
      case Kind::kFBetaMax:
        return fold<Queries<Kind::kFBetaMax>>(folding, together, out);
      case Kind::kPartialArea:
        return fold<Queries<Kind::kPartialArea>>(folding, together, out);
      case Kind::kRanges:
        return fold_ranges(folding, together, out);
    }
  }

  template <class Key, class M>
  void fold_ranges(const Folding<Key, M>& folding, const std::vector<std::size_t>& together,
                   std::vector<ProblemFolds<M>>& out) {
    using Limbs = RangeLimbs<M>;
    const i64 count = folding.problems.size();
    Memory<FoldContext<M>> contexts = contexts_of(folding, together, out);
    Memory<u64> limbs(exec_, count * kRankRanges * Limbs::kCount);
    exec_.zero(limbs.data(), limbs.bytes());
    run(FoldRanges<Key, M>{folding.problems.data(), contexts.data(), folding.starts.data(), count,
                           limbs.data()},
        folding.chunks);
    std::vector<u64> host(static_cast<std::size_t>(limbs.size()));
    exec_.to_host(host.data(), limbs.data(), limbs.bytes());
    const u64* next = host.data();
    for (ProblemFolds<M>& of : out) {
      for (int range = 0; range < kRankRanges; ++range, next += Limbs::kCount) {
        RangeFold<M> share;
        share.pos = static_cast<M>(joined_limbs(next, Limbs::kMass));
        share.neg = static_cast<M>(joined_limbs(next + Limbs::kMass, Limbs::kMass));
        take_limbs(next + 2 * Limbs::kMass, share.two_u);
        take_limbs(next + 2 * Limbs::kMass + Limbs::kSum, share.precision);
        of.ranges.push_back(share);
      }
    }
  }

  static u128 joined_limbs(const u64* limbs, int count) {
    u128 value = 0;
    for (int i = count - 1; i >= 0; --i) value = (value << 32) + limbs[i];
    return value;
  }
  static void take_limbs(const u64* limbs, u128& sum) {
    sum = joined_limbs(limbs, RangeLimbs<u64>::kSum);
  }
  static void take_limbs(const u64* limbs, U256& sum) {
    sum = U256{};
    for (int i = RangeLimbs<u128>::kSum - 1; i >= 0; --i) {
      sum = shift_left(sum, 32) + widen<4>(u128{limbs[i]});
    }
  }

  Exec exec_;
  HostTable host_;
  TableOnDevice device_;
  std::vector<HostCopy> copies_;  ///< those that bring the columns, in order
  std::vector<Step> steps_;       ///< empty: the columns are there
  std::size_t issued_ = 0;        ///< steps that were asked for
  std::size_t arrived_ = 0;       ///< steps that what is computed comes after
  i64 part_rows_ = 0;
  bool scores_come_ = false;  ///< the steps bring scores
  Scores scores_;
  Column<u8> labels_;
  Column<i32> class_labels_;
  Column<double> weights_f64_;
  Column<float> weights_f32_;
  Column<u32> cells_;
  Column<u64> row_keys_;
  Memory<RowSoftmax> softmax_;  ///< of scores_, where it was needed
  EmbeddingOn<Exec> embedding_{exec_};
};

}  // namespace cupel::device
