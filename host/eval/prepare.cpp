#include "eval/prepare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <new>

#include "backend/thread_pool.hpp"
#include "eval/prepare_regression.hpp"
#include "eval/prepare_rows.hpp"
#include "eval/prepare_verification.hpp"

namespace cupel {
namespace {

/// No feature is larger: a product with a unit vector is far from overflow.
constexpr double kMostFeature = 1e150;

class Preparer : RowPreparer {
 public:
  Preparer(const Binding& binding, const EvalRequest& request, i64 first_row, Backend& backend,
           bool probabilities)
      : RowPreparer(binding, request, first_row),
        backend_(backend),
        probabilities_(probabilities) {}

  Result<PreparedTable> run(const std::function<void()>& loaded) {
    if (auto done = check_normalize(); !done) return done.error();
    if (auto done = load_columns(); !done) return done.error();
    label_ = array_of(binding_.label);
    weight_ = array_of(binding_.weight);
    if (binding_.embedding) table_.features = array_of(binding_.embedding)->view;
    if (loaded) loaded();
    TableView& view = table_.view;
    view.task = binding_.task;
    view.rows = binding_.rows;
    view.classes = binding_.classes;
    view.logits = binding_.logits;
    view.softmax = request_.softmax;
    view.scores = array_of(binding_.score)->view;
    table_.probability_epsilon = probability_epsilon(view.scores.dtype);
    if (is_string(view.scores.dtype)) return not_numeric(binding_.score);
    find_labels_in_place();
    if (auto done = check_scores(); !done) return done.error();
    if (request_.normalize) {
      if (auto done = normalize(); !done) return done.error();
    }
    if (auto done = read_labels(); !done) return done.error();
    if (auto done = read_weights(); !done) return done.error();
    if (auto done = check_features(); !done) return done.error();
    if (auto done = choose_split(); !done) return done.error();
    if (auto done = read_groups(); !done) return done.error();
    if (halves()) split_cells();
    keep_rows();
    return std::move(table_);
  }

 private:
  /// Labels that can be used where they lie are known before the scores are checked: a backend that
  /// sees both may rank the rows in the same pass.
  void find_labels_in_place() {
    if (label_ == nullptr) return;
    const ArrayView& labels = label_->view;
    TableView& view = table_.view;
    if (!request_.pos_label.empty() || view.task == Task::kMulticlass) return;
    if (labels.dtype != DType::kU8 && labels.dtype != DType::kBool) return;
    if (!labels.is_contiguous() || !all_bits(labels)) return;
    label_in_place_ = reinterpret_cast<const u8*>(labels.data);
    // Not where the rows that are ranked will be others, or not be ranked as one table.
    const bool whole = request_.split == RowSplit::kAll && !halves() && !request_.pool &&
                       binding_.groups.empty() && !binding_.weight;
    if (view.task == Task::kBinary && whole) view.binary_labels = label_in_place_;
  }

  Result<void> check_normalize() const {
    if (!request_.normalize) return {};
    if (binding_.task != Task::kMulticlass) {
      return usage_error("--normalize divides the probabilities of several classes by their sum",
                         fmt::format("this dump is {}; leave it out", task_name(binding_.task)));
    }
    if (!binding_.logits) return {};
    return usage_error(
        fmt::format("--normalize is for probabilities, and '{}' is read as logits, whose softmax "
                    "sums to 1",
                    binding_.score.info().name),
        "leave it out, or name the column with --probs if it holds probabilities");
  }

  /// Rows of several classes are summed where probabilities are needed; a column that passes is
  /// known to be finite too, so that one pass does for both.
  bool are_probabilities() {
    const TableView& view = table_.view;
    if (!probabilities_ || request_.normalize) return false;
    if (view.task != Task::kMulticlass || view.logits) return false;
    ThreadPool pool(request_.threads > 0 ? request_.threads : available_threads());
    table_.row_sums = find_row_sum_faults(view, pool);
    return !table_.row_sums.beyond;
  }

