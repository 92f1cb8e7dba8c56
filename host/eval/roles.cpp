#include "eval/roles.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

namespace cupel {
namespace {

struct RoleNames {
  Role role;
  std::string_view name;
  std::vector<std::string_view> usual;
};

const std::vector<RoleNames>& role_table() {
  static const std::vector<RoleNames> kTable{
      {Role::kLabel, "label", {"label", "labels", "y", "y_true", "target", "targets"}},
      {Role::kScore, "score", {"score", "scores", "y_score", "prob", "p"}},
      {Role::kProbs, "probs", {"probs", "probabilities", "y_prob"}},
      {Role::kLogits, "logits", {"logits", "logit"}},
      {Role::kWeight, "weight", {"weight", "sample_weight"}},
      {Role::kId, "id", {"id"}},
      {Role::kGroup, "group", {}},
      {Role::kCalibration, "calibration", {}},
  };
  return kTable;
}

bool is_regular_file(const std::string& path) {
  struct stat status = {};
  return stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

std::optional<i64> find_array(const Dump& dump, std::string_view name) {
  const auto arrays = dump.arrays();
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    if (arrays[i].name == name) return static_cast<i64>(i);
  }
  return std::nullopt;
}

class Binder {
 public:
  Binder(Dump& dump, const EvalRequest& request) : dump_(dump), request_(request) {}

  Result<Binding> run() {
    if (auto bound = bind_scores(); !bound) return bound.error();
    auto label = required(Role::kLabel, request_.roles.label);
    if (!label) return label.error();
    binding_.label = *label;
    if (auto done = bind_optional(Role::kWeight, request_.roles.weight, binding_.weight); !done) {
      return done.error();
    }
    // Only random draws follow the row id, so it is read only where one is made.
    const bool splits = request_.fits || request_.split != RowSplit::kAll;
    const bool draws = request_.draws || (splits && is_fraction(request_.roles.calibration));
    if (draws) {
      if (auto done = bind_optional(Role::kId, request_.roles.id, binding_.id); !done) {
        return done.error();
      }
    }
    if (!request_.roles.calibration.empty() && !is_fraction(request_.roles.calibration)) {
      auto column = named(Role::kCalibration, request_.roles.calibration);
      if (!column) return column.error();
      binding_.calibration = *column;
    }
    for (const std::string& name : request_.roles.groups) {
      auto column = named(Role::kGroup, name);
      if (!column) return column.error();
      binding_.groups.push_back(*column);
    }
    if (auto inferred = infer_task(); !inferred) return inferred.error();
    if (auto checked = check_lengths(); !checked) return checked.error();
    return std::move(binding_);
  }

 private:
  Error input(std::string what, std::string hint) const {
    return input_error(dump_.path(), std::move(what), std::move(hint));
  }

  /// The column that an option names: an array of the dump, or a file with one column.
  Result<BoundColumn> named(Role role, const std::string& name) {
    if (const auto index = find_array(dump_, name)) {
      if (auto readable = dump_.readable(*index); !readable) return readable.error();
      return BoundColumn{role, &dump_, *index};
    }
    if (is_regular_file(name)) {
      auto file = open_dump(name, {request_.bfloat16_columns});
      if (!file) return file.error();
      if ((*file)->arrays().size() != 1) {
        return input_error(name,
                           fmt::format("has {} arrays, --{} needs a file with one",
                                       (*file)->arrays().size(), role_name(role)),
                           "it has " + list_arrays(**file));
      }
      if (auto readable = (*file)->readable(0); !readable) return readable.error();
      binding_.side_files.push_back(std::move(*file));
      return BoundColumn{role, binding_.side_files.back().get(), 0};
    }
    std::vector<std::string> names;
    for (const ArrayInfo& info : dump_.arrays()) names.push_back(info.name);
    const auto near = nearest_name(name, names);
    return input(fmt::format("no array '{}' for --{}{}", name, role_name(role),
                             near ? fmt::format(", did you mean '{}'?", *near) : std::string()),
                 "it has " + list_arrays(dump_));
  }

  /// The one array under a usual name of the role; none is not an error, two are.
  Result<std::optional<BoundColumn>> usual(Role role) {
    std::vector<i64> found;
    const RoleNames& names = role_table()[static_cast<std::size_t>(role)];
    for (const std::string_view name : names.usual) {
      if (const auto index = find_array(dump_, name)) found.push_back(*index);
    }
    if (found.size() > 1) {
      const auto arrays = dump_.arrays();
      return input(fmt::format("'{}' and '{}' could both be the {}",
                               arrays[static_cast<std::size_t>(found[0])].name,
                               arrays[static_cast<std::size_t>(found[1])].name, names.name),
                   fmt::format("name one with --{}", names.name));
    }
    if (found.empty()) return std::optional<BoundColumn>();
    if (auto readable = dump_.readable(found[0]); !readable) return readable.error();
    return std::optional<BoundColumn>(BoundColumn{role, &dump_, found[0]});
  }

  Result<BoundColumn> required(Role role, const std::string& name) {
    if (!name.empty()) return named(role, name);
    auto column = usual(role);
    if (!column) return column.error();
    if (!*column) {
      return input(
          fmt::format("no array for the {}; it has {}", role_name(role), list_arrays(dump_)),
          fmt::format("name one with --{}", role_name(role)));
    }
    return **column;
  }

  Result<void> bind_optional(Role role, const std::string& name,
                             std::optional<BoundColumn>& column) {
    if (name.empty()) {
      auto found = usual(role);
      if (!found) return found.error();
      column = *found;
      return {};
    }
    auto found = named(role, name);
    if (!found) return found.error();
    column = *found;
    return {};
  }

