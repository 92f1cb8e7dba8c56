#include "cupel/eval/sets.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <limits>
#include <map>
#include <optional>

#include "backend/conformal_labels.hpp"
#include "backend/thread_pool.hpp"
#include "cupel/backend/choose.hpp"
#include "eval/conformal.hpp"
#include "eval/p_value_maker.hpp"
#include "eval/prepare.hpp"
#include "eval/roles.hpp"
#include "eval/row_blocks.hpp"
#include "metric/split_list.hpp"

namespace cupel {
namespace {

/// Where the positions of a calibration file's rows begin: its rows are other rows than those of
/// the dumps, and must not be drawn alike.
constexpr i64 kCalibrationFirst = i64{1} << 62;
constexpr std::string_view kMetric = "set_size";

/// The error of a metric, which nobody named: the score that was is named instead.
Error in_words_of(const SetsRequest& request, Error error) {
  const std::string said = fmt::format("'{}'", kMetric);
  const std::string name = request.conformal.substr(0, request.conformal.find('('));
  for (std::string* text : {&error.what, &error.hint}) {
    std::size_t at = text->find(said);
    for (; at != std::string::npos; at = text->find(said, at)) {
      text->replace(at, said.size(), fmt::format("'{}'", name));
    }
  }
  return error;
}

/// The scores that there are sets of.
std::vector<std::string> set_scores() {
  const auto metric = parse_metrics(kMetric);
  CUPEL_ASSERT(metric.ok());
  for (const OptionSpec& option : metric->front().metric->info().options) {
    if (option.name == "conformal") return {option.choices.begin(), option.choices.end()};
  }
  return {};
}

/// Whether --conformal is one score, of labels.
Result<void> check_score(const std::string& conformal, const std::string& name) {
  const auto list = split_list(conformal);
  if (list && list->size() > 1) {
    return usage_error(fmt::format("--conformal '{}' is {} scores, and a set file has the sets of "
                                   "one",
                                   conformal, list->size()),
                       "call cupel sets for each, with an -o of its own");
  }
  const std::vector<std::string> known = set_scores();
  if (std::find(known.begin(), known.end(), name) != known.end()) return {};
  const std::string one_of = fmt::format("one of {}", fmt::join(known, ", "));
  if (with_conformal({}, {{name}, {}, {}, {}}).ok()) {
    return usage_error(fmt::format("--conformal '{}' is a score of a regression task, and sets are "
                                   "of labels",
                                   name),
                       one_of);
  }
  const auto near = nearest_name(name, known);
  return near
             ? usage_error(fmt::format("unknown --conformal '{}', did you mean '{}'?", name, *near))
             : usage_error(fmt::format("unknown --conformal '{}'", name), one_of);
}

/// The metric of sets with the options of one alpha.
Result<MetricSpec> spec_of(const SetsRequest& request, const std::string& alpha) {
  const std::size_t open = request.conformal.find('(');
  const std::string name = request.conformal.substr(0, open);
  // The words first, so that a slip is explained by the names that there are.
  if (auto fine = check_score(request.conformal, name); !fine) return fine.error();
  std::string more;
  if (open != std::string::npos) {
    if (!request.conformal.ends_with(')')) {
      return usage_error(fmt::format("--conformal '{}' has no closing ')'", request.conformal));
    }
    more = request.conformal.substr(open + 1, request.conformal.size() - open - 2);
  }
  // As are slips of these.
  auto known =
      with_conformal(*parse_metrics(kMetric), {{name}, {alpha}, request.quantile, request.empty});
  if (!known) return in_words_of(request, known.error());
  std::string text = fmt::format("{}(conformal={},alpha={}", kMetric, name, alpha);
  if (!request.quantile.empty()) text += ",quantile=" + request.quantile;
  if (!request.empty.empty()) text += ",empty=" + request.empty;
  if (!more.empty()) text += "," + more;
  auto specs = parse_metrics(text + ")");
  if (specs) return specs->front();
  return in_words_of(request, specs.error());
}

Result<ConformalQuery> query_of(const SetsRequest& request, const MetricSpec& spec,
                                const Binding& shape) {
  auto needs = spec.metric->needs(spec.options, shape.task, shape.classes, shape.logits);
  if (!needs) return in_words_of(request, needs.error());
  CUPEL_ASSERT(needs->conformal.has_value());
  ConformalQuery query = *needs->conformal;
  query.set_seed(request.rows.seed);
  return query;
}

double in_units(const ConformalRule& rule, i64 score) {
  if (score == kEveryLabel) return std::numeric_limits<double>::infinity();
  return static_cast<double>(score) * (rule.score == ConformalScore::kTopK ? 0x1p-32 : 0x1p-48);
}

/// Calibration rows: their scores and, for modes that ask, what else is known of them.
struct CalibrationRows {
  Buffer<i64> scores;  ///< ascending where p-values are asked for
  Buffer<i32> labels;
  Buffer<u32> combination;
  Buffer<u64> keys;
  Buffer<double> weights;
  std::map<CellKey, u32> numbers;  ///< of combinations of group values, in order of appearance
};

/// The same of a file, with what it is.
struct CalibrationFile {
  std::string path;
  std::vector<EvalInput> inputs;
  CalibrationRows rows;
  Task task = Task::kBinary;
  i64 classes = 0;
  bool logits = false;
};

/// A backend that knows the scores that it is asked for, and nothing else: thresholds are found
/// from rows that are in memory no more.
class KnownScores final : public Backend {
 public:
  explicit KnownScores(Buffer<i64> scores) : scores_(std::move(scores)) {}
  BackendInfo info() const override { return {}; }
  Result<std::vector<std::vector<RankTable>>> rank_tables(const TableView&, i64, i64) override {
    return none();
  }
  Result<std::vector<RankSummary>> rank_summaries(const TableView&, i64, i64,
                                                  std::span<const RankQuery>) override {
    return none();
  }
  Result<std::vector<std::vector<RowSums>>> row_sums(const TableView&, const RowSpec&) override {
    return none();
  }
  Result<BadScores> bad_scores(const TableView&) override { return none(); }
  Result<ConformalScores> conformal_scores(const TableView&, std::span<const ConformalRule>,
                                           const std::vector<bool>&, int) override {
    ConformalScores known;
    known.scores.push_back(std::move(scores_));
    return known;
  }

