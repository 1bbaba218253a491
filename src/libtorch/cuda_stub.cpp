// Stands in for libtorch_cuda.so at build time and on machines without an NVIDIA GPU.
// burn-tch decides at build time whether CUDA exists at all; with this stub in the folder the
// binary asks for libtorch_cuda.so by name, and a GPU machine puts the real one first by
// LD_LIBRARY_PATH. The two functions are the ones that burn-tch and tch refer to.
namespace at::cuda {
void *getCurrentCUDABlasHandle() { return nullptr; }
int warp_size() { return 0; }
} // namespace at::cuda
