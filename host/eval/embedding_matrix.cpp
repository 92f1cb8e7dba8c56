#include "eval/embedding_matrix.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "cupel/math/half.hpp"

namespace cupel {
namespace {

/// One row that was selected.
struct Source {
  std::size_t part = 0;
  i64 row = 0;
  u32 cls = 0;
  u64 id = 0;
};

float float_at(const ArrayView& view, i64 row, i64 k) {
  const std::byte* at = view.at(row, k);
  switch (view.dtype) {
    case DType::kF16:
      return float_from_f16(load<u16>(at));
    case DType::kBF16:
      return float_from_bf16(load<u16>(at));
    case DType::kF32:
      return load<float>(at);
    default:
      return static_cast<float>(load<double>(at));
  }
}

}  // namespace

Result<EmbeddingMatrix> EmbeddingMatrix::make(const EmbeddingSelection& selection,
                                              PairDomain domain, bool normalize, i64, int) {
  EmbeddingMatrix made;
  made.domain_ = domain;
  // Classes of all parts by their text; numbers order as numbers.
  bool numeric = true;
  std::vector<std::string> names;
  for (const PreparedTable& part : selection.parts) {
    const VerificationRows& rows = *part.verification;
    numeric = numeric && rows.numeric_classes;
    names.insert(names.end(), rows.class_names.begin(), rows.class_names.end());
  }
  const auto before = [&](const std::string& a, const std::string& b) {
    if (!numeric) return a < b;
    const double x = std::stod(a);
    const double y = std::stod(b);
    return x != y ? x < y : a < b;
  };
  std::sort(names.begin(), names.end(), before);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::vector<Source> sources;
  for (std::size_t p = 0; p < selection.parts.size(); ++p) {
    const PreparedTable& part = selection.parts[p];
    const VerificationRows& rows = *part.verification;
    std::vector<u32> cls;
    for (const std::string& name : rows.class_names) {
      cls.push_back(static_cast<u32>(std::lower_bound(names.begin(), names.end(), name, before) -
                                     names.begin()));
    }
    for (i64 i = 0; i < rows.rows; ++i) {
      const u32 cell = part.view.cells == nullptr ? 0 : part.view.cells[i];
      if (!selection.wanted[selection.of_part[p][cell]]) continue;
      const auto at = static_cast<std::size_t>(i);
      sources.push_back({p, i, cls[rows.classes[at]], rows.ids[at]});
    }
  }
  std::stable_sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) {
    return a.cls != b.cls ? a.cls < b.cls : a.id < b.id;
  });
  made.rows_ = static_cast<i64>(sources.size());
  made.width_ = selection.parts.front().verification->embedding.cols();
  made.stride_ = (made.width_ + 15) / 16 * 16;
  const auto cells = static_cast<std::size_t>(made.rows_ * made.stride_);
  made.values_ = std::shared_ptr<float>(new float[cells + 1](), std::default_delete<float[]>());
  made.squares_.resize(sources.size());
  made.classes_.resize(sources.size());
  made.ties_.resize(sources.size());
  made.class_rows_.assign(names.size(), 0);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const Source& source = sources[i];
    const VerificationRows& rows = *selection.parts[source.part].verification;
    const i64 row =
        rows.row_at.empty() ? source.row : rows.row_at[static_cast<std::size_t>(source.row)];
    float* to = made.values_.get() + static_cast<i64>(i) * made.stride_;
    for (i64 k = 0; k < made.width_; ++k) to[k] = float_at(rows.embedding, row, k);
    if (normalize && !normalise_row(to, made.width_, to)) {
      return input_error("", "the embedding of a row is all zeros", "leave such rows out");
    }
    made.squares_[i] = dot_chain(to, to, made.width_);
    made.classes_[i] = source.cls;
    ++made.class_rows_[source.cls];
  }
  std::vector<u32> order(sources.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(),
                   [&](u32 a, u32 b) { return sources[a].id < sources[b].id; });
  for (std::size_t i = 0; i < order.size(); ++i) made.ties_[order[i]] = static_cast<u32>(i);
  made.class_names_ = std::move(names);
  return made;
}

EmbeddingView EmbeddingMatrix::view() const {
  EmbeddingView view;
  view.domain = domain_;
  view.rows = rows_;
  view.width = width_;
  view.stride = stride_;
  view.values = values_.get();
  view.squares = squares_.data();
  view.classes = classes_.data();
  view.class_count = static_cast<u32>(class_rows_.size());
  view.ties = ties_.data();
  return view;
}

u64 EmbeddingMatrix::positive_pairs() const {
  u64 pairs = 0;
  for (const u64 rows : class_rows_) pairs += rows * (rows - 1) / 2;
  return pairs;
}

u64 EmbeddingMatrix::negative_pairs() const {
  const auto rows = static_cast<u64>(rows_);
  return rows == 0 ? 0 : rows * (rows - 1) / 2 - positive_pairs();
}

}  // namespace cupel