 private:
  static Error none() { return {ErrorCode::kInternal, {}, "these rows are gone", {}}; }
  Buffer<i64> scores_;
};

double weight_of(const TableView& view, i64 row) {
  if (view.weights_f64 != nullptr) return view.weights_f64[row];
  return view.weights_f32 != nullptr ? static_cast<double>(view.weights_f32[row]) : 0;
}

class SetsMaker {
 public:
  SetsMaker(const SetsRequest& request, const SetsSinkOf& sink_of,
            const std::function<void(const EvalProgress&)>& progress)
      : request_(request), sink_of_(sink_of), progress_(progress) {}

  Result<SetsReport> run() {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    if (auto checked = check(); !checked) return checked.error();
    BackendChoice choice;
    choice.name = request_.rows.backend;
    choice.threads = request_.rows.threads;
    choice.provider = request_.rows.device_provider;
    choice.device = request_.rows.device;
    auto chosen = choose_backend(choice);
    if (!chosen) return chosen.error();
    backend_ = std::move(*chosen);
    std::vector<std::vector<std::string>> groups;
    if (request_.rows.pool) {
      groups.push_back(request_.rows.dumps);
    } else {
      for (const std::string& path : request_.rows.dumps) groups.push_back({path});
    }
    now_.dumps = static_cast<i64>(groups.size());
    for (const std::vector<std::string>& group : groups) {
      now_.current = group.front();
      tell();
      auto done = make_one(group);
      sink_.reset();  // what is not whole is gone before the next one begins
      for (const BackendNote& note : backend_->take_weighted_notes()) {
        if (note.warning) warn(group, note.text);
      }
      ++now_.dumps_done;
      if (done.ok()) continue;
      Error error = done.error();
      // Options may fit one dump and not another; a backend or a disk that fails does so for all.
      const bool of_dump = error.code == ErrorCode::kInput || error.code == ErrorCode::kUsage;
      if (!of_dump || groups.size() == 1) return error;
      if (error.where.empty()) error.where = dump_name(group);
      report_.failures.push_back({group.front(), std::move(error)});
    }
    tell();
    const BackendInfo info = backend_->info();
    report_.backend = info.name;
    report_.device = info.device;
    report_.fallback = backend_->fallback();
    report_.total_s = std::chrono::duration<double>(Clock::now() - start).count();
    return std::move(report_);
  }

