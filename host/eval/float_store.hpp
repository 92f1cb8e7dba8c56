// Room for a matrix that may be larger than memory.
#pragma once

#include <memory>

#include "cupel/core/int.hpp"
#include "cupel/core/result.hpp"

namespace cupel {

/// `count` floats, uninitialised, on a boundary of 64 bytes or more: of memory, or of a mapped file
/// in the folder that TMPDIR names (else /tmp), which has no name and is gone with the last owner;
/// the system may then write pages out. Errors (kInternal): no memory; the folder cannot be written
/// or has no room for all of it.
Result<std::shared_ptr<float>> make_floats(i64 count, bool in_file);

}  // namespace cupel
