// The texts of every sink, against hand-made reports: exact, because scripts (JSON, CSV) and people
// (tables) read them, and independent of evaluation.
#include "cupel/report/report.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace cupel {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

EvalResult result(std::string metric, double value, i64 n, std::optional<i64> n_pos = {}) {
  EvalResult made;
  made.dump = "m.npz";
  made.metric = std::move(metric);
  made.value = value;
  made.n = n;
  made.n_pos = n_pos;
  if (n_pos) made.n_neg = n - *n_pos;
  return made;
}

EvalResult of_group(EvalResult made, std::string column, std::string value) {
  made.group = {{std::move(column), std::move(value)}};
  return made;
}

EvalResult undefined(EvalResult made, Undefined why) {
  made.value = 0;
  made.undefined = why;
  return made;
}

EvalReport report_of(std::vector<EvalResult> results) {
  EvalReport report;
  report.backend = "cpu";
  report.device = "a processor, 2 threads";
  report.inputs = {{"m.npz", "npz", 4377, 105234, "00112233445566778899aabbccddeeff"}};
  report.plan = {{"dumps", Detail::List{Detail(Detail::Object{
                               {"dump", "m.npz"}, {"task", "binary"}, {"rows", i64{4377}}})}}};
  report.results = std::move(results);
  return report;
}

ReportStyle plain() {
  ReportStyle style;
  style.version = "1.2.3";
  return style;
}

std::string text_of(const EvalReport& report, ReportFormat format) {
  return render(report, format, plain());
}

// ---- JSON
// ----------------------------------------------------------------------------------------

TEST(Json, IsTheDocumentOfTheContract) {
  EvalReport report = report_of({result("auroc", 0.93125, 4377, 812)});
  report.fallback = "no NVIDIA driver";
  report.plan = {{"states", Detail::List{Detail("ranking of score")}}};
  report.failures = {{"bad.npz", input_error("bad.npz", "not a zip archive", "write it again")}};
  report.read_s = 0.5;
  report.compute_s = 0.25;
  report.total_s = 1;
  EXPECT_EQ(text_of(report, ReportFormat::kJson),
            R"({
  "schema": "cupel.result/1",
  "cupel": {"version":"1.2.3","backend":"cpu","device":"a processor, 2 threads","fallback":"no NVIDIA driver"},
  "inputs": [
    {"path":"m.npz","format":"npz","rows":4377,"bytes":105234,"hash":"xxh3:00112233445566778899aabbccddeeff"}
  ],
  "plan": {"states":["ranking of score"]},
  "results": [
    {"dump":"m.npz","metric":"auroc","average":null,"class":null,"group":null,"value":0.93125,"undefined":null,"n":4377,"n_pos":812,"n_neg":3565,"params":{},"details":{}}
  ],
  "failures": [
    {"dump":"bad.npz","code":3,"where":"bad.npz","what":"not a zip archive","hint":"write it again","message":"bad.npz: not a zip archive; write it again"}
  ],
  "timing": {"read_s":0.5,"compute_s":0.25,"total_s":1.0}
}
)");
}

TEST(Json, EmptyReportIsStillADocument) {
  EXPECT_EQ(text_of(EvalReport{}, ReportFormat::kJson),
            R"({
  "schema": "cupel.result/1",
  "cupel": {"version":"1.2.3","backend":"","device":"","fallback":null},
  "inputs": [],
  "plan": {},
  "results": [],
  "failures": [],
  "timing": {"read_s":0.0,"compute_s":0.0,"total_s":0.0}
}
)");
}

/// The one line of a report with one result.
std::string line_of(const EvalResult& only) {
  return text_of(report_of({only}), ReportFormat::kJsonl);
}

TEST(Json, ValueIsNullExactlyWhenUndefined) {
  EXPECT_EQ(line_of(undefined(result("auroc", 0.5, 3, 0), Undefined::kNoPositive)),
            R"({"dump":"m.npz","metric":"auroc","average":null,"class":null,"group":null,)"
            R"("value":null,"undefined":"no_positive","n":3,"n_pos":0,"n_neg":3,)"
            R"("params":{},"details":{}})"
            "\n");
}

TEST(Json, InfinitiesAreStringsEverywhere) {
  EvalResult infinite = result("log_loss", kInfinity, 3);
  infinite.details = {{"least", -kInfinity},
                      {"list", Detail::List{Detail(kInfinity), Detail(1), Detail()}}};
  EXPECT_EQ(line_of(infinite),
            R"({"dump":"m.npz","metric":"log_loss","average":null,"class":null,"group":null,)"
            R"("value":"inf","undefined":null,"n":3,"n_pos":null,"n_neg":null,)"
            R"("params":{},"details":{"least":"-inf","list":["inf",1,null]}})"
            "\n");
}

