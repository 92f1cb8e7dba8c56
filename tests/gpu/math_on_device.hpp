// The shared arithmetic, evaluated in a kernel: what math_test.cpp compares with the host.
#pragma once

#include <vector>

#include "cupel/core/int.hpp"

namespace cupel {

/// Results of each input x, one after another, as bits: exp, log, log1p(exp), sigmoid, the terms of
/// a row with probability or logit x, the mass of a weight x, keys, the terms of a pair of rows and
/// of a bin's moments.
inline constexpr i64 kMathResults = 19;
/// The softmax of a row of kMathRow values that starts at each input: in double, in float32, and
/// tempered, with its slope.
inline constexpr i64 kMathRow = 37;
inline constexpr i64 kMathRowResults = 10;

/// The same function on the host and on the device: [inputs][kMathResults] and, of each start with
/// kMathRow inputs after it, [starts][kMathRowResults]. The device version returns the text of a
/// CUDA error, empty when there was none.
void math_on_host(const std::vector<double>& inputs, std::vector<u64>& results,
                  std::vector<u64>& rows);
const char* math_on_device(const std::vector<double>& inputs, std::vector<u64>& results,
                           std::vector<u64>& rows);

}  // namespace cupel
