#include "cupel/state/sorted_confidences.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <type_traits>
#include <variant>

#include "cupel/math/elementary.hpp"

namespace cupel {
namespace {

constexpr std::size_t kBlock = SortedConfidences::kBlock;
using Take = std::function<void(std::span<const ConfidenceGroup>)>;

// ---- scores as probabilities -------------------------------------------------------------------

CUPEL_INLINE void logistic_body(double* p, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) p[i] = sigmoid_det(p[i]);
}
void logistic_base(double* p, std::size_t count) { logistic_body(p, count); }
CUPEL_TARGET_V3 void logistic_v3(double* p, std::size_t count) { logistic_body(p, count); }

bool has_v3() {
#if CUPEL_HAS_TARGETS && !defined(__clang_analyzer__)  // clang 14 does not know this name
  __builtin_cpu_init();
  return __builtin_cpu_supports("x86-64-v3") != 0;
#else
  return false;
#endif
}

/// The probabilities of `count` keys.
void probabilities(ScoreKind kind, ScoreMeaning meaning, const u64* keys, std::size_t count,
                   double* p) {
  if (kind == ScoreKind::kF32) {
    for (std::size_t i = 0; i < count; ++i) {
      p[i] = double{std::bit_cast<float>(bits_of_f32(static_cast<u32>(keys[i])))};
    }
  } else if (kind == ScoreKind::kF64) {
    for (std::size_t i = 0; i < count; ++i) p[i] = std::bit_cast<double>(bits_of_f64(keys[i]));
  } else {
    for (std::size_t i = 0; i < count; ++i) p[i] = score_of_key(kind, keys[i]);
  }
  if (meaning != ScoreMeaning::kLogit) return;
  static const bool kHasV3 = has_v3();
  kHasV3 ? logistic_v3(p, count) : logistic_base(p, count);
}

double probability(ScoreKind kind, ScoreMeaning meaning, u64 key) {
  double p = 0;
  probabilities(kind, meaning, &key, 1, &p);
  return p;
}

// ---- tie groups of a table, in either direction ------------------------------------------------

/// Walks the distinct keys of run[begin, end), upwards or downwards.
template <class Key, bool kUp>
class RunWalk {
 public:
  RunWalk(const KeyRun<Key>& run, std::size_t begin, std::size_t end)
      : keys_(run.keys.data()),
        counts_(run.counts.empty() ? nullptr : run.counts.data()),
        weights_(run.weights.empty() ? nullptr : run.weights.data()),
        begin_(begin),
        end_(end) {}

  bool at_end() const { return begin_ == end_; }
  /// One entry a row.
  bool is_plain() const { return counts_ == nullptr && weights_ == nullptr; }
  std::size_t size() const { return end_ - begin_; }
  Key peek(std::size_t i) const { return keys_[kUp ? begin_ + i : end_ - 1 - i]; }
  void skip(std::size_t entries) { kUp ? begin_ += entries : end_ -= entries; }
  Key key() const { return keys_[kUp ? begin_ : end_ - 1]; }

  /// The mass of the next key, which is passed.
  u128 take() {
    const std::size_t at = kUp ? begin_ : end_ - 1;
    if (weights_ != nullptr || counts_ != nullptr) {
      kUp ? ++begin_ : --end_;
      return weights_ != nullptr ? weights_[at] : u128{counts_[at]};
    }
    const Key key = keys_[at];
    u64 rows = 0;
    while (begin_ != end_ && keys_[kUp ? begin_ : end_ - 1] == key) {
      kUp ? ++begin_ : --end_;
      ++rows;
    }
    return rows;
  }

 private:
  const Key* keys_;
  const u64* counts_;
  const u128* weights_;
  std::size_t begin_;
  std::size_t end_;
};

/// What one side of a table holds, as confidences that never fall: upwards the probability of the
/// positive class, downwards that of the negative one.
template <class Key, bool kUp>
class Side {
 public:
  Side(RunWalk<Key, kUp> pos, RunWalk<Key, kUp> neg, ScoreKind kind, ScoreMeaning meaning)
      : pos_(pos), neg_(neg), kind_(kind), meaning_(meaning) {
    refill();
  }

