// cupel sets: conformal prediction sets, written out. The work is make_sets(); here arguments
// become a request, and sets a file that appears whole or not at all.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "cli/backend_options.hpp"
#include "cli/command.hpp"
#include "cli/output.hpp"
#include "cli/progress.hpp"
#include "cupel/eval/sets.hpp"
#include "cupel/report/sets.hpp"

namespace cupel {
namespace {

constexpr std::string_view kExamples =
    "  cupel sets model.npz --calibration is_calibration --conformal raps --alpha 0.1 -o sets.npz\n"
    "  cupel sets test.npz --calibration calibration.npz --alpha 0.1,0.05 -o sets.npz\n"
    "  cupel sets model.npz --calibration 0.5 --seed 7 --conformal 'raps(lambda=0.1,k_reg=1)' -o "
    "-\n"
    "  cupel sets 'test/*.npz' --calibration cal.npz -o 'sets/{stem}.npz' --layout bitmask\n";
constexpr std::string_view kStem = "{stem}";
constexpr std::string_view kStandardOutput = "-";

enum class FileFormat : u8 { kNpz, kCsv };

struct SetsArguments {
  SetsRequest request;
  std::vector<std::string> dumps;
  std::vector<std::string> dtypes;
  std::vector<std::string> alphas;
  std::string seed = "0";
  std::string nan = "error";
  std::string threads = "0";
  std::string p_values;
  std::string format_name;
  std::string layout_name = "csr";
  std::string output;
  bool json = false;
  bool quiet = false;
  FileFormat format = FileFormat::kNpz;
  SetsLayout layout = SetsLayout::kCsr;

