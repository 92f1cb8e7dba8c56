#include "eval/roles.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <tuple>

#include "eval/column_finder.hpp"

namespace cupel {
namespace {

class Binder : ColumnFinder {
 public:
  Binder(Dump& dump, const EvalRequest& request) : ColumnFinder(dump, request) {}

  Result<Binding> run() {
    auto kind = find_kind();
    if (!kind) return kind.error();
    if (*kind == Kind::kScores) {
      if (auto bound = bind_scores(); !bound) return bound.error();
    }
    if (*kind == Kind::kVerification) {
      if (auto bound = bind_compared(); !bound) return bound.error();
    }
    if (*kind != Kind::kRisk) {
      const bool optional = (*kind == Kind::kScores && request_.label_optional) ||
                            (*kind == Kind::kVerification && binding_.class_a.has_value());
      const bool pairs = *kind == Kind::kVerification && !binding_.embedding;
      if (auto bound = bind_label(optional, pairs); !bound) return bound.error();
    }
    // Pairs have no weights: a column that only has the name of one is left where it is.
    if (*kind != Kind::kVerification) {
      auto done = bind_optional(Role::kWeight, request_.roles.weight, binding_.weight);
      if (!done) return done.error();
    }
    // Random draws follow the row id, and so do ties of equally near rows; it is read only where
    // there are such.
    const bool splits = request_.fits || request_.split != RowSplit::kAll;
    const bool draws = request_.draws || (splits && is_fraction(request_.roles.calibration));
    const bool asked = *kind == Kind::kRegression && !request_.roles.id.empty();
    const bool ties = *kind == Kind::kVerification && binding_.embedding.has_value();
    if (draws || asked || ties) {
      if (auto done = bind_optional(Role::kId, request_.roles.id, binding_.id); !done) {
        return done.error();
      }
    }
    if (!request_.roles.calibration.empty() && !is_fraction(request_.roles.calibration)) {
      auto column = named(Role::kCalibration, request_.roles.calibration);
      if (!column) return column.error();
      binding_.calibration = *column;
    }
    if (request_.embedding && *kind != Kind::kVerification) {
      auto column = required(Role::kEmbedding, request_.roles.embedding);
      if (!column) return column.error();
      binding_.embedding = *column;
    }
    for (const std::string& name : request_.roles.groups) {
      auto column = named(Role::kGroup, name);
      if (!column) return column.error();
      binding_.groups.push_back(*column);
    }
    const auto inferred = *kind == Kind::kScores         ? infer_task()
                          : *kind == Kind::kRegression   ? bind_regression()
                          : *kind == Kind::kVerification ? bind_verification()
                                                         : bind_risk();
    if (!inferred) return inferred.error();
    if (auto checked = check_lengths(); !checked) return checked.error();
    return std::move(binding_);
  }

 private:
  enum class Kind : u8 { kScores, kRegression, kRisk, kVerification };

  /// By --task, else by the options that name columns, else by the names of columns.
  Result<Kind> find_kind() {
    const ColumnRoles& roles = request_.roles;
    const bool of_scores = any({&roles.score, &roles.probs, &roles.logits});
    const bool of_regression =
        any({&roles.pred, &roles.sigma, &roles.lower, &roles.upper, &roles.threshold});
    const bool of_risk = any({&roles.loss, &roles.lambdas});
    // `score` may be that of pairs.
    const bool of_pairs = any({&roles.distance, &roles.class_a, &roles.class_b});
    const bool of_classes = any({&roles.probs, &roles.logits});
    if (int{of_scores} + int{of_regression} + int{of_risk} > 1) {
      return usage_error("options name columns of different tasks: scores, predictions or losses",
                         "name those of one task");
    }
    if (of_pairs && (of_classes || of_regression || of_risk)) {
      return usage_error(fmt::format("options name columns of different tasks: pairs and {}",
                                     of_classes      ? "probabilities"
                                     : of_regression ? "predictions"
                                                     : "losses"),
                         "name those of one task");
    }
    if (of_pairs && request_.task && *request_.task != Task::kVerification) {
      return usage_error(fmt::format("--distance, --class-a and --class-b are of pairs, and --task "
                                     "says {}",
                                     task_name(*request_.task)),
                         "leave them or --task out");
    }
    if (request_.task == Task::kRegression) return Kind::kRegression;
    if (request_.task == Task::kRisk) return Kind::kRisk;
    if (request_.task == Task::kVerification) return Kind::kVerification;
    if (request_.task) return Kind::kScores;
    if (of_pairs) return Kind::kVerification;
    if (of_classes) return Kind::kScores;
    const bool classes = holds(Role::kClassA) && holds(Role::kClassB);
    if (of_scores) return classes ? Kind::kVerification : Kind::kScores;
    if (any({&roles.pred, &roles.lower, &roles.upper})) return Kind::kRegression;
    if (of_risk) return Kind::kRisk;
    // Features that a metric of another task takes are no task of their own.
    if (!request_.embedding && !roles.embedding.empty()) return Kind::kVerification;
    if (classes && (holds(Role::kScore) || holds(Role::kDistance))) return Kind::kVerification;
    if (holds(Role::kScore) || holds(Role::kProbs) || holds(Role::kLogits)) return Kind::kScores;
    if (holds(Role::kPred) || holds(Role::kLower) || holds(Role::kUpper)) return Kind::kRegression;
    if (holds(Role::kLoss)) return Kind::kRisk;
    return !request_.embedding && holds(Role::kEmbedding) ? Kind::kVerification : Kind::kScores;
  }

