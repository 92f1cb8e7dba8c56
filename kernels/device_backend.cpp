#include "device_backend.hpp"

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "cupel/math/row_terms.hpp"
#include "cupel/math/softmax.hpp"
#include "device_pairs.hpp"

namespace cupel::device {
namespace {

static_assert(static_cast<u8>(Element::kBool) == static_cast<u8>(DType::kBool) &&
              static_cast<u8>(Element::kI64) == static_cast<u8>(DType::kI64) &&
              static_cast<u8>(Element::kU64) == static_cast<u8>(DType::kU64) &&
              static_cast<u8>(Element::kBF16) == static_cast<u8>(DType::kBF16) &&
              static_cast<u8>(Element::kF64) == static_cast<u8>(DType::kF64));

/// Kernels count rows of a segment in 31 bits.
constexpr i64 kMostRows = (i64{1} << 31) - 1;
/// Classes, and tallies of conformal sets of all cells, up to which they are computed on a device.
/// What the host refuses is more than that: so it says why.
constexpr i64 kMostConformalClasses = 65'535;
constexpr u64 kMostTallies = 50'000'000;

HostTable host_table(const TableView& table) {
  HostTable out;
  out.task = table.task == Task::kBinary       ? TaskKind::kBinary
             : table.task == Task::kMulticlass ? TaskKind::kMulticlass
                                               : TaskKind::kMultilabel;
  out.logits = table.logits;
  out.rows = table.rows;
  out.columns = table.task == Task::kBinary ? 1 : table.classes;
  out.element = static_cast<Element>(table.scores.dtype);
  out.scores = reinterpret_cast<const unsigned char*>(table.scores.data);
  out.row_stride = table.scores.strides.empty() ? 0 : table.scores.strides[0];
  out.column_stride = table.scores.strides.size() < 2 ? 0 : table.scores.strides[1];
  out.binary_labels = table.task == Task::kBinary ? table.binary_labels : nullptr;
  out.class_labels = table.task == Task::kMulticlass ? table.class_labels : nullptr;
  out.label_matrix = table.task == Task::kMultilabel ? table.label_matrix : nullptr;
  out.weights_f64 = table.weights_f64;
  out.weights_f32 = table.weights_f32;
  out.cells = table.cells;
  out.cell_count = table.cell_count;
  return out;
}

static_assert(static_cast<u8>(ThresholdOf::kCell) == static_cast<u8>(ThresholdsBy::kCell) &&
              static_cast<u8>(ThresholdOf::kLabel) == static_cast<u8>(ThresholdsBy::kLabel) &&
              static_cast<u8>(ThresholdOf::kRow) == static_cast<u8>(ThresholdsBy::kRow));

std::vector<SetWork> set_work(std::span<const ConformalSet> sets) {
  std::vector<SetWork> work;
  for (const ConformalSet& set : sets) {
    work.push_back({set.rule, static_cast<ThresholdOf>(set.by), set.argmax_if_empty,
                    set.thresholds.data(), static_cast<i64>(set.thresholds.size())});
  }
  return work;
}

/// The tallies of one set in one cell, which are empty without rows.
SetSums set_sums(const HostTallies& tallies, u64 cell, std::size_t sets, std::size_t set) {
  SetSums sums;
  const auto kinds = static_cast<std::size_t>(tallies.kinds());
  const auto classes = static_cast<std::size_t>(tallies.classes);
  const u64* own = tallies.words.data() + (cell * sets + set) * kinds * 2;
  const auto tally = [own](std::size_t kind) {
    const u64 rows = own[2 * kind];
    return SetTally{rows & 0xFFFFFFFFu, rows >> 32, own[2 * kind + 1]};
  };
  for (std::size_t size = 0; size <= classes; ++size) sums.all.merge(tally(size));
  if (sums.all.rows == 0) return {};
  sums.resize(tallies.classes);
  for (std::size_t size = 0; size <= classes; ++size) sums.by_size[size] = tally(size);
  for (std::size_t i = 0; i < classes; ++i) {
    sums.by_class[i] = tally(classes + 1 + i);
    sums.by_rank[i] = tally(2 * classes + 1 + i);
  }
  return sums;
}

template <class Key>
KeyRun<Key> key_run(HostRun<Key>& run) {
  KeyRun<Key> out;
  out.keys = std::move(run.keys);
  out.counts = std::move(run.counts);
  out.weights = std::move(run.weights);
  return out;
}

template <class M>
OperatingPoint operating_point(const FoldPoint<M>& p) {
  return {p.exists, p.has_key, p.key, p.counts.tp, p.counts.fp};
}

template <class M>
RankSummary summary_of(ProblemFolds<M>& folds, ScoreKind kind, std::span<const RankQuery> queries) {
  RankSummary summary;
  summary.kind = kind;
  summary.weighted = sizeof(M) == sizeof(u128);
  summary.pos_rows = folds.pos_rows;
  summary.neg_rows = folds.neg_rows;
  summary.pos = folds.all.pos;
  summary.neg = folds.all.neg;
  std::size_t fold = 0;
  std::size_t range = 0;
  for (const RankQuery& query : queries) {
    RankAnswer answer;
    if (query.kind == RankQueryKind::kRanges) {
      for (int i = 0; i < kRankRanges; ++i) {
        const RangeFold<M>& share = folds.ranges[range++];
        answer.ranges.push_back(
            {share.pos, share.neg, to_u256(share.two_u), to_u256(share.precision)});
      }
    } else {
      const RankFold<M>& own = folds.folds[fold++];
      answer.sum = to_u256(own.sum);
      answer.at = operating_point(own.at);
      answer.before = operating_point(own.before);
    }
    summary.answers.push_back(std::move(answer));
  }
  return summary;
}

/// Reads limbs of 32 bits, each summed in 64, as one integer.
U256 wide_at(const u64* limbs, i64 count) {
  U256 value{};
  for (i64 i = count - 1; i >= 0; --i) {
    value = shift_left(value, 32) + widen<4>(u128{limbs[i]});
  }
  return value;
}
u128 mass_at(const u64* limbs, i64 count) {
  const U256 value = wide_at(limbs, count);
  return static_cast<u128>(value.limb[1]) << 64 | value.limb[0];
}

RowSums sums_of(const RowLayout& layout, const u64* limbs, i64 segment, i64 classes) {
  RowSums out;
  out.weighted = layout.mass_limbs != 1;
  const auto of_class = [&](i64 cls) { return limbs + layout.class_first(segment, cls); };
  for (i64 c = 0; c < classes; ++c) {
    out.class_rows.push_back(of_class(c)[0]);
    out.rows += out.class_rows.back();
    out.class_mass.push_back(mass_at(of_class(c) + layout.mass_at(), layout.mass_limbs));
  }
  for (i64 rule = 0; rule < layout.rules; ++rule) {
    for (i64 c = 0; c < classes; ++c) {
      out.hits.push_back(mass_at(of_class(c) + layout.hits_at(rule), layout.mass_limbs));
    }
  }
  const u64* of_segment = limbs + layout.segment_first(segment);
  for (i64 k = 0; k < layout.top_k; ++k) {
    out.top_k_hits.push_back(mass_at(of_segment + layout.top_k_at(k), layout.mass_limbs));
  }
  out.brier = wide_at(of_segment + layout.brier_at(), layout.term_limbs);
  out.log_loss = wide_at(of_segment + layout.loss_at(), layout.term_limbs);
  out.clipped = of_segment[layout.clipped_at()];
  out.outside_unit = of_segment[layout.outside_at()];
  out.overflowed = of_segment[layout.overflowed_at()];
  return out;
}

SlopeSums slopes_of(const SlopeLayout& layout, const u64* limbs, i64 segment) {
  const auto slope = [&](i64 i) {
    return wide_at(limbs + layout.at(segment, i), layout.term_limbs);
  };
  return {slope(0), slope(1), slope(2)};
}

BinTotals bins_of(const RowLayout& layout, const u64* limbs, const BinPlace& place, i64 segment) {
  BinTotals out;
  const i64 first = place.at(segment, 0, 0);
  for (i64 bin = first; bin < first + place.sets * bin_slots(place.query.bins); ++bin) {
    const u64* of_bin = limbs + layout.bin_first(bin);
    const bool weighted = layout.mass_limbs != 1;
    out.rows.push_back(of_bin[0]);
    out.mass.push_back(mass_at(of_bin + (weighted ? 1 : 0), layout.mass_limbs));
    out.right.push_back(mass_at(of_bin + layout.right_at(), layout.mass_limbs));
    out.confidence.push_back(wide_at(of_bin + layout.confidence_at(), layout.confidence_limbs()));
    if (!place.query.moments) continue;
    const u64* moments = limbs + layout.moments_first(place.moments_at(bin));
    const i64 width = layout.confidence_limbs();
    out.right_confidence.push_back(wide_at(moments, width));
    out.square.push_back(wide_at(moments + layout.square_at(), width));
    out.spread.push_back(wide_at(moments + layout.spread_at(), width));
  }
  return out;
}

class PipelineBackend final : public DeviceBackend {
 public:
  PipelineBackend(std::unique_ptr<Pipelines> pipelines, std::string name, std::string device)
      : pipelines_(std::move(pipelines)), name_(std::move(name)), device_(std::move(device)) {}

