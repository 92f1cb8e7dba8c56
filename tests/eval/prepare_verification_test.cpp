// Columns of verification tasks: which are taken, what is wrong with them, and what is made of
// them.
#include <gtest/gtest.h>

#include <limits>

#include "pair_dumps.hpp"

namespace cupel {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

const std::vector<float> kRows{1, 2, 3, 4, 5, 6, 7, 8};  // four rows of two
const std::vector<i64> kLabels{7, 7, 3, 3};
const std::vector<float> kScores{0.5F, 0.25F, 0.75F, 0};

Arrays embeddings() { return Arrays().floats("embedding", kRows, 2).integers("label", kLabels); }
Arrays scored() {
  return Arrays()
      .floats("score", kScores)
      .integers("class_a", {1, 1, 2, 3})
      .integers("class_b", {1, 2, 2, 1});
}

std::string bound_as(const Arrays& arrays, const EvalRequest& request = {}) {
  auto dump = fixtures::open_as("npz", "d.npz", arrays.bytes());
  EXPECT_TRUE(dump.ok());
  const auto binding = bind_roles(**dump, request);
  if (!binding) return binding.error().text();
  std::string text(task_name(binding->task));
  for (const BoundColumn* column : binding->columns()) {
    text += " " + std::string(role_name(column->role)) + "=" + column->info().name;
  }
  return text;
}

EvalRequest with(Task task) {
  EvalRequest request;
  request.task = task;
  return request;
}
template <class Set>
EvalRequest roles(Set set) {
  EvalRequest request;
  set(request.roles);
  return request;
}

bool mentions(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}
#define EXPECT_MENTIONS(text, part) EXPECT_PRED2(mentions, text, part)

// ---- which columns ------------------------------------------------------------------------------

TEST(VerificationColumns, AnEmbeddingIsTheLastToMakeATask) {
  EXPECT_EQ(bound_as(embeddings()), "verification label=label embedding=embedding");
  for (const std::string name : {"embeddings", "features"}) {
    EXPECT_EQ(bound_as(Arrays().floats(name, kRows, 2).integers("y", kLabels)),
              "verification label=y embedding=" + name);
  }
  EXPECT_EQ(bound_as(embeddings().integers("id", {4, 3, 2, 1})),
            "verification label=label id=id embedding=embedding");
  EXPECT_EQ(bound_as(embeddings().floats("probs", kRows, 2)), "multiclass probs=probs label=label");
  EXPECT_EQ(bound_as(embeddings().floats("logits", kRows, 2)),
            "multiclass logits=logits label=label");
  EXPECT_EQ(bound_as(embeddings().floats("score", kScores)), "binary score=score label=label");
  EXPECT_EQ(
      bound_as(
          Arrays().floats("embedding", kRows, 2).floats("pred", kScores).floats("label", kScores)),
      "regression label=label pred=pred");
  EXPECT_EQ(bound_as(embeddings().floats("loss", kRows, 2)), "risk loss=loss");
}

TEST(VerificationColumns, ATaskOrAnOptionSettlesIt) {
  EXPECT_EQ(bound_as(embeddings().floats("probs", kRows, 2), with(Task::kVerification)),
            "verification label=label embedding=embedding");
  const Arrays both =
      Arrays().floats("x", kRows, 2).floats("score", kScores).integers("y", kLabels);
  const EvalRequest named = roles([](ColumnRoles& r) { r.embedding = "x"; });
  EXPECT_EQ(bound_as(both, named), "verification label=y embedding=x");
  // Where a metric takes features, the option names those of another task.
  EvalRequest features = named;
  features.embedding = true;
  EXPECT_EQ(bound_as(both, features), "binary score=score label=y embedding=x");
  EvalRequest score = named;
  score.roles.score = "score";
  EXPECT_EQ(bound_as(both, score), "binary score=score label=y");
  EXPECT_EQ(bound_as(embeddings(), with(Task::kBinary)),
            "d.npz: no array for the scores; it has embedding [4,2] f32, label [4] i64; name one "
            "with --score, --probs or --logits");
}

TEST(VerificationColumns, PairsHaveAScoreOrADistance) {
  EXPECT_EQ(bound_as(scored()), "verification score=score class-a=class_a class-b=class_b");
  EXPECT_EQ(bound_as(scored().integers("label", {1, 0, 1, 0})),
            "verification score=score label=label class-a=class_a class-b=class_b");
  const Arrays far =
      Arrays().floats("dist", kScores).integers("class_a", kLabels).integers("class_b", kLabels);
  EXPECT_EQ(bound_as(far), "verification distance=dist class-a=class_a class-b=class_b");
  const Arrays plain = Arrays().floats("score", kScores).integers("label", {1, 0, 1, 0});
  EXPECT_EQ(bound_as(plain), "binary score=score label=label");
  EXPECT_EQ(bound_as(plain, with(Task::kVerification)), "verification score=score label=label");
  const Arrays distance = Arrays().floats("d", kScores).integers("label", {1, 0, 1, 0});
  EXPECT_EQ(bound_as(distance, roles([](ColumnRoles& r) { r.distance = "d"; })),
            "verification label=label distance=d");
  // An embedding beside pairs with classes comes after them.
  EXPECT_EQ(bound_as(scored().floats("embedding", kRows, 2)),
            "verification score=score class-a=class_a class-b=class_b");
  const Arrays named =
      Arrays().floats("s", kScores).integers("left", kLabels).integers("right", kLabels);
  EXPECT_EQ(bound_as(named, roles([](ColumnRoles& r) {
                       r.score = "s";
                       r.class_a = "left";
                       r.class_b = "right";
                     })),
            "verification score=s class-a=left class-b=right");
}

TEST(VerificationColumns, WhatIsMissingOrTwiceIsNamed) {
  EXPECT_EQ(bound_as(Arrays().floats("embedding", kRows, 2)),
            "d.npz: no array for the label; it has embedding [4,2] f32; name one with --label");
  EXPECT_EQ(bound_as(embeddings().floats("features", kRows, 2)),
            "d.npz: 'embedding' and 'features' could both be the embedding; name one with "
            "--embedding");
  EXPECT_EQ(bound_as(embeddings().floats("score", kScores), with(Task::kVerification)),
            "d.npz: 'embedding' and 'score' could both be what is compared; name one with "
            "--embedding or --score");
  EXPECT_EQ(bound_as(scored().floats("distance", kScores)),
            "d.npz: 'score' (larger is closer) and 'distance' (smaller is closer) could both rank "
            "the pairs; name one with --score or --distance");
  EXPECT_EQ(bound_as(Arrays().integers("label", kLabels), with(Task::kVerification)),
            "d.npz: no array for an embedding, or for scores or distances of pairs; it has label "
            "[4] i64; name one with --embedding, --score or --distance");
  EXPECT_EQ(bound_as(Arrays().floats("score", kScores), with(Task::kVerification)),
            "d.npz: no array for the label; it has score [4] f32; name one with --label, or the "
            "classes of both sides with --class-a and --class-b");
  const EvalRequest half = roles([](ColumnRoles& r) { r.class_a = "class_b"; });
  EXPECT_EQ(bound_as(Arrays().floats("score", kScores).integers("class_b", kLabels), half),
            "verification score=score class-a=class_b class-b=class_b");
  const EvalRequest one = roles([](ColumnRoles& r) { r.class_a = "left"; });
  EXPECT_MENTIONS(bound_as(Arrays().floats("score", kScores).integers("left", kLabels), one),
                  "'left' is the class of one side of the pairs, and no array is that of the "
                  "other");
}

TEST(VerificationColumns, OptionsThatContradictAreRefused) {
  const auto refused = [](auto set, Arrays arrays, std::optional<Task> task = {}) {
    EvalRequest request = roles(set);
    request.task = task;
    return bound_as(arrays, request);
  };
  EXPECT_MENTIONS(refused([](ColumnRoles& r) { r.weight = "label"; }, embeddings()),
                  "pairs have no weights");
  EXPECT_MENTIONS(refused(
                      [](ColumnRoles& r) {
                        r.distance = "score";
                        r.probs = "score";
                      },
                      scored()),
                  "different tasks: pairs and probabilities");
  EXPECT_MENTIONS(refused(
                      [](ColumnRoles& r) {
                        r.distance = "score";
                        r.pred = "score";
                      },
                      scored()),
                  "different tasks: pairs and predictions");
  EXPECT_MENTIONS(refused(
                      [](ColumnRoles& r) {
                        r.distance = "score";
                        r.score = "score";
                      },
                      scored()),
                  "both --score and --distance");
  EXPECT_MENTIONS(refused(
                      [](ColumnRoles& r) {
                        r.embedding = "embedding";
                        r.class_a = "label";
                      },
                      embeddings()),
                  "an embedding and columns of pairs");
  EXPECT_MENTIONS(
      refused([](ColumnRoles& r) { r.logits = "score"; }, scored(), Task::kVerification),
      "columns that verification does not take");
  EXPECT_MENTIONS(refused([](ColumnRoles& r) { r.distance = "score"; }, scored(), Task::kBinary),
                  "are of pairs, and --task says binary");
}

TEST(VerificationColumns, ShapesThatAreNone) {
  EXPECT_MENTIONS(bound_as(Arrays().floats("embedding", kScores).integers("label", kLabels)),
                  "embedding 'embedding' [4] is not one vector a row");
  EXPECT_MENTIONS(
      bound_as(Arrays().raw("embedding", "<f4", "(4, 0)", "").integers("label", kLabels)),
      "[4,0] is not one vector a row");
  EXPECT_MENTIONS(bound_as(Arrays()
                               .raw("embedding", "<f4", "(4, 1, 2)", fixtures::le_all(kRows))
                               .integers("label", kLabels)),
                  "[4,1,2] is not one vector a row");
  EXPECT_MENTIONS(bound_as(Arrays().floats("embedding", kRows, 2).integers("label", {1, 2, 3})),
                  "'label' has 3 rows, 'embedding' has 4");
  EXPECT_MENTIONS(bound_as(Arrays().floats("embedding", kRows, 2).floats("label", kRows, 2)),
                  "'label' [4,2] is not one value a row");
  EXPECT_MENTIONS(bound_as(Arrays().floats("score", kRows, 2).integers("label", kLabels),
                           with(Task::kVerification)),
                  "'score' [4,2] is not one value a row");
  EXPECT_MENTIONS(
      bound_as(
          Arrays().raw("embedding", "<f4", "()", std::string(4, '\0')).integers("label", kLabels)),
      "'embedding' [] is not one vector a row");
}

// ---- rows of an embedding -----------------------------------------------------------------------

TEST(PreparedEmbedding, HasClassesInTheOrderOfTheirNames) {
  auto made = prepare_pairs(embeddings());
  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_EQ(made->rows().rows, 4);
  EXPECT_EQ(made->rows().class_names, (std::vector<std::string>{"3", "7"}));
  EXPECT_EQ(made->rows().classes, (Buffer<u32>{1, 1, 0, 0}));
  EXPECT_EQ(made->rows().ids, (Buffer<u64>{0, 1, 2, 3}));
  EXPECT_TRUE(made->rows().row_at.empty());
  EXPECT_EQ(made->table.view.task, Task::kVerification);
  EXPECT_EQ(made->table.view.rows, 4);
  EXPECT_EQ(made->table.view.classes, 2);
}

// Catches classes that are compared as doubles (both large ones would be one), or as texts.
TEST(PreparedEmbedding, NumbersOrderExactly) {
  const auto names_of = [](const Arrays& labels, i64 rows) {
    Arrays arrays = labels;
    arrays.floats("embedding", std::vector<float>(static_cast<std::size_t>(rows), 1.0F), 1);
    auto made = prepare_pairs(arrays);
    EXPECT_TRUE(made.ok()) << made.error().text();
    return made.ok() ? made->rows().class_names : std::vector<std::string>();
  };
  const i64 large = i64{1} << 53;
  EXPECT_EQ(
      names_of(Arrays().integers("label", {large + 1, 10, large, -2, 9, -10}), 6),
      (std::vector<std::string>{"-10", "-2", "9", "10", "9007199254740992", "9007199254740993"}));
  const std::vector<u64> unsigned_labels{~u64{0}, u64{1} << 63, 0};
  EXPECT_EQ(names_of(Arrays().add("label", "<u8", unsigned_labels), 3),
            (std::vector<std::string>{"0", "9223372036854775808", "18446744073709551615"}));
  EXPECT_EQ(names_of(Arrays().doubles("label", {10, 2.5, -0.0, 1e300, -3, 0, 2}), 7),
            (std::vector<std::string>{"-3", "0", "2", "2.5", "10", "1e+300"}));
  EXPECT_EQ(names_of(Arrays().texts("label", {"b", "10", "9", "a"}), 4),
            (std::vector<std::string>{"10", "9", "a", "b"}));
  EXPECT_EQ(names_of(Arrays().raw("label", "|b1", "(2,)", std::string("\1\0", 2)), 2),
            (std::vector<std::string>{"0", "1"}));
}

TEST(PreparedEmbedding, BadElementsAreNamedWithTheirPlaceAndCount) {
  std::vector<float> rows = kRows;
  rows[3] = kNan;
  rows[6] = -kInf;
  const Arrays arrays = Arrays().floats("embedding", rows, 2).integers("label", kLabels);
  EXPECT_EQ(problem_of(arrays),
            "d.npz: 'embedding' row 1: embedding 'embedding' is nan in column 1 (2 such rows in "
            "all); mend the dump, or leave such rows out with --nan drop");
  rows[3] = 4;
  EXPECT_MENTIONS(problem_of(Arrays().floats("embedding", rows, 2).integers("label", kLabels)),
                  "row 3: embedding 'embedding' is -inf in column 0 (1 such row in all)");
  EvalRequest request;
  request.nan = NanPolicy::kDrop;
  auto made = prepare_pairs(arrays, request);
  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_EQ(made->rows().rows, 2);
  EXPECT_EQ(made->rows().row_at, (Buffer<i64>{0, 2}));
  EXPECT_EQ(made->rows().classes, (Buffer<u32>{1, 0}));
  EXPECT_EQ(made->rows().ids, (Buffer<u64>{0, 2}));
  EXPECT_EQ(made->table.dropped.features, 2);
  EXPECT_EQ(made->table.view.rows, 2);
}

TEST(PreparedEmbedding, RowsOfZerosAreRefusedWhereTheyAreDivided) {
  const std::vector<float> rows{1, 2, 0, -0.0F, 5, 6, 0, 0};
  const Arrays arrays = Arrays().floats("embedding", rows, 2).integers("label", kLabels);
  EXPECT_EQ(problem_of(arrays), "");
  EvalRequest request;
  request.divides_embedding = true;
  EXPECT_EQ(problem_of(arrays, request),
            "d.npz: 'embedding' row 1: embedding 'embedding' is zero in all columns, and cannot be "
            "divided by its length (2 such rows in all); mend the dump, or leave such rows out "
            "with --nan drop, or take rows as they are with --as-is");
  request.nan = NanPolicy::kDrop;
  auto made = prepare_pairs(arrays, request);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->rows().row_at, (Buffer<i64>{0, 2}));
}

