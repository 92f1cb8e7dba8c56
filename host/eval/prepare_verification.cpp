#include "eval/prepare_verification.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "backend/thread_pool.hpp"
#include "eval/class_names.hpp"
#include "eval/embedding_rows.hpp"
#include "eval/prepare_rows.hpp"

namespace cupel {
namespace {

class PairPreparer : RowPreparer {
 public:
  PairPreparer(const Binding& binding, const EvalRequest& request, i64 first_row)
      : RowPreparer(binding, request, first_row), of_rows_(binding.embedding.has_value()) {}

  Result<PreparedTable> run(const std::function<void()>& loaded) {
    if (auto done = check_options(); !done) return done.error();
    if (auto done = load_columns(); !done) return done.error();
    if (loaded) loaded();
    const auto checked = of_rows_ ? check_embedding() : check_scores();
    if (!checked) return checked.error();
    if (of_rows_) {
      if (auto done = read_labels(); !done) return done.error();
    } else {
      if (auto done = read_classes(); !done) return done.error();
      if (auto done = read_same(); !done) return done.error();
    }
    if (auto done = choose_split(); !done) return done.error();
    if (auto done = read_groups(); !done) return done.error();
    if (halves()) split_cells();
    keep_rows();
    return std::move(table_);
  }

 private:
  // ---- checks ----------------------------------------------------------------------------------

  Result<void> check_options() const {
    if (request_.normalize) {
      return usage_error(
          "--normalize is for probabilities of several classes",
          of_rows_ ? "leave it out: rows of an embedding are divided by their lengths unless "
                     "--as-is is given"
                   : "this dump is verification; leave it out");
    }
    if (of_rows_ && !request_.pos_label.empty()) {
      return usage_error("--pos-label is for binary labels, and those of an embedding are classes",
                         "leave it out");
    }
    if (!of_rows_ && (request_.domain || request_.normalize_embedding)) {
      return usage_error(fmt::format("{} is for embeddings, and the pairs of this dump have scores",
                                     request_.domain ? "--domain" : "--as-is"),
                         "leave it out: --score is larger for closer pairs, --distance smaller");
    }
    if (!of_rows_ && !request_.pos_label.empty() && !binding_.has_label()) {
      return usage_error("--pos-label needs a label, and pairs are told by their classes here",
                         "leave it out, or name the label with --label");
    }
    return {};
  }

  Result<void> check_embedding() {
    const ArrayView& rows = array_of(binding_.embedding)->view;
    if (is_string(rows.dtype)) return not_numeric(*binding_.embedding);
    if (!is_float(rows.dtype)) {
      return input_error(binding_.embedding->dump->path(),
                         fmt::format("embedding '{}' is {}", binding_.embedding->info().name,
                                     dtype_name(rows.dtype)),
                         "verification takes f16, bf16, f32 and f64");
    }
    ThreadPool pool(request_.threads > 0 ? request_.threads : available_threads());
    const EmbeddingFaults found = find_embedding_faults(rows, pool, releases(rows));
    const auto report = [&](const std::vector<i64>& bad, auto describe) -> Result<void> {
      if (bad.empty()) return {};
      if (drops()) {
        for (const i64 row : bad) mark(row, RowFault::kFeature);
        return {};
      }
      return fault_error(*binding_.embedding,
                         {static_cast<i64>(bad.size()), bad.front(), describe(bad.front())});
    };
    auto done = report(found.bad, [&](i64 row) {
      i64 k = 0;
      while (std::isfinite(static_cast<float>(element(rows, row, k)))) ++k;
      const double value = element(rows, row, k);
      return fmt::format("is {:.6g} in column {}{}", value, k,
                         std::isfinite(value) ? ", beyond float32" : "");
    });
    if (!done) return done;
    if (!request_.divides_embedding) return {};
    done = report(found.zero, [&](i64) {
      return std::string("is zero in all columns, and cannot be divided by its length");
    });
    if (done) return done;
    Error error = done.error();
    error.hint += ", or take rows as they are with --as-is";
    return error;
  }

