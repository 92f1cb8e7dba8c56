#include "eval/embedding_matrix.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "backend/thread_pool.hpp"
#include "eval/class_names.hpp"
#include "eval/embedding_rows.hpp"
#include "eval/float_store.hpp"

namespace cupel {
namespace {

constexpr i64 kRowsAtOnce = 256;

/// The rows that were selected, part after part, each in its order.
struct Sources {
  Buffer<u32> classes;
  Buffer<u64> ids;
  Buffer<i64> rows;           ///< in the part's embedding
  std::vector<i64> first_of;  ///< [part], and one more
  std::vector<std::string> names;
};

Result<Sources> find_sources(const EmbeddingSelection& selection) {
  Sources sources;
  // Classes of all parts by their text; numbers order as numbers. One part has them in order.
  const bool alone = selection.parts.size() == 1;
  bool numeric = true;
  for (const PreparedTable& part : selection.parts) {
    const VerificationRows& rows = *part.verification;
    numeric = numeric && rows.numeric_classes;
    sources.names.insert(sources.names.end(), rows.class_names.begin(), rows.class_names.end());
  }
  if (!alone) sort_class_names(sources.names, numeric);
  sources.first_of.push_back(0);
  for (std::size_t p = 0; p < selection.parts.size(); ++p) {
    const PreparedTable& part = selection.parts[p];
    const VerificationRows& rows = *part.verification;
    std::vector<u32> united(rows.class_names.size());
    for (std::size_t c = 0; c < united.size(); ++c) {
      united[c] = alone ? static_cast<u32>(c)
                        : find_class_name(sources.names, numeric, rows.class_names[c]);
    }
    for (i64 i = 0; i < rows.rows; ++i) {
      const u32 cell = part.view.cells == nullptr ? 0 : part.view.cells[i];
      if (!selection.wanted[selection.of_part[p][cell]]) continue;
      const auto at = static_cast<std::size_t>(i);
      sources.classes.push_back(united[rows.classes[at]]);
      sources.ids.push_back(rows.ids[at]);
      sources.rows.push_back(rows.row_at.empty() ? i : rows.row_at[at]);
    }
    sources.first_of.push_back(static_cast<i64>(sources.rows.size()));
    if (sources.first_of.back() >= i64{1} << 31) {
      return usage_error("pairs of 2^31 rows or more", "evaluate fewer rows");
    }
  }
  return sources;
}

/// The places of sources in an order by class, then id, then position; `class_rows` counts classes.
Buffer<u32> place_sources(const Sources& sources, std::vector<u64>& class_rows) {
  class_rows.assign(sources.names.size(), 0);
  for (const u32 cls : sources.classes) ++class_rows[cls];
  std::vector<u64> next(class_rows.size(), 0);
  for (std::size_t c = 1; c < next.size(); ++c) next[c] = next[c - 1] + class_rows[c - 1];
  Buffer<u32> order(sources.classes.size());
  for (std::size_t s = 0; s < order.size(); ++s) {
    order[next[sources.classes[s]]++] = static_cast<u32>(s);
  }
  const auto by_id = [&](u32 a, u32 b) { return sources.ids[a] < sources.ids[b]; };
  auto first = order.begin();
  for (const u64 rows : class_rows) {
    const auto last = first + static_cast<std::ptrdiff_t>(rows);
    if (!std::is_sorted(first, last, by_id)) std::stable_sort(first, last, by_id);
    first = last;
  }
  Buffer<u32> places(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) places[order[i]] = static_cast<u32>(i);
  return places;
}

/// Each place's rank by id; of equal ids, by place.
Buffer<u32> rank_ids(const Sources& sources, const Buffer<u32>& places) {
  Buffer<u32> ties(places.size());
  const auto& ids = sources.ids;
  const auto not_above = [](u64 a, u64 b) { return a >= b; };
  if (std::adjacent_find(ids.begin(), ids.end(), not_above) == ids.end()) {
    for (std::size_t s = 0; s < places.size(); ++s) ties[places[s]] = static_cast<u32>(s);
    return ties;
  }
  Buffer<u32> order(places.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](u32 a, u32 b) {
    return ids[a] != ids[b] ? ids[a] < ids[b] : places[a] < places[b];
  });
  for (std::size_t i = 0; i < order.size(); ++i) ties[places[order[i]]] = static_cast<u32>(i);
  return ties;
}

/// Rows of one part that cannot be used.
struct Unusable {
  i64 rows = 0;
  i64 first = std::numeric_limits<i64>::max();
  void add(i64 row) {
    ++rows;
    first = std::min(first, row);
  }
  void merge(const Unusable& other) {
    rows += other.rows;
    first = std::min(first, other.first);
  }
};

Error unusable_error(const PreparedTable& part, const Unusable& unusable, bool normalize) {
  const BoundColumn& column = part.verification->column;
  const std::string place = column.dump != nullptr
                                ? column.dump->place(column.index, unusable.first)
                                : fmt::format("row {}", unusable.first);
  const std::string name = column.dump != nullptr ? column.info().name : std::string("embedding");
  const std::string count =
      fmt::format("({} such row{} in all)", unusable.rows, unusable.rows == 1 ? "" : "s");
  if (normalize) {
    return input_error(
        place,
        fmt::format("embedding '{}' is zero in all columns, and cannot be divided by its length {}",
                    name, count),
        "leave such rows out with --nan drop, or take rows as they are with --as-is");
  }
  return input_error(
      place,
      fmt::format("embedding '{}' is so long that squared distances leave float32 {}", name, count),
      "scale the embedding down, or leave out --as-is");
}

}  // namespace

