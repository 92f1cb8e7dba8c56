#include "cupel/state/rank_table.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <type_traits>
#include <utility>

#include "state/rank_accumulate.hpp"

namespace cupel {
namespace {

constexpr u32 kRankTableVersion = 1;

/// Reads a run one distinct key at a time.
template <class Key, class M>
class RunCursor {
 public:
  explicit RunCursor(const KeyRun<Key>& run) : run_(&run) { advance(); }

  bool at_end() const { return ended_; }
  Key key() const { return key_; }
  M mass() const { return mass_; }

  void advance() {
    if (next_ == run_->keys.size()) {
      ended_ = true;
      return;
    }
    key_ = run_->keys[next_];
    if constexpr (std::is_same_v<M, u128>) {
      mass_ = run_->weights[next_++];
    } else if (!run_->counts.empty()) {
      mass_ = run_->counts[next_++];
    } else {
      const std::size_t first = next_;
      while (next_ < run_->keys.size() && run_->keys[next_] == key_) ++next_;
      mass_ = next_ - first;
    }
  }

 private:
  const KeyRun<Key>* run_;
  std::size_t next_ = 0;
  Key key_{};
  M mass_{};
  bool ended_ = false;
};

/// Visits the tie groups of positives `a` and negatives `b` in ascending order.
template <class Key, class M, class Visit>
void for_each_group(const KeyRun<Key>& a, const KeyRun<Key>& b, Visit visit) {
  RunCursor<Key, M> pos(a);
  RunCursor<Key, M> neg(b);
  M pos_below{};
  M neg_below{};
  while (!pos.at_end() || !neg.at_end()) {
    TieGroup<M> g;
    g.pos_below = pos_below;
    g.neg_below = neg_below;
    const bool take_pos = !pos.at_end() && (neg.at_end() || pos.key() <= neg.key());
    const bool take_neg = !neg.at_end() && (pos.at_end() || neg.key() <= pos.key());
    g.key = take_pos ? pos.key() : neg.key();
    if (take_pos) {
      g.pos = pos.mass();
      pos.advance();
    }
    if (take_neg) {
      g.neg = neg.mass();
      neg.advance();
    }
    visit(static_cast<const TieGroup<M>&>(g));
    pos_below += g.pos;
    neg_below += g.neg;
  }
}

/// Calls visit(pos_run, neg_run, M{}) with the mass type of the tables.
template <class Visit>
auto with_runs(const RankTable& positives_of, const RankTable& negatives_of, Visit visit) {
  return std::visit(
      [&](const auto& p) {
        const auto& n = std::get<std::decay_t<decltype(p)>>(negatives_of.runs());
        return positives_of.weighted() ? visit(p.pos, n.neg, u128{}) : visit(p.pos, n.neg, u64{});
      },
      positives_of.runs());
}

template <class Key>
u64 distinct_keys(const Buffer<Key>& ascending) {
  u64 distinct = ascending.empty() ? 0 : 1;
  for (std::size_t i = 1; i < ascending.size(); ++i) distinct += ascending[i] != ascending[i - 1];
  return distinct;
}

template <class Key>
KeyRun<Key> merge_runs(const KeyRun<Key>& a, const KeyRun<Key>& b, bool weighted) {
  if (a.keys.empty()) return b;
  if (b.keys.empty()) return a;
  if (!weighted && a.counts.empty() && b.counts.empty()) {
    Buffer<Key> keys(a.keys.size() + b.keys.size());
    std::merge(a.keys.begin(), a.keys.end(), b.keys.begin(), b.keys.end(), keys.begin());
    return canonical_run(std::move(keys));
  }
  KeyRun<Key> merged;
  Buffer<u64> counts;
  const auto append = [&](const auto& g, auto& masses) {
    merged.keys.push_back(static_cast<Key>(g.key));
    masses.push_back(g.pos + g.neg);
  };
  if (weighted) {
    for_each_group<Key, u128>(a, b, [&](const auto& g) { append(g, merged.weights); });
    return merged;
  }
  for_each_group<Key, u64>(a, b, [&](const auto& g) { append(g, counts); });
  return canonical_run(std::move(merged.keys), std::move(counts));
}

template <class Key>
u64 run_bytes(const KeyRun<Key>& run) {
  return run.keys.size() * sizeof(Key) + run.counts.size() * sizeof(u64) +
         run.weights.size() * sizeof(u128);
}

template <class Key>
void encode_run(const KeyRun<Key>& run, ByteWriter& writer) {
  writer.put_array(std::span<const Key>(run.keys));
  writer.put_array(std::span<const u64>(run.counts));
  writer.put_array(std::span<const u128>(run.weights));
}

/// Reads a run and checks every promise of KeyRun. Returns what is wrong, or nothing.
template <class Key>
const char* decode_run(ByteReader& reader, ScoreKind kind, bool weighted, u64 rows,
                       KeyRun<Key>& run) {
  if (!reader.get_array(run.keys) || !reader.get_array(run.counts) ||
      !reader.get_array(run.weights)) {
    return "is truncated";
  }
  if (!run.keys.empty() && key_bits(kind) < 64 &&
      (static_cast<u64>(run.keys.back()) >> key_bits(kind)) != 0) {
    return "has a key outside its kind";
  }
  const bool counted = !run.counts.empty();
  if (counted && run.counts.size() != run.keys.size()) return "has unequal keys and counts";
  if (run.weights.size() != (weighted ? run.keys.size() : 0) || (weighted && counted)) {
    return "has unequal keys and weights";
  }
  for (std::size_t i = 1; i < run.keys.size(); ++i) {
    const bool in_order =
        counted || weighted ? run.keys[i - 1] < run.keys[i] : run.keys[i - 1] <= run.keys[i];
    if (!in_order) return "has keys out of order";
  }
  if (weighted) {
    u128 total = 0;
    for (const u128 w : run.weights) {
      if (w == 0 || w > (u128{1} << 127) - 1 - total) return "has a weight out of range";
      total += w;
    }
    return run.keys.size() <= rows ? nullptr : "has more keys than rows";
  }
  u64 total = 0;
  if (counted) {
    for (const u64 c : run.counts) {
      if (c == 0 || c > rows - total) return "has counts that do not add up";
      total += c;
    }
  } else {
    total = run.keys.size();
  }
  if (total != rows) return "has counts that do not add up";
  const u64 distinct = counted ? run.keys.size() : distinct_keys(run.keys);
  if (counted != is_counted_form<Key>(rows, distinct)) return "is not in canonical form";
  return nullptr;
}

}  // namespace

double score_of_key(ScoreKind kind, u64 key) {
  switch (kind) {
    case ScoreKind::kF16: {
      const u16 bits = bits_of_16(static_cast<u32>(key));
      const int exponent = (bits >> 10) & 0x1F;
      const double fraction = bits & 0x3FF;
      // 2^-24 is the unit of subnormals; a normal value adds the implied bit.
      double value = exponent == 0 ? fraction * 0x1p-24 : (fraction + 1024.0) * 0x1p-25;
      for (int e = 0; e < exponent; ++e) value *= 2.0;
      return (bits & 0x8000) != 0 ? -value : value;
    }
    case ScoreKind::kBF16:
      return std::bit_cast<float>(static_cast<u32>(bits_of_16(static_cast<u32>(key))) << 16);
    case ScoreKind::kF32:
      return std::bit_cast<float>(bits_of_f32(static_cast<u32>(key)));
    case ScoreKind::kF64:
      return std::bit_cast<double>(bits_of_f64(key));
    case ScoreKind::kI64:
      return static_cast<double>(static_cast<i64>(key ^ 0x8000000000000000u));
    case ScoreKind::kU64:
      return static_cast<double>(key);
  }
  return 0;
}

template <class Key>
u128 KeyRun<Key>::mass() const {
  u128 total = 0;
  if (!weights.empty()) {
    for (const u128 w : weights) total += w;
  } else if (!counts.empty()) {
    for (const u64 c : counts) total += c;
  } else {
    total = keys.size();
  }
  return total;
}
template struct KeyRun<u32>;
template struct KeyRun<u64>;

template <class Key>
KeyRun<Key> canonical_run(Buffer<Key> ascending_keys) {
  KeyRun<Key> run;
  const u64 distinct = distinct_keys(ascending_keys);
  if (!is_counted_form<Key>(ascending_keys.size(), distinct)) {
    run.keys = std::move(ascending_keys);
    return run;
  }
  run.keys.reserve(distinct);
  run.counts.reserve(distinct);
  for (std::size_t i = 0; i < ascending_keys.size();) {
    const std::size_t first = i;
    while (i < ascending_keys.size() && ascending_keys[i] == ascending_keys[first]) ++i;
    run.keys.push_back(ascending_keys[first]);
    run.counts.push_back(i - first);
  }
  return run;
}
template KeyRun<u32> canonical_run(Buffer<u32>);
template KeyRun<u64> canonical_run(Buffer<u64>);

template <class Key>
KeyRun<Key> canonical_run(Buffer<Key> keys, Buffer<u64> counts) {
  KeyRun<Key> run;
  u64 rows = 0;
  for (const u64 c : counts) rows += c;
  if (is_counted_form<Key>(rows, keys.size())) {
    run.keys = std::move(keys);
    run.counts = std::move(counts);
    return run;
  }
  run.keys.reserve(rows);
  for (std::size_t i = 0; i < keys.size(); ++i) run.keys.insert(run.keys.end(), counts[i], keys[i]);
  return run;
}
template KeyRun<u32> canonical_run(Buffer<u32>, Buffer<u64>);
template KeyRun<u64> canonical_run(Buffer<u64>, Buffer<u64>);

RankTable::RankTable(ScoreKind kind, bool weighted)
    : kind_(kind), weighted_(weighted), fresh_(false) {
  if (key_bits(kind) == 64) runs_ = KeyRuns<u64>{};
}

RankTable::RankTable(ScoreKind kind, bool weighted, std::variant<KeyRuns<u32>, KeyRuns<u64>> runs,
                     u64 pos_rows, u64 neg_rows)
    : kind_(kind),
      weighted_(weighted),
      fresh_(false),
      pos_rows_(pos_rows),
      neg_rows_(neg_rows),
      runs_(std::move(runs)) {
  CUPEL_ASSERT((key_bits(kind) == 64) == std::holds_alternative<KeyRuns<u64>>(runs_));
}

u64 RankTable::bytes() const {
  return std::visit([](const auto& r) { return run_bytes(r.pos) + run_bytes(r.neg); }, runs_);
}

Result<void> RankTable::merge(const RankTable& other) {
  if (other.fresh_) return {};
  if (fresh_) {
    *this = other;
    return {};
  }
  if (kind_ != other.kind_ || weighted_ != other.weighted_) {
    return input_error("", "scores of different types cannot be evaluated together",
                       "convert the score columns to one dtype");
  }
  std::visit(
      [&](auto& mine) {
        const auto& theirs = std::get<std::decay_t<decltype(mine)>>(other.runs_);
        mine.pos = merge_runs(mine.pos, theirs.pos, weighted_);
        mine.neg = merge_runs(mine.neg, theirs.neg, weighted_);
      },
      runs_);
  pos_rows_ += other.pos_rows_;
  neg_rows_ += other.neg_rows_;
  return {};
}

void RankTable::encode(ByteWriter& writer) const {
  writer.put(kRankTableVersion);
  writer.put(static_cast<u8>(kind_));
  writer.put(static_cast<u8>(weighted_ ? 1 : 0));
  writer.put(static_cast<u8>(fresh_ ? 1 : 0));
  writer.put(u8{0});
  writer.put(pos_rows_);
  writer.put(neg_rows_);
  std::visit(
      [&](const auto& runs) {
        encode_run(runs.pos, writer);
        encode_run(runs.neg, writer);
      },
      runs_);
}

Result<RankTable> RankTable::decode(ByteReader& reader) {
  const auto damaged = [](const char* what) {
    return input_error("rank table", what, "the state is damaged; make it again");
  };
  u32 version = 0;
  u8 kind = 0;
  u8 weighted = 0;
  u8 fresh = 0;
  u8 padding = 0;
  RankTable table;
  if (!reader.get(version)) return damaged("is truncated");
  if (version != kRankTableVersion) {
    return input_error("rank table", "has version " + std::to_string(version),
                       "this cupel reads version " + std::to_string(kRankTableVersion));
  }
  if (!reader.get(kind) || !reader.get(weighted) || !reader.get(fresh) || !reader.get(padding) ||
      !reader.get(table.pos_rows_) || !reader.get(table.neg_rows_)) {
    return damaged("is truncated");
  }
  const u64 limit = u64{1} << 62;
  if (kind > static_cast<u8>(ScoreKind::kU64) || weighted > 1 || fresh > 1 || padding != 0 ||
      table.pos_rows_ >= limit || table.neg_rows_ >= limit) {
    return damaged("has an invalid header");
  }
  table.kind_ = static_cast<ScoreKind>(kind);
  table.weighted_ = weighted != 0;
  table.fresh_ = fresh != 0;
  if (table.fresh_ && table != RankTable()) return damaged("has an invalid header");
  if (key_bits(table.kind_) == 64) table.runs_ = KeyRuns<u64>{};
  const char* problem = std::visit(
      [&](auto& runs) {
        const char* p = decode_run(reader, table.kind_, table.weighted_, table.pos_rows_, runs.pos);
        return p != nullptr
                   ? p
                   : decode_run(reader, table.kind_, table.weighted_, table.neg_rows_, runs.neg);
      },
      table.runs_);
  if (problem != nullptr) return damaged(problem);
  return table;
}

Result<RankTable> merge_all(std::vector<RankTable> tables) {
  if (tables.empty()) return RankTable();
  for (std::size_t step = 1; step < tables.size(); step *= 2) {
    for (std::size_t i = 0; i + step < tables.size(); i += 2 * step) {
      if (auto merged = tables[i].merge(tables[i + step]); !merged) return merged.error();
      tables[i + step] = RankTable();
    }
  }
  return std::move(tables.front());
}

RankSummary summarise(const RankTable& positives_of, const RankTable& negatives_of,
                      std::span<const RankQuery> queries) {
  RankSummary summary;
  summary.kind = positives_of.kind();
  summary.weighted = positives_of.weighted();
  summary.pos_rows = positives_of.pos_rows();
  summary.neg_rows = negatives_of.neg_rows();
  with_runs(positives_of, negatives_of, [&](const auto& pos, const auto& neg, auto zero) {
    using M = decltype(zero);
    using Key = typename std::decay_t<decltype(pos.keys)>::value_type;
    summary.pos = pos.mass();
    summary.neg = neg.mass();
    const ClassMass<M> all{static_cast<M>(summary.pos), static_cast<M>(summary.neg)};
    std::vector<RankAccumulator<M>> accumulators;
    accumulators.reserve(queries.size());
    for (const RankQuery& query : queries) accumulators.emplace_back(query, all);
    for_each_group<Key, M>(pos, neg, [&](const TieGroup<M>& g) {
      ++summary.distinct;
      for (auto& accumulator : accumulators) accumulator.add(g);
    });
    for (const auto& accumulator : accumulators) summary.answers.push_back(accumulator.finish());
  });
  return summary;
}

Contributions::Contributions(const RankTable& whole) {
  with_runs(whole, whole, [&](const auto& pos, const auto& neg, auto zero) {
    using M = decltype(zero);
    using Key = typename std::decay_t<decltype(pos.keys)>::value_type;
    const ClassMass<M> all{static_cast<M>(pos.mass()), static_cast<M>(neg.mass())};
    const int scale = all.pos != 0 ? precision_scale(all) : 0;
    for_each_group<Key, M>(pos, neg, [&](const TieGroup<M>& g) {
      if (g.pos == 0) return;
      const auto p = point_at(all, g);
      groups_.push_back(
          {g.key, u128{2} * g.neg_below + g.neg, scaled_precision(p.tp, p.fp, scale)});
    });
  });
}

RangeShare Contributions::of(const RankTable& part) const {
  RangeShare share;
  with_runs(part, part, [&](const auto& pos, const auto& neg, auto zero) {
    using M = decltype(zero);
    using Key = typename std::decay_t<decltype(pos.keys)>::value_type;
    share.pos = pos.mass();
    share.neg = neg.mass();
    for (RunCursor<Key, M> own(pos); !own.at_end(); own.advance()) {
      const auto at = std::lower_bound(groups_.begin(), groups_.end(), u64{own.key()},
                                       [](const Group& g, u64 key) { return g.key < key; });
      if (at == groups_.end() || at->key != own.key()) continue;
      share.two_u += multiply(u128{own.mass()}, at->twice_negatives_below);
      share.precision += multiply(u128{own.mass()}, at->precision);
    }
  });
  return share;
}

std::vector<CurveVertex> curve_vertices(const RankTable& table) {
  std::vector<CurveVertex> vertices;
  with_runs(table, table, [&](const auto& pos, const auto& neg, auto zero) {
    using M = decltype(zero);
    using Key = typename std::decay_t<decltype(pos.keys)>::value_type;
    const ClassMass<M> all{static_cast<M>(pos.mass()), static_cast<M>(neg.mass())};
    for_each_group<Key, M>(pos, neg, [&](const TieGroup<M>& g) {
      const auto p = point_at(all, g);
      vertices.push_back({g.key, p.tp, p.fp});
    });
  });
  std::reverse(vertices.begin(), vertices.end());
  return vertices;
}

}  // namespace cupel
