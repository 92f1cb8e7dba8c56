// A metric is a pure function from states to a number. It says what it needs (queries of a ranking,
// sums over rows), never how to get it: no rows, no files, no devices here.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cupel/core/task.hpp"
#include "cupel/metric/abstention.hpp"
#include "cupel/metric/conformal.hpp"
#include "cupel/metric/detail.hpp"
#include "cupel/metric/fit.hpp"
#include "cupel/metric/interval.hpp"
#include "cupel/metric/options.hpp"
#include "cupel/metric/p_value.hpp"
#include "cupel/metric/risk_control.hpp"
#include "cupel/metric/selection.hpp"
#include "cupel/metric/verification.hpp"
#include "cupel/state/rank_summary.hpp"
#include "cupel/state/rank_table.hpp"
#include "cupel/state/row_sums.hpp"
#include "cupel/state/sorted_confidences.hpp"

namespace cupel {

/// Why a value does not exist. The names in results are those of undefined_name().
enum class Undefined : u8 {
  kNone,
  kEmpty,           ///< no rows
  kNoPositive,      ///< rows, but none positive
  kNoNegative,      ///< rows, but none negative
  kSingleClass,     ///< rows, but all of one class
  kZeroWeight,      ///< rows, but all weights are zero
  kNotProbability,  ///< needs probabilities: in [0, 1], sums of 1
  kNotReached,      ///< no threshold meets the condition
  kNotDefined,      ///< the metric has no such value (equity-scaled value of an unbounded metric)
  kAllUndefined,    ///< an average over nothing but undefined values
  kOverflow,        ///< a row's loss is beyond the range of the sum (2^52)
  kTooFewCalibration,  ///< no calibration rows to fit on
  kRanAway,            ///< a fit without an optimum inside its bounds
  kNotConverged,       ///< a fit that did not settle
  kTooFewClasses,      ///< fewer than two classes of two rows and more
  kNotResolved,        ///< a rate below one over the number of negatives
};
/// "no_positive" and so on; empty for kNone.
std::string_view undefined_name(Undefined reason);

/// A number, or the reason why there is none, with what else is worth knowing.
struct MetricValue {
  double number = 0;
  Undefined undefined = Undefined::kNone;
  Detail::Object details;

