#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "io/checksum.hpp"
#include "io/fixtures.hpp"

namespace cupel {
namespace {

using namespace fixtures;

const std::string kScore = npy("<f4", "(4,)", le_all<float>({0.1f, 0.9f, 0.4f, 0.8f}));
const std::string kLabel = npy("|u1", "(4,)", std::string("\0\1\0\1", 4));

std::unique_ptr<Dump> open(const std::string& bytes) {
  Result<std::unique_ptr<Dump>> dump = open_as("npz", "m.npz", bytes);
  EXPECT_TRUE(dump.ok()) << text_of(dump);
  return dump.ok() ? std::move(dump).value() : nullptr;
}

/// The first error of opening, loading everything and verifying.
std::string error_of(const std::string& bytes) {
  Result<std::unique_ptr<Dump>> dump = open_as("npz", "m.npz", bytes);
  if (!dump.ok()) {
    EXPECT_EQ(dump.error().code, ErrorCode::kInput);
    return dump.error().text();
  }
  std::vector<i64> all;
  for (std::size_t i = 0; i < (*dump)->arrays().size(); ++i) all.push_back(static_cast<i64>(i));
  const Result<std::vector<Array>> loaded = (*dump)->load(all);
  if (!loaded.ok()) {
    EXPECT_EQ(loaded.error().code, ErrorCode::kInput);
    return "load: " + loaded.error().text();
  }
  const Result<HashText> verified = (*dump)->verify();
  if (!verified.ok()) {
    EXPECT_EQ(verified.error().code, ErrorCode::kInput);
    return "verify: " + verified.error().text();
  }
  return "no error";
}

HashText hash_of(const std::string& bytes) {
  StreamHash hash;
  hash.update(as_bytes(bytes));
  return hash.digest();
}

struct Way {
  const char* name;
  u16 method;
  bool zip64;
  bool data_descriptor;
};

class NpzWays : public ::testing::TestWithParam<Way> {};

TEST_P(NpzWays, HoldTheSameArrays) {
  const Way& way = GetParam();
  const auto dump = open(zip({{"score.npy", kScore, way.method, way.zip64, way.data_descriptor},
                              {"label", kLabel, way.method, way.zip64, way.data_descriptor}}));
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(dump->format(), "npz");
  ASSERT_EQ(dump->arrays().size(), 2u);
  EXPECT_EQ(dump->arrays()[0].name, "score");
  EXPECT_EQ(dump->arrays()[0].dtype, DType::kF32);
  EXPECT_EQ(dump->arrays()[1].name, "label");
  EXPECT_EQ(dump->arrays()[1].shape, std::vector<i64>{4});
  EXPECT_EQ(dump->place(1, 3), "m.npz: 'label' row 3");
  // Loaded the other way round: the hash is in the file's order all the same.
  EXPECT_EQ(numbers(load_one(*dump, "label").view), (std::vector<double>{0, 1, 0, 1}));
  EXPECT_EQ(load<float>(load_one(*dump, "score").view.at(1)), 0.9f);
  const Result<HashText> hash = dump->verify();
  ASSERT_TRUE(hash.ok()) << text_of(hash);
  EXPECT_EQ(*hash, hash_of(le_all<float>({0.1f, 0.9f, 0.4f, 0.8f}) + std::string("\0\1\0\1", 4)));
}

INSTANTIATE_TEST_SUITE_P(All, NpzWays,
                         ::testing::Values(Way{"stored", 0, false, false},
                                           Way{"deflated", 8, false, false},
                                           Way{"stored_zip64", 0, true, false},
                                           Way{"deflated_zip64", 8, true, false},
                                           Way{"stored_descriptor", 0, false, true},
                                           Way{"deflated_descriptor", 8, false, true}),
                         [](const auto& way) { return std::string(way.param.name); });

TEST(Npz, OnlyLoadedColumnsAreVerified) {
  const auto dump =
      open(zip({{"bad.npy", kScore, 0, false, false, 0, 0, 1}, {"label.npy", kLabel}}));
  ASSERT_NE(dump, nullptr);
  load_one(*dump, "label");
  EXPECT_EQ(*dump->verify(), hash_of(std::string("\0\1\0\1", 4)));
  load_one(*dump, "bad");
  EXPECT_EQ(text_of(dump->verify()),
            "m.npz: array 'bad': damaged, its bytes do not match their checksum");
}

TEST(Npz, ByteOrderAndHashOfStoredAndDeflated) {
  const std::string data = fixtures::reversed(le_all<i64>({-3, 5, i64{1} << 33}), 8);
  for (const u16 method : {u16{0}, u16{8}}) {
    const auto dump = open(zip({{"y.npy", npy(">i8", "(3,)", data), method}}));
    ASSERT_NE(dump, nullptr);
    EXPECT_EQ(numbers(load_one(*dump, "y").view), (std::vector<double>{-3, 5, 8589934592.0}));
    EXPECT_EQ(*dump->verify(), hash_of(data));
  }
}

TEST(Npz, LongHeadersOfDeflatedMembers) {
  const std::string shape = "(1," + std::string(100'000, ' ') + ")";
  const auto dump = open(zip({{"y.npy", npy("<f8", shape, le(2.5), false, 2), 8}}));
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(numbers(load_one(*dump, "y").view), std::vector<double>{2.5});
}

TEST(Npz, FilesBesideTheArraysAreIgnored) {
  const auto dump = open(
      zip({{"folder/", ""}, {"notes.txt", "hello"}, {"y.npy", kLabel}, {"e", ""}}, "a comment"));
  ASSERT_NE(dump, nullptr);
  ASSERT_EQ(dump->arrays().size(), 1u);
  EXPECT_EQ(dump->arrays()[0].name, "y");
}

TEST(Npz, PicklesAreListedAndNeverLoaded) {
  const auto dump = open(zip({{"o.npy", npy("|O", "(2,)", "\x80\x04K\x01.")}, {"y.npy", kLabel}}));
  ASSERT_NE(dump, nullptr);
  ASSERT_EQ(dump->arrays().size(), 2u);
  EXPECT_EQ(dump->arrays()[0].name, "o");
  EXPECT_EQ(dump->arrays()[0].shape, std::vector<i64>{2});
  const std::string expected =
      "m.npz: array 'o': object array (a pickle), cupel never loads pickles; save it as a plain "
      "array";
  EXPECT_EQ(text_of(dump->readable(0)), expected);
  EXPECT_TRUE(dump->readable(1).ok());
  const i64 wanted = 0;
  EXPECT_EQ(text_of(dump->load({&wanted, 1})), expected);
}

TEST(Npz, Duplicates) {
  EXPECT_EQ(error_of(zip({{"y.npy", kLabel}, {"y.npy", kScore}})),
            "m.npz: two arrays are called 'y'");
  EXPECT_EQ(error_of(zip({{"y.npy", kLabel}, {"y", kScore}})), "m.npz: two arrays are called 'y'");
}

TEST(Npz, MethodsAndEncryption) {
  EXPECT_EQ(error_of(zip({{"y.npy", kLabel, 12}})),
            "m.npz: array 'y' uses compression method 12 (bzip2); cupel reads stored and deflated "
            "members");
  EXPECT_EQ(error_of(zip({{"y.npy", kLabel, 93}})),
            "m.npz: array 'y' uses compression method 93 (zstd); cupel reads stored and deflated "
            "members");
  EXPECT_EQ(error_of(zip({{"y.npy", kLabel, 0, false, false, 1}})),
            "m.npz: array 'y' is encrypted; save it without a password");
}

TEST(Npz, Checksums) {
  EXPECT_EQ(error_of(zip({{"y.npy", kLabel, 0, false, false, 0, 0, 0x80}})),
            "verify: m.npz: array 'y': damaged, its bytes do not match their checksum");
  EXPECT_EQ(error_of(zip({{"y.npy", kLabel, 8, false, false, 0, 0, 0x80}})),
            "load: m.npz: array 'y': damaged, its bytes do not match their checksum");
  // One flipped bit of data.
  std::string bytes = zip({{"y.npy", kScore}});
  const std::size_t data = bytes.find(le(0.9f));
  ASSERT_NE(data, std::string::npos);
  bytes[data] = static_cast<char>(bytes[data] ^ 1);
  EXPECT_EQ(error_of(bytes),
            "verify: m.npz: array 'y': damaged, its bytes do not match their checksum");
}

TEST(Npz, DeclaredSizesOfABomb) {
  // A deflated member that claims a size which its npy header does not have.
  EXPECT_EQ(error_of(zip({{"y.npy", kLabel, 8, false, false, 0, 1000}})),
            "m.npz: array 'y': the archive declares " + std::to_string(kLabel.size() + 1000) +
                " bytes, its npy header " + std::to_string(kLabel.size()));
  // A size that deflate cannot reach from so few bytes.
  const std::string large = npy("|u1", "(1000000000,)", "");
  EXPECT_EQ(error_of(zip({{"y.npy", large, 8, false, false, 0, 1'000'000'000}})),
            "m.npz: array 'y': declared sizes (1000000077 bytes, " +
                std::to_string(deflated(large).size()) + " in the archive) are impossible");
  // Both headers lie, within what deflate could reach: the data ends early.
  const std::string lie = npy("|u1", "(20000,)", "");
  EXPECT_EQ(error_of(zip({{"y.npy", lie, 8, false, false, 0, 20'000}})),
            "load: m.npz: array 'y': damaged compressed data");
  // The data goes on behind what both declare.
  const std::string more = npy("|u1", "(3,)", "abcdef");
  EXPECT_EQ(error_of(zip({{"y.npy", more, 8, false, false, 0, -3}})),
            "load: m.npz: array 'y': damaged compressed data");
  EXPECT_EQ(error_of(zip({{"y.npy", kLabel, 0, false, false, 0, 7}})),
            "m.npz: array 'y': stored without compression, but with two sizes, " +
                std::to_string(kLabel.size() + 7) + " and " + std::to_string(kLabel.size()));
}

TEST(Npz, LocalHeaderMustAgree) {
  const std::string expected = "m.npz: array 'y': its local header and the directory disagree";
  EXPECT_EQ(error_of(zip({{"y.npy", kLabel, 0, false, false, 0, 0, 0, "z.npy"}})), expected);
  EXPECT_EQ(error_of(zip({{"y.npy", kLabel, 0, false, false, 0, 0, 0, "yy.npy"}})), expected);
  const std::string good = zip({{"y.npy", kLabel}});
  ASSERT_EQ(error_of(good), "no error");
  // Method, CRC, both sizes, in the local header alone.
  for (const std::size_t field : {8, 14, 18, 22}) {
    std::string bytes = good;
    bytes[field] = static_cast<char>(bytes[field] ^ 8);
    EXPECT_EQ(error_of(bytes), expected) << field;
  }
}

TEST(Npz, Truncated) {
  const std::string bytes = zip({{"score.npy", kScore}, {"label.npy", kLabel, 8}});
  for (std::size_t size = 4; size < bytes.size(); ++size) {
    const std::string error = error_of(bytes.substr(0, size));
    EXPECT_TRUE(error.starts_with("m.npz: truncated or malformed zip archive")) << size << error;
  }
  // Bytes are missing in the middle, so that the last member reaches into the directory.
  std::string shorter = bytes;
  shorter.erase(40, 20);
  EXPECT_NE(error_of(shorter), "no error");
}

TEST(Npz, NothingInside) {
  EXPECT_EQ(error_of(zip({})), "m.npz: a zip archive without npy arrays");
  EXPECT_EQ(error_of(zip({{"model/data.pkl", "\x80\x02."}})),
            "m.npz: a zip archive without npy arrays");
}

TEST(Npz, MembersMustBeWhatTheirNameSays) {
  EXPECT_EQ(error_of(zip({{"y.npy", "not an array"}})), "m.npz: array 'y': is not an npy array");
  EXPECT_EQ(error_of(zip({{"y.npy", ""}})), "m.npz: array 'y': is not an npy array");
  EXPECT_EQ(error_of(zip({{"y.npy", npy("<f8", "(x)", "")}})),
            "m.npz: array 'y': malformed npy header: it has a 'shape' that is not a tuple of whole "
            "numbers");
  EXPECT_EQ(error_of(zip({{"y.npy", kLabel.substr(0, 40), 8}})),
            "m.npz: array 'y': truncated inside its header, at 40 of 68 bytes");
}

TEST(Npz, DirectoryThatClaimsABillionMembers) {
  std::string bytes = zip({{"y.npy", kLabel, 0, true}});
  const std::size_t record = bytes.find("PK\x06\x06");
  ASSERT_NE(record, std::string::npos);
  bytes.replace(record + 24, 16, le<u64>(1'000'000'000) + le<u64>(1'000'000'000));
  EXPECT_EQ(error_of(bytes),
            "m.npz: malformed zip archive: its directory counts more members than the file has "
            "room for");
}

TEST(Npz, BfloatByName) {
  const std::string bytes = zip({{"logits.npy", npy("<u2", "(1,)", le<u16>(0x4049)), 8}});
  Result<std::unique_ptr<Dump>> dump = open_as("npz", "m.npz", bytes, {{"logits"}});
  ASSERT_TRUE(dump.ok()) << text_of(dump);
  EXPECT_EQ((*dump)->arrays()[0].dtype, DType::kBF16);
  EXPECT_EQ(numbers(load_one(**dump, "logits").view), std::vector<double>{3.140625});
}

/// Whether the address lies in a mapping of the file, from the process's own list of mappings.
bool is_mapped_from(const void* address, const std::string& path) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream fields(line);
    u64 begin = 0, end = 0;
    char dash = 0;
    fields >> std::hex >> begin >> dash >> end;
    const u64 at = reinterpret_cast<std::uintptr_t>(address);
    if (at >= begin && at < end) return line.ends_with(path);
  }
  return false;
}

TEST(Npz, StoredArraysAreTheMappedFile) {
  const TempFolder folder;
  const std::string path = folder.write("m.npz", zip({{"a.npy", kScore}, {"b.npy", kScore, 8}}));
  Result<std::unique_ptr<Dump>> dump = open_dump(path, {});
  ASSERT_TRUE(dump.ok()) << text_of(dump);
  EXPECT_TRUE(is_mapped_from(load_one(**dump, "a").view.data, path));
  EXPECT_FALSE(is_mapped_from(load_one(**dump, "b").view.data, path));
  // Loading again gives the same bytes, not another copy.
  EXPECT_EQ(load_one(**dump, "b").view.data, load_one(**dump, "b").view.data);
}

}  // namespace
}  // namespace cupel
