// From dumps to results: what `cupel eval` does, as a library call. One request names the dumps,
// the columns, the metrics and the groups; one report holds every result and every failure.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cupel/backend/backend.hpp"
#include "cupel/backend/device.hpp"
#include "cupel/core/result.hpp"
#include "cupel/io/dump.hpp"
#include "cupel/metric/detail.hpp"
#include "cupel/metric/metric.hpp"

namespace cupel {

enum class NanPolicy : u8 { kError, kDrop };
enum class RowSplit : u8 { kAll, kTest, kCalibration };

/// Names of columns, or files that hold a column (`--label y.npy`), by role; empty: found by name.
struct ColumnRoles {
  std::string label, score, probs, logits, weight, id, embedding;
  std::vector<std::string> groups;
  std::string calibration;                           ///< a boolean column, or a fraction in (0, 1)
  std::string pred, sigma, lower, upper, threshold;  ///< of a regression task
  std::string loss, lambdas;                         ///< of a risk task
  std::string distance;          ///< of a verification task whose pairs have scores, and ...
  std::string class_a, class_b;  ///< ... the classes of both sides
};

struct EvalRequest {
  std::vector<std::string> dumps;  ///< expanded paths
  std::optional<Task> task;
  ColumnRoles roles;
  std::string metrics;         ///< as on the command line; empty: the defaults of the task
  ConformalChoices conformal;  ///< for the metrics of sets
  /// A metric is fitted, so that the rows of both halves of roles.calibration are needed whatever
  /// `split` says; evaluate() finds out from `metrics`.
  bool fits = false;
  bool draws = false;      ///< scores are randomised: rows need keys, and ids are read
  bool embedding = false;  ///< a metric takes features; evaluate() finds out from `metrics`
  /// A metric takes the scale, or the level to exceed, so that a column found by its name alone is
  /// taken; likewise.
  bool scales = false;
  bool levels = false;
  bool label_optional = false;  ///< rows without labels will do
  std::string pos_label;
  std::vector<std::string> bfloat16_columns;
  bool intersect = false;
  std::optional<std::string> unknown;  ///< a further value of group columns that means unknown
  bool by_class = false;
  bool pool = false;
  bool normalize = false;  ///< multiclass probabilities: divide each row by its sum
  /// Of a verification task, for metrics that do not say themselves. Of pairs with scores none:
  /// what the column is says.
  std::optional<PairDomain> domain;
  std::optional<bool> normalize_embedding;  ///< none: rows are normalised
  /// A metric normalises embeddings, so that rows of zeros are refused; evaluate() finds out.
  bool divides_embedding = false;
  RowSplit split = RowSplit::kAll;
  u64 seed = 0;
  NanPolicy nan = NanPolicy::kError;
  SoftmaxKind softmax = SoftmaxKind::kF64;  ///< of multiclass logits, but in rankings
  std::string backend = "auto";             ///< auto, cpu, cuda, cuda:N
  int threads = 0;                          ///< 0: all available
  i64 memory = 0;                           ///< bytes; 0: no limit given
  bool list_rows = false;                   ///< EvalReport::rows is wanted
  /// Where devices come from; null: none, as in a build without CUDA.
  const DeviceProvider* device_provider = cuda_provider();
  DeviceOptions device;
};

/// One value of one metric of one dump. The fields are those of the JSON result.
struct EvalResult {
  std::string dump;
  std::string metric;
  std::string average;  ///< empty: null
  std::optional<i64> cls;
  /// Column and value, one pair per column of an intersection; for xauc one pair with the
  /// positives' group in `second` and the negatives' group in group_against.
  std::vector<std::pair<std::string, std::string>> group;
  std::string group_against;
  double value = 0;
  Undefined undefined = Undefined::kNone;
  i64 n = 0;
  std::optional<i64> n_pos, n_neg;
  Detail::Object params;
  Detail::Object details;
};

struct EvalInput {
  std::string path;
  std::string format;
  i64 rows = 0;
  i64 bytes = 0;
  HashText hash;  ///< 32 hexadecimal digits, empty when unread
};

struct EvalFailure {
  std::string dump;
  Error error;
};

/// The test rows of one selection, in the order of a dump's rows.
struct EvalRows {
  std::string dump;              ///< the path; of a pool, that of the file
  std::string metric;            ///< with the options that it was given: "selection_fdp(q=0.05)"
  std::size_t part = 0;          ///< of a pool, which file
  std::vector<i64> rows;         ///< positions in the file, from 0
  std::vector<std::string> ids;  ///< empty: the dump has none
  std::vector<u8> selected;      ///< 0 or 1
  std::vector<double> p_values;
  std::vector<double> predictions;  ///< of the model that the row was judged by
  std::vector<u32> models;          ///< method=optcs; else empty
};

struct EvalReport {
  std::string backend, device;
  std::string fallback;  ///< empty: null
  std::vector<EvalInput> inputs;
  Detail::Object plan;
  std::vector<EvalResult> results;
  std::vector<EvalFailure> failures;
  std::vector<EvalRows> rows;  ///< with list_rows, of the selections of each dump
  std::vector<std::string> warnings;
  double read_s = 0, compute_s = 0, total_s = 0;
};

/// Called now and then from the evaluating thread.
struct EvalProgress {
  i64 dumps_done = 0, dumps = 0;
  i64 rows_done = 0;
  u64 pairs_done = 0, pairs = 0;  ///< of the current dump, in all passes that are planned so far
  std::string current;
};

/// Evaluates all dumps of a request. An Error is returned when nothing can be evaluated at all: a
/// usage error, an unusable backend, or, with one dump or with all failing, the (first) input
/// error. A dump that fails among good ones is in `failures`. Results do not depend on backend,
/// threads or the order of rows; they are ordered by dump (as given), metric (as given), group,
/// class.
Result<EvalReport> evaluate(const EvalRequest& request,
                            const std::function<void(const EvalProgress&)>& progress = {});

/// Evaluates rows that are already in memory: what a C++ program calls. `groups` are columns of
/// `table.rows` group names each. Result order as above; `dump` is empty. Errors: kUsage.
Result<std::vector<EvalResult>> evaluate_table(const TableView& table,
                                               std::span<const MetricSpec> metrics,
                                               Backend& backend, bool by_class = false);

/// One column and the role it would have.
struct InspectedColumn {
  ArrayInfo info;
  std::string role;  ///< empty: none
};
struct InspectedDump {
  std::string path, format;
  i64 bytes = 0;
  i64 rows = 0;
  std::vector<InspectedColumn> columns;
  std::string task;     ///< that eval would take; empty: none
  std::string problem;  ///< why eval would refuse; empty: it would not
};
/// What `cupel inspect` shows. Reads headers only (a text dump is read once for its types).
Result<InspectedDump> inspect(const std::string& path, const EvalRequest& request);

}  // namespace cupel
