// Opening by content, and the DUMP arguments of the command line.
#include "cupel/io/dump.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "io/fixtures.hpp"

namespace cupel {
namespace {

namespace fs = std::filesystem;
using namespace fixtures;

const std::string kArray = npy("<f4", "(2,)", le_all<float>({1, 2}));

TEST(OpenDump, ContentDecides) {
  const TempFolder folder;
  const auto format_of = [&](const std::string& name, const std::string& bytes) -> std::string {
    const auto dump = open_dump(folder.write(name, bytes), {});
    return dump.ok() ? std::string((*dump)->format()) : dump.error().text();
  };
  EXPECT_EQ(format_of("a.txt", kArray), "npy");
  EXPECT_EQ(format_of("b.csv", zip({{"a.npy", kArray}})), "npz");
  EXPECT_EQ(format_of("c.dat", "a,b\n1,2\n"), "csv");
  EXPECT_EQ(format_of("d.csv.gz", gzipped("a,b\n1,2\n")), "csv");
  EXPECT_EQ(format_of("e.tsv", "a\tb\n1\t2\n"), "tsv");
  EXPECT_EQ(format_of("f.tsv.gz", gzipped("a\tb\n1\t2\n")), "tsv");
}

TEST(OpenDump, WhatIsNoDump) {
  const TempFolder folder;
  const auto error_of = [](const std::string& path) {
    const auto dump = open_dump(path, {});
    EXPECT_EQ(dump.ok() ? ErrorCode::kInternal : dump.error().code, ErrorCode::kInput);
    return text_of(dump);
  };
  EXPECT_EQ(error_of(folder / "none.npz"), folder / "none.npz: no such file");
  EXPECT_EQ(error_of(folder.path()), folder.path() + ": is a directory, not a dump");
  const std::string empty = folder.write("empty.csv", "");
  EXPECT_EQ(error_of(empty), empty + ": is empty");
  const std::string pickle = folder.write("m.pkl", std::string("\x80\x04\x95\0\0", 5));
  EXPECT_EQ(error_of(pickle), pickle + ": unknown format; cupel reads npy, npz, CSV and TSV");
  const std::string below = folder / "m.pkl/x.npy";
  EXPECT_EQ(error_of(below), below + ": cannot open: not a directory");
  if (::geteuid() != 0) {  // root reads everything
    const std::string secret = folder.write("secret.csv", "a\n1\n");
    ::chmod(secret.c_str(), 0);
    EXPECT_EQ(error_of(secret), secret + ": cannot open: permission denied");
  }
}

TEST(OpenDump, PipesAreReadIntoMemory) {
  const TempFolder folder;
  const std::string path = folder / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::string text = "score\n";
  for (int row = 0; row < 200'000; ++row) text += "0.5\n";  // more than a pipe holds
  for (const std::string& bytes : {text, kArray}) {
    std::thread writer([&] { std::ofstream(path, std::ios::binary) << bytes; });
    auto dump = open_dump(path, {});
    writer.join();
    ASSERT_TRUE(dump.ok()) << text_of(dump);
    EXPECT_EQ((*dump)->file_bytes(), static_cast<i64>(bytes.size()));
    const i64 wanted = 0;
    EXPECT_TRUE((*dump)->load({&wanted, 1}).ok());
  }
}

TEST(OpenDump, FormatsHaveNamesAndExtensions) {
  std::vector<std::string_view> names, extensions;
  for (const DumpFormat& format : dump_formats()) {
    names.push_back(format.name);
    extensions.insert(extensions.end(), format.extensions.begin(), format.extensions.end());
  }
  EXPECT_EQ(names, (std::vector<std::string_view>{"npy", "npz", "tsv", "csv"}));
  EXPECT_EQ(extensions,
            (std::vector<std::string_view>{".npy", ".npz", ".tsv", ".tsv.gz", ".csv", ".csv.gz"}));
}

class Arguments : public ::testing::Test {
 protected:
  Arguments() {
    for (const char* name :
         {"a.npz", "b.csv", "c.txt", "Z.npz", "sub/d.npy", "sub/deep/e.tsv.gz", "sub/deep/f.npz",
          ".hidden.npz", ".dot/g.npz", "odd[1].npz", "x1.npz", "x2.npz", "xa.npz"}) {
      folder_.write(name, "x");
    }
    fs::create_directory(folder_ / "void");
    // A link back to the top: whoever follows it does not come back.
    fs::create_directory_symlink(folder_.path(), folder_ / "sub/loop");
  }

  /// The paths below the folder, or the error's text with the folder's name removed.
  std::vector<std::string> expand(const std::vector<std::string>& arguments) {
    const Result<std::vector<std::string>> paths = expand_dump_arguments(arguments);
    std::vector<std::string> out;
    if (!paths.ok()) {
      EXPECT_EQ(paths.error().code, ErrorCode::kInput);
      out.push_back(paths.error().text());
    } else {
      out = *paths;
    }
    for (std::string& path : out) {
      for (std::size_t at = 0; (at = path.find(folder_.path() + "/")) != std::string::npos;) {
        path.erase(at, folder_.path().size() + 1);
      }
    }
    return out;
  }

  using Paths = std::vector<std::string>;
  TempFolder folder_;
};

TEST_F(Arguments, FilesKeepTheirOrderAndRepeat) {
  EXPECT_EQ(expand({folder_ / "b.csv", folder_ / "a.npz", folder_ / "b.csv", "-"}),
            (Paths{"b.csv", "a.npz", "b.csv", "-"}));
  EXPECT_EQ(expand({folder_ / "none.npz"}), Paths{"no such file 'none.npz'"});
}

TEST_F(Arguments, FoldersAreSearchedForDumps) {
  EXPECT_EQ(expand({folder_.path()}),
            (Paths{"Z.npz", "a.npz", "b.csv", "odd[1].npz", "sub/d.npy", "sub/deep/e.tsv.gz",
                   "sub/deep/f.npz", "x1.npz", "x2.npz", "xa.npz"}));
  EXPECT_EQ(expand({folder_ / "sub/"}),
            (Paths{"sub/d.npy", "sub/deep/e.tsv.gz", "sub/deep/f.npz"}));
  EXPECT_EQ(
      expand({folder_ / "void"}),
      Paths{"no dumps in 'void'; a directory is searched for .npy, .npz, .tsv, .tsv.gz, .csv, "
            ".csv.gz"});
}

TEST_F(Arguments, Globs) {
  EXPECT_EQ(expand({folder_ / "*.npz"}),
            (Paths{"Z.npz", "a.npz", "odd[1].npz", "x1.npz", "x2.npz", "xa.npz"}));
  EXPECT_EQ(expand({folder_ / "x?.npz"}), (Paths{"x1.npz", "x2.npz", "xa.npz"}));
  EXPECT_EQ(expand({folder_ / "x[0-9].npz"}), (Paths{"x1.npz", "x2.npz"}));
  EXPECT_EQ(expand({folder_ / "x[!0-9].npz"}), Paths{"xa.npz"});
  EXPECT_EQ(expand({folder_ / "*/*.npy"}), Paths{"sub/d.npy"});
  EXPECT_EQ(expand({folder_ / "sub/**/*.npz"}), Paths{"sub/deep/f.npz"});
  EXPECT_EQ(expand({folder_ / "**/deep/*"}), (Paths{"sub/deep/e.tsv.gz", "sub/deep/f.npz"}));
  EXPECT_EQ(expand({folder_ / "sub/**"}),
            (Paths{"sub/d.npy", "sub/deep/e.tsv.gz", "sub/deep/f.npz"}));
  EXPECT_EQ(expand({folder_ / "**/**/f.npz"}), Paths{"sub/deep/f.npz"});
  EXPECT_EQ(expand({folder_ / ".h*"}), Paths{".hidden.npz"});
  EXPECT_EQ(expand({folder_ / "odd[1].npz"}), Paths{"odd[1].npz"});  // a file of that very name
  EXPECT_EQ(expand({folder_ / "*.nope"}), Paths{"'*.nope' matches no file"});
  EXPECT_EQ(expand({folder_ / "v*"}), Paths{"'v*' matches no file"});  // only a folder
}

TEST_F(Arguments, RelativeGlobs) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_.path());
  EXPECT_EQ(expand({"x[12].npz", "sub/**/*.npy", "."}).size(), 13u);
  EXPECT_EQ(expand({"x[12].npz"}), (Paths{"x1.npz", "x2.npz"}));
  fs::current_path(before);
}

TEST_F(Arguments, Lists) {
  const std::string list = folder_.write(
      "list.txt", "# dumps\n\n  " + folder_ / "b.csv" + "  \r\n" + folder_ / "x?.npz" + "\n-\n");
  EXPECT_EQ(expand({"@" + list}), (Paths{"b.csv", "x1.npz", "x2.npz", "xa.npz", "-"}));
  const std::string outer = folder_.write("outer.txt", "@" + list + "\n" + folder_ / "sub");
  EXPECT_EQ(expand({"@" + outer}).size(), 8u);
  const std::string bad = folder_.write("bad.txt", folder_ / "a.npz" + "\n" + folder_ / "none");
  EXPECT_EQ(expand({"@" + bad}), Paths{"bad.txt:2: no such file 'none'"});
  const std::string none = folder_.write("none.txt", "# nothing\n");
  EXPECT_EQ(expand({"@" + none}), Paths{"list 'none.txt' names no dumps"});
  EXPECT_EQ(expand({"@" + (folder_ / "missing.txt")}), Paths{"cannot read the list 'missing.txt'"});
  EXPECT_EQ(expand({"@" + (folder_ / "sub")}), Paths{"cannot read the list 'sub'"});
  const std::string self = folder_ / "self.txt";
  folder_.write("self.txt", "@" + self);
  EXPECT_EQ(expand({"@" + self}),
            Paths{"self.txt:1: list 'self.txt' is nested too deeply; does a list name itself?"});
}

}  // namespace
}  // namespace cupel
