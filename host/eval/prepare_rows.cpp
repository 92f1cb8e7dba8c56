#include "eval/prepare_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "cupel/math/counter_random.hpp"
#include "cupel/math/weight.hpp"

namespace cupel {

Error RowPreparer::fault_error(const BoundColumn& column, const Faults& faults) const {
  return input_error(
      place(column, faults.first),
      fmt::format("{} '{}' {} ({} such row{} in all)", role_name(column.role), column.info().name,
                  faults.what, faults.rows, faults.rows == 1 ? "" : "s"),
      "mend the dump, or leave such rows out with --nan drop");
}
Result<void> RowPreparer::load_columns() {
  if (binding_.block) {
    table_.arrays = binding_.block->columns;
    for (Array& array : table_.arrays) narrow(array.view);
  } else {
    auto loaded = cupel::load_columns(binding_);
    if (!loaded) return loaded.error();
    table_.arrays = std::move(*loaded);
  }
  id_ = array_of(binding_.id);
  calibration_ = array_of(binding_.calibration);
  return {};
}

/// Leaves the rows of the block.
void RowPreparer::narrow(ArrayView& view) const {
  const i64 first = binding_.block->first;
  if (view.dtype == DType::kText) {
    view.offsets += first;
  } else {
    view.data = view.at(first);
  }
  view.shape[0] = binding_.rows;
}

const Array* RowPreparer::array_of(const BoundColumn& column) const {
  const auto columns = binding_.columns();
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (columns[i] == &column) return &table_.arrays[i];
  }
  return nullptr;
}

Result<void> RowPreparer::check_weights(double* values) {
  const ArrayView& view = array_of(binding_.weight)->view;
  if (is_string(view.dtype)) return not_numeric(*binding_.weight);
  Faults faults;
  u128 total = 0;
  const u128 limit = u128{1} << 127;
  for (i64 row = 0; row < binding_.rows; ++row) {
    const double w = element(view, row, 0);
    const WeightMass mass = weight_mass(w);
    if (values != nullptr) values[row] = w;
    if (mass.fault == WeightFault::kNone) {
      total += mass.mass;
      if (total >= limit) {
        return input_error(place(*binding_.weight, row), "the weights add up to 2^63 or more",
                           "scale them down");
      }
      continue;
    }
    if (faults.first < 0) {
      faults.what = mass.fault == WeightFault::kTooSmall
                        ? fmt::format("is {}, which is positive but below 2^-65", w)
                    : mass.fault == WeightFault::kTooLarge ? fmt::format("is {}, 2^63 or more", w)
                                                           : fmt::format("is {}", w);
    }
    faults.add(row);
    if (drops()) mark(row, RowFault::kWeight);
  }
  if (faults.rows != 0 && !drops()) return fault_error(*binding_.weight, faults);
  return {};
}

u64 RowPreparer::row_id(i64 row) const {
  if (id_ == nullptr) return static_cast<u64>(first_row_ + row);
  const ArrayView& ids = id_->view;
  if (is_float(ids.dtype)) return std::bit_cast<u64>(element(ids, row, 0) + 0.0);
  if (!is_string(ids.dtype)) {
    return with_type(
        ids.dtype, [&](auto zero) { return static_cast<u64>(load<decltype(zero)>(ids.at(row))); });
  }
  u64 hash = 0xCBF29CE484222325u;  // FNV-1a
  for (const char c : text_at(ids, row)) {
    hash = (hash ^ static_cast<u8>(c)) * 0x100000001B3u;
  }
  return hash;
}

Result<void> RowPreparer::choose_split() {
  if (request_.split == RowSplit::kAll && !halves()) return {};
  const bool want_calibration = halves() || request_.split == RowSplit::kCalibration;
  keep_.resize(static_cast<std::size_t>(binding_.rows));
  table_.calibration_rows = 0;
  if (calibration_ != nullptr) {
    const ArrayView& column = calibration_->view;
    if (is_string(column.dtype)) return not_numeric(*binding_.calibration);
    for (i64 row = 0; row < binding_.rows; ++row) {
      const double value = element(column, row, 0);
      if (value != 0.0 && value != 1.0) {
        return input_error(place(*binding_.calibration, row),
                           fmt::format("calibration '{}' is {}, neither 0 nor 1",
                                       binding_.calibration->info().name, value),
                           "the column says which rows are for calibration");
      }
      keep_[static_cast<std::size_t>(row)] = (value == 1.0) == want_calibration;
      table_.calibration_rows += value == 1.0 ? 1 : 0;
    }
    return {};
  }
  const auto fraction = parse_decimal(request_.roles.calibration);
  CUPEL_ASSERT(fraction.ok());
  for (i64 row = 0; row < binding_.rows; ++row) {
    const u64 u = counter_random(request_.seed, row_id(row));
    const bool calibration =
        static_cast<u128>(u) * fraction->den < (static_cast<u128>(fraction->num) << 64);
    keep_[static_cast<std::size_t>(row)] = calibration == want_calibration;
    table_.calibration_rows += calibration ? 1 : 0;
  }
  return {};
}

