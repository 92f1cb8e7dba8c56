// Any bytes as CSV, plain or gzip.
#include "fuzz/fuzz.hpp"
#include "io/fixtures.hpp"

namespace cupel::fuzz {

std::vector<std::string> seeds() {
  using namespace fixtures;
  const std::string plain = "id,label,score,sex\n1,0,0.25,f\n2,1,1e-3,m\n3,1,nan,\n";
  const std::string quoted =
      "\xef\xbb\xbfname,\"the \"\"score\"\"\"\r\n\"a,b\",0.5\r\n\"two\nlines\",\"0.75\"\r\n";
  return {plain,
          quoted,
          "ok,n\ntrue,9223372036854775808\nFALSE,18446744073709551615\n\n\n",
          "y\n\n1\n\n2\n",
          "x,y\n1,abc\n2,\n",
          "a\n",
          gzipped(plain),
          gzipped(quoted) + gzipped("\"x\",1\n"),
          std::string("a,b\n1,\0\n", 8)};
}

}  // namespace cupel::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cupel::fuzz::check_reader("csv", "fuzz.csv", data, size);
  return 0;
}