  BackendInfo info() const override { return {name_, device_}; }
  DeviceTrouble trouble() const override { return trouble_; }
  i64 free_bytes() override { return pipelines_->free_bytes(); }
  i64 most_rows() const override { return kMostRows; }

  i64 bytes_per_row(const TableView& table, i64 problems) const override {
    const HostTable host = host_table(table);
    const i64 columns = host.columns * element_size(host.element) +
                        (host.task == TaskKind::kMulticlass ? 4 : host.columns) +
                        (table.weights_f64 != nullptr   ? 8
                         : table.weights_f32 != nullptr ? 4
                                                        : 0) +
                        (table.cells != nullptr && table.cell_count > 1 ? 4 : 0) +
                        (table.row_keys != nullptr ? 8 : 0);
    const bool wide = key_bits(score_kind(table)) == 64;
    const i64 key = wide ? 8 : 4;
    const bool softmax = host.task == TaskKind::kMulticlass && host.logits;
    // Keys and what they are sorted through; with weights also these, their sums, and the joined
    // keys with theirs.
    const i64 each = table.weighted() ? 2 * key + 16 + 16 + 8 + key + 16 : 2 * key + 1;
    return columns + (softmax ? static_cast<i64>(sizeof(RowSoftmax)) : 0) + problems * each;
  }