/// The value of a group column as people see it; nullopt when unknown.
std::optional<std::string> RowPreparer::group_value(const ArrayView& column, i64 row) const {
  std::string value;
  if (is_string(column.dtype)) {
    value = text_at(column, row);
  } else if (column.dtype == DType::kBool) {
    value = element(column, row, 0) != 0 ? "true" : "false";
  } else if (column.dtype == DType::kU64) {
    value = fmt::format("{}", load<u64>(column.at(row)));
  } else if (is_integer(column.dtype)) {
    const i64 number = with_type(column.dtype, [&](auto zero) {
      return static_cast<i64>(load<decltype(zero)>(column.at(row)));
    });
    value = fmt::format("{}", number);
  } else {
    const double number = element(column, row, 0);
    if (std::isnan(number)) return std::nullopt;
    value = fmt::format("{}", number + 0.0);
  }
  if (value.empty() || (!is_string(column.dtype) && value == "-1")) return std::nullopt;
  if (request_.unknown && value == *request_.unknown) return std::nullopt;
  return value;
}

/// Cells are numbered in ascending order of their keys, so that numbers do not depend on row
/// order.
Result<void> RowPreparer::read_groups() {
  if (binding_.groups.empty()) {
    table_.cells = {CellKey{}};
    return {};
  }
  constexpr std::size_t kMostCells = 1'000'000;
  std::vector<u32> cell_of_row(static_cast<std::size_t>(binding_.rows), 0);
  table_.cells = {CellKey{}};
  for (std::size_t g = 0; g < binding_.groups.size(); ++g) {
    const ArrayView& column = array_of(binding_.groups[g])->view;
    // Values first, then combinations of what was there with the new value.
    std::map<std::optional<std::string>, u32> codes;
    std::vector<u32> code_of_row(static_cast<std::size_t>(binding_.rows));
    for (i64 row = 0; row < binding_.rows; ++row) {
      const auto [at, added] =
          codes.try_emplace(group_value(column, row), static_cast<u32>(codes.size()));
      code_of_row[static_cast<std::size_t>(row)] = at->second;
    }
    std::vector<const std::optional<std::string>*> values(codes.size());
    for (const auto& [value, code] : codes) values[code] = &value;
    std::map<std::pair<u32, u32>, u32> combinations;
    for (std::size_t row = 0; row < cell_of_row.size(); ++row) {
      combinations.try_emplace({cell_of_row[row], code_of_row[row]}, 0);
      if (combinations.size() > kMostCells) {
        return input_error(
            binding_.groups[g].dump->path(),
            fmt::format("the group columns have more than {} combinations", kMostCells),
            "group by columns with fewer values");
      }
    }
    std::vector<std::pair<CellKey, u32*>> ordered;
    for (auto& [pair, cell] : combinations) {
      CellKey key = table_.cells[pair.first];
      key.push_back(*values[pair.second]);
      ordered.emplace_back(std::move(key), &cell);
    }
    std::sort(ordered.begin(), ordered.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<CellKey> cells;
    for (auto& [key, cell] : ordered) {
      *cell = static_cast<u32>(cells.size());
      cells.push_back(std::move(key));
    }
    table_.cells = std::move(cells);
    for (std::size_t row = 0; row < cell_of_row.size(); ++row) {
      cell_of_row[row] = combinations.at({cell_of_row[row], code_of_row[row]});
    }
  }
  table_.cell_of_row.assign(cell_of_row.begin(), cell_of_row.end());
  return {};
}

/// Fits need the rows of both halves: each cell becomes two instead of rows being left out.
void RowPreparer::split_cells() {
  if (table_.cell_of_row.empty()) {
    // One more than rows: an empty shard has cells too, and a null pointer would mean it has
    // none.
    table_.cell_of_row.assign(static_cast<std::size_t>(binding_.rows) + 1, 0);
  }
  for (std::size_t row = 0; row < keep_.size(); ++row) {
    u32& cell = table_.cell_of_row[row];
    cell = 2 * cell + (keep_[row] ? 1 : 0);
  }
  keep_.clear();
  std::vector<CellKey> cells;
  for (const CellKey& key : table_.cells) {
    cells.insert(cells.end(), 2, key);
    table_.calibration_cells.push_back(false);
    table_.calibration_cells.push_back(true);
  }
  table_.cells = std::move(cells);
  table_.has_halves = true;
}

std::vector<i64> RowPreparer::kept_rows() {
  std::vector<i64> rows;
  for (i64 row = 0; row < binding_.rows; ++row) {
    const auto at = static_cast<std::size_t>(row);
    if (!keep_.empty() && !keep_[at]) continue;
    const RowFault fault = faults_.empty() ? RowFault::kNone : faults_[at];
    table_.dropped.scores += fault == RowFault::kScore ? 1 : 0;
    table_.dropped.labels += fault == RowFault::kLabel ? 1 : 0;
    table_.dropped.weights += fault == RowFault::kWeight ? 1 : 0;
    table_.dropped.features += fault == RowFault::kFeature ? 1 : 0;
    if (fault == RowFault::kNone) rows.push_back(row);
  }
  return rows;
}

}  // namespace cupel
