// Errors are measured against the 64-bit significands of the C library's long double functions,
// which resolve 1/2048 of a double's ulp.
#include "cupel/math/elementary.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace cupel {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kSmallestNormal = 0x1p-1022;

bool plus_zero(double x) { return bits_from_double(x) == 0; }

double next_up(double x) { return std::nextafter(x, kInf); }

// The distance of two adjacent doubles around `value`, which is not huge.
double ulp_at(long double value) {
  const double magnitude = std::fabs(static_cast<double>(value));
  if (magnitude < kSmallestNormal) return 0x1p-1074;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  return std::ldexp(1.0, exponent - 53);
}

std::vector<double> uniform_points(double low, double high, i64 n, u64 seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(low, high);
  std::vector<double> points(static_cast<std::size_t>(n));
  for (double& x : points) x = uniform(random);
  return points;
}

// Doubles with uniformly drawn bits, positive and finite: every magnitude, subnormals among them.
std::vector<double> positive_bit_patterns(i64 n, u64 seed) {
  std::mt19937_64 random(seed);
  std::uniform_int_distribution<u64> bits(1, 0x7FEFFFFFFFFFFFFFu);
  std::vector<double> points(static_cast<std::size_t>(n));
  for (double& x : points) x = double_from_bits(bits(random));
  return points;
}

struct Errors {
  double ulps = 0;
  double relative = 0;  // over normal results
};

Errors errors(const std::vector<double>& points, double (*computed)(double),
              long double (*reference)(long double)) {
  Errors worst;
  for (const double x : points) {
    const long double expected = reference(x);
    // In long double to the end: near 2^-1022 an error is below the smallest double.
    const long double error = std::fabs(expected - computed(x));
    worst.ulps = std::max(worst.ulps, static_cast<double>(error / ulp_at(expected)));
    if (std::fabs(expected) >= kSmallestNormal) {
      worst.relative = std::max(worst.relative, static_cast<double>(error / std::fabs(expected)));
    }
  }
  return worst;
}

double exp_here(double x) { return exp_det(x); }
double log_here(double x) { return log_det(x); }
double softplus_here(double x) { return log1p_exp_det(x); }
double sigmoid_here(double x) { return sigmoid_det(x); }