TEST(Json, AverageClassGroupAndParams) {
  EvalResult full = of_group(result("auroc", 1, 10, 4), "sex", "f");
  full.group.emplace_back("age", "old");
  full.average = "macro";
  full.cls = 3;
  full.params = {{"z", true}, {"a", "text"}, {"m", 0.1}};
  EXPECT_EQ(line_of(full),
            R"({"dump":"m.npz","metric":"auroc","average":"macro","class":3,)"
            R"("group":{"sex":"f","age":"old"},"value":1.0,"undefined":null,"n":10,"n_pos":4,)"
            R"("n_neg":6,"params":{"z":true,"a":"text","m":0.1},"details":{}})"
            "\n");
}

TEST(Json, PairsOfGroupsAreLists) {
  EvalResult pair = of_group(result("xauc", 0.75, 10, 4), "sex", "f");
  pair.group_against = "m";
  EXPECT_NE(line_of(pair).find(R"("group":{"sex":["f","m"]})"), std::string::npos);
}

TEST(Json, TextThatIsNotUtf8KeepsItsBytes) {
  EvalResult odd = of_group(result("auroc", 0.5, 2, 1), "sex", "f\xFF");
  odd.dump = "caf\xE9.npz";  // Latin-1
  const std::string line = line_of(odd);
  EXPECT_NE(line.find("\"dump\":\"caf\xEF\xBF\xBD.npz\",\"path_bytes\":\"Y2Fm6S5ucHo=\","),
            std::string::npos);
  EXPECT_NE(line.find("\"group\":{\"sex\":\"f\xEF\xBF\xBD\"},\"group_bytes\":{\"sex\":\"Zv8=\"}"),
            std::string::npos);
}

