// The program as scripts meet it: what it prints, where, and how it ends. Every case runs the built
// binary on files made here.
#include "cli/cli.hpp"

namespace {

using namespace cupel_cli;

/// `text` from `from` (included) to `to` (excluded).
std::string between(const std::string& text, const std::string& from, const std::string& to) {
  const std::size_t begin = text.find(from);
  const std::size_t end = text.find(to, begin);
  return begin == std::string::npos || end == std::string::npos ? std::string()
                                                                : text.substr(begin, end - begin);
}

// ---- help and mistakes
// -------------------------------------------------------------------------------

TEST_F(Cli, EveryHelpStartsWithExamples) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--help"},
                                             {"-h"},
                                             {"eval", "--help"},
                                             {"inspect", "-h"},
                                             {"metrics", "--help"},
                                             {"devices", "--help"},
                                             {"selftest", "--help"},
                                             {"sets", "--help"}}) {
    const Ended done = run(arguments);
    EXPECT_EQ(done.exit_code, 0);
    EXPECT_EQ(done.err, "");
    EXPECT_EQ(done.out.rfind("examples:\n  cupel ", 0), 0u) << done.out;
    EXPECT_NE(done.out.find("\nusage: cupel "), std::string::npos);
  }
}

TEST_F(Cli, HelpFitsIntoAHundredColumns) {
  for (const char* command : {"eval", "inspect", "metrics", "devices", "selftest"}) {
    std::istringstream lines(run({command, "--help"}).out);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  }
}

// The rows that are drawn follow their ids, not their places; and a fit is of both halves whatever
// --split says.
TEST_F(Cli, FitsFollowTheRowsThatAreDrawn) {
  expect_refusal(run({"eval", "a.csv", "--metrics", "auroc,platt"}), 2,
                 "'platt' is fitted on calibration rows; say which with --calibration COLUMN, or "
                 "--calibration 0.5 to draw them");
  std::vector<std::string> rows;
  for (int i = 0; i < 64; ++i) {
    rows.push_back(std::to_string(i) + "," + std::to_string(i * 37 % 11 > 4 ? 1 : 0) + "," +
                   std::to_string((i * 29 % 64) / 8.0 - 4 + (i * 37 % 11 > 4 ? 1.5 : 0)) + "\n");
  }
  std::string text = "id,label,logits\n";
  std::string turned = text;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    text += rows[i];
    turned += rows[rows.size() - 1 - i];
  }
  write("d.csv", text);
  write("turned.csv", turned);
  const auto results = [&](const std::string& file, const std::string& seed,
                           const std::string& split) {
    const Ended done = run({"eval", file, "--calibration", "0.5", "--seed", seed, "--split", split,
                            "--metrics", "temperature,platt,isotonic", "--format", "csv", "-q"});
    EXPECT_EQ(done.exit_code, 0) << done.err;
    std::string out = done.out;
    for (std::size_t at = 0; (at = out.find(file, at)) != std::string::npos;) {
      out.replace(at, file.size(), "F");
    }
    return out;
  };
  const std::string all = results("d.csv", "3", "all");
  EXPECT_NE(all.find("temperature"), std::string::npos);
  EXPECT_EQ(results("turned.csv", "3", "all"), all);
  EXPECT_EQ(results("d.csv", "3", "test"), all);
  EXPECT_NE(results("d.csv", "4", "all"), all);
}

