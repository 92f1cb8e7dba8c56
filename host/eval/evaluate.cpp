#include "cupel/eval/evaluate.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>

#include "backend/thread_pool.hpp"
#include "cupel/backend/choose.hpp"
#include "eval/compute.hpp"
#include "eval/prepare.hpp"
#include "eval/roles.hpp"

namespace cupel {
namespace {

/// On a thread of its own, or, where none can be made, once it is waited for.
constexpr std::launch kBeside = std::launch::async | std::launch::deferred;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Whether some metric of the list computes with probabilities: everything but rankings, decisions
/// and ranks of the label.
bool need_probabilities(std::span<const MetricSpec> metrics, const Binding& binding) {
  return std::any_of(metrics.begin(), metrics.end(), [&](const MetricSpec& spec) {
    const MetricScope scope = spec.metric->scope();
    if (scope == MetricScope::kRanking || scope == MetricScope::kPairs) return false;
    if (scope != MetricScope::kRows) return true;
    const auto needs =
        spec.metric->needs(spec.options, binding.task, binding.classes, binding.logits);
    return needs.ok() && (needs->rows.brier || needs->rows.log_loss || !needs->rows.bins.empty());
  });
}

/// Whether some metric compares rows of an embedding that are divided by their lengths; `otherwise`
/// is what those do that do not say.
bool divide_embeddings(std::span<const MetricSpec> metrics, bool otherwise) {
  if (metrics.empty()) return otherwise;
  return std::any_of(metrics.begin(), metrics.end(), [&](const MetricSpec& spec) {
    if (spec.metric->scope() != MetricScope::kVerification) return otherwise;
    const auto needs = spec.metric->needs(spec.options, Task::kVerification, 2, false);
    if (!needs.ok() || !needs->verification) return otherwise;
    return needs->verification->normalize.value_or(otherwise);
  });
}

/// "a", "a and b", "a, b and c".
std::string enumerate(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    text += i == 0 ? "" : i + 1 == names.size() ? " and " : ", ";
    text += names[i];
  }
  return text;
}

/// An open dump with its columns bound.
struct OpenDump {
  std::unique_ptr<Dump> dump;
  Binding binding;
};

/// The value of an id as people write it.
std::string shown_value(const ArrayView& column, i64 row) {
  if (is_string(column.dtype)) return text_at(column, row);
  if (column.dtype == DType::kU64) return fmt::format("{}", load<u64>(column.at(row)));
  if (column.dtype == DType::kI64) return fmt::format("{}", load<i64>(column.at(row)));
  return fmt::format("{}", number_at(column, row));
}

class Evaluator {
 public:
  Evaluator(const EvalRequest& request, const std::function<void(const EvalProgress&)>& progress)
      : request_(request), progress_(progress) {}

  Result<EvalReport> run() {
    const auto start = Clock::now();
    if (auto checked = check_request(); !checked) return checked.error();
    BackendChoice choice;
    choice.name = request_.backend;
    choice.threads = request_.threads;
    choice.provider = request_.device_provider;
    choice.device = request_.device;
    auto chosen = choose_backend(choice);
    if (!chosen) return chosen.error();
    backend_ = std::move(*chosen);
    Detail::List plans;
    std::vector<std::vector<std::string>> groups;
    if (request_.pool) {
      groups.push_back(request_.dumps);
    } else {
      for (const std::string& path : request_.dumps) groups.push_back({path});
    }
    for (std::size_t i = 0; i < groups.size(); ++i) {
      at_ = {static_cast<i64>(i), static_cast<i64>(groups.size()), rows_done_, 0, 0,
             groups[i].front()};
      if (progress_) progress_(at_);
      auto done = evaluate_one(groups[i], plans);
      if (done.ok()) continue;
      take_notes(groups[i]);  // the next dump's plan should not have them
      // A dump that fails leaves the others alone; a backend that fails does not.
      if (done.error().code == ErrorCode::kBackend || groups.size() == 1) return done.error();
      report_.failures.push_back({groups[i].front(), done.error()});
    }
    if (progress_) {
      progress_(
          {static_cast<i64>(groups.size()), static_cast<i64>(groups.size()), rows_done_, 0, 0, {}});
    }
    if (report_.failures.size() == groups.size()) return report_.failures.front().error;
    report_.plan.emplace_back("dumps", std::move(plans));
    // Only now is it known what computed.
    const BackendInfo info = backend_->info();
    report_.backend = info.name;
    report_.device = info.device;
    report_.fallback = backend_->fallback();
    report_.total_s = seconds_since(start);
    return std::move(report_);
  }

