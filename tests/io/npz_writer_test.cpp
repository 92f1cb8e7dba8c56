// Archives that are written block by block, read back by the reader of dumps, whose checks of
// headers, sizes and checksums are its own.
#include "cupel/io/npz_writer.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>

#include "cupel/io/dump.hpp"

namespace cupel {
namespace {

namespace fs = std::filesystem;

class NpzWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "cupel-npz-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    path_ = (folder_ / "a.npz").string();
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
    ASSERT_GE(descriptor_, 0);
  }
  void TearDown() override {
    ::close(descriptor_);
    fs::remove_all(folder_);
  }

  /// The elements of a numeric array as doubles, after the checksums were found right.
  std::vector<double> numbers(const std::string& name, std::vector<i64>* shape = nullptr) {
    auto dump = open_dump(path_, {});
    EXPECT_TRUE(dump.ok()) << dump.error().text();
    for (std::size_t i = 0; dump.ok() && i < (*dump)->arrays().size(); ++i) {
      if ((*dump)->arrays()[i].name != name) continue;
      const i64 wanted[] = {static_cast<i64>(i)};
      auto loaded = (*dump)->load(wanted);
      EXPECT_TRUE(loaded.ok()) << loaded.error().text();
      const auto verified = (*dump)->verify();
      EXPECT_TRUE(verified.ok()) << verified.error().text();
      ArrayView view = loaded->front().view;
      if (shape != nullptr) *shape = view.shape;
      view.shape = {std::accumulate(view.shape.begin(), view.shape.end(), i64{1},
                                    [](i64 a, i64 b) { return a * b; })};
      view.strides = {view.item_bytes};
      std::vector<double> values;
      for (i64 row = 0; row < view.shape[0]; ++row) values.push_back(number_at(view, row));
      return values;
    }
    ADD_FAILURE() << "no array " << name;
    return {};
  }

  fs::path folder_;
  std::string path_;
  int descriptor_ = -1;
};

TEST_F(NpzWriterTest, ColumnsGrowTogetherAndReadBack) {
  FileSink sink(descriptor_, path_, folder_.string());
  NpzWriter npz(sink);
  const auto labels = npz.column("labels", DType::kU16);
  const auto offsets = npz.column("offsets", DType::kI64);
  const auto mask = npz.column("mask", DType::kU8, 3);
  ASSERT_TRUE(labels.ok() && offsets.ok() && mask.ok());
  npz.number("alpha", 0.1);
  std::vector<double> wanted_labels;
  std::vector<double> wanted_offsets;
  for (i64 block = 0; block < 300; ++block) {
    // Blocks of 0 to 2,000 labels: buffers of the sink fill up in the middle of one.
    std::vector<u16> some(static_cast<std::size_t>(block * 7919 % 2001));
    for (std::size_t i = 0; i < some.size(); ++i) some[i] = static_cast<u16>(i * 31 + 7);
    wanted_labels.insert(wanted_labels.end(), some.begin(), some.end());
    const i64 offset[] = {block * block};
    wanted_offsets.push_back(static_cast<double>(block * block));
    const u8 bits[] = {static_cast<u8>(block), 1, 2};
    ASSERT_TRUE(npz.append(*labels, std::span<const u16>(some)).ok());
    ASSERT_TRUE(npz.append(*offsets, std::span<const i64>(offset)).ok());
    ASSERT_TRUE(npz.append(*mask, std::span<const u8>(bits)).ok());
  }
  ASSERT_TRUE(npz.finish().ok());
  EXPECT_EQ(numbers("labels"), wanted_labels);
  EXPECT_EQ(numbers("offsets"), wanted_offsets);
  std::vector<i64> shape;
  const std::vector<double> bits = numbers("mask", &shape);
  EXPECT_EQ(shape, (std::vector<i64>{300, 3}));
  EXPECT_EQ(bits[3 * 255], 255);
  EXPECT_EQ(numbers("alpha"), std::vector<double>{0.1});
  // Nothing but the archive: what waited had no name.
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator{}), 1);
}

