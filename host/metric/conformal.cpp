// Sets of split conformal prediction: how often they hold the label, and how large they are.
#include "cupel/metric/conformal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/math/special_functions/beta.hpp>
#include <limits>
#include <utility>

#include "metric/exact.hpp"
#include "metric/list.hpp"

namespace cupel {
namespace {

/// Sizes that the details list at most.
constexpr std::size_t kMostShownSizes = 200;

constexpr std::pair<std::string_view, ConformalScore> kScores[]{
    {"lac", ConformalScore::kLac},   {"aps", ConformalScore::kAps},
    {"raps", ConformalScore::kRaps}, {"saps", ConformalScore::kSaps},
    {"topk", ConformalScore::kTopK}, {"margin", ConformalScore::kMargin}};
constexpr std::pair<std::string_view, QuantileRule> kQuantiles[]{
    {"exact", QuantileRule::kExact},        {"numpy_higher", QuantileRule::kNumpyHigher},
    {"mapie_cls", QuantileRule::kMapieCls}, {"mapie_reg", QuantileRule::kMapieReg},
    {"puncc", QuantileRule::kPuncc},        {"crepes", QuantileRule::kCrepes}};
constexpr std::string_view kEmptySets[]{"keep", "argmax"};

template <class Named>
std::vector<std::string_view> names_of(const Named& named) {
  std::vector<std::string_view> names;
  for (const auto& [name, value] : named) names.push_back(name);
  return names;
}

template <class Named>
auto value_named(const Named& named, std::string_view name) {
  for (const auto& [known, value] : named) {
    if (known == name) return value;
  }
  return named[0].second;
}

// ---- options ------------------------------------------------------------------------------------

constexpr std::string_view kRapsLambda = "0.01";
constexpr std::string_view kSapsLambda = "0.2";
constexpr i64 kRapsRank = 5;

std::vector<OptionSpec> set_options() {
  return {{"conformal", OptionType::kChoice, "lac", names_of(kScores), 0, 0,
           "score of a label: its set holds the labels with a score up to qhat"},
          {"alpha",
           OptionType::kNumber,
           "0.1",
           {},
           0,
           1,
           "share of labels that may be missed, an exact decimal",
           true},
          {"quantile", OptionType::kChoice, "exact", names_of(kQuantiles), 0, 0,
           "which calibration score is qhat: the textbook's, or a library's"},
          {"empty",
           OptionType::kChoice,
           "keep",
           {kEmptySets[0], kEmptySets[1]},
           0,
           0,
           "an empty set stays one, or holds the most probable label"},
          {"lambda",
           OptionType::kNumber,
           "",
           {},
           0,
           1000,
           "raps (0.01), saps (0.2): penalty of a rank"},
          {"k_reg", OptionType::kInteger, "", {}, 0, 65535, "raps (5): ranks without a penalty"}};
}

ConformalScore score_of(const Options& options) {
  return value_named(kScores, options.text("conformal"));
}

bool has_penalty(ConformalScore score) {
  return score == ConformalScore::kRaps || score == ConformalScore::kSaps;
}

Fraction lambda_of(const Options& options) {
  if (options.has("lambda")) return options.fraction("lambda");
  const auto usual =
      parse_decimal(score_of(options) == ConformalScore::kRaps ? kRapsLambda : kSapsLambda);
  return usual.ok() ? *usual : Fraction{};
}

i64 free_ranks(const Options& options) {
  return options.has("k_reg") ? options.integer("k_reg") : kRapsRank;
}

Result<ConformalQuery> query_of(std::string_view metric, const Options& options, i64 classes) {
  const ConformalScore score = score_of(options);
  const auto refuse = [&](std::string_view option, std::string_view takes) {
    return usage_error(
        fmt::format("conformal={} of '{}' has no {}", options.text("conformal"), metric, option),
        fmt::format("{} is an option of {}", option, takes));
  };
  if (options.has("lambda") && !has_penalty(score)) return refuse("lambda", "raps and saps");
  if (options.has("k_reg") && score != ConformalScore::kRaps) return refuse("k_reg", "raps");
  ConformalQuery query;
  query.rule.score = score;
  if (has_penalty(score)) {
    const Fraction lambda = lambda_of(options);
    if (static_cast<u128>(lambda.num) * static_cast<u128>(std::max<i64>(1, classes)) >
        static_cast<u128>(lambda.den) * static_cast<u128>(kMostPenalty)) {
      return usage_error(
          fmt::format("lambda={} of '{}' is too large for {} classes", options.text("lambda"),
                      metric, classes),
          fmt::format("lambda times the classes has to be at most {}", kMostPenalty));
    }
    // To the nearest 2^-48, once.
    const u128 twice = (static_cast<u128>(lambda.num) << (kConformalBits + 1)) / lambda.den;
    query.rule.lambda = static_cast<i64>((twice + 1) / 2);
  }
  if (score == ConformalScore::kRaps) query.rule.k_reg = free_ranks(options);
  query.alpha = options.fraction("alpha");
  query.quantile = value_named(kQuantiles, options.text("quantile"));
  query.argmax_if_empty = options.text("empty") == kEmptySets[1];
  return query;
}

// ---- what a value comes with --------------------------------------------------------------------

/// The quantile of Beta(a, b).
double beta_quantile(double a, double b, double p) { return boost::math::ibeta_inv(a, b, p); }

/// What the coverage of future rows follows when scores are distinct and rows exchangeable: the law
/// of the rank-th of n uniform numbers.
Detail beta_law(const ConformalThreshold& threshold) {
  if (threshold.rank == 0) return {};  // every label: coverage 1
  const auto rank = static_cast<double>(threshold.rank);
  const auto rest = static_cast<double>(threshold.calibration_rows + 1 - threshold.rank);
  return Detail::Object{{"mean", exact::ratio(static_cast<u128>(threshold.rank),
                                              static_cast<u128>(threshold.calibration_rows) + 1)},
                        {"q05", beta_quantile(rank, rest, 0.05)},
                        {"q95", beta_quantile(rank, rest, 0.95)}};
}

/// Clopper and Pearson's 95 % interval of a share.
Detail exact_interval(u64 hits, u64 rows) {
  const auto a = static_cast<double>(hits);
  const auto b = static_cast<double>(rows - hits);
  return Detail::List{hits == 0 ? 0.0 : beta_quantile(a, b + 1, 0.025),
                      hits == rows ? 1.0 : beta_quantile(a + 1, b, 0.975)};
}

/// The size of the rank-th smallest set, from 1.
u64 size_of_rank(const SetSums& sums, u64 rank) {
  u64 size = 0;
  for (u64 seen = 0; (seen += sums.sizes[size]) < rank;) ++size;
  return size;
}

double median_size(const SetSums& sums) {
  const u64 low = size_of_rank(sums, (sums.rows + 1) / 2);
  const u64 high = size_of_rank(sums, sums.rows / 2 + 1);
  return (static_cast<double>(low) + static_cast<double>(high)) / 2;
}

void describe_sizes(const SetSums& sums, Detail::Object& details) {
  details.emplace_back("median_size", median_size(sums));
  details.emplace_back("empty_sets", sums.sizes[0]);
  details.emplace_back("singletons", sums.sizes[1]);
  Detail::List sizes;
  u64 beyond = 0;
  for (std::size_t size = 0; size < sums.sizes.size(); ++size) {
    if (sums.sizes[size] == 0) continue;
    if (sizes.size() == kMostShownSizes) {
      beyond += sums.sizes[size];
      continue;
    }
    sizes.emplace_back(Detail::Object{{"size", static_cast<i64>(size)}, {"n", sums.sizes[size]}});
  }
  details.emplace_back("sizes", std::move(sizes));
  if (beyond != 0) details.emplace_back("larger_sets", beyond);
}

Detail::Object describe_threshold(const ConformalThreshold& threshold, const Options& options) {
  Detail::Object details;
  if (threshold.rank == 0) {
    details = {{"qhat", std::numeric_limits<double>::infinity()},
               {"qhat_reason", std::string(undefined_name(Undefined::kTooFewCalibration))}};
  } else {
    const double unit = score_of(options) == ConformalScore::kTopK ? 1 : 0x1p-48;
    details = {{"qhat", static_cast<double>(threshold.score) * unit}};
  }
  details.emplace_back("rank", threshold.rank == 0 ? Detail() : Detail(threshold.rank));
  details.emplace_back("n_calibration", threshold.calibration_rows);
  return details;
}

// ---- metrics ------------------------------------------------------------------------------------

class SetMetric : public Metric {
 public:
  MetricScope scope() const override { return MetricScope::kConformal; }
  Result<Needs> needs(const Options& options, Task, i64 classes, bool) const override {
    auto query = query_of(info().name, options, classes);
    if (!query) return query.error();
    Needs needs;
    needs.conformal = *query;
    return needs;
  }
  Detail::Object params(const Options& options, const Evidence&) const override {
    Detail::Object params = options.params();
    const ConformalScore score = score_of(options);
    if (has_penalty(score) && !options.has("lambda")) {
      params.emplace_back("lambda", exact::to_double(exact::rational(lambda_of(options))));
    }
    if (score == ConformalScore::kRaps && !options.has("k_reg")) {
      params.emplace_back("k_reg", kRapsRank);
    }
    return params;
  }
  MetricValue finish(const Evidence& evidence, const Options& options) const override {
    const ConformalEvidence& given = evidence.conformal;
    if (given.threshold == nullptr) return MetricValue::none(Undefined::kTooFewCalibration);
    const ConformalThreshold& threshold = *given.threshold;
    const SetSums& sums = *given.sums;
    if (evidence.outside_unit) return MetricValue::none(Undefined::kNotProbability);
    if (given.weighted) return MetricValue::none(Undefined::kNotDefined);
    MetricValue value;
    if (threshold.calibration_rows == 0) {
      value.undefined = Undefined::kTooFewCalibration;
      value.details = {{"n_calibration", i64{0}}};
      return value;
    }
    value.details = describe_threshold(threshold, options);
    if (sums.rows == 0) {
      value.undefined = Undefined::kEmpty;
      return value;
    }
    describe(threshold, sums, options, value);
    return value;
  }

