// Scopes: everyone, each value of each group column, and with --intersect each combination. A scope
// is a set of cells.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cupel/core/int.hpp"
#include "eval/prepare.hpp"

namespace cupel {

struct Scope {
  std::vector<std::pair<std::string, std::string>> group;  ///< column and value; empty: everyone
  i64 attribute = -1;  ///< index into Scopes::attributes; -1: everyone
  std::vector<u32> cells;
};

/// One way of splitting rows into groups: a column, or all columns together.
struct Attribute {
  std::string name;  ///< "sex", or "sex,age" for the intersection
  std::vector<std::size_t> scopes;
  std::vector<u32> unknown_cells;  ///< rows in no group
};

struct Scopes {
  std::vector<Scope> all;  ///< everyone first, then by attribute and ascending value
  std::vector<Attribute> attributes;
};

/// The cells of all parts together: equal keys are one cell, but those of the two halves of
/// --calibration. In ascending order, so that numbers do not depend on the parts.
struct UnitedCells {
  std::vector<CellKey> keys;
  std::vector<bool> calibration;          ///< [cell] of both halves; empty: there are no halves
  std::vector<std::vector<u32>> of_part;  ///< [part][cell of the part]
};

UnitedCells unite_cells(std::span<const PreparedTable> parts);

Scopes make_scopes(const std::vector<CellKey>& cells, const std::vector<std::string>& columns,
                   bool intersect);

}  // namespace cupel
