#include "eval/samples.hpp"

#include <algorithm>
#include <cmath>
#include <thread>

#include "cupel/math/half.hpp"
#include "cupel/math/score_key.hpp"
#include "cupel/math/weight.hpp"
#include "metric/exact.hpp"

namespace cupel {
namespace {

constexpr double kUnit = 0x1p60;

u64 key_at(const TableView& table, i64 row, i64 col) {
  const std::byte* at = table.scores.at(row, col);
  const auto f32_key = [](float value) { return key_of_f32(bits_from_float(value)); };
  switch (table.scores.dtype) {
    case DType::kF16:
    case DType::kBF16:
      return key_of_16(load<u16>(at));
    case DType::kF32:
      return key_of_f32(load<u32>(at));
    case DType::kF64:
      return key_of_f64(load<u64>(at));
    case DType::kI8:
      return f32_key(load<i8>(at));
    case DType::kI16:
      return f32_key(load<i16>(at));
    case DType::kU16:
      return f32_key(load<u16>(at));
    case DType::kI32:
      return key_of_i64(load<i32>(at));
    case DType::kI64:
      return key_of_i64(load<i64>(at));
    case DType::kU32:
      return load<u32>(at);
    case DType::kU64:
      return load<u64>(at);
    default:
      return f32_key(load<u8>(at));
  }
}

template <class Key>
RankTable row_table(const TableView& table, ScoreKind kind, i64 row) {
  Buffer<Key> pos;
  Buffer<Key> neg;
  for (i64 col = 0; col < table.classes; ++col) {
    const Key key = static_cast<Key>(key_at(table, row, col));
    (table.label_matrix[row * table.classes + col] != 0 ? pos : neg).push_back(key);
  }
  std::sort(pos.begin(), pos.end());
  std::sort(neg.begin(), neg.end());
  const u64 positives = pos.size();
  const u64 negatives = neg.size();
  KeyRuns<Key> runs{canonical_run(std::move(pos)), canonical_run(std::move(neg))};
  return RankTable(kind, false, std::move(runs), positives, negatives);
}

}  // namespace

void SampleSums::merge(const SampleSums& other) {
  positive += other.positive;
  negative += other.negative;
  mass += other.mass;
  rows += other.rows;
  undefined += other.undefined;
}

MetricValue SampleSums::mean() const {
  if (rows + undefined == 0) return MetricValue::none(Undefined::kEmpty);
  if (rows == 0) return MetricValue::none(Undefined::kAllUndefined);
  if (mass == 0) return MetricValue::none(Undefined::kZeroWeight);
  const exact::Integer sum = exact::integer(positive) - exact::integer(negative);
  return MetricValue::of(exact::to_double(sum, exact::integer(mass) << 60U));
}

std::vector<SampleSums> sample_sums(const TableView& table, const Metric& metric,
                                    const Options& options, int threads) {
  const auto needs = metric.needs(options, table.task, table.classes, table.logits);
  CUPEL_ASSERT(needs.ok());
  const ScoreKind kind = score_kind(table);
  const auto run = [&](i64 first, i64 last) {
    std::vector<SampleSums> sums(table.cell_count);
    for (i64 row = first; row < last; ++row) {
      SampleSums& cell = sums[table.cells == nullptr ? 0 : table.cells[row]];
      const RankTable ranking = key_bits(kind) == 64 ? row_table<u64>(table, kind, row)
                                                     : row_table<u32>(table, kind, row);
      const RankSummary summary = summarise(ranking, needs->queries);
      Evidence evidence;
      evidence.task = table.task;
      evidence.classes = table.classes;
      evidence.logits = table.logits;
      evidence.ranks = &summary;
      evidence.table = &ranking;
      const MetricValue value = metric.finish(evidence, options);
      if (!value.is_defined()) {
        ++cell.undefined;
        continue;
      }
      const u128 mass = table.weights_f64 != nullptr ? weight_mass(table.weights_f64[row]).mass
                        : table.weights_f32 != nullptr
                            ? weight_mass(double{table.weights_f32[row]}).mass
                            : u128{1};
      const u64 units = static_cast<u64>(std::nearbyint(std::fabs(value.number) * kUnit));
      (value.number < 0 ? cell.negative : cell.positive) += multiply(mass, u128{units});
      cell.mass += mass;
      ++cell.rows;
    }
    return sums;
  };
  const i64 workers = std::clamp<i64>(threads, 1, std::max<i64>(1, table.rows / 64));
  std::vector<std::vector<SampleSums>> parts(static_cast<std::size_t>(workers));
  {
    std::vector<std::jthread> pool;
    for (i64 w = 1; w < workers; ++w) {
      pool.emplace_back([&, w] {
        parts[static_cast<std::size_t>(w)] =
            run(table.rows * w / workers, table.rows * (w + 1) / workers);
      });
    }
    parts[0] = run(0, table.rows / workers);
  }
  for (std::size_t w = 1; w < parts.size(); ++w) {
    for (std::size_t cell = 0; cell < parts[0].size(); ++cell) {
      parts[0][cell].merge(parts[w][cell]);
    }
  }
  return std::move(parts[0]);
}

}  // namespace cupel