// Every combination is a result that names it, of the test rows whatever --split says.
TEST_F(Cli, ConformalSetsOfEveryCombination) {
  std::string text = "label,score,held\n";
  for (int i = 0; i < 60; ++i) {
    text += std::to_string(i % 3 == 0 ? 1 : 0) + "," + std::to_string((i * 37 % 61) / 61.0) + "," +
            std::to_string(i % 2) + "\n";
  }
  write("c.csv", text);
  const auto results = [&](const std::string& split, const std::string& threads) {
    return run({"eval", "c.csv", "--calibration", "held", "--conformal", "lac,aps", "--alpha",
                "0.1,0.25", "--empty", "argmax", "--split", split, "--threads", threads, "--format",
                "csv", "-q"});
  };
  const Ended done = results("all", "1");
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(std::count(done.out.begin(), done.out.end(), '\n'), 1 + 8) << done.out;
  for (const char* part : {"coverage", "set_size", "lac", "aps", "0.25", "argmax", ",30,"}) {
    EXPECT_NE(done.out.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(results("calibration", "2").out, done.out);
  expect_refusal(run({"eval", "c.csv", "--metrics", "coverage"}), 2,
                 "'coverage' takes its threshold from calibration rows; say which with "
                 "--calibration COLUMN, or --calibration 0.5 to draw them");
}

TEST_F(Cli, IntervalsOfARegression) {
  std::string text = "y,pred,sigma,lo,hi,held\n";
  for (int i = 0; i < 60; ++i) {
    const double pred = i % 7;
    text += std::to_string(pred + (i * 37 % 61) / 61.0 - 0.4) + "," + std::to_string(pred) + "," +
            std::to_string(1 + i % 3) + "," + std::to_string(pred - 0.25) + "," +
            std::to_string(pred + 0.25) + "," + std::to_string(i % 2) + "\n";
  }
  write("r.csv", text);
  const Ended plain = run({"eval", "r.csv", "--format", "csv", "-q"});
  EXPECT_EQ(plain.exit_code, 0) << plain.err;
  for (const char* part : {",mae,", ",rmse,", ",coverage,", ",interval_width,", "none"}) {
    EXPECT_NE(plain.out.find(part), std::string::npos) << part << plain.out;
  }
  const Ended done = run({"eval", "r.csv", "--calibration", "held", "--conformal",
                          "absolute,normalized,cqr,cqr_asymmetric", "--alpha", "0.2,0.3",
                          "--format", "csv", "-q"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(std::count(done.out.begin(), done.out.end(), '\n'), 1 + 16) << done.out;
  // Only a share that may be missed: the columns say that these are intervals.
  const Ended alpha =
      run({"eval", "r.csv", "--calibration", "held", "--alpha", "0.2", "--format", "csv", "-q"});
  EXPECT_NE(alpha.out.find(",interval_width,"), std::string::npos) << alpha.out << alpha.err;
  const Ended other =
      run({"eval", "r.csv", "--pred", "lo", "--metrics", "mae", "--format", "csv", "-q"});
  EXPECT_NE(other.out, run({"eval", "r.csv", "--metrics", "mae", "--format", "csv", "-q"}).out);
  const Ended inspected = run({"inspect", "r.csv"});
  for (const char* part : {"pred", "sigma", "lower", "upper", "label", "task: regression"}) {
    EXPECT_NE(inspected.out.find(part), std::string::npos) << part << inspected.out;
  }
  expect_refusal(run({"eval", "r.csv", "--calibration", "held", "--conformal", "lac"}), 2,
                 "conformal=lac of 'coverage' is a score of labels, and this is a regression task; "
                 "it takes none, absolute, normalized, cqr, cqr_asymmetric");
  expect_refusal(
      run({"eval", "a.csv", "--calibration", "0.5", "--conformal", "absolute"}), 2,
      "conformal=absolute of 'coverage' is a score of a regression task, and this one is "
      "binary; it takes lac, aps, raps, saps, topk, margin");
  // Shards of one table are that table; shards with other columns are refused.
  const std::size_t half = text.find('\n', text.size() / 2) + 1;
  write("r0.csv", text.substr(0, half));
  write("r1.csv", text.substr(0, text.find('\n') + 1) + text.substr(half));
  const std::vector<std::string> rest{"--calibration", "held",      "--conformal",
                                      "cqr",           "--metrics", "coverage,interval_score,rmse",
                                      "--format",      "csv",       "-q"};
  const auto values = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), rest.begin(), rest.end());
    const Ended ended = run(arguments);
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    std::string kept;  // but for the dump's name
    std::istringstream lines(ended.out);
    for (std::string line; std::getline(lines, line);) kept += line.substr(line.find(',')) + "\n";
    return kept;
  };
  EXPECT_EQ(values({"eval", "r0.csv", "r1.csv", "--pool"}), values({"eval", "r.csv"}));
  write("r2.csv", "y,pred,held\n1.5,1,1\n2.5,1,0\n");
  expect_refusal(run({"eval", "r0.csv", "r2.csv", "--pool", "--metrics", "mae"}), 3,
                 "r2.csv: has label, pred, the first dump has label, pred, lower, upper; "
                 "pooled dumps need the same columns as r0.csv");
  // Classes or numbers: a shard of a pool may leave that to another.
  write("whole.csv", "y,pred\n1,0.9\n0,0.2\n");
  write("real.csv", "y,pred\n1.5,0.5\n");
  expect_refusal(run({"eval", "whole.csv"}), 3,
                 "whole.csv: label 'y' is i64: classes or numbers; say --task regression for "
                 "numbers, or name scores with --score pred");
  expect_refusal(run({"eval", "whole.csv", "whole.csv", "--pool"}), 3,
                 "whole.csv: label 'y' is i64: classes or numbers; say --task regression for "
                 "numbers, or name scores with --score pred");
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"real.csv", "--pool"}, {"--task", "regression"}}) {
    std::vector<std::string> call = {"eval", "whole.csv", "--metrics", "mae"};
    call.insert(call.end(), more.begin(), more.end());
    EXPECT_EQ(run(call).exit_code, 0);
  }
  expect_refusal(run({"eval", "r.csv", "--threshold-column", "nope"}), 3,
                 "r.csv: no array 'nope' for --threshold-column; it has y [60] f64, pred [60] f64, "
                 "sigma [60] i64, lo [60] f64, hi [60] f64, held [60] i64");
  // Of its columns only those that a metric takes can be wrong.
  write("text.csv", "y,pred,std,threshold\n1.5,1,a,b\n2.5,2,c,d\n");
  EXPECT_EQ(run({"eval", "text.csv", "--metrics", "mae"}).exit_code, 0);
  EXPECT_EQ(run({"eval", "text.csv", "--metrics", "mae", "--sigma", "std"}).exit_code, 3);
  EXPECT_EQ(
      run({"eval", "text.csv", "--calibration", "0.5", "--conformal", "normalized"}).exit_code, 3);
  EXPECT_EQ(
      run({"eval", "text.csv", "--calibration", "0.5", "--metrics", "selection_fdp"}).exit_code, 3);
  write("crossed.csv", "y,lo,hi\n1.5,0,2\n1.5,3,2\n");
  expect_refusal(run({"eval", "crossed.csv"}), 3,
                 "crossed.csv:3: lower 'lo' is 3, above 'upper' of the row, 2 (1 such row in all); "
                 "mend the dump, or leave such rows out with --nan drop");
  write("bounds.csv", "y,lo,hi,c\n1.5,0,2,1\n1.5,1,2,0\n");
  expect_refusal(run({"eval", "bounds.csv", "--metrics", "coverage(conformal=normalized)",
                      "--calibration", "c"}),
                 3,
                 "bounds.csv: there is no array for the predictions that conformal=absolute and "
                 "normalized take; name it with --pred, or take --conformal cqr");
}

TEST_F(Cli, Version) {
  const Ended done = run({"--version"});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.out, "cupel " CUPEL_TEST_VERSION "\n");
}

TEST_F(Cli, SlipsGetTheNearestName) {
  expect_refusal(run({"evla", "a.csv"}), 2, "unknown command 'evla', did you mean 'eval'?");
  expect_refusal(run({"--hlep"}), 2, "unknown option '--hlep', did you mean '--help'?");
  expect_refusal(run({"eval", "a.csv", "--metric", "auroc"}), 2,
                 "unknown option '--metric', did you mean '--metrics'?");
  expect_refusal(run({"eval", "a.csv", "--metrics", "aurco"}), 2,
                 "unknown metric 'aurco', did you mean 'auroc'?");
  expect_refusal(run({"metrics", "aurco"}), 2, "unknown metric 'aurco', did you mean 'auroc'?");
  expect_refusal(run({"eval", "a.csv", "--format", "jsno"}), 2,
                 "unknown format 'jsno', did you mean 'json'?");
  expect_refusal(run({"eval", "a.csv", "--task", "binray"}), 2,
                 "unknown task 'binray', did you mean 'binary'?");
  expect_refusal(run({"eval", "a.csv", "--backend", "cdua"}), 2,
                 "unknown backend 'cdua', did you mean 'cuda'?");
}

TEST_F(Cli, UsageErrors) {
  expect_refusal(run({}), 2, "no command; 'cupel --help' lists all");
  expect_refusal(
      run({"run", "job.toml"}), 2,
      "unknown command 'run'; commands are eval, sets, inspect, metrics, devices, selftest");
  expect_refusal(run({"--frobnicate"}), 2,
                 "unknown option '--frobnicate'; commands are eval, sets, inspect, metrics, "
                 "devices, selftest");
  expect_refusal(run({"eval"}), 2, "no dump; 'cupel eval --help' shows examples");
  expect_refusal(run({"eval", "a.csv", "--zzzzzzzzzz"}), 2,
                 "unknown option '--zzzzzzzzzz'; 'cupel eval --help' lists all");
  expect_refusal(run({"eval", "a.csv", "--label"}), 2, "--label needs a value");
  expect_refusal(run({"eval", "a.csv", "--label", "x", "--label", "y"}), 2,
                 "--label is given twice");
  expect_refusal(run({"eval", "a.csv", "--pool=3"}), 2, "--pool takes no value");
  expect_refusal(run({"eval", "-", "a.csv", "-"}), 2,
                 "standard input is named twice; it can be read only once");
  expect_refusal(run({"metrics", "auroc", "auprc"}), 2,
                 "unexpected argument 'auprc'; the usage is 'cupel metrics [NAME] [options]'");
}