// Catches float64 rows that are finite or not zero only until they are float32, at the very limits.
TEST(PreparedEmbedding, Float64IsJudgedAsFloat32) {
  EvalRequest request;
  request.divides_embedding = true;
  const auto problem = [&](double value) {
    return problem_of(Arrays().doubles("embedding", {1, value}, 1).integers("label", {1, 1}),
                      request);
  };
  const double largest = 0x1.fffffep127;
  const double beyond = 0x1.ffffffp127;  // halfway to 2^128
  EXPECT_EQ(problem(largest), "");
  EXPECT_EQ(problem(-std::nextafter(beyond, 0)), "");
  EXPECT_MENTIONS(problem(beyond),
                  "row 1: embedding 'embedding' is 3.40282e+38 in column 0, "
                  "beyond float32 (1 such row in all)");
  EXPECT_MENTIONS(problem(-1e300), "is -1e+300 in column 0, beyond float32");
  EXPECT_EQ(problem(std::nextafter(0x1p-150, 1)), "");
  EXPECT_MENTIONS(problem(0x1p-150), "is zero in all columns");
  EXPECT_MENTIONS(problem(-1e-300), "is zero in all columns");
}

// Catches a fault that is seen only in rows that lie together, or only in one type.
TEST(PreparedEmbedding, FaultsAreFoundInEveryLayout) {
  const i64 rows = 1500;
  for (const i64 width : {1, 2, 31, 64}) {
    for (const bool columns : {false, true}) {
      for (const std::string type : {"<f2", "|V2", "<f4", "<f8", ">f4"}) {
        std::string data;
        const std::size_t item = type == "<f8" ? 8 : type[1] == 'f' && type[2] == '4' ? 4 : 2;
        const auto put = [&](i64 row, i64 col) {
          const bool bad = (row == 700 && col == width - 1) || (row == 1499 && col == 0);
          std::string bytes;
          if (item == 8) bytes = fixtures::le(bad ? double{kNan} : 1.0);
          if (item == 4) bytes = fixtures::le(bad ? kInf : 1.0F);
          if (type == "<f2") bytes = fixtures::le(bad ? u16{0xFC00} : u16{0x3C00});
          if (type == "|V2") bytes = fixtures::le(bad ? u16{0x7F81} : u16{0x3F80});
          data += type[0] == '>' ? fixtures::reversed(bytes, 4) : bytes;
        };
        for (i64 i = 0; i < (columns ? width : rows); ++i) {
          for (i64 j = 0; j < (columns ? rows : width); ++j) columns ? put(j, i) : put(i, j);
        }
        const std::string shape = "(1500, " + std::to_string(width) + ")";
        const Arrays arrays = Arrays()
                                  .raw("embedding", type, shape, data, columns)
                                  .integers("label", std::vector<i64>(1500, 1));
        const std::string problem = problem_of(arrays);
        EXPECT_MENTIONS(problem, "row 700: ") << type << width;
        EXPECT_MENTIONS(problem, " in column " + std::to_string(width - 1)) << type << width;
        EXPECT_MENTIONS(problem, "(2 such rows in all)") << type << width;
      }
    }
  }
}