 protected:
  /// The number of one or more rows, and what else is to be told.
  virtual void describe(const ConformalThreshold& threshold, const SetSums& sums,
                        const Options& options, MetricValue& value) const = 0;
};

class Coverage final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "coverage",
        .summary = "share of rows whose conformal set holds their label",
        .formula =
            "qhat is the k-th smallest score of the labels of the calibration rows, k = ceil((n + "
            "1)(1 - alpha)) in exact integers; the set of a row holds the labels with score <= "
            "qhat; the value is the share of the other rows whose label is in theirs, whatever "
            "--split says. With r the rank of a label (larger probabilities first, equal ones by "
            "class index), not randomised: lac 1 - p; aps the sum of p up to and including r; raps "
            "aps + lambda max(0, r - k_reg); saps largest p + lambda (r - 1); topk r; margin "
            "largest p of the other labels - p. Probabilities are rounded once, to 2^-48; binary "
            "rows have the two classes 1 - p and p. quantile= takes another order statistic: "
            "numpy_higher k + 1 (n for k = n), mapie_cls, mapie_reg, puncc, crepes. details: qhat, "
            "its rank, Clopper and Pearson's 95 % interval of the value, and mean, 5 and 95 % "
            "quantiles of Beta(k, n + 1 - k), which the coverage of future rows follows where "
            "scores are distinct",
        .edge_cases =
            "k > n: qhat is inf and every set holds all labels, details.qhat_reason says "
            "too_few_calibration; no calibration rows: the value is undefined, "
            "too_few_calibration; "
            "no other rows: empty; probabilities outside [0, 1] or rows that do not sum to 1: "
            "not_probability; weighted rows: not_defined. A group's rows are judged by the qhat of "
            "all calibration rows. Without --calibration: an error",
        .equals =
            "torchcp's SplitPredictor with randomized=False (k-th score); the tutorial's "
            "numpy.quantile(scores, k / n, method='higher') is quantile=numpy_higher",
        .source = "Vovk et al. 2005; Angelopoulos and Bates 2021",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics coverage "
            "--conformal lac,aps --alpha 0.1,0.05",
        .direction = Direction::kNone,
        .in_unit_interval = true,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = set_options()};
    return kInfo;
  }

 protected:
  void describe(const ConformalThreshold& threshold, const SetSums& sums, const Options& options,
                MetricValue& value) const override {
    value.number = exact::ratio(sums.covered, sums.rows);
    const Fraction alpha = options.fraction("alpha");
    value.details.emplace_back("target", exact::ratio(alpha.den - alpha.num, alpha.den));
    value.details.emplace_back("covered", sums.covered);
    value.details.emplace_back("interval", exact_interval(sums.covered, sums.rows));
    value.details.emplace_back("beta_law", beta_law(threshold));
  }
};

