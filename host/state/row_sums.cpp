#include "cupel/state/row_sums.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace cupel {
namespace {

constexpr u32 kRowSumsVersion = 4;
/// Queries that a state may have: more than metrics could ask for.
constexpr u32 kMostBinQueries = 1 << 16;

template <class T>
void add_to(std::vector<T>& mine, const std::vector<T>& theirs) {
  for (std::size_t i = 0; i < mine.size(); ++i) mine[i] += theirs[i];
}

bool same_shape(const std::vector<BinTotals>& a, const std::vector<BinTotals>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.rows.size() == y.rows.size() && x.square.size() == y.square.size();
  });
}

}  // namespace

Result<void> RowSums::merge(const RowSums& other) {
  if (other == RowSums()) return {};
  if (*this == RowSums()) {
    *this = other;
    return {};
  }
  if (softmax_f32 != other.softmax_f32) {
    return input_error("", "row sums with softmax f32 and f64 cannot be merged",
                       "evaluate all dumps with the same --softmax");
  }
  if (weighted != other.weighted || class_rows.size() != other.class_rows.size() ||
      class_mass.size() != other.class_mass.size() || hits.size() != other.hits.size() ||
      top_k_hits.size() != other.top_k_hits.size() || !same_shape(bins, other.bins)) {
    return input_error("", "row sums of different tasks cannot be merged",
                       "evaluate dumps with the same classes and metrics");
  }
  rows += other.rows;
  add_to(class_rows, other.class_rows);
  add_to(class_mass, other.class_mass);
  add_to(hits, other.hits);
  add_to(top_k_hits, other.top_k_hits);
  brier += other.brier;
  log_loss += other.log_loss;
  clipped += other.clipped;
  outside_unit += other.outside_unit;
  overflowed += other.overflowed;
  slopes.label += other.slopes.label;
  slopes.mean += other.slopes.mean;
  slopes.variance += other.slopes.variance;
  for (std::size_t q = 0; q < bins.size(); ++q) {
    add_to(bins[q].rows, other.bins[q].rows);
    add_to(bins[q].mass, other.bins[q].mass);
    add_to(bins[q].right, other.bins[q].right);
    add_to(bins[q].confidence, other.bins[q].confidence);
    add_to(bins[q].right_confidence, other.bins[q].right_confidence);
    add_to(bins[q].square, other.bins[q].square);
    add_to(bins[q].spread, other.bins[q].spread);
  }
  return {};
}

void RowSums::encode(ByteWriter& writer) const {
  writer.put(kRowSumsVersion);
  writer.put(static_cast<u32>((weighted ? 1 : 0) | (softmax_f32 ? 2 : 0)));
  writer.put(rows);
  writer.put_array(std::span<const u64>(class_rows));
  writer.put_array(std::span<const u128>(class_mass));
  writer.put_array(std::span<const u128>(hits));
  writer.put_array(std::span<const u128>(top_k_hits));
  writer.put(brier);
  writer.put(log_loss);
  writer.put(clipped);
  writer.put(outside_unit);
  writer.put(overflowed);
  writer.put(slopes.label);
  writer.put(slopes.mean);
  writer.put(slopes.variance);
  writer.put(static_cast<u32>(bins.size()));
  for (const BinTotals& query : bins) {
    writer.put_array(std::span<const u64>(query.rows));
    writer.put_array(std::span<const u128>(query.mass));
    writer.put_array(std::span<const u128>(query.right));
    writer.put_array(std::span<const U256>(query.confidence));
    writer.put_array(std::span<const U256>(query.right_confidence));
    writer.put_array(std::span<const U256>(query.square));
    writer.put_array(std::span<const U256>(query.spread));
  }
}

Result<RowSums> RowSums::decode(ByteReader& reader) {
  RowSums sums;
  u32 version = 0;
  u32 flags = 0;
  const auto damaged = [](std::string what) {
    return input_error("row sums", std::move(what), "the state is damaged; make it again");
  };
  if (!reader.get(version)) return damaged("is truncated");
  if (version != kRowSumsVersion) {
    return input_error("row sums", "has version " + std::to_string(version),
                       "this cupel reads version " + std::to_string(kRowSumsVersion));
  }
  const bool read = reader.get(flags) && reader.get(sums.rows) &&
                    reader.get_array(sums.class_rows) && reader.get_array(sums.class_mass) &&
                    reader.get_array(sums.hits) && reader.get_array(sums.top_k_hits) &&
                    reader.get(sums.brier) && reader.get(sums.log_loss) &&
                    reader.get(sums.clipped) && reader.get(sums.outside_unit) &&
                    reader.get(sums.overflowed) && reader.get(sums.slopes.label) &&
                    reader.get(sums.slopes.mean) && reader.get(sums.slopes.variance);
  u32 queries = 0;
  if (!read || !reader.get(queries)) return damaged("is truncated");
  if (queries > kMostBinQueries) return damaged("has an invalid shape");
  for (u32 q = 0; q < queries; ++q) {
    BinTotals bins;
    if (!reader.get_array(bins.rows) || !reader.get_array(bins.mass) ||
        !reader.get_array(bins.right) || !reader.get_array(bins.confidence) ||
        !reader.get_array(bins.right_confidence) || !reader.get_array(bins.square) ||
        !reader.get_array(bins.spread)) {
      return damaged("is truncated");
    }
    const std::size_t slots = bins.rows.size();
    const std::size_t moments = bins.square.size();
    if (bins.mass.size() != slots || bins.right.size() != slots ||
        bins.confidence.size() != slots || (moments != 0 && moments != slots) ||
        bins.right_confidence.size() != moments || bins.spread.size() != moments) {
      return damaged("has an invalid shape");
    }
    sums.bins.push_back(std::move(bins));
  }
  sums.weighted = (flags & 1) != 0;
  sums.softmax_f32 = (flags & 2) != 0;
  if (flags > 3 || sums.class_rows.size() != sums.class_mass.size() ||
      (!sums.hits.empty() &&
       (sums.class_rows.empty() || sums.hits.size() % sums.class_rows.size() != 0))) {
    return damaged("has an invalid shape");
  }
  u64 rows_left = sums.rows;
  for (const u64 r : sums.class_rows) {
    if (r > rows_left) return damaged("has rows that do not add up");
    rows_left -= r;
  }
  if (!sums.class_rows.empty() && rows_left != 0) return damaged("has rows that do not add up");
  if (sums.clipped > sums.rows || sums.outside_unit > sums.rows || sums.overflowed > sums.rows) {
    return damaged("has rows that do not add up");
  }
  return sums;
}

}  // namespace cupel