TEST(PreparedEmbedding, MissingLabelsAreNamed) {
  const Arrays numbers =
      Arrays().floats("embedding", kRows, 2).doubles("label", {1, double{kNan}, 2, -double{kInf}});
  EXPECT_EQ(problem_of(numbers),
            "d.npz: 'label' row 1: label 'label' is nan (2 such rows in all); mend the dump, or "
            "leave such rows out with --nan drop");
  const Arrays texts = Arrays().floats("embedding", kRows, 2).texts("label", {"a", "b", "", "b"});
  EXPECT_MENTIONS(problem_of(texts), "row 2: label 'label' is empty (1 such row in all)");
  EvalRequest request;
  request.nan = NanPolicy::kDrop;
  auto made = prepare_pairs(texts, request);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->rows().classes, (Buffer<u32>{0, 1, 1}));
  EXPECT_EQ(made->table.dropped.labels, 1);
}

TEST(PreparedEmbedding, WhatIsOfOtherTasksIsRefused) {
  EvalRequest request;
  request.normalize = true;
  EXPECT_MENTIONS(problem_of(embeddings(), request), "divided by their lengths unless --as-is");
  request = {};
  request.pos_label = "7";
  EXPECT_MENTIONS(problem_of(embeddings(), request), "--pos-label is for binary labels");
  EXPECT_MENTIONS(problem_of(Arrays()
                                 .add("embedding", "<i4", std::vector<i32>{1, 2, 3, 4}, 1)
                                 .integers("label", kLabels)),
                  "embedding 'embedding' is i32; verification takes f16, bf16, f32 and f64");
  EXPECT_MENTIONS(
      problem_of(Arrays().raw("embedding", "|S1", "(4, 1)", "abcd").integers("label", kLabels)),
      "holds text");
}