class SetSize final : public SetMetric {
 public:
  const MetricInfo& info() const override {
    static const MetricInfo kInfo{
        .name = "set_size",
        .summary = "mean size of the conformal sets",
        .formula =
            "the mean number of labels in the sets of 'coverage', which tells what the options "
            "mean, over the rows that are not for calibration. details: qhat and its rank, median "
            "size, how many sets are empty and how many hold one label, and how many have each "
            "size",
        .edge_cases =
            "as coverage. empty=argmax puts the most probable label into a set that would be "
            "empty",
        .equals = "torchcp's average_size; the mean of MAPIE's y_pis.sum(axis=1)",
        .source = "Vovk et al. 2005; Sadinle, Lei, Wasserman 2019",
        .example =
            "cupel eval data/digits_logits_f16.npz --calibration 0.5 --metrics "
            "'set_size(conformal=raps,alpha=0.05,lambda=0.1,k_reg=1)'",
        .direction = Direction::kLower,
        .in_unit_interval = false,
        .tasks = {Task::kBinary, Task::kMulticlass},
        .options = set_options()};
    return kInfo;
  }

 protected:
  void describe(const ConformalThreshold&, const SetSums& sums, const Options&,
                MetricValue& value) const override {
    value.number = exact::ratio(sums.labels, sums.rows);
    describe_sizes(sums, value.details);
  }
};

}  // namespace

