// Runs a kernel on a processor: its arithmetic and what it does with indices, blocks and
// barriers is compared with its twin where there is no GPU.
//
//   on_host KERNEL BLOCKS THREADS < arguments > buffers
//
// An argument is its length in 8 bytes and its bytes; buffers come back whole, in order.

#include "on_host.h"

static std::vector<char> read_argument() {
    uint64_t length;
    if (fread(&length, 1, sizeof length, stdin) != sizeof length) exit(2);
    std::vector<char> bytes(length);
    if (fread(bytes.data(), 1, length, stdin) != length) exit(2);
    return bytes;
}

static void run(const Kernel &kernel, unsigned blocks, unsigned threads) {
    std::vector<std::vector<char>> given;
    std::vector<void *> pointers(kernel.parameters.size()), arguments;
    for (size_t i = 0; i < pointers.size(); i++) {
        given.push_back(read_argument());
        const auto [is_pointer, bytes] = kernel.parameters[i];
        if (!is_pointer && given[i].size() != bytes) exit(3);
        pointers[i] = given[i].data();
        arguments.push_back(is_pointer ? (void *)&pointers[i] : pointers[i]);
    }
    kernel.launch(blocks, threads, arguments.data());
    for (size_t i = 0; i < given.size(); i++)
        if (kernel.parameters[i].first && fwrite(given[i].data(), 1, given[i].size(), stdout) != given[i].size()) exit(5);
}

int main(int count, char **words) {
    if (count != 4) return 1;
    for (const Kernel &kernel : kernels) {
        if (strcmp(kernel.name, words[1])) continue;
        run(kernel, (unsigned)atoi(words[2]), (unsigned)atoi(words[3]));
        return 0;
    }
    return 6;
}
