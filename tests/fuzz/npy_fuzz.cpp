// Any bytes as an npy file.
#include "fuzz/fuzz.hpp"
#include "io/fixtures.hpp"

namespace cupel::fuzz {

std::vector<std::string> seeds() {
  using namespace fixtures;
  return {npy("<f4", "(3,)", le_all<float>({1, 2, 3})),
          npy("<f4", "(2, 3)", le_all<float>({1, 4, 2, 5, 3, 6}), true),
          npy(">i8", "(2,)", std::string(16, '\1')),
          npy("<f8", "()", le(0.5), false, 2),
          npy("<f2", "(0, 4)", "", false, 3),
          npy("|b1", "(5,)", std::string(5, '\1')),
          npy("|S3", "(2,)", "abcdef"),
          npy(">U2", "(2,)", std::string(16, '\0')),
          npy("|V2", "(2, 1, 2)", std::string(8, '\x3f')),
          npy("|O", "(1,)", "\x80\x04N."),
          npy_with_header("{'descr': [('a', '<f4'), ('b', '<i8', (2,))], 'fortran_order': False, "
                          "'shape': (1,)}",
                          std::string(20, '\0')),
          npy_with_header("{\"shape\":(1L,),\"descr\":\"<u2\",\"fortran_order\":True}", "ab")};
}

}  // namespace cupel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cupel::fuzz::check_reader("npy", "fuzz.npy", data, size);
  return 0;
}