  /// Points the view at the rows divided by their sums.
  Result<void> normalize() {
    TableView& view = table_.view;
    ThreadPool pool(request_.threads > 0 ? request_.threads : available_threads());
    NormalizedRows rows;
    try {
      rows = normalize_rows(view, pool);
    } catch (const std::bad_alloc&) {
      return Error{ErrorCode::kInternal, binding_.score.dump->path(),
                   fmt::format("out of memory: --normalize needs a copy of '{}'",
                               binding_.score.info().name),
                   "evaluate fewer rows at a time"};
    }
    if (!drops() && !rows.negative.empty()) {
      const i64 row = rows.negative.front();
      i64 column = 0;
      while (element(view.scores, row, column) >= 0) ++column;
      Faults faults{static_cast<i64>(rows.negative.size()), row, {}};
      faults.what = fmt::format("is {:.6g} in column {}, and --normalize needs values of 0 or more",
                                element(view.scores, row, column), column);
      Error error = fault_error(binding_.score, faults);
      error.hint = "name the column with --logits if these are logits";
      return error;
    }
    if (!drops() && !rows.zero.empty()) {
      Faults faults{static_cast<i64>(rows.zero.size()), rows.zero.front(), {}};
      faults.what = "sums to 0, which --normalize cannot divide by";
      return fault_error(binding_.score, faults);
    }
    for (const i64 row : rows.negative) mark(row, RowFault::kScore);
    for (const i64 row : rows.zero) mark(row, RowFault::kScore);
    table_.normalized = std::move(rows.values);
    view.scores = make_view(table_.normalized.data(), rows.dtype, {view.rows, view.classes});
    return {};
  }

  Result<void> check_scores() {
    const TableView& view = table_.view;
    if (are_probabilities()) return {};
    auto bad = backend_.bad_scores(view);
    if (!bad) return bad.error();
    if (bad->rows == 0) return {};
    if (!drops()) {
      Faults faults{bad->rows, bad->first_row, {}};
      const double value = element(view.scores, bad->first_row, bad->first_column);
      faults.what = std::isnan(value) ? "is nan" : value > 0 ? "is inf" : "is -inf";
      if (view.task != Task::kBinary) {
        faults.what += fmt::format(" in column {}", bad->first_column);
      }
      return fault_error(binding_.score, faults);
    }
    const i64 columns = view.task == Task::kBinary ? 1 : view.classes;
    for (i64 row = 0; row < view.rows; ++row) {
      for (i64 col = 0; col < columns; ++col) {
        if (std::isfinite(element(view.scores, row, col))) continue;
        mark(row, RowFault::kScore);
        break;
      }
    }
    return {};
  }

  /// Reads integral labels of [rows, columns] into `out`, checking 0 <= label < limit.
  template <class Out>
  void read_integral(const ArrayView& labels, i64 columns, i64 limit, Out* out, Faults& faults) {
    const auto read = [&](auto value_at) {
      for (i64 row = 0; row < binding_.rows; ++row) {
        bool bad = false;
        for (i64 col = 0; col < columns; ++col) {
          const auto value = value_at(labels.at(row, col));
          // Also false for NaN; integral is checked where the type can hold a fraction.
          const bool inside = value >= decltype(value){0} &&
                              static_cast<double>(value) < static_cast<double>(limit);
          bool integral = true;
          if constexpr (std::is_floating_point_v<decltype(value)>) {
            integral = inside && std::floor(value) == value;
          }
          if (!inside || !integral) {
            if (!bad && faults.first < 0) faults.what = describe(value);
            bad = true;
          }
          out[row * columns + col] = inside && integral ? static_cast<Out>(value) : Out{0};
        }
        if (bad) {
          faults.add(row);
          if (drops()) mark(row, RowFault::kLabel);
        }
      }
    };
    if (labels.dtype == DType::kF16) {
      read([](const std::byte* at) { return float_from_f16(load<u16>(at)); });
    } else if (labels.dtype == DType::kBF16) {
      read([](const std::byte* at) { return float_from_bf16(load<u16>(at)); });
    } else {
      with_type(labels.dtype, [&](auto zero) {
        read([](const std::byte* at) { return load<decltype(zero)>(at); });
      });
    }
  }
  template <class T>
  static std::string describe(T value) {
    return fmt::format("is {}", value);
  }

