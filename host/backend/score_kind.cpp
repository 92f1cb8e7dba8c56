#include "cupel/backend/backend.hpp"

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

}  // namespace cupel