 private:
  Result<void> check_request() {
    if (request_.dumps.empty()) return usage_error("no dump is named", "cupel eval DUMP...");
    if (!request_.metrics.empty()) {
      auto metrics = parse_metrics(request_.metrics);
      if (!metrics) return metrics.error();
      metrics_ = std::move(*metrics);
    }
    auto chosen = with_conformal(std::move(metrics_), request_.conformal, request_.task);
    if (!chosen) return chosen.error();
    metrics_ = std::move(*chosen);
    const std::string& calibration = request_.roles.calibration;
    request_.fits = has_fits(metrics_);
    request_.embedding = has_features(metrics_);
    request_.scales = has_scales(metrics_);
    request_.levels = has_levels(metrics_);
    request_.draws = has_draws(metrics_) || request_.embedding;
    request_.divides_embedding = divide_embeddings(metrics_of(Task::kVerification),
                                                   request_.normalize_embedding.value_or(true));
    for (const MetricSpec& spec : metrics_) {
      // Intervals may be judged as they are, which the columns say.
      const std::vector<Task>& tasks = spec.metric->info().tasks;
      const bool of_intervals =
          std::find(tasks.begin(), tasks.end(), Task::kRegression) != tasks.end() &&
          request_.task.value_or(Task::kRegression) == Task::kRegression;
      if (calibration.empty() && has_fits({&spec, 1}) && !of_intervals) {
        return fit_without_split(spec);
      }
    }
    const auto selects = [](const MetricSpec& spec) {
      return spec.metric->scope() == MetricScope::kSelection &&
             spec.metric->info().name.starts_with("selection_");
    };
    request_.draws = request_.draws || request_.list_rows;  // ids are read
    if (request_.list_rows && std::none_of(metrics_.begin(), metrics_.end(), selects)) {
      return usage_error("--per-item lists the rows of selections, and no metric selects rows",
                         "add selection_fdp to --metrics");
    }
    if (request_.split != RowSplit::kAll && calibration.empty()) {
      return usage_error("--split needs a split", "name it with --calibration");
    }
    if (is_fraction(calibration)) {
      auto fraction = parse_decimal(calibration);
      if (!fraction || fraction->num == 0 || fraction->num >= fraction->den) {
        return usage_error(fmt::format("--calibration {} is not between 0 and 1", calibration),
                           "give a fraction such as 0.5, or a boolean column");
      }
    }
    if (request_.intersect && request_.roles.groups.size() < 2) {
      return usage_error("--intersect needs at least two group columns",
                         "name them with --group X,Y");
    }
    for (std::size_t i = 0; i < request_.roles.groups.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (request_.roles.groups[i] == request_.roles.groups[j]) {
          return usage_error(
              fmt::format("group column '{}' is named twice", request_.roles.groups[i]));
        }
      }
    }
    return {};
  }

  Result<OpenDump> open(const std::string& path) const {
    auto dump = open_dump(path, {request_.bfloat16_columns});
    if (!dump) return dump.error();
    for (const std::string& name : request_.bfloat16_columns) {
      bool known = (*dump)->format() == "npy" && name == "arr_0";
      for (const ArrayInfo& info : (*dump)->arrays()) known = known || info.name == name;
      if (!known && request_.dumps.size() == 1) {
        return usage_error(fmt::format("--dtype names '{}', which {} does not have", name, path),
                           "it has " + list_arrays(**dump));
      }
    }
    OpenDump opened;
    opened.dump = std::move(*dump);
    auto binding = bind_roles(*opened.dump, request_);
    if (!binding) return binding.error();
    opened.binding = std::move(*binding);
    const bool of_pairs = request_.domain || request_.normalize_embedding;
    if (of_pairs && opened.binding.task != Task::kVerification) {
      return usage_error(
          fmt::format("{} is for verification", request_.domain ? "--domain" : "--as-is"),
          fmt::format("this dump is {}; leave it out", task_name(opened.binding.task)));
    }
    return opened;
  }

