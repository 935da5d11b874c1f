"""What PyTorch takes for the knn row of `npos bench`: the squared distance of 1,000 queries to their
300th nearest of 50,000 unit rows of 512 numbers, by matrix product and topk.

    python knn.py [--precision fp32] [--threads N] [--rounds R]

Prints one JSON line.
"""
import argparse
import json
import time

import torch


def kth_neighbour(queries, bank, k):
    """For unit rows |q - b|^2 = 2 - 2 q.b: the k-th largest product is the k-th smallest distance."""
    return 2 - 2 * (queries @ bank.T).topk(k, dim=1).values[:, -1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", choices=("fp32",), default="fp32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    queries = torch.nn.functional.normalize(torch.randn(1000, 512))
    bank = torch.nn.functional.normalize(torch.randn(50000, 512))
    best = float("inf")
    for _ in range(arguments.rounds + 1):
        began = time.perf_counter()
        kth_neighbour(queries, bank, 300)
        best = min(best, 1e3 * (time.perf_counter() - began))
    print(json.dumps({"name": "knn", "precision": "fp32", "value": best, "unit": "ms",
                      "peer": "PyTorch " + torch.__version__, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
