// Rows of an embedding as passes over pairs need them: float32, normalised, sorted by class.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cupel/core/result.hpp"
#include "cupel/state/embedding_pairs.hpp"
#include "eval/prepare.hpp"

namespace cupel {

/// Which rows of the parts: those whose cell is wanted.
struct EmbeddingSelection {
  std::span<const PreparedTable> parts;
  std::span<const std::vector<u32>> of_part;  ///< [part][cell of the part]: the united cell
  std::vector<bool> wanted;                   ///< [united cell]
};

class EmbeddingMatrix {
 public:
  /// Copies the rows, by class, then by id, then by position. Values wider than float32 are rounded
  /// to it. With `memory` (bytes, 0: no limit) less than twice the matrix, it lies in an unlinked
  /// temporary file that is mapped, so that the system keeps no more of it than there is room for.
  /// Errors: kInput: rows of zeros with `normalize`; squared lengths beyond a quarter of the
  /// largest float without it, with the first row and the count; kUsage: 2^31 rows; kInternal: no
  /// room for the file.
  static Result<EmbeddingMatrix> make(const EmbeddingSelection& selection, PairDomain domain,
                                      bool normalize, i64 memory, int threads);

  EmbeddingView view() const;
  /// Labels as text, ascending as numbers or as texts; [class] of view().classes.
  const std::vector<std::string>& class_names() const { return class_names_; }
  const std::vector<u64>& class_rows() const { return class_rows_; }
  u64 positive_pairs() const;
  u64 negative_pairs() const;
  bool rounded() const { return rounded_; }  ///< some part had float64 elements
  bool in_file() const { return in_file_; }

 private:
  std::shared_ptr<float> values_;  ///< of memory or of a mapped file
  Buffer<float> squares_;
  Buffer<u32> classes_, ties_;
  std::vector<std::string> class_names_;
  std::vector<u64> class_rows_;
  PairDomain domain_ = PairDomain::kL2;
  i64 rows_ = 0, width_ = 0, stride_ = 0;
  bool rounded_ = false, in_file_ = false;
};

}  // namespace cupel