  Result<void> bind_scores() {
    const std::array<std::pair<Role, const std::string*>, 3> wanted{
        {{Role::kScore, &request_.roles.score},
         {Role::kProbs, &request_.roles.probs},
         {Role::kLogits, &request_.roles.logits}}};
    int given = 0;
    for (const auto& [role, name] : wanted) given += name->empty() ? 0 : 1;
    if (given > 1) {
      return usage_error("more than one of --score, --probs and --logits is given",
                         "name the one column to evaluate");
    }
    for (const auto& [role, name] : wanted) {
      if (given == 1 && name->empty()) continue;
      if (given == 1) {
        auto column = named(role, *name);
        if (!column) return column.error();
        binding_.score = *column;
        return {};
      }
      auto column = usual(role);
      if (!column) return column.error();
      if (*column) {
        binding_.score = **column;
        return {};
      }
    }
    return input("no array for the scores; it has " + list_arrays(dump_),
                 "name one with --score, --probs or --logits");
  }

  Result<void> infer_task() {
    const ArrayInfo& score = binding_.score.info();
    const ArrayInfo& label = binding_.label.info();
    const auto described = [](const ArrayInfo& info) {
      return fmt::format("'{}' [{}]", info.name, fmt::join(info.shape, ","));
    };
    binding_.logits = binding_.score.role == Role::kLogits;
    const std::size_t score_dims = score.shape.size();
    const std::size_t label_dims = label.shape.size();
    if (score_dims == 1 && label_dims == 1) {
      binding_.task = Task::kBinary;
    } else if (score_dims == 2 && label_dims == 1) {
      binding_.task = Task::kMulticlass;
    } else if (score_dims == 2 && label_dims == 2) {
      binding_.task = Task::kMultilabel;
    } else {
      return input(
          fmt::format("scores {} and labels {} fit no task", described(score), described(label)),
          "binary takes [n] and [n], multiclass [n,k] and [n], multilabel [n,k] and [n,k]");
    }
    if (request_.task && *request_.task != binding_.task) {
      return input(
          fmt::format("scores {} and labels {} are a {} task, --task says {}", described(score),
                      described(label), task_name(binding_.task), task_name(*request_.task)),
          "name other columns, or leave --task out");
    }
    binding_.rows = score.rows();
    binding_.classes = binding_.task == Task::kBinary ? 2 : score.cols();
    if (binding_.task == Task::kMulticlass && binding_.classes < 2) {
      return input(fmt::format("scores {} have fewer than two classes", described(score)),
                   "give an array with one dimension for a binary task");
    }
    if (binding_.task == Task::kMultilabel && label.cols() != score.cols()) {
      return input(fmt::format("scores {} and labels {} differ in their second dimension",
                               described(score), described(label)),
                   "multilabel needs one label per score");
    }
    if (binding_.task == Task::kMultilabel && binding_.classes < 1) {
      return input(fmt::format("scores {} have no labels", described(score)),
                   "give at least one column");
    }
    if (binding_.classes > 65'535) {
      return input(fmt::format("scores {} have more than 65,535 classes", described(score)),
                   "evaluate fewer columns at a time");
    }
    return {};
  }

  Result<void> check_lengths() {
    for (const BoundColumn* column : binding_.columns()) {
      const ArrayInfo& info = column->info();
      if (info.shape.empty()) {
        return input_error(column->dump->path(),
                           fmt::format("'{}' is a single value, not a column", info.name),
                           fmt::format("the {} needs one value a row", role_name(column->role)));
      }
      if (info.rows() != binding_.rows) {
        return input_error(column->dump->path(),
                           fmt::format("'{}' has {} rows, '{}' has {}", info.name, info.rows(),
                                       binding_.score.info().name, binding_.rows),
                           "all columns need the same length");
      }
      const bool matrix_allowed = column->role <= Role::kLogits;
      if (!matrix_allowed && info.shape.size() != 1) {
        return input_error(
            column->dump->path(),
            fmt::format("'{}' [{}] is not one value a row", info.name, fmt::join(info.shape, ",")),
            fmt::format("the {} needs a one-dimensional array", role_name(column->role)));
      }
    }
    return {};
  }

  Dump& dump_;
  const EvalRequest& request_;
  Binding binding_;
};

}  // namespace

std::string_view role_name(Role role) { return role_table()[static_cast<std::size_t>(role)].name; }

std::vector<const BoundColumn*> Binding::columns() const {
  std::vector<const BoundColumn*> all{&score, &label};
  if (weight) all.push_back(&*weight);
  if (id) all.push_back(&*id);
  if (calibration) all.push_back(&*calibration);
  for (const BoundColumn& group : groups) all.push_back(&group);
  return all;
}

bool is_fraction(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789";
  return text.find_first_of(kDigits) != std::string_view::npos &&  // 'e' may be a column
         text.find_first_not_of("0123456789.eE+-") == std::string_view::npos;
}

std::string usual_role(const std::string& column) {
  for (const RoleNames& names : role_table()) {
    if (std::find(names.usual.begin(), names.usual.end(), column) != names.usual.end()) {
      return std::string(names.name);
    }
  }
  return {};
}

std::string list_arrays(const Dump& dump) {
  std::string list;
  for (const ArrayInfo& info : dump.arrays()) {
    if (!list.empty()) list += ", ";
    list +=
        fmt::format("{} [{}] {}", info.name, fmt::join(info.shape, ","), dtype_name(info.dtype));
  }
  return list.empty() ? "no arrays" : list;
}

Result<Binding> bind_roles(Dump& dump, const EvalRequest& request) {
  return Binder(dump, request).run();
}

}  // namespace cupel
