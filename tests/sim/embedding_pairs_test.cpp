// Passes over pairs of an embedding by the kernels of the GPU, run on the host, against two loops:
// sizes around tiles and slices, classes that are few, many and alone, and parts of the pairs.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/device_group.hpp"
#include "sim_backend.hpp"
#include "support/plain_pairs.hpp"

namespace cupel::sim {
namespace {

using test::make_embedding;
using test::plain_pairs;
using test::PlainEmbedding;
using test::Rows;

/// Ascending cuts that pairs of the view are at, just below and between.
std::vector<float> some_cuts(const EmbeddingView& view, std::size_t count) {
  std::vector<float> gaps;
  for (i64 i = 0; i + 1 < view.rows; ++i) {
    gaps.push_back(test::plain_gap(view, i, i + 1));
    gaps.push_back(test::plain_gap(view, i / 2, view.rows - 1));
  }
  gaps.push_back(0.25F);
  gaps.push_back(1.5F);
  std::sort(gaps.begin(), gaps.end());
  std::vector<float> cuts;
  for (std::size_t i = 0; i < count; ++i) {
    // The farthest tenth is above them all.
    cuts.push_back(gaps[i * (gaps.size() - 1) * 9 / (10 * count)] + (i % 3 == 2 ? 1e-3F : 0.0F));
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  return cuts;
}

PairStates run(const EmbeddingView& view, const PairPass& pass, const SimOptions& options = {}) {
  const auto sim = make_sim_backend(options);
  auto states = sim->embedding_pairs(view, pass, 1, {});
  EXPECT_TRUE(states.ok()) << (states.ok() ? "" : states.error().what);
  return states.ok() ? std::move(*states) : PairStates{};
}

void expect_equal(const EmbeddingView& view, const PairPass& pass, const SimOptions& options = {}) {
  const PairStates got = run(view, pass, options);
  const PairStates want = plain_pairs(view, pass);
  EXPECT_EQ(got.cuts, want.cuts);
  EXPECT_EQ(got.ranks, want.ranks);
  EXPECT_EQ(got.neighbours, want.neighbours);
  EXPECT_TRUE(got.kept.complete);
  EXPECT_EQ(test::sorted_pairs(got.kept), test::sorted_pairs(want.kept));
}

PairPass with_cuts(const EmbeddingView& view, std::size_t count) {
  PairPass pass = PairPass::whole(view);
  pass.cuts = some_cuts(view, count);
  return pass;
}

TEST(SimEmbeddingPairs, CutsOfAwkwardSizes) {
  for (const i64 rows : {0, 1, 2, 127, 128, 129, 300}) {
    for (const i64 width : {1, 3, 31, 32, 33, 100}) {
      SCOPED_TRACE(testing::Message() << rows << " rows of " << width);
      const PlainEmbedding of = make_embedding(rows, width, 7, static_cast<u64>(rows + width));
      expect_equal(of.view(), with_cuts(of.view(), 12));
    }
  }
}

TEST(SimEmbeddingPairs, CutsOfEveryKindOfRowsAndClasses) {
  for (const PairDomain domain : {PairDomain::kL2, PairDomain::kCosine}) {
    for (const Rows kind :
         {Rows::kRandom, Rows::kDuplicates, Rows::kOpposite, Rows::kAllEqual, Rows::kLong}) {
      for (const u32 classes : {1U, 2U, 40U, 300U}) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(domain) << " " << static_cast<int>(kind)
                                        << " " << classes);
        const PlainEmbedding of = make_embedding(270, 20, classes, 3, kind, domain);
        expect_equal(of.view(), with_cuts(of.view(), 9));
      }
    }
  }
}

/// One cut has no column behind the first; of many, those of a tile are not in shared memory.
TEST(SimEmbeddingPairs, OneCutAndManyCuts) {
  const PlainEmbedding of = make_embedding(260, 9, 120, 5);
  expect_equal(of.view(), with_cuts(of.view(), 1));
  expect_equal(of.view(), with_cuts(of.view(), 300));
}

TEST(SimEmbeddingPairs, CutsWhereEachRowIsAClass) {
  PlainEmbedding of = make_embedding(200, 8, 200, 9);
  for (i64 i = 0; i < 200; ++i) of.classes[static_cast<std::size_t>(i)] = static_cast<u32>(i);
  expect_equal(of.view(), with_cuts(of.view(), 20));
}

/// Parts of the pairs, apart, overlapping and in front: each right, and together the whole.
TEST(SimEmbeddingPairs, CutsOfParts) {
  const PlainEmbedding of = make_embedding(400, 17, 11, 4, Rows::kDuplicates);
  const EmbeddingView view = of.view();
  const PairPass whole = with_cuts(view, 10);
  PairStates all;
  all.cuts = ClassCuts(view.class_count, whole.cuts.size());
  const i64 bounds[] = {0, 130, 257, 400};
  for (int a = 0; a < 3; ++a) {
    for (int b = a; b < 3; ++b) {
      PairPass part = whole;
      part.a_first = bounds[a];
      part.a_last = bounds[a + 1];
      part.b_first = bounds[b];
      part.b_last = bounds[b + 1];
      expect_equal(view, part);
      all.cuts.merge(run(view, part).cuts);
    }
  }
  EXPECT_EQ(all.cuts, plain_pairs(view, whole).cuts);
  PairPass odd = whole;
  odd.a_first = 100;
  odd.a_last = 310;
  odd.b_first = 5;
  odd.b_last = 390;
  expect_equal(view, odd);
}

PairPass with_ranks(const EmbeddingView& view) {
  PairPass pass = PairPass::whole(view);
  pass.ranks = true;
  return pass;
}

TEST(SimEmbeddingPairs, Ranks) {
  for (const PairDomain domain : {PairDomain::kL2, PairDomain::kCosine}) {
    for (const Rows kind :
         {Rows::kRandom, Rows::kDuplicates, Rows::kOpposite, Rows::kAllEqual, Rows::kLong}) {
      for (const i64 rows : {0, 1, 2, 129, 270}) {
        SCOPED_TRACE(testing::Message()
                     << static_cast<int>(domain) << " " << static_cast<int>(kind) << " " << rows);
        const PlainEmbedding of = make_embedding(rows, 20, 6, 3, kind, domain);
        expect_equal(of.view(), with_ranks(of.view()));
      }
    }
  }
}

/// As of many pairs: windows of counters for the upper halves of keys that occur.
TEST(SimEmbeddingPairs, RanksByWindows) {
  SimOptions options;
  options.part_rows = 50;
  for (const PairDomain domain : {PairDomain::kL2, PairDomain::kCosine}) {
    const PlainEmbedding of = make_embedding(70, 8, 6, 3, Rows::kOpposite, domain);
    PairPass pass = with_ranks(of.view());
    pass.a_first = 3;
    pass.b_last = 66;
    expect_equal(of.view(), pass, options);
  }
}

/// Little memory: windows do not fit at once, and pairs are gone through again and again.
TEST(SimEmbeddingPairs, RanksInSeveralPasses) {
  const PlainEmbedding of = make_embedding(40, 3, 3, 3, Rows::kLong);
  SimOptions options;
  options.part_rows = 50;
  options.memory = 20 << 20;
  expect_equal(of.view(), with_ranks(of.view()), options);
}

PairPass with_list(const EmbeddingView& view) {
  PairPass pass = PairPass::whole(view);
  const std::vector<float> cuts = some_cuts(view, 9);
  pass.kept = {{-2.0F, cuts.front()}};
  if (cuts.size() > 3) pass.kept.push_back({cuts[1], cuts[3]});
  pass.kept_bytes = i64{1} << 30;
  return pass;
}

std::vector<u32> some_wanted(i64 rows) {
  std::vector<u32> wanted;
  for (i64 i = 0; i < rows; ++i) wanted.push_back(static_cast<u32>(i * 7 % 23));
  if (rows > 5) wanted[5] = static_cast<u32>(2 * rows);
  return wanted;
}

TEST(SimEmbeddingPairs, ListsAndNearestRows) {
  for (const PairDomain domain : {PairDomain::kL2, PairDomain::kCosine}) {
    for (const Rows kind :
         {Rows::kRandom, Rows::kDuplicates, Rows::kOpposite, Rows::kAllEqual, Rows::kLong}) {
      for (const i64 rows : {0, 1, 2, 128, 270}) {
        SCOPED_TRACE(testing::Message()
                     << static_cast<int>(domain) << " " << static_cast<int>(kind) << " " << rows);
        const PlainEmbedding of = make_embedding(rows, 20, 6, 3, kind, domain);
        PairPass pass = with_list(of.view());
        const std::vector<u32> wanted = some_wanted(rows);
        pass.neighbours = wanted;
        pass.kept_negatives_only = rows % 4 == 2;
        expect_equal(of.view(), pass);
      }
    }
  }
}

/// Sides that are apart, touch, overlap and lie in each other; little memory, so that rows and
/// tiles go in several launches.
TEST(SimEmbeddingPairs, ListsAndNearestRowsOfParts) {
  const PlainEmbedding of = make_embedding(420, 5, 9, 2, Rows::kDuplicates);
  const std::vector<u32> wanted = some_wanted(420);
  struct Sides {
    i64 a_first, a_last, b_first, b_last;
  };
  for (const Sides& sides :
       {Sides{0, 130, 257, 420}, Sides{3, 200, 200, 410}, Sides{100, 310, 5, 390},
        Sides{0, 420, 150, 180}, Sides{200, 300, 20, 90}}) {
    PairPass pass = with_list(of.view());
    pass.neighbours = wanted;
    pass.cuts = some_cuts(of.view(), 4);
    pass.a_first = sides.a_first;
    pass.a_last = sides.a_last;
    pass.b_first = sides.b_first;
    pass.b_last = sides.b_last;
    SCOPED_TRACE(testing::Message() << pass.a_first << " " << pass.a_last << " " << pass.b_first
                                    << " " << pass.b_last);
    SimOptions options;
    options.memory = 700'000;
    expect_equal(of.view(), pass, options);
  }
}

TEST(SimEmbeddingPairs, AListThatIsTooLongIsGivenUp) {
  const PlainEmbedding of = make_embedding(200, 5, 9, 2);
  PairPass pass = with_list(of.view());
  pass.kept = {{-1.0F, 9.0F}};
  pass.kept_bytes = 1000;
  const PairStates states = run(of.view(), pass);
  EXPECT_FALSE(states.kept.complete);
  EXPECT_EQ(states.kept.size(), 0U);
}

/// Nothing of an embedding stays behind, and what is held is not brought anew.
TEST(SimEmbeddingPairs, HeldColumnsAndMemory) {
  const PlainEmbedding of = make_embedding(300, 12, 5, 8);
  i64 live = 0;
  SimOptions options;
  options.live_bytes = &live;
  {
    const auto sim = make_sim_backend(options);
    const PairPass pass = with_cuts(of.view(), 5);
    const PairStates want = plain_pairs(of.view(), pass);
    ASSERT_EQ(sim->embedding_pairs(of.view(), pass, 1, {})->cuts, want.cuts);
    EXPECT_EQ(live, 0);
    sim->hold_columns(true);
    ASSERT_EQ(sim->embedding_pairs(of.view(), pass, 1, {})->cuts, want.cuts);
    EXPECT_GT(live, 0);
    ASSERT_EQ(sim->embedding_pairs(of.view(), pass, 1, {})->cuts, want.cuts);
    PlainEmbedding other = make_embedding(300, 12, 5, 9);
    EXPECT_EQ(sim->embedding_pairs(other.view(), pass, 1, {})->cuts,
              plain_pairs(other.view(), pass).cuts);
    sim->hold_columns(false);
    EXPECT_EQ(live, 0);
  }
  options.memory = 10'000;
  const auto small = make_sim_backend(options);
  EXPECT_FALSE(small->embedding_pairs(of.view(), with_cuts(of.view(), 5), 1, {}).ok());
  EXPECT_EQ(small->trouble(), DeviceTrouble::kOutOfMemory);
  EXPECT_EQ(live, 0);
}

TEST(SimEmbeddingPairs, ProgressEndsWithAllPairs) {
  const PlainEmbedding of = make_embedding(300, 4, 3, 1);
  const auto sim = make_sim_backend();
  std::vector<u64> told;
  const PairPass pass = with_cuts(of.view(), 3);
  ASSERT_TRUE(
      sim->embedding_pairs(of.view(), pass, 1, [&](u64 pairs) { told.push_back(pairs); }).ok());
  ASSERT_FALSE(told.empty());
  EXPECT_TRUE(std::is_sorted(told.begin(), told.end()));
  EXPECT_EQ(told.back(), pass.pairs());
}

/// Several devices share the pairs; one that fails, or has too little memory, leaves its part to
/// the others or the CPU and says so.
TEST(SimEmbeddingPairs, SeveralDevicesAndOnesThatCannot) {
  const PlainEmbedding of = make_embedding(430, 6, 9, 2, Rows::kDuplicates);
  const EmbeddingView view = of.view();
  PairPass pass = with_list(view);
  const std::vector<u32> wanted = some_wanted(430);
  pass.neighbours = wanted;
  pass.ranks = true;
  pass.cuts = some_cuts(view, 4);
  const PairStates want = plain_pairs(view, pass);
  struct Devices {
    std::vector<SimOptions> options;
    std::size_t least_notes, most_notes;
  };
  SimOptions failing;
  failing.fail_at_launch = 4;
  SimOptions small;
  small.memory = 20'000;
  for (const Devices& devices : {Devices{{{}, {}}, 0, 0}, Devices{{{}, failing, small}, 0, 2},
                                 Devices{{failing}, 1, 1}, Devices{{small, small}, 2, 2}}) {
    std::vector<std::unique_ptr<DeviceBackend>> open;
    for (const SimOptions& options : devices.options) open.push_back(make_sim_backend(options));
    DeviceGroupOptions options;
    const auto group = make_device_group(
        std::move(open), [] { return make_cpu_backend(1); }, options);
    std::vector<u64> told;
    const auto got =
        group->embedding_pairs(view, pass, 1, [&](u64 pairs) { told.push_back(pairs); });
    ASSERT_TRUE(got.ok());
    EXPECT_EQ(got->cuts, want.cuts);
    EXPECT_EQ(got->ranks, want.ranks);
    EXPECT_EQ(got->neighbours, want.neighbours);
    EXPECT_EQ(test::sorted_pairs(got->kept), test::sorted_pairs(want.kept));
    EXPECT_TRUE(std::is_sorted(told.begin(), told.end()));
    EXPECT_EQ(told.empty() ? 0 : told.back(), pass.pairs());
    // How many parts a device took before the others were through is up to the threads.
    const std::size_t notes = group->take_weighted_notes().size();
    EXPECT_GE(notes, devices.least_notes);
    EXPECT_LE(notes, devices.most_notes);
  }
}

/// Without the CPU a device that fails is an error.
TEST(SimEmbeddingPairs, NoDeviceIsLeft) {
  const PlainEmbedding of = make_embedding(130, 6, 9, 2);
  SimOptions failing;
  failing.fail_at_launch = 2;
  std::vector<std::unique_ptr<DeviceBackend>> open;
  open.push_back(make_sim_backend(failing));
  DeviceGroupOptions options;
  options.may_use_cpu = false;
  const auto group = make_device_group(
      std::move(open), [] { return make_cpu_backend(1); }, options);
  const auto states = group->embedding_pairs(of.view(), with_cuts(of.view(), 3), 1, {});
  ASSERT_FALSE(states.ok());
  EXPECT_NE(states.error().what.find("a launch was made to fail"), std::string::npos);
}

}  // namespace
}  // namespace cupel::sim
