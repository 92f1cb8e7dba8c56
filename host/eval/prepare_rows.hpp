// What preparing the rows of any task has in common: loading columns, faults, which rows are for
// calibration, and the cells of groups.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cupel/math/half.hpp"
#include "eval/prepare.hpp"

namespace cupel {

/// Calls visit(T{}) with the C++ type of a numeric dtype other than f16 and bf16.
template <class Visit>
auto with_type(DType type, Visit visit) {
  switch (type) {
    case DType::kI8:
      return visit(i8{});
    case DType::kI16:
      return visit(i16{});
    case DType::kI32:
      return visit(i32{});
    case DType::kI64:
      return visit(i64{});
    case DType::kU16:
      return visit(u16{});
    case DType::kU32:
      return visit(u32{});
    case DType::kU64:
      return visit(u64{});
    case DType::kF32:
      return visit(float{});
    case DType::kF64:
      return visit(double{});
    default:
      return visit(u8{});
  }
}

/// One element of a numeric column as a double.
inline double element(const ArrayView& view, i64 row, i64 col) {
  const std::byte* at = view.at(row, col);
  if (view.dtype == DType::kF16) return float_from_f16(load<u16>(at));
  if (view.dtype == DType::kBF16) return float_from_bf16(load<u16>(at));
  return with_type(view.dtype,
                   [&](auto zero) { return static_cast<double>(load<decltype(zero)>(at)); });
}

/// What is wrong with the rows of one column: how many, and the first.
struct Faults {
  i64 rows = 0;
  i64 first = -1;
  std::string what;  ///< of the first
  void add(i64 row) {
    if (first < 0) first = row;
    ++rows;
  }
};

enum class RowFault : u8 { kNone, kScore, kLabel, kWeight, kFeature };

/// Prepares parts of a PreparedTable; a task's own preparer does the rest.
class RowPreparer {
 protected:
  RowPreparer(const Binding& binding, const EvalRequest& request, i64 first_row)
      : binding_(binding), request_(request), first_row_(first_row) {}

  static Error not_numeric(const BoundColumn& column) {
    return column.dump->not_numeric(column.index);
  }
  std::string place(const BoundColumn& column, i64 row) const {
    return column.dump->place(column.index, row + (binding_.block ? binding_.block->first : 0));
  }
  /// "probs.csv:17: score is nan (in 3 rows); mend them or leave such rows out with --nan drop".
  Error fault_error(const BoundColumn& column, const Faults& faults) const;
  /// Whether the rows of both halves are prepared, in cells of their own.
  bool halves() const { return request_.fits && !request_.roles.calibration.empty(); }
  bool drops() const { return request_.nan == NanPolicy::kDrop; }
  void mark(i64 row, RowFault fault) {
    if (faults_.empty()) faults_.resize(static_cast<std::size_t>(binding_.rows), RowFault::kNone);
    RowFault& slot = faults_[static_cast<std::size_t>(row)];
    if (slot == RowFault::kNone) slot = fault;
  }

  /// Loads all bound columns into the table, or takes those of the block, and sets the pointers
  /// below.
  Result<void> load_columns();
  /// The loaded array of a column of binding_; null where there is none.
  const Array* array_of(const BoundColumn& column) const;
  const Array* array_of(const std::optional<BoundColumn>& column) const {
    return column ? array_of(*column) : nullptr;
  }
  /// Whether weights are numbers that fit; `values` (null: not wanted) is given each of them.
  Result<void> check_weights(double* values);
  /// The number that random choices of a row follow: its id, or its position.
  u64 row_id(i64 row) const;
  /// Fills keep_: the rows of the wanted split, or, of both halves, those for calibration.
  Result<void> choose_split();
  /// Fills the table's cells and the cell of each row.
  Result<void> read_groups();
  /// Each cell becomes two, for the halves of keep_, which is empty afterwards.
  void split_cells();
  /// The rows that remain, in their order; counts those that faults leave out.
  std::vector<i64> kept_rows();

  const Binding& binding_;
  const EvalRequest& request_;
  i64 first_row_;
  PreparedTable table_;
  std::vector<bool> keep_;        ///< rows of the wanted split; empty: all
  std::vector<RowFault> faults_;  ///< rows to drop; empty: none
  const Array* id_ = nullptr;
  const Array* calibration_ = nullptr;

 private:
  void narrow(ArrayView& view) const;
  std::optional<std::string> group_value(const ArrayView& column, i64 row) const;
};

}  // namespace cupel