  /// Gives back what was read, where there is little room.
  std::function<void(i64, i64)> releases(const ArrayView& rows) const {
    const i64 bytes = rows.rows() * rows.cols() * rows.item_bytes;
    if (request_.memory == 0 || request_.memory >= bytes || !rows.is_contiguous()) return {};
    return [&rows, dump = binding_.embedding->dump](i64 first, i64 last) {
      dump->release({rows.at(first), rows.at(last)});
    };
  }

  const BoundColumn& score_column() const {
    return binding_.distance ? *binding_.distance : binding_.score;
  }

  Result<void> check_scores() {
    const BoundColumn& column = score_column();
    const ArrayView& scores = array_of(column)->view;
    if (is_string(scores.dtype)) return not_numeric(column);
    if (!is_float(scores.dtype)) return {};
    Faults faults;
    for (i64 row = 0; row < binding_.rows; ++row) {
      const double value = element(scores, row, 0);
      if (std::isfinite(value)) continue;
      if (faults.first < 0) faults.what = fmt::format("is {}", value);
      faults.add(row);
      if (drops()) mark(row, RowFault::kScore);
    }
    if (faults.rows != 0 && !drops()) return fault_error(column, faults);
    return {};
  }

  // ---- classes ---------------------------------------------------------------------------------

  /// Rows whose class is missing are an error, or dropped.
  Result<void> check_missing(const BoundColumn& column, const Buffer<u32>& classes) {
    const ArrayView& labels = array_of(column)->view;
    Faults faults;
    for (i64 row = 0; row < binding_.rows; ++row) {
      if (classes[static_cast<std::size_t>(row)] != ClassReader::kMissing) continue;
      if (faults.first < 0) {
        faults.what =
            is_string(labels.dtype) ? "is empty" : fmt::format("is {}", element(labels, row, 0));
      }
      faults.add(row);
      if (drops()) mark(row, RowFault::kLabel);
    }
    if (faults.rows != 0 && !drops()) return fault_error(column, faults);
    return {};
  }

  Result<void> read_labels() {
    ClassReader reader;
    auto classes = reader.read(array_of(binding_.label)->view, binding_.rows);
    if (!classes) return classes.error();
    pairs_.classes = std::move(*classes);
    pairs_.class_names = reader.finish({&pairs_.classes});
    pairs_.numeric_classes = reader.numeric();
    return check_missing(binding_.label, pairs_.classes);
  }

  Result<void> read_classes() {
    if (!binding_.class_a) return {};
    ClassReader reader;
    for (const auto& [column, classes] : {std::pair{&*binding_.class_a, &pairs_.class_a},
                                          std::pair{&*binding_.class_b, &pairs_.class_b}}) {
      auto read = reader.read(array_of(*column)->view, binding_.rows);
      if (!read) return read.error();
      *classes = std::move(*read);
    }
    pairs_.class_names = reader.finish({&pairs_.class_a, &pairs_.class_b});
    pairs_.numeric_classes = reader.numeric();
    if (auto done = check_missing(*binding_.class_a, pairs_.class_a); !done) return done;
    return check_missing(*binding_.class_b, pairs_.class_b);
  }

