// The backend that a test program runs on, by CUPEL_TEST_BACKEND: cpu (the default), sim (the
// kernels of the GPU on the host) or cuda. Linking this file makes the program fail when the
// backend that was asked for computed nothing, and skip when there is no such device; with
// CUPEL_REQUIRE_BACKEND=cuda in the environment it fails then, so that a run on a GPU cannot be
// green by skipping.
#pragma once

#include <memory>

#include "cupel/backend/backend.hpp"

namespace cupel {

/// `threads` are those of the CPU backend.
std::unique_ptr<Backend> make_test_backend(int threads);

}  // namespace cupel
