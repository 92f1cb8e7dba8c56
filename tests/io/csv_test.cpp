#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "io/checksum.hpp"
#include "io/fixtures.hpp"

namespace cupel {
namespace {

using namespace fixtures;

std::unique_ptr<Dump> open(const std::string& text, const std::string& name = "scores.csv") {
  const bool tabs = name.ends_with(".tsv") || name.ends_with(".tsv.gz");
  Result<std::unique_ptr<Dump>> dump = open_as(tabs ? "tsv" : "csv", name, text);
  EXPECT_TRUE(dump.ok()) << text_of(dump);
  return dump.ok() ? std::move(dump).value() : nullptr;
}

std::string error_of(const std::string& text) {
  const Result<std::unique_ptr<Dump>> dump = open_as("csv", "scores.csv", text);
  if (!dump.ok()) {
    EXPECT_EQ(dump.error().code, ErrorCode::kInput);
  }
  return text_of(dump);
}

std::vector<std::string> names(const Dump& dump) {
  std::vector<std::string> out;
  for (const ArrayInfo& info : dump.arrays()) out.push_back(info.name);
  return out;
}

/// The type of a column with these fields.
DType type_of(const std::vector<std::string>& fields) {
  std::string text = "x,y\n";
  for (const std::string& field : fields) text += field + ",0\n";
  const auto dump = open(text);
  return dump == nullptr ? DType::kBytes : dump->arrays()[0].dtype;
}

TEST(Csv, ColumnsAndTypes) {
  const auto dump = open("id,label,score,sex,ok\n7,1,0.25,f,true\n8,0,1e-3,m,FALSE\n");
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(dump->format(), "csv");
  EXPECT_EQ(names(*dump), (std::vector<std::string>{"id", "label", "score", "sex", "ok"}));
  EXPECT_EQ(dump->arrays()[0].dtype, DType::kI64);
  EXPECT_EQ(dump->arrays()[2].dtype, DType::kF64);
  EXPECT_EQ(dump->arrays()[2].item_bytes, 8);
  EXPECT_EQ(dump->arrays()[3].dtype, DType::kText);
  EXPECT_EQ(dump->arrays()[3].item_bytes, 0);
  EXPECT_EQ(dump->arrays()[4].dtype, DType::kBool);
  for (const ArrayInfo& info : dump->arrays()) EXPECT_EQ(info.shape, std::vector<i64>{2});
  EXPECT_EQ(numbers(load_one(*dump, "score").view), (std::vector<double>{0.25, 0.001}));
  EXPECT_EQ(numbers(load_one(*dump, "id").view), (std::vector<double>{7, 8}));
  EXPECT_EQ(numbers(load_one(*dump, "ok").view), (std::vector<double>{1, 0}));
  EXPECT_EQ(texts(load_one(*dump, "sex").view), (std::vector<std::string>{"f", "m"}));
}

TEST(Csv, TypeInference) {
  EXPECT_EQ(type_of({"1", "-2", "+3"}), DType::kI64);
  EXPECT_EQ(type_of({" 1", "2 "}), DType::kI64);
  EXPECT_EQ(type_of({"9223372036854775807", "-9223372036854775808"}), DType::kI64);
  EXPECT_EQ(type_of({"9223372036854775808", "0"}), DType::kU64);
  EXPECT_EQ(type_of({"18446744073709551615"}), DType::kU64);
  EXPECT_EQ(type_of({"18446744073709551616"}), DType::kF64);
  EXPECT_EQ(type_of({"9223372036854775808", "-1"}), DType::kF64);
  EXPECT_EQ(type_of({"1", "2.0"}), DType::kF64);
  EXPECT_EQ(type_of({"1", ""}), DType::kF64);
  EXPECT_EQ(type_of({"", ""}), DType::kF64);
  EXPECT_EQ(type_of({".5", "5.", "1E5", "1e+05", "-1.5e-3"}), DType::kF64);
  EXPECT_EQ(type_of({"nan", "NaN", "inf", "-Inf", "Infinity", "+INFINITY"}), DType::kF64);
  EXPECT_EQ(type_of({"True", "false", " TRUE"}), DType::kBool);
  EXPECT_EQ(type_of({"true", "1"}), DType::kText);
  EXPECT_EQ(type_of({"true", ""}), DType::kText);
  for (const std::string text : {"abc", "1x", "1e", "1e+", ".", "-", "+", "--1", "+-1", "0x10",
                                 "1_0", "1 2", "-true", "nan(1)", "NA", "1,5"}) {
    EXPECT_EQ(type_of({"1", "\"" + text + "\""}), DType::kText) << text;
  }
}

TEST(Csv, NumbersAreTheNearestDoubles) {
  const auto dump = open(
      "x\n0.1\n1e23\n9007199254740993.0\n4.9e-324\n1e400\n-1e400\n1e-400\n+2.5\n-0.0\nnan\n-inf\n "
      "\n");
  ASSERT_NE(dump, nullptr);
  const std::vector<double> x = numbers(load_one(*dump, "x").view);
  ASSERT_EQ(x.size(), 12u);
  EXPECT_EQ(x[0], 0.1);
  EXPECT_EQ(x[1], 1e23);
  EXPECT_EQ(x[2], 9007199254740992.0);
  EXPECT_EQ(x[3], std::numeric_limits<double>::denorm_min());
  EXPECT_EQ(x[4], std::numeric_limits<double>::infinity());
  EXPECT_EQ(x[5], -std::numeric_limits<double>::infinity());
  EXPECT_EQ(x[6], 0.0);
  EXPECT_EQ(x[7], 2.5);
  EXPECT_TRUE(x[8] == 0.0 && std::signbit(x[8]));
  EXPECT_TRUE(std::isnan(x[9]));
  EXPECT_EQ(x[10], -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(x[11]));
}

TEST(Csv, LargeIntegersAreExact) {
  const auto dump = open("a,b\n9007199254740993,18446744073709551615\n-3,1\n");
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(load<i64>(load_one(*dump, "a").view.at(0)), 9007199254740993);
  EXPECT_EQ(load<i64>(load_one(*dump, "a").view.at(1)), -3);
  EXPECT_EQ(load<u64>(load_one(*dump, "b").view.at(0)), 18446744073709551615u);
}

TEST(Csv, Quoting) {
  const auto dump = open(
      "name,\"the \"\"score\"\"\",note\n"
      "\"a,b\",0.5,plain\n"
      "\"say \"\"hi\"\"\",\"0.75\",\"two\r\nlines\n\"\n"
      "\"\",1,\" spaced \"\n"
      " kept ,2,last");
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(names(*dump), (std::vector<std::string>{"name", "the \"score\"", "note"}));
  EXPECT_EQ(texts(load_one(*dump, "name").view),
            (std::vector<std::string>{"a,b", "say \"hi\"", "", " kept "}));
  EXPECT_EQ(numbers(load_one(*dump, "the \"score\"").view), (std::vector<double>{0.5, 0.75, 1, 2}));
  EXPECT_EQ(texts(load_one(*dump, "note").view),
            (std::vector<std::string>{"plain", "two\r\nlines\n", " spaced ", "last"}));
  // A row's place is the physical line on which it begins.
  EXPECT_EQ(dump->place(0, 0), "scores.csv:2");
  EXPECT_EQ(dump->place(0, 1), "scores.csv:3");
  EXPECT_EQ(dump->place(0, 2), "scores.csv:6");
  EXPECT_EQ(dump->place(0, 3), "scores.csv:7");
}

TEST(Csv, LineEndsAndMarks) {
  for (const std::string text :
       {"x,y\n1,a\n2,b\n", "x,y\n1,a\n2,b", "x,y\r\n1,a\r\n2,b\r\n",
        "\xef\xbb\xbfx,y\n1,a\n2,b\n\n\r\n\n", "\xef\xbb\xbf\"x\",y\r\n1,\"a\"\r\n\"2\",b",
        " x , y \n1,a\n2,\"b\"\n"}) {
    const auto dump = open(text);
    ASSERT_NE(dump, nullptr);
    EXPECT_EQ(names(*dump), (std::vector<std::string>{"x", "y"})) << text;
    EXPECT_EQ(numbers(load_one(*dump, "x").view), (std::vector<double>{1, 2})) << text;
    EXPECT_EQ(texts(load_one(*dump, "y").view), (std::vector<std::string>{"a", "b"})) << text;
  }
}

TEST(Csv, BlankLinesOfOneColumnAreRows) {
  const auto dump = open("y\n\n1\n\n\n2\n\n");
  ASSERT_NE(dump, nullptr);
  const std::vector<double> y = numbers(load_one(*dump, "y").view);
  ASSERT_EQ(y.size(), 5u);  // the blank line at the end is none
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[1], 1.0);
  EXPECT_TRUE(std::isnan(y[2]) && std::isnan(y[3]));
  EXPECT_EQ(y[4], 2.0);
  EXPECT_EQ(dump->place(0, 4), "scores.csv:6");
}

TEST(Csv, HeaderOnlyIsNoRows) {
  const auto dump = open("label,score\n");
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(dump->arrays()[1].shape, std::vector<i64>{0});
  EXPECT_EQ(dump->arrays()[1].dtype, DType::kF64);
  EXPECT_EQ(load_one(*dump, "score").view.rows(), 0);
}

TEST(Csv, Tsv) {
  const auto dump = open("label\ttext\n1\ta,b\n0\t\"c\td\"\n", "m.tsv");
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(dump->format(), "tsv");
  EXPECT_EQ(numbers(load_one(*dump, "label").view), (std::vector<double>{1, 0}));
  EXPECT_EQ(texts(load_one(*dump, "text").view), (std::vector<std::string>{"a,b", "c\td"}));
}

TEST(Csv, StandardInputIsTsvByItsFirstLine) {
  const auto tabs = open("label\ta,b\n1\t2\n", "-");
  ASSERT_NE(tabs, nullptr);
  EXPECT_EQ(tabs->format(), "tsv");
  EXPECT_EQ(names(*tabs), (std::vector<std::string>{"label", "a,b"}));
  const auto commas = open("label,score\n1,2\n", "-");
  ASSERT_NE(commas, nullptr);
  EXPECT_EQ(commas->format(), "csv");
  EXPECT_EQ(commas->path(), "-");
  EXPECT_EQ(commas->place(0, 0), "standard input:2");
}

TEST(Csv, Gzip) {
  const std::string first = "label,score\n1,0.5\n", second = "0,0.25\n";
  for (const std::string& bytes : {gzipped(first + second), gzipped(first) + gzipped(second),
                                   gzipped(first + second) + std::string(100, '\0')}) {
    const auto dump = open(bytes, "m.csv.gz");
    ASSERT_NE(dump, nullptr);
    EXPECT_EQ(dump->file_bytes(), static_cast<i64>(bytes.size()));
    EXPECT_EQ(numbers(load_one(*dump, "score").view), (std::vector<double>{0.5, 0.25}));
  }
  const std::string bytes = gzipped(first + second);
  EXPECT_EQ(error_of(bytes.substr(0, bytes.size() - 1)), "scores.csv: truncated gzip data");
  std::string damaged = bytes;
  damaged[bytes.size() - 5] = static_cast<char>(damaged[bytes.size() - 5] ^ 1);  // size or CRC
  EXPECT_EQ(error_of(damaged), "scores.csv: damaged gzip data");
  EXPECT_EQ(error_of(bytes + "garbage"), "scores.csv: damaged gzip data");
}

TEST(Csv, RaggedRows) {
  EXPECT_EQ(error_of("a,b,c\n1,2,3\n1,2\n"), "scores.csv:3: 2 fields, the header has 3");
  EXPECT_EQ(error_of("a,b\n1,2\n\"x\ny\",2\n1,2,3\n"), "scores.csv:5: 3 fields, the header has 2");
  EXPECT_EQ(error_of("a,b\n1\n"), "scores.csv:2: 1 field, the header has 2");
  EXPECT_EQ(error_of("a,b\n1,2\n\n\n3,4\n"), "scores.csv:3: blank line, the header has 2 columns");
  EXPECT_EQ(error_of("a\n1\n\n1,2\n"), "scores.csv:4: 2 fields, the header has 1");
}

TEST(Csv, BadQuotes) {
  EXPECT_EQ(error_of("a,b\n1,\"x\n2,3\n"), "scores.csv:2: quoted field without its closing quote");
  EXPECT_EQ(error_of("a,b\n1,\"x"), "scores.csv:2: quoted field without its closing quote");
  const std::string hint =
      "; a field with quotes is quoted as a whole, quotes inside it are doubled";
  EXPECT_EQ(error_of("a,b\n1,2\n1,x\"y\"\n"), "scores.csv:3: misplaced quote" + hint);
  EXPECT_EQ(error_of("a,b\n1,\"x\"y\n"), "scores.csv:2: misplaced quote" + hint);
}

TEST(Csv, BytesThatAreNoText) {
  EXPECT_EQ(error_of(std::string("a,b\n1,2\n1,\0\n", 12)),
            "scores.csv:3: NUL byte in the text; is this a text file in UTF-8?");
  EXPECT_EQ(error_of(std::string("a,b\n1,\"\0\"\n", 10)),
            "scores.csv:2: NUL byte in the text; is this a text file in UTF-8?");
  EXPECT_EQ(error_of(std::string("\xff\xfe"
                                 "a\0,\0b\0\n\0",
                                 10)),
            "scores.csv:1: UTF-16 text; save it as UTF-8");
  const std::string mac = ": carriage return inside the line; end lines with LF or CRLF";
  EXPECT_EQ(error_of("a,b\r1,2\r3,4\r"), "scores.csv:1" + mac);
  EXPECT_EQ(error_of("a,b\n\"x\"\r1,2\n"), "scores.csv:2" + mac);
}

TEST(Csv, Headers) {
  EXPECT_EQ(error_of("a,b,a\n"), "scores.csv:1: two columns are called 'a'");
  EXPECT_EQ(error_of("a,,\n"), "scores.csv:1: two columns are called ''");
  EXPECT_EQ(error_of("1,0.93\n0,0.1\n"),
            "scores.csv:1: numbers where the column names should be; add a header line");
  EXPECT_EQ(error_of("\n"), "scores.csv: has no header line");
  EXPECT_EQ(error_of("\na,b\n"), "scores.csv:1: blank line where the column names should be");
  // As pandas writes a table with its index, and a matrix.
  const auto dump = open(",0,1\n0,0.5,0.5\n");
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(names(*dump), (std::vector<std::string>{"", "0", "1"}));
}

TEST(Csv, NotNumeric) {
  std::string text = "label,score,flag,both\n";
  for (int row = 0; row < 15; ++row) text += "1,0.5,true,x\n";
  text += "0,abc,maybe,x\n0,def,true,x\n";
  const auto dump = open(text);
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(dump->arrays()[1].dtype, DType::kText);
  EXPECT_EQ(dump->not_numeric(1).text(), "scores.csv:17: column 'score': 'abc' is not a number");
  EXPECT_EQ(dump->not_numeric(1).code, ErrorCode::kInput);
  EXPECT_EQ(dump->not_numeric(2).text(),
            "scores.csv:17: column 'flag': 'maybe' is not true or false");
  EXPECT_EQ(dump->not_numeric(3).text(), "scores.csv:2: column 'both': 'x' is not a number");
}

TEST(Csv, NotNumericAmongNumbersAndTruthValues) {
  const auto dump = open("x\n1\ntrue\n2\n");
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(dump->not_numeric(0).text(), "scores.csv:3: column 'x': 'true' is not a number");
  const auto quoted = open("x,y\n\"a\nb" + std::string(60, 'c') + "\",1\n");
  ASSERT_NE(quoted, nullptr);
  EXPECT_EQ(quoted->not_numeric(0).text(),
            "scores.csv:2: column 'x': 'a?b" + std::string(37, 'c') + "...' is not a number");
}

TEST(Csv, HashIsOfTheParsedColumnsInFileOrder) {
  const auto dump = open("a,b,c\n1,x,0.5\n2,,0.25\n");
  ASSERT_NE(dump, nullptr);
  const i64 wanted[] = {2, 1};
  ASSERT_TRUE(dump->load(wanted).ok());
  StreamHash expected;
  const std::string bytes = "x\n\n" + le_all<double>({0.5, 0.25});
  expected.update(as_bytes(bytes));
  EXPECT_EQ(*dump->verify(), expected.digest());
}

// Blocks are 1 MiB: lines and quoted fields cross their ends at every offset.
TEST(Csv, FilesOfManyBlocks) {
  std::string text = "id,name,score\n";
  std::vector<double> scores;
  i64 rows = 0;
  while (text.size() < 5'000'000) {
    const std::string score = std::to_string(rows % 1000) + ".5";
    const std::string name =
        rows % 3 == 0 ? "\"q,\n" + std::string(static_cast<std::size_t>(rows % 37), 'x') + "\""
                      : std::string(static_cast<std::size_t>(rows % 41), 'y');
    text += std::to_string(rows) + "," + name + "," + score + "\n";
    scores.push_back(static_cast<double>(rows % 1000) + 0.5);
    ++rows;
  }
  for (const bool gzip : {false, true}) {
    const auto dump = open(gzip ? gzipped(text) : text);
    ASSERT_NE(dump, nullptr);
    EXPECT_EQ(numbers(load_one(*dump, "score").view), scores);
    const Array name = load_one(*dump, "name");
    EXPECT_EQ(text_at(name.view, 3), "q,\nxxx");
    EXPECT_EQ(text_at(name.view, 40), std::string(40, 'y'));
    // Every third row takes two lines.
    EXPECT_EQ(dump->place(0, rows - 1),
              "scores.csv:" + std::to_string(2 + rows - 1 + (rows + 1) / 3));
  }
}

TEST(Csv, LongLines) {
  const std::string field(3'000'000, 'z');
  const auto dump = open("a,b\n" + field + ",1\n\"" + field + "\",2\n");
  ASSERT_NE(dump, nullptr);
  EXPECT_EQ(texts(load_one(*dump, "a").view), (std::vector<std::string>{field, field}));
}

}  // namespace
}  // namespace cupel