  void declare(Arguments& arguments);
  Result<void> apply(const Arguments& arguments);
  Result<void> choose_format(const Arguments& arguments);
  Result<void> choose_p_values();
};

void SetsArguments::declare(Arguments& arguments) {
  EvalRequest& rows = request.rows;
  arguments.positionals("DUMP",
                        "files, folders, quoted globs, @list.txt, or - for CSV on standard input",
                        dumps, kAnyNumber);
  arguments.section("sets");
  arguments.text("--calibration", "X", rows.roles.calibration,
                 "a boolean column, a fraction of rows, or another dump");
  arguments.text(
      "--conformal", "S", request.conformal,
      "lac, aps, raps, saps, topk, margin; options in parentheses, such as mode=class (lac)");
  arguments.list("--alpha", "A,..", alphas, "shares of labels that may be missed (0.1)");
  arguments.text("--quantile", "Q", request.quantile,
                 "exact, numpy_higher, mapie_cls, mapie_reg, puncc, crepes");
  arguments.text("--empty", "E", request.empty,
                 "empty sets: keep, or argmax puts the most probable label in");
  arguments.text("--p-values", "P", p_values,
                 "of the labels of a set: plain or smoothed; of all labels: plain:all");
  arguments.section("columns (names, or files that hold one column)");
  arguments.text("--label", "X", rows.roles.label, "the truth; not needed with another dump");
  arguments.text("--score", "X", rows.roles.score, "one score per row: binary");
  arguments.text("--probs", "X", rows.roles.probs, "one probability per class and row");
  arguments.text("--logits", "X", rows.roles.logits, "logits, taken to probabilities");
  arguments.text("--weight", "X", rows.roles.weight, "likelihood ratios, for mode=weighted");
  arguments.list("--group", "X[,Y]", rows.roles.groups, "group columns, for mode=group");
  arguments.text("--id", "X", rows.roles.id, "row ids for whatever is drawn at random");
  arguments.text("--pos-label", "V", rows.pos_label, "the label that counts as positive");
  arguments.list("--dtype", "X=bf16", dtypes, "column X holds bfloat16");
  arguments.section("rows");
  arguments.flag("--pool", rows.pool, "all files are shards of one dump");
  arguments.flag("--normalize", rows.normalize, "divide each row of --probs by its sum");
  arguments.text("--seed", "N", seed, "for whatever is drawn at random (0)");
  arguments.text("--nan", "P", nan, "rows with NaN: error, or drop them and say how many");
  arguments.section("running");
  arguments.text("--backend", "B", rows.backend, "auto, cpu, cuda, cuda:N (CUPEL_BACKEND)");
  arguments.text("--threads", "N", threads, "0: all that there are");
  arguments.section("output");
  arguments.text("-o,--output", "FILE", output,
                 "the set file, whole or not at all; - is CSV on standard output");
  arguments.text("--format", "F", format_name, "npz or csv; by the name of FILE where not given");
  arguments.text("--layout", "L", layout_name, "npz: csr (offsets and labels) or bitmask");
  arguments.flag("--json", json, "the summary as JSON on standard output");
  arguments.flag("-q,--quiet", quiet, "no summary, progress, notices or warnings");
}

Result<void> SetsArguments::choose_format(const Arguments& arguments) {
  if (output.empty()) {
    return usage_error("no -o for the sets", "name a file, or - for CSV on standard output");
  }
  const bool is_csv = output.ends_with(".csv") || output == kStandardOutput;
  format = is_csv ? FileFormat::kCsv : FileFormat::kNpz;
  if (arguments.given("--format")) {
    const auto chosen = parse_choice("format", format_name, {"npz", "csv"});
    if (!chosen) return chosen.error();
    format = *chosen == 0 ? FileFormat::kNpz : FileFormat::kCsv;
  } else if (!is_csv && !output.ends_with(".npz")) {
    return usage_error(fmt::format("the name '{}' says no format", output),
                       "end it in .npz or .csv, or give --format");
  }
  const auto chosen = parse_choice("layout", layout_name, {"csr", "bitmask"});
  if (!chosen) return chosen.error();
  layout = *chosen == 0 ? SetsLayout::kCsr : SetsLayout::kBitmask;
  if (layout == SetsLayout::kBitmask && format == FileFormat::kCsv) {
    return usage_error("--layout bitmask is for npz", "CSV lists the labels");
  }
  if (output != kStandardOutput) return {};
  if (format == FileFormat::kNpz) {
    return usage_error("standard output takes CSV", "name a file with -o for npz");
  }
  if (json) {
    return usage_error("--json and -o - both write to standard output", "name a file with -o");
  }
  return {};
}

Result<void> SetsArguments::choose_p_values() {
  if (p_values.empty()) return {};
  const auto chosen =
      parse_choice("--p-values", p_values, {"plain", "smoothed", "plain:all", "smoothed:all"});
  if (!chosen) return chosen.error();
  request.p_values = *chosen % 2 == 0 ? PValues::kPlain : PValues::kSmoothed;
  request.all_p_values = *chosen >= 2;
  if (layout == SetsLayout::kBitmask && !request.all_p_values) {
    return usage_error("a bitmask has no place for the p-values of its labels",
                       fmt::format("give --p-values {}:all, or --layout csr", p_values));
  }
  return {};
}

Result<void> SetsArguments::apply(const Arguments& arguments) {
  if (dumps.empty()) return usage_error("no dump", "'cupel sets --help' shows examples");
  EvalRequest& rows = request.rows;
  if (!alphas.empty()) request.alphas = alphas;
  if (auto done = apply_dtypes(dtypes, rows); !done) return done.error();
  if (auto done = choose_format(arguments); !done) return done.error();
  if (auto done = choose_p_values(); !done) return done.error();
  if (auto done = check_sets_request(request); !done) return done.error();
  const auto chosen_nan = parse_choice("--nan policy", nan, {"error", "drop"});
  if (!chosen_nan) return chosen_nan.error();
  rows.nan = *chosen_nan == 0 ? NanPolicy::kError : NanPolicy::kDrop;
  const auto seed_number = parse_integer("--seed", seed, 0, std::numeric_limits<i64>::max());
  if (!seed_number) return seed_number.error();
  rows.seed = static_cast<u64>(*seed_number);
  const auto thread_count = parse_integer("--threads", threads, 0, kMostThreads);
  if (!thread_count) return thread_count.error();
  rows.threads = static_cast<int>(*thread_count);
  auto backend = backend_name(arguments.given("--backend") ? rows.backend : std::string());
  if (!backend) return backend.error();
  rows.backend = std::move(*backend);
  const auto device = device_options();
  if (!device) return device.error();
  rows.device = *device;
  return {};
}

/// "a.b" of "folder/a.b.npz"; one more ending goes with .gz.
std::string stem_of(const std::string& path) {
  if (path == kStandardOutput) return "stdin";
  std::string name = path.substr(path.find_last_of('/') + 1);
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  const std::size_t dot = name.rfind('.');
  return dot == std::string::npos || dot == 0 ? name : name.substr(0, dot);
}

/// The set file of each dump (of a pool: of all). Errors (kUsage): one name for several dumps; two
/// dumps with one name; a file in the place of an input.
Result<std::vector<std::string>> name_outputs(const SetsArguments& sets) {
  const std::vector<std::string>& dumps = sets.request.rows.dumps;
  const std::size_t count = sets.request.rows.pool ? 1 : dumps.size();
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) {
    std::string name = sets.output;
    const std::string stem = stem_of(dumps[i]);
    std::size_t at = name.find(kStem);
    if (at == std::string::npos && count > 1) {
      return usage_error(fmt::format("-o {} is one file for {} dumps", sets.output, count),
                         "write {stem} for the name of each, or make them one with --pool");
    }
    for (; at != std::string::npos; at = name.find(kStem, at + stem.size())) {
      name.replace(at, kStem.size(), stem);
    }
    const auto same = std::find(names.begin(), names.end(), name);
    if (same != names.end()) {
      return usage_error(
          fmt::format("'{}' and '{}' would both be written to {}",
                      dumps[static_cast<std::size_t>(same - names.begin())], dumps[i], name),
          "give them names of their own");
    }
    names.push_back(std::move(name));
  }
  const std::vector<std::string> inputs = input_paths(sets.request.rows, sets.dumps);
  for (const std::string& name : names) {
    if (auto done = check_no_input(name, inputs); !done) return done.error();
  }
  for (const std::string& name : names) {
    if (auto done = check_output_path(name); !done) return done.error();
  }
  return names;
}

/// Sets on their way into a file.
class FileSets final : public SetsSink {
 public:
  static Result<std::unique_ptr<SetsSink>> open(const std::string& path, FileFormat format,
                                                SetsLayout layout) {
    auto file = OutputFile::open(path);
    if (!file) return file.error();
    auto sink =
        format == FileFormat::kNpz ? npz_sets((*file)->sink(), layout) : csv_sets((*file)->sink());
    return std::unique_ptr<SetsSink>(new FileSets(std::move(*file), std::move(sink)));
  }
  Result<void> begin(const SetsResult& result) override { return sets_->begin(result); }
  Result<void> block(const SetsBlock& block) override { return sets_->block(block); }
  Result<void> end(const SetsResult& result) override {
    if (auto done = sets_->end(result); !done) return done;
    return file_->commit();
  }