TEST(PreparedEmbedding, SplitsGroupsAndIdsFollowTheRows) {
  const Arrays arrays = embeddings()
                            .add("half", "|u1", std::vector<u8>{1, 0, 0, 1})
                            .texts("sex", {"m", "f", "m", "f"})
                            .integers("id", {40, 30, 20, 10});
  EvalRequest request = roles([](ColumnRoles& r) {
    r.calibration = "half";
    r.groups = {"sex"};
  });
  request.split = RowSplit::kTest;
  auto made = prepare_pairs(arrays, request);
  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_EQ(made->rows().row_at, (Buffer<i64>{1, 2}));
  EXPECT_EQ(made->rows().classes, (Buffer<u32>{1, 0}));
  EXPECT_GT(made->rows().ids[0], made->rows().ids[1]) << "30 and 20";
  ASSERT_EQ(made->table.cells.size(), 2U);
  EXPECT_EQ(made->table.view.cells[0], 0U);
  EXPECT_EQ(made->table.view.cells[1], 1U);
  EXPECT_EQ(made->table.cells[0], CellKey{"f"});
  EXPECT_EQ(made->table.calibration_rows, 2);
}

TEST(PreparedEmbedding, OfNoRowsOrOneIsNoError) {
  auto none =
      prepare_pairs(Arrays().raw("embedding", "<f4", "(0, 3)", "").raw("label", "<i8", "(0,)", ""));
  ASSERT_TRUE(none.ok()) << none.error().text();
  EXPECT_EQ(none->rows().rows, 0);
  EXPECT_TRUE(none->rows().class_names.empty());
  auto one = prepare_pairs(Arrays().floats("embedding", {1, 2}, 2).integers("label", {5}));
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(one->rows().class_names, std::vector<std::string>{"5"});
  auto later = prepare_pairs(embeddings(), {}, 100);
  ASSERT_TRUE(later.ok());
  EXPECT_EQ(later->rows().ids, (Buffer<u64>{100, 101, 102, 103}));
}

