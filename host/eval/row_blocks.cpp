#include "eval/row_blocks.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "backend/thread_pool.hpp"

namespace cupel {
namespace {

/// On a thread of its own, or, where none can be made, once it is waited for.
constexpr std::launch kBeside = std::launch::async | std::launch::deferred;

constexpr i64 kBlockBytes = i64{16} << 20;
constexpr i64 kThreadBytes = i64{2} << 20;
/// Of rows of one score, whose labels, cells and sets take more than they do.
constexpr i64 kMostBlockRows = i64{1} << 18;

}  // namespace

Result<std::unique_ptr<Dump>> RowBlocks::open(const std::string& path, const EvalRequest& request) {
  auto dump = open_dump(path, {request.bfloat16_columns, true});
  if (!dump) return dump.error();
  for (const std::string& name : request.bfloat16_columns) {
    bool known = (*dump)->format() == "npy" && name == "arr_0";
    for (const ArrayInfo& info : (*dump)->arrays()) known = known || info.name == name;
    if (!known && request.dumps.size() == 1) {
      return usage_error(fmt::format("--dtype names '{}', which {} does not have", name, path),
                         "it has " + list_arrays(**dump));
    }
  }
  return dump;
}

Result<std::unique_ptr<RowBlocks>> RowBlocks::bind(std::unique_ptr<Dump> dump,
                                                   const EvalRequest& request, i64 first_row,
                                                   bool weighted) {
  auto binding = bind_roles(*dump, request);
  if (!binding) return binding.error();
  std::string unused;
  if (binding->weight && !weighted) {
    unused = binding->weight->info().name;
    binding->weight.reset();
  }
  std::unique_ptr<RowBlocks> blocks(new RowBlocks(std::move(dump), std::move(*binding), first_row));
  blocks->unused_weight_ = std::move(unused);
  return blocks;
}

RowBlocks::~RowBlocks() {
  if (verified_.valid()) verified_.wait();
}

Result<void> RowBlocks::load() {
  if (loaded_) return {};
  auto columns = load_columns(binding_);
  if (!columns) return columns.error();
  columns_ = std::move(*columns);
  loaded_ = true;
  verified_ = std::async(kBeside, [this] { return verify_files(); });
  return {};
}

i64 RowBlocks::block_rows(int threads) const {
  const ArrayInfo& score = binding_.score.info();
  const i64 row_bytes = std::max<i64>(1, score.cols() * std::max<i64>(1, score.item_bytes));
  const i64 bytes = std::max(kBlockBytes, kThreadBytes * threads);
  return std::clamp<i64>(bytes / row_bytes, 1, kMostBlockRows);
}

Result<void> RowBlocks::for_each(const EvalRequest& request, Backend& backend,
                                 const std::function<Result<void>(PreparedTable&, i64)>& take) {
  const i64 rows = binding_.rows;
  dropped_ = {};
  if (auto done = load(); !done) return done;
  const i64 step = block_rows(request.threads > 0 ? request.threads : available_threads());
  const bool probabilities = binding_.task == Task::kMulticlass && !binding_.logits;
  // Whatever ends it, the binding is that of all rows again.
  struct Restore {
    Restore(Binding& of, i64 all) : binding(of), rows(all) {}
    ~Restore() {
      binding.rows = rows;
      binding.block.reset();
    }
    Restore(const Restore&) = delete;
    Restore& operator=(const Restore&) = delete;
    Binding& binding;
    i64 rows;
  };
  const Restore restore(binding_, rows);
  for (i64 first = 0; first < rows; first += step) {
    binding_.rows = std::min(step, rows - first);
    binding_.block = Binding::Block{first, columns_};
    auto prepared = prepare_table(binding_, request, first_row_ + first, backend, probabilities);
    if (!prepared && prepared.error().code == ErrorCode::kInput) {
      // How many rows are wrong, and which is the first, is told of all rows.
      binding_.rows = rows;
      binding_.block = Binding::Block{0, columns_};
      auto whole = prepare_table(binding_, request, first_row_, backend, probabilities);
      return whole ? prepared.error() : whole.error();
    }
    if (!prepared) return prepared.error();
    if (prepared->row_sums.rows != 0) return not_probabilities(*prepared, request);
    dropped_.scores += prepared->dropped.scores;
    dropped_.labels += prepared->dropped.labels;
    prepared->view.first_row = first_row_ + first;
    if (auto done = take(*prepared, binding_.rows); !done) return done;
    release(first, binding_.rows);
  }
  return {};
}

void RowBlocks::release(i64 first, i64 rows) const {
  const auto columns = binding_.columns();
  for (std::size_t c = 0; c < columns.size(); ++c) {
    const ArrayView& view = columns_[c].view;
    if (view.dtype == DType::kText || view.shape.empty()) continue;
    const std::byte* begin = view.at(first);
    const std::byte* end = view.at(first + rows - 1, view.cols() - 1) + view.item_bytes;
    if (end > begin) {
      columns[c]->dump->release({begin, static_cast<std::size_t>(end - begin)});
    }
  }
}

Error RowBlocks::not_probabilities(const PreparedTable& rows, const EvalRequest& request) const {
  ThreadPool pool(request.threads > 0 ? request.threads : available_threads());
  TableView loaded = rows.view;  // as it was before rows were left out
  loaded.scores = rows.arrays.front().view;
  loaded.rows = binding_.rows;
  const ScoresOutside outside = find_scores_outside(loaded, pool);
  const BoundColumn& column = binding_.score;
  const i64 first = binding_.block->first;
  const bool matrix = loaded.task != Task::kBinary;
  const std::string_view plea =
      matrix ? "divide rows by their sums with --normalize" : "scale it to [0, 1]";
  const auto error = [&](i64 row, const std::string& what, std::string next) {
    return input_error(column.dump->place(column.index, first + row),
                       fmt::format("{} '{}' {}, and sets need probabilities",
                                   role_name(column.role), column.info().name, what),
                       std::move(next));
  };
  if (outside.rows != 0 || rows.row_sums.rows == 0) {
    return error(std::max<i64>(0, outside.first_row),
                 fmt::format("is {:.6g}{}, outside [0, 1]", outside.first,
                             matrix ? fmt::format(" in column {}", outside.first_column) : ""),
                 fmt::format("{}name the column with --logits if these are logits",
                             outside.negative ? "" : fmt::format("{}, or ", plea)));
  }
  const double within =
      static_cast<double>(row_sum_tolerance(loaded.scores.dtype, loaded.classes)) * 0x1p-44;
  return error(
      rows.row_sums.first_row,
      fmt::format("sums to {:.6g}, not to 1 within {:.2g}", rows.row_sums.first_sum, within),
      std::string(plea));
}

Result<std::vector<EvalInput>> RowBlocks::verify(bool read) {
  if (!loaded_ && read) {
    if (auto done = load(); !done) return done.error();
  }
  if (!verified_.valid()) return std::vector<EvalInput>();
  return verified_.get();
}

Result<std::vector<EvalInput>> RowBlocks::verify_files() const {
  std::vector<EvalInput> inputs;
  const i64 rows = columns_.front().view.rows();
  const auto add = [&](Dump& dump) -> Result<void> {
    auto hash = dump.verify();
    if (!hash) return hash.error();
    inputs.push_back(
        {dump.path(), std::string(dump.format()), rows, dump.file_bytes(), std::move(*hash)});
    return {};
  };
  // Only what does not change while blocks are prepared is looked at here.
  bool uses_dump = false;
  for (const BoundColumn* column : binding_.columns()) {
    uses_dump = uses_dump || column->dump == dump_.get();
  }
  if (uses_dump) {
    if (auto done = add(*dump_); !done) return done.error();
  }
  for (const auto& side : binding_.side_files) {
    if (auto done = add(*side); !done) return done.error();
  }
  return inputs;
}

}  // namespace cupel