TEST(Json, OverlongSurrogateAndCutSequencesAreNotUtf8) {
  for (const std::string bytes : {"\xC0\xAF", "\xE0\x80\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                                  "\xE2\x82", "\x80", "\xF8\x88\x80\x80\x80"}) {
    EvalResult odd = result("auroc", 0.5, 2, 1);
    odd.dump = bytes;
    EXPECT_NE(line_of(odd).find("path_bytes"), std::string::npos);
  }
  EvalResult fine = result("auroc", 0.5, 2, 1);
  fine.dump = "\xE2\x82\xAC \xF0\x9F\x98\x80 \xC3\xA9.npz";
  EXPECT_EQ(line_of(fine).find("path_bytes"), std::string::npos);
  EXPECT_NE(line_of(fine).find(fine.dump), std::string::npos);
}

TEST(Json, NumbersReadBackAsTheSameDouble) {
  // Neighbours of powers, denormals, many digits: a linear congruential walk over bit patterns.
  u64 bits = 0x9E3779B97F4A7C15;
  for (int i = 0; i < 2000; ++i) {
    bits = bits * 6364136223846793005u + 1442695040888963407u;
    double value = 0;
    static_assert(sizeof value == sizeof bits);
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    for (const ReportFormat format : {ReportFormat::kJsonl, ReportFormat::kCsv}) {
      const std::string text = text_of(report_of({result("auroc", value, 1)}), format);
      const std::string mark = format == ReportFormat::kJsonl ? "\"value\":" : "m.npz,auroc,,,,";
      const std::size_t at = text.find(mark);
      ASSERT_NE(at, std::string::npos);
      EXPECT_EQ(std::strtod(text.c_str() + at + mark.size(), nullptr), value) << text;
    }
  }
}

// ---- CSV
// -----------------------------------------------------------------------------------------

TEST(Csv, HeaderAndOneLinePerResult) {
  EvalResult pair = of_group(result("xauc", 0.75, 10, 4), "sex", "f");
  pair.group_against = "m";
  EvalResult with_params = result("auroc", 1, 10, 4);
  with_params.params = {{"max_fpr", 0.1}};
  with_params.average = "macro";
  with_params.cls = 2;
  const EvalReport report = report_of(
      {with_params, of_group(result("brier", 0.1, 9), "sex", "a,\"b\"\n"), pair,
       undefined(result("auroc", 0, 0, 0), Undefined::kEmpty), result("log_loss", kInfinity, 4)});
  EXPECT_EQ(text_of(report, ReportFormat::kCsv),
            "dump,metric,average,class,group,value,undefined,n,n_pos,n_neg,params,details\n"
            "m.npz,auroc,macro,2,,1,,10,4,6,\"{\"\"max_fpr\"\":0.1}\",{}\n"
            "m.npz,brier,,,\"{\"\"sex\"\":\"\"a,\\\"\"b\\\"\"\\n\"\"}\",0.1,,9,,,{},{}\n"
            "m.npz,xauc,,,\"{\"\"sex\"\":[\"\"f\"\",\"\"m\"\"]}\",0.75,,10,4,6,{},{}\n"
            "m.npz,auroc,,,,,empty,0,0,0,{},{}\n"
            "m.npz,log_loss,,,,inf,,4,,,{},{}\n");
}

TEST(Csv, FieldsWithCommasQuotesAndBreaksAreQuoted) {
  EvalResult odd = result("auroc", 0.5, 1);
  odd.dump = "a,\"b\".npz";
  const std::string text = text_of(report_of({odd}), ReportFormat::kCsv);
  EXPECT_NE(text.find("\n\"a,\"\"b\"\".npz\",auroc,"), std::string::npos);
}

// ---- tables
// ---------------------------------------------------------------------------------------

TEST(Table, OneDumpListsItsMetrics) {
  EvalResult partial = result("auroc", 0.875, 4377, 812);
  partial.params = {{"max_fpr", 0.1}};
  EvalResult preset = result("auprc", 1, 4377, 812);
  preset.params = {{"method", "step"}};
  EXPECT_EQ(text_of(report_of({result("auroc", 0.931254, 4377, 812), partial, preset,
                               result("log_loss", 12.5, 4377)}),
                    ReportFormat::kTable),
            "m.npz  binary, 4,377 rows, cpu\n"
            "\n"
            "  metric                 value      n  n_pos\n"
            "  auroc                0.93125  4,377    812\n"
            "  auroc(max_fpr=0.1)   0.87500  4,377    812\n"
            "  auprc                1.0000   4,377    812\n"
            "  log_loss            12.500    4,377\n");
}

// The value of a fit alone says neither what it was good for nor why there is none.
TEST(Table, FitsShowTheOtherRowsBeforeAndAfter) {
  const auto change = [](Detail before, Detail after) {
    return Detail(Detail::Object{{"before", std::move(before)}, {"after", std::move(after)}});
  };
  EvalResult good = result("temperature", 2, 10, 4);
  good.details = {{"fit", Detail::Object{{"status", "converged"}}},
                  {"others", Detail::Object{{"n", i64{1234}},
                                            {"log_loss", change(0.75, 0.5)},
                                            {"brier", change(0.25, 0.125)},
                                            {"ece", change(0.0625, 0.03125)}}}};
  EvalResult bad = undefined(result("platt", 0, 10, 4), Undefined::kRanAway);
  bad.details = {
      {"fit", Detail::Object{{"status", "ran_away"}, {"towards", "inf"}, {"why", "too steep"}}},
      {"others", Detail::Object{{"n", i64{7}}, {"log_loss", change(12.5, Detail())}}}};
  EXPECT_EQ(text_of(report_of({good, bad}), ReportFormat::kTable),
            "m.npz  binary, 4,377 rows, cpu\n"
            "\n"
            "  metric        value   n  n_pos\n"
            "  temperature  2.0000  10      4\n"
            "  platt             -  10      4\n"
            "\n"
            "  fits: scores of the other rows, before and after\n"
            "  fit              n  log_loss    after    brier    after       ece     after\n"
            "  temperature  1,234   0.75000  0.50000  0.25000  0.12500  0.062500  0.031250\n"
            "  platt            7  12.500          -        -        -         -         -\n"
            "\n"
            "  undefined: ran_away, 1 value (platt)\n"
            "  platt runs towards inf: too steep\n");
}

// The rows of a fit or of conformal sets are half of those that the column beside it is of.
TEST(Table, CountsOfARowAreNotThoseOfAFit) {
  for (const bool sets : {false, true}) {
    EvalResult half = of_group(result(sets ? "set_size" : "temperature", 2, 4, 1), "sex", "f");
    half.details = {{"fit", Detail::Object{{"status", "converged"}}}};
    if (sets) half.details = {{"n_calibration", 6}};
    const std::string text = text_of(
        report_of({half, of_group(result("ece", 0.5, 10, 3), "sex", "f")}), ReportFormat::kTable);
    EXPECT_NE(text.find("  f    10      3 "), std::string::npos) << text;
  }
}

TEST(Table, AveragesHaveTheirColumn) {
  EvalResult macro = result("auroc", 0.5, 10);
  macro.average = "macro";
  EvalResult micro = result("auroc", 0.25, 10, 2);
  micro.average = "micro";
  EXPECT_EQ(text_of(report_of({macro, micro}), ReportFormat::kTable),
            "m.npz  binary, 4,377 rows, cpu\n"
            "\n"
            "  metric  average    value   n  n_pos\n"
            "  auroc   macro    0.50000  10\n"
            "  auroc   micro    0.25000  10      2\n");
}

TEST(Table, AveragesHaveColumnsOfTheirOwnInABreakdown) {
  EvalResult macro = of_group(result("auroc", 0.5, 10), "sex", "f");
  macro.average = "macro";
  EvalResult micro = of_group(result("auroc", 0.25, 10), "sex", "f");
  micro.average = "micro";
  EXPECT_EQ(text_of(report_of({macro, micro}), ReportFormat::kTable),
            "m.npz  binary, 4,377 rows, cpu\n"
            "\n"
            "                              auroc\n"
            "  sex   n    auroc  (average=micro)\n"
            "  f    10  0.50000          0.25000\n");
}

TEST(Table, ImpliedThresholdsAreNotNamedUnlessTheyDiffer) {
  EvalResult implied = result("accuracy", 0.5, 10);
  implied.params = {{"threshold", 0.5}};
  EXPECT_NE(text_of(report_of({implied}), ReportFormat::kTable).find("\n  accuracy  0.5"),
            std::string::npos);
  EvalResult chosen = result("accuracy", 0.25, 10);
  chosen.params = {{"threshold", 0.3}};
  const std::string both = text_of(report_of({implied, chosen}), ReportFormat::kTable);
  EXPECT_NE(both.find("\n  accuracy(threshold=0.5)  0.5"), std::string::npos) << both;
  EXPECT_NE(both.find("\n  accuracy(threshold=0.3)  0.25"), std::string::npos) << both;
}

/// Two metrics, two groups, with what groups make of the first.
EvalReport grouped() {
  EvalResult auroc = result("auroc", 0.75, 10, 4);
  auroc.details = {
      {"groups", Detail::Object{{"sex", Detail::Object{{"gap", 0.125},
                                                       {"worst", Detail::Object{{"group", "m"},
                                                                                {"value", 0.625}}},
                                                       {"equity_scaled", Detail()}}}}}};
  return report_of(
      {auroc, of_group(result("auroc", 0.75, 6, 3), "sex", "f"),
       of_group(result("auroc", 0.625, 4, 1), "sex", "m"), result("log_loss", 0.5, 10),
       of_group(result("log_loss", 1.5, 6), "sex", "f"),
       undefined(of_group(result("log_loss", 0, 4), "sex", "m"), Undefined::kNotProbability)});
}

TEST(Table, GroupsAreRowsAndMetricsColumns) {
  EXPECT_EQ(text_of(grouped(), ReportFormat::kTable),
            "m.npz  binary, 4,377 rows, cpu\n"
            "\n"
            "  metric      value   n  n_pos\n"
            "  auroc     0.75000  10      4\n"
            "  log_loss  0.50000  10\n"
            "\n"
            "  sex            n  n_pos    auroc  log_loss\n"
            "  f              6      3  0.75000   1.5000\n"
            "  m              4      1  0.62500         -\n"
            "\n"
            "  overall                  0.75000   0.50000\n"
            "  gap                      0.12500\n"
            "  worst                          m\n"
            "  equity-scaled                  -\n"
            "\n"
            "  undefined: not_probability, 1 value (log_loss; sex=m)\n");
}

TEST(Table, TonesAppearOnATerminalOnly) {
  ReportStyle style = plain();
  style.terminal = true;
  const std::string text = render(grouped(), ReportFormat::kTable, style);
  EXPECT_NE(text.find("\x1b[1mm.npz\x1b[0m"), std::string::npos);
  EXPECT_NE(text.find("\x1b[33m0.62500\x1b[0m"), std::string::npos) << "the worst group stands out";
  std::string without;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '\x1b') {
      without += text[at];
      continue;
    }
    at = text.find('m', at);
  }
  EXPECT_EQ(without, text_of(grouped(), ReportFormat::kTable)) << "tones take no room";
  EXPECT_EQ(text_of(grouped(), ReportFormat::kTable).find('\x1b'), std::string::npos);
  EXPECT_EQ(render(grouped(), ReportFormat::kMarkdown, style).find('\x1b'), std::string::npos);
}

