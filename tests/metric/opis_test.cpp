// OPIS and what goes with it: example G of METRICS 2.3, a plain count and integration over random
// pairs, and where there is no value.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <numbers>
#include <random>

#include "metric/list.hpp"
#include "metric/utility_curves.hpp"
#include "support/plain_curves.hpp"

namespace cupel {
namespace {

/// 2-D unit vectors at 0 and 20, 60 and 100, 180 and 190 degrees: three classes. 60 degrees are at
/// distance 1 exactly.
plain::Pairs example_g() {
  const std::vector<double> degrees{0, 20, 60, 100, 180, 190};
  plain::Pairs all;
  all.classes = 3;
  for (u32 i = 0; i < 6; ++i) {
    for (u32 j = i + 1; j < 6; ++j) {
      const double between = degrees[j] - degrees[i];
      const double distance = between == 60 ? 1 : 2 * std::sin(between * std::numbers::pi / 360);
      all.pairs.push_back({distance, i / 2, j / 2});
    }
  }
  return all;
}
/// With distances as engines have them.
plain::Pairs in_floats(plain::Pairs pairs) {
  for (plain::Pair& pair : pairs.pairs) pair.value = static_cast<float>(pair.value);
  return pairs;
}

ExactCurves swept(const plain::Pairs& pairs, const CurveQuery& query, double first, double last) {
  ExactSweep sweep(query, plain::start_of(pairs, first, last));
  const std::vector<PairEvent> events = plain::events_of(pairs, first, last);
  do {
    sweep.take(events);
  } while (sweep.again());
  return sweep.finish();
}

/// Evidence that owns what it shows.
struct Shown {
  std::vector<std::string> names;
  std::vector<u64> rows;
  ClassCurves curves;
  ExactCurves exact;
  VerificationEvidence evidence;

  explicit Shown(const plain::Pairs& pairs, std::vector<double> thresholds) {
    for (u32 cls = 0; cls < pairs.classes; ++cls) {
      names.push_back(std::string("class ") + static_cast<char>('a' + cls % 26));
      rows.push_back(2);
    }
    evidence.first = thresholds.front();
    evidence.last = thresholds.back();
    curves = plain::curves_of(pairs, std::move(thresholds));
    evidence.domain = pairs.domain;
    evidence.rows = 2 * pairs.classes;
    for (const plain::Pair& pair : pairs.pairs) ++(pair.a == pair.b ? evidence.pos : evidence.neg);
    evidence.class_names = names;
    evidence.class_rows = rows;
    evidence.curves = &curves;
  }
  Shown(const Shown&) = delete;
  Shown& operator=(const Shown&) = delete;

  MetricValue value(const std::string& text) const {
    const auto specs = parse_metrics(text);
    EXPECT_TRUE(specs.ok()) << specs.error().text();
    Evidence all;
    all.task = Task::kVerification;
    all.verification = &evidence;
    return (*specs)[0].metric->finish(all, (*specs)[0].options);
  }
};

const Detail* find(const Detail::Object& object, std::string_view name) {
  for (const auto& [key, held] : object) {
    if (key == name) return &held;
  }
  return nullptr;
}
double number(const Detail::Object& object, std::string_view name) {
  const Detail* held = find(object, name);
  EXPECT_NE(held, nullptr) << name;
  if (held == nullptr) return -1;
  if (const auto* real = std::get_if<double>(&held->held())) return *real;
  return static_cast<double>(std::get<i64>(held->held()));
}
const Detail::Object& entry(const Detail::Object& object, std::string_view list, std::size_t i) {
  return std::get<Detail::Object>(std::get<Detail::List>(find(object, list)->held()).at(i).held());
}

Result<Needs> needs_of(const std::string& text) {
  const auto specs = parse_metrics(text);
  EXPECT_TRUE(specs.ok()) << text;
  return (*specs)[0].metric->needs((*specs)[0].options, Task::kVerification, 2, false);
}

// ---- example G ----------------------------------------------------------------------------------

// Would catch a utility of other shares, and a pair on a threshold that is not accepted.
TEST(Opis, UtilitiesOfTheExample) {
  const ClassCurves curves = plain::curves_of(example_g(), plain::grid(0.4, 1.6, 5));
  const std::vector<std::vector<double>> expected{{1, 14. / 15, 6. / 7, 10. / 13, 2. / 3},
                                                  {0, 14. / 15, 6. / 7, 2. / 3, 0.4},
                                                  {1, 1, 1, 14. / 15, 6. / 7}};
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t k = 0; k < 5; ++k) {
      EXPECT_DOUBLE_EQ(utility(1, curves.pos[i * 5 + k], curves.all_pos[i], curves.neg[i * 5 + k],
                               curves.all_neg[i]),
                       expected[i][k]);
    }
  }
}

