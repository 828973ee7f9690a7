// The kernels on a processor: a thread for each of a block's, one block at a time.
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __shared__ static

struct Index {
    unsigned x;
};
static thread_local Index threadIdx, blockIdx;
static Index blockDim, gridDim;
static pthread_barrier_t barrier;

static void __syncthreads() { pthread_barrier_wait(&barrier); }
template <class T> static T atomicAdd(T *at, T value) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }
template <class T> static T atomicOr(T *at, T value) { return __atomic_fetch_or(at, value, __ATOMIC_RELAXED); }

#include "../kernels.cu"

struct Thread {
    void (*run)(void *);
    void *launch;
    unsigned index;
};

static void *run_thread(void *start) {
    const Thread *thread = (const Thread *)start;
    threadIdx.x = thread->index;
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
        thread->run(thread->launch);
        __syncthreads(); // a block's shared memory is the next one's
    }
    return nullptr;
}

// One launch after the other: there is one set of indices and of shared memory.
static pthread_mutex_t one_launch = PTHREAD_MUTEX_INITIALIZER;

template <class... A, size_t... I>
static void launch(void (*kernel)(A...), unsigned blocks, unsigned threads, void **arguments, std::index_sequence<I...>) {
    pthread_mutex_lock(&one_launch);
    gridDim.x = blocks, blockDim.x = threads;
    struct Launch {
        void (*kernel)(A...);
        std::tuple<A...> arguments;
    } launch{kernel, std::tuple<A...>{*(A *)arguments[I]...}};
    auto run = [](void *at) {
        Launch *launch = (Launch *)at;
        std::apply(launch->kernel, launch->arguments);
    };
    pthread_barrier_init(&barrier, nullptr, threads);
    std::vector<pthread_t> ids(threads);
    std::vector<Thread> starts(threads);
    for (unsigned i = 0; i < threads; i++) {
        starts[i] = Thread{run, &launch, i};
        if (pthread_create(&ids[i], nullptr, run_thread, &starts[i])) exit(4);
    }
    for (pthread_t id : ids) pthread_join(id, nullptr);
    pthread_barrier_destroy(&barrier);
    pthread_mutex_unlock(&one_launch);
}

// A kernel by name: `arguments` points to one value a parameter, as for a GPU.
struct Kernel {
    const char *name;
    void (*launch)(unsigned blocks, unsigned threads, void **arguments);
    // Whether each parameter is a pointer, and how many bytes it has.
    std::vector<std::pair<bool, size_t>> parameters;
};

template <class... A> static std::vector<std::pair<bool, size_t>> parameters(void (*)(A...)) {
    return {{std::is_pointer<A>::value, sizeof(A)}...};
}
template <class... A>
static void launch_all(void (*kernel)(A...), unsigned blocks, unsigned threads, void **arguments) {
    launch(kernel, blocks, threads, arguments, std::index_sequence_for<A...>{});
}

#define A_KERNEL(k) \
    {#k, [](unsigned blocks, unsigned threads, void **arguments) { launch_all(k, blocks, threads, arguments); }, parameters(k)}
static const std::vector<Kernel> kernels = {
    A_KERNEL(inspect),     A_KERNEL(keep_scalar),  A_KERNEL(judge),        A_KERNEL(accumulate),   A_KERNEL(from_sum),
    A_KERNEL(pack_widths), A_KERNEL(pack_offsets), A_KERNEL(pack_bodies),  A_KERNEL(squares),      A_KERNEL(name_pieces),
    A_KERNEL(name_whole),  A_KERNEL(adam),         A_KERNEL(sgd),          A_KERNEL(momentum),     A_KERNEL(dropout_mask),
    A_KERNEL(fill_uniform), A_KERNEL(fill_normal),
};