  Result<void> check() {
    if (request_.rows.dumps.empty()) return usage_error("no dump is named", "cupel sets DUMP...");
    return check_options();
  }

  Result<void> check_options() {
    const std::string& calibration = request_.rows.roles.calibration;
    if (calibration.empty()) {
      return usage_error("no rows to calibrate on",
                         "name a column, a file or a fraction with --calibration");
    }
    if (is_fraction(calibration)) {
      auto fraction = parse_decimal(calibration);
      if (!fraction || fraction->num == 0 || fraction->num >= fraction->den) {
        return usage_error(fmt::format("--calibration {} is not between 0 and 1", calibration),
                           "give a fraction such as 0.5, a boolean column, or a file");
      }
    }
    if (request_.alphas.empty()) return usage_error("no --alpha");
    std::vector<Fraction> alphas;
    for (const std::string& alpha : request_.alphas) {
      auto spec = spec_of(request_, alpha);
      if (!spec) return spec.error();
      const Fraction level = spec->options.fraction("alpha");
      const bool again = std::any_of(alphas.begin(), alphas.end(), [&](const Fraction& other) {
        return static_cast<u128>(other.num) * level.den == static_cast<u128>(level.num) * other.den;
      });
      if (again) continue;
      alphas.push_back(level);
      alpha_texts_.push_back(alpha);
      specs_.push_back(std::move(*spec));
    }
    Binding shape;
    shape.task = Task::kMulticlass;
    auto query = query_of(request_, specs_.front(), shape);
    if (!query) return query.error();
    draws_ = query->draws() || request_.p_values == PValues::kSmoothed;
    mode_ = query->mode;
    const bool grouped = mode_ == ConformalMode::kGroup;
    const std::string mode(specs_.front().options.text("mode"));
    if (grouped != !request_.rows.roles.groups.empty()) {
      return usage_error(grouped ? "mode=group takes a qhat for each group"
                                 : fmt::format("--group is for mode=group, this is mode={}", mode),
                         grouped ? "name the group column with --group" : "leave it out");
    }
    if (request_.p_values != PValues::kNone && mode_ != ConformalMode::kMarginal) {
      return usage_error(
          fmt::format("p-values are among all calibration scores, and this is mode={}", mode),
          "leave one of them out");
    }
    return {};
  }

 private:
  /// The files of one dump, open, with what is left to be found out of them.
  struct Table {
    std::vector<std::unique_ptr<RowBlocks>> parts;
    i64 rows = 0;
    const Binding& shape() const { return parts.front()->binding(); }
  };

  void warn(const std::vector<std::string>& paths, const std::string& text) {
    report_.warnings.push_back(fmt::format("{}: {}", dump_name(paths), text));
  }
  void tell() const {
    if (progress_) progress_(now_);
  }
  static std::string dump_name(const std::vector<std::string>& paths) {
    if (paths.size() == 1) return paths.front();
    return fmt::format("{} (+{} more)", paths.front(), paths.size() - 1);
  }

