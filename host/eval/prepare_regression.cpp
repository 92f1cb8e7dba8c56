#include "eval/prepare_regression.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "eval/prepare_rows.hpp"

namespace cupel {
namespace {

class NumberPreparer : RowPreparer {
 public:
  NumberPreparer(const Binding& binding, const EvalRequest& request, i64 first_row)
      : RowPreparer(binding, request, first_row) {}

  Result<PreparedTable> run(const std::function<void()>& loaded) {
    if (!request_.pos_label.empty() || request_.normalize) {
      return usage_error(
          fmt::format("{} is for classes", request_.normalize ? "--normalize" : "--pos-label"),
          fmt::format("this dump is {}; leave it out", task_name(binding_.task)));
    }
    if (auto done = load_columns(); !done) return done.error();
    if (loaded) loaded();
    if (auto done = check_columns(); !done) return done.error();
    if (auto done = choose_split(); !done) return done.error();
    if (auto done = read_groups(); !done) return done.error();
    if (halves()) split_cells();
    if (!keep_.empty() || !faults_.empty()) {
      rows_ = kept_rows();
      all_rows_ = false;
      if (binding_.block || request_.list_rows) table_.kept_rows = rows_;
    }
    TableView& view = table_.view;
    view.task = binding_.task;
    view.rows = all_rows_ ? binding_.rows : static_cast<i64>(rows_.size());
    view.classes = binding_.classes;
    keep_cells();
    if (binding_.task == Task::kRegression) {
      fill_regression();
    } else {
      fill_risk();
    }
    return std::move(table_);
  }

 private:
  // ---- checks ----------------------------------------------------------------------------------

  Result<void> check_columns() {
    for (const BoundColumn* column : binding_.columns()) {
      const Role role = column->role;
      const bool number = role == Role::kLabel || role >= Role::kPred;
      if (!number) continue;
      const ArrayView& values = array_of(*column)->view;
      if (is_string(values.dtype)) return not_numeric(*column);
      if (auto done = check_finite(*column, values); !done) return done.error();
    }
    if (auto done = check_numbers(); !done) return done.error();
    return binding_.weight ? check_weights(nullptr) : Result<void>();
  }

  /// The scales and the ends of intervals.
  Result<void> check_numbers() {
    if (binding_.sigma) {
      const ArrayView& sigma = array_of(binding_.sigma)->view;
      auto done = check_rows(
          *binding_.sigma, [&](i64 row) { return element(sigma, row, 0) > 0; },
          [&](i64 row) {
            return fmt::format("is {}, and a scale is above 0", element(sigma, row, 0));
          });
      if (!done) return done.error();
    }
    if (!binding_.lower) return {};
    const ArrayView& lower = array_of(binding_.lower)->view;
    const ArrayView& upper = array_of(binding_.upper)->view;
    return check_rows(
        *binding_.lower, [&](i64 row) { return element(lower, row, 0) <= element(upper, row, 0); },
        [&](i64 row) {
          return fmt::format("is {}, above '{}' of the row, {}", element(lower, row, 0),
                             role_name(Role::kUpper), element(upper, row, 0));
        });
  }

  /// Whether no value of a column is NaN or infinite; without a branch for each.
  static bool all_finite(const ArrayView& values) {
    const auto check = [&](auto value_at) {
      bool bad = false;
      for (i64 row = 0; row < values.rows(); ++row) {
        for (i64 col = 0; col < values.cols(); ++col) {
          const auto value = value_at(values.at(row, col));
          bad |= !std::isfinite(value);
        }
      }
      return !bad;
    };
    switch (values.dtype) {
      case DType::kF16:
        return check([](const std::byte* at) { return float_from_f16(load<u16>(at)); });
      case DType::kBF16:
        return check([](const std::byte* at) { return float_from_bf16(load<u16>(at)); });
      case DType::kF32:
        return check([](const std::byte* at) { return load<float>(at); });
      case DType::kF64:
        return check([](const std::byte* at) { return load<double>(at); });
      default:
        return true;
    }
  }

  Result<void> check_finite(const BoundColumn& column, const ArrayView& values) {
    if (all_finite(values)) return {};
    const i64 width = values.cols();
    const auto bad_column = [&](i64 row) {
      i64 col = 0;
      while (col < width && std::isfinite(element(values, row, col))) ++col;
      return col;
    };
    const auto describe = [&](i64 row) {
      const i64 col = bad_column(row);
      const double value = element(values, row, col);
      return fmt::format("is {}{}",
                         std::isnan(value) ? "nan"
                         : value > 0       ? "inf"
                                           : "-inf",
                         values.shape.size() > 1 ? fmt::format(" in column {}", col) : "");
    };
    if (column.role != Role::kLambdas) {
      return check_rows(
          column, [&](i64 row) { return bad_column(row) == width; }, describe);
    }
    // One of its values is of no row, so that there is none to leave out.
    i64 first = 0;
    while (bad_column(first) == width) ++first;
    return input_error(place(column, first),
                       fmt::format("lambdas '{}' {}", column.info().name, describe(first)),
                       "give finite values");
  }