// Catches ids whose bits are compared: negative ones would come last.
TEST(PreparedEmbedding, IdsOrderAsNumbers) {
  const auto ranks = [](Arrays arrays) {
    auto made = prepare_pairs(arrays.floats("embedding", kRows, 2).integers("label", kLabels));
    EXPECT_TRUE(made.ok());
    std::vector<int> smaller;
    for (const u64 id : made->rows().ids) {
      int count = 0;
      for (const u64 other : made->rows().ids) count += other < id ? 1 : 0;
      smaller.push_back(count);
    }
    return smaller;
  };
  const std::vector<int> expected{2, 0, 1, 3};
  EXPECT_EQ(ranks(Arrays().integers("id", {0, -7, -2, i64{1} << 60})), expected);
  EXPECT_EQ(ranks(Arrays().doubles("id", {0, -7.5, -2, 1e18})), expected);
  EXPECT_EQ(ranks(Arrays().add("id", "<u8", std::vector<u64>{5, 0, 1, ~u64{0}})), expected);
}

// ---- pairs with scores --------------------------------------------------------------------------

TEST(PreparedPairs, TakeTheirClassesFromBothSides) {
  auto made = prepare_pairs(scored());
  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_EQ(made->rows().same, (Buffer<u8>{1, 0, 1, 0}));
  EXPECT_EQ(made->rows().class_names, (std::vector<std::string>{"1", "2", "3"}));
  EXPECT_EQ(made->rows().class_a, (Buffer<u32>{0, 0, 1, 2}));
  EXPECT_EQ(made->rows().class_b, (Buffer<u32>{0, 1, 1, 0}));
  EXPECT_FALSE(made->rows().is_distance);
  EXPECT_EQ(made->rows().score.rows(), 4);
  EXPECT_EQ(made->table.view.classes, 3);
  // Types may differ: a class is known by the text of its number.
  auto mixed = prepare_pairs(Arrays()
                                 .floats("distance", kScores)
                                 .doubles("class_a", {1, 2, 1.5, 4})
                                 .integers("class_b", {1, 3, 2, 4}));
  ASSERT_TRUE(mixed.ok());
  EXPECT_EQ(mixed->rows().same, (Buffer<u8>{1, 0, 0, 1}));
  EXPECT_TRUE(mixed->rows().is_distance);
}