TEST(Opis, GridsOfTheExample) {
  const Shown five(example_g(), plain::grid(0.4, 1.6, 5));
  EXPECT_NEAR(five.value("opis(n_thresholds=5)").number, 0.0549919390, 1e-10);
  EXPECT_NEAR(five.value("opis(n_thresholds=5,rule=trapezoid)").number, 0.0365680921, 1e-10);
  const Shown many(example_g(), plain::grid(0.4, 1.6, 101));
  // In rationals (0.05924382326); METRICS has 0.0592438239, which its trapezoid rule contradicts.
  EXPECT_NEAR(many.value("opis").number, 0.0592438233, 1e-10);
  EXPECT_NEAR(many.value("opis(rule=trapezoid)").number, 0.0585493882, 1e-10);
  // The best is the third class, the worst the second (at 0.7 and 1.0 beside the first).
  const double square = (1 + 1. / 225 + 1. / 49 + 16. / 225 + 256. / 1225) / 5;
  const double absolute = (1 + 1. / 15 + 1. / 7 + 4. / 15 + 16. / 35) / 5;
  EXPECT_NEAR(five.value("eps_opis").number, square, 1e-15);
  EXPECT_NEAR(five.value("eps_opis(power=1)").number, absolute, 1e-15);
  EXPECT_NEAR(five.value("eps_opis(power=1,rank=range)").number, absolute, 1e-15);
  EXPECT_EQ(five.value("eps_opis(epsilon=1)").number, 0);  // the best and the worst are all
}

TEST(Opis, DetailsOfTheExample) {
  const Shown five(example_g(), plain::grid(0.4, 1.6, 5));
  const Detail::Object details = five.value("opis(d_range=0.4:1.6,n_thresholds=5)").details;
  EXPECT_EQ(number(details, "classes"), 3);
  EXPECT_EQ(number(details, "classes_left_out"), 0);
  EXPECT_EQ(number(details, "d_min"), 0.4);
  EXPECT_EQ(number(details, "d_max"), 1.6);
  // The means of the utilities' rows and columns, by hand.
  const double second = (0 + 14. / 15 + 6. / 7 + 2. / 3 + 0.4) / 5;
  EXPECT_NEAR(number(entry(details, "worst_classes", 0), "mean_utility"), second, 1e-15);
  EXPECT_EQ(*find(entry(details, "worst_classes", 0), "class"), Detail("class b"));
  EXPECT_EQ(number(entry(details, "worst_classes", 0), "worst_utility"), 0);
  EXPECT_EQ(number(entry(details, "worst_classes", 0), "worst_threshold"), 0.4);
  EXPECT_NEAR(number(entry(details, "curve", 3), "mean_utility"),
              (10. / 13 + 2. / 3 + 14. / 15) / 3, 1e-15);
  EXPECT_NEAR(number(entry(details, "curve", 3), "threshold"), 1.3, 1e-15);
  double sum = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    sum += number(entry(details, "worst_classes", i), "contribution");
  }
  EXPECT_NEAR(sum, 0.0549919390, 1e-10);
}

TEST(Opis, ExactIntegralsOfTheExample) {
  const plain::Pairs pairs = in_floats(example_g());
  CurveQuery query;
  query.rule = IntegrationRule::kExact;
  query.extremes = true;
  const ExactCurves squared = swept(pairs, query, 0.4, 1.6);
  EXPECT_NEAR(squared.opis, 0.0589130228, 2e-8);  // of distances in float32
  EXPECT_NEAR(squared.extremes, 0.2717198426, 2e-8);
  query.power = 1;
  EXPECT_NEAR(swept(pairs, query, 0.4, 1.6).extremes, 0.3733247724, 2e-8);
  query.epsilon = {1, 1};  // the best and the worst are all
  EXPECT_EQ(swept(pairs, query, 0.4, 1.6).extremes, 0);

  // As the metric tells it: with the curve of a grid, and without.
  Shown shown(pairs, plain::grid(0.4, 1.6, 5));
  shown.exact = squared;
  shown.evidence.exact = &shown.exact;
  const MetricValue value = shown.value("opis(rule=exact,d_range=0.4:1.6)");
  EXPECT_EQ(value.number, squared.opis);
  EXPECT_EQ(shown.value("eps_opis(rule=exact)").number, squared.extremes);
  EXPECT_NE(find(value.details, "curve"), nullptr);
  shown.curves.thresholds.clear();
  EXPECT_EQ(find(shown.value("opis(rule=exact)").details, "curve"), nullptr);
  shown.evidence.curves = nullptr;
  EXPECT_EQ(shown.value("opis(rule=exact)").number, squared.opis);
}