  Result<std::vector<std::vector<RankTable>>> rank_tables(const TableView& table, i64 first,
                                                          i64 last) override {
    return guarded("rank tables", table, [&]() -> Result<Tables> {
      if (!set(table)) return failed("rank tables", table);
      return read_tables(table, first, last);
    });
  }

  Result<std::vector<RankSummary>> rank_summaries(const TableView& table, i64 first, i64 last,
                                                  std::span<const RankQuery> queries) override {
    using Summaries = std::vector<RankSummary>;
    return guarded("rank summaries", table, [&]() -> Result<Summaries> {
      TableView one_cell = table;
      one_cell.cells = nullptr;
      one_cell.cell_count = 1;
      if (!set(one_cell)) return failed("rank summaries", table);
      Summaries summaries;
      if (pipelines_->has_histograms(last - first)) {
        auto tables = read_tables(one_cell, first, last);
        if (!tables) return tables.error();
        for (const auto& cells : *tables) summaries.push_back(summarise(cells.front(), queries));
        return summaries;
      }
      HostFolds folds;
      const std::vector<RankQuery> list(queries.begin(), queries.end());
      if (!pipelines_->folds(first, last, list, folds)) return failed("rank summaries", table);
      const ScoreKind kind = score_kind(table);
      for (auto& of : folds.counted) summaries.push_back(summary_of(of, kind, queries));
      for (auto& of : folds.weighted) summaries.push_back(summary_of(of, kind, queries));
      return summaries;
    });
  }