TEST_F(Cli, ValuesOfOptionsAreChecked) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"--threads", "two"}, "--threads 'two' is not an integer from 0 to 4096"},
      {{"--threads", "-1"}, "--threads '-1' is not an integer from 0 to 4096"},
      {{"--seed", "1.5"}, "--seed '1.5' is not an integer 0 or more"},
      {{"--mem", "4Q"},
       "--mem '4Q' is not a size; write bytes, or a number with K, M, G or T, such as 512M"},
      {{"--mem", "9999999T"},
       "--mem '9999999T' is not a size; write bytes, or a number with K, M, G or T, such as 512M"},
      {{"--nan", "ignore"}, "unknown --nan policy 'ignore'; one of error, drop"},
      {{"--softmax", "f16"}, "unknown --softmax 'f16', did you mean 'f64'?"},
      {{"--split", "train"}, "unknown split 'train'; one of all, test, calibration"},
      {{"--split", "test"}, "--split test needs --calibration"},
      {{"--backend", "cuda:x"}, "device of --backend 'x' is not an integer from 0 to 1023"},
      {{"--dtype", "score"}, "--dtype 'score' names no column; write --dtype X=bf16"},
      {{"--dtype", "score=f16"},
       "--dtype 'score=f16' is not a type to choose; bf16 is the only type that files cannot say "
       "themselves"},
      {{"--conformal", "asp"}, "unknown --conformal 'asp', did you mean 'aps'?"},
      {{"--alpha", "0.1,1"},
       "--alpha '1' is not a decimal between 0 and 1; give the share of labels that may be missed, "
       "such as 0.1"},
      {{"--alpha", "0.1", "--metrics", "auroc"},
       "--conformal, --alpha, --quantile and --empty are for metrics of sets; add coverage, "
       "set_size or interval_width to --metrics"},
      {{"--quantile", "exat"}, "unknown --quantile 'exat', did you mean 'exact'?"},
      {{"--empty", "drop"}, "unknown --empty 'drop'; one of keep, argmax"},
      {{"--group", "sex,,age"}, "--group has an empty column name"},
      {{"--metrics", "auroc(max_fpr=2)"},
       "option 'max_fpr' of 'auroc' is '2'; expected a number from 1e-09 to 1"},
  };
  for (const auto& [options, message] : cases) {
    std::vector<std::string> arguments = {"eval", "a.csv"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    expect_refusal(run(arguments), 2, message);
  }
}

// ---- probabilities that are none
// --------------------------------------------------------------------

/// The field `value` of a metric's row in CSV; "-" where there is no such row.
std::string csv_value(const std::string& csv, const std::string& metric) {
  std::istringstream lines(csv);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t at = line.find("," + metric + ",");
    if (at == std::string::npos) continue;
    std::istringstream fields(line.substr(at + 1));
    std::string field;
    for (int i = 0; i < 5; ++i) std::getline(fields, field, ',');
    return field;
  }
  return "-";
}

TEST_F(Cli, LogitsGivenAsProbabilitiesAreSaidSo) {
  // Would catch values that are undefined without a word of why, and ranking metrics that mind.
  write("s.csv", "label,score\n1,0.5\n0,-1.25\n1,3\n0,0.1\n");
  const Ended done =
      run({"eval", "s.csv", "--metrics", "auroc,brier,ece", "--backend", "cpu", "--format", "csv"});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.err,
            "cupel: warning: s.csv:3: score 'score' is -1.25, outside [0, 1] (2 such rows in all), "
            "so brier and ece are undefined, not_probability; name the column with --logits if "
            "these are logits\n");
  EXPECT_EQ(csv_value(done.out, "auroc"), "1");
  EXPECT_EQ(csv_value(done.out, "brier"), "");

  // No negative value: percentages, perhaps.
  write("s.csv", "label,score\n1,90\n0,0.5\n");
  EXPECT_EQ(run({"eval", "s.csv", "--metrics", "brier", "--backend", "cpu"}).err,
            "cupel: warning: s.csv:2: score 'score' is 90, outside [0, 1] (1 such row in all), so "
            "brier is undefined, not_probability; scale it to [0, 1], or name the column with "
            "--logits if these are logits\n");
  // Nothing needs probabilities; nothing to say.
  EXPECT_EQ(run({"eval", "s.csv", "--metrics", "auroc", "--backend", "cpu"}).err, "");
  EXPECT_EQ(
      run({"eval", "s.csv", "--metrics", "brier", "--logits", "score", "--backend", "cpu"}).err,
      "");
}

TEST_F(Cli, LogitsOfSeveralClassesAreSaidSo) {
  const Ended done = eval_classes({0.5, 0.25, 0.25, 2, -1, 0.5, 0, 1, 0, 7, 7, 7},
                                  {"--metrics", "accuracy,log_loss,ece,brier"});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.err,
            "cupel: warning: p.npy: 'p' row 1: probs 'p' is 2 in column 0, outside [0, 1] (2 such "
            "rows in all), so log_loss, ece and brier are undefined, not_probability; name the "
            "column with --logits if these are logits\n");
  EXPECT_NE(csv_value(done.out, "accuracy"), "");
}

TEST_F(Cli, RowsThatDoNotSumToOneAreSaid) {
  const std::vector<double> rows = {0.5, 0.25, 0.25, 0.2, 0.5, 0.1, 0, 0, 1, 0.5, 0.5, 0.5};
  const Ended done = eval_classes(rows, {"--metrics", "auroc,accuracy,ece,brier"});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.err,
            "cupel: warning: p.npy: 'p' row 1: probs 'p' sums to 0.8, not to 1 within 0.0039 (2 "
            "such rows in all), so ece and brier are undefined, not_probability; divide rows by "
            "their sums with --normalize\n");
  EXPECT_EQ(csv_value(done.out, "ece"), "");
  EXPECT_NE(csv_value(done.out, "auroc"), "");
  EXPECT_EQ(eval_classes(rows, {"--metrics", "auroc,accuracy"}).err, "");
  EXPECT_EQ(eval_classes(rows, {"-q"}).err, "");
}

TEST_F(Cli, NormalizeDividesRowsByTheirSums) {
  // Eighths: the sums of squares are exact. Rows (2,1,1)/4, (1,2,1)/4, (0,0,1), (1,1,2)/4 and
  // labels 0, 1, 2, 0: (6 + 6 + 0 + 14) / 16 / 4.
  const Ended done = eval_classes({2, 1, 1, 0.25, 0.5, 0.25, 0, 0, 8, 0.125, 0.125, 0.25},
                                  {"--metrics", "brier,accuracy", "--normalize"});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.err, "");
  EXPECT_EQ(csv_value(done.out, "brier"), "0.40625");
  EXPECT_EQ(csv_value(done.out, "accuracy"), "0.75");
}

