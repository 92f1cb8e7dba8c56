// The pipelines on CUDA: every kernel of the project is instantiated here.
#include "cuda_exec.cuh"
#include "cuda_pipelines.hpp"
#include "pipeline/pipelines_on.hpp"

namespace cupel::device {

std::unique_ptr<Pipelines> make_cuda_pipelines(int ordinal, const RunOptions& options) {
  return std::make_unique<PipelinesOn<CudaExec>>(ordinal, options);
}

}  // namespace cupel::device
