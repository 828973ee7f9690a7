// A CUDA driver without a GPU: memory is the processor's, and our own kernels run as in
// on_host.cc. With it the launches of device.rs and random.rs are tried, arguments and
// lengths and order, where there is no GPU (scripts/check-cuda). Others' kernels, cuBLAS and cuRAND
// answer nothing.
//
// $DRIVER_OF is its CUDA version, 13000 unless set. $DRIVER_GPUS says what GPUs it tells of:
// "old" a V100 and a T4, else one called "no GPU".

#include "on_host.h"

extern "C" {

typedef int Result;
enum { FINE = 0, WRONG = 1, NOT_FOUND = 500 };

struct Gpu {
    const char *name;
    int capability;
};
static const Gpu old_gpus[] = {{"Tesla V100-SXM2-16GB", 70}, {"Tesla T4", 75}};
static const Gpu no_gpu = {"no GPU", 80};

static bool only_old() {
    const char *set = getenv("DRIVER_GPUS");
    return set && !strcmp(set, "old");
}
static Gpu gpu(int device) { return only_old() ? old_gpus[device] : no_gpu; }

Result cuInit(unsigned) { return FINE; }
Result cuDriverGetVersion(int *version) {
    const char *set = getenv("DRIVER_OF");
    *version = set ? atoi(set) : 13000;
    return FINE;
}
Result cuDeviceGetCount(int *count) {
    *count = only_old() ? 2 : 1;
    return FINE;
}
Result cuDeviceGet(int *device, int index) {
    *device = index;
    return FINE;
}
Result cuDeviceGetName(char *name, int length, int device) {
    snprintf(name, length, "%s", gpu(device).name);
    return FINE;
}
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    enum { MAJOR = 75, MINOR = 76 }; // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...
    *value = attribute == MAJOR ? gpu(device).capability / 10 : attribute == MINOR ? gpu(device).capability % 10 : 0;
    return FINE;
}
Result cuDeviceTotalMem_v2(size_t *bytes, int) {
    *bytes = 16ul << 30;
    return FINE;
}
Result cuDeviceGetUuid_v2(unsigned char *uuid, int) {
    for (int i = 0; i < 16; i++) uuid[i] = i;
    return FINE;
}

// One context, one stream, in which everything has happened as soon as it is asked for.
static char here;
static void *current;
Result cuDevicePrimaryCtxRetain(void **context, int) {
    *context = &here;
    return FINE;
}
Result cuDevicePrimaryCtxRelease_v2(int) { return FINE; }
Result cuCtxSetCurrent(void *context) {
    current = context;
    return FINE;
}
Result cuCtxGetCurrent(void **context) {
    *context = current;
    return FINE;
}
Result cuCtxSynchronize() { return FINE; }
Result cuStreamCreate(void **stream, unsigned) {
    *stream = &here;
    return FINE;
}
Result cuStreamDestroy_v2(void *) { return FINE; }
Result cuStreamSynchronize(void *) { return FINE; }
Result cuStreamWaitEvent(void *, void *, unsigned) { return FINE; }
Result cuStreamIsCapturing(void *, int *status) {
    *status = 0;
    return FINE;
}
Result cuEventCreate(void **event, unsigned) {
    *event = &here;
    return FINE;
}
Result cuEventDestroy_v2(void *) { return FINE; }
Result cuEventRecord(void *, void *) { return FINE; }
Result cuEventSynchronize(void *) { return FINE; }

// New memory is never zero by chance.
static Result allocate(void **memory, size_t bytes) {
    *memory = malloc(bytes ? bytes : 1);
    if (*memory) memset(*memory, 0xa5, bytes);
    return *memory ? FINE : WRONG;
}
Result cuMemAlloc_v2(void **memory, size_t bytes) { return allocate(memory, bytes); }
Result cuMemAllocAsync(void **memory, size_t bytes, void *) { return allocate(memory, bytes); }
Result cuMemHostAlloc(void **memory, size_t bytes, unsigned) { return allocate(memory, bytes); }
Result cuMemFree_v2(void *memory) {
    free(memory);
    return FINE;
}
Result cuMemFreeAsync(void *memory, void *) { return cuMemFree_v2(memory); }
Result cuMemFreeHost(void *memory) { return cuMemFree_v2(memory); }
Result cuMemsetD8Async(void *memory, unsigned char value, size_t bytes, void *) {
    memset(memory, value, bytes);
    return FINE;
}
static Result copy(void *to, const void *from, size_t bytes) {
    memmove(to, from, bytes);
    return FINE;
}
Result cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, void *) { return copy(to, from, bytes); }
Result cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t bytes, void *) { return copy(to, from, bytes); }
Result cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t bytes, void *) { return copy(to, from, bytes); }

Result cuModuleLoadData(void **module, const void *) {
    *module = &here;
    return FINE;
}
Result cuModuleUnload(void *) { return FINE; }
Result cuModuleGetFunction(void **function, void *, const char *name) {
    for (const Kernel &kernel : kernels) {
        if (strcmp(kernel.name, name)) continue;
        *function = (void *)&kernel;
        return FINE;
    }
    return NOT_FOUND;
}
Result cuLaunchKernel(void *function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned,
                      unsigned, void *, void **arguments, void **) {
    ((const Kernel *)function)->launch(blocks, threads, arguments);
    return FINE;
}

// The same file stands for cuBLAS and cuRAND, of which candle wants a handle.
Result cublasCreate_v2(void **handle) {
    *handle = &here;
    return FINE;
}
Result cublasDestroy_v2(void *) { return FINE; }
Result cublasSetStream_v2(void *, void *) { return FINE; }
Result curandCreateGenerator(void **generator, int) {
    *generator = &here;
    return FINE;
}
Result curandDestroyGenerator(void *) { return FINE; }
Result curandSetStream(void *, void *) { return FINE; }
Result curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return FINE; }
}