TEST(Table, ClassesOfGroupsAreRowsToo) {
  std::vector<EvalResult> results;
  for (const char* group : {"", "f"}) {
    for (const i64 cls : {-1, 0, 1}) {
      EvalResult made = result("auroc", 0.5, 8);
      if (*group != '\0') made = of_group(made, "sex", group);
      if (cls >= 0) {
        made.cls = cls;
        made.n_pos = 4;
      } else {
        made.average = "macro";
      }
      results.push_back(made);
    }
  }
  EXPECT_EQ(text_of(report_of(results), ReportFormat::kTable),
            "m.npz  binary, 4,377 rows, cpu\n"
            "\n"
            "  metric  average    value  n\n"
            "  auroc   macro    0.50000  8\n"
            "\n"
            "  class    n  n_pos    auroc\n"
            "  0        8      4  0.50000\n"
            "  1        8      4  0.50000\n"
            "\n"
            "  overall            0.50000\n"
            "\n"
            "  sex      class  n  n_pos    auroc\n"
            "  f               8         0.50000\n"
            "           0      8      4  0.50000\n"
            "           1      8      4  0.50000\n"
            "\n"
            "  overall                   0.50000\n");
}

TEST(Table, SeveralDumpsAreComparedInOneTable) {
  std::vector<EvalResult> results;
  for (const char* dump : {"runs/a.npz", "runs/b.npz"}) {
    for (const char* metric : {"auroc", "brier"}) {
      EvalResult made = result(metric, dump[5] == 'a' ? 0.5 : 0.25, 1000, 400);
      made.dump = dump;
      results.push_back(made);
    }
  }
  results.back() = undefined(results.back(), Undefined::kNotProbability);
  EvalReport report = report_of(results);
  report.failures = {{"runs/c.npz", input_error("runs/c.npz", "is empty")}};
  EXPECT_EQ(text_of(report, ReportFormat::kTable),
            "2 dumps in runs/  cpu\n"
            "\n"
            "  dump       n  n_pos    auroc    brier\n"
            "  a.npz  1,000    400  0.50000  0.50000\n"
            "  b.npz  1,000    400  0.25000        -\n"
            "\n"
            "  undefined: not_probability, 1 value (brier; runs/b.npz)\n"
            "\n"
            "1 failed\n"
            "  runs/c.npz: is empty\n");
}