  /// Evaluates one dump, or all files of a pool as one table.
  Result<void> evaluate_one(const std::vector<std::string>& paths, Detail::List& plans) {
    // What is loaded below stays as it is until this returns.
    struct Held {
      explicit Held(Backend& of) : backend(of) { backend.hold_columns(true); }
      ~Held() { backend.hold_columns(false); }
      Held(const Held&) = delete;
      Held& operator=(const Held&) = delete;
      Backend& backend;
    };
    const auto read_start = Clock::now();
    std::vector<OpenDump> opened;
    std::vector<PreparedTable> parts;
    const Held held(*backend_);
    for (const std::string& path : paths) {
      auto one = open(path);
      if (!one) return one.error();
      opened.push_back(std::move(*one));
      if (auto agreed = check_pool(opened); !agreed) return agreed.error();
    }
    const bool doubted = std::all_of(opened.begin(), opened.end(), [](const OpenDump& one) {
      return one.binding.doubt.has_value();
    });
    if (doubted) return *opened.front().binding.doubt;
    // Checksums and hashes of a file are computed while its rows are checked and ranked.
    std::vector<std::future<Result<std::vector<EvalInput>>>> verified;
    Result<void> outcome;
    std::vector<EvalResult> results;
    std::vector<EvalRows> rows;
    std::vector<std::string> states;
    double compute_s = 0;
    i64 first_row = 0;
    for (OpenDump& one : opened) {
      const bool probabilities = need_probabilities(metrics_of(one.binding.task), one.binding);
      auto prepared = prepare_table(
          one.binding, request_, first_row, *backend_, probabilities,
          [&] { verified.push_back(std::async(kBeside, [&one] { return verify(one); })); });
      first_row += one.binding.rows;
      if (!prepared) {
        outcome = prepared.error();
        break;
      }
      parts.push_back(std::move(*prepared));
    }
    report_.read_s += seconds_since(read_start);
    if (outcome.ok()) {
      const auto compute_start = Clock::now();
      outcome = compute(parts, results, rows, states);
      compute_s = seconds_since(compute_start);
    }
    std::vector<EvalInput> inputs;
    for (std::size_t i = 0; i < verified.size(); ++i) {
      auto checked = verified[i].get();
      // Damage explains whatever else looked wrong in the columns; not a mistake in the request.
      const bool explains = i < parts.size() || outcome.error().code == ErrorCode::kInput;
      if (!checked && explains) return checked.error();
      if (!checked) continue;
      inputs.insert(inputs.end(), checked->begin(), checked->end());
    }
    if (!outcome) {
      Error error = outcome.error();
      if (error.code == ErrorCode::kInput && error.where.empty()) error.where = dump_name(paths);
      // A dump that could not be loaded was not verified either.
      const bool loaded = verified.size() > parts.size();
      if (error.code == ErrorCode::kInput && !loaded) {
        return with_damage(opened, verified.size(), error);
      }
      return error;
    }
    warn_of_scores(opened, parts, results);
    warn_of_split(paths, opened, parts);
    for (EvalRows& list : rows) report_.rows.push_back(named_rows(std::move(list), opened, parts));
    for (EvalResult& result : results) {
      result.dump = dump_name(paths);
      report_.results.push_back(std::move(result));
    }
    for (EvalInput& input : inputs) report_.inputs.push_back(std::move(input));
    report_.compute_s += compute_s;
    for (const PreparedTable& part : parts) rows_done_ += part.view.rows;
    plans.push_back(describe_plan(paths, opened, parts, states, take_notes(paths)));
    warn_of_dropped(paths, parts);
    warn_of_weights(paths, opened);
    return {};
  }