TEST_F(Cli, NormalizeSaysWhatItCannotDivide) {
  expect_refusal(
      eval_classes({1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, {"--normalize"}), 3,
      "p.npy: 'p' row 1: probs 'p' sums to 0, which --normalize cannot divide by (2 such "
      "rows in all); mend the dump, or leave such rows out with --nan drop");
  expect_refusal(eval_classes({1, 0, 0, 0, 2, -0.5, 0, 0, 1, 0, 0, 0}, {"--normalize"}), 3,
                 "p.npy: 'p' row 1: probs 'p' is -0.5 in column 2, and --normalize needs values of "
                 "0 or more (1 such row in all); name the column with --logits if these are "
                 "logits");
  expect_refusal(run({"eval", "a.csv", "--normalize"}), 2,
                 "--normalize divides the probabilities of several classes by their sum; this dump "
                 "is binary; leave it out");
  write_npy<double>("l.npy", "<f8", "(4, 3)", std::vector<double>(12, 0.5));
  write_npy<std::int64_t>("y.npy", "<i8", "(4,)", {0, 1, 2, 0});
  expect_refusal(run({"eval", "l.npy", "--logits", "l", "--label", "y.npy", "--normalize"}), 2,
                 "--normalize is for probabilities, and 'l' is read as logits, whose softmax sums "
                 "to 1; leave it out, or name the column with --probs if it holds probabilities");
  const Ended dropped = eval_classes({1, 0, 0, 0, 0, 0, 0, 0, 1, 3, -1, 0},
                                     {"--normalize", "--nan", "drop", "--metrics", "brier"});
  EXPECT_EQ(dropped.exit_code, 0);
  EXPECT_EQ(dropped.err,
            "cupel: warning: p.npy: left out 2 rows (bad scores 2, labels 0, weights 0)\n");
  EXPECT_EQ(csv_value(dropped.out, "brier"), "0");
}

TEST_F(Cli, LabelsBinsAndClassesOutOfRange) {
  write_npy<double>("p.npy", "<f8", "(3, 2)", {0.5, 0.5, 1, 0, 0, 1});
  write_npy<std::int64_t>("y.npy", "<i8", "(3,)", {0, 2, -1});
  expect_refusal(run({"eval", "p.npy", "--probs", "p", "--label", "y.npy"}), 3,
                 "y.npy: 'y' row 1: label 'y' is 2, outside 0..1 (2 such rows in all); mend the "
                 "dump, or leave such rows out with --nan drop");
  write_npy<double>("one.npy", "<f8", "(3, 1)", {0.5, 1, 0});
  expect_refusal(run({"eval", "one.npy", "--probs", "one", "--label", "y.npy"}), 3,
                 "one.npy: scores 'one' [3,1] have fewer than two classes; give an array with one "
                 "dimension for a binary task");
  expect_refusal(run({"eval", "a.csv", "--metrics", "smooth_ece(sigma=0)"}), 2,
                 "option 'sigma' of 'smooth_ece' is '0'; expected a number from 0.0009765625 to 1");
  expect_refusal(run({"eval", "a.csv", "--metrics", "ece(bins=0)"}), 2,
                 "option 'bins' of 'ece' is '0'; expected an integer from 1 to 65536");
}

TEST_F(Cli, MoreBinsThanMemoryHoldsAreRefused) {
  // 65536 bins of each of 1100 classes: some 10 GB for one row.
  write_npy<double>("l.npy", "<f8", "(1, 1100)", std::vector<double>(1100, 0.5));
  write_npy<std::int64_t>("y.npy", "<i8", "(1,)", {0});
  expect_refusal(run({"eval", "l.npy", "--logits", "l", "--label", "y.npy", "--metrics",
                      "classwise_ece(bins=65536)"}),
                 2,
                 "bins of this many classes and groups are too many; ask for fewer bins, or leave "
                 "out --group or smooth_ece");
}

TEST_F(Cli, BinsThatNoRowFillsAddNothing) {
  // Two of a thousand bins have a row; the gaps are 0.25 and 0.5.
  write("s.csv", "label,score\n1,0.75\n0,0.5\n");
  const Ended done =
      run({"eval", "s.csv", "--metrics", "ece(bins=1000)", "--backend", "cpu", "--format", "json"});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.err, "");
  EXPECT_NE(done.out.find(R"("value":0.375,)"), std::string::npos);
  const std::string bins = between(done.out, R"("details":{"bins":[)", "]");
  EXPECT_EQ(std::count(bins.begin(), bins.end(), '{'), 3) << bins;  // details and two bins
}

TEST_F(Cli, ASplitThatIsEmptyOrEverything) {
  write("s.csv", "label,score,held\n1,0.75,1\n0,0.5,1\n");
  const auto warned = [&](const std::string& calibration, const std::string& split) {
    const Ended done = run({"eval", "s.csv", "--metrics", "auroc", "--calibration", calibration,
                            "--split", split, "--seed", "9", "--backend", "cpu"});
    EXPECT_EQ(done.exit_code, 0);
    return done.err;
  };
  EXPECT_EQ(
      warned("held", "test"),
      "cupel: warning: s.csv: calibration 'held' is 1 in all 2 rows, so --split test leaves no "
      "row and every value is undefined, empty; it has to be 1 in the rows for calibration "
      "and 0 in the others\n");
  EXPECT_EQ(warned("held", "calibration"),
            "cupel: warning: s.csv: calibration 'held' is 1 in all 2 rows, so --split calibration "
            "leaves out no row; it has to be 1 in the rows for calibration and 0 in the others\n");
  EXPECT_EQ(
      warned("0.000001", "calibration"),
      "cupel: warning: s.csv: --calibration 0.000001 draws none of 2 rows, so --split "
      "calibration leaves no row and every value is undefined, empty; choose another fraction "
      "or --seed\n");
  expect_refusal(
      run({"eval", "s.csv", "--calibration", "1", "--split", "test"}), 2,
      "--calibration 1 is not between 0 and 1; give a fraction such as 0.5, or a boolean "
      "column");
}

// ---- results
// ---------------------------------------------------------------------------------------

TEST_F(Cli, TheTable) {
  const Ended done = run({"eval", "a.csv", "--metrics", "auroc,accuracy", "-q"});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_EQ(done.err, "");
  EXPECT_EQ(done.out,
            "a.csv  binary, 8 rows, cpu\n"
            "\n"
            "  metric      value  n  n_pos\n"
            "  auroc     0.78125  8      4\n"
            "  accuracy  0.75000  8      4\n");
}