  Result<void> bind_label(bool optional, bool of_pairs) {
    if (optional && request_.roles.label.empty()) {
      auto found = usual(Role::kLabel);
      if (!found) return found.error();
      if (!*found) return {};
    }
    auto label = required(Role::kLabel, request_.roles.label);
    if (!label) {
      Error error = label.error();
      if (of_pairs && error.code == ErrorCode::kInput && request_.roles.label.empty()) {
        error.hint += ", or the classes of both sides with --class-a and --class-b";
      }
      return error;
    }
    binding_.label = *label;
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

  /// What verification compares: an embedding, or the score or the distance of each pair with, if
  /// there are any, the classes of both sides.
  Result<void> bind_compared() {
    const ColumnRoles& roles = request_.roles;
    if (!roles.weight.empty()) {
      return usage_error("pairs have no weights, and --weight names some", "leave it out");
    }
    if (any({&roles.probs, &roles.logits, &roles.pred, &roles.sigma, &roles.lower, &roles.upper,
             &roles.threshold, &roles.loss, &roles.lambdas})) {
      return usage_error("options name columns that verification does not take",
                         "it takes --embedding with --label, or --score or --distance with "
                         "--class-a and --class-b or --label");
    }
    // What options name comes before what is found by its name.
    const bool of_pairs = any({&roles.score, &roles.distance, &roles.class_a, &roles.class_b});
    const bool both_classes = (!roles.class_a.empty() || holds(Role::kClassA)) &&
                              (!roles.class_b.empty() || holds(Role::kClassB));
    const bool has_values = holds(Role::kScore) || holds(Role::kDistance);
    const bool pairs = of_pairs || (roles.embedding.empty() && has_values &&
                                    (both_classes || !holds(Role::kEmbedding)));
    if (of_pairs && !roles.embedding.empty()) {
      return usage_error("options name an embedding and columns of pairs with scores",
                         "name those of one of them");
    }
    if (pairs) return bind_pairs();
    if (roles.embedding.empty() && has_values && holds(Role::kEmbedding)) {
      auto embedding = usual(Role::kEmbedding);
      if (!embedding) return embedding.error();
      const Role role = holds(Role::kScore) ? Role::kScore : Role::kDistance;
      auto value = usual(role);
      if (!value) return value.error();
      return input(fmt::format("'{}' and '{}' could both be what is compared",
                               (*embedding)->info().name, (*value)->info().name),
                   fmt::format("name one with --embedding or --{}", role_name(role)));
    }
    return bind_embedding();
  }

  Result<void> bind_embedding() {
    const ColumnRoles& roles = request_.roles;
    if (roles.embedding.empty()) {
      auto found = usual(Role::kEmbedding);
      if (!found) return found.error();
      if (!*found) {
        return input("no array for an embedding, or for scores or distances of pairs; it has " +
                         list_arrays(dump_),
                     "name one with --embedding, --score or --distance");
      }
      binding_.embedding = *found;
      return {};
    }
    auto column = named(Role::kEmbedding, roles.embedding);
    if (!column) return column.error();
    binding_.embedding = *column;
    return {};
  }

  Result<void> bind_pairs() {
    const ColumnRoles& roles = request_.roles;
    if (!roles.score.empty() && !roles.distance.empty()) {
      return usage_error("both --score and --distance are given", "name the one to rank pairs by");
    }
    std::optional<BoundColumn> score;
    if (roles.distance.empty()) {
      if (auto done = bind_optional(Role::kScore, roles.score, score); !done) return done.error();
    }
    if (roles.score.empty()) {
      auto done = bind_optional(Role::kDistance, roles.distance, binding_.distance);
      if (!done) return done.error();
    }
    if (score && binding_.distance) {
      return input(fmt::format("'{}' (larger is closer) and '{}' (smaller is closer) could both "
                               "rank the pairs",
                               score->info().name, binding_.distance->info().name),
                   "name one with --score or --distance");
    }
    if (!score && !binding_.distance) {
      return input("no array for scores or distances of pairs; it has " + list_arrays(dump_),
                   "name one with --score (larger is closer) or --distance (smaller is closer)");
    }
    if (score) binding_.score = *score;
    for (const auto& [role, name, column] :
         {std::tuple{Role::kClassA, &roles.class_a, &binding_.class_a},
          std::tuple{Role::kClassB, &roles.class_b, &binding_.class_b}}) {
      if (auto done = bind_optional(role, *name, *column); !done) return done.error();
    }
    if (binding_.class_a.has_value() != binding_.class_b.has_value()) {
      const bool has_a = binding_.class_a.has_value();
      return input(fmt::format("'{}' is the class of one side of the pairs, and no array is that "
                               "of the other; it has {}",
                               (has_a ? binding_.class_a : binding_.class_b)->info().name,
                               list_arrays(dump_)),
                   fmt::format("name it with --{}", has_a ? "class-b" : "class-a"));
    }
    return {};
  }

  Result<void> bind_verification() {
    binding_.task = Task::kVerification;
    binding_.classes = 2;
    if (!binding_.embedding) {
      binding_.rows = binding_.columns().front()->info().rows();
      return {};
    }
    const ArrayInfo& info = binding_.embedding->info();
    binding_.rows = info.rows();
    if (info.shape.size() != 2 || info.cols() < 1) {
      return input_error(binding_.embedding->dump->path(),
                         fmt::format("embedding {} is not one vector a row", described(info)),
                         "verification takes [n,d] with d of 1 or more");
    }
    return {};
  }

  Result<void> bind_regression() {
    const ColumnRoles& roles = request_.roles;
    for (const auto& [role, name, column] :
         {std::tuple{Role::kPred, &roles.pred, &binding_.pred},
          std::tuple{Role::kSigma, &roles.sigma, &binding_.sigma},
          std::tuple{Role::kLower, &roles.lower, &binding_.lower},
          std::tuple{Role::kUpper, &roles.upper, &binding_.upper},
          std::tuple{Role::kThreshold, &roles.threshold, &binding_.threshold}}) {
      // What only some metrics take may not stand in the way of the others.
      const bool taken = role == Role::kSigma       ? request_.scales
                         : role == Role::kThreshold ? request_.levels
                                                    : true;
      if (!taken && name->empty()) continue;
      if (auto done = bind_optional(role, *name, *column); !done) return done.error();
    }
    if (binding_.lower.has_value() != binding_.upper.has_value()) {
      const bool has_lower = binding_.lower.has_value();
      return input(
          fmt::format("'{}' is the {} end of intervals, and no array is the other; it has {}",
                      (has_lower ? binding_.lower : binding_.upper)->info().name,
                      has_lower ? "lower" : "upper", list_arrays(dump_)),
          fmt::format("name it with --{}", has_lower ? "upper" : "lower"));
    }
    if (!binding_.pred && !binding_.lower) {
      return input("no array for predictions or intervals; it has " + list_arrays(dump_),
                   "name them with --pred, or --lower and --upper");
    }
    binding_.task = Task::kRegression;
    binding_.rows = binding_.label.info().rows();
    binding_.classes = 1;
    const ArrayInfo& label = binding_.label.info();
    const bool named = !roles.pred.empty() || !roles.lower.empty() || !roles.upper.empty();
    if (!request_.task && !named && !is_float(label.dtype)) {
      const std::string scores =
          !binding_.pred
              ? std::string("--score or --probs")
              : fmt::format("--{} {}", binding_.pred->info().shape.size() == 2 ? "probs" : "score",
                            binding_.pred->info().name);
      binding_.doubt = input(
          fmt::format("label '{}' is {}: classes or numbers", label.name, dtype_name(label.dtype)),
          fmt::format("say --task regression for numbers, or name scores with {}", scores));
      if (!request_.pool) return *binding_.doubt;
    }
    if (binding_.pred && binding_.pred->info().shape.size() == 2) {
      binding_.classes = binding_.pred->info().cols();
      if (binding_.classes < 1 || binding_.classes > 65'535) {
        return input(fmt::format("predictions {} have no column, or more than 65,535",
                                 described(binding_.pred->info())),
                     "give a column for each model");
      }
    }
    return {};
  }

  Result<void> bind_risk() {
    auto loss = required(Role::kLoss, request_.roles.loss);
    if (!loss) return loss.error();
    binding_.loss = *loss;
    if (auto done = bind_optional(Role::kLambdas, request_.roles.lambdas, binding_.lambdas);
        !done) {
      return done.error();
    }
    const ArrayInfo& info = loss->info();
    if (info.shape.size() != 2 || info.cols() < 1) {
      return input(fmt::format("losses {} are not one row of losses each", described(info)),
                   "a risk task takes [n,L]: the losses at L values of lambda");
    }
    binding_.task = Task::kRisk;
    binding_.rows = info.rows();
    binding_.classes = info.cols();
    if (binding_.lambdas) {
      const ArrayInfo& lambdas = binding_.lambdas->info();
      if (lambdas.shape.size() != 1 || lambdas.rows() != binding_.classes) {
        return input_error(
            binding_.lambdas->dump->path(),
            fmt::format("lambdas {} do not fit losses {}", described(lambdas), described(info)),
            "give one value of lambda for each column of the losses");
      }
    }
    return {};
  }

  Result<void> infer_task() {
    const ArrayInfo& score = binding_.score.info();
    ArrayInfo label;  // one value a row, where there is none
    label.shape = {score.rows()};
    if (binding_.has_label()) label = binding_.label.info();
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
    const std::vector<const BoundColumn*> columns = binding_.columns();
    const bool of_embedding = binding_.task == Task::kVerification && binding_.embedding;
    const BoundColumn& counted = of_embedding ? *binding_.embedding : *columns.front();
    for (const BoundColumn* column : columns) {
      if (column->role == Role::kLambdas) continue;  // its length is that of a row of losses
      const ArrayInfo& info = column->info();
      if (info.shape.empty()) {
        return input_error(column->dump->path(),
                           fmt::format("'{}' is a single value, not a column", info.name),
                           fmt::format("the {} needs one value a row", role_name(column->role)));
      }
      if (info.rows() != binding_.rows) {
        return input_error(column->dump->path(),
                           fmt::format("'{}' has {} rows, '{}' has {}", info.name, info.rows(),
                                       counted.info().name, binding_.rows),
                           "all columns need the same length");
      }
      if (column->role == Role::kEmbedding) {
        if (binding_.task == Task::kVerification) continue;  // checked above
        if (info.shape.size() <= 2 && info.cols() > 0) continue;
        return input_error(column->dump->path(),
                           fmt::format("'{}' [{}] is no matrix of features", info.name,
                                       fmt::join(info.shape, ",")),
                           "the embedding needs an array [n,d] with a vector a row, or [n]");
      }
      const bool matrix_allowed =
          column->role == Role::kLabel
              ? binding_.task == Task::kMultilabel
              : (column->role <= Role::kLogits && binding_.task != Task::kVerification) ||
                    column->role == Role::kLoss ||
                    (column->role == Role::kPred && info.shape.size() == 2);
      if (!matrix_allowed && info.shape.size() != 1) {
        return input_error(
            column->dump->path(),
            fmt::format("'{}' [{}] is not one value a row", info.name, fmt::join(info.shape, ",")),
            fmt::format("the {} needs a one-dimensional array", role_name(column->role)));
      }
    }
    return {};
  }
};

}  // namespace

std::vector<const BoundColumn*> Binding::columns() const {
  std::vector<const BoundColumn*> all;
  for (const BoundColumn* column : {&score, &label}) {
    if (column->dump != nullptr) all.push_back(column);
  }
  const auto add = [&](std::initializer_list<const std::optional<BoundColumn>*> columns) {
    for (const auto* column : columns) {
      if (*column) all.push_back(&**column);
    }
  };
  // A risk task has neither score nor label, and its losses say how many rows there are.
  if (all.empty()) add({&loss});
  add({&weight, &id, &calibration, &embedding});
  for (const BoundColumn& group : groups) all.push_back(&group);
  add({&pred, &sigma, &lower, &upper, &threshold, &lambdas, &distance, &class_a, &class_b});
  return all;
}

bool is_fraction(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789";
  return text.find_first_of(kDigits) != std::string_view::npos &&  // 'e' may be a column
         text.find_first_not_of("0123456789.eE+-") == std::string_view::npos;
}

Result<Binding> bind_roles(Dump& dump, const EvalRequest& request) {
  return Binder(dump, request).run();
}

}  // namespace cupel
