#include <gtest/gtest.h>

#include <cmath>

#include "io/checksum.hpp"
#include "io/fixtures.hpp"

namespace cupel {
namespace {

using namespace fixtures;

std::unique_ptr<Dump> open(const std::string& bytes, const OpenOptions& options = {},
                           const std::string& name = "y.npy") {
  Result<std::unique_ptr<Dump>> dump = open_as("npy", name, bytes, options);
  EXPECT_TRUE(dump.ok()) << text_of(dump);
  return dump.ok() ? std::move(dump).value() : nullptr;
}

std::string error_of(const std::string& bytes, const OpenOptions& options = {}) {
  const Result<std::unique_ptr<Dump>> dump = open_as("npy", "y.npy", bytes, options);
  if (dump.ok()) return "no error";
  EXPECT_EQ(dump.error().code, ErrorCode::kInput);
  return dump.error().text();
}

std::string load_error_of(const std::string& bytes) {
  Result<std::unique_ptr<Dump>> dump = open_as("npy", "y.npy", bytes);
  if (!dump.ok()) return "does not open: " + dump.error().text();
  const i64 wanted = 0;
  const Result<std::vector<Array>> loaded = (*dump)->load({&wanted, 1});
  const Result<void> readable = (*dump)->readable(0);
  EXPECT_EQ(text_of(loaded), text_of(readable));
  return text_of(loaded);
}

TEST(Npy, IsOneArrayNamedByTheStem) {
  const std::string bytes = npy("<f4", "(3,)", le_all<float>({0.5f, -1.0f, 2.0f}));
  const auto dump = open(bytes, {}, "some/where/y_score.npy");
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(dump->format(), "npy");
  EXPECT_EQ(dump->path(), "some/where/y_score.npy");
  EXPECT_EQ(dump->file_bytes(), static_cast<i64>(bytes.size()));
  ASSERT_EQ(dump->arrays().size(), 1u);
  EXPECT_EQ(dump->arrays()[0].name, "y_score");
  EXPECT_EQ(dump->arrays()[0].dtype, DType::kF32);
  EXPECT_EQ(dump->arrays()[0].shape, std::vector<i64>{3});
  EXPECT_EQ(numbers(load_one(*dump, "y_score").view), (std::vector<double>{0.5, -1.0, 2.0}));
  EXPECT_EQ(dump->place(0, 41), "some/where/y_score.npy: 'y_score' row 41");
}

struct TypeCase {
  std::string descr;
  DType dtype;
  std::string data;
  std::vector<double> values;
};

class NpyTypes : public ::testing::TestWithParam<TypeCase> {};

TEST_P(NpyTypes, BothByteOrders) {
  const TypeCase& type = GetParam();
  const std::string shape = "(" + std::to_string(type.values.size()) + ",)";
  const std::string file = npy(type.descr, shape, type.data);
  const auto dump = open(file);
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(dump->arrays()[0].dtype, type.dtype);
  EXPECT_EQ(numbers(load_one(*dump, "y").view), type.values);
  if (type.descr[0] != '<') return;
  const std::size_t unit = type.data.size() / type.values.size();
  const std::string big =
      npy(">" + type.descr.substr(1), shape, fixtures::reversed(type.data, unit));
  const auto swapped = open(big);
  ASSERT_NE(swapped, nullptr);
  EXPECT_EQ(swapped->arrays()[0].dtype, type.dtype);
  EXPECT_EQ(numbers(load_one(*swapped, "y").view), type.values);
  // The hash is of the file's bytes, so the two differ unless the bytes are the same.
  StreamHash expected;
  expected.update(as_bytes(fixtures::reversed(type.data, unit)));
  EXPECT_EQ(*swapped->verify(), expected.digest());
}

INSTANTIATE_TEST_SUITE_P(
    All, NpyTypes,
    ::testing::Values(
        TypeCase{"|b1", DType::kBool, std::string("\0\1", 2), {0, 1}},
        TypeCase{"|i1", DType::kI8, "\x80\x7f", {-128, 127}},
        TypeCase{"|u1", DType::kU8, std::string("\0\xff", 2), {0, 255}},
        TypeCase{"<i2", DType::kI16, le_all<i16>({-2, 300}), {-2, 300}},
        TypeCase{"<u2", DType::kU16, le_all<u16>({1, 65535}), {1, 65535}},
        TypeCase{"<i4", DType::kI32, le_all<i32>({-70000, 1}), {-70000, 1}},
        TypeCase{"<u4", DType::kU32, le_all<u32>({4294967295u, 1}), {4294967295.0, 1}},
        TypeCase{"<i8", DType::kI64, le_all<i64>({-5, i64{1} << 40}), {-5, 1099511627776.0}},
        TypeCase{"<u8", DType::kU64, le_all<u64>({u64{1} << 63, 3}), {9223372036854775808.0, 3}},
        TypeCase{"<f2", DType::kF16, le_all<u16>({0x3c00, 0xb800}), {1.0, -0.5}},
        TypeCase{"<V2", DType::kBF16, le_all<u16>({0x3f80, 0x4049}), {1.0, 3.140625}},
        TypeCase{"|V2", DType::kBF16, le_all<u16>({0x3f80, 0x4049}), {1.0, 3.140625}},
        TypeCase{"<f4", DType::kF32, le_all<float>({0.25f, -8.0f}), {0.25, -8}},
        TypeCase{"<f8", DType::kF64, le_all<double>({0.1, 1e300}), {0.1, 1e300}}));

TEST(Npy, Strings) {
  const auto bytes = open(npy("|S3", "(2,)", std::string("ab\0xyz", 6)));
  ASSERT_NE(bytes, nullptr);
  EXPECT_EQ(texts(load_one(*bytes, "y").view), (std::vector<std::string>{"ab", "xyz"}));
  const std::string points = le_all<u32>({'h', 0xe9, 'z', 0});
  const std::vector<std::string> expected{"h\xc3\xa9", "z"};
  const auto little = open(npy("<U2", "(2,)", points));
  ASSERT_NE(little, nullptr);
  EXPECT_EQ(little->arrays()[0].item_bytes, 8);
  EXPECT_EQ(texts(load_one(*little, "y").view), expected);
  const auto big = open(npy(">U2", "(2,)", fixtures::reversed(points, 4)));
  ASSERT_NE(big, nullptr);
  EXPECT_EQ(texts(load_one(*big, "y").view), expected);
}

TEST(Npy, Versions) {
  for (const int version : {1, 2, 3}) {
    const auto dump = open(npy("<i8", "(2,)", le_all<i64>({7, 9}), false, version));
    ASSERT_NE(dump, nullptr);
    EXPECT_EQ(numbers(load_one(*dump, "y").view), (std::vector<double>{7, 9})) << version;
  }
}

TEST(Npy, FortranOrderBecomesStrides) {
  // [[1, 2, 3], [4, 5, 6]], columns first.
  const auto dump = open(npy("<f4", "(2, 3)", le_all<float>({1, 4, 2, 5, 3, 6}), true));
  ASSERT_NE(dump, nullptr);
  const ArrayView view = load_one(*dump, "y").view;
  EXPECT_EQ(view.strides, (std::vector<i64>{4, 8}));
  EXPECT_FALSE(view.is_contiguous());
  EXPECT_EQ(load<float>(view.at(0, 2)), 3.0f);
  EXPECT_EQ(load<float>(view.at(1, 0)), 4.0f);
}

TEST(Npy, FortranOrderInTheOtherByteOrder) {
  const std::string data = fixtures::reversed(le_all<u16>({1, 4, 2, 5, 3, 6}), 2);
  const auto dump = open(npy(">u2", "(2, 3)", data, true));
  ASSERT_NE(dump, nullptr);
  const ArrayView view = load_one(*dump, "y").view;
  EXPECT_EQ(load<u16>(view.at(0, 2)), 3);
  EXPECT_EQ(load<u16>(view.at(1, 0)), 4);
}

TEST(Npy, HeadersThatPythonAlsoReads) {
  const std::string data = le_all<i64>({1, 2});
  for (const std::string header : {
           "{'shape': (2,), 'fortran_order': False, 'descr': '<i8'}",
           "{\"descr\":\"<i8\",\"fortran_order\":False,\"shape\":(2,)}",
           "  { 'descr' : '<i8' , 'fortran_order' : False , 'shape' : ( 2 , ) , }   ",
           "{'descr': '<i8', 'fortran_order': False, 'shape': (2L,), }",  // Python 2
       }) {
    const auto dump = open(npy_with_header(header, data));
    ASSERT_NE(dump, nullptr) << header;
    EXPECT_EQ(numbers(load_one(*dump, "y").view), (std::vector<double>{1, 2})) << header;
  }
}

TEST(Npy, ScalarsAndEmptyArrays) {
  const auto scalar = open(npy("<f8", "()", le(2.5)));
  ASSERT_NE(scalar, nullptr);
  EXPECT_TRUE(scalar->arrays()[0].shape.empty());
  EXPECT_EQ(scalar->arrays()[0].rows(), 1);
  EXPECT_EQ(numbers(load_one(*scalar, "y").view), std::vector<double>{2.5});
  const auto empty = open(npy("<f8", "(0, 5)", ""));
  ASSERT_NE(empty, nullptr);
  EXPECT_EQ(load_one(*empty, "y").view.rows(), 0);
  const auto no_width = open(npy("|S0", "(3,)", ""));
  ASSERT_NE(no_width, nullptr);
  EXPECT_EQ(texts(load_one(*no_width, "y").view), (std::vector<std::string>{"", "", ""}));
}

TEST(Npy, BfloatByName) {
  const std::string bytes = npy("<u2", "(1,)", le<u16>(0x4049));
  for (const std::string name : {"y", "arr_0"}) {
    const auto dump = open(bytes, {{name}});
    ASSERT_NE(dump, nullptr);
    EXPECT_EQ(dump->arrays()[0].dtype, DType::kBF16);
    EXPECT_EQ(numbers(load_one(*dump, "y").view), std::vector<double>{3.140625});
  }
  const auto other = open(bytes, {{"another"}});
  ASSERT_NE(other, nullptr);
  EXPECT_EQ(other->arrays()[0].dtype, DType::kU16);
  EXPECT_EQ(error_of(npy("<f4", "(1,)", le(1.0f)), {{"y"}}),
            "y.npy: array 'y' is f32, it cannot be read as bf16; bf16 has elements of two bytes");
}

TEST(Npy, PicklesAreListedAndNeverLoaded) {
  EXPECT_EQ(load_error_of(npy("|O", "(2,)", "\x80\x04K\x01.")),
            "y.npy: object array (a pickle), cupel never loads pickles; save it as a plain array");
}

TEST(Npy, TypesWithoutAMeaningHere) {
  EXPECT_EQ(load_error_of(npy("<c8", "(1,)", std::string(8, '\0'))),
            "y.npy: type '<c8' is not read; save it as bool, integers, f16, bf16, f32, f64 or "
            "strings");
  EXPECT_EQ(load_error_of(npy("<M8[ns]", "(1,)", std::string(8, '\0'))),
            "y.npy: type '<M8[ns]' (dates and times) is not read; save it as integers or text");
  EXPECT_EQ(load_error_of(npy_with_header("{'descr': [('a', '<f4'), ('b', '<i8', (2,))], "
                                          "'fortran_order': False, 'shape': (1,)}",
                                          std::string(20, '\0'))),
            "y.npy: structured array (named fields); save each field as an array of its own");
}

TEST(Npy, Truncated) {
  const std::string bytes = npy("<f4", "(3,)", le_all<float>({1, 2, 3}));
  EXPECT_EQ(error_of(bytes.substr(0, bytes.size() - 1)),
            "y.npy: truncated: 11 bytes of data, its shape needs 12");
  EXPECT_EQ(error_of(bytes.substr(0, 5)), "y.npy: is not an npy array");
  EXPECT_EQ(error_of(bytes.substr(0, 7)), "y.npy: truncated inside its header, at 7 bytes");
  EXPECT_EQ(error_of(bytes.substr(0, 9)), "y.npy: truncated inside its header, at 9 bytes");
  EXPECT_EQ(error_of(bytes.substr(0, 30)), "y.npy: truncated inside its header, at 30 of 68 bytes");
  // Every shorter file is an error, too.
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_NE(error_of(bytes.substr(0, size)), "no error") << size;
  }
  EXPECT_EQ(error_of(bytes + "x"),
            "y.npy: 1 bytes after the array; an npy dump holds one array; use npz for several");
}

TEST(Npy, EveryHeaderField) {
  const auto with = [](const std::string& header) {
    return error_of(npy_with_header(header, std::string(8, '\0')));
  };
  const std::string at = "y.npy: malformed npy header: it ";
  const std::string tail = ", 'fortran_order': False, 'shape': (1,)}";
  EXPECT_EQ(with("['descr']"), at + "does not begin with '{'");
  EXPECT_EQ(with("{descr: '<f8'" + tail), at + "has a key that is not a string");
  EXPECT_EQ(with("{'descr' '<f8'" + tail), at + "has no ':' after the key 'descr'");
  EXPECT_EQ(with("{'descr': '<f8', 'extra': 1" + tail), at + "has an unknown key 'extra'");
  EXPECT_EQ(with("{'descr': '<f8', 'descr': '<f8'" + tail), at + "has the key 'descr' twice");
  EXPECT_EQ(with("{'fortran_order': False, 'shape': (1,)}"), at + "has no 'descr'");
  EXPECT_EQ(with("{'descr': '<f8', 'shape': (1,)}"), at + "has no 'fortran_order'");
  EXPECT_EQ(with("{'descr': '<f8', 'fortran_order': False}"), at + "has no 'shape'");
  EXPECT_EQ(with("{'descr': '<f8'" + tail + "x"), at + "has something after its '}'");
  EXPECT_EQ(with("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)"),
            at + "does not end with '}'");
  EXPECT_EQ(with("{'descr': 8" + tail), at + "has a 'descr' that is not a string");
  EXPECT_EQ(with("{'descr': '<f8" + tail), at + "does not end with '}'");
  EXPECT_EQ(with("{'descr': '<q8'" + tail), at + "has an unknown type '<q8'");
  EXPECT_EQ(with("{'descr': 'f8'" + tail), at + "has an unknown type 'f8'");
  EXPECT_EQ(with("{'descr': '|f8'" + tail), at + "has an unknown type '|f8'");
  EXPECT_EQ(with("{'descr': '<S99999999999999999999'" + tail),
            at + "has an unknown type '<S99999999999999999999'");
  EXPECT_EQ(with("{'descr': '<U9223372036854775807'" + tail), at + "has strings that are too long");
  EXPECT_EQ(with("{'descr': [('a', '<f4')" + tail), at + "has a 'descr' with unpaired brackets");
  const auto order = [&](const std::string& value) {
    return with("{'descr': '<f8', 'fortran_order': " + value + ", 'shape': (1,)}");
  };
  EXPECT_EQ(order("0"), at + "has a 'fortran_order' that is neither True nor False");
  const auto shape = [&](const std::string& value) {
    return with("{'descr': '<f8', 'fortran_order': False, 'shape': " + value + "}");
  };
  EXPECT_EQ(shape("1"), at + "has a 'shape' that is not a tuple");
  EXPECT_EQ(shape("[1]"), at + "has a 'shape' that is not a tuple");
  EXPECT_EQ(shape("(1)"), at + "has a 'shape' that is a number, not a tuple");
  EXPECT_EQ(shape("(1.0,)"), at + "has a 'shape' that is a number, not a tuple");
  EXPECT_EQ(shape("('a',)"), at + "has a 'shape' that is not a tuple of whole numbers");
  EXPECT_EQ(shape("(1 1,)"), at + "has a 'shape' that is a number, not a tuple");
  EXPECT_EQ(shape("(2, 1 1)"), at + "has a 'shape' without a comma between its numbers");
  EXPECT_EQ(shape("(-1,)"), at + "has a negative number in its 'shape'");
  EXPECT_EQ(shape("(9223372036854775808,)"), at + "has a 'shape' that is too large");
  EXPECT_EQ(shape("(4294967296, 4294967296)"), at + "has a 'shape' that is too large");
  EXPECT_EQ(shape("(0, 4294967296, 4294967296)"), at + "has a 'shape' that is too large");
  std::string many;
  for (int i = 0; i < 65; ++i) many += "1, ";
  EXPECT_EQ(shape("(" + many + ")"), at + "has a 'shape' with more than 64 dimensions");
  // A shape that claims more than there is allocates nothing: it is compared with the file first.
  EXPECT_EQ(shape("(1152921504606846975,)").substr(0, 17), "y.npy: malformed ");
  EXPECT_EQ(shape("(100000000000,)"),
            "y.npy: truncated: 8 bytes of data, its shape needs 800000000000");
}

TEST(Npy, VersionsAndHeaderLengths) {
  std::string bytes = npy("<f8", "(1,)", le(1.0));
  bytes[6] = 4;
  EXPECT_EQ(error_of(bytes), "y.npy: npy version 4.0 is not known; cupel reads 1.0, 2.0 and 3.0");
  bytes[6] = 1;
  bytes[7] = 1;
  EXPECT_EQ(error_of(bytes), "y.npy: npy version 1.1 is not known; cupel reads 1.0, 2.0 and 3.0");
  std::string longer = npy("<f8", "(1,)", le(1.0), false, 2);
  longer.replace(8, 4, "\xff\xff\xff\x7f");
  EXPECT_EQ(error_of(longer), "y.npy: header of 2147483647 bytes, more than 1048576");
}

TEST(Npy, HashIsOfTheDataAlone) {
  const std::string data = le_all<float>({1, 2, 3});
  const auto dump = open(npy("<f4", "(3,)", data));
  ASSERT_NE(dump, nullptr);
  StreamHash nothing, expected;
  EXPECT_EQ(*dump->verify(), nothing.digest());  // nothing has been loaded
  load_one(*dump, "y");
  expected.update(as_bytes(data));
  EXPECT_EQ(*dump->verify(), expected.digest());
}

TEST(Npy, ArraysOutliveTheirDump) {
  const TempFolder folder;
  const std::string path = folder.write("y.npy", npy("<f4", "(2,)", le_all<float>({1, 2})));
  Array array;
  {
    Result<std::unique_ptr<Dump>> dump = open_dump(path, {});
    ASSERT_TRUE(dump.ok()) << text_of(dump);
    array = load_one(**dump, "y");
  }
  EXPECT_EQ(numbers(array.view), (std::vector<double>{1, 2}));
}

}  // namespace
}  // namespace cupel