  bool at_end() const { return next_ == count_; }
  const ConfidenceGroup& front() const { return groups_[next_]; }
  /// All that is there before more has to be read.
  std::span<const ConfidenceGroup> block() const {
    return {groups_.data() + next_, count_ - next_};
  }
  void pop() {
    if (++next_ == count_) refill();
  }
  void pop_block() { refill(); }

 private:
  void refill() {
    do {
      read_block();
    } while (count_ == 0 && holds_);  // a whole block of one confidence
  }

  void read_block() {
    std::array<u64, kBlock> keys;
    std::array<double, kBlock> p;
    // The last group of the block before: more of it may come.
    groups_[0] = held_;
    std::size_t read = holds_ ? 1 : 0;
    const std::size_t first = read;
    if (pos_.is_plain() && neg_.is_plain()) read = read_plain(keys.data(), read);
    while (read < kBlock && !(pos_.at_end() && neg_.at_end())) {
      const bool both = !pos_.at_end() && !neg_.at_end();
      const bool take_pos =
          both ? (kUp ? pos_.key() <= neg_.key() : pos_.key() >= neg_.key()) : neg_.at_end();
      const bool take_neg =
          both ? (kUp ? neg_.key() <= pos_.key() : neg_.key() >= pos_.key()) : pos_.at_end();
      ConfidenceGroup& group = groups_[read];
      keys[read++] = take_pos ? pos_.key() : neg_.key();
      const u128 pos = take_pos ? pos_.take() : 0;
      const u128 neg = take_neg ? neg_.take() : 0;
      group.right = kUp ? pos : neg;
      group.wrong = kUp ? neg : pos;
    }
    probabilities(kind_, meaning_, keys.data() + first, read - first, p.data() + first);
    next_ = 0;
    count_ = first;
    for (std::size_t i = first; i < read; ++i) {
      const double confidence = kUp ? p[i] : 1.0 - p[i];
      if (count_ != 0 && !(confidence > groups_[count_ - 1].p)) {
        groups_[count_ - 1].right += groups_[i].right;
        groups_[count_ - 1].wrong += groups_[i].wrong;
      } else {
        groups_[count_] = groups_[i];
        groups_[count_++].p = confidence;
      }
    }
    holds_ = count_ != 0 && !(pos_.at_end() && neg_.at_end());
    if (holds_) held_ = groups_[--count_];
  }

  /// Rows as groups of one or two, while both runs have any: without branches, for which of them
  /// is next follows no rule. Returns `read` and what was added.
  std::size_t read_plain(u64* keys, std::size_t read) {
    std::size_t pos = 0;
    std::size_t neg = 0;
    while (read < kBlock && pos < pos_.size() && neg < neg_.size()) {
      const Key a = pos_.peek(pos);
      const Key b = neg_.peek(neg);
      const bool take_pos = kUp ? a <= b : a >= b;
      const bool take_neg = kUp ? b <= a : b >= a;
      keys[read] = take_pos ? a : b;
      groups_[read].right = static_cast<u64>(kUp ? take_pos : take_neg);
      groups_[read].wrong = static_cast<u64>(kUp ? take_neg : take_pos);
      pos += static_cast<std::size_t>(take_pos);
      neg += static_cast<std::size_t>(take_neg);
      ++read;
    }
    pos_.skip(pos);
    neg_.skip(neg);
    return read;
  }

  RunWalk<Key, kUp> pos_;
  RunWalk<Key, kUp> neg_;
  ScoreKind kind_;
  ScoreMeaning meaning_;
  std::array<ConfidenceGroup, kBlock> groups_;
  std::size_t next_ = 0;
  std::size_t count_ = 0;
  ConfidenceGroup held_;
  bool holds_ = false;
};

/// Joins equal confidences and hands out blocks.
class Output {
 public:
  explicit Output(const Take& take) : take_(take) {}