// ---- random pairs -------------------------------------------------------------------------------

/// Pairs of rows of few distinct distances or many, classes of one row among them.
plain::Pairs random_pairs(std::mt19937_64& random, PairDomain domain, u32 classes, u32 rows,
                          u32 distinct) {
  plain::Pairs all;
  all.domain = domain;
  all.classes = classes;
  std::vector<u32> of;
  for (u32 i = 0; i < rows; ++i) of.push_back(static_cast<u32>(random() % classes));
  for (u32 i = 0; i < rows; ++i) {
    for (u32 j = i + 1; j < rows; ++j) {
      const bool same = of[i] == of[j];
      const double share = static_cast<double>(random() % distinct) / distinct;
      const auto near = static_cast<float>(same ? share * share : std::sqrt(share));
      all.pairs.push_back({domain == PairDomain::kL2 ? 2 * near : 1 - 2 * near, of[i], of[j]});
    }
  }
  return all;
}

struct Case {
  plain::Pairs pairs;
  double first = 0, last = 0;
  CurveQuery query;
  double c = 1;
  std::size_t extreme = 1;
};

Case random_case(std::mt19937_64& random, int trial) {
  Case one;
  const PairDomain domain = trial % 2 == 0 ? PairDomain::kL2 : PairDomain::kCosine;
  one.pairs = random_pairs(random, domain, 2 + static_cast<u32>(random() % 8),
                           8 + static_cast<u32>(random() % 20), trial % 3 == 0 ? 7 : 1u << 20);
  const double low = static_cast<double>(random() % 1000) / 1000;
  const double width = 0.1 + static_cast<double>(random() % 1000) / 1000;
  one.first = domain == PairDomain::kL2 ? low : 1 - low;
  one.last = domain == PairDomain::kL2 ? low + width : 1 - low - width;
  one.query.c = trial % 5 == 0 ? Fraction{5, 2} : Fraction{1, 1};
  one.c = trial % 5 == 0 ? 2.5 : 1;
  one.query.extremes = true;
  one.query.ranked_once = trial % 4 >= 2;
  one.query.power = trial % 7 < 4 ? 2 : 1;
  one.query.epsilon = Fraction{1 + random() % 6, 10};
  const auto classes = static_cast<u64>(one.pairs.compared().size());
  one.extreme =
      static_cast<std::size_t>(std::max<u64>(1, (one.query.epsilon.num * classes + 9) / 10));
  return one;
}

// Would catch: a sum of the best or worst that a move across the edge leaves wrong, an integral
// that begins or ends at a neighbouring distance, a tie of distances taken one pair at a time, and
// the order of similarities.
TEST(ExactSweep, IsTheSumOverIntervals) {
  std::mt19937_64 random(6);
  int compared = 0;
  for (int trial = 0; trial < 240; ++trial) {
    SCOPED_TRACE(trial);
    const Case one = random_case(random, trial);
    if (one.pairs.compared().size() < 2) continue;
    ++compared;
    const plain::Integrals expected = plain::exact_integrals(
        one.pairs, one.first, one.last, one.c, one.extreme, one.query.ranked_once, one.query.power);
    const ExactCurves found = swept(one.pairs, one.query, one.first, one.last);
    EXPECT_NEAR(found.opis, expected.opis, 1e-13);
    EXPECT_NEAR(found.mean_utility, expected.mean, 1e-13);
    EXPECT_NEAR(found.extremes, expected.extremes, 1e-13);
    ASSERT_EQ(found.means.size(), expected.means.size());
    for (std::size_t i = 0; i < found.means.size(); ++i) {
      EXPECT_NEAR(found.means[i], expected.means[i], 1e-13);
      EXPECT_NEAR(found.contributions[i], expected.contributions[i], 1e-13);
    }
    EXPECT_EQ(found.steps, plain::events_of(one.pairs, one.first, one.last).size());
  }
  EXPECT_GT(compared, 200);
}