  /// Whether --calibration names another dump, and not a column: no array of this one, but a file
  /// of several, or of one that can only be scores.
  Result<bool> is_calibration_dump(const Dump& dump) const {
    const ColumnRoles& roles = request_.rows.roles;
    const std::string& name = roles.calibration;
    if (is_fraction(name)) return false;
    std::vector<std::string> names;
    for (const ArrayInfo& info : dump.arrays()) names.push_back(info.name);
    if (std::find(names.begin(), names.end(), name) != names.end()) return false;
    struct stat status = {};
    if (::stat(name.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
      const auto near = nearest_name(name, names);
      return input_error(
          dump.path(),
          fmt::format("no column or file '{}' for --calibration{}", name,
                      near ? fmt::format(", did you mean '{}'?", *near) : std::string()),
          "it has " + list_arrays(dump));
    }
    auto file = open_dump(name, {request_.rows.bfloat16_columns, true});
    if (!file) return file.error();
    // Text of any kind can be read as a column.
    if (name.ends_with(".npz") && (*file)->format() != "npz") {
      return input_error(name, "is not a zip, as an npz is",
                         fmt::format("it looks like {}", (*file)->format()));
    }
    if ((*file)->arrays().size() != 1) return true;
    const ArrayInfo& only = (*file)->arrays().front();
    const auto is = [&](const std::string& column, std::string_view role) {
      return column.empty() ? usual_role(only.name) == role : only.name == column;
    };
    return only.shape.size() > 1 || is(roles.score, "score") || is(roles.probs, "probs") ||
           is(roles.logits, "logits");
  }

  /// Opens the files of a table, but for the first, which is. `first_row` is the position of its
  /// first row.
  Result<Table> open(std::unique_ptr<Dump> first, const std::vector<std::string>& paths,
                     const EvalRequest& request, i64 first_row) {
    Table table;
    for (const std::string& path : paths) {
      if (!table.parts.empty()) {
        auto opened = RowBlocks::open(path, request);
        if (!opened) return opened.error();
        first = std::move(*opened);
      }
      const bool weighted = mode_ == ConformalMode::kWeighted;
      auto part = RowBlocks::bind(std::move(first), request, first_row + table.rows, weighted);
      if (!part) return part.error();
      if (weighted && !(*part)->binding().weight) {
        return input_error(path,
                           "mode=weighted takes the likelihood ratio of each row, and there "
                           "is no array for the weight",
                           "name it with --weight");
      }
      const Binding& binding = (*part)->binding();
      if (binding.task != Task::kBinary && binding.task != Task::kMulticlass) {
        return input_error(path, fmt::format("is a {} dump, and conformal sets are of one label a "
                                             "row, binary or of several classes",
                                             task_name(binding.task)));
      }
      table.rows += binding.rows;
      table.parts.push_back(std::move(*part));
      if (auto agreed = agree(table.shape(), *table.parts.back(), paths.front()); !agreed) {
        return agreed.error();
      }
    }
    return table;
  }

  static Result<void> agree(const Binding& first, const RowBlocks& last, const std::string& with) {
    const Binding& binding = last.binding();
    if (first.task == binding.task && first.classes == binding.classes &&
        first.logits == binding.logits && first.has_label() == binding.has_label()) {
      return {};
    }
    const auto describe = [](const Binding& shape) {
      return fmt::format("{} {} with {} classes and {} labels", task_name(shape.task),
                         shape.logits ? "logits" : "probabilities", shape.classes,
                         shape.has_label() ? "with" : "without");
    };
    return input_error(last.path(),
                       fmt::format("has {}, {} has {}", describe(binding), with, describe(first)),
                       "they need the same columns");
  }

  void tell_rows(const RowBlocks& part, i64 rows) {
    now_.current = part.path();
    now_.rows_done += rows;
    tell();
  }

  /// The scores of the labels of the calibration rows of a table; `all`: of every row.
  Result<void> score(Table& table, const EvalRequest& request, const ConformalRule& rule, bool all,
                     CalibrationRows& found) {
    const int threads = threads_of();
    for (auto& part : table.parts) {
      auto done = part->for_each(
          request, *backend_, [&](PreparedTable& rows, i64 block_rows) -> Result<void> {
            const std::vector<bool> wanted =
                all ? std::vector<bool>(rows.view.cell_count, true) : rows.calibration_cells;
            auto own = backend_->conformal_scores(rows.view, {&rule, 1}, wanted, threads);
            if (!own) return own.error();
            if (own->outside_unit != 0) return part->not_probabilities(rows, request);
            found.scores.insert(found.scores.end(), own->scores[0].begin(), own->scores[0].end());
            if (mode_ != ConformalMode::kMarginal) remember(rows, wanted, found);
            tell_rows(*part, block_rows);
            return {};
          });
      if (!done) return done;
    }
    return {};
  }

  /// Keeps what modes ask of the wanted rows.
  static void remember(const PreparedTable& rows, const std::vector<bool>& wanted,
                       CalibrationRows& found) {
    const TableView& view = rows.view;
    std::vector<u32> number(rows.cells.size(), 0);
    for (i64 row = 0; row < view.rows; ++row) {
      const u32 cell = view.cells == nullptr ? 0 : view.cells[row];
      if (!wanted[cell]) continue;
      // Numbers are of combinations that some calibration row has.
      if (number[cell] == 0) {
        const auto next = static_cast<u32>(found.numbers.size());
        number[cell] = 1 + found.numbers.try_emplace(rows.cells[cell], next).first->second;
      }
      found.labels.push_back(view.task == Task::kBinary ? view.binary_labels[row]
                                                        : view.class_labels[row]);
      found.combination.push_back(number[cell] - 1);
      found.keys.push_back(view.row_key(row));
      found.weights.push_back(weight_of(view, row));
    }
  }

  int threads_of() const {
    return request_.rows.threads > 0 ? request_.rows.threads : available_threads();
  }

  /// Reads the calibration file, once for all dumps: what is found does not depend on them.
  Result<void> read_calibration() {
    if (!calibration_read_) calibration_read_ = load_calibration();
    return *calibration_read_;
  }

  Result<void> load_calibration() {
    const std::string& file = request_.rows.roles.calibration;
    EvalRequest request = request_.rows;
    request.roles.calibration.clear();
    request.draws = draws_;
    auto dump = RowBlocks::open(file, request);
    if (!dump) return dump.error();
    auto table = open(std::move(*dump), {file}, request, kCalibrationFirst);
    if (!table) return table.error();
    auto query = query_of(request_, specs_.front(), table->shape());
    if (!query) return Error{query.error().code, file, query.error().what, query.error().hint};
    auto own = std::make_unique<CalibrationFile>();
    own->path = file;
    own->task = table->shape().task;
    own->classes = table->shape().classes;
    own->logits = table->shape().logits;
    auto done =
        finish({file}, *table, score(*table, request, query->rule, true, own->rows), own->inputs);
    if (!done) return done;
    calibration_ = std::move(own);
    return {};
  }

  /// What became of a table once its checksums are known: damage explains whatever else looked
  /// wrong in it.
  Result<void> finish(const std::vector<std::string>& paths, Table& table, Result<void> outcome,
                      std::vector<EvalInput>& inputs) {
    DroppedRows dropped;
    for (auto& part : table.parts) {
      auto checked = part->verify(outcome.ok());
      const bool explains = outcome.ok() || outcome.error().code == ErrorCode::kInput;
      if (!checked && explains) return checked.error();
      if (!checked) continue;
      inputs.insert(inputs.end(), checked->begin(), checked->end());
      dropped.scores += part->dropped().scores;
      dropped.labels += part->dropped().labels;
      if (!part->unused_weight().empty()) {
        warn(paths, fmt::format("the weights in '{}' are not used: sets count rows",
                                part->unused_weight()));
      }
    }
    if (outcome.ok() && dropped.total() != 0) {
      warn(paths, fmt::format("left out {} row{} (bad scores {}, labels {})", dropped.total(),
                              dropped.total() == 1 ? "" : "s", dropped.scores, dropped.labels));
    }
    return outcome;
  }

  Result<void> make_one(const std::vector<std::string>& paths) {
    auto first = RowBlocks::open(paths.front(), request_.rows);
    if (!first) return first.error();
    auto from_file = is_calibration_dump(**first);
    if (!from_file) return from_file.error();
    EvalRequest request = request_.rows;
    request.draws = draws_;
    if (*from_file) {
      request.roles.calibration.clear();
      request.label_optional = true;
    } else {
      request.fits = true;  // both halves, in cells of their own
    }
    auto table = open(std::move(*first), paths, request, 0);
    if (!table) return table.error();
    SetsResult result;
    result.dump = dump_name(paths);
    result.calibration = request_.rows.roles.calibration;
    auto outcome = make_table(paths, *table, request, *from_file, result);
    if (auto done = finish(paths, *table, outcome, result.inputs); !done) return done;
    if (*from_file) {
      result.inputs.insert(result.inputs.end(), calibration_->inputs.begin(),
                           calibration_->inputs.end());
    }
    if (auto done = sink_->end(result); !done) return done;
    if (result.rows == 0) {
      warn(paths, table->rows == 0 ? "has no rows"
                  : *from_file     ? "no row is left to make a set for"
                               : "no row has a set: none is left besides those for calibration");
    }
    if (const i64 unseen = result.unseen_group_rows; unseen != 0) {
      warn(paths, fmt::format("{} of {} row{} in groups without a calibration row, and {} every "
                              "label",
                              unseen, result.rows, result.rows == 1 ? " is" : "s are",
                              unseen == 1 ? "its set has" : "their sets have"));
    }
    report_.results.push_back(std::move(result));
    return {};
  }

  /// Thresholds, then block after block of sets.
  Result<void> make_table(const std::vector<std::string>& paths, Table& table,
                          const EvalRequest& request, bool from_file, SetsResult& result) {
    const Binding& shape = table.shape();
    result.task = shape.task;
    result.classes = shape.classes;
    result.labelled = shape.has_label();
    result.p_values = request_.p_values;
    result.all_p_values = request_.p_values != PValues::kNone && request_.all_p_values;
    result.seed = request_.rows.seed;
    auto query = query_of(request_, specs_.front(), shape);
    if (!query) return query.error();
    CalibrationRows own;
    if (from_file) {
      if (auto done = read_calibration(); !done) return done;
      const CalibrationFile& file = *calibration_;
      if (file.task != shape.task || file.classes != shape.classes || file.logits != shape.logits) {
        return input_error(
            paths.front(),
            fmt::format("has {} {} of {} classes, the calibration file {} has {} of {}",
                        task_name(shape.task), shape.logits ? "logits" : "probabilities",
                        shape.classes, file.path, file.logits ? "logits" : "probabilities",
                        file.classes),
            "calibrate on a dump of the same model");
      }
    } else if (auto done = score(table, request, query->rule, false, own); !done) {
      return done;
    }
    CalibrationRows& calibration = from_file ? calibration_->rows : own;
    result.calibration_rows = static_cast<i64>(calibration.scores.size());
    if (calibration.scores.empty() && table.rows != 0) {
      return input_error(from_file ? request_.rows.roles.calibration : dump_name(paths),
                         "no row is for calibration", "without scores there is no qhat");
    }
    result.mode = mode_;
    std::vector<QueryThresholds> thresholds;
    if (auto done = find_levels(shape, calibration, result, thresholds); !done) return done;
    auto sink = sink_of_(paths.front());
    if (!sink) return sink.error();
    sink_ = std::move(*sink);
    if (auto done = sink_->begin(result); !done) return done;
    return make_blocks(table, request, calibration, thresholds, result);
  }

  /// The thresholds of every alpha, and what is told of them.
  Result<void> find_levels(const Binding& shape, CalibrationRows& calibration, SetsResult& result,
                           std::vector<QueryThresholds>& thresholds) {
    if (request_.p_values != PValues::kNone) {
      std::sort(calibration.scores.begin(), calibration.scores.end());
    }
    const auto combinations = static_cast<u32>(calibration.numbers.size());
    std::vector<ConformalQuery> queries;
    for (const MetricSpec& spec : specs_) {
      auto query = query_of(request_, spec, shape);
      if (!query) return query.error();
      queries.push_back(*query);
    }
    TableView view;  // rows without scores, which are known
    view.task = Task::kMulticlass;
    view.rows = static_cast<i64>(calibration.scores.size());
    view.classes = result.classes;
    view.class_labels = calibration.labels.data();
    view.weights_f64 = calibration.weights.data();
    view.row_keys = calibration.keys.data();
    if (mode_ == ConformalMode::kGroup) view.cells = calibration.combination.data();
    view.cell_count = std::max<u32>(1, combinations);
    ConformalRows rows{&view, std::vector<bool>(view.cell_count, true), {}};
    for (u32 c = 0; c < view.cell_count; ++c) rows.combination.push_back(c);
    const bool once = calibration_ == nullptr && request_.p_values == PValues::kNone;
    KnownScores known(once ? std::move(calibration.scores) : calibration.scores);
    auto found = find_thresholds({&rows, 1}, view.cell_count, queries, known, threads_of());
    if (!found) return found.error();
    thresholds = std::move(found->queries);
    const WeightedScores* weighted = thresholds.front().weighted.get();
    if (weighted != nullptr && view.rows != 0 && weighted->total() == 0) {
      return input_error(result.calibration, "no calibration row has weight",
                         "mode=weighted takes the likelihood ratio of each row");
    }
    // Told by their values, whichever row came first.
    std::vector<std::size_t> groups;
    if (mode_ == ConformalMode::kGroup) {
      for (const auto& [key, number] : calibration.numbers) {
        groups.push_back(number);
        result.groups.push_back(named_combination(key, request_.rows.roles.groups));
      }
    }
    for (std::size_t l = 0; l < specs_.size(); ++l) {
      QueryThresholds& own = thresholds[l];
      SetsLevel level;
      level.alpha = alpha_texts_[l];
      Evidence evidence;
      evidence.conformal.seed = request_.rows.seed;
      level.params = specs_[l].metric->params(specs_[l].options, evidence);
      level.sizes.resize(static_cast<std::size_t>(result.classes) + 1);
      const auto in_score = [&](i64 score) { return in_units(own.query.rule, score); };
      if (mode_ == ConformalMode::kMarginal) {
        level.rank = own.categories[0].rank;
        level.qhat = in_score(own.categories[0].score);
        if (level.rank == 0) level.qhat_reason = undefined_name(Undefined::kTooFewCalibration);
      } else if (mode_ != ConformalMode::kWeighted) {
        const std::size_t count = mode_ == ConformalMode::kGroup
                                      ? combinations
                                      : static_cast<std::size_t>(result.classes);
        for (std::size_t c = 0; c < count; ++c) {
          const std::size_t category = mode_ == ConformalMode::kCluster ? own.cluster_of[c]
                                       : mode_ == ConformalMode::kGroup ? groups[c]
                                                                        : c;
          level.qhats.push_back(in_score(own.categories[category].score));
        }
      }
      // Of combinations that no calibration row has.
      if (mode_ == ConformalMode::kGroup) {
        own.categories.resize(combinations);
        own.categories.emplace_back();
      }
      result.levels.push_back(std::move(level));
    }
    return {};
  }

  Result<void> make_blocks(Table& table, const EvalRequest& request,
                           const CalibrationRows& calibration,
                           std::span<const QueryThresholds> thresholds, SetsResult& result) {
    const KeptScores kept = request_.p_values == PValues::kNone ? KeptScores::kNone
                            : request_.all_p_values             ? KeptScores::kAll
                                                                : KeptScores::kOfSets;
    const PValueMaker p_values(calibration.scores, request_.p_values == PValues::kSmoothed,
                               request_.rows.seed);
    const int threads = threads_of();
    for (auto& part : table.parts) {
      auto done = part->for_each(
          request, *backend_, [&](PreparedTable& rows, i64 block_rows) -> Result<void> {
            ConformalRows of{&rows.view, std::vector<bool>(rows.view.cell_count, true), {}};
            if (rows.has_halves) of.wanted = rows.calibration_cells;
            if (rows.has_halves) of.wanted.flip();
            for (const CellKey& key : rows.cells) {
              const auto at = calibration.numbers.find(key);
              of.combination.push_back(at == calibration.numbers.end()
                                           ? static_cast<u32>(calibration.numbers.size())
                                           : at->second);
            }
            std::vector<ConformalSet> sets;
            for (const QueryThresholds& one : thresholds) sets.push_back(sets_of(one, of));
            auto made = conformal_label_sets(rows.view, sets, of.wanted, kept, threads);
            if (!made) return made.error();
            if (made->outside_unit != 0) return part->not_probabilities(rows, request);
            if (mode_ == ConformalMode::kGroup) {
              const u32 unseen = static_cast<u32>(calibration.numbers.size());
              for (const i64 row : made->rows) {
                const u32 cell = rows.view.cells == nullptr ? 0 : rows.view.cells[row];
                result.unseen_group_rows += of.combination[cell] == unseen ? 1 : 0;
              }
            }
            auto given = give(*part, rows, *made, kept, p_values, result);
            tell_rows(*part, block_rows);
            return given;
          });
      if (!done) return done;
    }
    return {};
  }

  Result<void> give(const RowBlocks& part, const PreparedTable& rows,
                    const ConformalLabelSets& made, KeptScores kept, const PValueMaker& p_values,
                    SetsResult& result) {
    const std::size_t count = made.rows.size();
    std::vector<i64> positions(count);
    for (std::size_t i = 0; i < count; ++i) positions[i] = part.position(rows, made.rows[i]);
    SetsBlock block;
    block.rows = positions;
    ThreadPool pool(threads_of());
    Buffer<double> all;
    if (kept == KeptScores::kAll) {
      all = p_values.of_all(made, rows.view, pool);
      block.p_values = all;
    }
    std::vector<Buffer<double>> of_sets(made.sets.size());
    for (std::size_t s = 0; s < made.sets.size(); ++s) {
      const LabelSets& own = made.sets[s];
      if (kept == KeptScores::kOfSets) of_sets[s] = p_values.of_sets(made, own, rows.view, pool);
      block.levels.push_back({own.sizes, own.labels, of_sets[s]});
      SetsLevel& level = result.levels[s];
      for (std::size_t i = 0; i < count; ++i) {
        level.labels += own.sizes[i];
        level.covered += own.covers[i];
        ++level.sizes[own.sizes[i]];
      }
    }
    result.rows += static_cast<i64>(count);
    return sink_->block(block);
  }

  const SetsRequest& request_;
  const SetsSinkOf& sink_of_;
  const std::function<void(const EvalProgress&)>& progress_;
  std::unique_ptr<ChosenBackend> backend_;
  std::vector<MetricSpec> specs_;  ///< [alpha]
  std::vector<std::string> alpha_texts_;
  bool draws_ = false;
  ConformalMode mode_ = ConformalMode::kMarginal;
  std::unique_ptr<CalibrationFile> calibration_;
  std::optional<Result<void>> calibration_read_;  ///< what became of reading it
  std::unique_ptr<SetsSink> sink_;
  SetsReport report_;
  EvalProgress now_;
};

}  // namespace

Result<void> check_sets_request(const SetsRequest& request) {
  return SetsMaker(request, {}, {}).check_options();
}

Result<SetsReport> make_sets(const SetsRequest& request, const SetsSinkOf& sink_of,
                             const std::function<void(const EvalProgress&)>& progress) {
  return SetsMaker(request, sink_of, progress).run();
}

}  // namespace cupel