  Result<void> read_labels() {
    if (label_ == nullptr) return {};
    const ArrayView& labels = label_->view;
    const TableView& view = table_.view;
    Faults faults;
    std::string domain;
    if (!request_.pos_label.empty()) {
      if (view.task != Task::kBinary) {
        return usage_error("--pos-label needs a binary task",
                           fmt::format("this dump is {}", task_name(view.task)));
      }
      return read_positive_label(labels);
    }
    if (is_string(labels.dtype)) {
      Error error = not_numeric(binding_.label);
      if (view.task == Task::kBinary) error.hint = "name the positive label with --pos-label";
      return error;
    }
    if (view.task == Task::kMulticlass) {
      table_.label_classes.resize(static_cast<std::size_t>(view.rows));
      read_integral(labels, 1, view.classes, table_.label_classes.data(), faults);
      domain = fmt::format("outside 0..{}", view.classes - 1);
    } else {
      const i64 columns = view.task == Task::kBinary ? 1 : view.classes;
      if (label_in_place_ != nullptr) return {};
      table_.label_bytes.resize(static_cast<std::size_t>(view.rows * columns));
      read_integral(labels, columns, 2, table_.label_bytes.data(), faults);
      domain = "neither 0 nor 1";
    }
    if (faults.rows == 0 || drops()) return {};
    faults.what += ", " + domain;
    Error error = fault_error(binding_.label, faults);
    if (view.task == Task::kBinary) {
      error.hint =
          "name the positive label with --pos-label, or leave such rows out with --nan drop";
    }
    return error;
  }

  /// Whether every byte is 0 or 1, eight at a time.
  static bool all_bits(const ArrayView& labels) {
    i64 count = 1;
    for (const i64 extent : labels.shape) count *= extent;
    const std::byte* at = labels.data;
    u64 seen = 0;
    i64 i = 0;
    for (; i + 8 <= count; i += 8) seen |= load<u64>(at + i);
    for (; i < count; ++i) seen |= static_cast<u64>(at[i]);
    return (seen & 0xFEFEFEFEFEFEFEFEu) == 0;
  }

  /// Whether the label of a row is the number that a text says; empty when it says none. Integers
  /// are compared as integers, since doubles beyond 2^53 stand for several; a bool is true or false
  /// too.
  static std::function<bool(i64)> label_matcher(const ArrayView& labels, const std::string& text) {
    const char* const end = text.data() + text.size();
    const auto whole = [&](const std::from_chars_result& read) {
      return read.ec == std::errc() && read.ptr == end;
    };
    if (labels.dtype == DType::kBool && (text == "true" || text == "false")) {
      return [&labels, wanted = text == "true"](i64 row) {
        return (element(labels, row, 0) != 0) == wanted;
      };
    }
    if (i64 wanted = 0;
        labels.dtype == DType::kI64 && whole(std::from_chars(text.data(), end, wanted))) {
      return [&labels, wanted](i64 row) { return load<i64>(labels.at(row)) == wanted; };
    }
    if (u64 wanted = 0;
        labels.dtype == DType::kU64 && whole(std::from_chars(text.data(), end, wanted))) {
      return [&labels, wanted](i64 row) { return load<u64>(labels.at(row)) == wanted; };
    }
    double wanted = 0;
    if (!whole(std::from_chars(text.data(), end, wanted))) return {};
    return [&labels, wanted](i64 row) { return element(labels, row, 0) == wanted; };
  }