i64 quantile_rank(QuantileRule rule, i64 n, Fraction alpha) {
  CUPEL_ASSERT(n >= 0 && alpha.num > 0 && alpha.num < alpha.den);
  const exact::Integer num(alpha.num);
  const exact::Integer den(alpha.den);
  const exact::Integer rows(n);
  const auto k = n + 1 - static_cast<i64>((rows + 1) * num / den);
  const i64 known = k > n ? 0 : k;
  // MAPIE raises unless n reaches 1 / alpha and 1 / (1 - alpha).
  const bool too_few = rows * std::min(alpha.num, alpha.den - alpha.num) < den;
  switch (rule) {
    case QuantileRule::kExact:
    case QuantileRule::kPuncc:
      return known;
    case QuantileRule::kNumpyHigher:
      return known == 0 || known == n ? known : known + 1;
    case QuantileRule::kMapieCls: {
      if (too_few) return 0;
      // Position (n + 1)(1 - alpha)(n - 1) / n from 0, rounded up.
      const exact::Integer above = (rows + 1) * (den - num) * (rows - 1);
      const exact::Integer below = den * rows;
      return static_cast<i64>((above + below - 1) / below) + 1;
    }
    case QuantileRule::kMapieReg:
      return too_few ? 0 : known;
    case QuantileRule::kCrepes: {
      const double confidence = exact::ratio(alpha.den - alpha.num, alpha.den);
      const auto from_largest =
          static_cast<i64>((1.0 - confidence) * (static_cast<double>(n) + 1.0));
      return from_largest == 0 ? 0 : n + 1 - from_largest;
    }
  }
  return known;
}