// Would catch a checksum that begins anew at a block without rows.
TEST_F(NpzWriterTest, EmptyBlocksChangeNothing) {
  FileSink sink(descriptor_, path_, folder_.string());
  NpzWriter npz(sink);
  const auto rows = npz.column("rows", DType::kI64);
  const auto bits = npz.column("bits", DType::kU8, 2);
  ASSERT_TRUE(rows.ok() && bits.ok());
  const i64 row[] = {7, 8};
  const u8 bit[] = {1, 2, 3, 4};
  for (int block = 0; block < 3; ++block) {
    const bool empty = block != 1;
    ASSERT_TRUE(npz.append(*rows, std::span<const i64>(row, empty ? 0 : 2)).ok());
    ASSERT_TRUE(npz.append(*rows, std::span<const i64>()).ok());
    ASSERT_TRUE(npz.append(*bits, std::span<const u8>(bit, empty ? 0 : 4)).ok());
    ASSERT_TRUE(npz.append(*bits, std::span<const u8>()).ok());
  }
  ASSERT_TRUE(npz.finish().ok());
  EXPECT_EQ(numbers("rows"), (std::vector<double>{7, 8}));
  EXPECT_EQ(numbers("bits"), (std::vector<double>{1, 2, 3, 4}));
}

TEST_F(NpzWriterTest, NoRowsAtAll) {
  FileSink sink(descriptor_, path_, folder_.string());
  NpzWriter npz(sink);
  ASSERT_TRUE(npz.column("labels", DType::kU16).ok());
  ASSERT_TRUE(npz.column("mask", DType::kU8, 2).ok());
  ASSERT_TRUE(npz.finish().ok());
  std::vector<i64> shape;
  EXPECT_TRUE(numbers("labels", &shape).empty());
  EXPECT_EQ(shape, std::vector<i64>{0});
  EXPECT_TRUE(numbers("mask", &shape).empty());
  EXPECT_EQ(shape, (std::vector<i64>{0, 2}));
}

TEST_F(NpzWriterTest, TextIsUnicode) {
  FileSink sink(descriptor_, path_, folder_.string());
  NpzWriter npz(sink);
  npz.text("about", "{\"a\":\"\xC3\xA9\xF0\x9F\x90\x88\xFF\"}");
  npz.text("nothing", "");
  ASSERT_TRUE(npz.finish().ok());
  auto dump = open_dump(path_, {});
  ASSERT_TRUE(dump.ok()) << dump.error().text();
  const i64 wanted[] = {0, 1};
  auto loaded = (*dump)->load(wanted);
  ASSERT_TRUE(loaded.ok());
  ASSERT_TRUE((*dump)->verify().ok());
  // The byte that is not UTF-8 becomes U+FFFD.
  EXPECT_EQ(text_at((*loaded)[0].view, 0), "{\"a\":\"\xC3\xA9\xF0\x9F\x90\x88\xEF\xBF\xBD\"}");
  EXPECT_EQ(text_at((*loaded)[1].view, 0), "");
}

TEST_F(NpzWriterTest, FoldersWithoutRoomAreAnErrorWithItsPlace) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  const int full = ::open("/dev/full", O_RDWR);
  FileSink sink(full, "sets.npz", folder_.string());
  NpzWriter npz(sink);
  npz.number("alpha", 0.1);
  const auto done = npz.finish();
  ::close(full);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().text(), "sets.npz: cannot write: No space left on device");
  EXPECT_EQ(done.error().code, ErrorCode::kInternal);
}

// Members that begin beyond 4 GiB, and one that is larger: only zip64 records hold such numbers.
TEST_F(NpzWriterTest, ArchivesBeyondFourGibibytes) {
  if (std::getenv("CUPEL_TEST_LARGE") == nullptr) {
    GTEST_SKIP() << "set CUPEL_TEST_LARGE to write an archive of more than 4 GiB";
  }
  FileSink sink(descriptor_, path_, folder_.string());
  NpzWriter npz(sink);
  const auto labels = npz.column("labels", DType::kU8);
  ASSERT_TRUE(labels.ok());
  const std::vector<u8> zeros(std::size_t{64} << 20);
  i64 appended = 0;
  for (; appended <= i64{1} << 32; appended += static_cast<i64>(zeros.size())) {
    ASSERT_TRUE(npz.append(*labels, std::span<const u8>(zeros)).ok());
  }
  npz.integer("after", 7);
  ASSERT_TRUE(npz.finish().ok());
  auto dump = open_dump(path_, {});
  ASSERT_TRUE(dump.ok()) << dump.error().text();
  EXPECT_EQ((*dump)->arrays()[0].rows(), appended);
  EXPECT_EQ(numbers("after"), std::vector<double>{7});
}

}  // namespace
}  // namespace cupel