TEST(PreparedPairs, TakeTheLabelWhereThereAreNoClasses) {
  const EvalRequest verification = with(Task::kVerification);
  auto made = prepare_pairs(
      Arrays().floats("score", kScores).add("label", "|u1", std::vector<u8>{1, 0, 0, 1}),
      verification);
  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_EQ(made->rows().same, (Buffer<u8>{1, 0, 0, 1}));
  EXPECT_TRUE(made->rows().class_a.empty());
  EXPECT_EQ(made->table.view.classes, 0);
  const Arrays texts =
      Arrays().floats("score", kScores).texts("label", {"same", "diff", "same", "diff"});
  EXPECT_MENTIONS(problem_of(texts, verification), "--pos-label");
  EvalRequest named = verification;
  named.pos_label = "same";
  made = prepare_pairs(texts, named);
  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_EQ(made->rows().same, (Buffer<u8>{1, 0, 1, 0}));
  EXPECT_EQ(
      problem_of(Arrays().floats("score", kScores).integers("label", {1, 2, 0, -1}), verification),
      "d.npz: 'label' row 1: label 'label' is 2, neither 0 nor 1 (2 such rows in all); mend "
      "the dump, or leave such rows out with --nan drop");
}

TEST(PreparedPairs, LabelsThatContradictTheClassesAreNamed) {
  const Arrays arrays = scored().integers("label", {1, 1, 0, 0});
  EXPECT_EQ(problem_of(arrays),
            "d.npz: 'label' row 1: label 'label' says one class, and the classes are '1' and '2' "
            "(2 such rows in all); mend the dump, or leave such rows out with --nan drop");
  EvalRequest request;
  request.nan = NanPolicy::kDrop;
  auto made = prepare_pairs(arrays, request);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->rows().row_at, (Buffer<i64>{0, 3}));
  EXPECT_EQ(made->rows().same, (Buffer<u8>{1, 0}));
  EXPECT_EQ(made->table.dropped.labels, 2);
}