  /// `fine(row)`, else `describe(row)` says what is wrong. Rows that already have a fault are not
  /// asked.
  template <class Fine, class Describe>
  Result<void> check_rows(const BoundColumn& column, const Fine& fine, const Describe& describe) {
    Faults faults;
    const RowFault as = column.role == Role::kLabel ? RowFault::kLabel : RowFault::kScore;
    for (i64 row = 0; row < binding_.rows; ++row) {
      if (!faults_.empty() && faults_[static_cast<std::size_t>(row)] != RowFault::kNone) continue;
      if (fine(row)) continue;
      if (faults.first < 0) faults.what = describe(row);
      faults.add(row);
      if (drops()) mark(row, as);
    }
    if (faults.rows == 0 || drops()) return {};
    return fault_error(column, faults);
  }

  // ---- rows ------------------------------------------------------------------------------------

  i64 row_at(i64 i) const { return all_rows_ ? i : rows_[static_cast<std::size_t>(i)]; }

  void keep_cells() {
    TableView& view = table_.view;
    view.cell_count = static_cast<u32>(std::max<std::size_t>(1, table_.cells.size()));
    if (table_.cell_of_row.empty()) return;
    for (i64 i = 0; i < view.rows && !all_rows_; ++i) {
      table_.cell_of_row[static_cast<std::size_t>(i)] =
          table_.cell_of_row[static_cast<std::size_t>(row_at(i))];
    }
    view.cells = table_.cell_of_row.data();
  }

  /// The values of a column's rows as doubles, `width` a row; null where there is no column.
  const double* numbers(const Array* array, i64 width) {
    if (array == nullptr) return nullptr;
    const ArrayView& values = array->view;
    const bool aligned = reinterpret_cast<std::uintptr_t>(values.data) % alignof(double) == 0;
    if (all_rows_ && values.dtype == DType::kF64 && values.is_contiguous() && aligned &&
        values.data != nullptr) {
      return reinterpret_cast<const double*>(values.data);
    }
    // One more than values: of no rows, too, a column that is there is not null.
    Buffer<double> copy(static_cast<std::size_t>(table_.view.rows * width) + 1);
    double* to = copy.data();
    for (i64 i = 0; i < table_.view.rows; ++i) {
      const i64 row = row_at(i);
      for (i64 col = 0; col < width; ++col) *to++ = element(values, row, col);
    }
    table_.numbers.push_back(std::move(copy));
    return table_.numbers.back().data();
  }

  void fill_regression() {
    const TableView& view = table_.view;
    RegressionView rows;
    rows.rows = view.rows;
    rows.y = numbers(array_of(binding_.label), 1);
    rows.pred = numbers(array_of(binding_.pred), binding_.classes);
    rows.models = binding_.classes;
    rows.sigma = numbers(array_of(binding_.sigma), 1);
    rows.lower = numbers(array_of(binding_.lower), 1);
    rows.upper = numbers(array_of(binding_.upper), 1);
    rows.threshold = numbers(array_of(binding_.threshold), 1);
    rows.weighted = binding_.weight.has_value();
    rows.cells = view.cells;
    rows.cell_count = view.cell_count;
    rows.first_row = first_row_;
    if (id_ != nullptr || !all_rows_) {
      table_.row_keys.resize(static_cast<std::size_t>(view.rows) + 1);
      for (i64 i = 0; i < view.rows; ++i) {
        table_.row_keys[static_cast<std::size_t>(i)] = row_id(row_at(i));
      }
      rows.row_keys = table_.row_keys.data();
    }
    table_.regression = rows;
  }

  void fill_risk() {
    const TableView& view = table_.view;
    RiskView rows;
    rows.rows = view.rows;
    rows.lambda_count = binding_.classes;
    rows.losses = numbers(array_of(binding_.loss), binding_.classes);
    if (const Array* lambdas = array_of(binding_.lambdas)) {
      Buffer<double> values(static_cast<std::size_t>(binding_.classes));
      for (i64 i = 0; i < binding_.classes; ++i) {
        values[static_cast<std::size_t>(i)] = element(lambdas->view, i, 0) + 0.0;  // no -0
      }
      table_.numbers.push_back(std::move(values));
      rows.lambdas = table_.numbers.back().data();
      table_.lambda_place = [column = *binding_.lambdas](i64 l) {
        return column.dump->place(column.index, l);
      };
    }
    rows.weighted = binding_.weight.has_value();
    rows.cells = view.cells;
    rows.cell_count = view.cell_count;
    table_.loss_type = binding_.loss->info().dtype;
    table_.loss_place = [column = *binding_.loss, all = all_rows_, kept = rows_](i64 row) {
      return column.dump->place(column.index, all ? row : kept[static_cast<std::size_t>(row)]);
    };
    table_.risk = rows;
  }

  bool all_rows_ = true;
  std::vector<i64> rows_;  ///< those that remain, where not all do
};

}  // namespace

Result<PreparedTable> prepare_regression(const Binding& binding, const EvalRequest& request,
                                         i64 first_row, const std::function<void()>& loaded) {
  return NumberPreparer(binding, request, first_row).run(loaded);
}

Result<PreparedTable> prepare_risk(const Binding& binding, const EvalRequest& request,
                                   i64 first_row, const std::function<void()>& loaded) {
  return NumberPreparer(binding, request, first_row).run(loaded);
}

}  // namespace cupel
