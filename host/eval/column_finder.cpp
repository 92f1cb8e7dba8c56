#include "eval/column_finder.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

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
      {Role::kPred, "pred", {"pred", "prediction", "predictions", "y_pred"}},
      {Role::kSigma, "sigma", {"sigma", "std", "scale"}},
      {Role::kLower, "lower", {"lower", "lo", "y_lower"}},
      {Role::kUpper, "upper", {"upper", "hi", "y_upper"}},
      {Role::kThreshold, "threshold", {"threshold"}},
      {Role::kLoss, "loss", {"loss", "losses"}},
      {Role::kLambdas, "lambdas", {"lambda", "lambdas"}},
      {Role::kEmbedding, "embedding", {"embedding", "embeddings", "features"}},
      {Role::kDistance, "distance", {"distance", "distances", "dist"}},
      {Role::kClassA, "class-a", {"class_a"}},
      {Role::kClassB, "class-b", {"class_b"}},
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

}  // namespace

bool ColumnFinder::any(std::initializer_list<const std::string*> names) {
  return std::any_of(names.begin(), names.end(), [](const auto* name) { return !name->empty(); });
}

bool ColumnFinder::holds(Role role) const {
  const auto& names = role_table()[static_cast<std::size_t>(role)].usual;
  return std::any_of(names.begin(), names.end(),
                     [&](auto name) { return find_array(dump_, name).has_value(); });
}

Error ColumnFinder::input(std::string what, std::string hint) const {
  return input_error(dump_.path(), std::move(what), std::move(hint));
}

Result<BoundColumn> ColumnFinder::named(Role role, const std::string& name) {
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
                                     (*file)->arrays().size(), option_name(role)),
                         "it has " + list_arrays(**file));
    }
    if (auto readable = (*file)->readable(0); !readable) return readable.error();
    binding_.side_files.push_back(std::move(*file));
    return BoundColumn{role, binding_.side_files.back().get(), 0};
  }
  std::vector<std::string> names;
  for (const ArrayInfo& info : dump_.arrays()) names.push_back(info.name);
  const auto near = nearest_name(name, names);
  return input(fmt::format("no array '{}' for --{}{}", name, option_name(role),
                           near ? fmt::format(", did you mean '{}'?", *near) : std::string()),
               "it has " + list_arrays(dump_));
}

Result<std::optional<BoundColumn>> ColumnFinder::usual(Role role) {
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
                 fmt::format("name one with --{}", option_name(role)));
  }
  if (found.empty()) return std::optional<BoundColumn>();
  if (auto readable = dump_.readable(found[0]); !readable) return readable.error();
  return std::optional<BoundColumn>(BoundColumn{role, &dump_, found[0]});
}

Result<BoundColumn> ColumnFinder::required(Role role, const std::string& name) {
  if (!name.empty()) return named(role, name);
  auto column = usual(role);
  if (!column) return column.error();
  if (!*column) {
    return input(fmt::format("no array for the {}; it has {}", role_name(role), list_arrays(dump_)),
                 fmt::format("name one with --{}", option_name(role)));
  }
  return **column;
}

Result<void> ColumnFinder::bind_optional(Role role, const std::string& name,
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

std::string ColumnFinder::described(const ArrayInfo& info) {
  return fmt::format("'{}' [{}]", info.name, fmt::join(info.shape, ","));
}

std::string_view role_name(Role role) { return role_table()[static_cast<std::size_t>(role)].name; }

std::string_view option_name(Role role) {
  return role == Role::kThreshold ? "threshold-column" : role_name(role);
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

}  // namespace cupel