// Classes by the hundred, of few sizes and of many: all of them sorted anew at each step. Would
// catch an edge of the best or worst that is lost when values drift past it, and ties across it.
TEST(ExactSweep, ManyClassesPassTheEdge) {
  std::mt19937_64 random(9);
  for (const u64 sizes : {3u, 1000u}) {
    SCOPED_TRACE(sizes);
    const std::size_t classes = 400;
    SweepStart start;
    start.first = 0.5;
    start.last = 1;
    for (std::size_t i = 0; i < classes; ++i) {
      start.place.push_back(static_cast<i32>(i));
      start.all_pos.push_back(8 + random() % sizes);
      start.all_neg.push_back(60 + random() % sizes);
      start.pos.push_back(i % 3 == 0 ? 0 : 2);
      start.neg.push_back(random() % 5);
    }
    std::vector<PairEvent> events;
    for (int i = 0; i < 8000; ++i) {
      const auto distance = static_cast<float>(0.51 + 0.48 * static_cast<double>(i / 2) / 4000);
      const auto a = static_cast<u32>(random() % classes);
      const u32 b = i % 9 == 0 ? a : static_cast<u32>(random() % classes);
      events.push_back(
          {~key_of_f32(bits_from_float(0.0F - distance)), std::min(a, b), std::max(a, b)});
    }
    CurveQuery query;
    query.extremes = true;
    query.epsilon = {15, 100};
    const std::size_t count = 60;

    std::vector<u64> pos = start.pos;
    std::vector<u64> neg = start.neg;
    double extremes = 0;
    double opis = 0;
    double at = start.first;
    std::vector<PairEvent> taken;
    const auto advance = [&](double to) {
      std::vector<double> all;
      double sum = 0;
      for (std::size_t i = 0; i < classes; ++i) {
        const double psi = static_cast<double>(pos[i]) / static_cast<double>(start.all_pos[i]);
        const double phi = 1 - static_cast<double>(neg[i]) / static_cast<double>(start.all_neg[i]);
        all.push_back(psi == 0 && phi == 0 ? 0 : 2 * psi * phi / (psi + phi));
        sum += all.back() / static_cast<double>(classes);
      }
      std::sort(all.begin(), all.end());
      double gap = 0;
      double variance = 0;
      for (std::size_t i = 0; i < count; ++i) gap += all[classes - 1 - i] - all[i];
      for (const double u : all) variance += (u - sum) * (u - sum) / static_cast<double>(classes);
      gap /= static_cast<double>(count);
      extremes += (to - at) / (start.last - start.first) * gap * gap;
      opis += (to - at) / (start.last - start.first) * variance;
      at = to;
    };
    ExactSweep sweep(query, start);
    for (std::size_t i = 0; i < events.size(); i += 2) {
      // No more pairs than the class has.
      taken.clear();
      for (const PairEvent& event : std::span(events).subspan(i, 2)) {
        const bool positive = event.a == event.b;
        auto& counts = positive ? pos : neg;
        const auto& all = positive ? start.all_pos : start.all_neg;
        if (counts[event.a] == all[event.a] || counts[event.b] == all[event.b]) continue;
        if (taken.empty()) advance(key_value(start.domain, ~event.step));
        ++counts[event.a];
        if (!positive) ++counts[event.b];
        taken.push_back(event);
      }
      sweep.take(taken);
    }
    advance(start.last);
    const ExactCurves found = sweep.finish();
    EXPECT_GT(found.steps, 4000u);
    EXPECT_NEAR(found.opis, opis, 1e-13);
    EXPECT_NEAR(found.extremes, extremes, 1e-13);
  }
}

// Would catch sums that depend on the calls, and a second sweep that goes on from the first.
TEST(ExactSweep, CallsDoNotMatter) {
  std::mt19937_64 random(7);
  for (int trial = 0; trial < 40; ++trial) {
    SCOPED_TRACE(trial);
    const Case one = random_case(random, trial);
    const std::vector<PairEvent> events = plain::events_of(one.pairs, one.first, one.last);
    const ExactCurves whole = swept(one.pairs, one.query, one.first, one.last);
    ExactSweep sweep(one.query, plain::start_of(one.pairs, one.first, one.last));
    do {
      for (std::size_t i = 0; i < events.size();) {
        std::size_t end = std::min(events.size(), i + 1 + random() % 5);
        while (end < events.size() && events[end].step == events[end - 1].step) ++end;
        sweep.take(std::span(events).subspan(i, end - i));
        i = end;
      }
    } while (sweep.again());
    const ExactCurves parts = sweep.finish();
    EXPECT_EQ(parts.opis, whole.opis);
    EXPECT_EQ(parts.extremes, whole.extremes);
    EXPECT_EQ(parts.means, whole.means);
    EXPECT_EQ(parts.contributions, whole.contributions);
    EXPECT_EQ(parts.steps, whole.steps);
  }
}

