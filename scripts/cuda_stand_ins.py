"""Stand-ins for the CUDA libraries that a program would need to start.

    cuda_stand_ins.py SOURCES OUT

SOURCES is the src folder of the crate cudarc. For each library OUT gets lib*.so, a
linker script that pulls in a small archive: a jump for every function that the
crate binds. The first call of a function loads the real library, looks the
function up and patches the jump. Where the library or the function is missing,
the call returns the library's own error code, or a text where it returns one.

So a program has no CUDA library among those that it needs to start, and costs one
indirect jump a call. Needs gcc and ar; System V calling convention on x86-64.
"""

import os
import re
import subprocess
import sys
import tempfile

# Library, folder in the bindings, names to load it by, code of an absent one.
LIBRARIES = [
    ("cuda", "driver", ["libcuda.so.1"], 100),  # CUDA_ERROR_NO_DEVICE
    ("cublas", "cublas", ["libcublas.so.13", "libcublas.so"], 1),  # NOT_INITIALIZED
    ("cublasLt", "cublaslt", ["libcublasLt.so.13", "libcublasLt.so"], 1),
    ("curand", "curand", ["libcurand.so.10", "libcurand.so"], 101),
    ("nvrtc", "nvrtc", ["libnvrtc.so.13", "libnvrtc.so"], 11),
    ("cudnn", "cudnn", ["libcudnn.so.9", "libcudnn.so"], 1001),
    ("nccl", "nccl", ["libnccl.so.2", "libnccl.so"], 3),
]
# Where toolkits, containers and WSL put them beside the loader's own path.
FOLDERS = ["", "/usr/local/cuda/lib64/", "/usr/local/nvidia/lib64/", "/usr/lib/wsl/lib/"]

# Registers that carry arguments: kept while the library is loaded.
INTEGERS = "rdi rsi rdx rcx r8 r9 rax".split()
VECTORS = range(8)


def functions(bindings):
    """The functions that the crate binds, and whether each returns a text."""
    text = open(bindings, encoding="utf-8").read()
    found = {}
    for match in re.finditer(r"pub unsafe fn ((?:cu|nv|nccl|pnccl)\w+)\(([^{]*?)\{", text):
        name, signature = match.groups()
        returned = signature.rsplit("->", 1)[1] if "->" in signature else ""
        if name != "culib":
            found[name] = "c_char" in returned
    return dict(sorted(found.items()))


def jumps(prefix, names):
    """Assembly: each function jumps through a table that at first leads to the
    loader, which has the function's number on the stack."""
    lines = [".text"]
    for number, name in enumerate(names):
        lines += [
            f".globl {name}",
            f".type {name},@function",
            f"{name}: jmp *{prefix}_table+{8 * number}(%rip)",
            f".Lload{number}: push ${number}",
            "jmp .Lload",
        ]
    # Seven registers, the number and the return address: 136 more keep 16-byte alignment.
    lines += [".Lload:"] + [f"push %{register}" for register in INTEGERS] + ["sub $136,%rsp"]
    lines += [f"movups %xmm{i},{16 * i}(%rsp)" for i in VECTORS]
    lines += ["mov 192(%rsp),%rdi", f"call {prefix}_load", "mov %rax,%r11"]
    lines += [f"movups {16 * i}(%rsp),%xmm{i}" for i in VECTORS]
    lines += ["add $136,%rsp"] + [f"pop %{register}" for register in reversed(INTEGERS)]
    lines += ["add $8,%rsp", "jmp *%r11"]
    lines += [".data", ".balign 8", f".globl {prefix}_table", f".hidden {prefix}_table", f"{prefix}_table:"]
    lines += [f".quad .Lload{number}" for number in range(len(names))]
    lines += ['.section .note.GNU-stack,"",@progbits']
    return "\n".join(lines) + "\n"


LOADER = """\
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#define HIDDEN __attribute__((visibility("hidden")))
extern void *{prefix}_table[] HIDDEN;
static const char *const paths[] = {{{paths}, 0}};
static const char *const names[] = {{{names}}};
static const char is_text[] = {{{is_text}}};
static void *library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find(void) {{
    for (int i = 0; paths[i] && !library; i++)
        library = dlopen(paths[i], RTLD_NOW | RTLD_LOCAL);
    if (!library && getenv("EBBTIDE_CUDA_DEBUG"))
        fprintf(stderr, "no lib{library}: %s\\n", dlerror());
}}

static long missing(void) {{ return {code}; }}
static const char *missing_text(void) {{ return "lib{library} is not here"; }}

HIDDEN void *{prefix}_load(unsigned long number) {{
    pthread_once(&once, find);
    void *function = library ? dlsym(library, names[number]) : 0;
    if (library && !function && getenv("EBBTIDE_CUDA_DEBUG"))
        fprintf(stderr, "lib{library} has no %s\\n", names[number]);
    if (!function)
        function = is_text[number] ? (void *)missing_text : (void *)missing;
    __atomic_store_n(&{prefix}_table[number], function, __ATOMIC_RELEASE);
    return function;
}}
"""


def build(library, names, sonames, code, out):
    prefix = f"ebbtide_{library}"
    quoted = lambda words: ", ".join(f'"{word}"' for word in words)
    loader = LOADER.format(
        prefix=prefix,
        library=library,
        code=code,
        paths=quoted(folder + soname for folder in FOLDERS for soname in sonames),
        names=quoted(names),
        is_text=", ".join(str(int(text)) for text in names.values()),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = lambda end: os.path.join(folder, prefix + end)
        open(path("_jumps.s"), "w").write(jumps(prefix, names))
        open(path("_loader.c"), "w").write(loader)
        for source in ("_jumps.s", "_loader.c"):
            command = ["gcc", "-O2", "-fPIC", "-c", path(source), "-o", path(source[:-2] + ".o")]
            subprocess.check_call(command)
        archive = os.path.join(out, f"lib{prefix}.a")
        subprocess.check_call(["ar", "rcs", archive, path("_jumps.o"), path("_loader.o")])
    open(os.path.join(out, f"lib{library}.so"), "w").write(f"INPUT(lib{prefix}.a)\n")


def main(sources, out):
    for library, folder, sonames, code in LIBRARIES:
        names = functions(os.path.join(sources, folder, "sys", "mod.rs"))
        if not names:
            sys.exit(f"no functions of {library} in {sources}: its bindings have another form now")
        build(library, names, sonames, code, out)
        print(f"stand-in for lib{library}.so: {len(names)} functions")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
