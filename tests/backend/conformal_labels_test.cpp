// Sets label by label against their definition, score by score, and against the pass that counts
// them: every score, draws, ties, and thresholds of all rows, cells, labels and rows.
#include "backend/conformal_labels.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "cupel/backend/backend.hpp"

namespace cupel {
namespace {

struct Rows {
  i64 count = 0;
  i64 classes = 0;
  std::vector<double> probs;
  std::vector<i32> labels;
  std::vector<u32> cells;
  std::vector<u64> keys;

  TableView view() const {
    TableView table;
    table.task = Task::kMulticlass;
    table.rows = count;
    table.classes = classes;
    table.scores = make_view(probs.data(), DType::kF64, {count, classes});
    table.class_labels = labels.data();
    table.cells = cells.data();
    table.cell_count = 3;
    table.row_keys = keys.data();
    return table;
  }
};

/// Probabilities of few different values, so that many are equal.
Rows random_rows(std::mt19937_64& random, i64 count, i64 classes) {
  Rows rows{count, classes, {}, {}, {}, {}};
  for (i64 row = 0; row < count; ++row) {
    std::vector<double> parts;
    for (i64 j = 0; j < classes; ++j) parts.push_back(static_cast<double>(random() % 4));
    parts[random() % parts.size()] += static_cast<double>(1 + random() % 8);
    const double sum = std::accumulate(parts.begin(), parts.end(), 0.0);
    for (const double part : parts) rows.probs.push_back(part / sum);
    rows.labels.push_back(static_cast<i32>(random() % static_cast<u64>(classes)));
    rows.cells.push_back(static_cast<u32>(random() % 3));
    rows.keys.push_back(random());
  }
  return rows;
}

/// The set of a row by definition: each label's score from its place among all.
std::vector<u16> defined_set(const TableView& table, const ConformalSet& set, i64 row) {
  std::vector<i64> masses;
  for (i64 j = 0; j < table.classes; ++j) {
    masses.push_back(conformal_mass(load<double>(table.scores.at(row, j))));
  }
  const auto mass = [&](i64 j) { return masses[static_cast<std::size_t>(j)]; };
  std::vector<u16> labels;
  for (i64 j = 0; j < table.classes; ++j) {
    const i64 score = conformal_score(set.rule, label_place(mass, table.classes, j),
                                      row_largest(mass, table.classes), table.row_key(row), j);
    if (score <= set.threshold(row, table.cells[row], j)) labels.push_back(static_cast<u16>(j));
  }
  if (labels.empty() && set.argmax_if_empty) {
    labels.push_back(
        static_cast<u16>(std::max_element(masses.begin(), masses.end()) - masses.begin()));
  }
  return labels;
}

std::vector<ConformalRule> all_rules() {
  std::vector<ConformalRule> rules;
  for (const ConformalScore score :
       {ConformalScore::kLac, ConformalScore::kAps, ConformalScore::kRaps, ConformalScore::kSaps,
        ConformalScore::kTopK, ConformalScore::kMargin}) {
    for (const ConformalTies ties : {ConformalTies::kIndex, ConformalTies::kGroup}) {
      for (const ConformalDraw draw :
           {ConformalDraw::kNone, ConformalDraw::kRow, ConformalDraw::kLabel}) {
        const i64 lambda = score == ConformalScore::kRaps || score == ConformalScore::kSaps
                               ? kConformalOne / 16
                               : 0;
        rules.push_back({score, lambda, score == ConformalScore::kRaps ? 2 : 0, ties, draw, 9});
      }
    }
  }
  return rules;
}

/// A threshold somewhere among the scores of the rule.
i64 some_threshold(std::mt19937_64& random, const ConformalRule& rule, i64 classes) {
  if (random() % 8 == 0) return kEveryLabel;
  const double part = static_cast<double>(random() % 1000) / 1000;
  if (rule.score == ConformalScore::kTopK) {
    return static_cast<i64>(part * static_cast<double>(classes * kRankOne));
  }
  if (rule.score == ConformalScore::kMargin) {
    return static_cast<i64>((part - .5) * static_cast<double>(kConformalOne));
  }
  return static_cast<i64>(1.3 * part * static_cast<double>(kConformalOne));
}

TEST(ConformalLabels, SetsAreAsDefinedAndAsCounted) {
  std::mt19937_64 random(20);
  auto backend = make_cpu_backend(2);
  const std::vector<bool> wanted{true, false, true};
  for (const i64 classes : {2, 5, 64, 70}) {
    const Rows rows = random_rows(random, 120, classes);
    const TableView table = rows.view();
    for (const ConformalRule& rule : all_rules()) {
      std::vector<ConformalSet> sets;
      for (const ThresholdsBy by :
           {ThresholdsBy::kAll, ThresholdsBy::kCell, ThresholdsBy::kLabel, ThresholdsBy::kRow}) {
        const i64 count = by == ThresholdsBy::kAll     ? 1
                          : by == ThresholdsBy::kCell  ? 3
                          : by == ThresholdsBy::kLabel ? classes
                                                       : rows.count;
        ConformalSet set{rule, {}, by, by != ThresholdsBy::kCell};
        for (i64 i = 0; i < count; ++i) {
          set.thresholds.push_back(some_threshold(random, rule, classes));
        }
        sets.push_back(std::move(set));
      }
      auto made = conformal_label_sets(table, sets, wanted, KeptScores::kOfSets, 2);
      ASSERT_TRUE(made.ok()) << made.error().text();
      auto counted = backend->conformal_sets(table, sets, wanted, 2);
      ASSERT_TRUE(counted.ok()) << counted.error().text();
      std::vector<std::size_t> at(sets.size());
      std::vector<SetTally> tally(sets.size());
      for (std::size_t i = 0; i < made->rows.size(); ++i) {
        const i64 row = made->rows[i];
        ASSERT_TRUE(wanted[rows.cells[static_cast<std::size_t>(row)]]);
        const auto label = static_cast<u16>(rows.labels[static_cast<std::size_t>(row)]);
        for (std::size_t s = 0; s < sets.size(); ++s) {
          const LabelSets& own = made->sets[s];
          const auto begin = own.labels.begin() + static_cast<std::ptrdiff_t>(at[s]);
          const std::vector<u16> set(begin, begin + own.sizes[i]);
          ASSERT_EQ(set, defined_set(table, sets[s], row))
              << "score " << static_cast<int>(rule.score) << " ties " << static_cast<int>(rule.ties)
              << " draw " << static_cast<int>(rule.draw) << " set " << s;
          const bool covers = std::find(set.begin(), set.end(), label) != set.end();
          EXPECT_EQ(own.covers[i], covers ? 1 : 0);
          tally[s].add(set.size(), covers);
          at[s] += set.size();
        }
      }
      for (std::size_t s = 0; s < sets.size(); ++s) {
        SetTally all;
        for (const auto& cell : *counted) all.merge(cell[s].all);
        EXPECT_EQ(tally[s], all);
        EXPECT_EQ(at[s], made->sets[s].labels.size());
        EXPECT_EQ(at[s], made->sets[s].scores.size());
      }
    }
  }
}

// The scores that come along are those of the labels, whichever are asked for.
TEST(ConformalLabels, ScoresAreThoseOfTheLabels) {
  std::mt19937_64 random(21);
  const Rows rows = random_rows(random, 60, 9);
  const TableView table = rows.view();
  for (const ConformalRule& rule : all_rules()) {
    ConformalSet set{rule, {some_threshold(random, rule, 9)}, ThresholdsBy::kAll, true};
    const std::vector<bool> wanted{true, true, true};
    auto all = conformal_label_sets(table, {&set, 1}, wanted, KeptScores::kAll, 1);
    auto some = conformal_label_sets(table, {&set, 1}, wanted, KeptScores::kOfSets, 3);
    ASSERT_TRUE(all.ok() && some.ok());
    ASSERT_EQ(all->scores.size(), 60u * 9u);
    std::size_t at = 0;
    for (i64 row = 0; row < 60; ++row) {
      std::vector<i64> masses;
      for (i64 j = 0; j < 9; ++j) {
        masses.push_back(conformal_mass(load<double>(table.scores.at(row, j))));
      }
      const auto mass = [&](i64 j) { return masses[static_cast<std::size_t>(j)]; };
      for (i64 j = 0; j < 9; ++j) {
        EXPECT_EQ(all->scores[static_cast<std::size_t>(row * 9 + j)],
                  conformal_score(rule, label_place(mass, 9, j), row_largest(mass, 9),
                                  table.row_key(row), j));
      }
      for (u32 i = 0; i < some->sets[0].sizes[static_cast<std::size_t>(row)]; ++i, ++at) {
        EXPECT_EQ(some->sets[0].scores[at],
                  all->scores[static_cast<std::size_t>(row * 9 + some->sets[0].labels[at])]);
      }
    }
  }
}

}  // namespace
}  // namespace cupel