  Result<std::vector<std::vector<RowSums>>> row_sums(const TableView& table,
                                                     const RowSpec& spec) override {
    using Sums = std::vector<std::vector<RowSums>>;
    const i64 most = table.logits ? UnitSum::kMaxTerms : std::numeric_limits<i32>::max();
    if (table.task == Task::kMulticlass && table.classes > most) {
      trouble_ = DeviceTrouble::kNone;
      return input_error("row sums",
                         "a row has " + std::to_string(table.classes) + " classes, more than " +
                             std::to_string(most),
                         "leave classes out");
    }
    return guarded("row sums", table, [&]() -> Result<Sums> {
      RowWork work;
      work.thresholds = spec.thresholds;
      work.top_k = spec.top_k;
      work.brier = spec.brier;
      work.log_loss = spec.log_loss;
      work.exact_match = spec.exact_match;
      work.bins = spec.bins;
      work.softmax_f32 = table.sums_softmax_f32() && spec.tempering.factors.empty();
      work.factors = spec.tempering.factors;
      work.slopes = spec.tempering.slopes;
      work.epsilon = probability_epsilon(table.scores.dtype);
      RowLayout layout;
      std::vector<u64> limbs;
      if (!set(table) || !pipelines_->row_sums(work, layout, limbs)) {
        return failed("row sums", table);
      }
      const std::vector<BinPlace> places = place_bins(spec.bins, layout);
      Sums sums(static_cast<std::size_t>(layout.problems));
      for (i64 p = 0; p < layout.problems; ++p) {
        const bool exact = table.task == Task::kMultilabel && p >= table.classes;
        for (i64 cell = 0; cell < layout.cells; ++cell) {
          const i64 segment = p * layout.cells + cell;
          RowSums own = sums_of(layout, limbs.data(), segment, exact ? 1 : layout.classes);
          own.softmax_f32 = work.softmax_f32;
          if (work.slopes) own.slopes = slopes_of(slope_layout(layout), limbs.data(), segment);
          for (const BinPlace& place : exact ? std::vector<BinPlace>{} : places) {
            own.bins.push_back(bins_of(layout, limbs.data(), place, segment));
          }
          sums[static_cast<std::size_t>(p)].push_back(std::move(own));
        }
      }
      return sums;
    });
  }

  Result<ConformalScores> conformal_scores(const TableView& table,
                                           std::span<const ConformalRule> rules,
                                           const std::vector<bool>& wanted, int threads) override {
    if (!takes_conformal(table, 0)) {
      trouble_ = DeviceTrouble::kNone;
      return Backend::conformal_scores(table, rules, wanted, threads);
    }
    return guarded("conformal scores", table, [&]() -> Result<ConformalScores> {
      const std::vector<ConformalRule> list(rules.begin(), rules.end());
      HostScores found;
      if (!set(table, std::any_of(list.begin(), list.end(), draws)) ||
          !pipelines_->conformal_scores(list, wanted_cells(wanted), found)) {
        return failed("conformal scores", table);
      }
      return ConformalScores{std::move(found.scores), found.outside};
    });
  }

  Result<std::vector<std::vector<SetSums>>> conformal_sets(const TableView& table,
                                                           std::span<const ConformalSet> sets,
                                                           const std::vector<bool>& wanted,
                                                           int threads) override {
    if (!takes_conformal(table, sets.size())) {
      trouble_ = DeviceTrouble::kNone;
      return Backend::conformal_sets(table, sets, wanted, threads);
    }
    using Sums = std::vector<std::vector<SetSums>>;
    return guarded("conformal sets", table, [&]() -> Result<Sums> {
      HostTallies tallies;
      if (!set(table, any_draws(sets)) ||
          !pipelines_->conformal_tallies(set_work(sets), wanted_cells(wanted), tallies)) {
        return failed("conformal sets", table);
      }
      Sums sums(std::max<u32>(1, table.cell_count));
      for (std::size_t cell = 0; cell < sums.size(); ++cell) {
        for (std::size_t s = 0; s < sets.size(); ++s) {
          sums[cell].push_back(set_sums(tallies, cell, sets.size(), s));
        }
      }
      if (!sets.empty()) sums[0][0].outside_unit += tallies.outside;
      return sums;
    });
  }