long double exp_reference(long double x) { return std::exp(x); }
long double log_reference(long double x) { return std::log(x); }
long double softplus_reference(long double x) {
  return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
}
long double sigmoid_reference(long double x) {
  return x > 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

TEST(ExpDet, KnownValues) {
  EXPECT_EQ(exp_det(0.0), 1.0);
  EXPECT_EQ(exp_det(-0.0), 1.0);
  EXPECT_NEAR(exp_det(1.0), 0x1.5bf0a8b145769p+1, 0x1p-51);
  EXPECT_NEAR(exp_det(-1.0), 0x1.78b56362cef38p-2, 0x1p-54);
  EXPECT_EQ(exp_det(0x1p-60), 1.0);
  EXPECT_EQ(exp_det(0x1p-52), 1.0 + 0x1p-52);
  EXPECT_EQ(exp_det(-0x1p-53), 1.0 - 0x1p-53);
}

TEST(ExpDet, EndsOfTheRange) {
  EXPECT_EQ(exp_det(kInf), kInf);
  EXPECT_EQ(exp_det(std::numeric_limits<double>::max()), kInf);
  // The largest argument with a finite exponential, and its successor.
  EXPECT_LT(exp_det(0x1.62e42fefa39efp+9), kInf);
  EXPECT_EQ(exp_det(0x1.62e42fefa39f0p+9), kInf);
  EXPECT_TRUE(plus_zero(exp_det(-kInf)));
  EXPECT_TRUE(plus_zero(exp_det(std::numeric_limits<double>::lowest())));
  // ln(2^-1075) is between these two: half the smallest subnormal.
  EXPECT_EQ(exp_det(-0x1.74910d52d3051p+9), 0x1p-1074);
  EXPECT_TRUE(plus_zero(exp_det(-0x1.74910d52d3052p+9)));
  EXPECT_EQ(exp_det(-744.4400719213812), 0x1p-1074);
  EXPECT_TRUE(std::isnan(exp_det(kNan)));
  EXPECT_EQ(exp_det(std::numeric_limits<double>::denorm_min()), 1.0);
}

TEST(ExpDet, ErrorIsWithinTheDocumentedBound) {
  for (const auto& points :
       {uniform_points(-1, 1, 1'000'000, 1), uniform_points(-40, 0, 1'000'000, 2),
        uniform_points(-708, 709.5, 1'000'000, 3)}) {
    const Errors worst = errors(points, exp_here, exp_reference);
    EXPECT_LT(worst.ulps, 1.1);
    EXPECT_LT(worst.relative, 1.7e-16);
  }
  EXPECT_LT(errors(uniform_points(-745.2, -708, 300'000, 4), exp_here, exp_reference).ulps, 1.1);
}

TEST(ExpDet, NeverDecreases) {
  for (const auto& points :
       {uniform_points(-1, 1, 500'000, 5), uniform_points(-745, 709, 500'000, 6)}) {
    for (const double x : points) ASSERT_LE(exp_det(x), exp_det(next_up(x))) << x;
  }
  // Across the ends of the reduced interval, where the polynomial starts anew.
  for (int n = -1075; n <= 1023; ++n) {
    double x = (n + 0.5) * 0x1.62e42fefa39efp-1;
    for (int step = 0; step < 100; ++step) x = std::nextafter(x, -kInf);
    for (int step = 0; step < 200; ++step, x = next_up(x)) {
      ASSERT_LE(exp_det(x), exp_det(next_up(x))) << x;
    }
  }
}

TEST(ExpBounded, HasTheBitsOfExpDet) {
  for (const double x : uniform_points(-708, 709, 500'000, 7))
    ASSERT_EQ(exp_bounded(x), exp_det(x));
  for (const double x : {-708.0, -0.0, 0.0, 709.0}) EXPECT_EQ(exp_bounded(x), exp_det(x));
}

TEST(LogDet, KnownValues) {
  EXPECT_TRUE(plus_zero(log_det(1.0)));
  EXPECT_EQ(log_det(2.0), 0x1.62e42fefa39efp-1);
  EXPECT_EQ(log_det(0.5), -0x1.62e42fefa39efp-1);
  EXPECT_EQ(log_det(10.0), 0x1.26bb1bbb55516p+1);
  EXPECT_EQ(log_det(1.0 + 0x1p-52), 0x1.fffffffffffffp-53);
  EXPECT_EQ(log_det(1.0 - 0x1p-53), -0x1p-53);
  // Powers of two down to the smallest subnormal: n * ln 2, correctly rounded.
  for (int n = -1074; n <= 1023; ++n) {
    const long double expected = n * 0.693147180559945309417232121458176568L;
    ASSERT_EQ(log_det(std::ldexp(1.0, n)), static_cast<double>(expected)) << n;
  }
}

TEST(LogDet, EndsOfTheRange) {
  EXPECT_EQ(log_det(0.0), -kInf);
  EXPECT_EQ(log_det(-0.0), -kInf);
  EXPECT_EQ(log_det(kInf), kInf);
  EXPECT_TRUE(std::isnan(log_det(-1.0)));
  EXPECT_TRUE(std::isnan(log_det(-std::numeric_limits<double>::denorm_min())));
  EXPECT_TRUE(std::isnan(log_det(-kInf)));
  EXPECT_TRUE(std::isnan(log_det(kNan)));
  EXPECT_TRUE(std::isnan(log_det(-kNan)));
}

TEST(LogDet, ErrorIsWithinTheDocumentedBound) {
  for (const auto& points :
       {positive_bit_patterns(1'000'000, 8), uniform_points(0.5, 2, 1'000'000, 9),
        uniform_points(0.999, 1.001, 300'000, 10),
        uniform_points(0, kSmallestNormal, 100'000, 11)}) {
    EXPECT_LT(errors(points, log_here, log_reference).ulps, 0.8);
  }
}

TEST(LogDet, NeverDecreases) {
  for (const auto& points :
       {positive_bit_patterns(500'000, 12), uniform_points(0.5, 2, 500'000, 13)}) {
    for (const double x : points) ASSERT_LE(log_det(x), log_det(next_up(x))) << x;
  }
}

TEST(Log1pExpDet, KnownValuesAndEnds) {
  EXPECT_EQ(log1p_exp_det(0.0), 0x1.62e42fefa39efp-1);
  EXPECT_EQ(log1p_exp_det(-0.0), 0x1.62e42fefa39efp-1);
  EXPECT_EQ(log1p_exp_det(800.0), 800.0);
  EXPECT_EQ(log1p_exp_det(40.0), 40.0);
  EXPECT_EQ(log1p_exp_det(-100.0), exp_det(-100.0));
  EXPECT_EQ(log1p_exp_det(-744.4400719213812), 0x1p-1074);
  EXPECT_TRUE(plus_zero(log1p_exp_det(-800.0)));
  EXPECT_EQ(log1p_exp_det(kInf), kInf);
  EXPECT_TRUE(plus_zero(log1p_exp_det(-kInf)));
  EXPECT_TRUE(std::isnan(log1p_exp_det(kNan)));
}

TEST(Log1pExpDet, ErrorIsWithinTheDocumentedBound) {
  for (const auto& points :
       {uniform_points(-40, 40, 1'000'000, 14), uniform_points(-2, 2, 500'000, 15),
        uniform_points(-708, -30, 500'000, 16)}) {
    const Errors worst = errors(points, softplus_here, softplus_reference);
    EXPECT_LT(worst.ulps, 2.0);
    EXPECT_LT(worst.relative, 4e-16);
  }
}

TEST(SigmoidDet, KnownValuesAndEnds) {
  EXPECT_EQ(sigmoid_det(0.0), 0.5);
  EXPECT_EQ(sigmoid_det(-0.0), 0.5);
  EXPECT_EQ(sigmoid_det(kInf), 1.0);
  EXPECT_TRUE(plus_zero(sigmoid_det(-kInf)));
  EXPECT_EQ(sigmoid_det(40.0), 1.0);
  EXPECT_EQ(sigmoid_det(-100.0), exp_det(-100.0));
  EXPECT_TRUE(std::isnan(sigmoid_det(kNan)));
}

TEST(SigmoidDet, ErrorIsWithinTheDocumentedBound) {
  for (const auto& points :
       {uniform_points(-40, 40, 1'000'000, 17), uniform_points(-2, 2, 500'000, 18),
        uniform_points(-708, -30, 500'000, 19)}) {
    const Errors worst = errors(points, sigmoid_here, sigmoid_reference);
    EXPECT_LT(worst.ulps, 2.5);
    EXPECT_LT(worst.relative, 4e-16);
  }
}

TEST(RoundQ, RoundsHalfToEven) {
  EXPECT_EQ(round_q(0.0, 48), 0u);
  EXPECT_EQ(round_q(-0.0, 48), 0u);
  EXPECT_EQ(round_q(1.0, 48), u64{1} << 48);
  EXPECT_EQ(round_q(0.5, 0), 0u);
  EXPECT_EQ(round_q(1.5, 0), 2u);
  EXPECT_EQ(round_q(2.5, 0), 2u);
  EXPECT_EQ(round_q(0.3, 2), 1u);
  EXPECT_EQ(round_q(0x1p-49, 48), 0u);
  EXPECT_EQ(round_q(0x1.0000000000001p-49, 48), 1u);
  EXPECT_EQ(round_q(0x3p-49, 48), 2u);
  EXPECT_EQ(round_q(1.0, 52), u64{1} << 52);
  EXPECT_EQ(round_q(1.0 - 0x1p-53, 52), u64{1} << 52);
  EXPECT_EQ(round_q(0x1p-1023, 1023), 1u);
  EXPECT_EQ(round_q(std::numeric_limits<double>::denorm_min(), 1023), 0u);
}

TEST(RoundQ, AgreesWithTheExactProductRounded) {
  ASSERT_EQ(std::fegetround(), FE_TONEAREST);
  for (const int bits : {0, 10, 32, 48, 52}) {
    for (const double x : uniform_points(0, 1, 200'000, 20)) {
      const long double exact = std::ldexp(static_cast<long double>(x), bits);
      ASSERT_EQ(round_q(x, bits), static_cast<u64>(std::nearbyint(exact))) << x << ' ' << bits;
    }
  }
}

// The same loop compiled for two instruction sets.
struct Columns {
  explicit Columns(std::size_t n) : exp(n), log(n), softplus(n), sigmoid(n), q48(n) {}
  std::vector<double> exp, log, softplus, sigmoid;
  std::vector<u64> q48;
};

CUPEL_INLINE void evaluate(const std::vector<double>& x, Columns& out) {
  const std::size_t n = x.size();
  for (std::size_t i = 0; i < n; ++i) out.exp[i] = exp_det(x[i]);
  for (std::size_t i = 0; i < n; ++i) out.log[i] = log_det(x[i]);
  for (std::size_t i = 0; i < n; ++i) out.softplus[i] = log1p_exp_det(x[i]);
  for (std::size_t i = 0; i < n; ++i) out.sigmoid[i] = sigmoid_det(x[i]);
  for (std::size_t i = 0; i < n; ++i) out.q48[i] = round_q(out.sigmoid[i], 48);
}

void evaluate_baseline(const std::vector<double>& x, Columns& out) { evaluate(x, out); }

#if CUPEL_HAS_TARGETS
// By features, because not every compiler knows the level names here.
bool has_v3() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2");
}

bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512cd");
}

CUPEL_TARGET_V3 void evaluate_v3(const std::vector<double>& x, Columns& out) { evaluate(x, out); }
CUPEL_TARGET_V4 void evaluate_v4(const std::vector<double>& x, Columns& out) { evaluate(x, out); }

void expect_equal_bits(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    ASSERT_EQ(bits_from_double(a[i]), bits_from_double(b[i])) << i;
  }
}

void expect_equal_to_baseline(void (*wide)(const std::vector<double>&, Columns&)) {
  std::vector<double> x = positive_bit_patterns(200'003, 21);
  for (std::size_t i = 0; i < x.size(); i += 2) x[i] = -x[i];
  for (const double near : uniform_points(-750, 720, 400'000, 22)) x.push_back(near);
  for (const double near : uniform_points(-3, 3, 400'000, 23)) x.push_back(near);
  for (const double edge : {0.0, -0.0, kInf, -kInf, kNan, 0x1p-1074, -0x1p-1074}) x.push_back(edge);
  Columns baseline(x.size());
  Columns vectors(x.size());
  evaluate_baseline(x, baseline);
  wide(x, vectors);
  expect_equal_bits(baseline.exp, vectors.exp);
  expect_equal_bits(baseline.log, vectors.log);
  expect_equal_bits(baseline.softplus, vectors.softplus);
  expect_equal_bits(baseline.sigmoid, vectors.sigmoid);
  EXPECT_EQ(baseline.q48.size(), vectors.q48.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!std::isnan(baseline.sigmoid[i])) {
      ASSERT_EQ(baseline.q48[i], vectors.q48[i]) << i;
    }
  }
}

TEST(Elementary, SameBitsOnV3AndBaseline) {
  if (!has_v3()) GTEST_SKIP() << "needs x86-64-v3";
  expect_equal_to_baseline(evaluate_v3);
}

TEST(Elementary, SameBitsOnV4AndBaseline) {
  if (!has_v4()) GTEST_SKIP() << "needs x86-64-v4";
  expect_equal_to_baseline(evaluate_v4);
}
#endif

}  // namespace
}  // namespace cupel
