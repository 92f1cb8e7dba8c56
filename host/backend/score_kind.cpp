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

}  // namespace cupel
