// cupel sets as scripts meet it: files that appear whole or not at all, names, formats, summaries.
#include <cstdio>

#include "cli/cli.hpp"

namespace {

using namespace cupel_cli;

class SetsCli : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    // lac scores of the labels of the calibration rows: 1 - .8, 1 - .7, 1 - .6.
    write("cal.csv", "score,label\n0.8,1\n0.3,0\n0.6,1\n");
    write("d.csv", "score\n0.9\n0.5\n0.65\n0.05\n");
    write("both.csv", "score,label,cal\n0.8,1,1\n0.9,1,0\n0.3,0,1\n0.5,0,0\n0.6,1,1\n0.65,0,0\n");
  }
  /// Sets of d.csv at alpha = 1/2: k = ceil(4 / 2) = 2, qhat = 1 - .7, so p >= .7.
  std::vector<std::string> call(std::vector<std::string> more) const {
    std::vector<std::string> words = {"sets",    "d.csv", "--calibration", "cal.csv",
                                      "--alpha", "0.5",   "--backend",     "cpu"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  /// Logits of `rows` rows of 64 classes, as npy, and their labels. Written as they come: what this
  /// process once had in memory would count as its child's.
  void write_many(std::size_t rows) const {
    const std::string shape = "(" + std::to_string(rows) + ", 64)";
    write_npy<float>("logits.npy", "<f4", shape, {});
    std::ofstream file(folder_ / "logits.npy", std::ios::binary | std::ios::app);
    std::vector<std::int64_t> labels(rows);
    std::uint32_t state = 1;
    float row[64];
    for (std::int64_t& label : labels) {
      for (float& value : row) {
        state = state * 1664525u + 1013904223u;
        value = static_cast<float>(state >> 20) / 512.0F;
      }
      file.write(reinterpret_cast<const char*>(row), sizeof row);
      label = static_cast<std::int64_t>(state >> 26);
    }
    write_npy("y.npy", "<i8", "(" + std::to_string(rows) + ",)", labels);
  }
};

TEST_F(SetsCli, WritesCsv) {
  const Ended done = run(call({"-o", "out.csv"}));
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(done.out, "");
  EXPECT_EQ(read("out.csv"), "row,labels\n0,1\n1,\n2,\n3,0\n");
  EXPECT_EQ(done.err,
            "cupel: d.csv: sets of 4 rows in out.csv; 2 classes, 3 calibration rows (cal.csv)\n"
            "cupel:   alpha 0.5: qhat 0.3, mean size 0.5, 2 empty, 2 of one label\n");
  const Ended shown = run(call({"-q", "-o", "-"}));
  EXPECT_EQ(shown.out, read("out.csv"));
  EXPECT_EQ(shown.err, "");
}

TEST_F(SetsCli, SeveralAlphasAndOptions) {
  // alpha = 0.1: k = ceil(4 * 0.9) > 3, every label; equal alphas once.
  const Ended done = run({"sets", "d.csv", "--calibration", "cal.csv", "--alpha", "0.5,0.1,0.50",
                          "--empty", "argmax", "-q", "-o", "-"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(done.out, "row,labels_0.5,labels_0.1\n0,1,0 1\n1,0,0 1\n2,1,0 1\n3,0,0 1\n");
}

TEST_F(SetsCli, PValues) {
  // Scores .2, .3, .4: of .9 the label 1 has .1 and so (3 + 1) / 4, label 0 has .9 and so 1 / 4.
  const Ended done = run(call({"-q", "-o", "-", "--p-values", "plain"}));
  EXPECT_EQ(done.out, "row,labels,p_values\n0,1,1\n1,,\n2,,\n3,0,1\n") << done.err;
  const Ended all = run(call({"-q", "-o", "-", "--p-values", "plain:all"}));
  // .5: both labels' scores are above all three; .65: .65 and .35, of which one is below .4.
  EXPECT_EQ(all.out, "row,labels,p_values\n0,1,0.25 1\n1,,0.25 0.25\n2,,0.25 0.5\n3,0,1 0.25\n")
      << all.err;
}

TEST_F(SetsCli, SummaryInJson) {
  const Ended done = run({"sets", "both.csv", "--calibration", "cal", "--alpha", "0.5", "--backend",
                          "cpu", "--json", "-o", "out.npz"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(done.err, "");
  EXPECT_EQ(done.out.rfind("{\n  \"schema\": \"cupel.sets/1\",\n  \"cupel\": {\"version\":", 0), 0u)
      << done.out;
  // Of the rows .9 (1), .5 (0) and .65 (0) at 1 - .7: {1}, none, none.
  for (const std::string part :
       {"{\"dump\":\"both.csv\",\"task\":\"binary\",\"rows\":3,\"classes\":2,\"calibration\":"
        "\"cal\","
        "\"n_calibration\":3,\"seed\":0,\"p_values\":null,\"levels\":[{\"alpha\":\"0.5\",\"qhat\":",
        "\"qhat_reason\":null,\"rank\":2,\"mean_size\":0.3333333333333333,\"labels\":1,\"empty\":2,"
        "\"singletons\":1,\"covered\":1,\"coverage\":0.3333333333333333,\"params\":{"
        "\"conformal\":\"lac\"",
        "\"inputs\":[{\"path\":\"both.csv\",\"format\":\"csv\",\"rows\":6,",
        "\"output\":\"out.npz\"", "\"failures\": []", "\"fallback\":null"}) {
    EXPECT_NE(done.out.find(part), std::string::npos) << part << "\n" << done.out;
  }
}

TEST_F(SetsCli, NpzIsReadBackAndDoesNotDependOnThreads) {
  ASSERT_EQ(run(call({"-q", "-o", "one.npz", "--threads", "1"})).exit_code, 0);
  ASSERT_EQ(run(call({"-q", "-o", "more.npz", "--threads", "7"})).exit_code, 0);
  EXPECT_EQ(read("one.npz"), read("more.npz"));
  const Ended done = run({"inspect", "one.npz"});
  for (const std::string line : {"labels         u16   [2]", "offsets        i64   [5]",
                                 "rows           i64   [4]", "qhat           f64   []"}) {
    EXPECT_NE(done.out.find(line), std::string::npos) << done.out;
  }
  ASSERT_EQ(run(call({"-q", "-o", "mask.npz", "--layout", "bitmask"})).exit_code, 0);
  EXPECT_NE(run({"inspect", "mask.npz"}).out.find("mask           u8    [4,1]"), std::string::npos);
}

TEST_F(SetsCli, NumpyReadsBothLayouts) {
  std::string python = std::string(CUPEL_SOURCE_DIR) + "/.venv/bin/python";
  if (::access(python.c_str(), X_OK) != 0) python = "python3";
  if (std::system((python + " -c 'import numpy' 2>/dev/null").c_str()) != 0) {
    GTEST_SKIP() << "no numpy here";
  }
  write_many(300);
  const std::vector<std::string> options = {
      "sets",          "logits.npy",  "--logits", "logits",  "--label", "y.npy",
      "--calibration", "0.5",         "--alpha",  "0.2,0.4", "-q",      "--p-values",
      "plain:all",     "--conformal", "aps",      "-o"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> words = options;
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  ASSERT_EQ(with({"csr.npz"}).exit_code, 0);
  ASSERT_EQ(with({"mask.npz", "--layout", "bitmask"}).exit_code, 0);
  ASSERT_EQ(with({"out.csv"}).exit_code, 0);
  write("check.py",
        "import csv, json, numpy as np\n"
        "z, m = np.load('csr.npz'), np.load('mask.npz')\n"
        "about = json.loads(str(z['about']))\n"
        "assert about['schema'] == 'cupel.sets/1' and about['layout'] == 'csr'\n"
        "assert json.loads(str(m['about']))['bit_order'] == 'little'\n"
        "k, n = int(z['classes']), len(z['rows'])\n"
        "assert k == 64 and n + int(z['n_calibration']) == 300 and (z['rows'] == m['rows']).all()\n"
        "lines = list(csv.DictReader(open('out.csv')))\n"
        "assert [int(x['row']) for x in lines] == list(z['rows'])\n"
        "for i, a in enumerate(('0.2', '0.4')):\n"
        "    assert z['alpha'][i] == float(a) and len(z['offsets_' + a]) == n + 1\n"
        "    dense = np.zeros((n, k), dtype=np.uint8)\n"
        "    for r in range(n):\n"
        "        own = z['labels_' + a][z['offsets_' + a][r]:z['offsets_' + a][r + 1]]\n"
        "        assert ' '.join(map(str, own)) == lines[r]['labels_' + a]\n"
        "        dense[r, own] = 1\n"
        "    bits = np.unpackbits(m['mask_' + a], axis=1, count=k, bitorder='little')\n"
        "    assert (bits == dense).all() and dense.sum() == about['levels'][i]['labels'] > 0\n"
        "    # A label is in the set where its p-value is above alpha.\n"
        "    assert ((z['p_values'] > float(a)) == dense).all()\n"
        "assert (z['p_values'] == m['p_values']).all()\n"
        "print('fine')\n");
  const std::string command = "cd " + folder_.string() + " && " + python + " check.py";
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string said;
  for (int c = 0; (c = std::fgetc(pipe)) != EOF;) said += static_cast<char>(c);
  ::pclose(pipe);
  EXPECT_EQ(said, "fine\n");
}

TEST_F(SetsCli, SeveralDumpsHaveFilesOfTheirOwn) {
  fs::create_directory(path("s"));
  fs::create_directory(path("t"));
  write("e.csv", "score\n0.99\n");
  const Ended done = run({"sets", "d.csv", "e.csv", "--calibration", "cal.csv", "--alpha", "0.5",
                          "-q", "-o", "s/{stem}.csv"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(read("s/d.csv"), "row,labels\n0,1\n1,\n2,\n3,0\n");
  EXPECT_EQ(read("s/e.csv"), "row,labels\n0,1\n");
  // One that fails leaves the others alone.
  const Ended partial = run({"sets", "bad.csv", "e.csv", "--calibration", "cal.csv", "--alpha",
                             "0.5", "-q", "-o", "t/{stem}.csv"});
  EXPECT_EQ(partial.exit_code, 4);
  EXPECT_EQ(partial.err, "cupel: bad.csv:3: column 'score': 'abc' is not a number\n");
  EXPECT_EQ(read("t/e.csv"), "row,labels\n0,1\n");
  EXPECT_FALSE(fs::exists(path("t/bad.csv")));
  expect_refusal(
      run({"sets", "d.csv", "e.csv", "--calibration", "cal.csv", "-o", "x.npz"}), 2,
      "-o x.npz is one file for 2 dumps; write {stem} for the name of each, or make them "
      "one with --pool");
  fs::copy(path("d.csv"), path("t/d.csv"));
  expect_refusal(
      run({"sets", "d.csv", "t/d.csv", "--calibration", "cal.csv", "-o", "s/{stem}.npz"}), 2,
      "'d.csv' and 't/d.csv' would both be written to s/d.npz; give them names of their own");
  const Ended pooled = run({"sets", "d.csv", "e.csv", "--pool", "--calibration", "cal.csv",
                            "--alpha", "0.5", "-q", "-o", "-"});
  EXPECT_EQ(pooled.out, "row,labels\n0,1\n1,\n2,\n3,0\n4,1\n") << pooled.err;
}

TEST_F(SetsCli, MistakesAreFoundBeforeTheWork) {
  const std::vector<std::string> before = files();
  const auto refused = [&](std::vector<std::string> more, const std::string& message) {
    expect_refusal(run(call(std::move(more))), 2, message);
  };
  refused({}, "no -o for the sets; name a file, or - for CSV on standard output");
  refused({"-o", "x.txt"},
          "the name 'x.txt' says no format; end it in .npz or .csv, or give --format");
  refused({"-o", "-", "--format", "npz"}, "standard output takes CSV; name a file with -o for npz");
  refused({"-o", "-", "--json"},
          "--json and -o - both write to standard output; name a file with -o");
  refused({"-o", "x.csv", "--layout", "bitmask"},
          "--layout bitmask is for npz; CSV lists the labels");
  refused({"-o", "x.npz", "--layout", "bitmask", "--p-values", "plain"},
          "a bitmask has no place for the p-values of its labels; give --p-values plain:all, or "
          "--layout csr");
  refused({"-o", "d.csv"},
          "d.csv: is an input, which would be replaced; name another file with -o");
  fs::create_symlink("cal.csv", path("link.csv"));
  refused({"-o", "link.csv"},
          "link.csv: is an input, which would be replaced; name another file with -o");
  fs::remove(path("link.csv"));
  refused({"-o", "no/such/x.npz"}, "no/such/x.npz: there is no folder 'no/such'; create it first");
  refused({"-o", "x.npz", "--conformal", "rasp"},
          "unknown --conformal 'rasp', did you mean 'raps'?");
  refused({"-o", "x.npz", "--conformal", "raps(lambda=-1)"},
          "option 'lambda' of 'raps' is '-1'; expected a number from 0 to 1000");
  expect_refusal(run({"sets", "d.csv", "-o", "x.npz"}), 2,
                 "no rows to calibrate on; name a column, a file or a fraction with --calibration");
  expect_refusal(run({"sets", "both.csv", "--calibration", "1.5", "-o", "x.npz"}), 2,
                 "--calibration 1.5 is not between 0 and 1; give a fraction such as 0.5, a boolean "
                 "column, or a file");
  expect_refusal(
      run({"sets", "both.csv", "--calibration", "cals", "-o", "x.npz"}), 3,
      "both.csv: no column or file 'cals' for --calibration, did you mean 'cal'?; it has score [6] "
      "f64, label [6] i64, cal [6] i64");
  expect_refusal(run({"sets", "d.csv", "--calibration", "0.5", "-o", "x.npz"}), 3,
                 "d.csv: no array for the label; it has score [4] f64; name one with --label");
  EXPECT_EQ(files(), before);
}

TEST_F(SetsCli, StemsAreAllReplaced) {
  const Ended done = run(call({"-q", "-o", "{stem}_{stem}.csv"}));
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_TRUE(fs::exists(path("d_d.csv")));
  // A name that looks like one stands for itself.
  fs::copy(path("d.csv"), path("{stem}.csv"));
  ASSERT_EQ(
      run({"sets", "{stem}.csv", "--calibration", "cal.csv", "-q", "-o", "x{stem}.csv"}).exit_code,
      0);
  EXPECT_TRUE(fs::exists(path("x{stem}.csv")));
}

TEST_F(SetsCli, AllFailuresAreSaid) {
  write("odd.csv", "score\nabc\n");
  const Ended done = run(
      {"sets", "bad.csv", "odd.csv", "--calibration", "cal.csv", "--json", "-o", "o_{stem}.npz"});
  EXPECT_EQ(done.exit_code, 3);
  EXPECT_EQ(done.out, "");
  EXPECT_EQ(done.err,
            "cupel: bad.csv:3: column 'score': 'abc' is not a number\n"
            "cupel: odd.csv:2: column 'score': 'abc' is not a number\n");
  // What ails the calibration file is said once.
  write("cal2.csv", "score,x\n0.5,1\n");
  const Ended other =
      run({"sets", "d.csv", "a.csv", "--calibration", "cal2.csv", "-q", "-o", "o_{stem}.npz"});
  EXPECT_EQ(other.exit_code, 3);
  EXPECT_EQ(other.err,
            "cupel: cal2.csv: no array for the label; it has score [1] f64, x [1] i64; name one "
            "with --label\n");
}

TEST_F(SetsCli, OneRowIsNoRows) {
  write("cal1.csv", "score,label\n0.8,1\n");
  write("one.csv", "score\n0.9\n");
  const Ended done = run({"sets", "one.csv", "--calibration", "cal1.csv", "--alpha", "0.5",
                          "--backend", "cpu", "-o", "o.csv"});
  EXPECT_EQ(done.err.rfind("cupel: one.csv: sets of 1 row in o.csv; 2 classes, 1 calibration row "
                           "(cal1.csv)\n",
                           0),
            0u)
      << done.err;
}

TEST_F(SetsCli, GroupsAreNamedByColumn) {
  write("g.csv", "score,label,cal,sex\n0.8,1,1,f\n0.7,1,1,\n0.9,1,0,f\n0.5,0,0,m\n");
  std::vector<std::string> words = {
      "sets",    "g.csv", "--calibration", "cal", "--conformal", "lac(mode=group)",
      "--group", "sex",   "--alpha",       "0.5", "--backend",   "cpu",
      "-o",      "g.npz"};
  const Ended done = run(words);
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(
      done.err.find("warning: g.csv: 1 of 2 rows are in groups without a calibration row, and "
                    "its set has every label\n"),
      std::string::npos)
      << done.err;
  EXPECT_NE(done.err.find("2 calibration rows (cal); 1 row of groups without one\n"),
            std::string::npos)
      << done.err;
  words.push_back("--json");
  const Ended told = run(words);
  EXPECT_NE(told.out.find("\"groups\":[{\"sex\":null},{\"sex\":\"f\"}],"
                          "\"unseen_group_rows\":1,"),
            std::string::npos)
      << told.out;
}

TEST_F(SetsCli, OutputsNeverReplaceAList) {
  write("list.csv", "d.csv\n");
  const std::vector<std::string> before = files();
  const std::string message =
      "list.csv: is an input, which would be replaced; name another file with -o";
  expect_refusal(run({"sets", "@list.csv", "--calibration", "cal.csv", "-o", "list.csv"}), 2,
                 message);
  expect_refusal(run({"eval", "@list.csv", "-o", "list.csv"}), 2, message);
  EXPECT_EQ(read("list.csv"), "d.csv\n");
  EXPECT_EQ(files(), before);
}

TEST_F(SetsCli, ALinkToNothingIsFollowed) {
  fs::create_directory(path("to"));
  fs::create_symlink("to/there.csv", path("link.csv"));
  const Ended done = run(call({"-q", "-o", "link.csv"}));
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_TRUE(fs::is_symlink(path("link.csv")));
  EXPECT_EQ(read("to/there.csv"), "row,labels\n0,1\n1,\n2,\n3,0\n");
  // Nor are two outputs one file by way of it.
  fs::remove(path("to/there.csv"));
  expect_refusal(run({"eval", "a.csv", "-o", "link.csv", "--per-item", "to/there.csv"}), 2,
                 "--per-item 'to/there.csv' is no file of its own; name a file that --output does "
                 "not name");
  fs::create_symlink("no/such.csv", path("lost.csv"));
  expect_refusal(run(call({"-o", "lost.csv"})), 2,
                 "lost.csv: there is no folder './no'; create it first");
  fs::create_symlink("round.csv", path("round.csv"));
  expect_refusal(run(call({"-o", "round.csv"})), 70,
                 "round.csv: cannot write: Too many levels of symbolic links");
}

TEST_F(SetsCli, StandardInputIsReadOnce) {
  const Ended done =
      invoke(Invocation{{"sets", "-", "--calibration", "cal", "--alpha", "0.5", "-q", "-o", "-"},
                        read("both.csv"),
                        {},
                        {},
                        false,
                        0});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(done.out, "row,labels\n1,1\n3,\n5,\n");
}

// ---- nothing half-written
// -------------------------------------------------------------------------

TEST_F(SetsCli, AFullDiskLeavesTheOldFile) {
  write("out.npz", "old");
  const std::vector<std::string> before = files();
  for (const std::string format : {"npz", "csv"}) {
    expect_refusal(
        invoke(Invocation{call({"-o", "out.npz", "--format", format}), {}, {}, {}, true, 0}), 70,
        "out.npz: cannot write: File too large");
    EXPECT_EQ(read("out.npz"), "old");
    EXPECT_EQ(files(), before);
  }
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  expect_refusal(run(call({"-o", "/dev/full", "--format", "npz"})), 70,
                 "/dev/full: cannot write: No space left on device");
  expect_refusal(invoke(Invocation{call({"-o", "-"}), {}, {}, "/dev/full", false, 0}), 70,
                 "standard output: cannot write: No space left on device");
  EXPECT_EQ(files(), before);
}

TEST_F(SetsCli, AFolderThatMayNotBeWritten) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write anywhere";
  fs::create_directory(path("locked"));
  fs::permissions(path("locked"), fs::perms::owner_read | fs::perms::owner_exec);
  expect_refusal(run(call({"-o", "locked/x.npz"})), 70,
                 "locked/x.npz: cannot write: Permission denied");
}

TEST_F(SetsCli, AFailureLateInADumpLeavesTheOldFile) {
  write("out.csv", "old");
  write("late.csv", "score\n0.9\n0.5\n7\n");
  const std::vector<std::string> before = files();
  for (const std::string output : {"out.csv", "-"}) {
    const Ended done = run({"sets", "late.csv", "--calibration", "cal.csv", "-o", output});
    EXPECT_EQ(done.exit_code, 3);
    EXPECT_EQ(done.out, "");
    EXPECT_NE(done.err.find("late.csv:4: score 'score' is 7, outside [0, 1], and sets need "
                            "probabilities; scale it to [0, 1], or name the column with --logits"),
              std::string::npos)
        << done.err;
    EXPECT_EQ(read("out.csv"), "old");
    EXPECT_EQ(files(), before);
  }
}

TEST_F(SetsCli, SignalsLeaveTheOldFile) {
  write_many(60000);
  write("out.csv", "old");
  const std::vector<std::string> before = files();
  for (const int signal : {SIGINT, SIGTERM}) {
    const Ended done = invoke(
        Invocation{{"sets", "logits.npy", "--logits", "logits", "--label", "y.npy", "--calibration",
                    "0.1", "--p-values", "plain:all", "--threads", "1", "-q", "-o", "out.csv"},
                   {},
                   {},
                   {},
                   false,
                   signal,
                   true});
    EXPECT_EQ(done.exit_code, 128 + signal) << done.err;
    EXPECT_EQ(done.out, "");
    EXPECT_EQ(read("out.csv"), "old");
    EXPECT_EQ(files(), before);
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Six times the rows: 15 MiB of scores more per 60,000, and a fraction of that in memory, whatever
// is in it: code, one block, what its sets take.
TEST_F(SetsCli, MemoryDoesNotGrowWithTheRows) {
  const auto most_of = [&](std::size_t rows) {
    write_many(rows);
    const Ended done =
        run({"sets", "logits.npy", "--logits", "logits", "--label", "y.npy", "--calibration",
             "0.01", "--threads", "2", "--conformal", "aps", "-q", "-o", "out.npz"});
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return done.most_kib;
  };
  const long few = most_of(130'000);
  const long many = most_of(780'000);
  // The scores alone are 159 MiB more.
  EXPECT_LT(many - few, 24 * 1024) << few << " KiB of 130,000 rows, " << many << " of 780,000";
}
#endif

}  // namespace