  void add(const ConfidenceGroup& group) {
    if (count_ != 0 && block_[count_ - 1].p == group.p) {
      block_[count_ - 1].right += group.right;
      block_[count_ - 1].wrong += group.wrong;
      return;
    }
    if (count_ == kBlock) {
      // The last one stays: more of it may come.
      take_({block_.data(), kBlock - 1});
      block_[0] = block_[kBlock - 1];
      count_ = 1;
    }
    block_[count_++] = group;
  }
  void finish() {
    if (count_ != 0) take_({block_.data(), count_});
  }

 private:
  const Take& take_;
  std::array<ConfidenceGroup, kBlock> block_;
  std::size_t count_ = 0;
};

/// Entries of an ascending run whose probability is at most one half.
template <class Key>
std::size_t entries_to_half(const KeyRun<Key>& run, ScoreKind kind, ScoreMeaning meaning) {
  const auto split = std::partition_point(run.keys.begin(), run.keys.end(), [&](Key key) {
    return !(probability(kind, meaning, key) > 0.5);
  });
  return static_cast<std::size_t>(split - run.keys.begin());
}

template <class Key>
void visit_top(const KeyRuns<Key>& runs, ScoreKind kind, ScoreMeaning meaning, const Take& take) {
  Output output(take);
  const std::size_t pos = entries_to_half(runs.pos, kind, meaning);
  const std::size_t neg = entries_to_half(runs.neg, kind, meaning);
  Side<Key, true> high(RunWalk<Key, true>(runs.pos, pos, runs.pos.keys.size()),
                       RunWalk<Key, true>(runs.neg, neg, runs.neg.keys.size()), kind, meaning);
  Side<Key, false> low(RunWalk<Key, false>(runs.pos, 0, pos), RunWalk<Key, false>(runs.neg, 0, neg),
                       kind, meaning);
  while (!high.at_end() || !low.at_end()) {
    if (low.at_end() || (!high.at_end() && high.front().p <= low.front().p)) {
      output.add(high.front());
      high.pop();
    } else {
      output.add(low.front());
      low.pop();
    }
  }
  output.finish();
}

template <class Key>
void visit_positive(const KeyRuns<Key>& runs, ScoreKind kind, ScoreMeaning meaning,
                    const Take& take) {
  Side<Key, true> side(RunWalk<Key, true>(runs.pos, 0, runs.pos.keys.size()),
                       RunWalk<Key, true>(runs.neg, 0, runs.neg.keys.size()), kind, meaning);
  for (; !side.at_end(); side.pop_block()) take(side.block());
}

template <class Key>
bool in_unit(const KeyRun<Key>& run, ScoreKind kind) {
  return run.keys.empty() || (score_of_key(kind, run.keys.front()) >= 0.0 &&
                              score_of_key(kind, run.keys.back()) <= 1.0);
}

}  // namespace

u128 SortedConfidences::mass() const {
  if (!weighted()) return rows();
  return std::visit([](const auto& runs) { return runs.pos.mass() + runs.neg.mass(); },
                    table_->runs());
}

bool SortedConfidences::are_probabilities() const {
  if (meaning_ == ScoreMeaning::kLogit) return true;
  const ScoreKind kind = table_->kind();
  return std::visit(
      [&](const auto& runs) { return in_unit(runs.pos, kind) && in_unit(runs.neg, kind); },
      table_->runs());
}

void SortedConfidences::visit(
    const std::function<void(std::span<const ConfidenceGroup>)>& take) const {
  std::visit(
      [&](const auto& runs) {
        of_ == ConfidenceOf::kTop ? visit_top(runs, table_->kind(), meaning_, take)
                                  : visit_positive(runs, table_->kind(), meaning_, take);
      },
      table_->runs());
}

}  // namespace cupel
