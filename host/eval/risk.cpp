#include "eval/risk.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "cupel/math/wide.hpp"
#include "metric/exact.hpp"

namespace cupel {
namespace {

/// Lambdas only name columns, but a column out of order would be a mistake.
Result<void> check_lambdas(const PreparedTable& part, const PreparedTable& first) {
  const RiskView& rows = *part.risk;
  if (rows.lambdas == nullptr) return {};
  const auto place = [&](i64 l) {
    return part.lambda_place ? part.lambda_place(l) : std::string();
  };
  for (i64 l = 0; l < rows.lambda_count; ++l) {
    const double wanted = first.risk->lambdas[l];
    if (rows.lambdas[l] == wanted) continue;
    return input_error(
        place(l),
        fmt::format("lambda {} is {}, in the first dump it is {}", l, rows.lambdas[l], wanted),
        "pooled dumps need the same lambdas");
  }
  for (i64 l = 1; l < rows.lambda_count; ++l) {
    const bool rises = rows.lambdas[1] > rows.lambdas[0];
    const double step = rows.lambdas[l] - rows.lambdas[l - 1];
    if (rises ? step > 0 : step < 0) continue;
    return input_error(place(l),
                       fmt::format("lambdas neither rise nor fall throughout: {} follows {}",
                                   rows.lambdas[l], rows.lambdas[l - 1]),
                       "sort them, and the columns of the losses with them");
  }
  return {};
}

/// A number as a column of a floating-point type holds it: rounded to the nearest.
double as_held(double number, DType type) {
  const int digits = type == DType::kF16    ? 11
                     : type == DType::kBF16 ? 8
                     : type == DType::kF32  ? 24
                                            : 53;
  if (digits == 53) return number;
  int exponent = 0;
  std::frexp(number, &exponent);
  const int unit = std::max(exponent - digits, type == DType::kF16 ? -24 : -149);
  return std::ldexp(std::nearbyint(std::ldexp(number, -unit)), unit);
}

/// What a loss counts as once it is rounded, nothing outside [0, B]: B where it is B as the type of
/// its column holds it.
std::optional<double> counted(double loss, double most, double most_held) {
  if (loss <= 0) {
    return loss > -1 && loss_units(-loss) == 0 ? std::optional<double>(0) : std::nullopt;
  }
  if (loss <= most || (loss <= kMostLoss && loss_units(loss) <= loss_units(most))) return loss;
  return loss <= most_held ? std::optional(most) : std::nullopt;
}

/// The losses of a row as they count, or what is wrong with them; empty: nothing.
std::string read_losses(const double* losses, double most, double most_held,
                        std::vector<double>& row) {
  for (std::size_t l = 0; l < row.size(); ++l) {
    const std::optional<double> loss = counted(losses[l], most, most_held);
    if (!loss) return fmt::format("is {} in column {}, outside 0 to B = {}", losses[l], l, most);
    row[l] = *loss;
    if (l > 0 && loss_units(row[l]) > loss_units(row[l - 1])) {
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
    if (auto fine = check_lambdas(parts[p], parts.front()); !fine) return fine.error();
    const double held = as_held(largest, parts[p].loss_type);
    std::vector<double> counts(static_cast<std::size_t>(rows.lambda_count));
    i64 faults = 0;
    i64 first = -1;
    std::string what;
    for (i64 row = 0; row < rows.rows; ++row) {
      const double* losses = rows.losses + row * rows.lambda_count;
      std::string fault = read_losses(losses, largest, held, counts);
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
      for (std::size_t l = 0; l < counts.size(); ++l) own.add(l, counts[l]);
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
