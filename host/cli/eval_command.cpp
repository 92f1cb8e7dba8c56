// cupel eval: from arguments to a request, from a report to text. Everything that can be wrong with
// the call is found before a file is opened, so that exit code 2 costs no time.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <limits>

#include "cli/backend_options.hpp"
#include "cli/command.hpp"
#include "cli/output.hpp"
#include "cli/progress.hpp"

namespace cupel {
namespace {

constexpr std::string_view kExamples =
    "  cupel eval scores.csv\n"
    "  cupel eval model.npz --metrics 'auroc,auprc(method=trapezoid)' --group sex,age --intersect\n"
    "  cupel eval 'dumps/**/*.npz' --format json -o results.json\n"
    "  cupel eval score.npy --label y_true.npy --weight w.npy\n"
    "  cupel eval intervals.npz --calibration 0.5 --conformal absolute,cqr\n"
    "  cupel eval embeddings.npz --metrics opis,eer --domain cosine\n"
    "  zcat scores.csv.gz | cupel eval - --score p --label y\n";

struct EvalArguments {
  EvalRequest request;
  ColumnArguments columns;
  std::vector<std::string> dumps;
  std::vector<std::string> metrics;
  std::string split = "all";
  std::string seed = "0";
  std::string nan = "error";
  std::string softmax = "f64";
  std::string domain;
  bool as_is = false;
  std::string threads = "0";
  std::string memory;
  std::string format_name = "table";
  std::string output;
  std::string per_item;
  bool quiet = false;
  bool verbose = false;
  ReportFormat format = ReportFormat::kTable;