TEST(Table, PairsOfGroupsAreAMatrix) {
  std::vector<EvalResult> results;
  double value = 0.5;
  for (const char* positives : {"f", "m"}) {
    for (const char* negatives : {"f", "m"}) {
      EvalResult made = of_group(result("xauc", value, 10, 5), "sex", positives);
      made.group_against = negatives;
      results.push_back(made);
      value += 0.125;
    }
  }
  EXPECT_EQ(text_of(report_of(results), ReportFormat::kTable),
            "m.npz  binary, 4,377 rows, cpu\n"
            "\n"
            "  xauc by sex: positives of the row, negatives of the column\n"
            "  sex        f        m\n"
            "  f    0.50000  0.62500\n"
            "  m    0.75000  0.87500\n");
}

TEST(Table, AWideTableContinuesBelowItself) {
  std::vector<EvalResult> results;
  for (int i = 0; i < 12; ++i) {
    EvalResult made = of_group(result("auroc", 0.5, 8, 4), "sex", "f");
    made.params = {{"max_fpr", 0.05 * (i + 1)}};
    results.push_back(made);
  }
  for (const int width : {60, 80, 120}) {
    ReportStyle style = plain();
    style.width = width;
    const std::string text = render(report_of(results), ReportFormat::kTable, style);
    std::size_t values = 0;
    for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
      end = text.find('\n', begin);
      EXPECT_LE(end - begin, static_cast<std::size_t>(width));
      const std::string line = text.substr(begin, end - begin);
      for (std::size_t at = line.find("0.50000"); at != std::string::npos;
           at = line.find("0.50000", at + 1)) {
        ++values;
      }
    }
    EXPECT_EQ(values, 12u);
  }
}

TEST(Table, LongMetricNamesBreakInTheHead) {
  EXPECT_EQ(text_of(report_of({of_group(result("balanced_accuracy", 0.5, 8, 4), "sex", "f")}),
                    ReportFormat::kTable),
            "m.npz  binary, 4,377 rows, cpu\n"
            "\n"
            "                 balanced_\n"
            "  sex  n  n_pos   accuracy\n"
            "  f    8      4    0.50000\n");
}

