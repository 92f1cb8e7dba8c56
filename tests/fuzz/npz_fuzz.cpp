// Any bytes as an npz archive.
#include "fuzz/fuzz.hpp"
#include "io/fixtures.hpp"

namespace cupel::fuzz {

std::vector<std::string> seeds() {
  using namespace fixtures;
  const std::string score = npy("<f4", "(4,)", le_all<float>({0.1f, 0.9f, 0.4f, 0.8f}));
  const std::string label = npy("|u1", "(4,)", std::string("\0\1\0\1", 4));
  const std::string big_endian = npy(">i8", "(2,)", std::string(16, '\2'));
  const std::string zeros = npy("|u1", "(3000,)", std::string(3000, '\0'));
  return {
      zip({{"score.npy", score}, {"label.npy", label}}),
      zip({{"score.npy", score, 8}, {"label", label, 8}}),
      zip({{"score.npy", score, 0, true}, {"label.npy", label, 8, true}}),
      zip({{"score.npy", score, 0, false, true}, {"label.npy", label, 8, false, true}}, "note"),
      zip({{"y.npy", big_endian}, {"z.npy", big_endian, 8}, {"readme.txt", "text"}, {"d/", ""}}),
      zip({{"zeros.npy", zeros, 8}}),
      zip({{"o.npy", npy("|O", "(1,)", "\x80\x04N.")}}),
      zip({{"y.npy", label, 8, false, false, 0, 50}}),
      zip({{"y.npy", label, 0, false, false, 0, 0, 1}}),
      zip({})};
}

}  // namespace cupel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cupel::fuzz::check_reader("npz", "fuzz.npz", data, size);
  return 0;
}