 private:
  FileSets(std::unique_ptr<OutputFile> file, std::unique_ptr<SetsSink> sets)
      : file_(std::move(file)), sets_(std::move(sets)) {}
  std::unique_ptr<OutputFile> file_;
  std::unique_ptr<SetsSink> sets_;
};

Result<SetsReport> make_with_progress(const SetsArguments& sets,
                                      const std::vector<std::string>& outputs) {
  Progress progress(!sets.quiet && is_terminal(STDERR_FILENO));
  std::size_t next = 0;
  return make_sets(
      sets.request,
      [&](const std::string& dump) {
        const std::vector<std::string>& dumps = sets.request.rows.dumps;
        // Dumps come in order, but for those that failed before.
        while (outputs.size() > 1 && dumps[next] != dump) ++next;
        return FileSets::open(outputs[outputs.size() > 1 ? next++ : 0], sets.format, sets.layout);
      },
      [&](const EvalProgress& now) { progress.update(now); });
}

/// A calibration file that fails does so for every dump, and is told once.
void say_distinct(std::vector<EvalFailure> failures) {
  std::vector<std::string> said;
  std::erase_if(failures, [&](const EvalFailure& failure) {
    const std::string text = failure.error.text();
    if (std::find(said.begin(), said.end(), text) != said.end()) return true;
    said.push_back(text);
    return false;
  });
  say_failures(failures);
}

}  // namespace

int run_sets(const std::vector<std::string>& arguments) {
  Arguments parser("sets DUMP... --calibration X -o FILE [options]", kExamples);
  SetsArguments sets;
  sets.declare(parser);
  const auto outcome = parser.parse(arguments);
  if (!outcome) return fail(outcome.error());
  if (*outcome == Arguments::Outcome::kHelp) return show(parser.help());
  if (auto done = sets.apply(parser); !done) return fail(done.error());
  auto dumps = expand_dump_arguments(sets.dumps);
  if (!dumps) return fail(dumps.error());
  sets.request.rows.dumps = std::move(*dumps);
  const auto outputs = name_outputs(sets);
  if (!outputs) return fail(outputs.error());

  const auto report = make_with_progress(sets, *outputs);
  if (!report) return fail(report.error());
  // The files of those that did not fail.
  std::vector<std::string> written;
  for (std::size_t i = 0; i < outputs->size(); ++i) {
    const bool failed =
        outputs->size() > 1 && std::any_of(report->failures.begin(), report->failures.end(),
                                           [&](const EvalFailure& failure) {
                                             return failure.dump == sets.request.rows.dumps[i];
                                           });
    if (!failed) written.push_back((*outputs)[i]);
  }
  if (!sets.quiet) {
    const bool made = !report->results.empty();
    if (made && !report->fallback.empty()) say("no GPU is used: " + report->fallback);
    for (const std::string& warning : report->warnings) say("warning: " + warning);
  }
  say_distinct(report->failures);
  if (report->results.empty()) return static_cast<int>(report->failures.front().error.code);
  if (sets.json) {
    const int shown = show(render_sets(*report, written, program_version()));
    if (shown != kExitOk) return shown;
  } else if (!sets.quiet) {
    for (std::size_t i = 0; i < report->results.size(); ++i) {
      const std::string place =
          written[i] == kStandardOutput ? std::string("standard output") : written[i];
      for (const std::string& line : describe_sets(report->results[i], place)) say(line);
    }
  }
  return report->failures.empty() ? kExitOk : kExitPartial;
}

}  // namespace cupel
