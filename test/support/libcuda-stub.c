/* A libcuda.so.1 whose functions do nothing: enough for cuDNN to choose engines and compile plans without a driver. */
#define HANDLE(name) int name(void **out) { *out = (void *)1; return 0; }
#define NOTHING(name) int name(void) { return 0; }
HANDLE(cuCtxGetCurrent) HANDLE(cuKernelGetFunction) HANDLE(cuLibraryGetKernel) HANDLE(cuLibraryLoadData)
HANDLE(cuLibraryLoadFromFile) HANDLE(cuModuleGetFunction) HANDLE(cuModuleLoadData)
NOTHING(cuCtxGetLimit) NOTHING(cuCtxPopCurrent) NOTHING(cuCtxPushCurrent) NOTHING(cuDeviceGet) NOTHING(cuDeviceGetCount)
NOTHING(cuDriverGetVersion) NOTHING(cuGetErrorName) NOTHING(cuGetErrorString) NOTHING(cuKernelGetAttribute)
NOTHING(cuKernelSetAttribute) NOTHING(cuLaunchCooperativeKernel) NOTHING(cuLaunchKernel) NOTHING(cuLaunchKernelEx)
NOTHING(cuLibraryUnload) NOTHING(cuLinkAddData) NOTHING(cuLinkComplete) NOTHING(cuLinkCreate) NOTHING(cuLinkDestroy)
NOTHING(cuModuleUnload) NOTHING(cuOccupancyMaxPotentialClusterSize) NOTHING(cuStreamGetCtx)
NOTHING(cuTensorMapEncodeIm2col) NOTHING(cuTensorMapEncodeTiled)
