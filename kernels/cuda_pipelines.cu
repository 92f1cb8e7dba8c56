// The pipelines on CUDA: every kernel of the project is instantiated here.
#include "cuda_exec.cuh"
#include "cuda_pipelines.hpp"
#include "pipeline/pipelines_on.hpp"

namespace cupel::device {

std::unique_ptr<Pipelines> make_cuda_pipelines(int ordinal, i64 memory_limit, i64 fail_at_launch) {
  return std::make_unique<PipelinesOn<CudaExec>>(ordinal, memory_limit, fail_at_launch);
}

}  // namespace cupel::device
