// Exhaustive: all 65,536 patterns of either format against the value their fields define.
#include "cupel/math/half.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace cupel {
namespace {

// The definition of IEEE 754 for a format of 1 + exponent_bits + mantissa_bits bits, finite values.
double value_of_fields(u32 bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const u32 mantissa = bits & ((1u << mantissa_bits) - 1);
  const bool negative = (bits >> (exponent_bits + mantissa_bits)) != 0;
  const double significand = exponent == 0 ? mantissa : mantissa + (1u << mantissa_bits);
  const double magnitude =
      std::ldexp(significand, (exponent == 0 ? 1 : exponent) - bias - mantissa_bits);
  return negative ? -magnitude : magnitude;
}

TEST(Half, KnownF16Values) {
  EXPECT_EQ(float_from_f16(0x3C00), 1.0f);
  EXPECT_EQ(float_from_f16(0xC000), -2.0f);
  EXPECT_EQ(float_from_f16(0x3555), 0.333251953125f);
  EXPECT_EQ(float_from_f16(0x7BFF), 65504.0f);
  EXPECT_EQ(float_from_f16(0x0400), 0x1p-14f);
  EXPECT_EQ(float_from_f16(0x03FF), 0x3FFp-24f);
  EXPECT_EQ(float_from_f16(0x0001), 0x1p-24f);
  EXPECT_EQ(float_from_f16(0x8001), -0x1p-24f);
}

TEST(Half, KnownBf16Values) {
  EXPECT_EQ(float_from_bf16(0x3F80), 1.0f);
  EXPECT_EQ(float_from_bf16(0x4049), 3.140625f);
  EXPECT_EQ(float_from_bf16(0xBF00), -0.5f);
  EXPECT_EQ(float_from_bf16(0x0001), 0x1p-133f);
}

TEST(Half, EveryF16PatternIsExact) {
  for (u32 bits = 0; bits < 0x10000u; ++bits) {
    const float widened = float_from_f16(static_cast<u16>(bits));
    const bool negative = (bits & 0x8000u) != 0;
    ASSERT_EQ(std::signbit(widened), negative) << bits;
    if ((bits & 0x7FFFu) < 0x7C00u) {
      ASSERT_EQ(static_cast<double>(widened), value_of_fields(bits, 5, 10)) << bits;
    } else if ((bits & 0x7FFFu) == 0x7C00u) {
      ASSERT_EQ(std::fabs(widened), std::numeric_limits<float>::infinity());
    } else {
      ASSERT_EQ(bits_from_float(widened) & 0x7FFFFFFFu, 0x7F800000u | ((bits & 0x3FFu) << 13));
    }
  }
}

TEST(Half, EveryBf16PatternIsExact) {
  for (u32 bits = 0; bits < 0x10000u; ++bits) {
    const float widened = float_from_bf16(static_cast<u16>(bits));
    if ((bits & 0x7FFFu) < 0x7F80u) {
      ASSERT_EQ(static_cast<double>(widened), value_of_fields(bits, 8, 7)) << bits;
      ASSERT_EQ(std::signbit(widened), (bits & 0x8000u) != 0) << bits;
    } else {
      ASSERT_EQ(std::isnan(widened), (bits & 0x7Fu) != 0) << bits;
      ASSERT_EQ(bits_from_float(widened) >> 16, bits);
    }
  }
}

#if CUPEL_HAS_TARGETS
// By features, because not every compiler knows the level names here.
bool has_v3() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2");
}

CUPEL_TARGET_V3 void widen_v3(const u16* bits, float* f16, float* bf16, i64 n) {
  for (i64 i = 0; i < n; ++i) {
    f16[i] = float_from_f16(bits[i]);
    bf16[i] = float_from_bf16(bits[i]);
  }
}

TEST(Half, WideVectorsGiveTheSameBits) {
  if (!has_v3()) GTEST_SKIP() << "needs x86-64-v3";
  std::vector<u16> bits(0x10000);
  for (u32 b = 0; b < 0x10000u; ++b) bits[b] = static_cast<u16>(b);
  std::vector<float> f16(bits.size());
  std::vector<float> bf16(bits.size());
  widen_v3(bits.data(), f16.data(), bf16.data(), static_cast<i64>(bits.size()));
  for (u32 b = 0; b < 0x10000u; ++b) {
    ASSERT_EQ(bits_from_float(f16[b]), bits_from_float(float_from_f16(bits[b]))) << b;
    ASSERT_EQ(bits_from_float(bf16[b]), bits_from_float(float_from_bf16(bits[b]))) << b;
  }
}
#endif

}  // namespace
}  // namespace cupel
