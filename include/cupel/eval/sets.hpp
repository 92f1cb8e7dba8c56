// The sets of split conformal prediction themselves, for every row that is not for calibration:
// what `cupel sets` writes. Rows are read in blocks and their sets given away at once, so that
// memory does not grow with the rows whose sets are made: 8 bytes a calibration row (32 in modes
// other than marginal), some 16 MiB of scores at a time and what their sets take. (Columns of CSV
// and of deflated npz are in memory as a whole; those of npy and stored npz are mapped.)
//
// A set holds the labels whose score is at most qhat, which is taken from all calibration rows, as
// the metrics `coverage` and `set_size` have it (math/conformal.hpp, metric/conformal.hpp).
// References: Vovk, Gammerman and Shafer 2005; the scores name theirs.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cupel/eval/evaluate.hpp"

namespace cupel {

/// A p-value says how well a label fits: (#{s_i >= s} + 1) / (n + 1) of the scores s_i of n
/// calibration rows (kPlain), or (#{s_i > s} + u (#{s_i = s} + 1)) / (n + 1), u being drawn for
/// each row and label (kSmoothed). A label is in the set of the quantile `exact` where its plain
/// p-value is above alpha.
enum class PValues : u8 { kNone, kPlain, kSmoothed };

struct SetsRequest {
  /// Which dumps and columns, pos_label, seed, nan, normalize, pool, backend and threads. Its
  /// roles.calibration is a fraction, a column, or a file: another dump with the same columns,
  /// whose rows all are for calibration; then the dumps need no labels. Metrics are not looked at,
  /// groups and weights only with the modes of their names.
  EvalRequest rows;
  std::string conformal = "lac";              ///< a score, with its options in parentheses
  std::vector<std::string> alphas = {"0.1"};  ///< shares of labels that may be missed
  std::string quantile;                       ///< empty: exact
  std::string empty;                          ///< empty: keep
  PValues p_values = PValues::kNone;
  bool all_p_values = false;  ///< of every label of a row, not only of those in its set
};

/// The sets of one alpha, and what they sum up to.
struct SetsLevel {
  std::string alpha;        ///< as given
  Detail::Object params;    ///< every option that took effect
  double qhat = 0;          ///< mode=marginal; infinite where qhat_reason says why
  std::string qhat_reason;  ///< too_few_calibration, or empty
  i64 rank = 0;             ///< of qhat among the calibration scores, from 1; 0: none
  /// Of other modes: [label] of class and cluster, [combination] of group; of weighted none, each
  /// row has its own.
  std::vector<double> qhats;
  u64 labels = 0;          ///< sum of the sizes
  u64 covered = 0;         ///< rows whose set holds their label
  std::vector<u64> sizes;  ///< [size] rows with a set of 0 ... classes labels
};

/// The sets of one dump (or of all, pooled).
struct SetsResult {
  std::string dump;
  Task task = Task::kBinary;
  i64 classes = 2;
  bool labelled = false;    ///< the rows have labels, so that covered ones are counted
  std::string calibration;  ///< the fraction, column or file, as given
  ConformalMode mode = ConformalMode::kMarginal;
  /// mode=group: [combination] {column: value} of those with calibration rows, null where unknown;
  /// ascending by value, bytewise, null first.
  Detail::List groups;
  i64 calibration_rows = 0;
  i64 rows = 0;               ///< with a set
  i64 unseen_group_rows = 0;  ///< mode=group: of these, in groups without a calibration row
  PValues p_values = PValues::kNone;
  bool all_p_values = false;
  u64 seed = 0;
  std::vector<SetsLevel> levels;  ///< [alpha], equal ones once
  std::vector<EvalInput> inputs;  ///< what was read, the calibration file too
};

/// The sets of some rows.
struct SetsBlock {
  struct Level {
    std::span<const u32> sizes;        ///< [row]
    std::span<const u16> labels;       ///< set after set, ascending in each
    std::span<const double> p_values;  ///< of these labels, where asked for
  };
  std::span<const i64> rows;         ///< position of each in its dump, or in the pool; ascending
  std::vector<Level> levels;         ///< as in SetsResult
  std::span<const double> p_values;  ///< [row, class], with all_p_values
};

/// Takes the sets of one dump. What is given out is whole only once end() has returned without an
/// error: damage of a file may be found last.
class SetsSink {
 public:
  virtual ~SetsSink() = default;
  /// Everything but the inputs, `rows` and the sums is known.
  virtual Result<void> begin(const SetsResult& result) = 0;
  virtual Result<void> block(const SetsBlock& block) = 0;
  virtual Result<void> end(const SetsResult& result) = 0;
};
/// Makes the sink of a dump, given its path (of a pool, that of the first).
using SetsSinkOf = std::function<Result<std::unique_ptr<SetsSink>>(const std::string& dump)>;

struct SetsReport {
  std::string backend, device;
  std::string fallback;  ///< empty: null
  std::vector<SetsResult> results;
  std::vector<EvalFailure> failures;
  std::vector<std::string> warnings;
  double total_s = 0;
};

/// Checks what can be checked of a request before a file is opened. Errors: kUsage.
Result<void> check_sets_request(const SetsRequest& request);

/// Makes the sets of all dumps of a request. The same for any backend, number of threads, size of
/// blocks and order of dumps. Of several dumps those that fail (kInput, kUsage: options that do not
/// fit a dump) are in `failures`, also where that is all of them; the error of a single one, or of
/// a pool, is returned. Rows are drawn and randomised by id, else by position; those of a
/// calibration file count from 2^62. Errors: as of evaluate(); kInput also where scores are no
/// probabilities (outside [0, 1], rows that do not sum to 1) or where there is no calibration row;
/// whatever a sink gives. Cost: the rows for calibration are read twice, the others once or, where
/// both are in one dump, twice.
Result<SetsReport> make_sets(const SetsRequest& request, const SetsSinkOf& sink_of,
                             const std::function<void(const EvalProgress&)>& progress = {});

}  // namespace cupel