// A range of one threshold: what every average over it tends to.
TEST(ExactSweep, RangeWithoutWidth) {
  const plain::Pairs pairs = in_floats(example_g());
  CurveQuery query;
  query.extremes = true;
  const ExactCurves found = swept(pairs, query, 1.3, 1.3);
  const double a = 10. / 13;
  const double b = 2. / 3;
  const double c = 14. / 15;
  const double mean = (a + b + c) / 3;
  EXPECT_NEAR(found.opis, (a * a + b * b + c * c) / 3 - mean * mean, 1e-14);
  EXPECT_NEAR(found.extremes, (c - b) * (c - b), 1e-14);
  EXPECT_NEAR(found.contributions[1], (b - mean) * (b - mean), 1e-14);
}

TEST(Opis, GridsAreTheSumOverThresholds) {
  std::mt19937_64 random(8);
  for (int trial = 0; trial < 120; ++trial) {
    SCOPED_TRACE(trial);
    Case one = random_case(random, trial);
    if (one.pairs.compared().size() < 2) continue;
    const ClassCurves curves =
        plain::curves_of(one.pairs, plain::grid(one.first, one.last, 2 + trial % 9));
    one.query.rule = trial % 3 == 1 ? IntegrationRule::kTrapezoid : IntegrationRule::kMean;
    const std::size_t count = curves.thresholds.size();
    std::vector<double> weights(count, 1.0 / static_cast<double>(count));
    if (trial % 3 == 1) {
      weights.assign(count, 0);
      for (std::size_t k = 0; k + 1 < count; ++k) {
        const double share =
            (curves.thresholds[k + 1] - curves.thresholds[k]) / (one.last - one.first);
        weights[k] += share / 2;
        weights[k + 1] += share / 2;
      }
    }
    const plain::Integrals expected = plain::integrals(curves, weights, one.c, one.extreme,
                                                       one.query.ranked_once, one.query.power);
    const CurveSummary found = summarise_curves(curves, one.query);
    EXPECT_NEAR(found.opis, expected.opis, 1e-14);
    EXPECT_NEAR(found.mean_utility, expected.mean, 1e-14);
    // Ranks may part where means are equal but for rounding.
    if (!one.query.ranked_once) {
      EXPECT_NEAR(found.extremes, expected.extremes, 1e-14);
    }
    for (std::size_t i = 0; i < curves.classes(); ++i) {
      EXPECT_NEAR(found.classes[i].contribution * static_cast<double>(curves.classes()),
                  expected.contributions[i], 1e-14);
    }
  }
}

// ---- options and no value -----------------------------------------------------------------------

TEST(Opis, SharesOfClassesAreExact) {
  EXPECT_EQ(share_of({1, 10}, 10), 1u);  // 0.1 * 10 in doubles may be above 1
  EXPECT_EQ(share_of({1, 10}, 11), 2u);
  EXPECT_EQ(share_of({3, 10}, 10), 3u);  // 0.3 * 10 is 3.0000000000000004 when 3 * 0.1 is taken
  EXPECT_EQ(share_of({0, 1}, 10), 1u);
  EXPECT_EQ(share_of({1, 1}, 10), 10u);
}