Result<std::vector<MetricSpec>> with_conformal(std::vector<MetricSpec> metrics,
                                               const ConformalChoices& choices) {
  if (!choices.any()) return metrics;
  const auto check = [](std::string_view option, const std::string& word,
                        const std::vector<std::string_view>& known) -> Result<void> {
    if (std::find(known.begin(), known.end(), word) != known.end()) return {};
    const auto near = nearest_name(word, std::vector<std::string>(known.begin(), known.end()));
    return usage_error(near
                           ? fmt::format("unknown {} '{}', did you mean '{}'?", option, word, *near)
                           : fmt::format("unknown {} '{}'", option, word),
                       near ? "" : fmt::format("one of {}", fmt::join(known, ", ")));
  };
  for (const std::string& score : choices.scores) {
    if (auto fine = check("--conformal", score, names_of(kScores)); !fine) return fine.error();
  }
  if (!choices.quantile.empty()) {
    if (auto fine = check("--quantile", choices.quantile, names_of(kQuantiles)); !fine) {
      return fine.error();
    }
  }
  if (!choices.empty.empty()) {
    if (auto fine = check("--empty", choices.empty, {kEmptySets[0], kEmptySets[1]}); !fine) {
      return fine.error();
    }
  }
  for (const std::string& alpha : choices.alphas) {
    const auto parsed = parse_decimal(alpha);
    if (!parsed || parsed->num == 0 || parsed->num >= parsed->den) {
      return usage_error(fmt::format("--alpha '{}' is not a decimal between 0 and 1", alpha),
                         "give the share of labels that may be missed, such as 0.1");
    }
  }
  if (metrics.empty()) {
    auto both = parse_metrics("coverage,set_size");
    if (!both) return both.error();
    metrics = std::move(*both);
  }
  const auto makes_sets = [](const MetricSpec& spec) {
    return spec.metric->scope() == MetricScope::kConformal;
  };
  if (std::none_of(metrics.begin(), metrics.end(), makes_sets)) {
    return usage_error("--conformal, --alpha, --quantile and --empty are for metrics of sets",
                       "add coverage or set_size to --metrics");
  }
  std::vector<MetricSpec> chosen;
  for (MetricSpec& spec : metrics) {
    if (!makes_sets(spec)) {
      chosen.push_back(std::move(spec));
      continue;
    }
    std::string own;  // what the metric was given itself
    const auto add = [&](std::string_view name, std::string_view value, std::string& text) {
      if (!value.empty()) text += fmt::format("{}{}={}", text.empty() ? "" : ",", name, value);
    };
    for (const std::string_view name :
         {"conformal", "alpha", "quantile", "empty", "lambda", "k_reg", "form"}) {
      if (spec.options.given(name)) add(name, spec.options.text(name), own);
    }
    const auto missing = [&](std::string_view name, const std::vector<std::string>& values) {
      return spec.options.given(name) || values.empty() ? std::vector<std::string>(1) : values;
    };
    if (!spec.options.given("quantile")) add("quantile", choices.quantile, own);
    if (!spec.options.given("empty")) add("empty", choices.empty, own);
    for (const std::string& score : missing("conformal", choices.scores)) {
      for (const std::string& alpha : missing("alpha", choices.alphas)) {
        std::string text = own;
        add("conformal", score, text);
        add("alpha", alpha, text);
        auto one = parse_metrics(fmt::format("{}({})", spec.name, text));
        if (!one) return one.error();
        const auto same = [&](const MetricSpec& other) {
          return other.name == spec.name && other.options == one->front().options;
        };
        if (std::none_of(chosen.begin(), chosen.end(), same)) {
          chosen.push_back(std::move(one->front()));
        }
      }
    }
  }
  return chosen;
}

const Metric& coverage() {
  static const Coverage kMetric;
  return kMetric;
}
const Metric& set_size() {
  static const SetSize kMetric;
  return kMetric;
}

}  // namespace cupel