  void declare(Arguments& arguments);
  Result<void> apply(const Arguments& arguments);
};

void EvalArguments::declare(Arguments& arguments) {
  arguments.positionals("DUMP",
                        "files, folders, quoted globs, @list.txt, or - for CSV on standard input",
                        dumps, kAnyNumber);
  arguments.section("metrics");
  arguments.list("--metrics", "M,..", metrics, "'cupel metrics' lists them; the task's defaults");
  arguments.flag("--by-class", request.by_class, "a value per class or label too");
  arguments.text("--softmax", "S", softmax,
                 "of multiclass logits: f64, or f32 (faster, to about 1e-6)");
  arguments.section("conformal sets and intervals (coverage, set_size, interval_width, ..)");
  arguments.list("--conformal", "S,..", request.conformal.scores,
                 "lac, aps, .., with options: 'aps(mode=class)'; regression: absolute, ..");
  arguments.list("--alpha", "A,..", request.conformal.alphas, "shares that may be missed (0.1)");
  arguments.text("--quantile", "Q", request.conformal.quantile,
                 "exact, numpy_higher, mapie_cls, mapie_reg, puncc, crepes");
  arguments.text("--empty", "E", request.conformal.empty,
                 "empty sets: keep, or argmax puts the most probable label in");
  columns.declare(arguments, request);
  arguments.section("pairs of embeddings (opis, eer, tar_at_far, recall_at_k, ..)");
  arguments.text("--domain", "D", domain, "what is compared: l2 (distances), or cosine");
  arguments.flag("--as-is", as_is, "take rows as they are, not divided by their lengths");
  arguments.section("rows");
  arguments.flag("--pool", request.pool, "all files are shards of one dump");
  arguments.flag("--normalize", request.normalize,
                 "divide each row of --probs by its sum, in a copy of the column");
  arguments.text("--split", "S", split, "rows to use by --calibration: all, test or calibration");
  arguments.text("--seed", "N", seed, "for whatever is drawn at random (0)");
  arguments.text("--nan", "P", nan, "rows with NaN: error, or drop them and say how many");
  arguments.section("running");
  arguments.text("--backend", "B", request.backend, "auto, cpu, cuda, cuda:N (CUPEL_BACKEND)");
  arguments.text("--threads", "N", threads, "0: all that there are");
  arguments.text("--mem", "SIZE", memory,
                 "memory for classes ranked at a time, such as 512M or 4G");
  arguments.section("output");
  arguments.text("--format", "F", format_name, "table, json, jsonl, csv or md");
  arguments.text("-o,--output", "FILE", output, "write results there, whole or not at all");
  arguments.text("--per-item", "FILE", per_item,
                 "write the rows of selections there, with p-values, as CSV");
  arguments.flag("-q,--quiet", quiet, "no progress, notices or warnings");
  arguments.flag("-v,--verbose", verbose,
                 "what was read, the plan and the times, on standard error");
}

Result<void> EvalArguments::apply(const Arguments& arguments) {
  if (dumps.empty()) return usage_error("no dump", "'cupel eval --help' shows examples");
  if (auto done = columns.apply(arguments, request); !done) return done.error();

  request.metrics = fmt::format("{}", fmt::join(metrics, ","));
  std::vector<MetricSpec> specs;
  if (arguments.given("--metrics")) {
    const auto parsed = parse_metrics(request.metrics);
    if (!parsed) return parsed.error();
    specs = *parsed;
  }
  if (const auto chosen = with_conformal(specs, request.conformal); !chosen) return chosen.error();
  const auto chosen_format = parse_format(format_name);
  if (!chosen_format) return chosen_format.error();
  format = *chosen_format;

  const auto chosen_split = parse_choice("split", split, {"all", "test", "calibration"});
  if (!chosen_split) return chosen_split.error();
  request.split =
      std::vector{RowSplit::kAll, RowSplit::kTest, RowSplit::kCalibration}[*chosen_split];
  if (request.split != RowSplit::kAll && request.roles.calibration.empty()) {
    return usage_error(fmt::format("--split {} needs --calibration", split));
  }
  const auto chosen_nan = parse_choice("--nan policy", nan, {"error", "drop"});
  if (!chosen_nan) return chosen_nan.error();
  request.nan = *chosen_nan == 0 ? NanPolicy::kError : NanPolicy::kDrop;
  const auto chosen_softmax = parse_choice("--softmax", softmax, {"f64", "f32"});
  if (!chosen_softmax) return chosen_softmax.error();
  request.softmax = *chosen_softmax == 0 ? SoftmaxKind::kF64 : SoftmaxKind::kF32;

  if (arguments.given("--domain")) {
    const auto chosen_domain = parse_choice("--domain", domain, {"l2", "cosine"});
    if (!chosen_domain) return chosen_domain.error();
    request.domain = *chosen_domain == 0 ? PairDomain::kL2 : PairDomain::kCosine;
  }
  if (as_is) request.normalize_embedding = false;

  const auto seed_number = parse_integer("--seed", seed, 0, std::numeric_limits<i64>::max());
  if (!seed_number) return seed_number.error();
  request.seed = static_cast<u64>(*seed_number);
  const auto thread_count = parse_integer("--threads", threads, 0, kMostThreads);
  if (!thread_count) return thread_count.error();
  request.threads = static_cast<int>(*thread_count);
  if (arguments.given("--mem")) {
    const auto bytes = parse_size("--mem", memory);
    if (!bytes) return bytes.error();
    request.memory = *bytes;
  }
  auto backend = backend_name(arguments.given("--backend") ? request.backend : std::string());
  if (!backend) return backend.error();
  request.backend = std::move(*backend);
  const auto device = device_options();
  if (!device) return device.error();
  request.device = *device;
  request.list_rows = arguments.given("--per-item");
  if (request.list_rows) {
    const bool shared = !output.empty() && output != "-" && same_file(per_item, output);
    if (per_item.empty() || per_item == "-" || shared) {
      return usage_error(fmt::format("--per-item '{}' is no file of its own", per_item),
                         "name a file that --output does not name");
    }
    if (auto done = check_output_path(per_item, "--per-item"); !done) return done.error();
  }
  if (!output.empty()) return check_output_path(output);
  return {};
}

/// What -v tells: the run, not the results.
void say_run(const EvalReport& report) {
  for (const EvalInput& input : report.inputs) {
    say(fmt::format("{}: {}, {} rows, {} bytes", input.path, input.format,
                    with_separators(input.rows), with_separators(input.bytes)));
  }
  say("plan: " + compact_json(report.plan));
  say(fmt::format("{} ({}): read {:.3f} s, computed {:.3f} s, {:.3f} s in all", report.backend,
                  report.device, report.read_s, report.compute_s, report.total_s));
}

Result<EvalReport> evaluate_with_progress(const EvalRequest& request, bool quiet) {
  Progress progress(!quiet && is_terminal(STDERR_FILENO));
  return evaluate(request, [&](const EvalProgress& now) { progress.update(now); });
}

}  // namespace

int run_eval(const std::vector<std::string>& arguments) {
  Arguments parser("eval DUMP... [options]", kExamples);
  EvalArguments eval;
  eval.declare(parser);
  const auto outcome = parser.parse(arguments);
  if (!outcome) return fail(outcome.error());
  if (*outcome == Arguments::Outcome::kHelp) return show(parser.help());
  if (auto done = eval.apply(parser); !done) return fail(done.error());

  auto dumps = expand_dump_arguments(eval.dumps);
  if (!dumps) return fail(dumps.error());
  eval.request.dumps = std::move(*dumps);
  const std::vector<std::string> inputs = input_paths(eval.request, eval.dumps);
  if (!eval.output.empty()) {
    if (auto free = check_no_input(eval.output, inputs); !free) return fail(free.error());
  }
  if (eval.request.list_rows) {
    const auto free = check_no_input(eval.per_item, inputs, "--per-item");
    if (!free) return fail(free.error());
  }

  const auto report = evaluate_with_progress(eval.request, eval.quiet);
  if (!report) return fail(report.error());

  if (!eval.quiet) {
    if (!report->fallback.empty()) say("no GPU is used: " + report->fallback);
    for (const std::string& warning : report->warnings) say("warning: " + warning);
  }
  if (eval.verbose) say_run(*report);
  say_failures(report->failures);
  if (eval.request.list_rows) {
    const auto listed = write_output(eval.per_item, render_rows(report->rows));
    if (!listed) return fail(listed.error());
  }
  const ReportStyle style = output_style(!eval.output.empty());
  const int written = show(render(*report, eval.format, style), eval.output);
  if (written != kExitOk) return written;
  return report->failures.empty() ? kExitOk : kExitPartial;
}

}  // namespace cupel