TEST(Table, NumbersHaveFiveSignificantDigits) {
  const std::pair<double, const char*> cases[] = {
      {0.0, "0.0000"},      {1.0, "1.0000"},
      {-0.25, "-0.25000"},  {0.123456, "0.12346"},
      {1234.56, "1234.6"},  {12345.6, "12346"},
      {1e-5, "1.0000e-05"}, {kInfinity, "inf"},
      {-kInfinity, "-inf"}, {0.00012345678, "0.00012346"},
  };
  for (const auto& [value, shown] : cases) {
    const std::string text = text_of(report_of({result("m", value, 7)}), ReportFormat::kTable);
    EXPECT_NE(text.find(" " + std::string(shown) + "  7\n"), std::string::npos) << text;
  }
}

TEST(Table, NamesFromFilesCannotReachTheTerminal) {
  EvalReport report =
      report_of({of_group(result("auroc", 0.5, 8, 4), "s\x1b[2Jx", "a\nb\t\x7F\xC2\x9B")});
  const std::string text = text_of(report, ReportFormat::kTable);
  EXPECT_NE(text.find("s\\x1b[2Jx"), std::string::npos);
  EXPECT_NE(text.find("a\\nb\\t\\x7f\\x9b"), std::string::npos);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(printable("plain \xC3\xA9"), "plain \xC3\xA9");
  EXPECT_EQ(printable("\xFF"), "\xEF\xBF\xBD");
}

TEST(Table, WideCharactersKeepColumnsAligned) {
  // Two ideographs take four columns, e with a combining accent one.
  EXPECT_EQ(
      text_of(report_of({of_group(result("auroc", 0.5, 8, 4), "g", "\xE6\x97\xA5\xE6\x9C\xAC"),
                         of_group(result("auroc", 0.5, 8, 4), "g", "e\xCC\x81")}),
              ReportFormat::kTable),
      "m.npz  binary, 4,377 rows, cpu\n"
      "\n"
      "  g     n  n_pos    auroc\n"
      "  \xE6\x97\xA5\xE6\x9C\xAC  8      4  0.50000\n"
      "  e\xCC\x81     8      4  0.50000\n");
}

// Two groups that both read "a department of the hospita.." would be one row twice.
TEST(Table, CutNamesStayDifferent) {
  const std::string east = "a department of the hospital in the east";
  const std::string west = "a department of the hospital in the west";
  EvalResult overall = result("auroc", 0.75, 8, 4);
  overall.details = {
      {"groups",
       Detail::Object{
           {"site", Detail::Object{{"gap", 0.5}, {"worst", Detail::Object{{"group", west}}}}}}}};
  const EvalReport report =
      report_of({overall, of_group(result("auroc", 1, 4, 2), "site", east),
                 of_group(result("auroc", 0.5, 4, 2), "site", west),
                 of_group(result("auroc", 0.75, 4, 2), "site", "quite another department's name")});
  EXPECT_EQ(text_of(report, ReportFormat::kTable),
            "m.npz  binary, 4,377 rows, cpu\n"
            "\n"
            "  metric    value  n  n_pos\n"
            "  auroc   0.75000  8      4\n"
            "\n"
            "  site                                      n  n_pos         auroc\n"
            "  a department of the hospital in the east  4      2       1.0000\n"
            "  a department of the hospital in the west  4      2       0.50000\n"
            "  quite another department's name           4      2       0.75000\n"
            "\n"
            "  overall                                                  0.75000\n"
            "  gap                                                      0.50000\n"
            "  worst                                               ..n the west\n");
}

TEST(Markdown, NamesAreWhole) {
  const std::string name = "a department of the hospital in the east";
  EvalResult overall = result("auroc", 0.75, 8, 4);
  overall.details = {
      {"groups",
       Detail::Object{{"site", Detail::Object{{"worst", Detail::Object{{"group", name}}}}}}}};
  const std::string text =
      text_of(report_of({overall, of_group(result("auroc", 1, 4, 2), "site", name)}),
              ReportFormat::kMarkdown);
  EXPECT_EQ(text.find(".."), std::string::npos) << text;
  EXPECT_NE(text.find("| *worst* "), std::string::npos) << text;
}

TEST(Table, DisparityOfAColumnWithAnOddName) {
  EvalResult overall = result("auroc", 0.75, 8, 4);
  overall.details = {{"groups", Detail::Object{{"a\tb", Detail::Object{{"gap", 0.25}}}}}};
  const std::string text = text_of(
      report_of({overall, of_group(result("auroc", 1, 4, 2), "a\tb", "x")}), ReportFormat::kTable);
  EXPECT_NE(text.find("  gap "), std::string::npos) << text;
}