  std::vector<MetricSpec> metrics_of(Task task) const {
    if (metrics_.empty()) return default_metrics(task);
    if (request_.metrics.empty()) {  // chosen by --conformal or --alpha
      if (auto chosen = with_conformal({}, request_.conformal, task); chosen.ok()) return *chosen;
    }
    return metrics_;
  }

  static std::string dump_name(const std::vector<std::string>& paths) {
    if (paths.size() == 1) return paths.front();
    return fmt::format("{} (+{} more)", paths.front(), paths.size() - 1);
  }

  /// The error of a column whose file also fails its checksum is the checksum.
  static Error with_damage(std::vector<OpenDump>& opened, std::size_t failed, const Error& error) {
    if (failed >= opened.size()) return error;
    auto checked = verify(opened[failed]);
    return checked.ok() ? error : checked.error();
  }

  static Result<std::vector<EvalInput>> verify(OpenDump& opened) {
    std::vector<EvalInput> inputs;
    const auto add = [&](Dump& dump, i64 rows) -> Result<void> {
      auto hash = dump.verify();
      if (!hash) return hash.error();
      inputs.push_back(
          {dump.path(), std::string(dump.format()), rows, dump.file_bytes(), std::move(*hash)});
      return {};
    };
    bool uses_dump = false;
    for (const BoundColumn* column : opened.binding.columns()) {
      uses_dump = uses_dump || column->dump == opened.dump.get();
    }
    if (uses_dump) {
      if (auto done = add(*opened.dump, opened.binding.rows); !done) return done.error();
    }
    for (auto& side : opened.binding.side_files) {
      if (auto done = add(*side, opened.binding.rows); !done) return done.error();
    }
    return inputs;
  }

  static Result<void> check_pool(const std::vector<OpenDump>& opened) {
    if (opened.size() < 2) return {};
    const Binding& first = opened.front().binding;
    const Binding& last = opened.back().binding;
    const auto refuse = [&](std::string what) -> Error {
      return input_error(opened.back().dump->path(), std::move(what),
                         "pooled dumps need the same columns as " + opened.front().dump->path());
    };
    const auto width_of = [](const Binding& binding) {
      return binding.embedding ? binding.embedding->info().cols() : 0;
    };
    const bool verification = first.task == Task::kVerification && last.task == first.task;
    if (verification && first.embedding && last.embedding && width_of(first) != width_of(last)) {
      return refuse(fmt::format("has an embedding of width {}, the first dump has {}",
                                width_of(last), width_of(first)));
    }
    if (first.task != last.task || first.classes != last.classes || first.logits != last.logits) {
      return refuse(fmt::format("is {} with {} classes, the first dump is {} with {}",
                                task_name(last.task), last.classes, task_name(first.task),
                                first.classes));
    }
    if (first.score.dump == nullptr || verification) {
      const auto roles_of = [](const Binding& binding) {
        std::vector<std::string_view> roles;
        for (const BoundColumn* column : binding.columns())
          roles.push_back(role_name(column->role));
        return roles;
      };
      const bool typed = first.score.dump == nullptr || last.score.dump == nullptr ||
                         first.score.info().dtype == last.score.info().dtype;
      if (roles_of(first) == roles_of(last) && typed) return {};
      if (!typed) {
        return refuse(fmt::format("has {} scores, the first dump has {}",
                                  dtype_name(last.score.info().dtype),
                                  dtype_name(first.score.info().dtype)));
      }
      return refuse(fmt::format("has {}, the first dump has {}", fmt::join(roles_of(last), ", "),
                                fmt::join(roles_of(first), ", ")));
    }
    if (first.score.info().dtype != last.score.info().dtype) {
      return refuse(fmt::format("has {} scores, the first dump has {}",
                                dtype_name(last.score.info().dtype),
                                dtype_name(first.score.info().dtype)));
    }
    if (first.weight.has_value() != last.weight.has_value()) {
      return refuse(last.weight ? "has weights, the first dump has none" : "has no weights");
    }
    return {};
  }

