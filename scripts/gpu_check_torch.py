"""Steps a second of torch with a network of scripts/gpu-check, on this machine's GPU.

    gpu_check_torch.py '{"hidden": [128], "batch": 64}' eager|compile STEPS cuda:0|cpu

The whole data set is on the device before it begins, and each step takes the next
rows of a shuffled order: no loader that could be made faster is measured.
"""

import gzip
import json
import os
import sys
import time

import torch

HERE = os.path.dirname(os.path.abspath(__file__))


def idx(name, header):
    path = next(p for p in (f"{HERE}/data/mnist/{name}", f"{HERE}/data/mnist/{name}.gz") if os.path.exists(p))
    opened = gzip.open(path) if path.endswith(".gz") else open(path, "rb")
    with opened as file:
        return torch.frombuffer(bytearray(file.read()[header:]), dtype=torch.uint8)


def main(network, mode, steps, device):
    torch.manual_seed(42)
    torch.backends.cuda.matmul.allow_tf32 = False
    device = torch.device(device)
    images = (idx("train-images-idx3-ubyte", 16).reshape(-1, 784).float() / 255).to(device)
    labels = idx("train-labels-idx1-ubyte", 8).long().to(device)
    widths = [784, *network["hidden"]]
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU(), torch.nn.Dropout(0.2)]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], 10)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7)
    forward = torch.compile(model) if mode == "compile" else model
    order = torch.randperm(len(labels), device=device)
    batch = network["batch"]

    def step(i):
        at = i * batch % (len(labels) - batch)
        rows = order[at : at + batch]
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(forward(images[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        return loss

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    for i in range(max(steps // 5, 10)):
        step(i)
    wait()
    begun = time.monotonic()
    for i in range(steps):
        loss = step(i)
    wait()
    assert torch.isfinite(loss), loss
    print(steps / (time.monotonic() - begun))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