TEST(Opis, RefusesRangesThatAreNone) {
  const auto unread = [](const std::string& text) -> std::string {
    const auto specs = parse_metrics(text);
    if (specs.ok()) return "read";
    EXPECT_EQ(specs.error().code, ErrorCode::kUsage);
    return specs.error().text();
  };
  const auto refusal = [](const std::string& text) -> std::string {
    const auto needs = needs_of(text);
    if (needs.ok()) return "accepted";
    EXPECT_EQ(needs.error().code, ErrorCode::kUsage);
    return needs.error().text();
  };
  EXPECT_EQ(refusal("eps_opis(d_range=0:1,far_range=0.1:0.2)"),
            "both d_range and far_range of 'eps_opis'; give one of them: far_range finds "
            "thresholds");
  EXPECT_EQ(unread("opis(far_range=0.1:0.01)"),
            "option 'far_range' of 'opis' is '0.1:0.01'; expected two numbers between 0 and 1, "
            "neither of them, the smaller first, joined by ':'");
  for (const char* range :
       {"0:0.1", "0.1:1", "0.1", "0.1:0.1", "0.1:0.2:0.3", ":0.1", "0.1:", "a:b", "", "nan:0.1"}) {
    EXPECT_NE(unread(fmt::format("opis(far_range={})", range)), "read") << range;
  }
  for (const char* range : {"1:1", "1:0.5", "0:nan", "-inf:0", "1"}) {
    EXPECT_NE(unread(fmt::format("opis(d_range={})", range)), "read") << range;
  }
  EXPECT_NE(refusal("class_far(far=0.1,threshold=1)").find("both"), std::string::npos);
  EXPECT_NE(refusal("frr_spread(far=0)").find("is 0"), std::string::npos);
  EXPECT_EQ(refusal("opis(domain=cosine,d_range=-0.5:0.25)"), "accepted");

  const VerificationQuery query =
      *needs_of(
           "eps_opis(domain=cosine,normalize=no,d_range=-0.5:0.25,rank=range,power=1,"
           "epsilon=0.2,rule=exact,n_thresholds=11,c=2)")
           ->verification;
  CurveQuery expected;
  expected.range.values = {-0.5, 0.25};
  expected.n_thresholds = 11;
  expected.rule = IntegrationRule::kExact;
  expected.c = {2, 1};
  expected.extremes = true;
  expected.epsilon = {2, 10};
  expected.ranked_once = true;
  expected.power = 1;
  EXPECT_EQ(query.curves, expected);
  EXPECT_EQ(query.domain, PairDomain::kCosine);
  EXPECT_EQ(query.normalize, false);
  EXPECT_EQ(needs_of("opis")->verification->domain, std::nullopt);
  EXPECT_EQ(needs_of("opis")->verification->curves, CurveQuery{});
  CurveQuery rates;
  rates.range.far_low = {1, 1000};
  rates.range.far_high = {5, 100};
  EXPECT_EQ(needs_of("opis(far_range=1e-3:0.05)")->verification->curves, rates);
}

TEST(Opis, ParamsNameTheOneRange) {
  const VerificationEvidence pairs;
  Evidence evidence;
  evidence.verification = &pairs;
  const auto params = [&](const char* text) {
    const MetricSpec spec = (*parse_metrics(text))[0];
    return spec.metric->params(spec.options, evidence);
  };
  EXPECT_EQ(*find(params("opis"), "far_range"), Detail("0.01:0.1"));
  EXPECT_EQ(find(params("opis"), "d_range"), nullptr);
  EXPECT_EQ(*find(params("opis(d_range=0.5:1)"), "d_range"), Detail("0.5:1"));
  EXPECT_EQ(find(params("opis(d_range=0.5:1)"), "far_range"), nullptr);
}

// A long grid is thinned for details, with both ends.
TEST(Opis, ShowsAtMostTwoHundredPointsOfTheCurve) {
  const Shown fine(example_g(), plain::grid(0.4, 1.6, 1000));
  const Detail::Object details = fine.value("opis(n_thresholds=1000)").details;
  EXPECT_EQ(std::get<Detail::List>(find(details, "curve")->held()).size(), 200u);
  EXPECT_EQ(number(entry(details, "curve", 0), "threshold"), 0.4);
  EXPECT_EQ(number(entry(details, "curve", 199), "threshold"), 1.6);
}

TEST(Opis, NoValueHasAReason) {
  plain::Pairs lone;  // a class of two rows and two of one
  lone.classes = 3;
  lone.pairs = {{0.1, 0, 0}, {0.5, 0, 1}, {0.6, 0, 1}, {0.7, 0, 2}, {0.8, 0, 2}, {0.9, 1, 2}};
  const Shown one(lone, {0.2, 0.8});
  for (const char* name : {"opis", "eps_opis", "class_far", "frr_spread"}) {
    EXPECT_EQ(one.value(name).undefined, Undefined::kTooFewClasses) << name;
    EXPECT_EQ(number(one.value(name).details, "classes"), 1);
  }
  Shown coarse(example_g(), plain::grid(0.4, 1.6, 5));
  coarse.evidence.unresolved = true;
  for (const char* name : {"opis", "eps_opis(rule=exact)", "class_frr", "far_spread"}) {
    const MetricValue value = coarse.value(name);
    EXPECT_EQ(value.undefined, Undefined::kNotResolved) << name;
    EXPECT_EQ(number(value.details, "smallest_far"), 1. / 12);
  }
}

}  // namespace
}  // namespace cupel