  Result<ConformalRowSets> conformal_row_sets(const TableView& table,
                                              std::span<const ConformalSet> sets,
                                              const std::vector<bool>& wanted,
                                              int threads) override {
    if (!takes_conformal(table, 0)) {
      trouble_ = DeviceTrouble::kNone;
      return Backend::conformal_row_sets(table, sets, wanted, threads);
    }
    return guarded("sets of rows", table, [&]() -> Result<ConformalRowSets> {
      HostRowSets found;
      if (!set(table, any_draws(sets)) ||
          !pipelines_->conformal_row_sets(set_work(sets), wanted_cells(wanted), found)) {
        return failed("sets of rows", table);
      }
      return ConformalRowSets{std::move(found.packed), std::move(found.ranks), found.outside};
    });
  }

  Result<i128> pair_sum(const TableView& table, i64 first, i64 last, double nu) override {
    CUPEL_ASSERT(holds_probabilities(table) && 0 <= first && first <= last && last <= table.rows);
    return guarded("pairs of rows", table, [&]() -> Result<i128> {
      i128 sum = 0;
      if (!set(table) || !pipelines_->pair_sum(first, last, nu, sum)) {
        return failed("pairs of rows", table);
      }
      return sum;
    });
  }
  Result<std::vector<u64>> pair_distances(const TableView& table, i64 first, i64 last,
                                          std::optional<u32> high) override {
    CUPEL_ASSERT(holds_probabilities(table) && 0 <= first && first <= last && last <= table.rows);
    return guarded("pairs of rows", table, [&]() -> Result<std::vector<u64>> {
      std::vector<u64> counts;
      if (!set(table) ||
          !pipelines_->pair_distances(first, last, high.has_value(), high.value_or(0), counts)) {
        return failed("pairs of rows", table);
      }
      return counts;
    });
  }

  Result<PairStates> embedding_pairs(const EmbeddingView& view, const PairPass& pass, int,
                                     const PairProgress& progress) override {
    return guarded("pairs of an embedding", view, [&]() -> Result<PairStates> {
      PairStates states;
      if (!pairs_on_device(*pipelines_, view, pass, hold_, progress, states)) {
        return failed("pairs of an embedding", view);
      }
      return states;
    });
  }

  Result<BadScores> bad_scores(const TableView& table) override {
    return guarded("bad scores", table, [&]() -> Result<BadScores> {
      BadRows bad;
      TableView scores = table;  // the rest of the columns may not be there yet
      scores.binary_labels = nullptr;
      scores.class_labels = nullptr;
      scores.label_matrix = nullptr;
      scores.weights_f64 = nullptr;
      scores.weights_f32 = nullptr;
      scores.cells = nullptr;
      scores.cell_count = 1;
      if (!set(scores) || !pipelines_->bad_rows(bad)) return failed("bad scores", table);
      return BadScores{bad.rows, bad.first_row, bad.first_column};
    });
  }

  void hold_columns(bool hold) override {
    hold_ = hold;
    pipelines_->drop_table();
  }
  void forget_columns() override { pipelines_->drop_table(); }

 private:
  /// `with_keys`: what draws follow is looked at.
  bool set(const TableView& table, bool with_keys = false) {
    if (table.rows > kMostRows) return false;
    HostTable host = host_table(table);
    if (with_keys) {
      host.row_keys = table.row_keys;
      host.first_row = static_cast<u64>(table.first_row);
    }
    return pipelines_->set_table(host, hold_);
  }

