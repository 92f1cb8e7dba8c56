// Set files in the making: columns of an npz that grow with the rows, or lines of CSV.
#include <fmt/format.h>

#include <array>
#include <charconv>

#include "cupel/io/npz_writer.hpp"
#include "cupel/report/sets.hpp"
#include "report/sets_json.hpp"

namespace cupel {
namespace {

/// The name of an array of one alpha: as it is where there is one.
std::string array_name(std::string_view name, const SetsResult& result, std::size_t level) {
  if (result.levels.size() == 1) return std::string(name);
  return fmt::format("{}_{}", name, result.levels[level].alpha);
}

bool has_p_values_by_set(const SetsResult& result) {
  return result.p_values != PValues::kNone && !result.all_p_values;
}

class NpzSets final : public SetsSink {
 public:
  NpzSets(FileSink& out, SetsLayout layout) : npz_(out), layout_(layout) {}

  Result<void> begin(const SetsResult& result) override {
    bytes_ = (result.classes + 7) / 8;
    const std::size_t levels = result.levels.size();
    levels_.resize(levels);
    // The longest first, which waits nowhere.
    for (std::size_t l = 0; l < levels; ++l) {
      auto made = layout_ == SetsLayout::kCsr
                      ? npz_.column(array_name("labels", result, l), DType::kU16)
                      : npz_.column(array_name("mask", result, l), DType::kU8, bytes_);
      if (!made) return made.error();
      levels_[l].sets = *made;
    }
    for (std::size_t l = 0; l < levels && layout_ == SetsLayout::kCsr; ++l) {
      auto made = npz_.column(array_name("offsets", result, l), DType::kI64);
      if (!made) return made.error();
      levels_[l].offsets = *made;
      if (auto done = put_offset(levels_[l]); !done) return done;
    }
    by_set_ = has_p_values_by_set(result);
    for (std::size_t l = 0; l < levels && by_set_; ++l) {
      auto made = npz_.column(array_name("p_values", result, l), DType::kF64);
      if (!made) return made.error();
      levels_[l].p_values = *made;
    }
    if (result.all_p_values) {
      auto made = npz_.column("p_values", DType::kF64, result.classes);
      if (!made) return made.error();
      p_values_ = *made;
    }
    all_ = result.all_p_values;
    auto made = npz_.column("rows", DType::kI64);
    if (!made) return made.error();
    rows_ = *made;
    return {};
  }

  Result<void> block(const SetsBlock& block) override {
    if (auto done = npz_.append(rows_, block.rows); !done) return done;
    for (std::size_t l = 0; l < levels_.size(); ++l) {
      auto done = layout_ == SetsLayout::kCsr ? put_labels(levels_[l], block.levels[l])
                                              : put_mask(levels_[l], block.levels[l]);
      if (!done) return done;
      if (!by_set_) continue;
      if (done = npz_.append(levels_[l].p_values, block.levels[l].p_values); !done) return done;
    }
    if (all_) return npz_.append(p_values_, block.p_values);
    return {};
  }

  Result<void> end(const SetsResult& result) override {
    std::vector<double> alphas;
    std::vector<double> qhats;
    const bool one = result.mode == ConformalMode::kMarginal;
    for (const SetsLevel& level : result.levels) {
      double alpha = 0;
      std::from_chars(level.alpha.data(), level.alpha.data() + level.alpha.size(), alpha);
      alphas.push_back(alpha);
      if (one) qhats.push_back(level.qhat);
      qhats.insert(qhats.end(), level.qhats.begin(), level.qhats.end());
    }
    std::vector<i64> shape;
    if (alphas.size() > 1) shape.push_back(static_cast<i64>(alphas.size()));
    npz_.array("alpha", DType::kF64, shape, std::as_bytes(std::span(alphas)));
    if (!one) shape.push_back(static_cast<i64>(result.levels.front().qhats.size()));
    if (result.mode != ConformalMode::kWeighted) {
      npz_.array("qhat", DType::kF64, shape, std::as_bytes(std::span(qhats)));
    }
    npz_.integer("classes", result.classes);
    npz_.integer("n_calibration", result.calibration_rows);
    npz_.text("about", about_sets(result, layout_));
    return npz_.finish();
  }