  /// The list with its dump, positions in the file and ids.
  static EvalRows named_rows(EvalRows list, const std::vector<OpenDump>& opened,
                             const std::vector<PreparedTable>& parts) {
    const OpenDump& from = opened[list.part];
    const PreparedTable& part = parts[list.part];
    list.dump = from.dump->path();
    const auto columns = from.binding.columns();
    for (i64& row : list.rows) {
      if (!part.kept_rows.empty()) row = part.kept_rows[static_cast<std::size_t>(row)];
    }
    for (std::size_t c = 0; c < columns.size(); ++c) {
      if (columns[c]->role != Role::kId) continue;
      for (const i64 row : list.rows) list.ids.push_back(shown_value(part.arrays[c].view, row));
    }
    return list;
  }

  Result<void> compute(const std::vector<PreparedTable>& parts, std::vector<EvalResult>& results,
                       std::vector<EvalRows>& rows, std::vector<std::string>& states) {
    ComputeRequest request;
    request.metrics = metrics_of(parts.front().view.task);
    request.group_columns = request_.roles.groups;
    request.intersect = request_.intersect;
    request.by_class = request_.by_class;
    request.split = request_.split;
    request.seed = request_.seed;
    request.memory = request_.memory;
    request.threads = request_.threads > 0 ? request_.threads : available_threads();
    if (request_.list_rows) request.rows = &rows;
    request.domain = request_.domain;
    request.normalize_embedding = request_.normalize_embedding;
    if (progress_) {
      request.pairs_progress = [this](u64 done, u64 all) {
        EvalProgress now = at_;
        now.pairs_done = done;
        now.pairs = all;
        progress_(now);
      };
    }
    auto computed = compute_results(parts, request, *backend_, states);
    if (!computed) return computed.error();
    results = std::move(*computed);
    return {};
  }

  static Detail describe_plan(const std::vector<std::string>& paths,
                              const std::vector<OpenDump>& opened,
                              const std::vector<PreparedTable>& parts,
                              const std::vector<std::string>& states, Detail::List notes) {
    const Binding& binding = opened.front().binding;
    Detail::Object columns;
    for (const BoundColumn* column : binding.columns()) {
      const std::string role(role_name(column->role));
      if (column->role == Role::kGroup) continue;
      columns.emplace_back(role, column->info().name);
    }
    Detail::List groups;
    for (const BoundColumn& group : binding.groups) groups.emplace_back(group.info().name);
    if (!groups.empty()) columns.emplace_back("group", std::move(groups));
    Detail::List built;
    for (const std::string& state : states) built.emplace_back(state);
    i64 rows = 0;
    DroppedRows dropped;
    for (const PreparedTable& part : parts) {
      rows += part.view.rows;
      dropped.scores += part.dropped.scores;
      dropped.labels += part.dropped.labels;
      dropped.weights += part.dropped.weights;
      dropped.features += part.dropped.features;
    }
    Detail::Object plan{{"dump", dump_name(paths)},
                        {"task", std::string(task_name(binding.task))},
                        {"columns", std::move(columns)},
                        {"rows", rows},
                        {"states", std::move(built)}};
    if (dropped.total() > 0) {
      Detail::Object bad{{"bad_scores", dropped.scores},
                         {"bad_labels", dropped.labels},
                         {"bad_weights", dropped.weights}};
      if (binding.embedding) bad.emplace_back("bad_features", dropped.features);
      plan.emplace_back("dropped", std::move(bad));
    }
    if (!notes.empty()) plan.emplace_back("notes", std::move(notes));
    return plan;
  }

  /// What the backend has to say of a dump; some of it becomes warnings, too.
  Detail::List take_notes(const std::vector<std::string>& paths) {
    Detail::List notes;
    for (BackendNote& note : backend_->take_weighted_notes()) {
      if (note.warning)
        report_.warnings.push_back(fmt::format("{}: {}", dump_name(paths), note.text));
      notes.emplace_back(std::move(note.text));
    }
    return notes;
  }

