// Pairs of an embedding on a GPU: enough of them that keys are counted in windows, blocks take many
// tiles each, and launches follow each other.
#include <algorithm>
#include <vector>

#include "gpu/device_test.hpp"
#include "support/plain_pairs.hpp"

namespace cupel {
namespace {

using GpuPairs = OnDevice;

TEST_F(GpuPairs, ManyPairsHaveTheStatesOfTheCpu) {
  for (const PairDomain domain : {PairDomain::kL2, PairDomain::kCosine}) {
    for (const u32 classes : {2U, 3000U}) {
      const test::PlainEmbedding of =
          test::make_embedding(12'001, 24, classes, 7, test::Rows::kDuplicates, domain);
      const EmbeddingView view = of.view();
      PairPass pass = PairPass::whole(view);
      const float middle = domain == PairDomain::kL2 ? 1.0F : -0.5F;
      for (int cut = 0; cut < 60; ++cut) {
        pass.cuts.push_back(middle + 0.01F * static_cast<float>(cut));
      }
      pass.ranks = true;
      const std::vector<u32> wanted(12'001, 10);
      pass.neighbours = wanted;
      pass.kept = {{-2.0F, middle - 0.2F}};
      pass.kept_bytes = i64{1} << 32;
      auto cpu = make_cpu_backend(0);
      auto gpu = open();
      ASSERT_NE(gpu, nullptr);
      const auto want = cpu->embedding_pairs(view, pass, 4, {});
      const auto got = gpu->embedding_pairs(view, pass, 4, {});
      ASSERT_TRUE(want.ok());
      ASSERT_TRUE(got.ok()) << got.error().text();
      EXPECT_TRUE(got->cuts == want->cuts);
      EXPECT_TRUE(got->ranks == want->ranks);
      EXPECT_TRUE(got->neighbours == want->neighbours);
      EXPECT_TRUE(test::sorted_pairs(got->kept) == test::sorted_pairs(want->kept));
    }
  }
}

TEST_F(GpuPairs, LittleMemoryGivesTheSame) {
  const test::PlainEmbedding of = test::make_embedding(3000, 33, 40, 5);
  PairPass pass = PairPass::whole(of.view());
  pass.ranks = true;
  const std::vector<u32> wanted(3000, 50);
  pass.neighbours = wanted;
  DeviceOptions options;
  options.memory_limit = i64{48} << 20;
  auto gpu = open(options);
  ASSERT_NE(gpu, nullptr);
  const auto got = gpu->embedding_pairs(of.view(), pass, 1, {});
  ASSERT_TRUE(got.ok()) << got.error().text();
  const auto want = make_cpu_backend(0)->embedding_pairs(of.view(), pass, 4, {});
  EXPECT_TRUE(got->ranks == want->ranks);
  EXPECT_TRUE(got->neighbours == want->neighbours);
}

}  // namespace
}  // namespace cupel