  static bool draws(const ConformalRule& rule) { return rule.draw != ConformalDraw::kNone; }
  static bool any_draws(std::span<const ConformalSet> sets) {
    return std::any_of(sets.begin(), sets.end(), [](const auto& set) { return draws(set.rule); });
  }
  static std::vector<u8> wanted_cells(const std::vector<bool>& wanted) {
    return {wanted.begin(), wanted.end()};
  }
  /// Whether the pass is one that the host does not refuse.
  static bool takes_conformal(const TableView& table, std::size_t sets) {
    CUPEL_ASSERT(table.task != Task::kMultilabel);
    const i64 classes = table.task == Task::kBinary ? 2 : table.classes;
    const u64 tallies = std::max<u64>(1, table.cell_count) * std::max<std::size_t>(1, sets);
    return classes <= kMostConformalClasses &&
           tallies <= kMostTallies / (3 * static_cast<u64>(classes) + 1);
  }

  using Tables = std::vector<std::vector<RankTable>>;

  /// The tables of problems [first, last) of the table that was set.
  Result<Tables> read_tables(const TableView& table, i64 first, i64 last) {
    HostRuns runs;
    if (!pipelines_->runs(first, last, runs)) return failed("rank tables", table);
    const ScoreKind kind = score_kind(table);
    const bool weighted = table.weighted();
    Tables tables(static_cast<std::size_t>(last - first));
    std::size_t next = 0;
    for (auto& of_problem : tables) {
      for (u32 cell = 0; cell < table.cell_count; ++cell, next += 2) {
        of_problem.push_back(
            key_bits(kind) == 64
                ? table_of(kind, weighted, runs.wide[next + 1], runs.wide[next])
                : table_of(kind, weighted, runs.narrow[next + 1], runs.narrow[next]));
      }
    }
    return tables;
  }

  template <class Key>
  static RankTable table_of(ScoreKind kind, bool weighted, HostRun<Key>& pos, HostRun<Key>& neg) {
    const u64 pos_rows = pos.rows;
    const u64 neg_rows = neg.rows;
    KeyRuns<Key> runs;
    runs.pos = key_run(pos);
    runs.neg = key_run(neg);
    return RankTable(kind, weighted, std::move(runs), pos_rows, neg_rows);
  }

  /// The error of a call that the pipelines did not finish; afterwards a smaller one may be tried.
  template <class Rows>
  Error failed(const char* what, const Rows& table) {
    const Status& status = pipelines_->status();
    const std::string size = std::to_string(table.rows) + " rows";
    if (status.ok() || status.fault == Fault::kOutOfMemory) {
      trouble_ = DeviceTrouble::kOutOfMemory;
      const std::string why = status.ok() ? "more rows than one call takes" : status.what;
      pipelines_->recover();
      return {ErrorCode::kBackend, name_, why + " (" + what + ", " + size + ")",
              "use a smaller batch"};
    }
    trouble_ = DeviceTrouble::kFailed;
    return {ErrorCode::kBackend, name_, status.what + " (" + what + ", " + size + ")",
            "use --backend cpu"};
  }

  template <class Rows, class Work>
  auto guarded(const char* what, const Rows& table, const Work& work) -> decltype(work()) {
    trouble_ = DeviceTrouble::kNone;
    const auto broken = [&](const std::string& why) {
      trouble_ = DeviceTrouble::kFailed;
      return Error{ErrorCode::kBackend, name_,
                   why + " (" + what + ", " + std::to_string(table.rows) + " rows)",
                   "use --backend cpu"};
    };
    try {
      auto result = work();
      if (!hold_ && pipelines_->status().ok()) pipelines_->drop_table();
      return result;
    } catch (const std::bad_alloc&) {
      return broken("out of memory on the host");
    } catch (const std::exception& failure) {
      return broken(failure.what());
    }
  }

  std::unique_ptr<Pipelines> pipelines_;
  std::string name_;
  std::string device_;
  DeviceTrouble trouble_ = DeviceTrouble::kNone;
  bool hold_ = false;
};

}  // namespace

std::unique_ptr<DeviceBackend> make_device_backend(std::unique_ptr<Pipelines> pipelines,
                                                   std::string name, std::string device) {
  return std::make_unique<PipelineBackend>(std::move(pipelines), std::move(name),
                                           std::move(device));
}

}  // namespace cupel::device