  void warn_of_dropped(const std::vector<std::string>& paths,
                       const std::vector<PreparedTable>& parts) {
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const DroppedRows& dropped = parts[i].dropped;
      if (dropped.total() == 0) continue;
      report_.warnings.push_back(
          fmt::format("{}: left out {} row{} (bad scores {}, labels {}, weights {}{})", paths[i],
                      dropped.total(), dropped.total() == 1 ? "" : "s", dropped.scores,
                      dropped.labels, dropped.weights,
                      dropped.features == 0 ? "" : fmt::format(", features {}", dropped.features)));
    }
  }

  /// Pairs have no weights: a column that would be that of another task is not used.
  void warn_of_weights(const std::vector<std::string>& paths, const std::vector<OpenDump>& opened) {
    for (std::size_t i = 0; i < opened.size(); ++i) {
      if (opened[i].binding.task != Task::kVerification) continue;
      for (const ArrayInfo& info : opened[i].dump->arrays()) {
        if (usual_role(info.name) != role_name(Role::kWeight)) continue;
        report_.warnings.push_back(
            fmt::format("{}: '{}' is not used: pairs have no weights", paths[i], info.name));
      }
    }
  }

  /// Where values are undefined because scores are no probabilities: which row says so, and what to
  /// do. Looks for that row only then.
  void warn_of_scores(const std::vector<OpenDump>& opened, const std::vector<PreparedTable>& parts,
                      const std::vector<EvalResult>& results) {
    std::vector<std::string> names;
    for (const EvalResult& result : results) {
      const bool undefined =
          result.undefined == Undefined::kNotProbability ||
          (result.undefined == Undefined::kAllUndefined && opened[0].binding.task != Task::kBinary);
      if (!undefined || std::find(names.begin(), names.end(), result.metric) != names.end()) {
        continue;
      }
      names.push_back(result.metric);
    }
    const bool scored =
        opened[0].binding.score.dump != nullptr && opened[0].binding.task != Task::kVerification;
    if (names.empty() || !scored || opened[0].binding.logits) return;
    ThreadPool pool(request_.threads > 0 ? request_.threads : available_threads());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const BoundColumn& column = opened[i].binding.score;
      TableView loaded = parts[i].view;  // as it was before rows were left out
      loaded.scores = parts[i].arrays.front().view;
      loaded.rows = opened[i].binding.rows;
      const ScoresOutside outside = find_scores_outside(loaded, pool);
      const RowSumFaults& sums = parts[i].row_sums;
      const bool matrix = loaded.task != Task::kBinary;
      const std::string_view plea = loaded.task == Task::kMulticlass
                                        ? "divide rows by their sums with --normalize"
                                        : "scale it to [0, 1]";
      std::string what;
      std::string next;
      if (outside.rows != 0) {
        what = fmt::format("is {:.6g}{}, outside [0, 1]", outside.first,
                           matrix ? fmt::format(" in column {}", outside.first_column) : "");
        next = outside.negative ? "" : fmt::format("{}, or ", plea);
        next += "name the column with --logits if these are logits";
      } else if (sums.rows != 0) {
        const double within =
            static_cast<double>(row_sum_tolerance(loaded.scores.dtype, loaded.classes)) * 0x1p-44;
        what = fmt::format("sums to {:.6g}, not to 1 within {:.2g}", sums.first_sum, within);
        next = plea;
      } else {
        continue;
      }
      const i64 count = outside.rows != 0 ? outside.rows : sums.rows;
      report_.warnings.push_back(fmt::format(
          "{}: {} '{}' {} ({} such row{} in all), so {} {} undefined, not_probability; {}",
          column.dump->place(column.index, outside.rows != 0 ? outside.first_row : sums.first_row),
          role_name(column.role), column.info().name, what, count, count == 1 ? "" : "s",
          enumerate(names), names.size() == 1 ? "is" : "are", next));
    }
  }

  /// A split that is empty, or everything.
  void warn_of_split(const std::vector<std::string>& paths, const std::vector<OpenDump>& opened,
                     const std::vector<PreparedTable>& parts) {
    if (request_.split == RowSplit::kAll) return;
    i64 rows = 0;
    i64 calibration = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      rows += opened[i].binding.rows;
      calibration += parts[i].calibration_rows;
    }
    if (rows == 0 || (calibration != 0 && calibration != rows)) return;
    const bool test = request_.split == RowSplit::kTest;
    const bool nothing_left = (calibration == 0) != test;
    const auto& column = opened.front().binding.calibration;
    const std::string what =
        column ? fmt::format("calibration '{}' is {} in all {} rows", column->info().name,
                             calibration == 0 ? 0 : 1, rows)
               : fmt::format("--calibration {} draws {} of {} rows", request_.roles.calibration,
                             calibration == 0 ? "none" : "all", rows);
    report_.warnings.push_back(fmt::format(
        "{}: {}, so --split {} {}; {}", dump_name(paths), what, test ? "test" : "calibration",
        nothing_left ? "leaves no row and every value is undefined, empty" : "leaves out no row",
        column ? "it has to be 1 in the rows for calibration and 0 in the others"
               : "choose another fraction or --seed"));
  }

  EvalRequest request_;
  const std::function<void(const EvalProgress&)>& progress_;
  std::unique_ptr<ChosenBackend> backend_;
  std::vector<MetricSpec> metrics_;
  EvalReport report_;
  i64 rows_done_ = 0;
  EvalProgress at_;  ///< before the current dump
};

}  // namespace

