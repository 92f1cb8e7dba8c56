// Why a CUDA device can be used, or not: decided from what the driver says, apart from asking it,
// so that every case can be tested without one.
#pragma once

#include <string>
#include <string_view>

namespace cupel::device {

/// Whether code built for `architectures` runs on a device of compute capability major.minor. The
/// list has CMake's entries, "75-real,90,120-virtual": machine code runs on its major version from
/// its minor one on, virtual code on everything from its version on, and a plain number is both.
/// The suffixes of features ("90a") run on exactly that version.
bool has_code_for(std::string_view architectures, int major, int minor);

/// What is wrong with the driver: no driver, or one that is too old; empty when neither. Versions
/// as CUDA counts them (13000 is 13.0); 0: none.
std::string driver_problem(int driver_version, int runtime_version);

/// "13.0".
std::string version_text(int version);

}  // namespace cupel::device
