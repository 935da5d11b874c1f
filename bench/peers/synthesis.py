"""What PyTorch takes for the synthesis row of `npos bench`: the outliers of one step of the cifar10
recipe, 10 classes with full rings of 1,000 embeddings of 512 numbers, all classes in one batch of
matrix products.

    python synthesis.py [--precision fp32] [--threads N] [--rounds R]

Prints one JSON line.
"""
import argparse
import json
import time

import torch
from torch.nn.functional import normalize

CLASSES, RING, DIM = 10, 1000, 512
K, SELECT, PICK, NOISE, KEEP, SIGMA = 300, 200, 2, 600, 200, 0.1


def kth_distance(queries, bank):
    """[C][n][D] unit rows against [C][RING][D]: squared distance to the K-th nearest."""
    return 2 - 2 * torch.bmm(queries, bank.transpose(1, 2)).topk(K, dim=2).values[:, :, -1]


def synthesise(ring):
    bank = normalize(ring, dim=2)
    candidates = kth_distance(bank, bank).topk(SELECT, dim=1).indices
    order = torch.rand(CLASSES, SELECT).argsort(dim=1)[:, :PICK]
    rows = candidates.gather(1, order)
    centres = ring.gather(1, rows[:, :, None].expand(-1, -1, DIM))
    noise = torch.randn(NOISE, DIM)
    samples = centres[:, :, None] + SIGMA * noise
    distance = kth_distance(normalize(samples, dim=3).view(CLASSES, PICK * NOISE, DIM), bank)
    kept = distance.view(CLASSES, PICK, NOISE).topk(KEEP, dim=2).indices
    return samples.gather(2, kept[..., None].expand(-1, -1, -1, DIM)).reshape(-1, DIM)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", choices=("fp32",), default="fp32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    ring = normalize(torch.randn(CLASSES, RING, DIM), dim=2)
    best = float("inf")
    for _ in range(arguments.rounds + 1):
        began = time.perf_counter()
        outliers = synthesise(ring)
        best = min(best, 1e3 * (time.perf_counter() - began))
    assert outliers.shape == (CLASSES * PICK * KEEP, DIM)
    print(json.dumps({"name": "synthesis", "precision": "fp32", "value": best, "unit": "ms",
                      "peer": "PyTorch " + torch.__version__, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