  Result<void> read_positive_label(const ArrayView& labels) {
    const std::string& wanted = request_.pos_label;
    table_.label_bytes.resize(static_cast<std::size_t>(binding_.rows));
    u8* out = table_.label_bytes.data();
    i64 positives = 0;
    if (is_string(labels.dtype)) {
      for (i64 row = 0; row < binding_.rows; ++row) {
        out[row] = text_at(labels, row) == wanted ? 1 : 0;
        positives += out[row];
      }
    } else {
      const auto matches = label_matcher(labels, wanted);
      if (!matches) {
        return usage_error(
            fmt::format("--pos-label '{}' is not a number, but label '{}' holds "
                        "numbers",
                        wanted, binding_.label.info().name));
      }
      Faults faults;
      for (i64 row = 0; row < binding_.rows; ++row) {
        out[row] = matches(row) ? 1 : 0;
        positives += out[row];
        if (!is_float(labels.dtype) || !std::isnan(element(labels, row, 0))) continue;
        if (faults.first < 0) faults.what = "is nan";
        faults.add(row);
        if (drops()) mark(row, RowFault::kLabel);
      }
      if (faults.rows != 0 && !drops()) return fault_error(binding_.label, faults);
    }
    // A shard may well have none.
    if (positives == 0 && binding_.rows > 0 && !request_.pool && !binding_.block) {
      return input_error(binding_.label.dump->path(), fmt::format("no label is '{}'", wanted),
                         "check --pos-label");
    }
    return {};
  }

  Result<void> read_weights() {
    if (weight_ == nullptr) return {};
    // One more than rows: an empty shard is weighted too, and a null pointer would mean it is not.
    table_.weights.resize(static_cast<std::size_t>(binding_.rows) + 1);
    return check_weights(table_.weights.data());
  }

  /// Features are finite and so small that no projection overflows.
  Result<void> check_features() {
    if (!binding_.embedding) return {};
    const ArrayView& features = table_.features;
    if (is_string(features.dtype)) return not_numeric(*binding_.embedding);
    if (!is_float(features.dtype)) return {};
    Faults faults;
    for (i64 row = 0; row < binding_.rows; ++row) {
      for (i64 col = 0; col < features.cols(); ++col) {
        const double value = element(features, row, col);
        if (std::fabs(value) <= kMostFeature) continue;
        if (faults.first < 0) {
          faults.what = fmt::format("is {:.6g} in column {}", value, col);
          if (std::isfinite(value)) faults.what += fmt::format(", beyond {:.0g}", kMostFeature);
        }
        faults.add(row);
        if (drops()) mark(row, RowFault::kFeature);
        break;
      }
    }
    if (faults.rows != 0 && !drops()) return fault_error(*binding_.embedding, faults);
    return {};
  }

  /// Leaves out the rows that the split or a fault excludes, and points the view at what remains.
  void keep_rows() {
    TableView& view = table_.view;
    view.first_row = first_row_;
    const bool leaves_out = !keep_.empty() || !faults_.empty();
    const bool keyed = request_.draws && (id_ != nullptr || leaves_out);
    if (keyed) {
      // One more than rows, as above.
      table_.row_keys.resize(static_cast<std::size_t>(binding_.rows) + 1);
      for (i64 row = 0; row < binding_.rows; ++row) {
        table_.row_keys[static_cast<std::size_t>(row)] = row_id(row);
      }
    }
    if (leaves_out) compact();
    const u8* bytes = label_in_place_ != nullptr ? label_in_place_ : table_.label_bytes.data();
    if (keyed) view.row_keys = table_.row_keys.data();
    if (label_ == nullptr) bytes = nullptr;
    if (view.task == Task::kBinary) view.binary_labels = bytes;
    if (view.task == Task::kMultilabel) view.label_matrix = bytes;
    if (view.task == Task::kMulticlass && label_ != nullptr) {
      view.class_labels = table_.label_classes.data();
    }
    if (weight_ != nullptr) view.weights_f64 = table_.weights.data();
    if (!table_.cell_of_row.empty()) view.cells = table_.cell_of_row.data();
    view.cell_count = static_cast<u32>(std::max<std::size_t>(1, table_.cells.size()));
  }

