#include "eval/risk.hpp"

#include <fmt/format.h>

#include "cupel/math/wide.hpp"
#include "metric/exact.hpp"

namespace cupel {
namespace {

/// Lambdas only name columns, but a column out of order would be a mistake.
Result<void> check_lambdas(const PreparedTable& part) {
  const RiskView& rows = *part.risk;
  if (rows.lambdas == nullptr) return {};
  for (i64 l = 1; l < rows.lambda_count; ++l) {
    const bool rises = rows.lambdas[1] > rows.lambdas[0];
    const double step = rows.lambdas[l] - rows.lambdas[l - 1];
    if (rises ? step > 0 : step < 0) continue;
    return input_error("",
                       fmt::format("lambdas neither rise nor fall throughout: {} follows {}",
                                   rows.lambdas[l], rows.lambdas[l - 1]),
                       "sort them, and the columns of the losses with them");
  }
  return {};
}

/// What is wrong with the losses of a row; empty: nothing.
std::string fault_of(const double* losses, i64 count, double most) {
  for (i64 l = 0; l < count; ++l) {
    if (losses[l] < 0 || losses[l] > most) {
      return fmt::format("is {} in column {}, outside 0 to B = {}", losses[l], l, most);
    }
    if (l > 0 && losses[l] > losses[l - 1]) {
      return fmt::format("rises from {} to {} in column {}", losses[l - 1], losses[l], l);
    }
  }
  return {};
}

}  // namespace

Result<std::vector<RiskSums>> risk_sums(std::span<const PreparedTable> parts,
                                        const std::vector<std::vector<u32>>& cell_map,
                                        std::size_t cells, const Fraction& most) {
  const double largest = exact::to_double(exact::rational(most));
  std::vector<RiskSums> sums(cells);
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const RiskView& rows = *parts[p].risk;
    if (auto fine = check_lambdas(parts[p]); !fine) return fine.error();
    i64 faults = 0;
    i64 first = -1;
    std::string what;
    for (i64 row = 0; row < rows.rows; ++row) {
      const double* losses = rows.losses + row * rows.lambda_count;
      std::string fault = fault_of(losses, rows.lambda_count, largest);
      if (!fault.empty()) {
        if (faults++ == 0) {
          first = row;
          what = std::move(fault);
        }
        continue;
      }
      RiskSums& own = sums[cell_map[p][rows.cell(row)]];
      if (own.losses.empty()) own = RiskSums(static_cast<std::size_t>(rows.lambda_count));
      ++own.rows;
      for (i64 l = 0; l < rows.lambda_count; ++l) own.add(static_cast<std::size_t>(l), losses[l]);
    }
    if (faults == 0) continue;
    return input_error(
        parts[p].loss_place ? parts[p].loss_place(first) : std::string(),
        fmt::format("loss {} ({} such row{} in all)", what, faults, faults == 1 ? "" : "s"),
        "risk control needs losses in [0, B] that do not rise from column to "
        "column; B= says the largest");
  }
  return sums;
}

}  // namespace cupel