Result<EmbeddingMatrix> EmbeddingMatrix::make(const EmbeddingSelection& selection,
                                              PairDomain domain, bool normalize, i64 memory,
                                              int threads) {
  EmbeddingMatrix made;
  made.domain_ = domain;
  auto found = find_sources(selection);
  if (!found) return found.error();
  Sources& sources = *found;
  const Buffer<u32> places = place_sources(sources, made.class_rows_);
  made.rows_ = static_cast<i64>(places.size());
  made.width_ = selection.parts.front().verification->embedding.cols();
  constexpr i64 kLine = 16;  // floats
  made.stride_ = (made.width_ + kLine - 1) / kLine * kLine;
  const i64 bytes = made.rows_ * made.stride_ * static_cast<i64>(sizeof(float));
  made.in_file_ = memory > 0 && memory / 2 < bytes;
  auto values = make_floats(made.rows_ * made.stride_, made.in_file_);
  if (!values) return values.error();
  made.values_ = std::move(*values);
  made.squares_.resize(places.size());
  made.classes_.resize(places.size());
  for (std::size_t s = 0; s < places.size(); ++s) made.classes_[places[s]] = sources.classes[s];
  made.ties_ = rank_ids(sources, places);

  ThreadPool pool(threads);
  constexpr float kMostSquare = std::numeric_limits<float>::max() / 4;
  for (std::size_t p = 0; p < selection.parts.size(); ++p) {
    const VerificationRows& rows = *selection.parts[p].verification;
    const ArrayView& embedding = rows.embedding;
    made.rounded_ = made.rounded_ || embedding.dtype == DType::kF64;
    const i64 begin = sources.first_of[p];
    const i64 count = sources.first_of[p + 1] - begin;
    const i64 blocks = (count + kRowsAtOnce - 1) / kRowsAtOnce;
    const bool gives_back =
        made.in_file_ && rows.column.dump != nullptr && embedding.is_contiguous();
    std::vector<Unusable> of_block(static_cast<std::size_t>(blocks));
    pool.parallel_for(blocks, [&](int, i64 block) {
      const i64 first = begin + block * kRowsAtOnce;
      const i64 last = std::min(first + kRowsAtOnce, begin + count);
      RowMove moves[kRowsAtOnce];
      float squares[kRowsAtOnce];
      const auto size = static_cast<std::size_t>(last - first);
      for (i64 s = first; s < last; ++s) {
        const auto at = static_cast<std::size_t>(s);
        moves[s - first] = {sources.rows[at], made.values_.get() + places[at] * made.stride_};
      }
      take_rows(embedding, {moves, size}, made.stride_, normalize, squares);
      for (std::size_t i = 0; i < size; ++i) {
        const bool usable = normalize ? squares[i] > 0 : squares[i] <= kMostSquare;
        if (!usable) of_block[static_cast<std::size_t>(block)].add(moves[i].from);
        made.squares_[places[static_cast<std::size_t>(first) + i]] = squares[i];
      }
      if (gives_back) {
        const i64 end = moves[size - 1].from + 1;
        rows.column.dump->release({embedding.at(moves[0].from), embedding.at(end)});
      }
    });
    Unusable unusable;
    for (const Unusable& block : of_block) unusable.merge(block);
    if (unusable.rows != 0) return unusable_error(selection.parts[p], unusable, normalize);
  }
  made.class_names_ = std::move(sources.names);
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
