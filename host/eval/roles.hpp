// Which arrays of a dump play which part: by the names that an option gives, else by the usual
// names.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cupel/core/task.hpp"
#include "cupel/eval/evaluate.hpp"
#include "cupel/io/dump.hpp"

namespace cupel {

enum class Role : u8 { kLabel, kScore, kProbs, kLogits, kWeight, kId, kGroup, kCalibration };
std::string_view role_name(Role role);

/// One array and the dump that holds it.
struct BoundColumn {
  Role role = Role::kLabel;
  Dump* dump = nullptr;
  i64 index = 0;

  const ArrayInfo& info() const { return dump->arrays()[static_cast<std::size_t>(index)]; }
};

/// The columns that an evaluation of one dump reads. `side_files` are dumps of a single column that
/// options named (`--label y.npy`).
struct Binding {
  Task task = Task::kBinary;
  bool logits = false;
  i64 classes = 2;
  i64 rows = 0;
  BoundColumn score;
  BoundColumn label;
  std::optional<BoundColumn> weight;
  std::optional<BoundColumn> id;
  std::optional<BoundColumn> calibration;
  std::vector<BoundColumn> groups;
  std::vector<std::unique_ptr<Dump>> side_files;

  std::vector<const BoundColumn*> columns() const;
};

/// Finds label, scores and whatever else the request names, infers the task, and checks that
/// lengths agree. Errors: kInput naming what is missing or ambiguous and what is there; kUsage
/// where the options contradict each other.
Result<Binding> bind_roles(Dump& dump, const EvalRequest& request);

/// Whether the value of --calibration is a number, and so a share of the rows, not a column.
bool is_fraction(std::string_view text);

/// The role that a column would have by its name alone; empty when none.
std::string usual_role(const std::string& column);

/// "logits [4377,6] f32, y2 [4377] i64": the arrays of a dump for a message.
std::string list_arrays(const Dump& dump);

}  // namespace cupel
