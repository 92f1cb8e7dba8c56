// One dump, prepared and given away block by block, so that no more of it is in memory than a block
// takes. Its checksums are taken on another thread meanwhile.
#pragma once

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "eval/prepare.hpp"
#include "eval/roles.hpp"

namespace cupel {

class RowBlocks {
 public:
  /// Opens a dump to be read in blocks. Errors: those of open_dump(); kUsage, a --dtype of no
  /// column.
  static Result<std::unique_ptr<Dump>> open(const std::string& path, const EvalRequest& request);
  /// Binds the columns of a dump; weights that are found are left alone, but `weighted`.
  /// `first_row` is the position of its first row in the whole table. Errors: those of
  /// bind_roles().
  static Result<std::unique_ptr<RowBlocks>> bind(std::unique_ptr<Dump> dump,
                                                 const EvalRequest& request, i64 first_row,
                                                 bool weighted);
  ~RowBlocks();
  RowBlocks(const RowBlocks&) = delete;
  RowBlocks& operator=(const RowBlocks&) = delete;

  const std::string& path() const { return dump_->path(); }
  /// Of all rows.
  const Binding& binding() const { return binding_; }
  /// A weight column that was found, and is not used; empty: none.
  const std::string& unused_weight() const { return unused_weight_; }
  /// What the last for_each() left out.
  const DroppedRows& dropped() const { return dropped_; }

  /// Prepares block after block and calls take(rows, rows of the block before any was left out).
  /// Errors: those of prepare_table() as it has them of the whole dump, rows that do not sum to 1,
  /// and those of `take`, which end it.
  Result<void> for_each(const EvalRequest& request, Backend& backend,
                        const std::function<Result<void>(PreparedTable&, i64)>& take);

  /// The position in the whole table of a row of the block that is being taken.
  i64 position(const PreparedTable& rows, i64 row) const {
    const i64 of_block =
        rows.kept_rows.empty() ? row : rows.kept_rows[static_cast<std::size_t>(row)];
    return first_row_ + binding_.block->first + of_block;
  }
  /// The error of a block with scores that are no probabilities, with the first such row.
  Error not_probabilities(const PreparedTable& rows, const EvalRequest& request) const;

  /// The checksums and hashes of the files that were read, waited for; `read`: also where nothing
  /// was, for want of rows. Once.
  Result<std::vector<EvalInput>> verify(bool read);

 private:
  RowBlocks(std::unique_ptr<Dump> dump, Binding binding, i64 first_row)
      : dump_(std::move(dump)), binding_(std::move(binding)), first_row_(first_row) {}
  Result<void> load();
  Result<std::vector<EvalInput>> verify_files() const;
  void release(i64 first, i64 rows) const;
  i64 block_rows(int threads) const;

  std::unique_ptr<Dump> dump_;
  Binding binding_;
  i64 first_row_ = 0;
  std::string unused_weight_;
  DroppedRows dropped_;
  std::vector<Array> columns_;
  bool loaded_ = false;
  std::future<Result<std::vector<EvalInput>>> verified_;
};

}  // namespace cupel
