#include "cupel/backend/backend.hpp"
#include "cupel/math/row_terms.hpp"

namespace cupel {

ScoreKind score_kind(const TableView& table) {
  if (table.task == Task::kMulticlass && table.logits) return ScoreKind::kF64;
  switch (table.scores.dtype) {
    case DType::kF16:
      return ScoreKind::kF16;
    case DType::kBF16:
      return ScoreKind::kBF16;
    case DType::kF64:
      return ScoreKind::kF64;
    case DType::kI32:
    case DType::kI64:
      return ScoreKind::kI64;
    case DType::kU32:
    case DType::kU64:
      return ScoreKind::kU64;
    default:
      return ScoreKind::kF32;
  }
}

double probability_epsilon(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return kEpsilonF16;
    case DType::kBF16:
      return kEpsilonBF16;
    case DType::kF32:
      return kEpsilonF32;
    default:
      return kEpsilonF64;
  }
}

bool holds_probabilities(const TableView& table) {
  const ArrayView& scores = table.scores;
  return table.task == Task::kMulticlass && !table.logits && scores.dtype == DType::kF64 &&
         scores.strides.size() == 2 && scores.strides[1] == 8 &&
         scores.strides[0] == 8 * table.classes &&
         reinterpret_cast<std::uintptr_t>(scores.data) % 8 == 0 && !table.weighted() &&
         table.cell_count == 1 && (table.rows == 0 || table.class_labels != nullptr);
}

}  // namespace cupel
