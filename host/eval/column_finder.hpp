// Finding the columns of a dump by the name that an option gives, else by the usual names of their
// role.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>

#include "eval/roles.hpp"

namespace cupel {

/// Finds columns for a Binding; what binds them for a task does the rest.
class ColumnFinder {
 protected:
  ColumnFinder(Dump& dump, const EvalRequest& request) : dump_(dump), request_(request) {}

  /// Whether some name is given.
  static bool any(std::initializer_list<const std::string*> names);
  /// "'label' [5,2]".
  static std::string described(const ArrayInfo& info);
  /// An error of the dump.
  Error input(std::string what, std::string hint) const;

  /// Whether the dump has a column under a usual name of the role.
  bool holds(Role role) const;
  /// The column that an option names: an array of the dump, or a file with one column.
  Result<BoundColumn> named(Role role, const std::string& name);
  /// The one array under a usual name of the role; none is not an error, two are.
  Result<std::optional<BoundColumn>> usual(Role role);
  /// By `name`, or where it is empty by a usual name, which has to be there.
  Result<BoundColumn> required(Role role, const std::string& name);
  /// By `name`, or where it is empty by a usual name, which may be missing.
  Result<void> bind_optional(Role role, const std::string& name,
                             std::optional<BoundColumn>& column);

  Dump& dump_;
  const EvalRequest& request_;
  Binding binding_;
};

}  // namespace cupel
