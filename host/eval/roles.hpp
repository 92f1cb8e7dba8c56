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

enum class Role : u8 {
  kLabel,
  kScore,
  kProbs,
  kLogits,
  kWeight,
  kId,
  kGroup,
  kCalibration,
  kPred,
  kSigma,
  kLower,
  kUpper,
  kThreshold,
  kLoss,
  kLambdas,
  kEmbedding,
  kDistance,
  kClassA,
  kClassB
};
std::string_view role_name(Role role);
/// The option that names a column of the role, without its dashes.
std::string_view option_name(Role role);

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
  i64 classes = 2;  ///< of regression the models of `pred`, of risk the values of lambda
  i64 rows = 0;
  BoundColumn score;  ///< no dump: a regression or a risk task
  BoundColumn label;  ///< no dump: a risk task, or there is none (request.label_optional)
  std::optional<BoundColumn> weight;
  std::optional<BoundColumn> id;
  std::optional<BoundColumn> calibration;
  std::optional<BoundColumn> embedding;  ///< only with request.embedding
  std::vector<BoundColumn> groups;
  std::optional<BoundColumn> pred, sigma, lower, upper, threshold;  ///< of regression
  std::optional<BoundColumn> loss, lambdas;                         ///< of risk
  /// Of verification: `embedding`, or `score` or `distance` with both classes.
  std::optional<BoundColumn> distance, class_a, class_b;
  /// Of a regression with request.pool: nothing in this file says that labels are numbers; an error
  /// unless another file does.
  std::optional<Error> doubt;
  std::vector<std::unique_ptr<Dump>> side_files;

  /// Where only a block of rows is prepared: `rows` of them from `first` on, of these columns (as
  /// load_columns() gives them).
  struct Block {
    i64 first = 0;
    std::vector<Array> columns;
  };
  std::optional<Block> block;

  bool has_label() const { return label.dump != nullptr; }
  /// Those that are there: score, label, weight, id, calibration, groups, then the others.
  std::vector<const BoundColumn*> columns() const;
};

/// Finds label, scores and whatever else the request names, infers the task, and checks that
/// lengths agree. Without --task, scores make a classification task of a dump; else `pred`, `lower`
/// or `upper` with a real label make it regression; else `loss` makes it
/// risk; an option that names a column of one of these comes before columns found by name. Errors:
/// kInput naming what is missing or ambiguous and what is there; kUsage where the options
/// contradict each other.
Result<Binding> bind_roles(Dump& dump, const EvalRequest& request);

/// Whether the value of --calibration is a number, and so a share of the rows, not a column.
bool is_fraction(std::string_view text);

/// The role that a column would have by its name alone; empty when none.
std::string usual_role(const std::string& column);

/// "logits [4377,6] f32, y2 [4377] i64": the arrays of a dump for a message.
std::string list_arrays(const Dump& dump);

}  // namespace cupel