TEST_F(Cli, EveryFormat) {
  const std::vector<std::string> call = {"eval", "a.csv", "--metrics", "auroc", "-q", "--format"};
  const auto with = [&](const std::string& format) {
    std::vector<std::string> arguments = call;
    arguments.push_back(format);
    const Ended done = run(arguments);
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return done.out;
  };
  EXPECT_EQ(with("table").rfind("a.csv  binary, 8 rows, cpu\n", 0), 0u);
  EXPECT_EQ(with("md").rfind("## a.csv\n\nbinary, 8 rows, cpu\n\n| metric |", 0), 0u);
  EXPECT_EQ(with("csv").rfind("dump,metric,average,class,group,value,undefined,n,n_pos,n_neg,"
                              "params,details\na.csv,auroc,,,,0.78125,,8,4,4,",
                              0),
            0u);
  EXPECT_EQ(with("jsonl").rfind(R"({"dump":"a.csv","metric":"auroc","average":null,"class":null,)"
                                R"("group":null,"value":0.78125,"undefined":null,"n":8,)"
                                R"("n_pos":4,"n_neg":4,"params":{)",
                                0),
            0u);
  const std::string json = with("json");
  EXPECT_EQ(json.rfind("{\n  \"schema\": \"cupel.result/1\",\n  \"cupel\": {\"version\":", 0), 0u);
  EXPECT_NE(json.find(R"("inputs": [
    {"path":"a.csv","format":"csv","rows":8,)"),
            std::string::npos);
  EXPECT_NE(json.find("\"hash\":\"xxh3:"), std::string::npos);
  EXPECT_NE(json.find("\"failures\": []"), std::string::npos);
}

TEST_F(Cli, StandardInput) {
  const Ended done = invoke(
      Invocation{{"eval", "-", "--metrics", "auroc", "-q"}, read("a.csv"), {}, {}, false, 0});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(done.out,
            "-  binary, 8 rows, cpu\n"
            "\n"
            "  metric    value  n  n_pos\n"
            "  auroc   0.78125  8      4\n");
}

TEST_F(Cli, GroupsAndRepeatedOptions) {
  const Ended once = run({"eval", "a.csv", "--group", "sex", "--metrics", "auroc,ks", "-q"});
  EXPECT_EQ(once.exit_code, 0) << once.err;
  EXPECT_NE(once.out.find("\n  sex            n  n_pos    auroc"), std::string::npos) << once.out;
  const Ended twice =
      run({"eval", "-q", "--metrics", "auroc", "--group=sex", "--metrics", "ks", "--", "a.csv"});
  EXPECT_EQ(twice.out, once.out);
}

// A shard without rows has no groups: results of the others must not be read through it.
TEST_F(Cli, GroupsOfAnEmptyDump) {
  write("empty.csv", "label,score,sex\n");
  const std::vector<std::string> options = {
      "--group", "sex", "--metrics", "auroc,accuracy,log_loss,brier", "--format", "csv", "-q"};
  const auto evaluate = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "eval");
    arguments.insert(arguments.end(), options.begin(), options.end());
    return run(arguments);
  };
  const Ended alone = evaluate({"empty.csv"});
  EXPECT_EQ(alone.exit_code, 0) << alone.err;
  EXPECT_NE(alone.out.find("empty.csv,brier,,,,,empty,0,0,0,"), std::string::npos) << alone.out;

  const Ended whole = evaluate({"a.csv"});
  for (const std::vector<std::string>& shards :
       {std::vector<std::string>{"empty.csv", "a.csv"}, {"a.csv", "empty.csv"}}) {
    Ended pooled = evaluate({shards[0], shards[1], "--pool"});
    EXPECT_EQ(pooled.exit_code, 0) << pooled.err;
    const std::string name = shards[0] + " (+1 more)";
    for (std::size_t at = pooled.out.find(name); at != std::string::npos;
         at = pooled.out.find(name)) {
      pooled.out.replace(at, name.size(), "a.csv");
    }
    EXPECT_EQ(pooled.out, whole.out);
  }
}