  bool is_defined() const { return undefined == Undefined::kNone; }
  static MetricValue of(double number) { return {number, Undefined::kNone, {}}; }
  static MetricValue none(Undefined why) { return {0, why, {}}; }
};

enum class Direction : u8 { kNone, kHigher, kLower };
std::string_view direction_name(Direction direction);

/// What `cupel metrics NAME` shows and what the engine needs to know of a metric.
struct MetricInfo {
  std::string_view name;
  std::string_view summary;     ///< one line
  std::string_view formula;     ///< plain text, with the tie rule
  std::string_view edge_cases;  ///< what is undefined, and what is not
  std::string_view equals;      ///< the call that gives this number elsewhere, or that none does
  std::string_view source;      ///< paper or definition
  std::string_view example;     ///< a command to copy
  Direction direction = Direction::kHigher;
  bool in_unit_interval = true;   ///< values lie in [0, 1]: an equity-scaled value exists
  bool takes_embedding = false;   ///< rows need features (--embedding)
  bool judged_on_others = false;  ///< kFitted: n counts the other rows, not those fitted on
  bool default_for_binary = false;
  bool default_for_multiclass = false;
  bool default_for_multilabel = false;
  bool default_for_regression = false;  ///< where the dump has the columns that it takes
  bool default_for_verification = false;
  std::vector<Task> tasks;  ///< where it applies
  std::vector<OptionSpec> options;
};

/// How a metric reads a task with several classes.
enum class MetricScope : u8 {
  kRanking,  ///< a value per binary problem (one class against the rest); averages are generic
  kRows,    ///< binary: one problem; multilabel: per label, averages generic; multiclass: one value
  kPairs,   ///< between two groups (xauc)
  kFitted,  ///< fitted on calibration rows, judged on the others; problems as kRows
  kConformal,     ///< sets by a threshold of the calibration rows, judged on the others; one value
  kSelection,     ///< rows selected, or risks controlled, by the calibration rows; one value
  kVerification,  ///< pairs of rows, or each row's nearest rows; one value
};

/// What a metric must be given.
struct Needs {
  std::vector<RankQuery> queries;  ///< kRanking, kPairs
  bool table = false;              ///< kRanking: the table itself, for curves
  RowSpec rows;                    ///< kRows; kFitted of several classes, of both halves
  /// kRows: also the sorted confidences of these points, set by set, to reduce(). Binary and
  /// multilabel: kPositive and kTop; multiclass: all but kPositive.
  std::optional<BinPoints> confidences;
  /// kRows, multiclass without weights: also the sum over all pairs of rows, with kernels of this
  /// width; 0: of the median distance.
  std::optional<double> pairs_nu;
  std::optional<ConformalQuery> conformal;    ///< kConformal: sets, or ...
  std::optional<AbstentionQuery> abstention;  ///< ... a policy that may abstain
  // Of a regression task.
  std::optional<IntervalQuery> interval;          ///< kConformal: intervals of one model
  bool interval_widths = false;                   ///< and the order of their widths
  bool errors = false;                            ///< kRows: errors of predictions of one model
  std::optional<SelectionQuery> selection;        ///< kSelection
  std::optional<RiskRule> risk;                   ///< kSelection
  std::optional<PValueQuery> p_value;             ///< kSelection
  std::optional<VerificationQuery> verification;  ///< kVerification
};

/// What all pairs of rows i < j sum up to; see math/pair_kernel.hpp.
struct PairSums {
  u64 rows = 0;
  double nu = 0;  ///< 0: there is none, because the median distance is 0 or there is no pair
  i128 sum = 0;   ///< of pair_term()
  u128 own = 0;   ///< of the pairs of a row and itself, their squared errors * 2^kBrierBits
};

/// Neighbouring values of one sorted set of confidences, from the smallest to the largest.
struct ConfidenceRange {
  double low = 0;
  double high = 0;
  u128 mass = 0;
  u128 right = 0;
  U256 confidence{};  ///< sum of mass * confidence * 2^kConfidenceBits, each rounded once
};

/// What a metric keeps of one set of sorted confidences: ranges where it joins sets, a value where
/// the set is all that it needs.
struct ReducedSet {
  u64 rows = 0;
  std::vector<ConfidenceRange> ranges;
  MetricValue value = MetricValue::none(Undefined::kEmpty);
};

/// What a fitted metric is given: the rows to fit on and the others.
struct FitEvidence {
  // Binary and multilabel: the fit is made from these.
  const RankTable* calibration = nullptr;
  const RankTable* others = nullptr;
  // Several classes: the fit, and the sums before and, where it has a value, after it.
  const TemperatureFit* temperature = nullptr;
  const RowSums* calibration_before = nullptr;
  const RowSums* calibration_after = nullptr;
  const RowSums* others_before = nullptr;
  const RowSums* others_after = nullptr;
};

/// Errors of the rows of a scope.
struct ErrorEvidence {
  const ErrorSums* sums = nullptr;
  bool weighted = false;
};

/// What a metric is given: exactly what it asked for.
struct Evidence {
  Task task = Task::kBinary;
  i64 classes = 2;
  bool logits = false;
  double probability_epsilon = 0;      ///< machine epsilon of the score column's dtype
  const RankSummary* ranks = nullptr;  ///< answers in the order of needs().queries
  const RankTable* table = nullptr;
  const RowSums* rows = nullptr;      ///< of the merged spec of all metrics ...
  const RowSpec* row_spec = nullptr;  ///< ... which is this
  FitEvidence fit;                    ///< kFitted
  bool outside_unit = false;  ///< some score is outside [0, 1], or row sum not 1; never of logits
  /// What reduce() gave: of each set where needs().confidences has sets by class, else of one.
  std::span<const ReducedSet> sets;
  const PairSums* pairs = nullptr;                     ///< where needs().pairs_nu asks for them
  ConformalEvidence conformal;                         ///< kConformal
  AbstentionEvidence abstention;                       ///< where needs().abstention asks for it
  const IntervalEvidence* interval = nullptr;          ///< where needs().interval asks
  ErrorEvidence errors;                                ///< where needs().errors asks
  SelectionEvidence selection;                         ///< kSelection
  RiskEvidence risk;                                   ///< kSelection
  PValueEvidence p_value;                              ///< kSelection
  const VerificationEvidence* verification = nullptr;  ///< of a verification task
};

class Metric {
 public:
  virtual ~Metric() = default;
  virtual const MetricInfo& info() const = 0;
  virtual MetricScope scope() const = 0;
  /// May refuse a combination of options (kUsage). `classes` as in TableView.
  virtual Result<Needs> needs(const Options& options, Task task, i64 classes,
                              bool logits) const = 0;
  /// Takes from one set of sorted confidences what finish() needs; the set is gone afterwards. Only
  /// asked where needs().confidences is set, and for confidences in [0, 1]. Pure.
  virtual ReducedSet reduce(const SortedConfidences& set, const Options& options) const;
  /// Pure; with reduce() the only place with floating point. Same evidence, same bits.
  virtual MetricValue finish(const Evidence& evidence, const Options& options) const = 0;
  /// Every option that took effect, for the result's `params`; what follows from the data too.
  virtual Detail::Object params(const Options& options, const Evidence& evidence) const;
};

/// A metric with its options: what the user asked for.
struct MetricSpec {
  const Metric* metric = nullptr;
  bool equity_scaled = false;  ///< asked for as es_<name>
  std::string name;            ///< as in results: "auroc", "es_auroc"
  Options options;
  bool is_default =
      false;  ///< not asked for by name: undefined instead of an error where it cannot be
};

/// All metrics, in the order in which they are listed. The only list to extend.
std::span<const Metric* const> all_metrics();
/// By name; kUsage error with the nearest name.
Result<const Metric*> find_metric(std::string_view name);
/// Parses "auroc,auprc(method=trapezoid),es_auroc". Errors: kUsage, with "did you mean".
Result<std::vector<MetricSpec>> parse_metrics(std::string_view text);
/// The same metrics, those of sets in every combination of `choices` but for the options that each
/// was given itself; without metrics, `coverage` and `set_size`, or, of a regression task or where
/// only scores of one are chosen, `coverage` and `interval_width`. Errors (kUsage): those of the
/// options; choices without a metric that takes them.
Result<std::vector<MetricSpec>> with_conformal(std::vector<MetricSpec> metrics,
                                               const ConformalChoices& choices,
                                               std::optional<Task> task = std::nullopt);
/// The default metrics of a task.
std::vector<MetricSpec> default_metrics(Task task);
/// The options that every metric of a scope has besides its own (`average`).
std::vector<OptionSpec> effective_options(const Metric& metric);

/// The name nearest to `word` among `names` by edit distance, if near enough to be a slip.
std::optional<std::string> nearest_name(std::string_view word, std::span<const std::string> names);

}  // namespace cupel