  /// Whether both sides of a pair are of one class: by their classes, by the label, or by both.
  Result<void> read_same() {
    const auto rows = static_cast<std::size_t>(binding_.rows);
    pairs_.same.resize(rows);
    if (binding_.class_a) {
      for (std::size_t i = 0; i < rows; ++i) {
        pairs_.same[i] = pairs_.class_a[i] == pairs_.class_b[i] ? 1 : 0;
      }
    }
    if (!binding_.has_label()) return {};
    const ArrayView& labels = array_of(binding_.label)->view;
    const bool named = !request_.pos_label.empty();
    if (is_string(labels.dtype) && !named) {
      Error error = not_numeric(binding_.label);
      error.hint = "name the label of pairs of one class with --pos-label";
      return error;
    }
    ClassReader reader;
    Buffer<u32> values;
    std::vector<std::string> texts;
    if (named) {
      auto read = reader.read(labels, binding_.rows);
      if (!read) return read.error();
      values = std::move(*read);
      texts = reader.finish({&values});
      if (auto done = check_missing(binding_.label, values); !done) return done;
    }
    Faults outside;
    Faults contrary;
    for (std::size_t i = 0; i < rows; ++i) {
      const auto row = static_cast<i64>(i);
      u8 same = 0;
      if (named) {
        if (values[i] == ClassReader::kMissing) continue;
        same = texts[values[i]] == request_.pos_label ? 1 : 0;
      } else {
        const double value = element(labels, row, 0);
        if (value != 0.0 && value != 1.0) {
          if (outside.first < 0) outside.what = fmt::format("is {}, neither 0 nor 1", value);
          outside.add(row);
          if (drops()) mark(row, RowFault::kLabel);
          continue;
        }
        same = value == 1.0 ? 1 : 0;
      }
      const bool known = binding_.class_a && pairs_.class_a[i] != ClassReader::kMissing &&
                         pairs_.class_b[i] != ClassReader::kMissing;
      if (known && same != pairs_.same[i]) {
        if (contrary.first < 0) {
          contrary.what = fmt::format(
              "says {}, and the classes are '{}' and '{}'", same == 1 ? "one class" : "two classes",
              pairs_.class_names[pairs_.class_a[i]], pairs_.class_names[pairs_.class_b[i]]);
        }
        contrary.add(row);
        if (drops()) mark(row, RowFault::kLabel);
        continue;
      }
      pairs_.same[i] = same;
    }
    for (const Faults& faults : {outside, contrary}) {
      if (faults.rows != 0 && !drops()) return fault_error(binding_.label, faults);
    }
    return {};
  }

  /// What ties of a row are broken by: its id, in the order of numbers; its position without one.
  u64 tie_id(i64 row) const {
    const u64 id = row_id(row);
    constexpr u64 kSign = u64{1} << 63;
    if (id_ == nullptr) return id;
    const DType type = id_->view.dtype;
    if (is_float(type)) return (id & kSign) != 0 ? ~id : id | kSign;
    const bool is_signed = type >= DType::kI8 && type <= DType::kI64;
    return is_signed ? id ^ kSign : id;
  }

  // ---- rows ------------------------------------------------------------------------------------

  /// Leaves out what the split or a fault excludes; the embedding stays where it is.
  void keep_rows() {
    TableView& view = table_.view;
    view.task = Task::kVerification;
    view.rows = binding_.rows;
    view.classes = static_cast<i64>(pairs_.class_names.size());
    view.first_row = first_row_;
    if (of_rows_) {
      pairs_.embedding = array_of(binding_.embedding)->view;
      pairs_.column = *binding_.embedding;
      pairs_.ids.resize(static_cast<std::size_t>(binding_.rows));
      for (i64 row = 0; row < binding_.rows; ++row) {
        pairs_.ids[static_cast<std::size_t>(row)] = tie_id(row);
      }
    } else {
      pairs_.score = array_of(score_column())->view;
      pairs_.is_distance = binding_.distance.has_value();
      pairs_.column = score_column();
    }
    if (!keep_.empty() || !faults_.empty()) {
      std::vector<i64> rows = kept_rows();
      const auto move_rows = [&](auto& values) {
        if (values.empty()) return;
        for (std::size_t i = 0; i < rows.size(); ++i) {
          values[i] = values[static_cast<std::size_t>(rows[i])];
        }
        values.resize(rows.size());
      };
      move_rows(pairs_.classes);
      move_rows(pairs_.ids);
      move_rows(pairs_.same);
      move_rows(pairs_.class_a);
      move_rows(pairs_.class_b);
      move_rows(table_.cell_of_row);
      pairs_.row_at.assign(rows.begin(), rows.end());
      view.rows = static_cast<i64>(rows.size());
      if (request_.list_rows) table_.kept_rows = std::move(rows);
    }
    pairs_.rows = view.rows;
    view.cell_count = static_cast<u32>(std::max<std::size_t>(1, table_.cells.size()));
    if (!table_.cell_of_row.empty()) view.cells = table_.cell_of_row.data();
    table_.verification = std::move(pairs_);
  }

  bool of_rows_;  ///< an embedding, not pairs with scores
  VerificationRows pairs_;
};

}  // namespace

Result<PreparedTable> prepare_verification(const Binding& binding, const EvalRequest& request,
                                           i64 first_row, const std::function<void()>& loaded) {
  return PairPreparer(binding, request, first_row).run(loaded);
}

}  // namespace cupel