 private:
  struct Level {
    std::size_t sets = 0;
    std::size_t offsets = 0;
    std::size_t p_values = 0;
    i64 labels = 0;
  };

  Result<void> put_offset(const Level& level) {
    return npz_.append(level.offsets, std::span<const i64>(&level.labels, 1));
  }
  Result<void> put_labels(Level& level, const SetsBlock::Level& sets) {
    Buffer<i64> offsets(sets.sizes.size());
    for (std::size_t row = 0; row < offsets.size(); ++row) {
      level.labels += sets.sizes[row];
      offsets[row] = level.labels;
    }
    if (auto done = npz_.append(level.offsets, std::span<const i64>(offsets)); !done) return done;
    return npz_.append(level.sets, sets.labels);
  }
  Result<void> put_mask(const Level& level, const SetsBlock::Level& sets) {
    std::vector<u8> mask(sets.sizes.size() * static_cast<std::size_t>(bytes_));
    const u16* label = sets.labels.data();
    for (std::size_t row = 0; row < sets.sizes.size(); ++row) {
      u8* bits = mask.data() + row * static_cast<std::size_t>(bytes_);
      for (u32 i = 0; i < sets.sizes[row]; ++i, ++label) {
        bits[*label / 8] = static_cast<u8>(bits[*label / 8] | 1 << *label % 8);
      }
    }
    return npz_.append(level.sets, std::span<const u8>(mask));
  }

  NpzWriter npz_;
  SetsLayout layout_;
  i64 bytes_ = 0;
  bool by_set_ = false;
  bool all_ = false;
  std::vector<Level> levels_;
  std::size_t p_values_ = 0;
  std::size_t rows_ = 0;
};

class CsvSets final : public SetsSink {
 public:
  explicit CsvSets(FileSink& out) : out_(out) {}

  Result<void> begin(const SetsResult& result) override {
    by_set_ = has_p_values_by_set(result);
    classes_ = static_cast<std::size_t>(result.classes);
    text_ = "row";
    for (std::size_t l = 0; l < result.levels.size(); ++l) {
      text_ += ',' + array_name("labels", result, l);
      if (by_set_) text_ += ',' + array_name("p_values", result, l);
    }
    if (result.all_p_values) text_ += ",p_values";
    text_ += '\n';
    return flush();
  }

  Result<void> block(const SetsBlock& block) override {
    std::vector<std::size_t> at(block.levels.size());
    for (std::size_t row = 0; row < block.rows.size(); ++row) {
      put(block.rows[row]);
      for (std::size_t l = 0; l < block.levels.size(); ++l) {
        const SetsBlock::Level& level = block.levels[l];
        const std::size_t size = level.sizes[row];
        put_list(level.labels.subspan(at[l], size));
        if (by_set_) put_list(level.p_values.subspan(at[l], size));
        at[l] += size;
      }
      if (!block.p_values.empty()) put_list(block.p_values.subspan(row * classes_, classes_));
      text_ += '\n';
      if (text_.size() > kFlushBytes) {
        if (auto done = flush(); !done) return done;
      }
    }
    return flush();
  }

  Result<void> end(const SetsResult&) override { return out_.flush(); }

 private:
  static constexpr std::size_t kFlushBytes = std::size_t{1} << 18;

  template <class T>
  void put(T value) {
    std::array<char, 32> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    text_.append(digits.data(), end);
  }
  template <class T>
  void put_list(std::span<const T> values) {
    char before = ',';
    if (values.empty()) text_ += ',';
    for (const T value : values) {
      text_ += before;
      put(value);
      before = ' ';
    }
  }
  Result<void> flush() {
    auto done = out_.append(std::as_bytes(std::span(text_)));
    text_.clear();
    return done;
  }

  FileSink& out_;
  std::string text_;
  bool by_set_ = false;
  std::size_t classes_ = 0;
};

}  // namespace

std::unique_ptr<SetsSink> npz_sets(FileSink& out, SetsLayout layout) {
  return std::make_unique<NpzSets>(out, layout);
}
std::unique_ptr<SetsSink> csv_sets(FileSink& out) { return std::make_unique<CsvSets>(out); }

}  // namespace cupel