// Its name has only letters of numbers.
TEST_F(Cli, ACalibrationColumnMayBeCalledE) {
  write("e.csv", "label,score,e\n1,0.9,1\n0,0.2,0\n1,0.4,0\n");
  const Ended done = run({"eval", "e.csv", "--calibration", "e", "--split", "test", "--metrics",
                          "auroc", "--format", "csv", "-q"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.out.find("e.csv,auroc,,,,1,,2,1,1,"), std::string::npos) << done.out;
}

// 2^53 and 2^53 + 1 are one double; both labels would be positive, or neither.
TEST_F(Cli, ThePositiveLabelIsComparedAsAnInteger) {
  write("large.csv",
        "label,score\n9007199254740993,0.9\n9007199254740992,0.1\n9007199254740993,0.8\n");
  const Ended done = run({"eval", "large.csv", "--metrics", "auroc", "--pos-label",
                          "9007199254740993", "--format", "csv", "-q"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.out.find(",3,2,1,"), std::string::npos) << done.out;
  write("bools.csv", "label,score\ntrue,0.9\nfalse,0.1\n");
  const Ended inverted = run({"eval", "bools.csv", "--metrics", "auroc", "--pos-label", "false"});
  EXPECT_EQ(inverted.exit_code, 0) << inverted.err;
}

TEST_F(Cli, TheNoticeOfAFallbackIsOneLineOnStandardError) {
  const Ended done = run({"eval", "a.csv"});
  EXPECT_EQ(done.exit_code, 0);
  const Ended cpu = run({"eval", "a.csv", "--backend", "cpu"});
  EXPECT_EQ(cpu.err, "");
  const Ended quiet = run({"eval", "a.csv", "-q"});
  EXPECT_EQ(quiet.err, "");
  if (!done.err.empty()) {
    EXPECT_EQ(done.err.rfind("cupel: no GPU is used: ", 0), 0u) << done.err;
    EXPECT_EQ(done.err.find('\n'), done.err.size() - 1) << done.err;
  }
}

TEST_F(Cli, NoColourOutsideATerminal) {
  for (const char* setting : {"TERM=xterm", "NO_COLOR=1"}) {
    const Ended done = invoke(Invocation{{"eval", "a.csv", "b.csv"}, {}, {setting}, {}, false, 0});
    EXPECT_EQ(done.out.find('\x1b'), std::string::npos);
    EXPECT_EQ(done.err.find('\x1b'), std::string::npos) << "no progress either";
  }
}

TEST_F(Cli, ResultsDoNotDependOnThreads) {
  // A seeded table with ties; everything but how the run went must be equal bytes.
  std::string rows = "label,score,sex\n";
  unsigned state = 12345;
  for (int i = 0; i < 5000; ++i) {
    state = state * 1664525u + 1013904223u;
    rows += std::to_string((state >> 20) % 3 == 0 ? 1 : 0) + ",0." +
            std::to_string(100 + (state >> 8) % 800) + "," + ((state >> 28) % 2 == 0 ? "f" : "m") +
            "\n";
  }
  write("big.csv", rows);
  std::vector<std::string> runs;
  for (const char* threads : {"1", "2", "3"}) {
    const Ended done =
        run({"eval", "big.csv", "--group", "sex", "--threads", threads, "--format", "json", "-q"});
    ASSERT_EQ(done.exit_code, 0) << done.err;
    runs.push_back(between(done.out, "\"inputs\"", "\"plan\"") +
                   between(done.out, "\"results\"", "\"failures\""));
    EXPECT_GT(runs.back().size(), 1000u);
    EXPECT_EQ(runs.back(), runs.front());
  }
}

// What is made of probabilities names the softmax and differs in late digits; what is made of the
// logits' order does neither.
TEST_F(Cli, SoftmaxInFloat32) {
  const auto line_of = [&](const char* softmax, const std::string& metric) {
    const std::string data = CUPEL_SOURCE_DIR "/data/digits_logits_f16.npz";
    const Ended done = run({"eval", data, "--metrics", metric, "--softmax", softmax, "--format",
                            "jsonl", "-q", "--backend", "cpu"});
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return done.out;
  };
  const auto value_of = [](const std::string& line) {
    return std::stod(line.substr(line.find("\"value\":") + 8));
  };
  for (const std::string metric : {"log_loss", "brier", "ece", "classwise_ece"}) {
    const std::string f32 = line_of("f32", metric);
    const std::string f64 = line_of("f64", metric);
    EXPECT_NE(f32.find(R"("softmax":"f32")"), std::string::npos) << f32;
    EXPECT_EQ(f64.find("softmax"), std::string::npos) << f64;
    EXPECT_NE(value_of(f32), value_of(f64)) << metric;
    EXPECT_NEAR(value_of(f32), value_of(f64), 1e-6) << metric;
  }
  for (const std::string metric : {"auroc", "accuracy", "top_k_accuracy(k=2)"}) {
    EXPECT_EQ(line_of("f32", metric), line_of("f64", metric));
  }
}

TEST_F(Cli, VerboseTellsTheRunOnStandardError) {
  const Ended done = run({"eval", "a.csv", "-v", "--backend", "cpu"});
  EXPECT_NE(done.err.find("cupel: a.csv: csv, 8 rows, "), std::string::npos) << done.err;
  EXPECT_NE(done.err.find("cupel: plan: {"), std::string::npos);
  EXPECT_EQ(done.out, run({"eval", "a.csv", "-q"}).out);
}

// ---- bad input
// ---------------------------------------------------------------------------------------

TEST_F(Cli, MissingFileAndEmptyGlob) {
  for (const char* dump : {"missing.npz", "nothing/*.npz", "@list.txt"}) {
    const Ended done = run({"eval", dump});
    EXPECT_EQ(done.exit_code, 3) << dump;
    EXPECT_EQ(done.out, "");
    EXPECT_EQ(done.err.rfind("cupel: ", 0), 0u);
    EXPECT_NE(done.err.find(dump[0] == '@' ? dump + 1 : dump), std::string::npos) << done.err;
  }
}

TEST_F(Cli, ABadFileAloneIsAnInputError) {
  expect_refusal(run({"eval", "bad.csv", "-q"}), 3,
                 "bad.csv:3: column 'score': 'abc' is not a number");
}

TEST_F(Cli, ABadFileAmongGoodOnesIsPartial) {
  const Ended table = run({"eval", "a.csv", "bad.csv", "b.csv", "--metrics", "auroc", "-q"});
  EXPECT_EQ(table.exit_code, 4);
  EXPECT_EQ(table.err, "cupel: bad.csv:3: column 'score': 'abc' is not a number\n");
  EXPECT_EQ(table.out,
            "2 dumps  binary, cpu\n"
            "\n"
            "  dump   n  n_pos    auroc\n"
            "  a.csv  8      4  0.78125\n"
            "  b.csv  4      2  0.75000\n"
            "\n"
            "1 failed\n"
            "  bad.csv:3: column 'score': 'abc' is not a number\n");
  const Ended json = run({"eval", "a.csv", "bad.csv", "b.csv", "--format", "json", "-q"});
  EXPECT_EQ(json.exit_code, 4);
  EXPECT_NE(json.out.find(R"("failures": [
    {"dump":"bad.csv","code":3,)"),
            std::string::npos)
      << json.out;
}

TEST_F(Cli, AFileBehindAClosedDoorFailsAlone) {
  fs::create_directory(path("closed"));
  write("closed/c.csv", read("a.csv"));
  fs::permissions(path("closed"), fs::perms::none);
  if (::access(path("closed/c.csv").c_str(), F_OK) == 0) {
    fs::permissions(path("closed"), fs::perms::owner_all);
    GTEST_SKIP() << "this user may enter any folder";
  }
  const Ended done = run({"eval", "a.csv", "closed/c.csv", "--metrics", "auroc", "-q"});
  fs::permissions(path("closed"), fs::perms::owner_all);
  EXPECT_EQ(done.exit_code, 4);
  EXPECT_EQ(done.err, "cupel: closed/c.csv: cannot open: permission denied\n");
  EXPECT_NE(done.out.find("0.78125"), std::string::npos) << done.out;
}

TEST_F(Cli, ABackendAskedForByNameMustBeUsable) {
  const Ended done = run({"eval", "a.csv", "--backend", "cuda:1023"});
  EXPECT_EQ(done.exit_code, 5);
  EXPECT_EQ(done.out, "");
  EXPECT_EQ(done.err.rfind("cupel: ", 0), 0u);
  const Ended preset =
      invoke(Invocation{{"eval", "a.csv"}, {}, {"CUPEL_BACKEND=cuda:1023"}, {}, false, 0});
  EXPECT_EQ(preset.exit_code, 5);
  EXPECT_EQ(preset.err, done.err);
  const Ended overridden = invoke(Invocation{
      {"eval", "a.csv", "--backend", "cpu"}, {}, {"CUPEL_BACKEND=cuda:1023"}, {}, false, 0});
  EXPECT_EQ(overridden.exit_code, 0);
}

TEST_F(Cli, DevicesSaysWhatCanCompute) {
  const Ended table = run({"devices"});
  EXPECT_EQ(table.exit_code, 0);
  EXPECT_EQ(table.err, "");
  EXPECT_EQ(table.out.rfind("  backend  device", 0), 0u) << table.out;
  EXPECT_NE(table.out.find("\n  cpu      "), std::string::npos) << table.out;
  const Ended json = run({"devices", "--format", "json"});
  EXPECT_EQ(json.exit_code, 0);
  EXPECT_EQ(json.out.rfind("{\n  \"schema\": \"cupel.devices/1\",\n", 0), 0u) << json.out;
  EXPECT_NE(json.out.find("\"cpu\": {\"device\":\""), std::string::npos) << json.out;
  // With a GPU the test says nothing of it; without one there is a reason, in one line.
  const bool gpu = json.out.find("\"no_gpu\": null") != std::string::npos;
  EXPECT_EQ(table.out.find("\n  no usable GPU: ") == std::string::npos, gpu) << table.out;
  expect_refusal(run({"devices", "x"}), 2,
                 "unexpected argument 'x'; the usage is 'cupel devices [options]'");
}

TEST_F(Cli, SelftestComparesBackends) {
  const Ended done = run({"selftest", "--quick", "--backend", "cpu", "--threads", "3"});
  EXPECT_EQ(done.exit_code, 0) << done.out;
  EXPECT_EQ(done.err, "");
  EXPECT_EQ(done.out.rfind("states against cpu, 1 thread, byte for byte\n", 0), 0u) << done.out;
  for (const char* line : {"cpu, 2 threads  rank tables", "cpu, 3 threads  bad scores"}) {
    EXPECT_NE(done.out.find(line), std::string::npos) << done.out;
  }
  EXPECT_EQ(done.out.find("no GPU took part"), std::string::npos) << "none was asked for";
  const Ended json = run({"selftest", "--quick", "--format", "json", "--threads", "1"});
  EXPECT_NE(json.out.find("\"schema\": \"cupel.selftest/1\""), std::string::npos) << json.out;
  EXPECT_NE(json.out.find("\"no_gpu\": "), std::string::npos);
  EXPECT_EQ(json.exit_code, 0) << json.out;
}

TEST_F(Cli, SelftestNeedsTheBackendThatIsNamed) {
  const Ended done = run({"selftest", "--quick", "--backend", "cuda:1023"});
  EXPECT_EQ(done.exit_code, 5);
  EXPECT_EQ(done.out, "");
  EXPECT_EQ(done.err.rfind("cupel: backend 'cuda:1023' is not usable: ", 0), 0u) << done.err;
  expect_refusal(run({"selftest", "--backend", "cuad"}), 2,
                 "unknown backend 'cuad', did you mean 'cuda'?");
}

TEST_F(Cli, SettingsForDeviceTestsAreChecked) {
  const Ended memory =
      invoke(Invocation{{"eval", "a.csv"}, {}, {"CUPEL_DEVICE_MEMORY=lots"}, {}, false, 0});
  expect_refusal(memory, 2,
                 "CUPEL_DEVICE_MEMORY 'lots' is not a size; write bytes, or a number with K, M, G "
                 "or T, such as 512M");
  const Ended launch =
      invoke(Invocation{{"eval", "a.csv"}, {}, {"CUPEL_DEVICE_FAIL_AT=0"}, {}, false, 0});
  expect_refusal(launch, 2, "CUPEL_DEVICE_FAIL_AT '0' is not an integer 1 or more");
  const Ended parts =
      invoke(Invocation{{"eval", "a.csv"}, {}, {"CUPEL_DEVICE_PART_ROWS=-3"}, {}, false, 0});
  expect_refusal(parts, 2, "CUPEL_DEVICE_PART_ROWS '-3' is not an integer 1 or more");
}

// The pages of a mapped file that became shorter are gone: a signal, where its bytes are used.
TEST_F(Cli, AMappedFileThatIsGoneIsAnInputError) {
  // AddressSanitizer has a handler of its own from the start, which would be taken for the
  // command's.
  const Ended done = invoke(
      Invocation{{"eval", "-", "-q"}, {}, {"ASAN_OPTIONS=handle_sigbus=0"}, {}, false, SIGBUS});
  expect_refusal(done, 3,
                 "cannot read: a file became shorter, or its disk failed, while it was being read");
}

// ---- output
// ------------------------------------------------------------------------------------------

TEST_F(Cli, OutputFileIsWholeAndAlone) {
  const std::vector<std::string> before = files();
  const Ended done = run({"eval", "a.csv", "--format", "json", "-q", "-o", "out.json"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(done.out, "");
  EXPECT_EQ(read("out.json").rfind("{\n  \"schema\"", 0), 0u);
  std::vector<std::string> after = before;
  after.push_back("out.json");
  std::sort(after.begin(), after.end());
  EXPECT_EQ(files(), after) << "no temporary file is left";
}

TEST_F(Cli, ADashIsStandardOutput) {
  const std::vector<std::string> before = files();
  const Ended done = run({"eval", "a.csv", "--metrics", "auroc", "-q", "-o", "-"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(done.out, run({"eval", "a.csv", "--metrics", "auroc", "-q"}).out);
  EXPECT_EQ(files(), before) << "no file is called '-'";
}

TEST_F(Cli, OutputFileKeepsItsModeAndItsLinks) {
  write("real.txt", "old");
  fs::permissions(path("real.txt"), fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("real.txt", path("link.txt"));
  EXPECT_EQ(run({"eval", "a.csv", "-q", "-o", "link.txt"}).exit_code, 0);
  EXPECT_TRUE(fs::is_symlink(path("link.txt")));
  EXPECT_EQ(read("real.txt").rfind("a.csv  binary", 0), 0u);
  EXPECT_EQ(fs::status(path("real.txt")).permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(Cli, OutputPathIsCheckedBeforeTheWork) {
  // bad.csv would be exit code 3 if it were opened.
  expect_refusal(run({"eval", "bad.csv", "-o", "no/such/out.json"}), 2,
                 "no/such/out.json: there is no folder 'no/such'; create it first");
  expect_refusal(run({"eval", "bad.csv", "-o", "."}), 2, ".: is a folder; name a file for -o");
}

TEST_F(Cli, AFullDiskIsAnErrorAndLeavesNothing) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  const std::vector<std::string> before = files();
  expect_refusal(run({"eval", "a.csv", "-q", "-o", "/dev/full"}), 70,
                 "/dev/full: cannot write: No space left on device");
  const Ended done = invoke(Invocation{{"eval", "a.csv", "-q"}, {}, {}, "/dev/full", false, 0});
  expect_refusal(done, 70, "standard output: cannot write: No space left on device");
  EXPECT_EQ(invoke(Invocation{{"--help"}, {}, {}, "/dev/full", false, 0}).exit_code, 70);
  EXPECT_EQ(files(), before);
}

TEST_F(Cli, AFileThatCannotGrowIsRemovedAndTheOldOneStays) {
  write("out.txt", "old");
  const std::vector<std::string> before = files();
  expect_refusal(invoke(Invocation{{"eval", "a.csv", "-q", "-o", "out.txt"}, {}, {}, {}, true, 0}),
                 70, "out.txt: cannot write: File too large");
  EXPECT_EQ(read("out.txt"), "old");
  EXPECT_EQ(files(), before);
}

TEST_F(Cli, AFailedEvaluationLeavesTheOldResult) {
  write("out.txt", "old");
  EXPECT_EQ(run({"eval", "bad.csv", "-q", "-o", "out.txt"}).exit_code, 3);
  EXPECT_EQ(read("out.txt"), "old");
}

// Who was selected: whole or not at all, beside results that are shown only when both are there.
TEST_F(Cli, RowsOfSelectionsAreWritten) {
  write("c.csv", "label,score,c\n0,0.1,1\n0,0.3,1\n1,0.9,1\n1,0.8,0\n0,0.2,0\n");
  const std::vector<std::string> call{
      "eval", "c.csv", "--calibration", "c", "--metrics", "selection_fdp(q=0.5)", "--per-item"};
  const auto with = [&](const std::string& file) {
    std::vector<std::string> arguments = call;
    arguments.push_back(file);
    return arguments;
  };
  EXPECT_EQ(run(with("rows.csv")).exit_code, 0);
  EXPECT_EQ(read("rows.csv"),
            "dump,metric,row,id,selected,p_value,prediction,model\n"
            "c.csv,selection_fdp(q=0.5),3,,1,0.25,0.8,\n"
            "c.csv,selection_fdp(q=0.5),4,,1,0.5,0.2,\n");
  const Ended nowhere = run(with("none/rows.csv"));
  EXPECT_EQ(nowhere.exit_code, 2);
  EXPECT_EQ(nowhere.out, "");
  EXPECT_EQ(run(with("-")).exit_code, 2);
  const Ended full = invoke(Invocation{with("rows.csv"), {}, {}, {}, true, 0});
  EXPECT_EQ(full.exit_code, 70);
  EXPECT_EQ(full.out, "");
  EXPECT_NE(read("rows.csv"), "");  // the old one stays
  std::vector<std::string> no_selection = with("other.csv");
  no_selection[5] = "auroc";
  EXPECT_EQ(run(no_selection).exit_code, 2);
}

// Would catch a command that destroys what it read, or one of its two files.
TEST_F(Cli, NoFileIsWrittenOverAnInputOrTheOtherFile) {
  write("in.csv", "score,label,c\n0.9,1,1\n0.2,0,1\n0.3,0,0\n0.8,1,0\n");
  const std::vector<std::string> select{"eval", "in.csv",    "--calibration",
                                        "c",    "--metrics", "selection_fdp(q=0.5)"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), select.begin(), select.end());
    return run(more);
  };
  for (const std::string option : {"-o", "--per-item"}) {
    const auto refused = with({option, "./in.csv"});
    EXPECT_EQ(refused.exit_code, 2);
    EXPECT_NE(refused.err.find("./in.csv: is an input, which would be replaced; name another file "
                               "with " +
                               option),
              std::string::npos)
        << refused.err;
  }
  EXPECT_EQ(with({"-o", "out.csv", "--per-item", "./out.csv"}).exit_code, 2);
  write("weighted.csv", "score,label,c,weight\n0.9,1,1,1\n0.2,0,1,1\n0.3,0,0,1\n0.8,1,0,1\n");
  const auto weighted = run({"eval", "weighted.csv", "--calibration", "c", "--metrics",
                             "selection_fdp(q=0.5)", "--per-item", "rows.csv"});
  EXPECT_EQ(weighted.exit_code, 2);
  EXPECT_NE(weighted.err.find("of weighted rows nothing is"), std::string::npos) << weighted.err;
}

// Would catch names of scores that are compared together with their options.
TEST_F(Cli, ScoresOfIntervalsMayHaveOptions) {
  write("r.csv", "y,pred,c,g\n1.5,1.25,1,a\n2,2.5,1,b\n3,2.5,0,a\n4,4.5,0,b\n");
  const auto found = run({"eval", "r.csv", "--calibration", "c", "--group", "g", "--conformal",
                          "absolute(mode=group,alpha=0.5)", "--format", "csv", "-q"});
  EXPECT_EQ(found.exit_code, 0) << found.err;
  EXPECT_NE(found.out.find("interval_width"), std::string::npos) << found.out;
}

TEST_F(Cli, SignalsEndItWithTheirCode) {
  const std::vector<std::string> before = files();
  for (const int signal : {SIGINT, SIGTERM}) {
    const Ended done =
        invoke(Invocation{{"eval", "-", "-o", "out.txt"}, {}, {}, {}, false, signal});
    EXPECT_EQ(done.exit_code, 128 + signal);
    EXPECT_EQ(done.out, "");
    EXPECT_EQ(files(), before);
  }
}

// ---- inspect and metrics
// -------------------------------------------------------------------------------

TEST_F(Cli, InspectShowsColumnsAndRoles) {
  const Ended done = run({"inspect", "a.csv"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.out.find("\n  column  type  shape  role\n  label   "), std::string::npos)
      << done.out;
  EXPECT_NE(done.out.find("\n  task: binary\n"), std::string::npos);
  const Ended json = run({"inspect", "a.csv", "b.csv", "--format", "json"});
  EXPECT_EQ(json.out.rfind("{\n  \"schema\": \"cupel.inspect/1\",\n  \"dumps\": [\n"
                           "    {\"path\":\"a.csv\",\"format\":\"csv\",",
                           0),
            0u);
}

TEST_F(Cli, InspectSaysWhyEvalWouldRefuse) {
  write("none.csv", "x,y2\n1,2\n");
  const Ended done = run({"inspect", "none.csv"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.out.find("\n  problem: "), std::string::npos) << done.out;
  const Ended partial = run({"inspect", "a.csv", "empty.csv"});
  EXPECT_EQ(partial.exit_code, 3) << "an argument that does not exist";
  write("empty.csv", "");
  const Ended among = run({"inspect", "a.csv", "empty.csv"});
  EXPECT_EQ(among.exit_code, 4);
  const Ended alone = run({"inspect", "empty.csv"});
  EXPECT_EQ(alone.exit_code, 3);
  EXPECT_EQ(alone.out, "");
}

TEST_F(Cli, MetricsListsAndExplains) {
  const Ended list = run({"metrics"});
  EXPECT_EQ(list.exit_code, 0);
  EXPECT_NE(list.out.find("\n  auroc "), std::string::npos);
  EXPECT_NE(list.out.find("\nbetween groups"), std::string::npos);
  const Ended page = run({"metrics", "auroc"});
  EXPECT_EQ(page.out.rfind("auroc  area under the ROC curve\n\n  formula ", 0), 0u) << page.out;
  EXPECT_EQ(run({"metrics", "es_auroc"}).out, page.out);
  EXPECT_EQ(run({"metrics", "auroc", "--format", "json"})
                .out.rfind("{\n  \"schema\": \"cupel.metrics/1\",\n  \"metrics\": [\n"
                           "    {\"name\":\"auroc\",",
                           0),
            0u);
}

}  // namespace