TEST(PreparedPairs, BadScoresAndClassesAreNamed) {
  Arrays bad = Arrays()
                   .floats("score", {0.5F, kNan, kInf, 0})
                   .integers("class_a", kLabels)
                   .integers("class_b", kLabels);
  EXPECT_EQ(problem_of(bad),
            "d.npz: 'score' row 1: score 'score' is nan (2 such rows in all); mend the dump, or "
            "leave such rows out with --nan drop");
  EXPECT_MENTIONS(problem_of(Arrays()
                                 .floats("score", kScores)
                                 .texts("class_a", {"x", "y", "", "z"})
                                 .texts("class_b", {"", "y", "x", "z"})),
                  "'class_a' row 2: class-a 'class_a' is empty (1 such row in all)");
  EvalRequest request;
  request.domain = PairDomain::kL2;
  EXPECT_MENTIONS(problem_of(scored(), request), "--domain is for embeddings");
  request = {};
  request.normalize_embedding = false;
  EXPECT_MENTIONS(problem_of(scored(), request), "--as-is is for embeddings");
  request = {};
  request.normalize = true;
  EXPECT_MENTIONS(problem_of(scored(), request), "--normalize is for probabilities");
}

TEST(PreparedPairs, ScoresMayBeOfEveryType) {
  const auto one = [](const std::string& type, const std::string& bytes) {
    auto made = prepare_pairs(Arrays()
                                  .raw("score", type, "(1,)", bytes)
                                  .integers("class_a", {1})
                                  .integers("class_b", {1}));
    return made.ok() ? std::string(dtype_name(made->rows().score.dtype)) : made.error().text();
  };
  EXPECT_EQ(one("<f2", fixtures::le(u16{0x3C00})), "f16");
  EXPECT_EQ(one("|V2", fixtures::le(u16{0x3F80})), "bf16");
  EXPECT_EQ(one("<f8", fixtures::le(1.0)), "f64");
  EXPECT_EQ(one("<i4", fixtures::le(i32{-5})), "i32");
  EXPECT_EQ(one("<u8", fixtures::le(~u64{0})), "u64");
  EXPECT_MENTIONS(one("|S1", "a"), "holds text");
  EXPECT_MENTIONS(one("<f2", fixtures::le(u16{0x7C01})), "is nan");
}

}  // namespace
}  // namespace cupel
