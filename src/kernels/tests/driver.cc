// A CUDA driver without a GPU: memory is the processor's, and our own kernels run as in
// on_host.cc. With it the launches of device.rs and random.rs are tried, arguments and
// lengths and order, where there is no GPU (scripts/check-cuda). Others' kernels, cuBLAS and cuRAND
// answer nothing.
//
// $DRIVER_OF is its CUDA version, 13000 unless set. $DRIVER_GPUS says what GPUs it tells of:
// "old" a V100 and a T4, else one called "no GPU". $DRIVER_MEMORY is how many bytes can be
// allocated, 16 GiB unless set.

#include "on_host.h"

#include <atomic>

extern "C" {

typedef int Result;
enum { FINE = 0, WRONG = 1, FULL = 2, NOT_FOUND = 500 };

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
static size_t total_bytes() {
    const char *set = getenv("DRIVER_MEMORY");
    return set ? strtoull(set, nullptr, 10) : 16ul << 30;
}
Result cuDeviceTotalMem_v2(size_t *bytes, int) {
    *bytes = total_bytes();
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
Result cuMemHostAlloc(void **memory, size_t bytes, unsigned) { return allocate(memory, bytes); }
Result cuMemFreeHost(void *memory) {
    free(memory);
    return FINE;
}
// The GPU's has an end. What is allocated begins with its size, which nobody sees.
enum { BEFORE = 64 };
static std::atomic<size_t> in_use;
Result cuMemAlloc_v2(void **memory, size_t bytes) {
    if (in_use.fetch_add(bytes) + bytes > total_bytes()) {
        in_use -= bytes;
        return FULL;
    }
    if (allocate(memory, bytes + BEFORE) != FINE) return WRONG;
    *(size_t *)*memory = bytes;
    *memory = (char *)*memory + BEFORE;
    return FINE;
}
Result cuMemAllocAsync(void **memory, size_t bytes, void *) { return cuMemAlloc_v2(memory, bytes); }
Result cuMemFree_v2(void *memory) {
    if (!memory) return FINE;
    char *begin = (char *)memory - BEFORE;
    in_use -= *(size_t *)begin;
    free(begin);
    return FINE;
}
Result cuMemFreeAsync(void *memory, void *) { return cuMemFree_v2(memory); }
Result cuMemGetInfo_v2(size_t *free, size_t *total) {
    *total = total_bytes();
    *free = *total - in_use;
    return FINE;
}
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

// And for NVML, of which every GPU says the same, and nothing of its temperature.
Result nvmlInit_v2() { return FINE; }
Result nvmlShutdown() { return FINE; }
Result nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    *device = &here;
    return strcmp(uuid, "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f") ? WRONG : FINE;
}
struct Memory {
    unsigned version;
    unsigned long long total, reserved, free, used;
};
Result nvmlDeviceGetMemoryInfo_v2(void *, Memory *memory) {
    memory->total = 16ull << 30;
    memory->used = 5ull << 29;
    return FINE;
}
struct Utilization {
    unsigned gpu, memory;
};
Result nvmlDeviceGetUtilizationRates(void *, Utilization *rates) {
    *rates = {97, 40};
    return FINE;
}
Result nvmlDeviceGetPowerUsage(void *, unsigned *milliwatts) {
    *milliwatts = 71600;
    return FINE;
}
}
