// Pairs of an embedding for the self-test: rows, classes and passes that differ by variant.
#pragma once

#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/core/bytes.hpp"

namespace cupel {

/// Rows with duplicates, opposite rows and rows of other lengths, on both sides of zero; of one
/// class, of a few uneven ones or each of its own.
class SelftestEmbedding {
 public:
  /// At least one row and element.
  SelftestEmbedding(i64 rows, i64 width, std::size_t variant);
  SelftestEmbedding(const SelftestEmbedding&) = delete;
  SelftestEmbedding& operator=(const SelftestEmbedding&) = delete;

  const EmbeddingView& view() const { return view_; }
  /// All pairs, or a part whose sides overlap; cuts and ranges are at gaps of pairs.
  const PairPass& pass() const { return pass_; }

 private:
  void make_pass(std::size_t variant);

  std::vector<float> values_, squares_;
  std::vector<u32> classes_, ties_, wanted_;
  EmbeddingView view_;
  PairPass pass_;
};

/// All states of a pass, lists in order.
void put_pairs(ByteWriter& writer, const PairStates& states);

}  // namespace cupel