  void compact() {
    TableView& view = table_.view;
    const i64 columns = view.task == Task::kBinary ? 1 : view.classes;
    const i64 item = dtype_size(view.scores.dtype);
    const i64 label_columns = view.task == Task::kMultilabel ? view.classes : 1;
    if (label_in_place_ != nullptr) {
      table_.label_bytes.assign(label_in_place_, label_in_place_ + view.rows * label_columns);
      label_in_place_ = nullptr;
    }
    std::vector<i64> rows = kept_rows();
    const auto kept = static_cast<i64>(rows.size());
    table_.scores.resize(static_cast<std::size_t>(kept * columns * item));
    std::byte* to = table_.scores.data();
    for (i64 i = 0; i < kept; ++i) {
      const i64 from = rows[static_cast<std::size_t>(i)];
      for (i64 col = 0; col < columns; ++col, to += item) {
        std::memcpy(to, view.scores.at(from, col), static_cast<std::size_t>(item));
      }
      const auto move_row = [&](auto& values, i64 width) {
        if (values.empty()) return;
        std::copy_n(values.data() + from * width, width, values.data() + i * width);
      };
      move_row(table_.label_bytes, label_columns);
      move_row(table_.label_classes, 1);
      move_row(table_.weights, 1);
      move_row(table_.cell_of_row, 1);
      move_row(table_.row_keys, 1);
    }
    std::vector<i64> shape{kept};
    if (view.task != Task::kBinary) shape.push_back(columns);
    view.scores = make_view(table_.scores.data(), view.scores.dtype, shape);
    view.rows = kept;
    Buffer<std::byte>().swap(table_.normalized);
    if (binding_.block || binding_.embedding || request_.list_rows) {
      table_.kept_rows = std::move(rows);
    }
  }

  Backend& backend_;
  bool probabilities_;
  const Array* label_ = nullptr;
  const Array* weight_ = nullptr;
  const u8* label_in_place_ = nullptr;
};

}  // namespace

Result<std::vector<Array>> load_columns(const Binding& binding) {
  const auto columns = binding.columns();
  std::vector<Array> arrays(columns.size());
  std::vector<bool> done(columns.size(), false);
  for (std::size_t i = 0; i < columns.size(); ++i) {
    if (done[i]) continue;
    std::vector<i64> wanted;
    std::vector<std::size_t> slots;
    for (std::size_t j = i; j < columns.size(); ++j) {
      if (columns[j]->dump != columns[i]->dump) continue;
      wanted.push_back(columns[j]->index);
      slots.push_back(j);
      done[j] = true;
    }
    auto loaded = columns[i]->dump->load(wanted);
    if (!loaded) return loaded.error();
    for (std::size_t k = 0; k < slots.size(); ++k) arrays[slots[k]] = (*loaded)[k];
  }
  return arrays;
}

Result<PreparedTable> prepare_table(const Binding& binding, const EvalRequest& request,
                                    i64 first_row, Backend& backend, bool probabilities,
                                    const std::function<void()>& loaded) {
  if (binding.task == Task::kRegression) {
    return prepare_regression(binding, request, first_row, loaded);
  }
  if (binding.task == Task::kRisk) return prepare_risk(binding, request, first_row, loaded);
  if (binding.task == Task::kVerification) {
    return prepare_verification(binding, request, first_row, loaded);
  }
  return Preparer(binding, request, first_row, backend, probabilities).run(loaded);
}

}  // namespace cupel
