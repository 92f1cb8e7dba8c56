#include "cupel/core/column.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cupel {
namespace {

template <class T>
double number_of(DType type, T value) {
  // One byte past an aligned address: elements of an archive lie anywhere.
  std::byte memory[sizeof(T) + 1];
  std::memcpy(memory + 1, &value, sizeof(T));
  return number_at(make_view(memory + 1, type, {1}), 0);
}

TEST(Column, NamesAndSizes) {
  EXPECT_EQ(dtype_name(DType::kF32), "f32");
  EXPECT_EQ(dtype_name(DType::kBF16), "bf16");
  EXPECT_EQ(dtype_name(DType::kBool), "bool");
  EXPECT_EQ(dtype_name(DType::kUnicode), "str");
  EXPECT_EQ(dtype_name(DType::kText), "str");
  EXPECT_EQ(dtype_name(DType::kBytes), "bytes");
  EXPECT_EQ(dtype_size(DType::kI64), 8);
  EXPECT_EQ(dtype_size(DType::kF16), 2);
  EXPECT_EQ(dtype_size(DType::kText), 0);
}

TEST(Column, ViewsAreInCOrder) {
  const float data[6] = {0, 1, 2, 3, 4, 5};
  const ArrayView view = make_view(data, DType::kF32, {2, 3});
  EXPECT_EQ(view.rows(), 2);
  EXPECT_EQ(view.cols(), 3);
  EXPECT_EQ(view.strides, (std::vector<i64>{12, 4}));
  EXPECT_EQ(load<float>(view.at(1, 2)), 5.0f);
  EXPECT_TRUE(view.is_contiguous());
}

TEST(Column, ContiguousMeansWithoutGaps) {
  ArrayView view = make_view(nullptr, DType::kF32, {2, 3});
  view.strides = {4, 8};  // Fortran order
  EXPECT_FALSE(view.is_contiguous());
  view.strides = {16, 4};  // a gap after each row
  EXPECT_FALSE(view.is_contiguous());
  view.shape = {1, 3};  // of which there is only one
  EXPECT_TRUE(view.is_contiguous());
  view.shape = {0, 3};
  EXPECT_TRUE(view.is_contiguous());
  EXPECT_TRUE(make_view(nullptr, DType::kF64, {}).is_contiguous());
}

TEST(Column, ScalarHasOneRow) {
  const double value = 2.5;
  const ArrayView view = make_view(&value, DType::kF64, {});
  EXPECT_EQ(view.rows(), 1);
  EXPECT_EQ(view.cols(), 1);
  EXPECT_EQ(number_at(view, 0), 2.5);
}

TEST(Column, NumbersOfEveryType) {
  EXPECT_EQ(number_of<u8>(DType::kBool, 7), 1.0);
  EXPECT_EQ(number_of<u8>(DType::kBool, 0), 0.0);
  EXPECT_EQ(number_of<i8>(DType::kI8, -128), -128.0);
  EXPECT_EQ(number_of<i16>(DType::kI16, -32768), -32768.0);
  EXPECT_EQ(number_of<i32>(DType::kI32, -5), -5.0);
  // 2^53 + 1 lies between two doubles and goes to the even one.
  EXPECT_EQ(number_of<i64>(DType::kI64, 9007199254740993), 9007199254740992.0);
  EXPECT_EQ(number_of<u8>(DType::kU8, 255), 255.0);
  EXPECT_EQ(number_of<u16>(DType::kU16, 65535), 65535.0);
  EXPECT_EQ(number_of<u32>(DType::kU32, 4294967295u), 4294967295.0);
  EXPECT_EQ(number_of<u64>(DType::kU64, 18446744073709551615u), 18446744073709551616.0);
  EXPECT_EQ(number_of<float>(DType::kF32, 0.1f), 0.100000001490116119384765625);
  EXPECT_EQ(number_of<double>(DType::kF64, 0.1), 0.1);
}

// Bit patterns and values from IEEE 754 binary16.
TEST(Column, HalfPrecision) {
  EXPECT_EQ(number_of<u16>(DType::kF16, 0x3c00), 1.0);
  EXPECT_EQ(number_of<u16>(DType::kF16, 0xc000), -2.0);
  EXPECT_EQ(number_of<u16>(DType::kF16, 0x7bff), 65504.0);
  EXPECT_EQ(number_of<u16>(DType::kF16, 0x3555), 0.333251953125);
  EXPECT_EQ(number_of<u16>(DType::kF16, 0x0400), std::ldexp(1.0, -14));
  EXPECT_EQ(number_of<u16>(DType::kF16, 0x0001), std::ldexp(1.0, -24));
  EXPECT_EQ(number_of<u16>(DType::kF16, 0x03ff), std::ldexp(1023.0, -24));
  EXPECT_EQ(number_of<u16>(DType::kF16, 0x7c00), std::numeric_limits<double>::infinity());
  EXPECT_EQ(number_of<u16>(DType::kF16, 0xfc00), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(number_of<u16>(DType::kF16, 0x7e00)));
  EXPECT_TRUE(std::signbit(number_of<u16>(DType::kF16, 0x8000)));
}

TEST(Column, BrainFloat) {
  EXPECT_EQ(number_of<u16>(DType::kBF16, 0x3f80), 1.0);
  EXPECT_EQ(number_of<u16>(DType::kBF16, 0x4049), 3.140625);
  EXPECT_EQ(number_of<u16>(DType::kBF16, 0xff80), -std::numeric_limits<double>::infinity());
}

TEST(Column, TextOfFixedWidth) {
  const char bytes[] = {'a', 'b', 0, 0, 'x', 0, 'y', 0, 0, 0, 0, 0};
  const ArrayView view = make_view(bytes, DType::kBytes, {3}, 4);
  EXPECT_EQ(text_at(view, 0), "ab");
  EXPECT_EQ(text_at(view, 1), std::string("x\0y", 3));  // only the padding goes
  EXPECT_EQ(text_at(view, 2), "");
}

TEST(Column, TextOfUnicode) {
  const u32 points[] = {U'a', U'\u00e9', 0,      0,        U'\u20ac', U'\U0001f600',
                        0,    0,         0xd800, 0x110000, U'z',      0};
  const ArrayView view = make_view(points, DType::kUnicode, {3}, 16);
  EXPECT_EQ(text_at(view, 0), "a\xc3\xa9");
  EXPECT_EQ(text_at(view, 1), "\xe2\x82\xac\xf0\x9f\x98\x80");
  EXPECT_EQ(text_at(view, 2), "\xef\xbf\xbd\xef\xbf\xbdz");  // U+FFFD for what is no character
}

TEST(Column, TextOfVariableLength) {
  const char data[] = "femaleunknown";
  const i64 offsets[] = {0, 6, 6, 13};
  ArrayView view = make_view(data, DType::kText, {3});
  view.offsets = offsets;
  EXPECT_EQ(text_at(view, 0), "female");
  EXPECT_EQ(text_at(view, 1), "");
  EXPECT_EQ(text_at(view, 2), "unknown");
}

}  // namespace
}  // namespace cupel