// An average over four of six classes is not what it seems unless the table says so.
TEST(Table, AveragesNameTheClassesThatTheyLeaveOut) {
  const auto left_out = [](i64 cls) {
    return Detail(Detail::Object{{"class", cls}, {"undefined", "no_positive"}});
  };
  const auto average = [&](const char* metric, Detail::List classes) {
    EvalResult made = result(metric, 0.5, 8);
    made.average = "macro";
    made.details = {{"left_out", std::move(classes)}};
    return made;
  };
  const std::string head =
      "m.npz  binary, 4,377 rows, cpu\n"
      "\n"
      "  metric  average    value  n\n"
      "  auroc   macro    0.50000  8\n"
      "  auprc   macro    0.50000  8\n"
      "\n";
  const EvalResult auroc = average("auroc", {left_out(4), left_out(5)});
  const EvalResult auprc = average("auprc", {left_out(4), left_out(5)});
  EXPECT_EQ(text_of(report_of({auroc, auprc}), ReportFormat::kTable),
            head + "  left out of averages: no_positive (auroc, auprc; class 4, class 5)\n");

  // In a group only what is left out there and not overall is news.
  const EvalResult group =
      of_group(average("auroc", {left_out(2), left_out(4), left_out(5)}), "sex", "f");
  const std::string grouped = text_of(report_of({auroc, auprc, group}), ReportFormat::kTable);
  EXPECT_NE(grouped.find("(auroc, auprc; class 4, class 5, sex=f class 2)\n"), std::string::npos)
      << grouped;

  // Classes with results of their own have a dash and its note.
  EvalResult by_class = undefined(result("auroc", 0, 8, 0), Undefined::kNoPositive);
  by_class.cls = 4;
  const std::string classes = text_of(report_of({auroc, by_class}), ReportFormat::kTable);
  EXPECT_EQ(classes.find("left out"), std::string::npos) << classes;
}

TEST(Table, EquityScaledValuesNameTheirColumn) {
  EvalResult sex = result("es_auroc", 0.5, 8);
  sex.params = {{"attribute", "sex"}};
  EvalResult age = result("es_auroc", 0.25, 8);
  age.params = {{"form", "std"}, {"attribute", "age"}};
  EXPECT_EQ(text_of(report_of({sex, age}), ReportFormat::kTable),
            "m.npz  binary, 4,377 rows, cpu\n"
            "\n"
            "  metric                       value  n\n"
            "  es_auroc by sex            0.50000  8\n"
            "  es_auroc(form=std) by age  0.25000  8\n");
}

// ---- Markdown
// --------------------------------------------------------------------------------------

TEST(Markdown, TablesAndEscapes) {
  EvalReport report = grouped();
  report.results[1].group[0].second = report.results[4].group[0].second = "a|b*";
  EXPECT_EQ(text_of(report, ReportFormat::kMarkdown),
            "## m.npz\n"
            "\n"
            "binary, 4,377 rows, cpu\n"
            "\n"
            "| metric   |   value |   n | n_pos |\n"
            "| :------- | ------: | --: | ----: |\n"
            "| auroc    | 0.75000 |  10 |     4 |\n"
            "| log_loss | 0.50000 |  10 |       |\n"
            "\n"
            "| sex             |   n | n_pos |   auroc | log_loss |\n"
            "| :-------------- | --: | ----: | ------: | -------: |\n"
            "| a\\|b\\*          |   6 |     3 | 0.75000 |   1.5000 |\n"
            "| m               |   4 |     1 | 0.62500 |        - |\n"
            "| *overall*       |     |       | 0.75000 |  0.50000 |\n"
            "| *gap*           |     |       | 0.12500 |          |\n"
            "| *worst*         |     |       |       m |          |\n"
            "| *equity-scaled* |     |       |       - |          |\n"
            "\n"
            "- undefined: not_probability, 1 value (log_loss; sex=m)\n");
}

// ---- formats, inspection, catalogue
// ----------------------------------------------------------------

