// The shared arithmetic gives the same bits in a kernel as on the host. A fused multiply-add that
// the source does not name, a flush of subnormals, or a division that is not correctly rounded
// would be seen here, before states are compared.
#include <bit>
#include <cmath>
#include <limits>

#include "gpu/device_test.hpp"
#include "gpu/math_on_device.hpp"
#include "support/rank_data.hpp"

namespace cupel {
namespace {

std::vector<double> inputs() {
  std::vector<double> all{0.0,
                          -0.0,
                          1.0,
                          -1.0,
                          0.5,
                          std::numeric_limits<double>::infinity(),
                          -std::numeric_limits<double>::infinity(),
                          std::numeric_limits<double>::denorm_min(),
                          std::numeric_limits<double>::min(),
                          std::numeric_limits<double>::max(),
                          709.7,
                          -745.1,
                          0x1p-64,
                          0x1p-65,
                          0x1p63};
  test::Draws draws(31);
  for (int i = 0; i < 200'000; ++i) {
    switch (i % 4) {
      case 0:
        all.push_back(draws.normal() * 8);
        break;
      case 1:
        all.push_back(draws.unit());
        break;
      case 2:
        all.push_back(std::ldexp(draws.unit(), static_cast<int>(draws.below(2000)) - 1000));
        break;
      default: {
        const double any = std::bit_cast<double>(draws.next());
        all.push_back(std::isnan(any) ? 0.25 : any);
      }
    }
  }
  return all;
}

using MathOnDevice = OnDevice;

TEST_F(MathOnDevice, HasTheBitsOfTheHost) {
  const std::vector<double> all = inputs();
  std::vector<u64> host, device, host_rows, device_rows;
  math_on_host(all, host, host_rows);
  ASSERT_STREQ(math_on_device(all, device, device_rows), "");
  ASSERT_EQ(host.size(), device.size());
  // Where NaN comes out its bits are unspecified.
  const auto is_nan = [](u64 bits) { return std::isnan(std::bit_cast<double>(bits)); };
  for (std::size_t i = 0; i < host.size(); ++i) {
    if (is_nan(host[i]) && is_nan(device[i])) continue;
    ASSERT_EQ(host[i], device[i]) << "result " << i % kMathResults << " of " << std::hexfloat
                                  << all[i / kMathResults];
  }
  for (std::size_t i = 0; i < host_rows.size(); ++i) {
    ASSERT_EQ(host_rows[i], device_rows[i])
        << "result " << i % kMathRowResults << " of the row at " << i / kMathRowResults;
  }
}

}  // namespace
}  // namespace cupel
