#include "eval/scopes.hpp"

#include <fmt/format.h>

#include <map>
#include <numeric>

namespace cupel {

UnitedCells unite_cells(std::span<const PreparedTable> parts) {
  const auto key_of = [](const PreparedTable& part, std::size_t cell) {
    const bool calibration = !part.calibration_cells.empty() && part.calibration_cells[cell];
    return std::pair(part.cells[cell], calibration);
  };
  std::map<std::pair<CellKey, bool>, u32> numbers;
  for (const PreparedTable& part : parts) {
    for (std::size_t c = 0; c < part.cells.size(); ++c) numbers.emplace(key_of(part, c), 0);
  }
  UnitedCells united;
  for (auto& [key, number] : numbers) {
    number = static_cast<u32>(united.keys.size());
    united.keys.push_back(key.first);
    if (parts.front().has_halves) united.calibration.push_back(key.second);
  }
  for (const PreparedTable& part : parts) {
    std::vector<u32> map;
    for (std::size_t c = 0; c < part.cells.size(); ++c) map.push_back(numbers.at(key_of(part, c)));
    united.of_part.push_back(std::move(map));
  }
  return united;
}

Scopes make_scopes(const std::vector<CellKey>& cells, const std::vector<std::string>& columns,
                   bool intersect) {
  Scopes scopes;
  Scope everyone;
  everyone.cells.resize(cells.size());
  std::iota(everyone.cells.begin(), everyone.cells.end(), u32{0});
  scopes.all.push_back(std::move(everyone));

  std::vector<std::vector<std::size_t>> attributes;
  for (std::size_t c = 0; c < columns.size(); ++c) attributes.push_back({c});
  if (intersect && columns.size() > 1) {
    attributes.emplace_back(columns.size());
    std::iota(attributes.back().begin(), attributes.back().end(), std::size_t{0});
  }
  for (const auto& members : attributes) {
    Attribute attribute;
    for (const std::size_t c : members) {
      attribute.name += (attribute.name.empty() ? "" : ",") + columns[c];
    }
    std::map<std::vector<std::string>, std::vector<u32>> groups;
    for (std::size_t cell = 0; cell < cells.size(); ++cell) {
      std::vector<std::string> values;
      for (const std::size_t c : members) {
        if (cells[cell][c]) values.push_back(*cells[cell][c]);
      }
      if (values.size() == members.size()) {
        groups[values].push_back(static_cast<u32>(cell));
      } else {
        attribute.unknown_cells.push_back(static_cast<u32>(cell));
      }
    }
    for (auto& [values, members_cells] : groups) {
      Scope scope;
      scope.attribute = static_cast<i64>(scopes.attributes.size());
      for (std::size_t i = 0; i < members.size(); ++i) {
        scope.group.emplace_back(columns[members[i]], values[i]);
      }
      scope.cells = std::move(members_cells);
      attribute.scopes.push_back(scopes.all.size());
      scopes.all.push_back(std::move(scope));
    }
    scopes.attributes.push_back(std::move(attribute));
  }
  return scopes;
}

}  // namespace cupel
