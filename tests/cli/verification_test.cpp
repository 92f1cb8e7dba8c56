// Embeddings and pairs on the command line: what inspect sees in them, and what a call gets wrong.
#include "cli/cli.hpp"

namespace cupel_cli {
namespace {

const std::string kData = std::string(CUPEL_SOURCE_DIR) + "/data/";

TEST_F(Cli, InspectSeesEmbeddingsAndPairs) {
  const Ended rows = run({"inspect", kData + "digits_embeddings.npz"});
  EXPECT_EQ(rows.exit_code, 0) << rows.err;
  EXPECT_NE(rows.out.find("task: verification"), std::string::npos) << rows.out;
  EXPECT_NE(rows.out.find("f32   [899,16]  embedding"), std::string::npos) << rows.out;
  const Ended pairs = run({"inspect", kData + "digit_pairs.csv"});
  EXPECT_NE(pairs.out.find("task: verification"), std::string::npos) << pairs.out;
  EXPECT_NE(pairs.out.find("class-a"), std::string::npos) << pairs.out;
  const Ended named = run({"inspect", kData + "digit_pairs.csv", "--distance", "score", "--class-a",
                           "row_a", "--class-b", "row_b"});
  EXPECT_NE(named.out.find("distance"), std::string::npos) << named.out;
}

TEST_F(Cli, OptionsOfVerificationAreChecked) {
  const std::string dump = kData + "digits_embeddings.npz";
  const Ended domain = run({"eval", dump, "--domain", "cosin"});
  EXPECT_EQ(domain.exit_code, 2);
  EXPECT_NE(domain.err.find("cosine"), std::string::npos) << domain.err;
  const Ended weight = run({"eval", dump, "--weight", "id"});
  EXPECT_EQ(weight.exit_code, 2);
  EXPECT_NE(weight.err.find("pairs have no weights"), std::string::npos) << weight.err;
  const Ended column = run({"eval", kData + "digit_pairs.csv", "--class-a", "clas_a"});
  EXPECT_EQ(column.exit_code, 3);
  EXPECT_NE(column.err.find("did you mean 'class_a'?"), std::string::npos) << column.err;
  const Ended sets = run({"sets", dump, "--calibration", "0.5", "-o", "sets.csv"});
  EXPECT_EQ(sets.exit_code, 3);
  EXPECT_NE(sets.err.find("is a verification dump"), std::string::npos) << sets.err;
}

// Catches options that are taken and mean nothing.
TEST_F(Cli, OptionsOfVerificationAreForNothingElse) {
  const Ended domain = run({"eval", "a.csv", "--domain", "cosine"});
  EXPECT_EQ(domain.exit_code, 2);
  EXPECT_EQ(domain.err, "cupel: --domain is for verification; this dump is binary; leave it out\n");
  const Ended as_is = run({"eval", "a.csv", "--as-is"});
  EXPECT_EQ(as_is.exit_code, 2);
  EXPECT_EQ(as_is.err, "cupel: --as-is is for verification; this dump is binary; leave it out\n");
}

// Catches an output that would be written over a file that the call reads.
TEST_F(Cli, FilesOfPairsAreInputs) {
  write("pairs.csv", "class_a,class_b,score\n1,1,0.5\n1,2,0.25\n");
  for (const std::string option : {"--distance", "--class-a", "--class-b"}) {
    write("side.csv", "x\n1\n2\n");
    const Ended done = run({"eval", "pairs.csv", option, "side.csv", "-o", "side.csv"});
    EXPECT_EQ(done.exit_code, 2) << option;
    EXPECT_NE(done.err.find("side.csv"), std::string::npos) << done.err;
    EXPECT_EQ(read("side.csv"), "x\n1\n2\n");
  }
}

TEST_F(Cli, WhatCannotBeComparedIsNamedByItsLine) {
  write("pairs.csv", "class_a,class_b,score\na,a,0.5\n\"a\",b,nan\n,b,0.25\n");
  const Ended score = run({"eval", "pairs.csv"});
  EXPECT_EQ(score.exit_code, 3);
  EXPECT_NE(score.err.find("pairs.csv:3: score 'score' is nan (1 such row in all)"),
            std::string::npos)
      << score.err;
  write("pairs.csv", "class_a,class_b,score\na,a,0.5\n\"a\",b,1\n,b,0.25\n");
  const Ended cls = run({"eval", "pairs.csv"});
  EXPECT_NE(cls.err.find("pairs.csv:4: class-a 'class_a' is empty (1 such row in all)"),
            std::string::npos)
      << cls.err;
}

}  // namespace
}  // namespace cupel_cli