TEST(Formats, AreFoundByName) {
  EXPECT_EQ(format_names().size(), 5u);
  for (const std::string_view name : format_names()) EXPECT_TRUE(parse_format(name).ok()) << name;
  EXPECT_EQ(parse_format("md").value(), ReportFormat::kMarkdown);
  EXPECT_EQ(parse_format("jsno").error().text(), "unknown format 'jsno', did you mean 'json'?");
  EXPECT_EQ(parse_format("parquet").error().text(),
            "unknown format 'parquet'; formats are table, json, jsonl, csv, md");
  EXPECT_EQ(parse_format("parquet").error().code, ErrorCode::kUsage);
}

InspectedDump inspected() {
  InspectedDump dump;
  dump.path = "m.npz";
  dump.format = "npz";
  dump.rows = 4377;
  dump.bytes = 105234;
  dump.columns = {{{"logits", DType::kF32, {4377, 6}, 4}, "logits"},
                  {{"category", DType::kUnicode, {4377}, 64}, ""}};
  dump.task = "multiclass";
  return dump;
}

TEST(Inspection, TableAndJson) {
  InspectedDump dump = inspected();
  EXPECT_EQ(render_inspection({&dump, 1}, {}, ReportFormat::kTable, plain()),
            "m.npz  npz, 4,377 rows, 105,234 bytes\n"
            "\n"
            "  column    type  shape     role\n"
            "  logits    f32   [4377,6]  logits\n"
            "  category  str   [4377]\n"
            "\n"
            "  task: multiclass\n");
  dump.task.clear();
  dump.problem = "no array for the label";
  const EvalFailure failure{"x.npz", input_error("x.npz", "is empty")};
  EXPECT_EQ(render_inspection({&dump, 1}, {&failure, 1}, ReportFormat::kJson, plain()),
            R"({
  "schema": "cupel.inspect/1",
  "dumps": [
    {"path":"m.npz","format":"npz","rows":4377,"bytes":105234,"columns":[{"name":"logits","dtype":"f32","shape":[4377,6],"role":"logits"},{"name":"category","dtype":"str","shape":[4377],"role":null}],"task":null,"problem":"no array for the label"}
  ],
  "failures": [
    {"dump":"x.npz","code":3,"where":"x.npz","what":"is empty","hint":null,"message":"x.npz: is empty"}
  ]
}
)");
}

TEST(Catalogue, ListsEveryMetricOnce) {
  const std::string text = render_metric_list(all_metrics(), ReportFormat::kTable, plain());
  const std::string json = render_metric_list(all_metrics(), ReportFormat::kJson, plain());
  for (const Metric* metric : all_metrics()) {
    const std::string name(metric->info().name);
    const std::size_t at = text.find("\n  " + name + " ");
    ASSERT_NE(at, std::string::npos) << name;
    EXPECT_EQ(text.find("\n  " + name + " ", at + 1), std::string::npos) << name;
    EXPECT_NE(json.find("{\"name\":\"" + name + "\","), std::string::npos) << name;
  }
}

TEST(Catalogue, EveryPageIsCompleteAndFits) {
  for (const Metric* metric : all_metrics()) {
    const MetricInfo& info = metric->info();
    ReportStyle style = plain();
    style.width = 80;
    const std::string page = render_metric_page(*metric, ReportFormat::kTable, style);
    for (const char* part : {"formula", "better", "tasks", "edge cases", "equals", "source"}) {
      EXPECT_NE(page.find("\n  " + std::string(part) + " "), std::string::npos)
          << info.name << ": " << part;
    }
    EXPECT_NE(page.find(info.example), std::string::npos) << info.name;
    for (const OptionSpec& option : effective_options(*metric)) {
      EXPECT_NE(page.find(" " + std::string(option.name) + " "), std::string::npos) << info.name;
    }
    // Behind the title and before the example, lines break at 80 columns between words.
    const std::size_t first = page.find('\n') + 1;
    const std::string text = page.substr(first, page.find("\n  example") - first);
    for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
      end = std::min(text.find('\n', begin), text.size());
      const std::string line = text.substr(begin, end - begin);
      const std::size_t blank = line.find_last_of(' ');
      const bool one_word = blank != std::string::npos && line.find_last_not_of(' ', blank) < 14;
      EXPECT_TRUE(line.size() <= 80 || one_word) << line;
    }
  }
}

TEST(Numbers, HaveSeparators) {
  EXPECT_EQ(with_separators(0), "0");
  EXPECT_EQ(with_separators(999), "999");
  EXPECT_EQ(with_separators(1000), "1,000");
  EXPECT_EQ(with_separators(-1234567), "-1,234,567");
  EXPECT_EQ(with_separators(std::numeric_limits<i64>::min()), "-9,223,372,036,854,775,808");
}

}  // namespace
}  // namespace cupel