Result<EvalReport> evaluate(const EvalRequest& request,
                            const std::function<void(const EvalProgress&)>& progress) {
  return Evaluator(request, progress).run();
}

Result<std::vector<EvalResult>> evaluate_table(const TableView& table,
                                               std::span<const MetricSpec> metrics,
                                               Backend& backend, bool by_class) {
  std::vector<PreparedTable> parts(1);
  PreparedTable& part = parts.front();
  part.view = table;
  part.view.cells = nullptr;
  part.view.cell_count = 1;
  part.cells = {CellKey{}};
  part.probability_epsilon = probability_epsilon(table.scores.dtype);
  Binding shape;
  shape.task = table.task;
  shape.classes = table.classes;
  if (table.task == Task::kMulticlass && !table.logits && need_probabilities(metrics, shape)) {
    ThreadPool pool(available_threads());
    part.row_sums = find_row_sum_faults(table, pool);
  }
  ComputeRequest request;
  request.metrics.assign(metrics.begin(), metrics.end());
  request.by_class = by_class;
  request.threads = available_threads();
  std::vector<std::string> states;
  return compute_results(parts, request, backend, states);
}

Result<InspectedDump> inspect(const std::string& path, const EvalRequest& request) {
  auto dump = open_dump(path, {request.bfloat16_columns});
  if (!dump) return dump.error();
  InspectedDump inspected;
  inspected.path = path;
  inspected.format = (*dump)->format();
  inspected.bytes = (*dump)->file_bytes();
  for (const ArrayInfo& info : (*dump)->arrays()) {
    inspected.rows = std::max(inspected.rows, info.rows());
    inspected.columns.push_back({info, ""});
  }
  // Columns that only some metrics take are shown where they would do.
  EvalRequest all = request;
  all.scales = all.levels = true;
  auto binding = bind_roles(**dump, all);
  if (!binding) binding = bind_roles(**dump, request);
  if (!binding) {
    inspected.problem = binding.error().text();
    for (InspectedColumn& column : inspected.columns) column.role = usual_role(column.info.name);
    return inspected;
  }
  inspected.task = task_name(binding->task);
  inspected.rows = binding->rows;
  for (const BoundColumn* column : binding->columns()) {
    if (column->dump != dump->get()) continue;
    std::string& role = inspected.columns[static_cast<std::size_t>(column->index)].role;
    role += (role.empty() ? "" : ", ") + std::string(role_name(column->role));
  }
  return inspected;
}

}  // namespace cupel
